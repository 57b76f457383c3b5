//! The `mezze` command.

mod args;
mod bytes;
mod commands;
mod context;
mod failure;
mod output;
mod progress;
mod sample;
mod transforms;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches};

use crate::args::{Cli, Command};
use crate::commands::objects::Kind;
use crate::failure::{Exit, Outcome};
use crate::output::{Color, Output, Paint, paint_if};

fn main() -> ExitCode {
    // The flag counts for help and usage errors, too, which come before there are parsed arguments.
    let choice = match color_of(std::env::args()) {
        Color::Always => ColorChoice::Always,
        Color::Auto => ColorChoice::Auto,
        Color::Never => ColorChoice::Never,
    };
    let matches = Cli::command().color(choice).try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results and go to standard output; a closed one is no failure.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(Exit::Input as u8) } else { ExitCode::SUCCESS };
        }
    };
    let color = cli.global.color;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.exit() != Exit::OutputClosed {
                let label = paint_if(color.on(io::stderr().is_terminal()), Paint::Bad, "error:");
                let _ = writeln!(io::stderr(), "{label} {failure}");
            }
            ExitCode::from(failure.exit() as u8)
        }
    }
}

fn run(cli: Cli) -> Outcome {
    let global = cli.global;
    let output = Output::new(global.output, global.color, global.quiet);
    match cli.command {
        Command::Init(args) => commands::init::run(&args, &global, output),
        Command::Plan(args) => commands::definitions::plan(&args, &global, output),
        Command::Apply(args) => commands::definitions::apply(&args, &global, output),
        Command::GetHistoricalFeatures(args) => commands::historical::run(&args, &global, output),
        Command::Materialize(args) => commands::materialize::window(&args, &global, output),
        Command::MaterializeIncremental(args) => commands::materialize::incremental(&args, &global, output),
        Command::GetOnlineFeatures(args) => commands::online::run(&args, &global, output),
        Command::Serve(args) => commands::serve::run(&args, &global, output),
        Command::Cluster(args) => commands::cluster::run(&args, output),
        Command::Publish(args) => commands::publish::publish(&args, &global, output),
        Command::Edge(args) => commands::edge::run(&args, &global, output),
        Command::Status(args) => commands::status::status(&args, &global, output),
        Command::Rollback(args) => commands::publish::rollback(&args, &global, output),
        Command::Pin(args) => commands::publish::pin(&args, &global, output),
        Command::Prune(args) => commands::prune::prune(&args, &global, output),
        Command::Forget(args) => commands::materialize::forget(&args, &global, output),
        Command::Keys(args) => commands::trust::keys(&args, output),
        Command::Verify(args) => commands::trust::run_verify(&args, &global, output),
        Command::Entities(args) => commands::objects::run(Kind::Entity, &args, &global, output),
        Command::DataSources(args) => commands::objects::run(Kind::Source, &args, &global, output),
        Command::FeatureViews(args) => commands::objects::run(Kind::FeatureView, &args, &global, output),
        Command::OnDemandFeatureViews(args) => commands::objects::run(Kind::OnDemandFeatureView, &args, &global, output),
        Command::FeatureServices(args) => commands::objects::run(Kind::FeatureService, &args, &global, output),
        Command::Features(args) => commands::objects::run(Kind::Feature, &args, &global, output),
        Command::RequestSources(args) => commands::objects::run(Kind::RequestSource, &args, &global, output),
        Command::Eval(args) => commands::eval::eval(&args, &global, output),
        Command::Transform(args) => commands::transform::run(&args, output),
        Command::Functions(args) => commands::functions::run(&args, output),
        Command::Schema(args) => commands::definitions::schema(&args, output),
        Command::RegistryDump(_) => commands::definitions::registry_dump(&global, output),
        Command::Teardown(args) => commands::definitions::teardown(&args, &global, output),
        Command::Completions(args) => commands::shell::completions(&args, output),
        Command::Demo(args) => commands::demo::run(&args, &global, output),
    }
}

/// What `--color` says among arguments that are not parsed yet.
fn color_of(arguments: impl Iterator<Item = String>) -> Color {
    let mut color = Color::Auto;
    let mut arguments = arguments.take_while(|argument| argument != "--");
    while let Some(argument) = arguments.next() {
        let value = match argument.strip_prefix("--color") {
            Some("") => arguments.next(),
            Some(value) => value.strip_prefix('=').map(str::to_owned),
            None => None,
        };
        match value.as_deref() {
            Some("always") => color = Color::Always,
            Some("never") => color = Color::Never,
            _ => {}
        }
    }
    color
}
