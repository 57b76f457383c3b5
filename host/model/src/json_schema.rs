//! The JSON Schema of the definition files, so that editors complete and check them.

use serde_json::{Map, Value as Json, json};

use crate::keys::{FEATURES, Form, Object, STORE};

/// The JSON Schema (draft 2020-12) of the files in `features/`.
pub fn features_schema() -> Json {
    document("https://json-schema.org/draft/2020-12/schema", "Feature definitions of Mezze", &FEATURES)
}

/// The JSON Schema (draft 2020-12) of `feature_store.yaml`.
pub fn store_schema() -> Json {
    document("https://json-schema.org/draft/2020-12/schema", "Configuration of a Mezze repository", &STORE)
}

fn document(dialect: &str, title: &str, root: &Object) -> Json {
    let mut schema = Map::new();
    schema.insert("$schema".into(), json!(dialect));
    schema.insert("title".into(), json!(title));
    if let Json::Object(fields) = object(root) {
        schema.extend(fields);
    }
    Json::Object(schema)
}

fn object(object: &Object) -> Json {
    let mut properties = Map::new();
    for key in object.keys {
        let mut form = form(&key.form);
        if let Json::Object(fields) = &mut form {
            fields.insert("description".into(), json!(key.about));
        }
        properties.insert(key.name.into(), form);
    }
    let required: Vec<&str> = object.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn form(form_of: &Form) -> Json {
    match form_of {
        Form::Choice(words) => json!({ "enum": words }),
        Form::Count => json!({ "type": "integer", "minimum": 1 }),
        Form::Flag => json!({ "type": "boolean" }),
        Form::List(item) => json!({ "type": "array", "items": form(item) }),
        Form::Map(item) => json!({ "type": "object", "additionalProperties": form(item) }),
        Form::Name => json!({ "type": "string", "pattern": "^[\\p{L}\\p{N}_][\\p{L}\\p{N}_.-]*$" }),
        Form::Object(inner) => object(inner),
        Form::Selector(inner) => json!({ "anyOf": [{ "type": "string" }, object(inner)] }),
        Form::Size => json!({ "type": ["string", "integer"] }),
        Form::Span => json!({ "anyOf": [{ "const": 0 }, { "type": "string", "pattern": SPAN }] }),
        Form::Variant(variants) => {
            let one_of = |(name, inner): &(&str, &Object)| {
                let mut schema = object(inner);
                if let Some(kind) = schema.pointer_mut("/properties/type") {
                    *kind = json!({ "const": name });
                }
                schema
            };
            json!({ "oneOf": variants.iter().map(one_of).collect::<Vec<_>>() })
        }
        // YAML takes some texts for numbers or flags.
        Form::Text => json!({ "type": ["string", "number", "boolean"] }),
        Form::Type => json!({ "type": "string" }),
    }
}

/// The form of a length of time.
const SPAN: &str = "^([0-9]+(w|d|h|m|s|ms|us|ns))+$|^0$";
