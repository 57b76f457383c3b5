//! Reading and writing the bytes of manifests and heads: little-endian, no padding, strings and lists behind their length.

use alloc::{boxed::Box, string::String, vec::Vec};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{Span, Timestamp, ValueType};

/// Bytes that are not what they should be: a manifest or a head is damaged, or of a version that this build cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes are damaged.
    Corrupt {
        /// The structure: `manifest`, `head`.
        structure: &'static str,
        /// The field at fault.
        field: &'static str,
        /// Offset of the field.
        at: usize,
    },
    /// The bytes are of a later format than this build reads.
    Version {
        /// The structure: `manifest`, `head`.
        structure: &'static str,
        /// The version found.
        found: u16,
        /// The latest version that this build reads.
        readable: u16,
    },
}

impl core::fmt::Display for FormatError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Corrupt { structure, field, at } => write!(f, "{structure} is damaged at byte {at}: bad {field}"),
            Self::Version { structure, found, readable } => {
                write!(f, "{structure} has format version {found}, this build reads up to {readable}; update the reader first")
            }
        }
    }
}

impl core::error::Error for FormatError {}

/// What reading gives. The error is boxed: it is large, and every `?` would copy it.
pub(crate) type Read<T> = Result<T, Box<FormatError>>;

/// A cursor over the bytes of one structure.
pub(crate) struct Reader<'a> {
    structure: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Checks magic, version and checksum, and stands behind them.
    pub(crate) fn open(structure: &'static str, bytes: &'a [u8], magic: [u8; 4], version: u16) -> Read<Self> {
        let mut reader = Self { structure, bytes, at: 0 };
        if reader.array::<4>("magic")? != magic {
            return Err(Box::new(FormatError::Corrupt { structure, field: "magic", at: 0 }));
        }
        let found = reader.u16("version")?;
        let flags = reader.u16("flags")?;
        let checksum = reader.u64("checksum")?;
        if found != version {
            return Err(Box::new(FormatError::Version { structure, found, readable: version }));
        }
        if flags != 0 {
            return Err(Box::new(FormatError::Corrupt { structure, field: "flags", at: 6 }));
        }
        if checksum_of(bytes) != checksum {
            return Err(Box::new(FormatError::Corrupt { structure, field: "checksum", at: CHECKSUM_AT }));
        }
        Ok(reader)
    }

    pub(crate) fn finish(self) -> Read<()> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.corrupt("end")) }
    }

    #[cold]
    pub(crate) fn corrupt(&self, field: &'static str) -> Box<FormatError> {
        Box::new(FormatError::Corrupt { structure: self.structure, field, at: self.at })
    }

    pub(crate) fn take(&mut self, count: usize, field: &'static str) -> Read<&'a [u8]> {
        let end = self.at.checked_add(count);
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += count;
                Ok(taken)
            }
            None => Err(self.corrupt(field)),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Read<[u8; N]> {
        self.take(N, field)?.try_into().map_err(|_| self.corrupt(field))
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Read<u8> {
        self.array(field).map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Read<u16> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Read<u32> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Read<u64> {
        self.array(field).map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Read<i64> {
        self.array(field).map(i64::from_le_bytes)
    }

    pub(crate) fn timestamp(&mut self, field: &'static str) -> Read<Timestamp> {
        self.i64(field).map(Timestamp::from_nanos)
    }

    pub(crate) fn span(&mut self, field: &'static str) -> Read<Span> {
        self.i64(field).map(Span::from_nanos)
    }

    pub(crate) fn string(&mut self, field: &'static str) -> Read<String> {
        let length = usize::from(self.u16(field)?);
        let bytes = self.take(length, field)?;
        core::str::from_utf8(bytes).map(String::from).map_err(|_| self.corrupt(field))
    }

    pub(crate) fn value_type(&mut self, field: &'static str) -> Read<ValueType> {
        let text = self.string(field)?;
        ValueType::from_canonical(&text).ok_or_else(|| self.corrupt(field))
    }

    /// A list behind its u16 length. Memory grows with what is read, not with what the length claims.
    pub(crate) fn list<T>(&mut self, field: &'static str, item: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.u16(field)?;
        self.items(usize::from(count), item)
    }

    pub(crate) fn items<T>(&mut self, count: usize, mut item: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

/// The bytes of one structure in the making.
pub(crate) struct Writer {
    bytes: Vec<u8>,
    fits: bool,
}

impl Writer {
    pub(crate) fn new(magic: [u8; 4], version: u16) -> Self {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(&magic);
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&[0; 2 + 8]);
        Self { bytes, fits: true }
    }

    /// The finished bytes with their checksum, or `None` where a string or list was too long for its length field.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        let checksum = checksum_of(&self.bytes);
        self.bytes.get_mut(CHECKSUM_AT..BODY_AT)?.copy_from_slice(&checksum.to_le_bytes());
        self.fits.then_some(self.bytes)
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.raw(&[value]);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn length(&mut self, length: usize) {
        match u16::try_from(length) {
            Ok(length) => self.u16(length),
            Err(_) => self.fits = false,
        }
    }

    pub(crate) fn blob(&mut self, bytes: &[u8]) {
        match u32::try_from(bytes.len()) {
            Ok(length) => {
                self.u32(length);
                self.raw(bytes);
            }
            Err(_) => self.fits = false,
        }
    }

    pub(crate) fn string(&mut self, text: &str) {
        self.length(text.len());
        self.raw(text.as_bytes());
    }

    pub(crate) fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        self.length(items.len());
        for each in items {
            item(self, each);
        }
    }
}

/// xxh3-64 of all that follows the checksum, seeded with the eight bytes before it as a little-endian number.
fn checksum_of(bytes: &[u8]) -> u64 {
    let seed = bytes.first_chunk().map_or(0, |preamble| u64::from_le_bytes(*preamble));
    xxh3_64_with_seed(bytes.get(BODY_AT..).unwrap_or_default(), seed)
}

const CHECKSUM_AT: usize = 4 + 2 + 2;
const BODY_AT: usize = CHECKSUM_AT + 8;
