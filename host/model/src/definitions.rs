//! Definitions as the rest of Mezze uses them: checked, with every name resolved.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mezze_core::{Audience, FeatureSchema, Span, TransformId, TransformLimits, ValueType};

/// Everything that a repository defines. Each list is in order of name; every name that one object uses of another exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Definitions {
    /// The project: the namespace of all else.
    pub project: String,
    /// What entity rows are about.
    pub entities: Vec<Entity>,
    /// Where feature rows come from.
    pub sources: Vec<Source>,
    /// What a request brings along.
    pub request_sources: Vec<RequestSource>,
    /// Features by view.
    pub feature_views: Vec<FeatureView>,
    /// Features that are computed when they are asked for.
    pub on_demand_feature_views: Vec<OnDemandFeatureView>,
    /// Named selections of features.
    pub feature_services: Vec<FeatureService>,
}

/// What the objects of every kind have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// What it is, for people.
    pub description: String,
    /// Who answers for it.
    pub owner: String,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
}

/// An entity: one join key, as in Feast.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// Its name.
    pub name: String,
    /// The column that identifies it, in sources and requests.
    pub join_key: String,
    /// The type of that column.
    pub value_type: ValueType,
    /// Description, owner, tags.
    pub about: About,
}

/// A table of feature rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// A file, a folder, a glob or a URL, as it was written; relative paths are relative to the repository.
    pub path: String,
    /// The format, or `None` to go by the file names.
    pub format: Option<SourceFormat>,
    /// The source's column of event times, before field mapping.
    pub timestamp_field: String,
    /// The source's column that decides between rows of one event time, before field mapping.
    pub created_timestamp_column: Option<String>,
    /// Source column to feature or join key name.
    pub field_mapping: BTreeMap<String, String>,
    /// Description, owner, tags.
    pub about: About,
}

impl Source {
    /// The source's column that is called `name` after field mapping.
    pub fn column_of<'a>(&'a self, name: &'a str) -> &'a str {
        self.field_mapping.iter().find(|(_, mapped)| *mapped == name).map_or(name, |(column, _)| column.as_str())
    }
}

/// The file format of a source or of entity rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceFormat {
    /// Arrow IPC, file or stream.
    Arrow,
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object a line.
    Json,
    /// Apache Parquet.
    Parquet,
}

/// Values that a request brings along.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestSource {
    /// Its name.
    pub name: String,
    /// Its fields.
    pub schema: Vec<FeatureSchema>,
    /// Description, owner, tags.
    pub about: About,
}

/// A view: features of one source about the same entities.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureView {
    /// Its name.
    pub name: String,
    /// Names of its entities, in the definition's order; none for an entityless view.
    pub entities: Vec<String>,
    /// The name of its source.
    pub source: String,
    /// How long a row counts after its event time; zero is for ever.
    pub ttl: Span,
    /// Its features, by their names after field mapping.
    pub schema: Vec<FeatureSchema>,
    /// Whether it is materialised.
    pub online: bool,
    /// When a row could really be served: counted from its event time (or created time, see `availability`).
    pub available_after: Span,
    /// What `available_after` counts from.
    pub availability: Availability,
    /// Who may hold its rows.
    pub audience: Audience,
    /// Splits the views of one key set into several tables.
    pub group: Option<String>,
    /// Rows that are older than this are dropped at compaction. Twice the ttl if not given; zero keeps them for ever.
    pub retain: Span,
    /// How late rows may come, for sources that are not files.
    pub lateness: Span,
    /// Description, owner, tags.
    pub about: About,
}

/// A view whose features are computed, in joins and for each request.
#[derive(Clone, Debug, PartialEq)]
pub struct OnDemandFeatureView {
    /// Its name.
    pub name: String,
    /// Names of the feature views, on-demand views and request sources whose fields its expressions may use.
    pub sources: Vec<String>,
    /// Its features.
    pub features: Vec<OnDemandFeature>,
    /// The component that computes them, where they are no expressions.
    pub transform: Option<TransformSource>,
    /// Whether its features are computed when its view is materialised, and stored beside that view's.
    pub write_to_online_store: bool,
    /// Description, owner, tags.
    pub about: About,
}

/// A component that computes the features of a view.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformSource {
    /// The file, relative to the repository.
    pub component: String,
    /// What one call may cost.
    pub limits: TransformLimits,
    /// What a job does where it fails.
    pub on_fault: OnFault,
    /// Its digest; `None` until the file is looked at.
    pub id: Option<TransformId>,
    /// The columns that it takes, in its order, by name; none until it is asked for them.
    pub inputs: Vec<FeatureSchema>,
}

/// What a job does where a transform fails for a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFault {
    /// The job fails, and names row and transform.
    #[default]
    Fail,
    /// The row's features are null.
    Null,
}

/// A feature that is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct OnDemandFeature {
    /// Its name and type.
    pub schema: FeatureSchema,
    /// A SQL expression; empty where a component computes it.
    pub expression: String,
}

/// What the availability of a row counts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Availability {
    /// The later of event time and created time.
    Created,
    /// The event time.
    #[default]
    Event,
}

/// A named selection of features, for one model or version of it.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureService {
    /// Its name.
    pub name: String,
    /// What it selects, in order.
    pub projections: Vec<Projection>,
    /// Names of the request sources whose values it echoes.
    pub request_sources: Vec<String>,
    /// Description, owner, tags.
    pub about: About,
}

/// Features of one view, as a service sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projection {
    /// The name of a feature view or an on-demand feature view.
    pub view: String,
    /// The name to use for the view in long feature names.
    pub alias: Option<String>,
    /// The view's join key to the request's (or entity rows') column that holds it.
    pub join_key_map: BTreeMap<String, String>,
    /// The features, in order. All of the view's where the definition names none; empty only until the view's schema is known.
    pub features: Vec<String>,
}

impl Projection {
    /// The name that long feature names begin with.
    pub fn name_to_use(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.view)
    }
}

/// `feature_store.yaml`.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreConfig {
    /// The folder that holds `feature_store.yaml`.
    pub repo: PathBuf,
    /// The project's name.
    pub project: String,
    /// Folder or object-store URL of the registry.
    pub registry: String,
    /// Folder or object-store URL of the origin: every segment, manifest, the build state and publish records.
    pub online_store: String,
    /// Places to publish to, by name.
    pub replicas: BTreeMap<String, ReplicaConfig>,
    /// Where the key is that signs what is published; not signed without it.
    pub signing: Option<SigningConfig>,
}

/// Where a secret key is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SigningConfig {
    /// In an environment variable.
    Env(String),
    /// In a file.
    File(String),
}

/// A place that snapshots are published to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// What kind of place it is, and where.
    pub kind: ReplicaKind,
    /// Whom its hosts show what they have.
    pub audience: Audience,
    /// The host that serves it.
    pub host: Option<HostConfig>,
}

/// Kinds of places that snapshots are published to. Secrets are named by the environment variables that hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplicaKind {
    /// Files of segments, in a folder or an object store: what `mezze serve` reads.
    Directory {
        /// The folder or URL.
        path: String,
    },
    /// An object under each key, in a folder or an object store: what browsers read.
    Objects {
        /// The folder or URL.
        path: String,
    },
    /// A namespace of Workers KV.
    CloudflareKv {
        /// The account.
        account_id: String,
        /// The namespace.
        namespace_id: String,
        /// The variable with the token.
        token_env: String,
        /// URL of the interface, where it is not the vendor's own.
        api: Option<String>,
    },
    /// A KV Store of Fastly.
    FastlyKv {
        /// The store.
        store_id: String,
        /// The variable with the token.
        token_env: String,
        /// URL of the interface, where it is not the vendor's own.
        api: Option<String>,
    },
    /// A database of Redis or Valkey.
    Redis {
        /// The URL, without a password.
        url: String,
        /// The variable with the password.
        password_env: Option<String>,
    },
    /// A store in the file of Spin's key-value stores.
    SpinSqlite {
        /// The file.
        path: String,
        /// The store's label.
        store: String,
    },
}

impl ReplicaKind {
    /// Its `type` in feature_store.yaml.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Directory { .. } => "directory",
            Self::Objects { .. } => "objects",
            Self::CloudflareKv { .. } => "cloudflare-kv",
            Self::FastlyKv { .. } => "fastly-kv",
            Self::Redis { .. } => "redis",
            Self::SpinSqlite { .. } => "spin-sqlite",
        }
    }
}

/// A host that serves a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Where it answers.
    pub url: String,
    /// The variable with the token that its requests must bring.
    pub token_env: Option<String>,
    /// A request that has to be answered with features.
    pub probe: Option<Probe>,
}

/// A request for one entity's features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The feature service.
    pub service: String,
    /// Join keys and their values.
    pub entities: BTreeMap<String, String>,
}

impl Definitions {
    /// The entity of this name.
    pub fn entity(&self, name: &str) -> Option<&Entity> {
        self.entities.iter().find(|entity| entity.name == name)
    }

    /// The source of this name.
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// The feature view of this name.
    pub fn feature_view(&self, name: &str) -> Option<&FeatureView> {
        self.feature_views.iter().find(|view| view.name == name)
    }

    /// The on-demand feature view of this name.
    pub fn on_demand_feature_view(&self, name: &str) -> Option<&OnDemandFeatureView> {
        self.on_demand_feature_views.iter().find(|view| view.name == name)
    }

    /// The feature view that an on-demand view is computed from when it is materialised, if it is.
    pub fn written_from(&self, view: &OnDemandFeatureView) -> Option<&FeatureView> {
        if !view.write_to_online_store {
            return None;
        }
        view.sources.first().and_then(|source| self.feature_view(source))
    }

    /// The on-demand views that are computed when a feature view is materialised.
    pub fn written_with<'a>(&'a self, view: &'a FeatureView) -> impl Iterator<Item = &'a OnDemandFeatureView> {
        let of = move |on_demand: &&OnDemandFeatureView| self.written_from(on_demand).is_some_and(|from| from.name == view.name);
        self.on_demand_feature_views.iter().filter(of)
    }

    /// Whether rows of a feature view go into snapshots: its own, or what is computed from them.
    pub fn is_materialized(&self, view: &FeatureView) -> bool {
        view.online || self.written_with(view).next().is_some()
    }

    /// The features of the view of this name, stored or on demand.
    pub fn features_of(&self, name: &str) -> Option<Vec<&FeatureSchema>> {
        match (self.feature_view(name), self.on_demand_feature_view(name)) {
            (Some(view), _) => Some(view.schema.iter().collect()),
            (None, Some(view)) => Some(view.features.iter().map(|feature| &feature.schema).collect()),
            (None, None) => None,
        }
    }

    /// The feature service of this name.
    pub fn feature_service(&self, name: &str) -> Option<&FeatureService> {
        self.feature_services.iter().find(|service| service.name == name)
    }

    /// The entities of a view, in its order.
    pub fn entities_of<'a>(&'a self, view: &'a FeatureView) -> impl Iterator<Item = &'a Entity> {
        view.entities.iter().filter_map(|name| self.entity(name))
    }
}
