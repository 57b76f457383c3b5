//! Builds the bundles' code: each adapter in `edge-deploy/` for its target, and what turns it into what its platform runs.

#[path = "../build_guest.rs"]
mod build_guest;

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use build_guest::build_guest;
use js_component_bindgen::{TranspileOpts, transpile};
use wasm_bindgen_cli_support::Bindgen;
use wit_component::ComponentEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    build_guest::watch(&["edge-deploy", "guest/serving", "wit"]);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    cloudflare(&out.join("cloudflare"))?;
    let fastly = build_guest("mezze-fastly", "wasm32-wasip1", "edge", "mezze-fastly.wasm")?;
    fs::copy(fastly, out.join("fastly.wasm"))?;
    let spin = build_guest("mezze-spin", "wasm32-wasip2", "edge", "mezze_spin.wasm")?;
    fs::copy(spin, out.join("spin.wasm"))?;
    browser(&out.join("browser"))
}

/// `index_bg.wasm`, the module `index.js` that calls it, and `state.js`, which that imports.
fn cloudflare(out: &Path) -> Result<(), Box<dyn Error>> {
    let module = build_guest("mezze-cloudflare", "wasm32-unknown-unknown", "edge-js", "mezze_cloudflare.wasm")?;
    // A folder of an earlier run would have its snippets too.
    if out.exists() {
        fs::remove_dir_all(out)?;
    }
    fs::create_dir_all(out)?;
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module).out_name("index").web(true)?.typescript(false).omit_default_module_path(true);
    bindgen.remove_name_section(true).remove_producers_section(true);
    bindgen.generate(out)?;
    // The platform's SDK brings one snippet, in a folder named by a hash.
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

/// `serving.core.wasm` and the module `serving.js` that calls it.
fn browser(out: &Path) -> Result<(), Box<dyn Error>> {
    let module = build_guest("mezze-serving", "wasm32-unknown-unknown", "guest", "mezze_serving.wasm")?;
    let component = ComponentEncoder::default().validate(true).module(&fs::read(module)?)?.encode()?;
    let options = TranspileOpts {
        name: "serving".into(),
        no_typescript: false,
        instantiation: None,
        import_bindings: None,
        map: None,
        // One output serves Node and browsers.
        no_nodejs_compat: false,
        base64_cutoff: 0,
        tla_compat: false,
        valid_lifting_optimization: true,
        tracing: false,
        no_namespaced_exports: true,
        multi_memory: false,
        guest: false,
        async_mode: None,
    };
    for (name, bytes) in transpile(&component, options).map_err(|error| format!("{error:#}"))?.files {
        let path = out.join(name);
        fs::create_dir_all(path.parent().unwrap_or(out))?;
        fs::write(path, bytes)?;
    }
    Ok(())
}
