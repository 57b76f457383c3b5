//! Features that components compute, a part of the joined rows at a time, by all threads.

use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::concat;
use arrow::util::display::array_value_to_string;
use mezze_arrow::array_of;
use mezze_core::{ExpressionColumn, Pipeline, RunTransforms, TransformFault, TransformFaultKind, ValueType};
use mezze_model::OnFault;

use crate::computed::{Input, ROWS};
use crate::pit::{Part, PitError, parallel};

/// What computes them.
pub(crate) struct Transformed {
    pub(crate) pipeline: Pipeline,
    pub(crate) inputs: Vec<Input>,
    /// The types of the outputs.
    pub(crate) types: Vec<ValueType>,
    /// By the number that faults have for it: a view's name, and what to do where its component fails.
    pub(crate) views: Vec<(String, OnFault)>,
    pub(crate) transforms: Arc<dyn RunTransforms + Send + Sync>,
    /// What rows are called in errors.
    pub(crate) rows: &'static str,
}

impl fmt::Debug for Transformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transformed").field("inputs", &self.inputs).field("views", &self.views).finish_non_exhaustive()
    }
}

/// What failed, by the view's number.
type Faults = Vec<(usize, TransformFault)>;

/// Rows that one thread computes before it takes the next.
const TASK_ROWS: usize = 8 * ROWS;

impl Transformed {
    /// All outputs for a part, of which `before` rows of the data set come before.
    pub(crate) fn columns(&self, part: &Part<'_>, before: u64, threads: usize) -> Result<Vec<ArrayRef>, PitError> {
        let tasks = part.rows.div_ceil(TASK_ROWS).max(1);
        let made = parallel(threads, tasks, part.stop, |task| {
            let start = task * TASK_ROWS;
            let rows = TASK_ROWS.min(part.rows - start);
            let mut batches: Vec<Vec<ArrayRef>> = Vec::new();
            let mut offset = 0;
            while offset < rows || batches.is_empty() {
                let count = ROWS.min(rows - offset);
                batches.push(self.batch(part, before, start + offset, count)?);
                offset += count;
            }
            Ok(batches)
        })?;
        let batches: Vec<Vec<ArrayRef>> = made.into_iter().flatten().collect();
        (0..self.types.len()).map(|output| concatenated(&batches, output)).collect()
    }

    /// Some rows from row `start` of the part.
    fn batch(&self, part: &Part<'_>, before: u64, start: usize, rows: usize) -> Result<Vec<ArrayRef>, PitError> {
        let arrays = self
            .inputs
            .iter()
            .map(|input| part.joined_column(input.column, start, rows, false))
            .collect::<Result<Vec<_>, _>>()?;
        let (made, faults) = self.run(&arrays, rows)?;
        if faults.is_empty() {
            return Ok(made);
        }
        // Row by row, to see which it is.
        let mut by_row = Vec::with_capacity(rows);
        for row in 0..rows {
            let one: Vec<ArrayRef> = arrays.iter().map(|array| array.slice(row, 1)).collect();
            let (made, faults) = self.run(&one, 1)?;
            if let Some((view, fault)) = self.fatal(&faults) {
                let number = before + (start + row) as u64 + 1;
                return Err(self.failed(number, view, fault, part, &one));
            }
            by_row.push(made);
        }
        (0..self.types.len()).map(|output| concatenated(&by_row, output)).collect()
    }

    /// The first fault that ends the job.
    fn fatal<'f>(&self, faults: &'f [(usize, TransformFault)]) -> Option<(&str, &'f TransformFault)> {
        faults.iter().find_map(|(view, fault)| {
            let (name, on_fault) = self.views.get(*view)?;
            // What is not there at all is no matter of rows.
            let ends = *on_fault == OnFault::Fail || fault.kind == TransformFaultKind::NotCarried;
            ends.then_some((name.as_str(), fault))
        })
    }

    fn run(&self, arrays: &[ArrayRef], rows: usize) -> Result<(Vec<ArrayRef>, Faults), PitError> {
        let inputs = self.inputs.iter().zip(arrays).map(|(input, array)| input.values(array));
        let inputs = inputs.collect::<Result<Vec<_>, _>>().map_err(PitError::Worker)?;
        let made = self.pipeline.run(inputs, rows, &*self.transforms);
        let columns = made.columns.into_iter().zip(&self.types).map(|(column, value_type)| {
            let column = column.unwrap_or_else(ExpressionColumn::null);
            array_of(value_type, column, rows).map_err(|error| PitError::Worker(error.to_string()))
        });
        Ok((columns.collect::<Result<_, _>>()?, made.faults))
    }

    fn failed(&self, number: u64, view: &str, fault: &TransformFault, part: &Part<'_>, row: &[ArrayRef]) -> PitError {
        let shown = self.inputs.iter().zip(row).map(|(input, array)| {
            let name = part.joined_name(input.column);
            let value = if array.is_null(0) { "null".to_owned() } else { array_value_to_string(array, 0).unwrap_or_default() };
            let value: String = value.chars().take(VALUE_CHARS_MAX).collect();
            format!("{name} = {value}")
        });
        PitError::Transform {
            view: view.to_owned(),
            row: format!("row {number} of {}", self.rows),
            reason: fault.message.clone(),
            inputs: shown.collect::<Vec<_>>().join(", "),
        }
    }
}

/// The rows of all batches of an output.
fn concatenated(batches: &[Vec<ArrayRef>], output: usize) -> Result<ArrayRef, PitError> {
    let columns: Vec<&ArrayRef> = batches.iter().filter_map(|batch| batch.get(output)).collect();
    match columns.as_slice() {
        [one] => Ok(Arc::clone(one)),
        many => Ok(concat(&many.iter().map(|column| column.as_ref()).collect::<Vec<_>>())?),
    }
}

/// Characters of a value in an error at the most.
const VALUE_CHARS_MAX: usize = 60;
