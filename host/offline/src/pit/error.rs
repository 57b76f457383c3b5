use datafusion::error::DataFusionError;

/// Why a point-in-time join or a scan for newest rows failed.
#[derive(Debug, thiserror::Error)]
pub enum PitError {
    /// A file could not be read.
    #[error("cannot read {file}: {reason}")]
    Read {
        /// The file.
        file: String,
        /// What the store or the file system said.
        reason: String,
    },
    /// A file is not Parquet or is damaged.
    #[error("{file} is not a readable Parquet file: {reason}; check the source's path and file format")]
    NotParquet {
        /// The file.
        file: String,
        /// What the decoder said.
        reason: String,
    },
    /// A file lacks a column.
    #[error("{file} has no column `{column}`, which view `{view}` reads; its columns are {known}")]
    MissingColumn {
        /// The file.
        file: String,
        /// The view.
        view: String,
        /// The column.
        column: String,
        /// The columns that the file has.
        known: String,
    },
    /// The entity rows lack a column.
    #[error("the entity rows have no column `{column}`, which {needed_by} needs; their columns are {known}")]
    MissingEntityColumn {
        /// The column.
        column: String,
        /// What needs it.
        needed_by: String,
        /// The columns that the entity rows have.
        known: String,
    },
    /// A column of instants holds something else.
    #[error("column `{column}` of {place} is {found}, expected a timestamp or a date; cast it where the rows come from")]
    NotTime {
        /// The column.
        column: String,
        /// The file or the entity rows.
        place: String,
        /// The type found.
        found: String,
    },
    /// A type that cannot be a key.
    #[error(
        "entity column `{column}` of {place} is a {found}; join keys must be integers, strings, binary, booleans, timestamps or UUIDs"
    )]
    KeyType {
        /// The column.
        column: String,
        /// The file or the entity rows.
        place: String,
        /// The type found.
        found: String,
    },
    /// A key of a view and of the entity rows that can never be equal.
    #[error(
        "key column `{column}` of {place} is {found}, but `{entity_column}` of the entity rows is {expected}; cast one of them so that the types agree"
    )]
    KeyMismatch {
        /// The column in the file.
        column: String,
        /// The file.
        place: String,
        /// Its type.
        found: String,
        /// The entity rows' column.
        entity_column: String,
        /// Its type.
        expected: String,
    },
    /// An unsigned key above the signed range.
    #[error("key column `{column}` of {place} holds {value}, above the greatest supported integer key 9223372036854775807")]
    KeyRange {
        /// The column.
        column: String,
        /// The file or the entity rows.
        place: String,
        /// The value.
        value: u64,
    },
    /// A feature column that does not cast to the wanted type.
    #[error("feature column `{column}` of {file} is {found} and does not convert to {expected}: {reason}")]
    FeatureType {
        /// The column.
        column: String,
        /// The file.
        file: String,
        /// The type found.
        found: String,
        /// The type wanted.
        expected: String,
        /// What the cast said.
        reason: String,
    },
    /// More rows than one join can hold.
    #[error("{what} has more than 4294967295 rows; split it")]
    TooManyRows {
        /// What has them.
        what: String,
    },
    /// The entity rows could not be had.
    #[error(transparent)]
    Engine(DataFusionError),
    /// The output could not be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// What the file system or the encoder said.
        reason: String,
    },
    /// A component failed for a row.
    #[error("the transform of `{view}` failed for {row}: {reason}; it got {inputs}")]
    Transform {
        /// The view.
        view: String,
        /// Which row, counted from 1.
        row: String,
        /// Why.
        reason: String,
        /// The values of that row.
        inputs: String,
    },
    /// The reader of the output went away.
    #[error("the join was cancelled")]
    Cancelled,
    /// A worker died.
    #[error("a worker of the join failed: {0}")]
    Worker(String),
    /// Arrow refused an operation.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
}

impl From<PitError> for DataFusionError {
    fn from(error: PitError) -> Self {
        if let PitError::Engine(error) = error {
            return error;
        }
        Self::External(Box::new(error))
    }
}
