//! Which files a path stands for.

use expect_test::expect;

use crate::common::{batch, columns, files, folder, ints, texts, write, write_parquet};

async fn names(folder: &tempfile::TempDir, path: &str) -> String {
    match files(folder, path).await {
        Ok(found) => found.files.iter().map(|file| format!("{} {:?}\n", file.name, file.constants)).collect(),
        Err(error) => error.to_string().replace(&folder.path().display().to_string(), "REPO"),
    }
}

fn tree() -> tempfile::TempDir {
    let folder = folder();
    for name in ["data/b.csv", "data/a.csv", "data/deep/c.csv", "data/.hidden.csv", "data/_SUCCESS", "data/_tmp/d.csv"] {
        write(&folder, name, "x\n1\n");
    }
    write(&folder, "data/empty.csv", "");
    write(&folder, "other/x.txt", "x");
    write(&folder, "mixed/a.csv", "x\n1\n");
    write(&folder, "mixed/b.json", "{}");
    folder
}

#[tokio::test]
async fn files_folders_and_globs_give_files_in_order_without_hidden_and_empty_ones() {
    let folder = tree();
    expect![[r#"
        data/a.csv []
        data/b.csv []
        data/deep/c.csv []
    "#]]
    .assert_eq(&names(&folder, "data").await);
    assert_eq!(names(&folder, "data/").await, names(&folder, "data").await);
    assert_eq!(names(&folder, "data/**/*.csv").await, names(&folder, "data").await);
    assert_eq!(names(&folder, "data/*.csv").await, "data/a.csv []\ndata/b.csv []\n");
    assert_eq!(names(&folder, "data/[b-z].csv").await, "data/b.csv []\n");
    assert_eq!(names(&folder, "d*/de*/").await, "data/deep/c.csv []\n");
    assert_eq!(names(&folder, "data/.hidden.csv").await, "data/.hidden.csv []\n");
    let absolute = folder.path().join("data/a.csv").display().to_string();
    assert_eq!(names(&folder, &absolute).await, "REPO/data/a.csv []\n".replace("REPO", &folder.path().display().to_string()));
    let url = format!("file://{absolute}");
    assert_eq!(files(&folder, &url).await.unwrap().files[0].local, Some(absolute.into()));
}

#[tokio::test]
async fn what_is_wrong_with_a_path_is_said() {
    let folder = tree();
    expect!["data/none.csv: there is no such file or folder in REPO"].assert_eq(&names(&folder, "data/none.csv").await);
    expect!["data/*.parquet: no file matches; names that begin with . or _ and empty files are passed over"]
        .assert_eq(&names(&folder, "data/*.parquet").await);
    expect!["none/*.parquet: there is no folder none/"].assert_eq(&names(&folder, "none/*.parquet").await);
    expect!["mixed: files of several formats: mixed/a.csv is csv and mixed/b.json is json; narrow the path with a glob such as *.csv, or name the format"]
        .assert_eq(&names(&folder, "mixed").await);
    expect!["other/x.txt: the format is unknown: known extensions are .parquet and .pq (Parquet), .csv (CSV), .json, .jsonl and .ndjson (JSON lines), .arrow, .arrows, .feather and .ipc (Arrow IPC); rename the file, narrow the path with a glob, or name the format"]
        .assert_eq(&names(&folder, "other").await);
    expect!["https://example.org/x.csv: no store for this URL: it may be file://, s3://, gs://, az:// or abfss://"]
        .assert_eq(&names(&folder, "https://example.org/x.csv").await);
}

#[tokio::test]
async fn partition_folders_are_columns_of_int64_or_text() {
    let folder = folder();
    write_parquet(&folder, "t/day=2/zone=a%2Fb/x.parquet", &batch([("x", ints([Some(1)]))]));
    write_parquet(&folder, "t/day=10/zone=__HIVE_DEFAULT_PARTITION__/x.parquet", &batch([("x", ints([Some(2)]))]));
    expect![[r#"
        t/day=10/zone=__HIVE_DEFAULT_PARTITION__/x.parquet [("day", Int64(10)), ("zone", Utf8(NULL))]
        t/day=2/zone=a%2Fb/x.parquet [("day", Int64(2)), ("zone", Utf8("a/b"))]
    "#]]
    .assert_eq(&names(&folder, "t").await);
    expect![[r#"
        x: Int64
        day: Int64
        zone: Utf8
    "#]]
    .assert_eq(&columns(&folder, "t").await.unwrap());
    write_parquet(&folder, "t/y.parquet", &batch([("x", ints([Some(1)]))]));
    expect!["t: t/day=10/zone=__HIVE_DEFAULT_PARTITION__/x.parquet and t/y.parquet do not lie in the same partition folders (column=value)"]
        .assert_eq(&names(&folder, "t").await);
}

#[tokio::test]
async fn files_that_disagree_about_a_column_are_named() {
    let folder = folder();
    write_parquet(&folder, "t/a.parquet", &batch([("x", ints([Some(1)]))]));
    write_parquet(&folder, "t/b.parquet", &batch([("x", texts([Some("1")]))]));
    expect!["column x is int64 in t/a.parquet but text in t/b.parquet: the files of one source need equal columns"]
        .assert_eq(&columns(&folder, "t").await.unwrap_err().to_string());
    write_parquet(&folder, "t/b.parquet", &batch([("x", ints([Some(1)])), ("y", ints([Some(1)]))]));
    expect!["column y is missing in t/a.parquet but int64 in t/b.parquet: the files of one source need equal columns"]
        .assert_eq(&columns(&folder, "t").await.unwrap_err().to_string());
}

#[tokio::test]
async fn a_digest_changes_with_the_content_only() {
    let folder = folder();
    write(&folder, "a.csv", "x\n1\n");
    let digest = async || files(&folder, "a.csv").await.unwrap().files[0].digest().await.unwrap();
    let first = digest().await;
    write(&folder, "a.csv", "x\n2\n");
    let second = digest().await;
    write(&folder, "a.csv", "x\n1\n");
    assert_ne!(first, second);
    assert_eq!(first, digest().await);
    assert!(first.as_str().starts_with("blake3:"));
}
