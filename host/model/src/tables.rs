//! From definitions to what a manifest holds: tables, services and request sources.

use std::collections::BTreeMap;

use mezze_core::{Audience, KeyColumn, KeyType, ManifestRequestSource, Service, ServiceProjection, TableSchema, ViewSchema};

use crate::definitions::{Definitions, FeatureView, Projection};

/// The tables that the online views are packed into, in order of name: the views that share join keys, their types, `group` and
/// audience are one table, so that an entity costs one read whatever the number of its views, and a page that anyone may hold has
/// nothing that only servers may.
pub fn tables(definitions: &Definitions) -> Vec<TableSchema> {
    let mut tables: BTreeMap<String, (Vec<KeyColumn>, Vec<ViewSchema>)> = BTreeMap::new();
    for view in definitions.feature_views.iter().filter(|view| view.online) {
        let keys = key_columns(definitions, view);
        let schema = ViewSchema::new(&view.name, view.ttl, view.audience, view.schema.clone());
        tables.entry(table_name(&keys, view)).or_insert_with(|| (keys, Vec::new())).1.push(schema);
    }
    tables.into_iter().map(|(name, (keys, views))| TableSchema::new(name, keys, views)).collect()
}

/// The table that a view is packed into.
pub fn table_of(definitions: &Definitions, view: &FeatureView) -> String {
    table_name(&key_columns(definitions, view), view)
}

fn key_columns(definitions: &Definitions, view: &FeatureView) -> Vec<KeyColumn> {
    let mut keys: Vec<KeyColumn> = definitions
        .entities_of(view)
        .filter_map(|entity| Some(KeyColumn::new(&entity.join_key, &entity.name, KeyType::of(&entity.value_type)?)))
        .collect();
    keys.sort_by(|a, b| a.join_key.cmp(&b.join_key));
    keys
}

/// The join keys, with their types where they are not integers (two entities may have one join key of different types), the group,
/// and whether anyone may hold it.
fn table_name(keys: &[KeyColumn], view: &FeatureView) -> String {
    let keys: Vec<String> = keys
        .iter()
        .map(|key| match key.key_type {
            KeyType::Int => key.join_key.clone(),
            other => format!("{}:{}", key.join_key, other.name()),
        })
        .collect();
    let name = keys.join("+");
    match (view.group.as_deref(), view.audience) {
        (None, Audience::Server) => name,
        (None | Some("public"), Audience::Public) => format!("{name}/public"),
        (Some("public"), Audience::Server) => format!("{name}/public/server"),
        (Some(group), Audience::Server) => format!("{name}/{group}"),
        (Some(group), Audience::Public) => format!("{name}/{group}/public"),
    }
}

/// The feature services as reads from these tables. A service with views that are not online is left out.
pub fn services(definitions: &Definitions, tables: &[TableSchema]) -> Vec<Service> {
    definitions
        .feature_services
        .iter()
        .filter_map(|service| {
            let projections =
                service.projections.iter().map(|projection| project(projection, tables)).collect::<Option<Vec<_>>>()?;
            let request_sources = service
                .request_sources
                .iter()
                .map(|name| u16::try_from(definitions.request_sources.iter().position(|source| source.name == *name)?).ok())
                .collect::<Option<Vec<_>>>()?;
            Some(Service { name: service.name.clone(), projections, request_sources })
        })
        .collect()
}

fn project(projection: &Projection, tables: &[TableSchema]) -> Option<ServiceProjection> {
    tables.iter().zip(0_u16..).find_map(|(table, number)| {
        let view = table.views.iter().position(|view| view.name == projection.view)?;
        let schema = table.views.get(view)?;
        let place = |name: &String| schema.features.iter().position(|feature| feature.name == *name);
        let features = if projection.features.is_empty() {
            (0..u16::try_from(schema.features.len()).ok()?).collect()
        } else {
            projection.features.iter().map(|name| u16::try_from(place(name)?).ok()).collect::<Option<Vec<_>>>()?
        };
        Some(ServiceProjection {
            table: number,
            view: u16::try_from(view).ok()?,
            alias: projection.alias.clone(),
            join_key_map: projection.join_key_map.iter().map(|(key, column)| (key.clone(), column.clone())).collect(),
            features,
        })
    })
}

/// The request sources, in the definitions' order, which is what [`services`] counts by.
pub fn request_sources(definitions: &Definitions) -> Vec<ManifestRequestSource> {
    definitions
        .request_sources
        .iter()
        .map(|source| ManifestRequestSource { name: source.name.clone(), fields: source.schema.clone() })
        .collect()
}
