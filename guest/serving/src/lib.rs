//! `mezze-core` as a WebAssembly component without imports: the world `serving` of `wit/mezze.wit`, or with the feature `browser`
//! the world `serving-in-browsers`, which imports `calls` where there is the feature `transforms`. With the feature `linked` it
//! imports `carried`, until transforms are linked to it.
//!
//! A [`Store`] keeps verified pages under a byte budget, so that pages do not cross the boundary at every call.
#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

#[cfg(not(feature = "browser"))]
mod lookup;
#[cfg(not(any(feature = "browser", feature = "trust")))]
compile_error!("the interface `lookup` has `set-trust`: it needs the feature `trust`");
#[cfg(all(feature = "transforms", not(any(feature = "browser", feature = "linked"))))]
compile_error!("what calls transforms is one of the features `browser` and `linked`");

mod store;
#[cfg(feature = "browser")]
mod stores;
#[cfg(feature = "trust")]
mod trusted;
#[cfg(not(feature = "trust"))]
#[path = "trusted_absent.rs"]
mod trusted;

use store::Store;

/// What wit/mezze.wit declares.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the interface is documented in wit/mezze.wit")]
mod bindings {
    #[cfg(not(feature = "browser"))]
    wit_bindgen::generate!({ world: "serving", path: "../../wit", pub_export_macro: true });
    #[cfg(all(feature = "browser", not(feature = "transforms"), not(feature = "trust")))]
    wit_bindgen::generate!({ world: "serving-in-browsers", path: "../../wit", pub_export_macro: true });
    #[cfg(all(feature = "browser", not(feature = "transforms"), feature = "trust"))]
    wit_bindgen::generate!({ world: "serving-in-browsers-with-trust", path: "../../wit", pub_export_macro: true });
    #[cfg(all(feature = "browser", feature = "transforms", not(feature = "trust")))]
    wit_bindgen::generate!({ world: "serving-in-browsers-with-transforms", path: "../../wit", pub_export_macro: true });
    #[cfg(all(feature = "browser", feature = "transforms", feature = "trust"))]
    wit_bindgen::generate!({ world: "serving-in-browsers-with-trust-and-transforms", path: "../../wit", pub_export_macro: true });
}

use bindings::exports::mezze::features::types::{Limits, MediaType, OpenError, Outcome, PageKey, Question, Refusal, Snapshot};

/// Smaller than the standard library's. A component has one thread.
#[cfg(all(target_family = "wasm", not(target_feature = "atomics")))]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

/// Nobody reads what a panic says.
#[cfg(target_family = "wasm")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

struct Component;

#[allow(unreachable_pub, reason = "generated")]
mod exported {
    use super::{Component, bindings};
    bindings::export!(Component with_types_in bindings);
}
