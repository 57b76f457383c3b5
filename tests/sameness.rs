//! One answer everywhere: the same requests to the core, the command, the HTTP server and the component in wasmtime give the
//! same bytes.

mod common;

use std::sync::Arc;

use arrow::array::RecordBatch;
use mezze_arrow::expression_column;
use mezze_core::{EntityColumn, Expired, ExpressionColumn, HttpConfig, Limits, PageRef, Request, Selection, Timestamp, Value};
use mezze_replica::{Reader, Store};
use mezze_server::{Online, Server, ServerOptions};

use common::corpus::corpus;
use common::expressions::{self, ODD};
use common::{Core, Repo, exit_code, message_of, post};

#[test]
fn every_host_gives_the_same_bytes() {
    let repo = Repo::every_type_served();
    let folder = repo.path("data/replica");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let store = Store::folder(&folder).expect("the origin is there");
    let reader = Arc::new(runtime.block_on(Reader::open(store, 1 << 20)).expect("there is a snapshot"));
    assert!(reader.snapshot().manifest().tables.iter().any(|table| table.delta.is_some()), "there is a delta");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let online = Arc::new(Online::new(reader, HttpConfig::server()));
    let server = Server::start(online, listener, ServerOptions::default()).expect("it starts");
    let core = Core::open(&folder);
    let mut component = common::Component::open(&folder);

    let corpus = corpus();
    assert!(corpus.len() >= 300, "{} requests", corpus.len());
    let mut answered = 0;
    for (number, body) in corpus.iter().enumerate() {
        let expected = core.lookup(body);
        let show = |answer: &(u16, Vec<u8>)| format!("{} {}", answer.0, String::from_utf8_lossy(&answer.1));
        assert_eq!(show(&post(server.address(), body)), show(&expected), "HTTP, {body}");
        assert_eq!(show(&component.lookup(body)), show(&expected), "component, {body}");
        answered += usize::from(expected.0 == 200);
        // A process a request takes its time: one of three goes through the command, and every refusal.
        if expected.0 != 200 || number % 3 == 0 {
            let said = if expected.0 == 200 { show(&expected)[4..].to_owned() } else { message_of(&expected.1) };
            assert_eq!(repo.online(body), (exit_code(expected.0), said), "command, {body}");
        }
    }
    assert!(answered > 250, "{answered} requests were answered with features");
}

/// A value of a column, bit by bit.
fn shown(column: &ExpressionColumn<'_>, row: usize) -> String {
    match (column.int(row), column.float(row), column.bytes(row)) {
        (Some(value), ..) => format!("int {value}"),
        (_, Some(value), _) => format!("float {:016x} ({value})", value.to_bits()),
        (.., Some(bytes)) => format!("bytes {bytes:x?}"),
        _ => "null".to_owned(),
    }
}

/// Every on-demand feature in a training set, and as it is served at the time of the rows.
#[test]
fn what_is_trained_on_is_what_is_served_to_the_bit() {
    let repo = Repo::every_type_served();
    let users = [1, 2, 3, 4, 5, 6, 12, 999];
    let odd: serde_json::Value = serde_json::from_str(ODD).expect("it is JSON");
    // What JSON has no numbers for, a file of rows has not either.
    let plain = |value: &serde_json::Value| match value.as_str() {
        Some("nan" | "inf") => serde_json::json!(7.25),
        Some("-inf") => serde_json::json!(-7.25),
        _ => value.clone(),
    };
    let mut rows = String::new();
    for (row, user) in users.iter().enumerate() {
        let mut fields = serde_json::Map::new();
        fields.insert("user_id".into(), serde_json::json!(user));
        fields.insert("amount".into(), serde_json::json!(row as f64 * 0.75));
        fields.insert("event_timestamp".into(), serde_json::json!("2026-03-01T00:00:00Z"));
        for (name, values) in odd.as_object().expect("it is an object") {
            let value = match &values[row] {
                serde_json::Value::Array(elements) => elements.iter().map(plain).collect(),
                value => plain(value),
            };
            fields.insert(name.clone(), value);
        }
        rows += &format!("{}\n", serde_json::Value::Object(fields));
    }
    repo.write("rows.json", &rows);
    let features: Vec<String> = expressions::checked_features().into_iter().chain(expressions::function_features()).collect();
    let arguments = ["get-historical-features", "--full-feature-names", "--entities", "rows.json", "--out", "set.parquet"];
    repo.run(&[&arguments[..], &["--features", &features.join(",")]].concat());
    let file = std::fs::File::open(repo.path("set.parquet")).expect("it was written");
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).expect("it is Parquet");
    let batches: Vec<RecordBatch> = reader.build().expect("it can be read").map(|batch| batch.expect("it is whole")).collect();
    let [trained] = batches.as_slice() else { panic!("{} batches", batches.len()) };

    // The same values in a request.
    let rows: Vec<serde_json::Value> = rows.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    let value = |json: &serde_json::Value| -> Value {
        fn value(json: &serde_json::Value) -> Value {
            match json {
                serde_json::Value::Bool(value) => Value::Bool(*value),
                serde_json::Value::Number(number) => {
                    number.as_i64().map_or_else(|| Value::Float64(number.as_f64().expect("it is one")), Value::Int)
                }
                serde_json::Value::String(text) => Value::String(text.clone()),
                serde_json::Value::Array(values) => Value::List(values.iter().map(value).collect()),
                _ => Value::Null,
            }
        }
        value(json)
    };
    let names = rows[0].as_object().expect("it is an object").keys().filter(|name| *name != "event_timestamp");
    let entities = names.map(|name| EntityColumn::new(name, rows.iter().map(|row| value(&row[name])).collect())).collect();
    let mut request = Request::new(Selection::Features(features.clone()), entities);
    request.full_feature_names = true;
    // Computed is what training saw, even for who wants to see values that are too old.
    request.expired = Expired::Value;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let store = Store::folder(&repo.path("data/replica")).expect("the origin is there");
    let reader = runtime.block_on(Reader::open(store, 1 << 20)).expect("there is a snapshot");
    let at = Timestamp::parse("2026-03-01T00:00:00Z").expect("it is an instant");
    let plan = reader.snapshot().plan(&request, at, &Limits::server()).expect("the request fits");
    let pages = runtime.block_on(reader.pages(&plan)).expect("the pages are whole");
    let pages: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
    let served = plan.answer(&pages).expect("the pages are whole");
    let mut compared = 0;
    for (number, column) in served.columns.iter().enumerate().skip(plan.echoed_columns()) {
        let array = trained.column_by_name(&column.name).unwrap_or_else(|| panic!("the training set has no {}", column.name));
        let trained = expression_column(column.value_type, array).expect("it is of its type");
        let served = served.expression_column(number);
        for (row, user) in users.iter().enumerate() {
            assert_eq!(shown(&trained, row), shown(&served, row), "{} of user {user}", column.name);
            compared += 1;
        }
    }
    assert_eq!(compared, features.len() * users.len());
}
