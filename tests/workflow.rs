//! A user's way through, and what goes wrong on it.

mod common;

use std::fs;

use common::{Repo, files, mezze};
use expect_test::{Expect, expect};

/// How a run ended, and what it said on standard error, with the temporary folder's name left out.
fn check(repo: &Repo, arguments: &[&str], expected: Expect) {
    let run = repo.try_run(arguments);
    let folder = repo.path("").display().to_string();
    let said = run.stderr.replace(folder.trim_end_matches('/'), "DIR");
    expected.assert_eq(&format!("exit {}\n{said}", run.code.unwrap_or(-1)));
}

#[test]
fn the_demo_tells_its_story_and_agrees_with_itself() {
    let output = mezze().args(["demo", "--output", "json"]).output().expect("it can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(facts["join"]["rows"], 20_000);
    assert_eq!(facts["HTTP"]["same_bytes"], true);
    assert_eq!(facts["WebAssembly"]["same_bytes"], true);
}

#[test]
fn a_sample_repository_goes_all_the_way() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |arguments: &[&str]| {
        let output = mezze().current_dir(folder.path()).args(arguments).output().expect("it can be run");
        assert!(output.status.success(), "mezze {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("output is text")
    };
    run(&["init", "credit"]);
    assert!(run(&["-c", "credit", "plan"]).contains("9 to create, 0 to update, 0 to delete, 0 unchanged"));
    assert!(run(&["-c", "credit", "apply"]).contains("recorded as version 1"));
    assert!(run(&["-c", "credit", "apply"]).contains("nothing has changed"));
    let joined = run(&[
        "-c",
        "credit",
        "get-historical-features",
        "--entities",
        "credit/data/loans.parquet",
        "--service",
        "credit_v1",
        "--out",
        "credit/train.parquet",
        "--output",
        "json",
    ]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&joined).expect("it is JSON")["rows"], 20_000);
    run(&["-c", "credit", "materialize", "2024-01-01", "2026-08-30"]);
    let again = run(&["-c", "credit", "materialize", "2024-01-01", "2026-08-30"]);
    assert!(again.contains("nothing has changed"), "{again}");
    let listed = run(&["-c", "credit", "feature-views", "list"]);
    assert!(listed.contains("zipcode_features") && listed.contains("credit_history"), "{listed}");
    assert!(run(&["-c", "credit", "feature-views", "describe", "credit_history"]).contains("\"utilisation\""));
    assert!(run(&["-c", "credit", "registry-dump"]).contains("\"version\": 1"));
    assert!(run(&["schema"]).contains("json-schema.org"));
    assert!(run(&["completions", "bash"]).contains("materialize-incremental"));
    run(&["-c", "credit", "teardown", "--yes"]);
    assert!(!folder.path().join("credit/data/replica/head").exists());
    assert!(folder.path().join("credit/data/loans.parquet").exists());
}

#[test]
fn equal_inputs_build_equal_files_with_any_number_of_threads() {
    let build = |threads: &str| {
        let repo = Repo::every_type();
        repo.run(&["apply"]);
        repo.run(&["materialize", "2020-01-01", "2030-01-01", "--threads", threads]);
        let replica = repo.path("data/replica");
        ["s", "m", "c"]
            .iter()
            .filter(|folder| replica.join(folder).is_dir())
            .flat_map(|folder| files(&replica.join(folder)))
            .map(|(path, bytes)| (path.strip_prefix(&replica).expect("it is in the folder").to_path_buf(), bytes))
            .collect::<Vec<_>>()
    };
    let one = build("1");
    assert!(one.len() >= 3);
    assert_eq!(one, build("2"));
    assert_eq!(one, build("5"));
}

#[test]
fn equal_values_with_later_times_write_no_page_and_older_rows_never_count() {
    let repo = Repo::every_type();
    repo.run(&["apply"]);
    repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
    let tables = |arguments: &[&str]| -> serde_json::Value {
        let report: serde_json::Value = serde_json::from_str(&repo.run(arguments)).expect("it is JSON");
        report["tables"].clone()
    };
    let users = fs::read_to_string(repo.path("data/users/1.json")).expect("it can be read");
    // The same a year later: every time moves by one span.
    let later: String = users
        .lines()
        .map(|line| line.replace("\"ts\": \"2026-", "\"ts\": \"2027-").replace("\"ts\": \"2021-", "\"ts\": \"2022-") + "\n")
        .collect();
    repo.write("data/users/1.json", &later);
    let run = tables(&["materialize-incremental", "2030-01-01", "--output", "json"]);
    for table in run.as_array().expect("it is a list") {
        assert_eq!(table["pages_written"], 0, "{table}");
    }
    let answer = |user: &str| {
        repo.run(&["get-online-features", "--features", "profile:age", "-e", &format!("user_id={user}"), "--output", "json"])
    };
    assert!(answer("3").contains("2027-01-03T12:00:00.5"), "{}", answer("3"));
    // What comes late and is old changes nothing.
    repo.write("data/users/0.json", "{\"user_id\": 3, \"ts\": \"2026-06-01T00:00:00Z\", \"age\": 99}\n");
    repo.run(&["materialize-incremental", "2030-01-01"]);
    assert!(answer("3").contains("[23]"), "{}", answer("3"));
    // What is newer counts, from a file that came late as well.
    repo.write("data/users/0.json", "{\"user_id\": 3, \"ts\": \"2027-06-01T00:00:00Z\", \"age\": 99}\n");
    repo.run(&["materialize-incremental", "2030-01-01"]);
    assert!(answer("3").contains("[99]"), "{}", answer("3"));
    // Back again, and once more forward.
    repo.run(&["rollback"]);
    assert!(answer("3").contains("[23]"), "{}", answer("3"));
}

#[test]
fn a_replica_serves_what_was_published_to_it() {
    let repo = Repo::every_type();
    repo.run(&["apply"]);
    repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
    assert!(repo.run(&["publish", "--to", "copy"]).contains("published epoch 1"));
    let answer = |from: &[&str]| {
        let arguments = ["get-online-features", "--features", "profile:age", "-e", "user_id=3", "--output", "json"];
        repo.run(&[&arguments, from].concat())
    };
    assert_eq!(answer(&["--from", "copy"]), answer(&[]));
    repo.run(&["forget", "-e", "user_id=3", "--compact"]);
    assert_ne!(answer(&["--from", "copy"]), answer(&[]));
    assert!(repo.run(&["prune"]).contains("rows may still be in"));
    repo.run(&["publish", "--to", "copy"]);
    assert_eq!(answer(&["--from", "copy"]), answer(&[]));
    // Readers may hold the head that named them.
    assert!(repo.run(&["prune"]).contains("rows may still be in"));
    assert!(repo.run(&["prune", "--grace", "0"]).contains("gone from every place"), "{}", repo.run(&["status"]));
}

#[test]
fn mistakes_of_usage_and_input_say_what_to_do() {
    let repo = Repo::every_type();
    check(
        &repo,
        &["materialize", "2020-01-01", "2030-01-01"],
        expect![[r#"
        exit 2
        error: nothing is recorded in the registry data/registry
          hint: run `mezze apply` first
    "#]],
    );
    check(
        &repo,
        &["get-online-features", "--features", "profile:age", "-e", "user_id=1"],
        expect![[r#"
        exit 2
        error: ./data/replica has no snapshot yet; run `mezze materialize` first
    "#]],
    );
    repo.run(&["apply"]);
    check(
        &repo,
        &["materialize", "2030-01-01", "2020-01-01"],
        expect![[r#"
        exit 2
        error: START is later than END
          hint: give the earlier instant first
    "#]],
    );
    check(
        &repo,
        &["materialize", "2020-01-01", "2030-01-01", "--views", "nope"],
        expect![[r#"
            exit 2
            error: no online feature view is called `nope`
              hint: there are blobs, kinds, pairs, profile, today
        "#]],
    );
    check(
        &repo,
        &["publish", "--to", "nowhere"],
        expect![[r#"
        exit 2
        error: no replica is called `nowhere`
          hint: feature_store.yaml names copy
    "#]],
    );
    check(
        &repo,
        &["forget", "-e", "user_id=1"],
        expect![[r#"
        exit 2
        error: ./data/replica has no snapshot yet; run `mezze materialize` first
    "#]],
    );
    repo.run(&["materialize", "2020-01-01", "2030-01-01"]);
    check(
        &repo,
        &["get-online-features", "--features", "profile:age", "-e", "user_id"],
        expect![[r#"
        exit 2
        error: `--entity user_id` is not of the form NAME=VALUE
          hint: for example --entity zipcode=76104
    "#]],
    );
    check(
        &repo,
        &["forget", "-e", "who=1"],
        expect![[r#"
        exit 2
        error: no table has exactly the join keys (who); there are (item, user_id), (user_id)
    "#]],
    );
    check(
        &repo,
        &["forget", "-e", "user_id=x"],
        expect![[r#"
        exit 2
        error: join key user_id: x is not of the type int64
    "#]],
    );
    check(
        &repo,
        &["rollback"],
        expect![[r#"
        exit 2
        error: there is no snapshot before that of epoch 1
    "#]],
    );
    check(
        &repo,
        &["teardown"],
        expect![[r#"
        exit 2
        error: this removes the registry data/registry and every snapshot in data/replica
          hint: say --yes to do it
    "#]],
    );
    check(
        &repo,
        &["feature-views", "describe", "nope"],
        expect![[r#"
            exit 2
            error: no feature view is called `nope`
              hint: there are blobs, kinds, pairs, profile, today
        "#]],
    );
    check(
        &repo,
        &["-c", "nowhere", "plan"],
        expect![[r#"
        exit 2
        error: 2 problems in the definitions:
          nowhere/feature_store.yaml: there is no such file: this is not a repository; name one with -c DIR, or make one with `mezze init`
          nowhere/features: cannot be read: no such file or directory; definitions are YAML files in this folder
    "#]],
    );
    repo.write("labels.csv", "user_id,event_timestamp\n1,2026-06-01T00:00:00Z\n");
    repo.write("text.csv", "user_id,event_timestamp\n1,yesterday\n");
    repo.write("not.parquet", "this is no Parquet file\n");
    repo.write("empty.csv", "");
    let join = |entities: &str, features: &str| {
        ["get-historical-features", "--entities", entities, "--features", features, "--out", "out.csv"].map(String::from)
    };
    let check_join = |entities: &str, features: &str, expected: Expect| {
        let arguments = join(entities, features);
        check(&repo, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        assert!(!repo.path("out.csv").exists());
    };
    check_join(
        "nothing.csv",
        "profile:age",
        expect![[r#"
        exit 2
        error: nothing.csv: there is no such file or folder in .
    "#]],
    );
    check_join(
        "text.csv",
        "profile:age",
        expect![[r#"
        exit 2
        error: text.csv:2: column event_timestamp: "yesterday" is not a timestamp such as 2026-11-23T05:00:00Z between the years 1678 and 2262
    "#]],
    );
    check_join(
        "not.parquet",
        "profile:age",
        expect![[r#"
        exit 2
        error: not.parquet: not a Parquet file: Invalid Parquet file. Corrupt footer
    "#]],
    );
    check_join(
        "empty.csv",
        "profile:age",
        expect![[r#"
        exit 2
        error: empty.csv:1: the file is empty: a header line with the names of the columns is needed
    "#]],
    );
    check_join(
        "labels.csv",
        "profile:nope",
        expect![[r#"
        exit 2
        error: there is no feature profile:nope; did you mean name?
    "#]],
    );
    check_join(
        "labels.csv",
        "nope:age",
        expect![[r#"
            exit 2
            error: there is no feature view nope; there are blobs, kinds, pairs, profile, today, chained, checks, functions
        "#]],
    );
    check_join(
        "labels.csv",
        "pairs:clicks",
        expect![[r#"
        exit 2
        error: entity rows labels.csv have no column item, the join key of feature view pairs; they have user_id, event_timestamp
    "#]],
    );
    let arguments = join("labels.csv", "profile:age");
    repo.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    expect![[r#"
        user_id,event_timestamp,age
        1,2026-06-01T00:00:00Z,21
    "#]]
    .assert_eq(&fs::read_to_string(repo.path("out.csv")).expect("it was written"));
}

#[test]
fn sources_that_do_not_fit_are_told_before_anything_is_recorded() {
    let repo = Repo::every_type();
    repo.write("data/pairs.csv", "user_id,thing,ts,clicks\n1,a,2026-01-01T00:00:00Z,5\n");
    check(
        &repo,
        &["apply"],
        expect![[r#"
        exit 2
        error: 1 problem between definitions and sources:
          feature view `pairs`: source `pair_rows` has no column `item` for the join key of entity `item`; expected one of `user_id`, `thing`, `ts`, `clicks`
    "#]],
    );
    assert!(!repo.path("data/registry").read_dir().is_ok_and(|mut entries| entries.next().is_some()));
    // Text formats do not say their types: what is in them shows when it is read, and then with its line.
    repo.write("data/pairs.csv", "user_id,item,ts,clicks\n1,a,2026-01-01T00:00:00Z,5\n2,b,yesterday,5\n");
    repo.run(&["apply"]);
    check(
        &repo,
        &["materialize", "2020-01-01", "2030-01-01"],
        expect![[r#"
        exit 2
        error: data/pairs.csv:3: column ts: "yesterday" is not a timestamp such as 2026-11-23T05:00:00Z between the years 1678 and 2262
    "#]],
    );
    repo.write("data/pairs.csv", "user_id,item,ts,clicks\n1,a,2026-01-01T00:00:00Z,many\n");
    check(
        &repo,
        &["materialize", "2020-01-01", "2030-01-01"],
        expect![[r#"
        exit 2
        error: data/pairs.csv:2: column clicks: "many" is not int64
    "#]],
    );
    assert!(!repo.path("data/replica/head").exists());
}
