//! The body of a request as tokens, whatever its media type: what json_read and msgpack_read have in common.

use alloc::{borrow::Cow, boxed::Box, format, string::String, vec::Vec};

use super::{MediaType, WireError};

/// What reading gives. The error is boxed: it is large, and every `?` would copy it.
pub(super) type Read<T> = Result<T, Box<WireError>>;

/// A body that is read from its start to its end.
pub(super) struct Body<'b> {
    pub(super) bytes: &'b [u8],
    /// How much has been read.
    pub(super) at: usize,
    /// Where the last token began.
    pub(super) token_at: usize,
    media_type: MediaType,
}

/// What comes next in a body.
pub(super) enum Token<'b> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'b, str>),
    Bytes(&'b [u8]),
    List(Members),
    Map(Members),
    /// An extension of MessagePack.
    Extension,
}

/// What is known of a container's members while they are read: how many are to come, or, where their number is not said
/// beforehand, whether there was one.
pub(super) struct Members(pub(super) usize);

impl<'b> Body<'b> {
    pub(super) const fn new(bytes: &'b [u8], media_type: MediaType) -> Self {
        Self { bytes, at: 0, token_at: 0, media_type }
    }

    /// The next token; the members of a container come after it.
    pub(super) fn token(&mut self) -> Read<Token<'b>> {
        match self.media_type {
            MediaType::Json => self.json_token(),
            #[cfg(feature = "message-pack")]
            MediaType::MessagePack => self.msgpack_token(),
        }
    }

    /// Whether a list has another element, which comes next.
    pub(super) fn element(&mut self, members: &mut Members) -> Read<bool> {
        match self.media_type {
            MediaType::Json => self.json_member(members, b']'),
            #[cfg(feature = "message-pack")]
            MediaType::MessagePack => Ok(members.take()),
        }
    }

    /// The key of a map's next entry, whose value comes next.
    pub(super) fn key(&mut self, members: &mut Members) -> Read<Option<Cow<'b, str>>> {
        match self.media_type {
            MediaType::Json => self.json_key(members),
            #[cfg(feature = "message-pack")]
            MediaType::MessagePack if members.take() => match self.msgpack_token()? {
                Token::Text(key) => Ok(Some(key)),
                other => Err(self.unexpected(&other, "text for a key")),
            },
            #[cfg(feature = "message-pack")]
            MediaType::MessagePack => Ok(None),
        }
    }

    /// Reads past a value, however deep it is.
    pub(super) fn skip(&mut self) -> Read<()> {
        // The containers that are open. Each takes at least a byte of the body, so the body bounds them.
        let mut open: Vec<(Members, bool)> = Vec::new();
        loop {
            match self.token()? {
                Token::List(members) => open.push((members, false)),
                Token::Map(members) => open.push((members, true)),
                _ => {}
            }
            loop {
                let Some((members, is_map)) = open.last_mut() else { return Ok(()) };
                let more = if *is_map { self.key(members)?.is_some() } else { self.element(members)? };
                if more {
                    break;
                }
                open.pop();
            }
        }
    }

    /// That nothing follows.
    pub(super) fn end(&mut self) -> Read<()> {
        if self.media_type == MediaType::Json {
            self.skip_space();
        }
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.syntax(self.at, "there is more after the request")) }
    }

    /// The next byte, which is read.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// The body is not of its media type.
    #[cold]
    pub(super) fn syntax(&self, at: usize, detail: &str) -> Box<WireError> {
        Box::new(WireError::Syntax { media_type: self.media_type, detail: format!("{detail}{}", self.place(at)) })
    }

    #[cold]
    pub(super) fn ends_early(&self) -> Box<WireError> {
        self.syntax(self.bytes.len(), "it ends early")
    }

    /// The body is no request.
    #[cold]
    pub(super) fn invalid(&self, at: usize, detail: &str) -> Box<WireError> {
        Box::new(WireError::Invalid { detail: format!("{detail}{}", self.place(at)) })
    }

    /// The last token is another than it should be.
    #[cold]
    pub(super) fn unexpected(&self, found: &Token<'_>, expected: &str) -> Box<WireError> {
        let found = match found {
            Token::Null => "null".into(),
            Token::Bool(value) => format!("{value}"),
            Token::Int(value) => format!("the number {value}"),
            Token::Float(value) => format!("the number {}", zmij::Buffer::new().format(*value)),
            Token::Text(text) => format!("the text `{text}`"),
            Token::Bytes(_) => String::from("bytes"),
            Token::List(_) => "a list".into(),
            Token::Map(_) => "an object".into(),
            Token::Extension => "an extension".into(),
        };
        self.invalid(self.token_at, &format!("found {found}, expected {expected}"))
    }

    fn place(&self, at: usize) -> String {
        match self.media_type {
            MediaType::Json => {
                let before = self.bytes.get(..at).unwrap_or(self.bytes);
                let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
                let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
                format!(" at line {line} column {}", before.len() - line_start + 1)
            }
            #[cfg(feature = "message-pack")]
            MediaType::MessagePack => format!(" at byte {at}"),
        }
    }
}

impl Members {
    /// Takes one of as many as are to come.
    fn take(&mut self) -> bool {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}
