//! The bytes of a signature behind a head.

use alloc::vec::Vec;

use crate::{FormatError, Head, PREVIOUS_MAX, PublicKey, Timestamp};

/// A BLAKE3-256.
pub type Digest = [u8; DIGEST_BYTES];

/// What a signature says, and the signature itself. Read is not checked: that is what [`Trust`](crate::Trust) is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadSignature {
    /// When the head was signed, by the clock of whoever did it. A head may be signed anew.
    pub signed_at: Timestamp,
    /// The digests of the encoded manifests: of the newest snapshot, then of those before it in the head's order.
    pub digests: Vec<Digest>,
    /// The key that is said to have signed.
    pub key: PublicKey,
    /// The signature of [`signed_message`].
    pub signature: [u8; 64],
}

/// A head as it lies in a replica: with its signature, where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// The head.
    pub head: Head,
    /// What is behind it.
    pub signature: Option<HeadSignature>,
}

impl SignedHead {
    /// Reads the value of the key `head`.
    ///
    /// # Errors
    /// [`FormatError`] where the bytes are damaged or of a later version.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        if let Some([_, _, low, high, magic @ ..]) = value.last_chunk::<END_BYTES>()
            && *magic == SIGNATURE_MAGIC
        {
            let found = u16::from_le_bytes([*low, *high]);
            if found != SIGNATURE_VERSION {
                return Err(FormatError::Version { structure: "signature", found, readable: SIGNATURE_VERSION });
            }
        }
        Ok(Self { head: Head::decode(value)?, signature: HeadSignature::decode(value) })
    }
}

impl HeadSignature {
    /// Its bytes, to stand right behind those of the head.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + self.digests.len() * DIGEST_BYTES);
        out.extend_from_slice(&self.signed_at.nanos().to_le_bytes());
        self.digests.iter().for_each(|digest| out.extend_from_slice(digest));
        out.extend_from_slice(self.key.bytes());
        out.extend_from_slice(&self.signature);
        // A head names a few snapshots.
        out.extend_from_slice(&u16::try_from(self.digests.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&SIGNATURE_VERSION.to_le_bytes());
        out.extend_from_slice(&SIGNATURE_MAGIC);
        out
    }

    /// What is behind a head in the value of its key.
    fn decode(value: &[u8]) -> Option<Self> {
        let (_, trailer) = split(value);
        let (signed_at, rest) = trailer.split_first_chunk()?;
        let (rest, _) = rest.split_last_chunk::<END_BYTES>()?;
        let (rest, signature) = rest.split_last_chunk()?;
        let (digests, key) = rest.split_last_chunk()?;
        Some(Self {
            signed_at: Timestamp::from_nanos(i64::from_le_bytes(*signed_at)),
            digests: digests.as_chunks::<DIGEST_BYTES>().0.to_vec(),
            key: PublicKey::from_bytes(*key),
            signature: *signature,
        })
    }
}

/// The value of the key `head` in two: the head, and what is behind it, which is empty or has the form of a signature.
pub(crate) fn split(value: &[u8]) -> (&[u8], &[u8]) {
    // As one number, since this is in every bundle.
    let end = value.last_chunk().map_or(0, |end| u64::from_le_bytes(*end));
    let count = end as u16 as usize;
    let is_signature = end >> 16 == END && count.wrapping_sub(1) <= PREVIOUS_MAX;
    let trailer_bytes = if is_signature { FIXED_BYTES + count * DIGEST_BYTES } else { 0 };
    value.split_at_checked(value.len().wrapping_sub(trailer_bytes)).unwrap_or((value, &[]))
}

/// What is signed: `head` are the bytes of the head alone.
pub fn signed_message(head: &[u8], signed_at: Timestamp, digests: &[Digest]) -> Vec<u8> {
    let mut message = Vec::with_capacity(CONTEXT.len() + 8 + (1 + digests.len()) * DIGEST_BYTES);
    message.extend_from_slice(CONTEXT);
    message.extend_from_slice(&signed_at.nanos().to_le_bytes());
    message.extend_from_slice(&super::crypto::digest(head));
    digests.iter().for_each(|digest| message.extend_from_slice(digest));
    message
}

/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;
/// The last bytes of a signed head.
pub const SIGNATURE_MAGIC: [u8; 4] = *b"MZSN";
/// The version of the signature's format.
pub const SIGNATURE_VERSION: u16 = 1;
/// Whatever else is ever signed with such a key begins otherwise.
const CONTEXT: &[u8; 16] = b"mezze head sig 1";
/// Count, version and magic: where a reader begins.
const END_BYTES: usize = 2 + 2 + 4;
/// The last six of them as a number.
const END: u64 = (u32::from_le_bytes(SIGNATURE_MAGIC) as u64) << 16 | SIGNATURE_VERSION as u64;
/// All but the digests.
const FIXED_BYTES: usize = 8 + 32 + 64 + END_BYTES;
