//! A program in the making: each step is there once, however often an expression says it.

use std::collections::HashMap;

use mezze_core::{Constant, Function, PROGRAM_REGISTERS_MAX, Program, ProgramStep, ValueType};
use sqlparser::tokenizer::Span;

/// A register, before inputs and constants are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Input(u16),
    Constant(u16),
    Step(u16),
}

/// A part of an expression: where its value is, and what it is.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    pub(super) place: Place,
    /// The type; `None` of a `NULL` that may be of any.
    pub(super) value_type: Option<ValueType>,
    /// Where it stands in the text.
    pub(super) span: Span,
    /// The text, where it is one that is written out.
    pub(super) literal: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Builder {
    constants: Vec<Constant>,
    /// Constants by their bytes, as floats have no order.
    known_constants: HashMap<(u8, Vec<u8>), u16>,
    steps: Vec<(Function, Vec<Place>)>,
    known_steps: HashMap<(Function, Vec<Place>), u16>,
}

impl Builder {
    pub(super) fn constant(&mut self, constant: Constant) -> Place {
        let key = match &constant {
            Constant::Null => (0, Vec::new()),
            Constant::Int(value) => (1, value.to_le_bytes().to_vec()),
            Constant::Float(value) => (2, value.to_bits().to_le_bytes().to_vec()),
            Constant::Bytes(bytes) => (3, bytes.clone()),
        };
        let next = self.constants.len();
        let number = *self.known_constants.entry(key).or_insert_with(|| u16::try_from(next).unwrap_or(u16::MAX));
        if usize::from(number) == next {
            self.constants.push(constant);
        }
        Place::Constant(number)
    }

    pub(super) fn step(&mut self, function: Function, arguments: impl Into<Vec<Place>>) -> Place {
        let arguments = arguments.into();
        let next = self.steps.len();
        let key = (function, arguments.clone());
        let number = *self.known_steps.entry(key).or_insert_with(|| u16::try_from(next).unwrap_or(u16::MAX));
        if usize::from(number) == next {
            self.steps.push((function, arguments));
        }
        Place::Step(number)
    }

    /// The program, which takes inputs up to the last that is used; `None` where it is larger than a program may be.
    pub(super) fn finish(self, outputs: &[Place]) -> Option<Program> {
        let places = self.steps.iter().flat_map(|(_, arguments)| arguments).chain(outputs);
        let used = places.map(|place| if let Place::Input(number) = place { number + 1 } else { 0 });
        let input_count = used.max().unwrap_or(0);
        let total = usize::from(input_count) + self.constants.len() + self.steps.len();
        if total > PROGRAM_REGISTERS_MAX {
            return None;
        }
        let first_step = input_count + u16::try_from(self.constants.len()).ok()?;
        let register = |place: &Place| match place {
            Place::Input(number) => *number,
            Place::Constant(number) => input_count + number,
            Place::Step(number) => first_step + number,
        };
        let steps = self.steps.iter().map(|(function, arguments)| ProgramStep {
            function: *function,
            arguments: arguments.iter().map(register).collect(),
        });
        Program::new(input_count, self.constants, steps.collect(), outputs.iter().map(register).collect())
    }

    /// The constant at a place, if it is one.
    pub(super) fn constant_at(&self, place: Place) -> Option<&Constant> {
        match place {
            Place::Constant(number) => self.constants.get(usize::from(number)),
            Place::Input(_) | Place::Step(_) => None,
        }
    }
}
