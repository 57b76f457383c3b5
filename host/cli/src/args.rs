//! The command line.

use std::path::PathBuf;

use crate::bytes::ByteSize;
use clap::{Args, Parser, Subcommand};
use mezze_core::Timestamp;

use crate::output::{Color, Format};

/// A feature store whose online side runs inside the edge.
///
/// Define features once in a repository of YAML files; Mezze joins them point-in-time correctly for training, packs the newest
/// values into snapshots, and serves those.
#[derive(Debug, Parser)]
#[command(
    name = "mezze",
    version,
    max_term_width = 110,
    propagate_version = false,
    disable_help_subcommand = true,
    after_help = "Begin with `mezze demo`, or with `mezze init credit && cd credit && mezze apply`.\n\
                  `mezze COMMAND --help` explains a command and shows examples.\n\n\
                  Exit codes: 0 done; 1 failed; 2 usage, definitions or input are at fault; 3 another run was first; \
                  4 refused by a limit."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The repository: the folder of feature_store.yaml
    #[arg(short, long, global = true, value_name = "DIR", default_value = ".", env = "MEZZE_REPO", hide_env_values = true)]
    pub(crate) chdir: PathBuf,
    /// Results as text for people, or as JSON for programs
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// When to print in colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// Print nothing but results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(InitArgs),
    Plan(PlanArgs),
    Apply(PlanArgs),
    GetHistoricalFeatures(HistoricalArgs),
    Materialize(MaterializeArgs),
    MaterializeIncremental(IncrementalArgs),
    GetOnlineFeatures(OnlineArgs),
    Serve(ServeArgs),
    Cluster(ClusterArgs),
    Publish(PublishArgs),
    Edge(EdgeArgs),
    Status(StatusArgs),
    Rollback(RollbackArgs),
    Pin(PinArgs),
    Prune(PruneArgs),
    Forget(ForgetArgs),
    Keys(KeysArgs),
    Verify(VerifyArgs),
    /// List or describe entities
    Entities(ObjectArgs),
    /// List or describe data sources
    DataSources(ObjectArgs),
    /// List or describe feature views
    FeatureViews(ObjectArgs),
    /// List or describe on-demand feature views
    OnDemandFeatureViews(ObjectArgs),
    /// List or describe feature services
    FeatureServices(ObjectArgs),
    /// List or describe features
    Features(ObjectArgs),
    /// List or describe request sources
    RequestSources(ObjectArgs),
    Eval(EvalArgs),
    Transform(TransformArgs),
    Functions(FunctionsArgs),
    Schema(SchemaArgs),
    RegistryDump(RegistryDumpArgs),
    Teardown(TeardownArgs),
    Completions(CompletionsArgs),
    Demo(DemoArgs),
}

/// Make a sample repository
///
/// It has definitions, generated data of a made-up lender, and a README.md that leads through the commands. The folder must not
/// exist, or be empty.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze init credit           a repository in ./credit\n  cd credit && mezze apply    check and record its definitions"
)]
pub(crate) struct InitArgs {
    /// The folder to make; its last part names the project
    #[arg(value_name = "DIR", default_value = "credit")]
    pub(crate) folder: PathBuf,
}

/// Make what an edge runs: Cloudflare Workers, Fastly Compute, Spin, or a browser
///
/// A bundle serves the snapshots of a key-value store (or, in a browser, of any folder behind HTTP) with the same answers as
/// `mezze serve`.
#[derive(Args, Debug)]
pub(crate) struct EdgeArgs {
    #[command(subcommand)]
    pub(crate) command: EdgeCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EdgeCommand {
    Build(EdgeBuildArgs),
    Dev(EdgeDevArgs),
    Export(EdgeExportArgs),
}

/// Write a bundle, ready for the vendor's own deploy tool
///
/// The folder must not exist, or be empty. Prints the size of the code and checks it against what the host takes. In a repository
/// the bundle carries the transforms of its on-demand views: those that were applied last, those before them, and those of the
/// snapshots that are served. So a change of a transform is `mezze apply`, a new bundle, and then `mezze publish`.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze edge build cloudflare --out worker --kv-id 0123abcd && cd worker && wrangler deploy\n  \
                       mezze edge build fastly --out service && cd service && fastly compute publish\n  \
                       mezze edge build spin --out app && cd app && spin up\n  \
                       mezze edge build browser --out public\n  \
                       mezze edge build component --out plugin"
)]
pub(crate) struct EdgeBuildArgs {
    /// The host
    #[arg(value_name = "TARGET", value_parser = ["browser", "cloudflare", "component", "fastly", "spin"])]
    pub(crate) target: String,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The name of the worker, service, application or package
    #[arg(long, value_name = "NAME", default_value = "mezze")]
    pub(crate) name: String,
    /// The id of the KV namespace that the worker reads (Cloudflare)
    #[arg(long, value_name = "ID")]
    pub(crate) kv_id: Option<String>,
    /// Write the bundle that checks signatures (browser); the others always can
    #[arg(long)]
    pub(crate) trust: bool,
    /// Write the bundle that computes on-demand features (browser); the others always can
    #[arg(long)]
    pub(crate) expressions: bool,
    /// Do not carry the transform of this on-demand view, whose features are INVALID then; may be given more than once
    #[arg(long, value_name = "VIEW")]
    pub(crate) leave_out: Vec<String>,
    /// The program of Viceroy, which makes a component of a bundle with transforms (Fastly); found on the path otherwise
    #[arg(long, value_name = "FILE")]
    pub(crate) viceroy: Option<PathBuf>,
}

/// Serve the newest snapshot through the host's own local runtime, on this machine
///
/// Runs the bundle in workerd, Viceroy or Spin, which have to be installed; a browser needs nothing. It follows the snapshots that
/// are materialized meanwhile. Variables that begin with MEZZE_ go on to the bundle.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze edge dev browser\n  mezze edge dev cloudflare --runtime node_modules/.bin/workerd\n  \
                       MEZZE_TOKEN=0123456789abcdef mezze edge dev fastly --port 7676"
)]
pub(crate) struct EdgeDevArgs {
    /// The host
    #[arg(value_name = "TARGET", value_parser = ["browser", "cloudflare", "fastly", "spin"])]
    pub(crate) target: String,
    /// The port to listen on, of this machine alone; 0 for any that is free
    #[arg(long, default_value_t = 8787)]
    pub(crate) port: u16,
    /// Serve a replica of feature_store.yaml instead of the origin
    #[arg(long, value_name = "NAME")]
    pub(crate) from: Option<String>,
    /// The runtime's program; found on the path otherwise
    #[arg(long, value_name = "FILE")]
    pub(crate) runtime: Option<PathBuf>,
    /// How often to look for a new snapshot, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pub(crate) refresh: u64,
}

/// Write the newest snapshot's keys into files that the host's own tools load into its key-value store
///
/// Cloudflare: JSON for `wrangler kv bulk put`. Fastly: lines of JSON for `fastly kv-store-entry create`. Spin: its SQLite file.
/// Browser: a folder for any static hosting; only views with `audience: public` are in it. The folder must not exist, or be empty.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze edge export cloudflare --out keys\n  mezze edge export browser --out public/snapshot"
)]
pub(crate) struct EdgeExportArgs {
    /// The host
    #[arg(value_name = "TARGET", value_parser = ["browser", "cloudflare", "fastly", "spin"])]
    pub(crate) target: String,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Write a replica of feature_store.yaml instead of the origin
    #[arg(long, value_name = "NAME")]
    pub(crate) from: Option<String>,
}

/// Make keys to sign snapshots with
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  mezze keys new\n  mezze keys new --out /etc/mezze/signing.key --output json")]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    New(KeysNewArgs),
}

/// Make a key: a secret one for whoever publishes, in a new file, and a public one for the hosts
///
/// The file is readable by its owner alone. Hosts that get the public key serve only what the secret one has signed.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  mezze keys new\n  mezze keys new --out /etc/mezze/signing.key --output json")]
pub(crate) struct KeysNewArgs {
    /// The file for the secret key; it must not exist
    #[arg(long, value_name = "FILE", default_value = "mezze.key")]
    pub(crate) out: PathBuf,
}

/// Check that a replica has what a key has signed: its head, its manifests and every page
///
/// Reads all of it, as a host would that trusts the key. With --request and --response a saved answer is checked instead: it is
/// computed again from what is signed, at the same instant, and compared byte by byte. Exits with 1 where anything is not as signed.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  mezze verify --to prod --key mezze-public-ed25519:...\n  \
                       mezze verify --at /srv/replica --key mezze-public-ed25519:... --head-age-max 86400\n  \
                       mezze verify --at /srv/replica --key mezze-public-ed25519:... --request ask.json --response answer.json --now 2026-07-20T12:00:00Z")]
pub(crate) struct VerifyArgs {
    /// A replica of feature_store.yaml
    #[arg(long, value_name = "NAME", conflicts_with = "at")]
    pub(crate) to: Option<String>,
    /// A replica in a folder or an object store, whatever feature_store.yaml says
    #[arg(long, value_name = "FOLDER|URL")]
    pub(crate) at: Option<String>,
    /// A public key that may have signed; once more for another
    #[arg(long, value_name = "KEY", value_delimiter = ',', env = "MEZZE_TRUST_KEYS", hide_env_values = true)]
    pub(crate) key: Vec<String>,
    /// The longest since the head was signed, in seconds; any time if not given
    #[arg(long, value_name = "SECONDS")]
    pub(crate) head_age_max: Option<u32>,
    /// The lowest epoch to accept
    #[arg(long, value_name = "EPOCH", default_value_t = 0)]
    pub(crate) epoch_min: u64,
    /// A request, as HTTP would bring it
    #[arg(long, value_name = "FILE", requires = "response")]
    pub(crate) request: Option<PathBuf>,
    /// The answer to it that is to be checked
    #[arg(long, value_name = "FILE", requires = "request")]
    pub(crate) response: Option<PathBuf>,
    /// The instant that the answer was made at; without an answer, that the head's age is counted to, now if not given
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) now: Option<Timestamp>,
}

/// Show what the definitions would change, and what that means for data already served
///
/// Reads the definitions, checks them against the schemas of their sources, and compares them with the registry. Changes nothing.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  mezze plan\n  mezze -c credit plan --output json")]
pub(crate) struct PlanArgs {
    /// Do not read the sources: their columns and types go unchecked
    #[arg(long)]
    pub(crate) skip_source_validation: bool,
}

/// Join features to entity rows, point-in-time correctly
///
/// Every entity row comes out once, in its order, with the newest feature values that were known at its time. Without entity rows,
/// --start and --end give every entity as of the end.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze get-historical-features --entities labels.parquet --service credit_v1 --out train.parquet\n  \
                       mezze get-historical-features --entities-sql \"SELECT * FROM 'labels.parquet' WHERE year = 2026\" \\\n      \
                       --features zipcode_features:city,zipcode_features:population --out train.csv\n  \
                       mezze get-historical-features --start 2026-01-01 --end 2026-08-30 --service credit_v1 --out all.parquet"
)]
pub(crate) struct HistoricalArgs {
    /// Entity rows: a file, folder, glob or URL of Parquet, CSV, JSON lines or Arrow
    #[arg(long, value_name = "PATH", conflicts_with_all = ["entities_sql", "start"])]
    pub(crate) entities: Option<String>,
    /// Entity rows: a query over files, each named in single quotes
    #[arg(long, value_name = "QUERY", conflicts_with = "start")]
    pub(crate) entities_sql: Option<String>,
    /// Without entity rows: the earliest instant to look at, beyond the ttl
    #[arg(long, value_name = "TIME", value_parser = instant, requires = "end")]
    pub(crate) start: Option<Timestamp>,
    /// Without entity rows: the instant as of which every entity is given
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) end: Option<Timestamp>,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// The file to write, or its URL in an object store: .parquet, .arrow, .csv or .json by its extension
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Use only feature rows that had been created by the entity row's time
    #[arg(long)]
    pub(crate) filter_by_created_timestamp: bool,
    #[command(flatten)]
    pub(crate) resources: ResourceArgs,
    /// Show what was done, phase by phase, and how near it came to only decoding the files
    #[arg(long)]
    pub(crate) explain: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// Who does the work.
#[derive(Args, Debug)]
#[command(next_help_heading = "Many machines")]
pub(crate) struct EngineArgs {
    /// What reads the sources: this process (local), or the executors of a scheduler (ballista://HOST:PORT)
    ///
    /// Executors read sources by the same paths, so they have to be on shared storage or in an object store. The result is the same.
    #[arg(long, value_name = "ENGINE", default_value = "local", env = "MEZZE_ENGINE", hide_env_values = true)]
    pub(crate) engine: Engine,
    /// Entity rows that a task is about, at the most; for each so many rows, the keys and times of all sources are read
    #[arg(long, value_name = "N", default_value = "250000")]
    pub(crate) task_rows: std::num::NonZeroUsize,
    /// Bytes of source files that a task reads, about
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub(crate) task_bytes: ByteSize,
    /// Seconds to wait for an executor where there is none
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) executor_wait: u64,
}

/// What reads the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The executors of a scheduler, which is at `host:port`.
    Ballista(String),
    /// This process.
    Local,
}

impl std::str::FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("ballista://") {
            Some(address) if address.contains(':') && !address.contains('/') => Ok(Self::Ballista(address.to_owned())),
            None if text == "local" => Ok(Self::Local),
            _ => {
                Err("expected local, or ballista:// with the host and port of a scheduler, as in ballista://10.0.0.7:50050"
                    .into())
            }
        }
    }
}

/// Run the services that do joins and materializations on many machines
///
/// One scheduler, and as many executors as there are machines. `--engine ballista://HOST:PORT` of get-historical-features, materialize
/// and materialize-incremental then gives the reading of sources to them. There are no passwords and no encryption: whoever reaches
/// these ports can have executors read what they can read, so keep them in a network of your own.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  mezze cluster scheduler --bind 10.0.0.7:50050\n  \
                       mezze cluster executor --scheduler 10.0.0.7:50050 --bind 10.0.0.8:50051    on each machine\n  \
                       mezze materialize 2026-01-01 2026-08-30 --engine ballista://10.0.0.7:50050")]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    pub(crate) command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    Executor(ExecutorArgs),
    Scheduler(SchedulerArgs),
}

/// Give out tasks to executors
///
/// Prints a line once it listens. It keeps nothing on a disk: started anew, it knows its executors again within a second, and clients
/// that were under way give their tasks out once more. Ctrl-C stops it.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze cluster scheduler\n  mezze cluster scheduler --bind 10.0.0.7:50050   for other machines"
)]
pub(crate) struct SchedulerArgs {
    /// The address and port to listen on; port 0 for any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:50050")]
    pub(crate) bind: std::net::SocketAddr,
}

/// Do tasks that a scheduler gives out
///
/// Prints a line once the scheduler knows it. It needs the sources under the paths that clients have, or credentials for their object
/// stores in its environment, and room for the results of its tasks until they are fetched. Ctrl-C stops it; others do its tasks then.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  mezze cluster executor --scheduler 127.0.0.1:50050\n  \
                       mezze cluster executor --scheduler 10.0.0.7:50050 --bind 10.0.0.8:50051 --slots 8 --memory 16GB --temp-folder /scratch")]
pub(crate) struct ExecutorArgs {
    /// The scheduler
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50050")]
    pub(crate) scheduler: String,
    /// The address and port that clients fetch results from; port 0 for any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub(crate) bind: std::net::SocketAddr,
    /// The name that clients find it by, where that is not the address of --bind
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// Tasks at a time; all cores if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) slots: Option<u16>,
    /// Memory for all tasks together; half of the machine's if not given
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteSize>,
    /// Where results and other temporary files go
    #[arg(long, value_name = "DIR", env = "MEZZE_TEMP_FOLDER")]
    pub(crate) temp_folder: Option<PathBuf>,
}

/// What a run may take of the machine.
#[derive(Args, Debug)]
pub(crate) struct ResourceArgs {
    /// Threads; all cores if not given
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<std::num::NonZeroUsize>,
    /// Memory that the run may take, such as 1GB or 512MiB; half of the machine's if not given
    ///
    /// With less, the run takes longer and reads more. The process itself needs 100 to 150 MB beside it.
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteSize>,
    /// Where temporary files go: rows of sources without row addresses (CSV, JSON, Arrow), copies of remote files, and rows of a
    /// snapshot for which there is no memory
    #[arg(long, value_name = "DIR", env = "MEZZE_TEMP_FOLDER")]
    pub(crate) temp_folder: Option<PathBuf>,
}

/// Which features.
#[derive(Args, Debug)]
pub(crate) struct SelectionArgs {
    /// Features, as view:feature, separated by commas
    #[arg(
        short,
        long,
        value_name = "VIEW:FEATURE",
        value_delimiter = ',',
        conflicts_with = "service",
        required_unless_present = "service"
    )]
    pub(crate) features: Vec<String>,
    /// All features of this feature service
    #[arg(short, long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Name features view__feature
    #[arg(long)]
    pub(crate) full_feature_names: bool,
}

/// Pack the newest rows of a window into a snapshot
///
/// Reads the rows with START <= event time <= END. Newer rows replace older ones, an older one never a newer one. Readers see the
/// new snapshot whole, or the one before it.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze materialize 2026-01-01 2026-08-30\n  mezze materialize 2026-08-29 2026-08-30T12:00:00Z --views credit_history"
)]
pub(crate) struct MaterializeArgs {
    /// The earliest event time, ISO 8601, included
    #[arg(value_name = "START", value_parser = instant)]
    pub(crate) start: Timestamp,
    /// The latest event time, ISO 8601, included
    #[arg(value_name = "END", value_parser = instant)]
    pub(crate) end: Timestamp,
    /// Feature views to materialize; all that are online if not given
    #[arg(short, long, value_name = "VIEW", value_delimiter = ',')]
    pub(crate) views: Vec<String>,
    #[command(flatten)]
    pub(crate) resources: ResourceArgs,
    /// Write every table anew, without a delta
    #[arg(long)]
    pub(crate) compact: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// Fold new and changed source files into a snapshot
///
/// Files that an earlier run has folded, and that have not changed since, are not read again; new ones are folded whole, so rows
/// that come late count.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze materialize-incremental 2026-08-30\n  mezze materialize-incremental 2026-08-30T12:00:00Z --output json"
)]
pub(crate) struct IncrementalArgs {
    /// The latest event time, ISO 8601, included
    #[arg(value_name = "END", value_parser = instant)]
    pub(crate) end: Timestamp,
    /// Feature views to materialize; all that are online if not given
    #[arg(short, long, value_name = "VIEW", value_delimiter = ',')]
    pub(crate) views: Vec<String>,
    #[command(flatten)]
    pub(crate) resources: ResourceArgs,
    /// Write every table anew, without a delta
    #[arg(long)]
    pub(crate) compact: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// Read features from the snapshot, as an edge would
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze get-online-features --service credit_v1 --entity zipcode=76104 --entity loan_amnt=1000\n  \
                       mezze get-online-features --features zipcode_features:city --entity zipcode=76104 --entity zipcode=10001\n  \
                       mezze get-online-features --request request.json --output json   the response as HTTP would give it"
)]
pub(crate) struct OnlineArgs {
    #[command(flatten)]
    pub(crate) selection: OnlineSelectionArgs,
    /// A join key or request field and its value; once more for another entity row
    #[arg(short, long, value_name = "NAME=VALUE", conflicts_with = "request")]
    pub(crate) entity: Vec<String>,
    /// A file with a whole request as HTTP would bring it; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) request: Option<PathBuf>,
    /// Answer as of this instant; now if not given
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) now: Option<Timestamp>,
    /// Return values older than their view's ttl, too
    #[arg(long)]
    pub(crate) expired_values: bool,
    /// Read from this replica; from the origin if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) from: Option<String>,
}

/// Which features to read.
#[derive(Args, Debug)]
pub(crate) struct OnlineSelectionArgs {
    /// Features, as view:feature, separated by commas
    #[arg(short, long, value_name = "VIEW:FEATURE", value_delimiter = ',', conflicts_with = "service", required_unless_present_any = ["service", "request"])]
    pub(crate) features: Vec<String>,
    /// All features of this feature service
    #[arg(short, long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Name features view__feature
    #[arg(long)]
    pub(crate) full_feature_names: bool,
}

/// Serve features over HTTP, by Feast's contract
///
/// Answers POST /get-online-features and GET /health. It follows the snapshot: a new one answers without a request lost. Ctrl-C
/// lets the requests under way finish.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  mezze serve\n  mezze serve --port 0 --workers 1   any free port, one thread")]
pub(crate) struct ServeArgs {
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: std::net::IpAddr,
    /// The port to listen on; 0 for any that is free
    #[arg(short, long, default_value_t = 6566)]
    pub(crate) port: u16,
    /// Threads; all cores if not given
    #[arg(short, long, value_name = "N")]
    pub(crate) workers: Option<std::num::NonZeroUsize>,
    /// Memory for pages, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    pub(crate) cache: usize,
    /// Seconds between looks for a new snapshot
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) refresh: u64,
    /// Seconds that requests under way get to finish when the server stops
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) grace: u64,
    /// Entity rows that a request may have
    #[arg(long, value_name = "N", default_value_t = 10_000, env = "MEZZE_ENTITIES_MAX", hide_env_values = true)]
    pub(crate) entities_max: usize,
    /// Serve from this replica; from the origin if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) from: Option<String>,
}

/// Bring the newest snapshot to replicas
///
/// Checks sizes and hosts first, writes only what a replica has not, lists every key again and reads a sample back, and then makes
/// the snapshot current. Ended at any point, the replica serves what it served; run again, it goes on where it was. Several replicas
/// are published to in order: where one has a `host`, the next comes only once that host serves the snapshot and answers its probe;
/// if it does not, the replica is rolled back and the run ends.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze publish --to prod --dry-run          what it would write, how long that takes, what it costs\n  \
                       mezze publish --to canary,prod             the second once the first one's host is well\n  \
                       mezze publish --to prod --watch 60         look every minute, publish what is new\n\n\
                       Exit codes: 0 published, or nothing to do; 1 failed, the replica serves what it served; 2 definitions or\n\
                       input are at fault; 3 someone else publishes to it or was first; 4 the replica does not take the snapshot."
)]
pub(crate) struct PublishArgs {
    /// The replicas, as feature_store.yaml names them, in order
    #[arg(long, value_name = "NAME", value_delimiter = ',', required = true)]
    pub(crate) to: Vec<String>,
    /// Only say what would be written, how long that takes at the least, and what it costs
    #[arg(long, conflicts_with = "watch")]
    pub(crate) dry_run: bool,
    /// Go on: look so often, in seconds, whether the origin has news
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) watch: Option<u64>,
    /// Do not ask the replicas' hosts anything
    #[arg(long)]
    pub(crate) skip_host_check: bool,
    /// Seconds that a host gets to serve the snapshot
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    pub(crate) host_wait: u32,
    /// In CI: publish though the origin is a folder, which has to be one that all runs share
    #[arg(long)]
    pub(crate) shared_folder: bool,
}

/// Show which snapshots the origin and its replicas serve, and how old they are
///
/// With --to, looks closely at some replicas: which keys differ from what the origin has, what their hosts serve, and how late rows
/// are served against the views' `available_after`.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  mezze status\n  mezze status --to prod --output json")]
pub(crate) struct StatusArgs {
    /// The replicas to look at closely
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) to: Vec<String>,
}

/// Make an earlier snapshot current again, under a new epoch
///
/// Without --to, in the origin: publish to bring it to the replicas. With --to, at one replica alone and at once; it is pinned there
/// until `mezze pin --to NAME --off`.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze rollback               to the content before the newest\n  mezze rollback --to-epoch 7\n  \
                       mezze rollback --to prod     replica prod alone, to the content before the one it serves"
)]
pub(crate) struct RollbackArgs {
    /// The epoch to go back to; the one before the newest content if not given
    #[arg(long, value_name = "EPOCH")]
    pub(crate) to_epoch: Option<u64>,
    /// The replica to roll back; the origin if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) to: Option<String>,
}

/// Keep a replica at what it serves, or let it follow the origin again
///
/// `mezze publish` refuses to publish to a pinned replica.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  mezze pin --to prod\n  mezze pin --to prod --off && mezze publish --to prod")]
pub(crate) struct PinArgs {
    /// The replica
    #[arg(long, value_name = "NAME")]
    pub(crate) to: String,
    /// Let it follow the origin again
    #[arg(long)]
    pub(crate) off: bool,
}

/// Remove what no snapshot needs any more
///
/// From the origin, and from each replica what no head has named for an hour. Says when the rows of forgotten entities are gone from
/// every place.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze prune --dry-run\n  mezze prune --to prod     the replica alone, the origin stays as it is"
)]
pub(crate) struct PruneArgs {
    /// Newest epochs to keep
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keep: u64,
    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Only these replicas; the origin and all replicas if not given
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) to: Vec<String>,
    /// Seconds that what a head named stays at a replica; with less than an hour, readers that still hold that head may get a 503
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub(crate) grace: u32,
}

/// Remove an entity from what is served
///
/// The next snapshot does not have it, and rows of it with event times up to now do not bring it back. `mezze prune` says when its
/// rows are gone from every place.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze forget --entity dob_ssn=19530219_5179\n  mezze forget --entity user_id=7 --entity item_id=9   one key of two columns"
)]
pub(crate) struct ForgetArgs {
    /// A join key and its value; all join keys of a table together name one entity
    #[arg(short, long, value_name = "NAME=VALUE", required = true)]
    pub(crate) entity: Vec<String>,
    /// Write the tables anew at once, so that the newest snapshot does not hold its rows at all
    #[arg(long)]
    pub(crate) compact: bool,
}

/// Which object of a kind.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ObjectArgs {
    #[command(subcommand)]
    pub(crate) action: Option<ObjectAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ObjectAction {
    /// List them
    List,
    /// Show all of one
    Describe {
        /// Its name
        name: String,
    },
}

/// Try out an expression: on values, on rows of a file, or on an entity of the newest snapshot
///
/// Shows what went in, what each part gives, and the result. With --view the expressions of an on-demand feature view, or another in
/// their place, are computed as a request would compute them.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  mezze eval 'income / 12' --set income=52000\n  \
                       mezze eval 'round(loan_amnt / person_income, 2)' --rows data/loans.parquet --limit 3\n  \
                       mezze eval 'upper(city)' --rows data/zipcodes.parquet --name city_upper --out upper.parquet\n  \
                       mezze eval --view loan_terms --entity zipcode=76104 --entity loan_amnt=1000")]
pub(crate) struct EvalArgs {
    /// The SQL expression; `mezze functions` lists what may be in it
    #[arg(value_name = "EXPRESSION", required_unless_present_any = ["view", "component"], conflicts_with = "component")]
    pub(crate) expression: Option<String>,
    /// A component in place of an expression: its inputs are given by --set, or are columns of --rows
    #[arg(long, value_name = "FILE", conflicts_with = "view")]
    pub(crate) component: Option<PathBuf>,
    /// A value that the expression may use; its type is what it looks like, or is said: --set zip:string=07001
    #[arg(long, value_name = "NAME[:TYPE]=VALUE", conflicts_with_all = ["rows", "view"])]
    pub(crate) set: Vec<String>,
    /// A file, folder, glob or URL whose columns the expression may use
    #[arg(long, value_name = "FILE", conflicts_with = "view")]
    pub(crate) rows: Option<String>,
    /// How many rows to show
    #[arg(long, value_name = "ROWS", default_value_t = 5, requires = "rows")]
    pub(crate) limit: usize,
    /// Write all rows with the result behind their columns; the format is by the extension
    #[arg(long, value_name = "FILE", requires = "rows")]
    pub(crate) out: Option<PathBuf>,
    /// The name of the result's column
    #[arg(long, value_name = "NAME", default_value = "result", requires = "out")]
    pub(crate) name: String,
    /// How many threads write; all cores if not given
    #[arg(long, value_name = "N", requires = "out")]
    pub(crate) threads: Option<std::num::NonZeroUsize>,
    /// An on-demand feature view of the repository, or one of its features
    #[arg(long, value_name = "VIEW[:FEATURE]")]
    pub(crate) view: Option<String>,
    /// A join key or request field and its value
    #[arg(short, long, value_name = "NAME=VALUE", requires = "view")]
    pub(crate) entity: Vec<String>,
    /// What now() is; now if not given
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) now: Option<Timestamp>,
    /// Read features from this replica; from the origin if not given
    #[arg(long, value_name = "NAME", requires = "view")]
    pub(crate) from: Option<String>,
}

/// Write, build and test transforms: components that compute on-demand features
#[derive(Args, Debug)]
pub(crate) struct TransformArgs {
    #[command(subcommand)]
    pub(crate) command: TransformCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TransformCommand {
    New(TransformNewArgs),
    Build(TransformBuildArgs),
    Test(TransformTestArgs),
}

/// Make the source of a transform, to begin with
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze transform new transforms/risk\n  mezze transform new transforms/risk --language javascript"
)]
pub(crate) struct TransformNewArgs {
    /// The folder to make; its name is the transform's
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// What it is written in
    #[arg(long, value_enum, default_value = "rust")]
    pub(crate) language: TransformLanguage,
}

/// What a transform is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TransformLanguage {
    /// Rust: needs rustup and the target wasm32-unknown-unknown
    Rust,
    /// JavaScript: needs npm
    Javascript,
}

/// Build the component of a transform
///
/// Rust is compiled by cargo for wasm32-unknown-unknown; JavaScript by the component toolchain that its package.json pins. The
/// component lies beside the folder, as FOLDER.wasm, unless --out says otherwise.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze transform build transforms/risk\n  mezze transform build transforms/risk --out risk.wasm"
)]
pub(crate) struct TransformBuildArgs {
    /// The folder that `mezze transform new` made
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// Where the component goes
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Check a component: what it takes and gives, and that a row's values follow from that row alone
///
/// Rows of odd values (nulls, infinities, NaN, extremes, empty and long texts), or those of --rows, are computed all together, each
/// alone, and all once more: the results have to be equal to the bit.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze transform test transforms/risk.wasm\n  mezze transform test transforms/risk.wasm --rows loans.parquet"
)]
pub(crate) struct TransformTestArgs {
    /// The component
    #[arg(value_name = "FILE")]
    pub(crate) component: PathBuf,
    /// Rows to compute: a file, folder, glob or URL with the columns that it takes
    #[arg(long, value_name = "FILE")]
    pub(crate) rows: Option<String>,
    /// How many rows
    #[arg(long, value_name = "ROWS", default_value_t = 200)]
    pub(crate) limit: usize,
}

/// List the functions and operators of expressions, or explain one
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  mezze functions\n  mezze functions date_diff\n  mezze functions lists --output json")]
pub(crate) struct FunctionsArgs {
    /// A function, an operator, or a group of them
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Print the JSON Schema of the definition files, for editors
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  mezze schema features > features.schema.json\n  mezze schema store > feature_store.schema.json"
)]
pub(crate) struct SchemaArgs {
    /// Which file's
    #[arg(value_enum, default_value = "features")]
    pub(crate) file: SchemaFile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SchemaFile {
    /// Of files in features/
    Features,
    /// Of feature_store.yaml
    Store,
}

/// Print what the registry has recorded, as JSON
#[derive(Args, Debug)]
pub(crate) struct RegistryDumpArgs {}

/// Remove the registry and every snapshot of this repository
///
/// Definitions and source data stay. Replicas stay as they are.
#[derive(Args, Debug)]
pub(crate) struct TeardownArgs {
    /// Do it, without asking
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Print a completion script for a shell
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  mezze completions bash > ~/.local/share/bash-completion/completions/mezze")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// See all of Mezze work on sample data
///
/// Makes a sample repository, applies it, joins a training set, materializes a snapshot, and reads the same features back from the
/// command line, over HTTP and from the WebAssembly component.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Keep the repository in this folder; a temporary one otherwise
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// Reads an instant, as every command's arguments have it.
pub(crate) fn instant(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| {
        "expected an ISO 8601 date or time such as 2026-08-30 or 2026-08-30T12:00:00Z (without a zone it is UTC)".into()
    })
}
