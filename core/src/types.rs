//! The types of features and of entity keys.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::{fmt, str::FromStr};

/// The type of a feature: all of Feast's that its own HTTP server can serve.
///
/// The text form is that of the definition files: `int64`, `list<string>`, `map<float64>`, `struct<lat: float64, lon:
/// float64>`; [`Display`](fmt::Display) writes it and [`FromStr`] reads it, with Feast's spellings (`Int64`, `Float32`,
/// `Array(String)`, `double`) accepted. Depth is at most [`TYPE_DEPTH_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueType {
    /// True or false.
    Bool,
    /// Bytes; base64 in JSON.
    Bytes,
    /// A decimal number as text, kept as it was written: `1.10`.
    Decimal,
    /// IEEE 754 binary32. NaN is canonical.
    Float32,
    /// IEEE 754 binary64. NaN is canonical.
    Float64,
    /// A 32-bit signed integer.
    Int32,
    /// A 64-bit signed integer.
    Int64,
    /// JSON text, not parsed; a JSON string that holds it in a response, as in Feast.
    Json,
    /// An ordered sequence; its elements may be null.
    List(Box<Self>),
    /// String keys, in the source's order, to values that may be null.
    Map(Box<Self>),
    /// A sequence without duplicates, in the source's order of first appearance.
    Set(Box<Self>),
    /// UTF-8 text.
    String,
    /// Named fields, in order, each of which may be null.
    Struct(Vec<StructField>),
    /// A version 1 UUID.
    TimeUuid,
    /// An instant; whole seconds, rounded down, in JSON, as in Feast.
    UnixTimestamp,
    /// A UUID; lower-case hyphenated text in JSON.
    Uuid,
    /// An instant with a fixed offset from UTC; ISO 8601 with the offset in JSON.
    ZonedTimestamp,
}

/// A named field of a [`ValueType::Struct`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct StructField {
    /// The field's name, the key in JSON.
    pub name: String,
    /// The field's type.
    pub value_type: ValueType,
}

impl StructField {
    /// A field of this name and type.
    pub fn new(name: impl Into<String>, value_type: ValueType) -> Self {
        Self { name: name.into(), value_type }
    }
}

/// How a value lies in a page column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Physical {
    /// A run of bytes: text, bytes, UUIDs and the payload encoding of nested values.
    Bytes,
    /// An f32, by its bits.
    Float32,
    /// An f64, by its bits.
    Float64,
    /// An i64: booleans (0, 1), integers and instants (nanoseconds).
    Int,
}

impl ValueType {
    /// How values of this type lie in a page column.
    pub const fn physical(&self) -> Physical {
        match self {
            Self::Bool | Self::Int32 | Self::Int64 | Self::UnixTimestamp => Physical::Int,
            Self::Float32 => Physical::Float32,
            Self::Float64 => Physical::Float64,
            Self::Bytes
            | Self::Decimal
            | Self::Json
            | Self::List(_)
            | Self::Map(_)
            | Self::Set(_)
            | Self::String
            | Self::Struct(_)
            | Self::TimeUuid
            | Self::Uuid
            | Self::ZonedTimestamp => Physical::Bytes,
        }
    }

    /// Whether values contain other values.
    pub const fn is_nested(&self) -> bool {
        matches!(self, Self::List(_) | Self::Map(_) | Self::Set(_) | Self::Struct(_))
    }
}

/// The type of an entity key column. There are no float keys: equal keys must have equal bytes.
///
/// `int32` and `int64` columns are one type here: a key is the same entity whatever the width of its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyType {
    /// True or false.
    Bool,
    /// Bytes.
    Bytes,
    /// A signed integer of up to 64 bits.
    Int,
    /// UTF-8 text.
    String,
    /// An instant, compared in nanoseconds.
    UnixTimestamp,
    /// A UUID, compared as 16 bytes: upper and lower case are one.
    Uuid,
}

impl KeyType {
    /// How keys of this type lie in a page column.
    pub const fn physical(self) -> Physical {
        match self {
            Self::Bool | Self::Int | Self::UnixTimestamp => Physical::Int,
            Self::Bytes | Self::String | Self::Uuid => Physical::Bytes,
        }
    }

    /// The key type of a value type, or `None` where it cannot be a key.
    pub const fn of(value_type: &ValueType) -> Option<Self> {
        match value_type {
            ValueType::Bool => Some(Self::Bool),
            ValueType::Bytes => Some(Self::Bytes),
            ValueType::Int32 | ValueType::Int64 => Some(Self::Int),
            ValueType::String => Some(Self::String),
            ValueType::UnixTimestamp => Some(Self::UnixTimestamp),
            ValueType::TimeUuid | ValueType::Uuid => Some(Self::Uuid),
            _ => None,
        }
    }

    /// The value type of a key's values.
    pub const fn value_type(self) -> ValueType {
        match self {
            Self::Bool => ValueType::Bool,
            Self::Bytes => ValueType::Bytes,
            Self::Int => ValueType::Int64,
            Self::String => ValueType::String,
            Self::UnixTimestamp => ValueType::UnixTimestamp,
            Self::Uuid => ValueType::Uuid,
        }
    }

    /// Its name in definitions and errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Bytes => "bytes",
            Self::Int => "int64",
            Self::String => "string",
            Self::UnixTimestamp => "unix_timestamp",
            Self::Uuid => "uuid",
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(element) => write!(f, "list<{element}>"),
            Self::Map(value) => write!(f, "map<{value}>"),
            Self::Set(element) => write!(f, "set<{element}>"),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (index, field) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{}: {}", field.name, field.value_type)?;
                }
                f.write_str(">")
            }
            scalar => f.write_str(SCALARS.iter().find(|(_, value_type)| value_type == scalar).map_or("", |(name, _)| name)),
        }
    }
}

/// The text is not a type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseTypeError {
    /// The text at fault.
    pub text: String,
}

impl fmt::Display for ParseTypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a type, expected one of ", self.text)?;
        for (name, _) in SCALARS {
            write!(f, "{name}, ")?;
        }
        f.write_str("list<T>, set<T>, map<T> or struct<name: T, ..>")
    }
}

impl core::error::Error for ParseTypeError {}

impl FromStr for ValueType {
    type Err = ParseTypeError;

    fn from_str(text: &str) -> Result<Self, ParseTypeError> {
        parse(text, 0).ok_or_else(|| ParseTypeError { text: text.into() })
    }
}

fn parse(text: &str, depth: usize) -> Option<ValueType> {
    if depth >= TYPE_DEPTH_MAX {
        return None;
    }
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    if let Some((_, value_type)) = SCALARS.iter().chain(&SCALARS_OF_FEAST).find(|(name, _)| *name == lower) {
        return Some(value_type.clone());
    }
    // Feast's untyped Map holds what JSON objects of strings hold.
    if lower == "map" {
        return Some(ValueType::Map(Box::new(ValueType::String)));
    }
    let open = text.find(['<', '(', '['])?;
    let inner = text.get(open + 1..)?.strip_suffix(['>', ')', ']'])?;
    match lower.get(..open)?.trim() {
        "list" | "array" => Some(ValueType::List(Box::new(parse(inner, depth + 1)?))),
        "set" => Some(ValueType::Set(Box::new(parse(inner, depth + 1)?))),
        "map" => {
            let value = split_top_level(inner);
            match value.as_slice() {
                [value] => Some(ValueType::Map(Box::new(parse(value, depth + 1)?))),
                // `map<string, T>` is how Arrow and SQL write it.
                [key, value] if key.trim().eq_ignore_ascii_case("string") => {
                    Some(ValueType::Map(Box::new(parse(value, depth + 1)?)))
                }
                _ => None,
            }
        }
        "struct" => {
            let mut fields: Vec<StructField> = Vec::new();
            for part in split_top_level(inner.trim().trim_start_matches('{').trim_end_matches('}')) {
                let (name, value_type) = part.split_once(':')?;
                let name = name.trim().trim_matches(['"', '\'']);
                if name.is_empty() || fields.iter().any(|field| field.name == name) {
                    return None;
                }
                fields.push(StructField::new(name, parse(value_type, depth + 1)?));
            }
            Some(ValueType::Struct(fields))
        }
        _ => None,
    }
}

impl ValueType {
    /// The type whose [`Display`](fmt::Display) form this is, and no other spelling of it: what formats hold, so that equal
    /// types have equal bytes. It is also less code than all the spellings.
    pub(crate) fn from_canonical(mut text: &str) -> Option<Self> {
        let value_type = take_canonical(&mut text, 0)?;
        if text.is_empty() { Some(value_type) } else { None }
    }
}

fn take_canonical(rest: &mut &str, depth: usize) -> Option<ValueType> {
    if depth >= TYPE_DEPTH_MAX {
        return None;
    }
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
    let length = rest.bytes().take_while(is_word).count();
    let (word, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    if let Some((_, scalar)) = SCALARS.iter().find(|(name, _)| *name == word) {
        return Some(scalar.clone());
    }
    take_byte(rest, b'<')?;
    let nested = match word {
        "list" => ValueType::List(Box::new(take_canonical(rest, depth + 1)?)),
        "map" => ValueType::Map(Box::new(take_canonical(rest, depth + 1)?)),
        "set" => ValueType::Set(Box::new(take_canonical(rest, depth + 1)?)),
        "struct" => {
            let mut fields: Vec<StructField> = Vec::new();
            loop {
                let length = rest.bytes().take_while(|byte| !RESERVED.contains(byte)).count();
                let (name, tail) = rest.split_at_checked(length)?;
                *rest = tail;
                let padded = name.starts_with(' ') || name.ends_with(' ');
                if name.is_empty() || padded || fields.iter().any(|field| field.name == name) {
                    return None;
                }
                take_byte(rest, b':')?;
                take_byte(rest, b' ')?;
                fields.push(StructField::new(name, take_canonical(rest, depth + 1)?));
                if take_byte(rest, b',').is_none() {
                    break;
                }
                take_byte(rest, b' ')?;
            }
            ValueType::Struct(fields)
        }
        _ => return None,
    };
    take_byte(rest, b'>')?;
    Some(nested)
}

fn take_byte(rest: &mut &str, byte: u8) -> Option<()> {
    if rest.as_bytes().first() != Some(&byte) {
        return None;
    }
    *rest = rest.get(1..)?;
    Some(())
}

/// What the name of a struct's field does not hold.
const RESERVED: &[u8] = b":,<>()[]{}\"'";

/// Splits at the commas that are in no bracket.
fn split_top_level(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut level, mut start) = (0_i32, 0);
    for (at, character) in text.char_indices() {
        match character {
            '<' | '(' | '[' | '{' => level += 1,
            '>' | ')' | ']' | '}' => level -= 1,
            ',' if level == 0 => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

/// How deep a type may nest; it bounds every recursion over values.
pub const TYPE_DEPTH_MAX: usize = 16;

const SCALARS: [(&str, ValueType); 13] = [
    ("bool", ValueType::Bool),
    ("bytes", ValueType::Bytes),
    ("decimal", ValueType::Decimal),
    ("float32", ValueType::Float32),
    ("float64", ValueType::Float64),
    ("int32", ValueType::Int32),
    ("int64", ValueType::Int64),
    ("json", ValueType::Json),
    ("string", ValueType::String),
    ("time_uuid", ValueType::TimeUuid),
    ("unix_timestamp", ValueType::UnixTimestamp),
    ("uuid", ValueType::Uuid),
    ("zoned_timestamp", ValueType::ZonedTimestamp),
];
const SCALARS_OF_FEAST: [(&str, ValueType); 8] = [
    ("double", ValueType::Float64),
    ("float", ValueType::Float32),
    ("boolean", ValueType::Bool),
    ("unixtimestamp", ValueType::UnixTimestamp),
    ("zonedtimestamp", ValueType::ZonedTimestamp),
    ("timeuuid", ValueType::TimeUuid),
    ("image_bytes", ValueType::Bytes),
    ("pdf_bytes", ValueType::Bytes),
];

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, string::ToString};

    #[test]
    fn types_read_back_as_written() {
        for text in ["int64", "list<string>", "set<list<bytes>>", "map<float64>", "struct<a: int32, b: list<struct<c: json>>>"] {
            assert_eq!(text.parse::<ValueType>().map(|parsed| parsed.to_string()).as_deref(), Ok(text));
            assert_eq!(ValueType::from_canonical(text), text.parse().ok());
        }
    }

    #[test]
    fn only_the_canonical_form_is_canonical() {
        let spellings = [
            "Int64",
            "list< int64>",
            "list<int64> ",
            "array<int64>",
            "map",
            "map<string, int64>",
            "struct<a:int64>",
            "struct<a: int64,b: int64>",
            "struct<\"a\": int64>",
            "struct< a: int64>",
            "list(int64)",
            "struct<a: Int64>",
        ];
        for text in spellings {
            assert!(text.parse::<ValueType>().is_ok(), "{text}");
            assert_eq!(ValueType::from_canonical(text), None, "{text}");
        }
        let wide = "struct<Zürich x: int64, b-c: map<struct<d: uuid>>>";
        assert_eq!(ValueType::from_canonical(wide), wide.parse().ok());
    }

    #[test]
    fn the_spellings_of_feast_are_read() {
        for (feast, ours) in [
            ("Int64", "int64"),
            ("Float32", "float32"),
            ("double", "float64"),
            ("Array(String)", "list<string>"),
            ("Set(UnixTimestamp)", "set<unix_timestamp>"),
            ("Map", "map<string>"),
            ("Struct({\"x\": Int32, \"y\": Array(Bool)})", "struct<x: int32, y: list<bool>>"),
        ] {
            assert_eq!(feast.parse::<ValueType>().map(|parsed| parsed.to_string()).as_deref(), Ok(ours));
        }
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for text in ["", "int", "list<>", "list<int64", "map<int64, string>", "struct<a>", "struct<a: int64, a: int64>"] {
            assert!(text.parse::<ValueType>().is_err(), "{text}");
            assert_eq!(ValueType::from_canonical(text), None, "{text}");
        }
        let deep = format!("{}int64{}", "list<".repeat(TYPE_DEPTH_MAX), ">".repeat(TYPE_DEPTH_MAX));
        assert!(deep.parse::<ValueType>().is_err());
        assert_eq!(ValueType::from_canonical(&deep), None);
    }
}
