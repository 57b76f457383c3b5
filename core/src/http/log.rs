//! Lines about what was served, to compare with what was trained on.

use alloc::{format, string::String, vec::Vec};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Served;
use crate::wire::encoder::Encoder;
use crate::{MediaType, Plan, RFC3339_BYTES_MAX, Response, Timestamp};

/// Whether a response is of the sample: by its content and instant, since there is no randomness here.
pub(super) fn is_sampled(one_in: u32, now: Timestamp, body: &[u8]) -> bool {
    if one_in == 0 {
        return false;
    }
    let mixed = xxh3_64_with_seed(body, 0) ^ now.nanos().cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    xxh3_64_with_seed(&mixed.to_le_bytes(), 0).is_multiple_of(u64::from(one_in))
}

/// A line of JSON: snapshot, epoch, now, a hash of each entity row's own values, and every feature's values and statuses. The
/// hash is xxh3 of the JSON list of the row's values; it hides no key that can be guessed.
pub(super) fn line(served: &Served<'_>, plan: &Plan, features: &Response<'_>) -> Option<String> {
    let mut line = Vec::new();
    let mut encoder = Encoder { media_type: MediaType::Json, out: &mut line };
    encoder.begin_map(5);
    encoder.key(0, "snapshot");
    encoder.text(&format!("{}", served.snapshot.id()));
    encoder.key(1, "epoch");
    encoder.int(i64::try_from(served.snapshot.epoch()).unwrap_or(i64::MAX));
    encoder.key(2, "now");
    encoder.word(plan.now().rfc3339(&mut [0; RFC3339_BYTES_MAX]));
    encoder.key(3, "keys");
    encoder.begin_list(features.row_count);
    let echoed = plan.echoed_columns();
    for row in 0..features.row_count {
        let hash = xxh3_64_with_seed(&features.row_json(0..echoed, row).ok()?, 0);
        encoder.separate(row);
        encoder.word(&format!("{hash:016x}"));
    }
    encoder.end_list();
    encoder.key(4, "features");
    encoder.begin_map(features.columns.len().saturating_sub(echoed));
    for (index, number) in (echoed..features.columns.len()).enumerate() {
        encoder.separate(index);
        features.write_column(number, &mut encoder).ok()?;
    }
    encoder.end_map();
    encoder.end_map();
    String::from_utf8(line).ok()
}
