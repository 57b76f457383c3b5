//! Row groups that are left out by their Bloom filters.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use mezze_offline::EntitySource;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use crate::common::{NOON, batch, folder, ints, times, write, write_parquet};
use crate::historical::request;

fn strings(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

#[tokio::test]
async fn row_groups_whose_bloom_filter_has_none_of_the_keys_are_not_read() {
    let folder = folder();
    write(&folder, "feature_store.yaml", "project: p\nregistry: r\nonline_store: { type: directory, path: o }\n");
    std::fs::create_dir(folder.path().join("features")).unwrap();
    let view = |name: &str, entity: &str| {
        format!(
            "  - {{ name: {name}, entities: [{entity}], source: stats, ttl: 0s, schema: [{{ name: {name}_x, dtype: int64 }}] }}\n"
        )
    };
    let text = format!(
        "entities: [{{ name: user, value_type: string }}, {{ name: number }}]\nsources:\n  - {{ name: stats, path: stats.parquet, \
         timestamp_field: event_timestamp, field_mapping: {{ x: a_x, y: b_x }} }}\nfeature_views:\n{}{}",
        view("a", "user"),
        view("b", "number")
    );
    write(&folder, "features/all.yaml", &text);
    let definitions = mezze_model::load(folder.path(), &|_| None).unwrap().definitions;
    // Row groups of 100 keys each, whose least and greatest say nothing: every group has keys from all over the range.
    const ROWS: usize = 2_000;
    let key = |row: usize| (row % 100) * 20 + row / 100;
    let stats = batch([
        ("user", strings((0..ROWS).map(|row| format!("user {:04}", key(row))))),
        ("number", ints::<ROWS>(std::array::from_fn(|row| Some(key(row) as i64)))),
        ("event_timestamp", times::<ROWS>([NOON; ROWS])),
        ("x", ints::<ROWS>(std::array::from_fn(|row| Some(row as i64)))),
        ("y", ints::<ROWS>(std::array::from_fn(|row| Some(row as i64)))),
    ]);
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(100))
        .set_column_bloom_filter_enabled(ColumnPath::from("user"), true)
        .set_column_bloom_filter_enabled(ColumnPath::from("number"), true)
        .build();
    let file = std::fs::File::create(folder.path().join("stats.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, stats.schema(), Some(properties)).unwrap();
    writer.write(&stats).unwrap();
    writer.close().unwrap();
    let labels = batch([
        ("user", strings(["user 0007", "user 1990"].map(str::to_owned).into_iter())),
        ("number", ints([Some(7), Some(1_990)])),
        ("event_timestamp", times([NOON, NOON])),
    ]);
    write_parquet(&folder, "labels.parquet", &labels);
    for (feature, view) in [("a:a_x", "a_x"), ("b:b_x", "b_x")] {
        let mut asked = request(EntitySource::File("labels.parquet".into()), &[feature]);
        asked.folder = folder.path().to_owned();
        let summary = mezze_offline::get_historical_features(folder.path(), &definitions, asked).await.unwrap();
        let narrow = summary.phases.iter().find(|phase| phase.name == "read keys and times").unwrap();
        // Keys 7 and 1990 are in the groups 7 and 10; a filter errs once in a hundred.
        assert_eq!(narrow.rows + narrow.rows_pruned, ROWS as u64, "{view}");
        assert!((200..=500).contains(&narrow.rows), "{view}: {narrow:?}");
        assert_eq!(summary.views[0].matched, 2, "{view}");
    }
}
