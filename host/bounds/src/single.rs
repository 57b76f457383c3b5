//! From a component to the one module that it is made of.

use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, ExternalKind, Instance, Parser, Payload, Validator, WasmFeatures,
};

use crate::BoundError;
use crate::module::Names;

/// What toolchains call a component's functions in its module.
const NAMES: [Names; 2] = [
    Names {
        run: "mezze:features/computation@0.1.0#run",
        describe: "mezze:features/computation@0.1.0#describe",
        realloc: "cabi_realloc",
        memory: "memory",
    },
    Names {
        run: "cm32p2|mezze:features/computation@0.1|run",
        describe: "cm32p2|mezze:features/computation@0.1|describe",
        realloc: "cm32p2_realloc",
        memory: "cm32p2_memory",
    },
];

/// The one module of a component.
pub(crate) fn single_module(component: &[u8]) -> Result<&[u8], BoundError> {
    let malformed = |error: wasmparser::BinaryReaderError| BoundError::Malformed(error.to_string());
    let unbounded = |reason: String| Err(BoundError::Unbounded(reason));
    // What its module may use is looked at once it is known that there is one.
    Validator::new_with_features(WasmFeatures::all()).validate_all(component).map_err(malformed)?;
    let mut modules = Vec::new();
    let mut is_alone = true;
    // Core functions of the component by their numbers, and those of them that it makes its own.
    let (mut named, mut lifted) = (Vec::new(), Vec::new());
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(malformed)? {
            Payload::Version { encoding: wasmparser::Encoding::Module, .. } if depth == 0 => {
                return unbounded("it is a module, no component".into());
            }
            Payload::ModuleSection { unchecked_range, .. } => {
                depth += 1;
                modules.push(component.get(unchecked_range).unwrap_or_default());
            }
            Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::InstanceSection(section) => {
                for instance in section {
                    let Instance::Instantiate { args, .. } = instance.map_err(malformed)? else { continue };
                    is_alone &= args.is_empty();
                }
            }
            Payload::ComponentAliasSection(section) if depth == 0 => {
                for alias in section {
                    if let ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, name, .. } = alias.map_err(malformed)? {
                        named.push(name);
                    }
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    let CanonicalFunction::Lift { core_func_index, options, .. } = function.map_err(malformed)? else {
                        is_alone = false;
                        continue;
                    };
                    lifted.push(core_func_index);
                    lifted.extend(options.iter().filter_map(|option| match option {
                        CanonicalOption::Realloc(function) => Some(*function),
                        _ => None,
                    }));
                    is_alone &= depth == 0
                        && !options.iter().any(|option| matches!(option, CanonicalOption::UTF16 | CanonicalOption::CompactUTF16));
                }
            }
            Payload::ComponentStartSection { .. } => is_alone = false,
            _ => {}
        }
    }
    let &[module] = &modules[..] else {
        return unbounded(format!(
            "it is made of {} modules; bundles carry transforms of one module, as the toolchains of Rust and C make them",
            modules.len()
        ));
    };
    if !is_alone {
        return unbounded("its module is not all that it is made of: a transform imports nothing".into());
    }
    let names = names_of(module)?;
    let known = |name: &str| name == names.realloc || name == names.run || name == names.describe;
    if !lifted.iter().all(|function| named.get(*function as usize).is_some_and(|name| known(name))) {
        return unbounded("its functions are not those that toolchains name so in its module".into());
    }
    Ok(module)
}

/// What the functions of a transform's module are called.
pub(crate) fn names_of(module: &[u8]) -> Result<&'static Names, BoundError> {
    let malformed = |error: wasmparser::BinaryReaderError| BoundError::Malformed(error.to_string());
    let mut exports = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ExportSection(section) = payload.map_err(malformed)? {
            for export in section {
                exports.push(export.map_err(malformed)?.name);
            }
        }
    }
    let [usual, _] = &NAMES;
    let missing = || BoundError::Unbounded(format!("its module does not export `{}`", usual.run));
    NAMES.iter().find(|names| exports.contains(&names.run)).ok_or_else(missing)
}
