//! Time as an argument: core has no clock.

use core::fmt;

/// An instant: nanoseconds since 1970-01-01T00:00:00Z, negative before. Arithmetic saturates.
///
/// The range is about 1677-09-21 to 2262-04-11; the ends mean "at or before" and "at or after" them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z, which Feast's responses show where no row was found.
    pub const EPOCH: Self = Self(0);
    /// The latest instant.
    pub const MAX: Self = Self(i64::MAX);
    /// The earliest instant.
    pub const MIN: Self = Self(i64::MIN);

    /// The instant `nanos` nanoseconds after the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The instant `seconds` seconds after the epoch, saturated to the range.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(NANOS_PER_SECOND)
    }

    /// This instant plus a span, saturated.
    pub const fn saturating_add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// This instant minus a span, saturated.
    pub const fn saturating_sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// The span from `earlier` to this instant, saturated; negative if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// Whether a row of event time `self` counts at instant `at` under `ttl`: `self >= at - ttl`, inclusive; a zero `ttl`
    /// is for ever. That the row is not from the future is another question, which only a join asks.
    pub const fn is_fresh(self, at: Self, ttl: Span) -> bool {
        ttl.0 == 0 || self.0 >= at.0.saturating_sub(ttl.0)
    }
}

impl Timestamp {
    /// Reads RFC 3339 and its usual relatives: `2026-11-23`, `2026-11-23T05:00`, `2026-11-23 05:00:00.123456789+02:00`.
    /// Without an offset it is UTC; digits of the fraction past the ninth are dropped. `None` where the text is no instant
    /// or outside the range of i64 nanoseconds.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self::parse_with_offset(text)?.0)
    }

    /// What [`Timestamp::parse`] reads, and the seconds east of UTC of its offset.
    pub fn parse_with_offset(text: &str) -> Option<(Self, i32)> {
        let mut rest = text.as_bytes();
        let year = take_digits(4, &mut rest)?;
        take(b"-", &mut rest)?;
        let month = take_digits(2, &mut rest)?;
        take(b"-", &mut rest)?;
        let day = take_digits(2, &mut rest)?;
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        let mut seconds = days_from_civil(year, month, day).checked_mul(86_400)?;
        let (mut nanos, mut offset) = (0, 0);
        if take(b"Tt ", &mut rest).is_some() {
            let hour = take_digits(2, &mut rest)?;
            take(b":", &mut rest)?;
            let minute = take_digits(2, &mut rest)?;
            let second = if take(b":", &mut rest).is_some() { take_digits(2, &mut rest)? } else { 0 };
            if hour > 23 || minute > 59 || second > 59 {
                return None;
            }
            seconds += hour * 3_600 + minute * 60 + second;
            if take(b".", &mut rest).is_some() {
                let mut place = NANOS_PER_SECOND / 10;
                nanos = take_digits(1, &mut rest)? * place;
                while let Some(digit) = take_digits(1, &mut rest) {
                    place /= 10;
                    nanos += digit * place;
                }
            }
            offset = take_offset(&mut rest)?;
            seconds -= offset;
        }
        if !rest.is_empty() {
            return None;
        }
        // As i128, since seconds below the range may be brought into it by the fraction.
        let total = i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos);
        Some((Self(i64::try_from(total).ok()?), offset as i32))
    }
}

/// One of these bytes.
fn take(wanted: &[u8], rest: &mut &[u8]) -> Option<u8> {
    let (byte, tail) = rest.split_first()?;
    if !wanted.contains(byte) {
        return None;
    }
    *rest = tail;
    Some(*byte)
}

/// The number of `count` decimal digits.
fn take_digits(count: usize, rest: &mut &[u8]) -> Option<i64> {
    let mut number = 0;
    for _ in 0..count {
        number = number * 10 + i64::from(take(b"0123456789", rest)? - b'0');
    }
    Some(number)
}

/// Seconds east of UTC: of nothing, `Z`, `+02:00`, `+0200` or `+02`.
fn take_offset(rest: &mut &[u8]) -> Option<i64> {
    let sign = match take(b"Zz+-", rest) {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Some(0),
    };
    let hours = take_digits(2, rest)?;
    let minutes = match take(b":", rest) {
        None if rest.is_empty() => 0,
        _ => take_digits(2, rest)?,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with 0, 3, 6 or 9 fractional digits, as few as are exact: the form of Feast's responses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; RFC3339_BYTES_MAX];
        f.write_str(self.rfc3339(&mut buffer))
    }
}

impl Timestamp {
    /// Writes the RFC 3339 form into `buffer` without allocating. See [`Display`](fmt::Display) for the form.
    pub fn rfc3339(self, buffer: &mut [u8; RFC3339_BYTES_MAX]) -> &str {
        let days = self.0.div_euclid(NANOS_PER_DAY);
        let nanos_of_day = self.0.rem_euclid(NANOS_PER_DAY);
        let (year, month, day) = civil_from_days(days);
        // All of them fit: a day has fewer seconds than u32 holds, a second fewer nanoseconds.
        let seconds = (nanos_of_day / NANOS_PER_SECOND) as u32;
        let fraction = (nanos_of_day % NANOS_PER_SECOND) as u32;
        let (fraction, places) = match fraction {
            0 => (0, 0),
            _ if fraction.is_multiple_of(1_000_000) => (fraction / 1_000_000, 3),
            _ if fraction.is_multiple_of(1_000) => (fraction / 1_000, 6),
            _ => (fraction, 9),
        };
        // The range of i64 nanoseconds has four-digit years only.
        let parts = [
            (year, 4, b'-'),
            (month, 2, b'-'),
            (day, 2, b'T'),
            (seconds / 3_600, 2, b':'),
            (seconds / 60 % 60, 2, b':'),
            (seconds % 60, 2, if places == 0 { b'Z' } else { b'.' }),
            (fraction, places, b'Z'),
        ];
        let mut at = 0;
        for (mut value, width, end) in parts.into_iter().take(if places == 0 { 6 } else { 7 }) {
            let Some((last, digits)) = buffer.get_mut(at..=at + width).and_then(<[u8]>::split_last_mut) else { break };
            *last = end;
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (value % 10) as u8;
                value /= 10;
            }
            at += width + 1;
        }
        buffer.get(..at).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

/// A length of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(i64);

impl Span {
    /// No time at all. As a ttl: for ever.
    pub const ZERO: Self = Self(0);

    /// A span of `nanos` nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// A span of `seconds` seconds, saturated to the range (about 292 years).
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// Its length in nanoseconds.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Its length in whole seconds, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(NANOS_PER_SECOND)
    }
}

impl fmt::Display for Span {
    /// The form of the definition files, in the largest exact units: `1d`, `90m`, `1h30m`, `250ms`; zero is `0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        let mut rest = self.0;
        if rest < 0 {
            f.write_str("-")?;
        }
        for (unit, nanos) in SPAN_UNITS {
            let count = rest / nanos;
            if count != 0 {
                write!(f, "{}{unit}", count.unsigned_abs())?;
                rest %= nanos;
            }
        }
        Ok(())
    }
}

/// Days since 1970-01-01 to (year, month, day) of the proleptic Gregorian calendar
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
///
/// Days are those of some [`Timestamp`]: the years 1677 to 2262, so that 32 bits hold everything.
pub(crate) fn civil_from_days(days: i64) -> (u32, u32, u32) {
    let shifted = (days + 719_468) as u32;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u32::from(month <= 2);
    (year, month, day)
}

/// (year, month, day) to days since 1970-01-01 (the inverse of [`civil_from_days`], same source).
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

pub(crate) fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The longest RFC 3339 form: `2262-04-11T23:47:16.854775807Z`.
pub const RFC3339_BYTES_MAX: usize = 30;
/// Nanoseconds in a second.
pub const NANOS_PER_SECOND: i64 = 1_000_000_000;
pub(crate) const NANOS_PER_DAY: i64 = 86_400 * NANOS_PER_SECOND;
const SPAN_UNITS: [(&str, i64); 7] = [
    ("d", NANOS_PER_DAY),
    ("h", 3_600 * NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("s", NANOS_PER_SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn instants_print_as_feast_prints_them() {
        let show = |nanos| Timestamp::from_nanos(nanos).to_string();
        assert_eq!(show(0), "1970-01-01T00:00:00Z");
        assert_eq!(show(1_582_934_400_000_000_000), "2020-02-29T00:00:00Z");
        assert_eq!(show(1_120_000_000), "1970-01-01T00:00:01.120Z");
        assert_eq!(show(1_000_001_000), "1970-01-01T00:00:01.000001Z");
        assert_eq!(show(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(show(i64::MAX), "2262-04-11T23:47:16.854775807Z");
        assert_eq!(show(i64::MIN), "1677-09-21T00:12:43.145224192Z");
    }

    #[test]
    fn instants_read_back_as_written_and_in_their_usual_forms() {
        for nanos in [0, -1, 1, i64::MIN, i64::MAX, 1_582_934_400_000_000_000, 1_120_000_000, -62_000_000_000_000_000] {
            let instant = Timestamp::from_nanos(nanos);
            assert_eq!(Timestamp::parse(&instant.to_string()), Some(instant));
        }
        let noon = Timestamp::parse("2026-11-23T12:00:00Z");
        for text in
            ["2026-11-23 12:00", "2026-11-23T14:00:00+02:00", "2026-11-23T07:30:00.000-0430", "2026-11-23t12:00:00.0000000009z"]
        {
            assert_eq!(Timestamp::parse(text), noon, "{text}");
        }
        assert_eq!(Timestamp::parse("2026-11-23"), Timestamp::parse("2026-11-23T00:00:00Z"));
        for text in [
            "",
            "2026",
            "2026-02-29",
            "2026-13-01",
            "2026-01-01T24:00",
            "2026-01-01T00:00:00.",
            "2026-01-01T00:00+2",
            "9999-12-31",
            "2026-1-1",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn freshness_includes_its_bound_and_zero_is_for_ever() {
        let at = Timestamp::from_seconds(100);
        let ttl = Span::from_seconds(10);
        assert!(Timestamp::from_seconds(90).is_fresh(at, ttl));
        assert!(!Timestamp::from_nanos(90_000_000_000 - 1).is_fresh(at, ttl));
        assert!(Timestamp::MIN.is_fresh(at, Span::ZERO));
        assert!(Timestamp::MIN.is_fresh(Timestamp::MIN, ttl));
    }

    #[test]
    fn spans_print_as_definitions_write_them() {
        assert_eq!(Span::from_seconds(86_400).to_string(), "1d");
        assert_eq!(Span::from_seconds(5_400).to_string(), "1h30m");
        assert_eq!(Span::from_nanos(250_000_000).to_string(), "250ms");
        assert_eq!(Span::ZERO.to_string(), "0");
    }
}
