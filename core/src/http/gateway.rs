//! Requests against a key-value store: which keys to read next, and which snapshot answers in the end.

use alloc::{boxed::Box, format, string::String, string::ToString, sync::Arc, vec::Vec};
use core::fmt;

use super::{Ask, HttpConfig, HttpResponse, Served};
use crate::{
    HEAD_KEY, NANOS_PER_SECOND, PageCache, PageKey, PageRef, Plan, Refusal, SignedHead, Snapshot, SnapshotId, Span, Timestamp,
    Trust,
};

/// What a host keeps between requests: the head, its snapshot, and verified pages. Any number of exchanges may be under way.
///
/// Where a page is missing or damaged, it is read once more past the caches, then the head is, and then the snapshots before the
/// head's answer, complete ones, [`STEPS_BACK_MAX`] at most, within the reads that one request may do; then the response is 503.
#[derive(Debug)]
pub struct Gateway {
    config: HttpConfig,
    held: Option<Held>,
    head_read_at: Option<Timestamp>,
    /// When the head was last read past the caches, because a page was missing or a client had seen a later epoch.
    forced_at: Option<Timestamp>,
    pages: PageCache,
    #[cfg(feature = "expressions")]
    transforms: &'static (dyn crate::RunTransforms + Sync),
}

/// A head and its snapshot.
#[derive(Clone, Debug)]
struct Held {
    head: Arc<SignedHead>,
    snapshot: Snapshot,
    /// Snapshots before it that had to be opened.
    previous: Vec<Snapshot>,
}

/// One request under way.
#[derive(Debug)]
pub struct Exchange {
    ask: Ask,
    body: Vec<u8>,
    state: State,
    /// The instant that freshness is judged by: that of the first step.
    now: Option<Timestamp>,
    reads_left: usize,
    /// This exchange has read the head past the caches.
    forced: bool,
    /// Why the newest snapshot cannot answer.
    fault: Option<String>,
    /// The epoch whose pages could not be had.
    given_up: Option<u64>,
}

#[derive(Debug)]
enum State {
    Begin,
    /// The head is being read.
    Head,
    /// The manifest of a head is being read.
    Manifest(Box<SignedHead>),
    /// The manifest of an earlier snapshot is being read.
    Earlier(Arc<SignedHead>, usize),
    Pages(Reading),
    Done,
}

/// The pages of a plan.
#[derive(Debug)]
struct Reading {
    head: Arc<SignedHead>,
    steps_back: usize,
    plan: Plan,
    pages: Vec<Option<Arc<[u8]>>>,
    /// The numbers of the pages that are being read.
    awaited: Vec<usize>,
    /// They are being read past the caches.
    again: bool,
}

/// A key to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The key. Its [`Display`](fmt::Display) form is the name in the store.
    pub key: ReadKey,
    /// Read it past the caches, or with the shortest time that they may be asked for.
    pub fresh: bool,
}

/// The key of something in a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadKey {
    /// The head; it changes.
    Head,
    /// A manifest; it never changes.
    Manifest(SnapshotId),
    /// A page; it never changes.
    Page(PageKey),
}

impl fmt::Display for ReadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str(HEAD_KEY),
            Self::Manifest(id) => write!(f, "m/{id}"),
            Self::Page(key) => key.fmt(f),
        }
    }
}

/// What came of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The value.
    Value(Vec<u8>),
    /// There is no such key.
    Missing,
    /// The store failed; with what it said.
    Failed(String),
}

impl Fetched {
    /// The store did not answer within [`HttpConfig::read_millis`].
    pub fn late(millis: u32) -> Self {
        Self::Failed(format!("no answer within {millis} ms"))
    }
}

/// What an exchange wants of its host.
#[derive(Clone, Debug)]
pub enum Step {
    /// Read these keys, all at once if possible, and give what came of them in the same order.
    Read(Vec<Read>),
    /// Respond.
    Done(HttpResponse),
}

impl Exchange {
    /// A request, with its body if [`Ask::reads_body`].
    pub fn new(ask: Ask, body: Vec<u8>) -> Self {
        Self { ask, body, state: State::Begin, now: None, reads_left: 0, forced: false, fault: None, given_up: None }
    }
}

impl Gateway {
    /// A gateway that has read nothing.
    pub fn new(config: HttpConfig) -> Self {
        let pages = PageCache::new(config.page_cache_bytes);
        Self {
            config,
            held: None,
            head_read_at: None,
            forced_at: None,
            pages,
            #[cfg(feature = "expressions")]
            transforms: &crate::NoTransforms,
        }
    }

    /// The same on a host with components.
    #[cfg(feature = "expressions")]
    pub fn with_transforms(self, transforms: &'static (dyn crate::RunTransforms + Sync)) -> Self {
        Self { transforms, ..self }
    }

    /// That of `snapshot`, so many steps before the newest.
    fn served<'s>(&self, snapshot: &'s Snapshot, head: &SignedHead, steps_back: usize, now: Timestamp) -> Served<'s> {
        let served = Served::newest(snapshot, head.signature.is_some(), now).steps_back(steps_back);
        #[cfg(feature = "expressions")]
        let served = Served { transforms: self.transforms, ..served };
        served
    }

    /// How it answers.
    pub const fn config(&self) -> &HttpConfig {
        &self.config
    }

    /// Bytes of the pages that it keeps.
    pub const fn page_bytes(&self) -> usize {
        self.pages.bytes()
    }

    /// The next step of an exchange: first without anything fetched, then with what came of the reads of the step before.
    pub fn step(&mut self, exchange: &mut Exchange, fetched: Vec<Fetched>, now: Timestamp) -> Step {
        if exchange.now.is_none() {
            exchange.now = Some(now);
            exchange.reads_left = self.config.reads_max;
        }
        match self.advance(exchange, fetched, now) {
            Ok(Next::Read(reads)) if reads.len() <= exchange.reads_left => {
                exchange.reads_left -= reads.len();
                Step::Read(reads)
            }
            Ok(Next::Read(_)) => {
                exchange.state = State::Done;
                let fault = exchange.fault.as_deref().unwrap_or("pages are missing");
                let message = format!("no complete snapshot can be read within {} reads: {fault}", self.config.reads_max);
                Step::Done(exchange.ask.refused(&Refusal::unavailable(message)))
            }
            Ok(Next::Done(response)) => {
                exchange.state = State::Done;
                Step::Done(response)
            }
            Err(refusal) => {
                exchange.state = State::Done;
                Step::Done(exchange.ask.refused(&refusal))
            }
        }
    }

    fn advance(&mut self, exchange: &mut Exchange, fetched: Vec<Fetched>, now: Timestamp) -> Result<Next, Refusal> {
        let mut fetched = fetched.into_iter();
        let mut first = || fetched.next().unwrap_or(Fetched::Missing);
        match core::mem::replace(&mut exchange.state, State::Done) {
            State::Begin => {
                let due = |at: Timestamp| now.since(at) >= seconds(self.config.head_seconds) || at > now;
                if self.held.is_none() || self.head_read_at.is_none_or(due) {
                    return Ok(self.read_head(exchange, false, now));
                }
                self.begin(exchange, now)
            }
            State::Head => match self.take_head(first(), exchange, now) {
                Some(reads) => Ok(Next::Read(reads)),
                None => self.begin(exchange, now),
            },
            State::Manifest(head) => {
                self.take_manifest(*head, first(), exchange);
                self.begin(exchange, now)
            }
            State::Earlier(head, steps_back) => {
                let opened = head.head.previous.get(steps_back.saturating_sub(1)).and_then(|previous| {
                    let Fetched::Value(bytes) = first() else { return None };
                    self.config.trust.check_manifest(head.signature.as_ref(), steps_back, &bytes).ok()?;
                    let opened = Snapshot::open_named(&head.head, &bytes).ok()?;
                    (opened.epoch() == previous.epoch).then_some(opened)
                });
                let Some(snapshot) = opened else { return self.step_back(exchange, head, steps_back, now) };
                if let Some(held) = &mut self.held
                    && Arc::ptr_eq(&held.head, &head)
                {
                    held.previous.push(snapshot.clone());
                }
                self.answer_from(exchange, head, snapshot, steps_back, now)
            }
            State::Pages(reading) => self.take_pages(exchange, reading, fetched.collect(), now),
            State::Done => Err(Refusal::unavailable("the request has been answered")),
        }
    }

    fn read_head(&mut self, exchange: &mut Exchange, fresh: bool, now: Timestamp) -> Next {
        // Before it is here: others that come meanwhile answer from the one before.
        self.head_read_at = Some(now);
        if fresh {
            self.forced_at = Some(now);
            exchange.forced = true;
        }
        exchange.state = State::Head;
        Next::Read([Read { key: ReadKey::Head, fresh }].into())
    }

    /// Whether the head may be read past the caches now: once an exchange and once a second.
    fn may_force(&self, exchange: &Exchange, now: Timestamp) -> bool {
        let recent = |at: Timestamp| (0..NANOS_PER_SECOND).contains(&now.since(at).nanos());
        !exchange.forced && !self.forced_at.is_some_and(recent)
    }

    /// Takes over a head, unless it is older than the one here; that is what a cache gave. Returns what to read next for it.
    fn take_head(&mut self, fetched: Fetched, exchange: &mut Exchange, now: Timestamp) -> Option<Vec<Read>> {
        let bytes = match fetched {
            Fetched::Value(bytes) => bytes,
            Fetched::Missing => return self.no_head(exchange, "there is no head: nothing has been published here yet".into()),
            Fetched::Failed(detail) => return self.no_head(exchange, format!("the head cannot be read: {detail}")),
        };
        let mut head = match SignedHead::decode(&bytes) {
            Ok(head) => head,
            Err(error) => return self.no_head(exchange, error.to_string()),
        };
        if !self.is_news(&head) {
            return None;
        }
        if let Err(error) = self.config.trust.check_head(&bytes, &head, now) {
            return self.no_head(exchange, error.to_string());
        }
        match head.head.manifest.take() {
            Some(manifest) => {
                self.take_manifest(head, Fetched::Value(manifest), exchange);
                None
            }
            None => {
                let key = ReadKey::Manifest(head.head.snapshot);
                exchange.state = State::Manifest(Box::new(head));
                Some([Read { key, fresh: false }].into())
            }
        }
    }

    /// Whether a head is to take the place of the one here: it has a later epoch, or is the same and was signed later.
    fn is_news(&self, head: &SignedHead) -> bool {
        self.held.as_ref().is_none_or(|held| self.config.trust.is_news(&held.head, head))
    }

    fn no_head(&self, exchange: &mut Exchange, fault: String) -> Option<Vec<Read>> {
        exchange.fault = Some(fault);
        None
    }

    fn take_manifest(&mut self, head: SignedHead, fetched: Fetched, exchange: &mut Exchange) {
        let id = head.head.snapshot;
        let opened = match fetched {
            Fetched::Value(manifest) => {
                let checked = self.config.trust.check_manifest(head.signature.as_ref(), 0, &manifest);
                checked
                    .map_err(|error| format!("manifest m/{id}: {error}"))
                    .and_then(|()| Snapshot::open_with_manifest(&head.head, &manifest).map_err(|error| error.to_string()))
            }
            Fetched::Missing => Err(format!("manifest m/{id} is missing")),
            Fetched::Failed(detail) => Err(format!("manifest m/{id} cannot be read: {detail}")),
        };
        match opened {
            // Another exchange may have been faster.
            Ok(snapshot) if self.is_news(&head) => {
                self.held = Some(Held { head: Arc::new(head), snapshot, previous: Vec::new() });
            }
            Ok(_) => {}
            Err(fault) => exchange.fault = Some(fault),
        }
    }

    /// Answers from the snapshot that is here.
    fn begin(&mut self, exchange: &mut Exchange, now: Timestamp) -> Result<Next, Refusal> {
        let Some(held) = self.held.clone() else {
            let fault = exchange.fault.as_deref().unwrap_or("there is no head");
            return Err(Refusal::unavailable(format!("no snapshot can be read: {fault}")));
        };
        // What was accepted may have become too old since.
        if let Err(error) = self.config.trust.check_age(held.head.signature.as_ref(), now) {
            if self.may_force(exchange, now) {
                return Ok(self.read_head(exchange, true, now));
            }
            let reread = exchange.fault.as_deref().map(|fault| format!("; read anew: {fault}")).unwrap_or_default();
            return Err(Refusal::unavailable(format!("no snapshot can be read: {error}{reread}")));
        }
        if exchange.ask.is_newer_than(&held.snapshot) {
            if self.may_force(exchange, now) {
                return Ok(self.read_head(exchange, true, now));
            }
            let served = self.served(&held.snapshot, &held.head, 0, now);
            return Ok(Next::Done(exchange.ask.too_old(&self.config, &served)));
        }
        if exchange.given_up == Some(held.head.head.epoch) {
            return self.step_back(exchange, held.head, 0, now);
        }
        self.answer_from(exchange, held.head, held.snapshot, 0, now)
    }

    fn answer_from(
        &mut self,
        exchange: &mut Exchange,
        head: Arc<SignedHead>,
        snapshot: Snapshot,
        steps_back: usize,
        now: Timestamp,
    ) -> Result<Next, Refusal> {
        let asked_at = exchange.now.unwrap_or(now);
        let plan = match exchange.ask.plan(&snapshot, &exchange.body, asked_at, &self.config.limits) {
            Ok(Some(plan)) => plan,
            Ok(None) => {
                let served = self.served(&snapshot, &head, steps_back, now);
                return Ok(Next::Done(exchange.ask.describe(&self.config, &served)));
            }
            // What an older snapshot does not know is no fault of the request's.
            Err(_) if steps_back > 0 => return self.step_back(exchange, head, steps_back, now),
            Err(refusal) => return Err(refusal),
        };
        self.pages.begin_turn();
        let pages: Vec<Option<Arc<[u8]>>> = plan.pages().iter().map(|key| self.pages.get(key)).collect();
        let awaited: Vec<usize> = (0..).zip(&pages).filter(|(_, page)| page.is_none()).map(|(number, _)| number).collect();
        let reading = Reading { head, steps_back, plan, pages, awaited, again: false };
        if reading.awaited.is_empty() {
            return self.finish(exchange, reading, now);
        }
        Ok(Self::read_pages(exchange, reading))
    }

    fn read_pages(exchange: &mut Exchange, reading: Reading) -> Next {
        let keys = reading.awaited.iter().filter_map(|number| reading.plan.pages().get(*number));
        let reads = keys.map(|key| Read { key: ReadKey::Page(*key), fresh: reading.again }).collect();
        exchange.state = State::Pages(reading);
        Next::Read(reads)
    }

    fn take_pages(
        &mut self,
        exchange: &mut Exchange,
        mut reading: Reading,
        fetched: Vec<Fetched>,
        now: Timestamp,
    ) -> Result<Next, Refusal> {
        let awaited = core::mem::take(&mut reading.awaited);
        let mut fetched = fetched.into_iter();
        self.pages.begin_turn();
        for number in awaited {
            let Some(key) = reading.plan.pages().get(number).copied() else { continue };
            match verified(&self.config.trust, &reading.plan, number, &key, fetched.next().unwrap_or(Fetched::Missing)) {
                Ok(bytes) => {
                    self.pages.put(key, Arc::clone(&bytes));
                    if let Some(slot) = reading.pages.get_mut(number) {
                        *slot = Some(bytes);
                    }
                }
                Err(fault) => {
                    if reading.steps_back == 0 {
                        exchange.fault = Some(fault);
                    }
                    reading.awaited.push(number);
                }
            }
        }
        self.pages.keep_budget();
        if reading.awaited.is_empty() {
            self.finish(exchange, reading, now)
        } else if !reading.again {
            reading.again = true;
            Ok(Self::read_pages(exchange, reading))
        } else {
            self.give_up(exchange, reading, now)
        }
    }

    /// A snapshot cannot answer: a later one may be here or be had, and else those before it answer.
    fn give_up(&mut self, exchange: &mut Exchange, reading: Reading, now: Timestamp) -> Result<Next, Refusal> {
        if reading.steps_back == 0 {
            let epoch = reading.head.head.epoch;
            exchange.given_up = Some(epoch);
            if self.held.as_ref().is_some_and(|held| held.head.head.epoch > epoch) {
                return self.begin(exchange, now);
            }
            // A prune may have been faster than the last look at the head.
            if self.may_force(exchange, now) {
                return Ok(self.read_head(exchange, true, now));
            }
        }
        self.step_back(exchange, reading.head, reading.steps_back, now)
    }

    /// The snapshot before one that cannot answer.
    fn step_back(
        &mut self,
        exchange: &mut Exchange,
        head: Arc<SignedHead>,
        steps_back: usize,
        now: Timestamp,
    ) -> Result<Next, Refusal> {
        let previous = head.head.previous.get(steps_back).filter(|_| steps_back < STEPS_BACK_MAX).copied();
        let Some(previous) = previous else {
            let fault = exchange.fault.as_deref().unwrap_or("its pages are missing");
            return Err(Refusal::unavailable(format!("no complete snapshot can be read: {fault}")));
        };
        if exchange.ask.epoch_seen.is_some_and(|seen| seen > previous.epoch) {
            let fault = exchange.fault.as_deref().unwrap_or("its pages are missing");
            return Err(Refusal::unavailable(format!("no snapshot as new as the request wants can be read: {fault}")));
        }
        let opened = self.held.as_ref().filter(|held| Arc::ptr_eq(&held.head, &head));
        let opened = opened.and_then(|held| held.previous.iter().find(|opened| opened.epoch() == previous.epoch)).cloned();
        match opened {
            Some(snapshot) => self.answer_from(exchange, head, snapshot, steps_back + 1, now),
            None => {
                exchange.state = State::Earlier(head, steps_back + 1);
                Ok(Next::Read([Read { key: ReadKey::Manifest(previous.snapshot), fresh: false }].into()))
            }
        }
    }

    fn finish(&mut self, exchange: &mut Exchange, reading: Reading, now: Timestamp) -> Result<Next, Refusal> {
        let refs: Vec<Option<PageRef<'_>>> = reading.pages.iter().map(|page| PageRef::resident(page.as_deref()?).ok()).collect();
        let served = self.served(reading.plan.snapshot(), &reading.head, reading.steps_back, now);
        match exchange.ask.reply(&self.config, &served, &reading.plan, &refs) {
            Ok(response) => Ok(Next::Done(response)),
            Err(error) => {
                if reading.steps_back == 0 {
                    exchange.fault = Some(error.to_string());
                }
                drop(refs);
                self.give_up(exchange, reading, now)
            }
        }
    }
}

/// [`Step`], before the reads that are left are counted.
enum Next {
    Read(Vec<Read>),
    Done(HttpResponse),
}

fn verified(trust: &Trust, plan: &Plan, number: usize, key: &PageKey, fetched: Fetched) -> Result<Arc<[u8]>, String> {
    let bytes = match fetched {
        Fetched::Value(bytes) => bytes,
        Fetched::Missing => return Err(format!("page {key} is missing")),
        Fetched::Failed(detail) => return Err(format!("page {key} cannot be read: {detail}")),
    };
    let (segment, table) = plan.page_home(number).ok_or_else(|| format!("page {key} is of no table"))?;
    let page =
        PageRef::verify(&bytes, key, segment.bucket_count, &table.schema).map_err(|error| format!("page {key}: {error}"))?;
    trust.check_page(&bytes, &page, key, segment).map_err(|error| format!("page {key}: {error}"))?;
    Ok(bytes.into())
}

fn seconds(seconds: u32) -> Span {
    Span::from_nanos(i64::from(seconds) * NANOS_PER_SECOND)
}

/// Snapshots before the newest that may answer for it.
pub const STEPS_BACK_MAX: usize = 2;
