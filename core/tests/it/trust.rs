//! What a host with trust keys accepts, and what it refuses.

use ed25519_dalek::{Signer as _, SigningKey};
use expect_test::{Expect, expect};
use mezze_core::{
    Digest, Head, HeadSignature, PATH_BYTES_MAX, PageKey, PageRef, ParseKeyError, PreviousSnapshot, PublicKey, Segment,
    SegmentId, SignedHead, SnapshotId, Span, Timestamp, Tree, Trust, TrustError, manifest_digest, path_bytes, signed_message,
};

use crate::gateway;

const SIGNED: i64 = 1_000;

pub(crate) fn secret(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

pub(crate) fn public(number: u8) -> PublicKey {
    PublicKey::from_bytes(secret(number).verifying_key().to_bytes())
}

/// The value of a head with a signature by key `number`.
pub(crate) fn sign(head: &[u8], digests: &[Digest], signed_at: i64, number: u8) -> Vec<u8> {
    let signed_at = Timestamp::from_seconds(signed_at);
    let signature = secret(number).sign(&signed_message(head, signed_at, digests)).to_bytes();
    let trailer = HeadSignature { signed_at, digests: digests.into(), key: public(number), signature };
    [head, &trailer.encode()].concat()
}

fn head() -> Head {
    let previous =
        PreviousSnapshot { epoch: 6, issued_at: Timestamp::from_seconds(1), snapshot: SnapshotId::from_bytes([2; 16]) };
    Head {
        epoch: 7,
        issued_at: Timestamp::from_seconds(2),
        snapshot: SnapshotId::from_bytes([3; 16]),
        previous: vec![previous],
        manifest: Some(b"not looked at here".into()),
    }
}

fn bytes() -> Vec<u8> {
    head().encode().expect("it is small")
}

fn check(trust: &Trust, value: &[u8], now: i64) -> Result<(), TrustError> {
    let read = SignedHead::decode(value).expect("it is whole");
    trust.check_head(value, &read, Timestamp::from_seconds(now))
}

fn refused(trust: &Trust, value: &[u8], now: i64, expected: Expect) {
    expected.assert_eq(&check(trust, value, now).expect_err("it is not to be served").to_string());
}

#[test]
fn a_head_of_a_trusted_key_is_accepted_and_others_say_why_not() {
    let trust = Trust::new([public(1)]);
    let signed = sign(&bytes(), &[[1; 32], [2; 32]], SIGNED, 1);
    assert_eq!(check(&trust, &signed, SIGNED), Ok(()));
    refused(&trust, &bytes(), SIGNED, expect!["the head is not signed; trusted: 8a88e3dd7409f195"]);
    let other = sign(&bytes(), &[[1; 32], [2; 32]], SIGNED, 2);
    refused(
        &trust,
        &other,
        SIGNED,
        expect!["the head is signed with key 8139770ea87d175f, which is not trusted; trusted: 8a88e3dd7409f195"],
    );
    // The signature of another head.
    let another = Head { epoch: 8, ..head() }.encode().expect("it is small");
    let moved = [&another[..], &signed[bytes().len()..]].concat();
    refused(&trust, &moved, SIGNED, expect!["the head's signature is not one of key 8a88e3dd7409f195, which it names"]);
    let fewer = sign(&bytes(), &[[1; 32]], SIGNED, 1);
    refused(&trust, &fewer, SIGNED, expect!["the head names 2 manifests, 1 are signed"]);
    let aged = trust.clone().with_head_age_max(Span::from_seconds(60));
    assert_eq!(check(&aged, &signed, SIGNED + 60), Ok(()));
    refused(&aged, &signed, SIGNED + 61, expect!["the head was signed 61 s ago, and at most 60 s are accepted; publish again"]);
    assert_eq!(check(&trust, &signed, i64::MAX / 1_000_000_000), Ok(()), "without a bound it never ages");
    assert_eq!(check(&trust, &signed, SIGNED - 300), Ok(()), "clocks differ");
    refused(&trust, &signed, SIGNED - 301, expect!["the head was signed 301 s in the future; check the clocks"]);
    assert_eq!(check(&trust.clone().with_epoch_min(7), &signed, SIGNED), Ok(()));
    refused(&trust.with_epoch_min(8), &signed, SIGNED, expect!["the head has epoch 7, and the lowest accepted is 8"]);
}

#[test]
fn while_keys_change_both_are_trusted() {
    let both = Trust::new([public(1), public(2)]);
    for key in [1, 2] {
        assert_eq!(check(&both, &sign(&bytes(), &[[1; 32], [2; 32]], SIGNED, key), SIGNED), Ok(()), "key {key}");
    }
    let new = Trust::new([public(2)]);
    let old = check(&new, &sign(&bytes(), &[[1; 32], [2; 32]], SIGNED, 1), SIGNED);
    assert!(matches!(old, Err(TrustError::UntrustedKey { .. })), "{old:?}");
}

#[test]
fn no_bit_of_a_signed_head_can_change() {
    let trust = Trust::new([public(1)]);
    let signed = sign(&bytes(), &[[1; 32], [2; 32]], SIGNED, 1);
    let is_refused = |value: &[u8]| {
        SignedHead::decode(value).map_or(true, |read| trust.check_head(value, &read, Timestamp::from_seconds(SIGNED)).is_err())
    };
    assert!(!is_refused(&signed));
    for bit in 0..signed.len() * 8 {
        let mut changed = signed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(is_refused(&changed), "bit {bit}");
    }
    for end in 0..signed.len() {
        assert!(is_refused(&signed[..end]), "prefix {end}");
        assert!(is_refused(&signed[end..]) || end == 0, "suffix {end}");
    }
}

#[test]
fn a_host_without_keys_reads_signed_heads_and_refuses_what_else_is_behind_one() {
    let signed = sign(&bytes(), &[[1; 32], [2; 32]], SIGNED, 1);
    assert_eq!(Head::decode(&signed), Ok(head()));
    assert_eq!(Head::decode(&bytes()), Ok(head()));
    let read = SignedHead::decode(&signed).expect("it is whole");
    assert_eq!(Trust::none().check_head(&signed, &read, Timestamp::from_seconds(SIGNED)), Ok(()));
    assert_eq!(read.signature.map(|signature| signature.key), Some(public(1)));
    let trailer = &signed[bytes().len()..];
    let count_at = trailer.len() - 8;
    let mut of_none = trailer[64..].to_vec();
    of_none[count_at - 64] = 0;
    let mut of_four = [&[0; 64], trailer].concat();
    of_four[count_at + 64] = 4;
    let mut later = trailer.to_vec();
    later[count_at + 2] = 2;
    for (junk, what) in [
        (&b"junk"[..], "junk"),
        (&trailer[1..], "a trailer without its first byte"),
        (&[trailer, trailer].concat(), "two trailers"),
        (&[0], "a byte"),
        (&of_none, "a trailer of no manifest"),
        (&of_four, "a trailer of four manifests"),
        (&later, "a later version"),
    ] {
        assert!(Head::decode(&[&bytes(), junk].concat()).is_err(), "{what}");
    }
    expect!["signature has format version 2, this build reads up to 1; update the reader first"]
        .assert_eq(&SignedHead::decode(&[bytes(), later].concat()).expect_err("it is later").to_string());
}

#[test]
fn manifests_are_those_that_were_signed() {
    let trust = Trust::new([public(1)]);
    let signed = sign(&bytes(), &[manifest_digest(b"newest"), manifest_digest(b"before")], SIGNED, 1);
    let signature = SignedHead::decode(&signed).expect("it is whole").signature;
    let check = |number, manifest| trust.check_manifest(signature.as_ref(), number, manifest);
    assert_eq!((check(0, b"newest"), check(1, b"before")), (Ok(()), Ok(())));
    let message = |result: Result<(), TrustError>| result.expect_err("it was not signed").to_string();
    expect!["the manifest has the digest 18c52a7ed981fbff, signed is e69225d175659b25"].assert_eq(&message(check(0, b"before")));
    expect!["the manifest has the digest 18c52a7ed981fbff, none is signed for it"].assert_eq(&message(check(2, b"before")));
    assert!(trust.check_manifest(None, 0, b"newest").is_err(), "a head without signature is never accepted");
}

/// Leaves that are all different.
fn leaves(count: u32) -> Vec<Digest> {
    (0..count).map(|bucket| Tree::leaf(&bucket.to_le_bytes())).collect()
}

/// The tree by its definition, in another way: all levels padded.
fn oracle(leaves: &[Digest]) -> Digest {
    const NODE: &[u8; 32] = b"mezze page tree, version 1: node";
    match leaves {
        [root] => *root,
        _ => {
            let above: Vec<Digest> = leaves
                .chunks(2)
                .map(|pair| {
                    let both = [pair[0], pair.get(1).copied().unwrap_or([0; 32])].concat();
                    *blake3::keyed_hash(NODE, &both).as_bytes()
                })
                .collect();
            oracle(&above)
        }
    }
}

#[test]
fn a_path_fits_its_bucket_of_its_count_and_no_other() {
    for count in [1, 2, 3, 5, 6, 7, 100] {
        let trees = gateway::page_of_count(count);
        let root = Tree::new(trees.iter().map(|page| Tree::leaf(page)).collect()).root();
        let tree = Tree::new(trees.iter().map(|page| Tree::leaf(page)).collect());
        assert_eq!(root, oracle(tree.leaves()), "{count}");
        let trust = Trust::new([public(1)]);
        let accepts = |page: &[u8], path: &[u8], bucket: u32, bucket_count: u32, root: Digest| {
            let segment = Segment {
                id: SegmentId::from_bytes([9; 16]),
                bucket_count,
                row_count: 0,
                page_bytes: 0,
                root,
                time_shifts: vec![],
            };
            let value = [page, path].concat();
            let page = PageRef::resident(&value).expect("it is whole");
            trust.check_page(&value, &page, &PageKey::new(segment.id, 0, bucket), &segment).is_ok()
        };
        assert_eq!(tree.path(count), None);
        for bucket in 0..count {
            let (page, path) = (&trees[bucket as usize], tree.path(bucket).expect("the bucket is there"));
            assert_eq!(path.len(), path_bytes(count));
            assert!(accepts(page, &path, bucket, count, root), "{bucket} of {count}");
            for other in (0..count).filter(|other| *other != bucket) {
                assert!(!accepts(page, &path, other, count, root), "{bucket} as {other} of {count}");
                let theirs = tree.path(other).expect("the bucket is there");
                assert!(!accepts(page, &theirs, bucket, count, root), "{bucket} with the path of {other} of {count}");
                assert!(!accepts(&trees[other as usize], &path, bucket, count, root), "{other} with the path of {bucket}");
            }
            assert!(!accepts(page, &path, bucket + count, count, root), "beyond the count");
            assert!(!accepts(page, &path, bucket, count * 2 + 1, root), "of another count");
            assert!(!accepts(page, &path, bucket, count, [0; 32]), "another segment's root");
            assert!(!accepts(page, &[&path[..], &[0; 32]].concat(), bucket, count, root), "a longer path");
            if !path.is_empty() {
                assert!(!accepts(page, &path[32..], bucket, count, root), "a shorter path");
                assert!(!accepts(page, b"", bucket, count, root), "no path");
            }
        }
    }
    assert_eq!((path_bytes(0), path_bytes(1), path_bytes(2), path_bytes(u32::MAX)), (0, 0, 32, PATH_BYTES_MAX));
    // What stands for a leaf is no leaf's digest, nor is a node.
    let two = leaves(2);
    assert_ne!(Tree::leaf(&[two[0], two[1]].concat()), Tree::new(two).root());
    assert_eq!(Tree::new(vec![]).root(), [0; 32]);
}

#[test]
fn no_bit_of_a_page_or_its_path_can_change() {
    let pages = gateway::page_of_count(3);
    let tree = Tree::new(pages.iter().map(|page| Tree::leaf(page)).collect());
    let segment = Segment {
        id: SegmentId::from_bytes([9; 16]),
        bucket_count: 3,
        row_count: 0,
        page_bytes: 0,
        root: tree.root(),
        time_shifts: vec![],
    };
    let trust = Trust::new([public(1)]);
    let value = [&pages[2][..], &tree.path(2).expect("the bucket is there")].concat();
    let accepted = |value: &[u8]| {
        let key = PageKey::new(segment.id, 0, 2);
        PageRef::resident(value).is_ok_and(|page| trust.check_page(value, &page, &key, &segment).is_ok())
    };
    assert!(accepted(&value));
    for bit in 0..value.len() * 8 {
        let mut changed = value.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!accepted(&changed), "bit {bit}");
    }
}

#[test]
fn keys_have_one_text_and_errors_do_not_show_it() {
    let key = public(1);
    let text = key.to_string();
    assert_eq!(text.parse(), Ok(key));
    assert_eq!(text["mezze-public-ed25519:".len()..].parse(), Ok(key));
    assert_eq!(key.id().to_string(), text["mezze-public-ed25519:".len()..][..16]);
    let parse = |text: &str| text.parse::<PublicKey>();
    assert_eq!(parse(&text.replace("public", "secret")), Err(ParseKeyError::Secret));
    for form in ["", "mezze-public-ed25519:", &text[..text.len() - 1], &format!("{text}0"), &text.replace("8a", "8g")] {
        assert_eq!(parse(form), Err(ParseKeyError::Form), "{form}");
    }
    // The identity, for which anyone can sign, and bytes that are no point.
    assert_eq!(parse(&format!("01{}", "0".repeat(62))), Err(ParseKeyError::Unusable));
    assert_eq!(parse(&format!("02{}", "0".repeat(62))), Err(ParseKeyError::Unusable));
}
