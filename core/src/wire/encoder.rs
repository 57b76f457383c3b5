//! What the formats differ in, value by value.

use alloc::vec::Vec;

#[cfg(feature = "message-pack")]
use super::MediaType::MessagePack;
use super::MediaType::{self, Json};
use super::json_write as json;
#[cfg(feature = "message-pack")]
use super::msgpack_write as msgpack;
use crate::{canonical_f32, canonical_f64};

/// Appends to bytes in one of the formats. A branch a value costs less than the code of the whole for each format, which every
/// bundle would carry.
pub(crate) struct Encoder<'o> {
    pub(crate) media_type: MediaType,
    pub(crate) out: &'o mut Vec<u8>,
}

impl Encoder<'_> {
    pub(crate) fn begin_list(&mut self, length: usize) {
        match self.media_type {
            Json => self.out.push(b'['),
            #[cfg(feature = "message-pack")]
            MessagePack => msgpack::push_list(length, self.out),
        }
    }

    /// Before the element at `index` of a list, or the key at `index` of a map.
    pub(crate) fn separate(&mut self, index: usize) {
        if self.media_type == Json && index > 0 {
            self.out.push(b',');
        }
    }

    pub(crate) fn end_list(&mut self) {
        if self.media_type == Json {
            self.out.push(b']');
        }
    }

    pub(crate) fn begin_map(&mut self, length: usize) {
        match self.media_type {
            Json => self.out.push(b'{'),
            #[cfg(feature = "message-pack")]
            MessagePack => msgpack::push_map(length, self.out),
        }
    }

    /// Between a key and its value.
    pub(crate) fn separate_value(&mut self) {
        if self.media_type == Json {
            self.out.push(b':');
        }
    }

    pub(crate) fn end_map(&mut self) {
        if self.media_type == Json {
            self.out.push(b'}');
        }
    }

    pub(crate) fn key(&mut self, index: usize, key: &str) {
        self.separate(index);
        self.word(key);
        self.separate_value();
    }

    pub(crate) fn null(&mut self) {
        match self.media_type {
            Json => self.out.extend_from_slice(b"null"),
            #[cfg(feature = "message-pack")]
            MessagePack => self.out.push(0xc0),
        }
    }

    pub(crate) fn bool(&mut self, value: bool) {
        match self.media_type {
            Json => self.out.extend_from_slice(if value { b"true" } else { b"false" }),
            #[cfg(feature = "message-pack")]
            MessagePack => self.out.push(0xc2 | u8::from(value)),
        }
    }

    pub(crate) fn int(&mut self, value: i64) {
        match self.media_type {
            Json => json::push_int(value, self.out),
            #[cfg(feature = "message-pack")]
            MessagePack => msgpack::push_int(value, self.out),
        }
    }

    pub(crate) fn float32(&mut self, value: f32) {
        match self.media_type {
            // As Feast's servers do: the digits of the f64 of the same value.
            Json => json::push_float(f64::from(value), self.out),
            #[cfg(feature = "message-pack")]
            MessagePack => msgpack::put(0xca, canonical_f32(value).to_be_bytes(), self.out),
        }
    }

    pub(crate) fn float64(&mut self, value: f64) {
        match self.media_type {
            Json => json::push_float(value, self.out),
            #[cfg(feature = "message-pack")]
            MessagePack => msgpack::put(0xcb, canonical_f64(value).to_be_bytes(), self.out),
        }
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        match self.media_type {
            Json => json::push_bytes(value, self.out),
            #[cfg(feature = "message-pack")]
            MessagePack => msgpack::push_bytes(value, self.out),
        }
    }

    pub(crate) fn text(&mut self, value: &str) {
        match self.media_type {
            Json => json::push_text(value, self.out),
            #[cfg(feature = "message-pack")]
            MessagePack => msgpack::push_text(value, self.out),
        }
    }

    /// Text that has no character to escape.
    pub(crate) fn word(&mut self, value: &str) {
        match self.media_type {
            Json => json::push_word(value, self.out),
            #[cfg(feature = "message-pack")]
            MessagePack => msgpack::push_text(value, self.out),
        }
    }
}
