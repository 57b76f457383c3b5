//! A request for features, as every host receives it.

use alloc::{string::String, vec::Vec};

use crate::Value;

/// A request for features of one or more entities: Feast's `POST /get-online-features` body.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// Which features.
    pub selection: Selection,
    /// The entities, by column, all of one length: join keys and request data, in the request's order.
    pub entities: Vec<EntityColumn>,
    /// Whether features are named `view__feature`.
    pub full_feature_names: bool,
    /// Whether the response's metadata lists the views.
    pub include_view_metadata: bool,
    /// What becomes of values older than their view's ttl.
    pub expired: Expired,
}

impl Request {
    /// A request for these features of these entities, with short names and strict freshness.
    pub fn new(selection: Selection, entities: Vec<EntityColumn>) -> Self {
        Self { selection, entities, full_feature_names: false, include_view_metadata: false, expired: Expired::Null }
    }
}

/// Which features a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Features by reference: `view:feature`.
    Features(Vec<String>),
    /// All features of a feature service.
    Service(String),
}

/// One column of a request's entities.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EntityColumn {
    /// A join key, the name of an entity, or a field of request data.
    pub name: String,
    /// A value per entity row: null, a boolean, an integer, a float, text, or (request data only) a list or map.
    pub values: Vec<Value>,
}

impl EntityColumn {
    /// A column of this name and these values.
    pub fn new(name: impl Into<String>, values: Vec<Value>) -> Self {
        Self { name: name.into(), values }
    }
}

/// What becomes of a value older than its view's ttl. Its status is `OUTSIDE_MAX_AGE` either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expired {
    /// It is null: what a join in training would have given.
    #[default]
    Null,
    /// It is returned all the same, as Feast's servers do.
    Value,
}
