//! Rows into the pages of a segment's file.

use std::sync::mpsc;

use mezze_core::{
    ColumnInput, KeyHash, PAGE_BYTES_LIMIT, PageInput, PageKey, PageWriteError, PageWriter, Physical, ROW_BYTES_MAX, SegmentId,
    SegmentWriter, TableSchema, ViewInput,
};

use crate::SnapshotError;
use crate::column::{Column, NONE};
use crate::content::{Keyed, ViewStore};

/// The rows of a segment to be: keys, and where the rows of their views are.
pub(crate) struct Rows<'a> {
    pub(crate) schema: &'a TableSchema,
    pub(crate) keyed: &'a Keyed,
    pub(crate) stores: &'a [ViewStore],
    /// Per view, what to subtract from event times.
    pub(crate) shifts: &'a [i64],
    /// Which keys, in order; all, if not given.
    pub(crate) chosen: Option<&'a [u32]>,
}

/// How to write pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageRules {
    pub(crate) threads: usize,
    /// Bytes that a page stays under, unless a single row has more.
    pub(crate) page_bytes_max: usize,
}

/// Where a segment's pages go.
pub(crate) trait Sink {
    fn append(&mut self, bytes: &[u8]) -> Result<(), SnapshotError>;
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

    /// How many buckets give pages of a good size: from pages of a few samples, so that it depends on nothing but the rows.
    fn bucket_count(&self, id: SegmentId, table: u16, rules: PageRules) -> Result<u32, SnapshotError> {
        let rows = self.len();
        let samples = u32::try_from(rows.div_ceil(SAMPLE_ROWS)).unwrap_or(u32::MAX).max(1);
        let mut scratch = Scratch::new(self.schema);
        let (mut bytes, mut sampled, mut page) = (0, 0, Vec::new());
        for number in 0..SAMPLES.min(samples) {
            let bucket = u32::try_from(u64::from(samples) * u64::from(number) / u64::from(SAMPLES.min(samples))).unwrap_or(0);
            page.clear();
            match scratch.write(self, PageKey::new(id, table, bucket), samples, &mut page) {
                Ok(rows) => {
                    bytes += page.len();
                    sampled += rows as usize;
                }
                // Very wide rows: count on the limit's being reached by as many.
                Err(PageWriteError::TooLarge { bytes: over }) => {
                    bytes += over;
                    sampled += self.bucket(bucket, samples).len();
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        let row_bytes = (bytes / sampled.max(1)).max(1);
        let aim = rules.page_bytes_max * 3 / 4;
        let rows_a_page = (aim / row_bytes).max(1);
        Ok(u32::try_from(rows.div_ceil(rows_a_page)).unwrap_or(u32::MAX).max(1))
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

    /// Writes all pages, bucket by bucket, and the index behind them. `sink` begins a file: it is asked for another if the
    /// pages come out too large and are made anew, smaller.
    pub(crate) fn write<S: Sink>(
        &self,
        id: SegmentId,
        table: u16,
        rules: PageRules,
        mut sink: impl FnMut() -> Result<S, SnapshotError>,
    ) -> Result<(S, SegmentWriter), SnapshotError> {
        let mut bucket_count = self.bucket_count(id, table, rules)?;
        loop {
            let mut file = sink()?;
            // With rows this thin on the pages, one that is too large is large by one row.
            let last = bucket_count as usize >= self.len().saturating_mul(THINNEST).max(1);
            match self.write_pages(id, table, bucket_count, rules, last, &mut file)? {
                Some(writer) => {
                    let tail = writer.finish().ok_or_else(|| SnapshotError::TooMuch {
                        table: self.schema.name.clone(),
                        what: "4,294,967,295 pages are the most".into(),
                    })?;
                    file.append(&tail)?;
                    return Ok((file, writer));
                }
                None => bucket_count = bucket_count.saturating_add(bucket_count / 3 + 1),
            }
        }
    }

    /// `None` where a page came out too large and smaller ones are to be made.
    fn write_pages(
        &self,
        id: SegmentId,
        table: u16,
        bucket_count: u32,
        rules: PageRules,
        last: bool,
        file: &mut impl Sink,
    ) -> Result<Option<SegmentWriter>, SnapshotError> {
        let threads = rules.threads.max(1);
        let chunks = bucket_count.div_ceil(CHUNK_BUCKETS);
        let make = |chunk: u32, scratch: &mut Scratch| -> Result<Option<Chunk>, SnapshotError> {
            let mut made = Chunk::default();
            let end = (chunk + 1).saturating_mul(CHUNK_BUCKETS).min(bucket_count);
            for bucket in chunk * CHUNK_BUCKETS..end {
                let start = made.bytes.len();
                let written = scratch.write(self, PageKey::new(id, table, bucket), bucket_count, &mut made.bytes);
                let page_bytes = made.bytes.len() - start;
                match written {
                    Ok(rows) if page_bytes <= rules.page_bytes_max || rows <= 1 || last => {
                        if page_bytes > rules.page_bytes_max
                            && let Some(error) = self.too_large(self.bucket(bucket, bucket_count))
                        {
                            return Err(error);
                        }
                        made.pages.push((page_bytes as u32, rows));
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
        let mut writer = SegmentWriter::new(id, table);
        if threads == 1 {
            let mut scratch = Scratch::new(self.schema);
            for chunk in 0..chunks {
                let Some(made) = make(chunk, &mut scratch)? else { return Ok(None) };
                made.put(&mut writer, file)?;
            }
            return Ok(Some(writer));
        }
        // Each thread makes every n-th chunk; they are written in order.
        std::thread::scope(|scope| {
            let makers: Vec<mpsc::Receiver<Result<Option<Chunk>, SnapshotError>>> = (0..threads as u32)
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
                    Some(Ok(Some(made))) => made.put(&mut writer, file)?,
                    Some(Err(error)) => return Err(error),
                    Some(Ok(None)) | None => return Ok(None),
                }
            }
            Ok(Some(writer))
        })
    }
}

/// Pages of neighbouring buckets.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Bytes and rows of each page.
    pages: Vec<(u32, u32)>,
}

impl Chunk {
    fn put(&self, writer: &mut SegmentWriter, file: &mut impl Sink) -> Result<(), SnapshotError> {
        file.append(&self.bytes)?;
        self.pages.iter().for_each(|(bytes, rows)| writer.push(*bytes, *rows));
        Ok(())
    }
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
            for ((view, row), (store, shift)) in
                self.views.iter_mut().zip(rows.keyed.rows_of(index)).zip(rows.stores.iter().zip(rows.shifts))
            {
                view.rows.push(*row);
                view.present.push(*row != NONE);
                view.times.push(store.times.get(*row as usize).map_or(0, |time| time.wrapping_sub(*shift)));
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
const SAMPLE_ROWS: usize = 256;
/// Sample pages.
const SAMPLES: u32 = 8;
/// Buckets that a thread makes at a time.
const CHUNK_BUCKETS: u32 = 16;
/// Chunks that a thread may be ahead of the file.
const CHUNKS_AHEAD: usize = 4;
/// Buckets a row at the most.
const THINNEST: usize = 4;
