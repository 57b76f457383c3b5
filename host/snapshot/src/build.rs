//! Rows into the pages of a segment's file.

use std::sync::mpsc;

use mezze_core::{
    ColumnInput, Digest, KeyHash, PAGE_BYTES_LIMIT, PageInput, PageKey, PageWriteError, PageWriter, PatchInput, Physical,
    ROW_BYTES_MAX, TableSchema, Tree, ViewInput, path_bytes,
};

use crate::SnapshotError;
use crate::column::{Column, NONE};
use crate::content::{Keyed, NOT_CREATED, ViewStore};
use crate::table::{Own, Patch};

/// The rows of a segment to be: keys, and where the rows of their views are.
pub(crate) struct Rows<'a> {
    pub(crate) schema: &'a TableSchema,
    pub(crate) keyed: &'a Keyed,
    pub(crate) stores: &'a [ViewStore],
    /// Which keys, in order; all, if not given.
    pub(crate) chosen: Option<&'a [u32]>,
    /// What they are written against, if this is a delta.
    pub(crate) patch: Option<Patch<'a>>,
}

/// How to write pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageRules {
    pub(crate) threads: usize,
    /// Bytes that a page stays under with the path behind it, unless a single row has more.
    pub(crate) page_bytes_max: usize,
}

impl Rows<'_> {
    pub(crate) fn len(&self) -> usize {
        self.chosen.map_or(self.keyed.len(), <[u32]>::len)
    }

    fn index(&self, position: usize) -> usize {
        self.chosen.map_or(position, |chosen| chosen.get(position).map_or(0, |index| *index as usize))
    }

    fn hash(&self, position: usize) -> KeyHash {
        self.keyed.hashes.get(self.index(position)).copied().unwrap_or(KeyHash::from_u64(0))
    }

    /// The positions of a bucket's rows.
    fn bucket(&self, bucket: u32, bucket_count: u32) -> std::ops::Range<usize> {
        let first = |bucket: u32| {
            let (mut low, mut high) = (0, self.len());
            while low < high {
                let middle = low + (high - low) / 2;
                if self.hash(middle).bucket(bucket_count) < bucket { low = middle + 1 } else { high = middle }
            }
            low
        };
        let end = if bucket + 1 >= bucket_count { self.len() } else { first(bucket + 1) };
        first(bucket)..end
    }

    /// The keys at some positions in the order of a page: of a delta, first those that are in the base.
    fn in_page(&self, positions: std::ops::Range<usize>) -> impl Iterator<Item = usize> + Clone {
        let is_patched = |index: &usize| self.patch.is_some_and(|patch| patch.place(*index).is_some());
        let indexes = positions.map(|position| self.index(position));
        indexes.clone().filter(move |index| is_patched(index)).chain(indexes.filter(move |index| !is_patched(index)))
    }

    /// When the rows of a page were created, per row and view; `positions` are the page's.
    pub(crate) fn created(&self, positions: std::ops::Range<usize>) -> impl Iterator<Item = i64> {
        let rows = self.in_page(positions).flat_map(|index| self.keyed.rows_of(index).iter().zip(self.stores));
        rows.map(|(row, store)| store.created.get(*row as usize).copied().unwrap_or(NOT_CREATED))
    }

    /// Adds the bytes and rows of a page of a sample.
    pub(crate) fn sample(&self, key: PageKey, bucket_count: u32, sample: &mut Sample) -> Result<(), SnapshotError> {
        let mut page = Vec::new();
        match Scratch::new(self.schema).write(self, key, bucket_count, &mut page) {
            Ok(rows) => {
                sample.bytes += page.len();
                sample.rows += rows as usize;
            }
            // Very wide rows: count on the limit's being reached by as many.
            Err(PageWriteError::TooLarge { bytes }) => {
                sample.bytes += bytes;
                sample.rows += self.bucket(key.bucket, bucket_count).len();
            }
            Err(error) => return Err(self.failed(error)),
        }
        Ok(())
    }

    fn failed(&self, error: PageWriteError) -> SnapshotError {
        SnapshotError::Page { table: self.schema.name.clone(), error }
    }

    /// A row above the limit, if there is one among these.
    fn too_large(&self, positions: std::ops::Range<usize>) -> Option<SnapshotError> {
        positions.into_iter().find_map(|position| {
            let index = self.index(position);
            let rows = self.keyed.rows_of(index);
            let stores = self.stores.iter().zip(rows);
            let bytes: usize =
                stores.map(|(store, row)| store.features.iter().map(|column| 8 + column.run_bytes(*row)).sum::<usize>()).sum();
            (bytes > ROW_BYTES_MAX).then(|| {
                let key: Vec<String> = self
                    .schema
                    .keys
                    .iter()
                    .zip(self.keyed.key(index))
                    .map(|(column, part)| match part {
                        mezze_core::KeyPart::Int(value) => format!("{}={value}", column.join_key),
                        mezze_core::KeyPart::Bytes(bytes) => {
                            format!("{}={}", column.join_key, String::from_utf8_lossy(bytes))
                        }
                    })
                    .collect();
                SnapshotError::RowTooLarge { table: self.schema.name.clone(), key: key.join(", "), bytes, limit: ROW_BYTES_MAX }
            })
        })
    }

    /// The only page of a table without keys.
    pub(crate) fn write_inline(&self, key: PageKey) -> Result<Vec<u8>, SnapshotError> {
        let mut page = Vec::new();
        Scratch::new(self.schema).write(self, key, 1, &mut page).map_err(|error| self.failed(error))?;
        match self.too_large(0..self.len()) {
            Some(error) => Err(error),
            None => Ok(page),
        }
    }

    /// Makes the pages of some buckets and gives them to `put`, in order. `last` where there is no use in making pages smaller.
    /// `false` where a page came out too large and smaller ones are to be made.
    pub(crate) fn write_pages(
        &self,
        key: PageKey,
        buckets: std::ops::Range<u32>,
        bucket_count: u32,
        rules: PageRules,
        last: bool,
        mut put: impl FnMut(&Pages) -> Result<(), SnapshotError>,
    ) -> Result<bool, SnapshotError> {
        let threads = rules.threads.max(1);
        let page_bytes_max = rules.page_bytes_max.saturating_sub(path_bytes(bucket_count));
        let chunks = (buckets.end - buckets.start).div_ceil(CHUNK_BUCKETS);
        let make = |chunk: u32, scratch: &mut Scratch| -> Result<Option<Pages>, SnapshotError> {
            let first = buckets.start + chunk * CHUNK_BUCKETS;
            let end = first.saturating_add(CHUNK_BUCKETS).min(buckets.end);
            let mut made = Pages::default();
            for bucket in first..end {
                let start = made.bytes.len();
                let written = scratch.write(self, PageKey::new(key.segment, key.table, bucket), bucket_count, &mut made.bytes);
                let page_bytes = made.bytes.len() - start;
                match written {
                    Ok(rows) if page_bytes <= page_bytes_max || rows <= 1 || last => {
                        if page_bytes > page_bytes_max
                            && let Some(error) = self.too_large(self.bucket(bucket, bucket_count))
                        {
                            return Err(error);
                        }
                        made.pages.push((page_bytes as u32, rows));
                        made.leaves.push(Tree::leaf(made.bytes.get(start..).unwrap_or_default()));
                    }
                    Ok(_) | Err(PageWriteError::TooLarge { .. }) => {
                        if let Some(error) = self.too_large(self.bucket(bucket, bucket_count)) {
                            return Err(error);
                        }
                        match written {
                            Err(error) if last => return Err(self.failed(error)),
                            _ => return Ok(None),
                        }
                    }
                    Err(error) => return Err(self.failed(error)),
                }
            }
            Ok(Some(made))
        };
        if threads == 1 {
            let mut scratch = Scratch::new(self.schema);
            for chunk in 0..chunks {
                let Some(made) = make(chunk, &mut scratch)? else { return Ok(false) };
                put(&made)?;
            }
            return Ok(true);
        }
        // Each thread makes every n-th chunk; they are written in order.
        std::thread::scope(|scope| {
            let makers: Vec<mpsc::Receiver<Result<Option<Pages>, SnapshotError>>> = (0..threads as u32)
                .map(|first| {
                    let (sender, receiver) = mpsc::sync_channel(CHUNKS_AHEAD);
                    let make = &make;
                    scope.spawn(move || {
                        let mut scratch = Scratch::new(self.schema);
                        for chunk in (first..chunks).step_by(threads) {
                            let made = make(chunk, &mut scratch);
                            let stop = !matches!(made, Ok(Some(_)));
                            // Nobody listens any more once another chunk has failed.
                            if sender.send(made).is_err() || stop {
                                return;
                            }
                        }
                    });
                    receiver
                })
                .collect();
            for chunk in 0..chunks as usize {
                let made = makers.get(chunk % threads).and_then(|maker| maker.recv().ok());
                match made {
                    Some(Ok(Some(made))) => put(&made)?,
                    Some(Err(error)) => return Err(error),
                    Some(Ok(None)) | None => return Ok(false),
                }
            }
            Ok(true)
        })
    }
}

/// Pages of neighbouring buckets.
#[derive(Default)]
pub(crate) struct Pages {
    pub(crate) bytes: Vec<u8>,
    /// Bytes and rows of each page.
    pub(crate) pages: Vec<(u32, u32)>,
    /// The tree's leaf of each page.
    pub(crate) leaves: Vec<Digest>,
}

/// What pages of samples took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    bytes: usize,
    rows: usize,
}

impl Sample {
    /// Buckets that have about as many rows as a first sample page.
    pub(crate) fn first_bucket_count(row_count: u64) -> u32 {
        u32::try_from(row_count.div_ceil(SAMPLE_ROWS)).unwrap_or(u32::MAX).max(1)
    }

    /// The buckets to take of so many.
    pub(crate) fn buckets(bucket_count: u32) -> impl Iterator<Item = u32> {
        let taken = SAMPLES.min(bucket_count);
        (0..taken)
            .map(move |number| u32::try_from(u64::from(bucket_count) * u64::from(number) / u64::from(taken.max(1))).unwrap_or(0))
    }

    /// Bytes of all pages, by those of the sample.
    pub(crate) fn all_bytes(self, row_count: u64) -> u64 {
        (self.row_bytes() * row_count as f64) as u64
    }

    fn row_bytes(self) -> f64 {
        (self.bytes as f64 / self.rows.max(1) as f64).max(1.0 / 8.0)
    }

    /// How many buckets give pages of a good size. Of so many keys thrown at random, some bucket gets more than others: by five times
    /// the root of their mean it is not above the limit in a million.
    pub(crate) fn bucket_count(self, row_count: u64, page_bytes_max: usize) -> u32 {
        let rows_most = page_bytes_max.saturating_sub(path_bytes(Self::first_bucket_count(row_count))) as f64 / self.row_bytes();
        // The mean m for which m + 5 sqrt(m) are the most.
        let root = ((25.0 + 4.0 * rows_most).sqrt() - 5.0) / 2.0;
        // So few that they vary by more than themselves: what is too large is made smaller by who writes.
        let rows_a_page = (root * root).max(rows_most / 3.0).max(1.0);
        u32::try_from((row_count as f64 / rows_a_page).ceil() as u64).unwrap_or(u32::MAX).max(1)
    }
}

/// Whether with so many buckets rows are so thin on the pages that one that is too large is large by one row.
pub(crate) fn is_thinnest(bucket_count: u32, row_count: u64) -> bool {
    u64::from(bucket_count) >= row_count.saturating_mul(THINNEST).max(1)
}

/// Buffers for one page after another.
struct Scratch {
    writer: PageWriter,
    indexes: Vec<usize>,
    places: Vec<(u32, u32)>,
    hashes: Vec<KeyHash>,
    keys: Vec<Column>,
    key_rows: Vec<u32>,
    views: Vec<ScratchView>,
}

struct ScratchView {
    /// Of each row of the page, that of the store.
    rows: Vec<u32>,
    times: Vec<i64>,
    present: Vec<bool>,
    features: Vec<Column>,
    /// Which rows of a delta have a cell: of the event time, and of each feature.
    own_time: Vec<bool>,
    own_features: Vec<Vec<bool>>,
}

impl Scratch {
    fn new(schema: &TableSchema) -> Self {
        let column = |physical: Physical| Column::new(physical);
        Self {
            writer: PageWriter::new(),
            indexes: Vec::new(),
            places: Vec::new(),
            hashes: Vec::new(),
            keys: schema.keys.iter().map(|key| column(key.key_type.physical())).collect(),
            key_rows: Vec::new(),
            views: schema
                .views
                .iter()
                .map(|view| ScratchView {
                    rows: Vec::new(),
                    times: Vec::new(),
                    present: Vec::new(),
                    features: view.features.iter().map(|feature| column(feature.value_type.physical())).collect(),
                    own_time: Vec::new(),
                    own_features: vec![Vec::new(); view.features.len()],
                })
                .collect(),
        }
    }

    /// Appends the page of a bucket; how many rows it has.
    fn write(&mut self, rows: &Rows<'_>, key: PageKey, bucket_count: u32, out: &mut Vec<u8>) -> Result<u32, PageWriteError> {
        let positions = rows.bucket(key.bucket, bucket_count);
        self.indexes.clear();
        self.indexes.extend(rows.in_page(positions.clone()));
        self.places.clear();
        if let Some(patch) = rows.patch {
            self.places.extend(self.indexes.iter().map_while(|index| patch.place(*index)));
        }
        let keyed = self.indexes.get(self.places.len()..).unwrap_or_default();
        self.hashes.clear();
        self.hashes.extend(keyed.iter().filter_map(|index| rows.keyed.hashes.get(*index).copied()));
        self.key_rows.clear();
        self.key_rows.extend(keyed.iter().map(|index| rows.keyed.key_rows.get(*index).copied().unwrap_or(NONE)));
        self.views.iter_mut().for_each(|view| view.rows.clear());
        for index in &self.indexes {
            for (view, row) in self.views.iter_mut().zip(rows.keyed.rows_of(*index)) {
                view.rows.push(*row);
            }
        }
        for (from, to) in rows.keyed.keys.iter().zip(&mut self.keys) {
            from.gather(self.key_rows.iter().copied(), to);
        }
        if let Some(patch) = rows.patch {
            self.find_own(rows, patch);
        }
        for (view, store) in self.views.iter_mut().zip(rows.stores) {
            view.times.clear();
            view.times.extend(view.rows.iter().map(|row| store.times.get(*row as usize).copied().unwrap_or(0)));
            view.present.clear();
            view.present.extend(view.rows.iter().map(|row| *row != NONE));
            for (from, to) in store.features.iter().zip(&mut view.features) {
                from.gather(view.rows.iter().copied(), to);
            }
        }
        let keys: Vec<ColumnInput<'_>> = self.keys.iter().map(Column::input).collect();
        let features: Vec<Vec<ColumnInput<'_>>> =
            self.views.iter().map(|view| view.features.iter().map(Column::input).collect()).collect();
        let views: Vec<ViewInput<'_>> = self
            .views
            .iter()
            .zip(&features)
            .map(|(view, features)| ViewInput { times: &view.times, present: Some(&view.present), features })
            .collect();
        let page = PageInput { key, bucket_count, hashes: &self.hashes, keys: &keys, views: &views };
        let start = out.len();
        if rows.patch.is_some() {
            let own: Vec<&[bool]> = self
                .views
                .iter()
                .flat_map(|view| std::iter::once(&view.own_time).chain(&view.own_features))
                .map(Vec::as_slice)
                .collect();
            self.writer.write_patch(&PatchInput { page, places: &self.places, own: &own }, out)?;
        } else {
            self.writer.write(&page, out)?;
        }
        debug_assert!(out.len() - start <= PAGE_BYTES_LIMIT);
        Ok(positions.len() as u32)
    }

    /// Which cells the rows of a delta have.
    fn find_own(&mut self, rows: &Rows<'_>, patch: Patch<'_>) {
        for view in &mut self.views {
            view.own_time.clear();
            view.own_features.iter_mut().for_each(Vec::clear);
        }
        for (row, index) in self.indexes.iter().enumerate() {
            patch.own(*index, |number, own| {
                let (Some(view), Some(store)) = (self.views.get_mut(number), rows.stores.get(number)) else { return };
                let now = view.rows.get(row).copied().unwrap_or(NONE);
                view.own_time.push(match own {
                    Own::Nothing => false,
                    Own::Time | Own::Everything => true,
                    Own::Some { moved, .. } => moved,
                });
                for (flags, column) in view.own_features.iter_mut().zip(&store.features) {
                    flags.push(match own {
                        Own::Nothing | Own::Time => false,
                        Own::Everything => true,
                        Own::Some { was, .. } => !column.same(now, was),
                    });
                }
            });
        }
    }
}

/// Rows of a sample page.
const SAMPLE_ROWS: u64 = 256;
/// Sample pages.
const SAMPLES: u32 = 8;
/// Buckets that a thread makes at a time.
const CHUNK_BUCKETS: u32 = 16;
/// Chunks that a thread may be ahead of the file.
const CHUNKS_AHEAD: usize = 4;
/// Buckets a row at the most.
const THINNEST: u64 = 4;
