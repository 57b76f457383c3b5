//! The files that vendors' tools read.

use std::path::PathBuf;

use mezze_core::HttpConfig;

/// What a bundle's files say of where it goes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The name of the worker, service or application.
    pub name: String,
    /// The id of the KV namespace that the bindings name, where the host has one.
    pub kv_id: Option<String>,
    /// Whether a browser's bundle is to check signatures. The others always can.
    pub trust: bool,
    /// Whether a browser's bundle is to compute on-demand features. The others always can.
    pub expressions: bool,
    /// The transforms that it carries.
    pub transforms: Vec<mezze_bounds::Bounded>,
    /// The program of Viceroy, which a bundle for Fastly Compute with transforms needs; found on the path otherwise.
    pub viceroy: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { name: "mezze".into(), kv_id: None, trust: false, expressions: false, transforms: Vec::new(), viceroy: None }
    }
}

impl Settings {
    /// These settings with another name, of lower-case letters, digits and dashes. `None` where it is not of them.
    pub fn with_name(mut self, name: &str) -> Option<Self> {
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=54).contains(&name.len()) && name.bytes().all(letters) && !name.starts_with('-') && !name.ends_with('-');
        self.name = name.to_owned();
        fits.then_some(self)
    }

    /// These settings, with a browser's bundle that computes on-demand features.
    #[must_use]
    pub fn with_expressions(mut self) -> Self {
        self.expressions = true;
        self
    }

    /// These settings with transforms, one for each digest.
    #[must_use]
    pub fn with_transforms(mut self, transforms: Vec<mezze_bounds::Bounded>) -> Self {
        self.transforms = transforms;
        self
    }

    /// These settings with the program of Viceroy.
    #[must_use]
    pub fn with_viceroy(mut self, viceroy: PathBuf) -> Self {
        self.viceroy = Some(viceroy);
        self
    }

    /// These settings, with a browser's bundle that checks signatures.
    #[must_use]
    pub fn with_trust(mut self) -> Self {
        self.trust = true;
        self
    }

    /// These settings with a KV namespace, by its id of hex digits. `None` where it is not of them.
    pub fn with_kv_id(mut self, id: &str) -> Option<Self> {
        self.kv_id = Some(id.to_owned());
        (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(self)
    }
}

pub(crate) fn wrangler_toml(settings: &Settings) -> String {
    let name = &settings.name;
    let date = crate::local::COMPATIBILITY_DATE;
    let id = settings.kv_id.as_deref().unwrap_or("FILL-IN: wrangler kv namespace create MEZZE");
    format!(
        r#"name = "{name}"
main = "worker.js"
compatibility_date = "{date}"
# The files are ready to run as they are.
no_bundle = true
find_additional_modules = true
rules = [
  {{ type = "ESModule", globs = ["**/*.js"] }},
  {{ type = "CompiledWasm", globs = ["**/*.wasm"] }},
]

[[kv_namespaces]]
binding = "MEZZE"
id = "{id}"

# How it serves; docs/SERVING.md has them all. The token is a secret: wrangler secret put MEZZE_TOKEN
[vars]
MEZZE_HEAD_SECONDS = "30"
MEZZE_CACHE_SECONDS = "60"
"#
    )
}

pub(crate) fn fastly_toml(settings: &Settings) -> String {
    let name = &settings.name;
    format!(
        r#"manifest_version = 3
name = "{name}"
description = "Features, served by Mezze"
language = "other"

# mezze.wasm is ready to run as it is. The vendor's command empties bin/ before it builds.
[scripts]
build = "mkdir -p bin && cp mezze.wasm bin/main.wasm"

# The service needs a KV Store named `mezze`. If there are any, a Config Store and a Secret Store of the same name hold variables
# such as MEZZE_HEAD_SECONDS and MEZZE_TOKEN.
[setup.kv_stores.mezze]
description = "Snapshots"
"#
    )
}

pub(crate) fn spin_toml(settings: &Settings) -> String {
    let name = &settings.name;
    let variables = HttpConfig::VARIABLES.map(|(name, _)| name.to_ascii_lowercase());
    let declared: Vec<String> = variables
        .iter()
        .map(|variable| {
            let secret = if variable == "mezze_token" { ", secret = true" } else { "" };
            format!("{variable} = {{ default = \"\"{secret} }}\n")
        })
        .collect();
    let used: Vec<String> = variables.iter().map(|variable| format!("{variable} = \"{{{{ {variable} }}}}\"\n")).collect();
    format!(
        r#"spin_manifest_version = 2

[application]
name = "{name}"
version = "0.1.0"
description = "Features, served by Mezze"

# How it serves; docs/SERVING.md has them all. What is empty is not set.
[variables]
{declared}
[[trigger.http]]
route = "/..."
component = "mezze"

[component.mezze]
source = "mezze.wasm"
key_value_stores = ["default"]

[component.mezze.variables]
{used}"#,
        declared = declared.concat(),
        used = used.concat(),
    )
}

pub(crate) fn package_json(settings: &Settings) -> String {
    let (name, version) = (&settings.name, env!("CARGO_PKG_VERSION"));
    format!(
        r#"{{
  "name": "{name}",
  "version": "{version}",
  "description": "Features from Mezze snapshots, served in the browser",
  "license": "Apache-2.0",
  "type": "module",
  "exports": {{ ".": {{ "types": "./mezze.d.ts", "default": "./mezze.js" }} }},
  "files": ["*.js", "*.wasm", "*.d.ts", "transforms/*.wasm"]
}}
"#
    )
}
