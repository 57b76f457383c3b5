//! A response as bytes. Everything above single values is written here, so that the formats cannot differ in structure.

use alloc::{boxed::Box, string::String, vec, vec::Vec};
use core::ops::Range;

use super::encoder::Encoder;
use super::{MediaType, WireError};
use crate::value::{take, take_count, take_slice, take_varint, text};
use crate::{
    Cell, Column, NANOS_PER_SECOND, PayloadError, RFC3339_BYTES_MAX, Response, Status, TYPE_DEPTH_MAX, Timestamp, UUID_BYTES,
    Value, ValueType,
};

impl Response<'_> {
    /// Appends the response as Feast's servers write it; docs/WIRE.md is the reference. In MessagePack it has the structure of the
    /// JSON, with bytes as bytes, a `float32` as one and NaN and the infinities as floats.
    ///
    /// # Errors
    /// [`WireError::Value`] where a value is damaged; `out` is as it was then.
    pub fn write(&self, media_type: MediaType, out: &mut Vec<u8>) -> Result<(), WireError> {
        let before = out.len();
        out.reserve(self.cells.len().saturating_mul(CELL_BYTES));
        write_response(self, &mut Encoder { media_type, out }).inspect_err(|_| out.truncate(before))
    }
}

impl Response<'_> {
    /// The values of some columns in one row, as a list in JSON.
    pub(crate) fn row_json(&self, columns: Range<usize>, row: usize) -> Result<Vec<u8>, PayloadError> {
        let mut json = Vec::new();
        let mut encoder = Encoder { media_type: MediaType::Json, out: &mut json };
        encoder.begin_list(columns.len());
        for (index, number) in columns.enumerate() {
            let Some(column) = self.columns.get(number) else { continue };
            encoder.separate(index);
            let cell = self.cells.get(number * self.row_count + row).unwrap_or(&Cell::Null);
            write_cell(column.value_type, cell, self.made_bytes(), &mut encoder)?;
        }
        encoder.end_list();
        Ok(json)
    }

    /// Writes a member of an object: a column's name, and its values and statuses.
    pub(crate) fn write_column(&self, number: usize, encoder: &mut Encoder<'_>) -> Result<(), WireError> {
        let Some(column) = self.columns.get(number) else { return Ok(()) };
        let start = number * self.row_count;
        let cells = self.cells.get(start..start + self.row_count).unwrap_or_default();
        encoder.text(&column.name);
        encoder.separate_value();
        encoder.begin_map(2);
        encoder.key(0, "values");
        write_values(self, column, cells, encoder)?;
        encoder.key(1, "statuses");
        write_states(self, column, cells, encoder, |encoder, status, _| encoder.word(status.name()));
        encoder.end_map();
        Ok(())
    }
}

/// What a cell takes, about: a number, a status, an instant and their commas.
const CELL_BYTES: usize = 48;

/// Writes a response: Feast's shape, in the order of Feast's servers.
fn write_response(response: &Response<'_>, encoder: &mut Encoder<'_>) -> Result<(), WireError> {
    let row_count = response.row_count;
    let mut groups = vec![Written::default(); response.rows.len().checked_div(row_count).unwrap_or(0)];
    encoder.begin_map(2);
    encoder.key(0, "results");
    encoder.begin_list(response.columns.len());
    for (index, column) in response.columns.iter().enumerate() {
        let start = index.saturating_mul(row_count);
        let cells = start.checked_add(row_count).and_then(|end| response.cells.get(start..end)).unwrap_or_default();
        let mut written = groups.get_mut(column.group);
        encoder.separate(index);
        encoder.begin_map(3);
        encoder.key(0, "values");
        let null_values = write_values(response, column, cells, encoder)?;
        encoder.key(1, "statuses");
        match written.as_deref_mut() {
            // The columns of one group have the same statuses, but for their nulls.
            Some(Written { statuses: Some(range), .. }) if !null_values => encoder.out.extend_from_within(range.clone()),
            written => {
                let from = encoder.out.len();
                write_states(response, column, cells, encoder, |encoder, status, _| encoder.word(status.name()));
                if let Some(written) = written
                    && !null_values
                {
                    written.statuses = Some(from..encoder.out.len());
                }
            }
        }
        encoder.key(2, "event_timestamps");
        match written {
            Some(Written { event_timestamps: Some(range), .. }) => encoder.out.extend_from_within(range.clone()),
            written => {
                let from = encoder.out.len();
                // Rows of one batch often share their time: it is written once.
                let mut last = (Timestamp::EPOCH, 0..0);
                write_states(response, column, cells, encoder, |encoder, _, event_time| {
                    if last.0 == event_time && !last.1.is_empty() {
                        return encoder.out.extend_from_within(last.1.clone());
                    }
                    let from = encoder.out.len();
                    encoder.word(event_time.rfc3339(&mut [0; RFC3339_BYTES_MAX]));
                    last = (event_time, from..encoder.out.len());
                });
                if let Some(written) = written {
                    written.event_timestamps = Some(from..encoder.out.len());
                }
            }
        }
        encoder.end_map();
    }
    encoder.end_list();
    encoder.key(1, "metadata");
    encoder.begin_map(1 + usize::from(response.views.is_some()));
    encoder.key(0, "feature_names");
    encoder.begin_list(response.columns.len());
    for (index, column) in response.columns.iter().enumerate() {
        encoder.separate(index);
        encoder.text(&column.name);
    }
    encoder.end_list();
    if let Some(views) = &response.views {
        encoder.key(1, "feature_view_metadata");
        encoder.begin_list(views.len());
        for (index, view) in views.iter().enumerate() {
            encoder.separate(index);
            encoder.begin_map(1);
            encoder.key(0, "name");
            encoder.text(view);
            encoder.end_map();
        }
        encoder.end_list();
    }
    encoder.end_map();
    encoder.end_map();
    Ok(())
}

/// Where the lists that the columns of one group share lie in the output: statuses and times are most of a response, and are
/// written once.
#[derive(Clone, Default)]
struct Written {
    statuses: Option<Range<usize>>,
    event_timestamps: Option<Range<usize>>,
}

/// Writes the values of a column. Whether a present row has none, so that its status differs from its group's.
fn write_values(
    response: &Response<'_>,
    column: &Column<'_>,
    cells: &[Cell<'_>],
    encoder: &mut Encoder<'_>,
) -> Result<bool, WireError> {
    let mut null_values = false;
    encoder.begin_list(response.row_count);
    for row in 0..response.row_count {
        let cell = cells.get(row).unwrap_or(&Cell::Null);
        encoder.separate(row);
        #[cfg(feature = "expressions")]
        {
            null_values |= matches!(cell, Cell::Failed);
        }
        if matches!(cell, Cell::Null) {
            null_values |= response.status(column, row, cell).status == Status::NullValue;
        }
        write_cell(column.value_type, cell, response.made_bytes(), encoder).map_err(|cause| WireError::Value {
            column: String::from(&*column.name),
            row,
            cause,
        })?;
    }
    encoder.end_list();
    Ok(null_values)
}

/// Writes something of the state of each of a column's rows.
fn write_states(
    response: &Response<'_>,
    column: &Column<'_>,
    cells: &[Cell<'_>],
    encoder: &mut Encoder<'_>,
    mut write: impl FnMut(&mut Encoder<'_>, Status, Timestamp),
) {
    encoder.begin_list(response.row_count);
    for row in 0..response.row_count {
        let state = response.status(column, row, cells.get(row).unwrap_or(&Cell::Null));
        encoder.separate(row);
        write(encoder, state.status, state.event_time);
    }
    encoder.end_list();
}

/// Writes a cell; `made` is what cells that were computed are in.
pub(super) fn write_cell(
    value_type: &ValueType,
    cell: &Cell<'_>,
    made: &[u8],
    encoder: &mut Encoder<'_>,
) -> Result<(), PayloadError> {
    match cell {
        #[cfg(feature = "expressions")]
        Cell::Made { start, end } => {
            let payload = made.get(*start as usize..*end as usize).ok_or(PayloadError::Corrupt)?;
            write_payload(value_type, payload, 0, encoder)?;
        }
        #[cfg(feature = "expressions")]
        Cell::Failed => encoder.null(),
        Cell::Null => encoder.null(),
        Cell::Int(value) => write_int(value_type, *value, encoder)?,
        Cell::Float32(value) => encoder.float32(*value),
        Cell::Float64(value) => encoder.float64(*value),
        Cell::Bytes(payload) => write_payload(value_type, payload, 0, encoder)?,
        Cell::Request(value) => write_value(value_type, value, 0, encoder)?,
    }
    Ok(())
}

fn write_int(value_type: &ValueType, value: i64, encoder: &mut Encoder<'_>) -> Result<(), PayloadError> {
    match value_type {
        ValueType::Bool => encoder.bool(value != 0),
        ValueType::Int32 | ValueType::Int64 => encoder.int(value),
        ValueType::UnixTimestamp => encoder.int(Timestamp::from_nanos(value).seconds()),
        _ => return Err(mismatch(value_type)),
    }
    Ok(())
}

/// Writes a payload as [`encode_payload`](crate::encode_payload) made it, without making values of it.
fn write_payload(value_type: &ValueType, bytes: &[u8], depth: usize, encoder: &mut Encoder<'_>) -> Result<(), PayloadError> {
    if depth >= TYPE_DEPTH_MAX {
        return Err(PayloadError::Corrupt);
    }
    let mut rest = bytes;
    match value_type {
        ValueType::Bytes => encoder.bytes(core::mem::take(&mut rest)),
        ValueType::String | ValueType::Json | ValueType::Decimal => encoder.text(text(core::mem::take(&mut rest))?),
        ValueType::Bool => match take::<1>(&mut rest)? {
            [0] => encoder.bool(false),
            [1] => encoder.bool(true),
            _ => return Err(PayloadError::Corrupt),
        },
        ValueType::Int32 => encoder.int(i64::from(i32::from_le_bytes(take(&mut rest)?))),
        ValueType::Int64 | ValueType::UnixTimestamp => write_int(value_type, i64::from_le_bytes(take(&mut rest)?), encoder)?,
        ValueType::Float32 => encoder.float32(f32::from_le_bytes(take(&mut rest)?)),
        ValueType::Float64 => encoder.float64(f64::from_le_bytes(take(&mut rest)?)),
        ValueType::Uuid | ValueType::TimeUuid => write_uuid(&take(&mut rest)?, encoder),
        ValueType::ZonedTimestamp => {
            let nanos = i64::from_le_bytes(take(&mut rest)?);
            write_zoned(nanos, i32::from_le_bytes(take(&mut rest)?), encoder);
        }
        ValueType::List(element) | ValueType::Set(element) => {
            let count = take_count(&mut rest)?;
            encoder.begin_list(count);
            for index in 0..count {
                encoder.separate(index);
                write_nullable(element, &mut rest, depth, encoder)?;
            }
            encoder.end_list();
        }
        ValueType::Map(element) => {
            let count = take_count(&mut rest)?;
            encoder.begin_map(count);
            for index in 0..count {
                let key_length = take_varint(&mut rest)?;
                encoder.separate(index);
                encoder.text(text(take_slice(key_length, &mut rest)?)?);
                encoder.separate_value();
                write_nullable(element, &mut rest, depth, encoder)?;
            }
            encoder.end_map();
        }
        ValueType::Struct(fields) => {
            encoder.begin_map(fields.len());
            for (index, field) in fields.iter().enumerate() {
                encoder.separate(index);
                encoder.text(&field.name);
                encoder.separate_value();
                write_nullable(&field.value_type, &mut rest, depth, encoder)?;
            }
            encoder.end_map();
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(PayloadError::Corrupt) }
}

fn write_nullable(value_type: &ValueType, rest: &mut &[u8], depth: usize, encoder: &mut Encoder<'_>) -> Result<(), PayloadError> {
    match take_varint(rest)?.checked_sub(1) {
        None => encoder.null(),
        Some(length) => write_payload(value_type, take_slice(length, rest)?, depth + 1, encoder)?,
    }
    Ok(())
}

/// Writes a value of the request, which has been brought to its column's type.
fn write_value(value_type: &ValueType, value: &Value, depth: usize, encoder: &mut Encoder<'_>) -> Result<(), PayloadError> {
    if depth >= TYPE_DEPTH_MAX {
        return Err(PayloadError::Corrupt);
    }
    match (value_type, value) {
        (_, Value::Null) => encoder.null(),
        (ValueType::Bool, Value::Bool(value)) => encoder.bool(*value),
        (_, Value::Int(value)) => write_int(value_type, *value, encoder)?,
        (ValueType::Float32, Value::Float32(value)) => encoder.float32(*value),
        (ValueType::Float64, Value::Float64(value)) => encoder.float64(*value),
        (ValueType::Bytes, Value::Bytes(bytes)) => encoder.bytes(bytes),
        (ValueType::Uuid | ValueType::TimeUuid, Value::Bytes(bytes)) => match bytes.first_chunk() {
            Some(uuid) if bytes.len() == UUID_BYTES => write_uuid(uuid, encoder),
            _ => return Err(mismatch(value_type)),
        },
        (ValueType::String | ValueType::Json | ValueType::Decimal, Value::String(text)) => encoder.text(text),
        (ValueType::ZonedTimestamp, Value::Zoned { nanos, offset_seconds }) => write_zoned(*nanos, *offset_seconds, encoder),
        (ValueType::List(element) | ValueType::Set(element), Value::List(values)) => {
            encoder.begin_list(values.len());
            for (index, value) in values.iter().enumerate() {
                encoder.separate(index);
                write_value(element, value, depth + 1, encoder)?;
            }
            encoder.end_list();
        }
        (ValueType::Map(element), Value::Map(entries)) => {
            encoder.begin_map(entries.len());
            for (index, (key, value)) in entries.iter().enumerate() {
                encoder.separate(index);
                encoder.text(key);
                encoder.separate_value();
                write_value(element, value, depth + 1, encoder)?;
            }
            encoder.end_map();
        }
        (ValueType::Struct(fields), Value::List(values)) if fields.len() == values.len() => {
            encoder.begin_map(fields.len());
            for (index, (field, value)) in fields.iter().zip(values).enumerate() {
                encoder.separate(index);
                encoder.text(&field.name);
                encoder.separate_value();
                write_value(&field.value_type, value, depth + 1, encoder)?;
            }
            encoder.end_map();
        }
        _ => return Err(mismatch(value_type)),
    }
    Ok(())
}

/// Writes the lower-case hyphenated form.
fn write_uuid(uuid: &[u8; UUID_BYTES], encoder: &mut Encoder<'_>) {
    encoder.word(uuid_text(uuid, &mut [0; UUID_TEXT_BYTES]));
}

/// The lower-case hyphenated form.
pub(crate) fn uuid_text<'b>(uuid: &[u8; UUID_BYTES], form: &'b mut [u8; UUID_TEXT_BYTES]) -> &'b str {
    *form = [b'-'; UUID_TEXT_BYTES];
    let digits = form.iter_mut().enumerate().filter(|(at, _)| !matches!(at, 8 | 13 | 18 | 23));
    let nibbles = uuid.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for ((_, digit), nibble) in digits.zip(nibbles) {
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    str::from_utf8(form).unwrap_or_default()
}

/// Bytes of the hyphenated form.
pub(crate) const UUID_TEXT_BYTES: usize = UUID_BYTES * 2 + 4;

fn write_zoned(nanos: i64, offset_seconds: i32, encoder: &mut Encoder<'_>) {
    encoder.word(&zoned_text(nanos, offset_seconds));
}

/// The local time with its offset, which RFC 3339 has in whole minutes within a day; an instant whose offset or local time
/// cannot be written so is written in UTC, which is the same instant.
pub(crate) fn zoned_text(nanos: i64, offset_seconds: i32) -> String {
    let writable = offset_seconds % 60 == 0 && offset_seconds.unsigned_abs() < 86_400;
    let local = nanos.checked_add(i64::from(offset_seconds) * NANOS_PER_SECOND).filter(|_| writable);
    let (local, offset_seconds) = local.map_or((nanos, 0), |local| (local, offset_seconds));
    let minutes = offset_seconds.unsigned_abs() / 60;
    let mut buffer = [0; RFC3339_BYTES_MAX];
    let clock = Timestamp::from_nanos(local).rfc3339(&mut buffer);
    let sign = if offset_seconds < 0 { '-' } else { '+' };
    let mut form = String::with_capacity(RFC3339_BYTES_MAX + 5);
    form.push_str(clock.strip_suffix('Z').unwrap_or(clock));
    form.push(sign);
    for (number, separator) in [(minutes / 60, ":"), (minutes % 60, "")] {
        for digit in [number / 10, number % 10] {
            form.extend(char::from_digit(digit, 10));
        }
        form.push_str(separator);
    }
    form
}

/// The text of a value whose type has one, as responses have it: of UUIDs and instants with an offset.
#[cfg(feature = "expressions")]
pub fn value_text(value_type: &ValueType, value: &Value) -> Option<String> {
    match (value_type, value) {
        (ValueType::Uuid | ValueType::TimeUuid, Value::Bytes(bytes)) => {
            Some(uuid_text(bytes.as_slice().try_into().ok()?, &mut [0; UUID_TEXT_BYTES]).into())
        }
        (ValueType::ZonedTimestamp, Value::Zoned { nanos, offset_seconds }) => Some(zoned_text(*nanos, *offset_seconds)),
        (ValueType::String | ValueType::Json | ValueType::Decimal, Value::String(text)) => Some(text.clone()),
        _ => None,
    }
}

fn mismatch(expected: &ValueType) -> PayloadError {
    PayloadError::Mismatch { expected: Box::new(expected.clone()) }
}
