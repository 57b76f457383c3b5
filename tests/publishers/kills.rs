//! Publishes that are killed at any call, before or after it took effect, and go on by someone else.

use std::time::Duration;

use mezze_core::Audience;
use mezze_replica::{Origin, Target};

use crate::places::{Place, run_with_s3};
use crate::random::Random;
use crate::vendors::clock::Clock;
use crate::vendors::cloudflare::Cloudflare;
use crate::vendors::fastly::Fastly;
use crate::vendors::faults::{At, Fault, When, Which, Work};
use crate::vendors::redis::Redis;
use crate::world::{LEASE_SECONDS, Publisher, Stages, World};
use crate::wrapped::{Keys, Knife, cut_store, target};

/// Publishes epoch after epoch to a place, and kills each publish again and again, until [`KILLS`] were killed in all. Whatever
/// happens, a reader gets the answer of one snapshot, never of an earlier one than before, and at the end the newest's.
async fn killed_anywhere(seed: u64, audience: Audience, mut place: impl FnMut(u64, &World) -> Place) {
    let _told = Told(seed);
    let mut random = Random::new(seed);
    // Calls of a whole publish of each epoch: the first round counts them.
    let mut calls = vec![0; Stages::EPOCHS as usize + 1];
    let (mut kills, mut before_head, mut after_head) = (0, 0, 0);
    for round in 0.. {
        if kills >= KILLS {
            break;
        }
        let world = World::at(1);
        let place = place(round, &world);
        let watcher = world.watcher_for(audience, place.sees.clone());
        for epoch in 1..=Stages::EPOCHS {
            world.bring(epoch);
            for attempt in 0.. {
                let whole = calls[epoch as usize];
                let at = match attempt {
                    _ if round == 0 || attempt == KILLS_A_PUBLISH => u64::MAX,
                    // What is around the head is more than its share of the calls.
                    _ if random.chance(300) => whole - random.below(LAST_CALLS),
                    _ => 1 + random.below(whole),
                };
                let (knife, holder) = (Knife::new(at, random.chance(500)), format!("holder {kills}"));
                let origin = Origin::new(cut_store(world.origin.store(), &knife));
                let cut = match &place.target {
                    Target::Folder(store) => Target::Folder(cut_store(store, &knife)),
                    keys @ Target::Keys(_) => target(Keys::of(keys, &world.clock.0).cut_by(&knife).watched_by(&watcher)).1,
                };
                let publisher = Publisher { holder: &holder, audience, clock: &world.clock, signer: None };
                let ended = knife.run(publisher.run(&origin, &cut)).await;
                let served = watcher.look();
                // A write without an answer may still come: until then nobody else gets the lease.
                world.clock.pass(LEASE_SECONDS);
                if let Some(result) = ended {
                    let report = result.unwrap_or_else(|error| panic!("seed {seed}, round {round}, epoch {epoch}: {error}"));
                    assert_eq!(report.record.epoch, epoch);
                    if round == 0 {
                        calls[epoch as usize] = knife.calls();
                    }
                    break;
                }
                kills += 1;
                *(if served == Some(epoch) { &mut after_head } else { &mut before_head }) += 1;
            }
            assert_eq!(watcher.look(), Some(epoch), "seed {seed}, round {round}");
        }
    }
    assert!(before_head > 0 && after_head > 0, "seed {seed}: {before_head} kills before a head, {after_head} after it");
}

/// Says the seed where a test fails.
struct Told(u64);

impl Drop for Told {
    #[expect(clippy::print_stderr, reason = "whoever reads of the failure needs it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

/// The faults of an interface that has a bad day. No number divides another, so that each happens alone and with others.
fn bad_day(plan: impl Fn(When, Fault)) {
    plan(When::Every(5), Fault::Partial(Which::Every(3)));
    plan(When::Every(7), Fault::TooMany(Some(7)));
    plan(When::Every(11), Fault::Status(500));
    plan(When::Every(13), Fault::ConnectionCut(Work::NotDone));
    plan(When::Every(17), Fault::ConnectionCut(Work::Done));
    plan(When::Every(19), Fault::ResponseCut(At::Body));
    plan(When::Every(23), Fault::TooMany(None));
}

#[tokio::test]
async fn a_publish_to_cloudflare_may_be_killed_anywhere() {
    killed_anywhere(11, Audience::Server, |_, world| Place::cloudflare(&Cloudflare::start(&world.clock.0))).await;
}

#[tokio::test]
async fn a_publish_to_cloudflare_may_be_killed_on_a_bad_day() {
    killed_anywhere(12, Audience::Server, |_, world| Place::cloudflare(&bad_cloudflare(&world.clock.0))).await;
}

#[tokio::test]
async fn a_public_publish_to_cloudflare_may_be_killed_on_a_bad_day() {
    killed_anywhere(13, Audience::Public, |_, world| Place::cloudflare(&bad_cloudflare(&world.clock.0))).await;
}

fn bad_cloudflare(clock: &Clock) -> Cloudflare {
    let cloudflare = Cloudflare::start(clock);
    bad_day(|when, fault| cloudflare.plan(when, fault));
    cloudflare.lag_listings(Duration::from_secs(20));
    cloudflare
}

#[tokio::test]
async fn a_publish_to_fastly_may_be_killed_anywhere() {
    killed_anywhere(21, Audience::Server, |_, world| Place::fastly(&Fastly::start(&world.clock.0))).await;
}

#[tokio::test]
async fn a_publish_to_fastly_may_be_killed_on_a_bad_day() {
    let bad = |clock: &Clock| {
        let fastly = Fastly::start(clock);
        bad_day(|when, fault| fastly.plan(when, fault));
        fastly.limit_items(50);
        fastly
    };
    killed_anywhere(22, Audience::Server, |_, world| Place::fastly(&bad(&world.clock.0))).await;
}

#[tokio::test]
async fn a_publish_to_redis_may_be_killed_anywhere() {
    let redis = Redis::start();
    killed_anywhere(31, Audience::Server, |round, _| Place::redis(redis.address, round)).await;
}

#[tokio::test]
async fn a_publish_to_a_file_of_spin_may_be_killed_anywhere() {
    killed_anywhere(41, Audience::Server, |_, world| Place::spin(&world.path("app/.spin/kv.db"))).await;
}

#[tokio::test]
async fn a_publish_to_objects_may_be_killed_anywhere() {
    killed_anywhere(51, Audience::Public, |_, world| Place::objects(&world.path("objects"))).await;
}

#[tokio::test]
async fn a_publish_to_a_directory_may_be_killed_anywhere() {
    killed_anywhere(61, Audience::Server, |_, world| Place::directory(&world.path("directory"))).await;
}

#[test]
fn a_publish_to_objects_in_s3_may_be_killed_anywhere() {
    run_with_s3("kills::s3_objects");
}

#[tokio::test]
#[ignore = "another test runs it in a process of its own"]
async fn s3_objects() {
    killed_anywhere(71, Audience::Public, |round, _| Place::s3_objects(&format!("objects-{round}"))).await;
}

#[test]
fn a_publish_to_a_directory_in_s3_may_be_killed_anywhere() {
    run_with_s3("kills::s3_directory");
}

#[tokio::test]
#[ignore = "another test runs it in a process of its own"]
async fn s3_directory() {
    killed_anywhere(81, Audience::Server, |round, _| Place::s3_directory(&format!("directory-{round}"))).await;
}

const KILLS: u64 = 100;
const KILLS_A_PUBLISH: u64 = 5;
const LAST_CALLS: u64 = 12;
