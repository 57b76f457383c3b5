//! Pages: any bytes cost at worst an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mezze_core::{KeyHash, KeyPart, Limits, MediaType, PageRef, Timestamp};
use mezze_fuzz::{mend, page_key, schema, snapshot};

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    mend(&mut bytes);
    let schema = schema();
    let page = PageRef::verify(&bytes, &page_key(), 1, &schema).or_else(|_| PageRef::resident(&bytes));
    let Ok(page) = page else { return };
    for row in 0..page.row_count().min(64) {
        for column in 0..schema.column_count() {
            let _ = page.cell(row, column);
        }
        // A patch of itself.
        let _ = page.find_patched(&page, row);
    }
    let _ = page.patched();
    for user in 0..4 {
        let key = [KeyPart::Int(user)];
        let _ = page.find(KeyHash::of(&key), &key);
    }
    let request = br#"{"feature_service": "all", "entities": {"user": [0, 1, 2, 3]}}"#;
    let plan = snapshot().plan_body(request, MediaType::Json, Timestamp::EPOCH, &Limits::server());
    if let Ok(plan) = plan {
        let _ = plan.write_answer(&[Some(page)], MediaType::Json, &mut Vec::new());
    }
});
