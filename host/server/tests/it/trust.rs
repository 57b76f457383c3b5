//! A server that trusts keys, over a folder that others may write to.

use std::fs;

use expect_test::{Expect, expect};
use mezze_core::{HEAD_KEY, Head, PublicKey, SegmentId, Span, Timestamp, Tree, Trust};
use mezze_replica::{Reader, Signer, Store, tree_bytes, tree_key};
use mezze_server::now;

use crate::client::Client;
use crate::online::{Fixture, JSON, PATH, USERS};

fn signer(digit: char) -> Signer {
    format!("mezze-secret-ed25519:{}", digit.to_string().repeat(64)).parse().expect("it is a key")
}

fn trust(digits: &[char]) -> Trust {
    Trust::new(digits.iter().map(|digit| signer(*digit).public_key()))
}

impl Fixture {
    /// Signs the head that is there.
    fn sign(&self, signer: &Signer, at: Timestamp) {
        let value = self.head();
        let head = Head::decode(&value).expect("it is whole");
        let bytes = head.encode().expect("it is small");
        let names = std::iter::once(head.snapshot).chain(head.previous.iter().map(|previous| previous.snapshot));
        let manifests: Vec<Vec<u8>> =
            names.map(|id| fs::read(self.folder.path().join(format!("m/{id}"))).expect("it is there")).collect();
        let manifests: Vec<&[u8]> = manifests.iter().map(Vec::as_slice).collect();
        fs::write(self.folder.path().join(HEAD_KEY), signer.sign(&bytes, &manifests, at)).expect("it is written");
    }

    fn head(&self) -> Vec<u8> {
        fs::read(self.folder.path().join(HEAD_KEY)).expect("it is there")
    }

    fn open(&self, trust: Trust, now: Timestamp) -> Result<Reader, String> {
        let store = Store::folder(self.folder.path()).expect("it can be opened");
        let place = store.place();
        let opened = self.runtime.block_on(Reader::open_trusting(store, 1 << 20, trust, now));
        opened.map_err(|error| error.to_string().replace(&place, "FOLDER"))
    }

    /// Status and body of a request, and the epoch that answered.
    fn ask(&self, trust: Trust, opened_at: Timestamp) -> (u16, String, Option<String>) {
        let reader = self.open(trust, opened_at).expect("the head is accepted");
        let (_reader, server) = Self::serve_from(reader);
        let reply = Client::connect(server.address()).post(PATH, &[JSON], USERS);
        (reply.status, reply.text().to_owned(), reply.header("x-mezze-epoch").map(ToOwned::to_owned))
    }
}

#[test]
fn a_signed_snapshot_is_served_and_says_whom_it_trusts() {
    let fixture = Fixture::new();
    fixture.materialize(7);
    fixture.sign(&signer('1'), now());
    let (status, body, _) = fixture.ask(trust(&['1']), now());
    assert_eq!(status, 200, "{body}");
    assert_eq!(fixture.ask(Trust::none(), now()).1, body, "a server without keys answers the same");
    let (_reader, server) = Fixture::serve_from(fixture.open(trust(&['1']), now()).expect("it is accepted"));
    let mut client = Client::connect(server.address());
    client.send(b"GET /v1/snapshot HTTP/1.1\r\nhost: test\r\n\r\n");
    let reply = client.reply();
    let body = reply.text();
    let expected = format!(r#""trust":{{"required":true,"keys":["{}"],"signed":true}}"#, signer('1').public_key().id());
    assert!(body.contains(&expected), "{body}");
}

#[test]
fn heads_that_no_trusted_key_signed_are_refused_with_the_reason() {
    let fixture = Fixture::new();
    fixture.materialize(7);
    let unsigned = fixture.head();
    let refused =
        |trust: Trust, expected: Expect| expected.assert_eq(&fixture.open(trust, now()).map(|_| ()).expect_err("it is not"));
    refused(trust(&['1']), expect!["FOLDER/head: the head is not signed; trusted: d04ab232742bb4ab"]);
    fixture.sign(&signer('2'), now());
    refused(
        trust(&['1']),
        expect!["FOLDER/head: the head is signed with key a09aa5f47a675980, which is not trusted; trusted: d04ab232742bb4ab"],
    );
    assert!(fixture.open(trust(&['1', '2']), now()).is_ok(), "while keys change both are trusted");
    // The signature of another head.
    let signed = fixture.head();
    fixture.materialize(8);
    let moved = [&fixture.head()[..], &signed[unsigned.len()..]].concat();
    fs::write(fixture.folder.path().join(HEAD_KEY), moved).expect("it is written");
    refused(trust(&['2']), expect!["FOLDER/head: the head's signature is not one of key a09aa5f47a675980, which it names"]);
    fixture.sign(&signer('2'), Timestamp::from_seconds(1_000));
    let at = |seconds| fixture.open(trust(&['2']).with_head_age_max(Span::from_seconds(60)), Timestamp::from_seconds(seconds));
    assert!(at(1_060).is_ok());
    expect!["FOLDER/head: the head was signed 61 s ago, and at most 60 s are accepted; publish again"]
        .assert_eq(&at(1_061).map(|_| ()).expect_err("it is too old"));
    refused(trust(&['2']).with_epoch_min(3), expect!["FOLDER/head: the head has epoch 2, and the lowest accepted is 3"]);
}

#[test]
fn a_later_head_is_taken_over_only_if_it_is_signed_and_an_old_one_stops_answering() {
    let fixture = Fixture::new();
    fixture.materialize(7);
    fixture.sign(&signer('1'), Timestamp::from_seconds(1_000));
    let start = Timestamp::from_seconds(1_000);
    let trust = trust(&['1']).with_head_age_max(Span::from_seconds(60));
    let reader = fixture.open(trust.clone(), start).expect("it is accepted");
    let replayed = fixture.head();
    fixture.materialize(8);
    let refresh = |seconds| fixture.runtime.block_on(reader.refresh(Timestamp::from_seconds(seconds)));
    assert!(refresh(1_010).is_err(), "it is not signed");
    assert_eq!(reader.snapshot().epoch(), 1);
    fixture.sign(&signer('1'), Timestamp::from_seconds(1_020));
    assert_eq!(refresh(1_030).expect("it is accepted").map(|snapshot| snapshot.epoch()), Some(2));
    // The one before again, with its good signature.
    let newest = fixture.head();
    fs::write(fixture.folder.path().join(HEAD_KEY), replayed).expect("it is written");
    assert!(refresh(1_040).expect("it is no news").is_none());
    assert_eq!(reader.snapshot().epoch(), 2);
    fs::write(fixture.folder.path().join(HEAD_KEY), newest).expect("it is written");
    assert!(reader.check_age(Timestamp::from_seconds(1_080)).is_ok());
    assert!(reader.check_age(Timestamp::from_seconds(1_081)).is_err());
    // Signed anew under the same epoch, it answers on.
    fixture.sign(&signer('1'), Timestamp::from_seconds(1_081));
    assert!(refresh(1_081).expect("it is accepted").is_none());
    assert!(reader.check_age(Timestamp::from_seconds(1_100)).is_ok());
    // The server's clock is far beyond.
    let (status, body, _) = fixture.ask(trust, Timestamp::from_seconds(1_081));
    assert_eq!(status, 503);
    assert!(body.contains("and at most 60 s are accepted"), "{body}");
}

#[test]
fn pages_that_the_signed_manifest_does_not_have_are_refused() {
    let fixture = Fixture::new();
    fixture.materialize(7);
    fixture.sign(&signer('1'), now());
    let place = fixture.segment_file(7);
    let whole = fs::read(&place).expect("it is there");
    // What anyone can do who may write: another value, and the checksum for it.
    let mut forged = whole.clone();
    let page_bytes = u32::from_le_bytes(forged[32..36].try_into().expect("four bytes")) as usize;
    let at = forged[..page_bytes].windows(8).rposition(|bytes| bytes != [0; 8]).expect("there is data");
    forged[at] ^= 1;
    let seed = u64::from_le_bytes(forged[..8].try_into().expect("eight bytes"));
    let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(&forged[16..page_bytes], seed);
    forged[8..16].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&place, &forged).expect("it is written");
    assert_eq!(fixture.ask(Trust::none(), now()).0, 200, "without keys the folder is believed");
    let (status, body, _) = fixture.ask(trust(&['1']), now());
    assert_eq!(status, 503);
    assert!(body.contains("page and path lead to the root"), "{body}");
    // With leaves to match, it is the root that is not the signed one.
    let tree = fixture.folder.path().join(tree_key(SegmentId::from_bytes([7; 16]), 0));
    let leaves = fs::read(&tree).expect("it is there");
    fs::write(&tree, tree_bytes(&[Tree::leaf(&forged[..page_bytes])])).expect("it is written");
    assert_eq!(fixture.ask(trust(&['1']), now()).0, 503);
    // A page without leaves cannot be checked.
    fs::write(&place, &whole).expect("it is written");
    fs::remove_file(&tree).expect("it was there");
    let (status, body, _) = fixture.ask(trust(&['1']), now());
    assert_eq!(status, 503);
    assert!(body.contains("does not exist"), "{body}");
    fs::write(&tree, leaves).expect("it is written");
    assert_eq!(fixture.ask(trust(&['1']), now()).0, 200);
}

#[test]
fn a_manifest_that_was_not_signed_is_not_opened() {
    let fixture = Fixture::new();
    fixture.materialize(7);
    let head = Head::decode(&fixture.head()).expect("it is whole");
    let bytes = head.encode().expect("it is small");
    let signed = signer('1').sign(&bytes, &[b"another manifest"], now());
    fs::write(fixture.folder.path().join(HEAD_KEY), signed).expect("it is written");
    let refused = fixture.open(trust(&['1']), now()).map(|_| ()).expect_err("it was not signed");
    assert!(refused.contains("the manifest has the digest"), "{refused}");
}

#[test]
fn secrets_are_read_back_and_not_shown() {
    let signer = Signer::generate().expect("the system has randomness");
    let text = signer.secret_text();
    let again: Signer = text.parse().expect("it is one");
    assert_eq!(again.public_key(), signer.public_key());
    assert_eq!(signer.public_key().to_string().parse::<PublicKey>(), Ok(signer.public_key()));
    let shown = format!("{signer:?}");
    assert!(!shown.contains(&text["mezze-secret-ed25519:".len()..][..16]), "{shown}");
    for wrong in ["", "mezze-secret-ed25519:", &text[..text.len() - 1], &text.replace("secret", "public")] {
        let error = wrong.parse::<Signer>().expect_err("it is none").to_string();
        assert!(wrong.is_empty() || !error.contains(wrong) || wrong == "mezze-secret-ed25519:", "{error}");
    }
}
