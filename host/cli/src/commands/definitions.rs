//! `mezze plan`, `apply`, `schema`, `registry-dump`, `teardown`

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use mezze_core::TransformId;
use mezze_model::{Definitions, Diff, Problem, Version, check_against, describe_transforms, diff};
use mezze_runtime::TransformsConfig;
use serde_json::json;

use crate::args::{Global, PlanArgs, SchemaArgs, SchemaFile, TeardownArgs};
use crate::context::{Context, block_on, holder, now, show_instant};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Format, Output, pretty};
use crate::transforms;

pub(crate) fn plan(args: &PlanArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    block_on(None, async {
        let Checked { before, definitions, .. } = checked(&context, args).await?;
        let diff = diff(before.as_ref().map(|version| &version.definitions), &definitions);
        show(&diff, output)?;
        if diff.is_changed() && output.format == Format::Text {
            output.note("\nnothing was changed; `mezze apply` records this");
        }
        Ok(())
    })
}

pub(crate) fn apply(args: &PlanArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    block_on(None, async {
        let Checked { before, definitions, components } = checked(&context, args).await?;
        let diff = diff(before.as_ref().map(|version| &version.definitions), &definitions);
        // Also where nothing has changed: one that was lost or damaged there is whole again.
        for (id, bytes) in components {
            context.registry()?.put_transform(&id, bytes).await?;
        }
        if !diff.is_changed() {
            return output.result(
                || json!({ "version": before.as_ref().map(|version| version.number), "changed": false }),
                || "nothing has changed since the last apply\n".into(),
            );
        }
        let expected = before.as_ref().map(|version| version.number);
        let version = context.registry()?.append(expected, &definitions, &holder(), now()).await?;
        match output.format {
            Format::Json => output.line(&pretty(&json!({
                "version": version.number, "changed": true, "changes": diff.to_json(),
            }))),
            Format::Text => {
                show(&diff, output)?;
                output.line(&format!("recorded as version {} in {}", version.number, context.config.registry))
            }
        }
    })
}

/// What there is to apply.
struct Checked {
    /// The version recorded last.
    before: Option<Version>,
    /// The definitions of the files, checked against their sources and components.
    definitions: Definitions,
    /// The components that they name.
    components: Vec<(TransformId, Vec<u8>)>,
}

async fn checked(context: &Context, args: &PlanArgs) -> Outcome<Checked> {
    let before = context.registry()?.latest().await?;
    let mut definitions = context.definitions.clone();
    let mut schemas = BTreeMap::new();
    if !args.skip_source_validation {
        for source in &definitions.sources {
            let columns = mezze_offline::source_columns(&context.repo, &definitions, source).await?;
            schemas.insert(source.name.clone(), columns);
        }
    }
    refuse(&check_against(&mut definitions, &schemas), "sources")?;
    let mut components: Vec<(TransformId, Vec<u8>)> = Vec::new();
    if definitions.on_demand_feature_views.iter().any(|view| view.transform.is_some()) {
        let engine = transforms::engine(TransformsConfig::for_jobs())?;
        let mut describe = |path: &str| {
            let (described, bytes) = transforms::describe(&engine, &context.repo.join(path))?;
            components.push((described.id, bytes));
            Ok(described)
        };
        refuse(&describe_transforms(&mut definitions, &mut describe), "transforms")?;
        let mut seen = BTreeSet::new();
        components.retain(|(id, _)| seen.insert(*id));
    }
    Ok(Checked { before, definitions, components })
}

/// An error that says all that is wrong between definitions and something else.
fn refuse(problems: &[Problem], other: &str) -> Outcome {
    if problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let noun = if lines.len() == 1 { "problem" } else { "problems" };
    Err(Failure::input(format!("{} {noun} between definitions and {other}:\n  {}", lines.len(), lines.join("\n  "))))
}

fn show(diff: &Diff, output: Output) -> Outcome {
    output.result(|| diff.to_json(), || diff.to_string())
}

pub(crate) fn schema(args: &SchemaArgs, output: Output) -> Outcome {
    let schema = match args.file {
        SchemaFile::Features => mezze_model::features_schema(),
        SchemaFile::Store => mezze_model::store_schema(),
    };
    output.line(&pretty(&schema))
}

pub(crate) fn registry_dump(global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    block_on(None, async {
        let version = context.applied().await?;
        output.line(&pretty(&json!({
            "version": version.number,
            "applied_at": show_instant(version.applied_at),
            "applied_by": version.applied_by,
            "digest": version.digest_hex(),
            "definitions": mezze_model::to_json(&version.definitions),
        })))
    })
}

pub(crate) fn teardown(args: &TeardownArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    if !args.yes {
        return Err(Failure::input(format!(
            "this removes the registry {} and every snapshot in {}",
            context.config.registry, context.config.online_store
        ))
        .hint("say --yes to do it"));
    }
    block_on(None, async {
        let versions = context.registry()?.teardown().await?;
        let origin = context.origin()?;
        let objects = origin.teardown().await?;
        // Empty folders go, too; what else lies in them stays.
        for location in [&context.config.registry, &context.config.online_store] {
            let _ = fs::remove_dir(Path::new(&context.repo).join(location));
        }
        output.result(
            || json!({ "versions_removed": versions, "objects_removed": objects }),
            || format!("removed {versions} versions of the registry and {objects} objects of snapshots\n"),
        )
    })
}

impl From<mezze_model::LoadError> for Failure {
    fn from(error: mezze_model::LoadError) -> Self {
        let count = error.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        Self::input(format!("{count} {noun} in the definitions:\n  {}", error.to_string().replace('\n', "\n  ")))
    }
}

impl From<mezze_model::RegistryError> for Failure {
    fn from(error: mezze_model::RegistryError) -> Self {
        let exit = if error.is_conflict() { Exit::LostRace } else { Exit::Failed };
        Self::of(exit, &error)
    }
}

impl From<mezze_replica::Error> for Failure {
    fn from(error: mezze_replica::Error) -> Self {
        let exit = match &error {
            error if error.is_conflict() => Exit::LostRace,
            error if error.is_limit() => Exit::Limit,
            mezze_replica::Error::NoSnapshot { .. }
            | mezze_replica::Error::Location { .. }
            | mezze_replica::Error::Refused(_) => Exit::Input,
            _ => Exit::Failed,
        };
        Self::of(exit, &error)
    }
}
