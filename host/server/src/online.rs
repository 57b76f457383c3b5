//! Requests for features, answered from the snapshots of one place.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mezze_core::{
    AnswerError, Ask, HttpConfig, HttpResponse, NoTransforms, PageRef, Plan, Refusal, RunTransforms, Served, Snapshot, Timestamp,
    TransformId,
};
use mezze_replica::{Error, PageFault, Reader};
use tokio::sync::Mutex;

use crate::http::Answer;
use crate::metrics::Metrics;

/// Answers requests from the newest snapshot of an origin or replica.
///
/// Where a page of it is missing or damaged, the head is read once more, and then the snapshots before it answer, complete
/// ones, and the response's headers say so. A response never mixes two.
pub struct Online {
    reader: Arc<Reader>,
    config: Arc<HttpConfig>,
    transforms: Arc<dyn CarryTransforms>,
    metrics: Metrics,
    /// When the head was last read because a page could not be, or a client had seen a later epoch.
    forced: Mutex<Option<Instant>>,
}

/// What runs the components of on-demand views, and can fetch those that it does not have yet.
pub trait CarryTransforms: RunTransforms + Send + Sync + 'static {
    /// Gets components ready to run, as far as that can be: those that are not then have their features fail.
    fn make_ready<'a>(&'a self, needed: &'a [TransformId]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

impl CarryTransforms for NoTransforms {
    fn make_ready<'a>(&'a self, _needed: &'a [TransformId]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async {})
    }
}

impl fmt::Debug for Online {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Online").field("reader", &self.reader).field("config", &self.config).finish_non_exhaustive()
    }
}

impl Online {
    /// Answers from what `reader` reads. Whom to trust is the reader's to know, and not the configuration's.
    pub fn new(reader: Arc<Reader>, mut config: HttpConfig) -> Self {
        config.trust = reader.trust().clone();
        Self {
            reader,
            config: Arc::new(config),
            transforms: Arc::new(NoTransforms),
            metrics: Metrics::default(),
            forced: Mutex::const_new(None),
        }
    }

    /// The same with components, which compute on-demand features.
    #[must_use]
    pub fn with_transforms(self, transforms: Arc<dyn CarryTransforms>) -> Self {
        Self { transforms, ..self }
    }

    fn served<'a>(&'a self, snapshot: &'a Snapshot, now: Timestamp) -> Served<'a> {
        Served { transforms: &*self.transforms, ..Served::newest(snapshot, self.reader.is_signed(), now) }
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
                return Ok(ask.too_old(&self.config, &self.served(&newest, now)));
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
        let served = self.served(snapshot, now).steps_back(steps_back);
        match ask.plan(snapshot, body, now, &self.config.limits)? {
            Some(plan) if plan.transforms().next().is_some() => Ok(self.reply_with_transforms(ask, &served, plan).await),
            Some(plan) => Ok(self.reply(ask, &served, &plan).await),
            None => Ok(Ok(ask.describe(&self.config, &served))),
        }
    }

    async fn reply(&self, ask: &Ask, served: &Served<'_>, plan: &Plan) -> Result<HttpResponse, Fault> {
        let pages = self.reader.pages(plan).await?;
        let pages: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
        Ok(ask.reply(&self.config, served, plan, &pages)?)
    }

    /// Components may run for as long as they may: not in the thread that has other connections.
    async fn reply_with_transforms(&self, ask: &Ask, served: &Served<'_>, plan: Plan) -> Result<HttpResponse, Fault> {
        let needed: Vec<TransformId> = plan.transforms().map(|transform| transform.id).collect();
        self.transforms.make_ready(&needed).await;
        let pages = self.reader.pages(&plan).await?;
        let (ask, config, transforms) = (ask.clone(), Arc::clone(&self.config), Arc::clone(&self.transforms));
        let (snapshot, steps_back, signed, now) = (served.snapshot.clone(), served.steps_back, served.signed, served.now);
        let reply = move || {
            let served = Served { transforms: &*transforms, ..Served::newest(&snapshot, signed, now) }.steps_back(steps_back);
            let pages: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
            ask.reply(&config, &served, &plan, &pages)
        };
        match tokio::task::spawn_blocking(reply).await {
            Ok(response) => Ok(response?),
            Err(_) => Err(Fault::Thread),
        }
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
    #[error("the thread that computed it ended")]
    Thread,
}

impl Answer for Online {
    fn config(&self) -> &HttpConfig {
        &self.config
    }

    async fn answer(&self, ask: Ask, body: Bytes) -> HttpResponse {
        let response = match self.answer_at(&ask, &body, now()).await {
            Ok(response) => response,
            Err(refusal) => ask.refused(&refusal),
        };
        self.metrics.count(&response);
        response
    }

    fn metrics(&self) -> Option<String> {
        let snapshot = self.reader.snapshot();
        Some(self.metrics.text(snapshot.epoch(), now().since(snapshot.issued_at()).seconds().max(0)))
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
