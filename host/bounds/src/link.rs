//! Bounded transforms in the component of a bundle's adapter.
//!
//! The adapter imports the interface `carried`. Around it goes a component that has the adapter's other imports and its exports,
//! and for `carried` an instance of its own, in which each transform is a component with a memory of its own, and one more tells
//! them apart by their numbers:
//!
//! ```text
//! adapter ── carried ──> by number ── slot0 ──> transform 0
//!                                  └─ slot1 ──> transform 1
//! ```
//!
//! Lists are copied at each arrow by the component model's own rules. The two have to be side by side: a component does not call
//! into one that is within it.

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasm_encoder::{
    Alias, BlockType, CodeSection, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection,
    ComponentImportSection, ComponentInstanceSection, ComponentSectionId, ConstExpr, DataSection, ExportKind, ExportSection,
    Function, FunctionSection, GlobalSection, GlobalType, ImportSection, MemArg, MemorySection, MemoryType, Module, RawSection,
    TypeSection, ValType,
};
use wasmparser::{Parser, Payload, Validator, WasmFeatures};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::{BOUNDED, BoundError, Bounded};

/// The interfaces.
const WIT: &str = include_str!("../../../wit/carried.wit");
/// What an adapter imports.
const CARRIED: &str = "mezze:features/carried@0.1.0";

fn failed(error: impl std::fmt::Display) -> BoundError {
    BoundError::Link(format!("{error:#}"))
}

/// The adapter's component with these transforms, numbered in their order. It may have none.
///
/// # Errors
/// [`BoundError::Link`] where the adapter does not import the interface `carried`.
pub fn link(adapter: &[u8], transforms: &[Bounded]) -> Result<Vec<u8>, BoundError> {
    let provider = provider(transforms)?;
    let mut outer = Outer { provider: &provider, depth: 0, instances: 0, functions: 0, import: None, given: Vec::new() };
    let mut linked = Component::new();
    let mut exports: Vec<(String, wasmparser::ComponentExternalKind)> = Vec::new();
    let mut is_head = true;
    let mut nested = 0_usize;
    for payload in Parser::new(0).parse_all(adapter) {
        let payload = payload.map_err(failed)?;
        match &payload {
            Payload::Version { .. } | Payload::CustomSection(_) => {}
            Payload::End(_) => nested = nested.saturating_sub(1),
            _ if nested > 0 => {}
            // What the imports need stands before everything else.
            Payload::ComponentTypeSection(_) | Payload::ComponentImportSection(_) | Payload::ComponentAliasSection(_)
                if is_head =>
            {
                outer.parse_component_payload(&mut linked, payload, adapter).map_err(failed)?;
                continue;
            }
            Payload::ComponentImportSection(_) => return Err(failed("an import of its adapter stands behind other things")),
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let export = export.map_err(failed)?;
                    exports.push((export.name.name.to_owned(), export.kind));
                }
            }
            _ => is_head = false,
        }
        if matches!(payload, Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) {
            nested += 1;
        }
    }
    if outer.import.is_none() {
        return Err(BoundError::Link(format!("its adapter does not import {CARRIED}")));
    }
    // The provider was the first component.
    linked.section(&RawSection { id: ComponentSectionId::Component.into(), data: adapter });
    let mut instances = ComponentInstanceSection::new();
    instances.instantiate(1, outer.given.iter().map(|(name, kind, index)| (name.as_str(), *kind, *index)).collect::<Vec<_>>());
    linked.section(&instances);
    let instance = outer.instances;
    outer.instances += 1;
    for (name, kind) in exports {
        let kind = ComponentExportKind::from(kind);
        let next = match kind {
            ComponentExportKind::Instance => &mut outer.instances,
            ComponentExportKind::Func => &mut outer.functions,
            _ => return Err(failed(format!("its adapter exports `{name}`, which is neither an instance nor a function"))),
        };
        let index = *next;
        // Both the alias and the export have a number.
        *next += 2;
        let mut aliases = ComponentAliasSection::new();
        aliases.alias(Alias::InstanceExport { instance, kind, name: &name });
        linked.section(&aliases);
        let mut section = ComponentExportSection::new();
        section.export(&*name, kind, index, None);
        linked.section(&section);
    }
    let linked = linked.finish();
    Validator::new_with_features(WasmFeatures::all()).validate_all(&linked).map_err(failed)?;
    Ok(linked)
}

/// A component of the world in a text of WIT.
fn component(mut module: Vec<u8>, wit: &str, world: &str) -> Result<Vec<u8>, BoundError> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("carried.wit", wit).map_err(failed)?;
    let world = resolve.select_world(&[package], Some(world)).map_err(failed)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).map_err(failed)?;
    ComponentEncoder::default().validate(true).module(&module).and_then(|mut encoder| encoder.encode()).map_err(failed)
}

/// A component whose export `carried` is the transforms.
fn provider(transforms: &[Bounded]) -> Result<Vec<u8>, BoundError> {
    let mut provider = Component::new();
    let raw = |provider: &mut Component, bytes: &[u8]| {
        provider.section(&RawSection { id: ComponentSectionId::Component.into(), data: bytes });
    };
    for transform in transforms {
        raw(&mut provider, &component(transform.module.clone(), WIT, "slot")?);
    }
    raw(&mut provider, &by_number(transforms)?);
    let count = transforms.len() as u32;
    let none: [(&str, ComponentExportKind, u32); 0] = [];
    let mut instances = ComponentInstanceSection::new();
    for number in 0..count {
        instances.instantiate(number, none);
    }
    provider.section(&instances);
    let mut aliases = ComponentAliasSection::new();
    for instance in 0..count {
        aliases.alias(Alias::InstanceExport { instance, kind: ComponentExportKind::Instance, name: BOUNDED });
    }
    provider.section(&aliases);
    let slots = (0..count).map(|number| (slot(number), ComponentExportKind::Instance, count + number));
    let mut instances = ComponentInstanceSection::new();
    instances.instantiate(count, slots.collect::<Vec<_>>());
    provider.section(&instances);
    let mut aliases = ComponentAliasSection::new();
    aliases.alias(Alias::InstanceExport { instance: 2 * count, kind: ComponentExportKind::Instance, name: CARRIED });
    provider.section(&aliases);
    let mut exports = ComponentExportSection::new();
    exports.export(CARRIED, ComponentExportKind::Instance, 2 * count + 1, None);
    provider.section(&exports);
    Ok(provider.finish())
}

/// The interface that the transform of this number has for the component that tells them apart.
fn slot(number: u32) -> String {
    format!("mezze:features/slot{number}@0.1.0")
}

/// The component that tells transforms apart.
fn by_number(transforms: &[Bounded]) -> Result<Vec<u8>, BoundError> {
    let block = |name: &str| {
        let start = WIT.find(&format!("interface {name} {{"))?;
        let end = WIT.get(start..)?.find("\n}\n")?;
        WIT.get(start..start + end + 3)
    };
    let missing = || failed("the interfaces are not there");
    let (carried, bounded) = (block("carried").ok_or_else(missing)?, block("bounded").ok_or_else(missing)?);
    let mut wit = format!("package mezze:features@0.1.0;\n{carried}");
    let mut imports = String::new();
    for number in 0..transforms.len() {
        wit.push_str(&bounded.replacen("interface bounded", &format!("interface slot{number}"), 1));
        imports.push_str(&format!("import slot{number}; "));
    }
    wit.push_str(&format!("world by-number {{ {imports}export carried; }}\n"));
    component(by_number_module(transforms), &wit, "by-number")
}

/// Its module: it hands a call on to the transform of its number, with what lies in its memory already.
fn by_number_module(transforms: &[Bounded]) -> Vec<u8> {
    const I32: ValType = ValType::I32;
    const I64: ValType = ValType::I64;
    let count = transforms.len() as u32;
    let mut types = TypeSection::new();
    types.ty().function([I64, I32, I64], []);
    types.ty().function([I32, I32, I32, I32], []);
    types.ty().function([], [I32]);
    types.ty().function([I32, I64, I32, I64], []);
    types.ty().function([I32; 4], [I32]);
    types.ty().function([I32], []);
    let mut imports = ImportSection::new();
    for number in 0..count {
        imports.import(&slot(number), "limit", wasm_encoder::EntityType::Function(0));
        imports.import(&slot(number), "run", wasm_encoder::EntityType::Function(1));
    }
    let first = 2 * count;
    let mut functions = FunctionSection::new();
    for declared in [2, 3, 4, 4, 5] {
        functions.function(declared);
    }
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    exports.export(&format!("{CARRIED}#digests"), ExportKind::Func, first);
    exports.export(&format!("{CARRIED}#limit"), ExportKind::Func, first + 1);
    exports.export(&format!("{CARRIED}#run"), ExportKind::Func, first + 2);
    exports.export("cabi_realloc", ExportKind::Func, first + 3);
    exports.export(&format!("cabi_post_{CARRIED}#run"), ExportKind::Func, first + 4);

    // In memory: two results, the digests, then what a call needs, from `base` on.
    let word = |offset| MemArg { offset, align: 2, memory_index: 0 };
    let digests: Vec<u8> = transforms.iter().flat_map(|transform| transform.id.bytes()).collect();
    let base = (DIGESTS as u32 + digests.len() as u32).next_multiple_of(16);
    let pages = u64::from(base.div_ceil(1 << 16)) + 1;
    let base = base as i32;

    let mut code = CodeSection::new();
    let mut function = Function::new([]);
    function.instructions().i32_const(DIGESTS_RESULT).end();
    code.function(&function);

    let mut function = Function::new([]);
    let mut sink = function.instructions();
    for number in 0..count {
        sink.local_get(0).i32_const(number as i32).i32_eq().if_(BlockType::Empty);
        sink.local_get(1).local_get(2).local_get(3).call(2 * number).end();
    }
    sink.end();
    code.function(&function);

    let mut function = Function::new([]);
    let mut sink = function.instructions();
    for number in 0..count {
        sink.local_get(0).i32_const(number as i32).i32_eq().if_(BlockType::Empty);
        sink.local_get(1).local_get(2).local_get(3).i32_const(RESULT).call(2 * number + 1).i32_const(RESULT).return_().end();
    }
    // A number that none has: an error without a text.
    sink.i32_const(RESULT).i32_const(1).i32_store(word(0));
    sink.i32_const(RESULT).i32_const(0).i32_store(word(8));
    sink.i32_const(RESULT).end();
    code.function(&function);

    // Room, one behind the other until the call is over. (old, old size, alignment, size)
    let mut function = Function::new([(1, I32)]);
    let mut sink = function.instructions();
    sink.global_get(0).local_get(2).i32_add().i32_const(1).i32_sub().i32_const(0).local_get(2).i32_sub().i32_and().local_set(4);
    sink.local_get(4).local_get(3).i32_add().global_set(0);
    // Its end, in 64 bits, is within the memory or the memory grows.
    sink.local_get(4).i64_extend_i32_u().local_get(3).i64_extend_i32_u().i64_add();
    sink.memory_size(0).i64_extend_i32_u().i64_const(16).i64_shl().i64_gt_u().if_(BlockType::Empty);
    sink.local_get(3).i32_const(16).i32_shr_u().i32_const(1).i32_add().memory_grow(0).i32_const(-1).i32_eq();
    sink.if_(BlockType::Empty).unreachable().end().end();
    sink.local_get(4).local_get(0).local_get(1).memory_copy(0, 0);
    sink.local_get(4).end();
    code.function(&function);

    let mut function = Function::new([]);
    function.instructions().i32_const(base).global_set(0).end();
    code.function(&function);

    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: pages, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut globals = GlobalSection::new();
    globals.global(GlobalType { val_type: I32, mutable: true, shared: false }, &ConstExpr::i32_const(base));
    let mut data = DataSection::new();
    let result = [DIGESTS.to_le_bytes(), (digests.len() as i32).to_le_bytes()].concat();
    data.active(0, &ConstExpr::i32_const(DIGESTS_RESULT), result);
    data.active(0, &ConstExpr::i32_const(DIGESTS), digests);
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&memories).section(&globals);
    module.section(&exports).section(&code).section(&data);
    module.finish()
}

/// Where its memory has what `digests` and `run` give, and the digests.
const DIGESTS_RESULT: i32 = 16;
const RESULT: i32 = 32;
const DIGESTS: i32 = 64;

/// What stands around the adapter. An instance that is numbered behind the one that was imported is one further.
struct Outer<'p> {
    provider: &'p [u8],
    depth: usize,
    /// How many instances and functions were defined so far.
    instances: u32,
    functions: u32,
    /// The number of the instance that was imported.
    import: Option<u32>,
    /// What the adapter is given for its imports.
    given: Vec<(String, ComponentExportKind, u32)>,
}

impl Reencode for Outer<'_> {
    type Error = std::convert::Infallible;
}

impl ReencodeComponent for Outer<'_> {
    fn component_instance_index(&mut self, instance: u32) -> u32 {
        let shifted = self.depth == 0 && self.import.is_some_and(|import| instance >= import);
        instance + u32::from(shifted)
    }

    fn push_depth(&mut self) {
        self.depth += 1;
    }

    fn pop_depth(&mut self) {
        self.depth -= 1;
    }

    fn parse_component_payload(
        &mut self,
        component: &mut Component,
        payload: Payload<'_>,
        whole: &[u8],
    ) -> Result<(), Error<Self::Error>> {
        match payload {
            Payload::ComponentImportSection(section) => {
                let mut imports = ComponentImportSection::new();
                for import in section {
                    let import = import?;
                    let name = import.name.name.to_owned();
                    let kind = match import.ty {
                        wasmparser::ComponentTypeRef::Instance(_) => ComponentExportKind::Instance,
                        wasmparser::ComponentTypeRef::Func(_) => ComponentExportKind::Func,
                        // Instantiating the adapter without it is an error.
                        _ => continue,
                    };
                    if name == CARRIED {
                        component.section(&imports);
                        imports = ComponentImportSection::new();
                        self.put_in(component);
                    } else {
                        let declared = self.component_type_ref(import.ty)?;
                        imports.import(import.name, declared);
                    }
                    let at = if kind == ComponentExportKind::Func { &mut self.functions } else { &mut self.instances };
                    self.given.push((name, kind, *at));
                    *at += 1;
                }
                component.section(&imports);
                return Ok(());
            }
            Payload::ComponentAliasSection(ref section) => {
                for alias in section.clone() {
                    if let wasmparser::ComponentAlias::InstanceExport { kind, .. } = alias? {
                        self.instances += u32::from(kind == wasmparser::ComponentExternalKind::Instance);
                        self.functions += u32::from(kind == wasmparser::ComponentExternalKind::Func);
                    }
                }
            }
            _ => {}
        }
        wasm_encoder::reencode::component_utils::parse_component_payload(self, component, payload, whole)
    }
}

impl Outer<'_> {
    /// The component, an instance of it, and what that exports in the import's place.
    fn put_in(&mut self, component: &mut Component) {
        component.section(&RawSection { id: ComponentSectionId::Component.into(), data: self.provider });
        let none: [(&str, ComponentExportKind, u32); 0] = [];
        let mut instances = ComponentInstanceSection::new();
        instances.instantiate(0, none);
        component.section(&instances);
        let mut aliases = ComponentAliasSection::new();
        aliases.alias(Alias::InstanceExport { instance: self.instances, kind: ComponentExportKind::Instance, name: CARRIED });
        component.section(&aliases);
        self.import = Some(self.instances);
        // That of the component, beside that of the import.
        self.instances += 1;
    }
}
