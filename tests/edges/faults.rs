//! Stores that are late, lose, damage, fail and hang; snapshots that come and go under load.

use super::{Host, Kv, native, spin, viceroy, workerd};
use crate::common::{Reply, Repo, replica_keys, send};

type Keys = Vec<(String, Vec<u8>)>;

/// What user 3 has in a snapshot before and after the delta: `age`, and the epoch that says it.
fn age_of_user_3(reply: &Reply) -> (String, Option<&str>) {
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    (body["results"][1]["values"][0].to_string(), reply.header("x-mezze-epoch"))
}

#[test]
fn no_host_serves_a_wrong_value_whatever_its_store_does() {
    let repo = Repo::every_type_served();
    let keys = replica_keys(&repo.path("data/replica"));
    let ask = |host: &Host| {
        let body = br#"{"features": ["profile:age"], "entities": {"user_id": [3]}}"#;
        send(host.address, "POST /get-online-features", &[], body)
    };
    let whole = Kv::start(keys.clone());
    let expected = ask(&workerd(&whole, &[]));
    assert_eq!(age_of_user_3(&expected), ("33".into(), Some("3")), "the delta answers");
    let pages: Vec<&(String, Vec<u8>)> = keys.iter().filter(|(key, _)| key.starts_with("p/")).collect();
    let mut faults = 0;
    for (fault, change) in [
        ("missing", None),
        ("empty", Some(vec![])),
        ("cut", Some(pages[0].1[..pages[0].1.len() / 2].to_vec())),
        (
            "flipped",
            Some({
                let mut bytes = pages[0].1.clone();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
                bytes
            }),
        ),
        ("another's", Some(pages[pages.len() - 1].1.clone())),
        ("failing", Some(vec![])),
        ("hanging", Some(vec![])),
    ] {
        let mut damaged = keys.clone();
        let kv = Kv::start(vec![]);
        for (key, value) in damaged.iter_mut().filter(|(key, _)| key.starts_with("p/")) {
            match &change {
                _ if fault == "failing" => kv.fail(key),
                _ if fault == "hanging" => kv.hang(key),
                // A page of another key is at every key but its own.
                Some(bytes) if bytes != value => value.clone_from(bytes),
                _ => {}
            }
        }
        if change.is_none() {
            damaged.retain(|(key, _)| !key.starts_with("p/"));
        }
        kv.with(|keys| keys.extend(damaged.iter().cloned()));
        let short = [("MEZZE_READ_MILLIS", "100")];
        let mut hosts = vec![workerd(&kv, &short), spin(&kv, &short)];
        // Viceroy's store cannot fail.
        if !matches!(fault, "failing" | "hanging") {
            hosts.push(viceroy(&damaged, &[]));
        }
        for host in &hosts {
            let reply = ask(host);
            let said = String::from_utf8_lossy(&reply.body).into_owned();
            if reply.status == 200 {
                // The page that stands at its own key may be all that is needed.
                assert_eq!(age_of_user_3(&reply), age_of_user_3(&expected), "{} {fault}: {said}", host.name);
            } else {
                assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{} {fault}: {said}", host.name);
                faults += 1;
            }
        }
    }
    assert!(faults >= 17, "{faults} faults were noticed");
}

/// Keys at epoch 3, where user 3 is 33 and called Drei; at epoch 4, where they are 34 and called Vier; and after a rollback, at
/// epoch 5, what epoch 3 had.
fn three_epochs() -> (Repo, [Keys; 3]) {
    let repo = Repo::every_type_served();
    let folder = repo.path("data/replica");
    let first = replica_keys(&folder);
    repo.write("data/users/3.json", "{\"user_id\": 3, \"ts\": \"2026-03-01T00:00:00Z\", \"age\": 34, \"name\": \"Vier\"}\n");
    repo.run(&["materialize-incremental", "2030-01-01"]);
    let second = replica_keys(&folder);
    repo.run(&["rollback", "--to-epoch", "3"]);
    let third = replica_keys(&folder);
    (repo, [first, second, third])
}

fn head_of(keys: &Keys) -> Vec<u8> {
    keys.iter().find(|(key, _)| key == "head").expect("it is there").1.clone()
}

const USER_3: &[u8] = br#"{"features": ["profile:age", "profile:name"], "entities": {"user_id": [3]}}"#;

/// Age, name and epoch of a response, which must be of one snapshot.
fn whole(reply: &Reply, host: &str) -> u64 {
    let body: serde_json::Value = serde_json::from_slice(&reply.body).expect("it is JSON");
    let (age, name) = (body["results"][1]["values"][0].to_string(), body["results"][2]["values"][0].to_string());
    let epoch: u64 = reply.header("x-mezze-epoch").expect("it is there").parse().expect("it is a number");
    let expected = if epoch == 4 { ("34", "\"Vier\"") } else { ("33", "\"Drei\"") };
    assert_eq!((age.as_str(), name.as_str()), expected, "{host}: epoch {epoch}");
    epoch
}

#[test]
fn a_switch_and_a_rollback_under_load_mix_nothing() {
    let (repo, [first, second, third]) = three_epochs();
    let kv = Kv::start(third.iter().chain(&second).chain(&first).cloned().collect());
    for start in [workerd, spin] {
        kv.with(|keys| keys.insert("head".into(), head_of(&first)));
        let host = start(&kv, &[("MEZZE_HEAD_SECONDS", "0")]);
        let mut epochs = Vec::new();
        for turn in 0..80 {
            let head = match turn {
                20 => &second,
                // A cache that gives an old head again is no way back.
                40 => &first,
                60 => &third,
                _ => &Vec::new(),
            };
            if !head.is_empty() {
                kv.with(|keys| keys.insert("head".into(), head_of(head)));
            }
            let replies: Vec<Reply> = std::thread::scope(|scope| {
                let asking: Vec<_> =
                    (0..4).map(|_| scope.spawn(|| send(host.address, "POST /get-online-features", &[], USER_3))).collect();
                asking.into_iter().map(|asking| asking.join().expect("it asks")).collect()
            });
            epochs.extend(replies.iter().map(|reply| (turn, whole(reply, host.name))));
        }
        let seen = |turns: std::ops::Range<i32>| -> Vec<u64> {
            epochs.iter().filter(|(turn, _)| turns.contains(turn)).map(|(_, epoch)| *epoch).collect()
        };
        assert!(seen(0..20).iter().all(|epoch| *epoch == 3), "{}: {epochs:?}", host.name);
        assert!(seen(22..40).iter().all(|epoch| *epoch == 4), "{}: {epochs:?}", host.name);
        // Spin replaces its instances, after 128 requests at the latest, and a new one has seen no head but the old.
        let may_be_new = host.name == "Spin";
        assert!(seen(40..60).iter().all(|epoch| *epoch == 4 || may_be_new && *epoch == 3), "{}: {epochs:?}", host.name);
        assert!(seen(62..80).iter().all(|epoch| *epoch == 5), "{}: {epochs:?}", host.name);
    }
    // Viceroy's store is what it starts with: one start for each of the three.
    for (keys, epoch) in [(&first, 3), (&second, 4), (&third, 5)] {
        let host = viceroy(keys, &[]);
        for _ in 0..20 {
            assert_eq!(whole(&send(host.address, "POST /get-online-features", &[], USER_3), host.name), epoch);
        }
    }
    drop(repo);
}

/// Keys whose head names epoch 4, and none of the pages that came with it.
fn head_before_pages(first: &Keys, second: &Keys) -> Keys {
    let is_page = |key: &str| key.starts_with("p/");
    let known = |key: &str| first.iter().any(|(known, _)| known == key);
    second.iter().chain(first).filter(|(key, _)| !is_page(key) || known(key)).cloned().rev().collect()
}

#[test]
fn a_head_before_its_pages_lets_the_snapshot_before_answer() {
    let (repo, [first, second, _]) = three_epochs();
    let mut keys = head_before_pages(&first, &second);
    keys.retain(|(key, _)| key != "head");
    keys.push(("head".into(), head_of(&second)));
    let kv = Kv::start(keys.clone());
    for host in [workerd(&kv, &[]), spin(&kv, &[]), viceroy(&keys, &[])] {
        let reply = send(host.address, "POST /get-online-features", &[], USER_3);
        assert_eq!(reply.status, 200, "{}: {}", host.name, String::from_utf8_lossy(&reply.body));
        assert_eq!((whole(&reply, host.name), reply.header("x-mezze-steps-back")), (3, Some("1")), "{}", host.name);
        // A client that has seen epoch 4 gets nothing older.
        let reply = send(host.address, "POST /get-online-features", &[("x-mezze-epoch", "4")], USER_3);
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{}", host.name);
    }
    // The pages come.
    kv.with(|keys| keys.extend(second.iter().cloned()));
    for host in [workerd(&kv, &[]), spin(&kv, &[])] {
        let reply = send(host.address, "POST /get-online-features", &[], USER_3);
        assert_eq!((whole(&reply, host.name), reply.header("x-mezze-steps-back")), (4, None), "{}", host.name);
    }
    drop(repo);
}

#[test]
fn an_epoch_that_is_not_there_yet_costs_one_read_of_the_head_a_second() {
    let (repo, [first, second, _]) = three_epochs();
    let kv = Kv::start(second.iter().chain(&first).cloned().collect());
    let native = native(&repo, &[]);
    for host in [workerd(&kv, &[]), spin(&kv, &[]), viceroy(&first, &[]), native] {
        for _ in 0..10 {
            let reply = send(host.address, "POST /get-online-features", &[("x-mezze-epoch", "1000000")], USER_3);
            let said = String::from_utf8_lossy(&reply.body).into_owned();
            assert_eq!(reply.status, 409, "{}: {said}", host.name);
            assert!(reply.header("retry-after").is_some(), "{}", host.name);
        }
    }
}
