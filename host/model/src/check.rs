//! Definitions against the real schemas of their sources.

use std::collections::BTreeMap;

use mezze_core::{FeatureSchema, ValueType};

use crate::definitions::{Definitions, Source};
use crate::on_demand::on_demand_program;
use crate::problem::{Problem, instead};

/// A column of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceColumn {
    /// Its name in the source.
    pub name: String,
    /// Its type as the source has it, for messages.
    pub type_name: String,
    /// What its values can be taken for; `None` where they can be nothing that Mezze has.
    pub value_type: Option<ValueType>,
}

/// Checks every view against the columns of its source, and gives the views without a schema all further columns as features.
/// Sources that are not in `columns` go unchecked.
pub fn check_against(definitions: &mut Definitions, columns: &BTreeMap<String, Vec<SourceColumn>>) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut add = |message: String| found.push(Problem { place: String::new(), message });
    for source in &definitions.sources {
        let Some(columns) = columns.get(&source.name) else { continue };
        check_source(source, columns, &mut add);
    }
    let mut inferred: Vec<(usize, Vec<FeatureSchema>)> = Vec::new();
    for (number, view) in definitions.feature_views.iter().enumerate() {
        let Some(source) = definitions.source(&view.source) else { continue };
        let Some(columns) = columns.get(&source.name) else {
            if view.schema.is_empty() {
                add(format!("feature view `{}` has no schema, and its source was not looked at; give it a schema", view.name));
            }
            continue;
        };
        let names = || columns.iter().map(|column| column.name.as_str());
        let column_of = |name: &str| {
            let column = source.column_of(name);
            columns.iter().find(|known| known.name == column).ok_or_else(|| column.to_owned())
        };
        for entity in definitions.entities_of(view) {
            match column_of(&entity.join_key) {
                Err(column) => add(format!(
                    "feature view `{}`: source `{}` has no column `{column}` for the join key of entity `{}`{}",
                    view.name,
                    source.name,
                    entity.name,
                    instead(&column, names())
                )),
                Ok(column) if !column.value_type.as_ref().is_some_and(|found| key_fits(found, &entity.value_type)) => {
                    add(format!(
                        "feature view `{}`: the join key `{}` is {}, its column in source `{}` is {}; correct the entity's value_type \
                         or the source",
                        view.name, entity.join_key, entity.value_type, source.name, column.type_name
                    ));
                }
                Ok(_) => {}
            }
        }
        for feature in &view.schema {
            match column_of(&feature.name) {
                Err(column) => add(format!(
                    "feature view `{}`: source `{}` has no column `{column}` for the feature `{}`{}",
                    view.name,
                    source.name,
                    feature.name,
                    instead(&column, names())
                )),
                Ok(column) if !column.value_type.as_ref().is_some_and(|found| fits(found, &feature.value_type)) => add(format!(
                    "feature view `{}`: the feature `{}` is {}, its column in source `{}` is {}, which does not convert to it",
                    view.name, feature.name, feature.value_type, source.name, column.type_name
                )),
                Ok(_) => {}
            }
        }
        if view.schema.is_empty() {
            let keys: Vec<&str> = definitions.entities_of(view).map(|entity| entity.join_key.as_str()).collect();
            let features: Vec<FeatureSchema> = columns
                .iter()
                .filter(|column| {
                    column.name != source.timestamp_field && Some(&column.name) != source.created_timestamp_column.as_ref()
                })
                .filter_map(|column| {
                    let name = source.field_mapping.get(&column.name).unwrap_or(&column.name);
                    let value_type = column.value_type.clone()?;
                    (!keys.contains(&name.as_str())).then(|| FeatureSchema::new(name, value_type))
                })
                .collect();
            if features.is_empty() {
                add(format!("feature view `{}`: source `{}` has no columns but keys and times", view.name, source.name));
            }
            inferred.push((number, features));
        }
    }
    let was_inferred = !inferred.is_empty();
    for (number, features) in inferred {
        let Some(view) = definitions.feature_views.get_mut(number) else { continue };
        view.schema = features;
        for service in &mut definitions.feature_services {
            for projection in service.projections.iter_mut().filter(|projection| projection.view == view.name) {
                let unknown = projection.features.iter().find(|name| !view.schema.iter().any(|known| known.name == **name));
                if let Some(feature) = unknown {
                    let instead = instead(feature, view.schema.iter().map(|known| known.name.as_str()));
                    let message = format!(
                        "feature service `{}`: the feature view `{}` has no feature `{feature}`{instead}",
                        service.name, view.name
                    );
                    found.push(Problem { place: String::new(), message });
                }
                if projection.features.is_empty() {
                    projection.features = view.schema.iter().map(|feature| feature.name.clone()).collect();
                }
            }
        }
    }
    // Expressions over views whose features were not known when the files were read.
    if was_inferred && found.is_empty() {
        for view in &definitions.on_demand_feature_views {
            for (_, message) in on_demand_program(definitions, view).err().unwrap_or_default() {
                found.push(Problem { place: String::new(), message });
            }
        }
    }
    found
}

fn check_source(source: &Source, columns: &[SourceColumn], add: &mut dyn FnMut(String)) {
    let names = || columns.iter().map(|column| column.name.as_str());
    let mut check_time = |key: &str, name: &str| match columns.iter().find(|column| column.name == name) {
        None => add(format!("source `{}` has no column `{name}`, its {key}{}", source.name, instead(name, names()))),
        Some(column) if column.value_type != Some(ValueType::UnixTimestamp) => add(format!(
            "source `{}`: its {key} `{name}` is {}, expected a timestamp or a date; convert it in the source",
            source.name, column.type_name
        )),
        Some(_) => {}
    };
    check_time("timestamp_field", &source.timestamp_field);
    if let Some(created) = &source.created_timestamp_column {
        check_time("created_timestamp_column", created);
    }
    for column in source.field_mapping.keys() {
        if !columns.iter().any(|known| known.name == *column) {
            add(format!(
                "source `{}` has no column `{column}`, which its field_mapping renames{}",
                source.name,
                instead(column, names())
            ));
        }
    }
}

/// Whether a source's key column can be compared with entity rows of the entity's type.
fn key_fits(found: &ValueType, declared: &ValueType) -> bool {
    let is_int = |value_type: &ValueType| matches!(value_type, ValueType::Int32 | ValueType::Int64);
    let is_uuid = |value_type: &ValueType| matches!(value_type, ValueType::Uuid | ValueType::TimeUuid);
    found == declared
        || is_int(found) && is_int(declared)
        || is_uuid(declared) && matches!(found, ValueType::String | ValueType::Bytes | ValueType::Uuid | ValueType::TimeUuid)
}

/// Whether a source's values can be features of the declared type without loss of meaning.
fn fits(found: &ValueType, declared: &ValueType) -> bool {
    use ValueType::{
        Bool, Bytes, Decimal, Float32, Float64, Int32, Int64, Json, List, Map, Set, String, Struct, TimeUuid, UnixTimestamp,
        Uuid, ZonedTimestamp,
    };
    match (found, declared) {
        (found, declared) if found == declared => true,
        (Int32 | Int64, Int32 | Int64 | Float32 | Float64 | Decimal) => true,
        (Float32 | Float64, Float32 | Float64) => true,
        (Bool, Int32 | Int64) => true,
        (String, Json | Decimal | Uuid | TimeUuid | Bytes | ZonedTimestamp) => true,
        (Bytes, Uuid | TimeUuid) => true,
        (UnixTimestamp, ZonedTimestamp) => true,
        (List(found) | Set(found), List(declared) | Set(declared)) | (Map(found), Map(declared)) => fits(found, declared),
        (Struct(found), Struct(declared)) => declared
            .iter()
            .all(|wanted| found.iter().any(|field| field.name == wanted.name && fits(&field.value_type, &wanted.value_type))),
        _ => false,
    }
}
