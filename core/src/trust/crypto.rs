//! BLAKE3 and ed25519.

use ed25519_dalek::{Signature, VerifyingKey};

use super::signature::Digest;

pub(super) fn digest(bytes: &[u8]) -> Digest {
    *blake3::hash(bytes).as_bytes()
}

/// The digest of a page, as a leaf of its tree.
pub(super) fn leaf(page: &[u8]) -> Digest {
    *blake3::keyed_hash(LEAF_KEY, page).as_bytes()
}

/// The digest of two digests, as a node above them.
pub(super) fn node(left: &Digest, right: &Digest) -> Digest {
    let mut both = [0; 64];
    both.iter_mut().zip(left.iter().chain(right)).for_each(|(slot, byte)| *slot = *byte);
    *blake3::keyed_hash(NODE_KEY, &both).as_bytes()
}

/// Whether a key can be had that signs for this one, and signs for it alone.
pub(super) fn is_usable(key: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|key| !key.is_weak())
}

pub(super) fn verify(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    // Strict: only one signature is right for a key and a message that someone without the secret key could make of it.
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

// Exactly as many bytes as a key has. Leaves and nodes have keys of their own, so that neither can stand for the other.
const LEAF_KEY: &[u8; 32] = b"mezze page tree, version 1: leaf";
const NODE_KEY: &[u8; 32] = b"mezze page tree, version 1: node";
