//! A feature view's source, ready to be joined.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use mezze_core::ValueType;
use mezze_model::{Availability, Definitions, Entity, FeatureView, Source};

use crate::entity_rows::column_names;
use crate::error::{OfflineError, Result, hint};
use crate::features::{SelectedView, source_column};
use crate::inspect::{arrow_type, instant, source_schema, type_name};
use crate::pit::{PitFeature, PitFile, PitKey, PitView};
use crate::source::{SourceFile, SourceFiles, resolve};
use crate::spill::{Spill, spill};

/// A view whose source is found, checked and in Parquet files. Keep it until the join is done: its temporary files are
/// removed when it is dropped.
#[derive(Debug)]
pub struct PreparedView {
    /// What the join needs to know. The types of its features are those of the source. It has no files if others read them.
    pub view: PitView,
    /// The types that the view declares for its features, in order: what to cast the joined columns to.
    pub output_types: Vec<DataType>,
    /// The source's files, as they were found.
    pub files: SourceFiles,
    /// The columns of the source that the join reads: keys, times, features.
    pub schema: SchemaRef,
    pub(crate) spill: Spill,
}

/// Finds a view's source, checks that it has the view's columns and that their types fit, and makes it Parquet.
pub async fn prepare_view(repo: &Path, definitions: &Definitions, selected: &SelectedView) -> Result<PreparedView> {
    prepare_view_of(repo, definitions, selected, Reader::Here, async |_: &SourceFile| Ok(true)).await
}

/// Who reads a view's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Other processes, which make them Parquet where they are not.
    Elsewhere,
    /// This process.
    Here,
}

/// [`prepare_view`] with only those files of the source that `keep` says. All of them are checked.
pub(crate) async fn prepare_view_of(
    repo: &Path,
    definitions: &Definitions,
    selected: &SelectedView,
    reader: Reader,
    mut keep: impl AsyncFnMut(&SourceFile) -> Result<bool>,
) -> Result<PreparedView> {
    let unknown = |kind: &str, name: &str, names: Vec<&str>| OfflineError::Unknown {
        kind: kind.to_owned(),
        name: name.to_owned(),
        hint: hint(name, names),
    };
    let view = definitions.feature_view(&selected.view).ok_or_else(|| {
        unknown("feature view", &selected.view, definitions.feature_views.iter().map(|view| view.name.as_str()).collect())
    })?;
    let source = definitions.source(&view.source).ok_or_else(|| {
        unknown("source", &view.source, definitions.sources.iter().map(|source| source.name.as_str()).collect())
    })?;
    let entities: Vec<&Entity> = definitions.entities_of(view).collect();
    let declared = declared_types(view, source, &entities);
    let mut files = resolve(repo, &source.path, source.format, &declared).await?;
    let schema = source_schema(&files, &declared).await?;
    let mut needed = Needed { view, source, schema: &schema, columns: BTreeSet::new() };
    needed.instant(&source.timestamp_field, "timestamp_field")?;
    if let Some(created) = &source.created_timestamp_column {
        needed.instant(created, "created_timestamp_column")?;
    }
    for entity in &entities {
        let column = source.column_of(&entity.join_key);
        let found = needed.column(column, &format!("join key {}", entity.join_key))?;
        if matches!(found, DataType::Float16 | DataType::Float32 | DataType::Float64) {
            let needed = format!("but join key {} cannot be a float: equal keys must have equal bytes", entity.join_key);
            return Err(source_type(view, source, column, found, needed));
        }
    }
    let mut types = Vec::with_capacity(selected.features.len());
    for feature in &selected.features {
        let column = source_column(source, &feature.name);
        let found = needed.column(column, &format!("feature {}", feature.name))?.clone();
        let output = output_type(&feature.value_type, &found).ok_or_else(|| {
            let needed = format!("but feature {} is declared as {}", feature.name, feature.value_type);
            source_type(view, source, column, &found, needed)
        })?;
        types.push((found, output));
    }
    let columns = needed.columns;
    let wanted = schema.fields().iter().filter(|field| columns.contains(field.name())).cloned();
    let schema: SchemaRef = Arc::new(Schema::new(wanted.collect::<Vec<FieldRef>>()));
    let mut kept = Vec::with_capacity(files.files.len());
    for file in std::mem::take(&mut files.files) {
        if keep(&file).await? {
            kept.push(file);
        }
    }
    files.files = kept;
    let (parquet, guard) = match reader {
        Reader::Here => spill(&files, &schema).await?,
        Reader::Elsewhere => (Vec::new(), Spill::none()),
    };
    let (source_types, output_types): (Vec<DataType>, Vec<DataType>) = types.into_iter().unzip();
    let view = pit_view(view, source, &entities, selected, &source_types, parquet);
    Ok(PreparedView { view, output_types, files, schema, spill: guard })
}

/// What the join needs to know of a view: `entities` are the view's, `types` those of the source's columns of the selected
/// features, in order, and `files` the rows as Parquet.
pub fn pit_view(
    view: &FeatureView,
    source: &Source,
    entities: &[&Entity],
    selected: &SelectedView,
    types: &[DataType],
    files: Vec<PitFile>,
) -> PitView {
    let key = |entity: &&Entity| PitKey {
        source_column: source.column_of(&entity.join_key).to_owned(),
        entity_column: selected.entity_column(&entity.join_key).to_owned(),
    };
    let features = selected.features.iter().zip(types).map(|(feature, data_type)| PitFeature {
        source_column: source_column(source, &feature.name).to_owned(),
        output_name: feature.output_name.clone(),
        data_type: data_type.clone(),
    });
    PitView {
        name: selected.name.clone(),
        files,
        keys: entities.iter().map(key).collect(),
        timestamp_column: source.timestamp_field.clone(),
        created_column: source.created_timestamp_column.clone(),
        ttl: view.ttl,
        available_after: view.available_after,
        available_created: view.availability == Availability::Created,
        features: features.collect(),
    }
}

/// The types that a view declares for columns of its source, which text formats and partition folders cannot tell.
pub(crate) fn declared_types(view: &FeatureView, source: &Source, entities: &[&Entity]) -> BTreeMap<String, DataType> {
    let keys = entities.iter().map(|entity| (source.column_of(&entity.join_key), arrow_type(&entity.value_type)));
    let features = view.schema.iter().map(|feature| (source.column_of(&feature.name), arrow_type(&feature.value_type)));
    let times = [Some(&source.timestamp_field), source.created_timestamp_column.as_ref()];
    let times = times.into_iter().flatten().map(|column| (column.as_str(), instant(TimeUnit::Nanosecond)));
    features.chain(keys).chain(times).map(|(column, data_type)| (column.to_owned(), data_type)).collect()
}

fn source_type(view: &FeatureView, source: &Source, column: &str, found: &DataType, needed: String) -> OfflineError {
    OfflineError::SourceType {
        view: view.name.clone(),
        source_name: source.name.clone(),
        column: column.to_owned(),
        found: type_name(found),
        needed,
    }
}

/// Collects the columns that a view needs of its source.
struct Needed<'a> {
    view: &'a FeatureView,
    source: &'a Source,
    schema: &'a SchemaRef,
    columns: BTreeSet<String>,
}

impl<'a> Needed<'a> {
    fn column(&mut self, column: &str, role: &str) -> Result<&'a DataType> {
        let (_, field) = self.schema.column_with_name(column).ok_or_else(|| OfflineError::SourceColumn {
            view: self.view.name.clone(),
            source_name: self.source.name.clone(),
            column: column.to_owned(),
            role: role.to_owned(),
            columns: column_names(self.schema),
        })?;
        self.columns.insert(column.to_owned());
        Ok(field.data_type())
    }

    fn instant(&mut self, column: &str, role: &str) -> Result<()> {
        match self.column(column, role)? {
            // A date is its midnight in UTC.
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Ok(()),
            found => {
                let needed = format!("but as {role} it needs to be a timestamp");
                Err(source_type(self.view, self.source, column, found, needed))
            }
        }
    }
}

/// The Arrow type that a feature of `declared` type has in a data set, where the source's column is `found`; `None` if such a
/// column does not hold such values.
fn output_type(declared: &ValueType, found: &DataType) -> Option<DataType> {
    let found = match found {
        DataType::Dictionary(_, value) => value.as_ref(),
        DataType::RunEndEncoded(_, values) => values.data_type(),
        other => other,
    };
    let text = matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let decimal =
        matches!(found, DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..));
    let number = found.is_integer() || found.is_floating() || decimal;
    let fits = match declared {
        ValueType::Bool => *found == DataType::Boolean,
        ValueType::Int32 | ValueType::Int64 => found.is_integer(),
        ValueType::Float32 | ValueType::Float64 => number,
        ValueType::String | ValueType::Json => text,
        ValueType::Decimal => text || decimal || found.is_integer(),
        ValueType::Bytes => {
            matches!(found, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
        }
        ValueType::Uuid | ValueType::TimeUuid => {
            // Bytes stay bytes: as text they would be hexadecimal without hyphens at best.
            if *found == DataType::FixedSizeBinary(16) {
                return Some(found.clone());
            }
            text
        }
        ValueType::UnixTimestamp => match found {
            // The source's unit: none of its digits and none of its range is lost.
            DataType::Timestamp(unit, _) => return Some(instant(*unit)),
            DataType::Date32 | DataType::Date64 => return Some(instant(TimeUnit::Microsecond)),
            _ => false,
        },
        ValueType::ZonedTimestamp => match found {
            DataType::Timestamp(..) => return Some(found.clone()),
            _ => text,
        },
        ValueType::List(element) | ValueType::Set(element) => match found {
            DataType::List(inner)
            | DataType::LargeList(inner)
            | DataType::ListView(inner)
            | DataType::LargeListView(inner)
            | DataType::FixedSizeList(inner, _) => {
                let output = DataType::new_list(output_type(element, inner.data_type())?, true);
                return can_cast_types(found, &output).then_some(output);
            }
            _ => false,
        },
        ValueType::Map(_) => crate::value_type(found).is_some_and(|found| matches!(found, ValueType::Map(_))),
        ValueType::Struct(fields) => match found {
            DataType::Struct(inner) => {
                let output = fields.iter().map(|field| {
                    let (_, found) = inner.find(&field.name)?;
                    Some(Field::new(&field.name, output_type(&field.value_type, found.data_type())?, true))
                });
                let output = DataType::Struct(output.collect::<Option<_>>()?);
                return can_cast_types(found, &output).then_some(output);
            }
            _ => false,
        },
    };
    let output = arrow_type(declared);
    (fits && can_cast_types(found, &output)).then_some(output)
}
