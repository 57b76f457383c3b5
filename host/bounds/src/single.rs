//! From a component to the one module that it is made of.

use wasmparser::{Instance, Parser, Payload, Validator};

use crate::BoundError;
use crate::module::{FEATURES, Names};

/// What toolchains call a component's functions in its module.
const NAMES: [Names; 2] = [
    Names { run: "mezze:features/computation@0.1.0#run", realloc: "cabi_realloc", memory: "memory" },
    Names { run: "cm32p2|mezze:features/computation@0.1|run", realloc: "cm32p2_realloc", memory: "cm32p2_memory" },
];

/// The one module of a component.
pub(crate) fn single_module(component: &[u8]) -> Result<&[u8], BoundError> {
    let malformed = |error: wasmparser::BinaryReaderError| BoundError::Malformed(error.to_string());
    let unbounded = |reason: String| Err(BoundError::Unbounded(reason));
    Validator::new_with_features(FEATURES | wasmparser::WasmFeatures::COMPONENT_MODEL)
        .validate_all(component)
        .map_err(malformed)?;
    let mut modules = Vec::new();
    let mut is_alone = true;
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
        return unbounded("its module imports something of the component".into());
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
