//! Data sets as they come out of the join.

use std::sync::{Arc, Mutex};

use arrow::array::{Int8Array, StringArray, StringDictionaryBuilder, TimestampSecondArray};
use arrow::datatypes::Int32Type;
use expect_test::expect;
use mezze_core::Timestamp;
use mezze_offline::{EntitySource, FeatureSelection, HistoricalRequest, Progress};

use crate::common::{HOUR, NOON, batch, floats, ints, read_parquet, show, times, write, write_arrow_stream, write_parquet};
use crate::historical::{labels, repo, request, run};

const BOTH: [&str; 4] = ["driver_stats:conv_rate", "driver_stats:trips", "driver_profile:age", "driver_profile:city"];

#[tokio::test]
async fn features_follow_the_entity_rows_which_keep_their_order() {
    let folder = repo();
    let summary = run(&folder, request(labels(), &BOTH)).await.unwrap();
    expect![[r#"
        +-----------+----------------------+-----------+-------+-----+------------------+
        | driver_id | event_timestamp      | conv_rate | trips | age | city             |
        +-----------+----------------------+-----------+-------+-----+------------------+
        | 2         | 2026-11-23T12:00:00Z |           |       |     | Beirut, old town |
        | 1         | 2026-11-23T12:00:00Z |           | 11    | 41  | Haifa            |
        | 3         | 2026-11-23T12:00:00Z |           |       |     |                  |
        +-----------+----------------------+-----------+-------+-----+------------------+"#]]
    .assert_eq(&show(&read_parquet(&summary.output)));
    assert_eq!(summary.rows, 3);
    let matched: Vec<(&str, u64)> = summary.views.iter().map(|view| (view.view.as_str(), view.matched)).collect();
    assert_eq!(matched, [("driver_stats", 1), ("driver_profile", 2)]);
    assert_eq!(summary.bytes, std::fs::metadata(&summary.output).unwrap().len());
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files.len(), 4, "no temporary file is left: {files:?}");
}

#[tokio::test]
async fn every_format_of_entity_rows_and_of_sources_gives_the_same_data_set() {
    let folder = repo();
    let expected = read_parquet(&run(&folder, request(labels(), &["driver_stats:trips"])).await.unwrap().output);
    let labels = batch([("driver_id", ints([Some(2), Some(1), Some(3)])), ("event_timestamp", times([NOON; 3]))]);
    write_arrow_stream(&folder, "labels.arrows", &labels);
    write(
        &folder,
        "labels.csv",
        "driver_id,event_timestamp\n2,2026-11-23T12:00:00Z\n1,2026-11-23 12:00:00\n3,2026-11-23T14:00:00+02:00\n",
    );
    for file in ["labels.arrows", "labels.csv"] {
        let found = run(&folder, request(EntitySource::File(file.into()), &["driver_stats:trips"])).await.unwrap();
        let found = read_parquet(&found.output);
        assert_eq!(show(&found), show(&expected), "{file}");
    }
}

#[tokio::test]
async fn every_output_format_is_written() {
    let folder = repo();
    let mut texts = String::new();
    for name in ["out.csv", "out.json"] {
        let request = HistoricalRequest { output: name.into(), ..request(labels(), &["driver_stats:trips"]) };
        run(&folder, request).await.unwrap();
        texts += &std::fs::read_to_string(folder.path().join(name)).unwrap();
    }
    expect![[r#"
        driver_id,event_timestamp,trips
        2,2026-11-23T12:00:00Z,
        1,2026-11-23T12:00:00Z,11
        3,2026-11-23T12:00:00Z,
        {"driver_id":2,"event_timestamp":"2026-11-23T12:00:00Z","trips":null}
        {"driver_id":1,"event_timestamp":"2026-11-23T12:00:00Z","trips":11}
        {"driver_id":3,"event_timestamp":"2026-11-23T12:00:00Z","trips":null}
    "#]]
    .assert_eq(&texts);
    let request = HistoricalRequest { output: "out.arrow".into(), ..request(labels(), &["driver_stats:trips"]) };
    let output = run(&folder, request).await.unwrap().output;
    let reader = arrow::ipc::reader::FileReader::try_new(std::fs::File::open(output).unwrap(), None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 3);
}

#[tokio::test]
async fn columns_get_the_types_that_are_declared() {
    let folder = repo();
    let at = Arc::new(TimestampSecondArray::from(vec![(NOON - HOUR) / 1_000_000]));
    let trips = Arc::new(Int8Array::from(vec![5]));
    write_parquet(
        &folder,
        "stats.parquet",
        &batch([("driver_id", ints([Some(1)])), ("event_timestamp", at), ("rate", floats([Some(0.5)])), ("trips", trips)]),
    );
    let summary = run(&folder, request(labels(), &["driver_stats:trips"])).await.unwrap();
    let found = read_parquet(&summary.output);
    assert_eq!(*found.schema().field(2).data_type(), arrow::datatypes::DataType::Int64);
    expect![[r#"
        +-----------+----------------------+-------+
        | driver_id | event_timestamp      | trips |
        +-----------+----------------------+-------+
        | 2         | 2026-11-23T12:00:00Z |       |
        | 1         | 2026-11-23T12:00:00Z | 5     |
        | 3         | 2026-11-23T12:00:00Z |       |
        +-----------+----------------------+-------+"#]]
    .assert_eq(&show(&found));
}

#[tokio::test]
async fn dictionaries_of_keys_and_features_are_read() {
    let folder = repo();
    let mut city = StringDictionaryBuilder::<Int32Type>::new();
    city.append_value("Tyre");
    write_parquet(
        &folder,
        "customers.parquet",
        &batch([
            ("customer_id", Arc::new(StringArray::from(vec!["a"]))),
            ("event_timestamp", times([NOON])),
            ("city", Arc::new(city.finish())),
        ]),
    );
    let sql = EntitySource::Sql("SELECT 'a' AS customer_id, event_timestamp FROM 'labels.parquet' LIMIT 1".into());
    let summary = run(&folder, request(sql, &["customer_profile:city"])).await.unwrap();
    expect![[r#"
        +-------------+----------------------+------+
        | customer_id | event_timestamp      | city |
        +-------------+----------------------+------+
        | a           | 2026-11-23T12:00:00Z | Tyre |
        +-------------+----------------------+------+"#]]
    .assert_eq(&show(&read_parquet(&summary.output)));
}

#[tokio::test]
async fn one_view_may_be_joined_by_two_columns() {
    let folder = repo();
    write(
        &folder,
        "pairs.csv",
        "event_timestamp,first_driver,second_driver\n2026-11-23T11:00:00Z,1,2\n2026-11-23T10:30:00Z,2,1\n",
    );
    let request = HistoricalRequest {
        selection: FeatureSelection::Service("pair".into()),
        full_feature_names: true,
        ..request(EntitySource::File("pairs.csv".into()), &[])
    };
    let summary = run(&folder, request).await.unwrap();
    expect![[r#"
        +----------------------+--------------+---------------+--------------+---------------+
        | event_timestamp      | first_driver | second_driver | first__trips | second__trips |
        +----------------------+--------------+---------------+--------------+---------------+
        | 2026-11-23T11:00:00Z | 1            | 2             | 11           | 20            |
        | 2026-11-23T10:30:00Z | 2            | 1             | 20           | 10            |
        +----------------------+--------------+---------------+--------------+---------------+"#]]
    .assert_eq(&show(&read_parquet(&summary.output)));
}

#[tokio::test]
async fn a_range_gives_every_entity_of_its_time_as_of_its_end() {
    let folder = repo();
    let at = |micros: i64| Timestamp::from_nanos(micros * 1_000);
    let range = EntitySource::Range { start: at(NOON - 2 * HOUR), end: at(NOON - HOUR) };
    let summary = run(&folder, request(range, &BOTH)).await.unwrap();
    expect![[r#"
        +-----------+----------------------+-----------+-------+-----+------+
        | driver_id | event_timestamp      | conv_rate | trips | age | city |
        +-----------+----------------------+-----------+-------+-----+------+
        | 1         | 2026-11-23T11:00:00Z |           | 11    |     |      |
        | 2         | 2026-11-23T11:00:00Z | 0.3       | 20    |     |      |
        +-----------+----------------------+-----------+-------+-----+------+"#]]
    .assert_eq(&show(&read_parquet(&summary.output)));
}

#[tokio::test]
async fn no_entity_rows_give_no_rows_and_all_columns() {
    let folder = repo();
    write(&folder, "none.csv", "driver_id,event_timestamp\n");
    let summary = run(&folder, request(EntitySource::File("none.csv".into()), &BOTH)).await.unwrap();
    assert_eq!((summary.rows, read_parquet(&summary.output).num_columns()), (0, 6));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_leaves_the_old_output_alone() {
    let folder = repo();
    write(&folder, "out.parquet", "old");
    write(&folder, "labels.csv", "driver_id,event_timestamp\n1,2026-11-23T12:00:00Z\n1,yesterday\n");
    let error = run(&folder, request(EntitySource::File("labels.csv".into()), &BOTH)).await.unwrap_err();
    expect![[r#"labels.csv:3: column event_timestamp: "yesterday" is not a timestamp such as 2026-11-23T05:00:00Z between the years 1678 and 2262"#]]
        .assert_eq(&error.to_string());
    assert_eq!(std::fs::read_to_string(folder.path().join("out.parquet")).unwrap(), "old");
}

#[tokio::test]
async fn partition_folders_may_be_keys_and_features() {
    let folder = repo();
    std::fs::remove_file(folder.path().join("stats.parquet")).unwrap();
    let part =
        |trips| batch([("event_timestamp", times([NOON - HOUR])), ("rate", floats([Some(0.5)])), ("trips", ints([Some(trips)]))]);
    write_parquet(&folder, "stats.parquet/driver_id=1/x.parquet", &part(1));
    write_parquet(&folder, "stats.parquet/driver_id=2/x.parquet", &part(2));
    let summary = run(&folder, request(labels(), &["driver_stats:trips"])).await.unwrap();
    expect![[r#"
        +-----------+----------------------+-------+
        | driver_id | event_timestamp      | trips |
        +-----------+----------------------+-------+
        | 2         | 2026-11-23T12:00:00Z | 2     |
        | 1         | 2026-11-23T12:00:00Z | 1     |
        | 3         | 2026-11-23T12:00:00Z |       |
        +-----------+----------------------+-------+"#]]
    .assert_eq(&show(&read_parquet(&summary.output)));
}

#[tokio::test]
async fn progress_is_told() {
    let folder = repo();
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let progress = Arc::new(move |progress: Progress<'_>| listener.lock().unwrap().push(format!("{progress:?}")));
    run(&folder, HistoricalRequest { progress: Some(progress), ..request(labels(), &["driver_stats:trips"]) }).await.unwrap();
    let told = told.lock().unwrap();
    assert_eq!(told.first().map(String::as_str), Some("Preparing { view: \"driver_stats\" }"));
    assert_eq!(told.last().map(String::as_str), Some("Written { rows: 3 }"));
}

#[tokio::test]
async fn row_groups_that_cannot_hold_a_winner_are_not_read() {
    let folder = repo();
    // A row an hour and driver, in order of time, and row groups of a day.
    const ROWS: usize = 20 * 24 * 3;
    let stats = batch([
        ("driver_id", ints::<ROWS>(std::array::from_fn(|row| Some(row as i64 % 3)))),
        ("event_timestamp", times::<ROWS>(std::array::from_fn(|row| NOON - (ROWS - 1 - row) as i64 / 3 * HOUR))),
        ("rate", floats([Some(0.5); ROWS])),
        ("trips", ints::<ROWS>(std::array::from_fn(|row| Some(row as i64)))),
    ]);
    let properties = parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(24 * 3)).build();
    let file = std::fs::File::create(folder.path().join("stats.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, stats.schema(), Some(properties)).unwrap();
    writer.write(&stats).unwrap();
    writer.close().unwrap();
    let summary = run(&folder, request(labels(), &["driver_stats:trips"])).await.unwrap();
    let phase = |name: &str| summary.phases.iter().find(|phase| phase.name == name).unwrap();
    let (narrow, features) = (phase("read keys and times"), phase("read features"));
    // The view's ttl is two hours, and all entity rows are of one instant: at most two row groups can matter.
    assert_eq!(narrow.rows + narrow.rows_pruned, ROWS as u64);
    assert!(narrow.rows <= 2 * 24 * 3, "{narrow:?}");
    assert!(narrow.bytes_pruned > narrow.bytes_read && features.bytes_pruned > features.bytes_read, "{narrow:?} {features:?}");
}
