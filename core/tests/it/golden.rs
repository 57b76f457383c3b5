//! Snapshots of format version 1, as files: what is written today is what they hold, byte for byte, and what they hold is
//! still read. A change that fails here needs a new version of the format.
//!
//! `UPDATE_GOLDEN=1 cargo test -p mezze-core golden` writes the files anew, for a new version only.

use std::fs;
use std::path::PathBuf;

use ed25519_dalek::{Signer as _, SigningKey};
use mezze_core::{
    Audience, ColumnData, ColumnInput, FeatureSchema, Head, HeadSignature, INLINE_SEGMENT, KeyColumn, KeyHash, KeyPart, KeyType,
    Limits, Manifest, ManifestRequestSource, MediaType, PageInput, PageKey, PageRef, PageWriter, Physical, PreviousSnapshot,
    PublicKey, Segment, SegmentId, SegmentIndex, SegmentWriter, Service, ServiceProjection, SignedHead, Snapshot, SnapshotId,
    Span, Table, TableSchema, Timestamp, Tree, Trust, Value, ValueType, ViewInput, ViewSchema, encode_payload, manifest_digest,
    signed_message,
};

/// The types of the features, and three values of each: of users 1, 2 and 3.
fn features() -> Vec<(&'static str, [Value; 3])> {
    let text = |text: &str| Value::String(text.into());
    let uuid = |byte: u8| Value::Bytes(vec![byte; 16]);
    vec![
        ("bool", [Value::Bool(true), Value::Bool(false), Value::Null]),
        ("bytes", [Value::Bytes(vec![0, 255]), Value::Bytes(vec![]), Value::Bytes(vec![7; 3])]),
        ("decimal", [text("1.10"), text("-0.5"), Value::Null]),
        ("float32", [Value::Float32(0.1), Value::Float32(-2.5), Value::Float32(f32::INFINITY)]),
        ("float64", [Value::Float64(0.1), Value::Float64(f64::NAN), Value::Float64(-0.0)]),
        ("int32", [Value::Int(i32::MAX.into()), Value::Int(i32::MIN.into()), Value::Int(0)]),
        ("int64", [Value::Int(i64::MAX), Value::Int(i64::MIN), Value::Null]),
        ("json", [text(r#"{"a": [1, null]}"#), text("[]"), text("3")]),
        ("list<float64>", [Value::List(vec![Value::Float64(0.5), Value::Null]), Value::List(vec![]), Value::Null]),
        ("map<int64>", [Value::Map(vec![("ü".into(), Value::Int(1))]), Value::Map(vec![]), Value::Null]),
        ("set<string>", [Value::List(vec![text("x"), text("y")]), Value::List(vec![]), Value::Null]),
        ("string", [text("zürich"), text(""), text("zürich")]),
        (
            "struct<name: string, sizes: list<int32>>",
            [
                Value::List(vec![text("a"), Value::List(vec![Value::Int(1), Value::Int(-1)])]),
                Value::List(vec![Value::Null, Value::Null]),
                Value::Null,
            ],
        ),
        ("time_uuid", [uuid(1), uuid(2), uuid(3)]),
        ("unix_timestamp", [Value::Int(1_700_000_000_123_456_789), Value::Int(-1), Value::Int(0)]),
        ("uuid", [uuid(0xab), Value::Null, uuid(0xcd)]),
    ]
}

const USERS: [i64; 3] = [1, 2, 3];
const SHOPS: [&str; 3] = ["north", "süd", ""];
const BASE: SegmentId = SegmentId::from_bytes([0x0b; 16]);
const BUCKETS: u32 = 2;

fn schema() -> TableSchema {
    let features = features()
        .into_iter()
        .map(|(name, _)| {
            let value_type: ValueType = name.parse().expect("the type is well-formed");
            let short: String = name.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            FeatureSchema::new(format!("a_{short}"), value_type)
        })
        .collect();
    let empty = vec![FeatureSchema::new("nothing", ValueType::Float64)];
    TableSchema::new(
        "shop+user",
        vec![KeyColumn::new("user", "user", KeyType::Int), KeyColumn::new("shop", "shop", KeyType::String)],
        vec![
            ViewSchema::new("every_type", Span::from_seconds(3600), Audience::Server, features),
            ViewSchema::new("no_rows", Span::ZERO, Audience::Public, empty),
        ],
    )
}

/// A column in a page's form.
struct Made {
    physical: Physical,
    ints: Vec<i64>,
    floats: Vec<f32>,
    doubles: Vec<f64>,
    offsets: Vec<u32>,
    heap: Vec<u8>,
    valid: Vec<bool>,
}

impl Made {
    fn new(value_type: &ValueType, values: &[&Value]) -> Self {
        let physical = value_type.physical();
        let mut made = Self {
            physical,
            ints: vec![],
            floats: vec![],
            doubles: vec![],
            offsets: vec![0],
            heap: vec![],
            valid: values.iter().map(|value| **value != Value::Null).collect(),
        };
        for value in values {
            match value {
                Value::Int(value) => made.ints.push(*value),
                Value::Bool(value) => made.ints.push((*value).into()),
                Value::Float32(value) => made.floats.push(*value),
                Value::Float64(value) => made.doubles.push(*value),
                Value::Null => {
                    made.ints.push(0);
                    made.floats.push(0.0);
                    made.doubles.push(0.0);
                }
                value => encode_payload(value_type, value, &mut made.heap).expect("the value is of its type"),
            }
            made.offsets.push(made.heap.len() as u32);
        }
        made
    }

    fn input(&self) -> ColumnInput<'_> {
        let data = match self.physical {
            Physical::Int => ColumnData::Int(&self.ints),
            Physical::Float32 => ColumnData::Float32(&self.floats),
            Physical::Float64 => ColumnData::Float64(&self.doubles),
            Physical::Bytes => ColumnData::Bytes { offsets: &self.offsets, data: &self.heap },
        };
        ColumnInput { data, validity: Some(&self.valid) }
    }
}

fn key(row: usize) -> [KeyPart<'static>; 2] {
    [KeyPart::Bytes(SHOPS[row].as_bytes()), KeyPart::Int(USERS[row])]
}

fn page(bucket: u32) -> (Vec<u8>, u32) {
    let mut rows: Vec<usize> = (0..3).filter(|row| KeyHash::of(&key(*row)).bucket(BUCKETS) == bucket).collect();
    rows.sort_by_key(|row| KeyHash::of(&key(*row)));
    let hashes: Vec<KeyHash> = rows.iter().map(|row| KeyHash::of(&key(*row))).collect();
    let users: Vec<Value> = rows.iter().map(|row| Value::Int(USERS[*row])).collect();
    let shops: Vec<Value> = rows.iter().map(|row| Value::String(SHOPS[*row].into())).collect();
    let keys = [
        Made::new(&ValueType::String, &shops.iter().collect::<Vec<_>>()),
        Made::new(&ValueType::Int64, &users.iter().collect::<Vec<_>>()),
    ];
    let columns: Vec<Made> = features()
        .iter()
        .map(|(name, values)| {
            let value_type = name.parse().expect("the type is well-formed");
            Made::new(&value_type, &rows.iter().map(|row| &values[*row]).collect::<Vec<_>>())
        })
        .collect();
    let columns: Vec<ColumnInput<'_>> = columns.iter().map(Made::input).collect();
    let keys: Vec<ColumnInput<'_>> = keys.iter().map(Made::input).collect();
    let times: Vec<i64> = rows.iter().map(|row| 1_000_000_000_000 + *row as i64).collect();
    let absent = vec![false; rows.len()];
    let nothing = Made::new(&ValueType::Float64, &vec![&Value::Null; rows.len()]);
    let nothing = [nothing.input()];
    let views = [
        ViewInput { times: &times, present: None, features: &columns },
        ViewInput { times: &times, present: Some(&absent), features: &nothing },
    ];
    let input =
        PageInput { key: PageKey::new(BASE, 0, bucket), bucket_count: BUCKETS, hashes: &hashes, keys: &keys, views: &views };
    let mut page = Vec::new();
    PageWriter::new().write(&input, &mut page).expect("the rows are in order");
    (page, rows.len() as u32)
}

/// The tree over the pages of the segment.
fn tree() -> Tree {
    Tree::new((0..BUCKETS).map(|bucket| Tree::leaf(&page(bucket).0)).collect())
}

/// What signs the head.
fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[0x51; 32])
}

/// The objects of the snapshot: name and bytes.
fn objects() -> Vec<(&'static str, Vec<u8>)> {
    let mut segment_file = Vec::new();
    let mut writer = SegmentWriter::new(BASE, 0);
    for bucket in 0..BUCKETS {
        let (page, rows) = page(bucket);
        writer.push(page.len() as u32, rows);
        segment_file.extend_from_slice(&page);
    }
    let page_bytes = segment_file.len() as u64;
    segment_file.extend_from_slice(&writer.finish().expect("it is small"));

    let mut inline = Vec::new();
    let rate = [ColumnInput { data: ColumnData::Float64(&[1.25]), validity: None }];
    let views = [ViewInput { times: &[5_000_000_000], present: None, features: &rate }];
    let inline_key = PageKey::new(INLINE_SEGMENT, 1, 0);
    let input = PageInput { key: inline_key, bucket_count: 1, hashes: &[KeyHash::of(&[])], keys: &[], views: &views };
    PageWriter::new().write(&input, &mut inline).expect("one row is in order");
    let rates = vec![FeatureSchema::new("rate", ValueType::Float64)];
    let rates = TableSchema::new("", vec![], vec![ViewSchema::new("rates", Span::ZERO, Audience::Public, rates)]);

    let time_shifts = vec![Span::from_seconds(60), Span::ZERO];
    let base = Segment { id: BASE, bucket_count: BUCKETS, row_count: 3, page_bytes, root: tree().root(), time_shifts };
    let projection = |table, view, features: std::ops::Range<u16>| ServiceProjection {
        table,
        view,
        alias: None,
        join_key_map: vec![],
        features: features.collect(),
    };
    let renamed = ServiceProjection {
        alias: Some("other".into()),
        join_key_map: vec![("user".into(), "friend".into())],
        ..projection(0, 0, 11..12)
    };
    let manifest = Manifest {
        project: "golden".into(),
        definition_digest: [0xdd; 32],
        input_digest: [0x1d; 32],
        tables: vec![
            Table {
                base: Some(base),
                watermarks: vec![Timestamp::from_nanos(1_060_000_000_002), Timestamp::MIN],
                ..Table::empty(schema())
            },
            Table { inline: Some(inline), watermarks: vec![Timestamp::from_seconds(5)], ..Table::empty(rates) },
        ],
        request_sources: vec![ManifestRequestSource {
            name: "order".into(),
            fields: vec![FeatureSchema::new("amount", ValueType::Float64)],
        }],
        on_demand_views: vec![],
        services: vec![
            Service {
                name: "all".into(),
                projections: vec![projection(0, 0, 0..16), projection(0, 1, 0..1), projection(1, 0, 0..1)],
                request_sources: vec![0],
            },
            Service { name: "friends".into(), projections: vec![projection(0, 0, 11..12), renamed], request_sources: vec![] },
        ],
    };
    let manifest = manifest.encode().expect("it is small");
    let head = Head {
        epoch: 4,
        issued_at: Timestamp::from_seconds(2000),
        snapshot: Manifest::id_of(&manifest),
        previous: vec![PreviousSnapshot {
            epoch: 3,
            issued_at: Timestamp::from_seconds(1000),
            snapshot: SnapshotId::from_bytes([0x5a; 16]),
        }],
        manifest: Some(manifest.clone()),
    };
    let head = head.encode().expect("it is small");
    let (signed_at, digests) = (Timestamp::from_seconds(2001), vec![manifest_digest(&manifest), [0x5a; 32]]);
    let signature = HeadSignature {
        signed_at,
        key: PublicKey::from_bytes(signing_key().verifying_key().to_bytes()),
        signature: signing_key().sign(&signed_message(&head, signed_at, &digests)).to_bytes(),
        digests,
    };
    let signed = [head.clone(), signature.encode()].concat();
    let path = tree().path(0).expect("there is a bucket 0");
    let page = [page(0).0, path].concat();
    vec![("head", head), ("head.signed", signed), ("manifest", manifest), ("page", page), ("segment", segment_file)]
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/v1")
}

const REQUEST: &str = r#"{"feature_service": "all", "full_feature_names": true,
 "entities": {"shop": ["north", "süd", "", "north"], "user": [1, 2, 3, 2], "amount": [1, 2.5, null, 0]}}"#;

#[test]
fn what_is_written_is_what_version_1_was() {
    for (name, bytes) in objects() {
        let path = folder().join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(folder()).expect("the folder can be made");
            fs::write(&path, &bytes).expect("the file can be written");
        }
        let golden = fs::read(&path).expect("the file is in the repository");
        assert!(golden == bytes, "{name} has changed: {} bytes, it had {}", bytes.len(), golden.len());
    }
}

#[test]
fn version_1_is_still_read() {
    let read = |name: &str| fs::read(folder().join(name)).expect("the file is in the repository");
    let snapshot = Snapshot::open(&read("head")).expect("the head is whole");
    let segment = read("segment");
    let tail = SegmentIndex::tail_bytes(&segment).expect("the footer is whole") as usize;
    let index = SegmentIndex::decode(&segment[segment.len() - tail..]).expect("the index is whole");
    let now = Timestamp::from_seconds(4000);
    let plan = snapshot.plan_body(REQUEST.as_bytes(), MediaType::Json, now, &Limits::server()).expect("the request fits");
    let pages: Vec<Option<PageRef<'_>>> = (0..)
        .zip(plan.pages())
        .map(|(number, key)| {
            let range = index.page_range(key.bucket).expect("the bucket is there");
            let (segment_of, table) = plan.page_home(number).expect("the plan knows its pages");
            let bytes = &segment[range.start as usize..range.end as usize];
            Some(PageRef::verify(bytes, key, segment_of.bucket_count, &table.schema).expect("the page is whole"))
        })
        .collect();
    let mut response = Vec::new();
    plan.write_answer(&pages, MediaType::Json, &mut response).expect("the pages are whole");
    let response = String::from_utf8(response).expect("JSON is text");
    // One column a line, for people.
    let response = response.replace("},{", "},\n{").replace("\"metadata\"", "\n\"metadata\"");
    expect_test::expect_file![folder().join("response.json")].assert_eq(&response);
}

#[test]
fn signatures_of_version_1_are_still_right() {
    let read = |name: &str| fs::read(folder().join(name)).expect("the file is in the repository");
    let trust = Trust::new([PublicKey::from_bytes(signing_key().verifying_key().to_bytes())]);
    let value = read("head.signed");
    let head = SignedHead::decode(&value).expect("the head is whole");
    assert_eq!(trust.check_head(&value, &head, Timestamp::from_seconds(4000)), Ok(()));
    assert_eq!(trust.check_manifest(head.signature.as_ref(), 0, &read("manifest")), Ok(()));
    let manifest = Manifest::decode(&read("manifest")).expect("the manifest is whole");
    let base = manifest.tables[0].base.as_ref().expect("it has one");
    let (value, key) = (read("page"), PageKey::new(BASE, 0, 0));
    let page = PageRef::verify(&value, &key, BUCKETS, &manifest.tables[0].schema).expect("the page is whole");
    assert_eq!(trust.check_page(&value, &page, &key, base), Ok(()));
    // A host without keys reads the same.
    assert_eq!(head.head, Head::decode(&read("head")).expect("the head is whole"));
}
