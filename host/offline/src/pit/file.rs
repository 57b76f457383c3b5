//! Parquet files, read by row group and column.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Schema};
use bytes::{Buf, Bytes};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataPushDecoder};
use parquet::file::reader::{ChunkReader, Length};
use tokio::runtime::Handle;

use super::time::{Unit, instants};
use super::{PitError, PitFile, PitView};

/// What is fetched first of a remote file: its footer, in nearly all cases.
const FOOTER_GUESS: u64 = 64 * 1024;

/// An open file.
pub(super) struct OpenFile {
    pub(super) name: String,
    source: PitFile,
    handle: Handle,
    view: String,
    plain: ArrowReaderMetadata,
    /// The same with strings of repeated values read as dictionaries.
    coded: ArrowReaderMetadata,
}

/// Fetches byte ranges from the local file system or the store.
fn fetch(file: &PitFile, handle: &Handle, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, String> {
    let Some(path) = &file.local else {
        return handle.block_on(file.store.get_ranges(&file.location, ranges)).map_err(|error| error.to_string());
    };
    let read = || {
        let mut input = File::open(path)?;
        ranges
            .iter()
            .map(|range| {
                let length = range.end.saturating_sub(range.start);
                let mut data = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
                input.seek(SeekFrom::Start(range.start))?;
                if (&mut input).take(length).read_to_end(&mut data)? as u64 != length {
                    return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the file is shorter than expected"));
                }
                Ok(Bytes::from(data))
            })
            .collect::<std::io::Result<Vec<_>>>()
    };
    read().map_err(|error| error.to_string())
}

impl OpenFile {
    pub(super) fn open(view: &PitView, source: &PitFile, handle: &Handle) -> Result<Self, PitError> {
        let name = match &source.local {
            Some(path) => path.display().to_string(),
            None => source.location.to_string(),
        };
        let damaged = |error: ParquetError| PitError::NotParquet { file: name.clone(), reason: error.to_string() };
        let read =
            |ranges: &[Range<u64>]| fetch(source, handle, ranges).map_err(|reason| PitError::Read { file: name.clone(), reason });
        if source.size < 12 {
            return Err(PitError::NotParquet { file: name, reason: format!("it has {} bytes", source.size) });
        }
        let mut decoder =
            ParquetMetaDataPushDecoder::try_new(source.size).map_err(damaged)?.with_page_index_policy(PageIndexPolicy::Skip);
        let tail = source.size.saturating_sub(FOOTER_GUESS)..source.size;
        let data = read(std::slice::from_ref(&tail))?;
        decoder.push_ranges(vec![tail], data).map_err(damaged)?;
        let metadata = loop {
            match decoder.try_decode().map_err(damaged)? {
                DecodeResult::Data(metadata) => break Arc::new(metadata),
                DecodeResult::NeedsData(ranges) => {
                    let data = read(&ranges)?;
                    decoder.push_ranges(ranges, data).map_err(damaged)?;
                }
                DecodeResult::Finished => {
                    return Err(PitError::NotParquet { file: name, reason: "it has no footer".to_owned() });
                }
            }
        };
        let plain = ArrowReaderMetadata::try_new(Arc::clone(&metadata), ArrowReaderOptions::new()).map_err(damaged)?;
        let coded_fields = plain.schema().fields().iter().enumerate().map(|(root, field)| {
            let repeated = field.data_type() == &DataType::Utf8
                && metadata.row_groups().iter().all(|group| {
                    (0..group.num_columns()).filter(|leaf| plain.parquet_schema().get_column_root_idx(*leaf) == root).all(
                        |leaf| {
                            let column = group.column(leaf);
                            column.dictionary_page_offset().is_some()
                                && column.uncompressed_size() < group.num_rows().saturating_mul(4)
                        },
                    )
                });
            if repeated {
                let coded = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
                Arc::new(Field::new(field.name(), coded, field.is_nullable()))
            } else {
                Arc::clone(field)
            }
        });
        let coded_schema = Arc::new(Schema::new(coded_fields.collect::<Vec<_>>()));
        let coded = ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new().with_schema(coded_schema))
            .unwrap_or_else(|_| plain.clone());
        Ok(Self { name, source: source.clone(), handle: handle.clone(), view: view.name.clone(), plain, coded })
    }

    pub(super) fn row_groups(&self) -> usize {
        self.plain.metadata().num_row_groups()
    }

    pub(super) fn rows(&self, group: usize) -> usize {
        self.plain.metadata().row_groups().get(group).map_or(0, |group| usize::try_from(group.num_rows()).unwrap_or(0))
    }

    /// The type of a column of the file or of its path.
    pub(super) fn data_type(&self, column: &str) -> Result<DataType, PitError> {
        // A file may repeat what its path says; the path counts.
        if let Some((_, value)) = self.source.constants.iter().find(|(name, _)| name == column) {
            return Ok(value.data_type());
        }
        match self.plain.schema().field_with_name(column) {
            Ok(field) => Ok(field.data_type().clone()),
            Err(_) => Err(PitError::MissingColumn {
                file: self.name.clone(),
                view: self.view.clone(),
                column: column.to_owned(),
                known: names(self.plain.schema()),
            }),
        }
    }

    /// The unit that holds a column of instants.
    pub(super) fn unit(&self, column: &str) -> Result<Unit, PitError> {
        let found = self.data_type(column)?;
        Unit::of(&found).ok_or_else(|| self.not_time(column, &found))
    }

    fn not_time(&self, column: &str, found: &DataType) -> PitError {
        PitError::NotTime { column: column.to_owned(), place: self.name.clone(), found: found.to_string() }
    }

    /// The least and greatest instant of a row group, where the file says so.
    pub(super) fn bounds(&self, column: &str, group: usize, unit: Unit) -> (Option<i64>, Option<i64>) {
        let read = || {
            let metadata = self.plain.metadata().row_groups().get(group)?;
            let converter = StatisticsConverter::try_new(column, self.plain.schema(), self.plain.parquet_schema()).ok()?;
            let one = |array: ArrayRef| instants(&array, unit)?.first().copied().filter(|_| array.is_valid(0));
            let least = one(converter.row_group_mins([metadata]).ok()?);
            Some((least, one(converter.row_group_maxes([metadata]).ok()?)))
        };
        read().unwrap_or_default()
    }

    /// Reads columns of a row group. With `coded`, strings may come as dictionaries.
    pub(super) fn read(
        &self,
        group: usize,
        columns: &[&str],
        coded: bool,
        selection: Option<RowSelection>,
        batch_rows: usize,
        bytes: &AtomicU64,
    ) -> Result<Columns<'_>, PitError> {
        let damaged = |error: ParquetError| PitError::NotParquet { file: self.name.clone(), reason: error.to_string() };
        let metadata = if coded { &self.coded } else { &self.plain };
        let mut roots = Vec::new();
        for column in columns {
            match metadata.schema().index_of(column) {
                Ok(root) => roots.push(root),
                Err(_) => drop(self.data_type(column)?),
            }
        }
        let mut ranges = Vec::new();
        let group_metadata = metadata.metadata().row_group(group);
        for leaf in 0..group_metadata.num_columns() {
            if roots.contains(&metadata.parquet_schema().get_column_root_idx(leaf)) {
                let (start, length) = group_metadata.column(leaf).byte_range();
                ranges.push(start..start.saturating_add(length));
            }
        }
        let data =
            fetch(&self.source, &self.handle, &ranges).map_err(|reason| PitError::Read { file: self.name.clone(), reason })?;
        bytes.fetch_add(ranges.iter().map(|range| range.end - range.start).sum(), Ordering::Relaxed);
        let window = Window { size: self.source.size, parts: ranges.into_iter().map(|range| range.start).zip(data).collect() };
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(window, metadata.clone())
            .with_projection(mask)
            .with_row_groups(vec![group])
            .with_batch_size(batch_rows);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Ok(Columns { file: self, columns, reader: builder.build().map_err(damaged)? })
    }
}

/// Batches of the asked columns, in the asked order.
pub(super) struct Columns<'a> {
    file: &'a OpenFile,
    columns: Vec<String>,
    reader: ParquetRecordBatchReader,
}

impl Iterator for Columns<'_> {
    type Item = Result<(usize, Vec<ArrayRef>), PitError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match self.reader.next()? {
            Ok(batch) => batch,
            Err(error) => {
                return Some(Err(PitError::NotParquet { file: self.file.name.clone(), reason: error.to_string() }));
            }
        };
        let column = |name: &String| match self.file.source.constants.iter().find(|(constant, _)| constant == name) {
            Some((_, value)) => value.to_array_of_size(batch.num_rows()).map_err(|error| PitError::Worker(error.to_string())),
            None => batch
                .column_by_name(name)
                .map(Arc::clone)
                .ok_or_else(|| PitError::Worker(format!("column `{name}` was not decoded"))),
        };
        Some(self.columns.iter().map(column).collect::<Result<Vec<_>, _>>().map(|arrays| (batch.num_rows(), arrays)))
    }
}

/// Column names for a message.
pub(super) fn names(schema: &Schema) -> String {
    schema.fields().iter().map(|field| format!("`{}`", field.name())).collect::<Vec<_>>().join(", ")
}

/// The fetched parts of a file.
struct Window {
    size: u64,
    parts: Vec<(u64, Bytes)>,
}

impl Window {
    fn find(&self, start: u64, length: Option<usize>) -> Result<Bytes, ParquetError> {
        for (offset, data) in &self.parts {
            let Some(skip) = start.checked_sub(*offset).and_then(|skip| usize::try_from(skip).ok()) else { continue };
            if skip < data.len() || (skip == data.len() && length == Some(0)) {
                let end = length.map_or(Some(data.len()), |length| skip.checked_add(length));
                if let Some(end) = end.filter(|end| *end <= data.len()) {
                    return Ok(data.slice(skip..end));
                }
            }
        }
        Err(ParquetError::EOF(format!("a page at {start} lies outside its column")))
    }
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Window {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.find(start, None)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.find(start, Some(length))
    }
}
