use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Date32Array, DictionaryArray, Float64Array, Int32Array, Int64Array, LargeStringArray, RecordBatch,
    StringArray, TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Int8Type, Int64Type};
use datafusion::scalar::ScalarValue;
use mezze_core::{Span, Timestamp};
use mezze_offline::pit::{CREATED_COLUMN, EVENT_COLUMN, PitFeature, PitView, RowSink, latest_rows, newest_rows_to};
use proptest::prelude::*;

use crate::pit_support::{
    Row, Rule, batch, count, entities, folder, full, integers, join, join_within, open, oracle, texts, view, write,
};

fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    let row = (
        prop::option::weighted(0.9, prop_oneof![0_i64..3, Just(i64::MIN), Just(i64::MAX)]),
        prop::option::weighted(0.9, 0_u8..4),
        prop::option::weighted(0.95, 0_i64..12),
        prop::option::weighted(0.8, 0_i64..15),
    );
    prop::collection::vec(row.prop_map(|(a, b, time, created)| Row { a, b, time, created }), 0..most)
}

fn rules() -> impl Strategy<Value = Rule> {
    (any::<bool>(), prop_oneof![Just(0), 1_i64..6], prop_oneof![Just(0), 0_i64..4], any::<bool>())
        .prop_map(|(composite, ttl, after, after_created)| Rule { composite, ttl, after, after_created })
}

fn ruled(mut view: PitView, rule: &Rule) -> PitView {
    view.created_column = Some("created".to_owned());
    view.ttl = Span::from_nanos(rule.ttl * 1000);
    view.available_after = Span::from_nanos(rule.after * 1000);
    view.available_created = rule.after_created;
    let feature = PitFeature { source_column: "s".to_owned(), output_name: "s".to_owned(), data_type: DataType::Utf8 };
    view.features.push(feature);
    view
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn the_join_equals_brute_force(
        features in rows(40), cut in 0_usize..40, group_rows in 1_usize..9, spine in rows(25), spine_cut in 0_usize..25,
        first in rules(), second in rules(), filter in any::<bool>(), threads in 1_usize..3, little in any::<bool>(),
    ) {
        let folder = folder();
        let (left, right) = features.split_at(cut.min(features.len()));
        let files = vec![
            write(folder.path(), "a.parquet", &batch(left, 0), group_rows),
            write(folder.path(), "b.parquet", &batch(right, left.len() as i64), group_rows),
        ];
        let views = [&first, &second].map(|rule| {
            let keys: &[&str] = if rule.composite { &["a", "b"] } else { &["a"] };
            ruled(view(files.clone(), keys), rule)
        });
        let [one, mut two] = views;
        for feature in &mut two.features {
            feature.output_name.push('2');
        }
        let entity = entities(&spine);
        let at = spine_cut.min(spine.len());
        let partitions = [vec![entity.slice(0, at)], vec![entity.slice(at, spine.len() - at)]];
        // With hardly any memory each batch of entity rows is joined by itself, one view after the other.
        let found = join_within(&partitions, vec![one, two], filter, threads, little.then_some(1)).unwrap();
        prop_assert_eq!(integers(&found, "n"), (0..spine.len() as i64).map(Some).collect::<Vec<_>>());
        for (rule, column, text) in [(&first, "x", "s"), (&second, "x2", "s2")] {
            let expected: Vec<_> = spine.iter().map(|entity| oracle(&features, rule, filter, entity)).collect();
            prop_assert_eq!(texts(&found, text), expected.iter().map(|x| x.map(|x| format!("s{}", x % 3))).collect::<Vec<_>>());
            prop_assert_eq!(integers(&found, column), expected);
        }
    }

    #[test]
    fn the_newest_rows_equal_brute_force(
        features in rows(40), cut in 0_usize..40, group_rows in 1_usize..9, composite in any::<bool>(),
        start in prop::option::of(0_i64..8), end in 4_i64..12, threads in 1_usize..3,
    ) {
        let folder = folder();
        let (left, right) = features.split_at(cut.min(features.len()));
        let files = vec![
            write(folder.path(), "a.parquet", &batch(left, 0), group_rows),
            write(folder.path(), "b.parquet", &batch(right, left.len() as i64), group_rows),
        ];
        let keys: &[&str] = if composite { &["a", "b"] } else { &["a"] };
        let rule = Rule { composite, ttl: 0, after: 0, after_created: false };
        let view = ruled(view(files, keys), &rule);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let start_at = start.map(|start| Timestamp::from_nanos(start * 1000));
        let found = runtime.block_on(latest_rows(&view, start_at, Timestamp::from_nanos(end * 1000 + 999), threads)).unwrap();
        let mut expected = BTreeMap::new();
        for (number, row) in features.iter().enumerate() {
            let (Some(a), Some(time)) = (row.a, row.time) else { continue };
            if (composite && row.b.is_none()) || time > end || start.is_some_and(|start| time < start) {
                continue;
            }
            let best = expected.entry((a, row.b.filter(|_| composite))).or_insert((time, row.created, number as i64));
            *best = (time, row.created, number as i64).max(*best);
        }
        let mut winners: Vec<_> = expected.into_values().collect();
        winners.sort_by_key(|(_, _, number)| *number);
        prop_assert_eq!(integers(&found, "x"), winners.iter().map(|winner| Some(winner.2)).collect::<Vec<_>>());
        prop_assert_eq!(integers(&found, EVENT_COLUMN), winners.iter().map(|winner| Some(winner.0 * 1000)).collect::<Vec<_>>());
        let created: Vec<_> = winners.iter().map(|winner| winner.1.map(|created| created * 1000)).collect();
        prop_assert_eq!(integers(&found, CREATED_COLUMN), created);
    }
}

/// A batch of columns that may be null.
fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn micros(values: &[i64]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values.to_vec()).with_timezone("UTC"))
}

fn numbers(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

/// What one view's `x` is for the entity rows.
fn joined(entity: Vec<(&str, ArrayRef)>, features: Vec<(&str, ArrayRef)>, keys: &[&str]) -> Result<Vec<Option<i64>>, String> {
    let folder = folder();
    let files = vec![write(folder.path(), "v.parquet", &table(features), 2)];
    let found = join(&[vec![table(entity)]], vec![view(files, keys)], false, 2).map_err(|error| error.to_string())?;
    Ok(integers(&found, "x"))
}

#[test]
fn integer_keys_of_any_width_are_equal() {
    let keys: [ArrayRef; 2] = [Arc::new(Int32Array::from(vec![7, -1])), Arc::new(Int64Array::from(vec![7, -1]))];
    for entity in &keys {
        for feature in &keys {
            let found = joined(
                vec![("k", entity.clone()), ("t", micros(&[5, 5]))],
                vec![("k", feature.clone()), ("ts", micros(&[5, 5])), ("x", numbers(&[1, 2]))],
                &["k"],
            );
            assert_eq!(found.unwrap(), [Some(1), Some(2)]);
        }
    }
}

#[test]
fn text_keys_of_any_encoding_are_equal() {
    let texts = ["u1", "u2"];
    let keys: [ArrayRef; 3] = [
        Arc::new(StringArray::from_iter_values(texts)),
        Arc::new(LargeStringArray::from_iter_values(texts)),
        Arc::new(texts.into_iter().collect::<DictionaryArray<Int8Type>>()),
    ];
    for entity in &keys {
        for feature in &keys {
            let found = joined(
                vec![("k", entity.clone()), ("t", micros(&[5, 5]))],
                vec![("k", feature.clone()), ("ts", micros(&[5, 5])), ("x", numbers(&[1, 2]))],
                &["k"],
            );
            assert_eq!(found.unwrap(), [Some(1), Some(2)]);
        }
    }
}

#[test]
fn neighbouring_composite_keys_do_not_run_together() {
    let text = |values: [&str; 2]| -> ArrayRef { Arc::new(StringArray::from_iter_values(values)) };
    let found = joined(
        vec![("a", text(["1", "11"])), ("b", text(["11", "1"])), ("t", micros(&[5, 5]))],
        vec![("a", text(["11", "1"])), ("b", text(["1", "11"])), ("ts", micros(&[5, 5])), ("x", numbers(&[1, 2]))],
        &["a", "b"],
    );
    assert_eq!(found.unwrap(), [Some(2), Some(1)]);
}

#[test]
fn wide_composite_keys_are_exact() {
    let wide = || numbers(&[i64::MIN, i64::MAX]);
    let found = joined(
        vec![("a", wide()), ("b", wide()), ("c", wide()), ("t", micros(&[5, 5]))],
        vec![("a", wide()), ("b", wide()), ("c", numbers(&[0, i64::MAX])), ("ts", micros(&[5, 5])), ("x", numbers(&[1, 2]))],
        &["a", "b", "c"],
    );
    assert_eq!(found.unwrap(), [None, Some(2)]);
}

#[test]
fn a_view_without_keys_joins_every_row() {
    let found = joined(vec![("t", micros(&[4, 6, 8]))], vec![("ts", micros(&[5, 7])), ("x", numbers(&[1, 2]))], &[]);
    assert_eq!(found.unwrap(), [None, Some(1), Some(2)]);
}

#[test]
fn instants_of_different_units_compare_exactly() {
    let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1]));
    let nanos = |values: Vec<i64>| -> ArrayRef { Arc::new(TimestampNanosecondArray::from(values)) };
    for (entity, expected) in
        [(nanos(vec![999_999_999]), None), (nanos(vec![1_000_000_000]), Some(1)), (micros(&[999_999]), None)]
    {
        let found = joined(vec![("t", entity)], vec![("ts", seconds.clone()), ("x", numbers(&[1]))], &[]);
        assert_eq!(found.unwrap(), [expected]);
    }
    let date: ArrayRef = Arc::new(Date32Array::from(vec![1]));
    let found = joined(vec![("t", micros(&[86_400_000_000 - 1, 86_400_000_000]))], vec![("ts", date), ("x", numbers(&[1]))], &[]);
    assert_eq!(found.unwrap(), [None, Some(1)]);
}

#[test]
fn instants_of_the_year_9999_are_in_order() {
    let last = 253_402_214_400_000_000;
    let found =
        joined(vec![("t", micros(&[last - 1, last, last + 1]))], vec![("ts", micros(&[last, 0])), ("x", numbers(&[1, 2]))], &[]);
    assert_eq!(found.unwrap(), [Some(2), Some(1), Some(1)]);
}

#[test]
fn columns_of_the_path_serve_as_keys() {
    let folder = folder();
    let mut files = Vec::new();
    for (name, x) in [("eu", 1), ("us", 2)] {
        let mut file = write(folder.path(), name, &table(vec![("ts", micros(&[5])), ("x", numbers(&[x]))]), 2);
        file.constants = vec![("region".to_owned(), ScalarValue::from(name))];
        files.push(file);
    }
    let regions: ArrayRef = Arc::new(StringArray::from(vec!["us", "eu", "ap"]));
    let entity = table(vec![("region", regions), ("t", micros(&[5, 5, 5]))]);
    let found = join(&[vec![entity]], vec![view(files, &["region"])], false, 1).unwrap();
    assert_eq!(integers(&found, "x"), [Some(2), Some(1), None]);
}

#[test]
fn output_keeps_order_and_batch_size_over_many_row_groups() {
    let folder = folder();
    let total = 50_000;
    let all: Vec<i64> = (0..total).collect();
    let keys = numbers(&all.iter().map(|number| number % 20_000).collect::<Vec<_>>());
    let files =
        vec![write(folder.path(), "v", &table(vec![("k", keys.clone()), ("ts", micros(&all)), ("x", numbers(&all))]), 7_000)];
    let entity = table(vec![("k", keys), ("t", micros(&all)), ("n", numbers(&all))]);
    let found = join(&[vec![entity]], vec![view(files, &["k"])], false, 2).unwrap();
    assert_eq!(count(&found), total as usize);
    assert!(found.iter().all(|batch| batch.num_rows() <= 8192));
    assert_eq!(integers(&found, "x"), integers(&found, "n"));
}

#[test]
fn few_winners_are_read_without_their_neighbours() {
    let folder = folder();
    let all: Vec<i64> = (0..30_000).collect();
    let names: ArrayRef = Arc::new(all.iter().map(|number| Some(format!("s{number}"))).collect::<StringArray>());
    let columns = vec![("k", numbers(&all)), ("ts", micros(&all)), ("x", numbers(&all)), ("s", names)];
    let files = vec![write(folder.path(), "v", &table(columns), 10_000)];
    let mut view = view(files, &["k"]);
    view.features.push(PitFeature { source_column: "s".to_owned(), output_name: "s".to_owned(), data_type: DataType::Utf8 });
    let entity = table(vec![("k", numbers(&[29_999, 5, 10_000, 5])), ("t", micros(&[30_000, 5, 9, 4]))]);
    let found = join(&[vec![entity]], vec![view], false, 2).unwrap();
    assert_eq!(integers(&found, "x"), [Some(29_999), Some(5), None, None]);
    assert_eq!(texts(&found, "s"), [Some("s29999".to_owned()), Some("s5".to_owned()), None, None]);
}

#[test]
fn features_are_cast_or_refused() {
    let folder = folder();
    let files = vec![write(folder.path(), "v", &table(vec![("ts", micros(&[1])), ("x", numbers(&[300]))]), 2)];
    let mut view = view(files, &[]);
    let mut run = |data_type: DataType| {
        view.features[0].data_type = data_type;
        join(&[vec![table(vec![("t", micros(&[1]))])]], vec![view.clone()], false, 1)
    };
    let found = run(DataType::Float64).unwrap();
    assert!(full(found[0].column(1)));
    assert_eq!(found[0].column(1).data_type(), &DataType::Float64);
    let error = run(DataType::Int8).unwrap_err().to_string();
    assert!(error.contains("feature column `x` of"), "{error}");
}

#[test]
fn unsuited_columns_are_named() {
    let float: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["2026-01-01"]));
    let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    let entity = |key: &ArrayRef| vec![("k", key.clone()), ("t", micros(&[5]))];
    let features = |key: &ArrayRef, time: ArrayRef| vec![("k", key.clone()), ("ts", time), ("x", numbers(&[1]))];
    let one = numbers(&[1]);
    for (entity, features, expected) in [
        (
            entity(&float),
            features(&float, micros(&[5])),
            "entity column `k` of the entity rows is a Float64; join keys must be integers",
        ),
        (entity(&one), features(&float, micros(&[5])), "v.parquet is a Float64; join keys must be integers"),
        (entity(&one), features(&text, micros(&[5])), "is Utf8, but `k` of the entity rows is Int64; cast one of them"),
        (entity(&one), features(&one, text.clone()), "column `ts` of"),
        (entity(&large), features(&one, micros(&[5])), "holds 18446744073709551615"),
        (vec![("t", micros(&[5]))], features(&one, micros(&[5])), "the entity rows have no column `k`, which view `v` needs"),
        (
            entity(&one),
            vec![("k", one.clone()), ("ts", micros(&[5]))],
            "has no column `x`, which view `v` reads; its columns are `k`, `ts`",
        ),
    ] {
        let error = joined(entity, features, &["k"]).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_file_that_is_not_parquet_is_named() {
    let folder = folder();
    let path = folder.path().join("rows.csv");
    for text in ["", "k,ts,x\n1,2026-01-01,5\n"] {
        std::fs::write(&path, text).unwrap();
        let entity = table(vec![("t", micros(&[5]))]);
        let error = join(&[vec![entity]], vec![view(vec![open(&path)], &[])], false, 1).unwrap_err().to_string();
        assert!(error.contains("rows.csv is not a readable Parquet file"), "{error}");
    }
}

#[test]
fn files_of_a_store_are_read_as_local_ones_are() {
    let folder = folder();
    let mut file = write(folder.path(), "v", &table(vec![("ts", micros(&[1, 2])), ("x", numbers(&[1, 2]))]), 1);
    file.local = None;
    let found = join(&[vec![table(vec![("t", micros(&[1, 2]))])]], vec![view(vec![file], &[])], false, 2).unwrap();
    assert_eq!(integers(&found, "x"), [Some(1), Some(2)]);
    let values = found[0].column_by_name("x").unwrap();
    assert!(arrow::array::AsArray::as_primitive_opt::<Int64Type>(values).is_some());
}

/// Many entity rows of few keys, and feature rows in order of time.
fn many(entity_rows: i64, feature_rows: i64) -> (Vec<RecordBatch>, RecordBatch) {
    let keys = |rows: i64| numbers(&(0..rows).map(|row| row * 7919 % 1009).collect::<Vec<_>>());
    let at = |rows: i64, step: i64| micros(&(0..rows).map(|row| row * step).collect::<Vec<_>>());
    let entity = table(vec![("k", keys(entity_rows)), ("t", at(entity_rows, feature_rows / entity_rows * 3))]);
    let texts: StringArray = (0..feature_rows).map(|row| (row % 5 != 0).then(|| format!("text {}", row % 40))).collect();
    let features = table(vec![
        ("k", keys(feature_rows)),
        ("ts", at(feature_rows, 3)),
        ("x", numbers(&(0..feature_rows).collect::<Vec<_>>())),
        ("s", Arc::new(texts)),
    ]);
    let batches = (0..entity_rows).step_by(1000).map(|start| entity.slice(start as usize, 1000)).collect();
    (batches, features)
}

#[test]
fn any_memory_gives_the_same_rows() {
    let (entity, features) = many(30_000, 120_000);
    let folder = folder();
    let files = vec![write(folder.path(), "v.parquet", &features, 20_000)];
    let text = PitFeature { source_column: "s".to_owned(), output_name: "s".to_owned(), data_type: DataType::Utf8 };
    let mut one = view(files, &["k"]);
    // A key has a row every 3,027 us.
    one.ttl = Span::from_nanos(2_000_000);
    one.features.push(text);
    let mut two = one.clone();
    two.ttl = Span::ZERO;
    two.features.iter_mut().for_each(|feature| feature.output_name.push('2'));
    let views = vec![one, two];
    let rows = |memory| {
        let found = join_within(std::slice::from_ref(&entity), views.clone(), false, 2, memory).unwrap();
        let schema = found[0].schema();
        arrow::compute::concat_batches(&schema, &found).unwrap()
    };
    let expected = rows(None);
    assert_eq!(expected.num_rows(), 30_000);
    assert!(expected.column_by_name("x").unwrap().null_count() > 0, "some rows are stale");
    for memory in [1, 200_000, 1_000_000, 8_000_000] {
        assert_eq!(rows(Some(memory)), expected, "{memory}");
    }
}

/// Counts rows and sums a column of those that a sink gets.
#[derive(Default)]
struct Sums(std::sync::Mutex<(usize, i64)>);

impl RowSink for Sums {
    fn take(&self, _: usize, batch: RecordBatch) -> bool {
        let mut sums = self.0.lock().unwrap();
        sums.0 += batch.num_rows();
        sums.1 += integers(&[batch], "x").into_iter().flatten().sum::<i64>();
        true
    }
}

#[test]
fn newest_rows_are_the_same_in_little_memory() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let all: Vec<i64> = (0..60_000).collect();
    let keys: Vec<i64> = all.iter().map(|row| row * 7919 % 20_011).collect();
    let texts: ArrayRef = Arc::new(keys.iter().map(|key| Some(format!("key {key}"))).collect::<StringArray>());
    for key in [numbers(&keys), texts] {
        let folder = folder();
        let columns = vec![("k", key), ("ts", micros(&all)), ("x", numbers(&all))];
        let view = view(vec![write(folder.path(), "v.parquet", &table(columns), 9_000)], &["k"]);
        // The last row of each key is its newest.
        let newest: BTreeMap<i64, i64> = keys.iter().copied().zip(all.iter().copied()).collect();
        for (memory, is_one_pass) in [(None, true), (Some(1), false)] {
            let sums = Arc::new(Sums::default());
            let sink = Arc::clone(&sums) as Arc<dyn RowSink>;
            let report = runtime.block_on(newest_rows_to(&view, None, Timestamp::from_nanos(i64::MAX), 2, memory, sink)).unwrap();
            assert_eq!(report.passes == 1, is_one_pass, "{report:?}");
            assert_eq!(*sums.0.lock().unwrap(), (newest.len(), newest.values().sum()), "{report:?}");
            assert_eq!(report.rows, newest.len() as u64);
        }
    }
}
