//! Definitions against the schemas of their sources.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use mezze_model::{SourceColumn, check_against};

use crate::{CREDIT, definitions};

fn column(name: &str, type_name: &str, value_type: &str) -> SourceColumn {
    SourceColumn { name: name.into(), type_name: type_name.into(), value_type: value_type.parse().ok() }
}

fn columns() -> BTreeMap<String, Vec<SourceColumn>> {
    BTreeMap::from([
        (
            "zipcode_table".into(),
            vec![
                column("zipcode", "int64", "int64"),
                column("event_timestamp", "timestamp", "unix_timestamp"),
                column("created_timestamp", "timestamp", "unix_timestamp"),
                column("city", "string", "string"),
                column("pop", "int32", "int32"),
            ],
        ),
        (
            "bureau".into(),
            vec![
                column("dob_ssn", "string", "string"),
                column("ts", "timestamp", "unix_timestamp"),
                column("mortgage_due", "float64", "float64"),
                column("accounts", "list<string>", "list<string>"),
                column("odd", "interval", "no type"),
            ],
        ),
    ])
}

fn check(change: impl FnOnce(&mut BTreeMap<String, Vec<SourceColumn>>), expected: Expect) {
    let mut columns = columns();
    change(&mut columns);
    let problems = check_against(&mut definitions(CREDIT), &columns);
    expected.assert_eq(&problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

fn set(columns: &mut BTreeMap<String, Vec<SourceColumn>>, source: &str, name: &str, to: SourceColumn) {
    let columns = columns.get_mut(source).expect("it is there");
    *columns.iter_mut().find(|column| column.name == name).expect("it is there") = to;
}

#[test]
fn fitting_sources_are_accepted() {
    check(|_| {}, expect![""]);
}

#[test]
fn what_does_not_fit_is_named() {
    check(
        |columns| set(columns, "bureau", "ts", column("ts", "string", "string")),
        expect!["source `bureau`: its timestamp_field `ts` is string, expected a timestamp or a date; convert it in the source"],
    );
    check(
        |columns| set(columns, "bureau", "ts", column("tz", "timestamp", "unix_timestamp")),
        expect!["source `bureau` has no column `ts`, its timestamp_field; did you mean `tz`?"],
    );
    check(
        |columns| set(columns, "bureau", "dob_ssn", column("dob_ssn", "float64", "float64")),
        expect![
            "feature view `credit_history`: the join key `dob_ssn` is string, its column in source `bureau` is float64; correct the entity's value_type or the source"
        ],
    );
    check(
        |columns| set(columns, "bureau", "dob_ssn", column("ssn", "string", "string")),
        expect![
            "feature view `credit_history`: source `bureau` has no column `dob_ssn` for the join key of entity `borrower`; expected one of `ssn`, `ts`, `mortgage_due`, `accounts`, `odd`"
        ],
    );
    check(
        |columns| set(columns, "zipcode_table", "city", column("citi", "string", "string")),
        expect![
            "feature view `zipcode_features`: source `zipcode_table` has no column `city` for the feature `city`; did you mean `citi`?"
        ],
    );
    check(
        |columns| set(columns, "zipcode_table", "city", column("city", "int64", "int64")),
        expect![
            "feature view `zipcode_features`: the feature `city` is string, its column in source `zipcode_table` is int64, which does not convert to it"
        ],
    );
    check(
        |columns| set(columns, "zipcode_table", "pop", column("population", "int64", "int64")),
        expect![[r#"
        source `zipcode_table` has no column `pop`, which its field_mapping renames; expected one of `zipcode`, `event_timestamp`, `created_timestamp`, `city`, `population`
        feature view `zipcode_features`: source `zipcode_table` has no column `pop` for the feature `population`; expected one of `zipcode`, `event_timestamp`, `created_timestamp`, `city`, `population`"#]],
    );
    check(
        |columns| set(columns, "zipcode_table", "created_timestamp", column("created_timestamp", "int64", "int64")),
        expect![
            "source `zipcode_table`: its created_timestamp_column `created_timestamp` is int64, expected a timestamp or a date; convert it in the source"
        ],
    );
}

#[test]
fn a_view_without_a_schema_gets_the_other_columns_of_its_source() {
    let text = CREDIT
        .replace("    schema: [{ name: city, dtype: string }, { name: population, dtype: int64 }]\n", "")
        .replace("'credit_history:mortgage_due'", "zipcode_features:population")
        .replace("[zipcode_features, zipcode", "[zipcode");
    let mut definitions = definitions(&text);
    assert_eq!(check_against(&mut definitions, &columns()), []);
    let view = definitions.feature_view("zipcode_features").expect("it is defined");
    let schema: Vec<String> = view.schema.iter().map(|feature| format!("{} {}", feature.name, feature.value_type)).collect();
    assert_eq!(schema, ["city string", "population int32"]);
}
