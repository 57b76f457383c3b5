//! `mezze entities`, `data-sources`, `feature-views`, `feature-services`, `features`, `request-sources`: list and describe

use mezze_model::{About, Definitions, FeatureView};
use serde_json::{Map, Value as Json, json};

use crate::args::{Global, ObjectAction, ObjectArgs};
use crate::context::{Context, block_on};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, Table, pretty};

/// A kind of object that can be listed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Entity,
    Feature,
    FeatureService,
    FeatureView,
    OnDemandFeatureView,
    RequestSource,
    Source,
}

pub(crate) fn run(kind: Kind, args: &ObjectArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    // What is applied counts, as in joins and snapshots.
    let definitions = block_on(None, async { Ok(context.applied().await?.definitions) })?;
    let objects = kind.objects(&definitions);
    match &args.action {
        None | Some(ObjectAction::List) => output.result(
            || json!(objects.iter().map(|object| &object.json).collect::<Vec<_>>()),
            || {
                let mut table = Table::new(kind.headings());
                objects.iter().for_each(|object| table.row(object.cells.clone()));
                table.render(output)
            },
        ),
        Some(ObjectAction::Describe { name }) => {
            let object = objects.iter().find(|object| object.name == *name).ok_or_else(|| {
                let known: Vec<&str> = objects.iter().map(|object| object.name.as_str()).take(12).collect();
                let failure = Failure::input(format!("no {} is called `{name}`", kind.noun()));
                if known.is_empty() {
                    failure.hint("there are none")
                } else {
                    failure.hint(format!("there are {}", known.join(", ")))
                }
            })?;
            output.line(&pretty(&object.json))
        }
    }
}

/// An object to show: a table's row, and all that is known of it.
struct Object {
    name: String,
    cells: Vec<String>,
    json: Json,
}

impl Kind {
    const fn noun(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::Feature => "feature",
            Self::FeatureService => "feature service",
            Self::FeatureView => "feature view",
            Self::OnDemandFeatureView => "on-demand feature view",
            Self::RequestSource => "request source",
            Self::Source => "data source",
        }
    }

    const fn headings(self) -> &'static [&'static str] {
        match self {
            Self::Entity => &["entity", "join key", "type", "description"],
            Self::Feature => &["feature", "view", "type"],
            Self::FeatureService => &["feature service", "views", "features#", "description"],
            Self::FeatureView => &["feature view", "entities", "source", "ttl", "features#", "online", "description"],
            Self::OnDemandFeatureView => &["on-demand feature view", "sources", "features#", "description"],
            Self::RequestSource => &["request source", "fields", "description"],
            Self::Source => &["data source", "path", "timestamp", "created", "description"],
        }
    }

    fn objects(self, definitions: &Definitions) -> Vec<Object> {
        match self {
            Self::Entity => definitions
                .entities
                .iter()
                .map(|entity| Object {
                    name: entity.name.clone(),
                    cells: vec![
                        entity.name.clone(),
                        entity.join_key.clone(),
                        entity.value_type.to_string(),
                        entity.about.description.clone(),
                    ],
                    json: with_about(
                        &entity.about,
                        json!({
                            "name": entity.name, "join_keys": [entity.join_key], "value_type": entity.value_type.to_string(),
                        }),
                    ),
                })
                .collect(),
            Self::Feature => definitions
                .feature_views
                .iter()
                .flat_map(|view| view.schema.iter().map(move |feature| (view, feature)))
                .map(|(view, feature)| Object {
                    name: format!("{}:{}", view.name, feature.name),
                    cells: vec![feature.name.clone(), view.name.clone(), feature.value_type.to_string()],
                    json: json!({
                        "name": feature.name, "feature_view": view.name, "dtype": feature.value_type.to_string(),
                    }),
                })
                .chain(definitions.on_demand_feature_views.iter().flat_map(|view| {
                    view.features.iter().map(|feature| Object {
                        name: format!("{}:{}", view.name, feature.schema.name),
                        cells: vec![feature.schema.name.clone(), view.name.clone(), feature.schema.value_type.to_string()],
                        json: json!({
                            "name": feature.schema.name, "feature_view": view.name,
                            "dtype": feature.schema.value_type.to_string(), "expression": feature.expression,
                        }),
                    })
                }))
                .collect(),
            Self::FeatureService => definitions
                .feature_services
                .iter()
                .map(|service| {
                    let views: Vec<&str> = service.projections.iter().map(|projection| projection.name_to_use()).collect();
                    let count: usize = service.projections.iter().map(|projection| projection.features.len()).sum();
                    let features: Vec<Json> = service
                        .projections
                        .iter()
                        .map(|projection| {
                            json!({
                                "view": projection.view, "alias": projection.alias,
                                "join_key_map": projection.join_key_map, "features": projection.features,
                            })
                        })
                        .collect();
                    Object {
                        name: service.name.clone(),
                        cells: vec![service.name.clone(), views.join(", "), count.to_string(), service.about.description.clone()],
                        json: with_about(
                            &service.about,
                            json!({
                                "name": service.name, "features": features, "request_sources": service.request_sources,
                            }),
                        ),
                    }
                })
                .collect(),
            Self::FeatureView => definitions.feature_views.iter().map(view_object).collect(),
            Self::OnDemandFeatureView => definitions
                .on_demand_feature_views
                .iter()
                .map(|view| {
                    let features: Vec<Json> = view
                        .features
                        .iter()
                        .map(|feature| {
                            json!({
                                "name": feature.schema.name, "dtype": feature.schema.value_type.to_string(),
                                "expression": feature.expression,
                            })
                        })
                        .collect();
                    Object {
                        name: view.name.clone(),
                        cells: vec![
                            view.name.clone(),
                            view.sources.join(", "),
                            view.features.len().to_string(),
                            view.about.description.clone(),
                        ],
                        json: with_about(&view.about, json!({ "name": view.name, "sources": view.sources, "schema": features })),
                    }
                })
                .collect(),
            Self::RequestSource => definitions
                .request_sources
                .iter()
                .map(|source| {
                    let names: Vec<&str> = source.schema.iter().map(|field| field.name.as_str()).collect();
                    Object {
                        name: source.name.clone(),
                        cells: vec![source.name.clone(), names.join(", "), source.about.description.clone()],
                        json: with_about(&source.about, json!({ "name": source.name, "schema": schema(&source.schema) })),
                    }
                })
                .collect(),
            Self::Source => definitions
                .sources
                .iter()
                .map(|source| Object {
                    name: source.name.clone(),
                    cells: vec![
                        source.name.clone(),
                        source.path.clone(),
                        source.timestamp_field.clone(),
                        source.created_timestamp_column.clone().unwrap_or_else(|| "-".into()),
                        source.about.description.clone(),
                    ],
                    json: with_about(
                        &source.about,
                        json!({
                            "name": source.name, "path": source.path, "timestamp_field": source.timestamp_field,
                            "created_timestamp_column": source.created_timestamp_column,
                            "field_mapping": source.field_mapping,
                        }),
                    ),
                })
                .collect(),
        }
    }
}

fn view_object(view: &FeatureView) -> Object {
    let entities = if view.entities.is_empty() { "-".into() } else { view.entities.join(", ") };
    let ttl = if view.ttl.nanos() == 0 { "for ever".into() } else { view.ttl.to_string() };
    Object {
        name: view.name.clone(),
        cells: vec![
            view.name.clone(),
            entities,
            view.source.clone(),
            ttl.clone(),
            view.schema.len().to_string(),
            if view.online { "yes".into() } else { "no".into() },
            view.about.description.clone(),
        ],
        json: with_about(
            &view.about,
            json!({
                "name": view.name, "entities": view.entities, "source": view.source, "ttl": view.ttl.to_string(),
                "schema": schema(&view.schema), "online": view.online, "available_after": view.available_after.to_string(),
                "audience": format!("{:?}", view.audience).to_lowercase(), "group": view.group,
                "retain": view.retain.to_string(),
            }),
        ),
    }
}

fn schema(fields: &[mezze_core::FeatureSchema]) -> Vec<Json> {
    fields.iter().map(|field| json!({ "name": field.name, "dtype": field.value_type.to_string() })).collect()
}

/// Adds what objects of every kind have, where it is given.
fn with_about(about: &About, json: Json) -> Json {
    let mut fields = match json {
        Json::Object(fields) => fields,
        _ => Map::new(),
    };
    if !about.description.is_empty() {
        fields.insert("description".into(), json!(about.description));
    }
    if !about.owner.is_empty() {
        fields.insert("owner".into(), json!(about.owner));
    }
    if !about.tags.is_empty() {
        fields.insert("tags".into(), json!(about.tags));
    }
    Json::Object(fields)
}
