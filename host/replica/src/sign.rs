//! Signing heads.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer as _, SigningKey};
use mezze_core::{HeadSignature, PublicKey, SECRET_KEY_PREFIX, Timestamp, manifest_digest, signed_message};

/// Signs heads, so that hosts which are given its public key accept what it signed and nothing else.
///
/// What it shows of itself never has the secret key. The key is erased from memory when it is dropped.
pub struct Signer(SigningKey);

/// A text is not a secret key. What the text is, is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a secret key: expected {SECRET_KEY_PREFIX} and 64 hex digits, as `mezze keys new` makes them")]
#[non_exhaustive]
pub struct ParseSecretError;

impl Signer {
    /// One with a new key, from the system's randomness.
    ///
    /// # Errors
    /// What the system said, where it gives none.
    pub fn generate() -> Result<Self, std::io::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        let key = SigningKey::from_bytes(&bytes);
        bytes.fill(0);
        Ok(Self(key))
    }

    /// What its signatures are checked with.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// The secret key as text, which [`Signer::from_str`] reads: for the file that keeps it, and for nothing else.
    pub fn secret_text(&self) -> String {
        let digits = self.0.as_bytes().iter().map(|byte| format!("{byte:02x}"));
        std::iter::once(SECRET_KEY_PREFIX.to_owned()).chain(digits).collect()
    }

    /// The value of the key `head`: these bytes of a head, and behind them a signature of it and of the encoded manifests that it
    /// names: that of the newest snapshot, then those before it in the head's order.
    pub fn sign(&self, head: &[u8], manifests: &[&[u8]], at: Timestamp) -> Vec<u8> {
        let digests: Vec<_> = manifests.iter().map(|manifest| manifest_digest(manifest)).collect();
        let signature = self.0.sign(&signed_message(head, at, &digests)).to_bytes();
        let signature = HeadSignature { signed_at: at, digests, key: self.public_key(), signature };
        [head, &signature.encode()].concat()
    }
}

impl FromStr for Signer {
    type Err = ParseSecretError;

    fn from_str(text: &str) -> Result<Self, ParseSecretError> {
        let digits = text.trim().strip_prefix(SECRET_KEY_PREFIX).ok_or(ParseSecretError)?.as_bytes();
        let mut bytes = [0_u8; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(ParseSecretError);
        }
        for (slot, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            for digit in pair {
                let digit = char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                *slot = *slot << 4 | digit.ok_or(ParseSecretError)?;
            }
        }
        let key = SigningKey::from_bytes(&bytes);
        bytes.fill(0);
        Ok(Self(key))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.public_key()).finish()
    }
}
