//! Requests and responses as bytes: Feast's JSON, and MessagePack of the same structure. docs/WIRE.md is the reference.

mod error;
mod json_read;
mod json_write;
#[cfg(feature = "msgpack")]
mod msgpack;
#[cfg(test)]
mod tests;

use alloc::{borrow::ToOwned, string::String, vec, vec::Vec};
use core::ops::Range;

pub use error::{WireError, write_error_json};

use crate::value::{take, take_count, take_slice, take_varint, text};
use crate::{
    Cell, Column, NANOS_PER_SECOND, PayloadError, RFC3339_BYTES_MAX, Response, Status, TYPE_DEPTH_MAX, Timestamp, UUID_BYTES,
    Value, ValueType,
};

/// How many values one request may hold, nested ones and feature references included: it bounds the memory that a small body
/// can ask for.
pub const REQUEST_VALUES_MAX: usize = 1 << 20;

/// What requests and responses are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaType {
    /// `application/json`.
    #[default]
    Json,
    /// `application/msgpack`.
    MessagePack,
}

impl MediaType {
    #[cfg(feature = "msgpack")]
    const SUPPORTED: &'static str = "application/json or application/msgpack";
    #[cfg(not(feature = "msgpack"))]
    const SUPPORTED: &'static str = "application/json";

    /// Its name in `Content-Type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MessagePack => "application/msgpack",
        }
    }

    /// Its name in errors.
    const fn noun(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::MessagePack => "MessagePack",
        }
    }

    /// The media type of a body by its `Content-Type`; JSON where there is none.
    ///
    /// # Errors
    /// [`WireError::UnsupportedMediaType`] where it is another one.
    pub fn from_content_type(content_type: Option<&str>) -> Result<Self, WireError> {
        let Some(content_type) = content_type else { return Ok(Self::Json) };
        let name = content_type.split(';').next().unwrap_or_default().trim();
        match Self::named(name) {
            Some(media_type) => Ok(media_type),
            None => Err(WireError::UnsupportedMediaType { found: name.to_owned() }),
        }
    }

    /// The media type of a response by the request's `Accept`: MessagePack where the client prefers it to JSON, or names it first
    /// of two that it likes equally; JSON otherwise, even where the client accepts neither, as Feast's servers do.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let mut best = (Self::Json, 0);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let Some(media_type) = parts.next().and_then(Self::named) else { continue };
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            let weight = weight.map_or(WEIGHT_MAX, thousandths);
            if weight > best.1 {
                best = (media_type, weight);
            }
        }
        best.0
    }

    fn named(name: &str) -> Option<Self> {
        let is = |known: &&str| name.eq_ignore_ascii_case(known);
        if is(&"application/json") {
            Some(Self::Json)
        } else if cfg!(feature = "msgpack")
            && ["application/msgpack", "application/x-msgpack", "application/vnd.msgpack"].iter().any(is)
        {
            Some(Self::MessagePack)
        } else {
            None
        }
    }
}

/// The weight of a media range in thousandths, RFC 9110's `qvalue`; nothing where it is none.
fn thousandths(weight: &str) -> u32 {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    match whole {
        "1" => WEIGHT_MAX,
        "0" => [0, 1, 2].into_iter().fold(0, |sum, place| {
            sum * 10 + fraction.as_bytes().get(place).map_or(0, |byte| u32::from(byte.saturating_sub(b'0')))
        }),
        _ => 0,
    }
}

const WEIGHT_MAX: u32 = 1000;

/// What the formats differ in. Everything above single values is written by [`write_response`], so that the formats cannot differ
/// in structure.
trait Format {
    /// Where the bytes go.
    fn out(&mut self) -> &mut Vec<u8>;
    fn begin_list(&mut self, length: usize);
    /// Before the element at `index` of a list, or the key at `index` of a map.
    fn separate(&mut self, index: usize);
    fn end_list(&mut self);
    fn begin_map(&mut self, length: usize);
    /// Between a key and its value.
    fn separate_value(&mut self);
    fn end_map(&mut self);
    fn null(&mut self);
    fn bool(&mut self, value: bool);
    fn int(&mut self, value: i64);
    fn float32(&mut self, value: f32);
    fn float64(&mut self, value: f64);
    fn bytes(&mut self, value: &[u8]);
    fn text(&mut self, value: &str);
    /// Text that has no character to escape.
    fn word(&mut self, value: &str);

    fn key(&mut self, index: usize, key: &str) {
        self.separate(index);
        self.word(key);
        self.separate_value();
    }
}

/// Writes a response: Feast's shape, in the order of Feast's servers.
fn write_response<F: Format>(response: &Response<'_>, format: &mut F) -> Result<(), WireError> {
    let row_count = response.row_count;
    let mut groups = vec![Written::default(); response.rows.len().checked_div(row_count).unwrap_or(0)];
    format.begin_map(2);
    format.key(0, "results");
    format.begin_list(response.columns.len());
    for (index, column) in response.columns.iter().enumerate() {
        let start = index.saturating_mul(row_count);
        let cells = start.checked_add(row_count).and_then(|end| response.cells.get(start..end)).unwrap_or_default();
        let mut written = groups.get_mut(column.group);
        format.separate(index);
        format.begin_map(3);
        format.key(0, "values");
        let null_values = write_values(response, column, cells, format)?;
        format.key(1, "statuses");
        match written.as_deref_mut() {
            // The columns of one group have the same statuses, but for their nulls.
            Some(Written { statuses: Some(range), .. }) if !null_values => format.out().extend_from_within(range.clone()),
            written => {
                let from = format.out().len();
                write_states(response, column, cells, format, |format, status, _| format.word(status.name()));
                if let Some(written) = written
                    && !null_values
                {
                    written.statuses = Some(from..format.out().len());
                }
            }
        }
        format.key(2, "event_timestamps");
        match written {
            Some(Written { event_timestamps: Some(range), .. }) => format.out().extend_from_within(range.clone()),
            written => {
                let from = format.out().len();
                write_states(response, column, cells, format, |format, _, event_time| {
                    format.word(event_time.rfc3339(&mut [0; RFC3339_BYTES_MAX]));
                });
                if let Some(written) = written {
                    written.event_timestamps = Some(from..format.out().len());
                }
            }
        }
        format.end_map();
    }
    format.end_list();
    format.key(1, "metadata");
    format.begin_map(1 + usize::from(response.views.is_some()));
    format.key(0, "feature_names");
    format.begin_list(response.columns.len());
    for (index, column) in response.columns.iter().enumerate() {
        format.separate(index);
        format.text(&column.name);
    }
    format.end_list();
    if let Some(views) = &response.views {
        format.key(1, "feature_view_metadata");
        format.begin_list(views.len());
        for (index, view) in views.iter().enumerate() {
            format.separate(index);
            format.begin_map(1);
            format.key(0, "name");
            format.text(view);
            format.end_map();
        }
        format.end_list();
    }
    format.end_map();
    format.end_map();
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
fn write_values<F: Format>(
    response: &Response<'_>,
    column: &Column<'_>,
    cells: &[Cell<'_>],
    format: &mut F,
) -> Result<bool, WireError> {
    let mut null_values = false;
    format.begin_list(response.row_count);
    for row in 0..response.row_count {
        let cell = cells.get(row).unwrap_or(&Cell::Null);
        format.separate(row);
        if matches!(cell, Cell::Null) {
            null_values |= response.status(column, row, cell).status == Status::NullValue;
        }
        write_cell(column.value_type, cell, format).map_err(|cause| WireError::Value {
            column: String::from(&*column.name),
            row,
            cause,
        })?;
    }
    format.end_list();
    Ok(null_values)
}

/// Writes something of the state of each of a column's rows.
fn write_states<F: Format>(
    response: &Response<'_>,
    column: &Column<'_>,
    cells: &[Cell<'_>],
    format: &mut F,
    write: impl Fn(&mut F, Status, Timestamp),
) {
    format.begin_list(response.row_count);
    for row in 0..response.row_count {
        let state = response.status(column, row, cells.get(row).unwrap_or(&Cell::Null));
        format.separate(row);
        write(format, state.status, state.event_time);
    }
    format.end_list();
}

fn write_cell<F: Format>(value_type: &ValueType, cell: &Cell<'_>, format: &mut F) -> Result<(), PayloadError> {
    match cell {
        Cell::Null => format.null(),
        Cell::Int(value) => write_int(value_type, *value, format)?,
        Cell::Float32(value) => format.float32(*value),
        Cell::Float64(value) => format.float64(*value),
        Cell::Bytes(payload) => write_payload(value_type, payload, 0, format)?,
        Cell::Request(value) => write_value(value_type, value, 0, format)?,
    }
    Ok(())
}

fn write_int<F: Format>(value_type: &ValueType, value: i64, format: &mut F) -> Result<(), PayloadError> {
    match value_type {
        ValueType::Bool => format.bool(value != 0),
        ValueType::Int32 | ValueType::Int64 => format.int(value),
        ValueType::UnixTimestamp => format.int(Timestamp::from_nanos(value).seconds()),
        _ => return Err(mismatch(value_type)),
    }
    Ok(())
}

/// Writes a payload as [`encode_payload`](crate::encode_payload) made it, without making values of it.
fn write_payload<F: Format>(value_type: &ValueType, bytes: &[u8], depth: usize, format: &mut F) -> Result<(), PayloadError> {
    if depth >= TYPE_DEPTH_MAX {
        return Err(PayloadError::Corrupt);
    }
    let mut rest = bytes;
    match value_type {
        ValueType::Bytes => format.bytes(core::mem::take(&mut rest)),
        ValueType::String | ValueType::Json | ValueType::Decimal => format.text(text(core::mem::take(&mut rest))?),
        ValueType::Bool => match take::<1>(&mut rest)? {
            [0] => format.bool(false),
            [1] => format.bool(true),
            _ => return Err(PayloadError::Corrupt),
        },
        ValueType::Int32 => format.int(i64::from(i32::from_le_bytes(take(&mut rest)?))),
        ValueType::Int64 | ValueType::UnixTimestamp => write_int(value_type, i64::from_le_bytes(take(&mut rest)?), format)?,
        ValueType::Float32 => format.float32(f32::from_le_bytes(take(&mut rest)?)),
        ValueType::Float64 => format.float64(f64::from_le_bytes(take(&mut rest)?)),
        ValueType::Uuid | ValueType::TimeUuid => write_uuid(&take(&mut rest)?, format),
        ValueType::ZonedTimestamp => {
            let nanos = i64::from_le_bytes(take(&mut rest)?);
            write_zoned(nanos, i32::from_le_bytes(take(&mut rest)?), format);
        }
        ValueType::List(element) | ValueType::Set(element) => {
            let count = take_count(&mut rest)?;
            format.begin_list(count);
            for index in 0..count {
                format.separate(index);
                write_nullable(element, &mut rest, depth, format)?;
            }
            format.end_list();
        }
        ValueType::Map(element) => {
            let count = take_count(&mut rest)?;
            format.begin_map(count);
            for index in 0..count {
                let key_length = take_varint(&mut rest)?;
                format.separate(index);
                format.text(text(take_slice(key_length, &mut rest)?)?);
                format.separate_value();
                write_nullable(element, &mut rest, depth, format)?;
            }
            format.end_map();
        }
        ValueType::Struct(fields) => {
            format.begin_map(fields.len());
            for (index, field) in fields.iter().enumerate() {
                format.separate(index);
                format.text(&field.name);
                format.separate_value();
                write_nullable(&field.value_type, &mut rest, depth, format)?;
            }
            format.end_map();
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(PayloadError::Corrupt) }
}

fn write_nullable<F: Format>(value_type: &ValueType, rest: &mut &[u8], depth: usize, format: &mut F) -> Result<(), PayloadError> {
    match take_varint(rest)?.checked_sub(1) {
        None => format.null(),
        Some(length) => write_payload(value_type, take_slice(length, rest)?, depth + 1, format)?,
    }
    Ok(())
}

/// Writes a value of the request, which has been brought to its column's type.
fn write_value<F: Format>(value_type: &ValueType, value: &Value, depth: usize, format: &mut F) -> Result<(), PayloadError> {
    if depth >= TYPE_DEPTH_MAX {
        return Err(PayloadError::Corrupt);
    }
    match (value_type, value) {
        (_, Value::Null) => format.null(),
        (ValueType::Bool, Value::Bool(value)) => format.bool(*value),
        (_, Value::Int(value)) => write_int(value_type, *value, format)?,
        (ValueType::Float32, Value::Float32(value)) => format.float32(*value),
        (ValueType::Float64, Value::Float64(value)) => format.float64(*value),
        (ValueType::Bytes, Value::Bytes(bytes)) => format.bytes(bytes),
        (ValueType::Uuid | ValueType::TimeUuid, Value::Bytes(bytes)) => match bytes.first_chunk() {
            Some(uuid) if bytes.len() == UUID_BYTES => write_uuid(uuid, format),
            _ => return Err(mismatch(value_type)),
        },
        (ValueType::String | ValueType::Json | ValueType::Decimal, Value::String(text)) => format.text(text),
        (ValueType::ZonedTimestamp, Value::Zoned { nanos, offset_seconds }) => write_zoned(*nanos, *offset_seconds, format),
        (ValueType::List(element) | ValueType::Set(element), Value::List(values)) => {
            format.begin_list(values.len());
            for (index, value) in values.iter().enumerate() {
                format.separate(index);
                write_value(element, value, depth + 1, format)?;
            }
            format.end_list();
        }
        (ValueType::Map(element), Value::Map(entries)) => {
            format.begin_map(entries.len());
            for (index, (key, value)) in entries.iter().enumerate() {
                format.separate(index);
                format.text(key);
                format.separate_value();
                write_value(element, value, depth + 1, format)?;
            }
            format.end_map();
        }
        (ValueType::Struct(fields), Value::List(values)) if fields.len() == values.len() => {
            format.begin_map(fields.len());
            for (index, (field, value)) in fields.iter().zip(values).enumerate() {
                format.separate(index);
                format.text(&field.name);
                format.separate_value();
                write_value(&field.value_type, value, depth + 1, format)?;
            }
            format.end_map();
        }
        _ => return Err(mismatch(value_type)),
    }
    Ok(())
}

/// Writes the lower-case hyphenated form.
fn write_uuid<F: Format>(uuid: &[u8; UUID_BYTES], format: &mut F) {
    let mut form = [b'-'; UUID_BYTES * 2 + 4];
    let digits = form.iter_mut().enumerate().filter(|(at, _)| !matches!(at, 8 | 13 | 18 | 23));
    let nibbles = uuid.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for ((_, digit), nibble) in digits.zip(nibbles) {
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    format.word(str::from_utf8(&form).unwrap_or_default());
}

/// Writes the local time with its offset, which RFC 3339 has in whole minutes within a day; an instant whose offset or local time
/// cannot be written so is written in UTC, which is the same instant.
fn write_zoned<F: Format>(nanos: i64, offset_seconds: i32, format: &mut F) {
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
    format.word(&form);
}

fn mismatch(expected: &ValueType) -> PayloadError {
    PayloadError::Mismatch { expected: expected.clone() }
}
