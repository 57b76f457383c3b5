//! What a join does, counted phase by phase.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The phase that reads keys and times of all feature rows.
pub(super) const READ_NARROW: &str = "read keys and times";

/// A phase of a join, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PhaseReport {
    /// What is done.
    pub name: &'static str,
    /// Rows that went through.
    pub rows: u64,
    /// Bytes read from files, as they are there.
    pub bytes_read: u64,
    /// Rows that statistics showed not to matter.
    pub rows_pruned: u64,
    /// Their bytes.
    pub bytes_pruned: u64,
    /// Processor time of all threads.
    pub cpu: Duration,
    /// Of reading, the processor time of decoding the same columns of the same row groups and doing nothing with them.
    pub bare: Option<Duration>,
}

/// One phase's counters.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    rows: AtomicU64,
    bytes: AtomicU64,
    rows_pruned: AtomicU64,
    bytes_pruned: AtomicU64,
    cpu_nanos: AtomicU64,
}

/// Adds the thread's processor time since it was made when it is dropped.
pub(crate) struct Begun<'a> {
    meter: &'a Meter,
    since: u64,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.meter.cpu_nanos.fetch_add(thread_nanos().saturating_sub(self.since), Ordering::Relaxed);
    }
}

/// The processor time of this thread.
#[cfg(unix)]
fn thread_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Elsewhere the time that passes stands for it.
#[cfg(not(unix))]
fn thread_nanos() -> u64 {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Meter {
    /// Begins to measure.
    pub(crate) fn begin(&self) -> Begun<'_> {
        Begun { meter: self, since: thread_nanos() }
    }

    pub(crate) fn add_rows(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(super) fn add_pruned(&self, rows: usize, bytes: u64) {
        self.rows_pruned.fetch_add(rows as u64, Ordering::Relaxed);
        self.bytes_pruned.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> &AtomicU64 {
        &self.bytes
    }

    fn report(&self, name: &'static str) -> PhaseReport {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PhaseReport {
            name,
            rows: read(&self.rows),
            bytes_read: read(&self.bytes),
            rows_pruned: read(&self.rows_pruned),
            bytes_pruned: read(&self.bytes_pruned),
            cpu: Duration::from_nanos(read(&self.cpu_nanos)),
            bare: None,
        }
    }
}

/// The phases of a join.
#[derive(Debug, Default)]
pub(crate) struct Phases {
    /// Reading the ends of files.
    pub(super) open: Meter,
    /// Reading entity rows.
    pub(super) entity_rows: Meter,
    /// Sorting their keys and times.
    pub(super) slots: Meter,
    /// Reading keys and times of feature rows.
    pub(super) narrow: Meter,
    /// The same once more, with nothing done.
    pub(super) bare_narrow: Meter,
    /// Finding their slots.
    pub(super) search: Meter,
    /// Finding the winners.
    pub(super) winners: Meter,
    /// Reading their features.
    pub(super) features: Meter,
    /// The same once more, with nothing done.
    pub(super) bare_features: Meter,
    /// Bringing them together.
    pub(super) collect: Meter,
    /// Writing the output.
    pub(crate) write: Meter,
    /// How many times entity rows were taken until their memory was full.
    pub(super) chunks: AtomicU64,
}

impl Phases {
    /// The phases in order.
    pub(crate) fn report(&self) -> Vec<PhaseReport> {
        let beside = |mut phase: PhaseReport, bare: &Meter| {
            let bare = bare.report("").cpu;
            phase.bare = (!bare.is_zero()).then_some(bare);
            phase
        };
        vec![
            self.open.report("open files"),
            self.entity_rows.report("read entity rows"),
            self.slots.report("sort entity rows"),
            beside(self.narrow.report(READ_NARROW), &self.bare_narrow),
            self.search.report("find slots"),
            self.winners.report("find winners"),
            beside(self.features.report("read features"), &self.bare_features),
            self.collect.report("collect features"),
            self.write.report("write"),
        ]
    }

    /// How many times the entity rows filled the memory that they may have.
    pub(crate) fn chunks(&self) -> u64 {
        self.chunks.load(Ordering::Relaxed)
    }
}
