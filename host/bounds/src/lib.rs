//! Transforms in bundles for the edges.
//!
//! Where a host has wasmtime's fuel and instances, it bounds a transform from outside. A bundle has neither: what it carries has
//! to bound itself. [`bound`] makes of a transform's component one module with the same computation and
//!
//! - a counter of instructions and of calls within calls, a maximum of memory and a check of what comes back: where one is
//!   exceeded, every function returns at once, and the call gives an error that says which;
//! - a reset behind each call, so that none sees what another left;
//! - one bit pattern for every NaN that it computes, which the engines of JavaScript do not give by themselves.
//!
//! Hosts in JavaScript run that module. For Spin and Fastly Compute [`link`] puts it into the adapter's component.
//! docs/TRANSFORMS.md has the design and its costs.

mod calls;
mod check;
mod function;
mod link;
mod module;
mod single;

use mezze_core::TransformId;

pub use link::link;
pub use module::{BOUNDED, bound_module};

/// A transform that a bundle carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// The digest of its component.
    pub id: TransformId,
    /// The bounded module, without imports.
    pub module: Vec<u8>,
}

/// Why a transform cannot be in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoundError {
    /// It is no component of WebAssembly, or one with more than WebAssembly 2.0.
    #[error("it cannot be read as WebAssembly 2.0: {0}")]
    Malformed(String),
    /// It is built in a way that cannot be bounded.
    #[error("it cannot be bounded: {0}")]
    Unbounded(String),
    /// A bundle's adapter is not what it should be.
    #[error("the bundle cannot be linked: {0}")]
    Link(String),
}

/// Bounds the transform of a component.
///
/// # Errors
/// [`BoundError`] where it is not one module by itself, as the toolchains of Rust and C make it, or uses what cannot be reset.
pub fn bound(id: TransformId, component: &[u8]) -> Result<Bounded, BoundError> {
    Ok(Bounded { id, module: bound_module(single::single_module(component)?)? })
}
