//! Publishing to a directory replica.

use mezze_core::{HEAD_KEY, Head, Span, Timestamp};
use mezze_replica::{Error, Origin, Publish, Store};

use crate::faults::Faulty;
use crate::{at, folder, materialize};

fn publish<'a>(target: &'a Store) -> Publish<'a> {
    Publish { replica: "prod", target, holder: "test", lease: Span::from_seconds(60) }
}

fn clock() -> Timestamp {
    at(1_000)
}

async fn served(target: &Store) -> Option<Head> {
    let bytes = target.read(HEAD_KEY).await.expect("it can be read")?;
    let head = Head::decode(&bytes).expect("a head is whole");
    for snapshot in std::iter::once(head.snapshot).chain(head.previous.iter().map(|previous| previous.snapshot)) {
        let key = mezze_replica::manifest_key(snapshot);
        let manifest = mezze_core::Manifest::decode(&target.require(&key).await.expect("named, so there")).expect("it is whole");
        for segment in manifest.segments() {
            let bytes = target.require(&mezze_replica::segment_key(segment.id, 0)).await.expect("named, so there");
            assert_eq!(bytes.len(), 100_000, "named, so whole");
        }
    }
    Some(head)
}

#[tokio::test]
async fn only_what_is_missing_or_damaged_is_written() {
    let (_a, store) = folder();
    let (_b, target) = folder();
    let origin = Origin::new(store);
    let nothing = publish(&target).run(&origin, &clock).await.expect_err("there is nothing to publish");
    assert!(matches!(nothing, Error::NoSnapshot { .. }));
    materialize(&origin, 1).await;
    let report = publish(&target).run(&origin, &clock).await.expect("it works");
    assert_eq!((report.epoch_before, report.objects_written, report.objects_present), (None, 2, 0));
    assert_eq!(served(&target).await.map(|head| head.epoch), Some(1));
    materialize(&origin, 2).await;
    let report = publish(&target).run(&origin, &clock).await.expect("it works");
    assert_eq!((report.epoch_before, report.record.epoch, report.objects_written), (Some(1), 2, 2));
    assert_eq!(served(&target).await.expect("there is one").previous.len(), 1);
    let again = publish(&target).run(&origin, &clock).await.expect("it works");
    assert_eq!((again.objects_written, again.objects_present, again.bytes_written), (0, 2, 0));

    let segment = target.list("s").await.expect("it is listed").pop().expect("there are some").key;
    let mut damaged = target.require(&segment).await.expect("it is there").to_vec();
    damaged[500] ^= 1;
    target.replace(&segment, damaged).await.expect("it is written");
    assert_eq!(publish(&target).run(&origin, &clock).await.expect("it works").objects_written, 1);
    assert_eq!(
        origin.publish_records().await.expect("it is read"),
        [publish(&target).run(&origin, &clock).await.expect("it works").record].map(|mut record| {
            record.fence -= 1;
            record
        })
    );
}

#[tokio::test]
async fn ended_anywhere_the_replica_serves_old_or_new_and_the_next_publish_goes_on() {
    for changes in 0..8 {
        let (_a, store) = folder();
        let (_b, target) = folder();
        let origin = Origin::new(store.clone());
        materialize(&origin, 1).await;
        publish(&target).run(&origin, &clock).await.expect("it works");
        materialize(&origin, 2).await;
        let (dying, _) = Faulty::over(&target, changes);
        let result = publish(&dying).run(&origin, &clock).await;
        let epoch = served(&target).await.map(|head| head.epoch);
        assert_eq!(epoch, Some(if result.is_ok() { 2 } else { 1 }), "after {changes} changes");
        publish(&target).run(&origin, &clock).await.expect("it goes on");
        assert_eq!(served(&target).await.map(|head| head.epoch), Some(2));
    }
}

#[tokio::test]
async fn a_publisher_that_dies_holds_up_the_next_only_until_its_lease_ends() {
    let (_a, store) = folder();
    let (_b, target) = folder();
    let origin = Origin::new(store.clone());
    materialize(&origin, 1).await;
    let (dying, _) = Faulty::over(&store, 2);
    publish(&target).run(&Origin::new(dying), &clock).await.expect_err("it dies with the lease in hand");
    let held = publish(&target).run(&origin, &clock).await.expect_err("the lease runs");
    assert!(matches!(held, Error::Held { .. }), "{held}");
    publish(&target).run(&origin, &|| at(2_000)).await.expect("the lease ended");
}

#[tokio::test]
async fn a_replica_of_another_origin_is_left_alone() {
    let (_a, store) = folder();
    let (_b, other) = folder();
    let (_c, target) = folder();
    let (origin, other) = (Origin::new(store), Origin::new(other));
    materialize(&origin, 1).await;
    materialize(&other, 2).await;
    publish(&target).run(&origin, &clock).await.expect("it works");
    let refused = publish(&target).run(&other, &clock).await.expect_err("it belongs to another");
    assert!(refused.to_string().ends_with("it belongs to another origin"), "{refused}");
}
