//! Parts, boundaries and differences of instants, in UTC. Weeks begin on Monday, as ISO 8601 has it.

use super::column::{Column, float_rows, int_rows};
use super::function::Function as F;
use crate::NANOS_PER_SECOND;
use crate::time::{NANOS_PER_DAY, civil_from_days, days_from_civil, days_in_month};

pub(super) fn apply(function: F, a: &Column<'_>, b: &Column<'_>, c: &Column<'_>, rows: usize) -> Column<'static> {
    match function {
        F::DatePart => int_rows(rows, &mut |row| part(a.int(row)?, b.int(row)?)),
        F::DateTrunc => int_rows(rows, &mut |row| trunc(a.int(row)?, b.int(row)?)),
        F::DateDiff => int_rows(rows, &mut |row| {
            let unit = a.int(row)?;
            boundaries(unit, c.int(row)?)?.checked_sub(boundaries(unit, b.int(row)?)?)
        }),
        F::AddMonths => int_rows(rows, &mut |row| add_months(a.int(row)?, b.int(row)?)),
        F::Elapsed => float_rows(rows, &mut |row| {
            // In whole nanoseconds, which two instants may be apart by more than an int64 has.
            let nanos = i128::from(c.int(row)?) - i128::from(b.int(row)?);
            Some(nanos as f64 / a.int(row)? as f64)
        }),
        _ => Column::null(),
    }
}

/// Units by code; [`part`] has more of them.
const YEAR: i64 = 0;
const QUARTER: i64 = 1;
const MONTH: i64 = 2;
const WEEK: i64 = 3;

/// Nanoseconds of the units from week on: week, day, hour, minute, second, millisecond, microsecond, nanosecond.
const NANOS: [i64; 8] =
    [7 * NANOS_PER_DAY, NANOS_PER_DAY, 3_600 * NANOS_PER_SECOND, 60 * NANOS_PER_SECOND, NANOS_PER_SECOND, 1_000_000, 1_000, 1];

fn nanos_of(unit: i64) -> Option<i64> {
    NANOS.get(usize::try_from(unit.checked_sub(WEEK)?).ok()?).copied()
}

/// 1970-01-01 was a Thursday, three days after a Monday.
const MONDAY: i64 = 3;

fn part(unit: i64, nanos: i64) -> Option<i64> {
    let days = nanos.div_euclid(NANOS_PER_DAY);
    let of_day = nanos.rem_euclid(NANOS_PER_DAY);
    let (year, month, day) = civil_from_days(days);
    let (year, month, day) = (i64::from(year), i64::from(month), i64::from(day));
    let weekday = (days + MONDAY).rem_euclid(7);
    Some(match unit {
        YEAR => year,
        QUARTER => (month + 2) / 3,
        MONTH => month,
        // The ISO week is that of its Thursday, and belongs to that day's year.
        WEEK | 14 => {
            let thursday = days - weekday + 3;
            let (year, ..) = civil_from_days(thursday);
            let first = days_from_civil(i64::from(year), 1, 1);
            if unit == WEEK { (thursday - first) / 7 + 1 } else { i64::from(year) }
        }
        4 => day,
        5 => of_day / (3_600 * NANOS_PER_SECOND),
        6 => of_day / (60 * NANOS_PER_SECOND) % 60,
        7 => of_day / NANOS_PER_SECOND % 60,
        // Within the minute, as SQL has it.
        8 => of_day % (60 * NANOS_PER_SECOND) / 1_000_000,
        9 => of_day % (60 * NANOS_PER_SECOND) / 1_000,
        10 => of_day % (60 * NANOS_PER_SECOND),
        // Sunday is 0.
        11 => (weekday + 1) % 7,
        // Monday is 1, Sunday 7.
        12 => weekday + 1,
        13 => days - days_from_civil(year, 1, 1) + 1,
        _ => return None,
    })
}

fn trunc(unit: i64, nanos: i64) -> Option<i64> {
    let days = nanos.div_euclid(NANOS_PER_DAY);
    let (year, month, _) = civil_from_days(days);
    let first_month = match unit {
        YEAR => 1,
        QUARTER => (i64::from(month) - 1) / 3 * 3 + 1,
        MONTH => i64::from(month),
        WEEK => return (days - (days + MONDAY).rem_euclid(7)).checked_mul(NANOS_PER_DAY),
        _ => {
            let size = nanos_of(unit)?;
            return nanos.div_euclid(size).checked_mul(size);
        }
    };
    days_from_civil(i64::from(year), first_month, 1).checked_mul(NANOS_PER_DAY)
}

/// How many boundaries of a unit lie before an instant, counted from some time.
fn boundaries(unit: i64, nanos: i64) -> Option<i64> {
    let days = nanos.div_euclid(NANOS_PER_DAY);
    let (year, month, _) = civil_from_days(days);
    let months = i64::from(year) * 12 + i64::from(month) - 1;
    Some(match unit {
        YEAR => i64::from(year),
        QUARTER => months / 3,
        MONTH => months,
        WEEK => (days + MONDAY).div_euclid(7),
        _ => nanos.div_euclid(nanos_of(unit)?),
    })
}

/// The same day and time so many months later, or the month's last day where it has no such day.
fn add_months(nanos: i64, months: i64) -> Option<i64> {
    let (year, month, day) = civil_from_days(nanos.div_euclid(NANOS_PER_DAY));
    let total = (i64::from(year) * 12 + i64::from(month) - 1).checked_add(months)?;
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
    // Beyond what nanoseconds reach.
    if !(1600..2300).contains(&year) {
        return None;
    }
    let day = i64::from(day).min(days_in_month(year, month));
    let days = days_from_civil(year, month, day);
    i64::try_from(i128::from(days) * i128::from(NANOS_PER_DAY) + i128::from(nanos.rem_euclid(NANOS_PER_DAY))).ok()
}
