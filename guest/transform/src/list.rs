//! Lists, in the form that values of nested types have in columns.
//!
//! The number of elements, then each: 0 where it is null, otherwise the length of its bytes plus one, and the bytes. Numbers are
//! little-endian base 128, values are little-endian.

/// A list. An element may be null.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List<T>(pub Vec<Option<T>>);

impl<T> List<T> {
    /// Its elements that are not null.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self(values.into_iter().map(Some).collect())
    }
}

/// A type that elements of lists can have.
pub trait Element: Sized {
    /// The element's type, as definitions write it.
    fn dtype() -> &'static str;

    /// The value of these bytes.
    fn decode(bytes: &[u8]) -> Option<Self>;

    /// Appends the bytes of a value.
    fn encode(&self, out: &mut Vec<u8>);
}

macro_rules! element {
    ($type:ty, $dtype:literal, |$bytes:ident| $from:expr, |$value:ident| $into:expr) => {
        impl Element for $type {
            fn dtype() -> &'static str {
                $dtype
            }

            fn decode($bytes: &[u8]) -> Option<Self> {
                $from
            }

            fn encode(&self, out: &mut Vec<u8>) {
                let $value = self;
                out.extend_from_slice(&$into);
            }
        }
    };
}

element!(bool, "bool", |bytes| bytes.first().map(|byte| *byte != 0), |value| [u8::from(*value)]);
element!(i32, "int32", |bytes| Some(Self::from_le_bytes(bytes.try_into().ok()?)), |value| value.to_le_bytes());
element!(i64, "int64", |bytes| Some(Self::from_le_bytes(bytes.try_into().ok()?)), |value| value.to_le_bytes());
element!(f32, "float32", |bytes| Some(Self::from_le_bytes(bytes.try_into().ok()?)), |value| canonical_f32(*value).to_le_bytes());
element!(f64, "float64", |bytes| Some(Self::from_le_bytes(bytes.try_into().ok()?)), |value| canonical_f64(*value).to_le_bytes());
element!(String, "string", |bytes| Self::from_utf8(bytes.to_vec()).ok(), |value| *value.as_bytes());
element!(Vec<u8>, "bytes", |bytes| Some(bytes.to_vec()), |value| **value);
element!(crate::Timestamp, "unix_timestamp", |bytes| Some(Self(i64::from_le_bytes(bytes.try_into().ok()?))), |value| value
    .0
    .to_le_bytes());

/// There is one NaN.
fn canonical_f64(value: f64) -> f64 {
    if value.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { value }
}

fn canonical_f32(value: f32) -> f32 {
    if value.is_nan() { f32::from_bits(0x7fc0_0000) } else { value }
}

impl<T: Element> List<T> {
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let count = read_number(&mut rest)?;
        let mut elements = Vec::new();
        for _ in 0..count {
            let length = read_number(&mut rest)?;
            let Some(length) = length.checked_sub(1) else {
                elements.push(None);
                continue;
            };
            let (element, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            elements.push(Some(T::decode(element)?));
            rest = behind;
        }
        rest.is_empty().then_some(Self(elements))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_number(self.0.len() as u64, &mut bytes);
        let mut one = Vec::new();
        for element in &self.0 {
            match element {
                None => write_number(0, &mut bytes),
                Some(element) => {
                    one.clear();
                    element.encode(&mut one);
                    write_number(one.len() as u64 + 1, &mut bytes);
                    bytes.extend_from_slice(&one);
                }
            }
        }
        bytes
    }
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back_as_they_were() {
        let list = List(vec![Some(String::from("a")), None, Some("ü".repeat(100))]);
        let bytes = list.encode();
        assert_eq!(bytes[..4], [3, 2, b'a', 0]);
        assert_eq!(List::decode(&bytes), Some(list));
        let floats: List<f64> = [0.5, -0.0, f64::INFINITY].into_iter().collect();
        assert_eq!(List::decode(&floats.encode()), Some(floats));
    }

    #[test]
    fn damaged_lists_are_none() {
        let bytes = List::from_iter([1_i64, 2]).encode();
        for end in 0..bytes.len() {
            assert_eq!(List::<i64>::decode(&bytes[..end]), None, "{end} bytes");
        }
        assert_eq!(List::<i64>::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(List::<i64>::decode(&[0xff; 12]), None);
    }
}
