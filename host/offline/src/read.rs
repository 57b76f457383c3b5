//! Record batches of local files, of any format.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanBuilder, Float32Builder, Float64Builder, Int32Builder, Int64Builder, PrimitiveBuilder, RecordBatch,
    RecordBatchOptions, StringBuilder, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::json::ReaderBuilder;
use futures::TryStreamExt;
use mezze_core::Timestamp;
use mezze_model::SourceFormat;
use object_store::ObjectStoreExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use tempfile::{NamedTempFile, TempPath};

use crate::error::{OfflineError, Result};
use crate::inspect::{ARROW_FILE_MAGIC, bad_line, csv_reader, not_arrow, not_parquet, type_name};
use crate::scratch::Scratch;
use crate::source::SourceFile;

/// Rows of a batch.
pub(crate) const BATCH_ROWS: usize = 8192;

/// A file on this machine: a local source file itself, or a copy of a remote one that goes away with this value.
#[derive(Debug)]
pub(crate) struct LocalCopy {
    path: PathBuf,
    _copy: Option<(TempPath, Arc<Scratch>)>,
}

impl LocalCopy {
    /// Makes a file local.
    pub(crate) async fn of(file: &SourceFile) -> Result<Self> {
        if let Some(path) = &file.local {
            return Ok(Self { path: path.clone(), _copy: None });
        }
        let stored = |source| OfflineError::Store { file: file.name.clone(), source };
        let failed = |source| OfflineError::Read { file: file.name.clone(), source };
        let scratch = Scratch::shared()?;
        let mut copy = NamedTempFile::new_in(scratch.path()).map_err(failed)?;
        let mut chunks = file.store.get(&file.location).await.map_err(stored)?.into_stream();
        while let Some(chunk) = chunks.try_next().await.map_err(stored)? {
            copy.write_all(&chunk).map_err(failed)?;
        }
        copy.flush().map_err(failed)?;
        let copy = copy.into_temp_path();
        Ok(Self { path: copy.to_path_buf(), _copy: Some((copy, scratch)) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Hands the rows of a file, in order, to `sink`, until there are no more or `sink` says `false`. `schema` names the columns to
/// read and their types; `name` is the file's in messages.
pub(crate) fn read_file(
    path: &Path,
    name: &str,
    format: SourceFormat,
    schema: &SchemaRef,
    sink: &mut dyn FnMut(RecordBatch) -> Result<bool>,
) -> Result<()> {
    let file = File::open(path).map_err(|source| OfflineError::Read { file: name.to_owned(), source })?;
    match format {
        SourceFormat::Arrow => read_arrow(file, name, schema, sink),
        SourceFormat::Csv => read_csv(file, name, schema, sink),
        SourceFormat::Json => read_json(file, name, schema, sink),
        SourceFormat::Parquet => read_parquet(file, name, schema, sink),
    }
}

type Sink<'a> = &'a mut dyn FnMut(RecordBatch) -> Result<bool>;

/// A batch of `columns` that may be none.
fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// The columns of a batch that `schema` names, in its order and types.
fn arrange(name: &str, found: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let column = |field: &FieldRef| {
        let missing = || OfflineError::FileColumn {
            file: name.to_owned(),
            column: field.name().clone(),
            reason: "the file does not have it".to_owned(),
        };
        let column = found.column_by_name(field.name()).ok_or_else(missing)?;
        if column.data_type() == field.data_type() {
            return Ok(Arc::clone(column));
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(column, field.data_type(), &options).map_err(|error| OfflineError::FileColumn {
            file: name.to_owned(),
            column: field.name().clone(),
            reason: format!("{} cannot become {}: {error}", type_name(column.data_type()), type_name(field.data_type())),
        })
    };
    batch(schema, schema.fields().iter().map(column).collect::<Result<_>>()?, found.num_rows())
}

fn read_parquet(file: File, name: &str, schema: &SchemaRef, sink: Sink<'_>) -> Result<()> {
    let failed = |error| not_parquet(name, error);
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?;
    let wanted = |field: &FieldRef| schema.column_with_name(field.name()).is_some();
    let roots: Vec<usize> =
        builder.schema().fields().iter().enumerate().filter(|(_, field)| wanted(field)).map(|(index, _)| index).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(failed)?;
    for found in reader {
        let found = found.map_err(|error| match error {
            ArrowError::ParquetError(reason) => not_parquet(name, ParquetError::General(reason)),
            other => not_parquet(name, ParquetError::General(other.to_string())),
        })?;
        if !sink(arrange(name, &found, schema)?)? {
            break;
        }
    }
    Ok(())
}

fn read_arrow(mut file: File, name: &str, schema: &SchemaRef, sink: Sink<'_>) -> Result<()> {
    let failed = |source| OfflineError::Read { file: name.to_owned(), source };
    let mut magic = Vec::new();
    Read::by_ref(&mut file).take(ARROW_FILE_MAGIC.len() as u64).read_to_end(&mut magic).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut put = |found: std::result::Result<RecordBatch, ArrowError>| {
        let found = found.map_err(|error| not_arrow(name, &error))?;
        sink(arrange(name, &found, schema)?)
    };
    if magic == ARROW_FILE_MAGIC {
        for found in FileReader::try_new_buffered(file, None).map_err(|error| not_arrow(name, &error))? {
            if !put(found)? {
                break;
            }
        }
    } else {
        for found in StreamReader::try_new_buffered(file, None).map_err(|error| not_arrow(name, &error))? {
            if !put(found)? {
                break;
            }
        }
    }
    Ok(())
}

/// The values of one CSV column, as they are read.
enum Values {
    Bool(BooleanBuilder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    /// Instants in nanoseconds, and the unit to put out.
    Instant(PrimitiveBuilder<TimestampNanosecondType>, TimeUnit),
    Int32(Int32Builder),
    Int64(Int64Builder),
    /// Nested values: JSON text.
    Nested(Vec<Option<String>>),
    Text(StringBuilder),
}

impl Values {
    /// Values of a type that [`crate::arrow_type`] or the look at a file gives.
    fn new(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Float32 => Self::Float32(Float32Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Timestamp(unit, _) => Self::Instant(PrimitiveBuilder::new(), *unit),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::List(_) | DataType::Map(..) | DataType::Struct(_) => Self::Nested(Vec::new()),
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            _ => return None,
        })
    }

    /// Adds a value; `false` if the text is none of the type.
    fn push(&mut self, text: Option<&str>) -> bool {
        /// The value of a text: a null of no text; nothing where the text is no value.
        fn read<T>(text: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
            text.map_or(Some(None), |text| parse(text).map(Some))
        }
        match self {
            Self::Bool(values) => read(text, parse_bool).map(|value| values.append_option(value)),
            Self::Float32(values) => read(text, |text| text.trim().parse().ok()).map(|value| values.append_option(value)),
            Self::Float64(values) => read(text, |text| text.trim().parse().ok()).map(|value| values.append_option(value)),
            Self::Instant(values, _) => read(text, parse_nanos).map(|value| values.append_option(value)),
            Self::Int32(values) => read(text, |text| text.trim().parse().ok()).map(|value| values.append_option(value)),
            Self::Int64(values) => read(text, |text| text.trim().parse().ok()).map(|value| values.append_option(value)),
            Self::Nested(values) => {
                values.push(text.map(str::to_owned));
                Some(())
            }
            Self::Text(values) => {
                values.append_option(text);
                Some(())
            }
        }
        .is_some()
    }

    fn finish(&mut self, field: &FieldRef, name: &str, lines: &[u64]) -> Result<ArrayRef> {
        Ok(match self {
            Self::Bool(values) => Arc::new(values.finish()),
            Self::Float32(values) => Arc::new(values.finish()),
            Self::Float64(values) => Arc::new(values.finish()),
            Self::Instant(values, unit) => in_unit(&values.finish(), *unit),
            Self::Int32(values) => Arc::new(values.finish()),
            Self::Int64(values) => Arc::new(values.finish()),
            Self::Nested(values) => nested(std::mem::take(values), field, name, lines)?,
            Self::Text(values) => Arc::new(values.finish()),
        })
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.trim() {
        text if text.eq_ignore_ascii_case("true") => Some(true),
        text if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn parse_nanos(text: &str) -> Option<i64> {
    Timestamp::parse(text.trim()).map(Timestamp::nanos)
}

/// Instants in UTC, in another unit, rounded down.
fn in_unit(nanos: &TimestampNanosecondArray, unit: TimeUnit) -> ArrayRef {
    match unit {
        TimeUnit::Nanosecond => Arc::new(nanos.clone().with_timezone("UTC")),
        TimeUnit::Microsecond => Arc::new(
            nanos.unary::<_, arrow::datatypes::TimestampMicrosecondType>(|nanos| nanos.div_euclid(1_000)).with_timezone("UTC"),
        ) as Arc<TimestampMicrosecondArray>,
        TimeUnit::Millisecond => Arc::new(
            nanos
                .unary::<_, arrow::datatypes::TimestampMillisecondType>(|nanos| nanos.div_euclid(1_000_000))
                .with_timezone("UTC"),
        ) as Arc<TimestampMillisecondArray>,
        TimeUnit::Second => Arc::new(
            nanos.unary::<_, arrow::datatypes::TimestampSecondType>(|nanos| nanos.div_euclid(1_000_000_000)).with_timezone("UTC"),
        ) as Arc<TimestampSecondArray>,
    }
}

/// Nested values that are written as JSON.
fn nested(texts: Vec<Option<String>>, field: &FieldRef, name: &str, lines: &[u64]) -> Result<ArrayRef> {
    let schema = Arc::new(Schema::new(vec![Arc::clone(field)]));
    let mut rows = Vec::with_capacity(texts.len());
    for (text, line) in texts.iter().zip(lines) {
        // Parsed here too, so that a text such as `1], "x": [2` cannot become more than one value.
        let value = match text {
            None => serde_json::Value::Null,
            Some(text) => serde_json::from_str(text).map_err(|_| not_a_value(name, *line, field, text))?,
        };
        let mut row = serde_json::Map::new();
        row.insert(field.name().clone(), value);
        rows.push(serde_json::Value::Object(row));
    }
    let decode = |rows: &[serde_json::Value]| {
        let mut decoder = ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(rows.len().max(1)).build_decoder()?;
        decoder.serialize(rows)?;
        decoder.flush()
    };
    match decode(&rows) {
        Ok(Some(found)) => Ok(Arc::clone(found.column(0))),
        Ok(None) => Ok(arrow::array::new_empty_array(field.data_type())),
        Err(error) => {
            for ((row, line), text) in rows.iter().zip(lines).zip(&texts) {
                if decode(std::slice::from_ref(row)).is_err() {
                    return Err(not_a_value(name, *line, field, text.as_deref().unwrap_or_default()));
                }
            }
            Err(error.into())
        }
    }
}

fn not_a_value(name: &str, line: u64, field: &Field, text: &str) -> OfflineError {
    const SHOWN_CHARS: usize = 60;
    let shown: String = if text.chars().nth(SHOWN_CHARS).is_some() {
        text.chars().take(SHOWN_CHARS).chain(['…']).collect()
    } else {
        text.to_owned()
    };
    let needed = match field.data_type() {
        DataType::Timestamp(..) => "a timestamp such as 2026-11-23T05:00:00Z between the years 1678 and 2262".to_owned(),
        DataType::List(_) | DataType::Map(..) | DataType::Struct(_) => format!("JSON of type {}", type_name(field.data_type())),
        other => type_name(other),
    };
    bad_line(name, line, &format!("column {}: {shown:?} is not {needed}", field.name()))
}

fn read_csv(file: File, name: &str, schema: &SchemaRef, sink: Sink<'_>) -> Result<()> {
    let (header, mut reader) = csv_reader(name, BufReader::with_capacity(1 << 16, file))?;
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let index = header.iter().position(|column| column == field.name());
        let index = index.ok_or_else(|| bad_line(name, 1, &format!("the header has no column {}", field.name())))?;
        let values = Values::new(field.data_type()).ok_or_else(|| OfflineError::FileColumn {
            file: name.to_owned(),
            column: field.name().clone(),
            reason: format!("csv files cannot hold {}", type_name(field.data_type())),
        })?;
        columns.push((field, index, values));
    }
    let mut record = csv::ByteRecord::new();
    let mut lines: Vec<u64> = Vec::with_capacity(BATCH_ROWS);
    loop {
        let more = reader.read_byte_record(&mut record).map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            bad_line(name, line, &error.to_string())
        })?;
        if more {
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() != header.len() {
                let reason = format!("{} fields, but the header has {}", record.len(), header.len());
                return Err(bad_line(name, line, &reason));
            }
            for (field, index, values) in &mut columns {
                let bytes = record.get(*index).unwrap_or_default();
                let text = std::str::from_utf8(bytes);
                let text = text.map_err(|_| bad_line(name, line, &format!("column {}: not UTF-8", field.name())))?;
                if !values.push((!text.is_empty()).then_some(text)) {
                    return Err(not_a_value(name, line, field, text));
                }
            }
            lines.push(line);
        }
        if lines.len() == BATCH_ROWS || (!more && !lines.is_empty()) {
            let arrays = columns.iter_mut().map(|(field, _, values)| values.finish(field, name, &lines));
            let found = batch(schema, arrays.collect::<Result<_>>()?, lines.len())?;
            lines.clear();
            if !sink(found)? {
                return Ok(());
            }
        }
        if !more {
            return Ok(());
        }
    }
}

fn read_json(file: File, name: &str, schema: &SchemaRef, sink: Sink<'_>) -> Result<()> {
    // Instants are read as text first: the decoder would take a number for nanoseconds and knows other forms of text.
    let as_text = |field: &FieldRef| match field.data_type() {
        DataType::Timestamp(..) => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
        _ => Arc::clone(field),
    };
    let decoded: SchemaRef = Arc::new(Schema::new(schema.fields().iter().map(as_text).collect::<Vec<_>>()));
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut text, mut ends, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    let mut line = 0;
    loop {
        let begin = text.len();
        let count = reader.read_until(b'\n', &mut text).map_err(|source| OfflineError::Read { file: name.to_owned(), source })?;
        line += 1;
        if text.get(begin..).unwrap_or_default().trim_ascii().is_empty() {
            text.truncate(begin);
        } else {
            if text.last() != Some(&b'\n') {
                text.push(b'\n');
            }
            ends.push(text.len());
            lines.push(line);
        }
        if lines.len() == BATCH_ROWS || (count == 0 && !lines.is_empty()) {
            let found = decode_json(name, &decoded, &text, &ends, &lines)?;
            let columns = schema.fields().iter().zip(found.columns()).map(|(field, column)| match field.data_type() {
                DataType::Timestamp(unit, _) => instants(column, *unit, field, name, &lines),
                _ => Ok(Arc::clone(column)),
            });
            let found = batch(schema, columns.collect::<Result<_>>()?, lines.len())?;
            text.clear();
            ends.clear();
            lines.clear();
            if !sink(found)? {
                return Ok(());
            }
        }
        if count == 0 {
            return Ok(());
        }
    }
}

fn instants(column: &ArrayRef, unit: TimeUnit, field: &FieldRef, name: &str, lines: &[u64]) -> Result<ArrayRef> {
    let mut values = PrimitiveBuilder::<TimestampNanosecondType>::with_capacity(column.len());
    for (text, line) in column.as_string::<i32>().iter().zip(lines) {
        match text {
            None => values.append_null(),
            Some(text) => values.append_value(parse_nanos(text).ok_or_else(|| not_a_value(name, *line, field, text))?),
        }
    }
    Ok(in_unit(&values.finish(), unit))
}

/// Decodes lines of JSON; `ends` says where in `text` each ends and `lines` what its number is.
fn decode_json(name: &str, schema: &SchemaRef, text: &[u8], ends: &[usize], lines: &[u64]) -> Result<RecordBatch> {
    let decode = |text: &[u8], rows: usize| {
        let builder = ReaderBuilder::new(Arc::clone(schema)).with_batch_size(rows.max(1)).with_coerce_primitive(true);
        let mut decoder = builder.build_decoder()?;
        let used = decoder.decode(text)?;
        if decoder.has_partial_record() || text.get(used..).is_some_and(|rest| !rest.trim_ascii().is_empty()) {
            return Err(ArrowError::JsonError("one object a line is needed".to_owned()));
        }
        let found = decoder.flush()?.filter(|found| found.num_rows() == rows);
        found.ok_or_else(|| ArrowError::JsonError("one object a line is needed".to_owned()))
    };
    let error = match decode(text, lines.len()) {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    let mut begin = 0;
    for (end, line) in ends.iter().zip(lines) {
        let one = text.get(begin..*end).unwrap_or_default();
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(one) {
            return Err(bad_line(name, *line, &format!("not a JSON object: {}", crate::inspect::json_reason(&error))));
        }
        if let Err(error) = decode(one, 1) {
            let reason = match error {
                ArrowError::JsonError(reason) => reason,
                other => other.to_string(),
            };
            return Err(bad_line(name, *line, &reason));
        }
        begin = *end;
    }
    Err(error.into())
}
