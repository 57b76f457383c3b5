//! Single values in JSON.

use alloc::vec::Vec;

use crate::base64::encode_base64;

pub(super) fn push_int(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

pub(super) fn push_float(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else if value.is_nan() {
        push_word("NaN", out);
    } else if value > 0.0 {
        push_word("Infinity", out);
    } else {
        push_word("-Infinity", out);
    }
}

pub(super) fn push_bytes(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    encode_base64(value, out);
    out.push(b'"');
}

/// Appends a JSON string of text that has no character to escape.
pub(super) fn push_word(word: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
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
