//! Requests and responses in MessagePack: the structure of the JSON, with bytes as bytes and every float as a float.

use alloc::{format, vec::Vec};

use rmp_serde::decode::Error as DecodeError;
use serde::Deserialize;
use serde::de::DeserializeSeed;

use super::json_read::{Budget, RequestSeed, check_lengths};
use super::{Format, MediaType, WireError, write_response};
use crate::{Request, Response, TYPE_DEPTH_MAX, canonical_f32, canonical_f64};

impl Request {
    /// Reads a request in MessagePack: the structure that [`from_json`](Self::from_json) reads, where bytes may also be bytes.
    ///
    /// # Errors
    /// [`WireError`] where the body is not MessagePack or no request, is nested too deep or holds too much.
    pub fn from_msgpack(body: &[u8]) -> Result<Self, WireError> {
        let budget = Budget::new();
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
        deserializer.set_max_depth(DEPTH_MAX);
        let request = RequestSeed { budget: &budget }.deserialize(&mut deserializer).map_err(|error| {
            budget.explain(match error {
                DecodeError::Syntax(detail) => WireError::Invalid { detail },
                DecodeError::InvalidMarkerRead(_) | DecodeError::InvalidDataRead(_) => syntax("it ends early".into()),
                other => syntax(format!("{other}")),
            })
        })?;
        // There is no marker to read where the body ends; a boolean reads no more than one.
        match bool::deserialize(&mut deserializer) {
            Err(DecodeError::InvalidMarkerRead(_)) => {}
            _ => return Err(syntax("there are bytes after the request".into())),
        }
        check_lengths(&request)?;
        Ok(request)
    }
}

fn syntax(detail: alloc::string::String) -> WireError {
    WireError::Syntax { media_type: MediaType::MessagePack, detail }
}

/// A value lies in a column, which lies in the entities of the request. One level more than can be right, so that a value nested
/// too deep is refused by its column and row.
const DEPTH_MAX: usize = TYPE_DEPTH_MAX + 4;

impl Response<'_> {
    /// Appends the response in MessagePack: the structure that [`write_json`](Self::write_json) writes, with bytes as bytes, a
    /// `float32` as one and NaN and the infinities as floats.
    ///
    /// # Errors
    /// [`WireError::Value`] where a value is damaged; `out` is as it was then.
    pub fn write_msgpack(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let before = out.len();
        out.reserve(self.cells.len().saturating_mul(CELL_BYTES));
        write_response(self, &mut MessagePack { out }).inspect_err(|_| out.truncate(before))
    }
}

/// What a cell takes, about: a number, a status and an instant.
const CELL_BYTES: usize = 40;

pub(super) struct MessagePack<'o> {
    pub(super) out: &'o mut Vec<u8>,
}

impl MessagePack<'_> {
    fn put<const N: usize>(&mut self, marker: u8, bytes: [u8; N]) {
        self.out.push(marker);
        self.out.extend_from_slice(&bytes);
    }

    /// A length, as a marker of its own below `fix.1`, or after the marker for 8 (where there is one), 16 or 32 bits.
    fn length(&mut self, length: usize, fix: (u8, u8), marker8: Option<u8>, marker16: u8, marker32: u8) {
        match (u8::try_from(length), u16::try_from(length), marker8) {
            (Ok(length), _, _) if length < fix.1 => self.out.push(fix.0 | length),
            (Ok(length), _, Some(marker8)) => self.put(marker8, [length]),
            (_, Ok(length), _) => self.put(marker16, length.to_be_bytes()),
            // Pages and requests end long before 32 bits do.
            _ => self.put(marker32, u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()),
        }
    }
}

impl Format for MessagePack<'_> {
    fn out(&mut self) -> &mut Vec<u8> {
        self.out
    }

    fn begin_list(&mut self, length: usize) {
        self.length(length, (0x90, 16), None, 0xdc, 0xdd);
    }

    fn separate(&mut self, _: usize) {}

    fn end_list(&mut self) {}

    fn begin_map(&mut self, length: usize) {
        self.length(length, (0x80, 16), None, 0xde, 0xdf);
    }

    fn separate_value(&mut self) {}

    fn end_map(&mut self) {}

    fn null(&mut self) {
        self.out.push(0xc0);
    }

    fn bool(&mut self, value: bool) {
        self.out.push(0xc2 | u8::from(value));
    }

    fn int(&mut self, value: i64) {
        // The shortest form, unsigned where there is a choice.
        if let Ok(value) = u64::try_from(value) {
            match (u8::try_from(value), u16::try_from(value), u32::try_from(value)) {
                (Ok(value @ 0..0x80), _, _) => self.out.push(value),
                (Ok(value), _, _) => self.put(0xcc, [value]),
                (_, Ok(value), _) => self.put(0xcd, value.to_be_bytes()),
                (_, _, Ok(value)) => self.put(0xce, value.to_be_bytes()),
                _ => self.put(0xcf, value.to_be_bytes()),
            }
        } else {
            match (i8::try_from(value), i16::try_from(value), i32::try_from(value)) {
                (Ok(value @ -32..), _, _) => self.out.extend_from_slice(&value.to_be_bytes()),
                (Ok(value), _, _) => self.put(0xd0, value.to_be_bytes()),
                (_, Ok(value), _) => self.put(0xd1, value.to_be_bytes()),
                (_, _, Ok(value)) => self.put(0xd2, value.to_be_bytes()),
                _ => self.put(0xd3, value.to_be_bytes()),
            }
        }
    }

    fn float32(&mut self, value: f32) {
        self.put(0xca, canonical_f32(value).to_be_bytes());
    }

    fn float64(&mut self, value: f64) {
        self.put(0xcb, canonical_f64(value).to_be_bytes());
    }

    fn bytes(&mut self, value: &[u8]) {
        self.length(value.len(), (0, 0), Some(0xc4), 0xc5, 0xc6);
        self.out.extend_from_slice(value);
    }

    fn text(&mut self, value: &str) {
        self.length(value.len(), (0xa0, 32), Some(0xd9), 0xda, 0xdb);
        self.out.extend_from_slice(value.as_bytes());
    }

    fn word(&mut self, value: &str) {
        self.text(value);
    }
}
