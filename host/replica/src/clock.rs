//! Time, as publishing needs it: tests and simulations bring their own.

use async_trait::async_trait;
use mezze_core::{Span, Timestamp};

/// Tells the time and waits.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Returns after this span.
    async fn sleep(&self, span: Span);
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_nanos(i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX))
    }

    async fn sleep(&self, span: Span) {
        tokio::time::sleep(std::time::Duration::from_nanos(u64::try_from(span.nanos()).unwrap_or(0))).await;
    }
}
