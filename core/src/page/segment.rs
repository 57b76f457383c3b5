//! A segment's file: the pages of one table, bucket by bucket, and behind them where each begins.

use alloc::vec::Vec;
use core::ops::Range;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{FormatError, SegmentId};

/// The bytes of magic at the end of a segment's file.
pub const SEGMENT_MAGIC: [u8; 4] = *b"MZSG";
/// The version of the segment file's format.
pub const SEGMENT_VERSION: u16 = 1;
/// Bytes of the footer, the end of a segment's file. The index is right before it.
pub const SEGMENT_FOOTER_BYTES: usize = PREAMBLE_AT + 4 + 2 + 2;

const SEGMENT_AT: usize = 0;
const PAGES_BYTES_AT: usize = SEGMENT_AT + 16;
const ROW_COUNT_AT: usize = PAGES_BYTES_AT + 8;
const BUCKET_COUNT_AT: usize = ROW_COUNT_AT + 8;
const TABLE_AT: usize = BUCKET_COUNT_AT + 4;
const RESERVED_AT: usize = TABLE_AT + 2;
const CHECKSUM_AT: usize = RESERVED_AT + 2;
const PREAMBLE_AT: usize = CHECKSUM_AT + 8;

/// Where the fields of the footer begin and end, by their names in docs/FORMAT.md.
#[cfg(test)]
pub(super) const FIELDS: [(&str, usize, usize); 9] = [
    ("segment", SEGMENT_AT, PAGES_BYTES_AT),
    ("pages bytes", PAGES_BYTES_AT, ROW_COUNT_AT),
    ("row count", ROW_COUNT_AT, BUCKET_COUNT_AT),
    ("bucket count", BUCKET_COUNT_AT, TABLE_AT),
    ("table", TABLE_AT, RESERVED_AT),
    ("reserved", RESERVED_AT, CHECKSUM_AT),
    ("checksum", CHECKSUM_AT, PREAMBLE_AT),
    ("magic", PREAMBLE_AT, PREAMBLE_AT + 4),
    ("flags", PREAMBLE_AT + 6, SEGMENT_FOOTER_BYTES),
];

/// The end of a segment's file in the making: says where the pages are that were written before it.
#[derive(Clone, Debug)]
pub struct SegmentWriter {
    segment: SegmentId,
    table: u16,
    pages_bytes: u64,
    row_count: u64,
    lengths: Vec<u32>,
}

impl SegmentWriter {
    /// For the pages of this table of this segment.
    pub const fn new(segment: SegmentId, table: u16) -> Self {
        Self { segment, table, pages_bytes: 0, row_count: 0, lengths: Vec::new() }
    }

    /// Notes the next bucket's page.
    pub fn push(&mut self, page_bytes: u32, rows: u32) {
        self.lengths.push(page_bytes);
        self.pages_bytes += u64::from(page_bytes);
        self.row_count += u64::from(rows);
    }

    /// Bytes of all pages so far.
    pub const fn pages_bytes(&self) -> u64 {
        self.pages_bytes
    }

    /// Rows of all pages so far.
    pub const fn row_count(&self) -> u64 {
        self.row_count
    }

    /// Index and footer: what comes behind the pages.
    ///
    /// # Errors
    /// `None` where there are more than u32 counts.
    pub fn finish(&self) -> Option<Vec<u8>> {
        let bucket_count = u32::try_from(self.lengths.len()).ok()?;
        let mut out = Vec::with_capacity(self.lengths.len() * 4 + SEGMENT_FOOTER_BYTES);
        self.lengths.iter().for_each(|length| out.extend_from_slice(&length.to_le_bytes()));
        out.extend_from_slice(&self.segment.bytes());
        out.extend_from_slice(&self.pages_bytes.to_le_bytes());
        out.extend_from_slice(&self.row_count.to_le_bytes());
        out.extend_from_slice(&bucket_count.to_le_bytes());
        out.extend_from_slice(&self.table.to_le_bytes());
        out.extend_from_slice(&[0; CHECKSUM_AT - RESERVED_AT]);
        let mut preamble = [0; 8];
        for (slot, byte) in preamble.iter_mut().zip(SEGMENT_MAGIC.into_iter().chain(SEGMENT_VERSION.to_le_bytes())) {
            *slot = byte;
        }
        let checksum = xxh3_64_with_seed(&out, u64::from_le_bytes(preamble));
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&preamble);
        Some(out)
    }
}

/// Where the pages of a segment's file are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentIndex {
    /// The segment.
    pub segment: SegmentId,
    /// The table's number in the manifest.
    pub table: u16,
    /// Rows in all pages.
    pub row_count: u64,
    /// Where each bucket's page ends.
    ends: Vec<u64>,
}

impl SegmentIndex {
    /// How many bytes at the end of a file to read for [`SegmentIndex::decode`], from its last [`SEGMENT_FOOTER_BYTES`].
    ///
    /// # Errors
    /// [`FormatError`] where they are not the footer of a segment's file.
    pub fn tail_bytes(footer: &[u8]) -> Result<u64, FormatError> {
        let footer: &[u8; SEGMENT_FOOTER_BYTES] = footer.last_chunk().ok_or_else(|| corrupt("footer", footer.len()))?;
        if array(footer, PREAMBLE_AT) != Some(SEGMENT_MAGIC) {
            return Err(corrupt("magic", PREAMBLE_AT));
        }
        let version = array(footer, PREAMBLE_AT + 4).map_or(0, u16::from_le_bytes);
        if version != SEGMENT_VERSION {
            return Err(FormatError::Version { structure: STRUCTURE, found: version, readable: SEGMENT_VERSION });
        }
        if array(footer, PREAMBLE_AT + 6) != Some([0; 2]) || array(footer, RESERVED_AT) != Some([0; 2]) {
            return Err(corrupt("flags", PREAMBLE_AT + 6));
        }
        let bucket_count = array(footer, BUCKET_COUNT_AT).map_or(0, u32::from_le_bytes);
        Ok(u64::from(bucket_count) * 4 + SEGMENT_FOOTER_BYTES as u64)
    }

    /// Reads index and footer.
    ///
    /// # Errors
    /// [`FormatError`] where they are damaged or of a later version.
    pub fn decode(tail: &[u8]) -> Result<Self, FormatError> {
        if Self::tail_bytes(tail)? != tail.len() as u64 {
            return Err(corrupt("index", 0));
        }
        let (index, footer) = tail.split_last_chunk::<SEGMENT_FOOTER_BYTES>().ok_or_else(|| corrupt("footer", tail.len()))?;
        let seed = array(footer, PREAMBLE_AT).map_or(0, u64::from_le_bytes);
        let hashed = tail.get(..index.len() + CHECKSUM_AT).unwrap_or_default();
        if array(footer, CHECKSUM_AT).map(u64::from_le_bytes) != Some(xxh3_64_with_seed(hashed, seed)) {
            return Err(corrupt("checksum", index.len() + CHECKSUM_AT));
        }
        let mut end = 0_u64;
        let ends: Vec<u64> = index
            .chunks_exact(4)
            .map(|length| {
                end += u64::from(array(length, 0).map_or(0, u32::from_le_bytes));
                end
            })
            .collect();
        if array(footer, PAGES_BYTES_AT).map(u64::from_le_bytes) != Some(end) {
            return Err(corrupt("pages' bytes", index.len() + PAGES_BYTES_AT));
        }
        Ok(Self {
            segment: SegmentId::from_bytes(array(footer, SEGMENT_AT).unwrap_or_default()),
            table: array(footer, TABLE_AT).map_or(0, u16::from_le_bytes),
            row_count: array(footer, ROW_COUNT_AT).map_or(0, u64::from_le_bytes),
            ends,
        })
    }

    /// Its buckets.
    pub fn bucket_count(&self) -> u32 {
        // As many as the footer said.
        self.ends.len() as u32
    }

    /// Bytes of all pages: where the index begins.
    pub fn pages_bytes(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Where in the file a bucket's page is.
    pub fn page_range(&self, bucket: u32) -> Option<Range<u64>> {
        let bucket = bucket as usize;
        let end = *self.ends.get(bucket)?;
        let start = match bucket.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        Some(start..end)
    }
}

const STRUCTURE: &str = "segment file";

const fn corrupt(field: &'static str, at: usize) -> FormatError {
    FormatError::Corrupt { structure: STRUCTURE, field, at }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_segment_says_where_its_pages_are() {
        let mut writer = SegmentWriter::new(SegmentId::from_bytes([7; 16]), 3);
        writer.push(100, 5);
        writer.push(0, 0);
        writer.push(33, 2);
        let tail = writer.finish().expect("it is small");
        assert_eq!(SegmentIndex::tail_bytes(&tail), Ok(tail.len() as u64));
        let index = SegmentIndex::decode(&tail).expect("it was just written");
        assert_eq!((index.segment, index.table, index.row_count), (SegmentId::from_bytes([7; 16]), 3, 7));
        let ranges: Vec<_> = (0..4).map(|bucket| index.page_range(bucket)).collect();
        assert_eq!(ranges, vec![Some(0..100), Some(100..100), Some(100..133), None]);
    }

    #[test]
    fn no_byte_of_it_changes_unseen() {
        let mut writer = SegmentWriter::new(SegmentId::from_bytes([7; 16]), 3);
        writer.push(100, 5);
        let tail = writer.finish().expect("it is small");
        for at in 0..tail.len() {
            let mut damaged = tail.clone();
            damaged[at] ^= 1;
            assert!(SegmentIndex::decode(&damaged).is_err(), "byte {at}");
            assert!(SegmentIndex::decode(&tail[..at]).is_err(), "prefix {at}");
        }
    }
}
