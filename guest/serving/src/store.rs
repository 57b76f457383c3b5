//! One snapshot and the pages of it that are here.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;

use mezze_core::{self as mezze, OpenError, PageCache, PageRef, Plan, SegmentId, Snapshot, Timestamp};

use crate::trusted::Trusted;
use crate::{Limits, MediaType, Outcome, PageKey, Question, Refusal};

/// A component runs one call at a time, so nothing is ever borrowed twice.
#[derive(Default)]
pub(crate) struct Store {
    inner: RefCell<Inner>,
    pub(crate) trusted: Trusted,
}

#[derive(Default)]
struct Inner {
    snapshot: Option<Snapshot>,
    pages: PageCache,
    /// The plan of the last lookup: its pages are being brought, and asking again need not plan again.
    waiting: Option<Rc<Plan>>,
}

impl Store {
    pub(crate) fn with_budget(budget: usize) -> Self {
        let inner = Inner { pages: PageCache::new(budget), ..Inner::default() };
        Self { inner: RefCell::new(inner), ..Self::default() }
    }

    #[cfg(not(feature = "browser"))]
    pub(crate) fn bytes(&self) -> usize {
        self.inner.borrow().pages.bytes()
    }

    /// Forgets the snapshot and its pages.
    #[cfg(feature = "trust")]
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.pages.retain(|_| false);
        inner.snapshot = None;
        inner.waiting = None;
    }

    pub(crate) fn open_snapshot(&self, value: &[u8], manifest: Option<&[u8]>) -> Result<crate::Snapshot, crate::OpenError> {
        let read = Trusted::decode(value).map_err(crate::OpenError::Unusable)?;
        self.trusted.check_head(value, &read).map_err(crate::OpenError::Unusable)?;
        let opened = match manifest.or(read.head.manifest.as_deref()) {
            Some(manifest) => {
                self.trusted.check_manifest(&read, manifest).map_err(crate::OpenError::Unusable)?;
                Snapshot::open_named(&read.head, manifest)
            }
            None => Err(OpenError::ManifestNeeded { snapshot: read.head.snapshot }),
        };
        let snapshot = opened.map_err(|error| match error {
            OpenError::ManifestNeeded { snapshot } => crate::OpenError::ManifestNeeded(snapshot.to_string()),
            error => crate::OpenError::Unusable(error.to_string()),
        })?;
        let before = |earlier: &&mezze::PreviousSnapshot| earlier.epoch < snapshot.epoch();
        let earlier = read.head.previous.iter().filter(before).take(mezze::STEPS_BACK_MAX);
        let shown = crate::Snapshot {
            id: halves(snapshot.id().bytes()),
            epoch: snapshot.epoch(),
            issued_at: snapshot.issued_at().nanos(),
            earlier: earlier.map(|earlier| mezze::ReadKey::Manifest(earlier.snapshot).to_string()).collect(),
        };
        let mut inner = self.inner.borrow_mut();
        let known = |key: &mezze::PageKey| {
            let table = snapshot.manifest().tables.get(usize::from(key.table));
            table.is_some_and(|table| table.base.iter().chain(&table.delta).any(|segment| segment.id == key.segment))
        };
        inner.pages.retain(known);
        inner.snapshot = Some(snapshot);
        inner.waiting = None;
        self.trusted.hold(read);
        Ok(shown)
    }

    pub(crate) fn answer(&self, question: &Question) -> Outcome {
        let mut inner = self.inner.borrow_mut();
        let Some(snapshot) = &inner.snapshot else {
            return not_open();
        };
        let (Some(sent), Some(accepted)) = (media(question.media), media(question.accept)) else {
            return refused(&mezze::WireError::UnsupportedMediaType { found: "application/msgpack".into() }.into());
        };
        let now = Timestamp::from_nanos(question.now);
        if let Err(error) = self.trusted.check_age(now) {
            return refused(&mezze::Refusal::unavailable(format!("no snapshot can be read: {error}")));
        }
        let plan = match snapshot.plan_body(&question.body, sent, now, &limits(question.limits)) {
            Ok(plan) => plan,
            Err(refusal) => return refused(&refusal),
        };
        inner.pages.begin_turn();
        let mut missing = Vec::new();
        let mut pages = Vec::with_capacity(plan.pages().len());
        for key in plan.pages() {
            match inner.pages.get(key) {
                Some(page) => pages.push(page),
                None => missing.push(PageKey { segment: halves(key.segment.bytes()), table: key.table, bucket: key.bucket }),
            }
        }
        if !missing.is_empty() {
            inner.waiting = Some(Rc::new(plan));
            return Outcome::Missing(missing);
        }
        inner.waiting = None;
        inner.pages.keep_budget();
        drop(inner);
        let refs: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
        let mut body = Vec::new();
        #[cfg(feature = "transforms")]
        let written = write_answer(&plan, &refs, accepted, &mut body);
        #[cfg(not(feature = "transforms"))]
        let written =
            plan.write_answer(&refs, accepted, &mut body).map_err(|error| mezze::Refusal::unavailable(error.to_string()));
        match written {
            Ok(()) => Outcome::Answer(body),
            Err(refusal) => refused(&refusal),
        }
    }

    pub(crate) fn put(&self, key: &PageKey, bytes: Vec<u8>) -> Result<(), String> {
        let mut inner = self.inner.borrow_mut();
        let plan = inner.waiting.clone().ok_or("no page is awaited")?;
        let segment = SegmentId::from_bytes(whole(key.segment));
        let key = mezze::PageKey::new(segment, key.table, key.bucket);
        let index = plan.pages().binary_search(&key).map_err(|_| format!("page {key} was not asked for"))?;
        let (segment, table) = plan.page_home(index).ok_or("it is of no table")?;
        let page =
            PageRef::verify(&bytes, &key, segment.bucket_count, &table.schema).map_err(|error| format!("page {key}: {error}"))?;
        self.trusted.check_page(&bytes, &page, &key, segment)?;
        inner.pages.put(key, bytes.into());
        inner.pages.keep_budget();
        Ok(())
    }
}

/// [`Plan::write_answer`] with features of components.
#[cfg(feature = "transforms")]
fn write_answer(
    plan: &Plan,
    pages: &[Option<PageRef<'_>>],
    accepted: mezze::MediaType,
    out: &mut Vec<u8>,
) -> Result<(), mezze::Refusal> {
    #[cfg(feature = "browser")]
    let carried = {
        use crate::bindings::mezze::features::calls;
        mezze_carried::Carried::new(calls::digests, calls::run)
    };
    #[cfg(not(feature = "browser"))]
    let carried = mezze_carried::Linked;
    let unavailable = |error: mezze::AnswerError| mezze::Refusal::unavailable(error.to_string());
    let features = plan.answer_with(pages, &carried).map_err(unavailable)?;
    if let Some(refusal) = mezze::Refusal::of_overrun(&features, &carried) {
        return Err(refusal);
    }
    features.write(accepted, out).map_err(|error| unavailable(mezze::AnswerError::Value { error }))
}

/// What a store answers that has no snapshot.
pub(crate) fn not_open() -> Outcome {
    refused(&mezze::Refusal::unavailable("no snapshot is open"))
}

fn refused(refusal: &mezze::Refusal) -> Outcome {
    let mut body = Vec::new();
    refusal.write(&mut body);
    Outcome::Refused(Refusal { status: refusal.status, body })
}

/// `None` where this build has no such format.
fn media(media: MediaType) -> Option<mezze::MediaType> {
    match media {
        MediaType::Json => Some(mezze::MediaType::Json),
        #[cfg(feature = "message-pack")]
        MediaType::MessagePack => Some(mezze::MediaType::MessagePack),
        #[cfg(not(feature = "message-pack"))]
        MediaType::MessagePack => None,
    }
}

fn limits(limits: Limits) -> mezze::Limits {
    mezze::Limits::server()
        .with_request_bytes_max(limits.request_bytes as usize)
        .with_entities_max(limits.entities as usize)
        .with_values_max(limits.values as usize)
        .with_pages_max(limits.pages as usize)
}

fn halves(bytes: [u8; 16]) -> (u64, u64) {
    let number = u128::from_be_bytes(bytes);
    ((number >> 64) as u64, number as u64)
}

fn whole((high, low): (u64, u64)) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}
