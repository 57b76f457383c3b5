//! A request from the tokens of its body.

use alloc::{borrow::ToOwned, boxed::Box, format, string::String, vec::Vec};

use super::body::{Body, Members, Read, Token};
use super::{MediaType, REQUEST_VALUES_MAX, WireError};
use crate::names::Names;
use crate::{EntityColumn, Expired, Request, Selection, TYPE_DEPTH_MAX, Value};

impl Request {
    /// Reads the body of Feast's `POST /get-online-features`; docs/WIRE.md is the reference.
    ///
    /// The columns keep their order. Integers that 64 signed bits cannot hold are read as floats, which no integer, text or
    /// key column accepts later. Unknown fields are ignored, as Feast's servers do.
    ///
    /// # Errors
    /// [`WireError`] where the body is not of its media type or no request, is nested too deep or holds too much.
    pub fn from_body(body: &[u8], media_type: MediaType) -> Result<Self, WireError> {
        let mut reader = Reader { body: Body::new(body, media_type), budget: REQUEST_VALUES_MAX };
        let request = reader.request().map_err(|error| *error)?;
        reader.body.end().map_err(|error| *error)?;
        check_lengths(&request)?;
        Ok(request)
    }
}

/// That all columns have one length.
fn check_lengths(request: &Request) -> Result<(), WireError> {
    let Some(first) = request.entities.first() else { return Ok(()) };
    match request.entities.iter().find(|column| column.values.len() != first.values.len()) {
        None => Ok(()),
        Some(other) => Err(WireError::Ragged {
            first: (first.name.clone(), first.values.len()),
            other: (other.name.clone(), other.values.len()),
        }),
    }
}

struct Reader<'b> {
    body: Body<'b>,
    /// How many more values the request may hold: a value takes more memory than text, so that the length of a body alone does
    /// not bound it.
    budget: usize,
}

/// The fields of a request.
const FIELDS: [&str; 6] =
    ["entities", "expired", "features", "feature_service", "full_feature_names", "include_feature_view_version_metadata"];

impl Reader<'_> {
    fn request(&mut self) -> Read<Request> {
        let mut members = match self.body.token()? {
            Token::Map(members) => members,
            other => return Err(self.body.unexpected(&other, "an object with `entities` and `features` or `feature_service`")),
        };
        let (mut features, mut service) = (None, None);
        let mut entities = None;
        let mut request = Request::new(Selection::Features(Vec::new()), Vec::new());
        let mut seen = [false; FIELDS.len()];
        while let Some(name) = self.body.key(&mut members)? {
            let Some(number) = FIELDS.iter().position(|field| *field == name) else {
                self.body.skip()?;
                continue;
            };
            if let Some(seen) = seen.get_mut(number)
                && core::mem::replace(seen, true)
            {
                return Err(self.body.invalid(self.body.token_at, &format!("`{name}` is there twice")));
            }
            match &*name {
                "entities" => entities = Some(self.entities()?),
                "expired" => request.expired = self.expired()?,
                "features" => features = self.features()?,
                "feature_service" => service = self.service()?,
                "full_feature_names" => request.full_feature_names = self.flag(&name)?,
                _ => request.include_view_metadata = self.flag(&name)?,
            }
        }
        let end = self.body.at.saturating_sub(1);
        let invalid = |detail| Err(self.body.invalid(end, detail));
        request.selection = match (features, service) {
            (Some(features), Some(_)) if !features.is_empty() => {
                return invalid("`features` and `feature_service` are both there, expected one of them");
            }
            (_, Some(service)) => Selection::Service(service),
            (Some(features), None) => Selection::Features(features),
            (None, None) => return invalid("`features` or `feature_service` is missing, expected one of them"),
        };
        request.entities = match entities {
            Some(entities) => entities,
            None => return invalid("`entities` is missing, expected an object of lists, one for each join key"),
        };
        Ok(request)
    }

    fn flag(&mut self, name: &str) -> Read<bool> {
        match self.body.token()? {
            Token::Bool(flag) => Ok(flag),
            other => Err(self.body.unexpected(&other, &format!("true or false for `{name}`"))),
        }
    }

    fn expired(&mut self) -> Read<Expired> {
        let token = self.body.token()?;
        match &token {
            Token::Text(text) if text == "null" => Ok(Expired::Null),
            Token::Text(text) if text == "value" => Ok(Expired::Value),
            other => Err(self.body.unexpected(other, "the text `null` or `value` for `expired`")),
        }
    }

    /// The name of a feature service, or null, which is as if the field were not there.
    fn service(&mut self) -> Read<Option<String>> {
        match self.body.token()? {
            Token::Null => Ok(None),
            Token::Text(name) => Ok(Some(name.into_owned())),
            other => Err(self.body.unexpected(&other, "the name of a feature service for `feature_service`")),
        }
    }

    /// Feature references, or null, which is as if the field were not there.
    fn features(&mut self) -> Read<Option<Vec<String>>> {
        let mut members = match self.body.token()? {
            Token::Null => return Ok(None),
            Token::List(members) => members,
            other => return Err(self.body.unexpected(&other, "a list of feature references for `features`")),
        };
        let mut references = Vec::new();
        while self.body.element(&mut members)? {
            self.spend()?;
            match self.body.token()? {
                Token::Text(reference) => references.push(reference.into_owned()),
                other => {
                    let index = references.len();
                    let expected = format!("a feature reference `view:feature` for `features`, element {index}");
                    return Err(self.body.unexpected(&other, &expected));
                }
            }
        }
        Ok(Some(references))
    }

    fn entities(&mut self) -> Read<Vec<EntityColumn>> {
        let mut members = match self.body.token()? {
            Token::Map(members) => members,
            other => {
                return Err(self.body.unexpected(&other, "an object of lists, one for each join key, for `entities`"));
            }
        };
        let start = self.body.token_at;
        let mut columns: Vec<EntityColumn> = Vec::new();
        while let Some(name) = self.body.key(&mut members)? {
            self.spend()?;
            let values = self.column(&name)?;
            columns.push(EntityColumn::new(name, values));
        }
        match repeated(columns.iter().map(|column| column.name.as_str())) {
            None => Ok(columns),
            Some(name) => Err(self.body.invalid(start, &format!("entity column `{name}` is there twice"))),
        }
    }

    fn column(&mut self, name: &str) -> Read<Vec<Value>> {
        let mut members = match self.body.token()? {
            Token::List(members) => members,
            other => {
                return Err(self.body.unexpected(&other, &format!("a list of values for entity column `{name}`")));
            }
        };
        let mut values = Vec::new();
        while self.body.element(&mut members)? {
            let value = self.value((name, values.len()), 0)?;
            values.push(value);
        }
        Ok(values)
    }

    /// A value of this column and row.
    fn value(&mut self, place: (&str, usize), depth: usize) -> Read<Value> {
        self.spend()?;
        Ok(match self.body.token()? {
            Token::Null => Value::Null,
            Token::Bool(value) => Value::Bool(value),
            Token::Int(value) => Value::Int(value),
            Token::Float(value) => Value::Float64(value),
            Token::Text(text) => Value::String(text.into_owned()),
            Token::Bytes(bytes) => Value::Bytes(bytes.to_owned()),
            Token::List(members) => self.list(members, place, depth + 1)?,
            Token::Map(members) => self.map(members, place, depth + 1)?,
            other @ Token::Extension => {
                let (column, row) = place;
                let expected = "null, true, false, a number, text, bytes, a list or an object";
                return Err(self.body.unexpected(&other, &format!("{expected} for entity column `{column}`, row {row}")));
            }
        })
    }

    fn list(&mut self, mut members: Members, place: (&str, usize), depth: usize) -> Read<Value> {
        self.check_depth(place, depth)?;
        let mut values = Vec::new();
        while self.body.element(&mut members)? {
            values.push(self.value(place, depth)?);
        }
        Ok(Value::List(values))
    }

    fn map(&mut self, mut members: Members, place: (&str, usize), depth: usize) -> Read<Value> {
        self.check_depth(place, depth)?;
        let start = self.body.token_at;
        let mut entries: Vec<(String, Value)> = Vec::new();
        while let Some(key) = self.body.key(&mut members)? {
            let value = self.value(place, depth)?;
            entries.push((key.into_owned(), value));
        }
        match repeated(entries.iter().map(|(key, _)| key.as_str())) {
            None => Ok(Value::Map(entries)),
            Some(key) => {
                let (column, row) = place;
                Err(self.body.invalid(start, &format!("entity column `{column}`, row {row}: key `{key}` is there twice")))
            }
        }
    }

    fn check_depth(&self, (column, row): (&str, usize), depth: usize) -> Read<()> {
        if depth < TYPE_DEPTH_MAX {
            return Ok(());
        }
        let detail = format!("entity column `{column}`, row {row}: value is nested deeper than {TYPE_DEPTH_MAX} levels");
        Err(self.body.invalid(self.body.token_at, &detail))
    }

    fn spend(&mut self) -> Read<()> {
        self.budget = self.budget.checked_sub(1).ok_or_else(|| Box::new(WireError::TooManyValues))?;
        Ok(())
    }
}

/// A name that is there twice.
fn repeated<'n>(names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let mut seen = Names::default();
    names.for_each(|name| seen.push(name, (0, 0)));
    seen.sort();
    seen.repeated().map(|[(name, _), _]| name)
}
