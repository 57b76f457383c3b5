//! A task as bytes. Columns and their types are in Arrow's own format, the rest in that of Protocol Buffers.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::concat;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use datafusion::error::DataFusionError;
use datafusion::scalar::ScalarValue;
use mezze_core::{Span, Timestamp};
use mezze_model::SourceFormat;
use mezze_offline::pit::{PitFeature, PitKey, PitView};
use mezze_offline::{FilePart, OfflineError, SourceFile, SourceFiles, StoredAt, Task, Work};
use prost::Message;

/// The layout. Client, scheduler and executors are of one version; others are refused.
const VERSION: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct TaskMessage {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, optional, tag = "2")]
    view: Option<ViewMessage>,
    #[prost(uint32, tag = "3")]
    format: u32,
    #[prost(message, repeated, tag = "4")]
    files: Vec<FileMessage>,
    /// What partition folders say: a row for each file.
    #[prost(bytes = "vec", tag = "5")]
    constants: Vec<u8>,
    /// The columns to read, without rows.
    #[prost(bytes = "vec", tag = "6")]
    schema: Vec<u8>,
    #[prost(message, optional, tag = "7")]
    part: Option<PartMessage>,
    #[prost(oneof = "WorkMessage", tags = "8, 9")]
    work: Option<WorkMessage>,
    /// The columns of the result, without rows.
    #[prost(bytes = "vec", tag = "10")]
    output: Vec<u8>,
}

/// What a scheduler needs to know of a task: it opens no store, and may have no credentials for any.
#[derive(Clone, PartialEq, Message)]
struct OutlineMessage {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, optional, tag = "2")]
    view: Option<NameMessage>,
    #[prost(bytes = "vec", tag = "10")]
    output: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct NameMessage {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ViewMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    keys: Vec<KeyMessage>,
    #[prost(string, tag = "3")]
    timestamp_column: String,
    #[prost(string, optional, tag = "4")]
    created_column: Option<String>,
    #[prost(int64, tag = "5")]
    ttl_nanos: i64,
    #[prost(int64, tag = "6")]
    available_after_nanos: i64,
    #[prost(bool, tag = "7")]
    available_created: bool,
    /// The source's columns of the features.
    #[prost(string, repeated, tag = "8")]
    feature_columns: Vec<String>,
    /// Names and types of the features, without rows.
    #[prost(bytes = "vec", tag = "9")]
    features: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyMessage {
    #[prost(string, tag = "1")]
    source_column: String,
    #[prost(string, tag = "2")]
    entity_column: String,
}

#[derive(Clone, PartialEq, Message)]
struct FileMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    size: u64,
    #[prost(string, optional, tag = "3")]
    etag: Option<String>,
    #[prost(int64, tag = "4")]
    last_modified_nanos: i64,
    /// The path, if the file is in the file system.
    #[prost(string, optional, tag = "5")]
    path: Option<String>,
    /// Otherwise the store, and where the file is there.
    #[prost(string, tag = "6")]
    store: String,
    #[prost(string, tag = "7")]
    location: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct PartMessage {
    #[prost(uint32, tag = "1")]
    index: u32,
    #[prost(uint32, tag = "2")]
    count: u32,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WorkMessage {
    #[prost(message, tag = "8")]
    Join(JoinMessage),
    #[prost(message, tag = "9")]
    Newest(NewestMessage),
}

#[derive(Clone, PartialEq, Message)]
struct JoinMessage {
    #[prost(bytes = "vec", tag = "1")]
    rows: Vec<u8>,
    #[prost(string, tag = "2")]
    timestamp_column: String,
    #[prost(bool, tag = "3")]
    filter_by_created: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct NewestMessage {
    #[prost(int64, optional, tag = "1")]
    start_nanos: Option<i64>,
    #[prost(int64, tag = "2")]
    end_nanos: i64,
}

/// A task as bytes.
pub(crate) fn encode(task: &Task) -> Result<Vec<u8>, Unusable> {
    let view = &task.view;
    let features = view.features.iter().map(|feature| Field::new(&feature.output_name, feature.data_type.clone(), true));
    let mut files = Vec::with_capacity(task.files.files.len());
    for file in &task.files.files {
        let (path, store, location) = match file.stored_at() {
            StoredAt::File(path) => {
                let text = path.to_str().ok_or_else(|| unusable(&format!("the path {} is not UTF-8", path.display())))?;
                (Some(text.to_owned()), String::new(), String::new())
            }
            StoredAt::Store { url, location } => (None, url, location),
        };
        files.push(FileMessage {
            name: file.name.clone(),
            size: file.size,
            etag: file.etag.clone(),
            last_modified_nanos: file.last_modified.nanos(),
            path,
            store,
            location,
        });
    }
    let work = match &task.work {
        Work::Join { rows, timestamp_column, filter_by_created } => WorkMessage::Join(JoinMessage {
            rows: to_ipc(&rows.schema(), Some(rows))?,
            timestamp_column: timestamp_column.clone(),
            filter_by_created: *filter_by_created,
        }),
        Work::Newest { start, end } => {
            WorkMessage::Newest(NewestMessage { start_nanos: start.map(Timestamp::nanos), end_nanos: end.nanos() })
        }
        _ => return Err(unusable("there is no message for it")),
    };
    let message = TaskMessage {
        version: VERSION,
        view: Some(ViewMessage {
            name: view.name.clone(),
            keys: view
                .keys
                .iter()
                .map(|key| KeyMessage { source_column: key.source_column.clone(), entity_column: key.entity_column.clone() })
                .collect(),
            timestamp_column: view.timestamp_column.clone(),
            created_column: view.created_column.clone(),
            ttl_nanos: view.ttl.nanos(),
            available_after_nanos: view.available_after.nanos(),
            available_created: view.available_created,
            feature_columns: view.features.iter().map(|feature| feature.source_column.clone()).collect(),
            features: to_ipc(&Arc::new(Schema::new(features.collect::<Vec<_>>())), None)?,
        }),
        format: FORMATS
            .iter()
            .position(|format| *format == task.files.format)
            .and_then(|at| u32::try_from(at).ok())
            .ok_or_else(|| unusable("its files are of a format without a number"))?,
        files,
        constants: constants_to_ipc(&task.files)?,
        schema: to_ipc(&task.schema, None)?,
        part: task.part.map(|part| PartMessage { index: part.index, count: part.count }),
        work: Some(work),
        output: to_ipc(&task.output_schema()?, None)?,
    };
    Ok(message.encode_to_vec())
}

/// The view's name and the columns of the result.
pub(crate) fn outline(bytes: &[u8]) -> Result<(String, SchemaRef), Unusable> {
    let message = OutlineMessage::decode(bytes).map_err(|error| unusable(&error.to_string()))?;
    check_version(message.version)?;
    Ok((message.view.map(|view| view.name).unwrap_or_default(), from_ipc(&message.output)?.0))
}

fn check_version(version: u32) -> Result<(), Unusable> {
    if version == VERSION {
        return Ok(());
    }
    Err(unusable(&format!(
        "it is of version {version}, expected {VERSION}: client, scheduler and executors have to be of one version of mezze"
    )))
}

/// A task from bytes.
pub(crate) fn decode(bytes: &[u8]) -> Result<Task, Unusable> {
    let message = TaskMessage::decode(bytes).map_err(|error| unusable(&error.to_string()))?;
    check_version(message.version)?;
    let view = message.view.ok_or_else(|| unusable("it has no view"))?;
    let format = usize::try_from(message.format).ok().and_then(|at| FORMATS.get(at)).copied();
    let (features, _) = from_ipc(&view.features)?;
    if features.fields().len() != view.feature_columns.len() {
        return Err(unusable("its features and their columns differ in number"));
    }
    let features = features.fields().iter().zip(view.feature_columns).map(|(field, source_column)| PitFeature {
        source_column,
        output_name: field.name().clone(),
        data_type: field.data_type().clone(),
    });
    let work = match message.work.ok_or_else(|| unusable("it has no work"))? {
        WorkMessage::Join(join) => {
            let (schema, rows) = from_ipc(&join.rows)?;
            Work::Join {
                rows: rows.unwrap_or_else(|| RecordBatch::new_empty(schema)),
                timestamp_column: join.timestamp_column,
                filter_by_created: join.filter_by_created,
            }
        }
        WorkMessage::Newest(newest) => {
            Work::Newest { start: newest.start_nanos.map(Timestamp::from_nanos), end: Timestamp::from_nanos(newest.end_nanos) }
        }
    };
    let files = SourceFiles {
        format: format.ok_or_else(|| unusable("its files are of an unknown format"))?,
        files: decode_files(message.files, &message.constants)?,
    };
    Ok(Task {
        view: PitView {
            name: view.name,
            files: Vec::new(),
            keys: view
                .keys
                .into_iter()
                .map(|key| PitKey { source_column: key.source_column, entity_column: key.entity_column })
                .collect(),
            timestamp_column: view.timestamp_column,
            created_column: view.created_column,
            ttl: Span::from_nanos(view.ttl_nanos),
            available_after: Span::from_nanos(view.available_after_nanos),
            available_created: view.available_created,
            features: features.collect(),
        },
        files,
        part: message.part.map(|part| FilePart { index: part.index, count: part.count }),
        schema: from_ipc(&message.schema)?.0,
        work,
    })
}

/// In the order of their numbers.
const FORMATS: [SourceFormat; 4] = [SourceFormat::Arrow, SourceFormat::Csv, SourceFormat::Json, SourceFormat::Parquet];

fn decode_files(messages: Vec<FileMessage>, constants: &[u8]) -> Result<Vec<SourceFile>, Unusable> {
    let (schema, constants) = from_ipc(constants)?;
    if constants.as_ref().is_some_and(|constants| constants.num_rows() != messages.len()) {
        return Err(unusable("its files and what their folders say differ in number"));
    }
    // Files of a store share what connects to it.
    let mut stores = HashMap::new();
    let mut files = Vec::with_capacity(messages.len());
    for (row, message) in messages.into_iter().enumerate() {
        let at = match message.path {
            Some(path) => StoredAt::File(PathBuf::from(path)),
            None => StoredAt::Store { url: message.store, location: message.location },
        };
        let (mut store, location, local) = at.open()?;
        if let StoredAt::Store { url, .. } = at {
            store = Arc::clone(stores.entry(url).or_insert(store));
        }
        let mut own = Vec::with_capacity(schema.fields().len());
        if let Some(constants) = &constants {
            for (field, column) in schema.fields().iter().zip(constants.columns()) {
                own.push((field.name().clone(), ScalarValue::try_from_array(column, row)?));
            }
        }
        files.push(SourceFile {
            store,
            location,
            local,
            size: message.size,
            constants: own,
            last_modified: Timestamp::from_nanos(message.last_modified_nanos),
            etag: message.etag,
            name: message.name,
        });
    }
    Ok(files)
}

/// A row for each file, of what its partition folders say.
fn constants_to_ipc(files: &SourceFiles) -> Result<Vec<u8>, Unusable> {
    let schema = Arc::new(Schema::new(files.partition_fields()));
    let mut columns: Vec<ArrayRef> = Vec::new();
    for column in 0..schema.fields().len() {
        let values = files.files.iter().map(|file| match file.constants.get(column) {
            Some((_, value)) => value.to_array(),
            None => Err(DataFusionError::Internal("a file lacks a partition folder".to_owned())),
        });
        let values: Vec<ArrayRef> = values.collect::<Result<_, _>>()?;
        columns.push(concat(&values.iter().map(AsRef::as_ref).collect::<Vec<_>>())?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(files.files.len()));
    let rows = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
    to_ipc(&schema, Some(&rows))
}

fn to_ipc(schema: &SchemaRef, rows: Option<&RecordBatch>) -> Result<Vec<u8>, Unusable> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), schema, options)?;
    if let Some(rows) = rows {
        writer.write(rows)?;
    }
    Ok(writer.into_inner()?)
}

fn from_ipc(bytes: &[u8]) -> Result<(SchemaRef, Option<RecordBatch>), Unusable> {
    let mut reader = StreamReader::try_new(Cursor::new(bytes), None)?;
    let schema = reader.schema();
    Ok((schema, reader.next().transpose()?))
}

/// Why a task cannot be passed on.
#[derive(Debug, thiserror::Error)]
#[error("a task cannot be passed on: {0}")]
pub(crate) struct Unusable(String);

fn unusable(reason: &str) -> Unusable {
    Unusable(reason.to_owned())
}

macro_rules! from_library_error {
    ($($error:ty)*) => {$(
        impl From<$error> for Unusable {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        }
    )*};
}

from_library_error! { ArrowError DataFusionError OfflineError }

impl From<Unusable> for OfflineError {
    fn from(error: Unusable) -> Self {
        Self::Workers { reason: error.to_string() }
    }
}
