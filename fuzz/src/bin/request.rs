//! Requests in JSON and MessagePack: any bytes get an answer or a refusal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mezze_core::{Limits, MediaType, Timestamp};
use mezze_fuzz::snapshot;

fuzz_target!(|data: &[u8]| {
    let snapshot = snapshot();
    for media_type in [MediaType::Json, MediaType::MessagePack] {
        match snapshot.plan_body(data, media_type, Timestamp::EPOCH, &Limits::server()) {
            Ok(plan) => {
                let _ = plan.write_answer(&vec![None; plan.pages().len()], media_type, &mut Vec::new());
            }
            Err(refusal) => {
                assert!((400..500).contains(&refusal.status));
                refusal.write(&mut Vec::new());
            }
        }
    }
});
