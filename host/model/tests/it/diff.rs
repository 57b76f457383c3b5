//! What `plan` says.

use expect_test::{Expect, expect};
use mezze_model::diff;

use crate::{CREDIT, definitions};

fn check(before: Option<&str>, after: &str, expected: Expect) {
    let before = before.map(definitions);
    expected.assert_eq(&diff(before.as_ref(), &definitions(after)).to_string());
}

#[test]
fn a_first_apply_creates_everything() {
    check(
        None,
        CREDIT,
        expect![[r#"
        + entity borrower
        + entity zipcode
        + source bureau
        + source zipcode_table
        + request source application
        + feature view credit_history
            served after the next `mezze materialize`
            is a table of its own (dob_ssn:string): one page read an entity
        + feature view zipcode_features
            served after the next `mezze materialize`
            is a table of its own (zipcode): one page read an entity
        + feature service credit_v1
            served with the next snapshot
        + feature service pairs
            served with the next snapshot
        9 to create, 0 to update, 0 to delete, 0 unchanged
    "#]],
    );
}

#[test]
fn equal_definitions_change_nothing() {
    let definitions = definitions(CREDIT);
    assert!(!diff(Some(&definitions), &definitions).is_changed());
}

#[test]
fn changes_say_what_they_mean_for_what_is_served() {
    let after = CREDIT
        .replace("ttl: 3650d", "ttl: 30d")
        .replace("{ name: city, dtype: string }, ", "{ name: state, dtype: string }, ")
        .replace("name: population, dtype: int64", "name: population, dtype: float64")
        .replace("available_after: 2h", "available_after: 3h\n    group: slow")
        .replace("path: data/history.csv", "path: data/other.csv")
        .replace("  - name: pairs\n", "  - name: couples\n");
    check(
        Some(CREDIT),
        &after,
        expect![[r#"
            ~ source bureau
                path: "data/history.csv" -> "data/other.csv"
                the next `mezze materialize-incremental` reads all of its files again
            ~ feature view credit_history
                available_after: "2h" -> "3h"
                group: null -> "slow"
                moves from table dob_ssn:string to dob_ssn:string/slow: both are written anew with the next snapshot
                training sets made from now on see its rows at other times
            ~ feature view zipcode_features
                ttl: "3650d" -> "30d"
                schema: [{"name":"city","dtype":"string"},{"name":"population","dtype":"int64"}] -> [{"name":"state","dtype":"string"},{"name":"population","dtype":"float64"}]
                retain: "7300d" -> "60d"
                the new ttl counts in joins at once, and in serving from the next snapshot on
                `state` is new: null until the next `mezze materialize`
                `population` changes from int64 to float64: snapshots keep the old type until the next `mezze materialize`
                `city` is no longer served from the next snapshot on
            + feature service couples
                served with the next snapshot
            ~ feature service credit_v1
                features: [{"view":"zipcode_features","features":["city","population"]},{"view":"credit_history","features":["mortgage_due"]}] -> [{"view":"zipcode_features","features":["state","population"]},{"view":"credit_history","features":["mortgage_due"]}]
                takes effect with the next snapshot
            - feature service pairs
                no longer served from the next snapshot on; requests for it then get status 404
            1 to create, 4 to update, 1 to delete, 4 unchanged
        "#]],
    );
}

#[test]
fn removals_say_what_they_mean_for_what_is_served() {
    let before = "entities: [{ name: x }]\nsources: [{ name: s, path: p.csv, timestamp_field: t }]\n\
                  feature_views: [{ name: v, entities: [x], source: s, schema: [{ name: f, dtype: int64 }] }]\n\
                  feature_services: [{ name: all, features: [v] }]\n";
    check(
        Some(before),
        "entities: [{ name: x, value_type: string }]\n",
        expect![[r#"
        ~ entity x
            value_type: "int64" -> "string"
            every table with this key is built anew: run `mezze materialize` over the whole history
        - source s
        - feature view v
            no longer served from the next snapshot on; requests for it then get status 404
        - feature service all
            no longer served from the next snapshot on; requests for it then get status 404
        0 to create, 1 to update, 3 to delete, 0 unchanged
    "#]],
    );
}
