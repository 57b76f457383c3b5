//! Requests for features, answered from the snapshots of one place.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mezze_core::{AnswerError, Limits, PageRef, Plan, Refusal, Snapshot, Timestamp};
use mezze_replica::{Error, PageFault, Reader};
use tokio::sync::Mutex;

use crate::http::{Answer, Answered, Exchange, Served};

/// Answers requests from the newest snapshot of an origin or replica.
///
/// Where a page of it is missing or damaged, the head is read once more, and then the snapshots before it answer, complete
/// ones, and the response's headers say so. A response never mixes two.
#[derive(Debug)]
pub struct Online {
    reader: Arc<Reader>,
    limits: Limits,
    /// When the head was last read because a page could not be.
    forced: Mutex<Option<Instant>>,
}

impl Online {
    /// Answers from what `reader` reads, within `limits`.
    pub const fn new(reader: Arc<Reader>, limits: Limits) -> Self {
        Self { reader, limits, forced: Mutex::const_new(None) }
    }

    /// What it reads.
    pub const fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    async fn answer_at(&self, body: &[u8], exchange: Exchange, now: Timestamp, out: &mut Vec<u8>) -> Result<Snapshot, Refusal> {
        let newest = self.reader.snapshot();
        let mut fault = match self.answer_from(&newest, body, exchange, now, out).await? {
            Ok(()) => return Ok(newest),
            Err(fault) => fault,
        };
        // A prune may have been faster than the last look at the head.
        if let Some(newer) = self.refresh_after_fault().await.ok().flatten() {
            match self.answer_from(&newer, body, exchange, now, out).await? {
                Ok(()) => return Ok(newer),
                Err(newer_fault) => fault = newer_fault,
            }
        }
        let mut number = 0;
        while let Ok(Some(previous)) = self.reader.previous(number).await {
            // What the older snapshot does not know is no fault of the request's.
            if let Ok(Ok(())) = self.answer_from(&previous, body, exchange, now, out).await {
                return Ok(previous);
            }
            number += 1;
        }
        Err(Refusal::unavailable(format!("no complete snapshot can be read: {fault}")))
    }

    async fn answer_from(
        &self,
        snapshot: &Snapshot,
        body: &[u8],
        exchange: Exchange,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<Result<(), Fault>, Refusal> {
        let plan = snapshot.plan_body(body, exchange.request, now, &self.limits)?;
        Ok(self.write(&plan, exchange, out).await)
    }

    async fn write(&self, plan: &Plan, exchange: Exchange, out: &mut Vec<u8>) -> Result<(), Fault> {
        let pages = self.reader.pages(plan).await?;
        let pages: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
        Ok(plan.write_answer(&pages, exchange.response, out)?)
    }

    /// Reads the head again, but no more often than once in [`FORCED_PAUSE`].
    async fn refresh_after_fault(&self) -> Result<Option<Snapshot>, Error> {
        let mut forced = self.forced.lock().await;
        if forced.is_some_and(|last| last.elapsed() < FORCED_PAUSE) {
            return Ok(None);
        }
        *forced = Some(Instant::now());
        self.reader.refresh().await
    }
}

/// Why a snapshot cannot answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error(transparent)]
    Page(#[from] PageFault),
}

impl Answer for Online {
    async fn answer(&self, body: &[u8], exchange: Exchange, out: &mut Vec<u8>) -> Answered {
        let now = now();
        match self.answer_at(body, exchange, now, out).await {
            Ok(snapshot) => Answered { status: 200, served: Some(Served::new(&snapshot, now)), retry_after_seconds: None },
            Err(refusal) => {
                out.clear();
                refusal.write(out);
                Answered { status: refusal.status, served: None, retry_after_seconds: refusal.retry_after_seconds }
            }
        }
    }

    fn is_ready(&self) -> bool {
        // A reader has a snapshot from the first.
        true
    }
}

/// The time by the system's clock.
pub fn now() -> Timestamp {
    let nanos = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_nanos(match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => nanos(since),
        Err(before) => -nanos(before.duration()),
    })
}

/// How often a missing page may make the head be read.
const FORCED_PAUSE: Duration = Duration::from_secs(1);
