//! Transforms in bundles: the same bits as from the native server, and what becomes of those that misbehave.

use arrow::array::RecordBatch;
use mezze_arrow::expression_column;
use mezze_core::{Value, ValueType, decode_payload};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value as Json, json};

use super::conformance;
use super::{Kv, chromium, native, node, spin_with, viceroy_with, workerd_with};
use super::{build_of, guests};
use crate::common::{Component, Repo, message_of, replica_keys, send};

/// A view that takes a float, an integer, a text, an instant and the time of the request, all of which may be null, and gives floats,
/// a text, a list and an integer; one over it; one that is hostile; and one that is none of these.
const DEFINITIONS: &str = "
entities:
  - { name: user, join_keys: [user_id] }
sources:
  - { name: users, path: data/users.csv, timestamp_field: ts }
request_sources:
  - name: application
    schema:
      - { name: loan_amnt, dtype: int64 }
      - { name: debt, dtype: float64 }
      - { name: city, dtype: string }
      - { name: since, dtype: unix_timestamp }
  - { name: order, schema: [{ name: deed, dtype: int64 }] }
feature_views:
  - { name: profile, entities: [user], source: users, audience: public, schema: [{ name: income, dtype: float64 }] }
on_demand_feature_views:
  - name: risk
    sources: [profile, application]
    transform: { component: burden.wasm }
    schema:
      - { name: burden, dtype: float64 }
      - { name: strain, dtype: float64 }
      - { name: grade, dtype: string }
      - { name: payments, dtype: list<float64> }
      - { name: days, dtype: int64 }
  - name: chained
    sources: [risk, profile]
    schema:
      - { name: percent, dtype: float64, expression: 'coalesce(burden * 100, -1)' }
      - { name: shouted, dtype: string, expression: \"upper(grade) || '!'\" }
      - { name: least, dtype: float64, expression: list_min(payments) }
  - name: hostile
    sources: [profile, order]
    transform: { component: hostile.wasm, memory: 8MiB }
    schema: [{ name: done, dtype: int64 }]
  - { name: harmless, sources: [profile], schema: [{ name: doubled, dtype: float64, expression: income * 2 }] }
";

const INCOMES: [&str; 12] =
    ["52000", "0", "-0.0", "inf", "-inf", "nan", "5e-324", "1.7976931348623157e308", "", "0.1", "-1.5", "1e16"];

/// A repository with both transforms, served.
fn served() -> Repo {
    let repo = applied();
    repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
    repo
}

/// The same without a snapshot.
fn applied() -> Repo {
    let repo = Repo::new(DEFINITIONS);
    let row = |(number, income): (usize, &&str)| format!("{},2026-01-01T00:00:00Z,{income}\n", number + 1);
    let rows: String = INCOMES.iter().enumerate().map(row).collect();
    repo.write("data/users.csv", &format!("user_id,ts,income\n{rows}"));
    for name in ["burden", "hostile"] {
        std::fs::write(repo.path(&format!("{name}.wasm")), guests::component(name)).expect("it can be written");
    }
    repo.run(&["apply"]);
    repo
}

/// Requests of one row, of all, and of rows that are not there, with odd values.
fn requests() -> Vec<String> {
    let loans = json!([0, 1, -1, i64::MAX, i64::MIN, null, 25_000]);
    let debts = json!(["nan", null, "inf", "-inf", -0.0, 1e308, 0.1]);
    let cities = json!(["", "Fort Worth", null, "Österreich", "日本語", "a\u{0}b", "x".repeat(3_000)]);
    let since =
        json!(["1970-01-01T00:00:00Z", null, "2262-04-11T23:47:16Z", "1677-09-21T00:12:44Z", "2024-02-29T23:59:59.999999999Z"]);
    let features = json!([
        "risk:burden",
        "risk:strain",
        "risk:grade",
        "risk:payments",
        "chained:percent",
        "chained:shouted",
        "chained:least",
        "harmless:doubled"
    ]);
    let pick = |from: &Json, at: usize| from[at % from.as_array().map_or(1, Vec::len)].clone();
    let body = |rows: &[usize], features: &Json| {
        let column = |from: &Json, step: usize| rows.iter().map(|row| pick(from, row * step + row / 7)).collect::<Vec<Json>>();
        let users: Vec<usize> = rows.iter().map(|row| row % 14 + 1).collect();
        json!({
            "features": features,
            "entities": {
                "user_id": users, "loan_amnt": column(&loans, 1), "debt": column(&debts, 3), "city": column(&cities, 2),
                "since": column(&since, 1),
            },
        })
        .to_string()
    };
    let mut requests: Vec<String> = (0..42).map(|row| body(&[row], &features)).collect();
    requests.push(body(&(0..200).collect::<Vec<_>>(), &features));
    requests.push(body(&[3, 5], &json!(["chained:shouted"])));
    requests
}

/// The component for hosts of one's own, with what the repository carries, in wasmtime.
fn component(repo: &Repo) -> Component {
    let folder = build_of(repo, &["component"]);
    let bytes = std::fs::read(folder.path().join("bundle/serving.wasm")).expect("the bundle has it");
    Component::open_in(&repo.path("data/replica"), Some(bytes))
}

/// What a request asks of the hostile transform.
fn hostile(deed: i64) -> String {
    json!({ "features": ["hostile:done", "harmless:doubled"], "entities": { "user_id": [1], "deed": [deed] } }).to_string()
}

const POST: &str = "POST /get-online-features";

#[test]
fn every_host_computes_the_bits_of_the_native_server() {
    let repo = served();
    let keys = replica_keys(&repo.path("data/replica"));
    let kv = Kv::start(keys.clone());
    let native = native(&repo, &[]);
    let edges = [
        workerd_with(build_of(&repo, &["cloudflare"]), &kv, &[]),
        viceroy_with(build_of(&repo, &["fastly"]), &keys, &[]),
        spin_with(build_of(&repo, &["spin"]), &kv, &[]),
    ];
    let requests = requests();
    let bundle = build_of(&repo, &["browser"]);
    let in_scripts = [
        ("Node", node::answers_with(&bundle, &keys, &requests)),
        ("Chromium", chromium::answers_with(&bundle, &keys, &requests)),
    ];
    let mut component = component(&repo);
    let mut computed = 0;
    for (number, body) in requests.iter().enumerate() {
        let expected = send(native.address, POST, &[], body.as_bytes());
        let text = String::from_utf8_lossy(&expected.body).into_owned();
        assert_eq!(expected.status, 200, "{text}");
        assert!(!text.contains("INVALID"), "{text}");
        computed += text.matches("PRESENT").count();
        for edge in &edges {
            assert_eq!(
                conformance::shown(&send(edge.address, POST, &[], body.as_bytes())),
                conformance::shown(&expected),
                "{}: {body}",
                edge.name
            );
        }
        for (host, answers) in &in_scripts {
            assert_eq!(answers[number]["said"].as_str(), Some(&*text), "{host}: {body}");
        }
        assert_eq!(component.lookup(body), (200, expected.body), "wasmtime: {body}");
    }
    assert!(computed > 1_000, "{computed} values");
    // What a publisher asks before it publishes.
    let transforms = |host| {
        let info = send(host, "GET /v1/snapshot", &[], b"");
        serde_json::from_slice::<Json>(&info.body).expect("it is JSON")["transforms"].clone()
    };
    assert_eq!(transforms(native.address).as_array().map(Vec::len), Some(2));
    for edge in &edges {
        assert_eq!(transforms(edge.address), transforms(native.address), "{}", edge.name);
    }
}

/// What a response has for a value, as the value of a training set would be shown.
fn shown(value: &Json) -> String {
    match value {
        Json::Null => "null".into(),
        Json::Array(values) => format!("{:?}", values.iter().map(shown).collect::<Vec<_>>()),
        // Floats beyond numbers are texts, and so is a text.
        Json::String(text) => match &**text {
            "NaN" | "Infinity" | "-Infinity" => float(text.parse().expect("it is a float")),
            text => text.into(),
        },
        Json::Number(number) if number.is_i64() => number.to_string(),
        number => float(number.as_f64().expect("it is a number")),
    }
}

fn float(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}

#[test]
fn a_training_set_has_the_bits_that_are_served() {
    let repo = served();
    let body: Json = serde_json::from_str(&requests()[42]).expect("it is JSON");
    let entities = body["entities"].as_object().expect("it has entities");
    let count = entities["user_id"].as_array().map_or(0, Vec::len);
    // A file of JSON has no number that is none; these come from the stored feature.
    let plain =
        |value: &Json| if value.as_str().is_some_and(|text| text.parse::<f64>().is_ok()) { json!(0.5) } else { value.clone() };
    let mut request = json!({ "features": body["features"], "entities": {} });
    for (name, values) in entities {
        request["entities"][name] = values.as_array().expect("they are values").iter().map(plain).collect();
    }
    let row = |row: usize| {
        let mut fields = json!({ "event_timestamp": "2026-03-01T00:00:00Z" });
        entities.keys().for_each(|name| fields[name] = request["entities"][name][row].clone());
        format!("{fields}\n")
    };
    repo.write("rows.json", &(0..count).map(row).collect::<String>());
    repo.write("request.json", &request.to_string());
    let online = ["get-online-features", "--output", "json", "--request", "request.json", "--now", "2026-03-01T00:00:00Z"];
    let served: Json = serde_json::from_str(&repo.run(&online)).expect("it is JSON");
    let features: Vec<&str> = body["features"].as_array().expect("they are names").iter().filter_map(Json::as_str).collect();
    let join = ["get-historical-features", "--entities", "rows.json", "--out", "set.parquet", "--features", &features.join(",")];
    repo.run(&join);
    let file = std::fs::File::open(repo.path("set.parquet")).expect("it was written");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build);
    let batches: Vec<RecordBatch> = reader.expect("it is Parquet").map(|batch| batch.expect("it is whole")).collect();
    let [trained] = &batches[..] else { panic!("{} batches", batches.len()) };
    let mut floats = 0;
    for feature in features {
        let name = feature.split_once(':').map_or(feature, |(_, name)| name);
        let names = served["metadata"]["feature_names"].as_array().expect("it has names");
        let at = names.iter().position(|known| known == name).expect("it is there");
        let column = trained.column_by_name(name).expect("it is there");
        let value_type = match name {
            "payments" => "list<float64>",
            "grade" | "shouted" => "string",
            _ => "float64",
        };
        let value_type: ValueType = value_type.parse().expect("it is a type");
        let column = expression_column(&value_type, column).expect("it is of its type");
        for row in 0..count {
            let trained = match (column.float(row), column.bytes(row)) {
                (Some(value), _) => float(value),
                (_, Some(bytes)) => match decode_payload(&value_type, bytes).expect("it is of its type") {
                    Value::String(text) => text.to_string(),
                    Value::List(values) => {
                        let float_of = |value: &Value| match value {
                            Value::Float64(value) => float(*value),
                            other => panic!("{other:?}"),
                        };
                        format!("{:?}", values.iter().map(float_of).collect::<Vec<_>>())
                    }
                    other => panic!("{other:?}"),
                },
                _ => "null".into(),
            };
            let value = &served["results"][at]["values"][row];
            // A float that is whole is written as a number without a fraction.
            let value = if value_type == ValueType::Float64 && value.is_i64() { json!(value.as_f64()) } else { value.clone() };
            assert_eq!(trained, shown(&value), "{feature} of row {row}");
            floats += usize::from(column.float(row).is_some());
        }
    }
    assert!(floats > 400, "{floats} floats");
}

#[test]
fn a_hostile_transform_is_stopped_on_every_host() {
    let repo = served();
    let keys = replica_keys(&repo.path("data/replica"));
    let kv = Kv::start(keys.clone());
    let native = native(&repo, &[]);
    let answer = |deed| send(native.address, POST, &[], hostile(deed).as_bytes());
    let deeds: Vec<i64> = (0..=13).flat_map(|deed| [deed, 0]).collect();
    let requests: Vec<String> = deeds.iter().map(|deed| hostile(*deed)).collect();
    let bundle = build_of(&repo, &["browser"]);
    let in_scripts = [
        ("Node", node::answers_with(&bundle, &keys, &requests)),
        ("Chromium", chromium::answers_with(&bundle, &keys, &requests)),
    ];
    let worker = workerd_with(build_of(&repo, &["cloudflare"]), &kv, &[]);
    for (number, deed) in deeds.iter().enumerate() {
        let expected = answer(*deed);
        let text = String::from_utf8_lossy(&expected.body).into_owned();
        assert_eq!(text.contains("INVALID"), (1..=12).contains(deed), "{text}");
        // It costs its own features, as on the native server.
        assert_eq!(
            conformance::shown(&send(worker.address, POST, &[], hostile(*deed).as_bytes())),
            conformance::shown(&expected),
            "workerd: {deed}"
        );
        for (host, answers) in &in_scripts {
            assert_eq!(answers[number]["said"].as_str(), Some(&*text), "{host}: {deed}");
        }
    }
    // Where it is in the host's own instance, what has to be stopped costs the request.
    let linked = [viceroy_with(build_of(&repo, &["fastly"]), &keys, &[]), spin_with(build_of(&repo, &["spin"]), &kv, &[])];
    let stops = [
        (1, "it took more than the 20000000 instructions that 1 rows may take"),
        (2, "it wanted more than the 8388608 bytes of memory it may have"),
        (3, "it wanted more than the 8388608 bytes of memory it may have"),
        (4, "it trapped: a stack overflow"),
        (5, "it trapped: unreachable code, a bad access or a stack overflow"),
        (12, "it wanted more than the 8388608 bytes of memory it may have"),
    ];
    let mut component = component(&repo);
    for deed in &deeds {
        let (status, body) = component.lookup(&hostile(*deed));
        match stops.iter().find(|(stopped, _)| stopped == deed) {
            Some((_, why)) => {
                assert_eq!(status, 503, "wasmtime: {deed}");
                assert_eq!(message_of(&body), format!("the transform of `hostile`: {why}"), "wasmtime: {deed}");
            }
            None => assert_eq!((status, body), (200, answer(*deed).body), "wasmtime: {deed}"),
        }
    }
    for host in &linked {
        for deed in &deeds {
            let found = send(host.address, POST, &[], hostile(*deed).as_bytes());
            match stops.iter().find(|(stopped, _)| stopped == deed) {
                Some((_, why)) => {
                    assert_eq!(found.status, 503, "{}: {deed}", host.name);
                    assert_eq!(message_of(&found.body), format!("the transform of `hostile`: {why}"), "{}: {deed}", host.name);
                }
                None => assert_eq!(conformance::shown(&found), conformance::shown(&answer(*deed)), "{}: {deed}", host.name),
            }
        }
        // A request that does not ask for it has nothing to do with it.
        let body = r#"{"features": ["harmless:doubled"], "entities": {"user_id": [1]}}"#;
        assert_eq!(send(host.address, POST, &[], body.as_bytes()).status, 200, "{}", host.name);
    }
    for host in linked.iter().chain([&worker]) {
        let before = host.peak_bytes();
        for round in 0..500 {
            let deed = [4, 5, 6, 7, 9, 10, 11, 13][round % 8];
            send(host.address, POST, &[], hostile(deed).as_bytes());
        }
        assert_eq!(send(host.address, POST, &[], hostile(0).as_bytes()).body, answer(0).body, "{}", host.name);
        let more = host.peak_bytes().saturating_sub(before);
        assert!(more < 64 << 20, "{}: {more} bytes", host.name);
    }
}

#[test]
fn a_bundle_carries_what_was_applied_before() {
    let repo = applied();
    let carried = |out: &str| {
        let built = repo.run(&["edge", "build", "component", "--out", out, "--output", "json"]);
        let built: Json = serde_json::from_str(&built).expect("it is JSON");
        built["transforms"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(carried("first"), 2);
    std::fs::write(repo.path("hostile.wasm"), other()).expect("it can be written");
    assert_eq!(carried("unapplied"), 2);
    repo.run(&["apply"]);
    assert_eq!(carried("second"), 3);
    // Another change, of something else, leaves what was before it before.
    repo.write("features/all.yaml", &DEFINITIONS.replace("income * 2", "income * 3"));
    repo.run(&["apply"]);
    assert_eq!(carried("third"), 3);
}

#[test]
fn a_bundle_carries_what_was_applied_and_what_is_served() {
    let repo = served();
    let keys = replica_keys(&repo.path("data/replica"));
    let kv = Kv::start(keys);
    let before = workerd_with(build_of(&repo, &["cloudflare"]), &kv, &[("MEZZE_HEAD_SECONDS", "0")]);
    let body = hostile(0);
    let expected = send(before.address, POST, &[], body.as_bytes());
    // Another transform in its place: a bundle that is built now serves both.
    std::fs::write(repo.path("hostile.wasm"), other()).expect("it can be written");
    repo.run(&["apply"]);
    let built = repo.run(&["edge", "build", "spin", "--out", "spin", "--output", "json"]);
    let built: Json = serde_json::from_str(&built).expect("it is JSON");
    let views: Vec<&Json> =
        built["transforms"].as_array().expect("it carries some").iter().map(|carried| &carried["views"]).collect();
    assert_eq!(views.len(), 3, "{built}");
    assert_eq!(views.iter().filter(|views| ***views == json!(["hostile"])).count(), 2, "{built}");
    let after = workerd_with(build_of(&repo, &["cloudflare"]), &kv, &[("MEZZE_HEAD_SECONDS", "0")]);
    assert_eq!(send(after.address, POST, &[], body.as_bytes()).body, expected.body);
    repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
    let keys = replica_keys(&repo.path("data/replica"));
    kv.with(|all| *all = keys.into_iter().collect());
    let column = |host: std::net::SocketAddr| {
        let found: Json = serde_json::from_slice(&send(host, POST, &[], body.as_bytes()).body).expect("it is JSON");
        let names = found["metadata"]["feature_names"].as_array().expect("it has names");
        let at = names.iter().position(|name| name == "done").expect("it is one of them");
        (found["results"][at]["values"][0].clone(), found["results"][at]["statuses"][0].clone())
    };
    assert_eq!(column(after.address), (json!(42), json!("PRESENT")));
    // The bundle from before does not carry it, and says so.
    assert_eq!(column(before.address), (Json::Null, json!("INVALID")));

    let run = repo.try_run(&["edge", "build", "spin", "--out", "other", "--leave-out", "nothing"]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    let said = "--leave-out nothing: a bundle for spin would carry no transform of this view";
    assert!(run.stderr.contains(said) && run.stderr.contains("it would carry those of hostile, risk"), "{}", run.stderr);
    let built = repo.run(&["edge", "build", "spin", "--out", "other", "--leave-out", "hostile"]);
    assert!(built.contains("of risk (") && !built.contains("of hostile"), "{built}");
    // A component that only an old snapshot needs, and that nobody has, keeps no bundle from being made.
    let kept = std::fs::read_dir(repo.path("data/registry/transforms")).expect("it is there");
    let old = mezze_runtime::transform_id(&guests::component("hostile")).to_string();
    assert_eq!(kept.count(), 3);
    std::fs::remove_file(repo.path(&format!("data/registry/transforms/{old}.wasm"))).expect("it is there");
    let run = repo.try_run(&["edge", "build", "component", "--out", "component"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("does not keep the transform {old} of `hostile`")), "{}", run.stderr);
    let run = repo.try_run(&["edge", "build", "fastly", "--out", "fastly", "--viceroy", "/nowhere/viceroy"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(
        run.stderr.contains("/nowhere/viceroy cannot be run: no such file or directory\n")
            && run.stderr.contains("cargo install viceroy"),
        "{}",
        run.stderr
    );
    assert!(!repo.path("fastly").exists(), "nothing is half-written");
}

/// Some traps cannot be made stops: where the host is JavaScript they are caught, and elsewhere they end the instance.
#[test]
fn a_trap_costs_no_more_than_is_said() {
    let repo = applied();
    let deed = "(i64.load (i32.load offset=4 (local.get $inputs)))";
    let trap = format!("(if (i64.eq {deed} (i64.const 2)) (then (drop (i32.trunc_f64_s (f64.const nan)))))");
    std::fs::write(repo.path("hostile.wasm"), written(&trap)).expect("it can be written");
    repo.run(&["apply"]);
    repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
    let keys = replica_keys(&repo.path("data/replica"));
    let kv = Kv::start(keys.clone());
    let native = native(&repo, &[]);
    let deeds = [0, 2, 0, 2, 2, 0];
    let requests = deeds.map(hostile);
    let bundle = build_of(&repo, &["browser"]);
    let in_scripts = [
        ("Node", node::answers_with(&bundle, &keys, &requests)),
        ("Chromium", chromium::answers_with(&bundle, &keys, &requests)),
    ];
    let worker = workerd_with(build_of(&repo, &["cloudflare"]), &kv, &[]);
    let linked = [viceroy_with(build_of(&repo, &["fastly"]), &keys, &[]), spin_with(build_of(&repo, &["spin"]), &kv, &[])];
    for (number, (deed, body)) in deeds.iter().zip(&requests).enumerate() {
        let expected = send(native.address, POST, &[], body.as_bytes());
        let text = String::from_utf8_lossy(&expected.body).into_owned();
        assert_eq!(text.contains("INVALID"), *deed == 2, "{text}");
        assert_eq!(
            conformance::shown(&send(worker.address, POST, &[], body.as_bytes())),
            conformance::shown(&expected),
            "{deed}"
        );
        for (host, answers) in &in_scripts {
            assert_eq!(answers[number]["said"].as_str(), Some(&*text), "{host}: {deed}");
        }
        for host in &linked {
            let found = send(host.address, POST, &[], body.as_bytes());
            if *deed == 2 {
                assert_eq!(found.status, 500, "{}", host.name);
            } else {
                assert_eq!(conformance::shown(&found), conformance::shown(&expected), "{}", host.name);
            }
        }
    }
}

/// What computes from features that are not for everyone may say something about them itself.
#[test]
fn a_browser_gets_no_transform_of_views_that_are_not_public() {
    let repo = served();
    let built = repo.run(&["edge", "build", "browser", "--out", "public"]);
    assert!(built.contains("of risk (") && built.contains("of hostile ("), "{built}");
    repo.write("features/all.yaml", &DEFINITIONS.replace("audience: public, ", ""));
    repo.run(&["apply"]);
    let private = repo.run(&["edge", "build", "browser", "--expressions", "--out", "private"]);
    assert!(!private.contains("carries") && !repo.path("private/transforms").exists(), "{private}");
    assert!(repo.run(&["edge", "build", "spin", "--out", "spin"]).contains("of hostile ("));
}

/// A transform as it is written by hand: of a deed it makes 42.
fn other() -> Vec<u8> {
    written("")
}

/// The same, where each call begins with this. `$inputs` is where its column lies.
fn written(first: &str) -> Vec<u8> {
    let wit = include_str!("../../wit/transform.wit");
    let text = r#"(module
        (memory (export "memory") 1)
        (data (i32.const 200) "deeddoneint64")
        (global $heap (mut i32) (i32.const 4096))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
            (global.get $heap)
            (global.set $heap (i32.add (global.get $heap) (local.get 3))))
        (func (export "mezze:features/computation@0.1.0#describe") (result i32)
            (call $field (i32.const 128) (i32.const 200))
            (call $field (i32.const 144) (i32.const 204))
            (i32.store (i32.const 64) (i32.const 128)) (i32.store (i32.const 68) (i32.const 1))
            (i32.store (i32.const 72) (i32.const 144)) (i32.store (i32.const 76) (i32.const 1))
            (i32.const 64))
        (func $field (param $at i32) (param $name i32)
            (i32.store (local.get $at) (local.get $name)) (i32.store offset=4 (local.get $at) (i32.const 4))
            (i32.store offset=8 (local.get $at) (i32.const 208)) (i32.store offset=12 (local.get $at) (i32.const 5)))
        (func (export "mezze:features/computation@0.1.0#run") (param $rows i32) (param $inputs i32) (param i32)
            (result i32) (local $at i32)
            FIRST
            (block $end (loop $more
                (br_if $end (i32.ge_u (local.get $at) (local.get $rows)))
                (i64.store (i32.add (i32.const 32768) (i32.shl (local.get $at) (i32.const 3))) (i64.const 42))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br $more)))
            (i32.store (i32.const 256) (i32.const 0))
            (i32.store (i32.const 260) (i32.const 288)) (i32.store (i32.const 264) (i32.const 1))
            (i32.store (i32.const 292) (i32.const 32768)) (i32.store (i32.const 296) (local.get $rows))
            (i32.const 256)))"#;
    let mut module = wat::parse_str(text.replace("FIRST", first)).expect("it is a module");
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("transform.wit", wit).expect("it is WIT");
    let world = resolve.select_world(&[package], Some("transform")).expect("it is there");
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8).expect("it fits");
    let mut encoder = wit_component::ComponentEncoder::default().validate(true).module(&module).expect("it fits");
    encoder.encode().expect("it is a component")
}
