//! Where snapshots live: origins, replicas, and a reader of both.

mod cache;
mod error;
pub use error::Error;
mod layout;
pub use layout::{created_key, manifest_key, segment_key};
mod keys;
pub use keys::ReplicaKeys;
mod lease;
pub use lease::Lease;
mod local;
pub use local::FolderLock;
mod origin;
pub use origin::{NewEpoch, Origin};
mod prune;
pub use prune::{ForgetStatus, Prune, PruneMode, PruneReport};
mod publish;
pub use publish::{Publish, PublishReport};
mod reader;
pub use reader::{PageFault, Reader, read_head};
mod record;
pub use record::{EpochRecord, ForgetRecord, PublishRecord, Reason};
mod remote;
mod segments;
mod spin;
pub use spin::write_spin_store;
mod store;
pub use store::{Backend, ObjectStat, ObjectWriter, Store};
