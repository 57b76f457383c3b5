//! Attacks on the key-value store of a gateway that has trust keys.

use expect_test::{Expect, expect};
use mezze_core::{Gateway, HEAD_KEY, Head, HttpConfig, HttpResponse, KeyHash, KeyPart, PageKey, manifest_digest};

use crate::gateway::{BUCKETS, Kv, NOW, epoch_of, gateway, get, page, respond, segment, snapshot, tree};
use crate::trust::{public, sign};

const USER: i64 = 7;

fn trusting(keys: &[u8], variables: &[(&str, &str)]) -> Gateway {
    let keys: Vec<String> = keys.iter().map(|key| public(*key).to_string()).collect();
    let keys = keys.join(", ");
    gateway(&[&[("MEZZE_TRUST_KEYS", keys.as_str())], variables].concat())
}

/// Publishes an epoch, each page with its path, and signs its head.
fn publish(kv: &mut Kv, epoch: u64, inline: bool, signed_at: i64, key: u8) {
    kv.publish(epoch, inline);
    for bucket in 0..BUCKETS {
        kv.keys.insert(PageKey::new(segment(epoch), 0, bucket).to_string(), page_with_path(epoch, bucket));
    }
    kv.keys.insert(HEAD_KEY.into(), signed_head(kv, epoch, signed_at, key));
}

fn page_with_path(epoch: u64, bucket: u32) -> Vec<u8> {
    [page(epoch, bucket), tree(epoch).path(bucket).expect("the bucket is there")].concat()
}

/// The head that is there, signed.
fn signed_head(kv: &Kv, epoch: u64, signed_at: i64, key: u8) -> Vec<u8> {
    let head = Head::decode(&kv.keys[HEAD_KEY]).expect("it is whole");
    let digests: Vec<_> =
        (1..=epoch).rev().take(1 + head.previous.len()).map(|epoch| manifest_digest(&snapshot(epoch).1)).collect();
    sign(&head.encode().expect("it is small"), &digests, signed_at, key)
}

fn at(gateway: &mut Gateway, kv: &Kv, now: i64, headers: &[(&str, &str)]) -> HttpResponse {
    respond(gateway, kv, now, &format!("GET /v1/features/%C3%BC%20both?user={USER}"), headers, b"")
}

fn refused(response: &HttpResponse, expected: Expect) {
    assert_eq!(response.status, 503);
    expected.assert_eq(&String::from_utf8_lossy(&response.body));
}

fn bucket() -> u32 {
    KeyHash::of(&[KeyPart::Int(USER)]).bucket(BUCKETS)
}

#[test]
fn a_signed_snapshot_answers_with_and_without_keys() {
    for inline in [true, false] {
        let mut kv = Kv::default();
        publish(&mut kv, 1, inline, NOW, 1);
        let mut trusting = trusting(&[1], &[]);
        assert_eq!(epoch_of(&get(&mut trusting, &kv, USER), USER), 1);
        let reads = kv.take_reads();
        assert_eq!(epoch_of(&get(&mut trusting, &kv, USER), USER), 1);
        assert_eq!(kv.take_reads(), [""; 0], "verified once: {reads:?}");
        let body = get(&mut trusting, &kv, USER).body;
        assert_eq!(get(&mut gateway(&[]), &kv, USER).body, body, "a host without keys answers the same");
    }
}

#[test]
fn a_forged_head_is_as_a_missing_one_and_the_refusal_says_why() {
    let mut kv = Kv::default();
    publish(&mut kv, 1, true, NOW, 1);
    publish(&mut kv, 2, true, NOW, 1);
    let good = kv.keys[HEAD_KEY].clone();
    let unsigned = Head::decode(&good).expect("it is whole").encode().expect("it is small");
    let mut newer = Head::decode(&good).expect("it is whole");
    newer.epoch = 3;
    let newer = newer.encode().expect("it is small");
    let moved = [&newer[..], &good[unsigned.len()..]].concat();
    let by_other = sign(&newer, &[manifest_digest(&snapshot(2).1), manifest_digest(&snapshot(1).1)], NOW, 2);
    for (head, expected) in [
        (
            newer,
            expect![[
                r#""{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"no snapshot can be read: the head is not signed; trusted: 8a88e3dd7409f195\"}""#
            ]],
        ),
        (
            moved,
            expect![[
                r#""{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"no snapshot can be read: the head's signature is not one of key 8a88e3dd7409f195, which it names\"}""#
            ]],
        ),
        (
            by_other,
            expect![[
                r#""{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"no snapshot can be read: the head is signed with key 8139770ea87d175f, which is not trusted; trusted: 8a88e3dd7409f195\"}""#
            ]],
        ),
    ] {
        kv.keys.insert(HEAD_KEY.into(), head);
        refused(&get(&mut trusting(&[1], &[]), &kv, USER), expected);
        // With a snapshot at hand that one answers on.
        let mut holding = trusting(&[1], &[("MEZZE_HEAD_SECONDS", "0")]);
        let forged = kv.keys.insert(HEAD_KEY.into(), good.clone()).expect("there was one");
        assert_eq!(epoch_of(&get(&mut holding, &kv, USER), USER), 2);
        kv.keys.insert(HEAD_KEY.into(), forged);
        assert_eq!(epoch_of(&get(&mut holding, &kv, USER), USER), 2);
        // And without keys the store is believed.
        assert_eq!(get(&mut gateway(&[]), &kv, USER).status, 200);
    }
}

#[test]
fn an_old_head_is_refused_by_age_by_epoch_and_to_who_has_seen_a_later_one() {
    let mut kv = Kv::default();
    publish(&mut kv, 1, true, NOW, 1);
    let mut aged = trusting(&[1], &[("MEZZE_HEAD_AGE_MAX_SECONDS", "20"), ("MEZZE_HEAD_SECONDS", "1000")]);
    assert_eq!(epoch_of(&at(&mut aged, &kv, NOW, &[]), USER), 1);
    assert_eq!(epoch_of(&at(&mut aged, &kv, NOW + 20, &[]), USER), 1);
    kv.take_reads();
    // The head that is here has become too old: one more look at the store, and no answer.
    refused(
        &at(&mut aged, &kv, NOW + 21, &[]),
        expect![[
            r#""{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"no snapshot can be read: the head was signed 21 s ago, and at most 20 s are accepted; publish again\"}""#
        ]],
    );
    assert_eq!(kv.take_reads(), ["head fresh"]);
    refused(
        &at(&mut trusting(&[1], &[("MEZZE_HEAD_AGE_MAX_SECONDS", "20")]), &kv, NOW + 21, &[]),
        expect![[
            r#""{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"no snapshot can be read: the head was signed 21 s ago, and at most 20 s are accepted; publish again\"}""#
        ]],
    );
    // Signed anew, it answers again.
    kv.keys.insert(HEAD_KEY.into(), signed_head(&kv, 1, NOW + 21, 1));
    assert_eq!(epoch_of(&at(&mut aged, &kv, NOW + 23, &[]), USER), 1);
    // And the one before, replayed, takes nothing back.
    kv.keys.insert(HEAD_KEY.into(), signed_head(&kv, 1, NOW, 1));
    assert_eq!(epoch_of(&at(&mut aged, &kv, NOW + 30, &[]), USER), 1);

    let mut bounded = trusting(&[1], &[("MEZZE_EPOCH_MIN", "2")]);
    refused(
        &at(&mut bounded, &kv, NOW, &[]),
        expect![[
            r#""{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"no snapshot can be read: the head has epoch 1, and the lowest accepted is 2\"}""#
        ]],
    );
    publish(&mut kv, 2, true, NOW, 1);
    assert_eq!(epoch_of(&at(&mut bounded, &kv, NOW, &[]), USER), 2);

    // A host with nothing in memory, a store with yesterday's head, and a client that has seen today's.
    publish(&mut kv, 1, true, NOW, 1);
    let response = at(&mut trusting(&[1], &[]), &kv, NOW, &[("x-mezze-epoch", "2")]);
    assert_eq!(response.status, 409);
    // A host that has seen it itself does not go back.
    assert_eq!(epoch_of(&at(&mut bounded, &kv, NOW + 40, &[]), USER), 2);
}

#[test]
fn pages_that_the_signed_manifest_does_not_have_are_refused() {
    let mut kv = Kv::default();
    publish(&mut kv, 1, true, NOW, 1);
    let key = Kv::page_of(1, USER);
    // Another value for the user: a page made by whoever can write to the store, with its checksum and all.
    let forged = {
        let mut other = page(2, bucket());
        other[16..32].copy_from_slice(&segment(1).bytes());
        reseal(&mut other);
        other
    };
    let own_path = [forged.clone(), tree(1).path(bucket()).expect("the bucket is there")].concat();
    let neighbour = (bucket() + 1) % BUCKETS;
    let whole = kv.keys[&key].clone();
    for (what, value, expected) in [
        (
            "without a path",
            page(1, bucket()),
            expect![[
                r#""{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"no complete snapshot can be read: page p/01010101010101010101010101010101/0/2: 0 bytes are behind the page, its path has 64\"}""#
            ]],
        ),
        (
            "forged",
            forged,
            expect![[
                r#""{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"no complete snapshot can be read: page p/01010101010101010101010101010101/0/2: 0 bytes are behind the page, its path has 64\"}""#
            ]],
        ),
        (
            "forged, with the path of the one it replaces",
            own_path,
            expect![[
                r#""{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"no complete snapshot can be read: page p/01010101010101010101010101010101/0/2: page and path lead to the root 077de0f794c9095a, the signed manifest has 18ca4a26a9d71c18\"}""#
            ]],
        ),
        (
            "another segment's, with its path",
            page_with_path(2, bucket()),
            expect![[
                r#""{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"no complete snapshot can be read: page p/01010101010101010101010101010101/0/2: expected page p/01010101010101010101010101010101/0/2, found page p/02020202020202020202020202020202/0/2\"}""#
            ]],
        ),
        (
            "another bucket's, with its path",
            page_with_path(1, neighbour),
            expect![[
                r#""{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"no complete snapshot can be read: page p/01010101010101010101010101010101/0/2: expected page p/01010101010101010101010101010101/0/2, found page p/01010101010101010101010101010101/0/3\"}""#
            ]],
        ),
    ] {
        kv.keys.insert(key.clone(), value);
        let response = get(&mut trusting(&[1], &[]), &kv, USER);
        assert_eq!(response.status, 503, "{what}");
        expected.assert_eq(&String::from_utf8_lossy(&response.body));
    }
    // The forged page would have been served to a host without keys.
    let mut forged = page(2, bucket());
    forged[16..32].copy_from_slice(&segment(1).bytes());
    reseal(&mut forged);
    kv.keys.insert(key.clone(), forged);
    assert_eq!(get(&mut gateway(&[]), &kv, USER).status, 200);
    kv.keys.insert(key, whole);
    assert_eq!(epoch_of(&get(&mut trusting(&[1], &[]), &kv, USER), USER), 1);
}

/// Makes a page's checksum right: what anyone can do.
fn reseal(page: &mut [u8]) {
    let seed = u64::from_le_bytes(page[..8].try_into().expect("eight bytes"));
    let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(&page[16..], seed);
    page[8..16].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn snapshots_before_the_newest_are_opened_only_as_they_were_signed() {
    let mut kv = Kv::default();
    publish(&mut kv, 1, true, NOW, 1);
    publish(&mut kv, 2, true, NOW, 1);
    kv.keys.remove(&Kv::page_of(2, USER));
    assert_eq!(epoch_of(&get(&mut trusting(&[1], &[]), &kv, USER), USER), 1);
    // The head was signed with another manifest for the snapshot before it.
    let head = Head::decode(&kv.keys[HEAD_KEY]).expect("it is whole").encode().expect("it is small");
    let signed = sign(&head, &[manifest_digest(&snapshot(2).1), [7; 32]], NOW, 1);
    kv.keys.insert(HEAD_KEY.into(), signed);
    assert_eq!(get(&mut trusting(&[1], &[]), &kv, USER).status, 503);
    // And a newest manifest that is not the signed one is not opened.
    publish(&mut kv, 3, false, NOW, 1);
    let head = Head::decode(&kv.keys[HEAD_KEY]).expect("it is whole").encode().expect("it is small");
    kv.keys.insert(HEAD_KEY.into(), sign(&head, &[[7; 32]; 3], NOW, 1));
    refused(
        &get(&mut trusting(&[1], &[]), &kv, USER),
        expect![[
            r#""{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"no snapshot can be read: manifest m/dcb84af3eb84cb48d839369d8aa78f14: the manifest has the digest 963910b813a0ee0e, signed is 0707070707070707\"}""#
        ]],
    );
}

#[test]
fn a_key_that_was_rotated_out_is_refused_and_while_both_are_in_both_are_served() {
    let mut kv = Kv::default();
    publish(&mut kv, 1, true, NOW, 1);
    assert_eq!(epoch_of(&get(&mut trusting(&[1, 2], &[]), &kv, USER), USER), 1);
    assert_eq!(get(&mut trusting(&[2], &[]), &kv, USER).status, 503);
    publish(&mut kv, 1, true, NOW, 2);
    assert_eq!(epoch_of(&get(&mut trusting(&[1, 2], &[]), &kv, USER), USER), 1);
    assert_eq!(epoch_of(&get(&mut trusting(&[2], &[]), &kv, USER), USER), 1);
}

#[test]
fn a_host_says_whom_it_trusts() {
    let mut kv = Kv::default();
    publish(&mut kv, 1, true, NOW, 1);
    let info = |gateway: &mut Gateway| {
        let response = respond(gateway, &kv, NOW, "GET /v1/snapshot", &[], b"");
        let body = String::from_utf8(response.body).expect("JSON is text");
        body[body.find("\"trust\"").expect("it is there")..].to_owned()
    };
    expect![[r#""trust":{"required":true,"keys":["8a88e3dd7409f195","8139770ea87d175f"],"signed":true}}"#]]
        .assert_eq(&info(&mut trusting(&[1, 2], &[])));
    expect![[r#""trust":{"required":false,"keys":[],"signed":true}}"#]].assert_eq(&info(&mut gateway(&[])));
}

#[test]
fn variables_that_would_not_do_what_they_say_are_refused() {
    let set = |variables: &[(&str, &str)]| {
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        HttpConfig::edge(16).with_variables(value).map(|_| ()).map_err(|error| error.to_string())
    };
    let key = public(1).to_string();
    assert_eq!(set(&[("MEZZE_TRUST_KEYS", &key), ("MEZZE_EPOCH_MIN", "3"), ("MEZZE_HEAD_AGE_MAX_SECONDS", "9")]), Ok(()));
    let refused = |variables: &[(&str, &str)], expected: Expect| expected.assert_eq(&set(variables).expect_err("it is refused"));
    refused(
        &[("MEZZE_TRUST_KEYS", "")],
        expect!["variable MEZZE_TRUST_KEYS is not usable: expected public keys, each mezze-public-ed25519: and 64 hex digits"],
    );
    refused(
        &[("MEZZE_TRUST_KEYS", &key.replace("public", "secret"))],
        expect!["variable MEZZE_TRUST_KEYS is not usable: expected public keys, and one is a secret key, which no host may have"],
    );
    refused(
        &[("MEZZE_TRUST_KEYS", &"0".repeat(64))],
        expect!["variable MEZZE_TRUST_KEYS is not usable: expected public keys that something can be signed for"],
    );
    refused(&[("MEZZE_EPOCH_MIN", "3")], expect!["variable MEZZE_EPOCH_MIN is not usable: expected MEZZE_TRUST_KEYS beside it"]);
    refused(
        &[("MEZZE_HEAD_AGE_MAX_SECONDS", "3")],
        expect!["variable MEZZE_HEAD_AGE_MAX_SECONDS is not usable: expected MEZZE_TRUST_KEYS beside it"],
    );
}
