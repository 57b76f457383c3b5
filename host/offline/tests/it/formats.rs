//! Every format gives the same rows.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use expect_test::expect;

use crate::common::{
    NOON, batch, columns, floats, folder, ints, show, spilled, texts, times, write, write_arrow_file, write_arrow_stream,
    write_parquet,
};

fn table() -> RecordBatch {
    batch([
        ("id", ints([Some(1), None, Some(-3)])),
        ("at", times([NOON, NOON + 1, 0])),
        ("rate", floats([Some(0.5), Some(1e300), None])),
        ("city", texts([Some("a, \"b\""), None, Some("007")])),
    ])
}

/// With instants in nanoseconds, as text formats have them.
fn nanos(batch: &RecordBatch) -> RecordBatch {
    let needed = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let column = |(name, column): (&str, &ArrayRef)| match column.data_type() {
        DataType::Timestamp(..) => (name.to_owned(), cast(column, &needed).unwrap(), true),
        _ => (name.to_owned(), column.clone(), true),
    };
    let schema = batch.schema();
    let names = schema.fields().iter().map(|field| field.name().as_str());
    RecordBatch::try_from_iter_with_nullable(names.zip(batch.columns()).map(column)).unwrap()
}

#[tokio::test]
async fn every_format_gives_the_same_rows() {
    let folder = folder();
    write_parquet(&folder, "t.parquet", &table());
    write_arrow_file(&folder, "t.arrow", &table());
    write_arrow_stream(&folder, "t.arrows", &table());
    write(
        &folder,
        "t.csv",
        "id,at,rate,city\n1,2026-11-23T12:00:00Z,0.5,\"a, \"\"b\"\"\"\n\
         ,2026-11-23 14:00:00.000001+02:00,1e300,\n-3,1970-01-01 00:00:00,,007\n",
    );
    write(
        &folder,
        "t.jsonl",
        "{\"id\": 1, \"at\": \"2026-11-23T12:00:00Z\", \"rate\": 0.5, \"city\": \"a, \\\"b\\\"\"}\n\n\
         {\"id\": null, \"at\": \"2026-11-23 14:00:00.000001+02:00\", \"rate\": 1e300}\n\
         {\"id\": -3, \"at\": \"1970-01-01 00:00:00\", \"city\": \"007\"}",
    );
    for name in ["t.parquet", "t.arrow", "t.arrows", "t.csv", "t.jsonl"] {
        assert_eq!(nanos(&spilled(&folder, name).await.unwrap()), nanos(&table()), "{name}");
    }
}

#[tokio::test]
async fn types_of_text_are_told_from_all_rows_of_all_files() {
    let folder = folder();
    write(&folder, "t/a.csv", "i,f,b,d,zip,day,none\n1,1,true,2026-11-23T12:00,01234,2026-11-23,\n");
    write(&folder, "t/b.csv", "f,i,b,d,zip,day,none\n1.5,2,FALSE,2026-11-23 12:00:00.123456789,99999,2026-11-24,\n");
    expect![[r#"
        i: Int64
        f: Float64
        b: Boolean
        d: Timestamp(ns, "UTC")
        zip: Utf8
        day: Utf8
        none: Utf8
    "#]]
    .assert_eq(&columns(&folder, "t").await.unwrap());
    expect![[r#"
        +---+-----+-------+--------------------------------+-------+------------+------+
        | i | f   | b     | d                              | zip   | day        | none |
        +---+-----+-------+--------------------------------+-------+------------+------+
        | 1 | 1.0 | true  | 2026-11-23T12:00:00Z           | 01234 | 2026-11-23 |      |
        | 2 | 1.5 | false | 2026-11-23T12:00:00.123456789Z | 99999 | 2026-11-24 |      |
        +---+-----+-------+--------------------------------+-------+------------+------+"#]]
    .assert_eq(&show(&spilled(&folder, "t").await.unwrap()));
}

#[tokio::test]
async fn nested_json_stays_nested() {
    let folder = folder();
    write(&folder, "t.json", "{\"l\": [1, null], \"s\": {\"x\": \"a\"}}\n{\"l\": [], \"s\": null}\n");
    expect![[r#"
        +-------+--------+
        | l     | s      |
        +-------+--------+
        | [1, ] | {x: a} |
        | []    |        |
        +-------+--------+"#]]
    .assert_eq(&show(&spilled(&folder, "t.json").await.unwrap()));
}

#[tokio::test]
async fn what_is_no_row_is_named_with_its_file_and_line() {
    let folder = folder();
    let fails = async |name: &str, text: &str| {
        write(&folder, name, text);
        spilled(&folder, name).await.unwrap_err().to_string()
    };
    expect!["a.csv:3: 1 fields, but the header has 2"].assert_eq(&fails("a.csv", "x,y\n1,2\n3\n").await);
    expect!["a.csv:1: the file is empty: a header line with the names of the columns is needed"]
        .assert_eq(&fails("a.csv", "").await);
    expect!["a.csv:1: the header names column x twice"].assert_eq(&fails("a.csv", "x,x\n1,2\n").await);
    expect!["a.json:2: not a JSON object: expected `:` at column 5"].assert_eq(&fails("a.json", "{\"x\": 1}\n{\"x\"}\n").await);
    expect!["a.json:1: not a JSON object: one object a line is needed"].assert_eq(&fails("a.json", "[{\"x\": 1}]\n").await);
    expect!["a.parquet: not a Parquet file: Invalid Parquet file. Corrupt footer"]
        .assert_eq(&fails("a.parquet", "not a Parquet file").await);
    expect!["a.parquet: not a Parquet file: it has 3 bytes"].assert_eq(&fails("a.parquet", "PAR").await);
    // The begin of a file tells the types; a later row may break them.
    let many = "1\n".repeat(3 << 20);
    expect![[r#"a.csv:3145730: column x: "one" is not int64"#]].assert_eq(&fails("a.csv", &format!("x\n{many}one\n")).await);
}
