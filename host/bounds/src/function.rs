//! One function, counted and stopped.
//!
//! A body becomes
//!
//! ```text
//! block $exit (its results)
//!   block $stopped
//!     block $trap
//!       block $fuel
//!         block $body (its results)
//!           what it was; a `br` to the function's own label goes here, and so does `return`
//!         end
//!         br $exit
//!       end
//!       why it stops: fuel
//!       br $stopped
//!     end
//!     why it stops: a trap
//!   end
//!   zeros, as many as it has results
//! end
//! ```
//!
//! so that it can be left from everywhere with a single branch, and each caller leaves its own body in turn.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BlockType, Function, Ieee32, Ieee64, Instruction, ValType};
use wasmparser::{FunctionBody, Operator};

use crate::BoundError;
use crate::module::{Added, Why};

/// What a function's body is rewritten with.
pub(crate) struct Rewrite<'m> {
    pub(crate) added: &'m Added,
    /// The types of its parameters and results.
    pub(crate) params: &'m [ValType],
    pub(crate) results: &'m [ValType],
    /// The type of a block with those results.
    pub(crate) block: BlockType,
}

/// Labels around the body, counted from the body's own.
const FUEL: u32 = 1;
const TRAP: u32 = 2;
const STOPPED: u32 = 3;
const EXIT: u32 = 4;

/// A call within so many others has gone too deep. Hosts differ in the stack that they give; this fits all of them.
pub(crate) const DEPTH_MAX: i32 = 1_000;

/// A function without calls that has more instructions looks at the fuel where it is entered, and one with more calls in a row
/// looks at it between them.
const STRAIGHT_MAX: usize = 256;

/// Locals of 64 bits that count as one call within calls.
const SLOTS_OF_FRAME: u32 = 32;

/// Locals of its own, each there when it is first needed.
#[derive(Default)]
struct Temporaries {
    first: u32,
    types: Vec<ValType>,
}

impl Temporaries {
    fn get(&mut self, wanted: ValType, nth: usize) -> u32 {
        let of_type = |(_, found): &(usize, &ValType)| **found == wanted;
        let found = self.types.iter().enumerate().filter(of_type).nth(nth).map(|(at, _)| at);
        let at = found.unwrap_or_else(|| {
            self.types.push(wanted);
            self.types.len() - 1
        });
        self.first + at as u32
    }
}

pub(crate) fn rewrite(body: &FunctionBody<'_>, with: &Rewrite<'_>) -> Result<Function, BoundError> {
    let malformed = |error: wasmparser::BinaryReaderError| BoundError::Malformed(error.to_string());
    let reencoded = |error: wasm_encoder::reencode::Error| BoundError::Malformed(error.to_string());
    let mut locals: Vec<(u32, ValType)> = Vec::new();
    let mut first = with.params.len() as u32;
    for pair in body.get_locals_reader().map_err(malformed)? {
        let (count, local) = pair.map_err(malformed)?;
        locals.push((count, RoundtripReencoder.val_type(local).map_err(reencoded)?));
        first = first.checked_add(count).ok_or_else(|| BoundError::Malformed("a function has too many locals".into()))?;
    }
    let mut operators = Vec::new();
    let mut reader = body.get_operators_reader().map_err(malformed)?;
    while !reader.eof() {
        operators.push(reader.read().map_err(malformed)?);
    }
    let is_call = |operator: &Operator<'_>| matches!(operator, Operator::Call { .. } | Operator::CallIndirect { .. });
    // A frame of many locals is as deep as several.
    let wide = |local: &ValType| if *local == ValType::V128 { 2_u32 } else { 1 };
    let slots = with.params.iter().map(wide).sum::<u32>()
        + locals.iter().map(|(count, local)| count.saturating_mul(wide(local))).sum::<u32>();
    let step = 1 + (slots / SLOTS_OF_FRAME) as i32;
    let calls = step > 1 || operators.iter().any(is_call);
    let mut writer = Writer {
        out: Vec::new(),
        added: with.added,
        level: 0,
        // Its locals are cleared for each call.
        cost: 1 + i64::from(first / 128),
        straight: 0,
        step,
        temporaries: Temporaries { first, types: Vec::new() },
    };
    for label in [with.block, BlockType::Empty, BlockType::Empty, BlockType::Empty, with.block] {
        writer.out.push(Instruction::Block(label));
    }
    if calls {
        writer.enter();
    } else if operators.len() > STRAIGHT_MAX {
        writer.check_fuel();
    }
    // The last `end` is the function's.
    let operators = operators.split_last().map_or(&[][..], |(_, operators)| operators);
    for operator in operators {
        let instruction = RoundtripReencoder.instruction(operator.clone()).map_err(reencoded)?;
        writer.write(operator, instruction)?;
    }
    writer.flush();
    writer.leave(with.results, calls)?;
    locals.extend(writer.temporaries.types.iter().map(|local| (1, *local)));
    let mut function = Function::new(locals);
    for instruction in &writer.out {
        function.instruction(instruction);
    }
    Ok(function)
}

struct Writer<'m, 'b> {
    out: Vec<Instruction<'b>>,
    added: &'m Added,
    /// How many blocks of the body are open.
    level: u32,
    /// What the instructions cost that are written and not counted yet; entering a function costs 1.
    cost: i64,
    /// What it adds to the depth.
    step: i32,
    /// Calls since fuel was looked at.
    straight: usize,
    temporaries: Temporaries,
}

impl<'b> Writer<'_, 'b> {
    fn push(&mut self, instructions: impl IntoIterator<Item = Instruction<'b>>) {
        self.out.extend(instructions);
    }

    /// Counts what was written since the last time.
    fn flush(&mut self) {
        if self.cost > 0 {
            let fuel = self.added.fuel;
            self.push([
                Instruction::GlobalGet(fuel),
                Instruction::I64Const(self.cost),
                Instruction::I64Sub,
                Instruction::GlobalSet(fuel),
            ]);
            self.cost = 0;
        }
    }

    /// Leaves where the fuel is used up.
    fn check_fuel(&mut self) {
        self.straight = 0;
        let (fuel, label) = (self.added.fuel, self.level + FUEL);
        self.push([Instruction::GlobalGet(fuel), Instruction::I64Const(0), Instruction::I64LtS, Instruction::BrIf(label)]);
    }

    /// Leaves where something that was called has stopped.
    fn check_stopped(&mut self) {
        let (why, label) = (self.added.why, self.level + STOPPED);
        self.push([Instruction::GlobalGet(why), Instruction::BrIf(label)]);
    }

    /// Leaves where what is on the stack is true.
    fn trap_if(&mut self) {
        self.push([Instruction::BrIf(self.level + TRAP)]);
    }

    fn enter(&mut self) {
        let depth = self.added.depth;
        self.push([
            Instruction::GlobalGet(depth),
            Instruction::I32Const(self.step),
            Instruction::I32Add,
            Instruction::GlobalSet(depth),
            Instruction::GlobalGet(depth),
            Instruction::I32Const(DEPTH_MAX),
            Instruction::I32GtU,
        ]);
        self.overflow_if();
        self.check_fuel();
    }

    /// Leaves where what is on the stack is true: a stack is full.
    fn overflow_if(&mut self) {
        let (why, label) = (self.added.why, self.level + STOPPED + 1);
        self.push([
            Instruction::If(BlockType::Empty),
            Instruction::I32Const(Why::Stack.letter()),
            Instruction::GlobalSet(why),
            Instruction::Br(label),
            Instruction::End,
        ]);
    }

    /// What stands behind the body.
    fn leave(&mut self, results: &[ValType], calls: bool) -> Result<(), BoundError> {
        let (depth, why) = (self.added.depth, self.added.why);
        self.push([
            // $body
            Instruction::End,
            Instruction::Br(EXIT - FUEL),
            // $fuel
            Instruction::End,
            Instruction::I32Const(Why::Fuel.letter()),
            Instruction::GlobalSet(why),
            Instruction::Br(STOPPED - TRAP),
            // $trap
            Instruction::End,
            Instruction::I32Const(Why::Trap.letter()),
            Instruction::GlobalSet(why),
            // $stopped
            Instruction::End,
        ]);
        for result in results {
            let zero = match result {
                ValType::I32 => Instruction::I32Const(0),
                ValType::I64 => Instruction::I64Const(0),
                ValType::F32 => Instruction::F32Const(Ieee32::from(0.0)),
                ValType::F64 => Instruction::F64Const(Ieee64::from(0.0)),
                ValType::V128 => Instruction::V128Const(0),
                ValType::Ref(reference) if reference.nullable => Instruction::RefNull(reference.heap_type),
                ValType::Ref(_) => return Err(BoundError::Unbounded("a function gives a reference".into())),
            };
            self.push([zero]);
        }
        // $exit
        self.push([Instruction::End]);
        if calls {
            self.push([
                Instruction::GlobalGet(depth),
                Instruction::I32Const(self.step),
                Instruction::I32Sub,
                Instruction::GlobalSet(depth),
            ]);
        }
        self.push([Instruction::End]);
        Ok(())
    }

    fn write(&mut self, operator: &Operator<'_>, instruction: Instruction<'b>) -> Result<(), BoundError> {
        self.cost += cost(operator);
        match operator {
            Operator::Block { .. } => self.level += 1,
            Operator::Loop { .. } => {
                self.flush();
                self.push([instruction]);
                self.level += 1;
                self.check_fuel();
                return Ok(());
            }
            Operator::If { .. } => {
                self.flush();
                self.level += 1;
            }
            Operator::Else | Operator::Br { .. } | Operator::BrIf { .. } | Operator::BrTable { .. } => self.flush(),
            Operator::End => {
                self.flush();
                self.level -= 1;
            }
            Operator::Return => {
                self.flush();
                self.push([Instruction::Br(self.level)]);
                return Ok(());
            }
            Operator::Unreachable => {
                self.flush();
                self.push([Instruction::Br(self.level + TRAP)]);
                return Ok(());
            }
            Operator::Call { .. } | Operator::CallIndirect { .. } => {
                self.push([instruction]);
                self.check_stopped();
                self.straight += 1;
                if self.straight >= STRAIGHT_MAX {
                    self.flush();
                    self.check_fuel();
                }
                return Ok(());
            }
            Operator::MemorySize { .. } => {
                self.push([Instruction::GlobalGet(self.added.pages)]);
                return Ok(());
            }
            Operator::MemoryGrow { .. } => {
                self.push([Instruction::Call(self.added.grow)]);
                self.check_stopped();
                return Ok(());
            }
            Operator::GlobalSet { global_index } if self.added.stack == Some(*global_index) => {
                self.push([instruction]);
                self.check_stack(*global_index);
                return Ok(());
            }
            // A segment that was given up could not be there again for the next call.
            Operator::DataDrop { .. } | Operator::ElemDrop { .. } => return Ok(()),
            Operator::MemoryFill { .. } | Operator::MemoryCopy { .. } | Operator::MemoryInit { .. } => self.count_bytes(),
            Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. } => {
                return Err(BoundError::Unbounded("it changes a table, which cannot be reset behind a call".into()));
            }
            Operator::I32DivS | Operator::I32DivU | Operator::I32RemS | Operator::I32RemU => {
                self.check_division(ValType::I32, matches!(operator, Operator::I32DivS));
            }
            Operator::I64DivS | Operator::I64DivU | Operator::I64RemS | Operator::I64RemU => {
                self.check_division(ValType::I64, matches!(operator, Operator::I64DivS));
            }
            _ => {}
        }
        self.push([instruction]);
        self.make_canonical(operator);
        Ok(())
    }

    /// The stack in memory grows down to address 0, and what is below has the largest addresses.
    fn check_stack(&mut self, pointer: u32) {
        self.push([Instruction::GlobalGet(pointer), Instruction::I32Const(0), Instruction::I32LtS]);
        self.overflow_if();
    }

    /// What moves many bytes costs 1 for each; their number lies on the stack.
    fn count_bytes(&mut self) {
        let fuel = self.added.fuel;
        let bytes = self.temporaries.get(ValType::I32, 0);
        self.push([
            Instruction::LocalTee(bytes),
            Instruction::GlobalGet(fuel),
            Instruction::LocalGet(bytes),
            Instruction::I64ExtendI32U,
            Instruction::I64Sub,
            Instruction::GlobalSet(fuel),
        ]);
        self.check_fuel();
    }

    /// A division by zero, and the one quotient that is too large.
    fn check_division(&mut self, integers: ValType, signed: bool) {
        let (zero, minus_one, least, equal) = match integers {
            ValType::I32 => (Instruction::I32Eqz, Instruction::I32Const(-1), Instruction::I32Const(i32::MIN), Instruction::I32Eq),
            _ => (Instruction::I64Eqz, Instruction::I64Const(-1), Instruction::I64Const(i64::MIN), Instruction::I64Eq),
        };
        let divisor = self.temporaries.get(integers, 0);
        self.push([Instruction::LocalTee(divisor), Instruction::LocalGet(divisor), zero]);
        self.trap_if();
        if signed {
            let dividend = self.temporaries.get(integers, 1);
            self.push([
                Instruction::LocalSet(divisor),
                Instruction::LocalTee(dividend),
                Instruction::LocalGet(divisor),
                Instruction::LocalGet(divisor),
                minus_one,
                equal.clone(),
                Instruction::LocalGet(dividend),
                least,
                equal,
                Instruction::I32And,
            ]);
            self.trap_if();
        }
    }

    /// Behind what may make a NaN: the bits that it has in wasmtime with canonical NaNs. The operations are those that Cranelift
    /// takes for arithmetic.
    fn make_canonical(&mut self, operator: &Operator<'_>) {
        let Some(lane) = makes_nan(operator) else { return };
        let (kind, nan, equal) = match lane {
            Lane::F32 => (ValType::F32, Instruction::F32Const(Ieee32::new(NAN_32)), Instruction::F32Eq),
            Lane::F64 => (ValType::F64, Instruction::F64Const(Ieee64::new(NAN_64)), Instruction::F64Eq),
            Lane::F32x4 => {
                let four = u128::from(NAN_32);
                let nan = four | four << 32 | four << 64 | four << 96;
                (ValType::V128, Instruction::V128Const(nan as i128), Instruction::F32x4Eq)
            }
            Lane::F64x2 => {
                let nan = u128::from(NAN_64) | u128::from(NAN_64) << 64;
                (ValType::V128, Instruction::V128Const(nan as i128), Instruction::F64x2Eq)
            }
        };
        let value = self.temporaries.get(kind, 0);
        let choose = if kind == ValType::V128 { Instruction::V128Bitselect } else { Instruction::Select };
        self.push([Instruction::LocalTee(value), nan, Instruction::LocalGet(value), Instruction::LocalGet(value), equal, choose]);
    }
}

const NAN_32: u32 = 0x7fc0_0000;
const NAN_64: u64 = 0x7ff8_0000_0000_0000;

/// As wasmtime counts fuel: control flow is free, all else costs 1.
const fn cost(operator: &Operator<'_>) -> i64 {
    match operator {
        Operator::Nop
        | Operator::Drop
        | Operator::Block { .. }
        | Operator::Loop { .. }
        | Operator::Unreachable
        | Operator::Return
        | Operator::Else
        | Operator::End => 0,
        _ => 1,
    }
}

enum Lane {
    F32,
    F64,
    F32x4,
    F64x2,
}

const fn makes_nan(operator: &Operator<'_>) -> Option<Lane> {
    Some(match operator {
        Operator::F32Ceil
        | Operator::F32Floor
        | Operator::F32Trunc
        | Operator::F32Nearest
        | Operator::F32Sqrt
        | Operator::F32Add
        | Operator::F32Sub
        | Operator::F32Mul
        | Operator::F32Div
        | Operator::F32Min
        | Operator::F32Max
        | Operator::F32DemoteF64 => Lane::F32,
        Operator::F64Ceil
        | Operator::F64Floor
        | Operator::F64Trunc
        | Operator::F64Nearest
        | Operator::F64Sqrt
        | Operator::F64Add
        | Operator::F64Sub
        | Operator::F64Mul
        | Operator::F64Div
        | Operator::F64Min
        | Operator::F64Max
        | Operator::F64PromoteF32 => Lane::F64,
        Operator::F32x4Ceil
        | Operator::F32x4Floor
        | Operator::F32x4Trunc
        | Operator::F32x4Nearest
        | Operator::F32x4Sqrt
        | Operator::F32x4Add
        | Operator::F32x4Sub
        | Operator::F32x4Mul
        | Operator::F32x4Div
        | Operator::F32x4Min
        | Operator::F32x4Max
        | Operator::F32x4DemoteF64x2Zero => Lane::F32x4,
        Operator::F64x2Ceil
        | Operator::F64x2Floor
        | Operator::F64x2Trunc
        | Operator::F64x2Nearest
        | Operator::F64x2Sqrt
        | Operator::F64x2Add
        | Operator::F64x2Sub
        | Operator::F64x2Mul
        | Operator::F64x2Div
        | Operator::F64x2Min
        | Operator::F64x2Max
        | Operator::F64x2PromoteLowF32x4 => Lane::F64x2,
        _ => return None,
    })
}
