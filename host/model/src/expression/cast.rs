//! Which type can become which, and how.

use mezze_core::{Function as F, ValueType};

use super::build::{Builder, Place};

/// The steps that bring a value of one type to another, in order; `None` where there is no way.
fn steps(from: &ValueType, to: &ValueType) -> Option<Vec<F>> {
    use ValueType as T;
    if from == to {
        return Some(Vec::new());
    }
    let narrowed = |mut steps: Vec<F>| {
        match to {
            T::Int32 => steps.push(F::NarrowInt),
            T::Float32 => steps.push(F::NarrowFloat),
            _ => {}
        }
        steps
    };
    let ways: Vec<F> = match (from, to) {
        (T::Int32, T::Int64) | (T::Float32, T::Float64) => vec![],
        (T::Bool, T::Int32 | T::Int64) => vec![],
        (T::Int64, T::Int32) | (T::Float64, T::Float32) => narrowed(vec![]),
        (T::Bool | T::Int32 | T::Int64, T::Float32 | T::Float64) => narrowed(vec![F::IntToFloat]),
        (T::Int32 | T::Int64, T::Bool) => vec![F::IntToBool],
        (T::Int32 | T::Int64, T::String | T::Decimal) => vec![F::IntToText],
        (T::Int32 | T::Int64, T::UnixTimestamp) => vec![F::IntToTime],
        (T::Float32 | T::Float64, T::Int32 | T::Int64) => narrowed(vec![F::FloatToInt]),
        (T::Float32 | T::Float64, T::Bool) => vec![F::FloatToBool],
        (T::Float32 | T::Float64, T::String) => vec![F::FloatToText],
        (T::Float32 | T::Float64, T::Decimal) => vec![F::FloatToText, F::TextToDecimal],
        (T::Float32 | T::Float64, T::UnixTimestamp) => vec![F::FloatToTime],
        (T::Bool, T::String) => vec![F::BoolToText],
        (T::String, T::Bool) => vec![F::TextToBool],
        (T::String, T::Int32 | T::Int64) => narrowed(vec![F::TextToInt]),
        (T::String | T::Decimal, T::Float32 | T::Float64) => narrowed(vec![F::TextToFloat]),
        (T::String, T::Decimal) => vec![F::TextToDecimal],
        (T::String, T::Json | T::Bytes) | (T::Json | T::Decimal, T::String) => vec![],
        (T::String, T::UnixTimestamp) => vec![F::TextToTime],
        (T::String, T::ZonedTimestamp) => vec![F::TextToZoned],
        (T::String, T::Uuid | T::TimeUuid) => vec![F::TextToUuid],
        (T::Decimal, T::Int32 | T::Int64) => narrowed(vec![F::DecimalToInt]),
        (T::Bytes, T::String) => vec![F::BytesToText],
        (T::Bytes, T::Uuid | T::TimeUuid) => vec![F::BytesToUuid],
        (T::Uuid, T::TimeUuid) | (T::TimeUuid, T::Uuid) | (T::Uuid | T::TimeUuid, T::Bytes) => vec![],
        (T::Uuid | T::TimeUuid, T::String) => vec![F::UuidToText],
        (T::UnixTimestamp, T::Int32 | T::Int64) => narrowed(vec![F::TimeToInt]),
        (T::UnixTimestamp, T::Float32 | T::Float64) => narrowed(vec![F::TimeToFloat]),
        (T::UnixTimestamp, T::String) => vec![F::TimeToText],
        (T::UnixTimestamp, T::ZonedTimestamp) => vec![F::TimeToZoned],
        (T::ZonedTimestamp, T::UnixTimestamp) => vec![F::ZonedToTime],
        (T::ZonedTimestamp, T::Int32 | T::Int64) => narrowed(vec![F::ZonedToTime, F::TimeToInt]),
        (T::ZonedTimestamp, T::Float32 | T::Float64) => narrowed(vec![F::ZonedToTime, F::TimeToFloat]),
        (T::ZonedTimestamp, T::String) => vec![F::ZonedToText],
        // The rest by way of text, where that says the same.
        (T::List(_) | T::Set(_) | T::Map(_) | T::Struct(_) | T::Bytes, _) | (T::Json, T::Decimal) => return None,
        (_, T::Json | T::Bytes) => steps(from, &T::String)?,
        (T::Bool, T::Decimal) => vec![F::IntToText],
        _ => return None,
    };
    Some(ways)
}

/// A value in another type; `None` where there is no way.
pub(super) fn cast(builder: &mut Builder, place: Place, from: &ValueType, to: &ValueType) -> Option<Place> {
    Some(steps(from, to)?.into_iter().fold(place, |place, function| builder.step(function, [place])))
}

/// The type of a name in SQL, or of ours.
pub(super) fn type_named(name: &str) -> Option<ValueType> {
    let lower = name.to_ascii_lowercase();
    // A length or precision behind a name changes nothing.
    let bare = lower.split('(').next().unwrap_or_default().trim();
    Some(match bare {
        "bool" | "boolean" => ValueType::Bool,
        "int" | "integer" | "int4" | "int32" | "smallint" | "tinyint" => ValueType::Int32,
        "bigint" | "int8" | "int64" | "long" => ValueType::Int64,
        "real" | "float4" | "float32" => ValueType::Float32,
        "double" | "double precision" | "float" | "float8" | "float64" => ValueType::Float64,
        "text" | "varchar" | "character varying" | "char" | "string" => ValueType::String,
        "bytea" | "blob" | "binary" | "varbinary" | "bytes" => ValueType::Bytes,
        "timestamp" | "datetime" | "timestamp without time zone" => ValueType::UnixTimestamp,
        "timestamptz" | "timestamp with time zone" => ValueType::ZonedTimestamp,
        "numeric" | "decimal" | "dec" => ValueType::Decimal,
        "json" | "jsonb" => ValueType::Json,
        other => other.parse().ok()?,
    })
}
