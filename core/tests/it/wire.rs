//! Requests as they come from outside, beside general readers of the same formats.

use mezze_core::{MediaType, Request, Value, WireError};
use proptest::prelude::*;
use serde_json::Value as Json;

/// What JSON consists of, whole and broken, with and without sense.
#[rustfmt::skip]
const FRAGMENTS: [&[u8]; 44] = [
    b"[", b"]", b"{", b"}", b",", b":", b"\"", b"\\", b" ", b"\n", b"\t", b"\r", b"\x0c", b"\x00", b"\x7f", b"\xff", b"\xc3",
    b"\xc3\xa9", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"0", b"1", b"9", b"-", b"+", b".", b"e", b"E+",
    b"18446744073709551616", b"9223372036854775808", b"e400", b"null", b"true", b"false", b"nul", b"NaN", b"\"a\"", b"\\n",
    b"\\/", b"\\x", b"\\u0000", b"\\ud83d", b"\\ude00", b"\\u00E",
];

/// JSON without two equal keys in an object, which general readers take.
fn json() -> impl Strategy<Value = Json> {
    let scalar = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<String>().prop_map(Json::from),
    ];
    scalar.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::hash_map(any::<String>(), inner, 0..4).prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

/// JSON in which a few places were overwritten, cut out or extended by fragments; or fragments only.
fn damaged_json() -> impl Strategy<Value = Vec<u8>> {
    let fragment = proptest::sample::select(FRAGMENTS.as_slice());
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), fragment.clone(), 0..3_usize), 0..4);
    let edited = (json(), any::<bool>(), edits).prop_map(|(json, pretty, edits)| {
        let text = if pretty { serde_json::to_vec_pretty(&json) } else { serde_json::to_vec(&json) };
        let mut text = text.expect("it is JSON");
        for (at, fragment, cut) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, fragment.iter().copied());
        }
        text
    });
    let soup = proptest::collection::vec(fragment, 0..12).prop_map(|fragments| fragments.concat());
    prop_oneof![3 => edited, 1 => soup]
}

/// The value that a request has where a general reader has this one.
fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => Value::Int(value),
            None => Value::Float64(number.as_f64().expect("every number has a nearest float")),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(values) => Value::List(values.iter().map(value_of).collect()),
        Json::Object(entries) => Value::Map(entries.iter().map(|(key, value)| (key.clone(), value_of(value))).collect()),
    }
}

/// As a general reader has it, whose objects are in no order of the text's.
fn in_order(value: &Value) -> Value {
    match value {
        Value::List(values) => Value::List(values.iter().map(in_order).collect()),
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().map(|(key, value)| (key.clone(), in_order(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Map(entries)
        }
        other => other.clone(),
    }
}

/// That the one row of column `k` is what a general reader finds there, and that both refuse the same bodies.
fn check_alike(read: Result<Request, WireError>, general: Option<&Json>) -> Result<(), TestCaseError> {
    match (read, general) {
        (Ok(request), Some(json)) => {
            let rows: Vec<Value> = request.entities[0].values.iter().map(in_order).collect();
            let expected: Vec<Value> =
                json["entities"]["k"].as_array().expect("it is a list").iter().map(|row| in_order(&value_of(row))).collect();
            prop_assert_eq!(format!("{rows:?}"), format!("{expected:?}"));
        }
        // A fragment that closes the request may leave it without sense before it is without form.
        (Err(WireError::Syntax { .. } | WireError::Invalid { .. }), None) => {}
        // What is sound in its form may be refused for its sense: general readers let the last of two equal keys win.
        (Err(WireError::Invalid { detail }), Some(_)) => prop_assert!(detail.contains("is there twice"), "{}", detail),
        (read, general) => prop_assert!(false, "read as {read:?}, by a general reader as {general:?}"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_row_of_json_is_read_as_a_general_reader_reads_it(row in damaged_json()) {
        let body = [br#"{"feature_service": "s", "entities": {"k": ["#, row.as_slice(), b"]}}"].concat();
        let general: Option<Json> = serde_json::from_slice(&body).ok();
        // A row with fragments that close the list may still be JSON, but no request of one column.
        prop_assume!(general.as_ref().is_none_or(|json| json.as_object().is_some_and(|fields| fields.len() == 2)));
        prop_assume!(general.as_ref().is_none_or(|json| json["entities"].as_object().is_some_and(|columns| columns.len() == 1)));
        let read = Request::from_body(&body, MediaType::Json);
        check_alike(read, general.as_ref())?;
    }

    #[test]
    fn what_a_request_ignores_is_json_all_the_same(ignored in damaged_json()) {
        let body = [br#"{"x": "#, ignored.as_slice(), br#", "feature_service": "s", "entities": {"k": [7]}}"#].concat();
        let general: Option<Json> = serde_json::from_slice(&body).ok();
        let read = Request::from_body(&body, MediaType::Json);
        check_alike(read, general.as_ref())?;
    }

    #[test]
    fn a_row_of_messagepack_is_read_as_a_general_reader_reads_it(
        row in json(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut packed = rmp_serde::to_vec(&row).expect("it is MessagePack");
        for (at, byte) in edits {
            let at = at.index(packed.len());
            packed[at] = byte;
        }
        let body = [b"\x82\xaffeature_service\xa1s\xa8entities\x81\xa1k\x91".as_slice(), &packed].concat();
        let read = Request::from_body(&body, MediaType::MessagePack);
        let mut rest = body.as_slice();
        let general: Option<Json> = rmp_serde::from_read(&mut rest).ok();
        // JSON has no bytes, extensions, floats that are no numbers, or keys other than text; trailing bytes are read past.
        let Some(general) = general.filter(|_| rest.is_empty()) else { return Ok(()) };
        if let Ok(request) = &read {
            prop_assume!(!format!("{request:?}").contains("Bytes") && !format!("{request:?}").contains("NaN") && !format!("{request:?}").contains("inf"));
        }
        match &read {
            // Keys of other types are text to the general reader.
            Err(WireError::Invalid { detail }) => prop_assert!(detail.contains("text for a key") || detail.contains("is there twice") || detail.contains("extension"), "{}", detail),
            _ => check_alike(read, Some(&general))?,
        }
    }
}
