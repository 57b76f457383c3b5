//! Arrow arrays as columns.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use mezze_core::{
    Cell, KeyType, PayloadError, Timestamp, Value, ValueType, canonical_f32, canonical_f64, encode_payload, parse_uuid,
};

use crate::column::{Column, Data, TooLong};

/// A value cannot be brought to its type.
#[derive(Clone, Debug)]
pub(crate) enum ConvertError {
    /// The array's type.
    Type(String),
    /// A value.
    Value(String),
    /// Too many bytes.
    TooLong,
}

impl From<TooLong> for ConvertError {
    fn from(_: TooLong) -> Self {
        Self::TooLong
    }
}

/// The values of an array as features of a type.
pub(crate) fn feature_column(value_type: &ValueType, array: &ArrayRef) -> Result<Column, ConvertError> {
    let mut column = Column::new(value_type.physical());
    append_array(&mut column, value_type, array)?;
    Ok(column)
}

/// The values of an array as parts of keys.
pub(crate) fn key_column(key_type: KeyType, array: &ArrayRef) -> Result<Column, ConvertError> {
    feature_column(&key_type.value_type(), array)
}

fn append_array(column: &mut Column, value_type: &ValueType, array: &ArrayRef) -> Result<(), ConvertError> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let cast = |to: &DataType| -> Result<ArrayRef, ConvertError> {
        if array.data_type() == to {
            return Ok(array.clone());
        }
        if !arrow::compute::can_cast_types(array.data_type(), to) {
            return Err(ConvertError::Type(array.data_type().to_string()));
        }
        cast_with_options(array, to, &strict).map_err(|error| ConvertError::Value(error.to_string()))
    };
    let nulls = |array: &ArrayRef| array.logical_nulls().map(|nulls| nulls.iter().collect::<Vec<bool>>());
    match value_type {
        ValueType::Bool => {
            let values = cast(&DataType::Boolean)?;
            let bits = values.as_boolean();
            column.data = Data::Int(bits.values().iter().map(i64::from).collect());
            column.validity = nulls(&values);
        }
        ValueType::Int32 => {
            // Beyond int32 is an error, not another number.
            let narrow = cast(&DataType::Int32)?;
            let values =
                cast_with_options(&narrow, &DataType::Int64, &strict).map_err(|error| ConvertError::Value(error.to_string()))?;
            column.data = Data::Int(values.as_primitive::<Int64Type>().values().to_vec());
            column.validity = nulls(&values);
        }
        ValueType::Int64 => {
            let values = cast(&DataType::Int64)?;
            column.data = Data::Int(values.as_primitive::<Int64Type>().values().to_vec());
            column.validity = nulls(&values);
        }
        ValueType::Float32 => {
            let values = cast(&DataType::Float32)?;
            let floats = values.as_primitive::<Float32Type>().values().iter().map(|value| canonical_f32(*value));
            column.data = Data::Float32(floats.collect());
            column.validity = nulls(&values);
        }
        ValueType::Float64 => {
            let values = cast(&DataType::Float64)?;
            let floats = values.as_primitive::<Float64Type>().values().iter().map(|value| canonical_f64(*value));
            column.data = Data::Float64(floats.collect());
            column.validity = nulls(&values);
        }
        ValueType::UnixTimestamp => {
            let values = match array.data_type() {
                DataType::Timestamp(..) => array.clone(),
                _ => cast(&DataType::Timestamp(TimeUnit::Microsecond, None))?,
            };
            column.data = Data::Int(instants(&values)?);
            column.validity = nulls(&values);
        }
        ValueType::String | ValueType::Json | ValueType::Decimal => {
            let values = cast(&DataType::LargeUtf8)?;
            let texts = values.as_string::<i64>();
            copy_runs(column, texts.len(), |row| (!texts.is_null(row)).then(|| texts.value(row).as_bytes()))?;
        }
        ValueType::Bytes => {
            let values = match array.data_type() {
                // Text in place of bytes is what a text format can say.
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => cast(&DataType::LargeUtf8)?,
                _ => array.clone(),
            };
            let values = cast_with_options(&values, &DataType::LargeBinary, &strict)
                .map_err(|_| ConvertError::Type(array.data_type().to_string()))?;
            let runs = values.as_binary::<i64>();
            copy_runs(column, runs.len(), |row| (!runs.is_null(row)).then(|| runs.value(row)))?;
        }
        ValueType::Uuid
        | ValueType::TimeUuid
        | ValueType::ZonedTimestamp
        | ValueType::List(_)
        | ValueType::Set(_)
        | ValueType::Map(_)
        | ValueType::Struct(_) => {
            let mut payload = Vec::new();
            for row in 0..array.len() {
                let value = value_at(value_type, array, row)?;
                if value == Value::Null {
                    column.push_cell(Cell::Null);
                    continue;
                }
                payload.clear();
                encode_payload(value_type, &value, &mut payload)
                    .map_err(|error: PayloadError| ConvertError::Value(error.to_string()))?;
                check_length(column, payload.len())?;
                column.push_cell(Cell::Bytes(&payload));
            }
        }
    }
    Ok(())
}

fn check_length(column: &Column, more: usize) -> Result<(), ConvertError> {
    match &column.data {
        Data::Bytes { bytes, .. } if u32::try_from(bytes.len() + more).is_err() => Err(ConvertError::TooLong),
        _ => Ok(()),
    }
}

fn copy_runs<'a>(column: &mut Column, rows: usize, run: impl Fn(usize) -> Option<&'a [u8]>) -> Result<(), ConvertError> {
    for row in 0..rows {
        match run(row) {
            Some(bytes) => {
                check_length(column, bytes.len())?;
                column.push_cell(Cell::Bytes(bytes));
            }
            None => column.push_cell(Cell::Null),
        }
    }
    Ok(())
}

/// Nanoseconds of an array of timestamps; beyond the range of i64 the nearest.
fn instants(array: &ArrayRef) -> Result<Vec<i64>, ConvertError> {
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

/// One value of an array.
fn value_at(value_type: &ValueType, array: &ArrayRef, row: usize) -> Result<Value, ConvertError> {
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
            zoned(&text).ok_or_else(|| ConvertError::Value(format!("`{text}` is no instant with an offset")))?
        }
        (ValueType::List(_) | ValueType::Set(_) | ValueType::Map(_) | ValueType::Struct(_), _) => return Err(mismatch()),
        (scalar, _) => {
            let column = feature_column(scalar, &array.slice(row, 1))?;
            match &column.data {
                Data::Int(values) if *scalar == ValueType::Bool => Value::Bool(values.first() == Some(&1)),
                Data::Int(values) => Value::Int(values.first().copied().unwrap_or(0)),
                Data::Float32(values) => Value::Float32(values.first().copied().unwrap_or(0.0)),
                Data::Float64(values) => Value::Float64(values.first().copied().unwrap_or(0.0)),
                Data::Bytes { bytes, .. } if *scalar == ValueType::Bytes => Value::Bytes(bytes.clone()),
                Data::Bytes { bytes, .. } => Value::String(String::from_utf8_lossy(bytes).into_owned()),
            }
        }
    })
}

fn text_at(array: &ArrayRef, row: usize) -> Result<String, ConvertError> {
    let text = cast_with_options(&array.slice(row, 1), &DataType::Utf8, &CastOptions::default())
        .map_err(|_| ConvertError::Type(array.data_type().to_string()))?;
    Ok(text.as_string::<i32>().value(0).to_owned())
}

/// An instant with its offset, from RFC 3339.
fn zoned(text: &str) -> Option<Value> {
    let nanos = Timestamp::parse(text)?.nanos();
    let offset = text.get(text.len().checked_sub(6)?..)?;
    let sign = match offset.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return Some(Value::Zoned { nanos, offset_seconds: 0 }),
    };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let seconds = hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60;
    Some(Value::Zoned { nanos, offset_seconds: sign * seconds })
}
