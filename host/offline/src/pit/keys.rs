//! Keys of any type as integers: equal keys get equal codes, whatever the width or encoding of their columns.

use std::fmt::Write;
use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeBinaryArray, LargeBinaryBuilder, StringArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, UInt32Type, UInt64Type};
use datafusion::common::HashMap;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::PitError;
use super::time::{Unit, instants};

/// What keys can be compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Text,
    Bytes,
    Boolean,
    Time,
}

/// The kind of a key column; `None` if it cannot be a key.
pub(super) fn kind(data_type: &DataType) -> Option<Kind> {
    match data_type {
        data_type if data_type.is_integer() => Some(Kind::Integer),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::FixedSizeBinary(16) => Some(Kind::Text),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Some(Kind::Bytes),
        DataType::Boolean => Some(Kind::Boolean),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Some(Kind::Time),
        DataType::Dictionary(_, values) => kind(values),
        _ => None,
    }
}

/// A key column in one of two forms.
pub(super) enum Keys {
    /// Integers and booleans.
    Integers(ScalarBuffer<i64>, Option<NullBuffer>),
    /// All else: distinct values, which value each row has, and which rows are null.
    Blobs(LargeBinaryArray, Option<ScalarBuffer<u32>>, Option<NullBuffer>),
}

impl Keys {
    /// Brings a column into its form. `place` says where it comes from.
    pub(super) fn new(array: &ArrayRef, column: &str, place: &str) -> Result<Self, PitError> {
        let refused =
            || PitError::KeyType { column: column.to_owned(), place: place.to_owned(), found: array.data_type().to_string() };
        if let (DataType::Dictionary(_, value_type), Some(Kind::Text | Kind::Bytes)) =
            (array.data_type(), kind(array.data_type()))
        {
            let dictionary = array.as_any_dictionary();
            let codes = cast(dictionary.keys(), &DataType::UInt32)?;
            let Self::Blobs(values, None, value_nulls) = Self::new(dictionary.values(), column, place)? else {
                return Err(refused());
            };
            if value_nulls.is_some_and(|nulls| nulls.null_count() > 0) {
                // A null value of the dictionary is a null of the row, which the plain form says more simply.
                return Self::new(&cast(array, value_type)?, column, place);
            }
            return Ok(Self::Blobs(values, Some(codes.as_primitive::<UInt32Type>().values().clone()), codes.nulls().cloned()));
        }
        if let DataType::Dictionary(_, value_type) = array.data_type() {
            return Self::new(&cast(array, value_type)?, column, place);
        }
        match kind(array.data_type()).ok_or_else(refused)? {
            Kind::Integer => {
                if let Some(values) = array.as_primitive_opt::<UInt64Type>()
                    && let Some(value) = values.iter().flatten().find(|value| i64::try_from(*value).is_err())
                {
                    return Err(PitError::KeyRange { column: column.to_owned(), place: place.to_owned(), value });
                }
                let wide = if array.data_type() == &DataType::Int64 { array.clone() } else { cast(array, &DataType::Int64)? };
                Ok(Self::Integers(wide.as_primitive::<Int64Type>().values().clone(), wide.nulls().cloned()))
            }
            Kind::Boolean => {
                let bits = array.as_boolean();
                Ok(Self::Integers((0..bits.len()).map(|row| i64::from(bits.value(row))).collect(), bits.nulls().cloned()))
            }
            Kind::Time => {
                // Instants of every unit meet as 128-bit nanoseconds, so that none is rounded.
                let nanos = matches!(array.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _));
                let (unit, scale) = if nanos { (Unit::Nanos, 1) } else { (Unit::Micros, 1000) };
                let values = instants(array, unit).ok_or_else(refused)?;
                let mut blobs = LargeBinaryBuilder::with_capacity(values.len(), values.len() * 16);
                for value in &values {
                    blobs.append_value((i128::from(*value) * scale).to_le_bytes());
                }
                Ok(Self::Blobs(blobs.finish(), None, array.nulls().cloned()))
            }
            Kind::Text if matches!(array.data_type(), DataType::FixedSizeBinary(_)) => {
                let mut blobs = LargeBinaryBuilder::new();
                let mut text = String::with_capacity(36);
                for value in array.as_fixed_size_binary().iter() {
                    text.clear();
                    for (index, byte) in value.unwrap_or_default().iter().enumerate() {
                        let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
                        // Writing to a string cannot fail.
                        let _ = write!(text, "{hyphen}{byte:02x}");
                    }
                    blobs.append_value(&text);
                }
                Ok(Self::Blobs(blobs.finish(), None, array.nulls().cloned()))
            }
            Kind::Text => {
                let large = cast(&cast(array, &DataType::LargeUtf8)?, &DataType::LargeBinary)?;
                Ok(Self::Blobs(large.as_binary::<i64>().clone(), None, array.nulls().cloned()))
            }
            Kind::Bytes => {
                let large = cast(array, &DataType::LargeBinary)?;
                Ok(Self::Blobs(large.as_binary::<i64>().clone(), None, array.nulls().cloned()))
            }
        }
    }

    pub(super) fn nulls(&self) -> Option<&NullBuffer> {
        match self {
            Self::Integers(_, nulls) | Self::Blobs(_, _, nulls) => nulls.as_ref().filter(|nulls| nulls.null_count() > 0),
        }
    }

    /// The values of a column of integers; those of nulls are any.
    pub(super) fn integers(&self) -> Option<&ScalarBuffer<i64>> {
        match self {
            Self::Integers(values, _) => Some(values),
            Self::Blobs(..) => None,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Integers(values, _) => values.len(),
            Self::Blobs(values, codes, _) => codes.as_ref().map_or_else(|| values.len(), |codes| codes.len()),
        }
    }

    /// Appends a row's key to `to`, so that the bytes of several columns stay apart.
    pub(super) fn write(&self, row: usize, to: &mut Vec<u8>) {
        match self {
            Self::Integers(values, _) => to.extend(values.get(row).copied().unwrap_or_default().to_le_bytes()),
            Self::Blobs(values, codes, _) => {
                let index = codes.as_ref().map_or(row, |codes| codes.get(row).map_or(0, |code| *code as usize));
                let value = values.value(index);
                to.extend((value.len() as u64).to_le_bytes());
                to.extend(value);
            }
        }
    }
}

/// How a column's values become codes.
enum Coder {
    /// Integers near each other: the distance from the least, up to the greatest distance.
    Offset(i64, u64),
    /// A number for each value.
    Table(Numbers),
}

/// Distinct byte strings, numbered in order of their first appearance. Their bytes lie one behind another.
#[derive(Default)]
pub(super) struct Numbers {
    /// By hash of the bytes, which number they have.
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Numbers {
    pub(super) fn value(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = number.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(number).and_then(|end| self.bytes.get(start..*end)).unwrap_or_default()
    }

    pub(super) fn get(&self, value: &[u8]) -> Option<u64> {
        let hash = self.hasher.hash_one(value);
        self.table.find(hash, |number| self.value(*number) == value).map(|number| u64::from(*number))
    }

    pub(super) fn insert(&mut self, value: &[u8]) -> u64 {
        if let Some(number) = self.get(value) {
            return number;
        }
        // There are no more values than entity rows, which 32 bits count.
        let number = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
        let (bytes, ends) = (&self.bytes, &self.ends);
        let value_of = |number: u32| {
            let start = (number as usize).checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
            ends.get(number as usize).and_then(|end| bytes.get(start..*end)).unwrap_or_default()
        };
        let hasher = &self.hasher;
        self.table.insert_unique(hasher.hash_one(value), number, |number| hasher.hash_one(value_of(*number)));
        u64::from(number)
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// All of them as texts, in order of their numbers; `None` where one is none or they are longer than 2 GiB together.
    pub(super) fn texts(self) -> Option<ArrayRef> {
        let lengths = self.ends.iter().scan(0, |start, end| Some(end - std::mem::replace(start, *end)));
        i32::try_from(self.bytes.len()).ok()?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        Some(Arc::new(StringArray::try_new(offsets, self.bytes.into(), None).ok()?))
    }
}

/// How a column's code joins the code of the columns before it.
enum Joiner {
    /// Both fit side by side.
    Shift(u32),
    /// A number for each pair.
    Pairs(HashMap<(u64, u64), u64>),
}

impl Joiner {
    fn add(&self, joined: &mut u64, known: &mut bool, code: u64) {
        match self {
            Self::Shift(width) => *joined = joined.checked_shl(*width).unwrap_or(0) | code,
            Self::Pairs(pairs) => match pairs.get(&(*joined, code)) {
                Some(number) => *joined = *number,
                None => *known = false,
            },
        }
    }
}

/// Codes for the keys of the entity rows.
pub(super) struct KeyCoder {
    columns: Vec<(Coder, Joiner)>,
}

/// Bits that hold every number up to `greatest`.
fn bits(greatest: u64) -> u32 {
    u64::BITS - greatest.leading_zeros()
}

/// Codes of rows; a row that is not `known` has a null in its key or a key that no entity row has.
#[derive(Default)]
pub(super) struct Codes {
    pub(super) codes: Vec<u64>,
    pub(super) known: Vec<bool>,
}

impl KeyCoder {
    /// Learns the keys of the entity rows, given by column and then by batch, and codes them.
    pub(super) fn build(rows: usize, columns: &[Vec<Keys>]) -> (Self, Codes) {
        let mut known = vec![true; rows];
        for batches in columns {
            let mut base = 0;
            for keys in batches {
                if let Some(nulls) = keys.nulls() {
                    known.iter_mut().skip(base).zip(nulls).for_each(|(known, valid)| *known &= valid);
                }
                base += keys.len();
            }
        }
        let (mut joined, mut joined_bits) = (vec![0_u64; rows], 0);
        let mut coders = Vec::with_capacity(columns.len());
        for batches in columns {
            let mut codes = Vec::with_capacity(rows);
            let integers = batches.iter().filter_map(|keys| match keys {
                Keys::Integers(values, _) => Some(values),
                Keys::Blobs(..) => None,
            });
            let coder = if matches!(batches.first(), Some(Keys::Blobs(..))) {
                let mut table = Numbers::default();
                for keys in batches {
                    if let Keys::Blobs(values, indices, _) = keys {
                        let numbers: Vec<u64> = (0..values.len()).map(|index| table.insert(values.value(index))).collect();
                        match indices {
                            Some(indices) => codes
                                .extend(indices.iter().map(|index| numbers.get(*index as usize).copied().unwrap_or_default())),
                            None => codes.extend(numbers),
                        }
                    }
                }
                Coder::Table(table)
            } else {
                codes.extend(integers.flat_map(|values| values.iter().map(|value| *value as u64)));
                let valid = || codes.iter().zip(&known).filter(|(_, known)| **known).map(|(code, _)| *code as i64);
                let least = valid().min().unwrap_or_default();
                let span = valid().max().unwrap_or_default().wrapping_sub(least) as u64;
                codes.iter_mut().for_each(|code| *code = code.wrapping_sub(least as u64));
                Coder::Offset(least, span)
            };
            let width = match &coder {
                Coder::Offset(_, span) => bits(*span),
                Coder::Table(table) => bits(table.len() as u64),
            };
            let joiner = if joined_bits + width <= u64::BITS {
                joined.iter_mut().zip(&codes).for_each(|(joined, code)| *joined = joined.checked_shl(width).unwrap_or(0) | code);
                joined_bits += width;
                Joiner::Shift(width)
            } else {
                let mut pairs = HashMap::new();
                for ((joined, code), known) in joined.iter_mut().zip(&codes).zip(&known) {
                    if *known {
                        let next = pairs.len() as u64;
                        *joined = *pairs.entry((*joined, *code)).or_insert(next);
                    }
                }
                joined_bits = bits(pairs.len() as u64);
                Joiner::Pairs(pairs)
            };
            coders.push((coder, joiner));
        }
        (Self { columns: coders }, Codes { codes: joined, known })
    }

    /// Codes keys of feature rows into `to`, whose buffers are used again.
    pub(super) fn code(&self, rows: usize, columns: &[Keys], to: &mut Codes) {
        let Codes { codes: joined, known } = to;
        joined.clear();
        joined.resize(rows, 0);
        known.clear();
        known.resize(rows, true);
        for (coder, keys) in self.columns.iter().zip(columns) {
            if let Some(nulls) = keys.nulls() {
                known.iter_mut().zip(nulls).for_each(|(known, valid)| *known &= valid);
            }
            match (coder, keys) {
                ((Coder::Offset(least, span), Joiner::Shift(width)), Keys::Integers(values, _)) => {
                    let (least, span) = (*least as u64, *span);
                    for ((joined, known), value) in joined.iter_mut().zip(known.iter_mut()).zip(values) {
                        // A value below the least wraps to one above the greatest distance.
                        let code = (*value as u64).wrapping_sub(least);
                        *known &= code <= span;
                        // Codes that are not known would spill into those of other columns; nobody reads them.
                        *joined = joined.checked_shl(*width).unwrap_or(0) | code;
                    }
                }
                ((Coder::Offset(least, span), joiner), Keys::Integers(values, _)) => {
                    for ((joined, known), value) in joined.iter_mut().zip(known.iter_mut()).zip(values) {
                        let code = (*value as u64).wrapping_sub(*least as u64);
                        *known &= code <= *span;
                        if *known {
                            joiner.add(joined, known, code);
                        }
                    }
                }
                ((Coder::Table(table), joiner), Keys::Blobs(values, Some(indices), _)) => {
                    let numbers: Vec<Option<u64>> = (0..values.len()).map(|index| table.get(values.value(index))).collect();
                    for ((joined, known), index) in joined.iter_mut().zip(known.iter_mut()).zip(indices) {
                        match numbers.get(*index as usize).copied().flatten() {
                            Some(code) if *known => joiner.add(joined, known, code),
                            _ => *known = false,
                        }
                    }
                }
                ((Coder::Table(table), joiner), Keys::Blobs(values, None, _)) => {
                    for (row, (joined, known)) in joined.iter_mut().zip(known.iter_mut()).enumerate() {
                        match table.get(values.value(row)) {
                            Some(code) if *known => joiner.add(joined, known, code),
                            _ => *known = false,
                        }
                    }
                }
                // Kinds are compared when a file is opened; an entity table without rows has no coder of either form.
                _ => known.fill(false),
            }
        }
    }

    /// The distinct values of the first column, where it is not one of integers. Those of rows with a null in another column are
    /// among them.
    pub(super) fn first_texts(&self) -> Option<&Numbers> {
        match self.columns.first()? {
            (Coder::Table(numbers), _) => Some(numbers),
            (Coder::Offset(..), _) => None,
        }
    }

    /// The least and greatest value of the first column, where it is one of integers.
    pub(super) fn first_range(&self) -> Option<(i64, i64)> {
        match self.columns.first()? {
            (Coder::Offset(least, span), _) => Some((*least, (*least as u64).wrapping_add(*span) as i64)),
            (Coder::Table(_), _) => None,
        }
    }
}
