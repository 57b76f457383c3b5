//! Time that passes only when a test or a publisher's wait says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A virtual clock. Clones are of the same clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    nanos: Arc<AtomicI64>,
}

impl Clock {
    /// A clock that stands at the start of 2026.
    pub(crate) fn new() -> Self {
        Self { nanos: Arc::new(AtomicI64::new(1_767_225_600_000_000_000)) }
    }

    /// Nanoseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.nanos.load(Ordering::SeqCst)
    }

    /// Lets time pass: what a wait does.
    pub(crate) fn advance(&self, time: Duration) {
        self.nanos.fetch_add(nanos(time), Ordering::SeqCst);
    }
}

/// A duration in nanoseconds.
pub(crate) fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).expect("tests last less than centuries")
}
