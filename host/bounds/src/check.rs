//! What a transform gave, looked at before a host reads it: addresses within its memory, and no more bytes than it may give.
//!
//! A host would trap at an address that is none, and fill its own memory with lists that lie over each other.

use wasm_encoder::{BlockType, Function, InstructionSink, MemArg, ValType};

use crate::module::{Added, Why};

const fn word(offset: u64) -> MemArg {
    MemArg { offset, align: 2, memory_index: 0 }
}

const fn byte(offset: u64) -> MemArg {
    MemArg { offset, align: 0, memory_index: 0 }
}

/// `(address, count, shift)`: the bytes of so many elements of `1 << shift` bytes, or -1 where they are not within the memory or
/// not aligned. Columns have 32 bytes and are aligned to 4.
pub(crate) fn span_function(added: &Added) -> Function {
    const ADDRESS: u32 = 0;
    const COUNT: u32 = 1;
    const SHIFT: u32 = 2;
    const BYTES: u32 = 3;
    let mut function = Function::new([(1, ValType::I64)]);
    let mut sink = function.instructions();
    sink.local_get(COUNT).i64_extend_i32_u().local_get(SHIFT).i64_extend_i32_u().i64_shl().local_set(BYTES);
    // The last bits of the address: as many as the alignment has.
    sink.local_get(ADDRESS).i32_const(1);
    sink.i32_const(2).local_get(SHIFT).local_get(SHIFT).i32_const(COLUMN_SHIFT).i32_eq().select();
    sink.i32_shl().i32_const(1).i32_sub().i32_and();
    sink.local_get(ADDRESS).i64_extend_i32_u().local_get(BYTES).i64_add();
    sink.global_get(added.pages).i64_extend_i32_u().i64_const(16).i64_shl().i64_gt_u().i32_or();
    sink.if_(BlockType::Empty).i64_const(-1).return_().end();
    sink.local_get(BYTES).end();
    function
}

/// `(result)`: 0, or why it is stopped.
pub(crate) fn check_function(added: &Added) -> Function {
    const RESULT: u32 = 0;
    const COLUMN: u32 = 1;
    const LEFT: u32 = 2;
    const KIND: u32 = 3;
    const BYTES: u32 = 4;
    const TOTAL: u32 = 5;
    let mut function = Function::new([(3, ValType::I32), (2, ValType::I64)]);
    let mut sink = function.instructions();
    let bad_if = |sink: &mut InstructionSink<'_>| {
        sink.if_(BlockType::Empty).i32_const(Why::Output.letter()).return_().end();
    };
    // Counts what lies at an address of `COLUMN` or `RESULT`, whose shift is on the stack.
    let count = |sink: &mut InstructionSink<'_>| {
        sink.call(added.span).local_tee(BYTES).i64_const(0).i64_lt_s();
        bad_if(sink);
        sink.local_get(TOTAL).local_get(BYTES).i64_add().local_set(TOTAL);
    };
    let too_large = |sink: &mut InstructionSink<'_>| {
        sink.local_get(TOTAL).global_get(added.output).i64_const(SLACK).i64_add().i64_gt_u();
        sink.if_(BlockType::Empty).i32_const(Why::OutputSize.letter()).return_().end();
    };
    // The result itself: three words.
    sink.local_get(RESULT).i32_const(3).i32_const(2).call(added.span).i64_const(0).i64_lt_s();
    bad_if(&mut sink);
    sink.local_get(RESULT).i32_load8_u(byte(0)).local_tee(KIND).i32_const(1).i32_gt_u();
    bad_if(&mut sink);
    sink.local_get(KIND).if_(BlockType::Empty);
    sink.local_get(RESULT).i32_load(word(4)).local_get(RESULT).i32_load(word(8)).i32_const(0);
    count(&mut sink);
    too_large(&mut sink);
    sink.i32_const(0).return_().end();
    sink.local_get(RESULT).i32_load(word(4)).local_tee(COLUMN);
    sink.local_get(RESULT).i32_load(word(8)).local_tee(LEFT).i32_const(COLUMN_SHIFT);
    count(&mut sink);
    too_large(&mut sink);
    sink.block(BlockType::Empty).loop_(BlockType::Empty);
    sink.local_get(LEFT).i32_eqz().br_if(1);
    sink.local_get(COLUMN).i32_load8_u(byte(0)).local_tee(KIND).i32_const(2).i32_gt_u();
    bad_if(&mut sink);
    // Numbers have eight bytes; offsets have four, and behind them are the bytes.
    sink.local_get(COLUMN).i32_load(word(4)).local_get(COLUMN).i32_load(word(8));
    sink.i32_const(2).i32_const(3).local_get(KIND).i32_const(2).i32_eq().select();
    count(&mut sink);
    sink.local_get(KIND).i32_const(2).i32_eq().if_(BlockType::Empty);
    sink.local_get(COLUMN).i32_load(word(12)).local_get(COLUMN).i32_load(word(16)).i32_const(0);
    count(&mut sink);
    sink.end();
    sink.local_get(COLUMN).i32_load8_u(byte(20)).local_tee(KIND).i32_const(1).i32_gt_u();
    bad_if(&mut sink);
    sink.local_get(KIND).if_(BlockType::Empty);
    sink.local_get(COLUMN).i32_load(word(24)).local_get(COLUMN).i32_load(word(28)).i32_const(0);
    count(&mut sink);
    sink.end();
    too_large(&mut sink);
    sink.local_get(COLUMN).i32_const(1 << COLUMN_SHIFT).i32_add().local_set(COLUMN);
    sink.local_get(LEFT).i32_const(1).i32_sub().local_set(LEFT).br(0).end().end();
    sink.i32_const(0).end();
    function
}

/// A column has 32 bytes.
const COLUMN_SHIFT: i32 = 5;
/// What columns and messages take beside their values, as with wasmtime.
const SLACK: i64 = 64 << 10;
