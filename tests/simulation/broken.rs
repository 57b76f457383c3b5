//! What is broken on purpose, to see that it is found.

use mezze_core::{Ask, Fetched, Head, HttpResponse, PageKey, PageRef, Read, ReadKey, Served, Snapshot, Timestamp};

use crate::chain::config;
use crate::executor::Sim;
use crate::origin::latency;

/// A part of the whole that is broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A gateway that takes a missing page's place with that of the snapshot before.
    Fallback,
    /// Leases that nobody else sees.
    Lease,
    #[default]
    Nothing,
    /// A head that is written before the pages.
    Order,
    /// A prune that does not look at what earlier heads named.
    Prune,
    /// A gateway that verifies nothing.
    Verification,
}

/// A gateway as one would write it in an hour: it reads a head and pages, and answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NaiveGateway {
    pub(crate) broken: Broken,
}

impl NaiveGateway {
    pub(crate) async fn respond(self, sim: &Sim, point: usize, ask: &Ask, body: &[u8], now: Timestamp) -> HttpResponse {
        self.try_respond(sim, point, ask, body, now).await.unwrap_or_else(|| HttpResponse::new(503, "text/plain", Vec::new()))
    }

    async fn try_respond(self, sim: &Sim, point: usize, ask: &Ask, body: &[u8], now: Timestamp) -> Option<HttpResponse> {
        let head = Head::decode(&fetch(sim, point, ReadKey::Head).await?).ok()?;
        let snapshot = Snapshot::open_with_manifest(&head, head.manifest.as_deref()?).ok()?;
        if ask.is_newer_than(&snapshot) {
            return None;
        }
        let config = config();
        let plan = ask.plan(&snapshot, body, now, &config.limits).ok()??;
        let before = match head.previous.first() {
            Some(previous) => fetch(sim, point, ReadKey::Manifest(previous.snapshot)).await,
            None => None,
        };
        let before = before.and_then(|manifest| Snapshot::open_named(&head, &manifest).ok());
        let mut pages = Vec::new();
        for (number, key) in plan.pages().iter().enumerate() {
            let (segment, table) = plan.page_home(number)?;
            let mut page = fetch(sim, point, ReadKey::Page(*key)).await;
            if self.broken == Broken::Fallback {
                page = page.filter(|page| PageRef::verify(page, key, segment.bucket_count, &table.schema).is_ok());
                if page.is_none() {
                    // The page of the snapshot before at the same place.
                    let entry = before.as_ref()?.manifest().tables.get(usize::from(key.table))?;
                    let is_base = plan.snapshot().manifest().tables[usize::from(key.table)].base.as_ref() == Some(segment);
                    let earlier = if is_base { entry.base.as_ref() } else { entry.delta.as_ref() }?;
                    let key = PageKey::new(earlier.id, key.table, key.bucket);
                    page = fetch(sim, point, ReadKey::Page(key)).await;
                    page = page.filter(|page| PageRef::verify(page, &key, earlier.bucket_count, &table.schema).is_ok());
                }
            }
            pages.push(page?);
        }
        let pages: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
        let served = Served::newest(&snapshot, false, now);
        ask.reply(&config, &served, &plan, &pages).ok()
    }
}

async fn fetch(sim: &Sim, point: usize, key: ReadKey) -> Option<Vec<u8>> {
    let pause = latency(&mut sim.world()) / 4;
    sim.wait(pause).await;
    match sim.world().fetch(point, &Read { key, fresh: false }) {
        Fetched::Value(value) => Some(value),
        Fetched::Missing | Fetched::Failed(_) => None,
    }
}
