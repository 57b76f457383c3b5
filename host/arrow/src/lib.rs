//! Arrow arrays and the core's values: the one place that says how the one becomes the other.

mod array;
mod column;
mod value;

pub use array::array_of;
pub use column::{expression_column, instants};
pub use value::value_at;

/// A value cannot be brought to its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The array's type cannot hold such values.
    #[error("a column of {0} does not hold such values")]
    Type(String),
    /// A value does not fit.
    #[error("{0}")]
    Value(String),
    /// There are too many bytes for one column.
    #[error("the values of one column take more than 4 GiB")]
    TooLong,
}
