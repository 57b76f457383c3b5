//! The command line.

use std::path::PathBuf;

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

/// Reads an instant, as every command's arguments have it.
pub(crate) fn instant(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| {
        "expected an ISO 8601 date or time such as 2026-08-30 or 2026-08-30T12:00:00Z (without a zone it is UTC)".into()
    })
}
