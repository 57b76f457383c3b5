//! Manifests: any bytes cost at worst an error, and what is read is written back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mezze_core::{Limits, Manifest, MediaType, Snapshot, Timestamp};
use mezze_fuzz::mend;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    mend(&mut bytes);
    let Ok(manifest) = Manifest::decode(&bytes) else { return };
    assert_eq!(manifest.encode().as_deref(), Some(bytes.as_slice()));
    let services: Vec<String> = manifest.services.iter().map(|service| service.name.clone()).collect();
    let snapshot = Snapshot::new(Manifest::id_of(&bytes), 1, Timestamp::EPOCH, manifest);
    for service in services.iter().filter(|name| !name.contains(['"', '\\'])) {
        let request = format!(r#"{{"feature_service": "{service}", "entities": {{"user": [0, null]}}}}"#);
        let plan = snapshot.plan_body(request.as_bytes(), MediaType::Json, Timestamp::EPOCH, &Limits::server());
        if let Ok(plan) = plan {
            let _ = plan.write_answer(&vec![None; plan.pages().len()], MediaType::Json, &mut Vec::new());
        }
    }
});
