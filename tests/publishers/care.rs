//! Going back, staying, pruning, and saying what would be done.

use std::collections::BTreeSet;

use mezze_core::{Audience, HEAD_KEY};
use mezze_replica::{Clock as _, Error, ForgetStatus, Pin, Prune, PruneMode, PruneReport, Replica, ReplicaKeys, Target};

use crate::places::Place;
use crate::vendors::cloudflare::Cloudflare;
use crate::vendors::fastly::Fastly;
use crate::vendors::faults::{Fault, Kind, When, Which};
use crate::vendors::redis::Redis;
use crate::world::{LEASE_SECONDS, REPLICA, Stages, World};
use crate::wrapped::{Keys, Knife, target};

#[tokio::test]
async fn a_replica_goes_back_stays_there_and_goes_on_under_later_epochs() {
    let redis = Redis::start();
    for kind in ["cloudflare", "fastly", "redis", "spin", "directory"] {
        let world = World::at(Stages::EPOCHS);
        let place = match kind {
            "cloudflare" => Place::cloudflare(&Cloudflare::start(&world.clock.0)),
            "fastly" => Place::fastly(&Fastly::start(&world.clock.0)),
            "redis" => Place::redis(redis.address, 0),
            "spin" => Place::spin(&world.path("kv.db")),
            _ => Place::directory(&world.path("directory")),
        };
        let (origin, watcher) = (&world.origin, world.watcher(place.sees.clone()));
        world.publish(&place.target).await.expect("it works");
        assert_eq!(watcher.look(), Some(6), "{kind}");

        let back = origin.rollback_replica(REPLICA, None, "first", world.clock.now()).await.expect("there is one before");
        assert_eq!((back.epoch, back.parent), (7, Some(5)), "{kind}");
        world.publish(&place.target).await.expect("it brings the rollback");
        assert_eq!(watcher.look(), Some(7), "{kind}");
        let pinned = world.publish(&place.target).await.expect_err("it is pinned");
        assert!(matches!(&pinned, Error::Refused(said) if said.contains("pinned to epoch 7")), "{pinned}");
        // Nobody else goes back by that.
        assert_eq!(origin.require_latest().await.expect("it is there").epoch, 6);

        origin.set_pin(REPLICA, None).await.expect("it can be taken away");
        assert_eq!(world.publish(&place.target).await.expect("it follows again").record.epoch, 8, "{kind}");
        assert_eq!(watcher.look(), Some(8), "{kind}");
        // Without anything new it stays.
        assert_eq!(world.publish(&place.target).await.expect("it works").record.epoch, 8, "{kind}");

        origin.set_pin(REPLICA, Some(Pin::new(8, world.clock.now(), "first".into()))).await.expect("it can be set");
        let rolled = origin.rollback(Some(5), world.clock.now()).await.expect("there is one before");
        assert_eq!(rolled.epoch, 9);
        world.publish(&place.target).await.expect_err("it is pinned");
        assert_eq!(watcher.look(), Some(8), "{kind}");
        origin.set_pin(REPLICA, None).await.expect("it can be taken away");
        world.publish(&place.target).await.expect("it follows again");
        assert_eq!(watcher.look(), Some(9), "{kind}");

        let forgotten = origin.rollback_replica(REPLICA, Some(3), "first", world.clock.now()).await;
        let forgotten = forgotten.expect_err("it has an entity that was forgotten");
        assert!(matches!(&forgotten, Error::Refused(said) if said.contains("forgotten in epoch 5")), "{forgotten}");
    }
}

#[tokio::test]
async fn a_plan_says_what_the_publish_then_does() {
    let (redis, fastlys) = (Redis::start(), Fastly::start(&crate::vendors::clock::Clock::new()));
    for kind in ["cloudflare", "fastly", "redis", "spin", "objects"] {
        let world = World::at(1);
        let place = match kind {
            "cloudflare" => Place::cloudflare(&Cloudflare::start(&world.clock.0)),
            "fastly" => Place::fastly(&fastlys),
            "redis" => Place::redis(redis.address, 1),
            "spin" => Place::spin(&world.path("kv.db")),
            _ => Place::objects(&world.path("objects")),
        };
        let watcher = world.watcher(place.sees.clone());
        let (keys, target) = target(Keys::of(&place.target, &world.clock.0));
        for epoch in 1..=Stages::EPOCHS {
            world.bring(epoch);
            let writes = keys.writes().len();
            let plan = world.plan(&target).await.expect("it can be planned");
            assert_eq!(keys.writes().len(), writes, "{kind}: a plan writes nothing");
            assert_eq!(watcher.look(), (epoch > 1).then(|| epoch - 1), "{kind}");
            let report = world.publish(&target).await.expect("it works");
            assert_eq!(
                (plan.writes.len() as u64, plan.write_bytes, plan.present, plan.keys),
                (report.objects_written, report.bytes_written, report.objects_present, plan.present + report.objects_written),
                "{kind}, epoch {epoch}"
            );
            assert_eq!(report.calls.writes, report.objects_written + 1, "{kind}, epoch {epoch}: and the head");
            let calls = report.calls.calls;
            let most = calls + report.calls.lists;
            assert!((calls..=most).contains(&plan.estimate.calls), "{kind}, epoch {epoch}: {plan:?} {report:?}");
            assert_eq!(watcher.look(), Some(epoch), "{kind}");
        }
        let plan = world.plan(&target).await.expect("it can be planned");
        assert_eq!((plan.writes.len(), plan.write_bytes), (0, 0), "{kind}");
    }
}

/// A prune of one replica at epoch 6, and of the origin where so many epochs are to be kept.
async fn prune(world: &World, target: &Target, mode: PruneMode, epochs_kept: Option<usize>) -> PruneReport {
    let replicas = [Replica { name: REPLICA.into(), target: target.clone(), audience: Audience::Server }];
    let mut prune = Prune::new(&world.clock, "pruner");
    (prune.mode, prune.replicas, prune.epochs_kept) = (mode, &replicas, epochs_kept);
    prune.run(&world.origin).await.expect("it works")
}

/// The keys that the head of the origin's newest epoch needs.
async fn needed(world: &World) -> BTreeSet<String> {
    let record = world.origin.require_latest().await.expect("it is there");
    let head = world.origin.head_of(&record).await.expect("it is there");
    let keys = ReplicaKeys::of(world.origin.store().clone(), Audience::Server, head).await.expect("it is there");
    keys.keys().await.expect("they are known").into_iter().collect()
}

#[tokio::test]
async fn a_prune_leaves_what_is_needed_and_retired_snapshots_for_an_hour() {
    let world = World::at(1);
    let cloudflare = Cloudflare::start(&world.clock.0);
    let place = Place::cloudflare(&cloudflare);
    let watcher = world.watcher(place.sees.clone());
    let (_, target) = target(Keys::of(&place.target, &world.clock.0).watched_by(&watcher));
    for epoch in 1..=5 {
        world.bring(epoch);
        world.publish(&target).await.expect("it works");
    }
    for other in ["other", "p/readme", "p/0/x", "m/readme"] {
        cloudflare.insert(other, "someone else's");
    }
    let keys = || cloudflare.snapshot().into_keys().collect::<BTreeSet<_>>();
    let all = keys();
    assert!(prune(&world, &target, PruneMode::Remove, None).await.removed.is_empty(), "readers may still answer from them");
    assert_eq!(keys(), all);
    assert!(all.len() > needed(&world).await.len() + 10, "there is something that goes later");

    world.clock.pass(3_601);
    let dry = prune(&world, &target, PruneMode::DryRun, None).await;
    assert_eq!(keys(), all, "a dry run removes nothing");
    cloudflare.plan(When::Kind(Kind::BulkDelete, 1), Fault::Partial(Which::Every(3)));
    let done = prune(&world, &target, PruneMode::Remove, None).await;
    assert_eq!(dry.removed, done.removed);
    let mut left = needed(&world).await;
    left.extend(["other", "p/readme", "p/0/x", "m/readme"].map(str::to_owned));
    assert_eq!(keys(), left);
    assert_eq!(watcher.look(), Some(5));
    assert!(prune(&world, &target, PruneMode::Remove, None).await.removed.is_empty());
}

#[tokio::test]
async fn a_prune_leaves_what_a_publish_that_was_killed_goes_on_with() {
    let world = World::at(5);
    let cloudflare = Cloudflare::start(&world.clock.0);
    let place = Place::cloudflare(&cloudflare);
    world.publish(&place.target).await.expect("it works");
    world.bring(6);
    // It ends before the head.
    let head = {
        let (_, whole) = target(Keys::of(&place.target, &world.clock.0));
        world.plan(&whole).await.expect("it can be planned").writes.len()
    };
    let knife = Knife::new(8, true);
    let small = Keys::of(&place.target, &world.clock.0).with_limits(|limits| (limits.batch_keys, limits.in_flight) = (2, 1));
    let (keys, cut) = target(small.cut_by(&knife));
    assert!(knife.run(world.publish(&cut)).await.is_none());
    let written: BTreeSet<String> = keys.writes().into_iter().flat_map(|made| made.keys).collect();
    assert!((1..head).contains(&written.len()), "{} of {head}", written.len());
    world.clock.pass(LEASE_SECONDS + 3_600);
    assert!(prune(&world, &place.target, PruneMode::Remove, None).await.removed.is_empty());
    let report = world.publish(&place.target).await.expect("it goes on");
    assert_eq!(report.objects_written as usize, head - written.len());
    assert_eq!(world.watcher(place.sees).look(), Some(6));
}

#[tokio::test]
async fn what_was_forgotten_is_gone_everywhere_only_once_every_place_was_looked_at() {
    for kind in ["cloudflare", "directory"] {
        let world = World::at(4);
        let cloudflare = Cloudflare::start(&world.clock.0);
        let place =
            if kind == "cloudflare" { Place::cloudflare(&cloudflare) } else { Place::directory(&world.path("directory")) };
        for epoch in 4..=6 {
            world.bring(epoch);
            world.publish(&place.target).await.expect("it works");
        }
        let status = |mut report: PruneReport| report.forgets.pop().expect("something was forgotten");
        let places = |status: &ForgetStatus| status.remaining.iter().map(|(place, _)| place.clone()).collect::<BTreeSet<_>>();

        let early = status(prune(&world, &place.target, PruneMode::Remove, Some(1)).await);
        let both = BTreeSet::from([world.origin.store().place(), place.target.place()]);
        assert_eq!((early.epoch, places(&early)), (5, both), "{kind}: both places keep it for readers");

        world.clock.pass(3_601);
        let mut prune_origin = Prune::new(&world.clock, "pruner");
        prune_origin.epochs_kept = Some(1);
        let unseen = status(prune_origin.run(&world.origin).await.expect("it works"));
        assert_eq!((unseen.remaining, unseen.unseen), (vec![], vec![REPLICA.to_owned()]), "{kind}: nobody looked at the replica");

        let dry = status(prune(&world, &place.target, PruneMode::DryRun, Some(1)).await);
        let gone = status(prune(&world, &place.target, PruneMode::Remove, Some(1)).await);
        assert_eq!(dry.remaining, gone.remaining, "{kind}: what a dry run says comes true");
        assert_eq!((gone.remaining.len(), gone.unseen.len()), (0, 0), "{kind}: gone everywhere");
        let after = prune(&world, &place.target, PruneMode::Remove, Some(1)).await;
        assert!(after.forgets.is_empty(), "{kind}: and that is the end of it");
        assert_eq!(world.watcher(place.sees).look(), Some(6), "{kind}");
    }
}

#[tokio::test]
async fn a_prune_of_a_replica_that_is_not_this_origins_removes_nothing() {
    let world = World::at(6);
    let cloudflare = Cloudflare::start(&world.clock.0);
    let place = Place::cloudflare(&cloudflare);
    world.publish(&place.target).await.expect("it works");
    let other = World::at(2);
    other.clock.pass(7_200);
    let replicas = [Replica { name: REPLICA.into(), target: place.target.clone(), audience: Audience::Server }];
    let mut prune = Prune::new(&other.clock, "pruner");
    (prune.replicas, prune.epochs_kept) = (&replicas, None);
    let error = prune.run(&other.origin).await.expect_err("it is another's");
    assert!(matches!(&error, Error::Refused(said) if said.contains("another origin")), "{error}");
    assert_eq!(cloudflare.counters().deletes, 0);
    other.clock.pass(LEASE_SECONDS);
    cloudflare.remove(HEAD_KEY);
    assert!(prune.run(&other.origin).await.expect("there is no head").removed.is_empty());
    assert_eq!(cloudflare.counters().deletes, 0);
}
