//! Sources against what their views declare.

use arrow::array::RecordBatch;
use expect_test::expect;
use mezze_core::ValueType;
use mezze_model::{Definitions, SourceFormat};
use mezze_offline::{PreparedView, SelectedView, prepare_view};
use tempfile::TempDir;

use crate::common::{NOON, PROFILE, batch, definitions, floats, folder, ints, stats, texts, times, write, write_parquet};

async fn prepare(folder: &TempDir, definitions: &Definitions, view: &str) -> Result<PreparedView, String> {
    let selected = SelectedView::all_of(definitions.feature_view(view).unwrap());
    prepare_view(folder.path(), definitions, &selected).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_prepared_view_names_the_columns_of_its_source() {
    let folder = folder();
    write_parquet(&folder, "stats.parquet", &stats());
    let prepared = prepare(&folder, &definitions(), "driver_stats").await.unwrap();
    let features: Vec<_> = prepared.view.features.iter().map(|f| (f.source_column.as_str(), f.output_name.as_str())).collect();
    assert_eq!(features, [("rate", "conv_rate"), ("trips", "trips")]);
    assert_eq!(prepared.view.keys[0].source_column, "driver_id");
    assert_eq!(prepared.view.files[0].local, Some(folder.path().join("stats.parquet")));
}

#[tokio::test]
async fn a_source_that_is_not_parquet_is_spilled_while_its_view_is_kept() {
    let folder = folder();
    write(&folder, "profile.csv", PROFILE);
    let prepared = prepare(&folder, &definitions(), "driver_profile").await.unwrap();
    let local = prepared.view.files[0].local.clone().unwrap();
    assert!(local.exists());
    drop(prepared);
    assert!(!local.exists());
}

#[tokio::test]
async fn what_does_not_fit_a_view_is_said() {
    let folder = folder();
    let fails = async |batch: &RecordBatch| {
        write_parquet(&folder, "stats.parquet", batch);
        prepare(&folder, &definitions(), "driver_stats").await.unwrap_err()
    };
    let id = || ("driver_id", ints([Some(1)]));
    let at = || ("event_timestamp", times([NOON]));
    let rate = || ("rate", floats([None]));
    expect!["feature view driver_stats: source stats has no column trips, which is its feature trips; it has driver_id, event_timestamp, rate"]
        .assert_eq(&fails(&batch([id(), at(), rate()])).await);
    expect!["feature view driver_stats: source stats has no column driver_id, which is its join key driver_id; it has event_timestamp, rate"]
        .assert_eq(&fails(&batch([at(), rate()])).await);
    expect!["feature view driver_stats: column event_timestamp of source stats is text, but as timestamp_field it needs to be a timestamp"]
        .assert_eq(&fails(&batch([id(), ("event_timestamp", texts([Some("2026")])), rate()])).await);
    expect!["feature view driver_stats: column driver_id of source stats is float64, but join key driver_id cannot be a float: equal keys must have equal bytes"]
        .assert_eq(&fails(&batch([("driver_id", floats([Some(1.0)])), at(), rate()])).await);
    expect!["feature view driver_stats: column trips of source stats is text, but feature trips is declared as int64"]
        .assert_eq(&fails(&batch([id(), at(), rate(), ("trips", texts([Some("1")]))])).await);
}

#[tokio::test]
async fn declared_types_rule_text_files() {
    let folder = folder();
    let mut definitions = definitions();
    definitions.sources[1].format = Some(SourceFormat::Csv);
    definitions.sources[1].path = "profile.txt".into();
    definitions.feature_views[1].schema[0].value_type = ValueType::List(Box::new(ValueType::Int64));
    write(&folder, "profile.txt", "driver_id,event_timestamp,age,city\n1,2026-11-23,\"[1, 2]\",5\n");
    prepare(&folder, &definitions, "driver_profile").await.unwrap();
    write(&folder, "profile.txt", "driver_id,event_timestamp,age,city\n1,2026-11-23,\"[1, 2]\",5\n2,2026-11-23,[x],6\n");
    expect![[r#"profile.txt:3: column age: "[x]" is not JSON of type list(int64)"#]]
        .assert_eq(&prepare(&folder, &definitions, "driver_profile").await.unwrap_err());
    definitions.feature_views[1].schema[0].value_type = ValueType::Bytes;
    expect!["profile.txt: column age: text files cannot hold bytes; use Parquet or Arrow"]
        .assert_eq(&prepare(&folder, &definitions, "driver_profile").await.unwrap_err());
}
