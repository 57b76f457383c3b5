//! A store in the component that trusts keys, against what the core's test data have signed.

use expect_test::{Expect, expect};
use mezze_core::{Timestamp, Tree};
use mezze_replica::Signer;
use mezze_runtime::{Lookup, PageName, RuntimeError, ServingStore, Trust};

use super::{ALL, Golden, NOW, runtime};

/// The secret key of the test data.
const SECRET: &str = "mezze-secret-ed25519:5151515151515151515151515151515151515151515151515151515151515151";
const OTHER: &str = "mezze-secret-ed25519:5252525252525252525252525252525252525252525252525252525252525252";
/// When the test data were signed, in seconds.
const SIGNED: i64 = 2_001;

fn signer(text: &str) -> Signer {
    text.parse().expect("it is a key")
}

fn trust(texts: &[&str]) -> Trust {
    Trust { keys: texts.iter().map(|text| signer(text).public_key().to_string()).collect(), ..Trust::default() }
}

fn trusting(trust: Trust) -> ServingStore {
    let mut store = runtime().store(1 << 20).expect("there is room for an instance");
    store.set_trust(trust).expect("its keys are keys");
    store
}

fn signed(golden: &Golden, by: &str, seconds: i64) -> Vec<u8> {
    // The data do not have the manifest of the snapshot before: any will do that is not opened.
    signer(by).sign(&golden.head, &[&golden.manifest, b"before"], Timestamp::from_seconds(seconds))
}

fn page(golden: &Golden, name: &PageName) -> Option<Vec<u8>> {
    let leaves: Vec<_> = (0..golden.index.bucket_count()).map(|bucket| Tree::leaf(&golden.page(bucket))).collect();
    Some([golden.page(name.bucket), Tree::new(leaves).path(name.bucket)?].concat())
}

fn refused(result: Result<impl Sized, RuntimeError>, expected: Expect) {
    expected.assert_eq(&result.map(|_| ()).expect_err("it is not to be opened").to_string());
}

fn nanos(seconds: i64) -> i64 {
    seconds * 1_000_000_000
}

#[test]
fn heads_that_no_trusted_key_signed_are_refused_with_the_reason() {
    let golden = Golden::read();
    let good = signed(&golden, SECRET, SIGNED);
    trusting(trust(&[SECRET])).open(&good, None, nanos(SIGNED)).expect("it is signed");
    let mut both = trusting(trust(&[OTHER, SECRET]));
    both.open(&good, None, nanos(SIGNED)).expect("while keys change both are trusted");
    both.open(&signed(&golden, OTHER, SIGNED + 1), None, nanos(SIGNED)).expect("while keys change both are trusted");
    let open = |trust: Trust, head: &[u8], seconds| trusting(trust).open(head, None, nanos(seconds));
    refused(
        open(trust(&[SECRET]), &golden.head, SIGNED),
        expect!["the snapshot cannot be opened: the head is not signed; trusted: c050c5637a44fa86"],
    );
    refused(
        open(trust(&[OTHER]), &good, SIGNED),
        expect![
            "the snapshot cannot be opened: the head is signed with key c050c5637a44fa86, which is not trusted; trusted: 2012cb90ca60e8e5"
        ],
    );
    let mut moved = good.clone();
    moved[golden.head.len() + 8] ^= 1;
    refused(
        open(trust(&[SECRET]), &moved, SIGNED),
        expect!["the snapshot cannot be opened: the head's signature is not one of key c050c5637a44fa86, which it names"],
    );
    let aged = Trust { head_age_max_seconds: Some(60), ..trust(&[SECRET]) };
    refused(
        open(aged, &good, SIGNED + 61),
        expect!["the snapshot cannot be opened: the head was signed 61 s ago, and at most 60 s are accepted; publish again"],
    );
    let later = Trust { epoch_min: 5, ..trust(&[SECRET]) };
    refused(
        open(later, &good, SIGNED),
        expect!["the snapshot cannot be opened: the head has epoch 4, and the lowest accepted is 5"],
    );
    refused(
        open(trust(&[SECRET]), &good, 0),
        expect!["the snapshot cannot be opened: the head was signed 2001 s in the future; check the clocks"],
    );
}

#[test]
fn a_head_that_would_take_something_back_is_refused() {
    let golden = Golden::read();
    let mut store = trusting(trust(&[SECRET]));
    store.open(&signed(&golden, SECRET, SIGNED), None, nanos(SIGNED)).expect("it is signed");
    let earlier = signed(&golden, SECRET, SIGNED - 1);
    refused(
        store.open(&earlier, None, nanos(SIGNED)),
        expect![
            "the snapshot cannot be opened: the head is of an earlier epoch than the one that is open, or was signed earlier"
        ],
    );
    // The same again, and signed anew, is no step back.
    store.open(&signed(&golden, SECRET, SIGNED), None, nanos(SIGNED)).expect("it is the one that is open");
    store.open(&signed(&golden, SECRET, SIGNED + 1), None, nanos(SIGNED)).expect("it is the one that is open, signed anew");
}

#[test]
fn manifests_and_pages_have_to_be_those_that_were_signed() {
    let golden = Golden::read();
    let mut store = trusting(trust(&[SECRET]));
    let head = signer(SECRET).sign(&golden.head, &[b"another", b"before"], Timestamp::from_seconds(SIGNED));
    refused(
        store.open(&head, None, nanos(SIGNED)),
        expect!["the snapshot cannot be opened: the manifest has the digest 00bf9b8fccea2d00, signed is cee450a240628949"],
    );
    store.open(&signed(&golden, SECRET, SIGNED), None, nanos(SIGNED)).expect("it is signed");
    let lookup = Lookup::json(ALL, NOW);
    refused(
        store.lookup(&lookup, |name| Some(golden.page(name.bucket))),
        expect!["page p/0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b/0/0: 0 bytes are behind the page, its path has 32"],
    );
    // The path of the other bucket.
    let swapped = |name: &PageName| {
        let own = golden.page(name.bucket);
        let other = page(&golden, &PageName { bucket: 1 - name.bucket, ..*name })?;
        Some([&own[..], &other[other.len() - 32..]].concat())
    };
    refused(
        store.lookup(&lookup, swapped),
        expect![
            "page p/0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b/0/0: page and path lead to the root 4e84c6dffbed6289, the signed manifest has 794e79e661f7f1bb"
        ],
    );
    let other = |name: &PageName| page(&golden, &PageName { bucket: 1 - name.bucket, ..*name });
    refused(
        store.lookup(&lookup, other),
        expect![
            "page p/0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b/0/0: expected page p/0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b/0/0, found page p/0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b/0/1"
        ],
    );
    let served = store.lookup(&lookup, |name| page(&golden, name)).expect("they are those that were signed");
    assert_eq!(served.status, 200);
    let mut open = runtime().store(1 << 20).expect("there is room for an instance");
    open.open(&golden.head, None, 0).expect("the head is whole");
    assert_eq!(open.lookup(&lookup, |name| Some(golden.page(name.bucket))).expect("it answers"), served);
}

#[test]
fn what_was_signed_too_long_ago_by_now_answers_no_more() {
    let golden = Golden::read();
    let mut store = trusting(Trust { head_age_max_seconds: Some(60), ..trust(&[SECRET]) });
    store.open(&signed(&golden, SECRET, SIGNED), None, nanos(SIGNED)).expect("it is signed");
    let ask = |store: &mut ServingStore, seconds| {
        store.lookup(&Lookup::json(ALL, nanos(seconds)), |name| page(&golden, name)).expect("nothing stops it")
    };
    assert_eq!(ask(&mut store, SIGNED + 60).status, 200);
    let served = ask(&mut store, SIGNED + 61);
    assert_eq!(served.status, 503);
    expect![[r#""{\"module\": \"feast.errors\", \"class\": \"FeastError\", \"message\": \"no snapshot can be read: the head was signed 61 s ago, and at most 60 s are accepted; publish again\"}""#]].assert_eq(&String::from_utf8_lossy(&served.body));
    store.open(&signed(&golden, SECRET, SIGNED + 61), None, nanos(SIGNED + 61)).expect("it was signed anew");
    assert_eq!(ask(&mut store, SIGNED + 61).status, 200);
}

#[test]
fn a_store_that_was_to_trust_and_got_no_key_opens_nothing() {
    let golden = Golden::read();
    for keys in [vec![], vec!["nonsense".to_owned()], vec![SECRET.to_owned()]] {
        let mut store = runtime().store(1 << 20).expect("there is room for an instance");
        store.set_trust(Trust { keys, ..Trust::default() }).expect_err("there is no key in it");
        store.open(&golden.head, None, 0).expect_err("nobody is trusted");
        store.open(&signed(&golden, SECRET, SIGNED), None, nanos(SIGNED)).expect_err("nobody is trusted");
    }
}
