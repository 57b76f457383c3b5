//! Columns in the form that pages have, from Arrow arrays and from pages.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use mezze_core::{
    Cell, ColumnData, ColumnInput, KeyPart, KeyType, PayloadError, Physical, Timestamp, Value, ValueType, canonical_f32,
    canonical_f64, encode_payload, parse_uuid,
};
use xxhash_rust::xxh3::Xxh3;

/// Values of one column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    data: Data,
    /// Which rows have a value; all, if not given.
    validity: Option<Vec<bool>>,
}

#[derive(Clone, Debug)]
enum Data {
    Bytes { offsets: Vec<u32>, bytes: Vec<u8> },
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Int(Vec<i64>),
}

/// No row.
pub(crate) const NONE: u32 = u32::MAX;

impl Column {
    pub(crate) fn new(physical: Physical) -> Self {
        let data = match physical {
            Physical::Bytes => Data::Bytes { offsets: vec![0], bytes: Vec::new() },
            Physical::Float32 => Data::Float32(Vec::new()),
            Physical::Float64 => Data::Float64(Vec::new()),
            Physical::Int => Data::Int(Vec::new()),
        };
        Self { data, validity: None }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.data {
            Data::Bytes { offsets, .. } => offsets.len().saturating_sub(1),
            Data::Float32(values) => values.len(),
            Data::Float64(values) => values.len(),
            Data::Int(values) => values.len(),
        }
    }

    fn is_valid(&self, row: usize) -> bool {
        self.validity.as_ref().is_none_or(|validity| validity.get(row).copied().unwrap_or(false))
    }

    /// Notes that the last row has a value, or none.
    fn note(&mut self, valid: bool) {
        let rows = self.len();
        match &mut self.validity {
            Some(validity) => validity.push(valid),
            None if valid => {}
            None => {
                let mut validity = vec![true; rows - 1];
                validity.push(false);
                self.validity = Some(validity);
            }
        }
    }

    /// Appends a value as a page has it. What is of another kind is null.
    pub(crate) fn push_cell(&mut self, cell: Cell<'_>) {
        let valid = match (&mut self.data, cell) {
            (Data::Int(values), Cell::Int(value)) => {
                values.push(value);
                true
            }
            (Data::Float32(values), Cell::Float32(value)) => {
                values.push(value);
                true
            }
            (Data::Float64(values), Cell::Float64(value)) => {
                values.push(value);
                true
            }
            (Data::Bytes { offsets, bytes }, Cell::Bytes(value)) => {
                bytes.extend_from_slice(value);
                offsets.push(bytes.len() as u32);
                true
            }
            (data, _) => {
                match data {
                    Data::Bytes { offsets, bytes } => offsets.push(bytes.len() as u32),
                    Data::Float32(values) => values.push(0.0),
                    Data::Float64(values) => values.push(0.0),
                    Data::Int(values) => values.push(0),
                }
                false
            }
        };
        self.note(valid);
    }

    /// Appends all rows of another column of the same kind.
    pub(crate) fn append(&mut self, other: &Self) -> Result<(), TooLong> {
        if self.validity.is_some() || other.validity.is_some() {
            let mut validity = self.validity.take().unwrap_or_else(|| vec![true; self.len()]);
            match &other.validity {
                Some(more) => validity.extend_from_slice(more),
                None => validity.resize(validity.len() + other.len(), true),
            }
            self.validity = Some(validity);
        }
        match (&mut self.data, &other.data) {
            (Data::Int(values), Data::Int(more)) => values.extend_from_slice(more),
            (Data::Float32(values), Data::Float32(more)) => values.extend_from_slice(more),
            (Data::Float64(values), Data::Float64(more)) => values.extend_from_slice(more),
            (Data::Bytes { offsets, bytes }, Data::Bytes { offsets: more_offsets, bytes: more }) => {
                let start = u32::try_from(bytes.len()).map_err(|_| TooLong)?;
                u32::try_from(bytes.len() + more.len()).map_err(|_| TooLong)?;
                bytes.extend_from_slice(more);
                offsets.extend(more_offsets.iter().skip(1).map(|offset| start + offset));
            }
            // Both were made for one schema.
            _ => {}
        }
        Ok(())
    }

    fn run(&self, row: usize) -> &[u8] {
        match &self.data {
            Data::Bytes { offsets, bytes } => match (offsets.get(row), offsets.get(row + 1)) {
                (Some(start), Some(end)) => bytes.get(*start as usize..*end as usize).unwrap_or_default(),
                _ => &[],
            },
            _ => &[],
        }
    }

    /// Bytes of variable length that a row has.
    pub(crate) fn run_bytes(&self, row: u32) -> usize {
        if row == NONE { 0 } else { self.run(row as usize).len() }
    }

    /// A row as a part of a key.
    pub(crate) fn key_part(&self, row: u32) -> KeyPart<'_> {
        match &self.data {
            Data::Int(values) => KeyPart::Int(values.get(row as usize).copied().unwrap_or(0)),
            _ => KeyPart::Bytes(self.run(row as usize)),
        }
    }

    /// Whether two rows have the same value, bit for bit.
    pub(crate) fn same(&self, a: u32, b: u32) -> bool {
        let (a, b) = (a as usize, b as usize);
        match (self.is_valid(a), self.is_valid(b)) {
            (false, false) => true,
            (true, true) => match &self.data {
                Data::Int(values) => values.get(a) == values.get(b),
                Data::Float32(values) => values.get(a).map(|value| value.to_bits()) == values.get(b).map(|value| value.to_bits()),
                Data::Float64(values) => values.get(a).map(|value| value.to_bits()) == values.get(b).map(|value| value.to_bits()),
                Data::Bytes { .. } => self.run(a) == self.run(b),
            },
            _ => false,
        }
    }

    /// Makes `out` hold these rows, where [`NONE`] is null.
    pub(crate) fn gather(&self, rows: impl Iterator<Item = u32> + Clone, out: &mut Self) {
        fn pick<T: Copy + Default>(from: &[T], rows: impl Iterator<Item = u32>, to: &mut Vec<T>) {
            to.clear();
            to.extend(rows.map(|row| from.get(row as usize).copied().unwrap_or_default()));
        }
        match (&self.data, &mut out.data) {
            (Data::Int(from), Data::Int(to)) => pick(from, rows.clone(), to),
            (Data::Float32(from), Data::Float32(to)) => pick(from, rows.clone(), to),
            (Data::Float64(from), Data::Float64(to)) => pick(from, rows.clone(), to),
            (Data::Bytes { .. }, Data::Bytes { offsets, bytes }) => {
                bytes.clear();
                offsets.clear();
                offsets.push(0);
                for row in rows.clone() {
                    bytes.extend_from_slice(self.run(row as usize));
                    // A bucket's rows are far below 4 GiB: rows are limited.
                    offsets.push(bytes.len() as u32);
                }
            }
            _ => {}
        }
        let validity = out.validity.get_or_insert_with(Vec::new);
        validity.clear();
        match &self.validity {
            None => validity.extend(rows.map(|row| row != NONE)),
            Some(valid) => validity.extend(rows.map(|row| valid.get(row as usize).copied().unwrap_or(false))),
        }
    }

    pub(crate) fn input(&self) -> ColumnInput<'_> {
        let data = match &self.data {
            Data::Bytes { offsets, bytes } => ColumnData::Bytes { offsets, data: bytes },
            Data::Float32(values) => ColumnData::Float32(values),
            Data::Float64(values) => ColumnData::Float64(values),
            Data::Int(values) => ColumnData::Int(values),
        };
        ColumnInput { data, validity: self.validity.as_deref() }
    }

    /// Hashes all of it into `hasher`, for the id of what is built of it.
    pub(crate) fn digest(&self, hasher: &mut Xxh3) {
        if let Some(validity) = &self.validity {
            let bits: Vec<u8> = validity.iter().map(|valid| u8::from(*valid)).collect();
            hasher.update(&bits);
        }
        match &self.data {
            Data::Int(values) => digest_all(hasher, values.iter().map(|value| value.to_le_bytes())),
            Data::Float32(values) => digest_all(hasher, values.iter().map(|value| value.to_le_bytes())),
            Data::Float64(values) => digest_all(hasher, values.iter().map(|value| value.to_le_bytes())),
            Data::Bytes { offsets, bytes } => {
                digest_all(hasher, offsets.iter().map(|offset| offset.to_le_bytes()));
                hasher.update(bytes);
            }
        }
    }
}

/// Hashes numbers one after the other.
pub(crate) fn digest_all<const N: usize>(hasher: &mut Xxh3, numbers: impl Iterator<Item = [u8; N]>) {
    let mut chunk = Vec::with_capacity(DIGEST_BYTES);
    for number in numbers {
        chunk.extend_from_slice(&number);
        if chunk.len() >= DIGEST_BYTES {
            hasher.update(&chunk);
            chunk.clear();
        }
    }
    hasher.update(&chunk);
}

/// Bytes that are hashed at once.
const DIGEST_BYTES: usize = 16 << 10;

/// A column's texts and bytes have 4 GiB or more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooLong;

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
    let value_type = match key_type {
        KeyType::Bool => ValueType::Bool,
        KeyType::Bytes => ValueType::Bytes,
        KeyType::Int => ValueType::Int64,
        KeyType::String => ValueType::String,
        KeyType::UnixTimestamp => ValueType::UnixTimestamp,
        KeyType::Uuid => ValueType::Uuid,
    };
    feature_column(&value_type, array)
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
