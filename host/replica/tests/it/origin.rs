//! Epochs, heads, rollback and prune.

use std::sync::atomic::Ordering;

use mezze_core::{Audience, HEAD_KEY, Head, Span};
use mezze_replica::{
    Error, FolderLock, ForgetRecord, Lease, NewEpoch, Origin, Prune, PruneMode, Reason, Replica, Target, manifest_key,
};

use crate::faults::Faulty;
use crate::{TestClock, at, folder, materialize, write_objects};

async fn head(origin: &Origin) -> Option<Head> {
    let bytes = origin.store().read(HEAD_KEY).await.expect("it can be read")?;
    Some(Head::decode(&bytes).expect("a head is whole"))
}

#[tokio::test]
async fn an_epoch_is_given_once() {
    let (_folder, store) = folder();
    let origin = Origin::new(store);
    assert_eq!(origin.latest().await, Ok(None));
    assert_eq!(materialize(&origin, 1).await, 1);
    let snapshot = write_objects(&origin, 2).await;
    let new = NewEpoch { after: Some(1), parent: Some(1), snapshot, reason: Reason::Materialize, issued_at: at(2) };
    let first = origin.commit(new).await.expect("it is the first");
    let other = NewEpoch { snapshot: write_objects(&origin, 3).await, ..new };
    let second = origin.commit(other).await.expect_err("it is the second");
    assert!(second.is_conflict());
    let place = origin.store().place();
    assert_eq!(
        second.to_string(),
        format!("epoch 2 of {place} was taken by another run at the same time; run the command again")
    );
    assert_eq!(origin.latest().await, Ok(Some(first)));
    assert_eq!(head(&origin).await.expect("there is one").snapshot, snapshot);
}

#[tokio::test]
async fn a_head_that_was_not_written_is_written_by_the_next() {
    let (_folder, store) = folder();
    let origin = Origin::new(store.clone());
    materialize(&origin, 1).await;
    let snapshot = write_objects(&origin, 2).await;
    let (dying, _) = Faulty::over(&store, 1);
    let new = NewEpoch { after: Some(1), parent: Some(1), snapshot, reason: Reason::Materialize, issued_at: at(2) };
    Origin::new(dying).commit(new).await.expect_err("it dies between record and head");
    assert_eq!(head(&origin).await.expect("there is one").epoch, 1);
    let fresh = origin.refresh_head().await.expect("it works").expect("there is one");
    assert_eq!((fresh.epoch, fresh.snapshot), (2, snapshot));
    assert_eq!(head(&origin).await, Some(fresh));
}

#[tokio::test]
async fn a_damaged_head_is_replaced() {
    let (_folder, store) = folder();
    let origin = Origin::new(store.clone());
    materialize(&origin, 1).await;
    let good = head(&origin).await;
    store.replace(HEAD_KEY, "nonsense").await.expect("it is written");
    origin.refresh_head().await.expect("it works");
    assert_eq!(head(&origin).await, good);
}

#[tokio::test]
async fn heads_name_what_came_before_but_not_what_was_rolled_back() {
    let (_folder, store) = folder();
    let origin = Origin::new(store);
    for number in 1..=4 {
        materialize(&origin, number).await;
    }
    let previous = |head: Head| head.previous.iter().map(|previous| previous.epoch).collect::<Vec<_>>();
    assert_eq!(previous(head(&origin).await.expect("there is one")), [3, 2]);
    let back = origin.rollback(None, at(9)).await.expect("there is one before");
    assert_eq!((back.epoch, back.parent, back.reason), (5, Some(3), Reason::Rollback));
    assert_eq!(previous(head(&origin).await.expect("there is one")), [2, 1], "epoch 4 is what the rollback went away from");
    let back = origin.rollback(None, at(9)).await.expect("there is one before");
    assert_eq!((back.epoch, back.parent), (6, Some(2)));
    let forward = origin.rollback(Some(4), at(9)).await.expect("it is still there");
    assert_eq!((forward.epoch, head(&origin).await.expect("there is one").snapshot), (7, forward.snapshot));
}

#[tokio::test]
async fn rollback_refuses_what_it_cannot_serve() {
    let (_folder, store) = folder();
    let origin = Origin::new(store.clone());
    let message = |result: Result<_, Error>| result.map(|_: mezze_replica::EpochRecord| ()).expect_err("refused").to_string();
    assert!(message(origin.rollback(None, at(9)).await).ends_with("has no snapshot yet; run `mezze materialize` first"));
    materialize(&origin, 1).await;
    assert_eq!(message(origin.rollback(None, at(9)).await), "there is no snapshot before that of epoch 1");
    assert_eq!(message(origin.rollback(Some(7), at(9)).await), "there is no epoch 7 to go back to; there are 1");
    assert!(message(origin.rollback(Some(1), at(9)).await).starts_with("epoch 1 has the snapshot that is served now: "));
    materialize(&origin, 2).await;
    let snapshot = write_objects(&origin, 3).await;
    let new = NewEpoch { after: Some(2), parent: Some(2), snapshot, reason: Reason::Forget, issued_at: at(3) };
    origin.commit(new).await.expect("nobody else is there");
    assert_eq!(
        message(origin.rollback(Some(1), at(9)).await),
        "epoch 1 would serve entities again that were forgotten in epoch 3; materialize instead"
    );
    assert!(head(&origin).await.expect("there is one").previous.is_empty(), "what was forgotten must not answer again");
}

#[tokio::test]
async fn damaged_records_are_refused() {
    let (_folder, store) = folder();
    let origin = Origin::new(store.clone());
    materialize(&origin, 1).await;
    let key = "epochs/00000000000000000001";
    let good = store.require(key).await.expect("it is there").to_vec();
    for bit in 0..good.len() * 8 {
        let mut damaged = good.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        store.replace(key, damaged).await.expect("it is written");
        // A flip within the whitespace at the end changes nothing that is read.
        if bit / 8 < good.len() - 1 {
            assert!(matches!(origin.latest().await, Err(Error::Corrupt { .. })), "bit {bit}");
        }
    }
    let manifest = store.list("m").await.expect("it is listed")[0].key.clone();
    let mut damaged = store.require(&manifest).await.expect("it is there").to_vec();
    damaged[40] ^= 1;
    store.replace(&manifest, damaged).await.expect("it is written");
    store.replace(key, good).await.expect("it is written");
    let latest = origin.require_latest().await.expect("it is whole");
    assert!(matches!(origin.manifest(latest.snapshot).await, Err(Error::Corrupt { .. })));
}

#[tokio::test]
async fn leases_fence_off_who_was_away_too_long() {
    let (_folder, store) = folder();
    let origin = Origin::new(store);
    let minute = Span::from_seconds(60);
    let mut first = Lease::take(&origin, "prod", "a", at(0), minute).await.expect("it is free");
    let held = Lease::take(&origin, "prod", "b", at(59), minute).await.expect_err("it is held");
    assert_eq!(held.to_string(), "replica prod is in use by a until 1970-01-01T00:01:00Z; wait, or stop it first");
    first.renew(at(59), minute).await.expect("it still runs");
    Lease::take(&origin, "prod", "b", at(118), minute).await.expect_err("it was renewed");
    Lease::take(&origin, "test", "b", at(0), minute).await.expect("another replica is another lease");
    let second = Lease::take(&origin, "prod", "b", at(119), minute).await.expect("it ended");
    assert_eq!(second.fence(), 2);
    assert!(first.check(at(100)).await.expect_err("there is a later one").is_conflict());
    second.check(at(120)).await.expect("it holds");
    assert!(second.check(at(179)).await.is_err(), "it ended");
    second.release().await.expect("it is given back");
    let third = Lease::take(&origin, "prod", "c", at(121), minute).await.expect("it was given back");
    assert_eq!(third.fence(), 3, "numbers are given out once");
}

#[tokio::test]
async fn prune_keeps_what_is_served_or_named() {
    let (_folder, store) = folder();
    let origin = Origin::new(store.clone());
    for number in 1..=6 {
        materialize(&origin, number).await;
    }
    write_objects(&origin, 9).await;
    let all = store.list("s").await.expect("it is listed");
    let clock = TestClock::at(100);
    let mut prune = Prune::new(&clock, "test");
    prune.mode = PruneMode::DryRun;
    let planned = prune.run(&origin).await.expect("it works");
    assert_eq!(store.list("s").await.expect("it is listed"), all, "a dry run removes nothing");
    prune.mode = PruneMode::Remove;
    let done = prune.run(&origin).await.expect("it works");
    assert_eq!(done, planned);
    assert_eq!(store.list("s").await.expect("it is listed").len(), 3);
    assert_eq!(store.list("m").await.expect("it is listed").len(), 3);
    assert_eq!(done.bytes_removed, done.removed.iter().map(|(_, object)| object.size).sum::<u64>());
    assert_eq!(done.segment_bytes_kept, 300_000);
    origin.rollback(None, at(101)).await.expect("what heads name can be gone back to");
    origin.rollback(Some(3), at(101)).await.expect_err("it was pruned");
    assert_eq!(materialize(&origin, 7).await, 8, "epochs go on");
}

#[tokio::test]
async fn prune_says_when_forgotten_rows_are_gone() {
    let (_folder, store) = folder();
    let origin = Origin::new(store.clone());
    materialize(&origin, 1).await;
    let segments = vec![mezze_core::SegmentId::from_bytes([1; 16])];
    let snapshot = write_objects(&origin, 2).await;
    let new = NewEpoch { after: Some(1), parent: Some(1), snapshot, reason: Reason::Forget, issued_at: at(3) };
    origin.write_forget_record(&ForgetRecord::new(2, 1, segments.clone())).await.expect("it is written");
    let (_held, other) = folder_with_copy(&store, 1).await;
    origin.commit(new).await.expect("nobody else is there");
    let target = Target::Folder(other.clone());
    let replicas = [Replica { name: "prod".to_owned(), target, audience: Audience::Server }];
    let clock = TestClock::at(100);
    let mut prune = Prune::new(&clock, "test");
    prune.replicas = &replicas;
    let report = prune.run(&origin).await.expect("it works");
    assert_eq!(report.forgets[0].remaining, [(other.place(), segments[0])], "the replica still serves it");
    std::fs::remove_dir_all(other.local_folder().expect("it is a folder").join("s")).expect("it is removed");
    let report = prune.run(&origin).await.expect("it works");
    assert!(report.forgets[0].remaining.is_empty());
    assert_eq!(origin.forget_records().await, Ok(vec![]), "what is gone need not be followed");
}

/// A replica that serves what the origin serves now.
async fn folder_with_copy(origin: &mezze_replica::Store, number: u8) -> (tempfile::TempDir, mezze_replica::Store) {
    let (held, store) = folder();
    for key in [HEAD_KEY.to_owned(), mezze_replica::segment_key(mezze_core::SegmentId::from_bytes([number; 16]), 0)] {
        store.replace(&key, origin.require(&key).await.expect("it is there")).await.expect("it is written");
    }
    let head = Head::decode(&store.require(HEAD_KEY).await.expect("it is there")).expect("it is whole");
    let key = manifest_key(head.snapshot);
    store.replace(&key, origin.require(&key).await.expect("it is there")).await.expect("it is written");
    (held, store)
}

#[tokio::test]
async fn builds_and_prunes_keep_out_of_each_others_way() {
    let (_folder, store) = folder();
    let origin = Origin::new(store.clone());
    materialize(&origin, 1).await;
    let build = FolderLock::build(&store).expect("it is free");
    let another = FolderLock::build(&store).expect("many may build");
    let refused = Prune::new(&TestClock::at(1), "test").run(&origin).await.expect_err("builds run");
    assert!(refused.is_conflict(), "{refused}");
    drop((build, another));
    Prune::new(&TestClock::at(1), "test").run(&origin).await.expect("it is free");
}

#[tokio::test]
async fn a_commit_that_fails_anywhere_leaves_old_or_new() {
    for changes in 0..4 {
        let (_folder, store) = folder();
        let origin = Origin::new(store.clone());
        materialize(&origin, 1).await;
        let before = head(&origin).await;
        let (dying, left) = Faulty::over(&store, changes);
        let dying = Origin::new(dying);
        let manifest = dying.write_manifest(&crate::manifest(2)).await;
        if let Ok(snapshot) = manifest {
            let new = NewEpoch { after: Some(1), parent: Some(1), snapshot, reason: Reason::Materialize, issued_at: at(2) };
            let committed = dying.commit(new).await;
            assert_eq!(committed.is_ok(), left.load(Ordering::SeqCst) >= 0);
        }
        let after = head(&origin).await;
        assert!(after == before || after.as_ref().is_some_and(|head| head.epoch == 2), "after {changes} changes");
        materialize(&origin, 3).await;
        assert!(
            head(&origin)
                .await
                .is_some_and(|head| head.snapshot == mezze_core::Manifest::id_of(&crate::manifest(3).encode().expect("small")))
        );
    }
}
