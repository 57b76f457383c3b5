//! Functions of lists, read in place from their payload. Null elements do not count, as in SQL's aggregates.
//!
//! Sums go from the first element to the last, so that floats have one order.

use alloc::vec::Vec;

use super::column::{Column, Values, byte_rows, float_rows, int_rows};
use super::function::Function as F;
use crate::canonical_f64;
use crate::sort::sort_by;
use crate::value::{put_varint, take_count, take_slice, take_varint};

pub(super) fn apply(function: F, [a, b, c, d]: [&Column<'_>; 4], rows: usize) -> Column<'static> {
    match function {
        F::ListLength => int_rows(rows, &mut |row| Some(Elements::of(a.int(row)?, b.bytes(row)?)?.count as i64)),
        F::ListElementInt => int_rows(rows, &mut |row| element(a, b, c, row)?.int()),
        F::ListElementFloat => float_rows(rows, &mut |row| element(a, b, c, row)?.float()),
        F::ListElementBytes => byte_rows(rows, &mut |row, out| {
            out.extend_from_slice(element(a, b, c, row)?.bytes);
            Some(())
        }),
        F::ListContainsInt | F::ListContainsFloat | F::ListContainsBytes => int_rows(rows, &mut |row| {
            let mut elements = Elements::of(a.int(row)?, b.bytes(row)?)?;
            let found = match function {
                F::ListContainsInt => {
                    let wanted = c.int(row)?;
                    elements.any(|element| element.is_some_and(|element| element.int() == Some(wanted)))
                }
                F::ListContainsFloat => {
                    let wanted = c.float(row)?;
                    let same = |found: f64| found == wanted || found.is_nan() && wanted.is_nan();
                    elements.any(|element| element.and_then(Element::float).is_some_and(same))
                }
                _ => {
                    let wanted = c.bytes(row)?;
                    elements.any(|element| element.is_some_and(|element| element.bytes == wanted))
                }
            };
            Some(i64::from(found))
        }),
        F::ListSumInt => int_rows(rows, &mut |row| {
            fold(Elements::of(a.int(row)?, b.bytes(row)?)?, Element::int, |sum: i64, value| sum.checked_add(value))
        }),
        F::ListMinInt => int_rows(rows, &mut |row| {
            fold(Elements::of(a.int(row)?, b.bytes(row)?)?, Element::int, |least: i64, value| Some(least.min(value)))
        }),
        F::ListMaxInt => int_rows(rows, &mut |row| {
            fold(Elements::of(a.int(row)?, b.bytes(row)?)?, Element::int, |most: i64, value| Some(most.max(value)))
        }),
        F::ListSumFloat => float_rows(rows, &mut |row| {
            fold(Elements::of(a.int(row)?, b.bytes(row)?)?, Element::float, |sum: f64, value| Some(sum + value))
        }),
        F::ListMinFloat => float_rows(rows, &mut |row| {
            fold(Elements::of(a.int(row)?, b.bytes(row)?)?, Element::float, |least: f64, value| {
                Some(if value < least || least.is_nan() { value } else { least })
            })
        }),
        F::ListMaxFloat => float_rows(rows, &mut |row| {
            fold(Elements::of(a.int(row)?, b.bytes(row)?)?, Element::float, |most: f64, value| {
                Some(if value > most || value.is_nan() { value } else { most })
            })
        }),
        F::ListMean => float_rows(rows, &mut |row| {
            let elements = Elements::of(a.int(row)?, b.bytes(row)?)?;
            let count = elements.clone().filter(Option::is_some).count();
            let sum = fold(elements, Element::number, |sum: f64, value| Some(sum + value))?;
            Some(sum / count as f64)
        }),
        F::DotProduct | F::CosineSimilarity | F::EuclideanDistance => float_rows(rows, &mut |row| {
            let first = Elements::of(a.int(row)?, b.bytes(row)?)?;
            let second = Elements::of(c.int(row)?, d.bytes(row)?)?;
            if first.count != second.count {
                return None;
            }
            let (mut product, mut first_square, mut second_square, mut distance) = (0.0, 0.0, 0.0, 0.0);
            for (first, second) in first.zip(second) {
                let (first, second) = (first?.number()?, second?.number()?);
                product += first * second;
                first_square += first * first;
                second_square += second * second;
                distance += (first - second) * (first - second);
            }
            Some(match function {
                F::DotProduct => product,
                F::CosineSimilarity => product / (libm::sqrt(first_square) * libm::sqrt(second_square)),
                _ => libm::sqrt(distance),
            })
        }),
        F::BucketizeFloat => int_rows(rows, &mut |row| {
            let value = a.float(row).filter(|value| !value.is_nan())?;
            let bounds = Elements::of(b.int(row)?, c.bytes(row)?)?;
            Some(bounds.filter(|bound| bound.and_then(Element::number).is_some_and(|bound| bound <= value)).count() as i64)
        }),
        F::OneHotInt | F::OneHotBytes => {
            let places = places(a, b, c, rows, function == F::OneHotInt);
            byte_rows(rows, &mut |row, out| {
                let count = Elements::of(b.int(row)?, c.bytes(row)?)?.count;
                let place = places.int(row).unwrap_or(0);
                put_varint(count as u64, out);
                for index in 1..=count as i64 {
                    put_element(&i64::from(index == place).to_le_bytes(), out);
                }
                Some(())
            })
        }
        F::PlaceInt | F::PlaceBytes => places(a, b, c, rows, function == F::PlaceInt),
        _ => Column::null(),
    }
}

/// The place of each row's value among the elements of its list, from 1.
fn places(value: &Column<'_>, kind: &Column<'_>, list: &Column<'_>, rows: usize, of_ints: bool) -> Column<'static> {
    let key = |row: usize, buffer: &mut [u8; 8]| -> Option<usize> {
        *buffer = value.int(row)?.to_le_bytes();
        Some(match kind.int(row)? {
            0 => 1,
            1 => 4,
            _ => 8,
        })
    };
    let mut buffer = [0; 8];
    // One list for all rows is put in order once, where that is less than going through it for each.
    let mut sorted: Vec<(&[u8], i64)> = Vec::new();
    if list.is_constant()
        && let (Some(kind), Some(payload)) = (kind.int(0), list.bytes(0))
        && let Some(elements) = Elements::of(kind, payload)
        && elements.count > 8
        && rows > elements.count
    {
        sorted.extend(elements.zip(1_i64..).filter_map(|(element, place)| Some((element?.bytes, place))));
        sort_by(&mut sorted, |first, second| first <= second);
    }
    int_rows(rows, &mut |row| {
        let wanted = if of_ints {
            let width = key(row, &mut buffer)?;
            buffer.get(..width)?
        } else {
            value.bytes(row)?
        };
        if sorted.is_empty() {
            let mut elements = Elements::of(kind.int(row)?, list.bytes(row)?)?;
            let at = elements.position(|element| element.is_some_and(|element| element.bytes == wanted))?;
            return Some(at as i64 + 1);
        }
        // The first of equal ones.
        let at = sorted.partition_point(|(known, _)| *known < wanted);
        sorted.get(at).filter(|(known, _)| *known == wanted).map(|(_, place)| *place)
    })
}

fn element<'c>(kind: &Column<'_>, list: &'c Column<'_>, place: &Column<'_>, row: usize) -> Option<Element<'c>> {
    let mut elements = Elements::of(kind.int(row)?, list.bytes(row)?)?;
    let index = match place.int(row)? {
        place if place > 0 => usize::try_from(place - 1).ok()?,
        place => elements.count.checked_sub(usize::try_from(place.unsigned_abs()).ok().filter(|back| *back > 0)?)?,
    };
    elements.nth(index)?
}

/// Brings elements together from the first on; `None` without any.
fn fold<'p, T>(elements: Elements<'p>, value: impl Fn(Element<'p>) -> Option<T>, add: impl Fn(T, T) -> Option<T>) -> Option<T> {
    let mut values = elements.flatten().map(value);
    let first = values.next()??;
    values.try_fold(first, |sum, value| add(sum, value?))
}

pub(super) fn list_of(elements: &[&Column<'_>], rows: usize) -> Column<'static> {
    byte_rows(rows, &mut |row, out| {
        put_varint(elements.len() as u64, out);
        for element in elements {
            match &element.values {
                _ if !element.is_valid(row) => put_varint(0, out),
                Values::Int(_) => put_element(&element.int(row)?.to_le_bytes(), out),
                // In a column a NaN gets its one form when it is put out; in bytes it is out.
                Values::Float(_) => put_element(&canonical_f64(element.float(row)?).to_le_bytes(), out),
                _ => put_element(element.bytes(row)?, out),
            }
        }
        Some(())
    })
}

fn put_element(payload: &[u8], out: &mut Vec<u8>) {
    put_varint(payload.len() as u64 + 1, out);
    out.extend_from_slice(payload);
}

/// The elements of a list's payload, each its payload or nothing.
#[derive(Clone)]
struct Elements<'p> {
    kind: i64,
    count: usize,
    left: usize,
    rest: &'p [u8],
}

impl<'p> Elements<'p> {
    fn of(kind: i64, payload: &'p [u8]) -> Option<Self> {
        let mut rest = payload;
        let count = take_count(&mut rest).ok()?;
        Some(Self { kind, count, left: count, rest })
    }
}

impl<'p> Iterator for Elements<'p> {
    type Item = Option<Element<'p>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let bytes = match take_varint(&mut self.rest).ok()?.checked_sub(1) {
            None => return Some(None),
            Some(bytes) => take_slice(bytes, &mut self.rest).ok()?,
        };
        Some(Some(Element { kind: self.kind, bytes }))
    }
}

/// The payload of an element.
#[derive(Clone, Copy)]
struct Element<'p> {
    kind: i64,
    bytes: &'p [u8],
}

impl Element<'_> {
    fn int(self) -> Option<i64> {
        match self.kind {
            0 => self.bytes.first().map(|byte| i64::from(*byte)),
            1 => Some(i64::from(i32::from_le_bytes(self.bytes.try_into().ok()?))),
            2 => Some(i64::from_le_bytes(self.bytes.try_into().ok()?)),
            _ => None,
        }
    }

    fn float(self) -> Option<f64> {
        match self.kind {
            3 => Some(f64::from(f32::from_le_bytes(self.bytes.try_into().ok()?))),
            4 => Some(f64::from_le_bytes(self.bytes.try_into().ok()?)),
            _ => None,
        }
    }

    /// An integer or a float.
    fn number(self) -> Option<f64> {
        if self.kind > 2 { self.float() } else { self.int().map(|value| value as f64) }
    }
}
