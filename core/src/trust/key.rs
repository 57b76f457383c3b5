//! Public keys and their text.

use core::fmt;
use core::str::FromStr;

/// The ed25519 key that signatures are checked with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// The first eight bytes of a public key: enough to tell the keys of one host apart. 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; 8]);

/// A text is not a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseKeyError {
    /// It is not 64 hex digits, with or without the prefix.
    Form,
    /// It says that it is a secret key, which belongs to whoever publishes and to nobody else.
    Secret,
    /// No usable key has these bytes.
    Unusable,
}

impl fmt::Display for ParseKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected())
    }
}

impl ParseKeyError {
    /// What was expected.
    pub(crate) const fn expected(self) -> &'static str {
        match self {
            Self::Form => "public keys, each mezze-public-ed25519: and 64 hex digits",
            Self::Secret => "public keys, and one is a secret key, which no host may have",
            Self::Unusable if cfg!(feature = "trust") => "public keys that something can be signed for",
            Self::Unusable => "nothing: this build checks no signatures",
        }
    }
}

impl core::error::Error for ParseKeyError {}

impl PublicKey {
    /// The key with these bytes; nothing is checked.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What tells it from others.
    pub fn id(&self) -> KeyId {
        KeyId(self.0.first_chunk().copied().unwrap_or_default())
    }
}

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        if text.starts_with(SECRET_KEY_PREFIX) {
            return Err(ParseKeyError::Secret);
        }
        let digits = text.strip_prefix(PUBLIC_KEY_PREFIX).unwrap_or(text).as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(ParseKeyError::Form);
        }
        for (slot, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            for digit in pair {
                let digit = char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                *slot = *slot << 4 | digit.ok_or(ParseKeyError::Form)?;
            }
        }
        if super::crypto::is_usable(&bytes) { Ok(Self(bytes)) } else { Err(ParseKeyError::Unusable) }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PUBLIC_KEY_PREFIX)?;
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(super) fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// What the text of a public key begins with.
pub const PUBLIC_KEY_PREFIX: &str = "mezze-public-ed25519:";
/// What the text of a secret key begins with.
pub const SECRET_KEY_PREFIX: &str = "mezze-secret-ed25519:";
