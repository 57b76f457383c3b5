//! Columns in lanes, and how functions make them row by row.

use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

use super::{Constant, EXPRESSION_BYTES_MAX};
#[cfg(feature = "transforms")]
use crate::{Physical, ValueType};

/// Values of some rows, of one lane, each of them or null.
#[derive(Clone, Debug, PartialEq)]
pub struct Column<'a> {
    /// The values. What stands where a value is null means nothing.
    pub values: Values<'a>,
    /// By row 1 where there is a value and 0 where it is null; `None` where no row is null.
    pub valid: Option<Cow<'a, [u8]>>,
}

/// The values of a column, by lane.
#[derive(Clone, Debug, PartialEq)]
pub enum Values<'a> {
    /// No values: every row is null, of any type.
    Null,
    /// Integers, booleans (0 and 1), nanoseconds of instants.
    Int(Cow<'a, [i64]>),
    /// Floats.
    Float(Cow<'a, [f64]>),
    /// Payloads, one behind the other.
    Bytes {
        /// Where each begins, and where the last ends: one number more than there are values.
        offsets: Vec<u32>,
        /// All of them.
        data: Cow<'a, [u8]>,
        /// Whether there is one value only, that of every row.
        constant: bool,
    },
}

impl<'a> Column<'a> {
    /// A column without any value.
    pub const fn null() -> Self {
        Self { values: Values::Null, valid: None }
    }

    /// Integers.
    pub fn ints(values: Vec<i64>, valid: Option<Vec<u8>>) -> Self {
        Self { values: Values::Int(values.into()), valid: valid.map(Cow::Owned) }
    }

    /// Floats.
    pub fn floats(values: Vec<f64>, valid: Option<Vec<u8>>) -> Self {
        Self { values: Values::Float(values.into()), valid: valid.map(Cow::Owned) }
    }

    /// The same values, as far as they are another's.
    #[cfg(feature = "transforms")]
    pub(crate) fn lent(&self) -> Column<'_> {
        let values = match &self.values {
            Values::Null => Values::Null,
            Values::Int(values) => Values::Int(Cow::Borrowed(values)),
            Values::Float(values) => Values::Float(Cow::Borrowed(values)),
            Values::Bytes { offsets, data, constant } => {
                Values::Bytes { offsets: offsets.clone(), data: Cow::Borrowed(data), constant: *constant }
            }
        };
        Column { values, valid: self.valid.as_deref().map(Cow::Borrowed) }
    }

    /// The same values, of its own.
    #[cfg(feature = "transforms")]
    pub(crate) fn into_owned(self) -> Column<'static> {
        let values = match self.values {
            Values::Null => Values::Null,
            Values::Int(values) => Values::Int(values.into_owned().into()),
            Values::Float(values) => Values::Float(values.into_owned().into()),
            Values::Bytes { offsets, data, constant } => Values::Bytes { offsets, data: data.into_owned().into(), constant },
        };
        Column { values, valid: self.valid.map(|valid| valid.into_owned().into()) }
    }

    /// The column with a place for each row, of the lane of a physical form, also where every row is null or has one value.
    #[cfg(feature = "transforms")]
    pub(crate) fn full(self, physical: Physical, rows: usize) -> Self {
        match &self.values {
            Values::Null => {
                let values = match physical {
                    Physical::Int => Values::Int(vec![0; rows].into()),
                    Physical::Float32 | Physical::Float64 => Values::Float(vec![0.0; rows].into()),
                    Physical::Bytes => Values::Bytes { offsets: vec![0; rows + 1], data: Cow::Borrowed(&[]), constant: false },
                };
                Self { values, valid: Some(vec![0; rows].into()) }
            }
            Values::Bytes { data, constant: true, .. } => {
                let repeated = data.repeat(rows);
                let offsets = (0..=rows).map(|row| u32::try_from(row * data.len()).unwrap_or(u32::MAX)).collect();
                Self { values: Values::Bytes { offsets, data: repeated.into(), constant: false }, valid: self.valid }
            }
            _ => self,
        }
    }

    /// The same values with a place for each row, as a component takes them.
    #[cfg(feature = "transforms")]
    pub fn full_for(&self, value_type: &ValueType, rows: usize) -> Column<'_> {
        self.lent().full(value_type.physical(), rows)
    }

    /// Bytes of its values.
    #[cfg(feature = "transforms")]
    pub(crate) fn byte_count(&self) -> u64 {
        let values = match &self.values {
            Values::Null => 0,
            Values::Int(values) => values.len() * 8,
            Values::Float(values) => values.len() * 8,
            Values::Bytes { offsets, data, .. } => offsets.len() * 4 + data.len(),
        };
        (values + self.valid.as_ref().map_or(0, |valid| valid.len())) as u64
    }

    /// A constant in each of so many rows.
    pub(super) fn of(constant: &'a Constant, rows: usize) -> Self {
        match constant {
            Constant::Null => Self::null(),
            Constant::Int(value) => Self::ints(vec![*value; rows], None),
            Constant::Float(value) => Self::floats(vec![*value; rows], None),
            Constant::Bytes(bytes) => Self {
                values: Values::Bytes { offsets: [0, bytes.len() as u32].into(), data: bytes.as_slice().into(), constant: true },
                valid: None,
            },
        }
    }

    /// Whether a row has a value.
    #[inline]
    pub fn is_valid(&self, row: usize) -> bool {
        match (&self.values, &self.valid) {
            (Values::Null, _) => false,
            (_, None) => true,
            (_, Some(valid)) => valid.get(row).is_some_and(|valid| *valid != 0),
        }
    }

    /// The integer of a row, if it has one.
    #[inline]
    pub fn int(&self, row: usize) -> Option<i64> {
        match &self.values {
            Values::Int(values) if self.is_valid(row) => values.get(row).copied(),
            _ => None,
        }
    }

    /// The float of a row, if it has one.
    #[inline]
    pub fn float(&self, row: usize) -> Option<f64> {
        match &self.values {
            Values::Float(values) if self.is_valid(row) => values.get(row).copied(),
            _ => None,
        }
    }

    /// The bytes of a row, if it has some.
    #[inline]
    pub fn bytes(&self, row: usize) -> Option<&[u8]> {
        let Values::Bytes { offsets, data, constant } = &self.values else { return None };
        if !self.is_valid(row) {
            return None;
        }
        let row = if *constant { 0 } else { row };
        match offsets.get(row..row.checked_add(2)?)? {
            [start, end] => data.get(*start as usize..*end as usize),
            _ => None,
        }
    }

    /// The text of a row, if it has one.
    #[inline]
    pub(super) fn text(&self, row: usize) -> Option<&str> {
        core::str::from_utf8(self.bytes(row)?).ok()
    }

    /// Whether all rows have the same value, and it is bytes.
    pub(super) const fn is_constant(&self) -> bool {
        matches!(&self.values, Values::Bytes { constant: true, .. })
    }

    pub(super) fn int_values(&self) -> &[i64] {
        if let Values::Int(values) = &self.values { values } else { &[] }
    }

    pub(super) fn float_values(&self) -> &[f64] {
        if let Values::Float(values) = &self.values { values } else { &[] }
    }
}

/// Makes integers row by row. Called through a pointer, so that a function is a few bytes and not a loop of its own.
pub(super) fn int_rows(rows: usize, row: &mut dyn FnMut(usize) -> Option<i64>) -> Column<'static> {
    let mut values = vec![0; rows];
    let mut valid = None;
    for (index, slot) in values.iter_mut().enumerate() {
        match row(index) {
            Some(value) => *slot = value,
            None => set_null(&mut valid, index, rows),
        }
    }
    Column::ints(values, valid)
}

/// Makes floats row by row.
pub(super) fn float_rows(rows: usize, row: &mut dyn FnMut(usize) -> Option<f64>) -> Column<'static> {
    let mut values = vec![0.0; rows];
    let mut valid = None;
    for (index, slot) in values.iter_mut().enumerate() {
        match row(index) {
            Some(value) => *slot = value,
            None => set_null(&mut valid, index, rows),
        }
    }
    Column::floats(values, valid)
}

/// Makes bytes row by row: what `row` appends is the row's value, unless it says that there is none. A value of more than
/// [`EXPRESSION_BYTES_MAX`] is null.
pub(super) fn byte_rows(rows: usize, row: &mut dyn FnMut(usize, &mut Vec<u8>) -> Option<()>) -> Column<'static> {
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0);
    let mut data = Vec::new();
    let mut valid = None;
    for index in 0..rows {
        let start = data.len();
        let made = row(index, &mut data);
        if made.is_none() || data.len() - start > EXPRESSION_BYTES_MAX || u32::try_from(data.len()).is_err() {
            data.truncate(start);
            set_null(&mut valid, index, rows);
        }
        offsets.push(data.len() as u32);
    }
    Column { values: Values::Bytes { offsets, data: data.into(), constant: false }, valid: valid.map(Cow::Owned) }
}

fn set_null(valid: &mut Option<Vec<u8>>, row: usize, rows: usize) {
    if let Some(slot) = valid.get_or_insert_with(|| vec![1; rows]).get_mut(row) {
        *slot = 0;
    }
}

/// Where both columns have values.
pub(super) fn both_valid(first: &Column<'_>, second: &Column<'_>) -> Option<Vec<u8>> {
    match (&first.valid, &second.valid) {
        (None, None) => None,
        (Some(valid), None) | (None, Some(valid)) => Some(valid.to_vec()),
        (Some(first), Some(second)) => Some(first.iter().zip(second.iter()).map(|(a, b)| a & b).collect()),
    }
}
