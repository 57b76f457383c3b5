//! Requests for data sets that fail before the join.

use expect_test::expect;
use mezze_core::Timestamp;
use mezze_offline::{EntitySource, FeatureSelection, HistoricalRequest, OfflineError, Summary, get_historical_features};
use tempfile::TempDir;

use crate::common::{NOON, PROFILE, batch, definitions, folder, ints, stats, times, write, write_parquet};

/// A request for these features to `out.parquet`.
pub(crate) fn request(entity_rows: EntitySource, features: &[&str]) -> HistoricalRequest {
    HistoricalRequest {
        workers: None,
        transforms: None,
        entity_rows,
        selection: FeatureSelection::Features(features.iter().map(|name| (*name).to_owned()).collect()),
        full_feature_names: false,
        filter_by_created_timestamp: false,
        threads: 2,
        memory: None,
        explain: false,
        folder: std::path::PathBuf::new(),
        output: "out.parquet".into(),
        format: None,
        progress: None,
    }
}

/// A folder with the sources of the definitions and entity rows of three drivers.
pub(crate) fn repo() -> TempDir {
    let folder = folder();
    write_parquet(&folder, "stats.parquet", &stats());
    write(&folder, "profile.csv", PROFILE);
    let labels = batch([("driver_id", ints([Some(2), Some(1), Some(3)])), ("event_timestamp", times([NOON; 3]))]);
    write_parquet(&folder, "labels.parquet", &labels);
    folder
}

pub(crate) fn labels() -> EntitySource {
    EntitySource::File("labels.parquet".to_owned())
}

pub(crate) async fn run(folder: &TempDir, mut request: HistoricalRequest) -> Result<Summary, OfflineError> {
    request.folder = folder.path().to_owned();
    get_historical_features(folder.path(), &definitions(), request).await
}

async fn fails(folder: &TempDir, request: HistoricalRequest) -> String {
    let error = run(folder, request).await.unwrap_err().to_string();
    assert!(!folder.path().join("out.parquet").exists(), "nothing is written");
    error.replace(&folder.path().display().to_string(), "REPO")
}

#[tokio::test]
async fn columns_that_are_missing_or_there_twice_are_named() {
    let folder = repo();
    expect!["entity rows labels.parquet have no column customer_id, the join key of feature view customer_profile; they have driver_id, event_timestamp"]
        .assert_eq(&fails(&folder, request(labels(), &["customer_profile:city"])).await);
    let service = HistoricalRequest { selection: FeatureSelection::Service("trips_v1".into()), ..request(labels(), &[]) };
    expect!["entity rows labels.parquet have no column distance, which request source trip declares; they have driver_id, event_timestamp"]
        .assert_eq(&fails(&folder, service).await);
    let sql = EntitySource::Sql("SELECT *, 1 AS trips FROM 'labels.parquet'".into());
    expect!["a column of the entity rows by SQL and feature driver_stats:trips would both be column trips: use --full-feature-names, or call the entity rows' column otherwise"]
        .assert_eq(&fails(&folder, request(sql, &["driver_stats:trips"])).await);
}

#[tokio::test]
async fn a_file_that_is_not_parquet_is_said_to_be_none() {
    let folder = repo();
    write(&folder, "labels.parquet", "driver_id,event_timestamp\n");
    expect!["labels.parquet: not a Parquet file: Invalid Parquet file. Corrupt footer"]
        .assert_eq(&fails(&folder, request(labels(), &["driver_stats:trips"])).await);
}

#[tokio::test]
async fn ranges_need_one_set_of_keys_an_order_and_no_request_sources() {
    let folder = repo();
    write_parquet(
        &folder,
        "customers.parquet",
        &batch([
            ("customer_id", crate::common::texts([Some("a")])),
            ("event_timestamp", times([NOON])),
            ("city", crate::common::texts([None])),
        ]),
    );
    let (start, end) = (Timestamp::from_nanos((NOON - 1) * 1_000), Timestamp::from_nanos(NOON * 1_000));
    let range = EntitySource::Range { start, end };
    expect!["a time range without entity rows needs views of one set of join keys: driver_stats has driver_id, customer_profile has customer_id; ask for them separately or give entity rows"]
        .assert_eq(&fails(&folder, request(range.clone(), &["driver_stats:trips", "customer_profile:city"])).await);
    expect!["the range begins after its end: 2026-11-23T12:00:00Z is after 2026-11-23T11:59:59.999999Z"]
        .assert_eq(&fails(&folder, request(EntitySource::Range { start: end, end: start }, &["driver_stats:trips"])).await);
    let service = HistoricalRequest { selection: FeatureSelection::Service("trips_v1".into()), ..request(range, &[]) };
    expect![
        "request source trip needs column distance, which only entity rows can have; give entity rows instead of a time range"
    ]
    .assert_eq(&fails(&folder, service).await);
}

#[tokio::test]
async fn an_output_of_unknown_format_is_refused_before_the_work() {
    let folder = repo();
    let request = HistoricalRequest { output: "out.xlsx".into(), ..request(labels(), &["driver_stats:trips"]) };
    expect!["REPO/out.xlsx: cannot be written: the format is unknown: known extensions are .parquet and .pq (Parquet), .csv (CSV), .json, .jsonl and .ndjson (JSON lines), .arrow, .arrows, .feather and .ipc (Arrow IPC); name the format"]
        .assert_eq(&fails(&folder, request).await);
}
