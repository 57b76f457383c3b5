//! Parquet files, read by row group and column.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use bytes::{Buf, Bytes};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
    RowSelectionPolicy,
};
use parquet::basic::Type as PhysicalType;
use parquet::bloom_filter::Sbbf;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataPushDecoder};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::reader::{ChunkReader, Length};
use tokio::runtime::Handle;

use super::time::{Unit, instants};
use super::{FilePart, PitError, PitFile, PitView};

/// What is fetched first of a remote file: its footer, in nearly all cases.
const FOOTER_GUESS: u64 = 64 * 1024;

/// Columns of a row group are fetched at once up to so many bytes, and piece by piece above: row groups may be of any size.
const EAGER_BYTES: u64 = 16 * 1024 * 1024;
/// A piece of a column.
const PIECE_BYTES: u64 = 2 * 1024 * 1024;
/// What a page's header fits in, with statistics of long values.
const HEADER_BYTES: u64 = 512 * 1024;

/// An open file.
pub(super) struct OpenFile {
    pub(super) name: String,
    source: PitFile,
    handle: Handle,
    view: String,
    plain: ArrowReaderMetadata,
    /// The same with strings of repeated values read as dictionaries.
    coded: ArrowReaderMetadata,
    /// Both with the index of pages, if the file has one; read when it is first of use.
    paged: OnceLock<Option<(ArrowReaderMetadata, ArrowReaderMetadata)>>,
}

/// A run of rows of a row group, and the least and greatest value of a column in it where that is known.
pub(super) struct PageBounds {
    pub(super) rows: usize,
    pub(super) least: Option<i64>,
    pub(super) greatest: Option<i64>,
}

/// The distinct keys of the entity rows in one column, where they are few.
pub(super) enum FewKeys {
    Integers(Vec<i64>),
    /// Or bytes.
    Texts(Vec<Vec<u8>>),
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
        let (handle, view, paged) = (handle.clone(), view.name.clone(), OnceLock::new());
        Ok(Self { name, source: source.clone(), handle, view, plain, coded, paged })
    }

    /// The row groups that count.
    pub(super) fn row_groups(&self) -> Range<usize> {
        let groups = self.plain.metadata().num_row_groups();
        let Some(FilePart { index, count }) = self.source.part else { return 0..groups };
        let bound = |index: u32| {
            let before = groups as u128 * u128::from(index) / u128::from(count.max(1));
            usize::try_from(before).unwrap_or(groups).min(groups)
        };
        bound(index)..bound(index.saturating_add(1))
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

    /// The least and greatest integer of a row group, where the file says so.
    pub(super) fn integer_bounds(&self, column: &str, group: usize) -> Option<(i64, i64)> {
        if self.source.constants.iter().any(|(name, _)| name == column) {
            return None;
        }
        let metadata = self.plain.metadata().row_groups().get(group)?;
        let converter = StatisticsConverter::try_new(column, self.plain.schema(), self.plain.parquet_schema()).ok()?;
        let one = |array: ArrayRef| cast(&array, &DataType::Int64).ok()?.as_primitive_opt::<Int64Type>()?.iter().next().flatten();
        Some((one(converter.row_group_mins([metadata]).ok()?)?, one(converter.row_group_maxes([metadata]).ok()?)?))
    }

    /// Whether a row group may have one of some keys in a column, by the column's Bloom filter; `true` where it has none.
    ///
    /// The filter is read for this, so there must be few keys: of many, one is in it by chance.
    pub(super) fn may_have(&self, column: &str, group: usize, keys: &FewKeys) -> bool {
        self.bloom_filter(column, group).is_none_or(|(filter, physical)| match (keys, physical) {
            (FewKeys::Integers(keys), PhysicalType::INT64) => keys.iter().any(|key| filter.check(key)),
            (FewKeys::Integers(keys), PhysicalType::INT32) => {
                keys.iter().any(|key| i32::try_from(*key).is_ok_and(|key| filter.check(&key)))
            }
            (FewKeys::Texts(keys), PhysicalType::BYTE_ARRAY) => keys.iter().any(|key| filter.check(key.as_slice())),
            _ => true,
        })
    }

    /// The Bloom filter of a column of one leaf, and what values were put into it.
    fn bloom_filter(&self, column: &str, group: usize) -> Option<(Sbbf, PhysicalType)> {
        if self.source.constants.iter().any(|(name, _)| name == column) {
            return None;
        }
        let metadata = self.plain.metadata().row_groups().get(group)?;
        let root = self.plain.schema().index_of(column).ok()?;
        // Unsigned values and narrow ones are stored as others, which only plain ones are sure not to be.
        let plain = matches!(self.plain.schema().field(root).data_type(), DataType::Int32 | DataType::Int64)
            || self.plain.schema().field(root).data_type().is_string();
        let leaf = (0..metadata.num_columns()).find(|leaf| self.plain.parquet_schema().get_column_root_idx(*leaf) == root)?;
        let column = Some(metadata.column(leaf)).filter(|_| plain)?;
        let start = u64::try_from(column.bloom_filter_offset()?).ok()?;
        // Older files do not say how long it is; theirs are not read.
        let length = u64::try_from(column.bloom_filter_length()?).ok()?;
        let range = start..start.checked_add(length).filter(|end| *end <= self.source.size)?;
        let data = fetch(&self.source, &self.handle, std::slice::from_ref(&range)).ok()?;
        let window = Window { size: self.source.size, parts: vec![(start, data.into_iter().next()?)], pieces: None };
        // One that cannot be read, or is empty, leaves nothing out.
        let filter = Sbbf::read_from_column_chunk(column, &window).ok()??;
        (filter.num_blocks() > 0).then(|| (filter, column.column_type()))
    }

    fn paged(&self) -> Option<&(ArrowReaderMetadata, ArrowReaderMetadata)> {
        // Without it, or if it cannot be read, all pages are.
        self.paged.get_or_init(|| self.read_page_index().ok().flatten()).as_ref()
    }

    fn read_page_index(&self) -> Result<Option<(ArrowReaderMetadata, ArrowReaderMetadata)>, ParquetError> {
        let metadata = self.plain.metadata();
        let first = metadata.row_groups().first().and_then(|group| group.columns().first());
        if first.is_none_or(|column| column.offset_index_offset().is_none() || column.column_index_offset().is_none()) {
            return Ok(None);
        }
        let mut decoder = ParquetMetaDataPushDecoder::try_new_with_metadata(self.source.size, metadata.as_ref().clone())?
            .with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = loop {
            match decoder.try_decode()? {
                DecodeResult::Data(metadata) => break Arc::new(metadata),
                DecodeResult::NeedsData(ranges) => {
                    let data = fetch(&self.source, &self.handle, &ranges).map_err(ParquetError::General)?;
                    decoder.push_ranges(ranges, data)?;
                }
                DecodeResult::Finished => return Ok(None),
            }
        };
        let plain = ArrowReaderMetadata::try_new(Arc::clone(&metadata), ArrowReaderOptions::new())?;
        let options = ArrowReaderOptions::new().with_schema(Arc::clone(self.coded.schema()));
        let coded = ArrowReaderMetadata::try_new(metadata, options).unwrap_or_else(|_| plain.clone());
        Ok(Some((plain, coded)))
    }

    /// The pages of a column of instants or, without a unit, of integers; `None` where the file has no index of them.
    pub(super) fn page_bounds(&self, column: &str, group: usize, unit: Option<Unit>) -> Option<Vec<PageBounds>> {
        if self.source.constants.iter().any(|(name, _)| name == column) {
            return None;
        }
        let (plain, _) = self.paged()?;
        let metadata = plain.metadata();
        let (columns, offsets) = (metadata.column_index()?, metadata.offset_index()?);
        let converter = StatisticsConverter::try_new(column, plain.schema(), plain.parquet_schema()).ok()?;
        let rows = converter.data_page_row_counts(offsets, metadata.row_groups(), [&group]).ok()??;
        let values = |array: ArrayRef| -> Option<Vec<Option<i64>>> {
            let values = match unit {
                Some(unit) => instants(&array, unit)?,
                None => cast(&array, &DataType::Int64).ok()?.as_primitive_opt::<Int64Type>()?.values().clone(),
            };
            Some(values.iter().enumerate().map(|(page, value)| array.is_valid(page).then_some(*value)).collect())
        };
        let least = values(converter.data_page_mins(columns, offsets, [&group]).ok()?)?;
        let greatest = values(converter.data_page_maxes(columns, offsets, [&group]).ok()?)?;
        let pages = rows
            .values()
            .iter()
            .zip(least)
            .zip(greatest)
            .map(|((rows, least), greatest)| Some(PageBounds { rows: usize::try_from(*rows).ok()?, least, greatest }));
        pages.collect::<Option<Vec<_>>>().filter(|pages| !pages.is_empty())
    }

    /// The bytes of columns of a row group, as they are in the file.
    pub(super) fn bytes(&self, group: usize, columns: &[&str]) -> u64 {
        self.ranges(group, columns).iter().map(|range| range.end.saturating_sub(range.start)).fold(0, u64::saturating_add)
    }

    /// Where columns of a row group are.
    fn ranges(&self, group: usize, columns: &[&str]) -> Vec<Range<u64>> {
        let Some(metadata) = self.plain.metadata().row_groups().get(group) else { return Vec::new() };
        let roots: Vec<usize> = columns.iter().filter_map(|column| self.plain.schema().index_of(column).ok()).collect();
        let leaves = 0..metadata.num_columns();
        leaves
            .filter(|leaf| roots.contains(&self.plain.parquet_schema().get_column_root_idx(*leaf)))
            .map(|leaf| {
                let (start, length) = metadata.column(leaf).byte_range();
                start..start.saturating_add(length)
            })
            .collect()
    }

    /// Where the pages of columns are that a selection of a row group's rows needs.
    fn page_ranges(
        &self,
        group: usize,
        columns: &[&str],
        selection: &RowSelection,
        offsets: &[OffsetIndexMetaData],
    ) -> Vec<Range<u64>> {
        let Some(metadata) = self.plain.metadata().row_groups().get(group) else { return Vec::new() };
        let roots: Vec<usize> = columns.iter().filter_map(|column| self.plain.schema().index_of(column).ok()).collect();
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (leaf, offsets) in offsets.iter().enumerate().take(metadata.num_columns()) {
            if !roots.contains(&self.plain.parquet_schema().get_column_root_idx(leaf)) {
                continue;
            }
            let (start, _) = metadata.column(leaf).byte_range();
            let pages = offsets.page_locations();
            let first = pages.first().and_then(|page| u64::try_from(page.offset).ok()).unwrap_or(start);
            // The dictionary lies before the first page.
            let own = std::iter::once(start..first).chain(selection.scan_ranges(pages)).filter(|range| range.start < range.end);
            for range in own {
                match ranges.last_mut() {
                    Some(last) if last.end == range.start => last.end = range.end,
                    _ => ranges.push(range),
                }
            }
        }
        ranges
    }

    /// About how many bytes a row's value of a column takes once it is decoded.
    pub(super) fn row_bytes(&self, column: &str) -> u64 {
        let Ok(root) = self.plain.schema().index_of(column) else { return 8 };
        let (mut bytes, mut rows) = (0_u64, 0_u64);
        for group in self.plain.metadata().row_groups() {
            rows = rows.saturating_add(u64::try_from(group.num_rows()).unwrap_or(0));
            for leaf in 0..group.num_columns() {
                if self.plain.parquet_schema().get_column_root_idx(leaf) == root {
                    let column = group.column(leaf);
                    let encoded = u64::try_from(column.uncompressed_size()).unwrap_or(0);
                    let text = u64::try_from(column.unencoded_byte_array_data_bytes().unwrap_or(0)).unwrap_or(0);
                    bytes = bytes.saturating_add(encoded.max(text));
                }
            }
        }
        // Numbers are at most as wide as this; text has offsets beside it.
        (bytes / rows.max(1)).saturating_add(9)
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
        // Where only some rows are read, the index says in which pages they are; the others are not even fetched.
        let paged = if selection.is_some() { self.paged() } else { None };
        let metadata = match paged {
            Some((plain, with_codes)) => {
                if coded {
                    with_codes
                } else {
                    plain
                }
            }
            None if coded => &self.coded,
            None => &self.plain,
        };
        let mut roots = Vec::new();
        for column in columns {
            match metadata.schema().index_of(column) {
                Ok(root) => roots.push(root),
                Err(_) => drop(self.data_type(column)?),
            }
        }
        let ranges = match (&selection, paged.and_then(|(plain, _)| plain.metadata().offset_index()?.get(group))) {
            (Some(selection), Some(offsets)) => self.page_ranges(group, columns, selection, offsets),
            _ => self.ranges(group, columns),
        };
        let whole = ranges.iter().map(|range| range.end.saturating_sub(range.start)).fold(0, u64::saturating_add);
        let window = if whole <= EAGER_BYTES {
            let data = fetch(&self.source, &self.handle, &ranges)
                .map_err(|reason| PitError::Read { file: self.name.clone(), reason })?;
            let parts = ranges.into_iter().map(|range| range.start).zip(data).collect();
            Window { size: self.source.size, parts, pieces: None }
        } else {
            let pieces = ranges.into_iter().map(|range| (range, Mutex::new((0, Bytes::new())))).collect();
            let pieces = Some(Pieces { source: self.source.clone(), handle: self.handle.clone(), pieces });
            Window { size: self.source.size, parts: Vec::new(), pieces }
        };
        bytes.fetch_add(whole, Ordering::Relaxed);
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(window, metadata.clone())
            .with_projection(mask)
            .with_row_groups(vec![group])
            .with_batch_size(batch_rows);
        if let Some(selection) = selection {
            // Not by a mask, which decodes the pages between, too.
            builder = builder.with_row_selection(selection).with_row_selection_policy(RowSelectionPolicy::Selectors);
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
    /// Where the columns are too large to be fetched whole.
    pieces: Option<Pieces>,
}

/// Columns that are fetched piece by piece: of each its range, and the place and bytes of the piece that was fetched last.
struct Pieces {
    source: PitFile,
    handle: Handle,
    pieces: Vec<(Range<u64>, Mutex<Piece>)>,
}

/// The place and the bytes of what was fetched last.
type Piece = (u64, Bytes);

impl Pieces {
    /// At least `length` bytes from `start`, or what is left of the column.
    fn find(&self, start: u64, length: u64) -> Result<Bytes, ParquetError> {
        let outside = || ParquetError::EOF(format!("a page at {start} lies outside its column"));
        let (range, piece) = self.pieces.iter().find(|(range, _)| range.contains(&start)).ok_or_else(outside)?;
        let mut piece = piece.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let left = range.end - start;
        let held = |piece: &(u64, Bytes)| {
            let skip = usize::try_from(start.checked_sub(piece.0)?).ok().filter(|skip| *skip <= piece.1.len())?;
            Some(piece.1.slice(skip..)).filter(|data| data.len() as u64 >= length.min(left))
        };
        if let Some(data) = held(&piece) {
            return Ok(data);
        }
        let wanted = start..start + length.max(PIECE_BYTES).min(left);
        let data = fetch(&self.source, &self.handle, std::slice::from_ref(&wanted)).map_err(ParquetError::General)?;
        *piece = (start, data.into_iter().next().unwrap_or_default());
        held(&piece).ok_or_else(outside)
    }
}

impl Window {
    fn find(&self, start: u64, length: Option<usize>) -> Result<Bytes, ParquetError> {
        if let Some(pieces) = &self.pieces {
            let data = pieces.find(start, length.map_or(HEADER_BYTES, |length| length as u64))?;
            return match length {
                None => Ok(data),
                Some(length) if length <= data.len() => Ok(data.slice(..length)),
                Some(_) => Err(ParquetError::EOF(format!("a page at {start} lies outside its column"))),
            };
        }
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
