//! Runs against a model: whatever is folded, forgotten and compacted, readers see the newest rows and nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use mezze_core::{Cell, EntityColumn, KeyHash, KeyPart, Limits, PageRef, Request, Selection, Status, Timestamp, Value};
use mezze_model::Definitions;
use mezze_replica::{Origin, Reader, Store};
use mezze_snapshot::{Materialize, MaterializeReport, ViewRows};
use proptest::prelude::*;

mod memory;

const DEFINITIONS: &str = "\
entities: [{ name: user }, { name: item, value_type: string }]
sources: [{ name: s, path: s.parquet, timestamp_field: t }]
feature_views:
  - { name: a, entities: [user], source: s, schema: [{ name: x, dtype: int64 }, { name: y, dtype: string }], retain: 0 }
  - { name: b, entities: [user], source: s, schema: [{ name: z, dtype: float64 }], retain: 0 }
  - { name: c, entities: [user, item], source: s, schema: [{ name: w, dtype: int64 }], retain: 0 }
  - { name: d, source: s, schema: [{ name: v, dtype: int64 }], retain: 0 }
";

fn definitions(text: &str) -> Definitions {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("it can be written");
    write("feature_store.yaml", "project: p\nregistry: r\nonline_store: { type: directory, path: o }\n");
    std::fs::create_dir(folder.path().join("features")).expect("it can be made");
    write("features/all.yaml", text);
    mezze_model::load(folder.path(), &|_| None).expect("the definitions are right").definitions
}

/// A row of view `a`: user, event time, creation time, x, y.
type Row = (i64, i64, Option<i64>, Option<i64>, Option<String>);

fn ints(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

fn a_rows(rows: &[Row]) -> ViewRows {
    let y: StringArray = rows.iter().map(|row| row.4.clone()).collect();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("event_timestamp", ints(rows.iter().map(|row| Some(row.1))), true),
        ("created_timestamp", ints(rows.iter().map(|row| row.2)), true),
        ("user", ints(rows.iter().map(|row| Some(row.0))), true),
        ("x", ints(rows.iter().map(|row| row.3)), true),
        ("y", Arc::new(y) as ArrayRef, true),
    ]);
    ViewRows { view: "a".into(), batches: vec![batch.expect("the columns are of one length")] }
}

fn b_rows(rows: &[(i64, i64, f64)]) -> ViewRows {
    let z: Float64Array = rows.iter().map(|row| Some(row.2)).collect();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("event_timestamp", ints(rows.iter().map(|row| Some(row.1))), true),
        ("created_timestamp", ints(rows.iter().map(|_| None)), true),
        ("user", ints(rows.iter().map(|row| Some(row.0))), true),
        ("z", Arc::new(z) as ArrayRef, true),
    ]);
    ViewRows { view: "b".into(), batches: vec![batch.expect("the columns are of one length")] }
}

/// What readers are to see of view `a`: by user the event time, creation time and values.
type Model = BTreeMap<i64, (i64, i64, Option<i64>, Option<String>)>;

struct World {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    definitions: Definitions,
    clock: i64,
    memory: Option<usize>,
    page_bytes_max: usize,
    model: Model,
    b: BTreeMap<i64, (i64, f64)>,
}

impl World {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
            definitions: definitions(DEFINITIONS),
            clock: 1_000_000,
            memory: None,
            page_bytes_max: 2_000,
            model: Model::new(),
            b: BTreeMap::new(),
        }
    }

    fn origin(&self) -> Origin {
        Origin::new(Store::folder(self.folder.path()).expect("it can be opened"))
    }

    fn run(&mut self, rows: Vec<ViewRows>, compact: bool) -> MaterializeReport {
        self.clock += 1;
        let origin = self.origin();
        let mut run = Materialize::new(&origin, &self.definitions, Timestamp::from_nanos(self.clock));
        run.threads = 2;
        run.page_bytes_max = self.page_bytes_max;
        run.compact = compact;
        run.memory = self.memory;
        self.runtime.block_on(async {
            let state = run.state().await.expect("it can be read");
            run.run(rows, &state).await.expect("the rows fit")
        })
    }

    fn fold(&mut self, rows: &[Row]) -> MaterializeReport {
        for (user, time, created, x, y) in rows {
            let created = created.unwrap_or(i64::MIN);
            let newer = self.model.get(user).is_none_or(|known| (*time, created) >= (known.0, known.1));
            if newer {
                self.model.insert(*user, (*time, created, *x, y.clone()));
            }
        }
        self.run(vec![a_rows(rows)], false)
    }

    fn forget(&mut self, user: i64) {
        self.clock += 1;
        let origin = self.origin();
        let run = Materialize::new(&origin, &self.definitions, Timestamp::from_nanos(self.clock));
        let key = BTreeMap::from([("user".to_owned(), user.to_string())]);
        self.runtime.block_on(run.forget(&key)).expect("the key is of a table");
        self.model.remove(&user);
        self.b.remove(&user);
    }

    /// Compares what a reader sees of users 0 to 29 with the model.
    fn check(&self) {
        let store = Store::folder(self.folder.path()).expect("it can be opened");
        let reader = self.runtime.block_on(Reader::open(store, 1 << 20)).expect("there is a snapshot");
        let users: Vec<Value> = (0..30).map(Value::Int).collect();
        let selection = Selection::Features(["a:x", "a:y", "b:z"].map(String::from).to_vec());
        let request = Request::new(selection, vec![EntityColumn::new("user", users)]);
        let snapshot = reader.snapshot();
        let plan = snapshot.plan(&request, Timestamp::EPOCH, &Limits::server()).expect("it fits");
        let pages = self.runtime.block_on(reader.pages(&plan)).expect("the pages are whole");
        let pages: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
        let response = plan.answer(&pages).expect("the pages are whole");
        for user in 0..30_usize {
            let cell = |column: usize| response.cells[column * 30 + user];
            let a = response.status(&response.columns[1], user, &Cell::Int(0));
            match self.model.get(&(user as i64)) {
                None => assert_eq!(a.status, Status::NotFound, "user {user}"),
                Some((time, _, x, y)) => {
                    assert_eq!((a.status, a.event_time), (Status::Present, Timestamp::from_nanos(*time)), "user {user}");
                    assert_eq!(cell(1), x.map_or(Cell::Null, Cell::Int), "user {user}");
                    assert_eq!(cell(2), y.as_deref().map_or(Cell::Null, |text| Cell::Bytes(text.as_bytes())), "user {user}");
                }
            }
            let b = response.status(&response.columns[3], user, &Cell::Int(0));
            match self.b.get(&(user as i64)) {
                None => assert_eq!(b.status, Status::NotFound, "user {user}"),
                Some((time, z)) => {
                    assert_eq!((b.status, b.event_time), (Status::Present, Timestamp::from_nanos(*time)), "user {user}");
                    assert_eq!(cell(3), Cell::Float64(*z), "user {user}");
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Compact,
    Fold(Vec<Row>),
    FoldB(Vec<(i64, i64, f64)>),
    Forget(i64),
    /// All known rows of view `a` again, with their times moved.
    Later(i64),
}

fn a_step() -> impl Strategy<Value = Step> {
    let row = (
        0..30_i64,
        0..40_i64,
        proptest::option::of(0..4_i64),
        proptest::option::of(0..5_i64),
        proptest::option::of("[a-c]{0,3}"),
    );
    let unique = |rows: Vec<Row>| {
        let mut by_user: BTreeMap<i64, Row> = BTreeMap::new();
        rows.into_iter().for_each(|row| {
            by_user.insert(row.0, row);
        });
        Step::Fold(by_user.into_values().collect())
    };
    let b = proptest::collection::btree_map(0..30_i64, (0..40_i64, 0..9_i32), 1..12);
    prop_oneof![
        6 => proptest::collection::vec(row, 1..25).prop_map(unique),
        3 => b.prop_map(|rows| Step::FoldB(rows.into_iter().map(|(user, (time, z))| (user, time, f64::from(z) / 4.0)).collect())),
        1 => Just(Step::Compact),
        1 => (0..30_i64).prop_map(Step::Forget),
        2 => (1..5_i64).prop_map(Step::Later),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn readers_see_the_newest_rows_whatever_was_folded_before(
        steps in proptest::collection::vec(a_step(), 1..10), memory in proptest::option::of(Just(2_000_usize)),
    ) {
        let mut world = World::new();
        world.memory = memory;
        world.fold(&[]);
        // Times of steps are below the clock, so what is forgotten stays so.
        let mut forgotten = Vec::new();
        for step in steps {
            match step {
                Step::Fold(rows) => {
                    let rows: Vec<Row> = rows.into_iter().filter(|row| !forgotten.contains(&row.0)).collect();
                    world.fold(&rows);
                }
                Step::FoldB(rows) => {
                    let rows: Vec<_> = rows.into_iter().filter(|row| !forgotten.contains(&row.0)).collect();
                    for (user, time, z) in &rows {
                        if world.b.get(user).is_none_or(|known| *time >= known.0) {
                            world.b.insert(*user, (*time, *z));
                        }
                    }
                    world.run(vec![b_rows(&rows)], false);
                }
                Step::Compact => {
                    world.run(vec![], true);
                }
                Step::Forget(user) => {
                    world.forget(user);
                    forgotten.push(user);
                }
                Step::Later(span) => {
                    let rows: Vec<Row> = world
                        .model
                        .iter()
                        .map(|(user, (time, created, x, y))| {
                            (*user, time + span, (*created != i64::MIN).then_some(*created), *x, y.clone())
                        })
                        .collect();
                    world.fold(&rows);
                }
            }
            world.check();
        }
    }
}

#[test]
fn equal_rows_with_later_times_write_no_page_and_changed_ones_only_themselves() {
    let mut world = World::new();
    let rows = |shift: i64, changed: i64| -> Vec<Row> {
        (0..2000)
            .map(|user| (user, user + shift, None, Some(if user < changed { -1 } else { user }), Some("text".into())))
            .collect()
    };
    let first = world.fold(&rows(0, 0));
    assert!(first.tables.iter().any(|table| table.rebuilt && table.pages_written > 5));
    let again = world.fold(&rows(0, 0));
    assert_eq!(again.record, None);
    let later = world.fold(&rows(100, 0));
    assert_eq!(later.tables.iter().map(|table| table.pages_written).sum::<u64>(), 0);
    assert!(later.record.is_some());
    world.check();
    let changed = world.fold(&rows(200, 10));
    let table = changed.tables.iter().find(|table| table.entities == 2000).expect("it is there");
    assert_eq!((table.delta_rows, table.rebuilt), (10, false));
    world.check();
}

#[test]
fn one_value_in_a_hundred_is_a_few_bytes_in_a_hundred() {
    let mut world = World::new();
    world.page_bytes_max = 65_536;
    // A number that user, feature and day decide: a new one on one day in a hundred, apart for each value.
    let number = |user: i64, feature: i64, day: i64| {
        let mix = |salt: i64| {
            let key = [KeyPart::Int(user), KeyPart::Int(feature), KeyPart::Int(salt)];
            (KeyHash::of(&key).get() >> 1) as i64
        };
        let changed = (1..=day).rev().find(|day| mix(*day) % 100 == 0).unwrap_or(0);
        mix(1_000 + changed) % 100_000
    };
    let users = 40_000_i64;
    let mut batch = |day: i64| {
        let a: Vec<Row> = (0..users)
            .map(|user| (user, day * 1_000, None, Some(number(user, 0, day)), Some(format!("city {}", number(user, 1, day)))))
            .collect();
        let b: Vec<_> = (0..users).map(|user| (user, day * 1_000, number(user, 2, day) as f64 / 7.0)).collect();
        let report = world.run(vec![a_rows(&a), b_rows(&b)], false);
        let table = report.tables.into_iter().find(|table| table.entities > 0).expect("it has rows");
        (table.rebuilt, table.bytes_written, table.delta_rows)
    };
    let (_, whole, _) = batch(0);
    let (rebuilt, bytes, rows) = batch(1);
    assert!(!rebuilt && (1_000..1_400).contains(&rows), "about three in a hundred users have another value: {rows}");
    assert!(bytes * 1_000 <= whole * 15, "{bytes} of {whole} bytes");
}

#[test]
fn what_was_forgotten_does_not_come_back_with_old_rows() {
    let mut world = World::new();
    world.fold(&[(1, 10, None, Some(5), None), (2, 10, None, Some(6), None)]);
    world.forget(1);
    world.check();
    world.run(vec![a_rows(&[(1, 11, None, Some(5), None)])], false);
    world.check();
    let clock = world.clock;
    world.fold(&[(1, clock + 5, None, Some(7), None)]);
    world.check();
}

#[test]
fn a_changed_schema_keeps_what_still_fits() {
    let mut world = World::new();
    world.fold(&[(1, 10, None, Some(5), Some("five".into()))]);
    let text = DEFINITIONS.replace("{ name: y, dtype: string }", "{ name: y, dtype: string }, { name: n, dtype: int64 }");
    world.definitions = definitions(&text);
    let report = world.run(vec![], false);
    assert!(report.record.is_some());
    world.check();
    world.definitions = definitions(&text.replace("{ name: x, dtype: int64 }", "{ name: x, dtype: float64 }"));
    world.run(vec![], false);
    world.model.insert(1, (10, i64::MIN, None, Some("five".into())));
    world.check();
}

#[test]
fn a_row_that_is_too_large_is_refused_with_its_key_and_nothing_changes() {
    let mut world = World::new();
    world.fold(&[(1, 10, None, Some(5), None)]);
    let origin = world.origin();
    let run = Materialize::new(&origin, &world.definitions, Timestamp::from_nanos(5));
    let rows = vec![a_rows(&[(2, 10, None, None, Some("x".repeat(300_000)))])];
    let error = world.runtime.block_on(async { run.run(rows, &run.state().await.expect("it can be read")).await });
    expect_test::expect![
        "table user: the row of user=2 has 300024 bytes, 262144 are allowed; leave out its large features, or group them apart"
    ]
    .assert_eq(&error.expect_err("the row is too large").to_string());
    world.check();
    assert!(Path::new(world.folder.path()).join("head").exists());
}
