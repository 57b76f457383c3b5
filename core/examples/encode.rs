//! What writing pages costs, by kind of column.
//!
//!     cargo run --release -p mezze-core --example encode
//!
//! For each kind of value: nanoseconds and bytes a value, in pages of 400 rows.
#![expect(clippy::print_stdout, reason = "printing its figures is what it is for")]

use std::time::Instant;

use mezze_core::{ColumnData, ColumnInput, KeyHash, KeyPart, PageInput, PageKey, PageWriter, SegmentId, ViewInput};

const ROWS: usize = 400;
const ROUNDS: usize = 500;

fn main() {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 11
    };
    let mut users: Vec<(KeyHash, i64)> = (0..ROWS as i64).map(|user| (KeyHash::of(&[KeyPart::Int(user)]), user)).collect();
    users.sort_unstable();
    let hashes: Vec<KeyHash> = users.iter().map(|(hash, _)| *hash).collect();
    let times = vec![7; ROWS];
    let noise: Vec<f64> = (0..ROWS).map(|_| random() as f64 / (1_u64 << 53) as f64).collect();
    let noise32: Vec<f32> = noise.iter().map(|value| *value as f32).collect();
    let cents: Vec<f64> = (0..ROWS).map(|_| (random() % 100_000) as f64 / 100.0).collect();
    let counts: Vec<i64> = (0..ROWS).map(|_| (random() % 1000) as i64).collect();
    let wide: Vec<i64> = (0..ROWS).map(|_| random() as i64).collect();
    let flags: Vec<i64> = (0..ROWS).map(|_| (random() % 2) as i64).collect();
    let text = |texts: Vec<String>| {
        let mut offsets = vec![0_u32];
        texts.iter().for_each(|text| offsets.push(offsets[offsets.len() - 1] + text.len() as u32));
        (offsets, texts.concat())
    };
    let categories = text((0..ROWS).map(|_| format!("category {}", random() % 50)).collect());
    let names = text((0..ROWS).map(|_| format!("{:x}", random())).collect());
    let valid: Vec<bool> = (0..ROWS).map(|_| random() % 20 != 0).collect();
    let columns: [(&str, ColumnData<'_>); 9] = [
        ("noise float64", ColumnData::Float64(&noise)),
        ("noise float32", ColumnData::Float32(&noise32)),
        ("cents float64", ColumnData::Float64(&cents)),
        ("counts int64", ColumnData::Int(&counts)),
        ("wide int64", ColumnData::Int(&wide)),
        ("flags bool", ColumnData::Int(&flags)),
        ("categories", ColumnData::Bytes { offsets: &categories.0, data: categories.1.as_bytes() }),
        ("distinct text", ColumnData::Bytes { offsets: &names.0, data: names.1.as_bytes() }),
        ("times", ColumnData::Int(&times)),
    ];
    println!("kind\tns a value\tbytes a value\tns with nulls");
    let mut writer = PageWriter::new();
    for (name, data) in columns {
        let mut measure = |validity: Option<&[bool]>| {
            // Many columns of the kind, so that the rest of a page does not count.
            let features = [ColumnInput { data, validity }; 32];
            let views = [ViewInput { times: &times, present: None, features: &features }];
            let key = PageKey::new(SegmentId::from_bytes([1; 16]), 0, 0);
            let input = PageInput { key, bucket_count: 1, hashes: &hashes, keys: &[], views: &views };
            let mut page = Vec::new();
            let start = Instant::now();
            for _ in 0..ROUNDS {
                page.clear();
                writer.write(&input, &mut page).expect("the rows are in order");
            }
            let values = (ROUNDS * ROWS * features.len()) as f64;
            (start.elapsed().as_nanos() as f64 / values, page.len() as f64 / (ROWS * features.len()) as f64)
        };
        let (nanos, bytes) = measure(None);
        let (with_nulls, _) = measure(Some(&valid));
        println!("{name}\t{nanos:.1}\t{bytes:.2}\t{with_nulls:.1}");
    }
}
