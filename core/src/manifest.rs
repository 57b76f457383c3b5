//! The manifest: what a snapshot is made of.

use alloc::{boxed::Box, string::String, vec::Vec};

use xxhash_rust::xxh3::xxh3_128;

use crate::bytes::{FormatError, Read, Reader, Writer};
#[cfg(feature = "expressions")]
use crate::expression::{EXPRESSION_SET, PROGRAM_REGISTERS_MAX};
use crate::names::Names;
#[cfg(feature = "expressions")]
use crate::on_demand::{ON_DEMAND_TABLE, OnDemandView, read_on_demand, write_on_demand};
use crate::{
    Audience, Digest, FeatureSchema, KeyColumn, KeyType, SegmentId, SnapshotId, Span, TableSchema, Timestamp, ValueType,
    ViewSchema,
};

/// Everything that a reader needs to know to answer requests from a snapshot, but the pages. docs/FORMAT.md has its bytes.
///
/// It holds no wall-clock time: the same inputs make the same manifest, and so the same [`SnapshotId`].
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The project.
    pub project: String,
    /// A digest of the definitions that decide what is served.
    pub definition_digest: [u8; 32],
    /// A digest of the source files and windows that the rows came from.
    pub input_digest: [u8; 32],
    /// The tables; a page names its table by its number here.
    pub tables: Vec<Table>,
    /// What requests may bring along.
    pub request_sources: Vec<ManifestRequestSource>,
    /// Views whose features are computed; each takes features of those before it at the most.
    #[cfg(feature = "expressions")]
    pub on_demand_views: Vec<OnDemandView>,
    /// The feature services.
    pub services: Vec<Service>,
}

/// A table: its schema and where its rows are.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Key columns and views.
    pub schema: TableSchema,
    /// The newest event time of each view, [`Timestamp::MIN`] where it has no rows; in the order of the schema's views.
    pub watermarks: Vec<Timestamp>,
    /// All rows as of the last compaction.
    pub base: Option<Segment>,
    /// Rows that replace those of the base. One whose views are all absent says that the entity was removed.
    pub delta: Option<Segment>,
    /// The one page of a table without keys, in place of segments. It is bucket 0 of the all-zero segment.
    pub inline: Option<Vec<u8>>,
}

/// An immutable set of pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its id.
    pub id: SegmentId,
    /// Its buckets, one page each.
    pub bucket_count: u32,
    /// Rows in all its pages.
    pub row_count: u64,
    /// Bytes of all its pages.
    pub page_bytes: u64,
    /// The root of the tree over its pages ([`Tree`](crate::Tree)).
    pub root: Digest,
    /// What to add to the event times of each view in its pages. A job that emits equal values anew, all later by one
    /// span, changes this number and no page.
    pub time_shifts: Vec<Span>,
}

/// Values that a request brings along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRequestSource {
    /// Its name.
    pub name: String,
    /// Its fields.
    pub fields: Vec<FeatureSchema>,
}

/// A feature service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// What it selects, in order.
    pub projections: Vec<ServiceProjection>,
    /// Numbers of the request sources that it echoes.
    pub request_sources: Vec<u16>,
}

/// Features of one view as a service sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceProjection {
    /// The number of the table that holds the view; 65,535 of an on-demand view.
    pub table: u16,
    /// The view's number in the table, or among the on-demand views.
    pub view: u16,
    /// The name for the view in long feature names.
    pub alias: Option<String>,
    /// Join key of the view to the request's column that holds it, where they differ; in order of the join key.
    pub join_key_map: Vec<(String, String)>,
    /// Numbers of the features in the view, in order.
    pub features: Vec<u16>,
}

impl Manifest {
    /// Its bytes.
    ///
    /// # Errors
    /// `None` where a name or a list has more than 65,535 bytes or items, or the programs of its on-demand views together are larger
    /// than one may be.
    pub fn encode(&self) -> Option<Vec<u8>> {
        #[cfg(feature = "expressions")]
        if self.on_demand_views.iter().map(|view| view.register_count()).sum::<usize>() > PROGRAM_REGISTERS_MAX {
            return None;
        }
        let mut out = Writer::new(MANIFEST_MAGIC, MANIFEST_VERSION);
        out.u16(PAGE_FORMAT);
        out.u16(self.expression_set());
        out.string(&self.project);
        out.raw(&self.definition_digest);
        out.raw(&self.input_digest);
        out.list(&self.tables, write_table);
        out.list(&self.request_sources, |out, source| {
            out.string(&source.name);
            out.list(&source.fields, write_feature);
        });
        // Without on-demand views the manifest is as it was before there were any: every reader reads it.
        #[cfg(feature = "expressions")]
        if self.expression_set() > 0 {
            out.list(&self.on_demand_views, write_on_demand);
        }
        out.list(&self.services, |out, service| {
            out.string(&service.name);
            out.list(&service.projections, write_projection);
            out.list(&service.request_sources, |out, number| out.u16(*number));
        });
        out.finish()
    }

    /// Reads what [`Manifest::encode`] wrote, and checks that every number in it names something.
    ///
    /// # Errors
    /// [`FormatError`] where the bytes are damaged or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        Self::read(bytes).map_err(|error| *error)
    }

    fn read(bytes: &[u8]) -> Read<Self> {
        let mut from = Reader::open("manifest", bytes, MANIFEST_MAGIC, MANIFEST_VERSION)?;
        let page_format = from.u16("page format")?;
        if page_format != PAGE_FORMAT {
            return Err(Box::new(FormatError::Version { structure: "page", found: page_format, readable: PAGE_FORMAT }));
        }
        let expression_set = from.u16("expression set")?;
        if expression_set > EXPRESSION_SET_MAX {
            return Err(Box::new(FormatError::Version {
                structure: "expression set",
                found: expression_set,
                readable: EXPRESSION_SET_MAX,
            }));
        }
        let project = from.string("project")?;
        let definition_digest = from.array("definition digest")?;
        let input_digest = from.array("input digest")?;
        let tables = from.list("tables", read_table)?;
        let request_sources = from.list("request sources", |from| {
            Ok(ManifestRequestSource { name: from.string("request source")?, fields: from.list("fields", read_feature)? })
        })?;
        #[cfg(feature = "expressions")]
        let on_demand_views = match expression_set {
            0 => Vec::new(),
            _ => read_on_demand_views(&mut from, &tables, &request_sources)?,
        };
        #[cfg(feature = "expressions")]
        let on_demand_features = |view: usize| on_demand_views.get(view).map(|view: &OnDemandView| view.features.len());
        #[cfg(not(feature = "expressions"))]
        let on_demand_features = |_: usize| None;
        let services = from.list("services", |from| {
            Ok(Service {
                name: from.string("service")?,
                projections: from.list("projections", |from| read_projection(from, &tables, &on_demand_features))?,
                request_sources: from.list("request sources", |from| {
                    let number = from.u16("request source")?;
                    if usize::from(number) < request_sources.len() { Ok(number) } else { Err(from.corrupt("request source")) }
                })?,
            })
        })?;
        let manifest = Self {
            project,
            definition_digest,
            input_digest,
            tables,
            request_sources,
            #[cfg(feature = "expressions")]
            on_demand_views,
            services,
        };
        let mut names = Names::default();
        manifest.tables.iter().flat_map(|table| &table.schema.views).for_each(|view| names.push(&view.name, (0, 0)));
        #[cfg(feature = "expressions")]
        manifest.on_demand_views.iter().for_each(|view| names.push(&view.name, (0, 0)));
        names.sort();
        if names.repeated().is_some() {
            return Err(from.corrupt("view names"));
        }
        from.finish()?;
        Ok(manifest)
    }

    /// The id of a snapshot with this encoded manifest: its xxh3-128, most significant byte first.
    pub fn id_of(encoded: &[u8]) -> SnapshotId {
        // A preamble alone is no manifest, and the code that hashes texts as short as that would be in every bundle.
        if encoded.len() <= 16 {
            return SnapshotId::from_bytes([0; 16]);
        }
        SnapshotId::from_bytes(xxh3_128(encoded).to_be_bytes())
    }

    /// The numbers of the table and, in it, of the view of this name.
    pub fn find_view(&self, name: &str) -> Option<(u16, u16)> {
        self.tables.iter().enumerate().find_map(|(table, entry)| {
            let view = entry.schema.views.iter().position(|view| view.name == name)?;
            Some((u16::try_from(table).ok()?, u16::try_from(view).ok()?))
        })
    }

    /// What of it anyone may hold: the tables whose views are all of [`Audience::Public`], and the services that select from them
    /// alone. Tables keep their numbers, since pages name them: the others stay as tables without columns, rows or a name.
    pub fn public_part(&self) -> Self {
        let is_public = |table: &Table| {
            !table.schema.views.is_empty() && table.schema.views.iter().all(|view| view.audience == Audience::Public)
        };
        let empty = || Table::empty(TableSchema::in_order(String::new(), Vec::new(), Vec::new()));
        let tables = self.tables.iter().map(|table| if is_public(table) { table.clone() } else { empty() }).collect();
        let table_is_public = |number: u16| self.tables.get(usize::from(number)).is_some_and(is_public);
        #[cfg(feature = "expressions")]
        let on_demand = self.public_on_demand(table_is_public);
        let serves = |projection: &ServiceProjection| {
            #[cfg(feature = "expressions")]
            if projection.table == ON_DEMAND_TABLE {
                return on_demand.get(usize::from(projection.view)) == Some(&true);
            }
            table_is_public(projection.table)
        };
        let services = self.services.iter().filter(|service| service.projections.iter().all(serves)).cloned().collect();
        let part = Self { tables, services, ..self.clone() };
        #[cfg(feature = "expressions")]
        let part = part.with_on_demand(&on_demand);
        part
    }

    /// The version of the expressions that it needs; 0 where it has no on-demand views.
    pub fn expression_set(&self) -> u16 {
        #[cfg(feature = "expressions")]
        return if self.on_demand_views.is_empty() { 0 } else { EXPRESSION_SET };
        #[cfg(not(feature = "expressions"))]
        0
    }

    /// The segments that the tables are made of, bases before deltas.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.tables.iter().flat_map(|table| table.base.iter().chain(&table.delta))
    }
}

impl Table {
    /// A table without rows.
    pub fn empty(schema: TableSchema) -> Self {
        let watermarks = schema.views.iter().map(|_| Timestamp::MIN).collect();
        Self { schema, watermarks, base: None, delta: None, inline: None }
    }
}

#[cfg(feature = "expressions")]
fn read_on_demand_views(
    from: &mut Reader<'_>,
    tables: &[Table],
    request_sources: &[ManifestRequestSource],
) -> Read<Vec<OnDemandView>> {
    let count = from.u16("on-demand views")?;
    let mut views: Vec<OnDemandView> = Vec::new();
    let mut registers = 0;
    for _ in 0..count {
        let view = read_on_demand(from, tables, request_sources, &views)?;
        registers += view.register_count();
        views.push(view);
    }
    // So that a request for all of them is one program.
    if registers > PROGRAM_REGISTERS_MAX { Err(from.corrupt("programs")) } else { Ok(views) }
}

pub(crate) fn write_feature(out: &mut Writer, feature: &FeatureSchema) {
    out.string(&feature.name);
    out.string(&alloc::format!("{}", feature.value_type));
}

pub(crate) fn read_feature(from: &mut Reader<'_>) -> Read<FeatureSchema> {
    let name = from.string("feature")?;
    let value_type: ValueType = from.value_type("feature type")?;
    Ok(FeatureSchema::new(name, value_type))
}

fn write_table(out: &mut Writer, table: &Table) {
    out.string(&table.schema.name);
    out.list(&table.schema.keys, |out, key| {
        out.string(&key.join_key);
        out.string(&key.entity);
        out.u8(key_type_code(key.key_type));
    });
    out.list(&table.schema.views, |out, view| {
        out.string(&view.name);
        out.i64(view.ttl.nanos());
        out.u8(match view.audience {
            Audience::Server => 0,
            Audience::Public => 1,
        });
        out.list(&view.features, write_feature);
    });
    for view in 0..table.schema.views.len() {
        out.i64(table.watermarks.get(view).copied().unwrap_or(Timestamp::MIN).nanos());
    }
    for segment in [&table.base, &table.delta] {
        match segment {
            None => out.u8(0),
            Some(segment) => {
                out.u8(1);
                out.raw(&segment.id.bytes());
                out.u32(segment.bucket_count);
                out.u64(segment.row_count);
                out.u64(segment.page_bytes);
                out.raw(&segment.root);
                for view in 0..table.schema.views.len() {
                    out.i64(segment.time_shifts.get(view).copied().unwrap_or(Span::ZERO).nanos());
                }
            }
        }
    }
    out.blob(table.inline.as_deref().unwrap_or_default());
}

fn read_table(from: &mut Reader<'_>) -> Read<Table> {
    let name = from.string("table")?;
    let keys = from.list("keys", |from| {
        let join_key = from.string("join key")?;
        let entity = from.string("entity")?;
        let code = from.u8("key type")?;
        Ok(KeyColumn::new(join_key, entity, key_type_of(code).ok_or_else(|| from.corrupt("key type"))?))
    })?;
    if keys.len() > KEY_COLUMNS_MAX || !keys.is_sorted_by(|a, b| a.join_key < b.join_key) {
        return Err(from.corrupt("key order"));
    }
    let views = from.list("views", |from| {
        let name = from.string("view")?;
        let ttl = from.span("ttl")?;
        let audience = match from.u8("audience")? {
            0 => Audience::Server,
            1 => Audience::Public,
            _ => return Err(from.corrupt("audience")),
        };
        Ok(ViewSchema::new(name, ttl, audience, from.list("features", read_feature)?))
    })?;
    if !views.is_sorted_by(|a, b| a.name < b.name) {
        return Err(from.corrupt("view order"));
    }
    let watermarks = from.items(views.len(), |from| from.timestamp("watermark"))?;
    let mut segments = [None, None];
    for slot in &mut segments {
        *slot = match from.u8("segment")? {
            0 => None,
            1 => {
                let segment = Segment {
                    id: SegmentId::from_bytes(from.array("segment id")?),
                    bucket_count: from.u32("bucket count")?,
                    row_count: from.u64("row count")?,
                    page_bytes: from.u64("page bytes")?,
                    root: from.array("root")?,
                    time_shifts: from.items(views.len(), |from| from.span("time shift"))?,
                };
                if segment.bucket_count == 0 {
                    return Err(from.corrupt("bucket count"));
                }
                Some(segment)
            }
            _ => return Err(from.corrupt("segment")),
        };
    }
    let [base, delta] = segments;
    let inline_bytes = usize::try_from(from.u32("inline page")?).map_err(|_| from.corrupt("inline page"))?;
    let inline = from.take(inline_bytes, "inline page")?;
    let inline = if inline.is_empty() { None } else { Some(inline.into()) };
    if keys.is_empty() && (base.is_some() || delta.is_some()) || !keys.is_empty() && inline.is_some() {
        return Err(from.corrupt("inline page"));
    }
    Ok(Table { schema: TableSchema::in_order(name, keys, views), watermarks, base, delta, inline })
}

fn write_projection(out: &mut Writer, projection: &ServiceProjection) {
    out.u16(projection.table);
    out.u16(projection.view);
    out.string(projection.alias.as_deref().unwrap_or_default());
    out.list(&projection.join_key_map, |out, (key, column)| {
        out.string(key);
        out.string(column);
    });
    out.list(&projection.features, |out, feature| out.u16(*feature));
}

/// Reads a projection; `on_demand_features` says how many features an on-demand view has.
fn read_projection(
    from: &mut Reader<'_>,
    tables: &[Table],
    on_demand_features: &dyn Fn(usize) -> Option<usize>,
) -> Read<ServiceProjection> {
    let table = from.u16("table number")?;
    let view = from.u16("view number")?;
    let schema = tables.get(usize::from(table)).and_then(|table| table.schema.views.get(usize::from(view)));
    let stored = schema.map(|schema| schema.features.len());
    let feature_count = if table == u16::MAX { on_demand_features(usize::from(view)) } else { stored };
    let feature_count = feature_count.ok_or_else(|| from.corrupt("view number"))?;
    let alias = from.string("alias")?;
    let join_key_map = from.list("join key map", |from| Ok((from.string("join key")?, from.string("column")?)))?;
    let features = from.list("features", |from| {
        let feature = from.u16("feature number")?;
        if usize::from(feature) < feature_count { Ok(feature) } else { Err(from.corrupt("feature number")) }
    })?;
    let alias = if alias.is_empty() { None } else { Some(alias) };
    Ok(ServiceProjection { table, view, alias, join_key_map, features })
}

pub(crate) fn key_type_of(code: u8) -> Option<KeyType> {
    KEY_TYPES.iter().find(|(_, known)| *known == code).map(|(key_type, _)| *key_type)
}

pub(crate) fn key_type_code(key_type: KeyType) -> u8 {
    KEY_TYPES.iter().find(|(known, _)| *known == key_type).map_or(0, |(_, code)| *code)
}

/// Join keys of one view at the most.
pub const KEY_COLUMNS_MAX: usize = 16;
/// The first bytes of a manifest.
pub const MANIFEST_MAGIC: [u8; 4] = *b"MZMF";
/// The version of the manifest's format.
pub const MANIFEST_VERSION: u16 = 1;
/// The version of the page format that a manifest's pages have.
const PAGE_FORMAT: u16 = 1;
/// The latest version of the expressions that this build computes.
#[cfg(feature = "expressions")]
pub(crate) const EXPRESSION_SET_MAX: u16 = EXPRESSION_SET;
#[cfg(not(feature = "expressions"))]
pub(crate) const EXPRESSION_SET_MAX: u16 = 0;
const KEY_TYPES: [(KeyType, u8); 6] = [
    (KeyType::Bool, 1),
    (KeyType::Bytes, 2),
    (KeyType::Int, 3),
    (KeyType::String, 4),
    (KeyType::UnixTimestamp, 5),
    (KeyType::Uuid, 6),
];
