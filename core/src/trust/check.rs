//! What a host that was given keys accepts.

use alloc::vec::Vec;
use core::fmt;

use super::key::write_hex;
use super::signature::{Digest, HeadSignature, SignedHead, signed_message, split};
use super::{KeyId, PublicKey, crypto, tree};
use crate::{NANOS_PER_SECOND, PageKey, PageRef, Segment, Span, Timestamp};

/// Which heads a host accepts. Without keys it accepts all that are whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trust {
    /// The keys that may sign; several while one takes over from another.
    keys: Vec<PublicKey>,
    /// How long ago a head may have been signed; any time where there is none.
    pub head_age_max: Option<Span>,
    /// The lowest epoch that a head may have.
    pub epoch_min: u64,
}

/// Something is not what a trusted key has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustError {
    /// A head without a signature.
    NotSigned {
        /// The keys that may sign.
        trusted: Vec<KeyId>,
    },
    /// A head that is signed with another key.
    UntrustedKey {
        /// The key.
        found: KeyId,
        /// The keys that may sign.
        trusted: Vec<KeyId>,
    },
    /// A signature that the key it names did not make of this head.
    WrongSignature {
        /// The key.
        key: KeyId,
    },
    /// A signature that does not name as many manifests as its head does.
    ManifestCount {
        /// As many as the head names.
        expected: usize,
        /// As many as are signed.
        found: usize,
    },
    /// A head that was signed too long ago.
    TooOld {
        /// How long ago.
        age: Span,
        /// How long ago it may have been.
        max: Span,
    },
    /// A head that was signed in the future.
    Future {
        /// How far.
        ahead: Span,
    },
    /// A head of an epoch that is not to be served any more.
    EpochBelow {
        /// The epoch.
        found: u64,
        /// The lowest that may be served.
        min: u64,
    },
    /// A manifest that was not signed with the head.
    WrongManifest {
        /// The signed digest, if one was signed for it.
        expected: Option<Digest>,
        /// That of the manifest.
        found: Digest,
    },
    /// A page without a path, or with one that its segment's pages do not have.
    PathLength {
        /// Bytes of the path of a page of the segment.
        expected: usize,
        /// Bytes behind the page.
        found: usize,
    },
    /// A page, or its path, that is not in the tree of its segment.
    WrongRoot {
        /// The root in the manifest.
        expected: Digest,
        /// Where page and path lead.
        found: Digest,
    },
}

impl Trust {
    /// Accepts every head that is whole.
    pub const fn none() -> Self {
        Self { keys: Vec::new(), head_age_max: None, epoch_min: 0 }
    }

    /// Accepts heads that one of these keys has signed, of any age and epoch.
    #[cfg(feature = "trust")]
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { keys: keys.into_iter().collect(), ..Self::none() }
    }

    /// The same, if the head was not signed longer ago than this.
    #[must_use]
    pub fn with_head_age_max(mut self, max: Span) -> Self {
        self.head_age_max = Some(max);
        self
    }

    /// The same, if the head's epoch is not lower than this.
    #[must_use]
    pub fn with_epoch_min(mut self, epoch: u64) -> Self {
        self.epoch_min = epoch;
        self
    }

    /// Whether heads have to be signed.
    pub fn is_required(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The keys that may sign.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    pub(crate) fn set_keys(&mut self, keys: Vec<PublicKey>) {
        self.keys = keys;
    }

    fn ids(&self) -> Vec<KeyId> {
        self.keys.iter().map(PublicKey::id).collect()
    }

    /// Checks a head, read from this value of its key.
    ///
    /// # Errors
    /// [`TrustError`] where it is not to be used.
    pub fn check_head(&self, value: &[u8], read: &SignedHead, now: Timestamp) -> Result<(), TrustError> {
        if !self.is_required() {
            return Ok(());
        }
        let Some(signature) = &read.signature else { return Err(TrustError::NotSigned { trusted: self.ids() }) };
        let key = signature.key;
        if !self.keys.contains(&key) {
            return Err(TrustError::UntrustedKey { found: key.id(), trusted: self.ids() });
        }
        let (head, _) = split(value);
        let message = signed_message(head, signature.signed_at, &signature.digests);
        if !crypto::verify(key.bytes(), &message, &signature.signature) {
            return Err(TrustError::WrongSignature { key: key.id() });
        }
        let (expected, found) = (1 + read.head.previous.len(), signature.digests.len());
        if found != expected {
            return Err(TrustError::ManifestCount { expected, found });
        }
        if read.head.epoch < self.epoch_min {
            return Err(TrustError::EpochBelow { found: read.head.epoch, min: self.epoch_min });
        }
        self.check_age(read.signature.as_ref(), now)
    }

    /// Checks that a head that was accepted is not too old by now.
    ///
    /// # Errors
    /// [`TrustError::TooOld`] or [`TrustError::Future`].
    pub fn check_age(&self, signature: Option<&HeadSignature>, now: Timestamp) -> Result<(), TrustError> {
        let Some(signature) = signature.filter(|_| self.is_required()) else { return Ok(()) };
        let ahead = signature.signed_at.since(now);
        if ahead > AHEAD_MAX {
            return Err(TrustError::Future { ahead });
        }
        let age = now.since(signature.signed_at);
        match self.head_age_max {
            Some(max) if age > max => Err(TrustError::TooOld { age, max }),
            _ => Ok(()),
        }
    }

    /// Checks the manifest of a head that was accepted: number 0 is that of its newest snapshot, the others are those before it,
    /// in the head's order.
    ///
    /// # Errors
    /// [`TrustError::WrongManifest`].
    pub fn check_manifest(&self, signature: Option<&HeadSignature>, number: usize, manifest: &[u8]) -> Result<(), TrustError> {
        if !self.is_required() {
            return Ok(());
        }
        let expected = signature.and_then(|signature| signature.digests.get(number)).copied();
        let found = crypto::digest(manifest);
        if expected == Some(found) { Ok(()) } else { Err(TrustError::WrongManifest { expected, found }) }
    }

    /// Checks a page of a manifest that was accepted: `value` is the page with the path behind it, as a key-value store has it. That
    /// it is the page that was asked for is what [`PageRef::verify`] checks.
    ///
    /// # Errors
    /// [`TrustError::PathLength`] or [`TrustError::WrongRoot`].
    pub fn check_page(&self, value: &[u8], page: &PageRef<'_>, key: &PageKey, segment: &Segment) -> Result<(), TrustError> {
        if !self.is_required() {
            return Ok(());
        }
        let path = value.get(page.bytes().len()..).unwrap_or_default();
        tree::check_path(page.bytes(), path, key.bucket, segment.bucket_count, &segment.root)
    }

    /// Whether a head is to take the place of the one that is served from: it has a later epoch, or is the same and was signed
    /// later.
    pub fn is_news(&self, held: &SignedHead, found: &SignedHead) -> bool {
        let signed_at = |head: &SignedHead| head.signature.as_ref().map(|signature| signature.signed_at);
        let signed_anew = self.is_required()
            && held.head.epoch == found.head.epoch
            && held.head.snapshot == found.head.snapshot
            && signed_at(held) < signed_at(found);
        held.head.epoch < found.head.epoch || signed_anew
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSigned { trusted } => write!(f, "the head is not signed; {}", Keys(trusted)),
            Self::UntrustedKey { found, trusted } => {
                write!(f, "the head is signed with key {found}, which is not trusted; {}", Keys(trusted))
            }
            Self::WrongSignature { key } => write!(f, "the head's signature is not one of key {key}, which it names"),
            Self::ManifestCount { expected, found } => {
                write!(f, "the head names {expected} manifests, {found} are signed")
            }
            Self::TooOld { age, max } => write!(
                f,
                "the head was signed {} s ago, and at most {} s are accepted; publish again",
                age.seconds(),
                max.seconds()
            ),
            Self::Future { ahead } => {
                write!(f, "the head was signed {} s in the future; check the clocks", ahead.seconds())
            }
            Self::EpochBelow { found, min } => write!(f, "the head has epoch {found}, and the lowest accepted is {min}"),
            Self::WrongManifest { expected: Some(expected), found } => {
                write!(f, "the manifest has the digest {}, signed is {}", Hex(found), Hex(expected))
            }
            Self::WrongManifest { expected: None, found } => {
                write!(f, "the manifest has the digest {}, none is signed for it", Hex(found))
            }
            Self::PathLength { expected, found } => {
                write!(f, "{found} bytes are behind the page, its path has {expected}")
            }
            Self::WrongRoot { expected, found } => {
                write!(f, "page and path lead to the root {}, the signed manifest has {}", Hex(found), Hex(expected))
            }
        }
    }
}

impl core::error::Error for TrustError {}

struct Keys<'a>(&'a [KeyId]);

impl fmt::Display for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("trusted:")?;
        self.0.iter().try_for_each(|key| write!(f, " {key}"))
    }
}

/// The first bytes of a digest, which are enough to compare by eye.
struct Hex<'a>(&'a Digest);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(self.0.get(..8).unwrap_or_default(), f)
    }
}

/// How far clocks may be apart.
const AHEAD_MAX: Span = Span::from_nanos(5 * 60 * NANOS_PER_SECOND);
