//! Lengths of time as the definition files have them.

use mezze_core::Span;

/// Reads `1d`, `90m`, `1h30m`, `250ms`, `0`. `None` where the text is none, or longer than i64 nanoseconds.
pub(crate) fn parse_span(text: &str) -> Option<Span> {
    if text == "0" {
        return Some(Span::ZERO);
    }
    let mut nanos = 0_i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(letters)?;
        let (_, unit_nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos = nanos.checked_add(number.parse::<i64>().ok()?.checked_mul(*unit_nanos)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(Span::from_nanos(nanos))
}

const UNITS: [(&str, i64); 8] = [
    ("w", 7 * 86_400_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_back() {
        for text in ["1d", "90m", "1h30m", "250ms", "0", "3650d", "1us1ns"] {
            let span = parse_span(text).expect("it is a length of time");
            assert_eq!(parse_span(&span.to_string()), Some(span), "{text}");
        }
        assert_eq!(parse_span("2w"), parse_span("14d"));
        for text in ["", "d", "1", "1 d", "-1d", "1.5d", "1y", "200000d", "1dd"] {
            assert_eq!(parse_span(text), None, "{text}");
        }
    }
}
