//! One snapshot and the pages of it that are here.

use std::cell::RefCell;
use std::rc::Rc;

use mezze_core::{self as core, Head, OpenError, PageCache, PageRef, Plan, SegmentId, Snapshot, Timestamp};

use crate::{Limits, MediaType, Outcome, PageKey, Question, Refusal};

/// A component runs one call at a time, so nothing is ever borrowed twice.
#[derive(Default)]
pub(crate) struct Store {
    inner: RefCell<Inner>,
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
        Self { inner: RefCell::new(Inner { pages: PageCache::new(budget), ..Inner::default() }) }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.inner.borrow().pages.bytes()
    }

    pub(crate) fn open_snapshot(&self, head: &[u8], manifest: Option<&[u8]>) -> Result<crate::Snapshot, crate::OpenError> {
        let opened = match manifest {
            Some(manifest) => {
                Head::decode(head).map_err(OpenError::Format).and_then(|head| Snapshot::open_with_manifest(&head, manifest))
            }
            None => Snapshot::open(head),
        };
        let snapshot = opened.map_err(|error| match error {
            OpenError::ManifestNeeded { snapshot } => crate::OpenError::ManifestNeeded(snapshot.to_string()),
            error => crate::OpenError::Unusable(error.to_string()),
        })?;
        let shown = crate::Snapshot {
            id: halves(snapshot.id().bytes()),
            epoch: snapshot.epoch(),
            issued_at: snapshot.issued_at().nanos(),
        };
        let mut inner = self.inner.borrow_mut();
        let known = |key: &core::PageKey| {
            let table = snapshot.manifest().tables.get(usize::from(key.table));
            table.is_some_and(|table| table.base.iter().chain(&table.delta).any(|segment| segment.id == key.segment))
        };
        inner.pages.retain(known);
        inner.snapshot = Some(snapshot);
        inner.waiting = None;
        Ok(shown)
    }

    pub(crate) fn answer(&self, question: &Question) -> Outcome {
        let mut inner = self.inner.borrow_mut();
        let Some(snapshot) = &inner.snapshot else {
            return refused(&core::Refusal::unavailable("no snapshot is open"));
        };
        let now = Timestamp::from_nanos(question.now);
        let plan = match snapshot.plan_body(&question.body, media(question.media), now, &limits(question.limits)) {
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
        match plan.write_answer(&refs, media(question.accept), &mut body) {
            Ok(()) => Outcome::Answer(body),
            Err(error) => refused(&core::Refusal::unavailable(error.to_string())),
        }
    }

    pub(crate) fn put(&self, key: &PageKey, bytes: Vec<u8>) -> Result<(), String> {
        let mut inner = self.inner.borrow_mut();
        let plan = inner.waiting.clone().ok_or("no lookup waits for pages")?;
        let segment = SegmentId::from_bytes(whole(key.segment));
        let key = core::PageKey::new(segment, key.table, key.bucket);
        let index = plan.pages().binary_search(&key).map_err(|_| format!("page {key} was not asked for"))?;
        let (segment, table) = plan.page_home(index).ok_or("the page is of no table")?;
        PageRef::verify(&bytes, &key, segment.bucket_count, &table.schema).map_err(|error| format!("page {key}: {error}"))?;
        inner.pages.put(key, bytes.into());
        inner.pages.keep_budget();
        Ok(())
    }
}

fn refused(refusal: &core::Refusal) -> Outcome {
    let mut body = Vec::new();
    refusal.write(&mut body);
    Outcome::Refused(Refusal { status: refusal.status, body })
}

fn media(media: MediaType) -> core::MediaType {
    match media {
        MediaType::Json => core::MediaType::Json,
        MediaType::MessagePack => core::MediaType::MessagePack,
    }
}

fn limits(limits: Limits) -> core::Limits {
    core::Limits::server()
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
