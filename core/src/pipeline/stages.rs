//! Pipelines with components.

use alloc::vec;
use alloc::vec::Vec;

use super::{Compute, Made, PipelineView};
use crate::expression::{ExpressionColumn, LinkInput, Program};
use crate::{FeatureSchema, RunTransforms, Transform, TransformCall, ValueType};

/// The features that a request or a data set asks for, of any number of views, without what none of them needs.
///
/// Each stage but the last ends with the call of a component. All programs take columns of one pool: first those from outside,
/// then what components gave, in the order of the stages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pipeline {
    columns: Vec<u32>,
    stages: Vec<Stage>,
    last: ProgramOfPool,
    /// By output: the stages whose component it is computed from. Empty where there are no stages.
    output_stages: Vec<Vec<usize>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Stage {
    view: usize,
    transform: Transform,
    inputs: ProgramOfPool,
    input_types: Vec<ValueType>,
    outputs: Vec<FeatureSchema>,
    /// The stages before it that its inputs are computed from.
    needs: Vec<usize>,
}

/// A program, and the places of its inputs in the pool.
#[derive(Clone, Debug, Default, PartialEq)]
struct ProgramOfPool {
    program: Program,
    places: Vec<usize>,
}

/// A column of the pool before it has a place: from outside, or an output of a component's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Column(u32),
    Component { view: usize, output: usize },
}

/// A linked program whose inputs have no places yet.
struct Part {
    program: Program,
    sources: Vec<Source>,
}

impl Pipeline {
    /// Links views, each of which takes outputs of views before it at the most, for these outputs (view and feature). `None` where
    /// one is not there, or the whole is too large.
    pub fn link(views: &[PipelineView<'_>], outputs: &[(usize, usize)]) -> Option<Self> {
        // A component's features stand in programs as columns from outside, numbered behind those that are.
        let outside = views.iter().flat_map(|view| view.inputs.iter().chain(&view.mask)).map(|input| match input {
            LinkInput::Column(column) => column.saturating_add(1),
            LinkInput::Output { .. } => 0,
        });
        let first = outside.max().unwrap_or(0);
        let mut made: Vec<(usize, usize)> = Vec::new();
        let mut standing: Vec<(Program, Vec<LinkInput>)> = Vec::with_capacity(views.len());
        for (number, view) in views.iter().enumerate() {
            match view.compute {
                Compute::Program(program) => standing.push(masked(program.clone(), view.inputs.clone(), view.mask)?),
                Compute::Transform(_) => {
                    let start = u32::try_from(made.len()).ok()?;
                    made.extend((0..view.features.len()).map(|output| (number, output)));
                    let inputs =
                        (start..u32::try_from(made.len()).ok()?).map(|at| Some(LinkInput::Column(first.checked_add(at)?)));
                    let program = Program::identity(view.features.len())?;
                    standing.push(masked(program, inputs.collect::<Option<Vec<_>>>()?, view.mask)?);
                }
            }
        }
        let source = |column: u32| match column.checked_sub(first) {
            Some(at) => made.get(at as usize).map(|(view, output)| Source::Component { view: *view, output: *output }),
            None => Some(Source::Column(column)),
        };
        let link = |more: Option<(Program, Vec<LinkInput>)>, outputs: &[(usize, usize)]| {
            let programs: Vec<(&Program, Vec<LinkInput>)> =
                standing.iter().chain(&more).map(|(program, inputs)| (program, inputs.clone())).collect();
            let (program, columns) = Program::link(&programs, outputs)?;
            Some(Part { program, sources: columns.into_iter().map(source).collect::<Option<_>>()? })
        };
        let last = link(None, outputs)?;
        // From the last view to the first: what one takes is of those before.
        let mut parts: Vec<(usize, Part)> = Vec::new();
        let is_needed = |parts: &[(usize, Part)], view: usize| {
            let of_view = |source: &Source| matches!(source, Source::Component { view: known, .. } if *known == view);
            last.sources.iter().any(of_view) || parts.iter().any(|(_, part)| part.sources.iter().any(of_view))
        };
        for (number, view) in views.iter().enumerate().rev() {
            if matches!(view.compute, Compute::Transform(_)) && is_needed(&parts, number) {
                let takes = (Program::identity(view.inputs.len())?, view.inputs.clone());
                let outputs: Vec<(usize, usize)> = (0..view.inputs.len()).map(|input| (views.len(), input)).collect();
                // An input from a view behind this one has no place yet, and is not linked.
                parts.push((number, link(Some(takes), &outputs)?));
            }
        }
        parts.reverse();
        Self::placed(views, parts, last)
    }

    /// Gives all columns their places in the pool.
    fn placed(views: &[PipelineView<'_>], parts: Vec<(usize, Part)>, last: Part) -> Option<Self> {
        let mut columns: Vec<u32> = Vec::new();
        for source in parts.iter().flat_map(|(_, part)| &part.sources).chain(&last.sources) {
            if let Source::Column(column) = source
                && !columns.contains(column)
            {
                columns.push(*column);
            }
        }
        let mut starts: Vec<(usize, usize)> = Vec::with_capacity(parts.len());
        let mut next = columns.len();
        for (view, _) in &parts {
            starts.push((*view, next));
            next += views.get(*view)?.features.len();
        }
        let stage_of = |view: usize| starts.iter().position(|(known, _)| *known == view);
        let place = |source: &Source| match source {
            Source::Column(column) => columns.iter().position(|known| known == column),
            Source::Component { view, output } => Some(starts.get(stage_of(*view)?)?.1 + output),
        };
        let of_pool = |part: Part| {
            let places = part.sources.iter().map(place).collect::<Option<_>>()?;
            Some(ProgramOfPool { program: part.program, places })
        };
        let mut stages: Vec<Stage> = Vec::with_capacity(parts.len());
        for (view, part) in parts {
            let known = views.get(view)?;
            let Compute::Transform(transform) = known.compute else { return None };
            let mut needs: Vec<usize> = Vec::new();
            for source in &part.sources {
                if let Source::Component { view, .. } = source {
                    needs.push(stage_of(*view)?);
                }
            }
            // One of its own, or of one behind it, cannot be there yet.
            if needs.iter().any(|stage| *stage >= stages.len()) {
                return None;
            }
            stages.push(Stage {
                view,
                transform: *transform,
                inputs: of_pool(part)?,
                input_types: known.input_types.clone(),
                outputs: known.features.to_vec(),
                needs,
            });
        }
        let mut output_stages: Vec<Vec<usize>> = Vec::new();
        if !stages.is_empty() {
            for output in 0..last.program.outputs().len() {
                let mut needs: Vec<usize> = Vec::new();
                for (source, needed) in last.sources.iter().zip(last.program.inputs_of(output)) {
                    if let (Source::Component { view, .. }, true) = (source, needed) {
                        needs.push(stage_of(*view)?);
                    }
                }
                output_stages.push(needs);
            }
        }
        let last = of_pool(last)?;
        Some(Self { columns, stages, last, output_stages })
    }

    /// The columns that it takes, in order, by the numbers that [`LinkInput::Column`] had.
    pub fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// Whether it calls components.
    pub fn has_transforms(&self) -> bool {
        !self.stages.is_empty()
    }

    /// The components that it calls.
    pub fn transforms(&self) -> impl Iterator<Item = &Transform> {
        self.stages.iter().map(|stage| &stage.transform)
    }

    /// Computes the outputs for so many rows, of columns with as many values each.
    pub fn run<'a>(&'a self, inputs: Vec<ExpressionColumn<'a>>, rows: usize, transforms: &dyn RunTransforms) -> Made<'a> {
        if self.stages.is_empty() {
            return Made { columns: self.last.program.run(inputs, rows).into_iter().map(Some).collect(), faults: Vec::new() };
        }
        let mut pool = inputs;
        pool.resize_with(self.columns.len(), ExpressionColumn::null);
        // By stage, whether it or one that it needs failed.
        let mut failed: Vec<bool> = Vec::with_capacity(self.stages.len());
        let mut faults = Vec::new();
        for stage in &self.stages {
            let harmed = stage.needs.iter().any(|need| failed.get(*need) != Some(&false));
            let made = if harmed {
                None
            } else {
                let inputs = stage.inputs.run(&pool, rows).into_iter().zip(&stage.input_types);
                let inputs: Vec<_> = inputs.map(|(column, value_type)| column.full(value_type.physical(), rows)).collect();
                let call = TransformCall {
                    transform: &stage.transform,
                    rows,
                    inputs: &inputs,
                    input_types: &stage.input_types,
                    outputs: &stage.outputs,
                };
                match call.run(transforms) {
                    Ok(columns) => Some(columns),
                    Err(fault) => {
                        faults.push((stage.view, fault));
                        None
                    }
                }
            };
            failed.push(made.is_none());
            let columns = made.unwrap_or_else(|| vec![ExpressionColumn::null(); stage.outputs.len()]);
            pool.extend(columns);
        }
        let columns = self.last.run(&pool, rows).into_iter().map(ExpressionColumn::into_owned);
        let columns = columns.zip(&self.output_stages).map(|(column, needs)| {
            let harmed = needs.iter().any(|need| failed.get(*need) != Some(&false));
            if harmed { None } else { Some(column) }
        });
        Made { columns: columns.collect(), faults }
    }
}

/// A program and its inputs, with a mask, if there is one.
fn masked(program: Program, mut inputs: Vec<LinkInput>, mask: Option<LinkInput>) -> Option<(Program, Vec<LinkInput>)> {
    let Some(mask) = mask else { return Some((program, inputs)) };
    inputs.push(mask);
    Some((program.masked()?, inputs))
}

impl ProgramOfPool {
    /// Its outputs for columns of a pool, which stay there.
    fn run<'a>(&'a self, pool: &'a [ExpressionColumn<'_>], rows: usize) -> Vec<ExpressionColumn<'a>> {
        let inputs = self.places.iter().map(|place| pool.get(*place).map_or_else(ExpressionColumn::null, ExpressionColumn::lent));
        self.program.run(inputs.collect(), rows)
    }
}
