//! Pipelines of hosts that run no components: what is computed from one has no value there.

use alloc::vec;
use alloc::vec::Vec;

use super::{Compute, Made, PipelineView};
use crate::expression::{Constant, ExpressionColumn, LinkInput, Program};
use crate::{NoTransforms, RunTransforms, Transform};

/// The features that a request asks for, of any number of views, without what none of them needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pipeline {
    columns: Vec<u32>,
    program: Program,
    /// By output, whether a component is needed for it.
    lost: Vec<bool>,
    /// The components that are not here, with their views.
    missing: Vec<(usize, Transform)>,
}

impl Pipeline {
    /// Links views, each of which takes outputs of views before it at the most, for these outputs (view and feature). `None` where
    /// one is not there, or the whole is too large.
    pub fn link(views: &[PipelineView<'_>], outputs: &[(usize, usize)]) -> Option<Self> {
        let mut lost: Vec<Vec<bool>> = Vec::with_capacity(views.len());
        let mut programs: Vec<(Program, Vec<LinkInput>)> = Vec::with_capacity(views.len());
        let mut missing = Vec::new();
        for (number, view) in views.iter().enumerate() {
            let count = view.features.len();
            match view.compute {
                Compute::Program(program) => {
                    let is_lost = |input: &LinkInput| match input {
                        LinkInput::Column(_) => false,
                        LinkInput::Output { program, output } => {
                            lost.get(*program).and_then(|lost| lost.get(*output)) == Some(&true)
                        }
                    };
                    let of_output = |output| {
                        let needed = program.inputs_of(output);
                        view.inputs.iter().zip(needed).any(|(input, needed)| needed && is_lost(input))
                    };
                    let here = (0..count).map(of_output).collect();
                    lost.push(here);
                    programs.push((program.clone(), view.inputs.clone()));
                }
                Compute::Transform(transform) => {
                    lost.push(vec![true; count]);
                    programs.push((Program::new(0, vec![Constant::Null], Vec::new(), vec![0; count])?, Vec::new()));
                    missing.push((number, *transform));
                }
            }
        }
        let lent: Vec<(&Program, Vec<LinkInput>)> = programs.iter().map(|(program, inputs)| (program, inputs.clone())).collect();
        let (program, columns) = Program::link(&lent, outputs)?;
        let lost: Vec<bool> =
            outputs.iter().map(|(view, output)| lost.get(*view)?.get(*output).copied()).collect::<Option<_>>()?;
        missing.retain(|_| lost.contains(&true));
        Some(Self { columns, program, lost, missing })
    }

    /// The columns that it takes, in order, by the numbers that [`LinkInput::Column`] had.
    pub fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// The components that it needs.
    pub fn transforms(&self) -> impl Iterator<Item = &Transform> {
        self.missing.iter().map(|(_, transform)| transform)
    }

    /// Computes the outputs for so many rows, of columns with as many values each.
    pub fn run<'a>(&'a self, inputs: Vec<ExpressionColumn<'a>>, rows: usize, _: &dyn RunTransforms) -> Made<'a> {
        let columns = self.program.run(inputs, rows).into_iter().zip(&self.lost);
        let faults = self.missing.iter().map(|(view, transform)| (*view, NoTransforms::fault(&transform.id)));
        Made {
            columns: columns.map(|(column, lost)| if *lost { None } else { Some(column) }).collect(),
            faults: faults.collect(),
        }
    }
}
