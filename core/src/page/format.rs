//! The layout of a page, offset by offset. docs/FORMAT.md says the same in tables; a test holds them together.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Physical;

/// The first bytes of a page.
pub const PAGE_MAGIC: [u8; 4] = *b"MZPG";
/// The version of the page format.
pub const PAGE_VERSION: u16 = 1;
/// A page is never larger.
pub const PAGE_BYTES_LIMIT: usize = 1_000_000;
/// A page is at most this large, unless a single row needs more.
pub const PAGE_BYTES_MAX_DEFAULT: usize = 65_536;
/// A row is refused beyond this.
pub const ROW_BYTES_MAX: usize = 262_144;

pub(crate) const MAGIC_AT: usize = 0;
pub(crate) const VERSION_AT: usize = MAGIC_AT + 4;
pub(crate) const FLAGS_AT: usize = VERSION_AT + 2;
pub(crate) const CHECKSUM_AT: usize = FLAGS_AT + 2;
pub(crate) const SEGMENT_AT: usize = CHECKSUM_AT + 8;
pub(crate) const PAGE_BYTES_AT: usize = SEGMENT_AT + 16;
pub(crate) const BUCKET_AT: usize = PAGE_BYTES_AT + 4;
pub(crate) const BUCKET_COUNT_AT: usize = BUCKET_AT + 4;
pub(crate) const ROW_COUNT_AT: usize = BUCKET_COUNT_AT + 4;
pub(crate) const TABLE_AT: usize = ROW_COUNT_AT + 4;
pub(crate) const COLUMN_COUNT_AT: usize = TABLE_AT + 2;
pub(crate) const HEADER_BYTES: usize = COLUMN_COUNT_AT + 2;

/// The bit of a page's flags that says that it is a patch: its rows are what differs from those of a base.
pub(crate) const IS_PATCH: u16 = 1;
/// What a patch has between header and descriptors.
pub(crate) const PATCHED_ROWS_AT: usize = HEADER_BYTES;
pub(crate) const PLACES_AT: usize = PATCHED_ROWS_AT + 4;
pub(crate) const FIRST_BUCKET_AT: usize = PLACES_AT + 4;
pub(crate) const ROW_BITS_AT: usize = FIRST_BUCKET_AT + 4;
pub(crate) const PATCH_HEADER_BYTES: usize = ROW_BITS_AT + 4;

/// A set of numbers begins with how many there are, how many groups, and how many low bits those of a group differ in.
pub(crate) const SET_COUNT_AT: usize = 0;
pub(crate) const SET_GROUPS_AT: usize = SET_COUNT_AT + 4;
pub(crate) const SET_LOW_BITS_AT: usize = SET_GROUPS_AT + 4;
pub(crate) const SET_HEADER_BYTES: usize = SET_LOW_BITS_AT + 1;

/// Bytes of a column's descriptor. The directory of descriptors follows the header.
pub(crate) const DESCRIPTOR_BYTES: usize = BASE_AT + 8;
pub(crate) const ENCODING_AT: usize = 0;
pub(crate) const WIDTH_AT: usize = ENCODING_AT + 1;
pub(crate) const EXTRA_AT: usize = WIDTH_AT + 1;
pub(crate) const COLUMN_FLAGS_AT: usize = EXTRA_AT + 1;
pub(crate) const DATA_AT: usize = COLUMN_FLAGS_AT + 1;
pub(crate) const AUX_AT: usize = DATA_AT + 4;
pub(crate) const AUX_COUNT_AT: usize = AUX_AT + 4;
pub(crate) const BASE_AT: usize = AUX_COUNT_AT + 4;

/// Zero bytes at the end of a page, so that eight bytes can be read at any byte of its data.
pub(crate) const TAIL_BYTES: usize = 8;
/// Bit fields are at most this wide, or 64: a field and the bits before it in its first byte then fit into eight bytes.
pub(crate) const PACKED_BITS_MAX: u32 = 56;
/// The largest power of ten that a decimal float is divided by: every power up to it is exact in binary64.
pub(crate) const DECIMAL_EXPONENT_MAX: u8 = 15;

/// How the values of a column lie in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// No row has a value.
    Null,
    /// Bit fields; a value is `base` plus its field, wrapping: an integer, or the bits of a float.
    Packed,
    /// Bit fields; a float is (`base` + field) / 10^extra.
    Decimal,
    /// Bit fields that index a table of eight-byte (binary32: four-byte) values.
    Dictionary,
    /// Bit fields that hold `row_count + 1` offsets into a heap; of width 0: every value has `base` bytes.
    Bytes,
    /// Bit fields that index a list of byte runs, whose offsets are fields of `extra` bits, their heap behind them.
    BytesDictionary,
}

impl Encoding {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Packed => 1,
            Self::Decimal => 2,
            Self::Dictionary => 3,
            Self::Bytes => 4,
            Self::BytesDictionary => 5,
        }
    }

    pub(crate) const fn of(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Null,
            1 => Self::Packed,
            2 => Self::Decimal,
            3 => Self::Dictionary,
            4 => Self::Bytes,
            5 => Self::BytesDictionary,
            _ => return None,
        })
    }
}

/// The bit of a column's flags that says that it begins with validity bits.
pub(crate) const HAS_VALIDITY: u8 = 1;
/// The bit of a column's flags that says that it has cells for some rows only: it begins with where their set is.
pub(crate) const HAS_SET: u8 = 2;
/// Where in a column's flags its kind begins.
pub(crate) const KIND_SHIFT: u32 = 4;

/// The number of a column's kind in its flags.
pub(crate) const fn kind_code(physical: Physical) -> u8 {
    match physical {
        Physical::Int => 0,
        Physical::Float32 => 1,
        Physical::Float64 => 2,
        Physical::Bytes => 3,
    }
}

/// The kind of column that a number stands for.
pub(crate) const fn kind_of(code: u8) -> Option<Physical> {
    Some(match code {
        0 => Physical::Int,
        1 => Physical::Float32,
        2 => Physical::Float64,
        3 => Physical::Bytes,
        _ => return None,
    })
}

/// The checksum of a page: xxh3-64 of all that follows the checksum, seeded with the eight bytes before it as a
/// little-endian number.
pub(crate) fn checksum_of(page: &[u8]) -> u64 {
    let seed = page.first_chunk().map_or(0, |preamble| u64::from_le_bytes(*preamble));
    xxh3_64_with_seed(page.get(SEGMENT_AT..).unwrap_or_default(), seed)
}

/// 10^0 to 10^15.
pub(crate) const POWERS_OF_TEN: [f64; DECIMAL_EXPONENT_MAX as usize + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Bytes that `count` bit fields of `width` take.
pub(crate) const fn packed_bytes(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// The narrowest width that holds `value` and can be read with one load.
pub(crate) const fn width_of(value: u64) -> u32 {
    let bits = u64::BITS - value.leading_zeros();
    if bits > PACKED_BITS_MAX { u64::BITS } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::segment;
    use crate::{
        HEAD_MAGIC, HEAD_VERSION, INLINE_MANIFEST_BYTES_MAX, KEY_COLUMNS_MAX, MANIFEST_MAGIC, PATH_BYTES_MAX, PREVIOUS_MAX,
    };
    use crate::{PageKey, SEGMENT_FOOTER_BYTES, SEGMENT_MAGIC, SEGMENT_VERSION, SegmentId, TYPE_DEPTH_MAX};
    use crate::{SIGNATURE_MAGIC, SIGNATURE_VERSION};
    use alloc::{format, string::String, string::ToString, vec::Vec};

    const PAGE: &str = include_str!("../../../docs/FORMAT.md");

    /// The cells of the table rows of one section.
    fn rows(section: &str) -> Vec<Vec<String>> {
        let start = PAGE.find(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no section {section}")) + 1;
        let end = PAGE[start + 3..].find("\n## ").map_or(PAGE.len(), |length| start + 3 + length);
        PAGE[start..end]
            .lines()
            .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"))
            .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().into()).collect())
            .collect()
    }

    /// Offset and bytes of a field of a section.
    fn field(section: &str, name: &str) -> (usize, usize) {
        let row = rows(section).into_iter().find(|row| row.len() == 4 && row[2] == name);
        let row = row.unwrap_or_else(|| panic!("{section} has no field {name}"));
        (row[0].parse().expect("an offset is a number"), row[1].parse().expect("a size is a number"))
    }

    #[test]
    fn the_page_on_the_format_has_the_offsets_of_the_code() {
        let ends = [
            ("magic", MAGIC_AT, VERSION_AT),
            ("version", VERSION_AT, FLAGS_AT),
            ("flags", FLAGS_AT, CHECKSUM_AT),
            ("checksum", CHECKSUM_AT, SEGMENT_AT),
            ("segment", SEGMENT_AT, PAGE_BYTES_AT),
            ("page bytes", PAGE_BYTES_AT, BUCKET_AT),
            ("bucket", BUCKET_AT, BUCKET_COUNT_AT),
            ("bucket count", BUCKET_COUNT_AT, ROW_COUNT_AT),
            ("row count", ROW_COUNT_AT, TABLE_AT),
            ("table", TABLE_AT, COLUMN_COUNT_AT),
            ("column count", COLUMN_COUNT_AT, HEADER_BYTES),
            ("encoding", ENCODING_AT, WIDTH_AT),
            ("width", WIDTH_AT, EXTRA_AT),
            ("extra", EXTRA_AT, COLUMN_FLAGS_AT),
            ("column flags", COLUMN_FLAGS_AT, DATA_AT),
            ("data at", DATA_AT, AUX_AT),
            ("aux at", AUX_AT, AUX_COUNT_AT),
            ("aux count", AUX_COUNT_AT, BASE_AT),
            ("base", BASE_AT, DESCRIPTOR_BYTES),
        ];
        for (name, start, end) in ends {
            assert_eq!(field("Page", name), (start, end - start), "{name}");
        }
        let patch = [
            ("patched rows", PATCHED_ROWS_AT, PLACES_AT),
            ("places at", PLACES_AT, FIRST_BUCKET_AT),
            ("first bucket", FIRST_BUCKET_AT, ROW_BITS_AT),
            ("row bits", ROW_BITS_AT, PATCH_HEADER_BYTES),
            ("count", SET_COUNT_AT, SET_GROUPS_AT),
            ("groups", SET_GROUPS_AT, SET_LOW_BITS_AT),
            ("low bits", SET_LOW_BITS_AT, SET_HEADER_BYTES),
        ];
        for (name, start, end) in patch {
            assert_eq!(field("Patch", name), (start, end - start), "{name}");
        }
        for (name, start, end) in segment::FIELDS {
            assert_eq!(field("Segment file", name), (start, end - start), "{name}");
        }
        assert!(PAGE.contains(&format!("A reader takes the last {SEGMENT_FOOTER_BYTES} bytes")));
        assert!(PAGE.contains(&format!("A **descriptor** has {DESCRIPTOR_BYTES} bytes")));
        assert!(PAGE.contains(&format!("and {TAIL_BYTES} zero bytes")));
    }

    #[test]
    fn the_page_on_the_format_has_the_numbers_of_the_code() {
        let encodings = ["null", "packed", "decimal", "dictionary", "bytes", "bytes dictionary"];
        for (code, name) in (0..).zip(encodings) {
            let row = rows("Page").into_iter().find(|row| row[0] == name).expect("the encoding is there");
            assert_eq!(row[1], Encoding::of(code).expect("the code is in use").code().to_string(), "{name}");
        }
        assert_eq!(Encoding::of(encodings.len() as u8), None);
        for (code, name) in (0..).zip(["int", "float32", "float64", "bytes"]) {
            assert!(PAGE.contains(&format!("{code} {name}")), "{name}");
            assert_eq!(kind_of(code).map(kind_code), Some(code));
        }
        let limit = |name: &str| {
            let row = rows("Limits").into_iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no limit {name}"));
            row[1].replace(',', "").parse::<usize>().expect("a limit is a number")
        };
        assert_eq!(limit("bytes of a page"), PAGE_BYTES_LIMIT);
        assert_eq!(limit("bytes that a page is aimed to stay under"), PAGE_BYTES_MAX_DEFAULT);
        assert_eq!(limit("bytes of a row, encoded alone"), ROW_BYTES_MAX);
        assert_eq!(limit("columns of a page"), usize::from(u16::MAX));
        assert_eq!(limit("join keys of a table"), KEY_COLUMNS_MAX);
        assert_eq!(limit("bytes of a manifest inside a head"), INLINE_MANIFEST_BYTES_MAX);
        assert_eq!(limit("snapshots before the current one that a head names"), PREVIOUS_MAX);
        assert_eq!(limit("bytes of the path behind a page"), PATH_BYTES_MAX);
        assert_eq!(limit("nesting of a type"), TYPE_DEPTH_MAX);
        assert!(PAGE.contains(&format!("extra is at most {DECIMAL_EXPONENT_MAX}")));
        assert!(PAGE.contains(&format!("0 to {PACKED_BITS_MAX}, or 64")));
        let longest = PageKey::new(SegmentId::from_bytes([255; 16]), u16::MAX, u32::MAX).to_string().len();
        assert!(PAGE.contains(&format!("The longest key has {longest} bytes.")));
    }

    #[test]
    fn the_page_on_the_format_has_the_magic_and_versions_of_the_code() {
        for magic in [PAGE_MAGIC, SEGMENT_MAGIC, MANIFEST_MAGIC, HEAD_MAGIC, SIGNATURE_MAGIC] {
            let text = core::str::from_utf8(&magic).expect("magic is text");
            assert!(PAGE.contains(&format!("`{text}`")), "{text}");
        }
        for version in [PAGE_VERSION, SEGMENT_VERSION, crate::MANIFEST_VERSION, HEAD_VERSION, SIGNATURE_VERSION] {
            let newest = rows("Version history").pop().expect("there is a version");
            assert_eq!(newest[0], version.to_string());
        }
    }
}
