//! What a bundle has for the transforms that it carries.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use mezze_bounds::Bounded;

use crate::{BundleError, BundleFile};

/// Where a bundle has the module of a transform.
fn path(transform: &Bounded) -> String {
    format!("transforms/{}.wasm", transform.id)
}

/// The module `transforms.js` and those of the transforms, which hosts in JavaScript have beside the core's.
pub(crate) fn beside(carried: &[Bounded], own: String) -> impl Iterator<Item = BundleFile> {
    let own = BundleFile { path: Cow::Borrowed("transforms.js"), bytes: own.into_bytes(), is_code: true };
    let modules = carried.iter().map(|transform| BundleFile {
        path: Cow::Owned(path(transform)),
        bytes: transform.module.clone(),
        is_code: true,
    });
    std::iter::once(own).chain(modules)
}

/// `transforms.js` of a worker, whose modules are compiled before it runs.
pub(crate) fn of_a_worker(carried: &[Bounded]) -> String {
    let mut text = String::from("import { carry } from \"./carry.js\";\n");
    let mut pairs = Vec::with_capacity(carried.len());
    for (number, transform) in carried.iter().enumerate() {
        // Writing to text does not fail.
        let _ = writeln!(text, "import m{number} from \"./{}\";", path(transform));
        pairs.push(format!("[\"{}\", m{number}]", transform.id));
    }
    let _ = writeln!(text, "export const {{ digests, run }} = carry([{}]);", pairs.join(", "));
    text
}

/// `transforms.js` of a page, and of Node.
pub(crate) fn of_a_page(carried: &[Bounded]) -> String {
    let pair = |transform: &Bounded| format!("  [\"{}\", new URL(\"./{}\", import.meta.url)],\n", transform.id, path(transform));
    let pairs: String = carried.iter().map(pair).collect();
    format!("import {{ carry, load }} from \"./carry.js\";\nexport const {{ digests, run }} = carry(await load([\n{pairs}]));\n")
}

/// The adapter for Fastly Compute as a component. Its platform's calls are those of a module; the vendor's tool has what turns
/// them into a component's.
pub(crate) fn adapted(module: &[u8], viceroy: Option<&Path>) -> Result<Vec<u8>, BundleError> {
    let program = viceroy.unwrap_or_else(|| Path::new("viceroy"));
    let failed = |error| BundleError::NoViceroy { program: program.display().to_string(), error };
    let folder = tempfile::tempdir().map_err(failed)?;
    let (from, to) = (folder.path().join("module.wasm"), folder.path().join("component.wasm"));
    fs::write(&from, module).map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("adapt").arg(&from).arg("-o").arg(&to).stdin(Stdio::null());
    let done = command.output().map_err(failed)?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(BundleError::Viceroy(format!("{}: {}", done.status, said.trim())));
    }
    fs::read(&to)
        .map_err(|_| BundleError::Viceroy(format!("{program} wrote no component; is it Viceroy?", program = program.display())))
}
