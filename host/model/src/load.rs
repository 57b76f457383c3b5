//! From files to definitions: every name resolved, everything wrong told at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mezze_core::{Audience, FeatureSchema, KEY_COLUMNS_MAX, KeyType, PROGRAM_REGISTERS_MAX, Span, TransformLimits, ValueType};

use crate::definitions::{
    About, Availability, Definitions, Entity, FeatureService, FeatureView, HostConfig, OnDemandFeature, OnDemandFeatureView,
    OnFault, Probe, Projection, ReplicaConfig, ReplicaKind, RequestSource, SigningConfig, Source, SourceFormat, StoreConfig,
    TransformSource,
};
use crate::fields::{Fields, text_of};
use crate::keys;
use crate::node::{Node, Place, Value};
use crate::on_demand::{cycle_of, inputs_are_known, on_demand_program};
use crate::problem::{LoadError, Problem, Problems, instead, located};

/// A repository as its files have it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Repo {
    /// `feature_store.yaml`.
    pub config: StoreConfig,
    /// All of `features/`.
    pub definitions: Definitions,
}

/// The name of a repository's configuration.
pub const STORE_FILE: &str = "feature_store.yaml";
/// The folder of a repository's definitions.
pub const FEATURES_FOLDER: &str = "features";

/// Reads the repository in the folder `repo`: `feature_store.yaml` and every `.yaml` or `.yml` file in `features/`.
/// `variable` gives the value of an environment variable, for `${VAR}` and `${VAR:-default}`.
///
/// # Errors
/// [`LoadError`] with everything that is wrong.
pub fn load(repo: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Repo, LoadError> {
    let mut found = Vec::new();
    let config = read_store(repo, variable, &mut found);
    let mut drafts = Drafts::default();
    for path in definition_files(repo, &mut found) {
        let name = path.strip_prefix(repo).unwrap_or(&path).to_string_lossy().into_owned();
        if let Some(node) = read(&path, &name, variable, &mut found) {
            drafts.take(&node, &mut Problems { file: &name, found: &mut found });
        }
    }
    let project = config.as_ref().map_or_else(String::new, |config| config.project.clone());
    let definitions = drafts.resolve(project, &mut found);
    match config {
        Some(config) if found.is_empty() => Ok(Repo { config, definitions }),
        _ => Err(LoadError { problems: found }),
    }
}

/// Definitions in the form of one definition file with a `project`, as [`to_json`](crate::to_json) makes it.
pub(crate) fn from_node(project: &str, node: &Node, file: &str) -> Result<Definitions, LoadError> {
    let mut found = Vec::new();
    let mut drafts = Drafts::default();
    drafts.take(node, &mut Problems { file, found: &mut found });
    let definitions = drafts.resolve(project.to_owned(), &mut found);
    if found.is_empty() { Ok(definitions) } else { Err(LoadError { problems: found }) }
}

fn definition_files(repo: &Path, found: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![repo.join(FEATURES_FOLDER)];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                let message = format!("cannot be read: {}; definitions are YAML files in this folder", plain(&error));
                found.push(Problem { place: folder.display().to_string(), message });
                continue;
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if path.is_dir() && !hidden {
                folders.push(path);
            } else if !hidden && path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Reads a YAML file and expands its variables. A file without content is `None`.
fn read(path: &Path, name: &str, variable: &dyn Fn(&str) -> Option<String>, found: &mut Vec<Problem>) -> Option<Node> {
    let mut problems = Problems { file: name, found };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.add(Place::default(), format!("cannot be read: {}", plain(&error)));
            return None;
        }
    };
    // `y`, `no` and `on` are names, as YAML 1.2 has it.
    let options = serde_saphyr::options! { strict_booleans: true };
    let mut node: Node = match serde_saphyr::from_str_with_options(&text, options) {
        Ok(node) => node,
        // Nothing but comments.
        Err(_) if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) => return None,
        Err(error) => {
            let place = error.location().map_or_else(Place::default, |at| Place { line: at.line(), column: at.column() });
            let message = error.without_snippet().to_string();
            let message = message.lines().next().unwrap_or_default();
            let twice = message.strip_prefix("duplicate mapping key: ").and_then(|rest| rest.split(',').next());
            problems.add(
                place,
                match twice {
                    Some(key) => format!("the key `{key}` is there twice"),
                    None => format!("not well-formed YAML: {message}"),
                },
            );
            return None;
        }
    };
    expand(&mut node, variable, &mut problems);
    (!matches!(node.value, Value::Null)).then_some(node)
}

/// Puts the values of environment variables into texts.
fn expand(node: &mut Node, variable: &dyn Fn(&str) -> Option<String>, problems: &mut Problems<'_>) {
    match &mut node.value {
        Value::Text(text) if text.contains("${") => match expanded(text, variable) {
            Ok(value) => *text = value,
            Err(message) => problems.add(node.place, message),
        },
        Value::List(nodes) => nodes.iter_mut().for_each(|node| expand(node, variable, problems)),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, node)| expand(node, variable, problems)),
        _ => {}
    }
}

fn expanded(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut value = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        value.push_str(before);
        let Some((reference, after)) = after.split_once('}') else {
            return Err(format!("`{text}`: `${{` has no `}}` behind it"));
        };
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        match (variable(name).filter(|value| !value.is_empty() || default.is_none()), default) {
            (Some(set), _) => value.push_str(&set),
            (None, Some(default)) => value.push_str(default),
            (None, None) => {
                return Err(format!(
                    "the environment variable `{name}` is not set; set it, or give a default as in ${{{name}:-default}}"
                ));
            }
        }
        rest = after;
    }
    value.push_str(rest);
    Ok(value)
}

fn read_store(repo: &Path, variable: &dyn Fn(&str) -> Option<String>, found: &mut Vec<Problem>) -> Option<StoreConfig> {
    let path = repo.join(STORE_FILE);
    if !path.is_file() {
        let message = "there is no such file: this is not a repository; name one with -c DIR, or make one with `mezze init`";
        found.push(Problem { place: path.display().to_string(), message: message.into() });
        return None;
    }
    let node = read(&path, STORE_FILE, variable, found);
    let mut problems = Problems { file: STORE_FILE, found };
    let Some(node) = node else {
        if problems.found.is_empty() {
            problems.add(Place::default(), "is empty; it needs the keys `project`, `registry` and `online_store`");
        }
        return None;
    };
    let fields = Fields::read(&node, &keys::STORE, &mut problems)?;
    let online_store = Fields::read(fields.node("online_store")?, &keys::ONLINE_STORE, &mut problems)?;
    let replicas = fields
        .map("replicas")
        .iter()
        .filter_map(|(name, node)| Some((name.name.clone(), read_replica(node, &mut problems)?)))
        .collect();
    let signing = fields.node("signing").and_then(|node| {
        let signing = Fields::read(node, &keys::SIGNING, &mut problems)?;
        match (signing.text("key_env"), signing.text("key_file")) {
            (Some(name), None) => Some(SigningConfig::Env(name)),
            (None, Some(path)) => Some(SigningConfig::File(path)),
            _ => {
                problems.add(node.place, "signing needs one of the keys `key_env` and `key_file`");
                None
            }
        }
    });
    Some(StoreConfig {
        repo: repo.to_path_buf(),
        project: fields.text("project")?,
        registry: fields.text("registry")?,
        online_store: online_store.text("path")?,
        replicas,
        signing,
    })
}

fn read_replica(node: &Node, problems: &mut Problems<'_>) -> Option<ReplicaConfig> {
    let (kind, fields) = Fields::read_variant(node, &keys::REPLICAS, problems)?;
    let text = |key| fields.text(key);
    let token_env = |default: &str| text("token_env").unwrap_or_else(|| default.to_owned());
    let kind = match kind {
        "objects" => ReplicaKind::Objects { path: text("path")? },
        "cloudflare-kv" => ReplicaKind::CloudflareKv {
            account_id: text("account_id")?,
            namespace_id: text("namespace_id")?,
            token_env: token_env("CLOUDFLARE_API_TOKEN"),
            api: text("api"),
        },
        "fastly-kv" => {
            ReplicaKind::FastlyKv { store_id: text("store_id")?, token_env: token_env("FASTLY_API_TOKEN"), api: text("api") }
        }
        "redis" => ReplicaKind::Redis { url: text("url")?, password_env: text("password_env") },
        "spin-sqlite" => {
            ReplicaKind::SpinSqlite { path: text("path")?, store: text("store").unwrap_or_else(|| "default".to_owned()) }
        }
        _ => ReplicaKind::Directory { path: text("path")? },
    };
    let audience = match text("audience").as_deref() {
        Some("public") => Audience::Public,
        // Whoever reads objects is a browser, unless it is said otherwise.
        None if matches!(kind, ReplicaKind::Objects { .. }) => Audience::Public,
        _ => Audience::Server,
    };
    let host = fields.node("host").and_then(|node| {
        let host = Fields::read(node, &keys::HOST_KEYS, problems)?;
        let probe = host.node("probe").and_then(|node| {
            let probe = Fields::read(node, &keys::PROBE, problems)?;
            Some(Probe { service: probe.text("service")?, entities: probe.text_map("entities") })
        });
        Some(HostConfig { url: host.text("url")?, token_env: host.text("token_env"), probe })
    });
    Some(ReplicaConfig { kind, audience, host })
}

/// An object, and where it is defined.
#[derive(Debug)]
struct Draft<T> {
    file: String,
    place: Place,
    object: T,
}

/// What all files define, before its names are resolved.
#[derive(Debug, Default)]
struct Drafts {
    entities: Vec<Draft<Entity>>,
    sources: Vec<Draft<Source>>,
    request_sources: Vec<Draft<RequestSource>>,
    views: Vec<Draft<DraftView>>,
    on_demand: Vec<Draft<DraftOnDemand>>,
    services: Vec<Draft<DraftService>>,
}

#[derive(Debug)]
struct DraftView {
    view: FeatureView,
    entity_places: Vec<Place>,
    source_place: Place,
}

#[derive(Debug)]
struct DraftOnDemand {
    view: OnDemandFeatureView,
    source_places: Vec<Place>,
    /// Of each feature, the place of its expression.
    expression_places: Vec<Place>,
}

#[derive(Debug)]
struct DraftService {
    service: FeatureService,
    /// Of each projection: its place, and those of its features.
    places: Vec<(Place, Vec<Place>)>,
    request_source_places: Vec<Place>,
}

impl Drafts {
    fn take(&mut self, node: &Node, problems: &mut Problems<'_>) {
        let Some(file) = Fields::read(node, &keys::FEATURES, problems) else { return };
        let name = problems.file.to_owned();
        for node in file.list("entities") {
            if let Some(object) = entity(node, problems) {
                self.entities.push(Draft { file: name.clone(), place: node.place, object });
            }
        }
        for node in file.list("sources") {
            if let Some(object) = source(node, problems) {
                self.sources.push(Draft { file: name.clone(), place: node.place, object });
            }
        }
        for node in file.list("request_sources") {
            if let Some(object) = request_source(node, problems) {
                self.request_sources.push(Draft { file: name.clone(), place: node.place, object });
            }
        }
        for node in file.list("feature_views") {
            if let Some(object) = feature_view(node, problems) {
                self.views.push(Draft { file: name.clone(), place: node.place, object });
            }
        }
        for node in file.list("on_demand_feature_views") {
            if let Some(object) = on_demand_view(node, problems) {
                self.on_demand.push(Draft { file: name.clone(), place: node.place, object });
            }
        }
        for node in file.list("batch_feature_views") {
            if let Some((rows, computed)) = batch_view(node, problems) {
                self.views.push(Draft { file: name.clone(), place: node.place, object: rows });
                self.on_demand.push(Draft { file: name.clone(), place: node.place, object: computed });
            }
        }
        for node in file.list("feature_services") {
            if let Some(object) = feature_service(node, problems) {
                self.services.push(Draft { file: name.clone(), place: node.place, object });
            }
        }
    }

    /// Checks what objects say of each other.
    fn resolve(mut self, project: String, found: &mut Vec<Problem>) -> Definitions {
        one_of_each("entity", &mut self.entities, |entity| &entity.name, found);
        one_of_each("source", &mut self.sources, |source| &source.name, found);
        one_of_each("request source", &mut self.request_sources, |source| &source.name, found);
        one_of_each("feature view", &mut self.views, |draft| &draft.view.name, found);
        one_of_each("on-demand feature view", &mut self.on_demand, |draft| &draft.view.name, found);
        one_of_each("feature service", &mut self.services, |draft| &draft.service.name, found);
        let mut definitions = Definitions {
            project,
            entities: self.entities.into_iter().map(|draft| draft.object).collect(),
            sources: self.sources.into_iter().map(|draft| draft.object).collect(),
            request_sources: self.request_sources.into_iter().map(|draft| draft.object).collect(),
            feature_views: Vec::new(),
            on_demand_feature_views: Vec::new(),
            feature_services: Vec::new(),
        };
        for draft in self.views {
            let mut problems = Problems { file: &draft.file, found };
            check_view(&draft.object, draft.place, &definitions, &mut problems);
            definitions.feature_views.push(draft.object.view);
        }
        definitions.on_demand_feature_views = self.on_demand.iter().map(|draft| draft.object.view.clone()).collect();
        let mut registers = 0;
        for draft in &self.on_demand {
            let mut problems = Problems { file: &draft.file, found };
            registers += check_on_demand(&draft.object, draft.place, &definitions, &mut problems);
        }
        if registers > PROGRAM_REGISTERS_MAX {
            let message = format!(
                "all on-demand feature views together have {registers} columns, constants and steps; a snapshot takes {PROGRAM_REGISTERS_MAX}"
            );
            found.push(Problem { place: String::new(), message });
        }
        for mut draft in self.services {
            let mut problems = Problems { file: &draft.file, found };
            check_service(&mut draft.object, draft.place, &definitions, &mut problems);
            definitions.feature_services.push(draft.object.service);
        }
        definitions
    }
}

/// Puts objects into order of name, and tells of names that are there twice.
fn one_of_each<T>(kind: &str, drafts: &mut [Draft<T>], name: impl Fn(&T) -> &String, found: &mut Vec<Problem>) {
    drafts.sort_by(|a, b| name(&a.object).cmp(name(&b.object)));
    for pair in drafts.windows(2) {
        if let [first, second] = pair
            && name(&first.object) == name(&second.object)
        {
            let first_place = located(&first.file, first.place);
            let message = format!("the {kind} `{}` is defined already, in {first_place}", name(&second.object));
            found.push(Problem { place: located(&second.file, second.place), message });
        }
    }
}

fn about(fields: &Fields<'_>) -> About {
    About {
        description: fields.text("description").unwrap_or_default(),
        owner: fields.text("owner").unwrap_or_default(),
        tags: fields.text_map("tags"),
    }
}

fn entity(node: &Node, problems: &mut Problems<'_>) -> Option<Entity> {
    let fields = Fields::read(node, &keys::ENTITY, problems)?;
    let name = fields.text("name")?;
    let join_key = match fields.list("join_keys") {
        [] => name.clone(),
        [one] => text_of(one)?,
        several => {
            let message = format!(
                "an entity has one join key, `{name}` has {}; make an entity of each, and name all of them in the feature view",
                several.len()
            );
            problems.add(fields.place_of("join_keys"), message);
            return None;
        }
    };
    let value_type = fields.value_type("value_type").unwrap_or(ValueType::Int64);
    if KeyType::of(&value_type).is_none() {
        let message = format!(
            "the entity `{name}` has the type {value_type}, which cannot be a join key; use int64, int32, string, bytes, bool, uuid \
             or unix_timestamp"
        );
        problems.add(fields.place_of("value_type"), message);
    }
    Some(Entity { name, join_key, value_type, about: about(&fields) })
}

fn source(node: &Node, problems: &mut Problems<'_>) -> Option<Source> {
    let fields = Fields::read(node, &keys::SOURCE, problems)?;
    let format = match fields.text("format").as_deref() {
        Some("arrow") => Some(SourceFormat::Arrow),
        Some("csv") => Some(SourceFormat::Csv),
        Some("json") => Some(SourceFormat::Json),
        Some("parquet") => Some(SourceFormat::Parquet),
        _ => None,
    };
    let field_mapping = fields.text_map("field_mapping");
    let mut mapped: BTreeMap<&String, &String> = BTreeMap::new();
    for (column, name) in &field_mapping {
        if let Some(other) = mapped.insert(name, column) {
            let message = format!("field_mapping gives both `{other}` and `{column}` the name `{name}`");
            problems.add(fields.place_of("field_mapping"), message);
        }
    }
    Some(Source {
        name: fields.text("name")?,
        path: fields.text("path")?,
        format,
        timestamp_field: fields.text("timestamp_field")?,
        created_timestamp_column: fields.text("created_timestamp_column"),
        field_mapping,
        about: about(&fields),
    })
}

/// The fields of a list.
fn schema(fields: &Fields<'_>, key: &str, problems: &mut Problems<'_>) -> Vec<FeatureSchema> {
    let mut schema: Vec<FeatureSchema> = Vec::new();
    for node in fields.list(key) {
        let Some(field) = Fields::read(node, &keys::FIELD, problems) else { continue };
        let (Some(name), Some(value_type)) = (field.text("name"), field.value_type("dtype")) else { continue };
        if schema.iter().any(|known| known.name == name) {
            problems.add(node.place, format!("`{name}` is there twice"));
            continue;
        }
        schema.push(FeatureSchema::new(name, value_type));
    }
    schema
}

fn request_source(node: &Node, problems: &mut Problems<'_>) -> Option<RequestSource> {
    let fields = Fields::read(node, &keys::REQUEST_SOURCE, problems)?;
    Some(RequestSource { schema: schema(&fields, "schema", problems), name: fields.text("name")?, about: about(&fields) })
}

fn feature_view(node: &Node, problems: &mut Problems<'_>) -> Option<DraftView> {
    let fields = Fields::read(node, &keys::FEATURE_VIEW, problems)?;
    let name = fields.text("name")?;
    if name.contains("__") {
        let message = format!("the feature view `{name}` has `__` in its name, which separates view and feature in long names");
        problems.add(fields.place_of("name"), message);
    }
    view_of_rows(name, &fields, "schema", problems)
}

/// A batch feature view is two: rows of its source, which are not served, and what is computed from them when they are materialised.
fn batch_view(node: &Node, problems: &mut Problems<'_>) -> Option<(DraftView, DraftOnDemand)> {
    let fields = Fields::read(node, &keys::BATCH_FEATURE_VIEW, problems)?;
    let mut computed = computed_view(&fields, problems)?;
    let mut rows = view_of_rows(format!("{}.source", computed.view.name), &fields, "inputs", problems)?;
    rows.view.online = false;
    computed.view.sources = vec![rows.view.name.clone()];
    computed.view.write_to_online_store = true;
    computed.source_places = vec![rows.source_place];
    Some((rows, computed))
}

/// A view of the rows of a source, with the features that the list of this key names.
fn view_of_rows(name: String, fields: &Fields<'_>, features: &str, problems: &mut Problems<'_>) -> Option<DraftView> {
    let schema = schema(fields, features, problems);
    let ttl = fields.span("ttl").unwrap_or(Span::ZERO);
    let view = FeatureView {
        name,
        entities: fields.list("entities").iter().filter_map(text_of).collect(),
        source: fields.text("source")?,
        ttl,
        schema,
        online: fields.flag("online").unwrap_or(true),
        available_after: fields.span("available_after").unwrap_or(Span::ZERO),
        availability: match fields.text("available").as_deref() {
            Some("created") => Availability::Created,
            _ => Availability::Event,
        },
        audience: match fields.text("audience").as_deref() {
            Some("public") => Audience::Public,
            _ => Audience::Server,
        },
        group: fields.text("group"),
        retain: fields.span("retain").unwrap_or_else(|| Span::from_nanos(ttl.nanos().saturating_mul(2))),
        lateness: fields.span("lateness").unwrap_or(Span::ZERO),
        about: about(fields),
    };
    if view.retain < view.ttl && view.retain != Span::ZERO {
        let message = format!("retain ({}) is less than ttl ({}): rows would go that still count", view.retain, view.ttl);
        problems.add(fields.place_of("retain"), message);
    }
    Some(DraftView {
        view,
        entity_places: fields.list("entities").iter().map(|node| node.place).collect(),
        source_place: fields.place_of("source"),
    })
}

fn on_demand_view(node: &Node, problems: &mut Problems<'_>) -> Option<DraftOnDemand> {
    let fields = Fields::read(node, &keys::ON_DEMAND_FEATURE_VIEW, problems)?;
    computed_view(&fields, problems)
}

/// A view whose features are computed.
fn computed_view(fields: &Fields<'_>, problems: &mut Problems<'_>) -> Option<DraftOnDemand> {
    let name = fields.text("name")?;
    if name.contains("__") {
        let message = format!("the view `{name}` has `__` in its name, which separates view and feature in long names");
        problems.add(fields.place_of("name"), message);
    }
    let transform = fields.node("transform").and_then(|node| transform(node, problems));
    let is_component = fields.node("transform").is_some();
    let mut features: Vec<OnDemandFeature> = Vec::new();
    let mut expression_places = Vec::new();
    for node in fields.list("schema") {
        let Some(field) = Fields::read(node, &keys::ON_DEMAND_FEATURE, problems) else { continue };
        let (Some(name), Some(value_type)) = (field.text("name"), field.value_type("dtype")) else { continue };
        let expression = match (field.text("expression"), is_component) {
            (Some(expression), false) => expression,
            (None, true) => String::new(),
            (None, false) => {
                problems.add(node.place, format!("the feature `{name}` needs an expression, or its view a transform"));
                continue;
            }
            (Some(_), true) => {
                let message =
                    format!("the feature `{name}` has an expression, but its view's transform computes it; leave one out");
                problems.add(field.place_of("expression"), message);
                continue;
            }
        };
        if features.iter().any(|known| known.schema.name == name) {
            problems.add(node.place, format!("`{name}` is there twice"));
            continue;
        }
        features.push(OnDemandFeature { schema: FeatureSchema::new(name, value_type), expression });
        expression_places.push(field.place_of("expression"));
    }
    if fields.list("schema").is_empty() {
        problems.add(fields.place_of("schema"), format!("the view `{name}` has no features"));
    }
    Some(DraftOnDemand {
        view: OnDemandFeatureView {
            name,
            sources: fields.list("sources").iter().filter_map(text_of).collect(),
            features,
            transform,
            write_to_online_store: fields.flag("write_to_online_store").unwrap_or(false),
            about: about(fields),
        },
        source_places: fields.list("sources").iter().map(|node| node.place).collect(),
        expression_places,
    })
}

fn transform(node: &Node, problems: &mut Problems<'_>) -> Option<TransformSource> {
    let fields = Fields::read(node, &keys::TRANSFORM, problems)?;
    let default = TransformLimits::DEFAULT;
    let mut bytes = |key: &str, least: u64, default: u32| match fields.size(key) {
        None => default,
        Some(size) if size >= least => u32::try_from(size).unwrap_or(u32::MAX),
        Some(size) => {
            problems.add(fields.place_of(key), format!("`{key}` is {size} bytes, expected at least {least}"));
            default
        }
    };
    let (memory_bytes, output_bytes) =
        (bytes("memory", WASM_PAGE_BYTES, default.memory_bytes), bytes("output", 1, default.output_bytes));
    let millis = match fields.span("time").map(|time| (time.nanos() % 1_000_000, u32::try_from(time.nanos() / 1_000_000))) {
        None => default.millis,
        Some((0, Ok(millis))) if millis > 0 => millis,
        Some(_) => {
            problems.add(fields.place_of("time"), "`time` must be whole milliseconds, such as 50ms or 2s");
            default.millis
        }
    };
    let id = fields.text("digest").and_then(|digest| match digest.parse() {
        Ok(id) => Some(id),
        Err(error) => {
            problems.add(fields.place_of("digest"), error);
            None
        }
    });
    let inputs = fields.list("inputs").iter().filter_map(|node| {
        let field = Fields::read(node, &keys::FIELD, problems)?;
        Some(FeatureSchema::new(field.text("name")?, field.value_type("dtype")?))
    });
    Some(TransformSource {
        inputs: inputs.collect(),
        component: fields.text("component")?,
        limits: TransformLimits { fuel: fields.count("fuel").unwrap_or(default.fuel), memory_bytes, output_bytes, millis },
        on_fault: match fields.text("on_error").as_deref() {
            Some("nulls") => OnFault::Null,
            _ => OnFault::Fail,
        },
        id,
    })
}

/// Memory is given in pages of so many bytes.
const WASM_PAGE_BYTES: u64 = 65_536;

fn feature_service(node: &Node, problems: &mut Problems<'_>) -> Option<DraftService> {
    let fields = Fields::read(node, &keys::FEATURE_SERVICE, problems)?;
    let mut projections: Vec<Projection> = Vec::new();
    let mut places: Vec<(Place, Vec<Place>)> = Vec::new();
    for node in fields.list("features") {
        let (projection, feature_places) = match &node.value {
            Value::Text(text) => {
                let (view, feature) = match text.split_once(':') {
                    Some((view, feature)) => (view, Some(feature.to_owned())),
                    None => (text.as_str(), None),
                };
                // Features of one view that stand side by side are one selection.
                if let (Some(feature), Some(last), Some((_, last_places))) = (&feature, projections.last_mut(), places.last_mut())
                    && last.view == view
                    && last.alias.is_none()
                    && !last.features.is_empty()
                    && last.join_key_map.is_empty()
                {
                    last.features.push(feature.clone());
                    last_places.push(node.place);
                    continue;
                }
                let features: Vec<String> = feature.into_iter().collect();
                let count = features.len();
                let projection = Projection { view: view.to_owned(), alias: None, join_key_map: BTreeMap::new(), features };
                (projection, vec![node.place; count])
            }
            _ => {
                let Some(projection) = Fields::read(node, &keys::PROJECTION, problems) else { continue };
                let Some(view) = projection.text("view") else { continue };
                let features = projection.list("features");
                let feature_places = features.iter().map(|node| node.place).collect();
                let projection = Projection {
                    view,
                    alias: projection.text("alias"),
                    join_key_map: projection.text_map("join_key_map"),
                    features: features.iter().filter_map(text_of).collect(),
                };
                (projection, feature_places)
            }
        };
        projections.push(projection);
        places.push((node.place, feature_places));
    }
    let request_sources = fields.list("request_sources");
    Some(DraftService {
        service: FeatureService {
            name: fields.text("name")?,
            projections,
            request_sources: request_sources.iter().filter_map(text_of).collect(),
            about: about(&fields),
        },
        places,
        request_source_places: request_sources.iter().map(|node| node.place).collect(),
    })
}

fn check_view(draft: &DraftView, place: Place, definitions: &Definitions, problems: &mut Problems<'_>) {
    let view = &draft.view;
    let mut join_keys: Vec<&str> = Vec::new();
    for (name, place) in view.entities.iter().zip(&draft.entity_places) {
        let Some(entity) = definitions.entity(name) else {
            let instead = instead(name, definitions.entities.iter().map(|entity| entity.name.as_str()));
            problems.add(*place, format!("no entity is called `{name}`{instead}"));
            continue;
        };
        if join_keys.contains(&entity.join_key.as_str()) {
            problems.add(*place, format!("the join key `{}` is there twice", entity.join_key));
        }
        join_keys.push(&entity.join_key);
    }
    if join_keys.len() > KEY_COLUMNS_MAX {
        problems.add(
            place,
            format!("a feature view has at most {KEY_COLUMNS_MAX} entities, `{}` has {}", view.name, join_keys.len()),
        );
    }
    let Some(source) = definitions.source(&view.source) else {
        let instead = instead(&view.source, definitions.sources.iter().map(|source| source.name.as_str()));
        problems.add(draft.source_place, format!("no source is called `{}`{instead}", view.source));
        return;
    };
    if view.availability == Availability::Created && source.created_timestamp_column.is_none() {
        let message =
            format!("`available: created` needs created times, but the source `{}` has no created_timestamp_column", source.name);
        problems.add(place, message);
    }
    for feature in &view.schema {
        let column = source.column_of(&feature.name);
        if join_keys.contains(&feature.name.as_str()) {
            problems.add(place, format!("the feature `{}` of `{}` is a join key already; leave it out", feature.name, view.name));
        } else if column == source.timestamp_field {
            let message = format!(
                "the feature `{}` of `{}` is the source's event time already, which every response carries; leave it out",
                feature.name, view.name
            );
            problems.add(place, message);
        }
    }
}

/// Checks an on-demand view; says how many registers its program has.
fn check_on_demand(draft: &DraftOnDemand, place: Place, definitions: &Definitions, problems: &mut Problems<'_>) -> usize {
    let view = &draft.view;
    if definitions.feature_view(&view.name).is_some() {
        problems.add(place, format!("`{}` is the name of a feature view already; both are views", view.name));
    }
    let before = problems.found.len();
    for (number, (name, place)) in view.sources.iter().zip(&draft.source_places).enumerate() {
        let is_view = definitions.feature_view(name).is_some();
        let is_on_demand = definitions.on_demand_feature_view(name).is_some();
        let is_request = definitions.request_sources.iter().any(|source| source.name == *name);
        if !is_view && !is_on_demand && !is_request {
            let views = definitions.feature_views.iter().map(|view| &view.name);
            let on_demand = definitions.on_demand_feature_views.iter().map(|view| &view.name);
            let known = views.chain(on_demand).chain(definitions.request_sources.iter().map(|source| &source.name));
            let instead = instead(name, known.map(String::as_str).filter(|known| *known != view.name));
            problems
                .add(*place, format!("no feature view, on-demand feature view or request source is called `{name}`{instead}"));
        } else if is_request && (is_view || is_on_demand) {
            problems.add(*place, format!("both a view and a request source are called `{name}`; call one otherwise"));
        }
        if view.sources.iter().take(number).any(|known| known == name) {
            problems.add(*place, format!("the source `{name}` is there twice"));
        }
    }
    if problems.found.len() > before {
        return 0;
    }
    if view.write_to_online_store {
        let stored = view.sources.iter().filter(|source| definitions.feature_view(source).is_some()).count();
        if view.sources.len() != 1 || stored != 1 {
            let message = format!(
                "`{}` is written to the online store, and so computed from one feature view alone: name that as its only source",
                view.name
            );
            problems.add(place, message);
            return 0;
        }
    }
    if let Some(cycle) = cycle_of(definitions, &view.name) {
        problems
            .add(place, format!("the on-demand feature view `{}` is computed from itself: {}", view.name, cycle.join(" from ")));
        return 0;
    }
    // A view without a schema gets it when it is applied; then expressions are looked at.
    if !inputs_are_known(definitions, view) || view.transform.as_ref().is_some_and(|transform| transform.inputs.is_empty()) {
        return 0;
    }
    match on_demand_program(definitions, view) {
        Ok(compiled) => compiled.register_count(),
        Err(errors) => {
            for (number, error) in errors {
                let place = draft.expression_places.get(number).copied().unwrap_or(place);
                problems.add(place, error);
            }
            0
        }
    }
}

fn check_service(draft: &mut DraftService, place: Place, definitions: &Definitions, problems: &mut Problems<'_>) {
    let service = &mut draft.service;
    if service.projections.is_empty() {
        problems.add(place, format!("the feature service `{}` selects nothing", service.name));
    }
    let mut names: Vec<String> = Vec::new();
    for (projection, (place, feature_places)) in service.projections.iter_mut().zip(&draft.places) {
        let Some(schema) = definitions.features_of(&projection.view) else {
            let views = definitions.feature_views.iter().map(|view| view.name.as_str());
            let on_demand = definitions.on_demand_feature_views.iter().map(|view| view.name.as_str());
            let instead = instead(&projection.view, views.chain(on_demand));
            problems.add(*place, format!("no feature view is called `{}`{instead}", projection.view));
            continue;
        };
        for (feature, place) in projection.features.iter().zip(feature_places) {
            // A view without a schema gets it when it is applied.
            if !schema.is_empty() && !schema.iter().any(|known| known.name == *feature) {
                let instead = instead(feature, schema.iter().map(|known| known.name.as_str()));
                problems.add(*place, format!("the feature view `{}` has no feature `{feature}`{instead}", projection.view));
            }
        }
        if projection.features.is_empty() {
            projection.features = schema.iter().map(|feature| feature.name.clone()).collect();
        }
        let mut seen: Vec<&String> = Vec::new();
        for (feature, place) in projection.features.iter().zip(feature_places) {
            if seen.contains(&feature) {
                problems.add(*place, format!("the feature `{feature}` is there twice"));
            }
            seen.push(feature);
        }
        let view = definitions.feature_view(&projection.view);
        let entities = view.into_iter().flat_map(|view| definitions.entities_of(view));
        let join_keys: Vec<&str> = entities.map(|entity| entity.join_key.as_str()).collect();
        for join_key in projection.join_key_map.keys() {
            if view.is_none() {
                let message = format!(
                    "`{}` is computed, and takes join keys by their own names; a join_key_map is for feature views",
                    projection.view
                );
                problems.add(*place, message);
                break;
            }
            if !join_keys.contains(&join_key.as_str()) {
                let instead = instead(join_key, join_keys.iter().copied());
                problems.add(*place, format!("join_key_map: `{join_key}` is no join key of `{}`{instead}", projection.view));
            }
        }
        let name = projection.name_to_use();
        if names.iter().any(|known| known == name) {
            let message = format!("`{name}` is selected twice; name its features together, or give one an alias");
            problems.add(*place, message);
        }
        names.push(name.to_owned());
    }
    for (name, place) in service.request_sources.iter().zip(&draft.request_source_places) {
        if !definitions.request_sources.iter().any(|source| source.name == *name) {
            let instead = instead(name, definitions.request_sources.iter().map(|source| source.name.as_str()));
            problems.add(*place, format!("no request source is called `{name}`{instead}"));
        }
    }
}

/// An I/O error without the number that the standard library puts behind.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
