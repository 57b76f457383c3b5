//! What a table of pages holds: its key columns and its views' features.

use alloc::{string::String, vec::Vec};

use crate::{KeyType, Span, ValueType};

/// Views that share join keys, packed together: one row an entity, one page read a lookup.
///
/// Column order in a page: the key columns, then for each view its event time and its features.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableSchema {
    /// Its name: the join keys joined by `+`, with `/group` behind if the views name a group.
    pub name: String,
    /// The key columns in canonical order: by bytes of the join key's name. None for entityless views.
    pub keys: Vec<KeyColumn>,
    /// The views, in order of name.
    pub views: Vec<ViewSchema>,
}

impl TableSchema {
    /// A table of these key columns and views, both put into canonical order.
    pub fn new(name: impl Into<String>, mut keys: Vec<KeyColumn>, mut views: Vec<ViewSchema>) -> Self {
        keys.sort_unstable_by(|a, b| a.join_key.cmp(&b.join_key));
        views.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Self { name: name.into(), keys, views }
    }

    /// A table of what is in canonical order already: no reader pays for a sort.
    pub(crate) const fn in_order(name: String, keys: Vec<KeyColumn>, views: Vec<ViewSchema>) -> Self {
        Self { name, keys, views }
    }

    /// Columns of a page of this table: keys, and for each view its event time and features.
    pub fn column_count(&self) -> usize {
        self.keys.len() + self.views.iter().map(|view| 1 + view.features.len()).sum::<usize>()
    }

    /// The index of the event-time column of view number `view`; its features follow it in order.
    pub fn time_column(&self, view: usize) -> usize {
        self.keys.len() + self.views.iter().take(view).map(|view| 1 + view.features.len()).sum::<usize>()
    }
}

/// A column of an entity key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyColumn {
    /// The join key: the name of the column in sources and requests.
    pub join_key: String,
    /// The entity that declares it; requests may use its name for the join key, as in Feast.
    pub entity: String,
    /// Its type.
    pub key_type: KeyType,
}

impl KeyColumn {
    /// A key column.
    pub fn new(join_key: impl Into<String>, entity: impl Into<String>, key_type: KeyType) -> Self {
        Self { join_key: join_key.into(), entity: entity.into(), key_type }
    }
}

/// A feature view as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ViewSchema {
    /// Its name.
    pub name: String,
    /// How long a row counts after its event time; zero is for ever.
    pub ttl: Span,
    /// Who may hold its rows.
    pub audience: Audience,
    /// Its features in the definition's order.
    pub features: Vec<FeatureSchema>,
}

impl ViewSchema {
    /// A view of these features.
    pub fn new(name: impl Into<String>, ttl: Span, audience: Audience, features: Vec<FeatureSchema>) -> Self {
        Self { name: name.into(), ttl, audience, features }
    }
}

/// A feature: a name and a type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeatureSchema {
    /// Its name within the view.
    pub name: String,
    /// The type of its values.
    pub value_type: ValueType,
}

impl FeatureSchema {
    /// A feature.
    pub fn new(name: impl Into<String>, value_type: ValueType) -> Self {
        Self { name: name.into(), value_type }
    }
}

/// Who may hold a view's rows. A page holds many entities, so whoever reads one reads its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// Anyone: browsers and plug-in hosts too.
    Public,
    /// Only servers of the team.
    #[default]
    Server,
}
