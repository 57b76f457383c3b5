//! Writes the seeds: one well-formed input for each target. `cargo run --bin seed` in fuzz/.

use std::path::Path;

use mezze_core::{
    ColumnData, ColumnInput, Head, KeyHash, KeyPart, Manifest, PageInput, PageWriter, PatchInput, Timestamp, ViewInput,
};
use mezze_fuzz::{manifest, page_key};

fn main() -> std::io::Result<()> {
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)
    };
    let manifest = manifest().encode().expect("it is small");
    put("manifest", "one-table", &manifest)?;
    let head = Head {
        epoch: 1,
        issued_at: Timestamp::EPOCH,
        snapshot: Manifest::id_of(&manifest),
        previous: vec![],
        manifest: Some(manifest),
    };
    put("head", "inline", &head.encode().expect("it is small"))?;
    put(
        "request",
        "service",
        br#"{"feature_service": "all", "entities": {"user": [0, "1", null]}, "full_feature_names": true}"#,
    )?;
    put("request", "features", br#"{"features": ["view:f0", "view:f3"], "entities": {"user": [1]}}"#)?;

    let mut rows: Vec<(KeyHash, i64)> = (0..4).map(|user| (KeyHash::of(&[KeyPart::Int(user)]), user)).collect();
    rows.sort_unstable();
    let hashes: Vec<KeyHash> = rows.iter().map(|row| row.0).collect();
    let users: Vec<i64> = rows.iter().map(|row| row.1).collect();
    let int = ColumnInput { data: ColumnData::Int(&[5, -1, 1 << 40, 7]), validity: Some(&[true, true, false, true]) };
    let float = ColumnInput { data: ColumnData::Float32(&[0.5, 0.25, 1.5, 0.1]), validity: None };
    let double = ColumnInput { data: ColumnData::Float64(&[0.1, 1e300, f64::NAN, 2.5]), validity: None };
    let text = ColumnInput { data: ColumnData::Bytes { offsets: &[0, 1, 3, 3, 4], data: b"abcd" }, validity: None };
    let nested = ColumnInput { data: ColumnData::Bytes { offsets: &[0, 1, 2, 3, 4], data: &[0, 0, 0, 0] }, validity: None };
    let uuids = [3; 64];
    let uuid = ColumnInput { data: ColumnData::Bytes { offsets: &[0, 16, 32, 48, 64], data: &uuids }, validity: None };
    let flag = ColumnInput { data: ColumnData::Int(&[0, 1, 1, 0]), validity: None };
    let features = [int, float, double, text, nested, uuid, flag];
    let keys = [ColumnInput { data: ColumnData::Int(&users), validity: None }];
    let views = [ViewInput { times: &[1, 2, 3, 4], present: None, features: &features }];
    let input = PageInput { key: page_key(), bucket_count: 1, hashes: &hashes, keys: &keys, views: &views };
    let mut page = Vec::new();
    PageWriter::new().write(&input, &mut page).expect("the rows are in order");
    put("page", "four-rows", &page)?;
    let first = [ColumnInput { data: ColumnData::Int(users.get(..1).unwrap_or_default()), validity: None }];
    let page = PageInput { hashes: hashes.get(..1).unwrap_or_default(), keys: &first, ..input };
    let own: Vec<&[bool]> = (0..8)
        .map(|column| if column % 2 == 0 { &[true, false, false, true] } else { &[true; 4] })
        .map(|own: &[bool; 4]| own.as_slice())
        .collect();
    let mut patch = Vec::new();
    PageWriter::new()
        .write_patch(&PatchInput { page, places: &[(0, 0), (0, 1), (0, 3)], own: &own }, &mut patch)
        .expect("the places are in order");
    put("page", "patch", &patch)?;
    put("payload", "list", &[4, 1, 5, 1, 0, 1, 0])
}
