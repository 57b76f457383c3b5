//! The interface `lookup`.

use alloc::{string::String, vec::Vec};

use crate::bindings::exports::mezze::features::lookup::{Guest, GuestStore};
use crate::bindings::exports::mezze::features::types::Trust;
use crate::{Component, OpenError, Outcome, PageKey, Question, Snapshot, Store};

impl Guest for Component {
    type Store = Store;
}

impl GuestStore for Store {
    fn new(budget: u64) -> Self {
        Self::with_budget(usize::try_from(budget).unwrap_or(usize::MAX))
    }

    fn open(&self, head: Vec<u8>, manifest: Option<Vec<u8>>, now: i64) -> Result<Snapshot, OpenError> {
        self.trusted.set_now(now);
        self.open_snapshot(&head, manifest.as_deref())
    }

    fn set_trust(&self, trust: Trust) -> Result<(), String> {
        self.clear();
        self.trusted.set(trust.keys.iter().map(String::as_str), trust.head_age_max_seconds, trust.epoch_min)
    }

    fn lookup(&self, question: Question) -> Outcome {
        self.answer(&question)
    }

    fn put_page(&self, key: PageKey, bytes: Vec<u8>) -> Result<(), String> {
        self.put(&key, bytes)
    }

    fn resident_bytes(&self) -> u64 {
        self.bytes() as u64
    }
}
