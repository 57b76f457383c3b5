//! Responses in JSON, by hand: one pass, and no allocation but that of the output.

use alloc::vec::Vec;

use super::{Format, WireError, write_response};
use crate::Response;
use crate::base64::encode_base64;

impl Response<'_> {
    /// Appends the response as Feast's servers write it; docs/WIRE.md is the reference.
    ///
    /// # Errors
    /// [`WireError::Value`] where a value is damaged; `out` is as it was then.
    pub fn write_json(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let before = out.len();
        out.reserve(self.cells.len().saturating_mul(CELL_BYTES));
        write_response(self, &mut Json { out }).inspect_err(|_| out.truncate(before))
    }
}

/// What a cell takes, about: a number, a status, an instant and their commas.
const CELL_BYTES: usize = 48;

struct Json<'o> {
    out: &'o mut Vec<u8>,
}

impl Format for Json<'_> {
    fn out(&mut self) -> &mut Vec<u8> {
        self.out
    }

    fn begin_list(&mut self, _: usize) {
        self.out.push(b'[');
    }

    fn separate(&mut self, index: usize) {
        if index > 0 {
            self.out.push(b',');
        }
    }

    fn end_list(&mut self) {
        self.out.push(b']');
    }

    fn begin_map(&mut self, _: usize) {
        self.out.push(b'{');
    }

    fn separate_value(&mut self) {
        self.out.push(b':');
    }

    fn end_map(&mut self) {
        self.out.push(b'}');
    }

    fn null(&mut self) {
        self.out.extend_from_slice(b"null");
    }

    fn bool(&mut self, value: bool) {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn int(&mut self, value: i64) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn float32(&mut self, value: f32) {
        // As Feast's servers do: the digits of the f64 of the same value.
        self.float64(f64::from(value));
    }

    fn float64(&mut self, value: f64) {
        if value.is_finite() {
            self.out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
        } else if value.is_nan() {
            self.word("NaN");
        } else if value > 0.0 {
            self.word("Infinity");
        } else {
            self.word("-Infinity");
        }
    }

    fn bytes(&mut self, value: &[u8]) {
        self.out.push(b'"');
        encode_base64(value, self.out);
        self.out.push(b'"');
    }

    fn text(&mut self, value: &str) {
        push_text(value, self.out);
    }

    fn word(&mut self, value: &str) {
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
    }
}

/// Appends a JSON string.
pub(super) fn push_text(text: &str, out: &mut Vec<u8>) {
    push_text_within_text(text.as_bytes(), out);
}

/// Appends a JSON string of these bytes of UTF-8.
pub(super) fn push_text_within_text(mut rest: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    // Most text has nothing to escape: it goes out in runs.
    while let Some(at) = rest.iter().position(|byte| ESCAPED[usize::from(*byte)]) {
        let (run, tail) = rest.split_at(at);
        out.extend_from_slice(run);
        let Some((byte, tail)) = tail.split_first() else { break };
        push_escape(*byte, out);
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn push_escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Whether JSON wants a byte escaped, for each byte.
const ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        escaped[byte] = true;
        byte += 1;
    }
    escaped[b'"' as usize] = true;
    escaped[b'\\' as usize] = true;
    escaped
};
