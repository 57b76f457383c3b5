//! Entity rows from files and queries.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
};
use datafusion::prelude::SessionContext;
use expect_test::expect;
use mezze_offline::{EntityRows, OfflineError};
use tempfile::TempDir;

use crate::common::{NOON, batch, folder, ints, rows, show, texts, times, write, write_parquet};

async fn from_file(folder: &TempDir, path: &str) -> Result<EntityRows, OfflineError> {
    EntityRows::from_file(folder.path(), path, &BTreeMap::new()).await
}

async fn from_sql(folder: &TempDir, sql: &str) -> Result<EntityRows, OfflineError> {
    EntityRows::from_sql(&SessionContext::new(), folder.path(), sql, &BTreeMap::new()).await
}

async fn fails(folder: &TempDir, path: &str) -> String {
    from_file(folder, path).await.unwrap_err().to_string()
}

#[tokio::test]
async fn the_column_of_event_times_is_found() {
    let folder = folder();
    write_parquet(&folder, "a.parquet", &batch([("at", times([NOON])), ("event_timestamp", times([NOON]))]));
    assert_eq!(from_file(&folder, "a.parquet").await.unwrap().timestamp_column, "event_timestamp");
    write_parquet(&folder, "a.parquet", &batch([("at", times([NOON])), ("x", ints([None]))]));
    assert_eq!(from_file(&folder, "a.parquet").await.unwrap().timestamp_column, "at");
    write_parquet(&folder, "a.parquet", &batch([("at", times([NOON])), ("seen", times([NOON])), ("x", ints([None]))]));
    expect![
        "entity rows a.parquet: the column of event times is ambiguous: at, seen are timestamps; call one of them event_timestamp"
    ]
    .assert_eq(&fails(&folder, "a.parquet").await);
    write_parquet(&folder, "a.parquet", &batch([("x", ints([None]))]));
    expect!["entity rows a.parquet: no column says when: a column event_timestamp, or one column that is a timestamp, is needed; there are x"]
        .assert_eq(&fails(&folder, "a.parquet").await);
    write_parquet(&folder, "a.parquet", &batch([("event_timestamp", texts([Some("2026-11-23T12:00:00Z")]))]));
    expect!["entity rows a.parquet: column event_timestamp is text, a timestamp is needed; write it as one, or give the rows by SQL with to_timestamp(event_timestamp) AS event_timestamp"]
        .assert_eq(&fails(&folder, "a.parquet").await);
}

#[tokio::test]
async fn times_of_every_unit_and_zone_become_utc() {
    let folder = folder();
    let seconds = NOON / 1_000_000;
    let forms: [(&str, ArrayRef); 7] = [
        ("s", Arc::new(TimestampSecondArray::from(vec![seconds]))),
        ("ms", Arc::new(TimestampMillisecondArray::from(vec![seconds * 1_000]))),
        ("us", Arc::new(TimestampMicrosecondArray::from(vec![NOON]))),
        ("ns", Arc::new(TimestampNanosecondArray::from(vec![NOON * 1_000 + 1]))),
        ("offset", Arc::new(TimestampMicrosecondArray::from(vec![NOON]).with_timezone("+02:00"))),
        ("utc", times([NOON])),
        ("date", Arc::new(Date32Array::from(vec![i32::try_from(seconds / 86_400).unwrap()]))),
    ];
    let mut shown = String::new();
    for (name, column) in forms {
        write_parquet(&folder, "a.parquet", &batch([("event_timestamp", column)]));
        let found = rows(from_file(&folder, "a.parquet").await.unwrap().plan).await;
        let value = arrow::util::display::array_value_to_string(found.column(0), 0).unwrap();
        shown += &format!("{name}: {} {value}\n", found.schema().field(0).data_type());
    }
    expect![[r#"
        s: Timestamp(s, "UTC") 2026-11-23T12:00:00Z
        ms: Timestamp(ms, "UTC") 2026-11-23T12:00:00Z
        us: Timestamp(µs, "UTC") 2026-11-23T12:00:00Z
        ns: Timestamp(ns, "UTC") 2026-11-23T12:00:00.000000001Z
        offset: Timestamp(µs, "UTC") 2026-11-23T12:00:00Z
        utc: Timestamp(µs, "UTC") 2026-11-23T12:00:00Z
        date: Timestamp(µs, "UTC") 2026-11-23T00:00:00Z
    "#]]
    .assert_eq(&shown);
}

#[tokio::test]
async fn text_files_may_have_dates_alone_as_event_times() {
    let folder = folder();
    write(&folder, "a.csv", "id,event_timestamp\n7,2026-11-23\n");
    expect![[r#"
        +----+----------------------+
        | id | event_timestamp      |
        +----+----------------------+
        | 7  | 2026-11-23T00:00:00Z |
        +----+----------------------+"#]]
    .assert_eq(&show(&rows(from_file(&folder, "a.csv").await.unwrap().plan).await));
}

#[tokio::test]
async fn no_rows_are_no_error() {
    let folder = folder();
    write_parquet(&folder, "a.parquet", &batch([("id", ints([])), ("event_timestamp", times([]))]));
    assert_eq!(rows(from_file(&folder, "a.parquet").await.unwrap().plan).await.num_rows(), 0);
    write(&folder, "a.csv", "id,event_timestamp\n");
    assert_eq!(rows(from_file(&folder, "a.csv").await.unwrap().plan).await.num_rows(), 0);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_named_when_it_is_reached() {
    let folder = folder();
    write(&folder, "a.csv", "id,event_timestamp\n7,2026-11-23\n8,yesterday\n");
    let plan = from_file(&folder, "a.csv").await.unwrap().plan;
    let error = datafusion::physical_plan::collect(plan, SessionContext::new().task_ctx()).await.unwrap_err();
    expect![[r#"External error: a.csv:3: column event_timestamp: "yesterday" is not a timestamp such as 2026-11-23T05:00:00Z between the years 1678 and 2262"#]]
        .assert_eq(&error.strip_backtrace());
}

#[tokio::test]
async fn queries_keep_the_order_of_the_files() {
    let folder = folder();
    for (index, name) in ["labels/b.parquet", "labels/a.parquet"].iter().enumerate() {
        let first = index as i64 * 100_000;
        let ids: Vec<Option<i64>> = (0..50_000).rev().map(|id| Some(first + id)).collect();
        let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![NOON; 50_000]));
        let ids: ArrayRef = Arc::new(arrow::array::Int64Array::from(ids));
        write_parquet(&folder, name, &batch([("id", ids), ("at", at)]));
    }
    let found = rows(
        from_sql(&folder, "SELECT id * 2 AS id, at AS event_timestamp FROM 'labels/*.parquet' WHERE id % 2 = 0")
            .await
            .unwrap()
            .plan,
    );
    let found = found.await;
    let ids = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(found.column(0)).values().to_vec();
    let expected: Vec<i64> =
        (100_000..150_000).rev().chain((0..50_000).rev()).filter(|id| id % 2 == 0).map(|id| id * 2).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn queries_join_files_and_may_order_rows() {
    let folder = folder();
    write(&folder, "a.csv", "id,event_timestamp\n1,2026-11-23T12:00:00Z\n2,2026-11-23T13:00:00Z\n");
    write(&folder, "b.json", "{\"id\": 1, \"label\": true}\n{\"id\": 2, \"label\": false}\n");
    let sql = "WITH labels AS (SELECT * FROM 'b.json') \
               SELECT a.id, event_timestamp, label FROM 'a.csv' AS a JOIN labels ON a.id = labels.id ORDER BY a.id DESC";
    expect![[r#"
        +----+----------------------+-------+
        | id | event_timestamp      | label |
        +----+----------------------+-------+
        | 2  | 2026-11-23T13:00:00Z | false |
        | 1  | 2026-11-23T12:00:00Z | true  |
        +----+----------------------+-------+"#]]
    .assert_eq(&show(&rows(from_sql(&folder, sql).await.unwrap().plan).await));
}

#[tokio::test]
async fn what_is_wrong_with_a_query_is_said() {
    let folder = folder();
    write(&folder, "a.csv", "id,event_timestamp\n1,2026-11-23T12:00:00Z\n");
    let fails = async |sql: &str| from_sql(&folder, sql).await.unwrap_err().to_string();
    expect!["entity rows by SQL: there is no table labels; name a file in quotes: FROM 'labels.parquet'"]
        .assert_eq(&fails("SELECT * FROM labels").await);
    expect!["entity rows by SQL: only a SELECT is possible"].assert_eq(&fails("DROP TABLE x").await);
    expect![[r#"entity rows by SQL: Schema error: No field named nope. Valid fields are "a.csv".id, "a.csv".event_timestamp."#]]
        .assert_eq(&fails("SELECT nope FROM 'a.csv'").await);
    expect![[r#"entity rows by SQL: SQL error: ParserError("Expected: an SQL statement, found: SELEC at Line: 1, Column: 1")"#]]
        .assert_eq(&fails("SELEC 1").await);
    let missing = fails("SELECT * FROM 'none.csv'").await.replace(&folder.path().display().to_string(), "REPO");
    expect!["none.csv: there is no such file or folder in REPO"].assert_eq(&missing);
}

#[tokio::test]
async fn partition_folders_are_columns_of_entity_rows() {
    let folder = folder();
    write(&folder, "l/day=1/a.csv", "id,event_timestamp\n1,2026-11-23T12:00:00Z\n");
    write(&folder, "l/day=2/a.csv", "id,event_timestamp\n2,2026-11-23T12:00:00Z\n");
    expect![[r#"
        +----+----------------------+-----+
        | id | event_timestamp      | day |
        +----+----------------------+-----+
        | 1  | 2026-11-23T12:00:00Z | 1   |
        | 2  | 2026-11-23T12:00:00Z | 2   |
        +----+----------------------+-----+"#]]
    .assert_eq(&show(&rows(from_file(&folder, "l").await.unwrap().plan).await));
    expect![[r#"
        +-----+----------------------+
        | day | event_timestamp      |
        +-----+----------------------+
        | 2   | 2026-11-23T12:00:00Z |
        +-----+----------------------+"#]]
    .assert_eq(&show(&rows(from_sql(&folder, "SELECT day, event_timestamp FROM 'l/' WHERE day > 1").await.unwrap().plan).await));
}
