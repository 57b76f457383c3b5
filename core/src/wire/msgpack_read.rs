//! Tokens of MessagePack, by its specification of 2013 and later.

use alloc::borrow::Cow;

use super::body::{Body, Members, Read, Token};

impl<'b> Body<'b> {
    pub(super) fn msgpack_token(&mut self) -> Read<Token<'b>> {
        self.token_at = self.at;
        let Some(marker) = self.byte() else { return Err(self.ends_early()) };
        Ok(match marker {
            0x00..=0x7f => Token::Int(i64::from(marker)),
            0x80..=0x8f => Token::Map(Members(usize::from(marker & 0x0f))),
            0x90..=0x9f => Token::List(Members(usize::from(marker & 0x0f))),
            0xa0..=0xbf => self.utf8(usize::from(marker & 0x1f))?,
            0xc0 => Token::Null,
            0xc1 => return Err(self.syntax(self.token_at, "c1 is no marker")),
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4..=0xc6 => {
                let length = self.length(marker - 0xc4)?;
                Token::Bytes(self.slice(length)?)
            }
            0xc7..=0xc9 => {
                let length = self.length(marker - 0xc7)?;
                self.slice(length.saturating_add(1))?;
                Token::Extension
            }
            0xca => Token::Float(f64::from(f32::from_bits(self.unsigned(2)? as u32))),
            0xcb => Token::Float(f64::from_bits(self.unsigned(3)?)),
            0xcc..=0xcf => {
                let value = self.unsigned(marker - 0xcc)?;
                // As JSON's integers of more than 64 bits are read.
                i64::try_from(value).map_or(Token::Float(value as f64), Token::Int)
            }
            0xd0..=0xd3 => {
                let power = marker - 0xd0;
                // The sign is in the highest of the bytes that there are.
                let unused = 64 - (8 << power);
                Token::Int((self.unsigned(power)? << unused).cast_signed() >> unused)
            }
            0xd4..=0xd8 => {
                self.slice((1 << (marker - 0xd4)) + 1)?;
                Token::Extension
            }
            0xd9..=0xdb => {
                let length = self.length(marker - 0xd9)?;
                self.utf8(length)?
            }
            0xdc | 0xdd => Token::List(Members(self.length(marker - 0xdc + 1)?)),
            0xde | 0xdf => Token::Map(Members(self.length(marker - 0xde + 1)?)),
            0xe0..=0xff => Token::Int(i64::from(marker.cast_signed())),
        })
    }

    /// A number of 2 to the `power` bytes.
    fn unsigned(&mut self, power: u8) -> Read<u64> {
        let bytes = self.slice(1 << power)?;
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn length(&mut self, power: u8) -> Read<usize> {
        // What no memory can hold, no body does either.
        Ok(usize::try_from(self.unsigned(power)?).unwrap_or(usize::MAX))
    }

    fn slice(&mut self, length: usize) -> Read<&'b [u8]> {
        let slice = self.bytes.get(self.at..).and_then(|rest| rest.get(..length));
        let slice = slice.ok_or_else(|| self.ends_early())?;
        self.at += length;
        Ok(slice)
    }

    fn utf8(&mut self, length: usize) -> Read<Token<'b>> {
        let start = self.at;
        let slice = self.slice(length)?;
        let text = core::str::from_utf8(slice);
        let text = text.map_err(|error| self.syntax(start + error.valid_up_to(), "the text is not UTF-8"))?;
        Ok(Token::Text(Cow::Borrowed(text)))
    }
}
