//! The columns of a source.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Cursor, Read};
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::json::reader::infer_json_schema_from_iterator;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use mezze_core::{StructField, Timestamp, ValueType};
use mezze_model::SourceFormat;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::MetadataFetch;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use serde_json::Value as Json;

use crate::error::{OfflineError, Result};
use crate::source::{SourceFile, SourceFiles};

/// How much of a CSV or JSON file is looked at to tell the types of its columns.
const SAMPLE_BYTES: u64 = 4 << 20;
/// How many files are looked at together.
const CONCURRENT: usize = 16;
/// What an Arrow IPC file begins with; a stream does not.
pub(crate) const ARROW_FILE_MAGIC: &[u8] = b"ARROW1";

/// The Arrow type that columns of a value type have: instants in nanoseconds, UUIDs, decimals and JSON as text.
pub fn arrow_type(value_type: &ValueType) -> DataType {
    match value_type {
        ValueType::Bool => DataType::Boolean,
        ValueType::Bytes => DataType::Binary,
        ValueType::Float32 => DataType::Float32,
        ValueType::Float64 => DataType::Float64,
        ValueType::Int32 => DataType::Int32,
        ValueType::Int64 => DataType::Int64,
        ValueType::Decimal
        | ValueType::Json
        | ValueType::String
        | ValueType::TimeUuid
        | ValueType::Uuid
        | ValueType::ZonedTimestamp => DataType::Utf8,
        ValueType::UnixTimestamp => instant(TimeUnit::Nanosecond),
        ValueType::List(element) | ValueType::Set(element) => DataType::new_list(arrow_type(element), true),
        ValueType::Map(value) => {
            let key = Field::new("key", DataType::Utf8, false);
            let value = Field::new("value", arrow_type(value), true);
            let entry = DataType::Struct(Fields::from(vec![key, value]));
            DataType::Map(Arc::new(Field::new("entries", entry, false)), false)
        }
        ValueType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| Field::new(&field.name, arrow_type(&field.value_type), true)).collect())
        }
    }
}

/// The value type that fits an Arrow column best, or `None` where none does.
pub fn value_type(data_type: &DataType) -> Option<ValueType> {
    Some(match data_type {
        DataType::Boolean => ValueType::Bool,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => ValueType::Int32,
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => ValueType::Int64,
        DataType::Float16 | DataType::Float32 => ValueType::Float32,
        DataType::Float64 => ValueType::Float64,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ValueType::String,
        DataType::FixedSizeBinary(16) => ValueType::Uuid,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => ValueType::Bytes,
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => ValueType::UnixTimestamp,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            ValueType::Decimal
        }
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => ValueType::List(Box::new(value_type(element.data_type())?)),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => match (fields.first(), fields.get(1)) {
                (Some(key), Some(value)) if value_type(key.data_type()) == Some(ValueType::String) => {
                    ValueType::Map(Box::new(value_type(value.data_type())?))
                }
                _ => return None,
            },
            _ => return None,
        },
        DataType::Struct(fields) => {
            let field = |field: &FieldRef| Some(StructField::new(field.name(), value_type(field.data_type())?));
            ValueType::Struct(fields.iter().map(field).collect::<Option<_>>()?)
        }
        DataType::Dictionary(_, value) => value_type(value)?,
        DataType::RunEndEncoded(_, values) => value_type(values.data_type())?,
        _ => return None,
    })
}

/// Instants in UTC.
pub(crate) fn instant(unit: TimeUnit) -> DataType {
    DataType::Timestamp(unit, Some("UTC".into()))
}

/// An Arrow type as messages name it: in the words of the definitions where they have one.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Timestamp(unit, zone) => {
            let unit = match unit {
                TimeUnit::Second => "s",
                TimeUnit::Millisecond => "ms",
                TimeUnit::Microsecond => "us",
                TimeUnit::Nanosecond => "ns",
            };
            match zone {
                Some(zone) => format!("timestamp[{unit}, {zone}]"),
                None => format!("timestamp[{unit}]"),
            }
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytes".to_owned(),
        DataType::Dictionary(_, value) => type_name(value),
        other => other.to_string().to_lowercase(),
    }
}

/// The columns of a source: those of its files, which must agree, then those of its partition folders.
///
/// Parquet and Arrow files say their types. Of CSV and JSON files the begin is looked at: numbers, `true` and `false`, and text
/// that is an RFC 3339 date and time get those types, unless `declared` says another.
pub async fn source_schema(files: &SourceFiles, declared: &BTreeMap<String, DataType>) -> Result<SchemaRef> {
    let columns = file_schema(files, declared).await?;
    // A file may repeat what its folder says; the folder counts.
    let partitions = files.partition_fields();
    let own = columns.fields().iter().filter(|field| partitions.iter().all(|partition| partition.name() != field.name()));
    let fields: Vec<FieldRef> = own.cloned().chain(partitions.iter().cloned().map(Arc::new)).collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// The columns that the files themselves have, all of them nullable.
pub(crate) async fn file_schema(files: &SourceFiles, declared: &BTreeMap<String, DataType>) -> Result<SchemaRef> {
    let schema = match files.format {
        SourceFormat::Parquet => agreed(files, parquet_schemas(files).await?)?,
        SourceFormat::Arrow => {
            let samples = samples(files).await?;
            let schemas = files.files.iter().zip(&samples).map(|(file, sample)| arrow_schema(&file.name, &sample.bytes));
            agreed(files, schemas.collect::<Result<_>>()?)?
        }
        SourceFormat::Csv => csv_schema(files, &samples(files).await?, declared)?,
        SourceFormat::Json => json_schema(files, &samples(files).await?, declared)?,
    };
    if matches!(files.format, SourceFormat::Csv | SourceFormat::Json)
        && let (Some(file), Some(field)) =
            (files.files.first(), schema.fields().iter().find(|field| has_bytes(field.data_type())))
    {
        let reason = "text files cannot hold bytes; use Parquet or Arrow".to_owned();
        return Err(OfflineError::FileColumn { file: file.name.clone(), column: field.name().clone(), reason });
    }
    let nullable = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true).with_metadata(Default::default()));
    Ok(Arc::new(Schema::new(schema.fields().iter().map(nullable).collect::<Vec<_>>())))
}

fn has_bytes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Binary => true,
        DataType::List(element) => has_bytes(element.data_type()),
        DataType::Map(entries, _) => has_bytes(entries.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_bytes(field.data_type())),
        _ => false,
    }
}

/// The schema of the first file, if those of the others have the same columns, in any order.
fn agreed(files: &SourceFiles, schemas: Vec<SchemaRef>) -> Result<SchemaRef> {
    let mut pairs = files.files.iter().zip(schemas);
    let Some((first_file, first)) = pairs.next() else { return Ok(Arc::new(Schema::empty())) };
    unique(&first_file.name, &first)?;
    for (file, schema) in pairs {
        unique(&file.name, &schema)?;
        let found = |schema: &Schema, column: &str| {
            schema.column_with_name(column).map_or_else(|| "missing".to_owned(), |(_, field)| type_name(field.data_type()))
        };
        let differs = |column: &String| {
            let types = [&first, &schema].map(|schema| schema.column_with_name(column).map(|(_, field)| field.data_type()));
            types[0] != types[1]
        };
        let names = first.fields().iter().chain(schema.fields()).map(|field| field.name());
        if let Some(column) = names.into_iter().find(|column| differs(column)) {
            return Err(OfflineError::SchemasDiffer {
                column: column.clone(),
                first: first_file.name.clone(),
                first_type: found(&first, column),
                second: file.name.clone(),
                second_type: found(&schema, column),
            });
        }
    }
    Ok(first)
}

/// Refuses a file with two columns of one name.
fn unique(file: &str, schema: &Schema) -> Result<()> {
    let mut seen = BTreeSet::new();
    match schema.fields().iter().find(|field| !seen.insert(field.name())) {
        None => Ok(()),
        Some(field) => Err(OfflineError::FileColumn {
            file: file.to_owned(),
            column: field.name().clone(),
            reason: "several columns have this name".to_owned(),
        }),
    }
}

/// Reads ranges of one file for the Parquet footer.
struct Fetch<'a>(&'a SourceFile);

impl MetadataFetch for Fetch<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        let file = self.0;
        async move { file.store.get_range(&file.location, range).await.map_err(|error| ParquetError::External(Box::new(error))) }
            .boxed()
    }
}

/// The schema in each Parquet file's footer.
async fn parquet_schemas(files: &SourceFiles) -> Result<Vec<SchemaRef>> {
    let one = |file: SourceFile| async move {
        let failed = |error| not_parquet(&file.name, error);
        if file.size < 8 {
            return Err(failed(ParquetError::General(format!("it has {} bytes", file.size))));
        }
        let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(64 << 10));
        let metadata = reader.load_and_finish(Fetch(&file), file.size).await.map_err(failed)?;
        let arrow = ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new()).map_err(failed)?;
        Ok(Arc::clone(arrow.schema()))
    };
    futures::stream::iter(files.files.clone()).map(one).buffered(CONCURRENT).try_collect().await
}

/// The error of a file that cannot be read as Parquet.
pub(crate) fn not_parquet(file: &str, error: ParquetError) -> OfflineError {
    let reason = match error {
        ParquetError::External(inner) => match inner.downcast::<object_store::Error>() {
            Ok(source) => return OfflineError::Store { file: file.to_owned(), source: *source },
            Err(other) => other.to_string(),
        },
        ParquetError::General(reason) | ParquetError::EOF(reason) => reason,
        other => other.to_string(),
    };
    OfflineError::NotOfFormat { file: file.to_owned(), format: "a Parquet", reason }
}

/// The begin of a file.
struct Sample {
    bytes: Bytes,
    /// Whether it is all of the file.
    whole: bool,
}

async fn samples(files: &SourceFiles) -> Result<Vec<Sample>> {
    let one = |file: SourceFile| async move {
        let end = file.size.min(SAMPLE_BYTES);
        if end == 0 {
            return Ok(Sample { bytes: Bytes::new(), whole: true });
        }
        let bytes = file.store.get_range(&file.location, 0..end).await;
        let bytes = bytes.map_err(|source| OfflineError::Store { file: file.name.clone(), source })?;
        Ok(Sample { bytes, whole: end == file.size })
    };
    futures::stream::iter(files.files.clone()).map(one).buffered(CONCURRENT).try_collect().await
}

/// The schema that an Arrow file or stream begins with.
fn arrow_schema(file: &str, bytes: &[u8]) -> Result<SchemaRef> {
    // A file is its magic, zeros up to its alignment, then a stream, then its footer.
    let stream = match bytes.strip_prefix(ARROW_FILE_MAGIC) {
        Some(rest) => rest.get(rest.iter().take_while(|byte| **byte == 0).count()..).unwrap_or_default(),
        None => bytes,
    };
    let reader = StreamReader::try_new(Cursor::new(stream), None).map_err(|error| not_arrow(file, &error))?;
    Ok(reader.schema())
}

/// The error of a file that cannot be read as Arrow.
pub(crate) fn not_arrow(file: &str, error: &ArrowError) -> OfflineError {
    let reason = match error {
        ArrowError::IpcError(reason) | ArrowError::ParseError(reason) => reason.clone(),
        other => other.to_string(),
    };
    OfflineError::NotOfFormat { file: file.to_owned(), format: "an Arrow IPC", reason }
}

/// What the texts of a column look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looks {
    Bool,
    Float,
    Instant,
    Int,
    Text,
}

impl Looks {
    fn of(text: &str) -> Self {
        if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
            return Self::Bool;
        }
        // `007` is a name, not a number.
        let digits = text.strip_prefix('-').unwrap_or(text);
        let padded = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
        if !padded && text.parse::<i64>().is_ok() {
            return Self::Int;
        }
        let number = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E');
        let is_float =
            (text.bytes().all(number) && text.contains(['.', 'e', 'E']) && !padded) || text.eq_ignore_ascii_case("nan");
        if is_float && text.parse::<f64>().is_ok() {
            return Self::Float;
        }
        if is_date_and_time(text) { Self::Instant } else { Self::Text }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Self::Float,
            _ => Self::Text,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Float => DataType::Float64,
            Self::Instant => instant(TimeUnit::Nanosecond),
            Self::Int => DataType::Int64,
            Self::Text => DataType::Utf8,
        }
    }
}

/// Whether a text is a date and time. A date alone is left as text.
fn is_date_and_time(text: &str) -> bool {
    text.len() > 10 && Timestamp::parse(text).is_some()
}

/// The header of a CSV file, and a reader of what comes after it.
pub(crate) fn csv_reader<R: Read>(file: &str, input: R) -> Result<(Vec<String>, csv::Reader<R>)> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).has_headers(true).from_reader(input);
    let header = match reader.byte_headers() {
        Ok(header) => {
            header.iter().map(|name| std::str::from_utf8(name).map(str::to_owned)).collect::<std::result::Result<_, _>>()
        }
        Err(error) => return Err(OfflineError::BadLine { file: file.to_owned(), line: 1, reason: error.to_string() }),
    };
    let header: Vec<String> = header.map_err(|_| bad_line(file, 1, "the header is not UTF-8"))?;
    if header.is_empty() {
        return Err(bad_line(file, 1, "the file is empty: a header line with the names of the columns is needed"));
    }
    let mut seen = BTreeSet::new();
    if let Some(name) = header.iter().find(|name| !seen.insert(*name)) {
        return Err(bad_line(file, 1, &format!("the header names column {name} twice")));
    }
    Ok((header, reader))
}

pub(crate) fn bad_line(file: &str, line: u64, reason: &str) -> OfflineError {
    OfflineError::BadLine { file: file.to_owned(), line, reason: reason.to_owned() }
}

/// The sample up to its last whole line.
fn whole_lines(sample: &Sample) -> &[u8] {
    let bytes = sample.bytes.as_ref();
    if sample.whole {
        return bytes;
    }
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
    bytes.get(..end).unwrap_or(bytes)
}

fn csv_schema(files: &SourceFiles, samples: &[Sample], declared: &BTreeMap<String, DataType>) -> Result<SchemaRef> {
    let mut looks: BTreeMap<String, Looks> = BTreeMap::new();
    let mut headers = Vec::new();
    for (file, sample) in files.files.iter().zip(samples) {
        let (header, mut reader) = csv_reader(&file.name, whole_lines(sample))?;
        let mut record = csv::ByteRecord::new();
        // A line that cannot be read ends the sample; the reading of the file itself reports it.
        while let Ok(true) = reader.read_byte_record(&mut record) {
            for (name, field) in
                header.iter().zip(&record).filter(|(name, field)| !field.is_empty() && !declared.contains_key(*name))
            {
                let look = std::str::from_utf8(field).map_or(Looks::Text, Looks::of);
                looks.entry(name.clone()).and_modify(|known| *known = known.and(look)).or_insert(look);
            }
        }
        headers.push(header);
    }
    let schema = |header: &Vec<String>| {
        let field = |name: &String| {
            let inferred = || looks.get(name).copied().unwrap_or(Looks::Text).data_type();
            Field::new(name, declared.get(name).cloned().unwrap_or_else(inferred), true)
        };
        Arc::new(Schema::new(header.iter().map(field).collect::<Vec<_>>()))
    };
    agreed(files, headers.iter().map(schema).collect())
}

fn json_schema(files: &SourceFiles, samples: &[Sample], declared: &BTreeMap<String, DataType>) -> Result<SchemaRef> {
    let mut order: Vec<String> = Vec::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut instants: BTreeMap<String, bool> = BTreeMap::new();
    let mut objects = Vec::new();
    for (file, sample) in files.files.iter().zip(samples) {
        for (index, line) in whole_lines(sample).lines().enumerate() {
            let line_number = index as u64 + 1;
            let line = line.map_err(|_| bad_line(&file.name, line_number, "not UTF-8"))?;
            if line.trim().is_empty() {
                continue;
            }
            let mut object = match serde_json::from_str(&line) {
                Ok(Json::Object(object)) => object,
                Ok(_) => return Err(bad_line(&file.name, line_number, "not a JSON object: one object a line is needed")),
                Err(error) => {
                    return Err(bad_line(&file.name, line_number, &format!("not a JSON object: {}", json_reason(&error))));
                }
            };
            for (name, value) in &object {
                if seen.insert(name.clone()) {
                    order.push(name.clone());
                }
                if !value.is_null() {
                    let instant = value.as_str().is_some_and(is_date_and_time);
                    instants.entry(name.clone()).and_modify(|all| *all &= instant).or_insert(instant);
                }
            }
            object.retain(|name, value| !declared.contains_key(name) && !value.is_null());
            objects.push(Json::Object(object));
        }
    }
    let inferred = infer_json_schema_from_iterator(objects.into_iter().map(Ok::<_, ArrowError>))?;
    let field = |name: &String| {
        let inferred = || match inferred.column_with_name(name).map(|(_, field)| field.data_type()) {
            Some(DataType::Utf8) if instants.get(name) == Some(&true) => instant(TimeUnit::Nanosecond),
            Some(DataType::Null) | None => DataType::Utf8,
            Some(other) => other.clone(),
        };
        Field::new(name, declared.get(name).cloned().unwrap_or_else(inferred), true)
    };
    // Objects may leave nulls out: after a part of the files, a declared column that was not seen may still come.
    if samples.iter().any(|sample| !sample.whole) {
        order.extend(declared.keys().filter(|name| !seen.contains(*name)).cloned());
    }
    Ok(Arc::new(Schema::new(order.iter().map(field).collect::<Vec<_>>())))
}

/// What is wrong with a line of JSON, without the line number of its own that serde_json adds.
pub(crate) fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((reason, _)) => format!("{reason} at column {}", error.column()),
        None => text,
    }
}
