//! Features that are computed when the view that they come from is materialised.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use mezze_core::{LinkInput, NoTransforms, Pipeline, PipelineView, RunTransforms, ValueType};
use mezze_model::{Definitions, OnDemandColumn, OnDemandFeatureView, OnFault, on_demand_program};

use crate::computed::Input;
use crate::error::{OfflineError, Result};
use crate::inspect::arrow_type;
use crate::pit::{CREATED_COLUMN, EVENT_COLUMN, Part, Phases};
use crate::transformed::Transformed;

/// An on-demand view that is written to the online store: makes its rows of those of the view that it comes from.
pub struct WrittenView {
    view: OnDemandFeatureView,
    pipeline: Pipeline,
    /// The columns that the pipeline takes, and as what.
    columns: Vec<(String, ValueType)>,
    /// The columns that rows keep: times and keys.
    kept: Vec<String>,
    transforms: Arc<dyn RunTransforms + Send + Sync>,
}

impl fmt::Debug for WrittenView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrittenView").field("view", &self.view.name).field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl WrittenView {
    /// The view of these definitions; `transforms` runs its component, if it has one.
    ///
    /// # Errors
    /// [`OfflineError::Request`] where the view is not written with another's rows, or cannot be computed.
    pub fn new(
        definitions: &Definitions,
        view: &OnDemandFeatureView,
        transforms: Option<Arc<dyn RunTransforms + Send + Sync>>,
    ) -> Result<Self> {
        let refused = |reason: String| OfflineError::Request { reason };
        let from = definitions
            .written_from(view)
            .ok_or_else(|| refused(format!("`{}` is not written to the online store", view.name)))?;
        let compiled = on_demand_program(definitions, view)
            .map_err(|errors| refused(errors.into_iter().map(|(_, error)| error).collect::<Vec<_>>().join("\n")))?;
        let features: Vec<_> = view.features.iter().map(|feature| feature.schema.clone()).collect();
        let one = PipelineView {
            compute: &compiled.compute,
            inputs: (0..).map(LinkInput::Column).take(compiled.columns.len()).collect(),
            input_types: compiled.column_types.clone(),
            features: &features,
            mask: None,
        };
        let outputs: Vec<(usize, usize)> = (0..features.len()).map(|output| (0, output)).collect();
        let pipeline = Pipeline::link(&[one], &outputs).ok_or_else(|| refused(format!("`{}` is too large", view.name)))?;
        let mut columns = Vec::new();
        for number in pipeline.columns() {
            let column = compiled.columns.get(*number as usize);
            let found = match column {
                Some(OnDemandColumn::Feature { feature, .. }) => {
                    from.schema.iter().find(|known| known.name == *feature).map(|known| (feature, &known.value_type))
                }
                Some(OnDemandColumn::JoinKey { entity }) => {
                    definitions.entity(entity).map(|entity| (&entity.join_key, &entity.value_type))
                }
                _ => None,
            };
            let (name, value_type) =
                found.ok_or_else(|| refused(format!("`{}` takes what no row of `{}` has", view.name, from.name)))?;
            columns.push((name.clone(), value_type.clone()));
        }
        let keys = definitions.entities_of(from).map(|entity| entity.join_key.clone());
        let kept = [EVENT_COLUMN, CREATED_COLUMN].into_iter().map(str::to_owned).chain(keys).collect();
        let transforms = transforms.unwrap_or_else(|| Arc::new(NoTransforms));
        Ok(Self { view: view.clone(), pipeline, columns, kept, transforms })
    }

    /// The view's name.
    pub fn name(&self) -> &str {
        &self.view.name
    }

    /// Rows of this view, of newest rows of the other as [`newest_rows`](crate::newest_rows) gives them.
    ///
    /// # Errors
    /// Where a value does not fit its type, or a component fails for a row.
    pub fn rows(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let schema = batch.schema();
        let input = |(name, value_type): &(String, ValueType)| {
            Ok(Input { column: schema.index_of(name)?, value_type: Some(value_type.clone()) })
        };
        let on_fault = self.view.transform.as_ref().map_or(OnFault::Fail, |transform| transform.on_fault);
        let transformed = Transformed {
            pipeline: self.pipeline.clone(),
            inputs: self.columns.iter().map(input).collect::<Result<_>>()?,
            types: self.view.features.iter().map(|feature| feature.schema.value_type.clone()).collect(),
            views: vec![(self.view.name.clone(), on_fault)],
            transforms: Arc::clone(&self.transforms),
            rows: "a batch of newest rows",
        };
        let (phases, stop) = (Phases::default(), AtomicBool::new(false));
        let made = transformed.columns(&Part::joined(&schema, batch, &[], &phases, &stop), 0, 1)?;
        let mut fields: Vec<Arc<Field>> = Vec::new();
        let mut columns = Vec::new();
        for name in &self.kept {
            let index = schema.index_of(name)?;
            fields.extend(schema.fields().get(index).cloned());
            columns.push(Arc::clone(batch.column(index)));
        }
        for (feature, column) in self.view.features.iter().zip(made) {
            fields.push(Arc::new(Field::new(&feature.schema.name, arrow_type(&feature.schema.value_type), true)));
            columns.push(column);
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}
