//! What goes wrong for good: the error says whose fault it is, and the snapshot before answers on.

use std::fs;
use std::sync::Arc;

use mezze_core::{Audience, PageKey, SegmentId};
use mezze_replica::{Error, SpinKeys, Target};

use crate::places::{Place, RedisClient, cloudflare_kv};
use crate::vendors::cloudflare::Cloudflare;
use crate::vendors::fastly::Fastly;
use crate::vendors::faults::{Call, Fault, Kind, When, Work};
use crate::vendors::redis::Redis;
use crate::world::{LEASE_SECONDS, Publisher, Sees, World, many_pages};
use crate::wrapped::{Keys, target};

/// An origin at its second epoch, the first published to this place.
struct Failing {
    world: World,
    place: Place,
    watcher: Arc<crate::world::Watcher>,
}

impl Failing {
    async fn at(world: World, place: Place) -> Self {
        world.publish(&place.target).await.expect("it works");
        let watcher = world.watcher(place.sees.clone());
        assert_eq!(watcher.look(), Some(1));
        world.bring(2);
        world.clock.pass(3_600);
        Self { world, place, watcher }
    }

    async fn cloudflare() -> (Self, Cloudflare) {
        let world = World::at(1);
        let cloudflare = Cloudflare::start(&world.clock.0);
        let place = Place::cloudflare(&cloudflare);
        (Self::at(world, place).await, cloudflare)
    }

    /// Publishes, which must fail and change nothing for readers.
    async fn fails(&self, target: &Target) -> Error {
        let error = self.world.publish(target).await.expect_err("it cannot work");
        assert_eq!(self.watcher.look(), Some(1), "{error}");
        // A write without an answer may still come: until then nobody else gets the lease.
        self.world.clock.pass(LEASE_SECONDS);
        error
    }

    /// The reason has gone.
    async fn works(&self) {
        self.world.publish(&self.place.target).await.expect("it works again");
        assert_eq!(self.watcher.look(), Some(2));
    }
}

/// The batch that comes after these calls.
fn next_batch(calls: &[Call]) -> When {
    When::Kind(Kind::BulkWrite, calls.iter().filter(|call| call.kind == Kind::BulkWrite).count() as u64 + 1)
}

#[tokio::test]
async fn a_token_that_is_refused_is_not_in_the_error() {
    let (failing, cloudflare) = Failing::cloudflare().await;
    for token in ["a token that nobody knows", Cloudflare::READ_TOKEN] {
        let error = failing.fails(&Target::Keys(Arc::new(cloudflare_kv(&cloudflare, token)))).await;
        assert!(matches!(&error, Error::Denied { token_env, .. } if token_env == "CLOUDFLARE"), "{error}");
        assert!(!format!("{error} {error:?}").contains(token), "{error}");
    }
    // It is not valid any more, in the middle of a publish.
    cloudflare.plan(next_batch(&cloudflare.calls()), Fault::Revoked);
    let error = failing.fails(&failing.place.target).await;
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    failing.works().await;
}

#[tokio::test]
async fn a_network_that_is_cut_for_good_is_said_after_a_while() {
    let (failing, cloudflare) = Failing::cloudflare().await;
    // At the head, a listing, the pages, the look at them, and then the head that is left to be written.
    for after in [0, 2, 5, 6, 5] {
        let next = cloudflare.calls().len() as u64 + 1;
        let began = failing.world.clock.0.now();
        // It comes back once the publisher has given up: it tries a call seven times.
        (next + after..next + after + 7).for_each(|call| cloudflare.plan(When::Call(call), Fault::ConnectionCut(Work::NotDone)));
        let error = failing.fails(&failing.place.target).await;
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        let waited = (failing.world.clock.0.now() - began) / 1_000_000_000;
        assert!((30..600).contains(&waited), "it gave up after {waited} s");
    }
    failing.works().await;
}

#[tokio::test]
async fn a_connection_that_is_refused_is_said() {
    let world = World::at(1);
    let mut redis = Redis::start();
    let place = Place::redis(redis.address, 0);
    world.publish(&place.target).await.expect("it works");
    redis.kill();
    let error = world.publish(&place.target).await.expect_err("nobody listens");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let cloudflare = Cloudflare::start(&world.clock.0);
    let place = Place::cloudflare(&cloudflare);
    drop((cloudflare, place.sees));
    let error = world.publish(&place.target).await.expect_err("nobody listens");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn what_is_full_is_a_limit() {
    let (failing, cloudflare) = Failing::cloudflare().await;
    for fault in [Fault::DailyWrites, Fault::StorageFull] {
        cloudflare.plan(next_batch(&cloudflare.calls()), fault);
        let calls = cloudflare.calls().len();
        let error = failing.fails(&failing.place.target).await;
        assert!(matches!(error, Error::Full { .. }) && error.is_limit(), "{error}");
        assert!(cloudflare.calls().len() - calls < 10, "it was tried again and again");
    }
    failing.works().await;

    let world = World::at(1);
    let fastly = Fastly::start(&world.clock.0);
    let failing = Failing::at(world, Place::fastly(&fastly)).await;
    for fault in [Fault::DailyWrites, Fault::StorageFull] {
        fastly.plan(next_batch(&fastly.calls()), fault);
        let error = failing.fails(&failing.place.target).await;
        assert!(error.is_limit(), "{error}");
    }
    failing.works().await;
}

#[tokio::test]
async fn a_redis_without_memory_is_full() {
    let (world, redis) = (World::at(1), Redis::start());
    let failing = Failing::at(world, Place::redis(redis.address, 0)).await;
    let mut client = RedisClient::connect(redis.address, 0);
    client.say(&[b"CONFIG", b"SET", b"maxmemory", b"1000"]);
    let error = failing.fails(&failing.place.target).await;
    assert!(matches!(error, Error::Full { .. }), "{error}");
    client.say(&[b"CONFIG", b"SET", b"maxmemory", b"0"]);
    failing.works().await;
}

#[tokio::test]
async fn a_file_of_spin_that_cannot_be_written_is_left_as_it_is() {
    let world = World::at(1);
    let file = world.path("kv.db");
    let place = Place::spin(&file);
    let failing = Failing::at(world, place).await;
    let mut permissions = fs::metadata(&file).expect("it is there").permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&file, permissions.clone()).expect("they can be set");
    // The superuser writes all the same.
    if fs::File::options().append(true).open(&file).is_err() {
        let error = failing.fails(&failing.place.target).await;
        assert!(matches!(error, Error::Refused(_)), "{error}");
    }
    #[expect(clippy::permissions_set_readonly_false, reason = "the file is the test's own")]
    permissions.set_readonly(false);
    fs::set_permissions(&file, permissions).expect("they can be set");
    failing.works().await;

    let (world, other) = (World::at(1), b"this is no database, whatever its name says\n".repeat(40));
    let file = world.path("other.db");
    fs::write(&file, &other).expect("it can be written");
    let error = world.publish(&Target::Keys(Arc::new(SpinKeys::new(&file, "default")))).await.expect_err("it is no database");
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert_eq!(fs::read(&file).expect("it is there"), other);
    let folder = world.path("folder.db");
    fs::create_dir(&folder).expect("it can be made");
    let error = world.publish(&Target::Keys(Arc::new(SpinKeys::new(&folder, "default")))).await.expect_err("it is a folder");
    assert!(matches!(error, Error::Refused(_)), "{error}");
}

#[tokio::test]
async fn what_is_too_large_is_found_before_the_first_write() {
    let (failing, cloudflare) = Failing::cloudflare().await;
    for limit in ["value", "key"] {
        let limited = Keys::of(&failing.place.target, &failing.world.clock.0).with_limits(|limits| match limit {
            "value" => limits.value_bytes = 400,
            _ => limits.key_bytes = 20,
        });
        let (keys, limited) = target(limited);
        let (writes, calls) = (cloudflare.counters().writes, cloudflare.calls().len());
        let error = failing.fails(&limited).await;
        assert!(matches!(&error, Error::Limit { what, .. } if what.contains(limit)) && error.is_limit(), "{error}");
        assert_eq!((keys.writes().len(), cloudflare.counters().writes), (0, writes));
        assert_eq!(cloudflare.calls().len(), calls + 1, "the head is read, and nothing else is asked");
    }
    failing.works().await;
}

/// By segments: no key of a table that has a view of the servers' is in a public replica.
#[tokio::test]
async fn what_is_not_public_never_gets_into_a_public_replica() {
    let world = World::at(1);
    let cloudflare = Cloudflare::start(&world.clock.0);
    let place = Place::cloudflare(&cloudflare);
    let watcher = world.watcher_for(Audience::Public, place.sees.clone());
    let (keys, target) = target(Keys::of(&place.target, &world.clock.0).watched_by(&watcher));
    let (mut public, mut private): (Vec<SegmentId>, Vec<SegmentId>) = Default::default();
    for epoch in 1..=crate::world::Stages::EPOCHS {
        world.bring(epoch);
        Publisher { audience: Audience::Public, ..world.publisher("first") }.run(&world.origin, &target).await.expect("it works");
        assert_eq!(watcher.look(), Some(epoch));
        let snapshot = world.origin.require_epoch(epoch).await.expect("it is there").snapshot;
        for table in world.origin.manifest(snapshot).await.expect("it is there").tables {
            let is_public = table.schema.views.iter().all(|view| view.audience == Audience::Public);
            let segments = table.base.iter().chain(&table.delta).map(|segment| segment.id);
            if is_public { public.extend(segments) } else { private.extend(segments) }
        }
    }
    let written: Vec<String> = keys.writes().into_iter().flat_map(|made| made.keys).collect();
    let of = |segments: &[SegmentId], key: &String| {
        let named = |segment: &SegmentId| key.starts_with(&format!("p/{segment}/"));
        segments.iter().any(named)
    };
    assert!(written.iter().filter(|key| of(&public, key)).count() > 2, "{written:?}");
    assert!(written.iter().all(|key| !of(&private, key)), "{written:?}");
    // Nor is it in a value: names of views, values of rows without columns.
    for (key, (value, _)) in cloudflare.snapshot() {
        let text = String::from_utf8_lossy(&value);
        assert!(!["clicks", "today", "count", "rate"].iter().any(|word| text.contains(word)), "{key}");
    }
    let page = PageKey::new(public[0], 0, 0).to_string();
    assert!(page.starts_with(&format!("p/{}/", public[0])), "keys of pages are as this test thinks");
}

#[tokio::test]
async fn a_replica_of_another_origin_is_left_alone() {
    let world = World::at(3);
    let cloudflare = Cloudflare::start(&world.clock.0);
    for place in [Place::cloudflare(&cloudflare), Place::directory(&world.path("directory"))] {
        world.publish(&place.target).await.expect("it works");
        let watcher = world.watcher(place.sees.clone());
        let (before, writes) = (World::at(2), cloudflare.counters().writes);
        let error = before.publish(&place.target).await.expect_err("it is of a later epoch");
        assert!(matches!(&error, Error::Refused(said) if said.contains("another origin")), "{error}");
        assert_eq!((watcher.look(), cloudflare.counters().writes), (Some(3), writes));
    }
    let (_folder, other) = many_pages(10).await;
    let world = World::at(1);
    let fastly = Fastly::start(&world.clock.0);
    let place = Place::fastly(&fastly);
    world.publish(&place.target).await.expect("it works");
    let writes = fastly.counters().writes;
    let error = world.publisher("other").run(&other, &place.target).await.expect_err("the same epoch has another content");
    assert!(matches!(&error, Error::Refused(said) if said.contains("another origin")), "{error}");
    assert_eq!(fastly.counters().writes, writes);
    assert!(matches!(place.sees, Sees::Keys(_)) && world.watcher(place.sees).look() == Some(1));
}
