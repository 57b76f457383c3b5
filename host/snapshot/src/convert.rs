//! Arrow arrays as columns.

use arrow::array::{Array, ArrayRef};
use mezze_arrow::{ConvertError, expression_column};
use mezze_core::{Cell, KeyType, Physical, ValueType, Values, canonical_f32, canonical_f64};

use crate::column::{Column, Data, TooLong};

impl From<TooLong> for ConvertError {
    fn from(_: TooLong) -> Self {
        Self::TooLong
    }
}

/// The values of an array as features of a type.
pub(crate) fn feature_column(value_type: &ValueType, array: &ArrayRef) -> Result<Column, ConvertError> {
    let values = expression_column(value_type, array)?;
    let mut column = Column::new(value_type.physical());
    column.data = match values.values {
        Values::Int(ints) => Data::Int(ints.into_owned()),
        Values::Float(floats) if value_type.physical() == Physical::Float32 => {
            Data::Float32(floats.iter().map(|value| canonical_f32(*value as f32)).collect())
        }
        Values::Float(floats) => Data::Float64(floats.iter().map(|value| canonical_f64(*value)).collect()),
        Values::Bytes { .. } | Values::Null => {
            // Row by row, since what an array has where a value is null is not to be kept.
            for row in 0..array.len() {
                column.push_cell(values.bytes(row).map_or(Cell::Null, Cell::Bytes));
            }
            return Ok(column);
        }
    };
    column.validity = values.valid.map(|valid| valid.iter().map(|valid| *valid != 0).collect());
    Ok(column)
}

/// The values of an array as parts of keys.
pub(crate) fn key_column(key_type: KeyType, array: &ArrayRef) -> Result<Column, ConvertError> {
    feature_column(&key_type.value_type(), array)
}
