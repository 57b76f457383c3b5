//! Where snapshots live: origins, replicas, and a reader of both.

mod cache;
mod clock;
pub use clock::{Clock, SystemClock};
mod error;
pub use error::Error;
mod layout;
pub use layout::{created_key, manifest_key, segment_key, tree_key};
mod host;
pub use host::{Formats, Host, HostInfo, HostState, Probed, Trust as HostTrust};
mod keys;
pub use keys::{KeySize, ReplicaKeys};
mod lease;
pub use lease::Lease;
mod local;
pub use local::FolderLock;
mod origin;
pub use origin::{NewEpoch, Origin};
mod prune;
pub use prune::{ForgetStatus, Prune, PruneMode, PruneReport, Replica};
mod publish;
pub use publish::{Calls, Estimate, Progress, Publish, PublishPlan, PublishReport, Stage, Target};
mod reader;
pub use reader::{PageFault, Reader, read_head};
mod record;
pub use record::{EpochRecord, ForgetRecord, Pin, PublishRecord, Reason, Retired};
mod remote;
mod segments;
mod sign;
pub use sign::{ParseSecretError, Signer};
mod store;
mod target;
pub use store::{Backend, ObjectStat, ObjectWriter, Store};
pub use target::{
    CloudflareKv, Entry, FastlyKv, KeyList, KeyValue, ListedKey, ListingKind, NotDone, ObjectKeys, Price, RedisKeys, SpinKeys,
    TargetLimits, Value,
};
mod tree;
pub use tree::{read_tree, tree_bytes};
mod verify;
pub use verify::{FAULTS_MAX, Verified, verify};
