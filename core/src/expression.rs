//! Expressions: programs over columns, the same bits on every host.
//!
//! A [`Program`] is a list of steps in order. Each takes columns that were there before it and makes one more. There is no
//! branch and no state, and no step fails: where a function has no value for its arguments (an overflow, a text that is no
//! number) its result is null. So all rows take the same way, many at a time, and one request cannot stop another.
//!
//! docs/TRANSFORMS.md has the functions and what they mean. That meaning belongs to the expression set's version
//! ([`EXPRESSION_SET`]): a function's meaning never changes, a changed one is a new function in a new version.
//!
//! A column has one of three lanes ([`Values`]): `bool`, `int32`, `int64` and `unix_timestamp` are integers, `float32` and
//! `float64` are floats, all else is bytes, as [`encode_payload`](crate::encode_payload) makes them. A step that gets another
//! lane than it wants gives nulls: a damaged program gives wrong values, and never a panic.

mod cast;
mod column;
mod date;
mod evaluate;
mod function;
mod link;
mod list;
mod math;
mod number;
mod text;

use alloc::boxed::Box;
use alloc::vec::Vec;

pub use column::{Column as ExpressionColumn, Values};
pub use function::Function;
pub use link::LinkInput;

use crate::bytes::{Read, Reader, Writer};

/// The version of the functions and their meaning.
pub const EXPRESSION_SET: u16 = 1;
/// Bytes of a text or list that an expression makes, at the most; beyond it the result is null.
pub const EXPRESSION_BYTES_MAX: usize = 65_536;
/// Inputs, constants and steps of one program at the most.
pub const PROGRAM_REGISTERS_MAX: usize = 32_768;

/// Expressions, ready to run.
///
/// Registers are numbered: inputs first, then constants, then the results of steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    input_count: u16,
    constants: Vec<Constant>,
    steps: Vec<ProgramStep>,
    outputs: Vec<u16>,
    /// By register: the step after which nobody needs it.
    last_uses: Vec<u32>,
}

/// A value that a program has.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// Nothing, of any type.
    Null,
    /// An integer, a boolean, nanoseconds of an instant.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text, or the payload of a value.
    Bytes(Vec<u8>),
}

/// A function of registers before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramStep {
    /// What to do.
    pub function: Function,
    /// The registers it takes, in order.
    pub arguments: Box<[u16]>,
}

impl Program {
    /// A program of its parts; `None` where a step or an output names a register that is not there yet, a step has another
    /// number of arguments than its function, or there are more registers than [`PROGRAM_REGISTERS_MAX`].
    pub fn new(input_count: u16, constants: Vec<Constant>, steps: Vec<ProgramStep>, outputs: Vec<u16>) -> Option<Self> {
        let first = usize::from(input_count) + constants.len();
        let count = first + steps.len();
        if count > PROGRAM_REGISTERS_MAX || outputs.iter().any(|output| usize::from(*output) >= count) {
            return None;
        }
        let mut last_uses = alloc::vec![0_u32; count];
        for (number, step) in steps.iter().enumerate() {
            if !step.function.takes(step.arguments.len()) {
                return None;
            }
            for argument in &step.arguments {
                if usize::from(*argument) >= first + number {
                    return None;
                }
                *last_uses.get_mut(usize::from(*argument))? = number as u32;
            }
        }
        for output in &outputs {
            *last_uses.get_mut(usize::from(*output))? = u32::MAX;
        }
        Some(Self { input_count, constants, steps, outputs, last_uses })
    }

    /// A program whose outputs are its inputs, if there can be as many.
    #[cfg(feature = "transforms")]
    pub(crate) fn identity(count: usize) -> Option<Self> {
        let count = u16::try_from(count).ok()?;
        Self::new(count, Vec::new(), Vec::new(), (0..count).collect())
    }

    /// The same with one input more: where that is null, so is every output.
    #[cfg(feature = "transforms")]
    pub(crate) fn masked(&self) -> Option<Self> {
        let mask = self.input_count;
        // What comes behind the inputs moves by one.
        let moved = |register: u16| if register < mask { Some(register) } else { register.checked_add(1) };
        let mut constants = self.constants.clone();
        constants.push(Constant::Null);
        let null = u16::try_from(usize::from(mask) + constants.len()).ok()?;
        // And what comes behind the constants by two.
        let first_step = usize::from(mask) + self.constants.len();
        let moved = |register: u16| {
            if usize::from(register) < first_step { moved(register) } else { register.checked_add(2) }
        };
        let step = |function, arguments: &[u16]| ProgramStep { function, arguments: arguments.into() };
        let mut steps = Vec::with_capacity(self.steps.len() + 1 + self.outputs.len());
        for known in &self.steps {
            let arguments = known.arguments.iter().map(|register| moved(*register)).collect::<Option<Vec<_>>>()?;
            steps.push(step(known.function, &arguments));
        }
        let next = |steps: &Vec<ProgramStep>| u16::try_from(usize::from(null) + 1 + steps.len()).ok();
        let missing = next(&steps)?;
        steps.push(step(Function::IsNull, &[mask]));
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for output in &self.outputs {
            outputs.push(next(&steps)?);
            steps.push(step(Function::Select, &[missing, null, moved(*output)?]));
        }
        Self::new(mask.checked_add(1)?, constants, steps, outputs)
    }

    /// How many columns it takes.
    pub fn input_count(&self) -> usize {
        usize::from(self.input_count)
    }

    /// Its constants.
    pub fn constants(&self) -> &[Constant] {
        &self.constants
    }

    /// Its steps.
    pub fn steps(&self) -> &[ProgramStep] {
        &self.steps
    }

    /// The registers that are its results.
    pub fn outputs(&self) -> &[u16] {
        &self.outputs
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.u16(self.input_count);
        out.list(&self.constants, |out, constant| match constant {
            Constant::Null => out.u8(0),
            Constant::Int(value) => {
                out.u8(1);
                out.i64(*value);
            }
            Constant::Float(value) => {
                out.u8(2);
                out.i64(value.to_bits() as i64);
            }
            Constant::Bytes(bytes) => {
                out.u8(3);
                out.blob(bytes);
            }
        });
        out.list(&self.steps, |out, step| {
            out.u8(step.function.code());
            out.list(&step.arguments, |out, argument| out.u16(*argument));
        });
        out.list(&self.outputs, |out, output| out.u16(*output));
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Read<Self> {
        let input_count = from.u16("input count")?;
        let constants = from.list("constants", |from| {
            Ok(match from.u8("constant")? {
                0 => Constant::Null,
                1 => Constant::Int(from.i64("constant")?),
                2 => Constant::Float(f64::from_bits(from.u64("constant")?)),
                3 => {
                    let count = from.u32("constant")? as usize;
                    Constant::Bytes(from.take(count, "constant")?.into())
                }
                _ => return Err(from.corrupt("constant")),
            })
        })?;
        let steps = from.list("steps", |from| {
            let code = from.u8("function")?;
            let function = Function::of_code(code).ok_or_else(|| from.corrupt("function"))?;
            Ok(ProgramStep { function, arguments: from.list("arguments", |from| from.u16("argument"))?.into() })
        })?;
        let outputs = from.list("outputs", |from| from.u16("output"))?;
        Self::new(input_count, constants, steps, outputs).ok_or_else(|| from.corrupt("program"))
    }
}
