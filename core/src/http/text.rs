//! Paths and queries of URLs, and comparing secrets.

use alloc::{borrow::Cow, string::String, vec::Vec};

/// Whether two secrets are equal, in a time that depends on their lengths alone.
pub(super) fn same(given: &[u8], wanted: &[u8]) -> bool {
    let mut different = u8::from(given.len() != wanted.len());
    for (at, byte) in wanted.iter().enumerate() {
        different |= byte ^ given.get(at).copied().unwrap_or(!byte);
    }
    core::hint::black_box(different) == 0
}

/// The segments of a path as the URL standard has them: without `.` and with `..` taken back, `\` as `/`, percent-encoded dots as
/// dots. Some platforms have done so before a request comes here, others have not; so all do it here. Still percent-encoded.
pub(super) fn segments(path: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    for segment in path.strip_prefix(['/', '\\']).unwrap_or(path).split(['/', '\\']) {
        match dots(segment) {
            Some(1) => {}
            Some(_) => {
                segments.pop();
            }
            None => segments.push(segment),
        }
    }
    segments
}

/// How many dots a segment is made of, one or two.
fn dots(segment: &str) -> Option<usize> {
    let mut rest = segment;
    for count in 0..=2 {
        if rest.is_empty() {
            return (count > 0).then_some(count);
        }
        let encoded = rest.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("%2e"));
        rest = if encoded { rest.get(3..)? } else { rest.strip_prefix('.')? };
    }
    None
}

/// The pairs of a query, decoded; what is no pair has an empty value. `None` where a part is not UTF-8.
pub(super) fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decode(name, true)?.into_owned(), decode(value, true)?.into_owned()))
        })
        .collect()
}

/// Percent-decoded text, `+` as a space where it is of a query. A `%` without two hex digits stays, as browsers have it. `None`
/// where the bytes are not UTF-8.
pub(super) fn decode(text: &str, query: bool) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| byte == b'%' || query && byte == b'+') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                _ => decoded.push(b'%'),
            },
            (b'+', _) if query => decoded.push(b' '),
            _ => decoded.push(*byte),
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn paths_are_as_browsers_make_them() {
        assert_eq!(segments("/v1/features/a"), ["v1", "features", "a"]);
        assert_eq!(segments("/v1/x/../features/./a"), ["v1", "features", "a"]);
        assert_eq!(segments("/v1/x/%2E%2e/features\\a"), ["v1", "features", "a"]);
        assert_eq!(segments("/../../health"), ["health"]);
        assert_eq!(segments("/.../a"), ["...", "a"]);
        assert_eq!(segments("//health"), ["", "health"]);
    }

    #[test]
    fn queries_decode() {
        let pair = |name: &str, value: &str| (String::from(name), String::from(value));
        assert_eq!(pairs("a=1&b=x+y&a=%C3%A4&&c"), Some(vec![pair("a", "1"), pair("b", "x y"), pair("a", "ä"), pair("c", "")]));
        assert_eq!(pairs("a=100%&b=%zz&c=%4"), Some(vec![pair("a", "100%"), pair("b", "%zz"), pair("c", "%4")]));
        assert_eq!(pairs("a=%ff"), None);
        assert_eq!(decode("a+b", false).as_deref(), Some("a+b"));
    }

    #[test]
    fn secrets_are_equal_only_whole() {
        assert!(same(b"secret", b"secret"));
        for wrong in [&b""[..], b"secre", b"secrett", b"Secret", b"secreT"] {
            assert!(!same(wrong, b"secret"));
        }
    }
}
