//! Arithmetic, comparison, logic and choice: what most steps are, in loops that compilers make wide.
//!
//! Comparisons of floats hold for all floats: NaN equals NaN and is above every other, -0 equals 0.

use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

use super::column::{Column, Values, both_valid, byte_rows, int_rows};
use super::function::Function as F;

pub(super) fn apply(function: F, a: &Column<'_>, b: &Column<'_>, c: &Column<'_>, rows: usize) -> Column<'static> {
    match function {
        F::AddInt => checked(a, b, i64::overflowing_add),
        F::SubtractInt => checked(a, b, i64::overflowing_sub),
        F::MultiplyInt => checked(a, b, i64::overflowing_mul),
        F::DivideInt => int_rows(rows, &mut |row| a.int(row)?.checked_div(b.int(row)?)),
        // What is left of the least integer by -1 is nothing, though their quotient is no integer.
        F::RemainderInt => int_rows(rows, &mut |row| match (a.int(row)?, b.int(row)?) {
            (_, 0) => None,
            (a, b) => Some(a.wrapping_rem(b)),
        }),
        F::NegateInt => int_rows(rows, &mut |row| a.int(row)?.checked_neg()),
        F::AbsInt => int_rows(rows, &mut |row| a.int(row)?.checked_abs()),
        F::SignInt => int_rows(rows, &mut |row| Some(a.int(row)?.signum())),
        F::AddFloat => floats(a, b, |a, b| a + b),
        F::SubtractFloat => floats(a, b, |a, b| a - b),
        F::MultiplyFloat => floats(a, b, |a, b| a * b),
        F::DivideFloat => floats(a, b, |a, b| a / b),
        F::RemainderFloat => floats(a, b, libm::fmod),
        F::NegateFloat => float(a, |a| -a),
        F::AbsFloat => float(a, f64::abs),
        F::SignFloat => float(a, |a| {
            if a > 0.0 {
                1.0
            } else if a < 0.0 {
                -1.0
            } else {
                a + 0.0
            }
        }),
        F::EqualInt => compared(a.int_values(), b.int_values(), a, b, |a, b| a == b),
        F::LessInt => compared(a.int_values(), b.int_values(), a, b, |a, b| a < b),
        F::LessEqualInt => compared(a.int_values(), b.int_values(), a, b, |a, b| a <= b),
        F::EqualFloat => compared(a.float_values(), b.float_values(), a, b, |a, b| a == b || a.is_nan() & b.is_nan()),
        F::LessFloat => compared(a.float_values(), b.float_values(), a, b, |a, b| less(*a, *b)),
        F::LessEqualFloat => compared(a.float_values(), b.float_values(), a, b, |a, b| !less(*b, *a)),
        F::EqualBytes => int_rows(rows, &mut |row| Some(i64::from(a.bytes(row)? == b.bytes(row)?))),
        F::LessBytes => int_rows(rows, &mut |row| Some(i64::from(a.bytes(row)? < b.bytes(row)?))),
        F::LessEqualBytes => int_rows(rows, &mut |row| Some(i64::from(a.bytes(row)? <= b.bytes(row)?))),
        F::And => logic(a, b, rows, 0),
        F::Or => logic(a, b, rows, 1),
        F::Not => {
            Column::ints(a.int_values().iter().map(|value| truth(*value) ^ 1).collect(), a.valid.as_deref().map(<[u8]>::to_vec))
                .or_null(a)
        }
        F::IsNull => Column::ints(
            match (&a.values, &a.valid) {
                (Values::Null, _) => vec![1; rows],
                (_, None) => vec![0; rows],
                (_, Some(valid)) => valid.iter().map(|valid| i64::from(*valid ^ 1)).collect(),
            },
            None,
        ),
        F::Select => select(a, b, c, rows),
        F::Coalesce => {
            let has = Column::ints((0..rows).map(|row| i64::from(a.is_valid(row))).collect(), None);
            let alike = core::mem::discriminant(&a.values) == core::mem::discriminant(&b.values);
            match (&a.values, &b.values, &a.valid) {
                (Values::Null, ..) => owned(b),
                // Nothing of the other is needed; where it is of another lane, choosing says what comes of that.
                (_, other, None) if alike || matches!(other, Values::Null) => owned(a),
                _ => select(&has, a, b, rows),
            }
        }
        F::GreatestInt => extreme(a, b, rows, a.int_values(), b.int_values(), |a, b| a < b),
        F::LeastInt => extreme(a, b, rows, a.int_values(), b.int_values(), |a, b| b < a),
        F::GreatestFloat => extreme(a, b, rows, a.float_values(), b.float_values(), |a, b| less(*a, *b)),
        F::LeastFloat => extreme(a, b, rows, a.float_values(), b.float_values(), |a, b| less(*b, *a)),
        F::GreatestBytes | F::LeastBytes => {
            let takes_second = Column::ints(
                (0..rows)
                    .map(|row| match (a.bytes(row), b.bytes(row)) {
                        (Some(a), Some(b)) if function == F::GreatestBytes => i64::from(a < b),
                        (Some(a), Some(b)) => i64::from(b < a),
                        (first, _) => i64::from(first.is_none()),
                    })
                    .collect(),
                None,
            );
            select(&takes_second, b, a, rows)
        }
        F::IntToFloat => Column {
            values: Values::Float(a.int_values().iter().map(|value| *value as f64).collect()),
            valid: a.valid.as_deref().map(|valid| Cow::Owned(valid.to_vec())),
        }
        .or_null(a),
        _ => Column::null(),
    }
}

/// 1 of what is true, which is all that is not 0.
fn truth(value: i64) -> i64 {
    i64::from(value != 0)
}

/// Whether `a` is before `b` in the order in which NaN is the last.
fn less(a: f64, b: f64) -> bool {
    a < b || b.is_nan() & !a.is_nan()
}

impl Column<'static> {
    /// This column, unless the one it was made of has no integers: then it is null.
    fn or_null(self, from: &Column<'_>) -> Self {
        if matches!(from.values, Values::Int(_)) { self } else { Self::null() }
    }
}

/// Integers of integers, null where the result is none.
fn checked(a: &Column<'_>, b: &Column<'_>, of: impl Fn(i64, i64) -> (i64, bool)) -> Column<'static> {
    let (Values::Int(first), Values::Int(second)) = (&a.values, &b.values) else { return Column::null() };
    let mut overflows = false;
    let mut values = vec![0; first.len().min(second.len())];
    for ((slot, a), b) in values.iter_mut().zip(first.iter()).zip(second.iter()) {
        let (value, overflow) = of(*a, *b);
        *slot = value;
        overflows |= overflow;
    }
    let mut valid = both_valid(a, b);
    if overflows {
        let valid = valid.get_or_insert_with(|| vec![1; values.len()]);
        for ((slot, a), b) in valid.iter_mut().zip(first.iter()).zip(second.iter()) {
            *slot &= u8::from(!of(*a, *b).1);
        }
    }
    Column::ints(values, valid)
}

fn floats(a: &Column<'_>, b: &Column<'_>, of: impl Fn(f64, f64) -> f64) -> Column<'static> {
    let (Values::Float(first), Values::Float(second)) = (&a.values, &b.values) else { return Column::null() };
    Column::floats(first.iter().zip(second.iter()).map(|(a, b)| of(*a, *b)).collect(), both_valid(a, b))
}

pub(super) fn float(a: &Column<'_>, of: impl Fn(f64) -> f64) -> Column<'static> {
    let Values::Float(values) = &a.values else { return Column::null() };
    Column::floats(values.iter().map(|value| of(*value)).collect(), a.valid.as_deref().map(<[u8]>::to_vec))
}

fn compared<T>(first: &[T], second: &[T], a: &Column<'_>, b: &Column<'_>, of: impl Fn(&T, &T) -> bool) -> Column<'static> {
    if first.is_empty() || second.is_empty() {
        return Column::null();
    }
    Column::ints(first.iter().zip(second).map(|(a, b)| i64::from(of(a, b))).collect(), both_valid(a, b))
}

/// `AND` (decided by 0) and `OR` (decided by 1) of three values: what decides counts whatever the other is.
fn logic(a: &Column<'_>, b: &Column<'_>, rows: usize, decides: i64) -> Column<'static> {
    let part = |column: &Column<'_>| -> (Vec<i64>, Vec<i64>) {
        let valid = |row: usize| i64::from(column.is_valid(row));
        match &column.values {
            Values::Int(values) => values.iter().enumerate().map(|(row, value)| (truth(*value), valid(row))).unzip(),
            _ => (vec![0; rows], vec![0; rows]),
        }
    };
    if let (None, None, Values::Int(first), Values::Int(second)) = (&a.valid, &b.valid, &a.values, &b.values) {
        let pairs = first.iter().zip(second.iter());
        return Column::ints(pairs.map(|(a, b)| truth(if decides == 0 { truth(*a) & truth(*b) } else { a | b })).collect(), None);
    }
    let ((first, first_valid), (second, second_valid)) = (part(a), part(b));
    let mut valid = Vec::with_capacity(rows);
    let mut values = Vec::with_capacity(rows);
    for ((first, has_first), (second, has_second)) in first.iter().zip(&first_valid).zip(second.iter().zip(&second_valid)) {
        // 1 where the side has a value, and that decides.
        let first_decides = has_first & (first ^ decides ^ 1);
        let second_decides = has_second & (second ^ decides ^ 1);
        let decided = first_decides | second_decides;
        values.push(decided ^ decides ^ 1);
        valid.push((decided | has_first & has_second) as u8);
    }
    Column::ints(values, Some(valid))
}

/// The second where the first is true, otherwise the third.
fn select(condition: &Column<'_>, yes: &Column<'_>, no: &Column<'_>, rows: usize) -> Column<'static> {
    let chosen: Vec<u8> = match (&condition.values, &condition.valid) {
        (Values::Int(values), None) => values.iter().map(|value| u8::from(*value != 0)).collect(),
        (Values::Int(values), Some(valid)) => {
            values.iter().zip(valid.iter()).map(|(value, valid)| u8::from(*value != 0) & valid).collect()
        }
        _ => vec![0; rows],
    };
    let all_null = |column: &Column<'_>| matches!(column.values, Values::Null);
    let valid = if yes.valid.is_none() && no.valid.is_none() && !all_null(yes) && !all_null(no) {
        None
    } else {
        let valid = |column: &Column<'_>, row: usize| u8::from(column.is_valid(row));
        let of_row = |(row, chosen): (usize, &u8)| if *chosen != 0 { valid(yes, row) } else { valid(no, row) };
        Some(chosen.iter().enumerate().map(of_row).collect())
    };
    let pick_ints = |yes: &[i64], no: &[i64]| -> Vec<i64> {
        chosen.iter().zip(yes).zip(no).map(|((chosen, yes), no)| if *chosen != 0 { *yes } else { *no }).collect()
    };
    let pick_floats = |yes: &[f64], no: &[f64]| -> Vec<f64> {
        chosen.iter().zip(yes).zip(no).map(|((chosen, yes), no)| if *chosen != 0 { *yes } else { *no }).collect()
    };
    match (&yes.values, &no.values) {
        (Values::Int(yes), Values::Int(no)) => Column::ints(pick_ints(yes, no), valid),
        (Values::Int(yes), Values::Null) => Column::ints(pick_ints(yes, yes), valid),
        (Values::Null, Values::Int(no)) => Column::ints(pick_ints(no, no), valid),
        (Values::Float(yes), Values::Float(no)) => Column::floats(pick_floats(yes, no), valid),
        (Values::Float(yes), Values::Null) => Column::floats(pick_floats(yes, yes), valid),
        (Values::Null, Values::Float(no)) => Column::floats(pick_floats(no, no), valid),
        (Values::Bytes { .. }, _) | (_, Values::Bytes { .. }) => byte_rows(rows, &mut |row, out| {
            let from = if chosen.get(row) == Some(&1) { yes } else { no };
            out.extend_from_slice(from.bytes(row)?);
            Some(())
        }),
        _ => Column::null(),
    }
}

/// The one of two that comes later in an order, the first where they are equal; what is null does not count.
fn extreme<T: Copy>(
    a: &Column<'_>,
    b: &Column<'_>,
    rows: usize,
    first: &[T],
    second: &[T],
    before: impl Fn(&T, &T) -> bool,
) -> Column<'static> {
    let takes_second = (0..rows).map(|row| match (first.get(row), second.get(row)) {
        (Some(first), Some(second)) if a.is_valid(row) && b.is_valid(row) => i64::from(before(first, second)),
        _ => i64::from(!a.is_valid(row)),
    });
    select(&Column::ints(takes_second.collect(), None), b, a, rows)
}

/// The column, with values of its own.
fn owned(column: &Column<'_>) -> Column<'static> {
    let values = match &column.values {
        Values::Null => Values::Null,
        Values::Int(values) => Values::Int(Cow::Owned(values.to_vec())),
        Values::Float(values) => Values::Float(Cow::Owned(values.to_vec())),
        Values::Bytes { offsets, data, constant } => {
            Values::Bytes { offsets: offsets.clone(), data: Cow::Owned(data.to_vec()), constant: *constant }
        }
    };
    Column { values, valid: column.valid.as_deref().map(|valid| Cow::Owned(valid.to_vec())) }
}
