//! Owned values and the payload encoding of nested ones.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::fmt;

use crate::types::{TYPE_DEPTH_MAX, ValueType};

/// A value of any [`ValueType`]; the type itself is kept beside it, not in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `bool`.
    Bool(bool),
    /// `bytes`; the 16 bytes of a `uuid` or `time_uuid`.
    Bytes(Vec<u8>),
    /// `float32`.
    Float32(f32),
    /// `float64`.
    Float64(f64),
    /// `int32`, `int64`; nanoseconds of a `unix_timestamp`.
    Int(i64),
    /// `list`, `set`; the fields of a `struct` in its type's order.
    List(Vec<Self>),
    /// `map`, in order.
    Map(Vec<(String, Self)>),
    /// No value.
    Null,
    /// `string`, `json`, `decimal`.
    String(String),
    /// `zoned_timestamp`: an instant in nanoseconds and its offset from UTC in seconds.
    Zoned {
        /// Nanoseconds since the epoch.
        nanos: i64,
        /// Seconds to add to UTC for the local time, within a day either way.
        offset_seconds: i32,
    },
}

/// A value does not fit its type, or bytes are not a payload of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadError {
    /// The bytes end early, go on too long, or hold a count or text that cannot be.
    Corrupt,
    /// The value is not of the type.
    Mismatch {
        /// The type that was expected.
        expected: Box<ValueType>,
    },
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt => f.write_str("the payload of a value is damaged"),
            Self::Mismatch { expected } => write!(f, "value is not of type {expected}"),
        }
    }
}

impl core::error::Error for PayloadError {}

/// Appends the payload of `value` to `out`: what a page column of bytes holds for it.
///
/// Text, JSON, decimals, bytes and UUIDs are their own bytes. Nested values are as docs/FORMAT.md has them. Scalars that lie
/// in number columns have a payload too, since they may be nested.
///
/// # Errors
/// [`PayloadError::Mismatch`] where the value is null or not of the type.
pub fn encode_payload(value_type: &ValueType, value: &Value, out: &mut Vec<u8>) -> Result<(), PayloadError> {
    match (value_type, value) {
        (ValueType::Bool, Value::Bool(value)) => out.push(u8::from(*value)),
        (ValueType::Int32, Value::Int(value)) => {
            let narrow = i32::try_from(*value).map_err(|_| mismatch(value_type))?;
            out.extend_from_slice(&narrow.to_le_bytes());
        }
        (ValueType::Int64 | ValueType::UnixTimestamp, Value::Int(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (ValueType::Float32, Value::Float32(value)) => out.extend_from_slice(&canonical_f32(*value).to_le_bytes()),
        (ValueType::Float64, Value::Float64(value)) => out.extend_from_slice(&canonical_f64(*value).to_le_bytes()),
        (ValueType::Bytes, Value::Bytes(bytes)) => out.extend_from_slice(bytes),
        (ValueType::Uuid | ValueType::TimeUuid, Value::Bytes(bytes)) if bytes.len() == UUID_BYTES => {
            out.extend_from_slice(bytes);
        }
        (ValueType::String | ValueType::Json | ValueType::Decimal, Value::String(text)) => out.extend_from_slice(text.as_bytes()),
        (ValueType::ZonedTimestamp, Value::Zoned { nanos, offset_seconds }) => {
            out.extend_from_slice(&nanos.to_le_bytes());
            out.extend_from_slice(&offset_seconds.to_le_bytes());
        }
        (ValueType::List(element) | ValueType::Set(element), Value::List(elements)) => {
            put_varint(elements.len() as u64, out);
            for value in elements {
                encode_nullable(element, value, out)?;
            }
        }
        (ValueType::Map(element), Value::Map(entries)) => {
            put_varint(entries.len() as u64, out);
            for (key, value) in entries {
                put_varint(key.len() as u64, out);
                out.extend_from_slice(key.as_bytes());
                encode_nullable(element, value, out)?;
            }
        }
        (ValueType::Struct(fields), Value::List(values)) if fields.len() == values.len() => {
            for (field, value) in fields.iter().zip(values) {
                encode_nullable(&field.value_type, value, out)?;
            }
        }
        _ => return Err(mismatch(value_type)),
    }
    Ok(())
}

/// A nested value: 0 for null, otherwise the payload's length plus one, then the payload.
fn encode_nullable(value_type: &ValueType, value: &Value, out: &mut Vec<u8>) -> Result<(), PayloadError> {
    if matches!(value, Value::Null) {
        put_varint(0, out);
        return Ok(());
    }
    let mut payload = Vec::new();
    encode_payload(value_type, value, &mut payload)?;
    put_varint(payload.len() as u64 + 1, out);
    out.extend_from_slice(&payload);
    Ok(())
}

/// Reads what [`encode_payload`] wrote. The whole of `bytes` is the payload.
///
/// # Errors
/// [`PayloadError::Corrupt`] where the bytes are no payload of the type.
pub fn decode_payload(value_type: &ValueType, bytes: &[u8]) -> Result<Value, PayloadError> {
    decode_at_depth(value_type, bytes, 0)
}

fn decode_at_depth(value_type: &ValueType, bytes: &[u8], depth: usize) -> Result<Value, PayloadError> {
    if depth >= TYPE_DEPTH_MAX {
        return Err(PayloadError::Corrupt);
    }
    let mut rest = bytes;
    let value = match value_type {
        ValueType::Bool => match take::<1>(&mut rest)? {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            _ => return Err(PayloadError::Corrupt),
        },
        ValueType::Int32 => Value::Int(i64::from(i32::from_le_bytes(take(&mut rest)?))),
        ValueType::Int64 | ValueType::UnixTimestamp => Value::Int(i64::from_le_bytes(take(&mut rest)?)),
        ValueType::Float32 => Value::Float32(f32::from_le_bytes(take(&mut rest)?)),
        ValueType::Float64 => Value::Float64(f64::from_le_bytes(take(&mut rest)?)),
        ValueType::Bytes => Value::Bytes(take_all(&mut rest).into()),
        ValueType::Uuid | ValueType::TimeUuid => Value::Bytes(take::<UUID_BYTES>(&mut rest)?.into()),
        ValueType::String | ValueType::Json | ValueType::Decimal => Value::String(text(take_all(&mut rest))?.into()),
        ValueType::ZonedTimestamp => {
            Value::Zoned { nanos: i64::from_le_bytes(take(&mut rest)?), offset_seconds: i32::from_le_bytes(take(&mut rest)?) }
        }
        ValueType::List(element) | ValueType::Set(element) => {
            let count = take_count(&mut rest)?;
            let mut elements = Vec::with_capacity(count);
            for _ in 0..count {
                elements.push(decode_nullable(element, &mut rest, depth)?);
            }
            Value::List(elements)
        }
        ValueType::Map(element) => {
            let count = take_count(&mut rest)?;
            let mut entries = Vec::with_capacity(count);
            for _ in 0..count {
                let key_bytes = take_varint(&mut rest)?;
                let key = text(take_slice(key_bytes, &mut rest)?)?.into();
                entries.push((key, decode_nullable(element, &mut rest, depth)?));
            }
            Value::Map(entries)
        }
        ValueType::Struct(fields) => {
            let mut values = Vec::with_capacity(fields.len());
            for field in fields {
                values.push(decode_nullable(&field.value_type, &mut rest, depth)?);
            }
            Value::List(values)
        }
    };
    if rest.is_empty() { Ok(value) } else { Err(PayloadError::Corrupt) }
}

fn decode_nullable(value_type: &ValueType, rest: &mut &[u8], depth: usize) -> Result<Value, PayloadError> {
    match take_varint(rest)?.checked_sub(1) {
        None => Ok(Value::Null),
        Some(payload_bytes) => decode_at_depth(value_type, take_slice(payload_bytes, rest)?, depth + 1),
    }
}

/// The one bit pattern of every NaN, so that equal values have equal bytes.
pub const fn canonical_f64(value: f64) -> f64 {
    if value.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { value }
}

/// The one bit pattern of every NaN, so that equal values have equal bytes.
pub const fn canonical_f32(value: f32) -> f32 {
    if value.is_nan() { f32::from_bits(0x7fc0_0000) } else { value }
}

/// Parses the hyphenated, simple, braced or URN form of a UUID, in either case.
pub fn parse_uuid(text: &str) -> Option<[u8; UUID_BYTES]> {
    let text = text.strip_prefix("urn:uuid:").unwrap_or(text);
    let text = text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(text);
    let hyphens_fit = match text.len() {
        32 => true,
        36 => [8, 13, 18, 23].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-')),
        _ => false,
    };
    if !hyphens_fit {
        return None;
    }
    let mut uuid = [0; UUID_BYTES];
    let mut digits = 0;
    for byte in text.bytes().filter(|byte| *byte != b'-') {
        let digit = char::from(byte).to_digit(16)? as u8;
        let slot = uuid.get_mut(digits / 2)?;
        *slot = *slot << 4 | digit;
        digits += 1;
    }
    (digits == 2 * UUID_BYTES).then_some(uuid)
}

/// Bytes of a UUID.
pub const UUID_BYTES: usize = 16;

fn mismatch(expected: &ValueType) -> PayloadError {
    PayloadError::Mismatch { expected: Box::new(expected.clone()) }
}

pub(crate) fn text(bytes: &[u8]) -> Result<&str, PayloadError> {
    core::str::from_utf8(bytes).map_err(|_| PayloadError::Corrupt)
}

/// LEB128, unsigned.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn take_varint(rest: &mut &[u8]) -> Result<usize, PayloadError> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let [byte] = take::<1>(rest)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return usize::try_from(value).map_err(|_| PayloadError::Corrupt);
        }
    }
    Err(PayloadError::Corrupt)
}

/// A count of things that take at least a byte each, so that a damaged one cannot ask for more memory than there are bytes.
pub(crate) fn take_count(rest: &mut &[u8]) -> Result<usize, PayloadError> {
    let count = take_varint(rest)?;
    if count > rest.len() { Err(PayloadError::Corrupt) } else { Ok(count) }
}

pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], PayloadError> {
    let (head, tail) = rest.split_first_chunk().ok_or(PayloadError::Corrupt)?;
    *rest = tail;
    Ok(*head)
}

pub(crate) fn take_slice<'a>(count: usize, rest: &mut &'a [u8]) -> Result<&'a [u8], PayloadError> {
    let (head, tail) = rest.split_at_checked(count).ok_or(PayloadError::Corrupt)?;
    *rest = tail;
    Ok(head)
}

fn take_all<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    core::mem::take(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn nested() -> (ValueType, Value) {
        let value_type = "struct<a: list<int32>, b: map<struct<c: string, d: float64>>, e: set<uuid>, f: zoned_timestamp>";
        let value = Value::List(vec![
            Value::List(vec![Value::Int(-1), Value::Null, Value::Int(7)]),
            Value::Map(vec![("x".into(), Value::List(vec![Value::String("ü".into()), Value::Null])), ("y".into(), Value::Null)]),
            Value::List(vec![Value::Bytes(vec![9; 16])]),
            Value::Zoned { nanos: -5, offset_seconds: 3_600 },
        ]);
        (value_type.parse().expect("the type is well-formed"), value)
    }

    #[test]
    fn payloads_read_back_as_written() {
        let (value_type, value) = nested();
        let mut bytes = Vec::new();
        encode_payload(&value_type, &value, &mut bytes).expect("the value is of the type");
        assert_eq!(decode_payload(&value_type, &bytes), Ok(value));
    }

    #[test]
    fn every_prefix_and_every_flip_is_an_error_or_a_value_of_the_type() {
        let (value_type, value) = nested();
        let mut bytes = Vec::new();
        encode_payload(&value_type, &value, &mut bytes).expect("the value is of the type");
        for end in 0..bytes.len() {
            assert_eq!(decode_payload(&value_type, &bytes[..end]), Err(PayloadError::Corrupt), "prefix {end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(decoded) = decode_payload(&value_type, &damaged) {
                let mut again = Vec::new();
                encode_payload(&value_type, &decoded, &mut again).expect("what decodes is of the type");
            }
        }
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        let mut bytes = Vec::new();
        for (value_type, value) in [
            (ValueType::Int32, Value::Int(1 << 40)),
            (ValueType::String, Value::Int(1)),
            (ValueType::Uuid, Value::Bytes(vec![1; 15])),
            (ValueType::Bool, Value::Null),
        ] {
            let expected = value_type.clone();
            assert_eq!(
                encode_payload(&value_type, &value, &mut bytes),
                Err(PayloadError::Mismatch { expected: Box::new(expected) })
            );
        }
    }

    #[test]
    fn uuids_are_read_in_every_usual_form() {
        let expected = Some([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0, 1, 2, 3, 4, 5, 6, 7]);
        for text in [
            "01234567-89ab-cdef-0001-020304050607",
            "0123456789ABCDEF0001020304050607",
            "{01234567-89ab-cdef-0001-020304050607}",
            "urn:uuid:01234567-89ab-cdef-0001-020304050607",
        ] {
            assert_eq!(parse_uuid(text), expected, "{text}");
        }
        assert_eq!(parse_uuid("01234567-89ab-cdef-0001-02030405060"), None);
        assert_eq!(parse_uuid("0123456-789ab-cdef-0001-020304050607"), None);
    }
}
