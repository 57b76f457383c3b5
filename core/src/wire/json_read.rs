//! Requests in JSON, and the visitors that read a request from any format of serde's.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};
use core::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{MediaType, REQUEST_VALUES_MAX, WireError};
use crate::{EntityColumn, Expired, Request, Selection, TYPE_DEPTH_MAX, Value};

impl Request {
    /// Reads the body of Feast's `POST /get-online-features`; docs/WIRE.md is the reference.
    ///
    /// The columns keep their order. Integers that 64 signed bits cannot hold are read as floats, which no integer, text or
    /// key column accepts later. Unknown fields are ignored, as Feast's servers do.
    ///
    /// # Errors
    /// [`WireError`] where the body is not JSON or no request, is nested too deep or holds too much.
    pub fn from_json(body: &[u8]) -> Result<Self, WireError> {
        let budget = Budget::new();
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let request = RequestSeed { budget: &budget }
            .deserialize(&mut deserializer)
            .and_then(|request| deserializer.end().map(|()| request))
            .map_err(|error| {
                let detail = format!("{error}");
                budget.explain(if error.is_data() {
                    WireError::Invalid { detail }
                } else {
                    WireError::Syntax { media_type: MediaType::Json, detail }
                })
            })?;
        check_lengths(&request)?;
        Ok(request)
    }
}

/// That all columns have one length.
pub(super) fn check_lengths(request: &Request) -> Result<(), WireError> {
    let Some(first) = request.entities.first() else { return Ok(()) };
    match request.entities.iter().find(|column| column.values.len() != first.values.len()) {
        None => Ok(()),
        Some(other) => Err(WireError::Ragged {
            first: (first.name.clone(), first.values.len()),
            other: (other.name.clone(), other.values.len()),
        }),
    }
}

/// How many more values a request may hold: a value takes more memory than text, so that the length of a body alone does not
/// bound it.
pub(super) struct Budget {
    left: Cell<usize>,
    exceeded: Cell<bool>,
}

impl Budget {
    pub(super) const fn new() -> Self {
        Self { left: Cell::new(REQUEST_VALUES_MAX), exceeded: Cell::new(false) }
    }

    fn spend<E: Error>(&self) -> Result<(), E> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.exceeded.set(true);
                Err(E::custom("too many values"))
            }
        }
    }

    /// The error that it is, where the budget is what failed.
    pub(super) fn explain(&self, error: WireError) -> WireError {
        if self.exceeded.get() { WireError::TooManyValues } else { error }
    }
}

/// Reads a request.
pub(super) struct RequestSeed<'b> {
    pub(super) budget: &'b Budget,
}

impl<'de> DeserializeSeed<'de> for RequestSeed<'_> {
    type Value = Request;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Request, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RequestSeed<'_> {
    type Value = Request;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `entities` and `features` or `feature_service`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Request, A::Error> {
        let budget = self.budget;
        let (mut features, mut service, mut entities) = (None, None, None);
        let (mut full_feature_names, mut include_view_metadata, mut expired) = (None, None, None);
        while let Some(field) = map.next_key_seed(FieldSeed)? {
            match field {
                Field::Entities => once(&mut entities, field, map.next_value_seed(EntitiesSeed { budget })?)?,
                Field::Expired => once(&mut expired, field, map.next_value_seed(ExpiredSeed)?)?,
                Field::Features => once(&mut features, field, map.next_value_seed(FeaturesSeed { budget })?)?,
                Field::FullFeatureNames => once(&mut full_feature_names, field, map.next_value_seed(FlagSeed { field })?)?,
                Field::IncludeViewMetadata => {
                    once(&mut include_view_metadata, field, map.next_value_seed(FlagSeed { field })?)?;
                }
                Field::Service => once(&mut service, field, map.next_value_seed(ServiceSeed)?)?,
                Field::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let selection = match (features.flatten(), service.flatten()) {
            (Some(features), Some(_)) if !features.is_empty() => {
                return Err(A::Error::custom("`features` and `feature_service` are both there, expected one of them"));
            }
            (_, Some(service)) => Selection::Service(service),
            (Some(features), None) => Selection::Features(features),
            (None, None) => return Err(A::Error::custom("`features` or `feature_service` is missing, expected one of them")),
        };
        let Some(entities) = entities else {
            return Err(A::Error::custom("`entities` is missing, expected an object of lists, one for each join key"));
        };
        let mut request = Request::new(selection, entities);
        request.full_feature_names = full_feature_names.unwrap_or(false);
        request.include_view_metadata = include_view_metadata.unwrap_or(false);
        request.expired = expired.unwrap_or_default();
        Ok(request)
    }
}

/// Keeps a field's value, unless it has one already.
fn once<T, E: Error>(slot: &mut Option<T>, field: Field, value: T) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom(format_args!("`{}` is there twice", field.name()))),
    }
}

/// The fields of a request.
#[derive(Clone, Copy)]
enum Field {
    Entities,
    Expired,
    Features,
    FullFeatureNames,
    IncludeViewMetadata,
    Service,
    Unknown,
}

impl Field {
    const KNOWN: [Self; 6] =
        [Self::Entities, Self::Expired, Self::Features, Self::FullFeatureNames, Self::IncludeViewMetadata, Self::Service];

    const fn name(self) -> &'static str {
        match self {
            Self::Entities => "entities",
            Self::Expired => "expired",
            Self::Features => "features",
            Self::FullFeatureNames => "full_feature_names",
            Self::IncludeViewMetadata => "include_feature_view_version_metadata",
            Self::Service => "feature_service",
            Self::Unknown => "",
        }
    }
}

struct FieldSeed;

impl<'de> DeserializeSeed<'de> for FieldSeed {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for FieldSeed {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Field, E> {
        Ok(Field::KNOWN.into_iter().find(|field| field.name() == name).unwrap_or(Field::Unknown))
    }
}

struct FlagSeed {
    field: Field,
}

impl<'de> DeserializeSeed<'de> for FlagSeed {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for FlagSeed {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "true or false for `{}`", self.field.name())
    }

    fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }
}

struct ExpiredSeed;

impl<'de> DeserializeSeed<'de> for ExpiredSeed {
    type Value = Expired;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Expired, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for ExpiredSeed {
    type Value = Expired;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"null\" or \"value\" for `expired`")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Expired, E> {
        match name {
            "null" => Ok(Expired::Null),
            "value" => Ok(Expired::Value),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(name), &self)),
        }
    }
}

/// The name of a feature service, or null, which is as if the field were not there.
struct ServiceSeed;

impl<'de> DeserializeSeed<'de> for ServiceSeed {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for ServiceSeed {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a feature service for `feature_service`")
    }

    fn visit_unit<E>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<String>, E> {
        Ok(Some(name.to_owned()))
    }

    fn visit_string<E>(self, name: String) -> Result<Option<String>, E> {
        Ok(Some(name))
    }
}

/// Feature references, or null, which is as if the field were not there.
struct FeaturesSeed<'b> {
    budget: &'b Budget,
}

impl<'de> DeserializeSeed<'de> for FeaturesSeed<'_> {
    type Value = Option<Vec<String>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FeaturesSeed<'_> {
    type Value = Option<Vec<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of feature references for `features`")
    }

    fn visit_unit<E>(self) -> Result<Option<Vec<String>>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Option<Vec<String>>, A::Error> {
        let mut references = Vec::new();
        while let Some(reference) = elements.next_element_seed(ReferenceSeed { index: references.len() })? {
            self.budget.spend()?;
            references.push(reference);
        }
        Ok(Some(references))
    }
}

struct ReferenceSeed {
    index: usize,
}

impl<'de> DeserializeSeed<'de> for ReferenceSeed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for ReferenceSeed {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a feature reference `view:feature` for `features`, element {}", self.index)
    }

    fn visit_str<E>(self, reference: &str) -> Result<String, E> {
        Ok(reference.to_owned())
    }

    fn visit_string<E>(self, reference: String) -> Result<String, E> {
        Ok(reference)
    }
}

struct EntitiesSeed<'b> {
    budget: &'b Budget,
}

impl<'de> DeserializeSeed<'de> for EntitiesSeed<'_> {
    type Value = Vec<EntityColumn>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<EntityColumn>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EntitiesSeed<'_> {
    type Value = Vec<EntityColumn>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of lists, one for each join key, for `entities`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<EntityColumn>, A::Error> {
        let mut columns: Vec<EntityColumn> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            self.budget.spend()?;
            let values = map.next_value_seed(ColumnSeed { name: &name, budget: self.budget })?;
            columns.push(EntityColumn::new(name, values));
        }
        match repeated(columns.iter().map(|column| column.name.as_str())) {
            None => Ok(columns),
            Some(name) => Err(A::Error::custom(format_args!("entity column `{name}` is there twice"))),
        }
    }
}

/// A name that is there twice. Sorts, so that a request of many names costs no more than its length.
fn repeated<'n>(names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.windows(2).find_map(|pair| match pair {
        [first, second] if first == second => Some(*first),
        _ => None,
    })
}

#[derive(Clone, Copy)]
struct ColumnSeed<'b> {
    name: &'b str,
    budget: &'b Budget,
}

impl<'de> DeserializeSeed<'de> for ColumnSeed<'_> {
    type Value = Vec<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Value>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ColumnSeed<'_> {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of values for entity column `{}`", self.name)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<Value>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = elements.next_element_seed(ValueSeed { column: self, row: values.len(), depth: 0 })? {
            values.push(value);
        }
        Ok(values)
    }
}

#[derive(Clone, Copy)]
struct ValueSeed<'b> {
    column: ColumnSeed<'b>,
    row: usize,
    depth: usize,
}

impl ValueSeed<'_> {
    /// The seed of what the value contains.
    fn inner<E: Error>(self) -> Result<Self, E> {
        if self.depth + 1 >= TYPE_DEPTH_MAX {
            let Self { column, row, .. } = self;
            return Err(E::custom(format_args!(
                "entity column `{}`, row {row}: value is nested deeper than {TYPE_DEPTH_MAX} levels",
                column.name
            )));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.column.budget.spend()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "null, true, false, a number, text, bytes, a list or an object for entity column `{}`, row {}",
            self.column.name, self.row
        )
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        // As JSON integers of more than 64 bits are read.
        Ok(i64::try_from(value).map_or(Value::Float64(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float64(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(value.to_owned()))
    }

    fn visit_byte_buf<E>(self, value: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let seed = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = elements.next_element_seed(seed)? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let seed = self.inner()?;
        let mut entries: Vec<(String, Value)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            entries.push((key, map.next_value_seed(seed)?));
        }
        match repeated(entries.iter().map(|(key, _)| key.as_str())) {
            None => Ok(Value::Map(entries)),
            Some(key) => {
                let Self { column, row, .. } = self;
                Err(A::Error::custom(format_args!("entity column `{}`, row {row}: key `{key}` is there twice", column.name)))
            }
        }
    }
}
