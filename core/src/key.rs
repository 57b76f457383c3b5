//! Entity keys: one canonical encoding and one hash.

use alloc::vec::Vec;

// The seeded function with seed 0 is the plain one, and is there for pages and manifests: a bundle carries one of them.
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One column's value of an entity key, of the [`KeyType`](crate::KeyType) that goes with its variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyPart<'a> {
    /// `string` and `bytes` as they are, `uuid` as its 16 bytes.
    Bytes(&'a [u8]),
    /// `int32`, `int64`, `bool` (0 or 1) and `unix_timestamp` (nanoseconds).
    Int(i64),
}

/// The hash of an entity key; it decides bucket and place in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(u64);

impl KeyHash {
    /// The hash of a key given as its columns, ordered by join key name (the canonical order, by bytes of the name).
    ///
    /// It is xxh3-64, seed 0, of the canonical encoding: per column a 0x01 and the little-endian i64, or a 0x02, the length
    /// as little-endian u32 and the bytes.
    pub fn of(parts: &[KeyPart<'_>]) -> Self {
        // One integer is the common key: hashed from the stack.
        if let [KeyPart::Int(value)] = parts {
            let mut encoded = [TAG_INT; 9];
            if let Some(slot) = encoded.last_chunk_mut() {
                *slot = value.to_le_bytes();
            }
            return Self(xxh3_64_with_seed(&encoded, 0));
        }
        let mut encoded = Vec::with_capacity(32);
        encode_key(parts, &mut encoded);
        Self(xxh3_64_with_seed(&encoded, 0))
    }

    /// The hash of a key whose canonical encoding the caller has already made with [`encode_key`].
    pub fn of_encoded(encoded: &[u8]) -> Self {
        Self(xxh3_64_with_seed(encoded, 0))
    }

    /// The hash as a number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// A hash read back from where one was stored.
    pub const fn from_u64(hash: u64) -> Self {
        Self(hash)
    }

    /// The bucket of this key among `bucket_count`: the high word of the 128-bit product of hash and count. Equal hashes
    /// order as buckets do, so a segment sorted by hash is sorted by bucket.
    pub const fn bucket(self, bucket_count: u32) -> u32 {
        ((self.0 as u128 * bucket_count as u128) >> 64) as u32
    }

    /// The place of this key within its bucket, evenly spread over u16: the top 16 bits of the product's low word.
    pub const fn prefix(self, bucket_count: u32) -> u16 {
        ((self.0 as u128 * bucket_count as u128) as u64 >> 48) as u16
    }
}

/// Appends the canonical encoding of a key, given as its columns in canonical order. See [`KeyHash::of`].
pub fn encode_key(parts: &[KeyPart<'_>], out: &mut Vec<u8>) {
    for part in parts {
        match part {
            KeyPart::Bytes(bytes) => {
                out.push(TAG_BYTES);
                out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                out.extend_from_slice(bytes);
            }
            KeyPart::Int(value) => {
                out.push(TAG_INT);
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
}

const TAG_INT: u8 = 1;
const TAG_BYTES: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_integer_hashes_as_its_encoding_does() {
        let mut encoded = Vec::new();
        encode_key(&[KeyPart::Int(-7)], &mut encoded);
        assert_eq!(KeyHash::of(&[KeyPart::Int(-7)]), KeyHash::of_encoded(&encoded));
    }

    #[test]
    fn columns_do_not_run_into_each_other() {
        let hash = |parts: &[&str]| KeyHash::of(&parts.iter().map(|part| KeyPart::Bytes(part.as_bytes())).collect::<Vec<_>>());
        assert_ne!(hash(&["1", "11"]), hash(&["11", "1"]));
        assert_ne!(hash(&["", "a"]), hash(&["a", ""]));
        assert_ne!(KeyHash::of(&[KeyPart::Int(1)]), hash(&["1"]));
    }

    #[test]
    fn buckets_and_prefixes_order_as_hashes_do() {
        let mut hashes: Vec<KeyHash> = (0..1000).map(|key| KeyHash::of(&[KeyPart::Int(key)])).collect();
        hashes.sort_unstable();
        for count in [1, 2, 7, 4096] {
            let places: Vec<(u32, u16)> = hashes.iter().map(|hash| (hash.bucket(count), hash.prefix(count))).collect();
            assert!(places.is_sorted());
            assert!(places.iter().all(|(bucket, _)| *bucket < count));
        }
    }
}
