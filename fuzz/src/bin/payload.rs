//! Payloads of nested values: any bytes cost at worst an error, and what is read is written back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mezze_core::{decode_payload, encode_payload};
use mezze_fuzz::schema;

fuzz_target!(|data: &[u8]| {
    let Some((choice, payload)) = data.split_first() else { return };
    let features = schema().views.remove(0).features;
    let value_type = &features[usize::from(*choice) % features.len()].value_type;
    if let Ok(value) = decode_payload(value_type, payload) {
        let mut again = Vec::new();
        // A NaN is written in its one form, and a varint in its shortest.
        if encode_payload(value_type, &value, &mut again).is_ok() && again.len() == payload.len() {
            let read = decode_payload(value_type, &again).expect("what was written can be read");
            assert_eq!(format!("{read:?}"), format!("{value:?}"));
        }
    }
});
