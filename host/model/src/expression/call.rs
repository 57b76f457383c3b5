//! Calls of functions, and the types that go together.

use mezze_core::{Constant, Function as F, Timestamp, ValueType};
use sqlparser::tokenizer::Span;

use super::build::{Place, Typed};
use super::cast::cast;
use super::compile::{Compiler, Number, Result, shown};
use super::functions::{ALIASES, FIXED_UNITS, FUNCTIONS, Gives, Overload, Takes, UNITS};
use crate::problem::instead;

impl Compiler<'_, '_> {
    /// Calls a function by its name in lower case.
    pub(super) fn call(&mut self, name: &str, mut arguments: Vec<Typed>, span: Span) -> Result<Typed> {
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        if let Some(typed) = self.special(name, &mut arguments, span)? {
            return Ok(typed);
        }
        let entry = FUNCTIONS.iter().find(|entry| entry.name == name && is_word(name)).ok_or_else(|| {
            let names = FUNCTIONS.iter().map(|entry| entry.name).filter(|name| is_word(name));
            self.error(span, format!("there is no function `{name}`{}", instead(name, names)))
        })?;
        let fitting = entry.overloads.iter().filter_map(|overload| Some((cost(overload, &arguments)?, overload)));
        let Some((_, overload)) = fitting.min_by_key(|(cost, _)| *cost) else {
            let given: Vec<String> = arguments.iter().map(|argument| shown(argument.value_type.as_ref())).collect();
            return Err(self.error(span, format!("`{name}` takes {}; given is ({})", entry.signature, given.join(", "))));
        };
        let mut places = Vec::with_capacity(arguments.len() + 1);
        for (takes, argument) in overload.takes.iter().zip(&arguments) {
            self.argument(*takes, argument, name, &mut places)?;
        }
        let value_type = match overload.gives {
            Gives::Bool => ValueType::Bool,
            Gives::Int => ValueType::Int64,
            Gives::Float => ValueType::Float64,
            Gives::Text => ValueType::String,
            Gives::Time => ValueType::UnixTimestamp,
            Gives::Ints => ValueType::List(Box::new(ValueType::Int64)),
        };
        Ok(self.step(overload.does, places, value_type, span))
    }

    /// Functions that take values of any type, or fewer arguments than the core's.
    fn special(&mut self, name: &str, arguments: &mut Vec<Typed>, span: Span) -> Result<Option<Typed>> {
        let text = |compiler: &mut Self, text: &str| compiler.text_literal(text.to_owned(), span);
        let int = |compiler: &mut Self, value: i64| {
            let place = compiler.int(value);
            compiler.typed(place, ValueType::Int64, span)
        };
        match (name, arguments.len()) {
            ("lpad" | "rpad", 2) => arguments.push(text(self, " ")),
            ("substr", 2) => arguments.push(int(self, i64::MAX)),
            ("round", 1) => arguments.push(int(self, 0)),
            ("trim" | "ltrim" | "rtrim", 1 | 2) => {
                if arguments.len() == 1 {
                    arguments.push(text(self, " "));
                }
                let function = match name {
                    "trim" => F::Trim,
                    "ltrim" => F::TrimStart,
                    _ => F::TrimEnd,
                };
                let places = arguments.iter().map(|argument| self.text(argument)).collect::<Result<Vec<_>>>()?;
                return Ok(Some(self.step(function, places, ValueType::String, span)));
            }
            ("now", 0) => return self.now(span).map(Some),
            ("pi", 0) => return Ok(Some(self.float_constant(std::f64::consts::PI, span))),
            ("degrees" | "radians", 1) => {
                let scale = if name == "degrees" { 180.0 / std::f64::consts::PI } else { std::f64::consts::PI / 180.0 };
                let scale = self.float_constant(scale, span);
                let [value] = arguments.as_slice() else { return Ok(None) };
                let value = self.float(value)?;
                return Ok(Some(self.step(F::MultiplyFloat, [value, scale.place], ValueType::Float64, span)));
            }
            ("%", 2) => {
                let [a, b] = arguments.as_slice() else { return Ok(None) };
                return self.arithmetic(F::RemainderInt, F::RemainderFloat, a, b, span).map(Some);
            }
            ("date_part", 2) => {
                let [unit, at] = arguments.as_slice() else { return Ok(None) };
                if unit.literal.as_deref().is_some_and(|unit| unit.eq_ignore_ascii_case("epoch")) {
                    let at = self.instant(at)?;
                    return Ok(Some(self.step(F::TimeToFloat, [at], ValueType::Float64, span)));
                }
            }
            ("concat", 1..) => {
                let empty = self.text_literal(String::new(), span).place;
                let mut places = Vec::with_capacity(arguments.len());
                for argument in arguments.iter() {
                    let place = self.text(argument)?;
                    places.push(self.builder.step(F::Coalesce, [place, empty]));
                }
                return Ok(Some(self.step(F::Concat, places, ValueType::String, span)));
            }
            ("coalesce", 1..) => {
                let (places, value_type) = self.common(arguments, "the arguments of coalesce")?;
                let mut places = places.into_iter();
                let first = places.next();
                let Some(first) = first else { return Ok(None) };
                let place = places.fold(first, |place, next| self.builder.step(F::Coalesce, [place, next]));
                return Ok(Some(Typed { place, value_type, span, literal: None }));
            }
            ("nullif", 2) => {
                let [a, b] = arguments.as_slice() else { return Ok(None) };
                let equal = self.compare(F::EqualInt, a, b, span)?;
                let null = self.null(span).place;
                let place = self.builder.step(F::Select, [equal.place, null, a.place]);
                return Ok(Some(Typed { place, value_type: a.value_type.clone(), span, literal: None }));
            }
            ("greatest" | "least", 1..) => {
                let (places, value_type) = self.common(arguments, &format!("the arguments of {name}"))?;
                let function = match (lane(value_type.as_ref()), name) {
                    (Lane::Int, "greatest") => F::GreatestInt,
                    (Lane::Int, _) => F::LeastInt,
                    (Lane::Float, "greatest") => F::GreatestFloat,
                    (Lane::Float, _) => F::LeastFloat,
                    (Lane::Bytes, "greatest") => F::GreatestBytes,
                    (Lane::Bytes, _) => F::LeastBytes,
                };
                self.ordered(value_type.as_ref(), span)?;
                let mut places = places.into_iter();
                let first = places.next();
                let Some(first) = first else { return Ok(None) };
                let place = places.fold(first, |place, next| self.builder.step(function, [place, next]));
                return Ok(Some(Typed { place, value_type, span, literal: None }));
            }
            ("clamp", 3) => {
                for argument in arguments.iter() {
                    self.numeric(argument)?;
                }
                let (places, value_type) = self.common(arguments, "the arguments of clamp")?;
                let [value, low, high] = places.as_slice() else { return Ok(None) };
                let (least, greatest) = match lane(value_type.as_ref()) {
                    Lane::Int => (F::LeastInt, F::GreatestInt),
                    _ => (F::LeastFloat, F::GreatestFloat),
                };
                // Null where one of them is: `greatest` alone would leave the null out.
                let bounded = self.builder.step(greatest, [*value, *low]);
                let bounded = self.builder.step(least, [bounded, *high]);
                let mut place = bounded;
                let null = self.null(span).place;
                for part in [value, low, high] {
                    let missing = self.builder.step(F::IsNull, [*part]);
                    place = self.builder.step(F::Select, [missing, null, place]);
                }
                return Ok(Some(Typed { place, value_type, span, literal: None }));
            }
            ("hash_bucket", 2) => {
                let [value, count] = arguments.as_slice() else { return Ok(None) };
                let hash = self.call("hash", vec![value.clone()], span)?;
                let count = self.whole(count)?;
                return Ok(Some(self.step(F::HashBucket, [hash.place, count], ValueType::Int64, span)));
            }
            ("lookup", 3 | 4) => return self.lookup(arguments, span).map(Some),
            _ => {}
        }
        Ok(None)
    }

    fn lookup(&mut self, arguments: &[Typed], span: Span) -> Result<Typed> {
        let (Some(key), Some(keys), Some(values)) = (arguments.first(), arguments.get(1), arguments.get(2)) else {
            return Err(self.error(span, "lookup takes a key, a list of keys and a list of values"));
        };
        for list in [keys, values] {
            if list.literal.is_none() || !matches!(list.value_type, Some(ValueType::List(_))) {
                return Err(
                    self.error(list.span, "the keys and values of lookup are lists that are written out, as in ['a', 'b']")
                );
            }
        }
        let counts = [keys, values].map(|list| self.builder.constant_at(list.place).and_then(list_count));
        if counts[0] != counts[1] {
            let [keys, values] = counts.map(|count| count.unwrap_or(0));
            return Err(self.error(span, format!("lookup has {keys} keys and {values} values; each key has one value")));
        }
        let (key_kind, key_type) = self.list_of(keys)?;
        let (value_kind, value_type) = self.list_of(values)?;
        let (function, key_place) = match key_type {
            ValueType::String => (F::PlaceBytes, self.text(key)?),
            ValueType::Int64 => (F::PlaceInt, self.whole(key)?),
            other => return Err(self.error(keys.span, format!("the keys of lookup are integers or texts, not {other}"))),
        };
        let place = self.builder.step(function, [key_place, key_kind, keys.place]);
        let element = match value_type {
            ValueType::Int64 => F::ListElementInt,
            ValueType::Float64 => F::ListElementFloat,
            _ => F::ListElementBytes,
        };
        let found = self.step(element, [value_kind, values.place, place], value_type, span);
        let Some(otherwise) = arguments.get(3) else { return Ok(found) };
        let (places, value_type) = self.common(&[found, otherwise.clone()], "the values of lookup")?;
        let [found, otherwise] = places.as_slice() else {
            return Err(self.error(span, "lookup takes a value for all other keys"));
        };
        let missing = self.builder.step(F::IsNull, [place]);
        let place = self.builder.step(F::Select, [missing, *otherwise, *found]);
        Ok(Typed { place, value_type, span, literal: None })
    }

    /// Puts an argument's registers behind the others.
    fn argument(&mut self, takes: Takes, argument: &Typed, name: &str, places: &mut Vec<Place>) -> Result<()> {
        let place = match takes {
            Takes::Int => self.whole(argument)?,
            Takes::Float => self.float(argument)?,
            Takes::Text => self.text(argument)?,
            Takes::Time => self.instant(argument)?,
            Takes::AnyBytes => argument.place,
            Takes::Unit | Takes::Part | Takes::FixedUnit => {
                let known: &[(&str, i64)] = match takes {
                    Takes::Unit => UNITS.get(..11).unwrap_or_default(),
                    Takes::Part => &UNITS,
                    _ => &FIXED_UNITS,
                };
                let Some(written) = &argument.literal else {
                    let message =
                        format!("the first argument of `{name}` is the name of a unit that is written out, such as 'day'");
                    return Err(self.error(argument.span, message));
                };
                let lower = written.to_ascii_lowercase();
                let singular = lower.strip_suffix('s').unwrap_or(&lower);
                let code = known.iter().find(|(unit, _)| *unit == lower || *unit == singular).map(|(_, code)| *code);
                let code = code.ok_or_else(|| {
                    let instead = instead(&lower, known.iter().map(|(unit, _)| *unit));
                    self.error(argument.span, format!("`{name}` knows no `{written}`{instead}"))
                })?;
                self.int(code)
            }
            Takes::Ints | Takes::Floats | Takes::Numbers | Takes::Texts | Takes::List => {
                let (kind, _) = self.list_of(argument)?;
                places.push(kind);
                argument.place
            }
        };
        places.push(place);
        Ok(())
    }

    fn float_constant(&mut self, value: f64, span: Span) -> Typed {
        let place = self.builder.constant(Constant::Float(value));
        self.typed(place, ValueType::Float64, span)
    }

    /// What a number is computed as.
    pub(super) fn numeric(&self, value: &Typed) -> Result<Number> {
        match &value.value_type {
            Some(ValueType::Int32 | ValueType::Int64) | None => Ok(Number::Int),
            Some(ValueType::Float32 | ValueType::Float64) => Ok(Number::Float),
            Some(ValueType::Bool) => Err(self.error(value.span, "expected a number, found bool; write CAST(... AS int64)")),
            Some(other) => Err(self.error(value.span, format!("expected a number, found {other}"))),
        }
    }

    pub(super) fn float(&mut self, value: &Typed) -> Result<Place> {
        Ok(match self.numeric(value)? {
            Number::Float => value.place,
            Number::Int => match self.builder.constant_at(value.place) {
                Some(Constant::Int(constant)) => {
                    let constant = Constant::Float(*constant as f64);
                    self.builder.constant(constant)
                }
                Some(_) => value.place,
                None => self.builder.step(F::IntToFloat, [value.place]),
            },
        })
    }

    fn whole(&self, value: &Typed) -> Result<Place> {
        match self.numeric(value)? {
            Number::Int => Ok(value.place),
            Number::Float => Err(self.error(value.span, "expected an integer, found a float; write CAST(... AS int64)")),
        }
    }

    pub(super) fn boolean(&self, value: &Typed) -> Result<Place> {
        match &value.value_type {
            Some(ValueType::Bool) | None => Ok(value.place),
            found => Err(self.error(value.span, format!("expected a condition, found {}", shown(found.as_ref())))),
        }
    }

    pub(super) fn text(&self, value: &Typed) -> Result<Place> {
        match &value.value_type {
            Some(ValueType::String) | None => Ok(value.place),
            found => {
                let message = format!("expected a string, found {}; write CAST(... AS string)", shown(found.as_ref()));
                Err(self.error(value.span, message))
            }
        }
    }

    pub(super) fn instant(&mut self, value: &Typed) -> Result<Place> {
        match (&value.value_type, &value.literal) {
            (Some(ValueType::UnixTimestamp) | None, _) => Ok(value.place),
            (Some(ValueType::String), Some(text)) => self.literal_instant(text, value.span),
            (Some(ValueType::ZonedTimestamp), _) => Ok(self.builder.step(F::ZonedToTime, [value.place])),
            (found, _) => {
                let message = format!("expected an instant, found {}; write CAST(... AS unix_timestamp)", shown(found.as_ref()));
                Err(self.error(value.span, message))
            }
        }
    }

    fn literal_instant(&mut self, text: &str, span: Span) -> Result<Place> {
        let instant = Timestamp::parse(text.trim());
        let instant =
            instant.ok_or_else(|| self.error(span, format!("`{text}` is no instant; expected one as 2024-02-29T12:00:00Z")))?;
        Ok(self.int(instant.nanos()))
    }

    /// Compares; the function is that of integers, and stands for its likes.
    pub(super) fn compare(&mut self, function: F, a: &Typed, b: &Typed, span: Span) -> Result<Typed> {
        let (places, value_type) = self.common(&[a.clone(), b.clone()], "the two sides of a comparison")?;
        if !matches!(function, F::EqualInt) {
            self.ordered(value_type.as_ref(), span)?;
        }
        let function = match (lane(value_type.as_ref()), function) {
            (Lane::Int, function) => function,
            (Lane::Float, F::EqualInt) => F::EqualFloat,
            (Lane::Float, F::LessInt) => F::LessFloat,
            (Lane::Float, _) => F::LessEqualFloat,
            (Lane::Bytes, F::EqualInt) => F::EqualBytes,
            (Lane::Bytes, F::LessInt) => F::LessBytes,
            (Lane::Bytes, _) => F::LessEqualBytes,
        };
        Ok(self.step(function, places, ValueType::Bool, span))
    }

    /// Whether values of a type have an order, as their bytes have it.
    fn ordered(&self, value_type: Option<&ValueType>, span: Span) -> Result<()> {
        use ValueType as T;
        match value_type {
            None
            | Some(
                T::Bool
                | T::Int32
                | T::Int64
                | T::Float32
                | T::Float64
                | T::String
                | T::Bytes
                | T::UnixTimestamp
                | T::Uuid
                | T::TimeUuid,
            ) => Ok(()),
            Some(T::Decimal) => Err(self.error(span, "decimals are texts here and have no order; write CAST(... AS float64)")),
            Some(T::ZonedTimestamp) => {
                Err(self.error(span, "write CAST(... AS unix_timestamp) to compare instants with offsets"))
            }
            Some(other) => Err(self.error(span, format!("{other} has no order"))),
        }
    }

    /// The type that several values have together, and each in it.
    pub(super) fn common(&mut self, values: &[Typed], what: &str) -> Result<(Vec<Place>, Option<ValueType>)> {
        use ValueType as T;
        let mut together: Option<T> = None;
        for value in values {
            let Some(found) = &value.value_type else { continue };
            together = Some(match together {
                None => found.clone(),
                Some(known) if known == *found => known,
                Some(T::Int32 | T::Int64) if matches!(found, T::Int32 | T::Int64) => T::Int64,
                Some(T::Int32 | T::Int64 | T::Float32 | T::Float64)
                    if matches!(found, T::Int32 | T::Int64 | T::Float32 | T::Float64) =>
                {
                    T::Float64
                }
                // A text that is written out is what the others are.
                Some(T::String) if values.iter().any(|other| other.literal.is_some()) && !matches!(found, T::List(_)) => {
                    found.clone()
                }
                Some(known) if *found == T::String && value.literal.is_some() => known,
                Some(known) => {
                    return Err(
                        self.error(value.span, format!("{what} are of {known} and {found}; bring one to the other with CAST"))
                    );
                }
            });
        }
        let Some(together) = together else { return Ok((values.iter().map(|value| value.place).collect(), None)) };
        let mut places = Vec::with_capacity(values.len());
        for value in values {
            let place = match (&value.value_type, &value.literal) {
                (None, _) => value.place,
                (Some(T::String), Some(text)) if together == T::UnixTimestamp => self.literal_instant(text, value.span)?,
                (Some(T::Int32 | T::Int64), _) if together == T::Float64 => self.float(value)?,
                (Some(T::String), None) if together != T::String => {
                    return Err(
                        self.error(value.span, format!("{what} are of string and {together}; bring one to the other with CAST"))
                    );
                }
                (Some(T::String), Some(text)) if matches!(together, T::Uuid | T::TimeUuid) => {
                    let uuid = mezze_core::parse_uuid(text.trim());
                    let uuid = uuid.ok_or_else(|| self.error(value.span, format!("`{text}` is no UUID")))?;
                    self.builder.constant(Constant::Bytes(uuid.into()))
                }
                (Some(T::String), Some(_)) if !matches!(together, T::String | T::Json | T::Bytes) => {
                    return Err(
                        self.error(value.span, format!("{what} are of string and {together}; bring one to the other with CAST"))
                    );
                }
                (Some(found), _) => cast(self.builder, value.place, found, &together).ok_or_else(|| {
                    self.error(value.span, format!("{what} are of {found} and {together}; bring one to the other with CAST"))
                })?,
            };
            places.push(place);
        }
        Ok((places, Some(together)))
    }
}

/// How values of a type are computed with.
enum Lane {
    Bytes,
    Float,
    Int,
}

const fn lane(value_type: Option<&ValueType>) -> Lane {
    use ValueType as T;
    match value_type {
        None | Some(T::Bool | T::Int32 | T::Int64 | T::UnixTimestamp) => Lane::Int,
        Some(T::Float32 | T::Float64) => Lane::Float,
        Some(_) => Lane::Bytes,
    }
}

/// How far arguments are from what a function takes; `None` where they do not fit.
fn cost(overload: &Overload, arguments: &[Typed]) -> Option<u32> {
    if overload.takes.len() != arguments.len() {
        return None;
    }
    overload.takes.iter().zip(arguments).map(|(takes, argument)| argument_cost(*takes, argument)).sum()
}

fn argument_cost(takes: Takes, argument: &Typed) -> Option<u32> {
    use ValueType as T;
    let Some(found) = &argument.value_type else {
        // NULL may be anything but a list, whose elements have to be known, or a name.
        return matches!(takes, Takes::Int | Takes::Float | Takes::Text | Takes::Time | Takes::AnyBytes).then_some(1);
    };
    let element = match found {
        T::List(element) | T::Set(element) => Some(element.as_ref()),
        _ => None,
    };
    let is_int = |found: &T| matches!(found, T::Int32 | T::Int64);
    let is_float = |found: &T| matches!(found, T::Float32 | T::Float64);
    let fits = match takes {
        Takes::Int => is_int(found),
        Takes::Float if is_int(found) => return Some(2),
        Takes::Float => is_float(found),
        Takes::Text => *found == T::String,
        Takes::Time if argument.literal.is_some() && *found == T::String => return Some(1),
        Takes::Time if *found == T::ZonedTimestamp => return Some(1),
        Takes::Time => *found == T::UnixTimestamp,
        Takes::AnyBytes => matches!(found, T::String | T::Bytes | T::Uuid | T::TimeUuid | T::Decimal | T::Json),
        Takes::Ints => element.is_some_and(|element| is_int(element) || *element == T::Bool),
        Takes::Floats => element.is_some_and(is_float),
        Takes::Numbers => element.is_some_and(|element| is_int(element) || is_float(element)),
        Takes::Texts => element.is_some_and(|element| matches!(element, T::String | T::Bytes)),
        Takes::List => element.is_some(),
        Takes::Unit | Takes::FixedUnit | Takes::Part => *found == T::String,
    };
    fits.then_some(0)
}

/// How many elements the payload of a list has, by its first bytes (docs/FORMAT.md).
fn list_count(constant: &Constant) -> Option<u64> {
    let Constant::Bytes(payload) = constant else { return None };
    let mut count = 0;
    for (index, byte) in payload.iter().enumerate().take(5) {
        count |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(count);
        }
    }
    None
}

fn is_word(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
