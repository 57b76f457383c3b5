//! Columns that expressions made as arrays.

use std::sync::Arc;

use arrow::array::PrimitiveArray;
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, StringArray,
    new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, TimeUnit};
use mezze_core::{ExpressionColumn, Physical, Value, ValueType, Values, decode_payload};

use crate::ConvertError;

/// A column's values as an array: numbers and instants as Arrow has them, UUIDs and instants with an offset as text. `rows` is how
/// many there are.
///
/// # Errors
/// [`ConvertError`] where the type has no array, such as a map.
pub fn array_of(value_type: &ValueType, column: ExpressionColumn<'_>, rows: usize) -> Result<ArrayRef, ConvertError> {
    let nulls = column.valid.as_deref().map(|valid| NullBuffer::from_iter(valid.iter().map(|valid| *valid != 0)));
    Ok(match (value_type, column.values) {
        (_, Values::Null) => new_null_array(&array_type(value_type)?, rows),
        (ValueType::Bool, Values::Int(values)) => {
            Arc::new(BooleanArray::new(values.iter().map(|value| *value != 0).collect(), nulls))
        }
        (ValueType::Int32, Values::Int(values)) => {
            // Every step that makes an int32 has brought it into its range.
            Arc::new(Int32Array::new(values.iter().map(|value| *value as i32).collect(), nulls))
        }
        (ValueType::UnixTimestamp, Values::Int(values)) => {
            let ints = PrimitiveArray::<Int64Type>::new(values.into_owned().into(), nulls);
            cast(&ints, &array_type(value_type)?).map_err(|error| ConvertError::Value(error.to_string()))?
        }
        (_, Values::Int(values)) => Arc::new(Int64Array::new(values.into_owned().into(), nulls)),
        (ValueType::Float32, Values::Float(values)) => {
            Arc::new(Float32Array::new(values.iter().map(|value| *value as f32).collect(), nulls))
        }
        (_, Values::Float(values)) => Arc::new(Float64Array::new(values.into_owned().into(), nulls)),
        (ValueType::String | ValueType::Json | ValueType::Decimal, values) => {
            let column = ExpressionColumn { values, valid: column.valid };
            let texts = (0..rows).map(|row| column.bytes(row).and_then(|bytes| std::str::from_utf8(bytes).ok()));
            Arc::new(texts.collect::<StringArray>())
        }
        (ValueType::Bytes, values) => {
            let column = ExpressionColumn { values, valid: column.valid };
            Arc::new((0..rows).map(|row| column.bytes(row)).collect::<BinaryArray>())
        }
        (_, values) => {
            let column = ExpressionColumn { values, valid: column.valid };
            let value = |row: usize| match column.bytes(row) {
                Some(payload) => decode_payload(value_type, payload).map_err(|error| ConvertError::Value(error.to_string())),
                None => Ok(Value::Null),
            };
            array_of_values(value_type, &(0..rows).map(value).collect::<Result<Vec<_>, _>>()?)?
        }
    })
}

/// The Arrow type of the arrays that [`array_of`] makes.
fn array_type(value_type: &ValueType) -> Result<DataType, ConvertError> {
    Ok(match value_type {
        ValueType::Bool => DataType::Boolean,
        ValueType::Int32 => DataType::Int32,
        ValueType::Int64 => DataType::Int64,
        ValueType::Float32 => DataType::Float32,
        ValueType::Float64 => DataType::Float64,
        ValueType::UnixTimestamp => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        ValueType::Bytes => DataType::Binary,
        ValueType::String
        | ValueType::Json
        | ValueType::Decimal
        | ValueType::Uuid
        | ValueType::TimeUuid
        | ValueType::ZonedTimestamp => DataType::Utf8,
        ValueType::List(element) | ValueType::Set(element) => DataType::new_list(array_type(element)?, true),
        ValueType::Map(_) | ValueType::Struct(_) => return Err(ConvertError::Type(value_type.to_string())),
    })
}

fn array_of_values(value_type: &ValueType, values: &[Value]) -> Result<ArrayRef, ConvertError> {
    let mismatch = || ConvertError::Type(value_type.to_string());
    if let ValueType::List(element) | ValueType::Set(element) = value_type {
        let mut offsets: Vec<i32> = vec![0];
        let mut elements = Vec::new();
        for value in values {
            if let Value::List(of_row) = value {
                elements.extend_from_slice(of_row);
            }
            offsets.push(i32::try_from(elements.len()).map_err(|_| ConvertError::TooLong)?);
        }
        let nulls = NullBuffer::from_iter(values.iter().map(|value| *value != Value::Null));
        let field = Field::new_list_field(array_type(element)?, true);
        let elements = array_of_values(element, &elements)?;
        let list = ListArray::try_new(Arc::new(field), OffsetBuffer::new(offsets.into()), elements, Some(nulls));
        return Ok(Arc::new(list.map_err(|error| ConvertError::Value(error.to_string()))?));
    }
    let ints = || values.iter().map(|value| if let Value::Int(value) = value { Some(*value) } else { None });
    let array: ArrayRef = match (value_type, value_type.physical()) {
        (ValueType::Bool, _) => {
            let flags = values.iter().map(|value| if let Value::Bool(value) = value { Some(*value) } else { None });
            Arc::new(flags.collect::<BooleanArray>())
        }
        (_, Physical::Int) => {
            let array: ArrayRef = Arc::new(ints().collect::<Int64Array>());
            cast(&array, &array_type(value_type)?).map_err(|error| ConvertError::Value(error.to_string()))?
        }
        (_, Physical::Float32) => {
            let floats = values.iter().map(|value| if let Value::Float32(value) = value { Some(*value) } else { None });
            Arc::new(floats.collect::<Float32Array>())
        }
        (_, Physical::Float64) => {
            let floats = values.iter().map(|value| if let Value::Float64(value) = value { Some(*value) } else { None });
            Arc::new(floats.collect::<Float64Array>())
        }
        (ValueType::Bytes, _) => {
            let bytes = values.iter().map(|value| if let Value::Bytes(value) = value { Some(value) } else { None });
            Arc::new(bytes.collect::<BinaryArray>())
        }
        _ => {
            let texts = values.iter().map(|value| match value {
                Value::Null => Ok(None),
                Value::String(text) => Ok(Some(text.clone())),
                other => mezze_core::value_text(value_type, other).map(Some).ok_or_else(mismatch),
            });
            Arc::new(texts.collect::<Result<StringArray, _>>()?)
        }
    };
    debug_assert_eq!(array.len(), values.len());
    Ok(array)
}
