//! Definitions as JSON, in the form of a definition file: what the registry holds and `--output json` prints.

use mezze_core::{Audience, FeatureSchema, Span, TransformLimits};
use serde_json::{Map, Value as Json, json};

use crate::definitions::{
    About, Availability, Definitions, FeatureView, OnDemandFeatureView, OnFault, SourceFormat, TransformSource,
};

/// The definitions in the form of one definition file. What is as it is by default is left out.
pub fn to_json(definitions: &Definitions) -> Json {
    let entities: Vec<Json> = definitions
        .entities
        .iter()
        .map(|entity| {
            let value_type = entity.value_type.to_string();
            object(
                json!({ "name": entity.name, "join_keys": [entity.join_key], "value_type": value_type }),
                &entity.about,
                |_| {},
            )
        })
        .collect();
    let sources: Vec<Json> = definitions
        .sources
        .iter()
        .map(|source| {
            let json = json!({ "name": source.name, "path": source.path, "timestamp_field": source.timestamp_field });
            object(json, &source.about, |fields| {
                if let Some(format) = source.format {
                    fields.insert("format".into(), json!(format_name(format)));
                }
                if let Some(column) = &source.created_timestamp_column {
                    fields.insert("created_timestamp_column".into(), json!(column));
                }
                if !source.field_mapping.is_empty() {
                    fields.insert("field_mapping".into(), json!(source.field_mapping));
                }
            })
        })
        .collect();
    let request_sources: Vec<Json> = definitions
        .request_sources
        .iter()
        .map(|source| object(json!({ "name": source.name, "schema": schema(&source.schema) }), &source.about, |_| {}))
        .collect();
    let feature_views: Vec<Json> = definitions.feature_views.iter().map(view).collect();
    let on_demand: Vec<Json> = definitions.on_demand_feature_views.iter().map(on_demand_view).collect();
    let feature_services: Vec<Json> = definitions
        .feature_services
        .iter()
        .map(|service| {
            let features: Vec<Json> = service
                .projections
                .iter()
                .map(|projection| {
                    let mut fields = Map::new();
                    fields.insert("view".into(), json!(projection.view));
                    if !projection.features.is_empty() {
                        fields.insert("features".into(), json!(projection.features));
                    }
                    if let Some(alias) = &projection.alias {
                        fields.insert("alias".into(), json!(alias));
                    }
                    if !projection.join_key_map.is_empty() {
                        fields.insert("join_key_map".into(), json!(projection.join_key_map));
                    }
                    Json::Object(fields)
                })
                .collect();
            object(json!({ "name": service.name, "features": features }), &service.about, |fields| {
                if !service.request_sources.is_empty() {
                    fields.insert("request_sources".into(), json!(service.request_sources));
                }
            })
        })
        .collect();
    let mut json = json!({
        "entities": entities, "sources": sources, "request_sources": request_sources, "feature_views": feature_views,
        "feature_services": feature_services,
    });
    // Definitions without any have the digest that they had before there were any.
    if let (false, Some(fields)) = (on_demand.is_empty(), json.as_object_mut()) {
        fields.insert("on_demand_feature_views".into(), Json::Array(on_demand));
    }
    json
}

fn on_demand_view(view: &OnDemandFeatureView) -> Json {
    let features: Vec<Json> = view
        .features
        .iter()
        .map(|feature| {
            let dtype = feature.schema.value_type.to_string();
            let mut fields = json!({ "name": feature.schema.name, "dtype": dtype });
            if let (None, Some(fields)) = (&view.transform, fields.as_object_mut()) {
                fields.insert("expression".into(), json!(feature.expression));
            }
            fields
        })
        .collect();
    object(json!({ "name": view.name, "sources": view.sources, "schema": features }), &view.about, |fields| {
        if let Some(transform) = &view.transform {
            fields.insert("transform".into(), transform_source(transform));
        }
        if view.write_to_online_store {
            fields.insert("write_to_online_store".into(), json!(true));
        }
    })
}

fn transform_source(transform: &TransformSource) -> Json {
    let mut fields = Map::new();
    fields.insert("component".into(), json!(transform.component));
    if let Some(id) = &transform.id {
        fields.insert("digest".into(), json!(id.to_string()));
    }
    if !transform.inputs.is_empty() {
        fields.insert("inputs".into(), json!(schema(&transform.inputs)));
    }
    let (limits, default) = (&transform.limits, TransformLimits::DEFAULT);
    if limits.fuel != default.fuel {
        fields.insert("fuel".into(), json!(limits.fuel));
    }
    if limits.memory_bytes != default.memory_bytes {
        fields.insert("memory".into(), json!(limits.memory_bytes));
    }
    if limits.output_bytes != default.output_bytes {
        fields.insert("output".into(), json!(limits.output_bytes));
    }
    if limits.millis != default.millis {
        fields.insert("time".into(), json!(format!("{}ms", limits.millis)));
    }
    if transform.on_fault == OnFault::Null {
        fields.insert("on_error".into(), json!("nulls"));
    }
    Json::Object(fields)
}

fn view(view: &FeatureView) -> Json {
    let json = json!({
        "name": view.name, "entities": view.entities, "source": view.source, "ttl": view.ttl.to_string(),
        "schema": schema(&view.schema),
    });
    object(json, &view.about, |fields| {
        if !view.online {
            fields.insert("online".into(), json!(false));
        }
        if view.available_after != Span::ZERO {
            fields.insert("available_after".into(), json!(view.available_after.to_string()));
        }
        if view.availability == Availability::Created {
            fields.insert("available".into(), json!("created"));
        }
        if view.audience == Audience::Public {
            fields.insert("audience".into(), json!("public"));
        }
        if let Some(group) = &view.group {
            fields.insert("group".into(), json!(group));
        }
        fields.insert("retain".into(), json!(view.retain.to_string()));
        if view.lateness != Span::ZERO {
            fields.insert("lateness".into(), json!(view.lateness.to_string()));
        }
    })
}

fn schema(fields: &[FeatureSchema]) -> Vec<Json> {
    fields.iter().map(|field| json!({ "name": field.name, "dtype": field.value_type.to_string() })).collect()
}

/// Adds what objects of every kind have.
fn object(json: Json, about: &About, more: impl FnOnce(&mut Map<String, Json>)) -> Json {
    let Json::Object(mut fields) = json else { return json };
    more(&mut fields);
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

/// The name of a format in the files.
pub(crate) const fn format_name(format: SourceFormat) -> &'static str {
    match format {
        SourceFormat::Arrow => "arrow",
        SourceFormat::Csv => "csv",
        SourceFormat::Json => "json",
        SourceFormat::Parquet => "parquet",
    }
}

/// The digest of definitions: BLAKE3 of their JSON with the project's name before it.
pub fn digest(definitions: &Definitions) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(definitions.project.as_bytes());
    hasher.update(b"\n");
    hasher.update(to_json(definitions).to_string().as_bytes());
    hasher.finalize().into()
}
