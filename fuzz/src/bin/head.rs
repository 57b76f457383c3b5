//! Heads and the ends of segment files: any bytes cost at worst an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mezze_core::{Head, SegmentIndex, SignedHead, Snapshot};
use mezze_fuzz::mend;

fuzz_target!(|data: &[u8]| {
    if let Ok(index) = SegmentIndex::decode(data) {
        for bucket in 0..index.bucket_count().min(64) {
            let _ = index.page_range(bucket);
        }
    }
    let mut bytes = data.to_vec();
    mend(&mut bytes);
    if let Ok(SignedHead { head, signature }) = SignedHead::decode(&bytes) {
        let signature = signature.map(|signature| signature.encode()).unwrap_or_default();
        assert_eq!(head.encode().map(|head| [head, signature].concat()), Some(bytes.clone()));
        assert_eq!(Head::decode(&bytes), Ok(head));
    }
    let _ = Snapshot::open(&bytes);
});
