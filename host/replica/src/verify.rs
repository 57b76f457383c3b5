//! Checking a whole replica against the keys that its hosts trust.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use mezze_core::{
    HEAD_KEY, KeyId, Manifest, PageKey, PageRef, ReadKey, Segment, SignedHead, SnapshotId, TableSchema, Timestamp, Trust,
};

use crate::origin::named_by;
use crate::publish::Session;
use crate::segments::Segments;
use crate::{Clock, Error, Store, Target, manifest_key};

/// What was found in a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The epoch of the head.
    pub epoch: u64,
    /// The snapshot that it names.
    pub snapshot: SnapshotId,
    /// The key that signed it, and when; `None` where it is not signed.
    pub signed: Option<(KeyId, Timestamp)>,
    /// Manifests that are right, of the newest snapshot and those before it.
    pub manifests: u64,
    /// Pages that are right.
    pub pages: u64,
    /// Their bytes, paths included.
    pub page_bytes: u64,
    /// What is wrong or missing, an object each; of many the first [`FAULTS_MAX`].
    pub faults: Vec<String>,
    /// How many there are.
    pub fault_count: u64,
}

/// Where values come from.
enum Values<'a> {
    Folder(&'a Store, Segments),
    Keys(Session<'a>),
}

/// A page to check, and what it is to be like.
#[derive(Clone)]
struct Wanted {
    key: PageKey,
    segment: Segment,
    schema: Arc<TableSchema>,
}

/// Reads all of a replica, by `clock` within its store's rates, and checks head, manifests and pages as a host would that trusts `trust`.
///
/// # Errors
/// [`Error::NoSnapshot`], [`Error::Format`] or [`Error::Untrusted`] where the head is not one that such a host would open. What
/// is wrong below it is in [`Verified::faults`].
pub async fn verify(target: &Target, trust: &Trust, now: Timestamp, clock: &dyn Clock) -> Result<Verified, Error> {
    let values = match target {
        Target::Folder(store) => Values::Folder(store, Segments::default()),
        Target::Keys(keys) => Values::Keys(Session::new(&**keys, clock, None)),
    };
    let place = target.place();
    let name = |key: &str| format!("{place}/{key}");
    let value = values.read(HEAD_KEY).await?.ok_or_else(|| Error::NoSnapshot { place: place.clone() })?;
    let read = SignedHead::decode(&value).map_err(|source| Error::Format { key: name(HEAD_KEY), source })?;
    trust.check_head(&value, &read, now).map_err(|source| Error::Untrusted { key: name(HEAD_KEY), source })?;
    let mut verified = Verified {
        epoch: read.head.epoch,
        snapshot: read.head.snapshot,
        signed: read.signature.as_ref().map(|signature| (signature.key.id(), signature.signed_at)),
        manifests: 0,
        pages: 0,
        page_bytes: 0,
        faults: Vec::new(),
        fault_count: 0,
    };
    let mut wanted = Vec::new();
    let mut seen = BTreeSet::new();
    for (number, id) in named_by(&read.head).enumerate() {
        let inline = read.head.manifest.as_ref().filter(|_| number == 0);
        let bytes = match inline {
            Some(manifest) => Ok(Some(Bytes::from(manifest.clone()))),
            None => values.read(&manifest_key(id)).await,
        };
        match check_manifest(trust, &read, number, id, bytes) {
            Ok(manifest) => {
                verified.manifests += 1;
                add_pages(&manifest, &mut seen, &mut wanted);
            }
            Err(fault) => verified.fault(format!("{}: {fault}", ReadKey::Manifest(id))),
        }
    }
    let checks = stream::iter(wanted).map(|wanted| {
        let values = &values;
        async move {
            let checked = check_page(values, trust, &wanted).await;
            checked.map_err(|fault| format!("page {}: {fault}", wanted.key))
        }
    });
    let mut checks = checks.buffered(READS_AT_ONCE);
    while let Some(checked) = checks.next().await {
        match checked {
            Ok(bytes) => {
                verified.pages += 1;
                verified.page_bytes += bytes;
            }
            Err(fault) => verified.fault(fault),
        }
    }
    drop(checks);
    Ok(verified)
}

fn check_manifest(
    trust: &Trust,
    read: &SignedHead,
    number: usize,
    id: SnapshotId,
    bytes: Result<Option<Bytes>, Error>,
) -> Result<Manifest, String> {
    let bytes = bytes.map_err(|error| error.to_string())?.ok_or("it is missing")?;
    trust.check_manifest(read.signature.as_ref(), number, &bytes).map_err(|error| error.to_string())?;
    let found = Manifest::id_of(&bytes);
    if found != id {
        return Err(format!("it is manifest {found}"));
    }
    Manifest::decode(&bytes).map_err(|error| error.to_string())
}

fn add_pages(manifest: &Manifest, seen: &mut BTreeSet<PageKey>, wanted: &mut Vec<Wanted>) {
    for (table, number) in manifest.tables.iter().zip(0_u16..) {
        let schema = Arc::new(table.schema.clone());
        for segment in table.base.iter().chain(&table.delta) {
            for bucket in 0..segment.bucket_count {
                let key = PageKey::new(segment.id, number, bucket);
                if seen.insert(key) {
                    wanted.push(Wanted { key, segment: segment.clone(), schema: Arc::clone(&schema) });
                }
            }
        }
    }
}

async fn check_page(values: &Values<'_>, trust: &Trust, wanted: &Wanted) -> Result<u64, String> {
    let Wanted { key, segment, schema } = wanted;
    let bytes = values.read_page(*key).await.map_err(|error| error.to_string())?.ok_or("it is missing")?;
    let page = PageRef::verify(&bytes, key, segment.bucket_count, schema).map_err(|error| error.to_string())?;
    trust.check_page(&bytes, &page, key, segment).map_err(|error| error.to_string())?;
    Ok(bytes.len() as u64)
}

impl Values<'_> {
    async fn read(&self, key: &str) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Folder(store, _) => store.read(key).await,
            Self::Keys(keys) => Ok(keys.read(key).await?.map(|value| value.bytes)),
        }
    }

    /// A page with its path.
    async fn read_page(&self, key: PageKey) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Folder(store, segments) => segments.read_with_path(store, key).await.map(|bytes| Some(bytes.into())),
            Self::Keys(_) => self.read(&key.to_string()).await,
        }
    }
}

impl Verified {
    fn fault(&mut self, fault: String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }
}

/// Faults that are kept.
pub const FAULTS_MAX: usize = 20;
/// Pages that are read at once.
const READS_AT_ONCE: usize = 8;
