//! Reading a page in place.

use alloc::{boxed::Box, vec::Vec};
use core::{fmt, ops::Range};

use super::format::*;
use crate::{
    Cell, DIGEST_BYTES, FormatError, KeyHash, KeyPart, PATH_BYTES_MAX, PageKey, Physical, SegmentId, TableSchema, Timestamp,
};

/// A page's bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageError {
    /// The bytes are damaged.
    Corrupt {
        /// What is wrong.
        what: &'static str,
        /// Where, in bytes from the page's start.
        at: usize,
    },
    /// The page is of another format than this build reads.
    Version {
        /// The version found.
        found: u16,
    },
    /// The bytes are a page, but not the one that was asked for.
    WrongPage {
        /// What was asked for.
        expected: Box<PageKey>,
        /// What the page says it is.
        found: Box<PageKey>,
    },
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { what, at } => write!(f, "damaged at byte {at}: {what}"),
            // In the same words as of other structures, which are in every bundle.
            Self::Version { found } => FormatError::Version { structure: "page", found: *found, readable: PAGE_VERSION }.fmt(f),
            Self::WrongPage { expected, found } => write!(f, "expected page {expected}, found page {found}"),
        }
    }
}

impl core::error::Error for PageError {}

/// A page of rows, read in place: nothing is decoded ahead, nothing allocated, and values are borrowed from its bytes.
///
/// Every read checks its bounds, so bytes that no checksum has seen cost at worst an error.
#[derive(Clone, Copy)]
pub struct PageRef<'a> {
    bytes: &'a [u8],
    row_count: u32,
    /// Rows of a patch that stand for rows of the base: the first ones. They have no key.
    patched_rows: u32,
    descriptors_at: usize,
    index_at: usize,
}

impl fmt::Debug for PageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageRef").field("rows", &self.row_count).field("bytes", &self.bytes.len()).finish()
    }
}

/// A column's descriptor.
#[derive(Clone, Copy)]
struct Descriptor {
    encoding: Encoding,
    width: u32,
    extra: u8,
    /// Where the set of the rows that have a cell is; all have one, if there is none.
    set_at: Option<u32>,
    /// Rows that have a cell.
    rows: u32,
    validity_at: Option<usize>,
    data_at: usize,
    aux_at: usize,
    aux_count: usize,
    base: i64,
    physical: Physical,
}

/// A set of numbers in a page: in groups of those that differ in their low bits alone.
struct Set {
    count: usize,
    groups: usize,
    low_bits: u32,
    /// Bits of each of the `groups + 1` fields that say how many numbers there are before a group.
    width: u32,
    ends_at: usize,
    lows_at: usize,
}

impl<'a> PageRef<'a> {
    /// The page with these bytes, after checking all of it: the checksum, that it is the page `expected` of a segment with
    /// `bucket_count` buckets, and that every column's fields fit the page and the schema. A path may be behind the page, which is
    /// not looked at: see [`Trust`](crate::Trust).
    ///
    /// # Errors
    /// As [`PageError`] says.
    pub fn verify(bytes: &'a [u8], expected: &PageKey, bucket_count: u32, schema: &TableSchema) -> Result<Self, PageError> {
        let page = Self::resident(bytes)?;
        if read(page.bytes, CHECKSUM_AT).map(u64::from_le_bytes) != Some(checksum_of(page.bytes)) {
            return Err(corrupt("checksum", CHECKSUM_AT));
        }
        let found = page.key()?;
        if found != *expected {
            return Err(PageError::WrongPage { expected: Box::new(*expected), found: Box::new(found) });
        }
        if page.u32_at(BUCKET_COUNT_AT) != bucket_count {
            return Err(corrupt("bucket count", BUCKET_COUNT_AT));
        }
        if page.index_at != page.descriptor_at(schema.column_count()) {
            return Err(corrupt("column count", COLUMN_COUNT_AT));
        }
        let mut column = 0;
        for key in &schema.keys {
            page.check_column(&mut column, key.key_type.physical(), true)?;
        }
        for view in &schema.views {
            page.check_column(&mut column, Physical::Int, false)?;
            for feature in &view.features {
                page.check_column(&mut column, feature.value_type.physical(), false)?;
            }
        }
        Ok(page)
    }

    /// The page with these bytes, which [`PageRef::verify`] has accepted before. Constant time: nothing but the header is
    /// looked at.
    ///
    /// # Errors
    /// As [`PageError`] says.
    pub fn resident(bytes: &'a [u8]) -> Result<Self, PageError> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or_else(|| corrupt("page size", bytes.len()))?;
        if read(header, MAGIC_AT) != Some(PAGE_MAGIC) {
            return Err(corrupt("magic", MAGIC_AT));
        }
        let u16_at = |at| read(header, at).map_or(0, u16::from_le_bytes);
        let u32_at = |at| read(header, at).map_or(0, u32::from_le_bytes);
        let found = u16_at(VERSION_AT);
        if found != PAGE_VERSION {
            return Err(PageError::Version { found });
        }
        let flags = u16_at(FLAGS_AT);
        if flags > IS_PATCH {
            return Err(corrupt("flags", FLAGS_AT));
        }
        let page_bytes = u32_at(PAGE_BYTES_AT) as usize;
        // What is behind the page is the path to its tree's root, or nothing.
        let path_bytes = bytes.len().wrapping_sub(page_bytes);
        if path_bytes > PATH_BYTES_MAX || !path_bytes.is_multiple_of(DIGEST_BYTES) || page_bytes > PAGE_BYTES_LIMIT {
            return Err(corrupt("page size", PAGE_BYTES_AT));
        }
        let bytes = bytes.get(..page_bytes).unwrap_or_default();
        let row_count = u32_at(ROW_COUNT_AT);
        let column_count = usize::from(u16_at(COLUMN_COUNT_AT));
        let is_patch = flags == IS_PATCH;
        let descriptors_at = if is_patch { PATCH_HEADER_BYTES } else { HEADER_BYTES };
        let index_at = descriptors_at + column_count * DESCRIPTOR_BYTES;
        let patched_rows = if is_patch { read(bytes, PATCHED_ROWS_AT).map_or(u32::MAX, u32::from_le_bytes) } else { 0 };
        // No row is free: its place in the index takes two bytes, that of a patched one a bit at the least.
        let index_bytes = row_count.checked_sub(patched_rows).map(|rows| patched_rows as usize / 8 + 2 * rows as usize);
        if index_bytes.is_none_or(|index_bytes| index_at + index_bytes + TAIL_BYTES > bytes.len()) {
            return Err(corrupt("row count", ROW_COUNT_AT));
        }
        Ok(Self { bytes, row_count, patched_rows, descriptors_at, index_at })
    }

    /// Which page its header says it is.
    ///
    /// # Errors
    /// [`PageError::Corrupt`] where the header ends early.
    pub fn key(&self) -> Result<PageKey, PageError> {
        let segment = read(self.bytes, SEGMENT_AT).map(SegmentId::from_bytes);
        let table = read(self.bytes, TABLE_AT).map(u16::from_le_bytes);
        match (segment, table) {
            (Some(segment), Some(table)) => Ok(PageKey::new(segment, table, self.u32_at(BUCKET_AT))),
            _ => Err(corrupt("segment", SEGMENT_AT)),
        }
    }

    /// Its bytes, without the path behind them.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its rows.
    pub fn row_count(&self) -> u32 {
        self.row_count
    }

    /// Rows of a patch that have no key, but stand for rows of the base: the first ones. 0 in other pages.
    pub fn patched_rows(&self) -> u32 {
        self.patched_rows
    }

    /// Which rows of the base the first rows of a patch stand for: bucket and row, in ascending order.
    ///
    /// # Errors
    /// [`PageError::Corrupt`] where they cannot be read.
    pub fn patched(&self) -> Result<Vec<(u32, u32)>, PageError> {
        if self.patched_rows == 0 {
            return Ok(Vec::new());
        }
        let [set_at, first_bucket, row_bits] = [PLACES_AT, FIRST_BUCKET_AT, ROW_BITS_AT].map(|at| self.u32_at(at));
        let bad = || corrupt("places", set_at as usize);
        let set = self.set(set_at).ok_or_else(bad)?;
        let mut places = Vec::with_capacity(self.patched_rows as usize);
        for group in 0..set.groups {
            for rank in self.group(&set, group).ok_or_else(bad)? {
                let low = self.field(set.lows_at, set.low_bits, rank).ok_or_else(bad)?;
                let place = (group as u64) << set.low_bits | low;
                let bucket = place.checked_shr(row_bits).and_then(|bucket| u32::try_from(bucket).ok()).ok_or_else(bad)?;
                let row = place & !(u64::MAX.checked_shl(row_bits).unwrap_or(0));
                places.push((first_bucket.checked_add(bucket).ok_or_else(bad)?, u32::try_from(row).map_err(|_| bad())?));
            }
        }
        if places.len() == self.patched_rows as usize { Ok(places) } else { Err(bad()) }
    }

    /// The row of this patch that stands for a row of a page of the base; `None` where the base's row is as it was.
    ///
    /// # Errors
    /// [`PageError::Corrupt`] where it cannot be read.
    pub fn find_patched(&self, base: &PageRef<'_>, row: u32) -> Result<Option<u32>, PageError> {
        if self.patched_rows == 0 {
            return Ok(None);
        }
        let bucket = base.u32_at(BUCKET_AT).wrapping_sub(self.u32_at(FIRST_BUCKET_AT));
        let row_bits = self.u32_at(ROW_BITS_AT);
        // Behind the last row of a bucket that has changed, none has, as in buckets before the first, whose numbers wrap.
        if row_bits > 31 || row >> row_bits != 0 {
            return Ok(None);
        }
        let place = u64::from(bucket) << row_bits | u64::from(row);
        let rank = self.rank(self.u32_at(PLACES_AT), place).ok_or_else(|| corrupt("set", PLACES_AT))?;
        Ok(rank.map(|rank| rank as u32))
    }

    /// The row of this key, whose hash is `hash`. The key itself is compared: an equal hash is not enough. Of a patch only rows
    /// with a key are found; for the others there is [`PageRef::find_patched`].
    ///
    /// # Errors
    /// [`PageError::Corrupt`] where a key column cannot be read.
    pub fn find(&self, hash: KeyHash, key: &[KeyPart<'_>]) -> Result<Option<u32>, PageError> {
        self.find_key(hash, key).ok_or_else(|| corrupt("index", self.index_at))
    }

    /// Nothing where the page is damaged.
    fn find_key(&self, hash: KeyHash, key: &[KeyPart<'_>]) -> Option<Option<u32>> {
        let wanted = hash.prefix(self.u32_at(BUCKET_COUNT_AT));
        // Rows with a key are counted from the first of them.
        let rows = self.row_count - self.patched_rows;
        // Prefixes are evenly spread: the row is about as far into the page as its prefix is into u16.
        let mut row = ((u64::from(wanted) * u64::from(rows)) >> 16) as u32;
        while row > 0 && self.prefix(row - 1)? >= wanted {
            row -= 1;
        }
        while row < rows {
            let prefix = self.prefix(row)?;
            if prefix > wanted {
                break;
            }
            if prefix == wanted && self.row_has_key(row, key)? {
                return Some(Some(row + self.patched_rows));
            }
            row += 1;
        }
        Some(None)
    }

    fn row_has_key(&self, row: u32, key: &[KeyPart<'_>]) -> Option<bool> {
        for (column, part) in key.iter().enumerate() {
            let same = match (self.try_cell(row, column)??, part) {
                (Cell::Int(found), KeyPart::Int(wanted)) => found == *wanted,
                (Cell::Bytes(found), KeyPart::Bytes(wanted)) => found == *wanted,
                _ => false,
            };
            if !same {
                return Some(false);
            }
        }
        Some(true)
    }

    fn prefix(&self, row: u32) -> Option<u16> {
        read(self.bytes, self.index_at + 2 * row as usize).map(u16::from_le_bytes)
    }

    /// Column number `column` of the key in a row.
    ///
    /// # Errors
    /// [`PageError::Corrupt`] where it cannot be read, is null, or the row has no key.
    pub fn key_part(&self, row: u32, column: usize) -> Result<KeyPart<'a>, PageError> {
        // Key columns have cells for the rows with a key alone.
        let cell = match row.checked_sub(self.patched_rows) {
            Some(row) => self.cell(row, column)?,
            None => Cell::Null,
        };
        match cell {
            Cell::Int(value) => Ok(KeyPart::Int(value)),
            Cell::Bytes(bytes) => Ok(KeyPart::Bytes(bytes)),
            _ => Err(corrupt("key", self.descriptor_at(column))),
        }
    }

    /// The event time in a row of the view whose time column is `time_column`; `None` where the view has no row there.
    ///
    /// # Errors
    /// [`PageError::Corrupt`] where it cannot be read.
    pub fn event_time(&self, row: u32, time_column: usize) -> Result<Option<Timestamp>, PageError> {
        self.time_in(self.cell(row, time_column)?, time_column)
    }

    /// The event time that a cell of a view's time column is.
    pub(crate) fn time_in(&self, cell: Cell<'_>, time_column: usize) -> Result<Option<Timestamp>, PageError> {
        match cell {
            Cell::Int(nanos) => Ok(Some(Timestamp::from_nanos(nanos))),
            Cell::Null => Ok(None),
            _ => Err(corrupt("event time", self.descriptor_at(time_column))),
        }
    }

    /// The value in a row and column, numbered as [`TableSchema`] says. Null where a patch leaves the base's.
    ///
    /// # Errors
    /// [`PageError::Corrupt`] where it cannot be read.
    #[inline]
    pub fn cell(&self, row: u32, column: usize) -> Result<Cell<'a>, PageError> {
        Ok(self.own_cell(row, column)?.unwrap_or(Cell::Null))
    }

    /// The value in a row and column, numbered as [`TableSchema`] says; `None` where a patch leaves what the base has.
    ///
    /// # Errors
    /// [`PageError::Corrupt`] where it cannot be read.
    #[inline]
    pub fn own_cell(&self, row: u32, column: usize) -> Result<Option<Cell<'a>>, PageError> {
        self.try_cell(row, column).ok_or_else(|| corrupt("column", self.descriptor_at(column)))
    }

    /// Nothing where the page is damaged, or has no such row or column.
    #[inline]
    fn try_cell(&self, row: u32, column: usize) -> Option<Option<Cell<'a>>> {
        if row >= self.row_count || self.descriptor_at(column) >= self.index_at {
            return None;
        }
        let descriptor = self.descriptor(column)?;
        let row = match descriptor.set_at {
            None => row as usize,
            Some(set_at) => match self.rank(set_at, u64::from(row))? {
                Some(rank) => rank,
                None => return Some(None),
            },
        };
        self.read_cell(row, &descriptor).map(Some)
    }

    #[inline(always)]
    fn read_cell(&self, row: usize, column: &Descriptor) -> Option<Cell<'a>> {
        if let Some(validity_at) = column.validity_at {
            let byte = *self.bytes.get(validity_at.saturating_add(row / 8))?;
            if byte >> (row % 8) & 1 == 0 {
                return Some(Cell::Null);
            }
        }
        // Where a column has no fields their width is 0, and all are 0.
        let field = self.field(column.data_at, column.width, row)?;
        match column.encoding {
            Encoding::Null => Some(Cell::Null),
            Encoding::Packed => {
                let bits = column.base.wrapping_add(field as i64);
                Some(number(bits, column.physical))
            }
            Encoding::Decimal => {
                let scaled = column.base.wrapping_add(field as i64);
                let value = scaled as f64 / POWERS_OF_TEN.get(usize::from(column.extra))?;
                Some(match column.physical {
                    Physical::Float32 => Cell::Float32(value as f32),
                    _ => Cell::Float64(value),
                })
            }
            Encoding::Dictionary => {
                let index = usize::try_from(field).ok().filter(|index| *index < column.aux_count)?;
                let bits = match column.physical {
                    Physical::Float32 => {
                        i64::from(u32::from_le_bytes(read(self.bytes, column.aux_at.saturating_add(4 * index))?))
                    }
                    _ => i64::from_le_bytes(read(self.bytes, column.aux_at.saturating_add(8 * index))?),
                };
                Some(number(bits, column.physical))
            }
            Encoding::Bytes => {
                let (start, end) = if column.width == 0 {
                    let length = usize::try_from(column.base).ok()?;
                    (row.checked_mul(length)?, (row + 1).checked_mul(length)?)
                } else {
                    (usize::try_from(field).ok()?, self.offset(column.data_at, column.width, row + 1)?)
                };
                self.heap(column.aux_at, start, end)
            }
            Encoding::BytesDictionary => {
                let index = usize::try_from(field).ok().filter(|index| *index < column.aux_count)?;
                let width = u32::from(column.extra);
                let offset = |index| self.offset(column.aux_at, width, index);
                let heap_at = column.aux_at.saturating_add(packed_bytes(column.aux_count + 1, width));
                self.heap(heap_at, offset(index)?, offset(index + 1)?)
            }
        }
    }

    /// Bytes `start..end` of the heap that begins at `heap_at`.
    fn heap(&self, heap_at: usize, start: usize, end: usize) -> Option<Cell<'a>> {
        self.bytes.get(heap_at.checked_add(start)?..heap_at.checked_add(end)?).map(Cell::Bytes)
    }

    /// Bit field number `index` of those that start at byte `at`, as an offset: a call, where a build for size has one.
    fn offset(&self, at: usize, width: u32, index: usize) -> Option<usize> {
        self.field(at, width, index).and_then(|field| usize::try_from(field).ok())
    }

    /// Bit field number `index` of those that start at byte `at`.
    #[inline(always)]
    fn field(&self, at: usize, width: u32, index: usize) -> Option<u64> {
        if width == 0 {
            return Some(0);
        }
        let bit = index * width as usize;
        let word = u64::from_le_bytes(read(self.bytes, at.saturating_add(bit / 8))?);
        // A width is at most 56, or 64 on a whole byte.
        Some(word >> (bit % 8) & (u64::MAX >> (u64::BITS - width)))
    }

    /// How many numbers of the set at byte `set_at` are less than one of it; `None` where the number is not in it.
    /// Nothing where the page is damaged.
    fn rank(&self, set_at: u32, number: u64) -> Option<Option<usize>> {
        let set = self.set(set_at)?;
        let group = number >> set.low_bits;
        if group >= set.groups as u64 {
            return Some(None);
        }
        let low = number ^ group << set.low_bits;
        for rank in self.group(&set, group as usize)? {
            if self.field(set.lows_at, set.low_bits, rank)? == low {
                return Some(Some(rank));
            }
        }
        Some(None)
    }

    /// Which of a set's numbers are in a group.
    fn group(&self, set: &Set, group: usize) -> Option<Range<usize>> {
        let end = |group| self.offset(set.ends_at, set.width, group).filter(|end| *end <= set.count);
        Some(end(group)?..end(group + 1)?)
    }

    /// The set at byte `set_at`, after checking that it is within the page.
    fn set(&self, set_at: u32) -> Option<Set> {
        let at = set_at as usize;
        let header: [u8; SET_HEADER_BYTES] = read(self.bytes, at)?;
        let [count, groups] = [SET_COUNT_AT, SET_GROUPS_AT].map(|at| read(&header, at).map_or(0, u32::from_le_bytes) as usize);
        let low_bits = u32::from(header[SET_LOW_BITS_AT]);
        let width = width_of(count as u64);
        let ends_at = at + SET_HEADER_BYTES;
        // No page has so much.
        if low_bits > PACKED_BITS_MAX || count > PAGE_BYTES_LIMIT || groups > PAGE_BYTES_LIMIT {
            return None;
        }
        let lows_at = ends_at + packed_bytes(groups + 1, width);
        let end = lows_at + packed_bytes(count, low_bits);
        (end + TAIL_BYTES <= self.bytes.len()).then_some(Set { count, groups, low_bits, width, ends_at, lows_at })
    }

    /// A number of four bytes; 0 where there are none.
    fn u32_at(&self, at: usize) -> u32 {
        read(self.bytes, at).map_or(0, u32::from_le_bytes)
    }

    fn descriptor_at(&self, column: usize) -> usize {
        self.descriptors_at + column * DESCRIPTOR_BYTES
    }

    #[inline]
    fn descriptor(&self, column: usize) -> Option<Descriptor> {
        let raw: [u8; DESCRIPTOR_BYTES] = read(self.bytes, self.descriptor_at(column))?;
        let [encoding, width, extra, flags, ..] = raw;
        let u32_at = |at| read(&raw, at).map_or(0, u32::from_le_bytes) as usize;
        let physical = kind_of(flags >> KIND_SHIFT)?;
        let encoding = Encoding::of(encoding)?;
        if u32::from(width) > PACKED_BITS_MAX && width != 64 || u32::from(extra) > PACKED_BITS_MAX {
            return None;
        }
        let mut start = u32_at(DATA_AT);
        let mut rows = self.row_count;
        let mut set_at = None;
        if flags & HAS_SET != 0 {
            let at = self.u32_at(start);
            rows = self.u32_at(at as usize);
            set_at = Some(at);
            start = start.saturating_add(4);
        }
        let has_validity = flags & HAS_VALIDITY != 0;
        let validity_bytes = if has_validity { (rows as usize).div_ceil(8) } else { 0 };
        Some(Descriptor {
            encoding,
            width: u32::from(width),
            extra,
            set_at,
            rows,
            validity_at: has_validity.then_some(start),
            data_at: start.saturating_add(validity_bytes),
            aux_at: u32_at(AUX_AT),
            aux_count: u32_at(AUX_COUNT_AT),
            base: read(&raw, BASE_AT).map_or(0, i64::from_le_bytes),
            physical,
        })
    }

    /// Checks that a column is of the kind that the schema has, and that all its fields are in the page; goes on to the next.
    fn check_column(&self, column: &mut usize, physical: Physical, is_key: bool) -> Result<(), PageError> {
        let at = self.descriptor_at(*column);
        let fits = self.column_fits(*column, physical, is_key).unwrap_or(false);
        *column += 1;
        if fits { Ok(()) } else { Err(corrupt("column", at)) }
    }

    fn column_fits(&self, column: usize, physical: Physical, is_key: bool) -> Option<bool> {
        let found = self.descriptor(column)?;
        let rows = if is_key { self.row_count - self.patched_rows } else { found.rows } as usize;
        let kind_fits = found.physical == physical
            && match found.encoding {
                Encoding::Null => return Some(true),
                Encoding::Packed | Encoding::Dictionary => physical != Physical::Bytes,
                Encoding::Decimal => {
                    matches!(physical, Physical::Float32 | Physical::Float64) && found.extra <= DECIMAL_EXPONENT_MAX
                }
                Encoding::Bytes | Encoding::BytesDictionary => physical == Physical::Bytes,
            };
        let fields = if found.encoding == Encoding::Bytes && found.width > 0 { rows.checked_add(1)? } else { rows };
        let aux_bytes = match found.encoding {
            Encoding::Dictionary if physical == Physical::Float32 => found.aux_count.checked_mul(4)?,
            Encoding::Dictionary => found.aux_count.checked_mul(8)?,
            Encoding::BytesDictionary => packed_bytes(found.aux_count.checked_add(1)?, u32::from(found.extra)),
            _ => 0,
        };
        let end = self.bytes.len() - TAIL_BYTES;
        // An entry of a dictionary is named by some row, or it would not be there.
        Some(
            kind_fits
                && rows <= self.row_count as usize
                && found.aux_count <= rows
                && found.data_at.checked_add(packed_bytes(fields, found.width))? <= end
                && found.aux_at.checked_add(aux_bytes)? <= end,
        )
    }
}

#[inline]
fn number<'a>(bits: i64, physical: Physical) -> Cell<'a> {
    match physical {
        Physical::Float32 => Cell::Float32(f32::from_bits(bits as u32)),
        Physical::Float64 => Cell::Float64(f64::from_bits(bits as u64)),
        Physical::Int | Physical::Bytes => Cell::Int(bits),
    }
}

fn corrupt(what: &'static str, at: usize) -> PageError {
    PageError::Corrupt { what, at }
}

// Always, since a build for size would call it, and most reads of a page are of a few bytes.
#[inline(always)]
fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
