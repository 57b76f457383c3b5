//! Requests for features, answered from the snapshots of one place.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mezze_core::{AnswerError, Ask, HttpConfig, HttpResponse, PageRef, Plan, Refusal, Served, Snapshot, Timestamp};
use mezze_replica::{Error, PageFault, Reader};
use tokio::sync::Mutex;

use crate::http::Answer;

/// Answers requests from the newest snapshot of an origin or replica.
///
/// Where a page of it is missing or damaged, the head is read once more, and then the snapshots before it answer, complete
/// ones, and the response's headers say so. A response never mixes two.
#[derive(Debug)]
pub struct Online {
    reader: Arc<Reader>,
    config: HttpConfig,
    /// When the head was last read because a page could not be, or a client had seen a later epoch.
    forced: Mutex<Option<Instant>>,
}

impl Online {
    /// Answers from what `reader` reads. Whom to trust is the reader's to know, and not the configuration's.
    pub fn new(reader: Arc<Reader>, mut config: HttpConfig) -> Self {
        config.trust = reader.trust().clone();
        Self { reader, config, forced: Mutex::const_new(None) }
    }

    /// What it reads.
    pub const fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    async fn answer_at(&self, ask: &Ask, body: &[u8], now: Timestamp) -> Result<HttpResponse, Refusal> {
        // What was accepted may have become too old since.
        if self.reader.check_age(now).is_err() {
            let reread = self.force_refresh().await;
            self.reader.check_age(now).map_err(|error| {
                let reread = reread.err().map(|error| format!("; read anew: {error}")).unwrap_or_default();
                Refusal::unavailable(format!("no snapshot can be read: {error}{reread}"))
            })?;
        }
        let mut newest = self.reader.snapshot();
        if ask.is_newer_than(&newest) {
            if let Some(newer) = self.force_refresh().await.ok().flatten() {
                newest = newer;
            }
            if ask.is_newer_than(&newest) {
                return Ok(
                    ask.too_old(&self.config, &Served { snapshot: &newest, steps_back: 0, signed: self.reader.is_signed(), now })
                );
            }
        }
        let mut fault = match self.answer_from(&newest, 0, ask, body, now).await? {
            Ok(response) => return Ok(response),
            Err(fault) => fault,
        };
        // A prune may have been faster than the last look at the head.
        if let Some(newer) = self.force_refresh().await.ok().flatten() {
            match self.answer_from(&newer, 0, ask, body, now).await? {
                Ok(response) => return Ok(response),
                Err(newer_fault) => fault = newer_fault,
            }
        }
        let mut number = 0;
        while let Ok(Some(previous)) = self.reader.previous(number).await {
            number += 1;
            if ask.is_newer_than(&previous) {
                break;
            }
            // What the older snapshot does not know is no fault of the request's.
            if let Ok(Ok(response)) = self.answer_from(&previous, number, ask, body, now).await {
                return Ok(response);
            }
        }
        Err(Refusal::unavailable(format!("no complete snapshot can be read: {fault}")))
    }

    async fn answer_from(
        &self,
        snapshot: &Snapshot,
        steps_back: usize,
        ask: &Ask,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Result<HttpResponse, Fault>, Refusal> {
        let served = Served { snapshot, steps_back, signed: self.reader.is_signed(), now };
        match ask.plan(snapshot, body, now, &self.config.limits)? {
            Some(plan) => Ok(self.reply(ask, &served, &plan).await),
            None => Ok(Ok(ask.describe(&self.config, &served))),
        }
    }

    async fn reply(&self, ask: &Ask, served: &Served<'_>, plan: &Plan) -> Result<HttpResponse, Fault> {
        let pages = self.reader.pages(plan).await?;
        let pages: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
        Ok(ask.reply(&self.config, served, plan, &pages)?)
    }

    /// Reads the head again, but no more often than once in [`FORCED_PAUSE`].
    async fn force_refresh(&self) -> Result<Option<Snapshot>, Error> {
        let mut forced = self.forced.lock().await;
        if forced.is_some_and(|last| last.elapsed() < FORCED_PAUSE) {
            return Ok(None);
        }
        *forced = Some(Instant::now());
        self.reader.refresh(now()).await
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
    fn config(&self) -> &HttpConfig {
        &self.config
    }

    async fn answer(&self, ask: Ask, body: Bytes) -> HttpResponse {
        match self.answer_at(&ask, &body, now()).await {
            Ok(response) => response,
            Err(refusal) => ask.refused(&refusal),
        }
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

/// How often a missing page or a client may make the head be read.
const FORCED_PAUSE: Duration = Duration::from_secs(1);
