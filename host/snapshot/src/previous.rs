//! The rows of a segment, read back.

use mezze_core::{
    INLINE_SEGMENT, KeyHash, KeyPart, PageError, PageKey, PageRef, SEGMENT_FOOTER_BYTES, Segment, SegmentIndex, Table,
    TableSchema,
};
use mezze_replica::{Error, Store, created_key, segment_key};
use xxhash_rust::xxh3::xxh3_64;

use crate::SnapshotError;
use crate::column::{Column, NONE};
use crate::content::{Keyed, NOT_CREATED, ViewStore, push_row};

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

/// The keys and rows of a segment's file, in order of hash. Event times are those that readers see.
pub(crate) async fn read_segment(
    store: &Store,
    number: u16,
    table: &Table,
    segment: &Segment,
    schema: &TableSchema,
    wanted: &[Wanted],
    stores: &mut [ViewStore],
) -> Result<Keyed, SnapshotError> {
    let key = segment_key(segment.id, number);
    let name = store.full_name(&key);
    let corrupt = |detail: &str| Error::Corrupt { key: name.clone(), detail: detail.to_owned() };
    let size = store.stat(&key).await?.ok_or_else(|| Error::Missing { key: name.clone() })?.size;
    let tail = |bytes: u64| store.read_range(&key, size.saturating_sub(bytes), bytes.min(size));
    let footer = tail(SEGMENT_FOOTER_BYTES as u64).await?.ok_or_else(|| Error::Missing { key: name.clone() })?;
    let format = |source| Error::Format { key: name.clone(), source };
    let tail_bytes = SegmentIndex::tail_bytes(&footer).map_err(format)?;
    let tail = tail(tail_bytes).await?.ok_or_else(|| Error::Missing { key: name.clone() })?;
    let index = SegmentIndex::decode(&tail).map_err(format)?;
    if index.bucket_count() != segment.bucket_count || index.row_count != segment.row_count {
        return Err(corrupt("it is not the file that the manifest names").into());
    }
    let created = read_created(store, segment, number, table.schema.views.len()).await?;
    let mut keyed = Keyed::new(schema);
    let mut row_number = 0;
    let mut bucket = 0;
    while bucket < segment.bucket_count {
        // Many pages at once: a read of a service is slow, and a file's is not free.
        let Some(first) = index.page_range(bucket) else { return Err(corrupt("its index ends early").into()) };
        let mut end = bucket;
        let mut upto = first.end;
        while end + 1 < segment.bucket_count && upto - first.start < READ_BYTES {
            end += 1;
            upto = index.page_range(end).map_or(upto, |range| range.end);
        }
        let bytes = store.read_range(&key, first.start, upto - first.start).await?;
        let bytes = bytes.ok_or_else(|| Error::Missing { key: name.clone() })?;
        for bucket in bucket..=end {
            let range = index.page_range(bucket).unwrap_or(0..0);
            let at = |offset: u64| usize::try_from(offset.saturating_sub(first.start)).unwrap_or(usize::MAX);
            let page_bytes = bytes.get(at(range.start)..at(range.end)).ok_or_else(|| corrupt("it ends early"))?;
            let page_key = PageKey::new(segment.id, number, bucket);
            let damaged = |error: PageError| SnapshotError::DamagedPage { key: format!("{name}, page {bucket}"), error };
            let page = PageRef::verify(page_bytes, &page_key, segment.bucket_count, &table.schema).map_err(damaged)?;
            let created = |row: u32, view: usize| {
                let place = (row_number + row as usize) * table.schema.views.len() + view;
                created.get(place).copied().unwrap_or(NOT_CREATED)
            };
            read_page(&page, table, wanted, stores, &created, &mut keyed).map_err(damaged)?;
            row_number += page.row_count() as usize;
        }
        bucket = end + 1;
    }
    Ok(keyed)
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
    read_page(&page, table, wanted, stores, &|_, _| NOT_CREATED, &mut keyed).map_err(damaged)?;
    Ok(keyed)
}

fn read_page(
    page: &PageRef<'_>,
    table: &Table,
    wanted: &[Wanted],
    stores: &mut [ViewStore],
    created: &dyn Fn(u32, usize) -> i64,
    keyed: &mut Keyed,
) -> Result<(), PageError> {
    let mut parts = Vec::with_capacity(table.schema.keys.len());
    for row in 0..page.row_count() {
        parts.clear();
        for column in 0..table.schema.keys.len() {
            parts.push(page.key_part(row, column)?);
        }
        keyed.hashes.push(KeyHash::of(&parts));
        keyed.key_rows.push(keyed.keys.first().map_or(0, Column::len) as u32);
        for (column, part) in keyed.keys.iter_mut().zip(&parts) {
            column.push_cell(match part {
                KeyPart::Int(value) => mezze_core::Cell::Int(*value),
                KeyPart::Bytes(bytes) => mezze_core::Cell::Bytes(bytes),
            });
        }
        let start = keyed.rows.len();
        keyed.rows.resize(start + keyed.view_count, NONE);
        for view in wanted {
            let Some(time) = page.event_time(row, view.time_column)? else { continue };
            let Some(store) = stores.get_mut(view.store) else { continue };
            let mut cells = Vec::with_capacity(view.columns.len());
            for column in &view.columns {
                cells.push(match column {
                    Some(column) => page.cell(row, *column)?,
                    None => mezze_core::Cell::Null,
                });
            }
            let place = push_row(store, time.nanos().saturating_add(view.shift), created(row, view.view), cells.into_iter());
            if let Some(slot) = keyed.rows.get_mut(start + view.store) {
                *slot = place;
            }
        }
    }
    Ok(())
}

/// The creation times of a segment's rows, per row and view; empty where none were written.
async fn read_created(store: &Store, segment: &Segment, table: u16, views: usize) -> Result<Vec<i64>, SnapshotError> {
    let key = created_key(segment.id, table);
    let Some(bytes) = store.read(&key).await? else { return Ok(Vec::new()) };
    let corrupt = |detail: &str| Error::Corrupt { key: store.full_name(&key), detail: detail.to_owned() };
    let Some((values, checksum)) = bytes.split_last_chunk::<8>() else { return Err(corrupt("it is too short").into()) };
    if xxh3_64(values) != u64::from_le_bytes(*checksum) || values.len() as u64 != segment.row_count * views as u64 * 8 {
        return Err(corrupt("its checksum or length is wrong").into());
    }
    Ok(values.as_chunks::<8>().0.iter().map(|value| i64::from_le_bytes(*value)).collect())
}

/// What [`read_created`] reads.
pub(crate) fn created_bytes(values: impl Iterator<Item = i64>) -> Vec<u8> {
    let mut bytes: Vec<u8> = values.flat_map(i64::to_le_bytes).collect();
    let checksum = xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Bytes of pages that are read at once.
const READ_BYTES: u64 = 8 << 20;
