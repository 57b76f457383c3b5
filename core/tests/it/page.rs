//! Pages: what was written is what is read, damage is seen, and the bytes are small.

use mezze_core::{
    Audience, Cell, ColumnData, ColumnInput, FeatureSchema, KeyColumn, KeyHash, KeyPart, KeyType, PAGE_BYTES_LIMIT, PageError,
    PageInput, PageKey, PageRef, PageWriteError, PageWriter, SegmentId, Span, TableSchema, Timestamp, ValueType, ViewInput,
    ViewSchema, canonical_f32, canonical_f64,
};
use proptest::prelude::*;

/// Rows of a table with one integer key and one view with a feature of each physical kind.
#[derive(Clone, Debug, Default)]
struct Rows {
    keys: Vec<i64>,
    times: Vec<Option<i64>>,
    ints: Vec<Option<i64>>,
    floats: Vec<Option<f32>>,
    doubles: Vec<Option<f64>>,
    texts: Vec<Option<String>>,
}

fn schema() -> TableSchema {
    let feature = |name, value_type| FeatureSchema::new(name, value_type);
    TableSchema::new(
        "user",
        vec![KeyColumn::new("user", "user", KeyType::Int)],
        vec![ViewSchema::new(
            "view",
            Span::ZERO,
            Audience::Server,
            vec![
                feature("int", ValueType::Int64),
                feature("float", ValueType::Float32),
                feature("double", ValueType::Float64),
                feature("text", ValueType::String),
            ],
        )],
    )
}

fn key() -> PageKey {
    PageKey::new(SegmentId::from_bytes([9; 16]), 2, 0)
}

fn sorted(mut rows: Rows) -> Rows {
    let mut order: Vec<usize> = (0..rows.keys.len()).collect();
    order.sort_by_key(|row| (KeyHash::of(&[KeyPart::Int(rows.keys[*row])]), rows.keys[*row]));
    order.dedup_by_key(|row| rows.keys[*row]);
    fn pick<T: Clone>(values: &mut Vec<T>, order: &[usize]) {
        *values = order.iter().map(|row| values[*row].clone()).collect();
    }
    pick(&mut rows.keys, &order);
    pick(&mut rows.times, &order);
    pick(&mut rows.ints, &order);
    pick(&mut rows.floats, &order);
    pick(&mut rows.doubles, &order);
    pick(&mut rows.texts, &order);
    rows
}

fn write(rows: &Rows) -> Result<Vec<u8>, PageWriteError> {
    fn split<T: Copy + Default>(values: &[Option<T>]) -> (Vec<T>, Vec<bool>) {
        values.iter().map(|value| (value.unwrap_or_default(), value.is_some())).unzip()
    }
    let hashes: Vec<KeyHash> = rows.keys.iter().map(|key| KeyHash::of(&[KeyPart::Int(*key)])).collect();
    let (times, present) = split(&rows.times);
    let (ints, ints_valid) = split(&rows.ints);
    let (floats, floats_valid) = split(&rows.floats);
    let (doubles, doubles_valid) = split(&rows.doubles);
    let mut offsets = vec![0];
    let mut heap = Vec::new();
    for text in &rows.texts {
        heap.extend_from_slice(text.as_deref().unwrap_or_default().as_bytes());
        offsets.push(heap.len() as u32);
    }
    let texts_valid: Vec<bool> = rows.texts.iter().map(Option::is_some).collect();
    let features = [
        ColumnInput { data: ColumnData::Int(&ints), validity: Some(&ints_valid) },
        ColumnInput { data: ColumnData::Float32(&floats), validity: Some(&floats_valid) },
        ColumnInput { data: ColumnData::Float64(&doubles), validity: Some(&doubles_valid) },
        ColumnInput { data: ColumnData::Bytes { offsets: &offsets, data: &heap }, validity: Some(&texts_valid) },
    ];
    let views = [ViewInput { times: &times, present: Some(&present), features: &features }];
    let keys = [ColumnInput { data: ColumnData::Int(&rows.keys), validity: None }];
    let mut page = Vec::new();
    PageWriter::new()
        .write(&PageInput { key: key(), bucket_count: 1, hashes: &hashes, keys: &keys, views: &views }, &mut page)?;
    Ok(page)
}

fn check(rows: &Rows) {
    let bytes = write(rows).expect("the rows are sorted");
    let schema = schema();
    let page = PageRef::verify(&bytes, &key(), 1, &schema).expect("the page was just written");
    assert_eq!(page.row_count() as usize, rows.keys.len());
    for (row, user) in rows.keys.iter().enumerate() {
        let part = [KeyPart::Int(*user)];
        let found = page.find(KeyHash::of(&part), &part).expect("the page is whole").expect("the key is there");
        assert_eq!(found as usize, row);
        assert_eq!(page.key_part(found, 0), Ok(part[0]));
        assert_eq!(page.event_time(found, 1), Ok(rows.times[row].map(Timestamp::from_nanos)));
        let cell = |column| page.cell(found, column).expect("the page is whole");
        let bits = |cell: Cell<'_>| match cell {
            Cell::Float32(value) => Some(u64::from(value.to_bits())),
            Cell::Float64(value) => Some(value.to_bits()),
            Cell::Int(value) => Some(value as u64),
            _ => None,
        };
        assert_eq!(bits(cell(2)), rows.ints[row].map(|value| value as u64));
        assert_eq!(bits(cell(3)), rows.floats[row].map(|value| u64::from(value.to_bits())));
        assert_eq!(bits(cell(4)), rows.doubles[row].map(f64::to_bits));
        assert_eq!(cell(5), rows.texts[row].as_deref().map_or(Cell::Null, |text| Cell::Bytes(text.as_bytes())));
    }
}

fn an_int() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), -3..3_i64, Just(i64::MIN), Just(i64::MAX), (0..4_i64).prop_map(|n| n << 40)]
}

fn a_double() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_map(canonical_f64),
        (-2000..2000_i64).prop_map(|n| n as f64 / 100.0),
        (0..3_i64).prop_map(|n| n as f64 * 1e17 + 0.1),
        Just(-0.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(9_007_199_254_740_993.0),
    ]
}

/// Key, event time, and a value of each kind.
type Row = (i64, Option<i64>, Option<i64>, Option<f32>, Option<f64>, Option<String>);

fn a_row() -> impl Strategy<Value = Row> {
    let a_float = prop_oneof![any::<f32>().prop_map(canonical_f32), (-50..50_i8).prop_map(|n| f32::from(n) / 4.0), Just(0.1_f32)];
    let a_text = prop_oneof!["[a-c]{0,2}", "[a-c]{2}", "\\PC{0,20}"];
    (
        an_int(),
        proptest::option::of(an_int()),
        proptest::option::of(an_int()),
        proptest::option::of(a_float),
        proptest::option::of(a_double()),
        proptest::option::of(a_text),
    )
}

fn rows_of(rows: Vec<Row>) -> Rows {
    let mut made = Rows::default();
    for (key, time, int, float, double, text) in rows {
        made.keys.push(key);
        made.times.push(time);
        made.ints.push(int);
        made.floats.push(float);
        made.doubles.push(double);
        made.texts.push(text);
    }
    sorted(made)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_what_is_read(rows in proptest::collection::vec(a_row(), 0..60)) {
        check(&rows_of(rows));
    }

    #[test]
    fn narrow_values_are_read_back_from_every_encoding(
        rows in proptest::collection::vec(a_row(), 1..60),
        doubles in proptest::collection::vec((-20..20_i64).prop_map(|n| n as f64 / 1000.0), 60),
        ints in proptest::collection::vec((0..3_i64).prop_map(|n| n << 50), 60),
        texts in proptest::collection::vec("(red|green|blue)", 60),
    ) {
        let mut rows = rows_of(rows);
        rows.doubles = rows.keys.iter().zip(doubles).map(|(_, value)| Some(value)).collect();
        rows.ints = rows.keys.iter().zip(ints).map(|(_, value)| Some(value)).collect();
        rows.texts = rows.keys.iter().zip(texts).map(|(_, value)| Some(value)).collect();
        check(&rows);
    }

    #[test]
    fn bytes_that_no_checksum_has_seen_cost_at_worst_an_error(
        rows in proptest::collection::vec(a_row(), 1..20),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let rows = rows_of(rows);
        let mut bytes = write(&rows).expect("the rows are sorted");
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(page) = PageRef::resident(&bytes) {
            for row in 0..page.row_count().min(50) {
                for column in 0..8 {
                    let _ = page.cell(row, column);
                }
            }
            for user in &rows.keys {
                let part = [KeyPart::Int(*user)];
                let _ = page.find(KeyHash::of(&part), &part);
            }
        }
    }
}

fn sample() -> Rows {
    rows_of(
        (0..40)
            .map(|n| {
                (
                    n,
                    Some(n * 7),
                    (n % 3 != 0).then_some(n),
                    Some(n as f32 / 8.0),
                    Some(n as f64 / 10.0),
                    Some(format!("t{}", n % 5)),
                )
            })
            .collect(),
    )
}

#[test]
fn no_byte_of_a_page_changes_unseen() {
    let bytes = write(&sample()).expect("the rows are sorted");
    let schema = schema();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(PageRef::verify(&damaged, &key(), 1, &schema).is_err(), "byte {at}");
        assert!(PageRef::verify(&bytes[..at], &key(), 1, &schema).is_err(), "prefix {at}");
    }
}

#[test]
fn a_page_is_only_what_was_asked_for() {
    let bytes = write(&sample()).expect("the rows are sorted");
    let schema = schema();
    let other = PageKey::new(SegmentId::from_bytes([9; 16]), 2, 1);
    let found = PageRef::verify(&bytes, &other, 1, &schema).expect_err("it is bucket 0");
    assert_eq!(found, PageError::WrongPage { expected: Box::new(other), found: Box::new(key()) });
    assert!(PageRef::verify(&bytes, &key(), 2, &schema).is_err());
    let mut narrower = schema.clone();
    narrower.views[0].features.pop();
    assert!(PageRef::verify(&bytes, &key(), 1, &narrower).is_err());
    let mut retyped = schema;
    retyped.views[0].features[0].value_type = ValueType::Float64;
    assert!(PageRef::verify(&bytes, &key(), 1, &retyped).is_err());
}

#[test]
fn the_order_of_construction_leaves_no_trace() {
    let mut reversed = sample();
    let forward = write(&reversed).expect("the rows are sorted");
    reversed.keys.reverse();
    assert!(matches!(write(&reversed), Err(PageWriteError::OutOfOrder { row: 1.. })));
    assert_eq!(write(&sample()), Ok(forward));
}

#[test]
fn a_page_above_the_limit_is_refused_and_nothing_is_left_of_it() {
    let rows = rows_of((0..20).map(|n| (n, Some(0), None, None, None, Some(format!("{n}").repeat(50_000)))).collect());
    match write(&rows) {
        Err(PageWriteError::TooLarge { bytes }) => assert!(bytes > PAGE_BYTES_LIMIT),
        other => panic!("expected a refusal, found {} bytes", other.map_or(0, |page| page.len())),
    }
}

#[test]
fn columns_take_the_bytes_that_the_format_page_expects() {
    let width_of = |rows: &Rows| write(rows).expect("the rows are sorted").len();
    let count = 1000;
    let with =
        |double: &dyn Fn(i64) -> f64| rows_of((0..count).map(|n| (n, Some(5), None, None, Some(double(n)), None)).collect());
    let constant = width_of(&with(&|_| 7.5));
    // Two decimals below 10: ten bits each.
    assert_eq!(width_of(&with(&|n| n as f64 / 100.0)) - constant, 1000 * 10 / 8);
    // Four values that are no decimals: two bits each and a dictionary.
    assert_eq!(width_of(&with(&|n| [0.1 + 0.2, 1e300, 3e-9, 7e250][n as usize % 4])) - constant, 1000 * 2 / 8 + 4 * 8);
    // Noise: as it is.
    assert_eq!(width_of(&with(&|n| (n as f64).sin())) - constant, 8000);
}
