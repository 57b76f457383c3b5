//! Values of Rust and values of columns.

use crate::bindings::exports::mezze::features::computation as wit;
use crate::list::{Element, List};

/// An instant: nanoseconds since 1970, in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// A type that a parameter can have.
pub trait Input<'a>: Sized {
    /// The column's type, as definitions write it.
    fn dtype() -> String;

    /// The value of a row; `None` where the function is not to be called, since it is null.
    fn take(column: &'a wit::Column, row: usize) -> Option<Self>;

    /// Whether the column is of the type.
    fn is_of(values: &wit::Values) -> bool;
}

/// A type that a feature can have.
pub trait Output: Sized {
    /// The column's type, as definitions write it.
    fn dtype() -> String;

    /// An empty column.
    fn values(rows: usize) -> wit::Values;

    /// Appends the value, or something in its place where it is `None`; returns whether it is a value.
    fn push(value: Option<Self>, values: &mut wit::Values) -> bool;
}

fn is_valid(column: &wit::Column, row: usize) -> bool {
    column.valid.as_ref().is_none_or(|valid| valid.get(row).is_some_and(|valid| *valid != 0))
}

fn payload(column: &wit::Column, row: usize) -> Option<&[u8]> {
    let wit::Values::Bytes(wit::Payloads { offsets, data }) = &column.values else { return None };
    if !is_valid(column, row) {
        return None;
    }
    data.get(*offsets.get(row)? as usize..*offsets.get(row + 1)? as usize)
}

fn push_payload(bytes: Option<&[u8]>, values: &mut wit::Values) -> bool {
    if let wit::Values::Bytes(wit::Payloads { offsets, data }) = values {
        data.extend_from_slice(bytes.unwrap_or_default());
        offsets.push(data.len() as u32);
    }
    bytes.is_some()
}

fn payloads(rows: usize) -> wit::Values {
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0);
    wit::Values::Bytes(wit::Payloads { offsets, data: Vec::new() })
}

macro_rules! number {
    ($type:ty, $dtype:literal, $lane:ident, $of:ty, |$value:ident| $from:expr, |$made:ident| $into:expr) => {
        impl<'a> Input<'a> for $type {
            fn dtype() -> String {
                $dtype.into()
            }

            fn take(column: &'a wit::Column, row: usize) -> Option<Self> {
                let wit::Values::$lane(values) = &column.values else { return None };
                if !is_valid(column, row) {
                    return None;
                }
                let $value = *values.get(row)?;
                Some($from)
            }

            fn is_of(values: &wit::Values) -> bool {
                matches!(values, wit::Values::$lane(_))
            }
        }

        impl Output for $type {
            fn dtype() -> String {
                $dtype.into()
            }

            fn values(rows: usize) -> wit::Values {
                wit::Values::$lane(Vec::with_capacity(rows))
            }

            fn push(value: Option<Self>, values: &mut wit::Values) -> bool {
                if let wit::Values::$lane(values) = values {
                    values.push(value.map_or(<$of>::default(), |$made| $into));
                }
                value.is_some()
            }
        }
    };
}

number!(bool, "bool", Ints, i64, |value| value != 0, |value| i64::from(value));
number!(i32, "int32", Ints, i64, |value| value as i32, |value| i64::from(value));
number!(i64, "int64", Ints, i64, |value| value, |value| value);
number!(Timestamp, "unix_timestamp", Ints, i64, |value| Timestamp(value), |value| value.0);
number!(f32, "float32", Floats, f64, |value| value as f32, |value| f64::from(value));
number!(f64, "float64", Floats, f64, |value| value, |value| value);

macro_rules! input_of_bytes {
    ($type:ty, $dtype:literal, |$bytes:ident| $from:expr) => {
        impl<'a> Input<'a> for $type {
            fn dtype() -> String {
                $dtype.into()
            }

            fn take(column: &'a wit::Column, row: usize) -> Option<Self> {
                let $bytes = payload(column, row)?;
                $from
            }

            fn is_of(values: &wit::Values) -> bool {
                matches!(values, wit::Values::Bytes(_))
            }
        }
    };
}

input_of_bytes!(&'a str, "string", |bytes| core::str::from_utf8(bytes).ok());
input_of_bytes!(String, "string", |bytes| core::str::from_utf8(bytes).ok().map(String::from));
input_of_bytes!(&'a [u8], "bytes", |bytes| Some(bytes));
input_of_bytes!(Vec<u8>, "bytes", |bytes| Some(bytes.to_vec()));

macro_rules! output_of_bytes {
    ($type:ty, $dtype:literal) => {
        impl Output for $type {
            fn dtype() -> String {
                $dtype.into()
            }

            fn values(rows: usize) -> wit::Values {
                payloads(rows)
            }

            fn push(value: Option<Self>, values: &mut wit::Values) -> bool {
                push_payload(value.as_ref().map(|value| value.as_ref()), values)
            }
        }
    };
}

output_of_bytes!(&str, "string");
output_of_bytes!(String, "string");
output_of_bytes!(&[u8], "bytes");
output_of_bytes!(Vec<u8>, "bytes");

impl<'a, T: Element> Input<'a> for List<T> {
    fn dtype() -> String {
        format!("list<{}>", T::dtype())
    }

    fn take(column: &'a wit::Column, row: usize) -> Option<Self> {
        Self::decode(payload(column, row)?)
    }

    fn is_of(values: &wit::Values) -> bool {
        matches!(values, wit::Values::Bytes(_))
    }
}

impl<T: Element> Output for List<T> {
    fn dtype() -> String {
        format!("list<{}>", T::dtype())
    }

    fn values(rows: usize) -> wit::Values {
        payloads(rows)
    }

    fn push(value: Option<Self>, values: &mut wit::Values) -> bool {
        push_payload(value.map(|list| list.encode()).as_deref(), values)
    }
}

impl<'a, T: Input<'a>> Input<'a> for Option<T> {
    fn dtype() -> String {
        T::dtype()
    }

    fn take(column: &'a wit::Column, row: usize) -> Option<Self> {
        Some(T::take(column, row))
    }

    fn is_of(values: &wit::Values) -> bool {
        T::is_of(values)
    }
}

impl<T: Output> Output for Option<T> {
    fn dtype() -> String {
        T::dtype()
    }

    fn values(rows: usize) -> wit::Values {
        T::values(rows)
    }

    fn push(value: Option<Self>, values: &mut wit::Values) -> bool {
        T::push(value.flatten(), values)
    }
}
