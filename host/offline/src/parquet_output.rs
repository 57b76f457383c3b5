//! Data sets as Parquet files, encoded by all threads.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves,
};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use tempfile::NamedTempFile;

use crate::error::Result;
use crate::pit::{Part, PartSink, PitError, parallel};

/// Rows of a row group at the most.
const GROUP_ROWS_MAX: usize = 262_144;
/// Rows that are encoded at a time.
const SLICE_ROWS: usize = 16_384;

/// How data sets are encoded. Dictionaries cost more than they save but for texts, which repeat most.
pub(crate) fn properties(schema: &SchemaRef) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(GROUP_ROWS_MAX));
    for field in schema.fields() {
        let repeats = match field.data_type() {
            DataType::Dictionary(..) => true,
            other => other.is_string() || other.is_binary(),
        };
        if repeats {
            let path = parquet::schema::types::ColumnPath::from(field.name().as_str());
            properties = properties.set_column_dictionary_enabled(path, true);
        }
    }
    properties.build()
}

/// A Parquet file in the making: columns of row groups are encoded side by side, and row groups appended in order.
pub(crate) struct ParquetOutput {
    path: PathBuf,
    writer: SerializedFileWriter<NamedTempFile>,
    factory: ArrowRowGroupWriterFactory,
    /// Rows of a row group.
    group_rows: usize,
    groups: usize,
    /// By view, the rows with at least one value.
    pub(crate) matched: Vec<u64>,
    pub(crate) rows: u64,
    written: Box<dyn Fn(u64) + Send + Sync>,
}

impl ParquetOutput {
    /// `file` becomes `path`, `memory` is for the rows that are being encoded; `written` is told how many rows there are.
    pub(crate) fn create(
        file: NamedTempFile,
        path: &Path,
        schema: &SchemaRef,
        memory: Option<usize>,
        written: Box<dyn Fn(u64) + Send + Sync>,
    ) -> Result<Self> {
        let options = ArrowWriterOptions::new().with_properties(properties(schema));
        let (writer, factory) = ArrowWriter::try_new_with_options(file, SchemaRef::clone(schema), options)
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(|error| failed(path, &error))?;
        // Encoded rows of two groups may be held at once, of columns that are mostly 8 bytes wide.
        let row_bytes = schema.fields().len() * 16;
        let group_rows = memory.map_or(GROUP_ROWS_MAX, |memory| memory / 16 / row_bytes.max(1));
        Ok(Self {
            path: path.to_owned(),
            writer,
            factory,
            group_rows: group_rows.clamp(4096, GROUP_ROWS_MAX),
            groups: 0,
            matched: Vec::new(),
            rows: 0,
            written,
        })
    }

    /// The whole file, which is still called something else.
    pub(crate) fn finish(self) -> Result<NamedTempFile> {
        Ok(self.writer.into_inner().map_err(|error| failed(&self.path, &error))?)
    }
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> PitError {
    PitError::Write { path: path.to_owned(), reason: error.to_string() }
}

/// Row groups on their way into the file.
struct Appending<'a> {
    writer: &'a mut SerializedFileWriter<NamedTempFile>,
    /// The next row group to append.
    next: usize,
}

impl PartSink for ParquetOutput {
    fn take(&mut self, part: &Part<'_>, threads: usize) -> std::result::Result<(), PitError> {
        let path = self.path.clone();
        let failed = |error: ParquetError| failed(&path, &error);
        let columns = part.schema.fields().len();
        let groups = part.rows.div_ceil(self.group_rows);
        let mut writers: Vec<Mutex<Vec<Option<ArrowColumnWriter>>>> = Vec::with_capacity(groups);
        writers.resize_with(groups, Mutex::default);
        let chunks: Vec<Mutex<Option<Vec<ArrowColumnChunk>>>> = (0..groups * columns).map(|_| Mutex::new(None)).collect();
        let left: Vec<AtomicUsize> = (0..groups).map(|_| AtomicUsize::new(columns)).collect();
        let appending = Mutex::new(Appending { writer: &mut self.writer, next: 0 });
        let (factory, first, group_rows) = (&self.factory, self.groups, self.group_rows);
        parallel(threads, groups * columns, part.stop, |task| {
            let _meter = part.phases.write.begin();
            let (group, column) = (task / columns, task % columns);
            let start = group * group_rows;
            let end = part.rows.min(start + group_rows);
            let mut leaves = leaves_of(&writers, group, column, || factory.create_column_writers(first + group), part.schema)
                .map_err(failed)?;
            let field = part.schema.field(column);
            let mut row = start;
            while row < end {
                let rows = SLICE_ROWS.min(end - row);
                let array = part.column(column, row, rows, true)?;
                for (leaf, writer) in compute_leaves(field, &array).map_err(failed)?.iter().zip(&mut leaves) {
                    writer.write(leaf).map_err(failed)?;
                }
                row += rows;
            }
            let made = leaves.into_iter().map(ArrowColumnWriter::close).collect::<std::result::Result<_, _>>().map_err(failed)?;
            if let Some(chunk) = chunks.get(task) {
                *lock(chunk) = Some(made);
            }
            if left.get(group).is_some_and(|left| left.fetch_sub(1, Ordering::AcqRel) == 1) {
                let Appending { writer, next } = &mut *lock(&appending);
                while left.get(*next).is_some_and(|left| left.load(Ordering::Acquire) == 0) {
                    let mut row_group = writer.next_row_group().map_err(failed)?;
                    for chunk in chunks.iter().skip(*next * columns).take(columns) {
                        for leaf in lock(chunk).take().into_iter().flatten() {
                            leaf.append_to_row_group(&mut row_group).map_err(failed)?;
                        }
                    }
                    row_group.close().map_err(failed)?;
                    *next += 1;
                }
            }
            Ok(())
        })?;
        self.groups += groups;
        self.rows += part.rows as u64;
        for (index, matched) in part.matched().into_iter().enumerate() {
            match self.matched.get_mut(index) {
                Some(sum) => *sum += matched,
                None => self.matched.push(matched),
            }
        }
        part.phases.write.add_rows(part.rows);
        (self.written)(self.rows);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The writers of a column's leaves; those of its row group are made when the first is asked for.
fn leaves_of(
    writers: &[Mutex<Vec<Option<ArrowColumnWriter>>>],
    group: usize,
    column: usize,
    make: impl FnOnce() -> std::result::Result<Vec<ArrowColumnWriter>, ParquetError>,
    schema: &SchemaRef,
) -> std::result::Result<Vec<ArrowColumnWriter>, ParquetError> {
    let Some(of_group) = writers.get(group) else { return Ok(Vec::new()) };
    let mut of_group = lock(of_group);
    if of_group.is_empty() {
        *of_group = make()?.into_iter().map(Some).collect();
    }
    let count = |index: usize| leaf_count(schema.field(index).data_type());
    let first: usize = (0..column).map(count).sum();
    Ok(of_group.iter_mut().skip(first).take(count(column)).filter_map(Option::take).collect())
}

/// The primitive columns that a type is stored as.
fn leaf_count(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => leaf_count(item.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| leaf_count(field.data_type())).sum(),
        _ => 1,
    }
}

/// The file that a finished output is.
pub(crate) fn sync(file: &NamedTempFile) -> std::io::Result<u64> {
    let file: &File = file.as_file();
    file.sync_all()?;
    Ok(file.metadata()?.len())
}
