//! Arrow arrays as columns.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, TimeUnit};
use mezze_arrow::{ConvertError, instants, value_at};
use mezze_core::{Cell, KeyType, PayloadError, Value, ValueType, canonical_f32, canonical_f64, encode_payload};

use crate::column::{Column, Data, TooLong};

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
