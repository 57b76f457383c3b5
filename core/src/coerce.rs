//! The values of a request in their declared types.

use alloc::{string::String, vec::Vec};

use crate::base64::decode_base64;
use crate::float::parse_f64;
use crate::{Timestamp, UUID_BYTES, Value, ValueType, parse_uuid};

/// A value of a request in the type that its column has, by the rules of Feast's servers: numbers may come as text, whole
/// floats as integers, bytes as base64, instants as seconds or RFC 3339 text. `None` where it does not fit.
pub(crate) fn coerce(value_type: &ValueType, value: &Value) -> Option<Value> {
    Some(match (value_type, value) {
        (_, Value::Null) => Value::Null,
        (ValueType::Bool, Value::Bool(_))
        | (ValueType::Int64, Value::Int(_))
        | (ValueType::String | ValueType::Json | ValueType::Decimal, Value::String(_))
        | (ValueType::Bytes, Value::Bytes(_))
        | (ValueType::Float64, Value::Float64(_)) => value.clone(),
        (ValueType::Bool, Value::String(text)) => match text.as_str() {
            "true" | "True" => Value::Bool(true),
            "false" | "False" => Value::Bool(false),
            _ => return None,
        },
        (ValueType::Int32, Value::Int(number)) => Value::Int(i64::from(i32::try_from(*number).ok()?)),
        (ValueType::Int32 | ValueType::Int64, Value::String(text)) => {
            return coerce(value_type, &Value::Int(text.parse().ok()?));
        }
        (ValueType::Int32 | ValueType::Int64, Value::Float64(number)) => {
            // Exact in both directions, or refused.
            let whole = *number as i64;
            if whole as f64 != *number || whole == i64::MAX {
                return None;
            }
            return coerce(value_type, &Value::Int(whole));
        }
        (ValueType::Float64, Value::Int(number)) => Value::Float64(*number as f64),
        (ValueType::Float64, Value::String(text)) => Value::Float64(parse_f64(text)?),
        (ValueType::Float32, Value::Float64(number)) => Value::Float32(*number as f32),
        (ValueType::Float32, Value::Int(number)) => Value::Float32(*number as f32),
        (ValueType::Decimal | ValueType::String, Value::Int(number)) => Value::String(alloc::format!("{number}")),
        (ValueType::Bytes, Value::String(text)) => Value::Bytes(decode_base64(text)?),
        (ValueType::UnixTimestamp, Value::Int(seconds)) => Value::Int(Timestamp::from_seconds(*seconds).nanos()),
        (ValueType::UnixTimestamp, Value::String(text)) => Value::Int(Timestamp::parse(text)?.nanos()),
        (ValueType::Uuid | ValueType::TimeUuid, Value::String(text)) => Value::Bytes(parse_uuid(text)?.into()),
        (ValueType::Uuid | ValueType::TimeUuid, Value::Bytes(bytes)) if bytes.len() == UUID_BYTES => value.clone(),
        (ValueType::List(element) | ValueType::Set(element), Value::List(values)) => {
            let mut coerced = Vec::with_capacity(values.len());
            for value in values {
                coerced.push(coerce(element, value)?);
            }
            Value::List(coerced)
        }
        (ValueType::Map(element), Value::Map(entries)) => {
            let mut coerced = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                coerced.push((key.clone(), coerce(element, value)?));
            }
            Value::Map(coerced)
        }
        (ValueType::Struct(fields), Value::Map(entries)) => {
            let mut coerced = Vec::with_capacity(fields.len());
            for field in fields {
                let value = entries.iter().find(|(key, _)| *key == field.name).map_or(&Value::Null, |(_, value)| value);
                coerced.push(coerce(&field.value_type, value)?);
            }
            Value::List(coerced)
        }
        _ => return None,
    })
}

/// A value as a request may bring it, in a type: numbers may come as text, whole floats as integers, bytes as base64, instants as
/// seconds or RFC 3339 text. `None` where it does not fit.
#[cfg(feature = "expressions")]
pub fn coerce_value(value_type: &ValueType, value: &Value) -> Option<Value> {
    coerce(value_type, value)
}

/// A value for an error's reader: its kind, and itself where it is short.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Bool(value) => alloc::format!("the boolean {value}"),
        Value::Float32(value) => alloc::format!("the number {}", zmij::Buffer::new().format(*value)),
        Value::Float64(value) => alloc::format!("the number {}", zmij::Buffer::new().format(*value)),
        Value::Int(value) => alloc::format!("the number {value}"),
        Value::List(_) => "a list".into(),
        Value::Map(_) => "an object".into(),
        Value::String(text) if text.len() <= DESCRIBED_BYTES_MAX => alloc::format!("the text `{text}`"),
        Value::String(_) => "a text".into(),
        Value::Null => "null".into(),
        Value::Bytes(_) => "bytes".into(),
        Value::Zoned { .. } => "an instant".into(),
    }
}

const DESCRIBED_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn check(value_type: &str, value: Value, expected: Option<Value>) {
        let value_type = value_type.parse().expect("the type is well-formed");
        assert_eq!(coerce(&value_type, &value), expected, "{value:?} as {value_type}");
    }

    #[test]
    fn values_become_what_their_column_is() {
        check("int64", Value::String("1001".into()), Some(Value::Int(1001)));
        check("int64", Value::Float64(3.0), Some(Value::Int(3)));
        check("int64", Value::Float64(3.5), None);
        check("int64", Value::Float64(9.3e18), None);
        check("int64", Value::Bool(true), None);
        check("int32", Value::Int(1 << 31), None);
        check("string", Value::Int(7), Some(Value::String("7".into())));
        check("float64", Value::Int(2), Some(Value::Float64(2.0)));
        check("bool", Value::String("true".into()), Some(Value::Bool(true)));
        check("bytes", Value::String("Zm9v".into()), Some(Value::Bytes(b"foo".into())));
        check("bytes", Value::String("Zm9".into()), None);
        check("unix_timestamp", Value::Int(2), Some(Value::Int(2_000_000_000)));
        check("unix_timestamp", Value::String("1970-01-01T00:00:02Z".into()), Some(Value::Int(2_000_000_000)));
        check("uuid", Value::String("x".into()), None);
        check("list<int32>", Value::List(vec![Value::Int(1), Value::Null]), Some(Value::List(vec![Value::Int(1), Value::Null])));
        check("list<int32>", Value::List(vec![Value::String("x".into())]), None);
        check(
            "struct<a: int64, b: string>",
            Value::Map(vec![("b".into(), Value::String("x".into()))]),
            Some(Value::List(vec![Value::Null, Value::String("x".into())])),
        );
        check("int64", Value::Null, Some(Value::Null));
    }
}
