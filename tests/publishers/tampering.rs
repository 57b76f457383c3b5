//! Values that someone else took away or changed: the next publish finds them where listings tell, and writes them anew.

use std::fs;

use mezze_replica::{Entry, Target};

use crate::places::{Place, RedisClient};
use crate::vendors::cloudflare::Cloudflare;
use crate::vendors::fastly::Fastly;
use crate::vendors::redis::Redis;
use crate::world::{Sees, World};
use crate::wrapped::{Hook, Keys, What, target};

/// What is done to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// A byte is another's.
    Damaged,
    /// The value of another key is there.
    Foreign,
    Missing,
    /// Its end is missing.
    Short,
}

const ALL: [Harm; 4] = [Harm::Damaged, Harm::Foreign, Harm::Missing, Harm::Short];

/// Harms a value, publishes the same epoch again, and looks whether it is what it was.
async fn is_mended(world: &World, place: &Place, harms: &[Harm], set: &mut dyn FnMut(&str, Option<&[u8]>)) {
    world.publish(&place.target).await.expect("it works");
    let watcher = world.watcher(place.sees.clone());
    assert_eq!(watcher.look(), Some(1));
    let Sees::Keys(value_of) = &place.sees else { panic!("it has keys") };
    let (keys, all) = target(Keys::of(&place.target, &world.clock.0));
    let pages = page_keys(&all).await;
    assert!(pages.len() > 6, "{pages:?}");
    for harm in harms {
        let key = &pages[*harm as usize + 3];
        let right = value_of(key).expect("it is there");
        let other = value_of(&pages[1]).expect("it is there");
        let mut wrong = right.clone();
        let middle = wrong.len() / 2;
        wrong[middle] ^= 1;
        match harm {
            Harm::Damaged => set(key, Some(&wrong)),
            Harm::Foreign => set(key, Some(&other)),
            Harm::Missing => set(key, None),
            Harm::Short => set(key, Some(&right[..middle])),
        }
        assert_ne!(value_of(key).as_ref(), Some(&right), "{harm:?}");
        // The store's clock must get on for a key to be written again.
        world.clock.pass(60);
        let before = keys.writes().len();
        let report = world.publish(&all).await.expect("it works");
        assert_eq!(report.objects_written, 1, "{harm:?} of {key}");
        let written: Vec<String> = keys.writes()[before..].iter().flat_map(|made| made.keys.clone()).collect();
        assert_eq!(written, std::slice::from_ref(key), "{harm:?}: the head stays");
        assert_eq!(value_of(key).as_ref(), Some(&right), "{harm:?}");
        assert_eq!(watcher.look(), Some(1));
    }
}

async fn page_keys(target: &Target) -> Vec<String> {
    let Target::Keys(keys) = target else { panic!("it has keys") };
    let mut found = Vec::new();
    let mut cursor = None;
    loop {
        let list = keys.list("p/", cursor.as_deref()).await.expect("it can be listed");
        found.extend(list.keys.into_iter().map(|listed| listed.key));
        cursor = list.cursor;
        if cursor.is_none() {
            found.sort();
            return found;
        }
    }
}

#[tokio::test]
async fn cloudflare_lists_what_was_written_along_with_a_value() {
    let world = World::at(1);
    let cloudflare = Cloudflare::start(&world.clock.0);
    let place = Place::cloudflare(&cloudflare);
    // Someone else's write has no metadata, or other.
    let mut set = |key: &str, value: Option<&[u8]>| match value {
        Some(value) => cloudflare.insert(key, value.to_vec()),
        None => assert!(cloudflare.remove(key)),
    };
    is_mended(&world, &place, &ALL, &mut set).await;
}

#[tokio::test]
async fn redis_computes_the_digests_of_values() {
    let (world, redis) = (World::at(1), Redis::start());
    let mut client = RedisClient::connect(redis.address, 0);
    let mut set = |key: &str, value: Option<&[u8]>| {
        match value {
            Some(value) => client.say(&[b"SET", key.as_bytes(), value]),
            None => client.say(&[b"DEL", key.as_bytes()]),
        };
    };
    is_mended(&world, &Place::redis(redis.address, 0), &ALL, &mut set).await;
}

#[tokio::test]
async fn a_key_of_another_type_in_redis_is_written_over() {
    let (world, redis) = (World::at(1), Redis::start());
    let place = Place::redis(redis.address, 0);
    world.publish(&place.target).await.expect("it works");
    let key = page_keys(&place.target).await.remove(2);
    let mut client = RedisClient::connect(redis.address, 0);
    client.say(&[b"DEL", key.as_bytes()]);
    client.say(&[b"RPUSH", key.as_bytes(), b"a list"]);
    assert_eq!(world.publish(&place.target).await.expect("it works").objects_written, 1);
    assert_eq!(world.watcher(place.sees).look(), Some(1));
}

#[tokio::test]
async fn a_file_of_spin_is_read_whole() {
    let world = World::at(1);
    let file = world.path("kv.db");
    let mut set = |key: &str, value: Option<&[u8]>| {
        let file = rusqlite::Connection::open(&file).expect("it can be opened");
        let changed = match value {
            Some(value) => file.execute("UPDATE spin_key_value SET value = ?2 WHERE key = ?1", rusqlite::params![key, value]),
            None => file.execute("DELETE FROM spin_key_value WHERE key = ?1", [key]),
        };
        assert_eq!(changed, Ok(1));
    };
    is_mended(&world, &Place::spin(&world.path("kv.db")), &ALL, &mut set).await;
}

#[tokio::test]
async fn fastly_lists_names_and_objects_have_sizes() {
    let world = World::at(1);
    let fastly = Fastly::start(&world.clock.0);
    let mut set = |key: &str, value: Option<&[u8]>| match value {
        Some(value) => fastly.insert(key, value.to_vec()),
        None => assert!(fastly.remove(key)),
    };
    is_mended(&world, &Place::fastly(&fastly), &[Harm::Missing], &mut set).await;

    let (world, folder) = (World::at(1), tempfile::tempdir().expect("a temporary folder"));
    let mut set = |key: &str, value: Option<&[u8]>| match value {
        Some(value) => fs::write(folder.path().join(key), value).expect("it can be written"),
        None => fs::remove_file(folder.path().join(key)).expect("it can be removed"),
    };
    is_mended(&world, &Place::objects(folder.path()), &[Harm::Missing, Harm::Short], &mut set).await;
}

/// The store says that it took a key, and has lost or damaged it: that is found before the head is written.
#[tokio::test]
async fn a_write_that_is_lost_is_found_before_anyone_needs_it() {
    for harm in [Harm::Missing, Harm::Damaged] {
        let harmed = |value: &[u8]| [&value[..value.len() - 1], &[value[value.len() - 1] ^ 1]].concat();
        let (world, redis) = (World::at(1), Redis::start());
        let (cloudflare, fastly) = (Cloudflare::start(&world.clock.0), Fastly::start(&world.clock.0));
        let (on_cloudflare, on_fastly, address) = (cloudflare.clone(), fastly.clone(), redis.address);
        let on_cloudflare = move |entry: &Entry| match harm {
            Harm::Missing => assert!(on_cloudflare.remove(&entry.key)),
            _ => on_cloudflare.insert(&entry.key, harmed(&entry.value)),
        };
        let on_fastly = move |entry: &Entry| match harm {
            Harm::Missing => assert!(on_fastly.remove(&entry.key)),
            _ => on_fastly.insert(&entry.key, harmed(&entry.value)),
        };
        let on_redis = move |entry: &Entry| {
            let mut client = RedisClient::connect(address, 0);
            match harm {
                Harm::Missing => client.say(&[b"DEL", entry.key.as_bytes()]),
                _ => client.say(&[b"SET", entry.key.as_bytes(), &harmed(&entry.value)]),
            };
        };
        let hooks: [(Place, Hook); 3] = [
            (Place::cloudflare(&cloudflare), Box::new(on_cloudflare)),
            (Place::fastly(&fastly), Box::new(on_fastly)),
            (Place::redis(address, 0), Box::new(on_redis)),
        ];
        for (place, hook) in hooks {
            let watcher = world.watcher(place.sees.clone());
            let (keys, target) = target(Keys::of(&place.target, &world.clock.0).once_after_write(hook));
            world.publish(&target).await.expect("it is written again");
            assert_eq!(watcher.look(), Some(1), "{harm:?}, {}", place.target.place());
            let writes = keys.writes();
            let again = writes.iter().filter(|made| made.keys.contains(&writes[0].keys[0])).count();
            assert_eq!(
                (again, writes.last().map(|made| made.what)),
                (2, Some(What::Replace)),
                "{harm:?}, {}",
                place.target.place()
            );
        }
    }
}

#[tokio::test]
async fn a_directory_is_compared_byte_by_byte() {
    let world = World::at(1);
    let place = Place::directory(&world.path("directory"));
    world.publish(&place.target).await.expect("it works");
    let watcher = world.watcher(place.sees.clone());
    for (path, bytes) in crate::common::files(&world.path("directory")) {
        let name = path.strip_prefix(world.path("directory")).expect("it is in the folder").to_string_lossy().into_owned();
        if !["m/", "s/", "t/"].iter().any(|folder| name.starts_with(folder)) {
            continue;
        }
        let mut wrong = bytes.clone();
        let middle = wrong.len() / 2;
        wrong[middle] ^= 1;
        fs::write(&path, wrong).expect("it can be written");
        assert_eq!(world.publish(&place.target).await.expect("it works").objects_written, 1, "{name}");
        assert_eq!(fs::read(&path).expect("it is there"), bytes, "{name}");
        assert_eq!(watcher.look(), Some(1));
    }
}
