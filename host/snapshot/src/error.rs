//! Why a snapshot could not be made.

use mezze_core::{PageError, PageWriteError, ValueType};

/// Why a snapshot could not be made. The one before it serves on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The origin failed, or someone else made the next snapshot.
    #[error(transparent)]
    Origin(#[from] mezze_replica::Error),
    /// A page of the snapshot before is damaged.
    #[error("{key}: {error}; roll back to a snapshot that is whole, or materialize the whole history anew")]
    DamagedPage {
        /// The file and page.
        key: String,
        /// What is wrong with it.
        error: PageError,
    },
    /// A page cannot be written.
    #[error("table {table}: {error}")]
    Page {
        /// The table.
        table: String,
        /// Why.
        error: PageWriteError,
    },
    /// A row is too large to be served.
    #[error(
        "table {table}: the row of {key} has {bytes} bytes, {limit} are allowed; leave out its large features, or group them apart"
    )]
    RowTooLarge {
        /// The table.
        table: String,
        /// The entity.
        key: String,
        /// What the row has.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
    /// A column of new rows is missing or of a type that is not the feature's.
    #[error("view {view}: column {column} is {found}, expected {expected}")]
    Column {
        /// The view.
        view: String,
        /// The column.
        column: String,
        /// What it is.
        found: String,
        /// What it must be.
        expected: String,
    },
    /// A value is not of its feature's type, or beyond its range.
    #[error("view {view}: a value of column {column} does not fit {expected}: {detail}")]
    Value {
        /// The view.
        view: String,
        /// The column.
        column: String,
        /// The type.
        expected: ValueType,
        /// What is wrong with it.
        detail: String,
    },
    /// More than the format can hold.
    #[error("table {table}: {what}; split it with `group`, or retain less")]
    TooMuch {
        /// The table.
        table: String,
        /// What there is too much of.
        what: String,
    },
    /// A temporary file could not be written or read.
    #[error("temporary files in {folder}: {detail}; give another folder with --temp-folder, or more --memory")]
    Temporary {
        /// The folder.
        folder: String,
        /// What happened.
        detail: String,
    },
    /// There is no such entity key in any table.
    #[error("no table has exactly the join keys {given}; there are {known}")]
    NoSuchKey {
        /// The join keys given.
        given: String,
        /// Those of the tables.
        known: String,
    },
    /// A key's value is not of its type.
    #[error("join key {column}: {value} is not of the type {expected}")]
    KeyValue {
        /// The join key.
        column: String,
        /// What was given.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
}

impl SnapshotError {
    /// Whether another run was first, so that running again may succeed.
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Origin(error) if error.is_conflict())
    }

    /// Whether a limit refused it.
    pub const fn is_limit(&self) -> bool {
        matches!(self, Self::RowTooLarge { .. } | Self::TooMuch { .. } | Self::Page { .. })
    }

    /// Whether rows or arguments are at fault, and not the machine.
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::Column { .. } | Self::Value { .. } | Self::NoSuchKey { .. } | Self::KeyValue { .. })
    }
}
