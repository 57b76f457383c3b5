//! The transforms that a bundle carries.

use std::collections::{BTreeMap, BTreeSet};

use mezze_core::{Audience, STEPS_BACK_MAX, TransformId};
use mezze_edge::{Bounded, Target};
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
///
/// In a browser's are only those of views that anyone may hold.
pub(super) fn of_repository(global: &Global, target: Target, left_out: &[String], output: Output) -> Outcome<Vec<Carried>> {
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
        of_context(&context, target, left_out, true).await
    })
}

/// The same of a repository that was loaded. What cannot be in a bundle is an error if it is `strict` and what was applied last
/// needs it, and otherwise a warning.
pub(super) async fn of_context(context: &Context, target: Target, left_out: &[String], strict: bool) -> Outcome<Vec<Carried>> {
    let needed = needed(context, target).await?;
    for view in left_out {
        if !needed.views.values().any(|views| views.contains(view)) {
            let known: BTreeSet<&str> = needed.views.values().flatten().map(String::as_str).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            let hint =
                if known.is_empty() { "it would carry none".to_owned() } else { format!("it would carry those of {known}") };
            let message = format!("--leave-out {view}: a bundle for {} would carry no transform of this view", target.name());
            return Err(Failure::input(message).hint(hint));
        }
    }
    let mut carried = Vec::new();
    for (id, views) in needed.views {
        if views.iter().all(|view| left_out.contains(view)) {
            continue;
        }
        match take(context, &id, &views).await? {
            Ok(bounded) => carried.push(Carried { views, bounded }),
            Err((message, hint)) if strict && needed.current.contains(&id) => return Err(Failure::input(message).hint(hint)),
            Err((message, _)) => context.output.note(&format!("warning: {message}; its features are INVALID there")),
        }
    }
    Ok(carried)
}

/// A transform from the registry, bounded; or why it cannot be had, and what to do.
async fn take(context: &Context, id: &TransformId, views: &[String]) -> Outcome<Result<Bounded, (String, String)>> {
    let registry = context.registry()?;
    let of_views = views.iter().map(|view| format!("`{view}`")).collect::<Vec<_>>().join(", ");
    let Some(bytes) = registry.transform(id).await? else {
        let message = format!("the registry {} does not keep the transform {id} of {of_views}", registry.place());
        return Ok(Err((message, "`mezze apply` where its component is puts it there".into())));
    };
    Ok(mezze_bounds::bound(*id, &bytes).map_err(|error| {
        let flags = views.iter().map(|view| format!("--leave-out {view}")).collect::<Vec<_>>().join(" ");
        let hint = format!("{flags} leaves it out; its features are INVALID there then");
        (format!("the transform {id} of {of_views} cannot be in a bundle: {error}"), hint)
    }))
}

/// What a bundle is to carry.
#[derive(Default)]
struct Needed {
    /// By digest the views that name it.
    views: BTreeMap<TransformId, Vec<String>>,
    /// Those that were applied last.
    current: BTreeSet<TransformId>,
}

impl Needed {
    fn note(&mut self, id: TransformId, view: &str) {
        let views = self.views.entry(id).or_default();
        if !views.iter().any(|known| known == view) {
            views.push(view.to_owned());
        }
    }
}

/// The digests, and the views that name them.
async fn needed(context: &Context, target: Target) -> Outcome<Needed> {
    let mut needed = Needed::default();
    let registry = context.registry()?;
    // The last, and of those before the first whose transforms are others.
    let mut last: Option<Vec<(TransformId, String)>> = None;
    let mut newest = None;
    for number in registry.numbers().await?.into_iter().rev() {
        let version = registry.version(number).await?;
        let found = of_definitions(&version.definitions, target);
        let is_before = last.as_ref().is_some_and(|last| *last != found);
        if last.is_none() {
            needed.current = found.iter().map(|(id, _)| *id).collect();
            newest = Some(version.definitions);
        }
        if last.is_none() || is_before {
            found.iter().for_each(|(id, view)| needed.note(*id, view));
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
            let manifest = match origin.manifest(snapshot).await {
                // One that was pruned meanwhile is served by nobody.
                Err(mezze_replica::Error::Missing { .. }) => continue,
                manifest => manifest?,
            };
            let manifest = if target == Target::Browser { manifest.public_part() } else { manifest };
            for view in &manifest.on_demand_views {
                if let Some(transform) = view.transform() {
                    needed.note(transform.id, &view.name);
                }
            }
        }
    }
    // What is not for everyone any more is in no new bundle either.
    if let Some(newest) = newest.filter(|_| target == Target::Browser) {
        for views in needed.views.values_mut() {
            views.retain(|view| newest.on_demand_feature_view(view).is_none() || is_public(&newest, view));
        }
        needed.views.retain(|_, views| !views.is_empty());
    }
    Ok(needed)
}

/// What is computed when it is asked for; the rest is stored.
fn of_definitions(definitions: &Definitions, target: Target) -> Vec<(TransformId, String)> {
    let views = definitions.on_demand_feature_views.iter().filter(|view| !view.write_to_online_store);
    let views = views.filter(|view| target != Target::Browser || is_public(definitions, &view.name));
    views.filter_map(|view| Some((view.transform.as_ref()?.id?, view.name.clone()))).collect()
}

/// Whether anyone may hold what an object computes from: a request source, a view that is public, or a view over such.
fn is_public(definitions: &Definitions, name: &str) -> bool {
    if let Some(view) = definitions.feature_view(name) {
        return view.audience == Audience::Public;
    }
    definitions.on_demand_feature_view(name).is_none_or(|view| view.sources.iter().all(|source| is_public(definitions, source)))
}
