//! What can go wrong with sources, entity rows and data sets.

use std::path::PathBuf;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use crate::pit::PitError;

/// What is wrong with a source, with entity rows or with a request for a data set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// No file matches a path.
    #[error("{path}: {reason}")]
    NothingMatches {
        /// The path as it was written.
        path: String,
        /// What was looked for and not found.
        reason: String,
    },
    /// Files of several formats under one path.
    #[error(
        "{path}: files of several formats: {first} is {first_format} and {second} is {second_format}; narrow the path with a glob such as *.{first_format}, or name the format"
    )]
    MixedFormats {
        /// The path as it was written.
        path: String,
        /// A file.
        first: String,
        /// Its format.
        first_format: &'static str,
        /// A file of another format.
        second: String,
        /// That file's format.
        second_format: &'static str,
    },
    /// A file name that says no format.
    #[error("{file}: the format is unknown: known extensions are {known}; rename the file, narrow the path with a glob, or name the format", known = crate::source::KNOWN_EXTENSIONS)]
    UnknownExtension {
        /// The file.
        file: String,
    },
    /// A path that cannot be understood.
    #[error("{path}: {reason}")]
    BadPath {
        /// The path as it was written.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that could not be read.
    #[error("{file}: cannot be read: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// An object that could not be read.
    #[error("{file}: cannot be read: {source}")]
    Store {
        /// The file.
        file: String,
        /// Why.
        source: object_store::Error,
    },
    /// A file whose bytes are not of its format.
    #[error("{file}: not {format} file: {reason}")]
    NotOfFormat {
        /// The file.
        file: String,
        /// The format it should have, with its article.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A column that a file of its format cannot have.
    #[error("{file}: column {column}: {reason}")]
    FileColumn {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A line that cannot be read.
    #[error("{file}:{line}: {reason}")]
    BadLine {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Two files of one source that disagree about a column.
    #[error(
        "column {column} is {first_type} in {first} but {second_type} in {second}: the files of one source need equal columns"
    )]
    SchemasDiffer {
        /// The column.
        column: String,
        /// A file.
        first: String,
        /// What the column is there.
        first_type: String,
        /// Another file.
        second: String,
        /// What the column is there.
        second_type: String,
    },
    /// A column that a source does not have.
    #[error("feature view {view}: source {source_name} has no column {column}, which is its {role}; it has {columns}")]
    SourceColumn {
        /// The view.
        view: String,
        /// The view's source.
        source_name: String,
        /// The column.
        column: String,
        /// What it is needed for.
        role: String,
        /// The columns there are.
        columns: String,
    },
    /// A column of a source whose type does not fit.
    #[error("feature view {view}: column {column} of source {source_name} is {found}, {needed}")]
    SourceType {
        /// The view.
        view: String,
        /// The view's source.
        source_name: String,
        /// The column.
        column: String,
        /// The type it has.
        found: String,
        /// What it should be, or what to do.
        needed: String,
    },
    /// Something is wrong with the entity rows.
    #[error("entity rows {rows}: {reason}")]
    EntityRows {
        /// Where they come from.
        rows: String,
        /// What is wrong with them.
        reason: String,
    },
    /// Entity rows without a column that a view joins by.
    #[error("entity rows {rows} have no column {column}, the join key of feature view {view}; they have {columns}")]
    MissingJoinKey {
        /// Where the entity rows come from.
        rows: String,
        /// The column.
        column: String,
        /// The view.
        view: String,
        /// The columns there are.
        columns: String,
    },
    /// Entity rows without a column that a request source declares.
    #[error("entity rows {rows} have no column {column}, which request source {request_source} declares; they have {columns}")]
    MissingRequestColumn {
        /// Where the entity rows come from.
        rows: String,
        /// The column.
        column: String,
        /// The request source.
        request_source: String,
        /// The columns there are.
        columns: String,
    },
    /// A query that cannot be planned.
    #[error("entity rows by SQL: {reason}")]
    Sql {
        /// What is wrong with it.
        reason: String,
    },
    /// A name that nothing has.
    #[error("there is no {kind} {name}{hint}")]
    Unknown {
        /// What kind of thing was asked for.
        kind: String,
        /// The name.
        name: String,
        /// The nearest name, or the names there are.
        hint: String,
    },
    /// A feature that is written wrongly.
    #[error("feature {feature:?} is not of the form view:feature")]
    FeatureForm {
        /// The feature as it was written.
        feature: String,
    },
    /// Two columns of one name.
    #[error("{first} and {second} would both be column {column}: {remedy}")]
    Collision {
        /// The column's name.
        column: String,
        /// What has the name.
        first: String,
        /// What has it too.
        second: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A range for views that are about different entities.
    #[error(
        "a time range without entity rows needs views of one set of join keys: {first} has {first_keys}, {second} has {second_keys}; ask for them separately or give entity rows"
    )]
    RangeKeys {
        /// A view.
        first: String,
        /// Its join keys.
        first_keys: String,
        /// Another view.
        second: String,
        /// That view's join keys.
        second_keys: String,
    },
    /// A request that cannot be meant.
    #[error("{reason}")]
    Request {
        /// What is wrong with it.
        reason: String,
    },
    /// An output that cannot be written.
    #[error("{path}: cannot be written: {reason}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A task that another process could not do, because of its input.
    #[error("{reason}")]
    Worker {
        /// What that process said.
        reason: String,
    },
    /// Other processes that were to do tasks cannot be had.
    #[error("{reason}")]
    Workers {
        /// Which, and what to do.
        reason: String,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] DataFusionError),
    /// What the join says.
    #[error(transparent)]
    Join(Box<PitError>),
    /// A column could not be converted.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// A background task of this process ended before it was done.
    #[error("a background task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<PitError> for OfflineError {
    fn from(error: PitError) -> Self {
        match error {
            PitError::Engine(error) => Self::from_engine(error),
            PitError::Write { path, reason } => Self::Write { path, reason },
            other => Self::Join(Box::new(other)),
        }
    }
}

impl OfflineError {
    /// Whether files, definitions or the request are at fault, and not the machine.
    pub const fn is_input(&self) -> bool {
        !matches!(
            self,
            Self::Read { .. } | Self::Store { .. } | Self::Write { .. } | Self::Workers { .. } | Self::Arrow(_) | Self::Task(_)
        )
    }

    /// The error of this crate that a plan of the engine passed on, or the engine's own.
    pub(crate) fn from_engine(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => match other.downcast::<PitError>() {
                    Ok(error) => Self::from(*error),
                    Err(other) => Self::Engine(DataFusionError::External(other)),
                },
            },
            DataFusionError::Context(context, inner) => match Self::from_engine(*inner) {
                Self::Engine(inner) => Self::Engine(DataFusionError::Context(context, Box::new(inner))),
                own => own,
            },
            other => Self::Engine(other),
        }
    }
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, OfflineError>;

/// Names as a list for messages: `a, b, c`, or `no columns`.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() { "no columns".to_owned() } else { names.join(", ") }
}

/// `; did you mean x?` for the nearest of `names`, or the names there are.
pub(crate) fn hint<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let nearest = names
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 3))
        .min();
    match nearest {
        Some((_, nearest)) => format!("; did you mean {nearest}?"),
        None if names.is_empty() => "; there are none".to_owned(),
        None => format!("; there are {}", names.join(", ")),
    }
}
