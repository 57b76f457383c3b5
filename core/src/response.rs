//! A response, independent of its wire format.

use alloc::{borrow::Cow, vec::Vec};

use crate::{Timestamp, Value, ValueType};

/// The features of one request: columns of values, and per group of columns and entity row a status and an event time.
///
/// A group is the columns that come from one row: those of one view, or all that the request itself gave.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Response<'a> {
    /// Entity rows of the request.
    pub row_count: usize,
    /// The columns, in response order: entities first.
    pub columns: Vec<Column<'a>>,
    /// Per group and row (group-major: `group * row_count + row`): status and event time.
    pub rows: Vec<RowState>,
    /// Per column and row (column-major: `column * row_count + row`): the value. An expired value is null here already,
    /// unless the request asked for it.
    pub cells: Vec<Cell<'a>>,
    /// The views that answered, with their aliases, if the request asked for them.
    pub views: Option<Vec<Cow<'a, str>>>,
    /// The payloads of [`Cell::Made`].
    #[cfg(feature = "expressions")]
    pub made: Vec<u8>,
    /// Why [`Cell::Failed`] cells have no value.
    #[cfg(feature = "expressions")]
    pub faults: Vec<crate::ViewFault>,
}

/// A column of a response.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Column<'a> {
    /// Its name: `feature`, or `view__feature`.
    pub name: Cow<'a, str>,
    /// The type of its values.
    pub value_type: &'a ValueType,
    /// Which group's rows its values come from.
    pub group: usize,
}

/// What one view says of one entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowState {
    /// `Present`, `NotFound` or `OutsideMaxAge`. A null cell of a present row has the status `NullValue`.
    pub status: Status,
    /// The row's event time; the epoch where there is no row.
    pub event_time: Timestamp,
}

/// The status of a value, by Feast's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The value could not be computed.
    #[cfg(feature = "expressions")]
    Invalid,
    /// The entity has no row.
    NotFound,
    /// The row has no value for the feature.
    NullValue,
    /// The row is older than the view's ttl.
    OutsideMaxAge,
    /// There is a value.
    Present,
}

impl Status {
    /// Its name in responses.
    pub const fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "expressions")]
            Self::Invalid => "INVALID",
            Self::NotFound => "NOT_FOUND",
            Self::NullValue => "NULL_VALUE",
            Self::OutsideMaxAge => "OUTSIDE_MAX_AGE",
            Self::Present => "PRESENT",
        }
    }
}

/// A value borrowed from a page or a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// The payload of a type whose [`Physical`](crate::Physical) form is bytes.
    Bytes(&'a [u8]),
    /// `float32`.
    Float32(f32),
    /// `float64`.
    Float64(f64),
    /// `bool`, `int32`, `int64`; nanoseconds of a `unix_timestamp`.
    Int(i64),
    /// No value.
    Null,
    /// A value of the request.
    Request(&'a Value),
    /// A payload that an expression made: these bytes of [`Response::made`].
    #[cfg(feature = "expressions")]
    Made {
        /// Where it begins.
        start: u32,
        /// Where it ends.
        end: u32,
    },
    /// What computes it failed.
    #[cfg(feature = "expressions")]
    Failed,
}

impl<'a> Response<'a> {
    /// What cells that were computed are in.
    pub(crate) fn made_bytes(&self) -> &[u8] {
        #[cfg(feature = "expressions")]
        return &self.made;
        #[cfg(not(feature = "expressions"))]
        &[]
    }

    /// The status of the value in this column and row.
    pub fn status(&self, column: &Column<'_>, row: usize, cell: &Cell<'_>) -> RowState {
        let state = self
            .rows
            .get(column.group * self.row_count + row)
            .copied()
            .unwrap_or(RowState { status: Status::NotFound, event_time: Timestamp::EPOCH });
        match (state.status, cell) {
            #[cfg(feature = "expressions")]
            (_, Cell::Failed) => RowState { status: Status::Invalid, ..state },
            (Status::Present, Cell::Null) => RowState { status: Status::NullValue, ..state },
            _ => state,
        }
    }
}
