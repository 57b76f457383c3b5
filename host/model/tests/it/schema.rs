//! The JSON Schema, and the page on definitions.

use std::collections::BTreeSet;

use serde_json::Value as Json;

const PAGE: &str = include_str!("../../../../docs/DEFINITIONS.md");

/// Every key of a schema, wherever it is.
fn keys(schema: &Json, found: &mut BTreeSet<String>) {
    match schema {
        Json::Object(fields) => {
            if let Some(Json::Object(properties)) = fields.get("properties") {
                found.extend(properties.keys().cloned());
            }
            fields.values().for_each(|value| keys(value, found));
        }
        Json::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

#[test]
fn every_key_is_on_the_page() {
    let mut found = BTreeSet::new();
    keys(&mezze_model::features_schema(), &mut found);
    keys(&mezze_model::store_schema(), &mut found);
    assert!(found.contains("available_after") && found.contains("replicas"), "{found:?}");
    for key in found {
        assert!(PAGE.contains(&format!("| `{key}` |")), "docs/DEFINITIONS.md does not have the key `{key}`");
    }
}

#[test]
fn the_examples_of_the_page_are_right() {
    let mut blocks = PAGE.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().expect("a block ends"));
    let store = blocks.next().expect("the first is feature_store.yaml");
    let folder = crate::repo(&[("features.yaml", blocks.next().expect("the second is a file in features/"))]);
    std::fs::write(folder.path().join("feature_store.yaml"), store).expect("it can be written");
    crate::load(&folder).expect("the examples are right");
}

#[test]
fn the_schemas_say_what_is_required_and_allow_nothing_else() {
    let schema = mezze_model::features_schema();
    let view = &schema["properties"]["feature_views"]["items"];
    assert_eq!(view["required"], serde_json::json!(["name", "source"]));
    assert_eq!(view["additionalProperties"], false);
    assert_eq!(view["properties"]["audience"]["enum"], serde_json::json!(["server", "public"]));
    let described = view["properties"]["ttl"]["description"].as_str().expect("every key is described");
    assert!(described.contains("1d or 90m"));
}
