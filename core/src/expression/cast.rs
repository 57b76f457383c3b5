//! From one type to another. What cannot be said in the other type is null.

use alloc::vec::Vec;

use itoa::Buffer;

use super::column::{Column, byte_rows, float_rows, int_rows};
use super::function::Function as F;
use super::number;
use crate::float::parse_f64;
use crate::wire::{UUID_TEXT_BYTES, uuid_text, zoned_text};
use crate::{NANOS_PER_SECOND, RFC3339_BYTES_MAX, Timestamp, UUID_BYTES, parse_uuid};

pub(super) fn apply(function: F, a: &Column<'_>, rows: usize) -> Column<'static> {
    match function {
        F::FloatToInt => int_rows(rows, &mut |row| to_int(a.float(row)?)),
        F::NarrowInt => int_rows(rows, &mut |row| i32::try_from(a.int(row)?).ok().map(i64::from)),
        F::NarrowFloat => number::float(a, |value| f64::from(value as f32)),
        F::IntToText => byte_rows(rows, &mut |row, out| {
            out.extend_from_slice(Buffer::new().format(a.int(row)?).as_bytes());
            Some(())
        }),
        F::FloatToText => byte_rows(rows, &mut |row, out| {
            put_float(a.float(row)?, out);
            Some(())
        }),
        F::BoolToText => byte_rows(rows, &mut |row, out| {
            out.extend_from_slice(if a.int(row)? == 0 { b"false" } else { b"true" });
            Some(())
        }),
        F::TextToInt => int_rows(rows, &mut |row| a.text(row)?.trim().parse().ok()),
        F::TextToFloat => float_rows(rows, &mut |row| parse_f64(a.text(row)?.trim())),
        F::TextToBool => int_rows(rows, &mut |row| {
            let text = a.text(row)?.trim();
            let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
            if is(&["true", "t", "yes", "1"]) {
                Some(1)
            } else if is(&["false", "f", "no", "0"]) {
                Some(0)
            } else {
                None
            }
        }),
        F::IntToBool => int_rows(rows, &mut |row| Some(i64::from(a.int(row)? != 0))),
        F::FloatToBool => {
            int_rows(rows, &mut |row| a.float(row).filter(|value| !value.is_nan()).map(|value| i64::from(value != 0.0)))
        }
        F::IntToTime => int_rows(rows, &mut |row| a.int(row)?.checked_mul(NANOS_PER_SECOND)),
        F::FloatToTime => int_rows(rows, &mut |row| {
            // Seconds and their fraction one after the other: together they have more digits than a float.
            let seconds = a.float(row)?;
            let whole = libm::floor(seconds);
            let nanos = libm::round((seconds - whole) * NANOS_PER_SECOND as f64);
            to_int(whole)?.checked_mul(NANOS_PER_SECOND)?.checked_add(nanos as i64)
        }),
        F::TimeToInt => int_rows(rows, &mut |row| Some(Timestamp::from_nanos(a.int(row)?).seconds())),
        F::TimeToFloat => float_rows(rows, &mut |row| Some(a.int(row)? as f64 / NANOS_PER_SECOND as f64)),
        F::TimeToText => byte_rows(rows, &mut |row, out| {
            let mut buffer = [0; RFC3339_BYTES_MAX];
            out.extend_from_slice(Timestamp::from_nanos(a.int(row)?).rfc3339(&mut buffer).as_bytes());
            Some(())
        }),
        F::TextToTime => int_rows(rows, &mut |row| Timestamp::parse(a.text(row)?.trim()).map(Timestamp::nanos)),
        F::BytesToText => byte_rows(rows, &mut |row, out| {
            out.extend_from_slice(a.text(row)?.as_bytes());
            Some(())
        }),
        F::UuidToText => byte_rows(rows, &mut |row, out| {
            out.extend_from_slice(uuid_text(a.bytes(row)?.try_into().ok()?, &mut [0; UUID_TEXT_BYTES]).as_bytes());
            Some(())
        }),
        F::TextToUuid => byte_rows(rows, &mut |row, out| {
            out.extend_from_slice(&parse_uuid(a.text(row)?.trim())?);
            Some(())
        }),
        F::BytesToUuid => byte_rows(rows, &mut |row, out| {
            let uuid: &[u8; UUID_BYTES] = a.bytes(row)?.try_into().ok()?;
            out.extend_from_slice(uuid);
            Some(())
        }),
        F::TextToDecimal => byte_rows(rows, &mut |row, out| {
            let text = a.text(row)?.trim();
            parse_f64(text).filter(|_| text.bytes().any(|byte| byte.is_ascii_digit()))?;
            out.extend_from_slice(text.as_bytes());
            Some(())
        }),
        F::DecimalToInt => int_rows(rows, &mut |row| {
            let text = a.text(row)?;
            match text.split_once('.') {
                // Digits as they stand; a float would lose those past the sixteenth.
                Some((whole, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit()) => match whole {
                    "" | "+" | "-" => Some(0),
                    whole => whole.parse().ok(),
                },
                None if !text.contains(['e', 'E']) => text.parse().ok(),
                _ => to_int(parse_f64(text)?),
            }
        }),
        F::ZonedToText => byte_rows(rows, &mut |row, out| {
            let (nanos, offset_seconds) = zoned(a.bytes(row)?)?;
            out.extend_from_slice(zoned_text(nanos, offset_seconds).as_bytes());
            Some(())
        }),
        F::TextToZoned => byte_rows(rows, &mut |row, out| {
            let (instant, offset_seconds) = Timestamp::parse_with_offset(a.text(row)?.trim())?;
            out.extend_from_slice(&instant.nanos().to_le_bytes());
            out.extend_from_slice(&offset_seconds.to_le_bytes());
            Some(())
        }),
        F::ZonedToTime => int_rows(rows, &mut |row| zoned(a.bytes(row)?).map(|(nanos, _)| nanos)),
        F::TimeToZoned => byte_rows(rows, &mut |row, out| {
            out.extend_from_slice(&a.int(row)?.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            Some(())
        }),
        _ => Column::null(),
    }
}

/// The integer that a float begins with; `None` for what is no number or beyond int64.
pub(super) fn to_int(value: f64) -> Option<i64> {
    // 2^63 is a float, the greatest int64 is none.
    (-TWO_TO_63..TWO_TO_63).contains(&value).then_some(value as i64)
}

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

/// The text of a float, as responses have it; `NaN`, `Infinity` and `-Infinity` by name.
fn put_float(value: f64, out: &mut Vec<u8>) {
    let text = if value.is_nan() {
        "NaN"
    } else if value == f64::INFINITY {
        "Infinity"
    } else if value == f64::NEG_INFINITY {
        "-Infinity"
    } else {
        let mut buffer = zmij::Buffer::new();
        out.extend_from_slice(buffer.format_finite(value).as_bytes());
        return;
    };
    out.extend_from_slice(text.as_bytes());
}

/// Nanoseconds and offset of a payload of `zoned_timestamp`.
fn zoned(payload: &[u8]) -> Option<(i64, i32)> {
    let (nanos, offset) = payload.split_first_chunk()?;
    Some((i64::from_le_bytes(*nanos), i32::from_le_bytes(offset.try_into().ok()?)))
}
