//! What files may say, and what is said of mistakes.

use std::fs;

use expect_test::{Expect, expect};
use mezze_core::{Audience, Span, ValueType};
use mezze_model::{Availability, SourceFormat};

use crate::{CREDIT, definitions, load, repo};

/// The problems of one definition file.
fn problems(text: &str, expected: Expect) {
    let error = load(&repo(&[("a.yaml", text)])).expect_err("there is a mistake");
    expected.assert_eq(&error.to_string());
}

#[test]
fn everything_that_a_file_says_arrives() {
    let definitions = definitions(CREDIT);
    assert_eq!(definitions.project, "credit");
    let borrower = definitions.entity("borrower").expect("it is defined");
    assert_eq!((borrower.join_key.as_str(), &borrower.value_type), ("dob_ssn", &ValueType::String));
    let source = definitions.source("zipcode_table").expect("it is defined");
    assert_eq!(source.column_of("population"), "pop");
    assert_eq!(source.column_of("city"), "city");
    assert_eq!(definitions.source("bureau").expect("it is defined").format, Some(SourceFormat::Csv));
    let view = definitions.feature_view("credit_history").expect("it is defined");
    assert_eq!((view.ttl, view.retain), (Span::from_seconds(5400), Span::from_seconds(30 * 86_400)));
    assert_eq!((view.available_after, view.availability), (Span::from_seconds(7200), Availability::Event));
    assert_eq!((view.online, view.audience), (true, Audience::Server));
    let other = definitions.feature_view("zipcode_features").expect("it is defined");
    assert_eq!(other.retain, Span::from_seconds(2 * 3650 * 86_400));
    assert_eq!(other.about.tags["team"], "risk");
    let pairs = definitions.feature_service("pairs").expect("it is defined");
    let shown: Vec<(&str, Vec<&str>)> = pairs
        .projections
        .iter()
        .map(|projection| (projection.name_to_use(), projection.features.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(shown, [("partner", vec!["accounts"]), ("credit_history", vec!["accounts", "mortgage_due"])]);
    assert_eq!(pairs.projections[0].join_key_map["dob_ssn"], "partner_ssn");
}

#[test]
fn files_are_read_together_and_names_may_be_in_any_of_them() {
    let (entities, rest) = CREDIT.split_at(CREDIT.find("sources:").expect("it is there"));
    let folder =
        repo(&[("b.yaml", entities), ("a.yml", rest), ("empty.yaml", "# nothing yet\n"), ("notes.txt", "not: yaml: at all")]);
    assert_eq!(load(&folder).expect("the definitions are right").definitions, definitions(CREDIT));
}

#[test]
fn names_that_older_yaml_takes_for_flags_are_names() {
    let definitions = definitions("entities: [{ name: y }, { name: no }, { name: on }]\n");
    let names: Vec<&str> = definitions.entities.iter().map(|entity| entity.name.as_str()).collect();
    assert_eq!(names, ["no", "on", "y"]);
}

#[test]
fn variables_of_the_environment_are_put_in() {
    let text = "sources: [{ name: s, path: '${BUCKET}/${FOLDER:-rows}', timestamp_field: ts }]\n";
    assert_eq!(definitions(text).sources[0].path, "s3://bucket/rows");
    problems(
        "sources: [{ name: s, path: '${NOPE}/x', timestamp_field: ts }]\n",
        expect![
            "features/a.yaml:1:28: the environment variable `NOPE` is not set; set it, or give a default as in ${NOPE:-default}"
        ],
    );
    problems(
        "sources: [{ name: s, path: '${NOPE', timestamp_field: ts }]\n",
        expect!["features/a.yaml:1:28: `${NOPE`: `${` has no `}` behind it"],
    );
}

#[test]
fn mistakes_of_form_are_told_with_their_place() {
    problems("entities: [", expect!["features/a.yaml:1:11: not well-formed YAML: unclosed bracket '[' at line 1, column 11"]);
    problems("entity: []\n", expect!["features/a.yaml:1:1: a definition file has no key `entity`; did you mean `entities`?"]);
    problems("- 1\n", expect!["features/a.yaml:1:1: a definition file is a map of keys, found a list"]);
    problems(
        "entities:\n  - { nam: x }\n",
        expect![[r#"
            features/a.yaml:2:7: an entity has no key `nam`; did you mean `name`?
            features/a.yaml:2:5: an entity needs the key `name`: its name"#]],
    );
    problems("entities:\n  - { name: x, name: y }\n", expect!["features/a.yaml:2:16: the key `name` is there twice"]);
    problems(
        "entities:\n  - { name: x, value_type: integer }\n",
        expect![
            "features/a.yaml:2:28: `value_type`: `integer` is not a type, expected one of bool, bytes, decimal, float32, float64, int32, int64, json, string, time_uuid, unix_timestamp, uuid, zoned_timestamp, list<T>, set<T>, map<T> or struct<name: T, ..>"
        ],
    );
    problems(
        "entities:\n  - { name: x, value_type: float64 }\n",
        expect![
            "features/a.yaml:2:28: the entity `x` has the type float64, which cannot be a join key; use int64, int32, string, bytes, bool, uuid or unix_timestamp"
        ],
    );
    problems(
        "entities:\n  - { name: x, join_keys: [a, b] }\n",
        expect![
            "features/a.yaml:2:27: an entity has one join key, `x` has 2; make an entity of each, and name all of them in the feature view"
        ],
    );
    problems(
        "entities:\n  - { name: 'a b' }\n",
        expect![
            "features/a.yaml:2:13: `name` must be a name: a letter or `_`, then letters, digits, `_`, `-` and `.`, found the text `a b`"
        ],
    );
    problems("entities: { name: x }\n", expect!["features/a.yaml:1:11: `entities` must be a list, found a map"]);
    problems("entities:\n  - x\n", expect!["features/a.yaml:2:5: an entity is a map of keys, found the text `x`"]);
    problems(
        "sources:\n  - { name: s }\n",
        expect![[r#"
            features/a.yaml:2:5: a source needs the key `path`: a file, folder, glob or URL; relative to the repository
            features/a.yaml:2:5: a source needs the key `timestamp_field`: the column of event times"#]],
    );
    problems(
        "sources:\n  - { name: s, path: p, timestamp_field: t, format: xml }\n",
        expect!["features/a.yaml:2:53: `format` must be one of `parquet`, `csv`, `json`, `arrow`, found the text `xml`"],
    );
    problems(
        "sources:\n  - { name: s, path: p, timestamp_field: t, field_mapping: { a: x, b: x } }\n",
        expect!["features/a.yaml:2:60: field_mapping gives both `a` and `b` the name `x`"],
    );
    problems(
        "request_sources:\n  - { name: r, schema: [{ name: a, dtype: int64 }, { name: a, dtype: string }] }\n",
        expect!["features/a.yaml:2:52: `a` is there twice"],
    );
}

/// A view `v` of a source `s` with the join key `k`, with this text at the end of the view.
fn view(more: &str) -> String {
    format!(
        "entities: [{{ name: k }}]\nsources: [{{ name: s, path: p.csv, timestamp_field: ts }}]\nfeature_views:\n  - name: v\n    \
         entities: [k]\n    source: s\n    schema: [{{ name: f, dtype: int64 }}]\n{more}"
    )
}

#[test]
fn mistakes_of_views_are_told_with_their_place() {
    problems(
        &view("    ttl: 1 day\n"),
        expect!["features/a.yaml:8:10: `ttl` must be a length of time such as 1d, 12h, 90m or 30s, or 0, found the text `1 day`"],
    );
    problems(
        &view("    ttl: -1d\n"),
        expect!["features/a.yaml:8:10: `ttl` must be a length of time such as 1d, 12h, 90m or 30s, or 0, found the text `-1d`"],
    );
    problems(
        &view("    ttl: 60\n"),
        expect!["features/a.yaml:8:10: `ttl` must be a length of time such as 1d, 12h, 90m or 30s, or 0, found the number 60"],
    );
    problems(&view("    online: 'yes'\n"), expect!["features/a.yaml:8:13: `online` must be true or false, found the text `yes`"]);
    problems(
        &view("    audience: everyone\n"),
        expect!["features/a.yaml:8:15: `audience` must be one of `server`, `public`, found the text `everyone`"],
    );
    problems(
        &view("    available: created\n"),
        expect![
            "features/a.yaml:4:5: `available: created` needs created times, but the source `s` has no created_timestamp_column"
        ],
    );
    problems(
        &view("    ttl: 2d\n    retain: 1d\n"),
        expect!["features/a.yaml:9:13: retain (1d) is less than ttl (2d): rows would go that still count"],
    );
    problems(&view("    tll: 1d\n"), expect!["features/a.yaml:8:5: a feature view has no key `tll`; did you mean `ttl`?"]);
    problems(
        &view("").replace("name: v", "name: a__b"),
        expect![
            "features/a.yaml:4:11: the feature view `a__b` has `__` in its name, which separates view and feature in long names"
        ],
    );
    problems(
        &view("").replace("entities: [k]", "entities: [kk]"),
        expect!["features/a.yaml:5:16: no entity is called `kk`; did you mean `k`?"],
    );
    problems(
        &view("").replace("entities: [k]", "entities: [k, k]"),
        expect!["features/a.yaml:5:19: the join key `k` is there twice"],
    );
    problems(
        &view("").replace("source: s\n", "source: sources\n"),
        expect!["features/a.yaml:6:13: no source is called `sources`; expected one of `s`"],
    );
    problems(
        &view("").replace("name: f,", "name: k,"),
        expect!["features/a.yaml:4:5: the feature `k` of `v` is a join key already; leave it out"],
    );
    problems(
        &view("").replace("name: f,", "name: ts,"),
        expect![
            "features/a.yaml:4:5: the feature `ts` of `v` is the source's event time already, which every response carries; leave it out"
        ],
    );
}

#[test]
fn mistakes_of_services_are_told_with_their_place() {
    let service = |features: &str| view(&format!("feature_services:\n  - {{ name: x, features: {features} }}\n"));
    problems(&service("[]"), expect!["features/a.yaml:9:5: the feature service `x` selects nothing"]);
    problems(&service("[w]"), expect!["features/a.yaml:9:27: no feature view is called `w`; did you mean `v`?"]);
    problems(&service("['v:g']"), expect!["features/a.yaml:9:27: the feature view `v` has no feature `g`; did you mean `f`?"]);
    problems(
        &service("[7]"),
        expect![[r#"
            features/a.yaml:9:27: `features` must be `view`, `view:feature`, or a map with the key `view`, found the number 7
            features/a.yaml:9:5: the feature service `x` selects nothing"#]],
    );
    problems(
        &service("[v, v]"),
        expect!["features/a.yaml:9:30: `v` is selected twice; name its features together, or give one an alias"],
    );
    problems(&service("['v:f', 'v:f']"), expect!["features/a.yaml:9:34: the feature `f` is there twice"]);
    problems(
        &service("[{ view: v, join_key_map: { j: x } }]"),
        expect!["features/a.yaml:9:27: join_key_map: `j` is no join key of `v`; did you mean `k`?"],
    );
    problems(
        &service("[v], request_sources: [r]"),
        expect!["features/a.yaml:9:49: no request source is called `r`; there are none"],
    );
}

#[test]
fn names_that_are_there_twice_name_both_places() {
    let folder = repo(&[("a.yaml", "entities: [{ name: x }]\n"), ("b.yaml", "\nentities:\n  - { name: x }\n")]);
    let error = load(&folder).expect_err("there is a mistake");
    expect!["features/b.yaml:3:5: the entity `x` is defined already, in features/a.yaml:1:12"].assert_eq(&error.to_string());
}

#[test]
fn all_mistakes_are_told_at_once() {
    let folder = repo(&[("a.yaml", "entities: [{ nme: x }]\nsources: [{ name: s, path: p }]\n")]);
    fs::write(folder.path().join("feature_store.yaml"), "project: credit\nregistry: r\nonline_store: { type: redis, path: x }\n")
        .expect("it can be written");
    let error = load(&folder).expect_err("there are mistakes");
    expect![[r#"
        feature_store.yaml:3:23: `type` must be `directory`, found the text `redis`
        features/a.yaml:1:14: an entity has no key `nme`; did you mean `name`?
        features/a.yaml:1:12: an entity needs the key `name`: its name
        features/a.yaml:2:11: a source needs the key `timestamp_field`: the column of event times"#]]
    .assert_eq(&error.to_string());
}

#[test]
fn a_folder_that_is_no_repository_is_told_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let error = load(&folder).expect_err("it is empty").to_string().replace(&folder.path().display().to_string(), "DIR");
    expect![[r#"
        DIR/feature_store.yaml: there is no such file: this is not a repository; name one with -c DIR, or make one with `mezze init`
        DIR/features: cannot be read: no such file or directory; definitions are YAML files in this folder"#]].assert_eq(&error);
}
