//! Writing a page: every column in the smallest of its encodings.

use alloc::vec::Vec;
use core::{cmp::Ordering, fmt, ops::Range};

use xxhash_rust::xxh3::xxh3_64;

use super::format::*;
use crate::{KeyHash, PageKey, Physical};

/// The values of one column, a value per row. Where a row has none, any value may stand.
#[derive(Clone, Copy, Debug)]
pub enum ColumnData<'a> {
    /// Text, bytes and payloads of nested types: run `i` is `data[offsets[i]..offsets[i + 1]]`.
    Bytes {
        /// One more than there are rows, never falling.
        offsets: &'a [u32],
        /// What the offsets point into.
        data: &'a [u8],
    },
    /// `float32`, NaN canonical.
    Float32(&'a [f32]),
    /// `float64`, NaN canonical.
    Float64(&'a [f64]),
    /// `bool`, `int32`, `int64`, nanoseconds of a `unix_timestamp`.
    Int(&'a [i64]),
}

/// A column of a page in the making.
#[derive(Clone, Copy, Debug)]
pub struct ColumnInput<'a> {
    /// Its values.
    pub data: ColumnData<'a>,
    /// Which rows have a value; all, if not given.
    pub validity: Option<&'a [bool]>,
}

/// The rows of one view.
#[derive(Clone, Copy, Debug)]
pub struct ViewInput<'a> {
    /// Event times in nanoseconds, without the segment's time shift.
    pub times: &'a [i64],
    /// For which rows the view has one; for all, if not given.
    pub present: Option<&'a [bool]>,
    /// Its features, in the schema's order.
    pub features: &'a [ColumnInput<'a>],
}

/// The rows of a page: sorted by hash, rows of equal hash by key; no key twice.
#[derive(Clone, Copy, Debug)]
pub struct PageInput<'a> {
    /// Which page it is.
    pub key: PageKey,
    /// Buckets of its segment.
    pub bucket_count: u32,
    /// The hash of each row's key.
    pub hashes: &'a [KeyHash],
    /// The key columns, in canonical order, none null.
    pub keys: &'a [ColumnInput<'a>],
    /// The views, in the schema's order.
    pub views: &'a [ViewInput<'a>],
}

/// A page of a delta: what differs from rows of a base, and whole rows that the base has not.
#[derive(Clone, Copy, Debug)]
pub struct PatchInput<'a> {
    /// Hashes and keys are those of the rows that are not in the base. The views have all rows: first those of the base, in order of
    /// their places, then the others.
    pub page: PageInput<'a>,
    /// Bucket and row in the base of the rows that are there: ascending, none twice.
    pub places: &'a [(u32, u32)],
    /// For each column behind the keys, which rows have another cell than the base. Those of the others are written where that takes
    /// no more bytes than to say which they are.
    pub own: &'a [&'a [bool]],
}

/// The rows do not make a page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageWriteError {
    /// A column has another number of rows than there are hashes, or its offsets do not fit its data.
    BadColumn {
        /// Its number in the page.
        column: usize,
    },
    /// The place in the base of a patched row is not behind that of the row before, or too far from the first.
    BadPlace {
        /// The row.
        row: usize,
    },
    /// A row's hash is not of this bucket, or less than that of the row before.
    OutOfOrder {
        /// The row.
        row: usize,
    },
    /// The page would be above [`PAGE_BYTES_LIMIT`].
    TooLarge {
        /// What it would take, or more.
        bytes: usize,
    },
}

impl fmt::Display for PageWriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadColumn { column } => write!(f, "column {column} has not as many values as the page has rows"),
            Self::BadPlace { row } => write!(f, "the place of row {row} is not behind that of the row before"),
            Self::OutOfOrder { row } => write!(f, "row {row} is not in the order of its hash or not of this bucket"),
            Self::TooLarge { bytes } => write!(f, "the page takes {bytes} bytes or more, {PAGE_BYTES_LIMIT} are allowed"),
        }
    }
}

impl core::error::Error for PageWriteError {}

/// Writes pages; its buffers are used again from page to page.
#[derive(Debug, Default)]
pub struct PageWriter {
    numbers: Vec<u64>,
    codes: Vec<u64>,
    table: Table,
    descriptors_at: usize,
    /// Where in the page the sets of rows are.
    sets: Vec<Range<usize>>,
    picked: Picked,
}

/// Cells of some rows of a column.
#[derive(Debug, Default)]
struct Picked {
    offsets: Vec<u32>,
    data: Vec<u8>,
    float32: Vec<f32>,
    float64: Vec<f64>,
    int: Vec<i64>,
    validity: Vec<bool>,
}

impl Picked {
    /// Those of the rows that `own` says; `None` where the column has not as many.
    fn pick(&mut self, input: &ColumnInput<'_>, own: &[bool]) -> Option<ColumnInput<'_>> {
        fn some<T: Copy>(from: &[T], own: &[bool], to: &mut Vec<T>) -> Option<()> {
            to.clear();
            to.extend(from.iter().zip(own).filter(|(_, own)| **own).map(|(value, _)| *value));
            (from.len() == own.len()).then_some(())
        }
        let validity = match input.validity {
            Some(validity) => {
                some(validity, own, &mut self.validity)?;
                Some(self.validity.as_slice())
            }
            None => None,
        };
        let data = match input.data {
            ColumnData::Int(values) => {
                some(values, own, &mut self.int)?;
                ColumnData::Int(&self.int)
            }
            ColumnData::Float32(values) => {
                some(values, own, &mut self.float32)?;
                ColumnData::Float32(&self.float32)
            }
            ColumnData::Float64(values) => {
                some(values, own, &mut self.float64)?;
                ColumnData::Float64(&self.float64)
            }
            ColumnData::Bytes { offsets, data } => {
                self.offsets.clear();
                self.data.clear();
                self.offsets.push(0);
                for (pair, own) in offsets.windows(2).zip(own) {
                    let ([from, to], true) = (pair, own) else { continue };
                    self.data.extend_from_slice(data.get(*from as usize..*to as usize)?);
                    self.offsets.push(u32::try_from(self.data.len()).ok()?);
                }
                if offsets.len() != own.len() + 1 {
                    return None;
                }
                ColumnData::Bytes { offsets: &self.offsets, data: &self.data }
            }
        };
        Some(ColumnInput { data, validity })
    }
}

impl PageWriter {
    /// A writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a page to `out`. The same rows make the same bytes.
    ///
    /// # Errors
    /// [`PageWriteError`]; `out` is as it was then.
    pub fn write(&mut self, input: &PageInput<'_>, out: &mut Vec<u8>) -> Result<(), PageWriteError> {
        self.write_or_restore(input, None, out)
    }

    /// Appends a page of a delta to `out`. The same rows make the same bytes.
    ///
    /// # Errors
    /// [`PageWriteError`]; `out` is as it was then.
    pub fn write_patch(&mut self, input: &PatchInput<'_>, out: &mut Vec<u8>) -> Result<(), PageWriteError> {
        self.write_or_restore(&input.page, Some(input), out)
    }

    fn write_or_restore(
        &mut self,
        input: &PageInput<'_>,
        patch: Option<&PatchInput<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), PageWriteError> {
        let start = out.len();
        let written = self.write_page(input, patch, start, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn write_page(
        &mut self,
        input: &PageInput<'_>,
        patch: Option<&PatchInput<'_>>,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), PageWriteError> {
        let keyed_rows = input.hashes.len();
        let places = patch.map_or(&[][..], |patch| patch.places);
        let rows = places.len() + keyed_rows;
        let column_count = input.keys.len() + input.views.iter().map(|view| 1 + view.features.len()).sum::<usize>();
        let too_large = |bytes| PageWriteError::TooLarge { bytes };
        let columns = u16::try_from(column_count).map_err(|_| too_large(column_count * DESCRIPTOR_BYTES))?;
        let row_count = u32::try_from(rows).map_err(|_| too_large(rows * 2))?;

        out.extend_from_slice(&PAGE_MAGIC);
        out.extend_from_slice(&PAGE_VERSION.to_le_bytes());
        out.extend_from_slice(&(if patch.is_some() { IS_PATCH } else { 0 }).to_le_bytes());
        out.extend_from_slice(&[0; SEGMENT_AT - CHECKSUM_AT]);
        out.extend_from_slice(&input.key.segment.bytes());
        out.extend_from_slice(&[0; BUCKET_AT - PAGE_BYTES_AT]);
        out.extend_from_slice(&input.key.bucket.to_le_bytes());
        out.extend_from_slice(&input.bucket_count.to_le_bytes());
        out.extend_from_slice(&row_count.to_le_bytes());
        out.extend_from_slice(&input.key.table.to_le_bytes());
        out.extend_from_slice(&columns.to_le_bytes());
        if patch.is_some() {
            out.resize(start + PATCH_HEADER_BYTES, 0);
        }
        self.descriptors_at = out.len();
        out.resize(out.len() + column_count * DESCRIPTOR_BYTES, 0);
        let mut last = None;
        for (row, hash) in input.hashes.iter().enumerate() {
            if last > Some(*hash) || hash.bucket(input.bucket_count) != input.key.bucket {
                return Err(PageWriteError::OutOfOrder { row });
            }
            last = Some(*hash);
            out.extend_from_slice(&hash.prefix(input.bucket_count).to_le_bytes());
        }
        self.sets.clear();
        if !places.is_empty() {
            self.write_places(places, start, out)?;
        }

        let mut column = 0;
        for key in input.keys {
            self.write_column(key, keyed_rows, None, start, column, out)?;
            column += 1;
        }
        for view in input.views {
            let times = ColumnInput { data: ColumnData::Int(view.times), validity: view.present };
            for input_column in core::iter::once(&times).chain(view.features) {
                match patch.map(|patch| patch.own.get(column - input.keys.len()).copied().unwrap_or_default()) {
                    None => self.write_column(input_column, rows, None, start, column, out)?,
                    Some(own) if own.len() != rows => return Err(PageWriteError::BadColumn { column }),
                    Some(own) => self.write_own(input_column, own, start, column, out)?,
                }
                column += 1;
            }
        }
        out.extend_from_slice(&[0; TAIL_BYTES]);

        let bytes = out.len() - start;
        let size = u32::try_from(bytes).ok().filter(|_| bytes <= PAGE_BYTES_LIMIT).ok_or_else(|| too_large(bytes))?;
        patch_bytes(out, start + PAGE_BYTES_AT, size.to_le_bytes());
        let checksum = checksum_of(out.get(start..).unwrap_or_default());
        patch_bytes(out, start + CHECKSUM_AT, checksum.to_le_bytes());
        Ok(())
    }

    /// Writes the set of the places of patched rows, and where it is. A place is a number: above the row in the base's page its bucket,
    /// counted from the first.
    fn write_places(&mut self, places: &[(u32, u32)], start: usize, out: &mut Vec<u8>) -> Result<(), PageWriteError> {
        let first_bucket = places.first().map_or(0, |(bucket, _)| *bucket);
        let row_bits = places.iter().map(|(_, row)| u32::BITS - row.leading_zeros()).max().unwrap_or(0);
        self.numbers.clear();
        for (row, (bucket, base_row)) in places.iter().enumerate() {
            let buckets = bucket.checked_sub(first_bucket).filter(|_| row_bits < 24).ok_or(PageWriteError::BadPlace { row })?;
            let number = u64::from(buckets) << row_bits | u64::from(*base_row);
            if self.numbers.last().is_some_and(|last| *last >= number) {
                return Err(PageWriteError::BadPlace { row });
            }
            self.numbers.push(number);
        }
        let set_at = out.len() - start;
        write_set(&self.numbers, out);
        patch_bytes(out, start + PATCHED_ROWS_AT, (places.len() as u32).to_le_bytes());
        patch_bytes(out, start + PLACES_AT, (set_at as u32).to_le_bytes());
        patch_bytes(out, start + FIRST_BUCKET_AT, first_bucket.to_le_bytes());
        patch_bytes(out, start + ROW_BITS_AT, row_bits.to_le_bytes());
        Ok(())
    }

    /// Writes a column of a patch: the cells of the rows that have their own, or all, whatever is smaller.
    fn write_own(
        &mut self,
        input: &ColumnInput<'_>,
        own: &[bool],
        start: usize,
        column: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), PageWriteError> {
        let rows = own.len();
        let cells = own.iter().filter(|own| **own).count();
        if cells == rows {
            return self.write_column(input, rows, None, start, column, out);
        }
        let (at, sets) = (out.len(), self.sets.len());
        let set_at = self.write_set_of(own, start, out);
        let mut picked = core::mem::take(&mut self.picked);
        let written = picked.pick(input, own).ok_or(PageWriteError::BadColumn { column });
        let written = written.and_then(|input| self.write_column(&input, cells, Some(set_at), start, column, out));
        self.picked = picked;
        written?;
        // Few cells and where they are take less than many.
        if cells * DENSE < rows {
            return Ok(());
        }
        let some = out.split_off(at);
        let descriptor_at = self.descriptors_at + column * DESCRIPTOR_BYTES;
        let descriptor: Option<[u8; DESCRIPTOR_BYTES]> = out.get(descriptor_at..).and_then(|rest| rest.first_chunk().copied());
        self.write_column(input, rows, None, start, column, out)?;
        if out.len() - at <= some.len() {
            self.sets.truncate(sets);
        } else if let Some(descriptor) = descriptor {
            out.truncate(at);
            out.extend_from_slice(&some);
            patch_bytes(out, descriptor_at, descriptor);
        }
        Ok(())
    }

    /// Where the set of these rows is in the page; writes it if there is none like it yet. Columns of one view mostly share one.
    fn write_set_of(&mut self, own: &[bool], start: usize, out: &mut Vec<u8>) -> usize {
        self.numbers.clear();
        self.numbers.extend((0_u64..).zip(own).filter(|(_, own)| **own).map(|(row, _)| row));
        let set_at = out.len() - start;
        write_set(&self.numbers, out);
        let new = out.get(start + set_at..).unwrap_or_default();
        let known = self.sets.iter().find(|known| out.get(start + known.start..start + known.end) == Some(new));
        match known {
            Some(known) => {
                out.truncate(start + set_at);
                known.start
            }
            None => {
                self.sets.push(set_at..out.len() - start);
                set_at
            }
        }
    }

    /// `rows` of them have a cell: those of the set at `set_at`, or all.
    fn write_column(
        &mut self,
        input: &ColumnInput<'_>,
        rows: usize,
        set_at: Option<usize>,
        start: usize,
        column: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), PageWriteError> {
        let bad = PageWriteError::BadColumn { column };
        let count = match input.data {
            ColumnData::Bytes { offsets, .. } => offsets.len().checked_sub(1).ok_or_else(|| bad.clone())?,
            ColumnData::Float32(values) => values.len(),
            ColumnData::Float64(values) => values.len(),
            ColumnData::Int(values) => values.len(),
        };
        if count != rows || input.validity.is_some_and(|validity| validity.len() != rows) {
            return Err(bad);
        }
        let valid = input.validity.map_or(rows, |validity| validity.iter().filter(|valid| **valid).count());
        let validity = if valid == rows { None } else { input.validity };
        let at = out.len() - start;
        let mut descriptor = Descriptor::new(at);
        if let Some(set_at) = set_at {
            descriptor.flags |= HAS_SET;
            out.extend_from_slice(&(set_at as u32).to_le_bytes());
        }
        if valid == 0 {
            descriptor.data_at = if set_at.is_some() { at } else { 0 };
        } else {
            if let Some(validity) = validity {
                descriptor.flags |= HAS_VALIDITY;
                write_validity(validity, out);
            }
            match input.data {
                ColumnData::Int(values) => {
                    self.numbers.clear();
                    self.numbers.extend(values.iter().map(|value| *value as u64));
                    self.write_numbers(Physical::Int, validity, None, start, &mut descriptor, out);
                }
                ColumnData::Float64(values) => {
                    self.numbers.clear();
                    self.numbers.extend(values.iter().map(|value| value.to_bits()));
                    let decimal = decimal(
                        values.iter().copied(),
                        validity,
                        |scaled, power| (scaled as f64 / power).to_bits(),
                        f64::to_bits,
                        &mut self.codes,
                    );
                    self.write_numbers(Physical::Float64, validity, decimal, start, &mut descriptor, out);
                }
                ColumnData::Float32(values) => {
                    self.numbers.clear();
                    self.numbers.extend(values.iter().map(|value| u64::from(value.to_bits())));
                    let decimal = decimal(
                        values.iter().map(|value| f64::from(*value)),
                        validity,
                        |scaled, power| u64::from(((scaled as f64 / power) as f32).to_bits()),
                        |value| u64::from((value as f32).to_bits()),
                        &mut self.codes,
                    );
                    self.write_numbers(Physical::Float32, validity, decimal, start, &mut descriptor, out);
                }
                ColumnData::Bytes { offsets, data } => {
                    self.write_bytes(offsets, data, validity, start, &mut descriptor, out).ok_or(bad)?;
                }
            }
        }
        let kind = match input.data {
            ColumnData::Bytes { .. } => Physical::Bytes,
            ColumnData::Float32(_) => Physical::Float32,
            ColumnData::Float64(_) => Physical::Float64,
            ColumnData::Int(_) => Physical::Int,
        };
        descriptor.flags |= kind_code(kind) << KIND_SHIFT;
        let bytes = out.len() - start;
        if bytes > PAGE_BYTES_LIMIT {
            return Err(PageWriteError::TooLarge { bytes });
        }
        patch_bytes(out, self.descriptors_at + column * DESCRIPTOR_BYTES, descriptor.bytes());
        Ok(())
    }

    /// Writes `self.numbers`: as they are, as the decimals in `self.codes`, or as a dictionary, whatever is smallest.
    fn write_numbers(
        &mut self,
        physical: Physical,
        validity: Option<&[bool]>,
        decimal: Option<(u8, i64)>,
        start: usize,
        descriptor: &mut Descriptor,
        out: &mut Vec<u8>,
    ) {
        let rows = self.numbers.len();
        let signed = physical == Physical::Int;
        let (base, width) = frame(&self.numbers, validity, signed);
        let mut best = packed_bytes(rows, width);
        if let Some((exponent, decimal_base)) = decimal {
            let decimal_width = width_of(self.codes.iter().copied().max().unwrap_or(0));
            if packed_bytes(rows, decimal_width) < best {
                best = packed_bytes(rows, decimal_width);
                descriptor.encoding = Encoding::Decimal;
                descriptor.extra = exponent;
                descriptor.base = decimal_base;
                descriptor.width = decimal_width;
            }
        }
        if descriptor.encoding != Encoding::Decimal {
            descriptor.encoding = Encoding::Packed;
            descriptor.base = base as i64;
            descriptor.width = width;
        }
        let value_bytes = if physical == Physical::Float32 { 4 } else { 8 };
        if let Some(distinct) = self.table.distinct(&self.numbers, validity, best, value_bytes) {
            descriptor.encoding = Encoding::Dictionary;
            descriptor.extra = 0;
            descriptor.base = 0;
            descriptor.width = width_of(distinct.saturating_sub(1) as u64);
            descriptor.aux_count = distinct;
            // With the sign bit turned, the order of signed numbers is that of unsigned ones.
            let turn = if signed { 1 << 63 } else { 0 };
            self.table.codes(|a, b| (a ^ turn).cmp(&(b ^ turn)), &mut self.numbers);
            write_fields(&self.numbers, descriptor.width, out);
            descriptor.aux_at = out.len() - start;
            for value in &self.table.values {
                match value_bytes {
                    4 => out.extend_from_slice(&(*value as u32).to_le_bytes()),
                    _ => out.extend_from_slice(&value.to_le_bytes()),
                }
            }
        } else if descriptor.encoding == Encoding::Decimal {
            write_fields(&self.codes, descriptor.width, out);
        } else {
            for (row, number) in self.numbers.iter_mut().enumerate() {
                *number = if is_valid(validity, row) { number.wrapping_sub(base) } else { 0 };
            }
            write_fields(&self.numbers, width, out);
        }
    }

    /// Writes byte runs: each of its own, or once each behind a dictionary. `None` where the offsets do not fit.
    fn write_bytes(
        &mut self,
        offsets: &[u32],
        data: &[u8],
        validity: Option<&[bool]>,
        start: usize,
        descriptor: &mut Descriptor,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let rows = offsets.len().saturating_sub(1);
        let mut runs: Vec<&[u8]> = Vec::with_capacity(rows);
        for (row, pair) in offsets.windows(2).enumerate() {
            let [from, to] = pair else { return None };
            let run = data.get(*from as usize..*to as usize)?;
            runs.push(if is_valid(validity, row) { run } else { &[] });
        }
        let heap_bytes: usize = runs.iter().map(|run| run.len()).sum();
        let mut valid = runs.iter().enumerate().filter(|(row, _)| is_valid(validity, *row)).map(|(_, run)| run.len());
        let length = valid.next().unwrap_or(0);
        let constant = valid.all(|other| other == length);

        let offset_width = width_of(heap_bytes as u64);
        let plain = if constant { rows * length } else { packed_bytes(rows + 1, offset_width) + heap_bytes };
        let distinct_bytes = self.table.distinct_runs(&runs, validity, plain);
        let count = self.table.values.len();
        let code_width = width_of(count.saturating_sub(1) as u64);
        let dictionary_width = width_of(distinct_bytes.unwrap_or(0) as u64);
        let dictionary = distinct_bytes
            .map_or(usize::MAX, |bytes| packed_bytes(rows, code_width) + packed_bytes(count + 1, dictionary_width) + bytes);
        self.numbers.clear();
        if dictionary < plain && dictionary_width <= PACKED_BITS_MAX {
            let run = |row: &u64| runs.get(*row as usize).copied().unwrap_or_default();
            self.table.codes(|a, b| run(a).cmp(run(b)), &mut self.numbers);
            descriptor.encoding = Encoding::BytesDictionary;
            descriptor.width = code_width;
            descriptor.extra = dictionary_width as u8;
            descriptor.aux_count = count;
            write_fields(&self.numbers, code_width, out);
            descriptor.aux_at = out.len() - start;
            self.codes.clear();
            self.codes.push(0);
            let mut end = 0;
            for row in &self.table.values {
                end += run(row).len() as u64;
                self.codes.push(end);
            }
            write_fields(&self.codes, dictionary_width, out);
            self.table.values.iter().for_each(|row| out.extend_from_slice(run(row)));
            return Some(());
        }
        descriptor.encoding = Encoding::Bytes;
        if constant {
            descriptor.base = i64::try_from(length).ok()?;
            descriptor.aux_at = out.len() - start;
            for run in &runs {
                out.extend_from_slice(run);
                out.resize(out.len() + length - run.len(), 0);
            }
            return Some(());
        }
        descriptor.width = offset_width;
        self.numbers.push(0);
        let mut end = 0;
        for run in &runs {
            end += run.len() as u64;
            self.numbers.push(end);
        }
        write_fields(&self.numbers, offset_width, out);
        descriptor.aux_at = out.len() - start;
        runs.iter().for_each(|run| out.extend_from_slice(run));
        Some(())
    }
}

#[derive(Debug)]
struct Descriptor {
    encoding: Encoding,
    width: u32,
    extra: u8,
    flags: u8,
    data_at: usize,
    aux_at: usize,
    aux_count: usize,
    base: i64,
}

impl Descriptor {
    const fn new(data_at: usize) -> Self {
        Self { encoding: Encoding::Null, width: 0, extra: 0, flags: 0, data_at, aux_at: 0, aux_count: 0, base: 0 }
    }

    fn bytes(&self) -> [u8; DESCRIPTOR_BYTES] {
        let mut bytes = [0; DESCRIPTOR_BYTES];
        // All of these are within a page, and so far below u32's end.
        let word = |value: usize| (value as u32).to_le_bytes();
        patch_bytes(&mut bytes, ENCODING_AT, [self.encoding.code(), self.width as u8, self.extra, self.flags]);
        patch_bytes(&mut bytes, DATA_AT, word(self.data_at));
        patch_bytes(&mut bytes, AUX_AT, word(self.aux_at));
        patch_bytes(&mut bytes, AUX_COUNT_AT, word(self.aux_count));
        patch_bytes(&mut bytes, BASE_AT, self.base.to_le_bytes());
        bytes
    }
}

/// The distinct values of a column: numbers, or rows that stand for runs of bytes.
#[derive(Debug, Default)]
struct Table {
    /// Open addressing: the place of a number in `values`, plus one; 0 is free.
    slots: Vec<u32>,
    values: Vec<u64>,
    /// Room for values.
    most: usize,
    /// Per row, the place of its value in `values`; anything where it has none.
    places: Vec<u32>,
    order: Vec<u32>,
    ranks: Vec<u64>,
}

impl Table {
    /// Finds the distinct valid numbers, if a dictionary of them takes less than `best` bytes; gives up as soon as not.
    fn distinct(&mut self, numbers: &[u64], validity: Option<&[bool]>, best: usize, value_bytes: usize) -> Option<usize> {
        // One bit a row and two values at the least, or it cannot pay.
        let most = best.saturating_sub(packed_bytes(numbers.len(), 1)) / value_bytes;
        self.clear(if most < 2 { 0 } else { most.min(numbers.len() / 2) });
        if most < 2 {
            return None;
        }
        for (row, number) in numbers.iter().enumerate() {
            if !is_valid(validity, row) {
                self.places.push(0);
            } else if !self.insert(number.wrapping_mul(GOLDEN_RATIO), *number, |known| known == *number) {
                return None;
            }
        }
        let width = width_of(self.values.len().saturating_sub(1) as u64);
        let bytes = packed_bytes(numbers.len(), width) + self.values.len() * value_bytes;
        (bytes < best).then_some(self.values.len())
    }

    /// Finds the distinct valid runs, as the first row of each, and how many bytes they have; gives up where they alone are
    /// not less than `best`.
    fn distinct_runs(&mut self, runs: &[&[u8]], validity: Option<&[bool]>, best: usize) -> Option<usize> {
        self.clear(runs.len());
        let mut bytes = 0;
        for (row, run) in runs.iter().enumerate() {
            if !is_valid(validity, row) {
                self.places.push(0);
                continue;
            }
            let before = self.values.len();
            self.insert(xxh3_64(run), row as u64, |known| runs.get(known as usize) == Some(run));
            if self.values.len() > before {
                bytes += run.len();
                if bytes + self.values.len() > best {
                    return None;
                }
            }
        }
        Some(bytes)
    }

    /// Empties it, with room for `most` values.
    fn clear(&mut self, most: usize) {
        self.most = most;
        self.values.clear();
        self.places.clear();
        self.slots.clear();
        self.slots.resize((most * 2 + 2).next_power_of_two(), 0);
    }

    /// Gives the next row the place of `value`. False where there is no room for one more.
    #[inline]
    fn insert(&mut self, hash: u64, value: u64, same: impl Fn(u64) -> bool) -> bool {
        let mask = self.slots.len() - 1;
        let mut slot = (hash >> 32) as usize & mask;
        loop {
            match self.slots.get_mut(slot) {
                Some(free) if *free == 0 => {
                    if self.values.len() >= self.most {
                        return false;
                    }
                    self.values.push(value);
                    *free = self.values.len() as u32;
                    self.places.push(*free - 1);
                    return true;
                }
                Some(taken) if self.values.get(*taken as usize - 1).is_some_and(|known| same(*known)) => {
                    self.places.push(*taken - 1);
                    return true;
                }
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    /// Puts the values in order, so that the bytes do not depend on that of the rows, and gives each row its value's place.
    fn codes(&mut self, order: impl Fn(&u64, &u64) -> Ordering, codes: &mut Vec<u64>) {
        let values = &self.values;
        let value = |place: &u32| values.get(*place as usize).copied().unwrap_or(0);
        self.order.clear();
        self.order.extend(0..values.len() as u32);
        self.order.sort_unstable_by(|a, b| order(&value(a), &value(b)));
        self.ranks.clear();
        self.ranks.resize(values.len(), 0);
        for (rank, place) in (0..).zip(&self.order) {
            if let Some(slot) = self.ranks.get_mut(*place as usize) {
                *slot = rank;
            }
        }
        codes.clear();
        codes.extend(self.places.iter().map(|place| self.ranks.get(*place as usize).copied().unwrap_or(0)));
        self.values.sort_unstable_by(order);
    }
}

/// 2^64 over the golden ratio: a multiplier that spreads neighbours.
const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;

#[inline]
fn is_valid(validity: Option<&[bool]>, row: usize) -> bool {
    validity.is_none_or(|validity| validity.get(row).copied().unwrap_or(false))
}

/// The least valid number, and the bits that the distance from it to the greatest takes.
fn frame(numbers: &[u64], validity: Option<&[bool]>, signed: bool) -> (u64, u32) {
    // With the sign bit turned, the order of signed numbers is that of unsigned ones.
    let turn = if signed { 1 << 63 } else { 0 };
    let mut least = u64::MAX;
    let mut greatest = 0;
    match validity {
        None => {
            for number in numbers {
                least = least.min(number ^ turn);
                greatest = greatest.max(number ^ turn);
            }
        }
        Some(validity) => {
            for (number, _) in numbers.iter().zip(validity).filter(|(_, valid)| **valid) {
                least = least.min(number ^ turn);
                greatest = greatest.max(number ^ turn);
            }
        }
    }
    if least > greatest {
        return (0, 0);
    }
    (least ^ turn, width_of(greatest - least))
}

/// Whether every valid value is a whole number over one small power of ten, exactly; then the exponent and the least of
/// the whole numbers, and in `fields` the distance of each to it.
fn decimal(
    values: impl Iterator<Item = f64> + Clone,
    validity: Option<&[bool]>,
    back: impl Fn(i64, f64) -> u64,
    bits: impl Fn(f64) -> u64,
    fields: &mut Vec<u64>,
) -> Option<(u8, i64)> {
    let valid = |row| is_valid(validity, row);
    let scaled = |value: f64, power: f64| {
        let product = value * power;
        // Half a unit is added by hand: rounding is not in `core`, and a conversion drops the rest.
        let whole = (product + if product < 0.0 { -0.5 } else { 0.5 }) as i64;
        (whole.unsigned_abs() < DECIMAL_WHOLE_LIMIT && back(whole, power) == bits(value)).then_some(whole)
    };
    let mut exponent = 0;
    for (_, value) in values.clone().enumerate().filter(|(row, _)| valid(*row)) {
        while POWERS_OF_TEN.get(exponent).is_some_and(|power| scaled(value, *power).is_none()) {
            exponent += 1;
        }
        if exponent >= POWERS_OF_TEN.len() {
            return None;
        }
    }
    let power = *POWERS_OF_TEN.get(exponent)?;
    let mut least = i64::MAX;
    fields.clear();
    for (row, value) in values.enumerate() {
        let whole = if valid(row) { scaled(value, power)? } else { i64::MAX };
        least = least.min(whole);
        fields.push(whole as u64);
    }
    for (row, field) in fields.iter_mut().enumerate() {
        *field = if valid(row) { field.wrapping_sub(least as u64) } else { 0 };
    }
    Some((u8::try_from(exponent).ok()?, least))
}

/// Whole numbers below this are exact in binary64.
const DECIMAL_WHOLE_LIMIT: u64 = 1 << 53;

fn write_validity(validity: &[bool], out: &mut Vec<u8>) {
    out.extend(
        validity.chunks(8).map(|rows| rows.iter().enumerate().fold(0_u8, |byte, (bit, valid)| byte | u8::from(*valid) << bit)),
    );
}

/// Appends bit fields, the first in the lowest bits of the first byte.
fn write_fields(fields: &[u64], width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    if width == u64::BITS {
        fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
        return;
    }
    let at = out.len();
    let bytes = packed_bytes(fields.len(), width);
    // Each field is put into eight bytes at once; the last may reach past its own.
    out.resize(at + bytes + 8, 0);
    for (index, field) in fields.iter().enumerate() {
        let bit = index * width as usize;
        if let Some(slot) = out.get_mut(at + bit / 8..).and_then(|rest| rest.first_chunk_mut()) {
            *slot = (u64::from_le_bytes(*slot) | field << (bit % 8)).to_le_bytes();
        }
    }
    out.truncate(at + bytes);
}

/// Appends a set of numbers in ascending order: in as many low bits a number as take the fewest bytes with the ends of the groups.
fn write_set(numbers: &[u64], out: &mut Vec<u8>) {
    let last = numbers.last().copied();
    let width = width_of(numbers.len() as u64);
    let groups = |low_bits: u32| last.map_or(0, |last| (last >> low_bits) + 1);
    let bytes = |low_bits: u32| {
        let ends = u128::from(groups(low_bits) + 1) * u128::from(width);
        ends.div_ceil(8) + u128::from(low_bits) * numbers.len() as u128 / 8
    };
    let low_bits = (0..=PACKED_BITS_MAX).min_by_key(|low_bits| bytes(*low_bits)).unwrap_or(0);
    let groups = groups(low_bits);
    out.extend_from_slice(&(numbers.len() as u32).to_le_bytes());
    // As many as take the fewest bytes: not many more than there are numbers.
    out.extend_from_slice(&(groups as u32).to_le_bytes());
    out.push(low_bits as u8);
    let mut fields = Vec::with_capacity(numbers.len() + 1);
    fields.push(0);
    fields.extend((0..groups).map(|group| numbers.partition_point(|number| number >> low_bits <= group) as u64));
    write_fields(&fields, width, out);
    fields.clear();
    fields.extend(numbers.iter().map(|number| number & !(u64::MAX << low_bits)));
    write_fields(&fields, low_bits, out);
}

/// With fewer cells than a row in so many, a column of all rows is not even tried.
const DENSE: usize = 8;

/// Puts bytes where room was left for them.
fn patch_bytes<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(slot) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *slot = bytes;
    }
}
