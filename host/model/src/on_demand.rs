//! On-demand feature views: what their expressions may use, and the programs that they are.

use mezze_core::{Compute, FeatureSchema, LinkInput, Pipeline, PipelineView, Program, Transform, ValueType};

use crate::definitions::{Definitions, OnDemandFeatureView, OnFault, TransformSource};
use crate::expression::{ColumnOf, compile};
use crate::problem::instead;

/// What an on-demand feature view is computed by, and from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OnDemandProgram {
    /// What computes the features, in their order.
    pub compute: Compute,
    /// The columns that it takes, in order.
    pub columns: Vec<OnDemandColumn>,
    /// The types that a component takes them as; none for expressions.
    pub column_types: Vec<ValueType>,
}

impl OnDemandProgram {
    /// The columns, constants and steps that it has.
    pub fn register_count(&self) -> usize {
        match &self.compute {
            Compute::Program(program) => program.register_count(),
            Compute::Transform(_) => self.columns.len(),
        }
    }
}

/// What computes several features, of any views, and from what.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OnDemandPipeline {
    /// What computes them, in the order in which they were asked for.
    pub pipeline: Pipeline,
    /// The columns that it takes, in order: stored features, join keys, request data and the time.
    pub columns: Vec<OnDemandColumn>,
    /// The names of the views, which faults name by number.
    pub views: Vec<String>,
}

/// A column that a program takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnDemandColumn {
    /// A feature of a view, stored or on demand.
    Feature {
        /// The view.
        view: String,
        /// The feature.
        feature: String,
    },
    /// A join key of a feature view, by the entity's name.
    JoinKey {
        /// The entity.
        entity: String,
    },
    /// The time of the request, or of the entity row.
    Now,
    /// The event time of a feature view's row, and null where there is none that counts.
    RowTime {
        /// The view.
        view: String,
    },
    /// A field of request data.
    Request {
        /// The request source.
        source: String,
        /// The field.
        field: String,
    },
}

/// Compiles the expressions of a view, whose definition has been checked.
///
/// # Errors
/// What is wrong with its expressions, by feature.
pub fn on_demand_program(definitions: &Definitions, view: &OnDemandFeatureView) -> Result<OnDemandProgram, Vec<(usize, String)>> {
    let scope = Scope::of(definitions, view);
    if let Some(transform) = &view.transform {
        return transform_program(&scope, view, transform).map_err(|error| vec![(0, error)]);
    }
    let expressions: Vec<(&str, Option<&ValueType>)> =
        view.features.iter().map(|feature| (feature.expression.as_str(), Some(&feature.schema.value_type))).collect();
    let mut columns: Vec<OnDemandColumn> = Vec::new();
    let mut resolve = |names: &[String]| {
        let (column, value_type) = scope.find(names)?;
        let place = columns.iter().position(|known| *known == column).unwrap_or(columns.len());
        if place == columns.len() {
            columns.push(column);
        }
        let input = u16::try_from(place).map_err(|_| "too many columns".to_owned())?;
        Ok(ColumnOf { input, value_type })
    };
    let compiled = compile(&expressions, &mut resolve);
    if view.write_to_online_store && columns.contains(&OnDemandColumn::Now) {
        return Err(vec![(0, now_in_written(view))]);
    }
    match compiled {
        Ok(compiled) => Ok(OnDemandProgram { compute: Compute::Program(compiled.program), columns, column_types: Vec::new() }),
        Err(errors) => Err(errors
            .into_iter()
            .map(|(number, error)| {
                let feature = view.features.get(number).map_or("", |feature| &feature.schema.name);
                (number, format!("the feature `{feature}` of `{}`: {error}", view.name))
            })
            .collect()),
    }
}

fn now_in_written(view: &OnDemandFeatureView) -> String {
    format!("`{}` is written to the online store, when no request is there whose time could be `now()`", view.name)
}

/// Finds the columns that a component takes, by their names.
fn transform_program(
    scope: &Scope<'_>,
    view: &OnDemandFeatureView,
    transform: &TransformSource,
) -> Result<OnDemandProgram, String> {
    let of = format!("the transform of `{}`", view.name);
    let id =
        transform.id.ok_or_else(|| format!("{of}: what `{}` takes is not known yet; run `mezze apply`", transform.component))?;
    let mut columns: Vec<OnDemandColumn> = Vec::with_capacity(transform.inputs.len());
    for input in &transform.inputs {
        let found = match scope.find(std::slice::from_ref(&input.name)) {
            // The time of the request, unless something is called so.
            Err(_) if input.name == "now" => scope.find(&[]),
            found => found,
        };
        let (column, value_type) = found.map_err(|error| format!("{of} takes `{}`: {error}", input.name))?;
        let fits = match (&value_type, &input.value_type) {
            (ValueType::Int32, ValueType::Int64) | (ValueType::Float32, ValueType::Float64) => true,
            (found, wanted) => found == wanted,
        };
        if !fits {
            return Err(format!("{of} takes `{}` as {}, but it is {value_type}", input.name, input.value_type));
        }
        columns.push(column);
    }
    if view.write_to_online_store && columns.contains(&OnDemandColumn::Now) {
        return Err(now_in_written(view));
    }
    let column_types = transform.inputs.iter().map(|input| input.value_type.clone()).collect();
    let compute = Compute::Transform(Transform { id, limits: transform.limits });
    Ok(OnDemandProgram { compute, columns, column_types })
}

/// Finds the columns that the expressions of a view may use: a field's name, source and field, or nothing for the time of the
/// request. What it is not is said in words.
pub fn on_demand_scope<'d>(
    definitions: &'d Definitions,
    view: &'d OnDemandFeatureView,
) -> impl Fn(&[String]) -> Result<(OnDemandColumn, ValueType), String> + use<'d> {
    let scope = Scope::of(definitions, view);
    move |names: &[String]| scope.find(names)
}

/// The programs of all on-demand views, compiled once: what features are linked from.
#[derive(Debug)]
pub struct OnDemandPrograms<'d> {
    views: Vec<&'d OnDemandFeatureView>,
    /// Of each view its program, or what is wrong with it: a feature may not need it.
    compiled: Vec<Result<OnDemandProgram, Vec<(usize, String)>>>,
    /// Of each program where its inputs come from; columns by their numbers in `columns`.
    inputs: Vec<Vec<LinkInput>>,
    /// Of each program that is written with a view's rows, what says whether there is one.
    masks: Vec<Option<LinkInput>>,
    columns: Vec<OnDemandColumn>,
}

impl<'d> OnDemandPrograms<'d> {
    /// Compiles the expressions of all views.
    pub fn of(definitions: &'d Definitions) -> Self {
        let views = in_order(definitions);
        let compiled: Vec<_> = views.iter().map(|view| on_demand_program(definitions, view)).collect();
        let mut programs = Self { views, compiled, inputs: Vec::new(), masks: Vec::new(), columns: Vec::new() };
        for number in 0..programs.compiled.len() {
            let taken = programs.compiled.get(number).and_then(|program| program.as_ref().ok());
            let taken = taken.map(|program| program.columns.clone()).unwrap_or_default();
            let inputs = taken.into_iter().map(|column| programs.input(column)).collect();
            programs.inputs.push(inputs);
            // Stored, there would be no features without a row.
            let written = programs.views.get(number).and_then(|view| definitions.written_from(view));
            let mask = written.map(|view| programs.input(OnDemandColumn::RowTime { view: view.name.clone() }));
            programs.masks.push(mask);
        }
        programs
    }

    /// Where a column comes from: a program before, or from outside, and then it has a number.
    fn input(&mut self, column: OnDemandColumn) -> LinkInput {
        if let OnDemandColumn::Feature { view, feature } = &column
            && let Some((program, output)) = self.place(view, feature)
        {
            return LinkInput::Output { program, output };
        }
        let at = self.columns.iter().position(|known| *known == column).unwrap_or(self.columns.len());
        if at == self.columns.len() {
            self.columns.push(column);
        }
        LinkInput::Column(u32::try_from(at).unwrap_or(u32::MAX))
    }

    fn place(&self, view: &str, feature: &str) -> Option<(usize, usize)> {
        let program = self.views.iter().position(|known| known.name == view)?;
        let output = self.views.get(program)?.features.iter().position(|known| known.schema.name == feature)?;
        Some((program, output))
    }

    /// What computes features (each a view and its feature), whatever views they are computed from by way of.
    ///
    /// # Errors
    /// What is wrong with a view that one of them needs.
    pub fn pipeline(&self, features: &[(&str, &str)]) -> Result<OnDemandPipeline, String> {
        let mut outputs = Vec::with_capacity(features.len());
        for (view, feature) in features {
            let place = self.place(view, feature).ok_or_else(|| format!("there is no computed feature `{view}:{feature}`"))?;
            if let Some(Err(errors)) = self.compiled.get(place.0) {
                return Err(errors.iter().map(|(_, error)| error.as_str()).collect::<Vec<_>>().join("\n"));
            }
            outputs.push(place);
        }
        let empty = Compute::Program(Program::default());
        let schemas: Vec<Vec<FeatureSchema>> =
            self.views.iter().map(|view| view.features.iter().map(|feature| feature.schema.clone()).collect()).collect();
        let views: Vec<PipelineView<'_>> = self
            .compiled
            .iter()
            .zip(&self.inputs)
            .zip(&schemas)
            .zip(&self.masks)
            .map(|(((compiled, inputs), features), mask)| {
                let (compute, input_types) = match compiled {
                    Ok(compiled) => (&compiled.compute, compiled.column_types.clone()),
                    Err(_) => (&empty, Vec::new()),
                };
                PipelineView { compute, inputs: inputs.clone(), input_types, features, mask: *mask }
            })
            .collect();
        let pipeline = Pipeline::link(&views, &outputs).ok_or_else(|| {
            let names: Vec<String> = features.iter().map(|(view, feature)| format!("`{view}:{feature}`")).collect();
            format!(
                "{}: one is computed from a view whose expressions are wrong, or together they are too large",
                names.join(", ")
            )
        })?;
        let columns = pipeline.columns().iter().filter_map(|column| self.columns.get(*column as usize).cloned()).collect();
        Ok(OnDemandPipeline { pipeline, columns, views: self.views.iter().map(|view| view.name.clone()).collect() })
    }

    /// What a job does where the transform of a view, by its number, fails.
    pub fn on_fault(&self, view: usize) -> OnFault {
        self.views.get(view).and_then(|view| view.transform.as_ref()).map_or(OnFault::Fail, |transform| transform.on_fault)
    }
}

/// Whether the features of all sources are known.
pub(crate) fn inputs_are_known(definitions: &Definitions, view: &OnDemandFeatureView) -> bool {
    view.sources.iter().all(|source| definitions.feature_view(source).is_none_or(|view| !view.schema.is_empty()))
}

/// The way from a view back to itself, if there is one.
pub(crate) fn cycle_of(definitions: &Definitions, name: &str) -> Option<Vec<String>> {
    let mut ways: Vec<Vec<String>> = vec![vec![name.to_owned()]];
    let mut seen: Vec<String> = Vec::new();
    while let Some(way) = ways.pop() {
        let last = way.last().cloned().unwrap_or_default();
        for source in definitions.on_demand_feature_view(&last).into_iter().flat_map(|view| &view.sources) {
            let mut further = way.clone();
            further.push(format!("`{source}`"));
            if source == name {
                if let Some(first) = further.first_mut() {
                    *first = format!("`{name}`");
                }
                return Some(further);
            }
            if definitions.on_demand_feature_view(source).is_some() && !seen.contains(source) {
                seen.push(source.clone());
                if let Some(last) = further.last_mut() {
                    last.clone_from(source);
                }
                ways.push(further);
            }
        }
    }
    None
}

/// On-demand views in an order in which each comes after those that it is computed from; within that, in order of name.
pub(crate) fn in_order(definitions: &Definitions) -> Vec<&OnDemandFeatureView> {
    let mut ordered: Vec<&OnDemandFeatureView> = Vec::new();
    let all = &definitions.on_demand_feature_views;
    while ordered.len() < all.len() {
        let before = ordered.len();
        for view in all {
            let is_in = |name: &String| ordered.iter().any(|known| known.name == *name);
            let ready = view.sources.iter().all(|source| definitions.on_demand_feature_view(source).is_none() || is_in(source));
            if !is_in(&view.name) && ready {
                ordered.push(view);
            }
        }
        // There is no cycle in checked definitions.
        if ordered.len() == before {
            break;
        }
    }
    ordered
}

/// The feature views, by name, that an on-demand view is computed from, directly or by way of others, and that are not served.
pub(crate) fn unserved_inputs(name: &str, definitions: &Definitions) -> Vec<String> {
    let mut unserved = Vec::new();
    let mut open: Vec<&str> = vec![name];
    let mut seen: Vec<&str> = Vec::new();
    while let Some(name) = open.pop() {
        for source in definitions.on_demand_feature_view(name).into_iter().flat_map(|view| &view.sources) {
            if seen.contains(&source.as_str()) {
                continue;
            }
            seen.push(source);
            let on_demand = definitions.on_demand_feature_view(source);
            if on_demand.is_some_and(|view| view.write_to_online_store) {
                continue;
            }
            open.push(source);
            if definitions.feature_view(source).is_some_and(|view| !view.online) {
                unserved.push(source.clone());
            }
        }
    }
    unserved
}

/// The names that a view's expressions may use.
struct Scope<'d> {
    /// Name, the source that has it, what it is.
    names: Vec<(&'d str, &'d str, OnDemandColumn, ValueType)>,
}

impl<'d> Scope<'d> {
    fn of(definitions: &'d Definitions, view: &'d OnDemandFeatureView) -> Self {
        let mut names: Vec<(&str, &str, OnDemandColumn, ValueType)> = Vec::new();
        for source in &view.sources {
            let mut features = |features: &mut dyn Iterator<Item = &'d FeatureSchema>| {
                for feature in features {
                    let column = OnDemandColumn::Feature { view: source.clone(), feature: feature.name.clone() };
                    names.push((&feature.name, source, column, feature.value_type.clone()));
                }
            };
            if let Some(view) = definitions.feature_view(source) {
                features(&mut view.schema.iter());
                for entity in definitions.entities_of(view) {
                    let column = OnDemandColumn::JoinKey { entity: entity.name.clone() };
                    names.push((&entity.join_key, source, column, entity.value_type.clone()));
                }
            } else if let Some(view) = definitions.on_demand_feature_view(source) {
                features(&mut view.features.iter().map(|feature| &feature.schema));
            } else if let Some(request) = definitions.request_sources.iter().find(|request| request.name == *source) {
                for field in &request.schema {
                    let column = OnDemandColumn::Request { source: source.clone(), field: field.name.clone() };
                    names.push((&field.name, source, column, field.value_type.clone()));
                }
            }
        }
        Self { names }
    }

    fn find(&self, parts: &[String]) -> Result<(OnDemandColumn, ValueType), String> {
        let (source, name) = match parts {
            [] => return Ok((OnDemandColumn::Now, ValueType::UnixTimestamp)),
            [name] => match name.split_once("__") {
                // As long feature names are written.
                Some((source, feature)) if self.names.iter().any(|(_, known, ..)| *known == source) => (Some(source), feature),
                _ => (None, name.as_str()),
            },
            [source, name] => (Some(source.as_str()), name.as_str()),
            more => return Err(format!("`{}` has too many parts: expected a field, or a source and its field", more.join("."))),
        };
        let of_source = |known: &str| source.is_none_or(|source| source == known);
        let mut found: Vec<&(&str, &str, OnDemandColumn, ValueType)> = Vec::new();
        for entry in self.names.iter().filter(|(known, of, ..)| *known == name && of_source(of)) {
            // Views that share an entity have its key in common.
            if !found.iter().any(|(_, _, column, _)| *column == entry.2) {
                found.push(entry);
            }
        }
        match found.as_slice() {
            [(_, _, column, value_type)] => Ok((column.clone(), value_type.clone())),
            [] => {
                let all: Vec<String> =
                    self.names.iter().filter(|(_, of, ..)| of_source(of)).map(|(name, ..)| (*name).to_owned()).collect();
                let of = source.map_or_else(|| "the view's sources have".to_owned(), |source| format!("`{source}` has"));
                Err(format!("{of} no field `{name}`{}", instead(name, all.iter().map(String::as_str))))
            }
            several => {
                let ways: Vec<String> = several.iter().map(|(name, of, ..)| format!("`{of}.{name}`")).collect();
                Err(format!("`{name}` is in several sources; write {}", ways.join(" or ")))
            }
        }
    }
}
