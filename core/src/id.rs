//! Names of immutable things: segments, snapshots and pages.

use core::fmt;
use core::str::FromStr;

macro_rules! content_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn bytes(self) -> [u8; 16] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse(text).map(Self)
            }
        }
    };
}

content_id! {
    /// The id of a segment: a hash of all that decides its content, known before its first page is made. 32 hex digits.
    SegmentId
}

content_id! {
    /// The id of a snapshot: a hash of its encoded manifest. 32 hex digits.
    SnapshotId
}

/// The text is not 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseIdError;

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 32 lower-case hex digits")
    }
}

impl core::error::Error for ParseIdError {}

fn parse(text: &str) -> Result<[u8; 16], ParseIdError> {
    let mut id = [0; 16];
    if text.len() != 32 {
        return Err(ParseIdError);
    }
    for (slot, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return Err(ParseIdError),
            };
            *slot = *slot << 4 | value;
        }
    }
    Ok(id)
}

/// The name of a page: which bucket of which table of which segment. Its [`Display`](fmt::Display) form is its key in a
/// key-value store: `p/<segment>/<table>/<bucket>`, at most 51 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct PageKey {
    /// The segment.
    pub segment: SegmentId,
    /// The table's number in the manifest.
    pub table: u16,
    /// The bucket within the segment.
    pub bucket: u32,
}

impl PageKey {
    /// The page of this bucket.
    pub const fn new(segment: SegmentId, table: u16, bucket: u32) -> Self {
        Self { segment, table, bucket }
    }
}

impl fmt::Display for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p/{}/{}/{}", self.segment, self.table, self.bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn ids_read_back_and_pages_have_keys() {
        let id: SegmentId = "000102030405060708090a0b0c0d0eff".parse().expect("it is an id");
        assert_eq!(PageKey::new(id, 1, 20).to_string(), "p/000102030405060708090a0b0c0d0eff/1/20");
        assert!("000102030405060708090A0b0c0d0eff".parse::<SegmentId>().is_err());
        assert!("0001".parse::<SnapshotId>().is_err());
    }
}
