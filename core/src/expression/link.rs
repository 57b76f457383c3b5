//! Several programs as one, without what nobody asks for.

use alloc::vec;
use alloc::vec::Vec;

use super::{Constant, Function, Program, ProgramStep};

/// Where a program's input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkInput {
    /// A column from outside, by the caller's number.
    Column(u32),
    /// An output of a program before this one.
    Output {
        /// The program's number.
        program: usize,
        /// The number of its output.
        output: usize,
    },
}

/// A register of the whole, before its inputs and constants are counted.
#[derive(Clone, Copy)]
enum Place {
    Input(u16),
    Constant(u16),
    Step(u16),
}

impl Program {
    /// The registers that it has: inputs, constants and steps.
    pub fn register_count(&self) -> usize {
        self.last_uses.len()
    }

    /// One program with these outputs of several (program and output), and the columns that it takes, in order. A program takes
    /// outputs of programs before it at the most. `None` where an output is not there, or the whole is too large: what programs
    /// whose registers together are at most [`PROGRAM_REGISTERS_MAX`](super::PROGRAM_REGISTERS_MAX) never are.
    pub fn link(programs: &[(&Self, Vec<LinkInput>)], outputs: &[(usize, usize)]) -> Option<(Self, Vec<u32>)> {
        let needed = needed(programs, outputs)?;
        let mut columns: Vec<u32> = Vec::new();
        let mut constants: Vec<Constant> = Vec::new();
        let mut steps: Vec<(Function, Vec<Place>)> = Vec::new();
        let mut places: Vec<Vec<Option<Place>>> = Vec::with_capacity(programs.len());
        let number = |count: usize| u16::try_from(count).ok();
        for ((program, inputs), needed) in programs.iter().zip(&needed) {
            let mut here: Vec<Option<Place>> = Vec::with_capacity(needed.len());
            let mut wanted = needed.iter();
            for input in inputs {
                let place = match (wanted.next(), input) {
                    (Some(true), LinkInput::Column(column)) => {
                        let at = columns.iter().position(|known| known == column).unwrap_or(columns.len());
                        if at == columns.len() {
                            columns.push(*column);
                        }
                        Some(Place::Input(number(at)?))
                    }
                    (Some(true), LinkInput::Output { program, output }) => {
                        let register = register_of(programs, *program, *output)?;
                        *places.get(*program)?.get(register)?
                    }
                    _ => None,
                };
                here.push(place);
            }
            for constant in &program.constants {
                let mut place = None;
                if wanted.next() == Some(&true) {
                    place = Some(Place::Constant(number(constants.len())?));
                    constants.push(constant.clone());
                }
                here.push(place);
            }
            for step in &program.steps {
                let mut place = None;
                if wanted.next() == Some(&true) {
                    let argument = |register: &u16| *here.get(usize::from(*register))?;
                    let arguments = step.arguments.iter().map(argument).collect::<Option<Vec<Place>>>()?;
                    place = Some(Place::Step(number(steps.len())?));
                    steps.push((step.function, arguments));
                }
                here.push(place);
            }
            places.push(here);
        }
        let (first_constant, first_step) = (number(columns.len())?, number(columns.len() + constants.len())?);
        let register = |place: Place| match place {
            Place::Input(number) => Some(number),
            Place::Constant(number) => first_constant.checked_add(number),
            Place::Step(number) => first_step.checked_add(number),
        };
        let mut linked = Vec::with_capacity(steps.len());
        for (function, arguments) in steps {
            let arguments = arguments.into_iter().map(register).collect::<Option<Vec<u16>>>()?;
            linked.push(ProgramStep { function, arguments: arguments.into() });
        }
        let output = |(program, output): &(usize, usize)| {
            register((*places.get(*program)?.get(register_of(programs, *program, *output)?)?)?)
        };
        let outputs = outputs.iter().map(output).collect::<Option<Vec<u16>>>()?;
        Some((Self::new(first_constant, constants, linked, outputs)?, columns))
    }
}

impl Program {
    /// By input, whether an output is computed from it.
    pub(crate) fn inputs_of(&self, output: usize) -> Vec<bool> {
        let needed = needed(&[(self, Vec::new())], &[(0, output)]).and_then(|mut needed| needed.pop());
        needed.unwrap_or_default().into_iter().take(self.input_count()).collect()
    }
}

/// By program and register, whether one of the outputs needs it.
fn needed(programs: &[(&Program, Vec<LinkInput>)], outputs: &[(usize, usize)]) -> Option<Vec<Vec<bool>>> {
    let mut needed: Vec<Vec<bool>> = programs.iter().map(|(program, _)| vec![false; program.register_count()]).collect();
    for (program, output) in outputs {
        *needed.get_mut(*program)?.get_mut(register_of(programs, *program, *output)?)? = true;
    }
    // From the last to the first: what one takes is of those before.
    for (number, (program, inputs)) in programs.iter().enumerate().rev() {
        let (before, mine) = needed.split_at_mut_checked(number)?;
        let mine = mine.first_mut()?;
        let first_step = program.input_count() + program.constants.len();
        for (index, step) in program.steps.iter().enumerate().rev() {
            if mine.get(first_step + index) == Some(&true) {
                for argument in &step.arguments {
                    *mine.get_mut(usize::from(*argument))? = true;
                }
            }
        }
        for (input, needed) in inputs.iter().zip(mine.iter()) {
            if let (LinkInput::Output { program, output }, true) = (input, *needed) {
                *before.get_mut(*program)?.get_mut(register_of(programs, *program, *output)?)? = true;
            }
        }
    }
    Some(needed)
}

fn register_of(programs: &[(&Program, Vec<LinkInput>)], program: usize, output: usize) -> Option<usize> {
    programs.get(program)?.0.outputs.get(output).map(|register| usize::from(*register))
}
