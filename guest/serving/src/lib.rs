//! `mezze-core` as a WebAssembly component: the world `serving` of `wit/mezze.wit`, without imports.
//!
//! A [`Store`] keeps verified pages under a byte budget, so that pages do not cross the boundary at every call.

mod store;

use store::Store;

/// What wit/mezze.wit declares.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the interface is documented in wit/mezze.wit")]
mod bindings {
    wit_bindgen::generate!({ world: "serving", path: "../../wit", pub_export_macro: true });
}

use bindings::exports::mezze::features::lookup::{
    Guest, GuestStore, Limits, MediaType, OpenError, Outcome, PageKey, Question, Refusal, Snapshot,
};

/// Smaller than the standard library's. A component has one thread.
#[cfg(all(target_family = "wasm", not(target_feature = "atomics")))]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

struct Component;

impl Guest for Component {
    type Store = Store;
}

impl GuestStore for Store {
    fn new(budget: u64) -> Self {
        Self::with_budget(usize::try_from(budget).unwrap_or(usize::MAX))
    }

    fn open(&self, head: Vec<u8>, manifest: Option<Vec<u8>>) -> Result<Snapshot, OpenError> {
        self.open_snapshot(&head, manifest.as_deref())
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

#[allow(unreachable_pub, reason = "generated")]
mod exported {
    use super::{Component, bindings};
    bindings::export!(Component with_types_in bindings);
}
