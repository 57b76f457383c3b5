//! Publishers keep to what a store takes, and write what is missing and nothing else.

use std::collections::BTreeMap;

use mezze_core::{Audience, HEAD_KEY, Span};
use mezze_replica::{CloudflareKv, Signer};

use crate::places::Place;
use crate::vendors::cloudflare::Cloudflare;
use crate::vendors::fastly::Fastly;
use crate::vendors::faults::{At, Fault, Kind, When, Which, Work};
use crate::world::{LEASE_SECONDS, Publisher, Ticks, World, many_pages};
use crate::wrapped::{Keys, Made, What, target};

const SECOND: i64 = 1_000_000_000;

fn cloudflare(clock: &Ticks) -> (Cloudflare, Place) {
    let cloudflare = Cloudflare::start(&clock.0);
    let place = Place::cloudflare(&cloudflare);
    (cloudflare, place)
}

#[tokio::test]
async fn a_publish_of_many_batches_stays_below_the_rate_of_calls() {
    let (world, (_folder, origin)) = (World::at(1), many_pages(400).await);
    let (cloudflare, place) = cloudflare(&world.clock);
    let (keys, target) = target(Keys::of(&place.target, &world.clock.0).with_limits(|limits| limits.batch_keys = 1));
    let publisher = world.publisher("first");
    let plan = publisher.as_publish(&target).plan(&origin).await.expect("it can be planned");
    let planned = cloudflare.calls().len();
    // The plan was another run, which the publish does not know of.
    world.clock.pass(300);
    let began = world.clock.0.now();
    let report = publisher.run(&origin, &target).await.expect("it works");
    let calls = cloudflare.calls();
    assert!(calls.len() > 1_200, "only {} calls", calls.len());
    assert!(calls.iter().all(|call| call.status.is_some_and(|status| status == 200 || status == 404)), "a call was refused");
    assert!(world.clock.0.now() - began >= 300 * SECOND, "they were not spread over two windows");
    let made = &keys.made()[planned..];
    for (first, last) in made.iter().zip(&made[1_200..]) {
        assert!(last.at - first.at >= 300 * SECOND, "more than 1,200 calls in 300 seconds");
    }
    assert_eq!((report.calls.calls, report.calls.repeated), (made.len() as u64, 0));
    assert!(
        plan.estimate.calls >= report.calls.calls && plan.estimate.calls <= report.calls.calls + 20,
        "{plan:?} and then {report:?}"
    );
    assert!(
        plan.estimate.seconds_min > 0 && plan.estimate.seconds_min <= (world.clock.0.now() - began) / SECOND,
        "{}",
        plan.estimate.seconds_min
    );
}

#[tokio::test]
async fn batches_stay_within_keys_and_bytes() {
    let world = World::at(1);
    // Twelve thousand pages, and the vendor's own limits but for a listing that needs no sample of them.
    let (_folder, origin) = many_pages(3_000).await;
    let (cloudflare, place) = cloudflare(&world.clock);
    let report = Publisher { holder: "first", audience: Audience::Server, clock: &world.clock, signer: None }
        .run(&origin, &place.target)
        .await
        .expect("it works");
    let limits = CloudflareKv::limits();
    assert!(report.objects_written > limits.batch_keys as u64, "{} keys fit into one batch", report.objects_written);
    let batches: Vec<_> = cloudflare.calls().into_iter().filter(|call| call.kind == Kind::BulkWrite).collect();
    assert!(batches.iter().all(|call| call.pairs <= 10_000 && call.bytes <= 100_000_000 && call.status == Some(200)));
    assert_eq!(batches.iter().map(|call| call.pairs as u64).sum::<u64>(), report.calls.writes);
}

#[tokio::test]
async fn batches_stay_within_smaller_limits_too() {
    let world = World::at(1);
    let (_, place) = cloudflare(&world.clock);
    let (most_keys, most_bytes) = (4, 2_000);
    let limited = Keys::of(&place.target, &world.clock.0).with_limits(|limits| {
        (limits.batch_keys, limits.batch_bytes) = (most_keys, most_bytes);
    });
    let (keys, target) = target(limited);
    world.publish(&target).await.expect("it works");
    let writes = keys.writes();
    let is_within = |made: &Made| made.keys.len() <= most_keys && (made.bytes <= most_bytes || made.keys.len() == 1);
    assert!(writes.iter().all(|made| made.what == What::Replace || is_within(made)), "{writes:?}");
    assert!(writes.iter().any(|made| made.bytes + 700 > most_bytes), "no batch is nearly full: {writes:?}");
}

/// Whatever fails, no key is written again within the second in which the store takes it once.
#[tokio::test]
async fn no_key_is_written_twice_within_a_second() {
    let world = World::at(1);
    let (cloudflare, place) = cloudflare(&world.clock);
    cloudflare.plan(When::Kind(Kind::BulkWrite, 1), Fault::ConnectionCut(Work::Done));
    cloudflare.plan(When::Kind(Kind::BulkWrite, 2), Fault::Partial(Which::Every(2)));
    cloudflare.plan(When::Kind(Kind::BulkWrite, 3), Fault::ResponseCut(At::Body));
    cloudflare.plan(When::Kind(Kind::BulkWrite, 5), Fault::Status(502));
    cloudflare.plan(When::Kind(Kind::BulkWrite, 6), Fault::TooMany(None));
    cloudflare.plan(When::Kind(Kind::BulkWrite, 8), Fault::ConnectionCut(Work::Done));
    let (keys, target) = target(Keys::of(&place.target, &world.clock.0));
    let watcher = world.watcher(place.sees);
    for epoch in 1..=4 {
        world.bring(epoch);
        world.publish(&target).await.expect("it works");
        assert_eq!(watcher.look(), Some(epoch));
        world.clock.pass(LEASE_SECONDS);
    }
    let mut written: BTreeMap<String, i64> = BTreeMap::new();
    for made in keys.writes() {
        for key in made.keys {
            let before = written.insert(key.clone(), made.at);
            assert!(before.is_none_or(|before| made.at - before >= SECOND), "{key} after {:?} at {}", before, made.at);
        }
    }
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let world = World::at(1);
    let (cloudflare, place) = cloudflare(&world.clock);
    cloudflare.plan(When::Call(1), Fault::TooMany(Some(37)));
    cloudflare.plan(When::Kind(Kind::BulkWrite, 1), Fault::TooMany(Some(211)));
    let (keys, target) = target(Keys::of(&place.target, &world.clock.0));
    let report = world.publish(&target).await.expect("it works");
    assert_eq!(report.calls.repeated, 2);
    let made = keys.made();
    let waits: Vec<i64> =
        made.iter().zip(&made[1..]).filter(|(made, _)| made.failed).map(|(a, b)| (b.at - a.at) / SECOND).collect();
    assert_eq!(waits, [37, 211]);

    let fastly = Fastly::start(&world.clock.0);
    fastly.limit_items(10);
    let place = Place::fastly(&fastly);
    // Another replica of the same name: its record is of no consequence.
    world.publish(&place.target).await.expect("it works");
    assert_eq!(world.watcher(place.sees).look(), Some(1));
}

#[tokio::test]
async fn what_was_not_taken_is_written_again_before_anything_is_looked_at() {
    let world = World::at(1);
    let (cloudflare, fastly) = (Cloudflare::start(&world.clock.0), Fastly::start(&world.clock.0));
    cloudflare.plan(When::Kind(Kind::BulkWrite, 1), Fault::Partial(Which::Every(3)));
    fastly.plan(When::Kind(Kind::BulkWrite, 1), Fault::Partial(Which::Every(3)));
    for place in [Place::cloudflare(&cloudflare), Place::fastly(&fastly)] {
        let (keys, target) = target(Keys::of(&place.target, &world.clock.0));
        world.publish(&target).await.expect("it works");
        let made = keys.made();
        let first = made.iter().position(|made| made.what == What::Write).expect("something is written");
        let missed: Vec<&String> = made[first].keys.iter().skip(2).step_by(3).collect();
        assert_eq!((made[first + 1].what, made[first + 1].keys.iter().collect()), (What::Write, missed));
        assert_eq!(made[first + 2].what, What::List);
        assert_eq!(world.watcher(place.sees).look(), Some(1));
    }
}

#[tokio::test]
async fn what_is_there_is_not_written_again() {
    let world = World::at(1);
    let (cloudflare, place) = cloudflare(&world.clock);
    let (_, target) = target(Keys::of(&place.target, &world.clock.0));
    let first = world.publish(&target).await.expect("it works");
    assert_eq!(first.calls.writes, first.objects_written + 1);
    let counters = cloudflare.counters();
    let again = world.publish(&target).await.expect("it works");
    assert_eq!((again.objects_written, again.calls.writes, again.objects_present), (0, 0, first.objects_written));
    assert_eq!((cloudflare.counters().writes, cloudflare.counters().deletes), (counters.writes, 0));
}

#[tokio::test]
async fn a_small_change_writes_the_pages_of_its_delta_a_manifest_and_the_head() {
    let world = World::at(1);
    let (cloudflare, place) = cloudflare(&world.clock);
    world.publish(&place.target).await.expect("it works");
    for epoch in 2..=3 {
        world.bring(epoch);
        let record = world.origin.require_epoch(epoch).await.expect("it is there");
        let manifest = world.origin.manifest(record.snapshot).await.expect("it is there");
        let deltas = manifest.tables.iter().filter_map(|table| table.delta.as_ref());
        let pages: u64 = deltas.map(|delta| u64::from(delta.bucket_count)).sum();
        let before = cloudflare.counters().writes;
        let report = world.publish(&place.target).await.expect("it works");
        assert_eq!(cloudflare.counters().writes - before, pages + 2, "epoch {epoch}");
        assert_eq!((report.calls.writes, report.objects_written), (pages + 2, pages + 1));
        assert!(pages <= 2 && report.objects_present > 6, "{pages} pages of the deltas, {} others", report.objects_present);
    }
}

#[tokio::test]
async fn heads_follow_each_other_no_closer_than_they_spread() {
    let world = World::at(1);
    let (_cloudflare, place) = cloudflare(&world.clock);
    let (keys, target) = target(Keys::of(&place.target, &world.clock.0));
    for epoch in 1..=4 {
        world.bring(epoch);
        world.publish(&target).await.expect("it works");
    }
    let heads: Vec<i64> = keys.writes().iter().filter(|made| made.keys == [HEAD_KEY]).map(|made| made.at).collect();
    assert_eq!(heads.len(), 4);
    let spread = CloudflareKv::limits().propagation;
    assert_eq!(spread, Span::from_seconds(60));
    for (first, second) in heads.iter().zip(&heads[1..]) {
        assert!(second - first >= spread.nanos(), "{} nanoseconds between two heads", second - first);
    }
}

#[tokio::test]
async fn heads_that_are_only_signed_anew_count_too() {
    let world = World::at(1);
    let (_cloudflare, place) = cloudflare(&world.clock);
    let (keys, target) = target(Keys::of(&place.target, &world.clock.0));
    let signer = Signer::generate().expect("the system has randomness");
    let publisher = Publisher { signer: Some(&signer), ..world.publisher("first") };
    publisher.run(&world.origin, &target).await.expect("it works");
    // The signature has grown old, the snapshot has not; and then there is news.
    world.clock.pass(3_600);
    publisher.run(&world.origin, &target).await.expect("it works");
    world.bring(2);
    publisher.run(&world.origin, &target).await.expect("it works");
    let heads: Vec<i64> = keys.writes().iter().filter(|made| made.keys == [HEAD_KEY]).map(|made| made.at / SECOND).collect();
    assert_eq!(heads.len(), 3);
    assert!(heads[2] - heads[1] >= 60, "{heads:?}");
    assert_eq!(world.watcher(place.sees).look(), Some(2));
}
