//! What `spin.toml` and the runtime configuration say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use wasmtime::error::Context as _;
use wasmtime::{Result, bail, ensure};

/// An application of one component.
pub(crate) struct Application {
    /// The component's file.
    pub(crate) source: PathBuf,
    /// The stores that the component may open by label, and the SQLite file of each.
    pub(crate) stores: BTreeMap<String, PathBuf>,
    /// What the component reads as its variables.
    pub(crate) variables: BTreeMap<String, String>,
}

impl Application {
    /// Reads a `spin.toml`, or that of a folder.
    pub(crate) fn load(from: &Path, runtime_config_file: Option<&Path>) -> Result<Self> {
        let file = if from.is_dir() { from.join("spin.toml") } else { from.to_owned() };
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        let manifest: Manifest = read(&file)?;
        let mut files = match runtime_config_file {
            Some(file) => store_files(file)?,
            None => BTreeMap::new(),
        };
        files.entry("default".to_owned()).or_insert_with(|| folder.join(".spin/sqlite_key_value.db"));
        manifest.resolve(folder, &files).with_context(|| file.display().to_string())
    }
}

/// Whether Spin would have this as a variable's name.
pub(crate) fn is_variable_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.ends_with('_')
        && !name.contains("__")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    spin_manifest_version: u32,
    #[serde(rename = "application")]
    _application: IgnoredAny,
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
    trigger: Triggers,
    component: BTreeMap<String, Component>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    default: Option<String>,
    #[serde(default)]
    required: bool,
    #[serde(rename = "secret")]
    _secret: Option<bool>,
    #[serde(rename = "description")]
    _description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Triggers {
    http: Vec<HttpTrigger>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpTrigger {
    route: String,
    component: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Component {
    source: PathBuf,
    #[serde(default)]
    key_value_stores: Vec<String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(rename = "description")]
    _description: Option<String>,
}

impl Manifest {
    fn resolve(&self, folder: &Path, store_files: &BTreeMap<String, PathBuf>) -> Result<Application> {
        ensure!(self.spin_manifest_version == 2, "spin_manifest_version is {}, expected 2", self.spin_manifest_version);
        let [trigger] = &*self.trigger.http else { bail!("there are {} HTTP triggers, expected 1", self.trigger.http.len()) };
        ensure!(trigger.route == "/...", "the route is `{}`, expected `/...`", trigger.route);
        let name = &trigger.component;
        let component = self.component.get(name).with_context(|| format!("there is no [component.{name}]"))?;

        let mut stores = BTreeMap::new();
        for label in &component.key_value_stores {
            let file = store_files.get(label).with_context(|| format!("the store `{label}` is in no runtime configuration"))?;
            stores.insert(label.clone(), file.clone());
        }
        let mut values = BTreeMap::new();
        for (name, variable) in &self.variables {
            values.insert(&**name, variable.value(name)?);
        }
        let mut variables = BTreeMap::new();
        for (name, template) in &component.variables {
            ensure!(is_variable_name(name), "`{name}` is not a variable's name");
            variables.insert(name.clone(), fill(template, &values)?);
        }
        Ok(Application { source: folder.join(&component.source), stores, variables })
    }
}

impl Variable {
    fn value(&self, name: &str) -> Result<String> {
        ensure!(is_variable_name(name), "`{name}` is not a variable's name");
        ensure!(self.required != self.default.is_some(), "the variable `{name}` needs a default, or `required = true`");
        let set = format!("SPIN_VARIABLE_{}", name.to_ascii_uppercase());
        match std::env::var(&set) {
            Ok(value) => Ok(value),
            Err(std::env::VarError::NotPresent) => self.default.clone().with_context(|| format!("{set} is not set")),
            Err(error) => Err(error).with_context(|| set),
        }
    }
}

/// Puts values in the place of each `{{ name }}`.
fn fill(template: &str, values: &BTreeMap<&str, String>) -> Result<String> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((literal, tail)) = rest.split_once("{{") {
        let (name, tail) = tail.split_once("}}").with_context(|| format!("the template `{template}` does not end"))?;
        let name = name.trim();
        filled += literal;
        filled += values.get(name).with_context(|| format!("the template `{template}` has no variable `{name}`"))?;
        rest = tail;
    }
    Ok(filled + rest)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuntimeConfig {
    #[serde(default)]
    key_value_store: BTreeMap<String, StoreConfig>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum StoreConfig {
    Spin { path: PathBuf },
}

/// The files of stores. As in Spin, paths are from the configuration's folder.
fn store_files(config: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let folder = config.parent().unwrap_or_else(|| Path::new(""));
    let stores = read::<RuntimeConfig>(config)?.key_value_store;
    Ok(stores.into_iter().map(|(label, StoreConfig::Spin { path })| (label, folder.join(path))).collect())
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    toml::from_str(&text).with_context(|| format!("cannot understand {}", file.display()))
}
