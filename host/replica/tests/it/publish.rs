//! Publishing to a directory replica.

use std::sync::Arc;

use mezze_core::{Audience, HEAD_KEY, Head, SignedHead, Span};
use mezze_replica::{Error, Origin, Pin, Publish, PublishReport, Replica, Signer, Store, Target};

use crate::faults::Faulty;
use crate::{TestClock, at, folder, materialize};

async fn publish(target: &Store, origin: &Origin) -> Result<PublishReport, Error> {
    publish_at(target, origin, &TestClock::at(1_000)).await
}

async fn publish_at(target: &Store, origin: &Origin, clock: &TestClock) -> Result<PublishReport, Error> {
    publish_signed(target, origin, clock, None).await
}

async fn publish_signed(
    target: &Store,
    origin: &Origin,
    clock: &TestClock,
    signer: Option<&Signer>,
) -> Result<PublishReport, Error> {
    let target = Target::Folder(target.clone());
    let replica = Replica { name: "prod".to_owned(), target, audience: Audience::Server };
    Publish { lease: Span::from_seconds(60), signer, ..Publish::to(&replica, "test", clock) }.run(origin).await
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
    let nothing = publish(&target, &origin).await.expect_err("there is nothing to publish");
    assert!(matches!(nothing, Error::NoSnapshot { .. }));
    materialize(&origin, 1).await;
    let report = publish(&target, &origin).await.expect("it works");
    assert_eq!((report.epoch_before, report.objects_written, report.objects_present), (None, 3, 0));
    assert_eq!(served(&target).await.map(|head| head.epoch), Some(1));
    materialize(&origin, 2).await;
    let report = publish(&target, &origin).await.expect("it works");
    assert_eq!((report.epoch_before, report.record.epoch, report.objects_written), (Some(1), 2, 3));
    assert_eq!(served(&target).await.expect("there is one").previous.len(), 1);
    let again = publish(&target, &origin).await.expect("it works");
    assert_eq!((again.objects_written, again.objects_present, again.bytes_written), (0, 3, 0));

    let segment = target.list("s").await.expect("it is listed").pop().expect("there are some").key;
    let mut damaged = target.require(&segment).await.expect("it is there").to_vec();
    damaged[500] ^= 1;
    target.replace(&segment, damaged).await.expect("it is written");
    assert_eq!(publish(&target, &origin).await.expect("it works").objects_written, 1);
    assert_eq!(
        origin.publish_records().await.expect("it is read"),
        [publish(&target, &origin).await.expect("it works").record].map(|mut record| {
            record.fence -= 1;
            record
        })
    );
}

#[tokio::test]
async fn ended_anywhere_the_replica_serves_old_or_new_and_the_next_publish_goes_on() {
    for changes in 0..9 {
        let (_a, store) = folder();
        let (_b, target) = folder();
        let origin = Origin::new(store.clone());
        materialize(&origin, 1).await;
        publish(&target, &origin).await.expect("it works");
        materialize(&origin, 2).await;
        let (dying, _) = Faulty::over(&target, changes);
        let result = publish(&dying, &origin).await;
        let epoch = served(&target).await.map(|head| head.epoch);
        assert_eq!(epoch, Some(if result.is_ok() { 2 } else { 1 }), "after {changes} changes");
        publish(&target, &origin).await.expect("it goes on");
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
    publish(&target, &Origin::new(dying)).await.expect_err("it dies with the lease in hand");
    let held = publish(&target, &origin).await.expect_err("the lease runs");
    assert!(matches!(held, Error::Held { .. }), "{held}");
    publish_at(&target, &origin, &TestClock::at(2_000)).await.expect("the lease ended");
}

#[tokio::test]
async fn a_replica_of_another_origin_is_left_alone() {
    let (_a, store) = folder();
    let (_b, other) = folder();
    let (_c, target) = folder();
    let (origin, other) = (Origin::new(store), Origin::new(other));
    materialize(&origin, 1).await;
    materialize(&other, 2).await;
    publish(&target, &origin).await.expect("it works");
    let refused = publish(&target, &other).await.expect_err("it belongs to another");
    assert!(refused.to_string().ends_with("it belongs to another origin"), "{refused}");
}

#[tokio::test]
async fn an_object_that_takes_longer_than_the_lease_is_copied() {
    let (_a, store) = folder();
    let (_b, target) = folder();
    let clock = Arc::new(TestClock::at(1_000));
    let origin = Origin::new(Faulty::slow(&store, &clock, Span::from_seconds(25)));
    materialize(&origin, 1).await;
    let target = Faulty::slow(&target, &clock, Span::from_seconds(25));
    publish_at(&target, &origin, &clock).await.expect("each chunk keeps the lease");
    publish_at(&target, &origin, &clock).await.expect("and so does each that is compared");
    assert_eq!(served(&target).await.map(|head| head.epoch), Some(1));
}

#[tokio::test]
async fn a_pinned_replica_is_only_signed_anew() {
    let (_a, store) = folder();
    let (_b, target) = folder();
    let origin = Origin::new(store);
    let signer = Signer::generate().expect("there is randomness");
    materialize(&origin, 1).await;
    publish_signed(&target, &origin, &TestClock::at(1_000), Some(&signer)).await.expect("it works");
    origin.set_pin("prod", Some(Pin::new(1, at(1_000), "test".to_owned()))).await.expect("it is written");
    materialize(&origin, 2).await;
    let signed_at = async || {
        let head = SignedHead::decode(&target.require(HEAD_KEY).await.expect("it is there")).expect("it is whole");
        assert_eq!(head.head.epoch, 1, "it is pinned");
        head.signature.expect("it is signed").signed_at
    };
    let refused = publish_signed(&target, &origin, &TestClock::at(1_100), Some(&signer)).await.expect_err("it is pinned");
    assert!(refused.to_string().contains("pinned to epoch 1"), "{refused}");
    assert_eq!(signed_at().await, at(1_000));
    publish_signed(&target, &origin, &TestClock::at(2_000), Some(&signer)).await.expect("its signature has grown old");
    assert_eq!(signed_at().await, at(2_000));
}

#[tokio::test]
async fn a_replica_does_not_go_back_to_a_pin_that_a_publish_overtook() {
    let (_a, store) = folder();
    let (_b, target) = folder();
    let origin = Origin::new(store);
    materialize(&origin, 1).await;
    materialize(&origin, 2).await;
    publish_signed(&target, &origin, &TestClock::at(1_000), None).await.expect("it works");
    // Set by somebody who had seen what was served before.
    origin.set_pin("prod", Some(Pin::new(1, at(999), "test".to_owned()))).await.expect("it is written");
    // Nor where the store still shows the head before.
    for shown in [true, false] {
        if !shown {
            target.delete(HEAD_KEY).await.expect("it is there");
        }
        let refused = publish_signed(&target, &origin, &TestClock::at(5_000), None).await.expect_err("it would go back");
        assert!(refused.to_string().contains("pinned to epoch 1") && refused.to_string().contains("given epoch 2"), "{refused}");
        assert_eq!(served(&target).await.map(|head| head.epoch), shown.then_some(2));
    }
    origin.set_pin("prod", Some(Pin::new(2, at(6_000), "test".to_owned()))).await.expect("it is written");
    publish_signed(&target, &origin, &TestClock::at(9_000), None).await.expect("it is pinned where it was");
    assert_eq!(served(&target).await.map(|head| head.epoch), Some(2));
}
