//! A module, bounded: its functions rewritten, and what a host calls in their place.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, GlobalType, MemorySection, MemoryType, Module, StartSection, TableSection, TypeSection,
    ValType,
};
use wasmparser::{ExternalKind, FuncType, FunctionBody, Parser, Payload, Validator, WasmFeatures};

use crate::BoundError;
use crate::calls::{Resets, fill_function, grow_function, limit_function, realloc_function, reset_function, run_function};
use crate::check::{check_function, span_function};
use crate::function::{Rewrite, rewrite};
use crate::single::names_of;

/// What a transform's module may use: WebAssembly 2.0. All hosts run that.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::WASM2;

/// The interface whose functions a bounded module exports.
pub const BOUNDED: &str = "mezze:features/bounded@0.1.0";

/// What a transform's functions are called in its module.
pub(crate) struct Names {
    /// `run` of the interface `computation`.
    pub(crate) run: &'static str,
    /// `describe` of it.
    pub(crate) describe: &'static str,
    /// What makes room in its memory.
    pub(crate) realloc: &'static str,
    /// Its memory.
    pub(crate) memory: &'static str,
}

/// Why a call was stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Why {
    Fuel,
    Memory,
    Output,
    OutputSize,
    Stack,
    Trap,
}

impl Why {
    /// As a host is told: wit/carried.wit.
    pub(crate) const fn letter(self) -> i32 {
        let letter = match self {
            Self::Fuel => b'f',
            Self::Memory => b'm',
            Self::Output => b'b',
            Self::OutputSize => b'o',
            Self::Stack => b's',
            Self::Trap => b't',
        };
        letter as i32
    }
}

/// The numbers of what is added to a module.
pub(crate) struct Added {
    /// Instructions that are left.
    pub(crate) fuel: u32,
    /// Calls within calls that are under way.
    pub(crate) depth: u32,
    /// Why it stops, or 0.
    pub(crate) why: u32,
    /// Pages of memory as the module sees them: those of the calls before are there still, and empty.
    pub(crate) pages: u32,
    pub(crate) pages_max: u32,
    /// Bytes that it may give.
    pub(crate) output: u32,
    /// The function in place of `memory.grow`.
    pub(crate) grow: u32,
    /// The pointer of the stack in memory, which toolchains of LLVM make the first global.
    pub(crate) stack: Option<u32>,
    /// Those that look at what comes back.
    pub(crate) span: u32,
    pub(crate) check: u32,
}

/// What is read of a module.
#[derive(Default)]
struct Read<'m> {
    types: Vec<FuncType>,
    /// By function its type.
    functions: Vec<u32>,
    bodies: Vec<FunctionBody<'m>>,
    tables: TableSection,
    table_count: u32,
    elements: Option<ElementSection>,
    memory: Option<wasmparser::MemoryType>,
    globals: Vec<wasmparser::Global<'m>>,
    data: Vec<wasmparser::Data<'m>>,
    start: Option<u32>,
    run: Option<u32>,
    realloc: Option<u32>,
    memory_is_exported: bool,
    exported: Vec<u32>,
}

pub(crate) fn malformed(error: impl std::fmt::Display) -> BoundError {
    BoundError::Malformed(error.to_string())
}

pub(crate) fn unbounded(reason: impl Into<String>) -> BoundError {
    BoundError::Unbounded(reason.into())
}

fn read<'m>(module: &'m [u8], names: &Names) -> Result<Read<'m>, BoundError> {
    Validator::new_with_features(FEATURES).validate_all(module).map_err(malformed)?;
    let mut read = Read::default();
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(malformed)? {
            Payload::TypeSection(section) => {
                for found in section.into_iter_err_on_gc_types() {
                    read.types.push(found.map_err(malformed)?);
                }
            }
            Payload::ImportSection(section) if section.count() > 0 => {
                return Err(unbounded("its module imports something: a transform has no clock, no files and no network"));
            }
            Payload::FunctionSection(section) => {
                for function in section {
                    read.functions.push(function.map_err(malformed)?);
                }
            }
            Payload::TableSection(section) => {
                read.table_count = section.count();
                RoundtripReencoder.parse_table_section(&mut read.tables, section).map_err(malformed)?;
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    read.memory = Some(memory.map_err(malformed)?);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    read.globals.push(global.map_err(malformed)?);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(malformed)?;
                    if export.kind == ExternalKind::Func {
                        read.exported.push(export.index);
                    }
                    match (export.kind, export.name) {
                        (ExternalKind::Func, name) if name == names.run => read.run = Some(export.index),
                        (ExternalKind::Func, name) if name == names.realloc => read.realloc = Some(export.index),
                        (ExternalKind::Memory, name) if name == names.memory => read.memory_is_exported = true,
                        _ => {}
                    }
                }
            }
            Payload::StartSection { func, .. } => read.start = Some(func),
            Payload::ElementSection(section) => {
                let elements = read.elements.get_or_insert_default();
                RoundtripReencoder.parse_element_section(elements, section).map_err(malformed)?;
            }
            Payload::DataSection(section) => {
                for data in section {
                    read.data.push(data.map_err(malformed)?);
                }
            }
            Payload::CodeSectionEntry(body) => read.bodies.push(body),
            _ => {}
        }
    }
    Ok(read)
}

impl Read<'_> {
    fn signature(&self, function: u32) -> Option<&FuncType> {
        self.types.get(*self.functions.get(function as usize)? as usize)
    }

    /// The function of this signature.
    fn required(&self, function: Option<u32>, name: &str, params: usize) -> Result<u32, BoundError> {
        let is_i32 = |types: &[wasmparser::ValType]| types.iter().all(|found| *found == wasmparser::ValType::I32);
        let fits = |found: &FuncType| {
            found.params().len() == params && found.results().len() == 1 && is_i32(found.params()) && is_i32(found.results())
        };
        let function = function.ok_or_else(|| unbounded(format!("its module does not export `{name}`")))?;
        match self.signature(function) {
            Some(found) if fits(found) => Ok(function),
            _ => Err(unbounded(format!("`{name}` of its module takes or gives something else than a transform's"))),
        }
    }
}

/// The types of the functions that are added.
struct Types {
    section: TypeSection,
    known: Vec<(Vec<ValType>, Vec<ValType>)>,
}

impl Types {
    fn get(&mut self, params: &[ValType], results: &[ValType]) -> u32 {
        let at = self.known.iter().position(|(known, given)| known == params && given == results).unwrap_or_else(|| {
            self.section.ty().function(params.iter().copied(), results.iter().copied());
            self.known.push((params.to_vec(), results.to_vec()));
            self.known.len() - 1
        });
        at as u32
    }
}

/// Bounds a transform's module, whose functions have the names that toolchains give them.
///
/// # Errors
/// [`BoundError`] where it imports something, has not what a transform has, or uses what cannot be bounded or reset.
pub fn bound_module(module: &[u8]) -> Result<Vec<u8>, BoundError> {
    let names = names_of(module)?;
    let read = read(module, names)?;
    let memory = read.memory.filter(|_| read.memory_is_exported).ok_or_else(|| unbounded("its module exports no memory"))?;
    let pages = u32::try_from(memory.initial).ok().filter(|pages| (1..PAGES_LIMIT).contains(pages));
    let pages = pages.ok_or_else(|| unbounded(format!("its memory begins with {} pages", memory.initial)))?;
    let run = read.required(read.run, names.run, 3)?;
    let realloc = read.required(read.realloc, names.realloc, 4)?;

    let mut types = Types { section: TypeSection::new(), known: Vec::new() };
    let encoded = |found: &[wasmparser::ValType]| -> Result<Vec<ValType>, BoundError> {
        found.iter().map(|found| RoundtripReencoder.val_type(*found).map_err(malformed)).collect()
    };
    for found in &read.types {
        let (params, results) = (encoded(found.params())?, encoded(found.results())?);
        // Types keep their numbers, also where two are equal.
        types.section.ty().function(params.iter().copied(), results.iter().copied());
        types.known.push((params, results));
    }

    let first_global = read.globals.len() as u32;
    let first_function = read.functions.len() as u32;
    let resets = Resets::of(&read.globals, &read.data)?;
    let added = Added {
        fuel: first_global,
        depth: first_global + 1,
        why: first_global + 2,
        pages: first_global + 3,
        pages_max: first_global + 4,
        output: first_global + 5,
        stack: resets.stack_pointer(pages),
        grow: first_function,
        span: first_function + 1,
        check: first_function + 2,
    };
    let declared_max = memory.maximum.map_or(PAGES_LIMIT, |most| u32::try_from(most).unwrap_or(PAGES_LIMIT));
    let fill = first_function + 3;
    let more: [(&[ValType], &[ValType], Function); 8] = [
        (&[ValType::I32], &[ValType::I32], grow_function(&added, declared_max)),
        (&[ValType::I32, ValType::I32, ValType::I32], &[ValType::I64], span_function(&added)),
        (&[ValType::I32], &[ValType::I32], check_function(&added)),
        (&[], &[], fill_function(read.start, &resets)),
        (&[ValType::I32], &[], reset_function(&added, &resets, fill, pages)),
        (&[ValType::I64, ValType::I32, ValType::I64], &[], limit_function(&added)),
        (&[ValType::I32; 3], &[ValType::I32], run_function(&added, run)),
        (&[ValType::I32; 4], &[ValType::I32], realloc_function(&added, realloc)),
    ];
    let (reset, limit, run, realloc) = (fill + 1, fill + 2, fill + 3, fill + 4);

    let mut functions = FunctionSection::new();
    let mut code = CodeSection::new();
    for (declared, body) in read.functions.iter().zip(&read.bodies) {
        functions.function(*declared);
        let (params, results) = types.known.get(*declared as usize).cloned().ok_or_else(|| malformed("a type is missing"))?;
        let block = match &results[..] {
            [] => BlockType::Empty,
            [one] => BlockType::Result(*one),
            _ => BlockType::FunctionType(types.get(&[], &results)),
        };
        code.function(&rewrite(body, &Rewrite { added: &added, params: &params, results: &results, block })?);
    }
    for (params, results, body) in &more {
        functions.function(types.get(params, results));
        code.function(body);
    }

    let mut globals = GlobalSection::new();
    for global in &read.globals {
        RoundtripReencoder.parse_global(&mut globals, global.clone()).map_err(malformed)?;
    }
    for (val_type, first) in [
        (ValType::I64, ConstExpr::i64_const(START_FUEL)),
        (ValType::I32, ConstExpr::i32_const(0)),
        (ValType::I32, ConstExpr::i32_const(0)),
        (ValType::I32, ConstExpr::i32_const(pages as i32)),
        (ValType::I32, ConstExpr::i32_const(START_PAGES as i32)),
        (ValType::I64, ConstExpr::i64_const(0)),
    ] {
        globals.global(GlobalType { val_type, mutable: true, shared: false }, &first);
    }

    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    exports.export("cabi_realloc", ExportKind::Func, realloc);
    exports.export(&format!("{BOUNDED}#limit"), ExportKind::Func, limit);
    exports.export(&format!("{BOUNDED}#run"), ExportKind::Func, run);
    exports.export(&format!("cabi_post_{BOUNDED}#run"), ExportKind::Func, reset);

    let mut data = DataSection::new();
    for segment in &read.data {
        data.passive(segment.data.iter().copied());
    }
    let mut memories = MemorySection::new();
    // What is more than the module's own is there for input that comes behind a stop.
    memories.memory(MemoryType { minimum: pages.into(), maximum: None, memory64: false, shared: false, page_size_log2: None });

    let mut bounded = Module::new();
    bounded.section(&types.section).section(&functions);
    if read.table_count > 0 {
        bounded.section(&read.tables);
    }
    bounded.section(&memories).section(&globals).section(&exports).section(&StartSection { function_index: fill });
    // A `ref.func` may be of a function that only its export declares.
    let mut elements = read.elements.unwrap_or_default();
    elements.declared(wasm_encoder::Elements::Functions(read.exported.as_slice().into()));
    bounded.section(&elements);
    bounded.section(&DataCountSection { count: read.data.len() as u32 }).section(&code).section(&data);
    let bounded = bounded.finish();
    // What was written here is wrong, if it is not valid.
    Validator::new_with_features(FEATURES).validate_all(&bounded).map_err(malformed)?;
    Ok(bounded)
}

/// Pages that 32 bits can count, without the last.
const PAGES_LIMIT: u32 = 65_535;
/// Instructions for what begins an instance, and for the room of its input.
pub(crate) const START_FUEL: i64 = 10_000_000;
/// Pages that it may have until a call says how many.
pub(crate) const START_PAGES: u32 = 1_024;
