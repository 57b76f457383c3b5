//! Components from their source to a training set and a response, and what becomes of those that misbehave.

mod common;
#[path = "common/guests.rs"]
mod guests;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::{Value as Json, json};

use common::{Repo, post, send};
use guests::component as example;

/// Borrowers with two features, and a view that a component computes of them and of a request.
const DEFINITIONS: &str = "
entities:
  - { name: user, join_keys: [user_id] }
sources:
  - { name: users, path: data/users.csv, timestamp_field: ts }
request_sources:
  - { name: application, schema: [{ name: loan_amnt, dtype: int64 }] }
feature_views:
  - name: profile
    entities: [user]
    source: users
    schema: [{ name: income, dtype: float64 }, { name: debt, dtype: float64 }]
on_demand_feature_views:
  - name: risk
    sources: [profile, application]
    transform: { component: burden.wasm }
    schema: [{ name: burden, dtype: float64 }, { name: grade, dtype: string }]
  - name: chained
    sources: [risk, profile]
    schema:
      - { name: percent, dtype: float64, expression: 'coalesce(burden * 100, -1)' }
      - { name: richer, dtype: bool, expression: income > 1000 }
";

const USERS: &str = "user_id,ts,income,debt\n\
    1,2026-01-01T00:00:00Z,52000,1000\n2,2026-01-01T00:00:00Z,52000,\n3,2026-01-01T00:00:00Z,,7\n4,2026-01-01T00:00:00Z,0,0\n";

const LABELS: &str = "user_id,loan_amnt,event_timestamp\n\
    1,25000,2026-02-01T00:00:00Z\n2,1000,2026-02-01T00:00:00Z\n3,1,2026-02-01T00:00:00Z\n4,1,2026-02-01T00:00:00Z\n\
    9,5,2026-02-01T00:00:00Z\n1,25000,2025-02-01T00:00:00Z\n";

const FEATURES: &str = "risk:burden,risk:grade,chained:percent,chained:richer";

/// A repository with a component that `mezze transform build` made of what `mezze transform new` gave.
fn with_a_transform_of_its_own() -> Repo {
    let repo = Repo::new(DEFINITIONS);
    repo.write("data/users.csv", USERS);
    repo.write("labels.csv", LABELS);
    repo.run(&["transform", "new", "burden"]);
    build(&repo, "burden");
    repo
}

/// Builds a transform from what is on this machine: its dependencies are those of the SDK.
fn build(repo: &Repo, folder: &str) -> String {
    let output = repo
        .command(&["transform", "build", folder, "--output", "json"])
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("transforms"))
        .output()
        .expect("the command can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text")
}

/// A server of the command, which ends with the test.
struct Serving {
    child: Child,
    address: SocketAddr,
}

impl Serving {
    fn start(repo: &Repo) -> Self {
        let mut child = repo
            .command(&["serve", "--port", "0", "--workers", "1", "--output", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut line).expect("it says where it listens");
        let said: Json = serde_json::from_str(&line).expect("it is JSON");
        let address = said["address"].as_str().and_then(|address| address.parse().ok()).expect("it is an address");
        Self { child, address }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(users: &[i64], loans: &[i64]) -> String {
    let features: Vec<&str> = FEATURES.split(',').collect();
    json!({ "features": features, "entities": { "user_id": users, "loan_amnt": loans } }).to_string()
}

/// The values and statuses of a feature in a response.
fn column(response: &[u8], feature: &str) -> (Json, Json) {
    let response: Json = serde_json::from_slice(response).expect("it is JSON");
    let names = response["metadata"]["feature_names"].as_array().expect("it has names").clone();
    let at = names.iter().position(|name| name == feature).unwrap_or_else(|| panic!("{response} has no {feature}"));
    (response["results"][at]["values"].clone(), response["results"][at]["statuses"].clone())
}

#[test]
fn a_transform_goes_from_its_source_to_training_and_serving() {
    let repo = with_a_transform_of_its_own();
    let tested = repo.run(&["transform", "test", "burden.wasm"]);
    assert!(
        tested.contains("takes income float64, loan_amnt int64, debt float64\n  and computes burden float64, grade string"),
        "{tested}"
    );
    assert!(tested.contains("200 rows: the same to the bit together, each alone, and once more"), "{tested}");
    repo.run(&["apply"]);
    assert!(repo.run(&["apply"]).contains("nothing has changed"));
    repo.run(&["materialize", "2020-01-01", "2030-01-01"]);

    repo.run(&["get-historical-features", "--entities", "labels.csv", "--features", FEATURES, "--out", "set.json"]);
    let set = std::fs::read_to_string(repo.path("set.json")).expect("it was written");
    let rows: Vec<Json> = set.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    let trained = |row: usize, feature: &str| rows[row].get(feature).cloned().unwrap_or(Json::Null);
    assert_eq!(trained(0, "burden"), json!(0.5));
    assert_eq!(trained(0, "grade"), json!("fair"));
    assert_eq!(trained(1, "grade"), json!("light"));
    for row in [2, 4, 5] {
        assert_eq!((trained(row, "burden"), trained(row, "grade")), (Json::Null, Json::Null), "row {row} has no income");
        assert_eq!(trained(row, "percent"), json!(-1.0), "row {row}");
    }

    let serving = Serving::start(&repo);
    let body = request(&[1, 2, 3, 4, 9], &[25_000, 1_000, 1, 1, 5]);
    let (status, served) = post(serving.address, &body);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&served));
    assert_eq!(repo.online(&body), (Some(0), String::from_utf8(served.clone()).expect("it is text")));
    for feature in ["burden", "grade", "percent", "richer"] {
        let (values, statuses) = column(&served, feature);
        for row in 0..5 {
            // JSON has no infinities; a file of JSON has null for it.
            if row == 3 && matches!(feature, "burden" | "percent") {
                assert_eq!(values[row], json!("Infinity"));
                continue;
            }
            assert_eq!(values[row], trained(row, feature), "{feature} of row {row}");
            let expected = if values[row].is_null() { "NULL_VALUE" } else { "PRESENT" };
            assert_eq!(statuses[row], json!(expected), "{feature} of row {row}");
        }
    }
    // The serving component runs no others: it says so, of what needs one and of nothing else.
    let (status, alone) = common::Component::open(&repo.path("data/replica")).lookup(&body);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&alone));
    for feature in ["burden", "grade", "percent"] {
        assert_eq!(column(&alone, feature), (json!(vec![Json::Null; 5]), json!(vec!["INVALID"; 5])), "{feature}");
    }
    assert_eq!(column(&alone, "richer"), column(&served, "richer"));
    let evaluated = repo.run(&["eval", "--view", "risk", "--entity", "user_id=1", "--entity", "loan_amnt=25000"]);
    for part in ["profile:income", "52000", "loan_amnt", "burden", "0.5", "\"fair\""] {
        assert!(evaluated.contains(part), "{evaluated}");
    }
    let evaluated =
        repo.run(&["eval", "--component", "burden.wasm", "--set", "income=100", "--set", "loan_amnt=50", "--set", "debt=null"]);
    assert!(evaluated.contains("\"fair\"") && evaluated.contains("0.5"), "{evaluated}");
    let info = send(serving.address, "GET /v1/snapshot", &[], b"");
    let info: Json = serde_json::from_slice(&info.body).expect("it is JSON");
    assert_eq!(info["transforms"].as_array().map(Vec::len), Some(1), "{info}");
}

/// What the page says of components, done as it says: its commands, with its function in the project that they make.
#[test]
fn the_session_of_the_page_on_transforms_can_be_had() {
    let page = include_str!("../docs/TRANSFORMS.md");
    let after = |start: &str| page.split(start).nth(1).unwrap_or_else(|| panic!("the page has no {start}"));
    let session = after("```text\n$ mezze transform new").split("```").next().expect("it ends");
    let session = format!("$ mezze transform new{session}");
    let function = after("```rust\nmezze_transform::rows!").split("```").next().expect("it ends");
    let repo = Repo::new("entities: []\n");
    let mut said = String::new();
    let mut commands = 0;
    for line in session.lines() {
        let Some(command) = line.strip_prefix("$ mezze ") else {
            assert!(said.contains(line), "{said} is not {line}");
            continue;
        };
        let arguments: Vec<&str> = command.split(' ').collect();
        said = if arguments[..2] == ["transform", "build"] {
            repo.write(&format!("{}/src/lib.rs", arguments[2]), &format!("mezze_transform::rows!{function}"));
            build(&repo, arguments[2])
        } else {
            repo.run(&arguments)
        };
        commands += 1;
    }
    assert_eq!(commands, 4, "{session}");
    assert!(said.contains("\"light\""), "{said}");
}

#[test]
fn another_transform_needs_another_apply_and_snapshot() {
    let repo = with_a_transform_of_its_own();
    repo.run(&["apply"]);
    repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
    let body = request(&[1], &[25_000]);
    let before = repo.online(&body);
    let source = repo.path("burden/src/lib.rs");
    let text = std::fs::read_to_string(&source).expect("it is there").replace("\"fair\"", "\"so-so\"");
    std::fs::write(&source, text).expect("it can be written");
    build(&repo, "burden");
    let plan = repo.run(&["plan"]);
    assert!(plan.contains("~ on-demand feature view risk") && plan.contains("models may have to be trained anew"), "{plan}");
    // What was applied goes on, in joins and in serving, whatever the file is by now.
    assert_eq!(repo.online(&body), before);
    let run =
        repo.try_run(&["get-historical-features", "--entities", "labels.csv", "--features", "risk:grade", "--out", "set.csv"]);
    assert!(run.stderr.contains("the definitions have changed since the last `mezze apply`"), "{}", run.stderr);
    assert!(std::fs::read_to_string(repo.path("set.csv")).expect("it was written").contains("fair"));
    repo.run(&["apply"]);
    assert_eq!(repo.online(&body), before, "the snapshot is the old one");
    repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
    assert!(repo.online(&body).1.contains("so-so"));
    // The snapshot before names the component before, which the registry still has.
    repo.run(&["rollback"]);
    assert_eq!(repo.online(&body), before);
    // Without it the feature says so, and the others are unharmed.
    std::fs::remove_dir_all(repo.path("data/registry/transforms")).expect("it is there");
    let (code, answer) = repo.online(&body);
    assert_eq!(code, Some(0));
    assert_eq!(column(answer.as_bytes(), "grade"), (json!([null]), json!(["INVALID"])));
    assert_eq!(column(answer.as_bytes(), "percent"), (json!([null]), json!(["INVALID"])));
    assert_eq!(column(answer.as_bytes(), "richer"), (json!([true]), json!(["PRESENT"])));
    let arguments = ["get-historical-features", "--entities", "labels.csv", "--features", "risk:grade", "--out", "other.csv"];
    let run = repo.try_run(&arguments);
    assert_eq!(run.code, Some(2), "{}", run.stdout);
    assert!(run.stderr.contains("does not keep the transform") && run.stderr.contains("`mezze apply` where"), "{}", run.stderr);
    // As it says, also where a damaged one lies in its place.
    let applied: Json = serde_json::from_str(&repo.run(&["registry-dump"])).expect("it is JSON");
    let views = applied["definitions"]["on_demand_feature_views"].as_array().expect("there are some");
    let digest = views.iter().find_map(|view| view["transform"]["digest"].as_str()).expect("a view names one");
    repo.write(&format!("data/registry/transforms/{digest}.wasm"), "damaged");
    repo.run(&["apply"]);
    repo.run(&arguments);
}

const WRITTEN: &str = "
entities:
  - { name: user, join_keys: [user_id] }
sources:
  - { name: users, path: data/users.csv, timestamp_field: ts }
feature_views:
  - name: profile
    entities: [user]
    source: users
    ttl: 90d
    online: false
    schema: [{ name: income, dtype: float64 }, { name: debt, dtype: float64 }, { name: loan_amnt, dtype: int64 }]
on_demand_feature_views:
  - name: ratios
    sources: [profile]
    write_to_online_store: true
    schema:
      - { name: share, dtype: float64, expression: 'coalesce(debt, 0) / income' }
      - { name: never_null, dtype: int64, expression: \"CASE WHEN income > 1000 THEN user_id ELSE -1 END\" }
  - name: risk
    sources: [profile]
    write_to_online_store: true
    transform: { component: burden.wasm }
    schema: [{ name: burden, dtype: float64 }, { name: grade, dtype: string }]
  - name: chained
    sources: [ratios, risk]
    schema: [{ name: sum, dtype: float64, expression: \"coalesce(share, -1) + coalesce(burden, -1) + coalesce(never_null, -100)\" }]
feature_services:
  - { name: all, features: [ratios, risk, chained] }
";

const BATCH: &str = "
entities:
  - { name: user, join_keys: [user_id] }
sources:
  - { name: users, path: data/users.csv, timestamp_field: ts }
batch_feature_views:
  - name: ratios
    entities: [user]
    source: users
    ttl: 90d
    inputs: [{ name: income, dtype: float64 }, { name: debt, dtype: float64 }]
    schema: [{ name: share, dtype: float64, expression: 'coalesce(debt, 0) / income' }]
  - name: risk
    entities: [user]
    source: users
    ttl: 90d
    inputs: [{ name: income, dtype: float64 }, { name: debt, dtype: float64 }, { name: loan_amnt, dtype: int64 }]
    transform: { component: burden.wasm }
    schema: [{ name: burden, dtype: float64 }, { name: grade, dtype: string }]
feature_services:
  - { name: all, features: [ratios, risk] }
";

/// What is computed when a view is materialised is what a join computes: also where there is no row, or it is too old.
#[test]
fn what_is_computed_at_write_time_is_what_joins_compute() {
    let repo = Repo::new(WRITTEN);
    repo.write(
        "data/users.csv",
        "user_id,ts,income,debt,loan_amnt\n1,2026-01-01T00:00:00Z,52000,1000,25000\n2,2026-01-01T00:00:00Z,52000,,1\n\
         3,2026-01-01T00:00:00Z,,7,1\n4,2025-10-01T00:00:00Z,100,0,50\n1,2025-12-01T00:00:00Z,1,1,1\n",
    );
    repo.run(&["transform", "new", "burden"]);
    build(&repo, "burden");
    repo.run(&["apply"]);
    let done = repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
    assert!(done.contains("profile: 4 entities in 1 files"), "{done}");
    let users = [1, 2, 3, 4, 9];
    let labels: String = users.iter().map(|user| format!("{user},2026-02-01T00:00:00Z\n")).collect();
    repo.write("labels.csv", &format!("user_id,event_timestamp\n{labels}"));
    repo.run(&["get-historical-features", "--entities", "labels.csv", "--service", "all", "--out", "set.json"]);
    let set = std::fs::read_to_string(repo.path("set.json")).expect("it was written");
    let rows: Vec<Json> = set.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    repo.write("request.json", &json!({ "feature_service": "all", "entities": { "user_id": users } }).to_string());
    let arguments = ["get-online-features", "--output", "json", "--request", "request.json", "--now", "2026-02-01T00:00:00Z"];
    let served = repo.run(&arguments);
    for (feature, statuses) in [
        ("share", ["PRESENT", "PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND"]),
        ("never_null", ["PRESENT", "PRESENT", "PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"]),
        ("burden", ["PRESENT", "PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND"]),
        ("grade", ["PRESENT", "PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND"]),
        ("sum", ["PRESENT"; 5]),
    ] {
        let (values, found) = column(served.as_bytes(), feature);
        assert_eq!(found, json!(statuses), "{feature}");
        for (row, user) in users.iter().enumerate() {
            let trained = rows[row].get(feature).cloned().unwrap_or(Json::Null);
            assert_eq!(values[row], trained, "{feature} of user {user}");
        }
    }
    assert_eq!(column(served.as_bytes(), "grade").0, json!(["fair", "light", null, null, null]));
    assert_eq!(column(served.as_bytes(), "never_null").0, json!([1, 2, -1, null, null]));
    assert_eq!(column(served.as_bytes(), "sum").0[4], json!(-102.0));

    // The same as a batch feature view.
    let batch = Repo::new(BATCH);
    batch.write("data/users.csv", &std::fs::read_to_string(repo.path("data/users.csv")).expect("it is there"));
    std::fs::copy(repo.path("burden.wasm"), batch.path("burden.wasm")).expect("it can be copied");
    batch.write("labels.csv", &format!("user_id,event_timestamp\n{labels}"));
    batch.run(&["apply"]);
    assert!(batch.run(&["apply"]).contains("nothing has changed"));
    batch.run(&["materialize", "2020-01-01", "2030-01-01"]);
    batch.write("request.json", &json!({ "feature_service": "all", "entities": { "user_id": users } }).to_string());
    let as_batch = batch.run(&arguments);
    for feature in ["share", "burden", "grade"] {
        assert_eq!(column(as_batch.as_bytes(), feature), column(served.as_bytes(), feature), "{feature}");
    }
    batch.run(&["get-historical-features", "--entities", "labels.csv", "--service", "all", "--out", "set.json"]);
    let set = std::fs::read_to_string(batch.path("set.json")).expect("it was written");
    for (line, row) in set.lines().zip(&rows) {
        let found: Json = serde_json::from_str(line).expect("it is JSON");
        for feature in ["share", "burden", "grade"] {
            assert_eq!(found.get(feature), row.get(feature), "{feature}: {found}");
        }
    }

    let refused = |definitions: &str, said: &str| {
        repo.write("features/all.yaml", definitions);
        let run = repo.try_run(&["plan"]);
        assert_eq!(run.code, Some(2), "{}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains(said), "{}", run.stderr);
    };
    refused(&WRITTEN.replace("coalesce(debt, 0) / income", "CAST(now() AS int64) + income"), "when no request is there");
    refused(&BATCH.replace("    source: users\n", ""), "`source`");
    refused(&BATCH.replace("source: users", "source: nobody"), "`nobody`");
    refused(&BATCH.replace("coalesce(debt, 0) / income", "CAST(now() AS int64) + income"), "when no request is there");
    refused(&BATCH.replace("    ttl: 90d\n", "    online: true\n"), "a batch feature view has no key `online`");
    refused(
        &WRITTEN.replace("sources: [ratios, risk]", "sources: [ratios, risk]\n    write_to_online_store: true"),
        "computed from one feature view alone",
    );
}

const HOSTILE: &str = "
entities:
  - { name: user, join_keys: [user_id] }
sources:
  - { name: users, path: data/users.csv, timestamp_field: ts }
request_sources:
  - { name: order, schema: [{ name: deed, dtype: int64 }] }
feature_views:
  - { name: profile, entities: [user], source: users, schema: [{ name: income, dtype: float64 }] }
on_demand_feature_views:
  - name: hostile
    sources: [profile, order]
    transform: { component: hostile.wasm, memory: 8MiB, ON_ERROR }
    schema: [{ name: done, dtype: int64 }]
  - { name: harmless, sources: [profile], schema: [{ name: doubled, dtype: float64, expression: income * 2 }] }
";

fn hostile(on_error: &str) -> Repo {
    let repo = Repo::new(&HOSTILE.replace("ON_ERROR", on_error));
    repo.write("data/users.csv", USERS);
    std::fs::write(repo.path("hostile.wasm"), example("hostile")).expect("it can be written");
    repo.run(&["apply"]);
    repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
    repo
}

#[test]
fn a_hostile_transform_costs_its_feature_and_nothing_else() {
    let repo = hostile("on_error: fail");
    let serving = Serving::start(&repo);
    let body = |deed: i64| {
        json!({ "features": ["hostile:done", "harmless:doubled"], "entities": { "user_id": [1], "deed": [deed] } }).to_string()
    };
    for deed in 1..=12 {
        let (status, response) = post(serving.address, &body(deed));
        assert_eq!(status, 200, "deed {deed}: {}", String::from_utf8_lossy(&response));
        assert_eq!(column(&response, "done"), (json!([null]), json!(["INVALID"])), "deed {deed}");
        assert_eq!(column(&response, "doubled"), (json!([104_000.0]), json!(["PRESENT"])), "deed {deed}");
        let (_, response) = post(serving.address, &body(0));
        assert_eq!(column(&response, "done"), (json!([1]), json!(["PRESENT"])), "after deed {deed}");
    }
    let metrics = send(serving.address, "GET /metrics", &[], b"");
    let metrics = String::from_utf8(metrics.body).expect("it is text");
    for (kind, count) in [("fuel", 1), ("memory", 3), ("trap", 2), ("bad-output", 5), ("refused", 1)] {
        let line = format!("mezze_transform_failures_total{{view=\"hostile\",kind=\"{kind}\"}} {count}\n");
        assert!(metrics.contains(&line), "{kind}: {metrics}");
    }
    assert!(metrics.contains("mezze_responses_total{status=\"2xx\"} 24\n"), "{metrics}");
}

#[test]
fn a_join_names_the_row_that_a_transform_fails_for() {
    let repo = hostile("on_error: fail");
    let mut labels = String::from("user_id,deed,event_timestamp\n");
    for row in 1..=3_000 {
        labels += &format!("1,{},2026-02-01T00:00:00Z\n", if row == 2_345 { 11 } else { 0 });
    }
    repo.write("labels.csv", &labels);
    let arguments = ["get-historical-features", "--entities", "labels.csv", "--features", "hostile:done", "--out", "set.csv"];
    let run = repo.try_run(&arguments);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    let expected =
        "the transform of `hostile` failed for row 2345 of the entity rows: it does not like this row; it got deed = 11";
    assert!(run.stderr.contains(expected), "{}", run.stderr);
    assert!(!repo.path("set.csv").exists(), "nothing is left half-written");

    let repo = hostile("on_error: nulls");
    repo.write("labels.csv", &labels);
    repo.run(&arguments);
    let set = std::fs::read_to_string(repo.path("set.csv")).expect("it was written");
    for (number, line) in set.lines().enumerate().skip(1) {
        assert_eq!(line.rsplit(',').next(), Some(if number == 2_345 { "" } else { "1" }), "row {number}");
    }
}

#[test]
fn what_does_not_fit_is_said_when_it_is_applied() {
    let repo = Repo::new(DEFINITIONS);
    repo.write("data/users.csv", USERS);
    let refused = |said: &str| {
        let run = repo.try_run(&["apply"]);
        assert_eq!(run.code, Some(2), "{}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains(said), "{}", run.stderr);
        assert!(!repo.path("data/registry/transforms").exists());
    };
    refused("the transform of `risk`, burden.wasm: ");
    refused("cannot be read: no such file or directory; `mezze transform build` makes components");
    repo.write("burden.wasm", "no component");
    refused("it is no component");
    std::fs::write(repo.path("burden.wasm"), example("hostile")).expect("it can be written");
    refused("it computes done int64; the view's schema is burden float64, grade string");
    std::fs::write(repo.path("burden.wasm"), example("burden")).expect("it can be written");
    let wider = DEFINITIONS.replace(
        "    schema: [{ name: burden, dtype: float64 }, { name: grade, dtype: string }]",
        "    schema: [{ name: burden, dtype: float64 }, { name: strain, dtype: float64 }, { name: grade, dtype: string }, \
         { name: payments, dtype: list<float64> }, { name: days, dtype: int64 }]",
    );
    repo.write("features/all.yaml", &wider);
    refused("the transform of `risk` takes `city`: the view's sources have no field `city`");
    repo.write("features/all.yaml", &wider.replace("{ name: debt, dtype: float64 }", "{ name: debt, dtype: string }"));
    refused("the transform of `risk` takes `debt` as float64, but it is string");
    let of_files = |definitions: &str, said: &str| {
        repo.write("features/all.yaml", definitions);
        refused(said);
    };
    let with = |keys: &str| DEFINITIONS.replace("{ component: burden.wasm }", &format!("{{ component: burden.wasm, {keys} }}"));
    of_files(&with("memory: 1KB"), "`memory` is 1000 bytes, expected at least 65536");
    of_files(&with("fuel: 0"), "`fuel` must be a whole number from 1, found the number 0");
    of_files(&with("time: 10us"), "`time` must be whole milliseconds, such as 50ms or 2s");
    of_files(&with("fule: 1"), "a transform has no key `fule`; did you mean `fuel`?");
    of_files(&with("digest: 07"), "is no digest of a transform: expected 64 hex digits");
    of_files(
        &DEFINITIONS.replace("{ name: grade, dtype: string }", "{ name: grade, dtype: string, expression: '1' }"),
        "the feature `grade` has an expression, but its view's transform computes it; leave one out",
    );
}

#[test]
fn the_command_says_what_is_wrong_with_a_transform() {
    let repo = Repo::new(DEFINITIONS);
    let refused = |arguments: &[&str], said: &str| {
        let run = repo.try_run(arguments);
        assert_eq!(run.code, Some(2), "{arguments:?}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains(said), "{arguments:?}: {}", run.stderr);
    };
    refused(&["transform", "new", "Burden"], "`Burden` cannot be a transform's name");
    refused(&["transform", "new", "features"], "features is there already");
    refused(&["transform", "build", "nowhere"], "nowhere is not a folder");
    refused(&["transform", "build", "features"], "has neither a Cargo.toml nor a package.json");
    refused(&["transform", "test", "nowhere.wasm"], "nowhere.wasm cannot be read");
    std::fs::write(repo.path("hostile.wasm"), example("hostile")).expect("it can be written");
    refused(&["eval", "--component", "hostile.wasm"], "the component takes `deed`, int64");
    refused(&["eval", "--component", "hostile.wasm", "--set", "deed=x"], "`x` is no int64");
    refused(&["eval", "--component", "hostile.wasm", "--set", "deed=0", "--set", "other=1"], "the component does not take it");
    // Its odd values are deeds.
    let run = repo.try_run(&["transform", "test", "hostile.wasm"]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    assert!(run.stderr.contains("it fails for") && run.stderr.contains("deed = Int(1)"), "{}", run.stderr);
}

/// The folder with what `tests/run` has installed.
fn tools() -> PathBuf {
    std::env::var_os("MEZZE_TOOLS").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("there is a home")).join(".cache/mezze/tools"),
        PathBuf::from,
    )
}

#[test]
fn a_transform_in_javascript_gives_the_bits_of_one_in_rust() {
    let installed = tools().join("node_modules/componentize-qjs");
    assert!(installed.is_dir(), "{} is missing; tests/run installs it", installed.display());
    let repo = with_a_transform_of_its_own();
    repo.run(&["transform", "new", "in_javascript", "--language", "javascript"]);
    #[cfg(unix)]
    std::os::unix::fs::symlink(tools().join("node_modules"), repo.path("in_javascript/node_modules")).expect("it can be made");
    let built: Json = serde_json::from_str(&build(&repo, "in_javascript")).expect("it is JSON");
    assert_eq!(built["inputs"].as_array().map(Vec::len), Some(3), "{built}");
    let floats = ["", "0", "-0.0", "52000", "1e308", "5e-324", "-7.25", "0.1"];
    let loans = ["0", "1", "-1", "9007199254740991", "25000", ""];
    let mut rows = String::from("income,loan_amnt,debt\n");
    for (number, income) in floats.iter().enumerate() {
        for (other, loan) in loans.iter().enumerate() {
            rows += &format!("{income},{loan},{}\n", floats[(number + other) % floats.len()]);
        }
    }
    repo.write("rows.csv", &rows);
    let of = |component: &str, out: &str| {
        repo.run(&["eval", "--component", component, "--rows", "rows.csv", "--out", out]);
        let file = std::fs::File::open(repo.path(out)).expect("it was written");
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).expect("it is Parquet");
        reader.build().expect("it can be read").map(|batch| batch.expect("it is whole")).collect::<Vec<_>>()
    };
    let rust = of("burden.wasm", "rust.parquet");
    assert_eq!(rust.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), floats.len() * loans.len());
    // Arrow compares floats by their bits.
    assert_eq!(rust, of("in_javascript.wasm", "javascript.parquet"));
}
