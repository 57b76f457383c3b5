//! Calls and their results as bytes. Numbers are little-endian, lists stand behind the count of their elements:
//!
//! - a call: `u32` number of the transform, `u32` rows, `u64` fuel, `u32` bytes of memory, `u64` bytes of output, the columns;
//! - a result: `u8` 0 and the columns, or 1 and what the transform said of its failure, or 2 and the letter that says why it was
//!   stopped;
//! - columns: `u32` count, and each: `u8` lane (0 integers, 1 floats, 2 bytes), `u8` whether it says which values are null, the
//!   lists of its lane (`i64`; `f64`; `u32` offsets and `u8`), and if it says so a list of `u8`.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use mezze_core::{ExpressionColumn, TransformCall, TransformFault, Values};

use crate::fault::stopped;

/// The bytes of a call; `None` where it has more of something than a number of 32 bits can say.
pub(crate) fn of_call(number: usize, call: &TransformCall<'_>) -> Option<Vec<u8>> {
    let limits = &call.transform.limits;
    let mut out = Vec::new();
    put_count(&mut out, number)?;
    put_count(&mut out, call.rows)?;
    out.extend_from_slice(&limits.fuel_of(call.rows).to_le_bytes());
    out.extend_from_slice(&limits.memory_bytes.to_le_bytes());
    out.extend_from_slice(&limits.output_bytes_of(call.rows).to_le_bytes());
    put_columns(&mut out, call.inputs)?;
    Some(out)
}

/// What came of a call.
pub(crate) fn read_result(bytes: &[u8], call: &TransformCall<'_>) -> Result<Vec<ExpressionColumn<'static>>, TransformFault> {
    let odd = || stopped(b'b', call);
    match bytes {
        [0, columns @ ..] => {
            let mut from = Reader(columns);
            from.columns().filter(|_| from.0.is_empty()).ok_or_else(odd)
        }
        [1, message @ ..] => Err(core::str::from_utf8(message).map_or_else(|_| odd(), TransformFault::refused)),
        [2, letter] => Err(stopped(*letter, call)),
        _ => Err(odd()),
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) -> Option<()> {
    out.extend_from_slice(&u32::try_from(count).ok()?.to_le_bytes());
    Some(())
}

fn put_list<T: Copy, const N: usize>(out: &mut Vec<u8>, values: &[T], bytes_of: fn(T) -> [u8; N]) -> Option<()> {
    put_count(out, values.len())?;
    out.reserve(values.len().saturating_mul(N));
    values.iter().for_each(|value| out.extend_from_slice(&bytes_of(*value)));
    Some(())
}

fn put_columns(out: &mut Vec<u8>, columns: &[ExpressionColumn<'_>]) -> Option<()> {
    put_count(out, columns.len())?;
    for column in columns {
        let lane = match column.values {
            Values::Null | Values::Int(_) => INTS,
            Values::Float(_) => FLOATS,
            Values::Bytes { .. } => BYTES,
        };
        out.extend_from_slice(&[lane, u8::from(column.valid.is_some())]);
        match &column.values {
            // The core hands over none of it.
            Values::Null => put_count(out, 0)?,
            Values::Int(values) => put_list(out, values, i64::to_le_bytes)?,
            Values::Float(values) => put_list(out, values, f64::to_le_bytes)?,
            Values::Bytes { offsets, data, .. } => {
                put_list(out, offsets, u32::to_le_bytes)?;
                put_count(out, data.len())?;
                out.extend_from_slice(data);
            }
        }
        if let Some(valid) = &column.valid {
            put_count(out, valid.len())?;
            out.extend_from_slice(valid);
        }
    }
    Some(())
}

/// What is left to read. `None` comes of bytes that are not what they should be; nothing is made for what is not there.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn count(&mut self) -> Option<usize> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    }

    fn list<T, const N: usize>(&mut self, of_bytes: fn([u8; N]) -> T) -> Option<Vec<T>> {
        let count = self.count()?;
        let (values, _) = self.take(count.checked_mul(N)?)?.as_chunks();
        Some(values.iter().map(|bytes| of_bytes(*bytes)).collect())
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let count = self.count()?;
        self.take(count).map(<[u8]>::to_vec)
    }

    fn columns(&mut self) -> Option<Vec<ExpressionColumn<'static>>> {
        // Each takes some bytes, so there are no more than can be read.
        (0..self.count()?).map(|_| self.column()).collect()
    }

    fn column(&mut self) -> Option<ExpressionColumn<'static>> {
        let (lane, has_valid) = (self.u8()?, self.u8()?);
        let values = match lane {
            INTS => Values::Int(self.list(i64::from_le_bytes)?.into()),
            FLOATS => Values::Float(self.list(f64::from_le_bytes)?.into()),
            BYTES => {
                let offsets = self.list(u32::from_le_bytes)?;
                Values::Bytes { offsets, data: self.bytes()?.into(), constant: false }
            }
            _ => return None,
        };
        let valid = match has_valid {
            0 => None,
            1 => Some(Cow::Owned(self.bytes()?)),
            _ => return None,
        };
        Some(ExpressionColumn { values, valid })
    }
}

const INTS: u8 = 0;
const FLOATS: u8 = 1;
const BYTES: u8 = 2;

#[cfg(test)]
mod tests {
    use alloc::vec;

    use mezze_core::{Transform, TransformFaultKind, TransformId, TransformLimits};

    use super::*;

    fn columns() -> Vec<ExpressionColumn<'static>> {
        vec![
            ExpressionColumn::ints(vec![i64::MIN, -1, i64::MAX], None),
            ExpressionColumn::floats(vec![-0.0, f64::INFINITY, 0.1], Some(vec![1, 0, 1])),
            ExpressionColumn {
                values: Values::Bytes { offsets: vec![0, 2, 2, 3], data: b"abc"[..].into(), constant: false },
                valid: Some(vec![1, 0, 1].into()),
            },
            ExpressionColumn {
                values: Values::Bytes { offsets: vec![0; 4], data: Cow::Borrowed(&[]), constant: false },
                valid: None,
            },
            ExpressionColumn::ints(Vec::new(), Some(Vec::new())),
        ]
    }

    fn with_call<T>(inputs: &[ExpressionColumn<'_>], use_it: impl FnOnce(&TransformCall<'_>) -> T) -> T {
        let limits = TransformLimits { fuel: 10, memory_bytes: 20, output_bytes: 30, millis: 40 };
        let transform = Transform { id: TransformId::from_bytes([0; 32]), limits };
        use_it(&TransformCall { transform: &transform, rows: 3, inputs, input_types: &[], outputs: &[] })
    }

    fn read(bytes: &[u8]) -> Result<Vec<ExpressionColumn<'static>>, TransformFault> {
        with_call(&[], |call| read_result(bytes, call))
    }

    fn result() -> Vec<u8> {
        let mut bytes = vec![0];
        put_columns(&mut bytes, &columns()).unwrap();
        bytes
    }

    fn is_odd(bytes: &[u8]) -> bool {
        read(bytes).is_err_and(|fault| fault.kind == TransformFaultKind::BadOutput)
    }

    #[test]
    fn a_call_is_as_documented() {
        let inputs = [
            ExpressionColumn::ints(vec![1], None),
            ExpressionColumn {
                values: Values::Bytes { offsets: vec![0, 1], data: b"a"[..].into(), constant: false },
                valid: Some(vec![1].into()),
            },
        ];
        let bytes = with_call(&inputs, |call| of_call(5, call)).unwrap();
        let mut expected = vec![5, 0, 0, 0, 3, 0, 0, 0];
        expected.extend([40, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 120, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([2, 0, 0, 0]);
        expected.extend([0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, b'a', 1, 0, 0, 0, 1]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn columns_come_back_as_they_were() {
        assert_eq!(read(&result()), Ok(columns()));
        assert_eq!(read(&[0, 0, 0, 0, 0]), Ok(Vec::new()));
    }

    #[test]
    fn a_refusal_and_a_stop_come_back() {
        let fault = read(&[b"\x01", "row 1: é".as_bytes()].concat()).unwrap_err();
        assert_eq!((fault.kind, fault.message.as_str()), (TransformFaultKind::Refused, "row 1: é"));
        assert_eq!(read(&[1]).unwrap_err().kind, TransformFaultKind::Refused);
        assert_eq!(read(b"\x02t").unwrap_err().kind, TransformFaultKind::Trap);
        assert_eq!(read(b"\x02m").unwrap_err().kind, TransformFaultKind::Memory);
    }

    #[test]
    fn what_is_cut_or_goes_on_is_odd() {
        let whole = result();
        for end in 0..whole.len() {
            assert!(is_odd(&whole[..end]), "{end}");
        }
        assert!(is_odd(&[&whole[..], &[0]].concat()));
        for odd in [&b"\x02"[..], b"\x02tt", b"\x01\xff", b"\x03"] {
            assert!(is_odd(odd), "{odd:?}");
        }
    }

    #[test]
    fn odd_bytes_are_read_without_harm() {
        let whole = result();
        for at in 0..whole.len() {
            for value in [0, 1, 2, 3, 0x7f, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                // It is read or refused.
                let _ = read(&damaged);
            }
        }
        // More than there is.
        assert!(is_odd(&[0, 0xff, 0xff, 0xff, 0xff]));
        assert!(is_odd(&[0, 1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]));
    }
}
