//! Computed features in data sets: columns that are made of those of the joined rows, when they are written.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema, SchemaRef};
use mezze_arrow::{array_of, expression_column, instants};
use mezze_core::{ExpressionColumn, NoTransforms, Pipeline, RunTransforms, ValueType};
use mezze_model::OnFault;

use crate::entity_rows::EntityRows;
use crate::error::{OfflineError, Result};
use crate::evaluate::{RowsProgram, RowsTransform};
use crate::features::{ComputedBy, ComputedInput, SelectedFeatures, SelectedOutput};
use crate::inspect::{arrow_type, value_type};
use crate::pit::{Part, PartSink, PitError};
use crate::transformed::Transformed;

/// Rows that are computed at a time: what a step makes is still in the cache for the next.
pub(crate) const ROWS: usize = 1_024;

/// The columns of a data set, as they come of those of the joined rows.
#[derive(Debug)]
pub(crate) struct Columns {
    /// Of the data set.
    pub(crate) schema: SchemaRef,
    columns: Vec<OutputColumn>,
    /// What makes those that components are needed for.
    transformed: Option<Transformed>,
}

#[derive(Debug)]
enum OutputColumn {
    /// A column of the joined rows.
    Joined(usize),
    Computed(Box<Computed>),
    /// By its number among those that components are needed for.
    Transformed(usize),
}

#[derive(Debug)]
struct Computed {
    /// `view:feature`, for errors.
    name: String,
    value_type: ValueType,
    pipeline: Pipeline,
    inputs: Vec<Input>,
}

/// A column of the joined rows as computed columns take it.
#[derive(Debug)]
pub(crate) struct Input {
    /// The column of the joined rows.
    pub(crate) column: usize,
    /// What its values are; `None` of the time of entity rows.
    pub(crate) value_type: Option<ValueType>,
}

impl Input {
    /// Its values as expressions compute with them.
    pub(crate) fn values<'a>(&self, array: &'a ArrayRef) -> std::result::Result<ExpressionColumn<'a>, String> {
        match &self.value_type {
            Some(value_type) => expression_column(value_type, array).map_err(|error| error.to_string()),
            None => Ok(ExpressionColumn::ints(instants(array).map_err(|error| error.to_string())?, None)),
        }
    }
}

impl Columns {
    /// `joined` is the schema of the joined rows: the columns of the entity rows, then the features of the views, view by view.
    pub(crate) fn new(
        selected: &SelectedFeatures,
        rows: &EntityRows,
        joined: &SchemaRef,
        transforms: Option<Arc<dyn RunTransforms + Send + Sync>>,
    ) -> Result<Self> {
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
        let input = |input: &ComputedInput| {
            Ok(match input {
                ComputedInput::Time => Input { column: entity_column(&rows.timestamp_column)?, value_type: None },
                ComputedInput::Entity { column, value_type } => {
                    Input { column: entity_column(column)?, value_type: Some(value_type.clone()) }
                }
                ComputedInput::Feature { view, feature } => {
                    let selected = selected.views.get(*view).and_then(|view| view.features.get(*feature));
                    Input { column: place(*view, *feature), value_type: selected.map(|feature| feature.value_type.clone()) }
                }
            })
        };
        let inputs = |inputs: &[ComputedInput]| inputs.iter().map(input).collect::<Result<Vec<_>>>();
        let mut transformed_types = Vec::new();
        for output in &selected.outputs {
            match output {
                SelectedOutput::Stored { view, feature } => {
                    let place = place(*view, *feature);
                    fields.extend(joined.fields().get(place).cloned());
                    columns.push(OutputColumn::Joined(place));
                }
                SelectedOutput::Computed(computed) => {
                    fields.push(Arc::new(Field::new(&computed.output_name, arrow_type(&computed.value_type), true)));
                    columns.push(match &computed.by {
                        ComputedBy::Expressions { pipeline, inputs: taken } => OutputColumn::Computed(Box::new(Computed {
                            name: format!("{}:{}", computed.view, computed.name),
                            value_type: computed.value_type.clone(),
                            pipeline: (**pipeline).clone(),
                            inputs: inputs(taken)?,
                        })),
                        ComputedBy::Transformed(number) => {
                            transformed_types.push(computed.value_type.clone());
                            OutputColumn::Transformed(*number)
                        }
                    });
                }
            }
        }
        let transformed = match &selected.transformed {
            None => None,
            Some(features) => Some(Transformed {
                pipeline: features.pipeline.clone(),
                inputs: inputs(&features.inputs)?,
                types: transformed_types,
                views: features.views.clone(),
                transforms: transforms.unwrap_or_else(|| Arc::new(NoTransforms)),
                rows: "the entity rows",
            }),
        };
        Ok(Self { schema: Arc::new(Schema::new(fields)), columns, transformed })
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
            columns.push(OutputColumn::Computed(Box::new(Computed {
                name: program.name.clone(),
                value_type: program.value_type.clone(),
                pipeline: program.pipeline.clone(),
                inputs: program.columns.iter().map(input).collect::<Result<_>>()?,
            })));
        }
        Ok(Self { schema: Arc::new(Schema::new(fields)), columns, transformed: None })
    }

    /// All columns of rows, and those that a component makes behind them.
    pub(crate) fn of_transformed(rows: &SchemaRef, transform: RowsTransform) -> Result<Self> {
        let mut fields: Vec<Arc<Field>> = rows.fields().to_vec();
        let mut columns: Vec<OutputColumn> = (0..fields.len()).map(OutputColumn::Joined).collect();
        for (number, output) in transform.outputs.iter().enumerate() {
            if rows.column_with_name(&output.name).is_some() {
                return Err(OfflineError::Request { reason: format!("the rows have a column {} already", output.name) });
            }
            fields.push(Arc::new(Field::new(&output.name, arrow_type(&output.value_type), true)));
            columns.push(OutputColumn::Transformed(number));
        }
        let input = |(name, value_type): &(String, ValueType)| {
            Ok(Input { column: rows.index_of(name)?, value_type: Some(value_type.clone()) })
        };
        let transformed = Transformed {
            inputs: transform.columns.iter().map(input).collect::<Result<_>>()?,
            types: transform.outputs.into_iter().map(|output| output.value_type).collect(),
            views: vec![(transform.name, OnFault::Fail)],
            pipeline: transform.pipeline,
            transforms: transform.transforms,
            rows: "the rows",
        };
        Ok(Self { schema: Arc::new(Schema::new(fields)), columns, transformed: Some(transformed) })
    }

    /// The number of a column among those that components are needed for.
    pub(crate) fn made(&self, index: usize) -> Option<usize> {
        match self.columns.get(index) {
            Some(OutputColumn::Transformed(number)) => Some(*number),
            _ => None,
        }
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
            Some(OutputColumn::Transformed(_)) | None => Err(PitError::Worker(format!("there is no column {index}"))),
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
                columns.push(input.values(slice).map_err(failed)?);
            }
            let made_here = self.pipeline.run(columns, count, &NoTransforms).columns.pop();
            let column = made_here.flatten().unwrap_or_else(ExpressionColumn::null);
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
    columns: Option<Columns>,
    /// Rows that were handed on.
    rows: u64,
}

impl<S> Computing<S> {
    /// Hands rows on to `sink`.
    pub(crate) const fn new(sink: S, columns: Option<Columns>) -> Self {
        Self { sink, columns, rows: 0 }
    }
}

impl<S: PartSink> PartSink for Computing<S> {
    fn take(&mut self, part: &Part<'_>, threads: usize) -> std::result::Result<(), PitError> {
        let Some(columns) = &self.columns else { return self.sink.take(part, threads) };
        let made = match &columns.transformed {
            Some(transformed) => transformed.columns(part, self.rows, threads)?,
            None => Vec::new(),
        };
        self.rows += part.rows as u64;
        self.sink.take(&part.with_columns(columns, &made), threads)
    }
}
