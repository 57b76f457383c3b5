//! What an apply would change, and what that means for what is served.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value as Json, json};

use crate::definitions::{Definitions, FeatureView};
use crate::json::to_json;
use crate::on_demand::unserved_inputs;
use crate::tables::table_of;

/// The difference between two sets of definitions.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Diff {
    /// What changes, by kind and name. Objects that stay as they are are not there.
    pub changes: Vec<Change>,
    /// Objects that stay as they are.
    pub unchanged: usize,
}

/// What becomes of one object.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Change {
    /// What becomes of it.
    pub action: Action,
    /// `entity`, `source`, `request source`, `feature view`, `on-demand feature view` or `feature service`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The keys that change, with their values before and after as JSON.
    pub fields: Vec<(String, Json, Json)>,
    /// What it means for data already served.
    pub consequences: Vec<String>,
}

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Create,
    /// It is gone.
    Delete,
    /// Some of it changes.
    Update,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Update => "update",
        }
    }
}

/// Compares definitions with those before, `None` if there were none.
pub fn diff(before: Option<&Definitions>, after: &Definitions) -> Diff {
    let empty = Definitions {
        project: after.project.clone(),
        entities: vec![],
        sources: vec![],
        request_sources: vec![],
        feature_views: vec![],
        on_demand_feature_views: vec![],
        feature_services: vec![],
    };
    let before = before.unwrap_or(&empty);
    let (old, new) = (to_json(before), to_json(after));
    let mut changes = Vec::new();
    let mut unchanged = 0;
    for (key, kind) in KINDS {
        let (old, new) = (by_name(&old, key), by_name(&new, key));
        let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let change = |action, fields, consequences| Change { action, kind, name: name.clone(), fields, consequences };
            match (old.get(name), new.get(name)) {
                (None, Some(_)) => changes.push(change(Action::Create, vec![], created(kind, name, after))),
                (Some(_), None) => changes.push(change(Action::Delete, vec![], deleted(kind, name, before))),
                (Some(old), Some(new)) if old != new => {
                    let fields = changed_fields(old, new);
                    let consequences = updated(kind, name, &fields, before, after);
                    changes.push(change(Action::Update, fields, consequences));
                }
                _ => unchanged += 1,
            }
        }
    }
    Diff { changes, unchanged }
}

const KINDS: [(&str, &str); 6] = [
    ("entities", "entity"),
    ("sources", "source"),
    ("request_sources", "request source"),
    ("feature_views", "feature view"),
    ("on_demand_feature_views", "on-demand feature view"),
    ("feature_services", "feature service"),
];

fn by_name<'a>(definitions: &'a Json, key: &str) -> BTreeMap<String, &'a Json> {
    let objects = definitions.get(key).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    objects.iter().filter_map(|object| Some((object.get("name")?.as_str()?.to_owned(), object))).collect()
}

fn changed_fields(old: &Json, new: &Json) -> Vec<(String, Json, Json)> {
    let keys =
        |json: &Json| -> Vec<String> { json.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default() };
    let mut names = keys(old);
    names.extend(keys(new).into_iter().filter(|name| old.get(name).is_none()));
    let value = |json: &Json, name: &str| json.get(name).cloned().unwrap_or(Json::Null);
    names
        .into_iter()
        .filter(|name| old.get(name) != new.get(name))
        .map(|name| {
            let (before, after) = (value(old, &name), value(new, &name));
            (name, before, after)
        })
        .collect()
}

fn created(kind: &str, name: &str, after: &Definitions) -> Vec<String> {
    match (kind, after.feature_view(name)) {
        ("feature view", Some(view)) if view.online => {
            let table = table_of(after, view);
            let others: Vec<&str> = after
                .feature_views
                .iter()
                .filter(|other| other.online && other.name != view.name && table_of(after, other) == table)
                .map(|other| other.name.as_str())
                .collect();
            let mut consequences = vec!["served after the next `mezze materialize`".to_owned()];
            if table.is_empty() {
                consequences.push("has no entities: its one row is part of the manifest and costs no read".to_owned());
            } else if others.is_empty() {
                consequences.push(format!("is a table of its own ({table}): one page read an entity"));
            } else {
                consequences.push(format!("is packed with {} ({table}): no further page read an entity", others.join(", ")));
            }
            consequences
        }
        ("feature service", _) => vec!["served with the next snapshot".to_owned()],
        ("on-demand feature view", _) if after.on_demand_feature_view(name).is_some_and(|view| view.write_to_online_store) => {
            vec!["served once the whole history is materialised: run `mezze materialize`".to_owned()]
        }
        ("on-demand feature view", _) => match unserved_inputs(name, after).as_slice() {
            [] => vec!["computed in joins at once, and served with the next snapshot".to_owned()],
            views => {
                vec![format!("computed in joins; not served, since {} is not online (`online: false`)", views.join(", "))]
            }
        },
        _ => vec![],
    }
}

fn deleted(kind: &str, name: &str, before: &Definitions) -> Vec<String> {
    match kind {
        "feature view" if before.feature_view(name).is_some_and(|view| view.online) => {
            vec!["no longer served from the next snapshot on; requests for it then get status 404".to_owned()]
        }
        "feature service" | "on-demand feature view" => {
            vec!["no longer served from the next snapshot on; requests for it then get status 404".to_owned()]
        }
        _ => vec![],
    }
}

fn updated(kind: &str, name: &str, fields: &[(String, Json, Json)], before: &Definitions, after: &Definitions) -> Vec<String> {
    let changed = |key: &str| fields.iter().any(|(name, _, _)| name == key);
    let mut consequences = Vec::new();
    match kind {
        "entity" if changed("value_type") || changed("join_keys") => {
            consequences
                .push("every table with this key is built anew: run `mezze materialize` over the whole history".to_owned());
        }
        "source" if changed("path") || changed("timestamp_field") || changed("field_mapping") => {
            consequences.push("the next `mezze materialize-incremental` reads all of its files again".to_owned());
        }
        "feature service" => consequences.push("takes effect with the next snapshot".to_owned()),
        "on-demand feature view"
            if changed("write_to_online_store")
                || after.on_demand_feature_view(name).is_some_and(|view| view.write_to_online_store) =>
        {
            consequences.push(
                "joins compute it as it is now; served rows are those of before until the whole history is materialised: run `mezze materialize`"
                    .to_owned(),
            );
        }
        "on-demand feature view" if changed("schema") || changed("sources") || changed("transform") => consequences.push(
            "joins compute it as it is now, served is the old one until the next snapshot; models may have to be trained anew"
                .to_owned(),
        ),
        "feature view" => {
            let (Some(old), Some(new)) = (before.feature_view(name), after.feature_view(name)) else { return consequences };
            view_updated(&changed, old, new, before, after, &mut consequences);
        }
        _ => {}
    }
    consequences
}

fn view_updated(
    changed: &dyn Fn(&str) -> bool,
    old: &FeatureView,
    new: &FeatureView,
    before: &Definitions,
    after: &Definitions,
    consequences: &mut Vec<String>,
) {
    if changed("ttl") && old.online && new.online {
        consequences.push("the new ttl counts in joins at once, and in serving from the next snapshot on".to_owned());
    }
    if changed("schema") {
        let type_of = |view: &FeatureView, name: &str| {
            view.schema.iter().find(|feature| feature.name == name).map(|feature| feature.value_type.clone())
        };
        for feature in &new.schema {
            match type_of(old, &feature.name) {
                None => consequences.push(format!("`{}` is new: null until the next `mezze materialize`", feature.name)),
                Some(was) if was != feature.value_type => consequences.push(format!(
                    "`{}` changes from {was} to {}: snapshots keep the old type until the next `mezze materialize`",
                    feature.name, feature.value_type
                )),
                Some(_) => {}
            }
        }
        for feature in old.schema.iter().filter(|feature| type_of(new, &feature.name).is_none()) {
            consequences.push(format!("`{}` is no longer served from the next snapshot on", feature.name));
        }
    }
    if changed("source") || changed("entities") {
        consequences.push("its rows are other rows now: run `mezze materialize` over the whole history".to_owned());
    }
    if old.online && new.online && table_of(before, old) != table_of(after, new) {
        consequences.push(format!(
            "moves from table {} to {}: both are written anew with the next snapshot",
            table_of(before, old),
            table_of(after, new)
        ));
    }
    if changed("available_after") || changed("available") {
        consequences.push("training sets made from now on see its rows at other times".to_owned());
    }
    if changed("audience") {
        consequences.push("publishing to browsers and plug-in hosts is checked against it".to_owned());
    }
    if changed("online") {
        consequences.push(if new.online {
            "served after the next `mezze materialize`".to_owned()
        } else {
            "no longer served from the next snapshot on".to_owned()
        });
    }
}

impl Diff {
    /// Whether anything changes.
    pub fn is_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The difference for programs.
    pub fn to_json(&self) -> Json {
        let changes: Vec<Json> = self
            .changes
            .iter()
            .map(|change| {
                let fields: Vec<Json> = change
                    .fields
                    .iter()
                    .map(|(name, before, after)| json!({ "key": name, "before": before, "after": after }))
                    .collect();
                json!({
                    "action": change.action.name(), "kind": change.kind, "name": change.name, "fields": fields,
                    "consequences": change.consequences,
                })
            })
            .collect();
        json!({ "changes": changes, "unchanged": self.unchanged })
    }
}

/// For people: a line an object, its changes and what they mean below it.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            let sign = match change.action {
                Action::Create => '+',
                Action::Delete => '-',
                Action::Update => '~',
            };
            writeln!(f, "{sign} {} {}", change.kind, change.name)?;
            for (name, before, after) in &change.fields {
                writeln!(f, "    {name}: {before} -> {after}")?;
            }
            for consequence in &change.consequences {
                writeln!(f, "    {consequence}")?;
            }
        }
        let count = |action| self.changes.iter().filter(|change| change.action == action).count();
        writeln!(
            f,
            "{} to create, {} to update, {} to delete, {} unchanged",
            count(Action::Create),
            count(Action::Update),
            count(Action::Delete),
            self.unchanged
        )
    }
}
