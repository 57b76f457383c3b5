//! Origins and replicas from the outside.

mod faults;
mod origin;
mod publish;
mod store;

use std::sync::atomic::{AtomicI64, Ordering};

use mezze_core::{Audience, FeatureSchema, KeyColumn, KeyType, ValueType, ViewSchema};
use mezze_core::{Manifest, Segment, SegmentId, SnapshotId, Span, Table, TableSchema, Timestamp};
use mezze_replica::{Clock, NewEpoch, Origin, Reason, Store, segment_key};

/// A folder that goes when the test ends, and a store in it.
fn folder() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::folder(folder.path()).expect("it can be opened");
    (folder, store)
}

/// A manifest of one table whose base is segment number `number`.
fn manifest(number: u8) -> Manifest {
    let features = vec![FeatureSchema::new("f", ValueType::Int64)];
    let schema = TableSchema::new(
        "k",
        vec![KeyColumn::new("k", "k", KeyType::Int)],
        vec![ViewSchema::new("v", Span::ZERO, Audience::Server, features)],
    );
    let mut table = Table::empty(schema);
    let id = SegmentId::from_bytes([number; 16]);
    table.base = Some(Segment { id, bucket_count: 1, row_count: 1, page_bytes: 8, root: [0; 32], time_shifts: vec![Span::ZERO] });
    Manifest {
        project: "p".into(),
        definition_digest: [0; 32],
        input_digest: [number; 32],
        tables: vec![table],
        request_sources: vec![],
        on_demand_views: vec![],
        services: vec![],
    }
}

/// Writes the objects of snapshot number `number`, without an epoch.
async fn write_objects(origin: &Origin, number: u8) -> SnapshotId {
    let mut object = origin.store().begin(&segment_key(SegmentId::from_bytes([number; 16]), 0)).expect("a file");
    object.append(&vec![number; 100_000]).expect("it is written");
    object.finish().await.expect("it is finished");
    let tree = mezze_replica::tree_key(SegmentId::from_bytes([number; 16]), 0);
    origin.store().replace(&tree, vec![number; 32]).await.expect("it is written");
    origin.write_manifest(&manifest(number)).await.expect("it is written")
}

/// Writes snapshot number `number` and makes it the next epoch.
async fn materialize(origin: &Origin, number: u8) -> u64 {
    let snapshot = write_objects(origin, number).await;
    let latest = origin.latest().await.expect("it can be read").map(|record| record.epoch);
    let new = NewEpoch { after: latest, parent: latest, snapshot, reason: Reason::Materialize, issued_at: at(number.into()) };
    origin.commit(new).await.expect("nobody else is there").epoch
}

/// A clock that stands still but when someone sleeps.
#[derive(Debug)]
struct TestClock(AtomicI64);

impl TestClock {
    const fn at(seconds: i64) -> Self {
        Self(AtomicI64::new(seconds * 1_000_000_000))
    }
}

#[async_trait::async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::SeqCst))
    }

    async fn sleep(&self, span: Span) {
        self.0.fetch_add(span.nanos(), Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}
