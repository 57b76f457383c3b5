//! Who may say what a snapshot holds: signed heads, and a tree of hashes over the pages of each segment and table.
//!
//! A signature is under the head, the head names its manifests by digests, a manifest has the root of each segment's tree, and a
//! page brings the path from itself to the root. docs/FORMAT.md has the bytes, docs/TRUST.md what all of it is good for.
//!
//! Reading a signature takes nothing but bytes. Checking one takes the feature `trust`: without it there is no way to make a
//! [`Trust`] that has keys, and whatever would have to be checked is refused.

mod check;
#[cfg(feature = "trust")]
mod crypto;
#[cfg(not(feature = "trust"))]
#[path = "trust/crypto_absent.rs"]
mod crypto;
mod key;
mod signature;
mod tree;

pub use check::{Trust, TrustError};
pub use key::{KeyId, PUBLIC_KEY_PREFIX, ParseKeyError, PublicKey, SECRET_KEY_PREFIX};
pub(crate) use signature::split;
pub use signature::{DIGEST_BYTES, Digest, HeadSignature, SIGNATURE_MAGIC, SIGNATURE_VERSION, SignedHead, signed_message};
pub use tree::{PATH_BYTES_MAX, Tree, path_bytes};

/// The digest of a manifest, as a signature names it.
#[cfg(feature = "trust")]
pub fn manifest_digest(manifest: &[u8]) -> Digest {
    crypto::digest(manifest)
}
