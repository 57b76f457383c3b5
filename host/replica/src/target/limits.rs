//! What key-value stores take, how fast, and for how much.

use mezze_core::Span;

/// The limits of a store, as its vendor states them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TargetLimits {
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Keys of one batch.
    pub batch_keys: usize,
    /// Bytes of the values of one batch.
    pub batch_bytes: usize,
    /// Keys of one listing, at the most.
    pub list_keys: usize,
    /// Keys of one removal.
    pub delete_keys: usize,
    /// Calls under way at a time.
    pub in_flight: usize,
    /// Calls within a span of time.
    pub calls: Option<(usize, Span)>,
    /// How long after a write every reader may still see what was there before: heads follow each other no faster.
    pub propagation: Span,
    /// What its listings tell.
    pub listing: Listing,
    /// What it costs, where the vendor says so.
    pub price: Option<Price>,
}

/// What a listing tells about values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// The digest that was written along with the value, by the same call.
    Written,
    /// A digest that the store computes from the value.
    Computed,
    /// Sizes at the most: a larger sample of values is read whole.
    Names,
}

/// List prices, in US dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// A million keys written or removed.
    pub million_writes: f64,
    /// A million calls that list.
    pub million_lists: f64,
    /// A million keys read.
    pub million_reads: f64,
    /// A gigabyte (10^9 bytes) kept for a month.
    pub gigabyte_month: f64,
    /// Whose price it is, and as of when.
    pub source: &'static str,
}

impl TargetLimits {
    /// Of a store without any that matter: one on the same machine or network.
    pub const fn own(listing: Listing) -> Self {
        Self {
            key_bytes: 512,
            value_bytes: 25 << 20,
            batch_keys: 1_000,
            batch_bytes: 8 << 20,
            list_keys: 1_000,
            delete_keys: 1_000,
            in_flight: 2,
            calls: None,
            propagation: Span::ZERO,
            listing,
            price: None,
        }
    }
}
