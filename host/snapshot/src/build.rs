//! Rows into the pages of a segment's file.

use std::sync::mpsc;

use mezze_core::{
    ColumnInput, Digest, KeyHash, PAGE_BYTES_LIMIT, PageInput, PageKey, PageWriteError, PageWriter, Physical, ROW_BYTES_MAX,
    TableSchema, Tree, ViewInput, path_bytes,
};

use crate::SnapshotError;
use crate::column::{Column, NONE};
use crate::content::{Keyed, NOT_CREATED, ViewStore};

/// The rows of a segment to be: keys, and where the rows of their views are.
pub(crate) struct Rows<'a> {
    pub(crate) schema: &'a TableSchema,
    pub(crate) keyed: &'a Keyed,
    pub(crate) stores: &'a [ViewStore],
    /// Which keys, in order; all, if not given.
    pub(crate) chosen: Option<&'a [u32]>,
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

    /// When the rows at some positions were created, per row and view.
    pub(crate) fn created(&self, positions: std::ops::Range<usize>) -> impl Iterator<Item = i64> {
        let rows = positions.flat_map(|position| self.keyed.rows_of(self.index(position)).iter().zip(self.stores));
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
    /// The buckets of as many samples as `row_count` rows ask for, and how many buckets they are of.
    pub(crate) fn buckets(row_count: u64) -> (Vec<u32>, u32) {
        let all = u32::try_from(row_count.div_ceil(SAMPLE_ROWS)).unwrap_or(u32::MAX).max(1);
        let taken = SAMPLES.min(all);
        let bucket = |number: u32| u32::try_from(u64::from(all) * u64::from(number) / u64::from(taken)).unwrap_or(0);
        ((0..taken).map(bucket).collect(), all)
    }

    /// How many buckets give pages of a good size.
    pub(crate) fn bucket_count(self, row_count: u64, page_bytes_max: usize) -> u32 {
        let row_bytes = (self.bytes / self.rows.max(1)).max(1);
        let rows_a_page = (page_bytes_max * 3 / 4 / row_bytes).max(1);
        u32::try_from(row_count.div_ceil(rows_a_page as u64)).unwrap_or(u32::MAX).max(1)
    }
}

/// Whether with so many buckets rows are so thin on the pages that one that is too large is large by one row.
pub(crate) fn is_thinnest(bucket_count: u32, row_count: u64) -> bool {
    u64::from(bucket_count) >= row_count.saturating_mul(THINNEST).max(1)
}

/// Buffers for one page after another.
struct Scratch {
    writer: PageWriter,
    hashes: Vec<KeyHash>,
    keys: Vec<Column>,
    key_rows: Vec<u32>,
    views: Vec<ScratchView>,
}

struct ScratchView {
    rows: Vec<u32>,
    times: Vec<i64>,
    present: Vec<bool>,
    features: Vec<Column>,
}

impl Scratch {
    fn new(schema: &TableSchema) -> Self {
        let column = |physical: Physical| Column::new(physical);
        Self {
            writer: PageWriter::new(),
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
                })
                .collect(),
        }
    }

    /// Appends the page of a bucket; how many rows it has.
    fn write(&mut self, rows: &Rows<'_>, key: PageKey, bucket_count: u32, out: &mut Vec<u8>) -> Result<u32, PageWriteError> {
        let positions = rows.bucket(key.bucket, bucket_count);
        self.hashes.clear();
        self.key_rows.clear();
        self.views.iter_mut().for_each(|view| {
            view.rows.clear();
            view.times.clear();
            view.present.clear();
        });
        for position in positions.clone() {
            let index = rows.index(position);
            self.hashes.push(rows.hash(position));
            self.key_rows.push(rows.keyed.key_rows.get(index).copied().unwrap_or(NONE));
            for ((view, row), store) in self.views.iter_mut().zip(rows.keyed.rows_of(index)).zip(rows.stores) {
                view.rows.push(*row);
                view.present.push(*row != NONE);
                view.times.push(store.times.get(*row as usize).copied().unwrap_or(0));
            }
        }
        for (from, to) in rows.keyed.keys.iter().zip(&mut self.keys) {
            from.gather(self.key_rows.iter().copied(), to);
        }
        for (view, store) in self.views.iter_mut().zip(rows.stores) {
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
        let input = PageInput { key, bucket_count, hashes: &self.hashes, keys: &keys, views: &views };
        let start = out.len();
        self.writer.write(&input, out)?;
        debug_assert!(out.len() - start <= PAGE_BYTES_LIMIT);
        Ok(positions.len() as u32)
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
