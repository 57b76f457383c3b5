//! A snapshot as a reader holds it: a decoded manifest with its services compiled to read plans.

use alloc::{borrow::ToOwned, boxed::Box, string::String, sync::Arc, vec::Vec};
use core::fmt;

use crate::names::Names;
#[cfg(feature = "expressions")]
use crate::on_demand::{Linked, ON_DEMAND_TABLE};
use crate::plan::{Plan, PlanError};
use crate::{FormatError, Head, KeyType, Limits, Manifest, Request, Selection, SnapshotId, Span, Timestamp, ValueType};

/// One complete snapshot. Cheap to clone; everything that answers a request comes from one of these.
#[derive(Clone)]
pub struct Snapshot {
    inner: Arc<Inner>,
}

struct Inner {
    id: SnapshotId,
    epoch: u64,
    issued_at: Timestamp,
    manifest: Manifest,
    /// Numbers of table and view, in the order of the views' names.
    views: Vec<(u16, u16)>,
    /// What the manifest's services read, in its order.
    services: Vec<Arc<ReadPlan>>,
    /// Numbers of services, in the order of their names.
    services_by_name: Vec<u16>,
}

/// What to read for a selection of features, whatever the entities.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadPlan {
    /// The distinct keys to look up: views of one table under one join-key map share theirs.
    pub(crate) lookups: Vec<Lookup>,
    /// The views to read, in response order.
    pub(crate) groups: Vec<Group>,
    /// The columns of request data to echo.
    pub(crate) request_fields: Vec<RequestField>,
    /// A short feature name that two groups share, with the names of both.
    pub(crate) collision: Option<[String; 3]>,
    /// What computes the features of on-demand views.
    #[cfg(feature = "expressions")]
    pub(crate) linked: Option<Linked>,
}

/// A field of request data.
#[derive(Clone, Debug)]
pub(crate) struct RequestField {
    pub(crate) name: String,
    pub(crate) value_type: ValueType,
    /// Whether the response has it too.
    #[cfg(feature = "expressions")]
    pub(crate) echoed: bool,
}

/// A table's key and the request columns that hold it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lookup {
    pub(crate) table: u16,
    pub(crate) columns: Vec<LookupColumn>,
}

/// A request column that holds a part of a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LookupColumn {
    /// The request's column.
    pub(crate) name: String,
    /// The entity's name, which a request may use instead; empty where a join-key map renamed the column.
    pub(crate) entity: String,
    pub(crate) key_type: KeyType,
}

/// The features of one view.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) lookup: usize,
    pub(crate) table: u16,
    pub(crate) view: u16,
    pub(crate) ttl: Span,
    pub(crate) time_column: usize,
    /// The name for the view in long feature names.
    pub(crate) display_name: String,
    pub(crate) features: Vec<GroupFeature>,
    /// Whether it is not in the response: only on-demand views want it. Such groups come after all others.
    #[cfg(feature = "expressions")]
    pub(crate) hidden: bool,
}

impl Group {
    /// Whether it is not in the response.
    pub(crate) const fn is_hidden(&self) -> bool {
        #[cfg(feature = "expressions")]
        return self.hidden;
        #[cfg(not(feature = "expressions"))]
        false
    }
}

/// A feature of a group.
#[derive(Clone, Debug)]
pub(crate) struct GroupFeature {
    /// Its number in the view.
    pub(crate) number: usize,
    /// Its column in the table's pages.
    pub(crate) column: usize,
    /// `view__feature`.
    pub(crate) full_name: String,
}

/// A head or its manifest cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The bytes are damaged or of a later version.
    Format(FormatError),
    /// The manifest is not in the head: fetch the key `m/<snapshot>` and call [`Snapshot::open_with_manifest`].
    ManifestNeeded {
        /// The snapshot whose manifest is needed.
        snapshot: SnapshotId,
    },
    /// The manifest is not the one that the head names.
    WrongManifest {
        /// What the head names.
        expected: SnapshotId,
        /// What the manifest's bytes hash to.
        found: SnapshotId,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(error) => error.fmt(f),
            Self::ManifestNeeded { snapshot } => {
                write!(f, "the head does not hold the manifest; it is under the key m/{snapshot}")
            }
            Self::WrongManifest { expected, found } => write!(f, "the head names manifest {expected}, found {found}"),
        }
    }
}

impl core::error::Error for OpenError {}

impl From<FormatError> for OpenError {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("id", &self.inner.id).field("epoch", &self.inner.epoch).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// The snapshot that these bytes of a head name.
    ///
    /// # Errors
    /// [`OpenError::ManifestNeeded`] where the manifest is not in the head; otherwise as [`OpenError`] says.
    pub fn open(head: &[u8]) -> Result<Self, OpenError> {
        let head = Head::decode(head)?;
        match &head.manifest {
            Some(manifest) => Self::open_with_manifest(&head, manifest),
            None => Err(OpenError::ManifestNeeded { snapshot: head.snapshot }),
        }
    }

    /// The snapshot that a head names, with the bytes of its manifest.
    ///
    /// # Errors
    /// As [`OpenError`] says.
    pub fn open_with_manifest(head: &Head, manifest: &[u8]) -> Result<Self, OpenError> {
        let found = Manifest::id_of(manifest);
        if found != head.snapshot {
            return Err(OpenError::WrongManifest { expected: head.snapshot, found });
        }
        Ok(Self::new(head.snapshot, head.epoch, head.issued_at, Manifest::decode(manifest)?))
    }

    /// The snapshot of this manifest: the newest that the head names, or one before it that the head names, with that one's epoch.
    ///
    /// # Errors
    /// As [`OpenError`] says.
    pub fn open_named(head: &Head, manifest: &[u8]) -> Result<Self, OpenError> {
        let found = Manifest::id_of(manifest);
        let (epoch, issued_at) = match head.previous.iter().find(|previous| previous.snapshot == found) {
            _ if found == head.snapshot => (head.epoch, head.issued_at),
            Some(previous) => (previous.epoch, previous.issued_at),
            None => return Err(OpenError::WrongManifest { expected: head.snapshot, found }),
        };
        Ok(Self::new(found, epoch, issued_at, Manifest::decode(manifest)?))
    }

    /// A snapshot from its parts; nothing is checked but what [`Manifest::decode`] has checked.
    pub fn new(id: SnapshotId, epoch: u64, issued_at: Timestamp, manifest: Manifest) -> Self {
        let mut names = Names::default();
        for (table, number) in manifest.tables.iter().zip(0_u16..) {
            for (view, index) in table.schema.views.iter().zip(0_u16..) {
                names.push(&view.name, (number, index));
            }
        }
        #[cfg(feature = "expressions")]
        for (view, number) in manifest.on_demand_views.iter().zip(0_u16..) {
            names.push(&view.name, (ON_DEMAND_TABLE, number));
        }
        names.sort();
        let views = names.numbers().collect();
        let mut names = Names::default();
        for (service, number) in manifest.services.iter().zip(0_u16..) {
            names.push(&service.name, (number, 0));
        }
        names.sort();
        let services_by_name = names.numbers().map(|(number, _)| number).collect();
        let mut services = Vec::with_capacity(manifest.services.len());
        for service in &manifest.services {
            let mut read = ReadPlan::default();
            for projection in &service.projections {
                read.add(
                    &manifest,
                    (projection.table, projection.view),
                    projection.alias.as_deref(),
                    &projection.join_key_map,
                    projection.features.iter().map(|feature| usize::from(*feature)),
                );
            }
            read.request_fields = service
                .request_sources
                .iter()
                .filter_map(|number| manifest.request_sources.get(usize::from(*number)))
                .flat_map(|source| &source.fields)
                .map(|field| RequestField {
                    name: field.name.clone(),
                    value_type: field.value_type.clone(),
                    #[cfg(feature = "expressions")]
                    echoed: true,
                })
                .collect();
            read.find_collision(&manifest);
            #[cfg(feature = "expressions")]
            read.link(&manifest);
            services.push(Arc::new(read));
        }
        Self { inner: Arc::new(Inner { id, epoch, issued_at, manifest, views, services, services_by_name }) }
    }

    /// Its id.
    pub fn id(&self) -> SnapshotId {
        self.inner.id
    }

    /// The epoch of the head that named it.
    pub fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    /// When that head was made.
    pub fn issued_at(&self) -> Timestamp {
        self.inner.issued_at
    }

    /// What it is made of.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// Which pages a request needs, nothing fetched. Read them, in any way, and hand them to [`Plan::answer`].
    ///
    /// # Errors
    /// [`PlanError`] where the request does not fit the snapshot or goes beyond `limits`.
    pub fn plan(&self, request: &Request, now: Timestamp, limits: &Limits) -> Result<Plan, PlanError> {
        self.plan_boxed(request, now, limits).map_err(|error| *error)
    }

    /// Errors are boxed within: they are large, and every `?` would copy them.
    fn plan_boxed(&self, request: &Request, now: Timestamp, limits: &Limits) -> Result<Plan, Box<PlanError>> {
        let read = match &request.selection {
            Selection::Service(name) => self.inner.service(name).cloned().ok_or_else(|| PlanError::UnknownService {
                service: name.clone(),
                known: some_names(self.inner.services_by_name.iter().filter_map(|number| self.inner.service_name(*number))),
            })?,
            Selection::Features(references) => Arc::new(self.read_plan_of(references)?),
        };
        Plan::new(self.clone(), read, request, now, limits)
    }

    /// Features of one view that stand side by side make one group, so that a response has as few rows to describe as can be.
    fn read_plan_of(&self, references: &[String]) -> Result<ReadPlan, Box<PlanError>> {
        let mut selected: Vec<((u16, u16), Vec<usize>)> = Vec::new();
        for reference in references {
            let Some((view, feature)) = reference.split_once(':') else {
                return Err(PlanError::BadReference { reference: reference.clone() }.into());
            };
            let numbers = self.inner.view_named(view).ok_or_else(|| PlanError::UnknownView {
                view: view.to_owned(),
                known: some_names(self.inner.views.iter().filter_map(|numbers| Some(view_of(self.manifest(), *numbers)?.0))),
            })?;
            let schema = view_of(self.manifest(), numbers).map(|(_, features)| features);
            let feature_number = schema.and_then(|schema| schema.iter().position(|known| known.name == feature));
            let Some(feature_number) = feature_number else {
                return Err(PlanError::UnknownFeature {
                    view: view.to_owned(),
                    feature: feature.to_owned(),
                    known: schema.map(|schema| some_names(schema.iter().map(|known| known.name.as_str()))).unwrap_or_default(),
                }
                .into());
            };
            match selected.iter_mut().find(|(known, _)| *known == numbers) {
                Some((_, features)) if features.contains(&feature_number) => {
                    return Err(PlanError::RepeatedReference { reference: reference.clone() }.into());
                }
                _ => {}
            }
            match selected.last_mut() {
                Some((last, features)) if *last == numbers => features.push(feature_number),
                _ => selected.push((numbers, [feature_number].into())),
            }
        }
        let mut read = ReadPlan::default();
        for (numbers, features) in selected {
            read.add(&self.inner.manifest, numbers, None, &[], features.into_iter());
        }
        read.find_collision(&self.inner.manifest);
        #[cfg(feature = "expressions")]
        read.link(&self.inner.manifest);
        Ok(read)
    }
}

impl Inner {
    fn view_named(&self, name: &str) -> Option<(u16, u16)> {
        let name_of = |numbers: (u16, u16)| view_of(&self.manifest, numbers).map_or("", |(name, _)| name);
        let at = self.views.binary_search_by(|numbers| name_of(*numbers).cmp(name)).ok()?;
        self.views.get(at).copied()
    }

    fn service_name(&self, number: u16) -> Option<&str> {
        self.manifest.services.get(usize::from(number)).map(|service| service.name.as_str())
    }

    fn service(&self, name: &str) -> Option<&Arc<ReadPlan>> {
        let at = self.services_by_name.binary_search_by(|number| self.service_name(*number).cmp(&Some(name))).ok()?;
        self.services.get(usize::from(*self.services_by_name.get(at)?))
    }
}

impl ReadPlan {
    /// Adds a group. The numbers are those of an existing view and existing features; others add nothing.
    pub(crate) fn add(
        &mut self,
        manifest: &Manifest,
        (table, view): (u16, u16),
        alias: Option<&str>,
        join_key_map: &[(String, String)],
        features: impl Iterator<Item = usize>,
    ) {
        #[cfg(feature = "expressions")]
        if table == ON_DEMAND_TABLE {
            return self.add_on_demand(manifest, view, alias, features);
        }
        let Some(entry) = manifest.tables.get(usize::from(table)) else { return };
        let Some(schema) = entry.schema.views.get(usize::from(view)) else { return };
        let columns = entry
            .schema
            .keys
            .iter()
            .map(|key| match join_key_map.iter().find(|(join_key, _)| *join_key == key.join_key) {
                Some((_, column)) => LookupColumn { name: column.clone(), entity: String::new(), key_type: key.key_type },
                None => LookupColumn { name: key.join_key.clone(), entity: key.entity.clone(), key_type: key.key_type },
            })
            .collect();
        let wanted = Lookup { table, columns };
        let lookup = self.lookups.iter().position(|known| *known == wanted).unwrap_or(self.lookups.len());
        if lookup == self.lookups.len() {
            self.lookups.push(wanted);
        }
        let display_name = alias.unwrap_or(&schema.name).to_owned();
        let time_column = entry.schema.time_column(usize::from(view));
        let features = features
            .filter_map(|number| {
                let feature = schema.features.get(number)?;
                let full_name = alloc::format!("{display_name}__{}", feature.name);
                Some(GroupFeature { number, column: time_column + 1 + number, full_name })
            })
            .collect();
        self.groups.push(Group {
            lookup,
            table,
            view,
            ttl: schema.ttl,
            time_column,
            display_name,
            features,
            #[cfg(feature = "expressions")]
            hidden: false,
        });
    }

    /// Adds a group of an on-demand view, which has no rows to look up.
    #[cfg(feature = "expressions")]
    fn add_on_demand(&mut self, manifest: &Manifest, view: u16, alias: Option<&str>, features: impl Iterator<Item = usize>) {
        let Some(schema) = manifest.on_demand_views.get(usize::from(view)) else { return };
        let display_name = alias.unwrap_or(&schema.name).to_owned();
        let features = features
            .filter_map(|number| {
                let full_name = alloc::format!("{display_name}__{}", schema.features.get(number)?.name);
                Some(GroupFeature { number, column: number, full_name })
            })
            .collect();
        self.groups.push(Group {
            lookup: usize::MAX,
            table: ON_DEMAND_TABLE,
            view,
            ttl: Span::ZERO,
            time_column: 0,
            display_name,
            features,
            hidden: false,
        });
    }

    fn find_collision(&mut self, manifest: &Manifest) {
        let mut names = Names::default();
        for (group, number) in self.groups.iter().zip(0_u16..) {
            for feature in &group.features {
                if let Some(schema) = feature_schema(manifest, group, feature) {
                    names.push(&schema.name, (number, 0));
                }
            }
        }
        names.sort();
        self.collision = names.repeated().map(|[(name, (first, _)), (_, (second, _))]| {
            let view = |number: u16| self.groups.get(usize::from(number)).map(|group| group.display_name.clone());
            [name.into(), view(first).unwrap_or_default(), view(second).unwrap_or_default()]
        });
    }
}

/// The schema of a group's feature.
pub(crate) fn feature_schema<'a>(
    manifest: &'a Manifest,
    group: &Group,
    feature: &GroupFeature,
) -> Option<&'a crate::FeatureSchema> {
    view_of(manifest, (group.table, group.view))?.1.get(feature.number)
}

/// The name and features of the view of these numbers, stored or on demand.
fn view_of(manifest: &Manifest, (table, view): (u16, u16)) -> Option<(&str, &[crate::FeatureSchema])> {
    #[cfg(feature = "expressions")]
    if table == ON_DEMAND_TABLE {
        return manifest.on_demand_views.get(usize::from(view)).map(|view| (view.name.as_str(), view.features.as_slice()));
    }
    let view = manifest.tables.get(usize::from(table))?.schema.views.get(usize::from(view))?;
    Some((&view.name, &view.features))
}

/// A few of the names there are, for an error's reader.
fn some_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.take(KNOWN_NAMES_MAX).map(String::from).collect()
}

/// Names that an error about an unknown one lists at the most.
const KNOWN_NAMES_MAX: usize = 8;
