//! The columns of a source, as definitions are checked against them.

use std::collections::BTreeMap;
use std::path::Path;

use mezze_model::{Definitions, Entity, Source, SourceColumn};

use crate::error::Result;
use crate::inspect::{source_schema, type_name, value_type};
use crate::prepare::declared_types;
use crate::source::resolve;

/// The columns that a source really has. CSV and JSON, which say no types, are read with those that the views declare.
///
/// # Errors
/// Where the source's files are not there, cannot be read or do not agree.
pub async fn source_columns(repo: &Path, definitions: &Definitions, source: &Source) -> Result<Vec<SourceColumn>> {
    let mut declared = BTreeMap::new();
    for view in definitions.feature_views.iter().filter(|view| view.source == source.name) {
        let entities: Vec<&Entity> = definitions.entities_of(view).collect();
        declared.extend(declared_types(view, source, &entities));
    }
    let files = resolve(repo, &source.path, source.format, &declared).await?;
    let schema = source_schema(&files, &declared).await?;
    Ok(schema
        .fields()
        .iter()
        .map(|field| SourceColumn {
            name: field.name().clone(),
            type_name: type_name(field.data_type()),
            value_type: value_type(field.data_type()),
        })
        .collect())
}
