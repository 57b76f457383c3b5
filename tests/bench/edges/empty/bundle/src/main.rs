//! Makes a module for Cloudflare callable from JavaScript: `empty-bundle MODULE OUT` writes `index_bg.wasm`, the module `index.js`
//! that calls it, and `state.js`, which that imports from the SDK of the platform.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [module, out] = arguments.as_slice() else { return Err("expected MODULE and OUT".into()) };
    // A folder of an earlier run would have its snippets too.
    if out.exists() {
        fs::remove_dir_all(out)?;
    }
    fs::create_dir_all(out)?;
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module).out_name("index").web(true)?.typescript(false).omit_default_module_path(true);
    bindgen.remove_name_section(true).remove_producers_section(true);
    bindgen.generate(out)?;
    let mut snippets = fs::read_dir(out.join("snippets"))?.collect::<Result<Vec<_>, _>>()?;
    let (Some(snippet), true) = (snippets.pop(), snippets.is_empty()) else {
        return Err("expected one folder of snippets from wasm-bindgen".into());
    };
    let index = fs::read_to_string(out.join("index.js"))?;
    let imported = format!("'./snippets/{}/inline0.js'", snippet.file_name().to_string_lossy());
    if index.matches("./snippets/").count() != 1 || !index.contains(&imported) {
        return Err("expected one import of a snippet in the module of wasm-bindgen".into());
    }
    fs::write(out.join("index.js"), index.replace(&imported, "'./state.js'"))?;
    fs::copy(snippet.path().join("inline0.js"), out.join("state.js"))?;
    Ok(())
}
