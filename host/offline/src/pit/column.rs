//! Features of the rows that won, and which entity row has which of them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, PrimitiveArray, UInt32Array, new_empty_array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast_with_options, concat, take};
use arrow::datatypes::{DataType, Int32Type};

use super::keys::Numbers;
use super::{PitError, PitFeature, PitView};

/// For each entity row, the number of its winner among those of a view.
pub(super) struct Positions(Vec<u32>);

impl Positions {
    /// No winner.
    pub(super) const NONE: u32 = u32::MAX;

    pub(super) fn new(positions: Vec<u32>) -> Self {
        Self(positions)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn range(&self, offset: usize, rows: usize) -> &[u32] {
        self.0.get(offset..offset + rows).unwrap_or_default()
    }
}

/// Some winners' values of a feature.
pub(super) enum FeatureColumn {
    Plain(ArrayRef),
    /// Texts that come again and again: the number of each, and each once.
    Coded {
        codes: Int32Array,
        values: ArrayRef,
    },
}

/// Whether texts of a type may be kept as numbers.
fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

impl FeatureColumn {
    /// The pieces of a feature, one behind another, in the type that the feature shall have.
    pub(super) fn new(pieces: Vec<ArrayRef>, view: &PitView, feature: &PitFeature) -> Result<Self, PitError> {
        let wanted = &feature.data_type;
        let coded = |piece: &ArrayRef| {
            piece.as_any_dictionary_opt().is_some_and(|dictionary| {
                dictionary.keys().data_type() == &DataType::Int32 && dictionary.values().data_type() == &DataType::Utf8
            })
        };
        if is_text(wanted) && !pieces.is_empty() && pieces.iter().all(coded) {
            return Self::coded(&pieces, wanted, view, feature);
        }
        let pieces: Vec<ArrayRef> =
            pieces.into_iter().map(|piece| convert(piece, wanted, view, feature)).collect::<Result<_, _>>()?;
        Ok(Self::Plain(match pieces.as_slice() {
            [] => new_empty_array(wanted),
            [one] => Arc::clone(one),
            many => concat(&many.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
        }))
    }

    /// One dictionary for those of all pieces. Neighbouring pieces of a row group share theirs, which is read once.
    fn coded(pieces: &[ArrayRef], wanted: &DataType, view: &PitView, feature: &PitFeature) -> Result<Self, PitError> {
        let mut numbers = Numbers::default();
        let rows = pieces.iter().map(|piece| piece.len()).sum();
        let mut codes: Vec<i32> = Vec::with_capacity(rows);
        let mut valid = Vec::with_capacity(rows);
        let mut known: Option<(ArrayRef, Vec<i32>)> = None;
        let failed = |reason: &str| PitError::Worker(format!("feature column `{}`: {reason}", feature.source_column));
        for piece in pieces {
            let piece = piece.as_any().downcast_ref::<DictionaryArray<Int32Type>>().ok_or_else(|| failed("no dictionary"))?;
            let values = piece.values();
            if !known.as_ref().is_some_and(|(of, _)| of.to_data().ptr_eq(&values.to_data())) {
                let texts = values.as_string::<i32>();
                let map = (0..texts.len()).map(|index| {
                    if texts.is_null(index) {
                        return Ok(-1);
                    }
                    let number = numbers.insert(texts.value(index).as_bytes());
                    i32::try_from(number).map_err(|_| failed("it has more than 2,147,483,647 distinct texts"))
                });
                known = Some((Arc::clone(values), map.collect::<Result<_, PitError>>()?));
            }
            let Some((_, map)) = &known else { continue };
            let keys = piece.keys();
            for (row, key) in keys.values().iter().enumerate() {
                let code = if keys.is_valid(row) { map.get(*key as usize).copied().unwrap_or(-1) } else { -1 };
                codes.push(code.max(0));
                valid.push(code >= 0);
            }
        }
        let nulls = NullBuffer::from(valid);
        let nulls = (nulls.null_count() > 0).then_some(nulls);
        let values = numbers.texts().ok_or_else(|| failed("a text is not UTF-8"))?;
        let values = convert(values, wanted, view, feature)?;
        Ok(Self::Coded { codes: Int32Array::new(ScalarBuffer::from(codes), nulls), values })
    }

    /// The values of some entity rows; with `coded`, texts may come as a dictionary.
    pub(super) fn take(&self, positions: &Positions, offset: usize, rows: usize, coded: bool) -> Result<ArrayRef, PitError> {
        let range = positions.range(offset, rows);
        match self {
            Self::Plain(array) if array.is_empty() => Ok(new_null_array(array.data_type(), rows)),
            Self::Plain(array) => Ok(take(array, &indices(range), None)?),
            Self::Coded { codes, values } => {
                let codes =
                    if codes.is_empty() { new_null_array(&DataType::Int32, rows) } else { take(codes, &indices(range), None)? };
                if !coded {
                    return Ok(take(values, &codes, None)?);
                }
                let codes: &PrimitiveArray<Int32Type> = codes.as_primitive();
                Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(codes.clone(), Arc::clone(values))?))
            }
        }
    }

    fn nulls(&self) -> Option<NullBuffer> {
        match self {
            Self::Plain(array) => array.logical_nulls(),
            Self::Coded { codes, .. } => codes.nulls().cloned(),
        }
    }

    /// The entity rows where at least one of the columns is not null.
    pub(super) fn count_any(columns: &[Self], positions: &Positions) -> u64 {
        let mut any: Option<BooleanBuffer> = None;
        for column in columns {
            match column.nulls() {
                None => {
                    any = None;
                    break;
                }
                Some(nulls) => any = Some(any.map_or_else(|| nulls.inner().clone(), |any| &any | nulls.inner())),
            }
        }
        if columns.is_empty() {
            return 0;
        }
        let matched = positions.0.iter().filter(|position| {
            **position != Positions::NONE
                && any.as_ref().is_none_or(|any| (**position as usize) < any.len() && any.value(**position as usize))
        });
        matched.count() as u64
    }
}

/// Positions as indices, null where there is no winner.
fn indices(positions: &[u32]) -> UInt32Array {
    let valid = BooleanBuffer::collect_bool(positions.len(), |row| {
        positions.get(row).is_some_and(|position| *position != Positions::NONE)
    });
    let nulls = NullBuffer::new(valid);
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    // Null indices are looked at too: they must be within the array.
    let values = positions.iter().map(|position| if *position == Positions::NONE { 0 } else { *position });
    UInt32Array::new(values.collect(), nulls)
}

/// A feature's values in the type that it shall have; one that the type cannot hold is an error.
pub(crate) fn convert(array: ArrayRef, wanted: &DataType, view: &PitView, feature: &PitFeature) -> Result<ArrayRef, PitError> {
    if array.data_type() == wanted {
        return Ok(array);
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&array, wanted, &options).map_err(|error| PitError::FeatureType {
        column: feature.source_column.clone(),
        file: format!("view `{}`", view.name),
        found: array.data_type().to_string(),
        expected: wanted.to_string(),
        reason: error.to_string(),
    })
}
