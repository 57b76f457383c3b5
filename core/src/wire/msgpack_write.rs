//! Single values in MessagePack, each in its shortest form.

use alloc::vec::Vec;

pub(super) fn push_int(value: i64, out: &mut Vec<u8>) {
    // Unsigned where there is a choice.
    if let Ok(value) = u64::try_from(value) {
        match (u8::try_from(value), u16::try_from(value), u32::try_from(value)) {
            (Ok(value @ 0..0x80), _, _) => out.push(value),
            (Ok(value), _, _) => put(0xcc, [value], out),
            (_, Ok(value), _) => put(0xcd, value.to_be_bytes(), out),
            (_, _, Ok(value)) => put(0xce, value.to_be_bytes(), out),
            _ => put(0xcf, value.to_be_bytes(), out),
        }
    } else {
        match (i8::try_from(value), i16::try_from(value), i32::try_from(value)) {
            (Ok(value @ -32..), _, _) => out.push(value.cast_unsigned()),
            (Ok(value), _, _) => put(0xd0, value.to_be_bytes(), out),
            (_, Ok(value), _) => put(0xd1, value.to_be_bytes(), out),
            (_, _, Ok(value)) => put(0xd2, value.to_be_bytes(), out),
            _ => put(0xd3, value.to_be_bytes(), out),
        }
    }
}

pub(super) fn push_list(length: usize, out: &mut Vec<u8>) {
    push_length(length, (0x90, 16), None, 0xdc, out);
}

pub(super) fn push_map(length: usize, out: &mut Vec<u8>) {
    push_length(length, (0x80, 16), None, 0xde, out);
}

pub(super) fn push_bytes(value: &[u8], out: &mut Vec<u8>) {
    push_length(value.len(), (0, 0), Some(0xc4), 0xc5, out);
    out.extend_from_slice(value);
}

pub(super) fn push_text(value: &str, out: &mut Vec<u8>) {
    push_length(value.len(), (0xa0, 32), Some(0xd9), 0xda, out);
    out.extend_from_slice(value.as_bytes());
}

/// A length, as a marker of its own below `fix.1`, or after the marker for 8 (where there is one), 16 or 32 bits.
fn push_length(length: usize, fix: (u8, u8), marker8: Option<u8>, marker16: u8, out: &mut Vec<u8>) {
    match (u8::try_from(length), u16::try_from(length), marker8) {
        (Ok(length), _, _) if length < fix.1 => out.push(fix.0 | length),
        (Ok(length), _, Some(marker8)) => put(marker8, [length], out),
        (_, Ok(length), _) => put(marker16, length.to_be_bytes(), out),
        // Pages and requests end long before 32 bits do.
        _ => put(marker16 + 1, u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes(), out),
    }
}

pub(super) fn put<const N: usize>(marker: u8, bytes: [u8; N], out: &mut Vec<u8>) {
    out.push(marker);
    out.extend_from_slice(&bytes);
}
