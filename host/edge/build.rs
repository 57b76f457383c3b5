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
    let fastly = build_guest("mezze-fastly", "wasm32-wasip1", "edge", "mezze-fastly.wasm", &[])?;
    fs::copy(fastly, out.join("fastly.wasm"))?;
    // What transforms are linked to has to be made a component first, by the vendor's own tool.
    let fastly = build_guest("mezze-fastly", "wasm32-wasip1", "edge", "mezze-fastly.wasm", &["--features", "transforms"])?;
    fs::copy(fastly, out.join("fastly-transforms.wasm"))?;
    let spin = build_guest("mezze-spin", "wasm32-wasip2", "edge", "mezze_spin.wasm", &[])?;
    fs::copy(spin, out.join("spin.wasm"))?;
    let serving = ["--features", "linked"];
    let serving = build_guest("mezze-serving", "wasm32-unknown-unknown", "guest", "mezze_serving.wasm", &serving)?;
    let serving = ComponentEncoder::default().validate(true).module(&fs::read(serving)?)?.encode()?;
    fs::write(out.join("serving.wasm"), serving)?;
    browser(&out.join("browser"), "browser")?;
    // What checks signatures is a third more: an own bundle for who wants it.
    browser(&out.join("browser-trust"), "browser,trust")?;
    // So is what computes on-demand features, and a little more what calls transforms.
    browser(&out.join("browser-expressions"), "browser,expressions")?;
    browser(&out.join("browser-trust-expressions"), "browser,trust,expressions")?;
    browser(&out.join("browser-transforms"), "browser,transforms")?;
    browser(&out.join("browser-trust-transforms"), "browser,trust,transforms")
}

/// `index_bg.wasm`, the module `index.js` that calls it, and `carry.js`, which calls transforms.
fn cloudflare(out: &Path) -> Result<(), Box<dyn Error>> {
    let module = build_guest("mezze-cloudflare", "wasm32-unknown-unknown", "edge-js", "mezze_cloudflare.wasm", &[])?;
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module).out_name("index").web(true)?.typescript(false).omit_default_module_path(true);
    // After a trap there has to be a new instance.
    bindgen.reset_state_function(true);
    bindgen.remove_name_section(true).remove_producers_section(true);
    bindgen.generate(out)?;
    fs::write(out.join("carry.js"), shorter(&edge_deploy("carry.js")?)?)?;
    Ok(())
}

/// `serving.core.wasm`, the modules `serving.js` that calls it and `mezze.js` around that, and with transforms `carry.js`.
fn browser(out: &Path, features: &str) -> Result<(), Box<dyn Error>> {
    // What runs here speaks JSON, and is downloaded by everyone who opens a page: size goes before the speed of hashing.
    let mut small = vec!["--no-default-features", "--features", features];
    let for_size = ["xxhash-rust", "itoa", "zmij"].map(|package| format!("profile.guest.package.{package}.opt-level=\"z\""));
    small.extend(for_size.iter().flat_map(|setting| ["--config", setting]));
    let module = build_guest("mezze-serving", "wasm32-unknown-unknown", "guest", "mezze_serving.wasm", &small)?;
    let mut module = fs::read(module)?;
    blank_source_paths(&mut module);
    let transforms = features.contains("transforms");
    let component = ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    let options = TranspileOpts {
        name: "serving".into(),
        no_typescript: false,
        instantiation: None,
        import_bindings: None,
        map: transforms.then(|| [("mezze:features/calls".to_owned(), "./transforms.js".to_owned())].into()),
        // One output serves Node and browsers.
        no_nodejs_compat: false,
        // What imports something has two modules more that tie it together, of some hundred bytes each.
        base64_cutoff: if transforms { 4_096 } else { 0 },
        tla_compat: false,
        valid_lifting_optimization: true,
        tracing: false,
        no_namespaced_exports: true,
        multi_memory: false,
        guest: false,
        async_mode: None,
    };
    let files = transpile(&component, options).map_err(|error| format!("{error:#}"))?.files;
    if files.iter().filter(|(name, _)| name.ends_with(".wasm")).count() != 1 {
        return Err("expected one module of the component for browsers".into());
    }
    for (name, bytes) in files {
        let path = out.join(name);
        fs::create_dir_all(path.parent().unwrap_or(out))?;
        let bytes = if path.extension().is_some_and(|ending| ending == "js") {
            shorter(&renamed(&String::from_utf8(bytes)?)?)?
        } else {
            bytes
        };
        fs::write(path, bytes)?;
    }
    if transforms {
        let carry = edge_deploy("carry.js")? + &edge_deploy("browser/load.js")?;
        fs::write(out.join("carry.js"), shorter(&carry)?)?;
    }
    let own = edge_deploy("browser/mezze.js")?;
    let own = if features.contains("trust") { own } else { without_trust(&own)? };
    fs::write(out.join("mezze.js"), shorter(&own)?)?;
    Ok(())
}

/// The text of a file in `edge-deploy/`.
fn edge_deploy(path: &str) -> Result<String, Box<dyn Error>> {
    Ok(fs::read_to_string(build_guest::root()?.join("edge-deploy").join(path))?)
}

/// A module without what is for its readers: indentation, and lines of comments. No text in it may go over several lines.
fn shorter(module: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut lines = Vec::new();
    let mut in_comment = false;
    for line in module.lines().map(str::trim) {
        if line.matches('`').count() % 2 == 1 {
            return Err(format!("a text goes over several lines: {line}").into());
        }
        in_comment |= line.starts_with("/*");
        if !in_comment && !line.is_empty() && !line.starts_with("//") {
            // Spaces within a text stay, and those of its line that are like them.
            let texts = texts_of(line);
            let spaced = SPACED.iter().filter(|(from, _)| texts.iter().all(|text| !text.contains(from)));
            lines.push(spaced.fold(line.to_owned(), |line, (from, to)| line.replace(from, to)));
        }
        in_comment &= !line.ends_with("*/");
    }
    Ok(lines.join("\n").into())
}

/// The glue with short names for what it names at length, over and over. A name that is taken already is an error.
fn renamed(module: &str) -> Result<String, Box<dyn Error>> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '$';
    let mut out = String::with_capacity(module.len());
    for line in module.split_inclusive('\n') {
        // A module as text has names by chance.
        if line.contains("base64Compile('") {
            out.push_str(line);
            continue;
        }
        let texts = texts_of(line);
        let mut rest = line;
        while let Some(letter) = rest.chars().next() {
            let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len()).max(letter.len_utf8());
            let (word, after) = rest.split_at(end);
            rest = after;
            let stem = word.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '_');
            if NAMES.iter().any(|(_, short)| stem == *short) {
                return Err(format!("the glue has a name {word} of its own").into());
            }
            let short = NAMES.iter().find(|(name, _)| stem == *name && texts.iter().all(|text| !text.contains(name)));
            // A property keeps its name.
            match short.filter(|_| !out.ends_with('.') && !rest.starts_with(':')) {
                Some((name, short)) => out.extend([short, word.get(name.len()..).unwrap_or_default()]),
                None => out.push_str(word),
            }
        }
    }
    Ok(out)
}

/// Names in the glue, without the numbers behind them, and what they become.
const NAMES: [(&str, &str); 9] = [
    ("clampGuest", "C"),
    ("dataView", "D"),
    ("exports", "X"),
    ("maybeSyncReturn", "Q"),
    ("memory", "M"),
    ("postReturn", "P"),
    ("result", "R"),
    ("utf8Decoder", "U"),
    ("variant", "V"),
];

/// What stands between quotes in a line.
fn texts_of(line: &str) -> Vec<&str> {
    let mut texts = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find(['"', '\'', '`']) {
        let (quote, after) = rest[start..].split_at(1);
        let end = after.find(quote).unwrap_or(after.len());
        texts.push(&after[..end]);
        rest = after.get(end + 1..).unwrap_or_default();
    }
    texts
}

/// Spaces that mean nothing between the parts of an expression.
const SPACED: [(&str, &str); 26] = [
    (" = ", "="),
    (", ", ","),
    (") {", "){"),
    (" => ", "=>"),
    ("{ ", "{"),
    (" }", "}"),
    (" + ", "+"),
    (" ?? ", "??"),
    (" && ", "&&"),
    (" || ", "||"),
    (" === ", "==="),
    (" !== ", "!=="),
    (" <= ", "<="),
    ("if (", "if("),
    ("for (", "for("),
    (": ", ":"),
    (" ? ", "?"),
    (" :", ":"),
    (" < ", "<"),
    (" > ", ">"),
    (" * ", "*"),
    ("= {", "={"),
    (" (", "("),
    (") ", ")"),
    ("; ", ";"),
    ("else {", "else{"),
];

/// A module without what only a bundle that checks signatures needs.
fn without_trust(module: &str) -> Result<String, Box<dyn Error>> {
    let mut lines = Vec::new();
    let mut is_left_out = false;
    for line in module.lines() {
        match line.trim() {
            "// begin: trust" if !is_left_out => is_left_out = true,
            "// end: trust" if is_left_out => is_left_out = false,
            "// begin: trust" | "// end: trust" => return Err("mezze.js begins or ends what is not open".into()),
            _ if is_left_out => {}
            _ => lines.push(line),
        }
    }
    if is_left_out { Err("mezze.js does not end what is for trust".into()) } else { Ok(lines.join("\n")) }
}

/// Fills with zeros the names of source files that panics would say: this module's panic handler says nothing, and they are 400
/// bytes of a bundle with gzip.
fn blank_source_paths(module: &mut [u8]) {
    let in_a_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-.".contains(&byte);
    let mut at = 0;
    while at < module.len() {
        let length = module[at..].iter().take_while(|byte| in_a_path(**byte)).count();
        let run = &mut module[at..at + length];
        // Texts lie side by side: a path ends where its last `.rs` does.
        if let Some(end) = run.windows(3).rposition(|ending| ending == b".rs") {
            let start = run[..end].windows(4).position(|start| start == b"/rus" || start == b"core" || start == b"gues");
            if let Some(start) = start {
                run[start..end + 3].fill(0);
            }
        }
        at += length + 1;
    }
}
