//! Winners that were found apart, in pieces of a view's files: of each entity row the best of them counts.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{SchemaRef, UInt64Type};

use super::PitError;
use super::time::{Unit, instants};

/// No winner.
const NONE: u32 = u32::MAX;

/// The winners of a view among some entity rows, piece by piece. Pieces come in order of the files: of equal times the later
/// one's row counts, as the later row would within a file.
pub(crate) struct Merge {
    /// A winner's columns: its entity row, the features, its event time and, where there is one, its creation time.
    schema: SchemaRef,
    features: usize,
    unit: Unit,
    /// For each entity row, the winner's place in `found`, and its times.
    picks: Vec<u32>,
    times: Vec<(i64, i64)>,
    found: Vec<RecordBatch>,
    found_rows: usize,
}

impl Merge {
    /// For `rows` entity rows; `schema` is that of the winners, with `features` columns between the entity row and the times.
    pub(crate) fn new(schema: SchemaRef, features: usize, rows: usize) -> Self {
        let times = schema.fields().iter().skip(1 + features);
        let unit = times.filter_map(|field| Unit::of(field.data_type())).max().unwrap_or(Unit::Micros);
        Self {
            schema,
            features,
            unit,
            picks: vec![NONE; rows],
            times: vec![(i64::MIN, i64::MIN); rows],
            found: Vec::new(),
            found_rows: 0,
        }
    }

    /// Takes winners of the next piece, or more of the same.
    pub(crate) fn take(&mut self, batch: RecordBatch) -> Result<(), PitError> {
        let wrong = |what: &str| PitError::Worker(format!("winners came with {what}"));
        if batch.schema_ref().fields().len() != self.schema.fields().len() {
            return Err(wrong("other columns"));
        }
        // No entity row has more than one winner of a piece, so there are hardly ever so many.
        if self.found_rows > self.picks.len().saturating_mul(4).max(1 << 16) {
            self.compact()?;
        }
        let base = u32::try_from(self.found_rows).map_err(|_| wrong("too many rows"))?;
        if base.checked_add(u32::try_from(batch.num_rows()).map_err(|_| wrong("too many rows"))?).is_none_or(|end| end == NONE) {
            return Err(wrong("too many rows"));
        }
        let column = |index: usize| batch.columns().get(index).ok_or_else(|| wrong("too few columns"));
        let rows = column(0)?.as_primitive_opt::<UInt64Type>().ok_or_else(|| wrong("entity rows that are no numbers"))?;
        let events = instants(column(1 + self.features)?, self.unit).ok_or_else(|| wrong("no event times"))?;
        let created = match batch.columns().get(2 + self.features) {
            Some(array) => Some((instants(array, self.unit).ok_or_else(|| wrong("no creation times"))?, array.nulls())),
            None => None,
        };
        for (at, (row, event)) in rows.values().iter().zip(events.iter()).enumerate() {
            let row = usize::try_from(*row).map_err(|_| wrong("an entity row that is not there"))?;
            let known = created.as_ref().filter(|(_, nulls)| nulls.is_none_or(|nulls| nulls.is_valid(at)));
            let created = known.and_then(|(values, _)| values.get(at).copied()).unwrap_or(i64::MIN);
            let (Some(best), Some(pick)) = (self.times.get_mut(row), self.picks.get_mut(row)) else {
                return Err(wrong("an entity row that is not there"));
            };
            if *pick == NONE || (*event, created) >= *best {
                *best = (*event, created);
                // It fits: the last row's place does.
                *pick = base.saturating_add(u32::try_from(at).unwrap_or(0));
            }
        }
        self.found_rows += batch.num_rows();
        self.found.push(batch);
        Ok(())
    }

    /// Lets go of what has not won.
    fn compact(&mut self) -> Result<(), PitError> {
        let kept: UInt32Array = self.picks.iter().copied().filter(|pick| *pick != NONE).collect();
        let all = concat_batches(&self.schema, &self.found)?;
        self.found = vec![take_record_batch(&all, &kept)?];
        self.found_rows = kept.len();
        for (pick, place) in self.picks.iter_mut().filter(|pick| **pick != NONE).zip(0..) {
            *pick = place;
        }
        Ok(())
    }

    /// The features of all entity rows, in order, and how many of the rows have at least one that is not null.
    pub(crate) fn finish(self) -> Result<(Vec<ArrayRef>, u64), PitError> {
        let places: UInt32Array = self.picks.iter().map(|pick| (*pick != NONE).then_some(*pick)).collect();
        let all = concat_batches(&self.schema, &self.found)?;
        let columns = all.columns().iter().skip(1).take(self.features);
        let taken = columns.map(|column| match column.is_empty() {
            true => Ok(arrow::array::new_null_array(column.data_type(), places.len())),
            false => arrow::compute::take(column, &places, None),
        });
        let taken: Vec<ArrayRef> = taken.collect::<Result<_, _>>()?;
        let mut any: Option<BooleanArray> = None;
        for column in &taken {
            let valid = match column.logical_nulls() {
                Some(nulls) => BooleanArray::new(nulls.into_inner(), None),
                None => BooleanArray::from(vec![true; column.len()]),
            };
            any = Some(match any {
                Some(any) => arrow::compute::or(&any, &valid)?,
                None => valid,
            });
        }
        let matched = any.map_or(0, |any| any.true_count() as u64);
        Ok((taken, matched))
    }
}
