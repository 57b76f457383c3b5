//! What trust costs a host: `cargo run --release -p mezze-core --example trust`
//!
//! The head is verified once a publish, a page once for each cached copy.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer as _, SigningKey};
use mezze_core::{
    ColumnData, ColumnInput, Head, HeadSignature, KeyHash, KeyPart, PageInput, PageKey, PageRef, PageWriter, PublicKey, Segment,
    SegmentId, SignedHead, SnapshotId, Timestamp, Tree, Trust, ViewInput, path_bytes, signed_message,
};

const PAGE_ROWS: i64 = 8_000;

fn main() {
    let key = SigningKey::from_bytes(&[1; 32]);
    let head = Head {
        epoch: 1,
        issued_at: Timestamp::MIN,
        snapshot: SnapshotId::from_bytes([1; 16]),
        previous: vec![],
        manifest: Some(vec![7; 4_096]),
    };
    let head = head.encode().expect("it is small");
    let (signed_at, digests) = (Timestamp::from_seconds(1), vec![[1; 32]]);
    let signature = key.sign(&signed_message(&head, signed_at, &digests)).to_bytes();
    let public = PublicKey::from_bytes(key.verifying_key().to_bytes());
    let value = [head, HeadSignature { signed_at, digests, key: public, signature }.encode()].concat();
    let read = SignedHead::decode(&value).expect("it is whole");
    let trust = Trust::new([public]);

    let segment = SegmentId::from_bytes([9; 16]);
    let page = page(segment);
    for bucket_count in [1, 20_000] {
        let leaves = (0..bucket_count).map(|_| Tree::leaf(&page)).collect();
        let tree = Tree::new(leaves);
        let value = [&page[..], &tree.path(0).expect("there is a bucket 0")].concat();
        let root = tree.root();
        let segment = Segment { id: segment, bucket_count, row_count: 0, page_bytes: 0, root, time_shifts: vec![] };
        let (key, read) = (PageKey::new(segment.id, 0, 0), PageRef::resident(&value).expect("it is whole"));
        let took = time(|| trust.check_page(&value, &read, &key, &segment).is_ok());
        println!("page of {} bytes, 1 of {bucket_count}, {} bytes of path: {took:?}", page.len(), path_bytes(bucket_count));
    }
    let took = time(|| trust.check_head(&value, &read, Timestamp::from_seconds(2)).is_ok());
    println!("head of {} bytes: {took:?}", value.len());
}

fn page(segment: SegmentId) -> Vec<u8> {
    let mut rows: Vec<(KeyHash, i64)> = (0..PAGE_ROWS).map(|row| (KeyHash::of(&[KeyPart::Int(row)]), row)).collect();
    rows.sort_unstable();
    let hashes: Vec<KeyHash> = rows.iter().map(|(hash, _)| *hash).collect();
    let keys: Vec<i64> = rows.iter().map(|(_, row)| *row).collect();
    let values: Vec<i64> = keys.iter().map(|key| key.wrapping_mul(0x9E37_79B9) & 0xFFFF_FFFF).collect();
    let column = |data| ColumnInput { data, validity: None };
    let (keys, features) = ([column(ColumnData::Int(&keys))], [column(ColumnData::Int(&values))]);
    let times = vec![0; hashes.len()];
    let views = [ViewInput { times: &times, present: None, features: &features }];
    let input = PageInput { key: PageKey::new(segment, 0, 0), bucket_count: 1, hashes: &hashes, keys: &keys, views: &views };
    let mut page = Vec::new();
    PageWriter::new().write(&input, &mut page).expect("the rows are in order");
    page
}

/// The least of some rounds.
fn time(run: impl Fn() -> bool) -> Duration {
    let rounds = (0..30).map(|_| {
        let start = Instant::now();
        for _ in 0..100 {
            assert!(black_box(run()));
        }
        start.elapsed() / 100
    });
    rounds.min().unwrap_or_default()
}
