//! Arrays as columns that expressions compute with.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use mezze_core::{ExpressionColumn, Value, ValueType, Values, encode_payload};

use crate::ConvertError;
use crate::value::value_at;

/// The values of an array as values of a type. Numbers and text are borrowed where the array has them as expressions want them.
///
/// # Errors
/// [`ConvertError`] where the array is of another kind, or a value does not fit the type.
pub fn expression_column<'a>(value_type: &ValueType, array: &'a ArrayRef) -> Result<ExpressionColumn<'a>, ConvertError> {
    let valid = |array: &ArrayRef| {
        let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        nulls.map(|nulls| Cow::Owned(nulls.iter().map(u8::from).collect()))
    };
    let brought = |to: &DataType| bring(array, to);
    Ok(match value_type {
        ValueType::Bool => {
            let values = brought(&DataType::Boolean)?;
            let ints: Vec<i64> = values.as_boolean().values().iter().map(i64::from).collect();
            ExpressionColumn { values: Values::Int(ints.into()), valid: valid(&values) }
        }
        ValueType::Int64 if *array.data_type() == DataType::Int64 => {
            let values: &'a [i64] = array.as_primitive::<Int64Type>().values();
            ExpressionColumn { values: Values::Int(values.into()), valid: valid(array) }
        }
        ValueType::Int32 | ValueType::Int64 => {
            // Beyond int32 is an error, not another number.
            let narrow = if *value_type == ValueType::Int32 { brought(&DataType::Int32)? } else { array.clone() };
            let values = bring(&narrow, &DataType::Int64)?;
            let ints = values.as_primitive::<Int64Type>().values().to_vec();
            ExpressionColumn { values: Values::Int(ints.into()), valid: valid(&values) }
        }
        ValueType::Float64 if *array.data_type() == DataType::Float64 => {
            let values: &'a [f64] = array.as_primitive::<Float64Type>().values();
            ExpressionColumn { values: Values::Float(values.into()), valid: valid(array) }
        }
        ValueType::Float32 | ValueType::Float64 => {
            let narrow = if *value_type == ValueType::Float32 { brought(&DataType::Float32)? } else { array.clone() };
            let values = bring(&narrow, &DataType::Float64)?;
            let floats = values.as_primitive::<Float64Type>().values().to_vec();
            ExpressionColumn { values: Values::Float(floats.into()), valid: valid(&values) }
        }
        ValueType::UnixTimestamp => {
            let values = match array.data_type() {
                DataType::Timestamp(..) => array.clone(),
                _ => brought(&DataType::Timestamp(TimeUnit::Microsecond, None))?,
            };
            ExpressionColumn { values: Values::Int(instants(&values)?.into()), valid: valid(&values) }
        }
        ValueType::String | ValueType::Json | ValueType::Decimal if *array.data_type() == DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            // Offsets of an array never fall, so none is below 0.
            let offsets = texts.value_offsets().iter().map(|offset| u32::try_from(*offset).unwrap_or(0)).collect();
            ExpressionColumn {
                values: Values::Bytes { offsets, data: texts.value_data().into(), constant: false },
                valid: valid(array),
            }
        }
        ValueType::String | ValueType::Json | ValueType::Decimal => {
            let values = brought(&DataType::LargeUtf8)?;
            let texts = values.as_string::<i64>();
            runs(texts.len(), &mut |row, out| {
                let there = !texts.is_null(row);
                if there {
                    out.extend_from_slice(texts.value(row).as_bytes());
                }
                Ok(there)
            })?
        }
        ValueType::Bytes => {
            let values = match array.data_type() {
                // Text in place of bytes is what a text format can say.
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => brought(&DataType::LargeUtf8)?,
                _ => array.clone(),
            };
            let values = bring(&values, &DataType::LargeBinary)?;
            let bytes = values.as_binary::<i64>();
            runs(bytes.len(), &mut |row, out| {
                let there = !bytes.is_null(row);
                if there {
                    out.extend_from_slice(bytes.value(row));
                }
                Ok(there)
            })?
        }
        ValueType::Uuid
        | ValueType::TimeUuid
        | ValueType::ZonedTimestamp
        | ValueType::List(_)
        | ValueType::Set(_)
        | ValueType::Map(_)
        | ValueType::Struct(_) => runs(array.len(), &mut |row, out| {
            let value = value_at(value_type, array, row)?;
            if value == Value::Null {
                return Ok(false);
            }
            encode_payload(value_type, &value, out).map_err(|error| ConvertError::Value(error.to_string()))?;
            Ok(true)
        })?,
    })
}

/// Appends the bytes of a row, and says whether it has a value.
type Run<'r> = dyn FnMut(usize, &mut Vec<u8>) -> Result<bool, ConvertError> + 'r;

/// Bytes row by row.
fn runs(rows: usize, run: &mut Run<'_>) -> Result<ExpressionColumn<'static>, ConvertError> {
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0);
    let (mut data, mut valid, mut nulls) = (Vec::new(), vec![1; rows], false);
    for (row, slot) in valid.iter_mut().enumerate() {
        if !run(row, &mut data)? {
            *slot = 0;
            nulls = true;
        }
        offsets.push(u32::try_from(data.len()).map_err(|_| ConvertError::TooLong)?);
    }
    Ok(ExpressionColumn {
        values: Values::Bytes { offsets, data: data.into(), constant: false },
        valid: nulls.then_some(Cow::Owned(valid)),
    })
}

/// An array in another type; what does not fit is an error.
fn bring(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ConvertError> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    if !can_cast_types(array.data_type(), to) {
        return Err(ConvertError::Type(array.data_type().to_string()));
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &strict).map_err(|error| ConvertError::Value(error.to_string()))
}

/// Nanoseconds of an array of timestamps; beyond the range of i64 the nearest.
///
/// # Errors
/// [`ConvertError::Type`] where it is none.
pub fn instants(array: &ArrayRef) -> Result<Vec<i64>, ConvertError> {
    let scaled = |values: &[i64], by: i64| values.iter().map(|value| value.saturating_mul(by)).collect();
    Ok(match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => scaled(array.as_primitive::<TimestampSecondType>().values(), 1_000_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            scaled(array.as_primitive::<TimestampMillisecondType>().values(), 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => scaled(array.as_primitive::<TimestampMicrosecondType>().values(), 1_000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => array.as_primitive::<TimestampNanosecondType>().values().to_vec(),
        other => return Err(ConvertError::Type(other.to_string())),
    })
}
