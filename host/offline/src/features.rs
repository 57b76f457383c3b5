//! Which features to look up, and what to call them.

use std::collections::BTreeMap;

use mezze_core::{Pipeline, ValueType};
use mezze_model::{Definitions, FeatureView, OnDemandColumn, OnDemandFeatureView, OnDemandPrograms, OnFault, Source};

use crate::error::{OfflineError, Result, hint};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureSelection {
    /// Features by name, each `view:feature`.
    Features(Vec<String>),
    /// All that a feature service selects.
    Service(String),
}

/// Features to look up, with their names in the data set.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedFeatures {
    /// By view, in the order of the request.
    pub views: Vec<SelectedView>,
    /// The columns that the service's request sources declare, which the entity rows bring along, and those that computed
    /// features take.
    pub request_columns: Vec<RequestColumn>,
    /// The features of the data set, in the order of the request. Views have those that are only computed with, too.
    pub outputs: Vec<SelectedOutput>,
    /// What computes the features that components are needed for.
    pub transformed: Option<TransformedFeatures>,
}

/// What computes features that components are needed for: all of them at once, since a component computes all of its view's.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformedFeatures {
    /// What computes them.
    pub pipeline: Pipeline,
    /// What that takes, in order.
    pub inputs: Vec<ComputedInput>,
    /// By the number that faults have for it: a view's name, and what to do where its component fails.
    pub views: Vec<(String, OnFault)>,
}

/// A feature of the data set.
#[derive(Clone, Debug, PartialEq)]
pub enum SelectedOutput {
    /// One that is computed.
    Computed(Box<ComputedFeature>),
    /// One that is looked up: the numbers of its view and of the feature in it.
    Stored {
        /// The view's number in [`SelectedFeatures::views`].
        view: usize,
        /// The feature's number in the view.
        feature: usize,
    },
}

/// A feature that is computed from others of the same row.
#[derive(Clone, Debug, PartialEq)]
pub struct ComputedFeature {
    /// Its view, by its alias, if it has one.
    pub view: String,
    /// Its view's name in the definitions.
    pub definition: String,
    /// Its name.
    pub name: String,
    /// Its name in the data set.
    pub output_name: String,
    /// Its type.
    pub value_type: ValueType,
    /// What computes it.
    pub by: ComputedBy,
}

/// What computes a feature.
#[derive(Clone, Debug, PartialEq)]
pub enum ComputedBy {
    /// Expressions alone.
    Expressions {
        /// What computes it.
        pipeline: Box<Pipeline>,
        /// What that takes, in order.
        inputs: Vec<ComputedInput>,
    },
    /// [`SelectedFeatures::transformed`]: the number of its output.
    Transformed(usize),
}

/// What a computed feature is computed from.
#[derive(Clone, Debug, PartialEq)]
pub enum ComputedInput {
    /// A column of the entity rows, and its type.
    Entity {
        /// The column.
        column: String,
        /// Its type.
        value_type: ValueType,
    },
    /// A feature that is looked up.
    Feature {
        /// The view's number.
        view: usize,
        /// The feature's number in the view.
        feature: usize,
    },
    /// The time of the entity row.
    Time,
}

/// Features of one view.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedView {
    /// The view's name in the definitions.
    pub view: String,
    /// What long names and messages call it: its alias, if it has one.
    pub name: String,
    /// The view's join key to the column of the entity rows that holds it, where the names differ.
    pub join_key_map: BTreeMap<String, String>,
    /// The features, in order.
    pub features: Vec<SelectedFeature>,
}

/// A feature of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedFeature {
    /// Its name in the view.
    pub name: String,
    /// Its name in the data set.
    pub output_name: String,
    /// Its type.
    pub value_type: ValueType,
}

/// A column that a request source declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestColumn {
    /// The request source.
    pub request_source: String,
    /// The column.
    pub name: String,
    /// Its type.
    pub value_type: ValueType,
}

impl SelectedView {
    /// All features of a view, by their own names.
    pub fn all_of(view: &FeatureView) -> Self {
        let feature = |feature: &mezze_core::FeatureSchema| SelectedFeature {
            name: feature.name.clone(),
            output_name: feature.name.clone(),
            value_type: feature.value_type.clone(),
        };
        Self {
            view: view.name.clone(),
            name: view.name.clone(),
            join_key_map: BTreeMap::new(),
            features: view.schema.iter().map(feature).collect(),
        }
    }

    /// The column of the entity rows that holds a join key of the view.
    pub fn entity_column<'a>(&'a self, join_key: &'a str) -> &'a str {
        self.join_key_map.get(join_key).map_or(join_key, String::as_str)
    }
}

/// Finds the features of a request. With `full_feature_names` they are called `view__feature`.
pub fn select_features(
    definitions: &Definitions,
    selection: &FeatureSelection,
    full_feature_names: bool,
) -> Result<SelectedFeatures> {
    let mut selected = match selection {
        FeatureSelection::Features(features) => by_name(definitions, features, full_feature_names)?,
        FeatureSelection::Service(service) => of_service(definitions, service, full_feature_names)?,
    };
    let mut named: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for (output, view, name) in selected.outputs.iter().filter_map(|output| selected.named(output)) {
        if let Some((first_view, first)) = named.insert(output, (view, name)) {
            return Err(OfflineError::Collision {
                column: output.to_owned(),
                first: format!("feature {first_view}:{first}"),
                second: format!("feature {view}:{name}"),
                remedy: if full_feature_names {
                    "give one of the views an alias in the feature service"
                } else {
                    "use --full-feature-names"
                },
            });
        }
    }
    selected.add_inputs(definitions)?;
    Ok(selected)
}

impl SelectedFeatures {
    /// The name in the data set of one of its features, its view's name and its own.
    pub(crate) fn named<'a>(&'a self, output: &'a SelectedOutput) -> Option<(&'a str, &'a str, &'a str)> {
        match output {
            SelectedOutput::Computed(feature) => Some((&feature.output_name, &feature.view, &feature.name)),
            SelectedOutput::Stored { view, feature } => {
                let view = self.views.get(*view)?;
                let feature = view.features.get(*feature)?;
                Some((&feature.output_name, &view.name, &feature.name))
            }
        }
    }

    /// Whether the data set is other than the joined rows: something is computed.
    pub(crate) fn is_computed(&self) -> bool {
        self.outputs.iter().any(|output| matches!(output, SelectedOutput::Computed(_)))
    }

    /// Adds the features, and the columns of entity rows, that computed features take.
    fn add_inputs(&mut self, definitions: &Definitions) -> Result<()> {
        if !self.is_computed() {
            return Ok(());
        }
        let programs = OnDemandPrograms::of(definitions);
        let compile = |features: &[(&str, &str)]| {
            let compiled = programs.pipeline(features);
            compiled.map_err(|reason| OfflineError::Request { reason: format!("{reason}; run `mezze plan`") })
        };
        let mut outputs = std::mem::take(&mut self.outputs);
        let mut transformed: Vec<(String, String)> = Vec::new();
        for output in &mut outputs {
            let SelectedOutput::Computed(computed) = output else { continue };
            let compiled = compile(&[(&computed.definition, &computed.name)])?;
            computed.by = if compiled.pipeline.has_transforms() {
                transformed.push((computed.definition.clone(), computed.name.clone()));
                ComputedBy::Transformed(transformed.len() - 1)
            } else {
                let inputs = self.inputs(definitions, &compiled.columns)?;
                ComputedBy::Expressions { pipeline: Box::new(compiled.pipeline), inputs }
            };
        }
        self.outputs = outputs;
        if !transformed.is_empty() {
            let features: Vec<(&str, &str)> =
                transformed.iter().map(|(view, feature)| (view.as_str(), feature.as_str())).collect();
            let compiled = compile(&features)?;
            let views = compiled.views.iter().enumerate().map(|(number, view)| (view.clone(), programs.on_fault(number)));
            self.transformed = Some(TransformedFeatures {
                inputs: self.inputs(definitions, &compiled.columns)?,
                views: views.collect(),
                pipeline: compiled.pipeline,
            });
        }
        Ok(())
    }

    /// What computed features take, with the view that is to blame where it is missing.
    pub(crate) fn computed_inputs(&self) -> impl Iterator<Item = (&str, &ComputedInput)> {
        let alone = self.outputs.iter().filter_map(|output| match output {
            SelectedOutput::Computed(feature) => match &feature.by {
                ComputedBy::Expressions { inputs, .. } => Some((feature.view.as_str(), inputs)),
                ComputedBy::Transformed(_) => None,
            },
            SelectedOutput::Stored { .. } => None,
        });
        let first = self.outputs.iter().find_map(|output| match output {
            SelectedOutput::Computed(feature) if matches!(feature.by, ComputedBy::Transformed(_)) => Some(feature.view.as_str()),
            _ => None,
        });
        let together = self.transformed.iter().map(move |transformed| (first.unwrap_or_default(), &transformed.inputs));
        alone.chain(together).flat_map(|(view, inputs)| inputs.iter().map(move |input| (view, input)))
    }

    fn inputs(&mut self, definitions: &Definitions, columns: &[OnDemandColumn]) -> Result<Vec<ComputedInput>> {
        columns.iter().map(|column| self.input(definitions, column)).collect()
    }

    fn input(&mut self, definitions: &Definitions, column: &OnDemandColumn) -> Result<ComputedInput> {
        Ok(match column {
            OnDemandColumn::Now => ComputedInput::Time,
            OnDemandColumn::JoinKey { entity } => {
                let entity = definitions.entity(entity).ok_or_else(|| unknown_view(definitions, entity))?;
                ComputedInput::Entity { column: entity.join_key.clone(), value_type: entity.value_type.clone() }
            }
            OnDemandColumn::Request { source, field } => {
                let request = definitions.request_sources.iter().find(|known| known.name == *source);
                let field = request.and_then(|request| request.schema.iter().find(|known| known.name == *field));
                let field = field.ok_or_else(|| unknown_view(definitions, source))?;
                if !self.request_columns.iter().any(|known| known.name == field.name) {
                    self.request_columns.push(RequestColumn {
                        request_source: source.clone(),
                        name: field.name.clone(),
                        value_type: field.value_type.clone(),
                    });
                }
                ComputedInput::Entity { column: field.name.clone(), value_type: field.value_type.clone() }
            }
            OnDemandColumn::Feature { view, feature } => self.hidden(definitions, view, feature)?,
            OnDemandColumn::RowTime { view } => self.hidden(definitions, view, ROW_TIME)?,
        })
    }

    /// A feature of a view, which is in the data set only if it is asked for.
    fn hidden(&mut self, definitions: &Definitions, view: &str, feature: &str) -> Result<ComputedInput> {
        let definition = find_view(definitions, view)?;
        // No column of entity rows is called so.
        let output_name = format!("{view}:{feature}");
        let found = if feature == ROW_TIME {
            SelectedFeature { name: feature.to_owned(), output_name, value_type: ValueType::UnixTimestamp }
        } else {
            SelectedFeature { output_name, ..find_feature(definition, view, feature, false)? }
        };
        let same = |known: &SelectedView| known.view == view && known.join_key_map.is_empty();
        let place = self.views.iter().position(same).unwrap_or(self.views.len());
        if place == self.views.len() {
            self.views.push(SelectedView { features: Vec::new(), ..SelectedView::all_of(definition) });
        }
        let Some(selected) = self.views.get_mut(place) else { return Err(unknown_view(definitions, view)) };
        let number = selected.features.iter().position(|known| known.name == feature).unwrap_or(selected.features.len());
        if number == selected.features.len() {
            selected.features.push(found);
        }
        Ok(ComputedInput::Feature { view: place, feature: number })
    }
}

/// What stands for a view's event times among its features: no feature is called so.
pub(crate) const ROW_TIME: &str = "<event time>";

/// The column of a source that a feature is read from.
pub(crate) fn source_column<'a>(source: &'a Source, feature: &'a str) -> &'a str {
    if feature == ROW_TIME { &source.timestamp_field } else { source.column_of(feature) }
}

fn by_name(definitions: &Definitions, features: &[String], full: bool) -> Result<SelectedFeatures> {
    if features.is_empty() {
        return Err(OfflineError::Request { reason: "no features are asked for: name some, or a feature service".to_owned() });
    }
    let mut views: Vec<SelectedView> = Vec::new();
    let mut outputs: Vec<SelectedOutput> = Vec::new();
    for reference in features {
        let form = || OfflineError::FeatureForm { feature: reference.clone() };
        let (view, feature) = reference.trim().split_once(':').ok_or_else(form)?;
        if view.is_empty() || feature.is_empty() || feature.contains(':') {
            return Err(form());
        }
        if let Some(view) = definitions.on_demand_feature_view(view) {
            let computed = SelectedOutput::Computed(find_computed(view, &view.name, feature, full)?.into());
            // Asking twice is asking once.
            if !outputs.contains(&computed) {
                outputs.push(computed);
            }
            continue;
        }
        let view = find_view(definitions, view)?;
        let feature = find_feature(view, &view.name, feature, full)?;
        let place = views.iter().position(|selected| selected.view == view.name).unwrap_or(views.len());
        if place == views.len() {
            views.push(SelectedView { features: Vec::new(), ..SelectedView::all_of(view) });
        }
        let Some(selected) = views.get_mut(place) else { continue };
        if !selected.features.contains(&feature) {
            selected.features.push(feature);
            outputs.push(SelectedOutput::Stored { view: place, feature: selected.features.len() - 1 });
        }
    }
    in_views_order(&mut outputs);
    Ok(SelectedFeatures { views, request_columns: Vec::new(), outputs, transformed: None })
}

/// Features of one view stand together, where the first of them is asked for.
fn in_views_order(outputs: &mut [SelectedOutput]) {
    let key = |output: &SelectedOutput| match output {
        SelectedOutput::Computed(feature) => (true, 0, feature.view.clone()),
        SelectedOutput::Stored { view, .. } => (false, *view, String::new()),
    };
    let mut order = Vec::new();
    for output in outputs.iter() {
        if !order.contains(&key(output)) {
            order.push(key(output));
        }
    }
    outputs.sort_by_key(|output| order.iter().position(|known| *known == key(output)));
}

fn of_service(definitions: &Definitions, name: &str, full: bool) -> Result<SelectedFeatures> {
    let service = definitions.feature_service(name).ok_or_else(|| {
        let names = definitions.feature_services.iter().map(|service| service.name.as_str());
        OfflineError::Unknown { kind: "feature service".to_owned(), name: name.to_owned(), hint: hint(name, names) }
    })?;
    let mut views: Vec<SelectedView> = Vec::new();
    let mut outputs = Vec::new();
    for projection in &service.projections {
        let name = projection.name_to_use();
        if let Some(view) = definitions.on_demand_feature_view(&projection.view) {
            for feature in &projection.features {
                outputs.push(SelectedOutput::Computed(find_computed(view, name, feature, full)?.into()));
            }
            continue;
        }
        let view = find_view(definitions, &projection.view)?;
        outputs.extend((0..projection.features.len()).map(|feature| SelectedOutput::Stored { view: views.len(), feature }));
        let features = projection.features.iter().map(|feature| find_feature(view, name, feature, full));
        views.push(SelectedView {
            view: view.name.clone(),
            name: name.to_owned(),
            join_key_map: projection.join_key_map.clone(),
            features: features.collect::<Result<_>>()?,
        });
    }
    let mut request_columns = Vec::new();
    for name in &service.request_sources {
        let source = definitions.request_sources.iter().find(|source| source.name == *name).ok_or_else(|| {
            let names = definitions.request_sources.iter().map(|source| source.name.as_str());
            OfflineError::Unknown { kind: "request source".to_owned(), name: name.clone(), hint: hint(name, names) }
        })?;
        request_columns.extend(source.schema.iter().map(|field| RequestColumn {
            request_source: source.name.clone(),
            name: field.name.clone(),
            value_type: field.value_type.clone(),
        }));
    }
    Ok(SelectedFeatures { views, request_columns, outputs, transformed: None })
}

fn find_view<'a>(definitions: &'a Definitions, name: &str) -> Result<&'a FeatureView> {
    definitions.feature_view(name).ok_or_else(|| unknown_view(definitions, name))
}

fn unknown_view(definitions: &Definitions, name: &str) -> OfflineError {
    let views = definitions.feature_views.iter().map(|view| view.name.as_str());
    let names = views.chain(definitions.on_demand_feature_views.iter().map(|view| view.name.as_str()));
    OfflineError::Unknown { kind: "feature view".to_owned(), name: name.to_owned(), hint: hint(name, names) }
}

/// A computed feature, whose program and inputs come later.
fn find_computed(view: &OnDemandFeatureView, name_to_use: &str, name: &str, full: bool) -> Result<ComputedFeature> {
    let feature = view.features.iter().find(|feature| feature.schema.name == name).ok_or_else(|| {
        let names = view.features.iter().map(|feature| feature.schema.name.as_str());
        OfflineError::Unknown { kind: "feature".to_owned(), name: format!("{}:{name}", view.name), hint: hint(name, names) }
    })?;
    Ok(ComputedFeature {
        view: name_to_use.to_owned(),
        definition: view.name.clone(),
        name: name.to_owned(),
        output_name: if full { format!("{name_to_use}__{name}") } else { name.to_owned() },
        value_type: feature.schema.value_type.clone(),
        by: ComputedBy::Transformed(usize::MAX),
    })
}

fn find_feature(view: &FeatureView, name_to_use: &str, name: &str, full: bool) -> Result<SelectedFeature> {
    let feature = view.schema.iter().find(|feature| feature.name == name).ok_or_else(|| {
        let names = view.schema.iter().map(|feature| feature.name.as_str());
        OfflineError::Unknown { kind: "feature".to_owned(), name: format!("{}:{name}", view.name), hint: hint(name, names) }
    })?;
    Ok(SelectedFeature {
        name: name.to_owned(),
        output_name: if full { format!("{name_to_use}__{name}") } else { name.to_owned() },
        value_type: feature.value_type.clone(),
    })
}
