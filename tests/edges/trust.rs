//! Attacks on the stores of hosts that trust keys: each is refused with its reason, on every host.

use std::fs;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use mezze_core::{Head, KeyHash, KeyPart, PageKey, SegmentId, Timestamp, Tree};
use mezze_replica::Signer;
use serde_json::json;

use super::{Host, Kv, native, spin, viceroy, workerd};
use crate::common::{Reply, Repo, replica_keys, send};

type Keys = Vec<(String, Vec<u8>)>;

/// A user of a table with many pages, and what is asked of them.
const USER: i64 = 5_000;
const BODY: &str = r#"{"features": ["profile:age"], "entities": {"user_id": [5000]}}"#;

fn signer(digit: char) -> Signer {
    format!("mezze-secret-ed25519:{}", digit.to_string().repeat(64)).parse().expect("it is a key")
}

fn public(digits: &[char]) -> String {
    let keys: Vec<String> = digits.iter().map(|digit| signer(*digit).public_key().to_string()).collect();
    keys.join(",")
}

fn now() -> Timestamp {
    mezze_server::now()
}

fn ago(seconds: i64) -> Timestamp {
    now().saturating_sub(mezze_core::Span::from_seconds(seconds))
}

fn value<'k>(keys: &'k Keys, wanted: &str) -> &'k [u8] {
    &keys.iter().find(|(key, _)| key == wanted).unwrap_or_else(|| panic!("there is no {wanted}")).1
}

fn replace(keys: &Keys, key: &str, value: Vec<u8>) -> Keys {
    let mut keys = keys.clone();
    keys.iter_mut().find(|(known, _)| known == key).unwrap_or_else(|| panic!("there is no {key}")).1 = value;
    keys
}

/// The keys with each page's path behind it, as a publisher writes them.
fn with_paths(keys: &Keys) -> Keys {
    let segment_of = |key: &str| key.rsplit_once('/').map(|(segment, _)| segment.to_owned()).unwrap_or_default();
    let mut keys = keys.clone();
    let pages: Keys = keys.iter().filter(|(key, _)| key.starts_with("p/")).cloned().collect();
    for (key, value) in keys.iter_mut().filter(|(key, _)| key.starts_with("p/")) {
        let segment = segment_of(key);
        let mut leaves: Vec<(u32, _)> = pages
            .iter()
            .filter(|(key, _)| segment_of(key) == segment)
            .map(|(key, page)| (bucket_of(key), Tree::leaf(page)))
            .collect();
        leaves.sort_unstable();
        let tree = Tree::new(leaves.into_iter().map(|(_, leaf)| leaf).collect());
        value.extend(tree.path(bucket_of(key)).expect("the bucket is there"));
    }
    keys
}

fn bucket_of(key: &str) -> u32 {
    key.rsplit('/').next().and_then(|bucket| bucket.parse().ok()).expect("a page has a bucket")
}

/// The keys with their head signed.
fn signed(keys: &Keys, by: &Signer, at: Timestamp) -> Keys {
    let head = Head::decode(value(keys, "head")).expect("it is whole");
    let bytes = head.encode().expect("it is small");
    let snapshots = std::iter::once(head.snapshot).chain(head.previous.iter().map(|previous| previous.snapshot));
    let manifests: Vec<&[u8]> = snapshots.map(|snapshot| value(keys, &format!("m/{snapshot}"))).collect();
    replace(keys, "head", by.sign(&bytes, &manifests, at))
}

/// A page with another content, the right checksum and the path of the page whose place it takes.
fn forged(value: &[u8]) -> Vec<u8> {
    let mut forged = value.to_vec();
    let page_bytes = u32::from_le_bytes(forged[32..36].try_into().expect("four bytes")) as usize;
    let at = forged[..page_bytes].iter().rposition(|byte| *byte != 0).expect("there is data");
    forged[at] ^= 1;
    let seed = u64::from_le_bytes(forged[..8].try_into().expect("eight bytes"));
    let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(&forged[16..page_bytes], seed);
    forged[8..16].copy_from_slice(&checksum.to_le_bytes());
    forged
}

struct World {
    repo: Repo,
    /// Keys of the epoch before and of the newest, paths and all, not signed.
    earlier: Keys,
    newest: Keys,
    /// The key of the page that has the user, and that of another page of its segment.
    page: String,
    neighbour: String,
    /// That of a page of another segment.
    foreign: String,
}

impl World {
    fn new() -> Self {
        let repo = Repo::every_type();
        repo.run(&["apply"]);
        let rows: String = (1_000..21_000)
            .map(|user| format!("{{\"user_id\": {user}, \"ts\": \"2026-02-01T00:00:00Z\", \"age\": {}, \"name\": \"user number {user} of many\"}}\n", user % 90))
            .collect();
        repo.write("data/users/2.json", &rows);
        repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
        let earlier = with_paths(&replica_keys(&repo.path("data/replica")));
        repo.write(
            "data/users/3.json",
            "{\"user_id\": 5000, \"ts\": \"2026-03-01T00:00:00Z\", \"age\": 99, \"name\": \"late\"}\n",
        );
        repo.run(&["materialize-incremental", "2030-01-01"]);
        let newest = with_paths(&replica_keys(&repo.path("data/replica")));
        let head = Head::decode(value(&newest, "head")).expect("it is whole");
        let manifest = mezze_core::Manifest::decode(value(&newest, &format!("m/{}", head.snapshot))).expect("it is whole");
        let (table, view) = manifest.find_view("profile").expect("the view is there");
        assert!(view < 100);
        let base = manifest.tables[usize::from(table)].base.as_ref().expect("it has one");
        assert!(base.bucket_count > 2, "{} pages", base.bucket_count);
        let bucket = KeyHash::of(&[KeyPart::Int(USER)]).bucket(base.bucket_count);
        let key = |segment: SegmentId, bucket| PageKey::new(segment, table, bucket).to_string();
        let page = key(base.id, bucket);
        let neighbour = key(base.id, (bucket + 1) % base.bucket_count);
        let own = format!("p/{}/", base.id);
        let foreign = newest.iter().find(|(key, _)| key.starts_with("p/") && !key.starts_with(&own)).expect("there is one");
        let foreign = foreign.0.clone();
        Self { repo, earlier, newest, page, neighbour, foreign }
    }
}

/// An attack: what the store has, whom the host trusts, and what is said.
struct Attack {
    name: &'static str,
    keys: Keys,
    trust: String,
    head_age_max: Option<u32>,
    epoch_min: u64,
    seen: Option<u64>,
    status: u16,
    says: &'static str,
}

impl Attack {
    fn new(name: &'static str, keys: Keys, says: &'static str) -> Self {
        let status = if says.is_empty() { 200 } else { 503 };
        Self { name, keys, trust: public(&['1']), head_age_max: None, epoch_min: 0, seen: None, status, says }
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("MEZZE_TRUST_KEYS", self.trust.clone())];
        variables.extend(self.head_age_max.map(|seconds| ("MEZZE_HEAD_AGE_MAX_SECONDS", seconds.to_string())));
        if self.epoch_min > 0 {
            variables.push(("MEZZE_EPOCH_MIN", self.epoch_min.to_string()));
        }
        variables
    }

    /// Whom a browser trusts.
    fn option(&self) -> serde_json::Value {
        json!({
            "keys": self.trust.split(',').collect::<Vec<_>>(), "headAgeMaxSeconds": self.head_age_max.unwrap_or(0),
            "epochMin": self.epoch_min,
        })
    }

    fn check(&self, host: &str, status: u16, said: &str) {
        assert_eq!(status, self.status, "{host}: {}: {said}", self.name);
        assert!(said.contains(self.says), "{host}: {}: {said}", self.name);
    }
}

fn attacks(world: &World) -> Vec<Attack> {
    let World { earlier, newest, page, neighbour, foreign, .. } = world;
    let (one, two) = (signer('1'), signer('2'));
    let good = signed(newest, &one, now());
    let old = signed(earlier, &one, now());
    // The head of the newest epoch with the signature of the one before.
    let trailer = &value(&old, "head")[value(earlier, "head").len()..];
    let moved = [value(newest, "head"), trailer].concat();
    // As many manifests have to be named.
    let moved = replace(newest, "head", moved);
    let swapped = {
        let (own, other) = (value(&good, page).to_vec(), value(&good, neighbour).to_vec());
        replace(&replace(&good, page, other), neighbour, own)
    };
    vec![
        Attack::new("as signed", good.clone(), ""),
        Attack { trust: public(&['2', '1']), ..Attack::new("old key while keys change", good.clone(), "") },
        Attack { trust: public(&['2', '1']), ..Attack::new("new key while keys change", signed(newest, &two, now()), "") },
        Attack { trust: public(&['2']), ..Attack::new("key rotated out", good.clone(), "which is not trusted; trusted:") },
        Attack::new("unsigned", newest.clone(), "the head is not signed; trusted:"),
        Attack::new("another key", signed(newest, &two, now()), "which is not trusted; trusted:"),
        Attack::new("another head's signature", moved, "signature is not one of key"),
        Attack {
            head_age_max: Some(3_600),
            ..Attack::new("too old", signed(newest, &one, ago(7_200)), "and at most 3600 s are accepted")
        },
        Attack { epoch_min: 2, ..Attack::new("epoch too low", old.clone(), "has epoch 1, and the lowest accepted is 2") },
        Attack { seen: Some(2), status: 409, ..Attack::new("replayed", old, "the request wants 2 or later") },
        Attack::new("forged page", replace(&good, page, forged(value(&good, page))), "lead to the root"),
        Attack::new("another segment's page", replace(&good, page, value(&good, foreign).to_vec()), "expected page"),
        Attack::new("buckets swapped", swapped, "expected page"),
        Attack::new(
            "page without path",
            replace(&good, page, value(&good, page)[..value(&good, page).len() - 32].to_vec()),
            "bytes are behind the page",
        ),
    ]
}

fn ask(host: &Host, seen: Option<u64>) -> Reply {
    let seen = seen.map(|epoch| epoch.to_string());
    let headers: Vec<(&str, &str)> = seen.iter().map(|epoch| ("x-mezze-epoch", epoch.as_str())).collect();
    send(host.address, "POST /get-online-features", &headers, BODY.as_bytes())
}

#[test]
fn every_attack_on_a_store_is_refused_with_its_reason() {
    let world = World::new();
    for attack in attacks(&world) {
        let variables = attack.variables();
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let kv = Kv::start(attack.keys.clone());
        for host in [workerd(&kv, &variables), spin(&kv, &variables), viceroy(&attack.keys, &variables)] {
            let reply = ask(&host, attack.seen);
            attack.check(host.name, reply.status, &String::from_utf8_lossy(&reply.body));
        }
    }
}

#[test]
fn a_host_that_has_a_snapshot_answers_on_from_it() {
    let world = World::new();
    let (one, two) = (signer('1'), signer('2'));
    let keys = public(&['1']);
    let kv = Kv::start(signed(&world.earlier, &one, now()));
    for start in [workerd, spin] {
        kv.with(|known| known.extend(signed(&world.earlier, &one, now())));
        let host = start(&kv, &[("MEZZE_TRUST_KEYS", &keys), ("MEZZE_HEAD_SECONDS", "0")]);
        let epoch = || ask(&host, None).header("x-mezze-epoch").map(ToOwned::to_owned);
        assert_eq!(epoch().as_deref(), Some("1"), "{}", host.name);
        for forged in [world.newest.clone(), signed(&world.newest, &two, now())] {
            kv.with(|known| known.extend(forged));
            assert_eq!(epoch().as_deref(), Some("1"), "{}", host.name);
        }
        kv.with(|known| known.extend(signed(&world.newest, &one, now())));
        assert_eq!(epoch().as_deref(), Some("2"), "{}", host.name);
        kv.with(|known| known.extend(signed(&world.earlier, &one, now())));
        assert_eq!(epoch().as_deref(), Some("2"), "{}: nothing is taken back", host.name);
        let info = send(host.address, "GET /v1/snapshot", &[], b"");
        let info: serde_json::Value = serde_json::from_slice(&info.body).expect("it is JSON");
        assert_eq!(info["trust"], json!({ "required": true, "keys": [one.public_key().id().to_string()], "signed": true }));
    }
}

#[test]
fn a_key_that_is_none_is_no_host_that_trusts_everyone() {
    let world = World::new();
    let kv = Kv::start(signed(&world.newest, &signer('1'), now()));
    let secret = "mezze-secret-ed25519:1111111111111111111111111111111111111111111111111111111111111111";
    for keys in ["nonsense", ",", secret] {
        let variables = [("MEZZE_TRUST_KEYS", keys)];
        for host in [workerd(&kv, &variables), spin(&kv, &variables), viceroy(&world.newest, &variables)] {
            let reply = ask(&host, None);
            let said = String::from_utf8_lossy(&reply.body).into_owned();
            assert!(reply.status >= 500, "{} {keys}: {said}", host.name);
            assert!(!said.contains("1111"), "{} shows a secret: {said}", host.name);
        }
    }
}

#[test]
fn the_native_server_refuses_what_is_not_signed() {
    let world = World::new();
    let head = world.repo.path("data/replica/head");
    let newest = fs::read(&head).expect("it is there");
    let keys = public(&['1']);
    let refused = |keys: &str| {
        let mut command = world.repo.command(&["serve", "--port", "0"]);
        let run = command.env("MEZZE_TRUST_KEYS", keys).output().expect("the command can be run");
        (run.status.code(), String::from_utf8_lossy(&run.stderr).into_owned())
    };
    let (code, said) = refused(&keys);
    assert!(code == Some(1) && said.contains("the head is not signed"), "{code:?} {said}");
    let (code, said) = refused("nonsense");
    assert!(code == Some(2) && said.contains("MEZZE_TRUST_KEYS"), "{code:?} {said}");
    let signed = signed(&world.newest, &signer('1'), now());
    fs::write(&head, value(&signed, "head")).expect("it can be written");
    let host = native(&world.repo, &[("MEZZE_TRUST_KEYS", &keys)]);
    assert_eq!(ask(&host, None).status, 200);
    let (code, said) = refused(&public(&['2']));
    assert!(code == Some(1) && said.contains("which is not trusted"), "{code:?} {said}");
    fs::write(&head, newest).expect("it can be written");
}

#[test]
fn the_bundle_for_browsers_refuses_every_attack_in_node() {
    let world = World::new();
    let folder = super::build_with(&["browser", "--trust", "--expressions"]);
    let bundle = folder.path().join("bundle");
    let attacks = attacks(&world);
    let cases: Vec<serde_json::Value> = attacks
        .iter()
        .map(|attack| {
            let keys: serde_json::Map<String, serde_json::Value> =
                attack.keys.iter().map(|(key, value)| (key.clone(), BASE64_STANDARD.encode(value).into())).collect();
            json!({ "keys": keys, "body": BODY, "seen": attack.seen.unwrap_or(0), "trust": attack.option() })
        })
        .collect();
    let answers = in_node(&bundle, &cases, folder.path());
    for (attack, answer) in attacks.iter().zip(answers) {
        let status = answer["status"].as_u64().expect("it has one") as u16;
        attack.check("Node", status, answer["said"].as_str().expect("it says something"));
    }
    // Without a key, and where the bundle cannot check any.
    let case = |trust: serde_json::Value| json!({ "keys": cases[0]["keys"], "body": BODY, "seen": 0, "trust": trust });
    let said = in_node(&bundle, &[case(json!({ "keys": ["nonsense"] })), case(json!({ "keys": [] }))], folder.path());
    assert!(said.iter().all(|answer| answer["said"].as_str().is_some_and(|said| said.contains("trust.keys"))), "{said:?}");
    let without = super::build_with(&["browser", "--expressions"]);
    let said = in_node(&without.path().join("bundle"), &[case(json!({ "keys": ["nonsense"] }))], folder.path());
    assert!(said[0]["said"].as_str().is_some_and(|said| said.contains("mezze edge build browser --trust")), "{said:?}");
}

#[test]
fn the_bundle_for_browsers_refuses_every_attack_in_chromium() {
    let world = World::new();
    let attacks = attacks(&world);
    let cases: Vec<_> = attacks.iter().map(|attack| (&attack.keys, attack.option(), attack.seen.unwrap_or(0))).collect();
    for (attack, answer) in attacks.iter().zip(super::chromium::trusting(&cases, BODY)) {
        let status = answer["status"].as_u64().expect("it has one") as u16;
        attack.check("Chromium", status, answer["said"].as_str().expect("it says something"));
    }
}

fn in_node(bundle: &std::path::Path, cases: &[serde_json::Value], folder: &std::path::Path) -> Vec<serde_json::Value> {
    let file = folder.join("cases.json");
    fs::write(&file, json!(cases).to_string()).expect("it can be written");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/edges/trust.mjs");
    let output =
        Command::new("node").arg(script).arg(bundle).arg(file).output().expect("node can be run: install npm, which brings it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("it is text");
    lines.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}
