//! What a host calls in place of a module's own functions, and what those call in place of instructions.

use wasm_encoder::{BlockType, Function, InstructionSink, MemArg, ValType};
use wasmparser::{DataKind, Operator};

use crate::BoundError;
use crate::module::{Added, START_FUEL, START_PAGES, Why, malformed, unbounded};

/// What is put back behind each call.
pub(crate) struct Resets {
    /// Mutable globals, with the operator that gives their first value.
    globals: Vec<(u32, Value)>,
    /// Segments of data: number, address, bytes.
    segments: Vec<(u32, i32, i32)>,
}

#[derive(Clone, Copy)]
enum Value {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
    V128(i128),
}

impl Resets {
    pub(crate) fn of(of_module: &[wasmparser::Global<'_>], data: &[wasmparser::Data<'_>]) -> Result<Self, BoundError> {
        let mut globals = Vec::new();
        for (number, global) in (0_u32..).zip(of_module) {
            if !global.ty.mutable {
                continue;
            }
            let value = match constant(&global.init_expr)? {
                Some(Operator::I32Const { value }) => Value::I32(value),
                Some(Operator::I64Const { value }) => Value::I64(value),
                Some(Operator::F32Const { value }) => Value::F32(value.bits()),
                Some(Operator::F64Const { value }) => Value::F64(value.bits()),
                Some(Operator::V128Const { value }) => Value::V128(value.i128()),
                _ => return Err(unbounded("one of its globals changes and does not begin with a number")),
            };
            globals.push((number, value));
        }
        let mut segments = Vec::new();
        for (number, data) in (0_u32..).zip(data) {
            let DataKind::Active { offset_expr, .. } = &data.kind else { continue };
            let Some(Operator::I32Const { value }) = constant(offset_expr)? else {
                return Err(unbounded("a segment of its data has no fixed address"));
            };
            let bytes = i32::try_from(data.data.len()).map_err(malformed)?;
            segments.push((number, value, bytes));
        }
        Ok(Self { globals, segments })
    }

    /// The pointer of the stack in memory of so many pages: toolchains of LLVM make it the first global, and let it begin at an
    /// aligned address.
    pub(crate) fn stack_pointer(&self, pages: u32) -> Option<u32> {
        let is_address = |top: i32| top > 0 && top % 16 == 0 && i64::from(top) <= i64::from(pages) << 16;
        match self.globals.first() {
            Some((0, Value::I32(top))) if is_address(*top) => Some(0),
            _ => None,
        }
    }
}

/// The operator of an expression that has just one.
fn constant<'e>(expression: &wasmparser::ConstExpr<'e>) -> Result<Option<Operator<'e>>, BoundError> {
    let mut operators = expression.get_operators_reader().into_iter().collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    let ended = matches!(operators.pop(), Some(Operator::End));
    Ok(if ended && operators.len() == 1 { operators.pop() } else { None })
}

/// In place of `memory.grow`: the pages before, or a stop.
pub(crate) fn grow_function(added: &Added, declared_max: u32) -> Function {
    const MORE: u32 = 0;
    const WANTED: u32 = 1;
    let mut function = Function::new([(1, ValType::I64)]);
    let mut sink = function.instructions();
    sink.global_get(added.pages).i64_extend_i32_u().local_get(MORE).i64_extend_i32_u().i64_add().local_set(WANTED);
    let stop = |sink: &mut InstructionSink<'_>| {
        sink.if_(BlockType::Empty).i32_const(Why::Memory.letter()).global_set(added.why).i32_const(-1).return_().end();
    };
    sink.local_get(WANTED).global_get(added.pages_max).i64_extend_i32_u().i64_gt_u();
    stop(&mut sink);
    // What the module itself declares is an answer like any other.
    sink.local_get(WANTED).i64_const(declared_max.into()).i64_gt_u().if_(BlockType::Empty).i32_const(-1).return_().end();
    sink.local_get(WANTED).memory_size(0).i64_extend_i32_u().i64_gt_u().if_(BlockType::Empty);
    sink.local_get(WANTED).i32_wrap_i64().memory_size(0).i32_sub().memory_grow(0).i32_const(-1).i32_eq();
    stop(&mut sink);
    sink.end();
    sink.global_get(added.pages).local_get(WANTED).i32_wrap_i64().global_set(added.pages).end();
    function
}

/// Writes the module's data into empty memory, and calls what it has for a start.
pub(crate) fn fill_function(start: Option<u32>, resets: &Resets) -> Function {
    let mut function = Function::new([]);
    let mut sink = function.instructions();
    for (number, address, bytes) in &resets.segments {
        sink.i32_const(*address).i32_const(0).i32_const(*bytes).memory_init(0, *number);
    }
    if let Some(start) = start {
        sink.call(start);
    }
    sink.end();
    function
}

/// Behind a call: everything as it was.
pub(crate) fn reset_function(added: &Added, resets: &Resets, fill: u32, pages: u32) -> Function {
    let mut function = Function::new([]);
    let mut sink = function.instructions();
    // All of it: a memory that was larger once can be written beyond the module's own pages.
    sink.i32_const(0).i32_const(0).memory_size(0).i32_const(16).i32_shl().memory_fill(0);
    for (number, value) in &resets.globals {
        match *value {
            Value::I32(value) => sink.i32_const(value),
            Value::I64(value) => sink.i64_const(value),
            Value::F32(bits) => sink.f32_const(wasm_encoder::Ieee32::new(bits)),
            Value::F64(bits) => sink.f64_const(wasm_encoder::Ieee64::new(bits)),
            Value::V128(bits) => sink.v128_const(bits),
        };
        sink.global_set(*number);
    }
    sink.i64_const(START_FUEL).global_set(added.fuel);
    sink.i32_const(0).global_set(added.depth).i32_const(0).global_set(added.why);
    sink.i32_const(pages as i32).global_set(added.pages).i32_const(START_PAGES as i32).global_set(added.pages_max);
    sink.call(fill).end();
    function
}

pub(crate) fn limit_function(added: &Added) -> Function {
    const FUEL: u32 = 0;
    const MEMORY: u32 = 1;
    const OUTPUT: u32 = 2;
    let mut function = Function::new([]);
    let mut sink = function.instructions();
    let at_most = |sink: &mut InstructionSink<'_>, local: u32| {
        // Both count with a sign.
        sink.local_get(local).i64_const(i64::MAX).local_get(local).i64_const(0).i64_ge_s().select();
    };
    at_most(&mut sink, FUEL);
    sink.global_set(added.fuel);
    at_most(&mut sink, OUTPUT);
    sink.global_set(added.output);
    sink.local_get(MEMORY).i32_const(16).i32_shr_u().global_set(added.pages_max);
    sink.global_get(added.pages).global_get(added.pages_max).i32_gt_u().if_(BlockType::Empty);
    sink.i32_const(Why::Memory.letter()).global_set(added.why).end().end();
    function
}

/// `run`, and what is said where it stopped or gave what is none.
pub(crate) fn run_function(added: &Added, run: u32) -> Function {
    const ROWS: u32 = 0;
    const INPUTS: u32 = 1;
    const COUNT: u32 = 2;
    const RESULT: u32 = 3;
    // The memory is lost then anyway.
    const SAID: i32 = 16;
    let mut function = Function::new([(1, ValType::I32)]);
    let mut sink = function.instructions();
    sink.block(BlockType::Empty);
    sink.global_get(added.why).br_if(0);
    sink.local_get(ROWS).local_get(INPUTS).local_get(COUNT).call(run).local_set(RESULT);
    sink.global_get(added.why).br_if(0);
    sink.local_get(RESULT).call(added.check).global_set(added.why);
    sink.global_get(added.why).br_if(0);
    sink.local_get(RESULT).return_().end();
    let word = |offset| MemArg { offset, align: 2, memory_index: 0 };
    let byte = |offset| MemArg { offset, align: 0, memory_index: 0 };
    sink.i32_const(SAID).i32_const(1).i32_store8(byte(0));
    sink.i32_const(SAID).i32_const(SAID + 12).i32_store(word(4));
    sink.i32_const(SAID).i32_const(2).i32_store(word(8));
    sink.i32_const(SAID).i32_const(1).i32_store8(byte(12));
    sink.i32_const(SAID).global_get(added.why).i32_store8(byte(13));
    sink.i32_const(SAID).end();
    function
}

/// `cabi_realloc`. Behind a stop any room will do, even if lists lie over each other there: nobody reads them, but a host writes
/// them before it hears why the call was stopped.
pub(crate) fn realloc_function(added: &Added, realloc: u32) -> Function {
    const ALIGN: u32 = 2;
    const SIZE: u32 = 3;
    const GIVEN: u32 = 4;
    let mut function = Function::new([(1, ValType::I32)]);
    let mut sink = function.instructions();
    sink.block(BlockType::Empty);
    sink.global_get(added.why).br_if(0);
    sink.local_get(0).local_get(1).local_get(2).local_get(SIZE).call(realloc).local_set(GIVEN);
    sink.global_get(added.why).br_if(0);
    // A host traps where there is no room, or where it is not aligned.
    sink.local_get(GIVEN).i64_extend_i32_u().local_get(SIZE).i64_extend_i32_u().i64_add();
    sink.global_get(added.pages).i64_extend_i32_u().i64_const(16).i64_shl().i64_gt_u();
    sink.local_get(GIVEN).local_get(ALIGN).i32_const(1).i32_sub().i32_and().i32_or();
    sink.if_(BlockType::Empty).i32_const(Why::Trap.letter()).global_set(added.why).br(1).end();
    sink.local_get(GIVEN).return_().end();
    sink.local_get(SIZE).i32_const(16).i32_shr_u().i32_const(1).i32_add().local_tee(GIVEN).memory_size(0).i32_gt_u();
    sink.if_(BlockType::Empty).local_get(GIVEN).memory_size(0).i32_sub().memory_grow(0).drop().end();
    sink.i32_const(0).end();
    function
}
