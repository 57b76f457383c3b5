//! Which keys the definition files have: one table for reading them, for their JSON Schema and for the check of their page in
//! docs/.

/// An object of the files: a map with these keys.
#[derive(Debug)]
pub(crate) struct Object {
    /// What it is, with its article left out.
    pub(crate) noun: &'static str,
    pub(crate) keys: &'static [Key],
}

/// A key of an object.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) required: bool,
    pub(crate) about: &'static str,
}

/// What the value of a key looks like.
#[derive(Debug)]
pub(crate) enum Form {
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number from 1.
    Count,
    /// `true` or `false`.
    Flag,
    /// A list of these.
    List(&'static Self),
    /// A name: letters, digits, `_`, `-` and `.`.
    Name,
    /// A map with these keys.
    Object(&'static Object),
    /// A map from names to these.
    Map(&'static Self),
    /// `view`, `view:feature`, or an object.
    Selector(&'static Object),
    /// A number of bytes: `64MB`.
    Size,
    /// A length of time: `1d`, `90m`.
    Span,
    /// A map whose key `type` says which of these it is.
    Variant(&'static [(&'static str, &'static Object)]),
    /// Any text.
    Text,
    /// The type of a value: `int64`, `list<string>`.
    Type,
}

const fn required(name: &'static str, form: Form, about: &'static str) -> Key {
    Key { name, form, required: true, about }
}

const fn optional(name: &'static str, form: Form, about: &'static str) -> Key {
    Key { name, form, required: false, about }
}

const DESCRIPTION: Key = optional("description", Form::Text, "What it is, for people.");
const OWNER: Key = optional("owner", Form::Text, "Who answers for it.");
const TAGS: Key = optional("tags", Form::Map(&Form::Text), "Free labels.");

/// `feature_store.yaml`.
pub(crate) static STORE: Object = Object {
    noun: "feature store",
    keys: &[
        required("project", Form::Name, "The project's name: the namespace of all else."),
        required("registry", Form::Text, "Folder or object-store URL that holds the registry."),
        required("online_store", Form::Object(&ONLINE_STORE), "The origin: where every snapshot is kept."),
        optional("replicas", Form::Map(&Form::Variant(&REPLICAS)), "Places that `mezze publish --to NAME` copies snapshots to."),
        optional("signing", Form::Object(&SIGNING), "How published heads are signed; without it they are not."),
    ],
};

pub(crate) static SIGNING: Object = Object {
    noun: "signing",
    keys: &[
        optional("key_env", Form::Text, "The environment variable with the secret key that `mezze keys new` made."),
        optional("key_file", Form::Text, "The file with it."),
    ],
};

pub(crate) static ONLINE_STORE: Object = Object {
    noun: "online store",
    keys: &[
        required("type", Form::Choice(&["directory"]), "What kind of place it is: a folder or an object-store URL."),
        required("path", Form::Text, "The folder, or the URL: s3://, gs://, az://, file://."),
    ],
};

/// Replicas by their `type`.
pub(crate) static REPLICAS: [(&str, &Object); 6] = [
    ("directory", &DIRECTORY),
    ("objects", &OBJECTS),
    ("cloudflare-kv", &CLOUDFLARE_KV),
    ("fastly-kv", &FASTLY_KV),
    ("redis", &REDIS),
    ("spin-sqlite", &SPIN_SQLITE),
];

const KIND: Key = required(
    "type",
    Form::Choice(&["directory", "objects", "cloudflare-kv", "fastly-kv", "redis", "spin-sqlite"]),
    "What kind of place it is.",
);
const AUDIENCE: Key = optional(
    "audience",
    Form::Choice(&["server", "public"]),
    "public: only views with `audience: public`, for browsers and plug-ins; the default of objects. server: all views; the default of the others.",
);
const HOST: Key =
    optional("host", Form::Object(&HOST_KEYS), "The host that serves the replica: asked before and after a publish.");
const API: Key = optional("api", Form::Text, "URL of the vendor's interface, where it is not the vendor's own.");

static DIRECTORY: Object = Object {
    noun: "directory replica",
    keys: &[KIND, required("path", Form::Text, "The folder, or the URL: s3://, gs://, az://, file://."), HOST],
};

static OBJECTS: Object = Object {
    noun: "replica of objects",
    keys: &[
        KIND,
        required("path", Form::Text, "The folder, or the URL, that a web server or a bucket hands out as files."),
        AUDIENCE,
        HOST,
    ],
};

static CLOUDFLARE_KV: Object = Object {
    noun: "Cloudflare replica",
    keys: &[
        KIND,
        required("account_id", Form::Text, "The account."),
        required("namespace_id", Form::Text, "The namespace of Workers KV."),
        optional("token_env", Form::Text, "The environment variable with the API token: CLOUDFLARE_API_TOKEN if not given."),
        API,
        AUDIENCE,
        HOST,
    ],
};

static FASTLY_KV: Object = Object {
    noun: "Fastly replica",
    keys: &[
        KIND,
        required("store_id", Form::Text, "The KV Store."),
        optional("token_env", Form::Text, "The environment variable with the API token: FASTLY_API_TOKEN if not given."),
        API,
        AUDIENCE,
        HOST,
    ],
};

static REDIS: Object = Object {
    noun: "Redis replica",
    keys: &[
        KIND,
        required("url", Form::Text, "redis://host:port/number, or rediss:// for TLS, without a password."),
        optional("password_env", Form::Text, "The environment variable with the password, where there is one."),
        AUDIENCE,
        HOST,
    ],
};

static SPIN_SQLITE: Object = Object {
    noun: "Spin replica",
    keys: &[
        KIND,
        required("path", Form::Text, "The file of Spin's key-value stores: .spin/sqlite_key_value.db in the application."),
        optional("store", Form::Text, "The store's label: default if not given."),
        AUDIENCE,
        HOST,
    ],
};

pub(crate) static HOST_KEYS: Object = Object {
    noun: "host",
    keys: &[
        required("url", Form::Text, "Where it answers: https://features.example.com."),
        optional("token_env", Form::Text, "The environment variable with the token that requests must bring, where they must."),
        optional("probe", Form::Object(&PROBE), "A request that has to be answered with features after a publish."),
    ],
};

pub(crate) static PROBE: Object = Object {
    noun: "probe",
    keys: &[
        required("service", Form::Name, "The feature service to ask for."),
        required("entities", Form::Map(&Form::Text), "Each join key with the value to ask for."),
    ],
};

/// A file in `features/`.
pub(crate) static FEATURES: Object = Object {
    noun: "definition file",
    keys: &[
        optional("entities", Form::List(&Form::Object(&ENTITY)), "What feature rows are about."),
        optional("sources", Form::List(&Form::Object(&SOURCE)), "Where feature rows come from."),
        optional("request_sources", Form::List(&Form::Object(&REQUEST_SOURCE)), "What a request brings along."),
        optional("feature_views", Form::List(&Form::Object(&FEATURE_VIEW)), "Features of one source about the same entities."),
        optional(
            "on_demand_feature_views",
            Form::List(&Form::Object(&ON_DEMAND_FEATURE_VIEW)),
            "Features that are computed when they are asked for.",
        ),
        optional(
            "batch_feature_views",
            Form::List(&Form::Object(&BATCH_FEATURE_VIEW)),
            "Features that are computed from one source when they are materialised.",
        ),
        optional("feature_services", Form::List(&Form::Object(&FEATURE_SERVICE)), "Named selections of features."),
    ],
};

pub(crate) static ENTITY: Object = Object {
    noun: "entity",
    keys: &[
        required("name", Form::Name, "Its name."),
        optional("join_keys", Form::List(&Form::Name), "The column that identifies it: exactly one. Its name, if not given."),
        optional(
            "value_type",
            Form::Type,
            "The type of that column: int64 (the default), int32, string, bytes, bool, uuid or unix_timestamp.",
        ),
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
};

pub(crate) static SOURCE: Object = Object {
    noun: "source",
    keys: &[
        required("name", Form::Name, "Its name."),
        required("path", Form::Text, "A file, folder, glob or URL; relative to the repository."),
        optional(
            "format",
            Form::Choice(&["parquet", "csv", "json", "arrow"]),
            "The files' format; by their extension if not given.",
        ),
        required("timestamp_field", Form::Text, "The column of event times. Without a zone they are UTC."),
        optional(
            "created_timestamp_column",
            Form::Text,
            "The column that decides between rows of one event time: the latest counts.",
        ),
        optional("field_mapping", Form::Map(&Form::Text), "Source column: name of the feature or join key."),
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
};

pub(crate) static FIELD: Object = Object {
    noun: "field",
    keys: &[
        required("name", Form::Name, "Its name."),
        required("dtype", Form::Type, "The type of its values."),
        optional("description", Form::Text, "What it is, for people."),
        optional("tags", Form::Map(&Form::Text), "Free labels."),
    ],
};

pub(crate) static REQUEST_SOURCE: Object = Object {
    noun: "request source",
    keys: &[
        required("name", Form::Name, "Its name."),
        required("schema", Form::List(&Form::Object(&FIELD)), "Its fields."),
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
};

/// Of views whose features are computed.
const COMPUTED_BY: Key = optional(
    "transform",
    Form::Object(&TRANSFORM),
    "The component that computes all of its features, where they are no expressions.",
);

// Of views that have rows of a source.
const ENTITIES: Key = optional(
    "entities",
    Form::List(&Form::Name),
    "The entities that its rows are about; none for one row that is about everything.",
);
const TTL: Key =
    optional("ttl", Form::Span, "How long a row counts after its event time, such as 1d or 90m; 0 (the default) for ever.");
const AVAILABLE_AFTER: Key = optional(
    "available_after",
    Form::Span,
    "When a row could really be served, counted from its event time: training sees it no earlier. 0 if not given.",
);
const AVAILABLE: Key = optional(
    "available",
    Form::Choice(&["event", "created"]),
    "What available_after counts from: the event time (the default), or the later of event and created time.",
);
const ROW_AUDIENCE: Key = optional(
    "audience",
    Form::Choice(&["server", "public"]),
    "Who may hold its rows: only servers (the default), or browsers and plug-in hosts too.",
);
const GROUP: Key = optional(
    "group",
    Form::Name,
    "Views of the same join keys and group are packed together; give views another group where cadence, width or audience differ.",
);
const RETAIN: Key =
    optional("retain", Form::Span, "Rows older than this are dropped at compaction; twice the ttl if not given, 0 keeps them.");
const LATENESS: Key = optional("lateness", Form::Span, "How late rows may come, for sources that are not files. 0 if not given.");

pub(crate) static FEATURE_VIEW: Object = Object {
    noun: "feature view",
    keys: &[
        required("name", Form::Name, "Its name."),
        ENTITIES,
        required("source", Form::Name, "The source of its rows."),
        TTL,
        optional("schema", Form::List(&Form::Object(&FIELD)), "Its features; all other columns of the source if not given."),
        optional("online", Form::Flag, "Whether it is materialised and served; true if not given."),
        AVAILABLE_AFTER,
        AVAILABLE,
        ROW_AUDIENCE,
        GROUP,
        RETAIN,
        LATENESS,
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
};

pub(crate) static BATCH_FEATURE_VIEW: Object = Object {
    noun: "batch feature view",
    keys: &[
        required("name", Form::Name, "Its name."),
        ENTITIES,
        required("source", Form::Name, "The source of the rows that it computes from."),
        required("inputs", Form::List(&Form::Object(&FIELD)), "The columns of that source that it computes from."),
        required("schema", Form::List(&Form::Object(&ON_DEMAND_FEATURE)), "Its features."),
        COMPUTED_BY,
        TTL,
        AVAILABLE_AFTER,
        AVAILABLE,
        ROW_AUDIENCE,
        GROUP,
        RETAIN,
        LATENESS,
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
};

pub(crate) static ON_DEMAND_FEATURE_VIEW: Object = Object {
    noun: "on-demand feature view",
    keys: &[
        required("name", Form::Name, "Its name."),
        required(
            "sources",
            Form::List(&Form::Name),
            "Feature views, on-demand feature views and request sources whose fields it computes with.",
        ),
        required("schema", Form::List(&Form::Object(&ON_DEMAND_FEATURE)), "Its features."),
        COMPUTED_BY,
        optional(
            "write_to_online_store",
            Form::Flag,
            "Whether its features are computed when the one feature view that is its source is materialised, and stored beside that view's; false if not given.",
        ),
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
};

pub(crate) static TRANSFORM: Object = Object {
    noun: "transform",
    keys: &[
        required("component", Form::Text, "The component's file, relative to the repository; `mezze transform build` makes one."),
        optional(
            "fuel",
            Form::Count,
            "Instructions that a call may take, and as many again for each of its rows; 10000000 if not given.",
        ),
        optional("memory", Form::Size, "Memory that a call may have, from 64KiB to 4GiB; 64MiB if not given."),
        optional(
            "output",
            Form::Size,
            "Bytes that a call may give back, and as many again for each of its rows; 64KiB if not given.",
        ),
        optional("time", Form::Span, "How long the call of a request may take, in whole milliseconds; 1s if not given."),
        optional(
            "on_error",
            Form::Choice(&["fail", "nulls"]),
            "What a join does with a row for which it fails: fail (the default), or make its features null. Online they are null, with the status INVALID.",
        ),
        optional("digest", Form::Text, "The digest that the component must have; taken from the file if not given."),
        optional("inputs", Form::List(&Form::Object(&FIELD)), "What it takes; the component says so itself."),
    ],
};

pub(crate) static ON_DEMAND_FEATURE: Object = Object {
    noun: "computed feature",
    keys: &[
        required("name", Form::Name, "Its name."),
        required("dtype", Form::Type, "The type of its values."),
        optional(
            "expression",
            Form::Text,
            "The SQL expression that gives them; `mezze functions` lists what may be in it. Not where the view has a transform.",
        ),
        optional("description", Form::Text, "What it is, for people."),
        optional("tags", Form::Map(&Form::Text), "Free labels."),
    ],
};

pub(crate) static FEATURE_SERVICE: Object = Object {
    noun: "feature service",
    keys: &[
        required("name", Form::Name, "Its name."),
        required(
            "features",
            Form::List(&Form::Selector(&PROJECTION)),
            "Views (`view`), features (`view:feature`), or objects with alias and join_key_map.",
        ),
        optional("request_sources", Form::List(&Form::Name), "Request sources whose values it takes and returns."),
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
};

pub(crate) static PROJECTION: Object = Object {
    noun: "selection of features",
    keys: &[
        required("view", Form::Name, "The view."),
        optional("features", Form::List(&Form::Name), "Its features; all if not given."),
        optional("alias", Form::Name, "The name for the view in long feature names: needed to take one view twice."),
        optional("join_key_map", Form::Map(&Form::Name), "Join key of the view: the column of the request that holds it."),
    ],
};
