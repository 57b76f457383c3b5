//! Columns in the form that pages have.

use mezze_core::{Cell, ColumnData, ColumnInput, KeyPart, Physical};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Values of one column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) data: Data,
    /// Which rows have a value; all, if not given.
    pub(crate) validity: Option<Vec<bool>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    Bytes { offsets: Vec<u32>, bytes: Vec<u8> },
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Int(Vec<i64>),
}

/// No row.
pub(crate) const NONE: u32 = u32::MAX;

impl Column {
    pub(crate) fn new(physical: Physical) -> Self {
        let data = match physical {
            Physical::Bytes => Data::Bytes { offsets: vec![0], bytes: Vec::new() },
            Physical::Float32 => Data::Float32(Vec::new()),
            Physical::Float64 => Data::Float64(Vec::new()),
            Physical::Int => Data::Int(Vec::new()),
        };
        Self { data, validity: None }
    }

    /// A column of the same kind without rows.
    pub(crate) fn clone_empty(&self) -> Self {
        let data = match &self.data {
            Data::Bytes { .. } => Data::Bytes { offsets: vec![0], bytes: Vec::new() },
            Data::Float32(_) => Data::Float32(Vec::new()),
            Data::Float64(_) => Data::Float64(Vec::new()),
            Data::Int(_) => Data::Int(Vec::new()),
        };
        Self { data, validity: None }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.data {
            Data::Bytes { offsets, .. } => offsets.len().saturating_sub(1),
            Data::Float32(values) => values.len(),
            Data::Float64(values) => values.len(),
            Data::Int(values) => values.len(),
        }
    }

    fn is_valid(&self, row: usize) -> bool {
        self.validity.as_ref().is_none_or(|validity| validity.get(row).copied().unwrap_or(false))
    }

    /// Notes that the last row has a value, or none.
    fn note(&mut self, valid: bool) {
        let rows = self.len();
        match &mut self.validity {
            Some(validity) => validity.push(valid),
            None if valid => {}
            None => {
                let mut validity = vec![true; rows - 1];
                validity.push(false);
                self.validity = Some(validity);
            }
        }
    }

    /// Appends a value as a page has it. What is of another kind is null.
    pub(crate) fn push_cell(&mut self, cell: Cell<'_>) {
        let valid = match (&mut self.data, cell) {
            (Data::Int(values), Cell::Int(value)) => {
                values.push(value);
                true
            }
            (Data::Float32(values), Cell::Float32(value)) => {
                values.push(value);
                true
            }
            (Data::Float64(values), Cell::Float64(value)) => {
                values.push(value);
                true
            }
            (Data::Bytes { offsets, bytes }, Cell::Bytes(value)) => {
                bytes.extend_from_slice(value);
                offsets.push(bytes.len() as u32);
                true
            }
            (data, _) => {
                match data {
                    Data::Bytes { offsets, bytes } => offsets.push(bytes.len() as u32),
                    Data::Float32(values) => values.push(0.0),
                    Data::Float64(values) => values.push(0.0),
                    Data::Int(values) => values.push(0),
                }
                false
            }
        };
        self.note(valid);
    }

    /// A row's value as pages have it.
    pub(crate) fn cell(&self, row: u32) -> Cell<'_> {
        let row = row as usize;
        if row >= self.len() || !self.is_valid(row) {
            return Cell::Null;
        }
        match &self.data {
            Data::Bytes { .. } => Cell::Bytes(self.run(row)),
            Data::Float32(values) => values.get(row).map_or(Cell::Null, |value| Cell::Float32(*value)),
            Data::Float64(values) => values.get(row).map_or(Cell::Null, |value| Cell::Float64(*value)),
            Data::Int(values) => values.get(row).map_or(Cell::Null, |value| Cell::Int(*value)),
        }
    }

    /// Appends a row of itself once more.
    pub(crate) fn push_row(&mut self, row: u32) {
        let row = row as usize;
        let valid = row < self.len() && self.is_valid(row);
        match &mut self.data {
            Data::Bytes { offsets, bytes } => {
                if let (Some(start), Some(end)) = (offsets.get(row), offsets.get(row + 1)) {
                    bytes.extend_from_within(*start as usize..*end as usize);
                }
                offsets.push(bytes.len() as u32);
            }
            Data::Float32(values) => values.push(values.get(row).copied().unwrap_or_default()),
            Data::Float64(values) => values.push(values.get(row).copied().unwrap_or_default()),
            Data::Int(values) => values.push(values.get(row).copied().unwrap_or_default()),
        }
        self.note(valid);
    }

    /// Appends all rows of another column of the same kind.
    pub(crate) fn append(&mut self, other: &Self) -> Result<(), TooLong> {
        if self.validity.is_some() || other.validity.is_some() {
            let mut validity = self.validity.take().unwrap_or_else(|| vec![true; self.len()]);
            match &other.validity {
                Some(more) => validity.extend_from_slice(more),
                None => validity.resize(validity.len() + other.len(), true),
            }
            self.validity = Some(validity);
        }
        match (&mut self.data, &other.data) {
            (Data::Int(values), Data::Int(more)) => values.extend_from_slice(more),
            (Data::Float32(values), Data::Float32(more)) => values.extend_from_slice(more),
            (Data::Float64(values), Data::Float64(more)) => values.extend_from_slice(more),
            (Data::Bytes { offsets, bytes }, Data::Bytes { offsets: more_offsets, bytes: more }) => {
                let start = u32::try_from(bytes.len()).map_err(|_| TooLong)?;
                u32::try_from(bytes.len() + more.len()).map_err(|_| TooLong)?;
                bytes.extend_from_slice(more);
                offsets.extend(more_offsets.iter().skip(1).map(|offset| start + offset));
            }
            // Both were made for one schema.
            _ => {}
        }
        Ok(())
    }

    fn run(&self, row: usize) -> &[u8] {
        match &self.data {
            Data::Bytes { offsets, bytes } => match (offsets.get(row), offsets.get(row + 1)) {
                (Some(start), Some(end)) => bytes.get(*start as usize..*end as usize).unwrap_or_default(),
                _ => &[],
            },
            _ => &[],
        }
    }

    /// Bytes of variable length that a row has.
    pub(crate) fn run_bytes(&self, row: u32) -> usize {
        if row == NONE { 0 } else { self.run(row as usize).len() }
    }

    /// A row as a part of a key.
    pub(crate) fn key_part(&self, row: u32) -> KeyPart<'_> {
        match &self.data {
            Data::Int(values) => KeyPart::Int(values.get(row as usize).copied().unwrap_or(0)),
            _ => KeyPart::Bytes(self.run(row as usize)),
        }
    }

    /// Whether two rows have the same value, bit for bit.
    pub(crate) fn same(&self, a: u32, b: u32) -> bool {
        let (a, b) = (a as usize, b as usize);
        match (self.is_valid(a), self.is_valid(b)) {
            (false, false) => true,
            (true, true) => match &self.data {
                Data::Int(values) => values.get(a) == values.get(b),
                Data::Float32(values) => values.get(a).map(|value| value.to_bits()) == values.get(b).map(|value| value.to_bits()),
                Data::Float64(values) => values.get(a).map(|value| value.to_bits()) == values.get(b).map(|value| value.to_bits()),
                Data::Bytes { .. } => self.run(a) == self.run(b),
            },
            _ => false,
        }
    }

    /// Makes `out` hold these rows, where [`NONE`] is null.
    pub(crate) fn gather(&self, rows: impl Iterator<Item = u32> + Clone, out: &mut Self) {
        out.clear();
        match (&self.data, &mut out.data) {
            (Data::Int(from), Data::Int(to)) => pick(from, rows.clone(), to),
            (Data::Float32(from), Data::Float32(to)) => pick(from, rows.clone(), to),
            (Data::Float64(from), Data::Float64(to)) => pick(from, rows.clone(), to),
            (Data::Bytes { .. }, Data::Bytes { offsets, bytes }) => {
                for row in rows.clone() {
                    bytes.extend_from_slice(self.run(row as usize));
                    // A bucket's rows are far below 4 GiB: rows are limited.
                    offsets.push(bytes.len() as u32);
                }
            }
            _ => {}
        }
        let validity = out.validity.get_or_insert_with(Vec::new);
        match &self.validity {
            None => validity.extend(rows.map(|row| row != NONE)),
            Some(valid) => validity.extend(rows.map(|row| valid.get(row as usize).copied().unwrap_or(false))),
        }
    }

    fn clear(&mut self) {
        match &mut self.data {
            Data::Bytes { offsets, bytes } => {
                bytes.clear();
                offsets.truncate(1);
            }
            Data::Float32(values) => values.clear(),
            Data::Float64(values) => values.clear(),
            Data::Int(values) => values.clear(),
        }
        if let Some(validity) = &mut self.validity {
            validity.clear();
        }
    }

    pub(crate) fn input(&self) -> ColumnInput<'_> {
        let data = match &self.data {
            Data::Bytes { offsets, bytes } => ColumnData::Bytes { offsets, data: bytes },
            Data::Float32(values) => ColumnData::Float32(values),
            Data::Float64(values) => ColumnData::Float64(values),
            Data::Int(values) => ColumnData::Int(values),
        };
        ColumnInput { data, validity: self.validity.as_deref() }
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory(&self) -> usize {
        let values = match &self.data {
            Data::Bytes { offsets, bytes } => offsets.len() * 4 + bytes.len(),
            Data::Float32(values) => values.len() * 4,
            Data::Float64(values) => values.len() * 8,
            Data::Int(values) => values.len() * 8,
        };
        values + self.validity.as_ref().map_or(0, Vec::len)
    }

    /// Adds each row's value to that row's digest.
    pub(crate) fn digest(&self, digests: &mut [u64]) {
        for (row, digest) in digests.iter_mut().enumerate() {
            let valid = self.is_valid(row);
            *digest = match &self.data {
                Data::Bytes { .. } => cell_digest(*digest, valid.then(|| self.run(row))),
                Data::Float32(values) => {
                    number_digest(*digest, values.get(row).filter(|_| valid).map(|value| value.to_le_bytes()))
                }
                Data::Float64(values) => {
                    number_digest(*digest, values.get(row).filter(|_| valid).map(|value| value.to_le_bytes()))
                }
                Data::Int(values) => number_digest(*digest, values.get(row).filter(|_| valid).map(|value| value.to_le_bytes())),
            };
        }
    }

    /// Appends some rows of another column of the same kind, none of which is [`NONE`].
    pub(crate) fn append_rows(&mut self, from: &Self, rows: impl Iterator<Item = u32> + Clone) -> Result<(), TooLong> {
        let before = self.len();
        match (&from.data, &mut self.data) {
            (Data::Int(from), Data::Int(to)) => pick(from, rows.clone(), to),
            (Data::Float32(from), Data::Float32(to)) => pick(from, rows.clone(), to),
            (Data::Float64(from), Data::Float64(to)) => pick(from, rows.clone(), to),
            (Data::Bytes { .. }, Data::Bytes { offsets, bytes }) => {
                for row in rows.clone() {
                    bytes.extend_from_slice(from.run(row as usize));
                    offsets.push(u32::try_from(bytes.len()).map_err(|_| TooLong)?);
                }
            }
            // Both were made for one schema.
            _ => {}
        }
        if self.validity.is_some() || from.validity.is_some() {
            let validity = self.validity.get_or_insert_with(|| vec![true; before]);
            validity.extend(rows.map(|row| from.is_valid(row as usize)));
        }
        Ok(())
    }

    /// Appends its bytes for a temporary file: as [`Column::decode`] reads them, with nothing to say what they are.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match &self.validity {
            None => out.push(0),
            Some(validity) => {
                out.push(1);
                out.extend(validity.iter().map(|valid| u8::from(*valid)));
            }
        }
        match &self.data {
            Data::Bytes { offsets, bytes } => {
                out.extend(offsets.iter().skip(1).flat_map(|offset| offset.to_le_bytes()));
                out.extend_from_slice(bytes);
            }
            Data::Float32(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Data::Float64(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Data::Int(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        }
    }

    /// Reads `rows` rows back, as a column of the kind of `self`; `None` where they are cut short.
    pub(crate) fn decode(&self, rows: usize, input: &mut &[u8]) -> Option<Self> {
        let validity = match split(input, 1)?.first()? {
            0 => None,
            _ => Some(split(input, rows)?.iter().map(|valid| *valid != 0).collect()),
        };
        let data = match &self.data {
            Data::Bytes { .. } => {
                let ends = numbers(split(input, rows.checked_mul(4)?)?, u32::from_le_bytes);
                let bytes = split(input, ends.last().map_or(0, |end| *end as usize))?.to_vec();
                Data::Bytes { offsets: std::iter::once(0).chain(ends).collect(), bytes }
            }
            Data::Float32(_) => Data::Float32(numbers(split(input, rows.checked_mul(4)?)?, f32::from_le_bytes)),
            Data::Float64(_) => Data::Float64(numbers(split(input, rows.checked_mul(8)?)?, f64::from_le_bytes)),
            Data::Int(_) => Data::Int(numbers(split(input, rows.checked_mul(8)?)?, i64::from_le_bytes)),
        };
        Some(Self { data, validity })
    }
}

/// The first bytes of the input, which are then gone from it.
pub(crate) fn split<'a>(input: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (first, rest) = input.split_at_checked(bytes)?;
    *input = rest;
    Some(first)
}

/// Numbers that lie one behind another.
pub(crate) fn numbers<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|number| read(*number)).collect()
}

fn pick<T: Copy + Default>(from: &[T], rows: impl Iterator<Item = u32>, to: &mut Vec<T>) {
    to.extend(rows.map(|row| from.get(row as usize).copied().unwrap_or_default()));
}

/// The digest of a row with one value more, or with a null more. What it is for is to tell rows of other values apart, not to
/// withstand somebody who looks for two with the same.
fn cell_digest(before: u64, value: Option<&[u8]>) -> u64 {
    // No bytes are a value, too.
    value.map_or_else(|| xxh3_64_with_seed(&[], !before), |value| xxh3_64_with_seed(value, before))
}

fn number_digest<const N: usize>(before: u64, value: Option<[u8; N]>) -> u64 {
    cell_digest(before, value.as_ref().map(<[u8; N]>::as_slice))
}

/// The digest of a row of these values, as [`Column::digest`] makes it column by column.
pub(crate) fn row_digest<'a>(cells: impl Iterator<Item = Cell<'a>>) -> u64 {
    cells.fold(DIGEST_START, |before, cell| match cell {
        Cell::Int(value) => number_digest(before, Some(value.to_le_bytes())),
        Cell::Float32(value) => number_digest(before, Some(value.to_le_bytes())),
        Cell::Float64(value) => number_digest(before, Some(value.to_le_bytes())),
        Cell::Bytes(bytes) => cell_digest(before, Some(bytes)),
        _ => cell_digest(before, None),
    })
}

/// The digest of a row without values.
pub(crate) const DIGEST_START: u64 = 0;

/// A column's texts and bytes have 4 GiB or more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooLong;
