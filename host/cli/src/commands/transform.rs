//! `mezze transform new`, `build` and `test`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mezze_core::{ExpressionColumn, FeatureSchema, Transform, TransformCall, TransformLimits, Value, ValueType};
use mezze_model::DescribedTransform;
use mezze_offline::Rows;
use mezze_runtime::{Transforms, TransformsConfig};
use serde_json::{Value as Json, json};
use wit_component::ComponentEncoder;

use crate::args::{TransformArgs, TransformBuildArgs, TransformCommand, TransformLanguage, TransformNewArgs, TransformTestArgs};
use crate::context::block_on;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, count, size};
use crate::transforms;

pub(crate) fn run(args: &TransformArgs, output: Output) -> Outcome {
    match &args.command {
        TransformCommand::New(args) => new(args, output),
        TransformCommand::Build(args) => build(args, output),
        TransformCommand::Test(args) => test(args, output),
    }
}

/// A file of a template: its path, and its text.
type Template = (&'static str, &'static str);

/// The interface, which every language needs.
const WIT: &str = include_str!("../../../../wit/transform.wit");
const RUST: [Template; 9] = [
    ("Cargo.toml", include_str!("../../templates/transform-rust/Cargo.toml")),
    ("src/lib.rs", include_str!("../../templates/transform-rust/src/lib.rs")),
    ("sdk/Cargo.toml", include_str!("../../../../guest/transform/Cargo.toml")),
    ("sdk/src/lib.rs", include_str!("../../../../guest/transform/src/lib.rs")),
    ("sdk/src/columns.rs", include_str!("../../../../guest/transform/src/columns.rs")),
    ("sdk/src/list.rs", include_str!("../../../../guest/transform/src/list.rs")),
    ("sdk/src/memory.rs", include_str!("../../../../guest/transform/src/memory.rs")),
    ("sdk/src/value.rs", include_str!("../../../../guest/transform/src/value.rs")),
    ("sdk/wit/transform.wit", WIT),
];
const JAVASCRIPT: [Template; 3] = [
    ("package.json", include_str!("../../templates/transform-javascript/package.json")),
    ("transform.js", include_str!("../../templates/transform-javascript/transform.js")),
    ("wit/transform.wit", WIT),
];

fn new(args: &TransformNewArgs, output: Output) -> Outcome {
    let folder = &args.folder;
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_' || letter == '-';
    if !name.starts_with(|letter: char| letter.is_ascii_lowercase()) || !name.chars().all(fits) {
        return Err(Failure::input(format!("`{name}` cannot be a transform's name"))
            .hint("the folder's name is: lower-case letters, digits, - and _, beginning with a letter"));
    }
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(Failure::input(format!("{} is there already", folder.display())).hint("name a folder that is not there"));
    }
    let (template, ignored): (&[Template], &str) = match args.language {
        TransformLanguage::Rust => (&RUST, "/target\n"),
        TransformLanguage::Javascript => (&JAVASCRIPT, "/node_modules\n"),
    };
    let source = if args.language == TransformLanguage::Rust { "src/lib.rs" } else { "transform.js" };
    for (path, text) in template.iter().chain(&[(".gitignore", ignored)]) {
        // Only a project's own files have its name in them.
        let text = if path.contains('/') { (*text).to_owned() } else { text.replace("\"NAME\"", &format!("\"{name}\"")) };
        write(&folder.join(path), &text)?;
    }
    output.result(
        || json!({ "folder": folder.to_string_lossy(), "source": folder.join(source).to_string_lossy() }),
        || {
            let folder = folder.display();
            format!("made {folder}; write it in {folder}/{source}, then `mezze transform build {folder}`\n")
        },
    )
}

fn write(path: &Path, text: &str) -> Outcome {
    let failed = |error: &std::io::Error| Failure::io("cannot write", path, error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    }
    fs::write(path, text).map_err(|error| failed(&error))
}

fn build(args: &TransformBuildArgs, output: Output) -> Outcome {
    let folder = &args.folder;
    let name = folder.canonicalize().ok().and_then(|folder| Some(folder.file_name()?.to_owned()));
    let name = name.ok_or_else(|| {
        Failure::input(format!("{} is not a folder", folder.display())).hint("`mezze transform new FOLDER` makes one")
    })?;
    let out = args.out.clone().unwrap_or_else(|| folder.with_file_name(name).with_extension("wasm"));
    let component = if folder.join("Cargo.toml").is_file() {
        build_rust(folder)?
    } else if folder.join("package.json").is_file() {
        build_javascript(folder)?
    } else {
        return Err(Failure::input(format!("{} has neither a Cargo.toml nor a package.json", folder.display()))
            .hint("`mezze transform new FOLDER` makes a folder with one"));
    };
    // What cannot be run is not put anywhere.
    let engine = transforms::engine(TransformsConfig::for_jobs())?;
    let refused =
        |error: mezze_runtime::RuntimeError| Failure::new(Exit::Failed, format!("the component cannot be used: {error}"));
    let id = engine.add(&component).map_err(refused)?;
    let schema = engine.schema(&id).map_err(refused)?;
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent).map_err(|error| Failure::io("cannot write", &out, &error))?;
    }
    // Whole or not at all: a repository may name it already.
    let partial = out.with_extension("wasm.partial");
    let written = fs::write(&partial, &component).and_then(|()| fs::rename(&partial, &out));
    written.map_err(|error| Failure::io("cannot write", &out, &error))?;
    let described = DescribedTransform { id, inputs: schema.inputs, outputs: schema.outputs };
    output.result(
        || described_json(&described, &out, component.len()),
        || {
            format!(
                "built {} ({})\n  digest    {id}\n  takes     {}\n  computes  {}\n",
                out.display(),
                size(component.len() as u64),
                fields_text(&described.inputs),
                fields_text(&described.outputs),
            )
        },
    )
}

fn fields_text(fields: &[FeatureSchema]) -> String {
    fields.iter().map(|field| format!("{} {}", field.name, field.value_type)).collect::<Vec<_>>().join(", ")
}

fn described_json(described: &DescribedTransform, path: &Path, bytes: usize) -> Json {
    let fields = |fields: &[FeatureSchema]| -> Vec<Json> {
        fields.iter().map(|field| json!({ "name": field.name, "dtype": field.value_type.to_string() })).collect()
    };
    json!({
        "component": path.to_string_lossy(), "bytes": bytes, "digest": described.id.to_string(),
        "inputs": fields(&described.inputs), "outputs": fields(&described.outputs),
    })
}

/// Runs a tool, with its own messages on standard error; gives what it wrote to standard output.
fn tool(command: &mut Command, missing: &str) -> Outcome<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.stderr(Stdio::inherit()).stdin(Stdio::null()).output();
    let done = done.map_err(|error| {
        Failure::new(Exit::Failed, format!("`{name}` cannot be run: {}", crate::failure::plain(&error))).hint(missing)
    })?;
    if !done.status.success() {
        return Err(Failure::new(Exit::Failed, format!("`{name}` failed; what it said is above")));
    }
    Ok(done.stdout)
}

const RUST_TARGET: &str = "wasm32-unknown-unknown";
/// A quarter of the usual stack: memory is cleared for each call, and a transform calls few functions within functions.
const STACK: &str = "target.wasm32-unknown-unknown.rustflags=[\"-Clink-arg=-zstack-size=262144\"]";

fn build_rust(folder: &Path) -> Outcome<Vec<u8>> {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(folder)
        .args(["build", "--release", "--target", RUST_TARGET, "--message-format", "json-render-diagnostics", "--config", STACK])
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    let messages = tool(&mut cargo, "install rustup (https://rustup.rs), then `rustup target add wasm32-unknown-unknown`")?;
    let module = messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Json>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter_map(|message| {
            let files = message["filenames"].as_array()?.clone();
            files.iter().filter_map(Json::as_str).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
        })
        .next_back();
    let module = module.ok_or_else(|| {
        Failure::new(Exit::Failed, "cargo made no WebAssembly module")
            .hint("the crate's type has to be `cdylib` in its Cargo.toml")
    })?;
    let bytes = fs::read(&module).map_err(|error| Failure::io("cannot read", &module, &error))?;
    let encoded = ComponentEncoder::default().validate(true).module(&bytes).and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| {
        Failure::new(Exit::Failed, format!("no component can be made of {}: {error:#}", module.display()))
            .hint("a transform is made by `mezze_transform::rows!` or `mezze_transform::columns!`, once in its crate")
    })
}

fn build_javascript(folder: &Path) -> Outcome<Vec<u8>> {
    let missing = "install Node.js with npm (https://nodejs.org)";
    if !folder.join("node_modules").is_dir() {
        let mut npm = Command::new("npm");
        npm.current_dir(folder).args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]);
        tool(&mut npm, missing)?;
    }
    let out = tempfile::tempdir().map_err(|error| Failure::io("cannot write", Path::new("a temporary folder"), &error))?;
    let made = out.path().join("transform.wasm");
    let mut node = Command::new("node");
    node.current_dir(folder)
        .args(["node_modules/componentize-qjs/cli.mjs", "--wit", "wit/transform.wit", "--world", "transform"])
        // Nothing that it might import is there when it runs.
        .args(["--js", "transform.js", "--stub-wasi", "--sync", "--opt-size", "--output"])
        .arg(&made);
    tool(&mut node, missing)?;
    fs::read(&made).map_err(|error| Failure::io("cannot read", &made, &error))
}

/// Rows of a call, column by column.
struct TestRows {
    columns: Vec<ExpressionColumn<'static>>,
    rows: usize,
}

fn test(args: &TransformTestArgs, output: Output) -> Outcome {
    let engine = transforms::engine(TransformsConfig::for_jobs())?;
    let (described, bytes) = transforms::describe(&engine, &args.component)
        .map_err(|error| Failure::input(format!("{}: {error}", args.component.display())))?;
    let values = match &args.rows {
        Some(path) => rows_of_file(path, &described, args.limit)?,
        None => odd_values(&described.inputs, args.limit),
    };
    let rows = values.first().map_or(1, Vec::len);
    let of_rows = |wanted: std::ops::Range<usize>| TestRows {
        columns: described
            .inputs
            .iter()
            .zip(&values)
            .map(|(input, values)| ExpressionColumn::of_values(&input.value_type, values.get(wanted.clone()).unwrap_or_default()))
            .collect(),
        rows: wanted.len(),
    };
    let together = call(&engine, &described, &of_rows(0..rows));
    let alone: Vec<Result<Vec<String>, String>> = (0..rows)
        .map(|row| call(&engine, &described, &of_rows(row..row + 1)).map(|mut made| made.pop().unwrap_or_default()))
        .collect();
    let shown = |row: usize| {
        let inputs = described
            .inputs
            .iter()
            .zip(&values)
            .map(|(input, values)| format!("{} = {:?}", input.name, values.get(row).unwrap_or(&Value::Null)));
        inputs.collect::<Vec<_>>().join(", ")
    };
    let failing: Vec<(usize, &String)> =
        alone.iter().enumerate().filter_map(|(row, made)| made.as_ref().err().map(|error| (row, error))).collect();
    if let Some((row, error)) = failing.first() {
        return Err(Failure::new(
            Exit::Failed,
            format!(
                "it fails for {} of {} rows; the first is row {}: {error}",
                count(failing.len() as u64),
                count(rows as u64),
                row + 1
            ),
        )
        .hint(format!("it got {}", shown(*row))));
    }
    let together = together.map_err(|error| Failure::new(Exit::Failed, format!("it fails for {rows} rows together: {error}")))?;
    for (row, (together, alone)) in together.iter().zip(&alone).enumerate() {
        if alone.as_ref() != Ok(together) {
            let alone = alone.as_ref().map(|made| made.join(", ")).unwrap_or_default();
            return Err(Failure::new(
                Exit::Failed,
                format!("row {} has other values alone than among others: {alone}; {}", row + 1, together.join(", ")),
            )
            .hint(format!("it got {}; a row's values have to follow from that row alone", shown(row))));
        }
    }
    if call(&engine, &described, &of_rows(0..rows)).as_ref() != Ok(&together) {
        return Err(Failure::new(Exit::Failed, "it gives other values when it is called again with the same rows"));
    }
    output.result(
        || {
            let mut json = described_json(&described, &args.component, bytes.len());
            if let Json::Object(fields) = &mut json {
                fields.insert("rows".into(), json!(rows));
                fields.insert("equal".into(), json!(true));
            }
            json
        },
        || {
            format!(
                "{} takes {}\n  and computes {}\n{} rows: the same to the bit together, each alone, and once more\n",
                args.component.display(),
                fields_text(&described.inputs),
                fields_text(&described.outputs),
                count(rows as u64),
            )
        },
    )
}

/// The features of each row, as texts that differ where a bit does.
fn call(engine: &Transforms, described: &DescribedTransform, rows: &TestRows) -> Result<Vec<Vec<String>>, String> {
    let types: Vec<ValueType> = described.inputs.iter().map(|input| input.value_type.clone()).collect();
    let transform = Transform { id: described.id, limits: TransformLimits::DEFAULT };
    let inputs: Vec<ExpressionColumn<'_>> =
        rows.columns.iter().zip(&types).map(|(column, value_type)| column.full_for(value_type, rows.rows)).collect();
    let call = TransformCall {
        transform: &transform,
        rows: rows.rows,
        inputs: &inputs,
        input_types: &types,
        outputs: &described.outputs,
    };
    let made = call.run(engine).map_err(|fault| fault.to_string())?;
    let bits = |column: &ExpressionColumn<'_>, row: usize| match (column.int(row), column.float(row), column.bytes(row)) {
        (Some(value), ..) => value.to_string(),
        (_, Some(value), _) => format!("{value} ({:016x})", value.to_bits()),
        (.., Some(bytes)) => format!("{:?}", String::from_utf8_lossy(bytes)),
        _ => "null".to_owned(),
    };
    let row = |row: usize| {
        described.outputs.iter().zip(&made).map(|(output, column)| format!("{} = {}", output.name, bits(column, row))).collect()
    };
    Ok((0..rows.rows).map(row).collect())
}

/// The first rows of files.
fn rows_of_file(path: &str, described: &DescribedTransform, limit: usize) -> Outcome<Vec<Vec<Value>>> {
    block_on(Some(1), async {
        let rows = Rows::open(Path::new("."), path).await?;
        let first = rows.first(limit.max(1)).await?;
        let mut columns = Vec::new();
        for input in &described.inputs {
            let array = first.column_by_name(&input.name).ok_or_else(|| {
                let known: Vec<&str> = first.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
                Failure::input(format!("the component takes `{}`; {path} has {}", input.name, known.join(", ")))
            })?;
            let values = (0..first.num_rows()).map(|row| mezze_arrow::value_at(&input.value_type, array, row));
            columns.push(values.collect::<Result<Vec<_>, _>>().map_err(|error| Failure::of(Exit::Input, &error))?);
        }
        if first.num_rows() == 0 {
            return Err(Failure::input(format!("{path} has no rows")));
        }
        Ok(columns)
    })
}

/// Odd values of each type, put together in ever other ways: always the same ones.
fn odd_values(inputs: &[FeatureSchema], rows: usize) -> Vec<Vec<Value>> {
    let mut columns = Vec::with_capacity(inputs.len());
    for (number, input) in inputs.iter().enumerate() {
        let odd = odd_values_of(&input.value_type);
        // Steps without a common divisor with the number of values bring each beside each other in time.
        let step = 2 * number + 1;
        columns.push(
            (0..rows.max(1))
                .map(|row| odd.get((row * step + row / odd.len()) % odd.len()).cloned().unwrap_or(Value::Null))
                .collect(),
        );
    }
    columns
}

fn odd_values_of(value_type: &ValueType) -> Vec<Value> {
    let texts = ["", "a", "Zürich", "日本", "\u{0}", " blank ", "e\u{301}", "1.5", "null"];
    match value_type {
        ValueType::Bool => vec![Value::Bool(true), Value::Bool(false), Value::Null],
        ValueType::Int32 => {
            [0, 1, -1, 7, i64::from(i32::MIN), i64::from(i32::MAX)].map(Value::Int).into_iter().chain([Value::Null]).collect()
        }
        ValueType::Int64 | ValueType::UnixTimestamp => [0, 1, -1, 7, 1_000_000, 1_709_164_800_000_000_000, i64::MIN, i64::MAX]
            .map(Value::Int)
            .into_iter()
            .chain([Value::Null])
            .collect(),
        ValueType::Float32 => [0.0, -0.0, 1.5, -1e30, f32::MIN_POSITIVE, f32::INFINITY, f32::NAN]
            .map(Value::Float32)
            .into_iter()
            .chain([Value::Null])
            .collect(),
        ValueType::Float64 => {
            [0.0, -0.0, 1.5, 0.1, -1e300, f64::MIN_POSITIVE, 5e-324, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]
                .map(Value::Float64)
                .into_iter()
                .chain([Value::Null])
                .collect()
        }
        ValueType::Bytes => vec![Value::Bytes(vec![]), Value::Bytes(vec![0, 255]), Value::Null],
        ValueType::List(element) | ValueType::Set(element) => {
            let elements = odd_values_of(element);
            let whole: Vec<Value> = elements.iter().filter(|value| **value != Value::Null).cloned().collect();
            vec![Value::List(vec![]), Value::List(whole), Value::List(elements), Value::Null]
        }
        ValueType::Uuid | ValueType::TimeUuid => vec![Value::Bytes(vec![0; 16]), Value::Bytes(vec![0xa7; 16]), Value::Null],
        ValueType::String | ValueType::Json | ValueType::Decimal => {
            texts.map(|text| Value::String(text.into())).into_iter().chain([Value::Null]).collect()
        }
        _ => vec![Value::Null],
    }
}
