//! Single values of arrays.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use mezze_core::{Timestamp, Value, ValueType, canonical_f32, canonical_f64, parse_uuid};

use crate::ConvertError;
use crate::column::{expression_column, instants};

/// One value of an array, as a value of a type.
///
/// # Errors
/// [`ConvertError`] where the array is of another kind, or the value does not fit the type.
pub fn value_at(value_type: &ValueType, array: &ArrayRef, row: usize) -> Result<Value, ConvertError> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let mismatch = || ConvertError::Type(array.data_type().to_string());
    let elements = |element: &ValueType, values: &ArrayRef| {
        (0..values.len()).map(|row| value_at(element, values, row)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match (value_type, array.data_type()) {
        (ValueType::List(element) | ValueType::Set(element), DataType::List(_)) => {
            Value::List(elements(element, &array.as_list::<i32>().value(row))?)
        }
        (ValueType::List(element) | ValueType::Set(element), DataType::LargeList(_)) => {
            Value::List(elements(element, &array.as_list::<i64>().value(row))?)
        }
        (ValueType::List(element) | ValueType::Set(element), DataType::FixedSizeList(..)) => {
            Value::List(elements(element, &array.as_fixed_size_list().value(row))?)
        }
        (ValueType::Map(element), DataType::Map(..)) => {
            let entries = array.as_map().value(row);
            let (Some(keys), Some(values)) = (entries.columns().first(), entries.columns().get(1)) else {
                return Err(mismatch());
            };
            let keys = elements(&ValueType::String, keys)?;
            let values = elements(element, values)?;
            let entry = |(key, value)| match key {
                Value::String(key) => Ok((key, value)),
                _ => Err(mismatch()),
            };
            Value::Map(keys.into_iter().zip(values).map(entry).collect::<Result<_, _>>()?)
        }
        (ValueType::Struct(fields), DataType::Struct(_)) => {
            let array = array.as_struct();
            let field = |field: &mezze_core::StructField| match array.column_by_name(&field.name) {
                Some(column) => value_at(&field.value_type, column, row),
                None => Ok(Value::Null),
            };
            Value::List(fields.iter().map(field).collect::<Result<_, _>>()?)
        }
        (ValueType::Uuid | ValueType::TimeUuid, DataType::FixedSizeBinary(16)) => {
            Value::Bytes(array.as_fixed_size_binary().value(row).to_vec())
        }
        (ValueType::Uuid | ValueType::TimeUuid, _) => {
            let text = text_at(array, row)?;
            Value::Bytes(parse_uuid(&text).ok_or_else(|| ConvertError::Value(format!("`{text}` is no UUID")))?.into())
        }
        (ValueType::ZonedTimestamp, DataType::Timestamp(..)) => {
            let nanos = instants(&array.slice(row, 1))?.first().copied().unwrap_or(0);
            Value::Zoned { nanos, offset_seconds: 0 }
        }
        (ValueType::ZonedTimestamp, _) => {
            let text = text_at(array, row)?;
            let zoned = Timestamp::parse_with_offset(&text);
            let (instant, offset_seconds) =
                zoned.ok_or_else(|| ConvertError::Value(format!("`{text}` is no instant with an offset")))?;
            Value::Zoned { nanos: instant.nanos(), offset_seconds }
        }
        (ValueType::List(_) | ValueType::Set(_) | ValueType::Map(_) | ValueType::Struct(_), _) => return Err(mismatch()),
        (scalar, _) => {
            let one = array.slice(row, 1);
            let column = expression_column(scalar, &one)?;
            match (scalar, column.int(0), column.float(0), column.bytes(0)) {
                (ValueType::Bool, Some(value), ..) => Value::Bool(value != 0),
                (_, Some(value), ..) => Value::Int(value),
                (ValueType::Float32, _, Some(value), _) => Value::Float32(canonical_f32(value as f32)),
                (_, _, Some(value), _) => Value::Float64(canonical_f64(value)),
                (ValueType::Bytes, _, _, Some(bytes)) => Value::Bytes(bytes.to_vec()),
                (_, _, _, Some(bytes)) => Value::String(String::from_utf8_lossy(bytes).into_owned()),
                _ => Value::Null,
            }
        }
    })
}

fn text_at(array: &ArrayRef, row: usize) -> Result<String, ConvertError> {
    let text = cast_with_options(&array.slice(row, 1), &DataType::Utf8, &CastOptions::default())
        .map_err(|_| ConvertError::Type(array.data_type().to_string()))?;
    Ok(text.as_string::<i32>().value(0).to_owned())
}
