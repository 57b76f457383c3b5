//! Several who publish to one replica: one at a time, and none over another's head.

use std::sync::{Arc, Mutex, PoisonError};

use mezze_core::HEAD_KEY;
use mezze_replica::Error;

use crate::places::Place;
use crate::vendors::cloudflare::Cloudflare;
use crate::vendors::fastly::Fastly;
use crate::world::{LEASE_SECONDS, World};
use crate::wrapped::{Keys, What, target};

#[tokio::test]
async fn of_two_at_a_time_one_publishes_and_the_other_hears_who() {
    let world = World::at(1);
    let cloudflare = Cloudflare::start(&world.clock.0);
    let place = Place::cloudflare(&cloudflare);
    let (slow, gate) = Keys::of(&place.target, &world.clock.0).gated();
    let (_, slow) = target(slow);
    let (first, second) = (world.publisher("first"), world.publisher("second"));
    let rival = async {
        gate.arrived.notified().await;
        let calls = cloudflare.calls().len();
        let held = second.run(&world.origin, &place.target).await.expect_err("the lease is held");
        assert!(matches!(&held, Error::Held { holder, .. } if holder == "first"), "{held}");
        assert_eq!(cloudflare.calls().len(), calls, "whoever has no lease does not even look");
        gate.permits.add_permits(1_000);
    };
    let (done, ()) = tokio::join!(first.run(&world.origin, &slow), rival);
    assert_eq!(done.expect("it works").record.epoch, 1);
    let watcher = world.watcher(place.sees.clone());
    assert_eq!(watcher.look(), Some(1));
    second.run(&world.origin, &place.target).await.expect("the lease was given back");
}

#[tokio::test]
async fn who_was_away_for_longer_than_the_lease_writes_nothing_any_more() {
    let world = World::at(1);
    let cloudflare = Cloudflare::start(&world.clock.0);
    let place = Place::cloudflare(&cloudflare);
    world.publish(&place.target).await.expect("it works");
    world.bring(2);
    let watcher = world.watcher(place.sees.clone());
    // One call at a time, of which the lease is lost in the first.
    let single = Keys::of(&place.target, &world.clock.0).with_limits(|limits| (limits.batch_keys, limits.in_flight) = (1, 1));
    let (slow, gate) = single.gated();
    let (slow_keys, slow) = target(slow.watched_by(&watcher));
    let (first, second) = (world.publisher("first"), world.publisher("second"));
    let rival = async {
        gate.arrived.notified().await;
        world.clock.pass(LEASE_SECONDS);
        world.bring(3);
        second.run(&world.origin, &place.target).await.expect("the lease has ended");
        assert_eq!(watcher.look(), Some(3));
        gate.permits.add_permits(1_000);
    };
    let (done, ()) = tokio::join!(first.run(&world.origin, &slow), rival);
    let lost = done.expect_err("its lease has ended");
    assert!(matches!(lost, Error::Conflict { .. }), "{lost}");
    // The batch that was under way; its pages are those of their keys whoever writes them.
    let heads = slow_keys.writes().iter().filter(|made| made.what == What::Replace).count();
    assert_eq!((slow_keys.writes().len(), heads), (1, 0));
    assert_eq!(watcher.look(), Some(3));
}

#[tokio::test]
async fn fastly_keeps_the_head_that_someone_else_wrote_in_between() {
    let world = World::at(1);
    let fastly = Fastly::start(&world.clock.0);
    let place = Place::fastly(&fastly);
    // Before there is a head, and where there is one.
    for epoch in 1..=2 {
        world.bring(epoch);
        let other = fastly.clone();
        let foreign = move |_: &mezze_replica::Entry| other.insert(HEAD_KEY, format!("another's {epoch}"));
        let (keys, rivalled) = target(Keys::of(&place.target, &world.clock.0).before_head(foreign));
        let conflict = world.publish(&rivalled).await.expect_err("someone else was first");
        assert!(matches!(conflict, Error::Conflict { .. }), "{conflict}");
        assert_eq!(keys.writes().iter().filter(|made| made.what == What::Replace).count(), 1, "it is not tried again");
        let kept = fastly.value(HEAD_KEY).expect("it is there");
        assert_eq!(kept, format!("another's {epoch}"));
        // What is no head of anyone is replaced.
        world.publish(&place.target).await.expect("it works");
        assert_eq!(world.watcher(place.sees.clone()).look(), Some(epoch));
        world.clock.pass(LEASE_SECONDS);
    }
}

/// The reply to a head's write is lost, and the repeat finds its own write.
#[tokio::test]
async fn a_head_whose_reply_was_lost_is_no_conflict() {
    let world = World::at(1);
    let fastly = Fastly::start(&world.clock.0);
    let place = Place::fastly(&fastly);
    for epoch in 1..=2 {
        world.bring(epoch);
        let (clone, planned) = (fastly.clone(), Arc::new(Mutex::new(false)));
        let cut = move |_: &mezze_replica::Entry| {
            use crate::vendors::faults::{Fault, When, Work};
            let mut planned = planned.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::replace(&mut planned, true) {
                clone.plan(When::Call(clone.calls().len() as u64 + 1), Fault::ConnectionCut(Work::Done));
            }
        };
        let (keys, cut) = target(Keys::of(&place.target, &world.clock.0).before_head(cut));
        let report = world.publish(&cut).await.expect("it works");
        assert_eq!(report.calls.repeated, 1, "{:?}", fastly.calls());
        assert_eq!(keys.writes().iter().filter(|made| made.what == What::Replace).count(), 2);
        assert_eq!(world.watcher(place.sees.clone()).look(), Some(epoch));
        world.clock.pass(LEASE_SECONDS);
    }
}
