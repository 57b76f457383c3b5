//! Tokens of JSON, as RFC 8259 has it.

use alloc::{borrow::Cow, boxed::Box, string::String};

use super::WireError;
use super::body::{Body, Members, Read, Token};
use crate::float::parse_f64;

impl<'b> Body<'b> {
    pub(super) fn json_token(&mut self) -> Read<Token<'b>> {
        self.skip_space();
        self.token_at = self.at;
        let Some(first) = self.byte() else { return Err(self.ends_early()) };
        Ok(match first {
            b'"' => Token::Text(self.text()?),
            b'[' => Token::List(Members(0)),
            b'{' => Token::Map(Members(0)),
            b'-' | b'0'..=b'9' => return self.number(),
            b'n' => self.literal(b"ull", Token::Null)?,
            b't' => self.literal(b"rue", Token::Bool(true))?,
            b'f' => self.literal(b"alse", Token::Bool(false))?,
            _ => return Err(self.syntax(self.token_at, "expected a value")),
        })
    }

    pub(super) fn json_key(&mut self, members: &mut Members) -> Read<Option<Cow<'b, str>>> {
        if !self.json_member(members, b'}')? {
            return Ok(None);
        }
        self.skip_space();
        self.token_at = self.at;
        match self.byte() {
            Some(b'"') => {}
            Some(_) => return Err(self.syntax(self.token_at, "expected a key in quotes")),
            None => return Err(self.ends_early()),
        }
        let key = self.text()?;
        self.skip_space();
        match self.byte() {
            Some(b':') => Ok(Some(key)),
            Some(_) => Err(self.syntax(self.at - 1, "expected `:`")),
            None => Err(self.ends_early()),
        }
    }

    /// Whether a container has another member, with `close` as its end.
    pub(super) fn json_member(&mut self, members: &mut Members, close: u8) -> Read<bool> {
        self.skip_space();
        let first = members.0 == 0;
        members.0 = 1;
        match self.bytes.get(self.at) {
            Some(byte) if *byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(_) if first => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if close == b']' => Err(self.syntax(self.at, "expected `,` or `]`")),
            Some(_) => Err(self.syntax(self.at, "expected `,` or `}`")),
            None => Err(self.ends_early()),
        }
    }

    pub(super) fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn literal(&mut self, rest: &[u8], token: Token<'b>) -> Read<Token<'b>> {
        match self.bytes.get(self.at..).and_then(|bytes| bytes.strip_prefix(rest)) {
            Some(_) => {
                self.at += rest.len();
                Ok(token)
            }
            None => Err(self.syntax(self.token_at, "expected a value")),
        }
    }

    /// The rest of a number, whose first byte has been read: an integer of 64 signed bits, or else the nearest f64.
    fn number(&mut self) -> Read<Token<'b>> {
        let start = self.token_at;
        let negative = self.bytes.get(start) == Some(&b'-');
        self.at = start + usize::from(negative);
        let digits_at = self.at;
        let mut magnitude = Some(0_u64);
        while let Some(digit @ b'0'..=b'9') = self.bytes.get(self.at) {
            magnitude = magnitude.and_then(|sum| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
            self.at += 1;
        }
        let leading_zero = self.bytes.get(digits_at) == Some(&b'0') && self.at > digits_at + 1;
        if self.at == digits_at || leading_zero {
            return Err(self.bad_number(start));
        }
        let mut whole = true;
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            whole = false;
            self.digits(start)?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            whole = false;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digits(start)?;
        }
        // Minus zero is a float: no integer is it.
        let int = magnitude
            .filter(|magnitude| whole && !(negative && *magnitude == 0))
            .and_then(|magnitude| if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() });
        if let Some(int) = int {
            return Ok(Token::Int(int));
        }
        let text = self.bytes.get(start..self.at).and_then(|digits| core::str::from_utf8(digits).ok());
        match text.and_then(parse_f64) {
            Some(float) if float.is_finite() => Ok(Token::Float(float)),
            _ => Err(self.syntax(start, "the number is beyond what 64 bits can hold")),
        }
    }

    /// One digit or more.
    fn digits(&mut self, start: usize) -> Read<()> {
        let first = self.at;
        while let Some(b'0'..=b'9') = self.bytes.get(self.at) {
            self.at += 1;
        }
        if self.at == first { Err(self.bad_number(start)) } else { Ok(()) }
    }

    #[cold]
    fn bad_number(&self, start: usize) -> Box<WireError> {
        if self.at == self.bytes.len() { self.ends_early() } else { self.syntax(start, "the number is none of JSON's") }
    }

    /// The rest of a text, whose opening quote has been read.
    fn text(&mut self) -> Read<Cow<'b, str>> {
        let run = self.run()?;
        if self.bytes.get(self.at) == Some(&b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(run));
        }
        let mut text = String::from(run);
        loop {
            match self.byte() {
                Some(b'"') => return Ok(Cow::Owned(text)),
                // What ends a run is a quote or a backslash.
                Some(_) => text.push(self.escape()?),
                None => return Err(self.ends_early()),
            }
            text.push_str(self.run()?);
        }
    }

    /// Characters up to a quote or a backslash, which is there.
    fn run(&mut self) -> Read<&'b str> {
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)) else {
            return Err(self.ends_early());
        };
        let (run, rest) = rest.split_at(length);
        self.at = start + length;
        if let Some(..0x20) = rest.first() {
            return Err(self.syntax(self.at, "a control character in a text wants an escape"));
        }
        core::str::from_utf8(run).map_err(|error| self.syntax(start + error.valid_up_to(), "the text is not UTF-8"))
    }

    /// The character of an escape, whose backslash has been read.
    fn escape(&mut self) -> Read<char> {
        let start = self.at - 1;
        let Some(kind) = self.byte() else { return Err(self.ends_early()) };
        Ok(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.code_unit(start)?;
                let mut code = u32::from(unit);
                // Half of a surrogate pair: the other half follows.
                if let 0xd800..0xdc00 = unit
                    && self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(b"\\u"))
                {
                    self.at += 2;
                    let low = u32::from(self.code_unit(start)?);
                    if let 0xdc00..0xe000 = low {
                        code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    }
                }
                char::from_u32(code).ok_or_else(|| self.syntax(start, "the escape is half of a surrogate pair"))?
            }
            _ => return Err(self.syntax(start, "the escape is none of JSON's")),
        })
    }

    /// Four hexadecimal digits.
    fn code_unit(&mut self, start: usize) -> Read<u16> {
        let mut unit = 0;
        for _ in 0..4 {
            let Some(byte) = self.byte() else { return Err(self.ends_early()) };
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                b'A'..=b'F' => byte - b'A' + 10,
                _ => return Err(self.syntax(start, "the escape is none of JSON's")),
            };
            unit = unit << 4 | u16::from(digit);
        }
        Ok(unit)
    }
}
