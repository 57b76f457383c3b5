//! Whose snapshots a store opens.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use mezze_core::{Manifest, PageKey, PageRef, PublicKey, Segment, SignedHead, Span, Timestamp, Trust};

/// Whom a store trusts, and the head that it has opened. A component runs one call at a time, so nothing is ever borrowed twice.
#[derive(Default)]
pub(crate) struct Trusted {
    whom: RefCell<Whom>,
    /// Before the host has told the time every signature is one of the future.
    now: Cell<Option<Timestamp>>,
}

#[derive(Default)]
enum Whom {
    #[default]
    Everyone,
    Keys(Box<Keys>),
    /// There was to be trust, and it could not be had.
    Nobody,
}

struct Keys {
    trust: Trust,
    /// The head that is open.
    held: Option<SignedHead>,
}

impl Trusted {
    /// Trusts these keys from now on, and nobody where they are none.
    pub(crate) fn set<'a>(
        &self,
        keys: impl Iterator<Item = &'a str>,
        head_age_max_seconds: Option<u32>,
        epoch_min: u64,
    ) -> Result<(), String> {
        let mut whom = self.whom.borrow_mut();
        *whom = Whom::Nobody;
        let parse = |text: &str| text.parse::<PublicKey>().map_err(|error| error.to_string());
        let keys = keys.map(parse).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err("expected public keys, found none".into());
        }
        let mut trust = Trust::new(keys).with_epoch_min(epoch_min);
        trust.head_age_max = head_age_max_seconds.map(|seconds| Span::from_seconds(seconds.into()));
        *whom = Whom::Keys(Box::new(Keys { trust, held: None }));
        Ok(())
    }

    /// What the age of signatures is counted to from now on.
    pub(crate) fn set_now(&self, nanos: i64) {
        self.now.set(Some(Timestamp::from_nanos(nanos)));
    }

    pub(crate) fn decode(value: &[u8]) -> Result<SignedHead, String> {
        SignedHead::decode(value).map_err(|error| error.to_string())
    }

    /// Checks a head that is to be opened, and that it takes nothing back.
    pub(crate) fn check_head(&self, value: &[u8], read: &SignedHead) -> Result<(), String> {
        let whom = self.whom.borrow();
        let Keys { trust, held } = match &*whom {
            Whom::Everyone => return Ok(()),
            Whom::Keys(keys) => &**keys,
            Whom::Nobody => return Err("no key is trusted".into()),
        };
        trust.check_head(value, read, self.now.get().unwrap_or(Timestamp::MIN)).map_err(|error| error.to_string())?;
        match held {
            Some(held) if trust.is_news(read, held) => {
                Err("the head is of an earlier epoch than the one that is open, or was signed earlier".into())
            }
            _ => Ok(()),
        }
    }

    /// Checks the manifest of a head that was accepted.
    pub(crate) fn check_manifest(&self, read: &SignedHead, manifest: &[u8]) -> Result<(), String> {
        let Whom::Keys(keys) = &*self.whom.borrow() else { return Ok(()) };
        let id = Manifest::id_of(manifest);
        let before = read.head.previous.iter().position(|previous| previous.snapshot == id);
        let number = if id == read.head.snapshot { 0 } else { before.map_or(usize::MAX, |number| number + 1) };
        keys.trust.check_manifest(read.signature.as_ref(), number, manifest).map_err(|error| error.to_string())
    }

    /// The head that was accepted is open now.
    pub(crate) fn hold(&self, read: SignedHead) {
        if let Whom::Keys(keys) = &mut *self.whom.borrow_mut() {
            keys.held = Some(read);
        }
    }

    /// Checks that the head that is open may answer still.
    pub(crate) fn check_age(&self, now: Timestamp) -> Result<(), String> {
        let Whom::Keys(keys) = &*self.whom.borrow() else { return Ok(()) };
        let Some(held) = &keys.held else { return Ok(()) };
        keys.trust.check_age(held.signature.as_ref(), now).map_err(|error| error.to_string())
    }

    pub(crate) fn check_page(&self, value: &[u8], page: &PageRef<'_>, key: &PageKey, segment: &Segment) -> Result<(), String> {
        let Whom::Keys(keys) = &*self.whom.borrow() else { return Ok(()) };
        keys.trust.check_page(value, page, key, segment).map_err(|error| format!("page {key}: {error}"))
    }
}
