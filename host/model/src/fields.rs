//! Reading the keys of an object, and telling everything that is wrong with them.

use std::collections::BTreeMap;

use mezze_core::{Span, ValueType};

use crate::keys::{Form, Object};
use crate::node::{Node, Place, Value};
use crate::problem::{Problems, instead};
use crate::size::parse_size;
use crate::span::parse_span;

/// The keys of one object of a file. What is of the wrong form is told and then as if it were not there.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) place: Place,
    entries: BTreeMap<&'a str, &'a Node>,
}

impl<'a> Fields<'a> {
    /// Checks a value against what the object may have. `None` where it is no map.
    pub(crate) fn read(node: &'a Node, object: &Object, problems: &mut Problems<'_>) -> Option<Self> {
        let Value::Map(map) = &node.value else {
            problems.add(node.place, format!("{} is a map of keys, found {}", article(object.noun), node.noun()));
            return None;
        };
        let mut entries: BTreeMap<&str, &Node> = BTreeMap::new();
        for (key, value) in map {
            let Some(known) = object.keys.iter().find(|known| known.name == key.name) else {
                let instead = instead(&key.name, object.keys.iter().map(|known| known.name));
                problems.add(key.place, format!("{} has no key `{}`{instead}", article(object.noun), key.name));
                continue;
            };
            if entries.contains_key(key.name.as_str()) {
                problems.add(key.place, format!("the key `{}` is there twice", key.name));
                continue;
            }
            // A key without a value is as if it were not there.
            if !matches!(value.value, Value::Null) && fits(value, known.name, &known.form, problems) {
                entries.insert(&key.name, value);
            }
        }
        for key in object.keys.iter().filter(|key| key.required) {
            let given = map.iter().any(|(given, value)| given.name == key.name && !matches!(value.value, Value::Null));
            if !given {
                problems.add(node.place, format!("{} needs the key `{}`: {}", article(object.noun), key.name, lower(key.about)));
            }
        }
        Some(Self { place: node.place, entries })
    }

    /// Reads one of several objects: the one that its key `type` names, with that name.
    pub(crate) fn read_variant(
        node: &'a Node,
        variants: &'static [(&'static str, &'static Object)],
        problems: &mut Problems<'_>,
    ) -> Option<(&'static str, Self)> {
        let kind = match &node.value {
            Value::Map(map) => map.iter().find(|(key, _)| key.name == "type").and_then(|(_, kind)| text_of(kind)),
            _ => None,
        };
        match variants.iter().find(|(name, _)| kind.as_deref() == Some(*name)) {
            Some((name, object)) => Some((name, Self::read(node, object, problems)?)),
            None => {
                let Value::Map(map) = &node.value else {
                    problems.add(node.place, format!("it is a map of keys, found {}", node.noun()));
                    return None;
                };
                let words: Vec<String> = variants.iter().map(|(name, _)| format!("`{name}`")).collect();
                let place = map.iter().find(|(key, _)| key.name == "type").map_or(node.place, |(_, kind)| kind.place);
                let given = kind.map(|kind| format!(", found `{kind}`")).unwrap_or_default();
                problems.add(place, format!("`type` must be one of {}{given}", words.join(", ")));
                None
            }
        }
    }

    pub(crate) fn node(&self, key: &str) -> Option<&'a Node> {
        self.entries.get(key).copied()
    }

    pub(crate) fn place_of(&self, key: &str) -> Place {
        self.node(key).map_or(self.place, |node| node.place)
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.node(key).and_then(text_of)
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.node(key)?.value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    pub(crate) fn span(&self, key: &str) -> Option<Span> {
        self.node(key).and_then(span_of)
    }

    pub(crate) fn count(&self, key: &str) -> Option<u64> {
        match self.node(key)?.value {
            Value::Int(number) => u64::try_from(number).ok(),
            _ => None,
        }
    }

    pub(crate) fn size(&self, key: &str) -> Option<u64> {
        self.node(key).and_then(size_of)
    }

    pub(crate) fn value_type(&self, key: &str) -> Option<ValueType> {
        self.node(key).and_then(text_of)?.parse().ok()
    }

    pub(crate) fn list(&self, key: &str) -> &'a [Node] {
        match self.node(key).map(|node| &node.value) {
            Some(Value::List(nodes)) => nodes,
            _ => &[],
        }
    }

    pub(crate) fn map(&self, key: &str) -> &'a [(crate::node::Key, Node)] {
        match self.node(key).map(|node| &node.value) {
            Some(Value::Map(entries)) => entries,
            _ => &[],
        }
    }

    pub(crate) fn text_map(&self, key: &str) -> BTreeMap<String, String> {
        self.map(key).iter().filter_map(|(key, value)| Some((key.name.clone(), text_of(value)?))).collect()
    }
}

/// Text, also where YAML takes it for a number or a flag.
pub(crate) fn text_of(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Flag(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn size_of(node: &Node) -> Option<u64> {
    match &node.value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Text(text) => parse_size(text),
        _ => None,
    }
}

fn span_of(node: &Node) -> Option<Span> {
    match &node.value {
        Value::Int(0) => Some(Span::ZERO),
        Value::Text(text) => parse_span(text),
        _ => None,
    }
}

/// Checks the form of a key's value. What objects hold is checked when they are read.
fn fits(node: &Node, key: &str, form: &Form, problems: &mut Problems<'_>) -> bool {
    let mut expected = |what: &str| {
        problems.add(node.place, format!("`{key}` must be {what}, found {}", node.noun()));
        false
    };
    match (form, &node.value) {
        (Form::Choice(words), value) => {
            let given = match value {
                Value::Text(text) => words.contains(&text.as_str()),
                _ => false,
            };
            given || {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                expected(&if words.len() == 1 { words.concat() } else { format!("one of {}", words.join(", ")) })
            }
        }
        (Form::Count, Value::Int(number)) if *number > 0 => true,
        (Form::Count, _) => expected("a whole number from 1"),
        (Form::Flag, Value::Flag(_)) => true,
        (Form::Flag, _) => expected("true or false"),
        (Form::List(item), Value::List(nodes)) => {
            // All of them are looked at, so that everything wrong is told.
            nodes.iter().filter(|node| !fits(node, key, item, problems)).count() == 0
        }
        (Form::List(_), _) => expected("a list"),
        (Form::Map(item), Value::Map(entries)) => {
            entries.iter().filter(|(inner, node)| !fits(node, &inner.name, item, problems)).count() == 0
        }
        (Form::Map(_), _) => expected("a map"),
        (Form::Name, _) => match text_of(node) {
            Some(name) if is_name(&name) => true,
            _ => expected("a name: a letter or `_`, then letters, digits, `_`, `-` and `.`"),
        },
        // Whoever reads the object says what is wrong with it.
        (Form::Object(_) | Form::Variant(_), _) => true,
        (Form::Selector(_), Value::Text(_) | Value::Map(_)) => true,
        (Form::Selector(_), _) => expected("`view`, `view:feature`, or a map with the key `view`"),
        (Form::Size, _) => size_of(node).is_some() || expected("a size such as 64MB or 512KiB"),
        (Form::Span, _) => {
            span_of(node).is_some_and(|span| span >= Span::ZERO) || expected("a length of time such as 1d, 12h, 90m or 30s, or 0")
        }
        (Form::Text, _) => text_of(node).is_some() || expected("a text"),
        (Form::Type, _) => match text_of(node).map(|text| text.parse::<ValueType>()) {
            Some(Ok(_)) => true,
            Some(Err(error)) => {
                problems.add(node.place, format!("`{key}`: {error}"));
                false
            }
            None => expected("a type such as int64, string or list<float64>"),
        },
    }
}

/// Whether this may be the name of an object, a column or a feature.
fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_alphanumeric() || first == '_')
        && letters.all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.'))
}

/// A noun with its article.
fn article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// A sentence as a part of another.
fn lower(sentence: &str) -> String {
    let mut letters = sentence.trim_end_matches('.').chars();
    let sentence = letters.next().map(|first| first.to_lowercase().chain(letters).collect::<String>());
    // Only the first sentence: what it is.
    sentence.and_then(|text| text.split(". ").next().map(str::to_owned)).unwrap_or_default()
}
