//! The two calls of a lookup: which pages a request needs, and its answer from them.

use alloc::{borrow::Cow, borrow::ToOwned, boxed::Box, string::String, sync::Arc, vec::Vec};
use core::fmt;

use crate::coerce::{coerce, describe};
#[cfg(feature = "expressions")]
use crate::on_demand::{Given, ON_DEMAND_TABLE};
use crate::snapshot::{Group, Lookup, LookupColumn, ReadPlan, Snapshot, feature_schema};
use crate::sort::sort_by;
use crate::{
    Cell, Column, Expired, KEY_COLUMNS_MAX, KeyHash, KeyPart, Manifest, PageError, PageKey, PageRef, Request, Response, RowState,
    Segment, SegmentId, Span, Status, Table, Timestamp, Value, ValueType, WireError,
};
#[cfg(feature = "expressions")]
use crate::{NoTransforms, RunTransforms};

/// What one request may cost. Each host declares its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a request's body.
    pub request_bytes_max: usize,
    /// Entity rows of a request.
    pub entities_max: usize,
    /// Values in a response: entity rows times columns.
    pub values_max: usize,
    /// Distinct pages that a request may read.
    pub pages_max: usize,
}

impl Limits {
    /// The limits of a server with its own memory: 10,000 entities, 1,000,000 values, 10,000 pages, 16 MiB.
    pub const fn server() -> Self {
        Self { request_bytes_max: 16 << 20, entities_max: 10_000, values_max: 1_000_000, pages_max: 10_000 }
    }

    /// These limits with another bound on entity rows.
    pub const fn with_entities_max(self, entities_max: usize) -> Self {
        Self { entities_max, ..self }
    }

    /// These limits with another bound on values.
    pub const fn with_values_max(self, values_max: usize) -> Self {
        Self { values_max, ..self }
    }

    /// These limits with another bound on pages.
    pub const fn with_pages_max(self, pages_max: usize) -> Self {
        Self { pages_max, ..self }
    }

    /// These limits with another bound on a request's bytes.
    pub const fn with_request_bytes_max(self, request_bytes_max: usize) -> Self {
        Self { request_bytes_max, ..self }
    }
}

/// What a [`Limits`] bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitKind {
    /// Entity rows.
    Entities,
    /// Page reads.
    Pages,
    /// Bytes of the request.
    RequestBytes,
    /// Values in the response.
    Values,
}

/// The request does not fit the snapshot, or costs more than the host's limits: the caller's fault.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PlanError {
    /// A value of an entity column is not of the type that its join key or request field has.
    BadEntityValue {
        /// The column.
        column: String,
        /// The row, from 0.
        row: usize,
        /// The type it must have.
        expected: ValueType,
        /// What it is.
        found: String,
    },
    /// A feature reference is not `view:feature`.
    BadReference {
        /// The reference.
        reference: String,
    },
    /// Two features have one short name.
    Collision {
        /// The name.
        feature: String,
        /// The views that have it.
        views: [String; 2],
    },
    /// The request costs more than this host allows.
    Limit {
        /// What there is too much of.
        kind: LimitKind,
        /// How much the request needs.
        asked: usize,
        /// How much there may be.
        allowed: usize,
    },
    /// An entity column that a view's key or a service's request data needs is not in the request.
    MissingColumn {
        /// The column.
        column: String,
        /// The view or request data that needs it.
        needed_by: String,
        /// The columns that the request has.
        found: Vec<String>,
    },
    /// The request selects no features.
    NoFeatures,
    /// The request has no entity rows.
    NoRows,
    /// The entity columns have different lengths.
    Ragged {
        /// The first column and its length.
        first: (String, usize),
        /// Another and its length.
        other: (String, usize),
    },
    /// A feature reference is there twice.
    RepeatedReference {
        /// The reference.
        reference: String,
    },
    /// A view of the snapshot has no such feature.
    UnknownFeature {
        /// The view.
        view: String,
        /// The feature.
        feature: String,
        /// Some that it has.
        known: Vec<String>,
    },
    /// The snapshot has no such service.
    UnknownService {
        /// The service.
        service: String,
        /// Some that it has.
        known: Vec<String>,
    },
    /// The snapshot has no such view.
    UnknownView {
        /// The view.
        view: String,
        /// Some that it has.
        known: Vec<String>,
    },
}

impl PlanError {
    /// The HTTP status that says whose fault it is: 404 for what does not exist, 413 for what is too much, 400 otherwise.
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::UnknownFeature { .. } | Self::UnknownService { .. } | Self::UnknownView { .. } => 404,
            Self::Limit { .. } => 413,
            _ => 400,
        }
    }

    /// The class of Feast's SDK that says the same, for Feast's clients.
    pub const fn feast_class(&self) -> &'static str {
        match self {
            Self::Collision { .. } => "FeatureNameCollisionError",
            Self::MissingColumn { .. } => "RequestDataNotFoundInEntityRowsException",
            Self::UnknownFeature { .. } | Self::UnknownView { .. } => "FeatureViewNotFoundException",
            Self::UnknownService { .. } => "FeatureServiceNotFoundException",
            _ => "FeastError",
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, names: &[String]| {
            names.iter().enumerate().try_for_each(|(index, name)| {
                let comma = if index == 0 { "" } else { ", " };
                write!(f, "{comma}`{name}`")
            })
        };
        match self {
            Self::BadEntityValue { column, row, expected, found } => {
                write!(f, "entity column `{column}`, row {row}: expected {expected}, found {found}")
            }
            Self::BadReference { reference } => write!(f, "feature reference `{reference}` is not of the form `view:feature`"),
            Self::Collision { feature, views: [first, second] } => write!(
                f,
                "feature name `{feature}` is in both `{first}` and `{second}`; set full_feature_names to tell them apart"
            ),
            Self::Limit { kind, asked, allowed } => {
                let (noun, advice) = match kind {
                    LimitKind::Entities => ("entity rows", "; split the request"),
                    LimitKind::Pages => ("page reads", "; ask for fewer entities at once"),
                    LimitKind::RequestBytes => {
                        return write!(f, "the request's body has more than {allowed} bytes; split the request");
                    }
                    LimitKind::Values => ("values", "; ask for fewer entities or features at once"),
                };
                write!(f, "the request needs {asked} {noun}, this host allows {allowed}{advice}")
            }
            Self::MissingColumn { column, needed_by, found } => {
                write!(f, "missing entity column `{column}`, needed by `{needed_by}`; the request has ")?;
                if found.is_empty() { f.write_str("none") } else { list(f, found) }
            }
            Self::NoFeatures => f.write_str("the request selects no features: name some in `features`, or a `feature_service`"),
            Self::NoRows => {
                f.write_str("the request has no entity rows: `entities` must hold at least one column with one value")
            }
            Self::Ragged { first, other } => {
                write!(f, "entity columns have different lengths: `{}` has {}, `{}` has {}", first.0, first.1, other.0, other.1)
            }
            Self::RepeatedReference { reference } => write!(f, "feature reference `{reference}` is there twice"),
            Self::UnknownFeature { view, feature, known } => {
                write!(f, "feature view `{view}` has no feature `{feature}`; it has ")?;
                if known.is_empty() { f.write_str("none") } else { list(f, known) }
            }
            Self::UnknownService { service, known } => {
                write!(f, "no feature service `{service}` in this snapshot; it has ")?;
                if known.is_empty() { f.write_str("none") } else { list(f, known) }
            }
            Self::UnknownView { view, known } => {
                write!(f, "no feature view `{view}` in this snapshot; it has ")?;
                if known.is_empty() { f.write_str("none") } else { list(f, known) }
            }
        }
    }
}

impl core::error::Error for PlanError {}

/// The pages do not give an answer: the environment's fault.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AnswerError {
    /// A page's bytes are damaged in a way that its checksum did not show.
    Corrupt {
        /// The page; `None` for an inline page of the manifest.
        page: Option<PageKey>,
        /// What is wrong with it.
        error: PageError,
    },
    /// A page of the plan was not given.
    MissingPage {
        /// The page.
        page: PageKey,
    },
    /// More or fewer pages than the plan has were given: a mistake in the host's code.
    PageCount {
        /// Pages of the plan.
        expected: usize,
        /// Pages given.
        found: usize,
    },
    /// A value is damaged in a way that its checksum did not show.
    Value {
        /// Which value, and what is wrong with it.
        error: WireError,
    },
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { page: Some(page), error } => write!(f, "page {page}: {error}"),
            Self::Corrupt { page: None, error } => write!(f, "page in the manifest: {error}"),
            Self::MissingPage { page } => write!(f, "page {page} is missing"),
            Self::PageCount { expected, found } => write!(f, "the plan has {expected} pages, {found} were given"),
            Self::Value { error } => error.fmt(f),
        }
    }
}

impl core::error::Error for AnswerError {}

/// What a request needs, and all that is known of its answer before a page is read. It owns its parts.
#[derive(Clone, Debug)]
pub struct Plan {
    snapshot: Snapshot,
    read: Arc<ReadPlan>,
    now: Timestamp,
    expired: Expired,
    full_feature_names: bool,
    include_view_metadata: bool,
    row_count: usize,
    /// The request's columns that the response begins with, in the request's order, their values in their declared types.
    echo: Vec<EchoColumn>,
    /// The distinct pages, in ascending order.
    pages: Vec<PageKey>,
    /// Per lookup and row (lookup-major): the key's hash and where to look.
    places: Vec<Place>,
    /// Per lookup and key column (lookup-major, with a fixed stride): the number of the echo column.
    key_columns: Vec<usize>,
}

#[derive(Clone, Debug)]
struct EchoColumn {
    name: String,
    value_type: ValueType,
    values: Vec<Value>,
    /// Whether the response has it; others are only for on-demand views.
    #[cfg(feature = "expressions")]
    shown: bool,
}

/// Where to look for one entity in one table.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: KeyHash,
    /// The numbers of the delta's and the base's page, or [`NO_PAGE`].
    pages: [u64; 2],
}

impl Plan {
    pub(crate) fn new(
        snapshot: Snapshot,
        read: Arc<ReadPlan>,
        request: &Request,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<Self, Box<PlanError>> {
        if let (Some([feature, first, second]), false) = (&read.collision, request.full_feature_names) {
            let views = [first.clone(), second.clone()];
            return Err(PlanError::Collision { feature: feature.clone(), views }.into());
        }
        let row_count = row_count_of(request)?;
        check(LimitKind::Entities, row_count, limits.entities_max)?;
        let shown = read.groups.iter().filter(|group| !group.is_hidden());
        let feature_count: usize = shown.map(|group| group.features.len()).sum();
        if feature_count == 0 {
            return Err(PlanError::NoFeatures.into());
        }
        let column_count = feature_count + request.entities.len();
        check(LimitKind::Values, row_count.saturating_mul(column_count), limits.values_max)?;
        let mut plan = Self {
            now,
            expired: request.expired,
            full_feature_names: request.full_feature_names,
            include_view_metadata: request.include_view_metadata,
            row_count,
            echo: Vec::with_capacity(request.entities.len()),
            pages: Vec::new(),
            places: Vec::new(),
            key_columns: Vec::new(),
            snapshot,
            read,
        };
        plan.take_entities(request)?;
        plan.find_pages();
        check(LimitKind::Pages, plan.pages.len(), limits.pages_max)?;
        Ok(plan)
    }

    /// The pages that the answer needs, each once.
    pub fn pages(&self) -> &[PageKey] {
        &self.pages
    }

    /// The bucket count and table of page number `index` of [`Plan::pages`], which [`PageRef::verify`] wants.
    pub fn page_home(&self, index: usize) -> Option<(&Segment, &Table)> {
        let key = self.pages.get(index)?;
        let table = self.snapshot.manifest().tables.get(usize::from(key.table))?;
        let segment = table.base.iter().chain(&table.delta).find(|segment| segment.id == key.segment)?;
        Some((segment, table))
    }

    /// The snapshot that answers.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The instant that freshness is judged by.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The answer from the pages, given in the order of [`Plan::pages`].
    ///
    /// # Errors
    /// [`AnswerError`] where a page is missing or, in spite of its checksum, damaged.
    pub fn answer<'a>(&'a self, pages: &[Option<PageRef<'a>>]) -> Result<Response<'a>, AnswerError> {
        #[cfg(feature = "expressions")]
        return self.answer_with(pages, &NoTransforms);
        #[cfg(not(feature = "expressions"))]
        if pages.len() == self.pages.len() { self.respond(pages).map_err(|error| *error) } else { Err(self.wrong_count(pages)) }
    }

    fn wrong_count(&self, pages: &[Option<PageRef<'_>>]) -> AnswerError {
        AnswerError::PageCount { expected: self.pages.len(), found: pages.len() }
    }

    /// The same with features of components, which `transforms` runs. Where it cannot, their status is [`Status::Invalid`], and
    /// [`Response::faults`] has why.
    ///
    /// # Errors
    /// As of [`Plan::answer`].
    #[cfg(feature = "expressions")]
    pub fn answer_with<'a>(
        &'a self,
        pages: &[Option<PageRef<'a>>],
        transforms: &dyn RunTransforms,
    ) -> Result<Response<'a>, AnswerError> {
        if pages.len() != self.pages.len() {
            return Err(self.wrong_count(pages));
        }
        self.respond(pages, transforms).map_err(|error| *error)
    }

    /// The components that its answer needs.
    #[cfg(feature = "expressions")]
    pub fn transforms(&self) -> impl Iterator<Item = &crate::Transform> {
        self.read.linked.iter().flat_map(|linked| linked.pipeline.transforms())
    }

    /// The first instant at which a status of its answer will be another one: when the first row grows too old. `None` where time
    /// changes nothing.
    pub fn changes_at(&self, answer: &Response<'_>) -> Option<Timestamp> {
        #[cfg(feature = "expressions")]
        if self.read.linked.as_ref().is_some_and(|linked| linked.uses_now) || !answer.faults.is_empty() {
            return Some(self.now);
        }
        let echo_groups = usize::from(self.echoed_columns() > 0);
        let mut first = None;
        for (number, group) in self.read.groups.iter().enumerate().filter(|(_, group)| group.ttl != Span::ZERO) {
            let start = (number + echo_groups) * self.row_count;
            let rows = answer.rows.get(start..start + self.row_count).unwrap_or_default();
            for row in rows.iter().filter(|row| row.status == Status::Present) {
                // At `event_time + ttl` it is still fresh.
                let at = row.event_time.saturating_add(group.ttl).saturating_add(Span::from_nanos(1));
                if at != Timestamp::MAX && first.is_none_or(|first| at < first) {
                    first = Some(at);
                }
            }
        }
        first
    }

    /// The first so many columns of its answer are the request's own.
    pub fn echoed_columns(&self) -> usize {
        #[cfg(feature = "expressions")]
        return self.echo.iter().filter(|column| column.shown).count();
        #[cfg(not(feature = "expressions"))]
        self.echo.len()
    }

    fn respond<'a>(
        &'a self,
        pages: &[Option<PageRef<'a>>],
        #[cfg(feature = "expressions")] transforms: &dyn RunTransforms,
    ) -> Result<Response<'a>, Box<AnswerError>> {
        let manifest = self.snapshot.manifest();
        let found = self.find_rows(pages)?;
        let column_count = self.echo.len() + self.read.groups.iter().map(|group| group.features.len()).sum::<usize>();
        let echo_groups = usize::from(self.echoed_columns() > 0);
        let mut response = Response {
            row_count: self.row_count,
            columns: Vec::with_capacity(column_count),
            rows: Vec::with_capacity((self.read.groups.len() + echo_groups) * self.row_count),
            cells: Vec::with_capacity(column_count * self.row_count),
            views: None,
            #[cfg(feature = "expressions")]
            made: Vec::new(),
            #[cfg(feature = "expressions")]
            faults: Vec::new(),
        };
        #[cfg(feature = "expressions")]
        let (mut hidden, mut computed) = (Vec::new(), Vec::new());
        for column in &self.echo {
            #[cfg(feature = "expressions")]
            if !column.shown {
                continue;
            }
            response.columns.push(Column { name: Cow::Borrowed(&column.name), value_type: &column.value_type, group: 0 });
            response.cells.extend(column.values.iter().map(|value| match value {
                Value::Null => Cell::Null,
                value => Cell::Request(value),
            }));
        }
        // What a request gave is present, as of no time.
        let echoed = RowState { status: Status::Present, event_time: Timestamp::EPOCH };
        response.rows.extend(core::iter::repeat_n(echoed, echo_groups * self.row_count));

        for (number, group) in self.read.groups.iter().enumerate() {
            #[cfg(feature = "expressions")]
            if group.table == ON_DEMAND_TABLE {
                response.rows.extend(core::iter::repeat_n(echoed, self.row_count));
                for feature in &group.features {
                    if let Some(schema) = feature_schema(manifest, group, feature) {
                        computed.push((&schema.value_type, response.cells.len()));
                    }
                    response.cells.extend(core::iter::repeat_n(Cell::Null, self.row_count));
                }
                self.push_columns(manifest, group, number + echo_groups, &mut response.columns);
                continue;
            }
            let rows = found.get(group.lookup * self.row_count..(group.lookup + 1) * self.row_count).unwrap_or_default();
            let first_state = response.rows.len();
            for row in rows {
                response.rows.push(self.row_state(row, usize::from(group.view), group.time_column, group.ttl)?);
            }
            #[cfg(feature = "expressions")]
            let into = if group.hidden { &mut hidden } else { &mut response.cells };
            #[cfg(not(feature = "expressions"))]
            let into = &mut response.cells;
            let first_cell = into.len();
            into.resize(first_cell + group.features.len() * self.row_count, Cell::Null);
            let cells = into.get_mut(first_cell..).unwrap_or_default();
            let states = response.rows.get(first_state..).unwrap_or_default();
            // Row by row, as pages lie in memory: a row's values are near each other, a column's are on as many pages as rows.
            for (index, (row, state)) in rows.iter().zip(states).enumerate() {
                let readable = match state.status {
                    Status::Present => true,
                    // What is computed is computed of what training would have seen.
                    Status::OutsideMaxAge => self.expired == Expired::Value && !group.is_hidden(),
                    #[cfg(feature = "expressions")]
                    Status::Invalid => false,
                    Status::NotFound | Status::NullValue => false,
                };
                let (Some(row), true) = (row, readable) else { continue };
                let mut place = index;
                for feature in &group.features {
                    if let Some(cell) = cells.get_mut(place) {
                        (*cell, _) = self.cell(row, feature.column)?;
                    }
                    place += self.row_count;
                }
            }
            if !group.is_hidden() {
                self.push_columns(manifest, group, number + echo_groups, &mut response.columns);
            }
        }
        #[cfg(feature = "expressions")]
        if let Some(linked) = &self.read.linked {
            let request = |name: &str| self.echo.iter().find(|column| column.name == name).map(|column| column.values.as_slice());
            let given = Given { manifest, rows: self.row_count, now: self.now, hidden: &hidden, request: &request };
            linked.compute(&given, transforms, &computed, &mut response);
        }
        if self.include_view_metadata {
            let mut views: Vec<Cow<'_, str>> = Vec::new();
            for group in self.read.groups.iter().filter(|group| !group.is_hidden()) {
                if !views.iter().any(|known| *known == group.display_name) {
                    views.push(Cow::Borrowed(&group.display_name));
                }
            }
            response.views = Some(views);
        }
        Ok(response)
    }

    /// Names the columns of a group.
    fn push_columns<'a>(&'a self, manifest: &'a Manifest, group: &'a Group, number: usize, columns: &mut Vec<Column<'a>>) {
        for feature in &group.features {
            let Some(schema) = feature_schema(manifest, group, feature) else { continue };
            let name = if self.full_feature_names { &feature.full_name } else { &schema.name };
            columns.push(Column { name: Cow::Borrowed(name), value_type: &schema.value_type, group: number });
        }
    }

    /// The row of each lookup and entity, lookup-major.
    fn find_rows<'a>(&'a self, pages: &[Option<PageRef<'a>>]) -> Result<Vec<Option<FoundRow<'a>>>, Box<AnswerError>> {
        let manifest = self.snapshot.manifest();
        let mut found = Vec::with_capacity(self.places.len());
        let mut places = self.places.iter();
        for (number, lookup) in self.read.lookups.iter().enumerate() {
            let Some(table) = manifest.tables.get(usize::from(lookup.table)) else {
                continue;
            };
            let inline = match &table.inline {
                Some(bytes) => {
                    let page = PageRef::resident(bytes).map_err(|error| AnswerError::Corrupt { page: None, error })?;
                    Some(FoundRow { own: PageRow { page, row: 0, number: NO_PAGE, shifts: &[] }, base: None })
                }
                None => None,
            };
            let columns = self.key_columns_of(number, lookup);
            for row in 0..self.row_count {
                let Some(place) = places.next() else { break };
                if lookup.columns.is_empty() {
                    found.push(inline);
                    continue;
                }
                let mut parts = [KeyPart::Int(0); KEY_COLUMNS_MAX];
                let Some(key) = self.key(columns, row, &mut parts) else {
                    found.push(None);
                    continue;
                };
                // What the delta has counts before the base's, also where it says that there is none any more.
                let [delta, base] = place.pages;
                let base = self.find_row(place.hash, key, base, &table.base, pages, None)?;
                let own = self.find_row(place.hash, key, delta, &table.delta, pages, base.as_ref())?;
                let hit = match own {
                    Some(own) => Some(FoundRow { own, base }),
                    None => base.map(|own| FoundRow { own, base: None }),
                };
                found.push(hit);
            }
        }
        Ok(found)
    }

    /// The row of a key in page `number` of a segment, if it has one. `base` is its row in the base, where that has one.
    fn find_row<'a>(
        &'a self,
        hash: KeyHash,
        key: &[KeyPart<'_>],
        number: u64,
        segment: &'a Option<Segment>,
        pages: &[Option<PageRef<'a>>],
        base: Option<&PageRow<'a>>,
    ) -> Result<Option<PageRow<'a>>, Box<AnswerError>> {
        let (Some(segment), Some(page_key)) = (segment, self.page_key(number)) else { return Ok(None) };
        let Some(page) = pages.get(number as usize).copied().flatten() else {
            return Err(AnswerError::MissingPage { page: page_key }.into());
        };
        let patched = match base {
            Some(base) => page.find_patched(&base.page, base.row),
            None => Ok(None),
        };
        let row = match patched {
            Ok(None) => page.find(hash, key),
            patched => patched,
        };
        let row = row.map_err(|error| self.corrupt(number, error))?;
        Ok(row.map(|row| PageRow { page, row, number, shifts: &segment.time_shifts }))
    }

    /// Page number `number` of [`Plan::pages`].
    fn page_key(&self, number: u64) -> Option<PageKey> {
        self.pages.get(usize::try_from(number).ok()?).copied()
    }

    fn corrupt(&self, number: u64, error: PageError) -> Box<AnswerError> {
        AnswerError::Corrupt { page: self.page_key(number), error }.into()
    }

    /// A cell of a row, and whose it is.
    #[inline]
    fn cell<'r, 'a>(&self, row: &'r FoundRow<'a>, column: usize) -> Result<(Cell<'a>, &'r PageRow<'a>), Box<AnswerError>> {
        let mut of = &row.own;
        loop {
            match (of.page.own_cell(of.row, column), &row.base) {
                (Ok(Some(cell)), _) => return Ok((cell, of)),
                (Ok(None), Some(base)) if !core::ptr::eq(of, base) => of = base,
                (Ok(None), _) => return Ok((Cell::Null, of)),
                (Err(error), _) => return Err(self.corrupt(of.number, error)),
            }
        }
    }

    fn row_state(
        &self,
        row: &Option<FoundRow<'_>>,
        view: usize,
        time_column: usize,
        ttl: Span,
    ) -> Result<RowState, Box<AnswerError>> {
        let not_found = RowState { status: Status::NotFound, event_time: Timestamp::EPOCH };
        let Some(row) = row else { return Ok(not_found) };
        let (cell, of) = self.cell(row, time_column)?;
        let stored = of.page.time_in(cell, time_column).map_err(|error| self.corrupt(of.number, error))?;
        let Some(stored) = stored else { return Ok(not_found) };
        let event_time = stored.saturating_add(of.shifts.get(view).copied().unwrap_or(Span::ZERO));
        let status = if event_time.is_fresh(self.now, ttl) { Status::Present } else { Status::OutsideMaxAge };
        Ok(RowState { status, event_time })
    }

    /// Takes over the request's columns that are needed, in their declared types, and finds the key columns among them.
    fn take_entities(&mut self, request: &Request) -> Result<(), Box<PlanError>> {
        let read = Arc::clone(&self.read);
        for column in &request.entities {
            let key = read.lookups.iter().flat_map(|lookup| &lookup.columns).find(|wanted| {
                names(wanted, &column.name)
                    && !request.entities.iter().any(|other| {
                        // A column by the join key's own name comes before one by the entity's name.
                        wanted.name != column.name && other.name == wanted.name
                    })
            });
            let value_type = match key {
                Some(wanted) => Some(wanted.key_type.value_type()),
                None => read.request_fields.iter().find(|field| field.name == column.name).map(|field| field.value_type.clone()),
            };
            // A column that nothing needs is left out, as Feast does.
            let Some(value_type) = value_type else { continue };
            let name = key.map_or(&column.name, |wanted| &wanted.name).clone();
            if self.echo.iter().any(|known| known.name == name) {
                continue;
            }
            let mut values = Vec::with_capacity(column.values.len());
            for (row, value) in column.values.iter().enumerate() {
                values.push(coerce(&value_type, value).ok_or_else(|| PlanError::BadEntityValue {
                    column: column.name.clone(),
                    row,
                    expected: value_type.clone(),
                    found: describe(value),
                })?);
            }
            #[cfg(feature = "expressions")]
            let shown = key.is_some() || read.request_fields.iter().any(|field| field.name == name && field.echoed);
            self.echo.push(EchoColumn {
                name,
                value_type,
                values,
                #[cfg(feature = "expressions")]
                shown,
            });
        }
        let missing = |column: &str, needed_by: &str| PlanError::MissingColumn {
            column: column.to_owned(),
            needed_by: needed_by.to_owned(),
            found: request.entities.iter().map(|column| column.name.clone()).collect(),
        };
        for (number, lookup) in read.lookups.iter().enumerate() {
            for wanted in &lookup.columns {
                let index = self.echo.iter().position(|known| known.name == wanted.name).ok_or_else(|| {
                    let needed_by = read.groups.iter().find(|group| group.lookup == number);
                    missing(&wanted.name, needed_by.map_or("", |group| &group.display_name))
                })?;
                // One column may serve two views only as one type.
                if self.echo.get(index).is_some_and(|echo| echo.value_type != wanted.key_type.value_type()) {
                    return Err(PlanError::BadEntityValue {
                        column: wanted.name.clone(),
                        row: 0,
                        expected: wanted.key_type.value_type(),
                        found: "a column that another view needs as another type".into(),
                    }
                    .into());
                }
                self.key_columns.push(index);
            }
        }
        for field in &read.request_fields {
            if !self.echo.iter().any(|known| known.name == field.name) {
                return Err(missing(&field.name, "request data").into());
            }
        }
        Ok(())
    }

    fn find_pages(&mut self) {
        let read = Arc::clone(&self.read);
        let snapshot = self.snapshot.clone();
        let manifest = snapshot.manifest();
        // The segments that are read, in the order of pages: a page is sorted by its segment's place and its bucket.
        let mut segments: Vec<(SegmentId, u16)> = Vec::with_capacity(2 * read.lookups.len());
        for lookup in &read.lookups {
            let Some(table) = manifest.tables.get(usize::from(lookup.table)) else { continue };
            for segment in table.base.iter().chain(&table.delta) {
                let home = (segment.id, lookup.table);
                if let Err(at) = segments.binary_search(&home) {
                    segments.insert(at, home);
                }
            }
        }
        let mut places = Vec::with_capacity(read.lookups.len() * self.row_count);
        let mut pages = Vec::with_capacity(places.capacity());
        for (number, lookup) in read.lookups.iter().enumerate() {
            let Some(table) = manifest.tables.get(usize::from(lookup.table)) else { continue };
            let columns = self.key_columns_of(number, lookup);
            let place = |segment: &Option<Segment>| {
                let segment = segment.as_ref()?;
                let place = segments.binary_search(&(segment.id, lookup.table)).ok()?;
                Some((place as u64, segment.bucket_count))
            };
            let segments_here = [place(&table.delta), place(&table.base)];
            for row in 0..self.row_count {
                let mut parts = [KeyPart::Int(0); KEY_COLUMNS_MAX];
                let key = if lookup.columns.is_empty() { None } else { self.key(columns, row, &mut parts) };
                let hash = key.map(KeyHash::of);
                let page = |place: Option<(u64, u32)>| match (place, hash) {
                    (Some((place, bucket_count)), Some(hash)) => place << 32 | u64::from(hash.bucket(bucket_count)),
                    _ => NO_PAGE,
                };
                let here = segments_here.map(page);
                pages.extend(here.into_iter().filter(|page| *page != NO_PAGE));
                places.push(Place { hash: hash.unwrap_or(KeyHash::from_u64(0)), pages: here });
            }
        }
        sort_by(&mut pages, |first, second| first <= second);
        pages.dedup();
        // From the order of pages to their numbers.
        for place in &mut places {
            for page in place.pages.iter_mut().filter(|page| **page != NO_PAGE) {
                *page = pages.binary_search(page).map_or(NO_PAGE, |number| number as u64);
            }
        }
        self.places = places;
        let key = |page: &u64| {
            let (segment, table) = segments.get((page >> 32) as usize)?;
            Some(PageKey::new(*segment, *table, *page as u32))
        };
        self.pages = pages.iter().filter_map(key).collect();
    }

    /// The numbers of the echo columns that hold the key of a lookup.
    fn key_columns_of(&self, number: usize, lookup: &Lookup) -> &[usize] {
        let start: usize = self.read.lookups.iter().take(number).map(|lookup| lookup.columns.len()).sum();
        self.key_columns.get(start..start + lookup.columns.len()).unwrap_or_default()
    }

    /// The key of a row, or `None` where a part of it is null.
    fn key<'a, 'b>(
        &'a self,
        columns: &[usize],
        row: usize,
        parts: &'b mut [KeyPart<'a>; KEY_COLUMNS_MAX],
    ) -> Option<&'b [KeyPart<'a>]> {
        for (slot, column) in parts.iter_mut().zip(columns) {
            *slot = match self.echo.get(*column)?.values.get(row)? {
                Value::Int(value) => KeyPart::Int(*value),
                Value::Bool(value) => KeyPart::Int(i64::from(*value)),
                Value::String(text) => KeyPart::Bytes(text.as_bytes()),
                Value::Bytes(bytes) => KeyPart::Bytes(bytes),
                _ => return None,
            };
        }
        parts.get(..columns.len())
    }
}

/// A row of a page, and how to read its time.
#[derive(Clone, Copy)]
struct PageRow<'a> {
    page: PageRef<'a>,
    row: u32,
    /// The page's number in the plan, or [`NO_PAGE`].
    number: u64,
    shifts: &'a [Span],
}

/// The row of an entity.
#[derive(Clone, Copy)]
struct FoundRow<'a> {
    /// The delta's, where it has one, otherwise the base's.
    own: PageRow<'a>,
    /// The base's, where the delta has one, too: what a patch does not have is there.
    base: Option<PageRow<'a>>,
}

fn names(wanted: &LookupColumn, column: &str) -> bool {
    wanted.name == column || !wanted.entity.is_empty() && wanted.entity == column
}

fn check(kind: LimitKind, asked: usize, allowed: usize) -> Result<(), Box<PlanError>> {
    if asked > allowed { Err(PlanError::Limit { kind, asked, allowed }.into()) } else { Ok(()) }
}

fn row_count_of(request: &Request) -> Result<usize, Box<PlanError>> {
    let Some(first) = request.entities.first() else { return Err(PlanError::NoRows.into()) };
    let count = first.values.len();
    match request.entities.iter().find(|column| column.values.len() != count) {
        Some(other) => {
            let other = (other.name.clone(), other.values.len());
            Err(PlanError::Ragged { first: (first.name.clone(), count), other }.into())
        }
        None if count == 0 => Err(PlanError::NoRows.into()),
        None => Ok(count),
    }
}

/// No page has this place: there are not that many segments.
const NO_PAGE: u64 = u64::MAX;

/// The segment id that inline pages of a manifest carry.
pub const INLINE_SEGMENT: SegmentId = SegmentId::from_bytes([0; 16]);
