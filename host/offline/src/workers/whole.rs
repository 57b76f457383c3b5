//! What shows that a result has come as a whole.

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{SchemaRef, UInt64Type};

use crate::error::{OfflineError, Result};

/// Marks the row behind the last one; the other bits count the rows before it.
const END: u64 = 1 << 63;

/// Counts the rows of a result, whose last one says how many there are: whatever cut it, a part is never taken for the whole.
#[derive(Debug, Default)]
pub struct Whole {
    rows: u64,
    ended: bool,
}

impl Whole {
    /// Before the first row.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes some of a result's rows and gives them back without the mark.
    ///
    /// # Errors
    /// [`OfflineError::Workers`] where there are more or fewer rows than the mark says.
    pub fn take(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let wrong = |what: String| OfflineError::Workers { reason: format!("a task's result {what}") };
        let numbers = batch.columns().first().and_then(|column| column.as_primitive_opt::<UInt64Type>());
        let numbers = numbers.ok_or_else(|| wrong("has no numbers of rows".to_owned()))?;
        let rows = batch.num_rows();
        if self.ended && rows > 0 {
            return Err(wrong("goes on behind its end".to_owned()));
        }
        let Some(last) = rows.checked_sub(1) else { return Ok(batch) };
        let mark = numbers.values().get(last).copied().filter(|number| number & END != 0);
        self.rows += rows as u64;
        let Some(mark) = mark else { return Ok(batch) };
        self.rows -= 1;
        self.ended = true;
        if mark & !END != self.rows {
            return Err(wrong(format!("has {} rows, expected {}", self.rows, mark & !END)));
        }
        Ok(batch.slice(0, last))
    }

    /// Whether the last row has come.
    pub fn has_ended(&self) -> bool {
        self.ended
    }
}

/// The mark behind `rows` rows.
pub(super) fn end_of(schema: &SchemaRef, rows: u64) -> Result<RecordBatch> {
    let mark: ArrayRef = std::sync::Arc::new(UInt64Array::from(vec![END | rows]));
    let nulls = schema.fields().iter().skip(1).map(|field| arrow::array::new_null_array(field.data_type(), 1));
    Ok(RecordBatch::try_new(SchemaRef::clone(schema), std::iter::once(mark).chain(nulls).collect())?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn a_part_of_a_result_is_never_taken_for_the_whole() {
        let schema =
            Arc::new(Schema::new(vec![Field::new("row", DataType::UInt64, false), Field::new("x", DataType::Int64, true)]));
        let batch = |rows: std::ops::Range<u64>| {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(UInt64Array::from_iter_values(rows.clone())),
                Arc::new(arrow::array::Int64Array::from_iter_values(rows.map(|row| row as i64))),
            ];
            RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
        };
        let mut whole = Whole::new();
        assert_eq!(whole.take(batch(0..3)).unwrap().num_rows(), 3);
        assert!(!whole.has_ended());
        assert_eq!(whole.take(end_of(&schema, 3).unwrap()).unwrap().num_rows(), 0);
        assert!(whole.has_ended());
        assert!(whole.take(batch(3..4)).is_err());
        let mut cut = Whole::new();
        cut.take(batch(0..2)).unwrap();
        assert_eq!(cut.take(end_of(&schema, 3).unwrap()).unwrap_err().to_string(), "a task's result has 2 rows, expected 3");
    }
}
