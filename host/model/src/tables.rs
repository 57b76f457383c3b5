//! From definitions to what a manifest holds: tables, services and request sources.

use std::collections::BTreeMap;

use mezze_core::{
    Audience, FeatureSchema, KeyColumn, KeyType, ManifestRequestSource, ON_DEMAND_TABLE, OnDemandInput, OnDemandView, Service,
    ServiceProjection, TableSchema, ViewSchema,
};

use crate::definitions::{Definitions, FeatureView, Projection};
use crate::on_demand::{OnDemandColumn, in_order, on_demand_program};

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
    // What is computed when a view is materialised lies where that view's own features do, as rows of the same times.
    for on_demand in &definitions.on_demand_feature_views {
        let Some(view) = definitions.written_from(on_demand) else { continue };
        let keys = key_columns(definitions, view);
        let features = on_demand.features.iter().map(|feature| feature.schema.clone()).collect();
        let schema = ViewSchema::new(&on_demand.name, view.ttl, view.audience, features);
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

/// The on-demand views that can be computed from these tables, each after those that it is computed from. One that takes features of
/// views that are not online, or whose expressions are wrong, is left out.
pub fn on_demand_views(definitions: &Definitions, tables: &[TableSchema]) -> Vec<OnDemandView> {
    let mut views: Vec<OnDemandView> = Vec::new();
    for view in in_order(definitions).into_iter().filter(|view| definitions.written_from(view).is_none()) {
        let Ok(compiled) = on_demand_program(definitions, view) else { continue };
        let inputs = compiled.columns.iter().map(|column| input(definitions, tables, &views, column)).collect::<Option<Vec<_>>>();
        let Some(inputs) = inputs else { continue };
        let features = view.features.iter().map(|feature| feature.schema.clone()).collect();
        views.push(OnDemandView { name: view.name.clone(), inputs, features, compute: compiled.compute });
    }
    views
}

fn input(
    definitions: &Definitions,
    tables: &[TableSchema],
    before: &[OnDemandView],
    column: &OnDemandColumn,
) -> Option<OnDemandInput> {
    let number = |place: usize| u16::try_from(place).ok();
    let of = |features: &[FeatureSchema], name: &String| number(features.iter().position(|known| known.name == *name)?);
    Some(match column {
        OnDemandColumn::Feature { view, feature } => {
            if let Some(place) = before.iter().position(|known| known.name == *view) {
                let feature = of(&before.get(place)?.features, feature)?;
                return Some(OnDemandInput::OnDemand { view: number(place)?, feature });
            }
            tables.iter().zip(0_u16..).find_map(|(table, table_number)| {
                let place = table.views.iter().position(|known| known.name == *view)?;
                let feature = of(&table.views.get(place)?.features, feature)?;
                Some(OnDemandInput::Feature { table: table_number, view: number(place)?, feature })
            })?
        }
        OnDemandColumn::JoinKey { entity } => {
            let entity = definitions.entity(entity)?;
            OnDemandInput::JoinKey { name: entity.join_key.clone(), key_type: KeyType::of(&entity.value_type)? }
        }
        OnDemandColumn::Now => OnDemandInput::Now,
        // Only joins ask for it.
        OnDemandColumn::RowTime { .. } => return None,
        OnDemandColumn::Request { source, field } => {
            let place = definitions.request_sources.iter().position(|known| known.name == *source)?;
            let field = of(&definitions.request_sources.get(place)?.schema, field)?;
            OnDemandInput::Request { source: number(place)?, field }
        }
    })
}

/// The feature services as reads from these tables and on-demand views. A service with views that are not served is left out.
pub fn services(definitions: &Definitions, tables: &[TableSchema], on_demand: &[OnDemandView]) -> Vec<Service> {
    definitions
        .feature_services
        .iter()
        .filter_map(|service| {
            let projections = service
                .projections
                .iter()
                .map(|projection| project(projection, tables, on_demand))
                .collect::<Option<Vec<_>>>()?;
            let request_sources = service
                .request_sources
                .iter()
                .map(|name| u16::try_from(definitions.request_sources.iter().position(|source| source.name == *name)?).ok())
                .collect::<Option<Vec<_>>>()?;
            Some(Service { name: service.name.clone(), projections, request_sources })
        })
        .collect()
}

fn project(projection: &Projection, tables: &[TableSchema], on_demand: &[OnDemandView]) -> Option<ServiceProjection> {
    let selected = |features: &[FeatureSchema]| -> Option<Vec<u16>> {
        let place = |name: &String| features.iter().position(|feature| feature.name == *name);
        if projection.features.is_empty() {
            return Some((0..u16::try_from(features.len()).ok()?).collect());
        }
        projection.features.iter().map(|name| u16::try_from(place(name)?).ok()).collect()
    };
    if let Some(place) = on_demand.iter().position(|view| view.name == projection.view) {
        return Some(ServiceProjection {
            table: ON_DEMAND_TABLE,
            view: u16::try_from(place).ok()?,
            alias: projection.alias.clone(),
            join_key_map: Vec::new(),
            features: selected(&on_demand.get(place)?.features)?,
        });
    }
    tables.iter().zip(0_u16..).find_map(|(table, number)| {
        let view = table.views.iter().position(|view| view.name == projection.view)?;
        let schema = table.views.get(view)?;
        let features = selected(&schema.features)?;
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
