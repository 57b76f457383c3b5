//! The interface `stores`.

use alloc::{string::String, vec::Vec};
use core::cell::RefCell;

use crate::bindings::exports::mezze::features::stores::Guest;
use crate::{Component, Limits, MediaType, OpenError, Outcome, PageKey, Question, Snapshot, Store, store::not_open};

/// The stores with their numbers: few, one for each snapshot that answers.
struct Stores(RefCell<Vec<(u32, Store)>>);

// SAFETY: a component has one thread.
unsafe impl Sync for Stores {}

static STORES: Stores = Stores(RefCell::new(Vec::new()));

fn with_store<T>(number: u32, use_it: impl FnOnce(&Store) -> T) -> Option<T> {
    let stores = STORES.0.borrow();
    stores.iter().find(|(known, _)| *known == number).map(|(_, store)| use_it(store))
}

/// Makes the store of this number, unless there is one.
fn make(number: u32, budget: u32) {
    if with_store(number, |_| ()).is_none() {
        STORES.0.borrow_mut().push((number, Store::with_budget(budget as usize)));
    }
}

#[cfg(feature = "trust")]
impl crate::bindings::exports::mezze::features::trust::Guest for Component {
    fn set_trust(number: u32, budget: u32, keys: String, head_age_max_seconds: u32, epoch_min: u64) -> Result<(), String> {
        make(number, budget);
        let seconds = (head_age_max_seconds > 0).then_some(head_age_max_seconds);
        let keys = keys.split(',').map(str::trim).filter(|key| !key.is_empty());
        let set = with_store(number, |store| {
            store.clear();
            store.trusted.set(keys, seconds, epoch_min)
        });
        set.unwrap_or(Ok(()))
    }

    fn set_now(number: u32, now: i64) {
        let _ = with_store(number, |store| store.trusted.set_now(now));
    }
}

impl Guest for Component {
    fn open(number: u32, budget: u32, head: Vec<u8>, manifest: Option<Vec<u8>>) -> Result<Snapshot, OpenError> {
        make(number, budget);
        let opened = with_store(number, |store| store.open_snapshot(&head, manifest.as_deref()));
        opened.unwrap_or_else(|| Err(OpenError::Unusable(String::new())))
    }

    fn lookup(number: u32, body: Vec<u8>, now: i64) -> Outcome {
        let question = Question { body, media: MediaType::Json, accept: MediaType::Json, now, limits: LIMITS };
        with_store(number, |store| store.answer(&question)).unwrap_or_else(not_open)
    }

    fn put_page(number: u32, key: PageKey, bytes: Vec<u8>) -> Result<(), String> {
        with_store(number, |store| store.put(&key, bytes)).unwrap_or_else(|| Err("no such store".into()))
    }

    fn drop_store(number: u32) {
        STORES.0.borrow_mut().retain(|(known, _)| *known != number);
    }
}

/// What fits a page that has other things to do.
const LIMITS: Limits = Limits { request_bytes: 1 << 20, entities: 1_000, values: 100_000, pages: 200 };
