//! The rows of a segment, read back.

use mezze_core::{
    Cell, INLINE_SEGMENT, KeyHash, KeyPart, PageError, PageKey, PageRef, SEGMENT_FOOTER_BYTES, Segment, SegmentId, SegmentIndex,
    Table, TableSchema,
};
use mezze_replica::{Error, ObjectWriter, Store, created_key, segment_key};
use xxhash_rust::xxh3::xxh3_64;

use crate::SnapshotError;
use crate::column::{Column, NONE};
use crate::content::{Keyed, NOT_CREATED, ViewStore, push_patched_row, push_row};
use crate::staging::HashRange;

/// Appends the rows of a segment to the stores of the views that `wanted` names: for each view of the segment's table its
/// number among the stores, and for each feature of that store the segment's column.
pub(crate) struct Wanted {
    pub(crate) view: usize,
    pub(crate) store: usize,
    pub(crate) time_column: usize,
    pub(crate) shift: i64,
    /// Per feature of the store the column of the page, `None` where the segment has no such feature.
    pub(crate) columns: Vec<Option<usize>>,
}

/// A segment's file.
pub(crate) struct SegmentReader<'a> {
    store: &'a Store,
    key: String,
    number: u16,
    table: &'a Table,
    segment: &'a Segment,
    index: SegmentIndex,
    created: Option<CreatedReader>,
    wanted: Vec<Wanted>,
}

impl<'a> SegmentReader<'a> {
    pub(crate) async fn open(
        store: &'a Store,
        number: u16,
        table: &'a Table,
        segment: &'a Segment,
        wanted: Vec<Wanted>,
    ) -> Result<Self, SnapshotError> {
        let key = segment_key(segment.id, number);
        let name = store.full_name(&key);
        let size = store.stat(&key).await?.ok_or_else(|| Error::Missing { key: name.clone() })?.size;
        let tail = |bytes: u64| store.read_range(&key, size.saturating_sub(bytes), bytes.min(size));
        let footer = tail(SEGMENT_FOOTER_BYTES as u64).await?.ok_or_else(|| Error::Missing { key: name.clone() })?;
        let format = |source| Error::Format { key: name.clone(), source };
        let tail_bytes = SegmentIndex::tail_bytes(&footer).map_err(format)?;
        let tail = tail(tail_bytes).await?.ok_or_else(|| Error::Missing { key: name.clone() })?;
        let index = SegmentIndex::decode(&tail).map_err(format)?;
        if index.bucket_count() != segment.bucket_count || index.row_count != segment.row_count {
            return Err(Error::Corrupt { key: name, detail: "it is not the file that the manifest names".to_owned() }.into());
        }
        let created = CreatedReader::open(store, segment, number, table.schema.views.len()).await?;
        Ok(Self { store, key, number, table, segment, index, created, wanted })
    }

    /// About how many bytes its rows take in memory.
    pub(crate) fn memory(&self) -> u64 {
        let columns: usize = self.table.schema.views.iter().map(|view| 24 + view.features.len() * 9).sum();
        // Texts are compressed on pages, by some factor that only reading tells.
        self.segment.row_count * (columns as u64 + 24) + self.segment.page_bytes * 2
    }

    /// The keys and rows whose hashes are in a range, in order of hash. Event times are those that readers see. `base` is what was
    /// read of the base in the same range, if this is a delta.
    pub(crate) async fn read(
        &self,
        range: HashRange,
        schema: &TableSchema,
        base: Option<&Keyed>,
        stores: &mut [ViewStore],
    ) -> Result<Keyed, SnapshotError> {
        let name = self.store.full_name(&self.key);
        let corrupt = |detail: &str| Error::Corrupt { key: name.clone(), detail: detail.to_owned() };
        let mut keyed = Keyed::new(schema);
        let views = self.table.schema.views.len();
        let bucket_of = |hash: u64| KeyHash::from_u64(hash).bucket(self.segment.bucket_count);
        let (mut bucket, last) = (bucket_of(range.first), bucket_of(range.last));
        while bucket <= last {
            // Many pages at once: a read of a service is slow, and a file's is not free.
            let Some(first) = self.index.page_range(bucket) else { return Err(corrupt("its index ends early").into()) };
            let mut end = bucket;
            let mut upto = first.end;
            while end < last && upto - first.start < READ_BYTES {
                end += 1;
                upto = self.index.page_range(end).map_or(upto, |range| range.end);
            }
            let bytes = self.store.read_range(&self.key, first.start, upto - first.start).await?;
            let bytes = bytes.ok_or_else(|| Error::Missing { key: name.clone() })?;
            let created = match &self.created {
                Some(created) => created.read(self.store, bucket..end + 1).await?,
                None => Vec::new(),
            };
            let mut rows_before = 0;
            for bucket in bucket..=end {
                let page_range = self.index.page_range(bucket).unwrap_or(0..0);
                let at = |offset: u64| usize::try_from(offset.saturating_sub(first.start)).unwrap_or(usize::MAX);
                let page_bytes = bytes.get(at(page_range.start)..at(page_range.end)).ok_or_else(|| corrupt("it ends early"))?;
                let page_key = PageKey::new(self.segment.id, self.number, bucket);
                let damaged = |error: PageError| SnapshotError::DamagedPage { key: format!("{name}, page {bucket}"), error };
                let page =
                    PageRef::verify(page_bytes, &page_key, self.segment.bucket_count, &self.table.schema).map_err(damaged)?;
                let created = |row: u32, view: usize| {
                    let place = (rows_before + row as usize) * views + view;
                    created.get(place).copied().unwrap_or(NOT_CREATED)
                };
                let reading = PageReading { page: &page, wanted: &self.wanted, range, created: &created };
                if page.patched_rows() > 0 {
                    let base = base.ok_or_else(|| corrupt("it is of a base that is not there"))?;
                    let base_buckets = self.table.base.as_ref().map_or(1, |base| base.bucket_count);
                    // Whether a place is of this range is only known of buckets that are wholly in it.
                    let bucket_of = |hash: u64| KeyHash::from_u64(hash).bucket(base_buckets);
                    let inner = |bucket: u32| {
                        (range.first == 0 || bucket > bucket_of(range.first))
                            && (range.last == u64::MAX || bucket < bucket_of(range.last))
                    };
                    let patched = reading.patched(base, stores, &mut keyed).map_err(damaged)?;
                    if patched.into_iter().any(inner) {
                        return Err(corrupt("it names rows that its base does not have").into());
                    }
                }
                reading.keyed(self.table, stores, &mut keyed).map_err(damaged)?;
                rows_before += page.row_count() as usize;
            }
            let Some(next) = end.checked_add(1) else { break };
            bucket = next;
        }
        if base.is_some() {
            keyed.sort();
        }
        Ok(keyed)
    }
}

/// The one row of a table without keys.
pub(crate) fn read_inline(
    number: u16,
    table: &Table,
    schema: &TableSchema,
    wanted: &[Wanted],
    stores: &mut [ViewStore],
) -> Result<Keyed, SnapshotError> {
    let mut keyed = Keyed::new(schema);
    let Some(bytes) = &table.inline else { return Ok(keyed) };
    let damaged = |error| SnapshotError::DamagedPage { key: "the manifest".into(), error };
    let page = PageRef::verify(bytes, &PageKey::new(INLINE_SEGMENT, number, 0), 1, &table.schema).map_err(damaged)?;
    let reading = PageReading { page: &page, wanted, range: HashRange::ALL, created: &|_, _| NOT_CREATED };
    reading.keyed(table, stores, &mut keyed).map_err(damaged)?;
    Ok(keyed)
}

/// A page, and what to take of it.
struct PageReading<'a> {
    page: &'a PageRef<'a>,
    wanted: &'a [Wanted],
    range: HashRange,
    /// When a row of a view was created.
    created: &'a dyn Fn(u32, usize) -> i64,
}

impl PageReading<'_> {
    /// The rows that have a key.
    fn keyed(&self, table: &Table, stores: &mut [ViewStore], keyed: &mut Keyed) -> Result<(), PageError> {
        let page = self.page;
        let bucket = page.key()?.bucket;
        let mut parts = Vec::with_capacity(table.schema.keys.len());
        for row in page.patched_rows()..page.row_count() {
            parts.clear();
            for column in 0..table.schema.keys.len() {
                parts.push(page.key_part(row, column)?);
            }
            let hash = KeyHash::of(&parts);
            if !self.range.has(hash.get()) {
                continue;
            }
            keyed.hashes.push(hash);
            keyed.places.push((bucket, row));
            keyed.key_rows.push(keyed.keys.first().map_or(0, Column::len) as u32);
            for (column, part) in keyed.keys.iter_mut().zip(&parts) {
                column.push_cell(match part {
                    KeyPart::Int(value) => Cell::Int(*value),
                    KeyPart::Bytes(bytes) => Cell::Bytes(bytes),
                });
            }
            let start = keyed.rows.len();
            keyed.rows.resize(start + keyed.view_count, NONE);
            for view in self.wanted {
                let Some(time) = page.event_time(row, view.time_column)? else { continue };
                let Some(store) = stores.get_mut(view.store) else { continue };
                let mut cells = Vec::with_capacity(view.columns.len());
                for column in &view.columns {
                    cells.push(match column {
                        Some(column) => page.cell(row, *column)?,
                        None => Cell::Null,
                    });
                }
                let time = time.nanos().saturating_add(view.shift);
                let place = push_row(store, time, (self.created)(row, view.view), cells.iter().copied());
                if let Some(slot) = keyed.rows.get_mut(start + view.store) {
                    *slot = place;
                }
            }
        }
        Ok(())
    }

    /// The rows that stand for rows of the base, with the base's cells where they have none. Buckets of the base of those that were
    /// not found.
    fn patched(&self, base: &Keyed, stores: &mut [ViewStore], keyed: &mut Keyed) -> Result<Vec<u32>, PageError> {
        let page = self.page;
        let mut missing = Vec::new();
        for (row, place) in (0..).zip(page.patched()?) {
            let Ok(at) = base.places.binary_search(&place) else {
                missing.push(place.0);
                continue;
            };
            keyed.hashes.extend(base.hashes.get(at));
            keyed.key_rows.push(keyed.keys.first().map_or(0, Column::len) as u32);
            let base_key = base.key_rows.get(at).copied().unwrap_or(0);
            for (column, from) in keyed.keys.iter_mut().zip(&base.keys) {
                column.push_cell(from.cell(base_key));
            }
            let start = keyed.rows.len();
            keyed.rows.extend_from_slice(base.rows_of(at));
            for view in self.wanted {
                let (Some(slot), Some(store)) = (keyed.rows.get_mut(start + view.store), stores.get_mut(view.store)) else {
                    continue;
                };
                let time = match page.own_cell(row, view.time_column)? {
                    Some(Cell::Int(nanos)) => Some(nanos.saturating_add(view.shift)),
                    // The view has no row any more.
                    Some(_) => {
                        *slot = NONE;
                        continue;
                    }
                    None => None,
                };
                let mut cells = Vec::with_capacity(view.columns.len());
                for column in &view.columns {
                    cells.push(match column {
                        Some(column) => page.own_cell(row, *column)?,
                        None => None,
                    });
                }
                if time.is_none() && cells.iter().all(Option::is_none) {
                    continue;
                }
                let Some(time) = time.or_else(|| store.times.get(*slot as usize).copied()) else { continue };
                *slot = push_patched_row(store, *slot, time, (self.created)(row, view.view), &cells);
            }
        }
        Ok(missing)
    }
}

/// The creation times of a segment's rows.
///
/// Of each bucket, i64 nanoseconds per row and view, then the XXH3 of these bytes; behind all buckets the u32 number of rows of
/// each, and the XXH3 of these. Numbers are little-endian.
struct CreatedReader {
    key: String,
    /// Where each bucket's begin, and their end.
    starts: Vec<u64>,
}

impl CreatedReader {
    /// `None` where none were written.
    async fn open(store: &Store, segment: &Segment, table: u16, views: usize) -> Result<Option<Self>, SnapshotError> {
        let key = created_key(segment.id, table);
        let Some(stat) = store.stat(&key).await? else { return Ok(None) };
        let corrupt = || Error::Corrupt { key: store.full_name(&key), detail: "its checksum or length is wrong".to_owned() };
        let tail = u64::from(segment.bucket_count) * 4 + 8;
        let start = stat.size.checked_sub(tail).ok_or_else(corrupt)?;
        let bytes = store.read_range(&key, start, tail).await?.ok_or_else(corrupt)?;
        let counts = checked(&bytes).ok_or_else(corrupt)?;
        let mut at = 0;
        let mut starts = vec![0];
        for count in counts.as_chunks::<4>().0 {
            at += u64::from(u32::from_le_bytes(*count)) * views as u64 * 8 + 8;
            starts.push(at);
        }
        if at != start || starts.len() as u64 != u64::from(segment.bucket_count) + 1 {
            return Err(corrupt().into());
        }
        Ok(Some(Self { key, starts }))
    }

    /// Those of some buckets, per row and view.
    async fn read(&self, store: &Store, buckets: std::ops::Range<u32>) -> Result<Vec<i64>, SnapshotError> {
        let corrupt = || Error::Corrupt { key: store.full_name(&self.key), detail: "its checksum or length is wrong".to_owned() };
        let starts = self.starts.get(buckets.start as usize..=buckets.end as usize).ok_or_else(corrupt)?;
        let (Some(first), Some(last)) = (starts.first(), starts.last()) else { return Err(corrupt().into()) };
        let bytes = store.read_range(&self.key, *first, last - first).await?.ok_or_else(corrupt)?;
        let mut values = Vec::with_capacity(bytes.len() / 8);
        for (start, end) in starts.iter().zip(starts.iter().skip(1)) {
            let at = |offset: u64| usize::try_from(offset - first).unwrap_or(usize::MAX);
            let bucket = bytes.get(at(*start)..at(*end)).and_then(checked).ok_or_else(corrupt)?;
            values.extend(bucket.as_chunks::<8>().0.iter().map(|value| i64::from_le_bytes(*value)));
        }
        Ok(values)
    }
}

/// The bytes before their checksum, if it is theirs.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (values, checksum) = bytes.split_last_chunk::<8>()?;
    (xxh3_64(values) == u64::from_le_bytes(*checksum)).then_some(values)
}

/// Writes what [`CreatedReader`] reads.
pub(crate) struct CreatedWriter {
    writer: ObjectWriter,
    counts: Vec<u8>,
}

impl CreatedWriter {
    pub(crate) fn begin(store: &Store, segment: SegmentId, table: u16) -> Result<Self, SnapshotError> {
        Ok(Self { writer: store.begin(&created_key(segment, table))?, counts: Vec::new() })
    }

    /// Those of the next bucket, per row and view.
    pub(crate) fn append(&mut self, rows: u32, values: impl Iterator<Item = i64>) -> Result<(), SnapshotError> {
        let mut bytes: Vec<u8> = values.flat_map(i64::to_le_bytes).collect();
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        self.counts.extend_from_slice(&rows.to_le_bytes());
        Ok(self.writer.append(&bytes)?)
    }

    pub(crate) async fn finish(mut self) -> Result<(), SnapshotError> {
        self.writer.append(&self.counts)?;
        self.writer.append(&xxh3_64(&self.counts).to_le_bytes())?;
        Ok(self.writer.finish().await?)
    }
}

/// Bytes of pages that are read at once.
const READ_BYTES: u64 = 4 << 20;
