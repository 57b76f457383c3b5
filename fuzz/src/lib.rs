//! What the fuzz targets share: a small snapshot whose pages and manifests they damage.

use mezze_core::{
    Audience, FeatureSchema, KeyColumn, KeyType, Manifest, PageKey, Segment, SegmentId, Service, ServiceProjection, Snapshot,
    Span, Table, TableSchema, Timestamp, ValueType, ViewSchema,
};

/// The segment of the sample's pages.
pub const SEGMENT: SegmentId = SegmentId::from_bytes([7; 16]);

/// A table with one integer key and features of every physical kind.
pub fn schema() -> TableSchema {
    let features = ["int64", "float32", "float64", "string", "list<struct<a: int64, b: map<string>>>", "uuid", "bool"]
        .into_iter()
        .enumerate()
        .map(|(number, name)| FeatureSchema::new(format!("f{number}"), name.parse().unwrap_or(ValueType::Int64)))
        .collect();
    TableSchema::new(
        "user",
        vec![KeyColumn::new("user", "user", KeyType::Int)],
        vec![ViewSchema::new("view", Span::from_seconds(100), Audience::Server, features)],
    )
}

/// The only page of the sample.
pub fn page_key() -> PageKey {
    PageKey::new(SEGMENT, 0, 0)
}

/// A manifest of that table.
pub fn manifest() -> Manifest {
    let base =
        Segment { id: SEGMENT, bucket_count: 1, row_count: 3, page_bytes: 100, root: [0; 32], time_shifts: vec![Span::ZERO] };
    let features = (0..schema().views.first().map_or(0, |view| view.features.len() as u16)).collect();
    let projection = ServiceProjection { table: 0, view: 0, alias: None, join_key_map: vec![], features };
    Manifest {
        project: "fuzz".into(),
        definition_digest: [0; 32],
        input_digest: [0; 32],
        tables: vec![Table { base: Some(base), ..Table::empty(schema()) }],
        request_sources: vec![],
        on_demand_views: vec![],
        services: vec![Service { name: "all".into(), projections: vec![projection], request_sources: vec![] }],
    }
}

/// A snapshot of that manifest.
pub fn snapshot() -> Snapshot {
    let manifest = manifest();
    let bytes = manifest.encode().unwrap_or_default();
    Snapshot::new(Manifest::id_of(&bytes), 1, Timestamp::EPOCH, manifest)
}

/// Sets the checksum of a page, manifest or head, so that what is behind it is reached.
pub fn mend(bytes: &mut [u8]) {
    let Some((preamble, rest)) = bytes.split_first_chunk_mut::<16>() else { return };
    let mut seed = [0; 8];
    seed.copy_from_slice(&preamble[..8]);
    let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(rest, u64::from_le_bytes(seed));
    preamble[8..].copy_from_slice(&checksum.to_le_bytes());
}
