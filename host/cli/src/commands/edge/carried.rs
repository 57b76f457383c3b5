//! The transforms that a bundle carries.

use std::collections::BTreeMap;

use mezze_core::{STEPS_BACK_MAX, TransformId};
use mezze_edge::Bounded;
use mezze_model::Definitions;

use crate::args::Global;
use crate::context::{Context, block_on};
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// A transform, and the on-demand views that it computes.
pub(super) struct Carried {
    pub(super) views: Vec<String>,
    pub(super) bounded: Bounded,
}

/// Those of the repository: of the definitions that were applied last and of those before, and of the newest snapshots, so that
/// a bundle can be deployed before what needs it is published, and serves what is served meanwhile. None outside of a repository.
pub(super) fn of_repository(global: &Global, left_out: &[String], output: Output) -> Outcome<Vec<Carried>> {
    if !global.chdir.join(mezze_model::STORE_FILE).is_file() {
        return match left_out {
            [] => Ok(Vec::new()),
            _ => {
                Err(Failure::input("--leave-out is for a repository, and there is none here")
                    .hint("name its folder with --chdir"))
            }
        };
    }
    let context = Context::load(global, output)?;
    block_on(Some(1), async {
        if context.registry()?.latest().await?.is_some() {
            // It says so where the files have something newer.
            context.applied().await?;
        }
        of_context(&context, left_out, None).await
    })
}

/// The same of a repository that was loaded. What cannot be in a bundle is an error, or where there is an output, a warning there.
pub(super) async fn of_context(context: &Context, left_out: &[String], warn: Option<Output>) -> Outcome<Vec<Carried>> {
    let needed = needed(context).await?;
    for view in left_out {
        if !needed.values().any(|views| views.contains(view)) {
            return Err(Failure::input(format!("--leave-out {view}: no on-demand view of this name has a transform")));
        }
    }
    let registry = context.registry()?;
    let mut carried = Vec::new();
    for (id, views) in needed {
        if views.iter().all(|view| left_out.contains(view)) {
            continue;
        }
        let of_views = views.iter().map(|view| format!("`{view}`")).collect::<Vec<_>>().join(", ");
        let bytes = registry.transform(&id).await?.ok_or_else(|| {
            Failure::input(format!("the registry {} does not keep the transform {id} of {of_views}", registry.place()))
                .hint("`mezze apply` where its component is puts it there")
        })?;
        let bounded = match mezze_bounds::bound(id, &bytes) {
            Ok(bounded) => bounded,
            Err(error) => {
                let message = format!("the transform {id} of {of_views} cannot be in a bundle: {error}");
                if let Some(output) = warn {
                    output.note(&format!("warning: {message}; its features are INVALID here"));
                    continue;
                }
                let flags = views.iter().map(|view| format!("--leave-out {view}")).collect::<Vec<_>>().join(" ");
                return Err(Failure::input(message).hint(format!("{flags} leaves it out; its features are INVALID there then")));
            }
        };
        carried.push(Carried { views, bounded });
    }
    Ok(carried)
}

/// The digests, and the views that name them.
async fn needed(context: &Context) -> Outcome<BTreeMap<TransformId, Vec<String>>> {
    let mut needed: BTreeMap<TransformId, Vec<String>> = BTreeMap::new();
    let mut note = |id: TransformId, view: &str| {
        let views = needed.entry(id).or_default();
        if !views.iter().any(|known| known == view) {
            views.push(view.to_owned());
        }
    };
    let registry = context.registry()?;
    // The last, and of those before the first whose transforms are others.
    let mut last: Option<Vec<(TransformId, String)>> = None;
    for number in registry.numbers().await?.into_iter().rev() {
        let version = registry.version(number).await?;
        let found = of_definitions(&version.definitions);
        let is_before = last.as_ref().is_some_and(|last| *last != found);
        if last.is_none() || is_before {
            found.iter().for_each(|(id, view)| note(*id, view));
        }
        if is_before {
            break;
        }
        last = Some(found);
    }
    let origin = context.origin()?;
    if let Some(record) = origin.latest().await? {
        let head = origin.head_of(&record).await?;
        let before = head.previous.iter().take(STEPS_BACK_MAX).map(|previous| previous.snapshot);
        for snapshot in std::iter::once(head.snapshot).chain(before) {
            // One that was pruned meanwhile is served by nobody.
            let Ok(manifest) = origin.manifest(snapshot).await else { continue };
            for view in &manifest.on_demand_views {
                if let Some(transform) = view.transform() {
                    note(transform.id, &view.name);
                }
            }
        }
    }
    Ok(needed)
}

/// What is computed when it is asked for; the rest is stored.
fn of_definitions(definitions: &Definitions) -> Vec<(TransformId, String)> {
    let views = definitions.on_demand_feature_views.iter().filter(|view| !view.write_to_online_store);
    views.filter_map(|view| Some((view.transform.as_ref()?.id?, view.name.clone()))).collect()
}
