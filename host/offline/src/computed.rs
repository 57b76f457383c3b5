//! Computed features in data sets: columns that are made of those of the joined rows, when they are written.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema, SchemaRef};
use mezze_arrow::{array_of, expression_column, instants};
use mezze_core::{ExpressionColumn, Program, ValueType};

use crate::entity_rows::EntityRows;
use crate::error::{OfflineError, Result};
use crate::evaluate::RowsProgram;
use crate::features::{ComputedInput, SelectedFeatures, SelectedOutput};
use crate::inspect::{arrow_type, value_type};
use crate::pit::{Part, PartSink, PitError};

/// Rows that are computed at a time: what a step makes is still in the cache for the next.
const ROWS: usize = 1_024;

/// The columns of a data set, as they come of those of the joined rows.
#[derive(Debug)]
pub(crate) struct Columns {
    /// Of the data set.
    pub(crate) schema: SchemaRef,
    columns: Vec<OutputColumn>,
}

#[derive(Debug)]
enum OutputColumn {
    /// A column of the joined rows.
    Joined(usize),
    Computed(Computed),
}

#[derive(Debug)]
struct Computed {
    /// `view:feature`, for errors.
    name: String,
    value_type: ValueType,
    program: Program,
    inputs: Vec<Input>,
}

#[derive(Debug)]
struct Input {
    /// The column of the joined rows.
    column: usize,
    /// What its values are; `None` of the time of entity rows.
    value_type: Option<ValueType>,
}

impl Columns {
    /// `joined` is the schema of the joined rows: the columns of the entity rows, then the features of the views, view by view.
    pub(crate) fn new(selected: &SelectedFeatures, rows: &EntityRows, joined: &SchemaRef) -> Result<Self> {
        let entity_columns = rows.schema().fields().len();
        let mut starts = Vec::with_capacity(selected.views.len());
        let mut next = entity_columns;
        for view in &selected.views {
            starts.push(next);
            next += view.features.len();
        }
        let place = |view: usize, feature: usize| starts.get(view).map_or(usize::MAX, |start| start + feature);
        let entity_column = |name: &str| {
            joined.index_of(name).map_err(|_| OfflineError::Request { reason: format!("the entity rows have no column {name}") })
        };
        let mut fields: Vec<Arc<Field>> = joined.fields().iter().take(entity_columns).cloned().collect();
        let mut columns: Vec<OutputColumn> = (0..entity_columns).map(OutputColumn::Joined).collect();
        for output in &selected.outputs {
            match output {
                SelectedOutput::Stored { view, feature } => {
                    let place = place(*view, *feature);
                    fields.extend(joined.fields().get(place).cloned());
                    columns.push(OutputColumn::Joined(place));
                }
                SelectedOutput::Computed(computed) => {
                    let mut inputs = Vec::with_capacity(computed.inputs.len());
                    for input in &computed.inputs {
                        inputs.push(match input {
                            ComputedInput::Time => Input { column: entity_column(&rows.timestamp_column)?, value_type: None },
                            ComputedInput::Entity { column, value_type } => {
                                Input { column: entity_column(column)?, value_type: Some(value_type.clone()) }
                            }
                            ComputedInput::Feature { view, feature } => {
                                let selected = selected.views.get(*view).and_then(|view| view.features.get(*feature));
                                Input {
                                    column: place(*view, *feature),
                                    value_type: selected.map(|feature| feature.value_type.clone()),
                                }
                            }
                        });
                    }
                    fields.push(Arc::new(Field::new(&computed.output_name, arrow_type(&computed.value_type), true)));
                    columns.push(OutputColumn::Computed(Computed {
                        name: format!("{}:{}", computed.view, computed.name),
                        value_type: computed.value_type.clone(),
                        program: computed.program.clone(),
                        inputs,
                    }));
                }
            }
        }
        Ok(Self { schema: Arc::new(Schema::new(fields)), columns })
    }

    /// All columns of rows, and one for each program behind them.
    pub(crate) fn of_rows(rows: &SchemaRef, programs: &[RowsProgram]) -> Result<Self> {
        let mut fields: Vec<Arc<Field>> = rows.fields().to_vec();
        let mut columns: Vec<OutputColumn> = (0..fields.len()).map(OutputColumn::Joined).collect();
        for program in programs {
            if rows.column_with_name(&program.name).is_some() {
                return Err(OfflineError::Request {
                    reason: format!("the rows have a column {} already; give the result another name", program.name),
                });
            }
            let input = |name: &String| {
                let column = rows.index_of(name)?;
                Ok(Input { column, value_type: value_type(rows.field(column).data_type()) })
            };
            fields.push(Arc::new(Field::new(&program.name, arrow_type(&program.value_type), true)));
            columns.push(OutputColumn::Computed(Computed {
                name: program.name.clone(),
                value_type: program.value_type.clone(),
                program: program.program.clone(),
                inputs: program.columns.iter().map(input).collect::<Result<_>>()?,
            }));
        }
        Ok(Self { schema: Arc::new(Schema::new(fields)), columns })
    }

    /// Some rows of a column of the data set; `joined` gives those of a column of the joined rows, as a
    /// dictionary where that may be.
    pub(crate) fn column(
        &self,
        index: usize,
        rows: usize,
        joined: &dyn Fn(usize, bool) -> std::result::Result<ArrayRef, PitError>,
    ) -> std::result::Result<ArrayRef, PitError> {
        match self.columns.get(index) {
            Some(OutputColumn::Joined(column)) => joined(*column, true),
            Some(OutputColumn::Computed(computed)) => computed.column(rows, joined),
            None => Err(PitError::Worker(format!("there is no column {index}"))),
        }
    }
}

impl Computed {
    fn column(
        &self,
        rows: usize,
        joined: &dyn Fn(usize, bool) -> std::result::Result<ArrayRef, PitError>,
    ) -> std::result::Result<ArrayRef, PitError> {
        let arrays = self.inputs.iter().map(|input| joined(input.column, false)).collect::<std::result::Result<Vec<_>, _>>()?;
        let failed = |reason: String| PitError::Worker(format!("feature {}: {reason}", self.name));
        let mut made: Vec<ArrayRef> = Vec::with_capacity(rows.div_ceil(ROWS).max(1));
        let mut start = 0;
        while start < rows || made.is_empty() {
            let count = ROWS.min(rows - start);
            let slices: Vec<ArrayRef> = arrays.iter().map(|array| array.slice(start, count)).collect();
            let mut columns = Vec::with_capacity(slices.len());
            for (input, slice) in self.inputs.iter().zip(&slices) {
                columns.push(match &input.value_type {
                    Some(value_type) => expression_column(value_type, slice).map_err(|error| failed(error.to_string()))?,
                    None => ExpressionColumn::ints(instants(slice).map_err(|error| failed(error.to_string()))?, None),
                });
            }
            let column = self.program.run(columns, count).pop().unwrap_or_else(ExpressionColumn::null);
            made.push(array_of(&self.value_type, column, count).map_err(|error| failed(error.to_string()))?);
            start += count;
        }
        match made.as_slice() {
            [one] => Ok(Arc::clone(one)),
            many => Ok(arrow::compute::concat(&many.iter().map(AsRef::as_ref).collect::<Vec<_>>())?),
        }
    }
}

/// Hands rows on with the columns of the data set.
pub(crate) struct Computing<S> {
    pub(crate) sink: S,
    /// `None` where they are those of the joined rows.
    pub(crate) columns: Option<Columns>,
}

impl<S: PartSink> PartSink for Computing<S> {
    fn take(&mut self, part: &Part<'_>, threads: usize) -> std::result::Result<(), PitError> {
        match &self.columns {
            Some(columns) => self.sink.take(&part.with_columns(columns), threads),
            None => self.sink.take(part, threads),
        }
    }
}
