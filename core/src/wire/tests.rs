//! Both directions of both formats, and docs/WIRE.md, which these tests hold to its word.

use alloc::{borrow::Cow, format, string::String, string::ToString, vec, vec::Vec};

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::encoder::Encoder;
use super::{MediaType, REQUEST_VALUES_MAX, WireError, write_error_json};
use crate::{
    Cell, Column, EntityColumn, Expired, Physical, Request, Response, RowState, Selection, Status, TYPE_DEPTH_MAX, Timestamp,
    Value, ValueType, encode_payload,
};

const REFERENCE: &str = include_str!("../../../docs/WIRE.md");

fn from_json(body: &[u8]) -> Result<Request, WireError> {
    Request::from_body(body, MediaType::Json)
}

fn from_msgpack(body: &[u8]) -> Result<Request, WireError> {
    Request::from_body(body, MediaType::MessagePack)
}

fn type_of(text: &str) -> ValueType {
    text.parse().expect("the type is well-formed")
}

/// A value of every type, and what it is in JSON.
fn samples() -> Vec<(&'static str, Value, &'static str)> {
    let uuid = |version: u8, variant: u8| {
        Value::Bytes(vec![0x01, 0x23, 0x45, 0x67, 0x89, 0xab, version, 0xef, variant, 1, 2, 3, 4, 5, 6, 7])
    };
    vec![
        ("bool", Value::Bool(true), "true"),
        ("int32", Value::Int(-7), "-7"),
        ("int64", Value::Int((1 << 53) + 1), "9007199254740993"),
        ("float32", Value::Float32(0.1), "0.10000000149011612"),
        ("float64", Value::Float64(1e16), "1e+16"),
        ("string", Value::String("Zürich \"N\"\n".into()), r#""Zürich \"N\"\n""#),
        ("bytes", Value::Bytes(vec![0, 255]), r#""AP8=""#),
        ("unix_timestamp", Value::Int(1_795_410_000_900_000_000), "1795410000"),
        (
            "zoned_timestamp",
            Value::Zoned { nanos: 1_795_410_000_500_000_000, offset_seconds: 7_200 },
            r#""2026-11-23T07:00:00.500+02:00""#,
        ),
        ("uuid", uuid(0xcd, 0), r#""01234567-89ab-cdef-0001-020304050607""#),
        ("time_uuid", uuid(0x11, 0x80), r#""01234567-89ab-11ef-8001-020304050607""#),
        ("decimal", Value::String("1.10".into()), r#""1.10""#),
        ("json", Value::String(r#"{"a": 1}"#.into()), r#""{\"a\": 1}""#),
        ("list<int64>", Value::List(vec![Value::Int(1), Value::Null, Value::Int(3)]), "[1,null,3]"),
        ("set<string>", Value::List(vec![Value::String("a".into()), Value::String("b".into())]), r#"["a","b"]"#),
        ("map<float64>", Value::Map(vec![("b".into(), Value::Float64(0.5)), ("a".into(), Value::Null)]), r#"{"b":0.5,"a":null}"#),
        (
            "struct<lat: float64, zones: list<string>>",
            Value::List(vec![Value::Float64(47.5), Value::List(vec![Value::String("east".into())])]),
            r#"{"lat":47.5,"zones":["east"]}"#,
        ),
    ]
}

/// A value as a page has it.
fn paged<'a>(value_type: &ValueType, value: &Value, payload: &'a mut Vec<u8>) -> Cell<'a> {
    match (value_type.physical(), value) {
        (_, Value::Null) => Cell::Null,
        (_, Value::Bool(value)) => Cell::Int(i64::from(*value)),
        (_, Value::Float32(value)) => Cell::Float32(*value),
        (_, Value::Float64(value)) => Cell::Float64(*value),
        (Physical::Int, Value::Int(value)) => Cell::Int(*value),
        _ => {
            encode_payload(value_type, value, payload).expect("the value is of the type");
            Cell::Bytes(payload)
        }
    }
}

/// One column of one view, a row for each cell.
fn response_of<'a>(value_type: &'a ValueType, cells: Vec<Cell<'a>>) -> Response<'a> {
    Response {
        row_count: cells.len(),
        columns: vec![Column { name: Cow::Borrowed("f"), value_type, group: 0 }],
        rows: vec![RowState { status: Status::Present, event_time: Timestamp::EPOCH }; cells.len()],
        cells,
        views: None,
        made: vec![],
        faults: vec![],
    }
}

fn json_of(response: &Response<'_>) -> String {
    let mut out = Vec::new();
    response.write(MediaType::Json, &mut out).expect("the response is sound");
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// The values of a response of one column, as they stand in its JSON.
fn values_json(value_type: &ValueType, cells: Vec<Cell<'_>>) -> String {
    let json = json_of(&response_of(value_type, cells));
    let values = json.strip_prefix(r#"{"results":[{"values":["#).and_then(|rest| rest.split_once(r#"],"statuses""#));
    values.expect("the values come first").0.into()
}

#[test]
fn every_type_has_its_form_from_a_page_from_a_request_and_in_the_reference() {
    for (type_text, value, json) in samples() {
        let value_type = type_of(type_text);
        let mut payload = Vec::new();
        let cell = paged(&value_type, &value, &mut payload);
        assert_eq!(values_json(&value_type, vec![cell, Cell::Null]), format!("{json},null"), "{type_text} from a page");
        assert_eq!(values_json(&value_type, vec![Cell::Request(&value)]), json, "{type_text} from a request");
        // Any type may lie in a list, where scalars have payloads.
        let list = ValueType::List(alloc::boxed::Box::new(value_type));
        let values = Value::List(vec![value, Value::Null]);
        let mut payload = Vec::new();
        let cell = paged(&list, &values, &mut payload);
        assert_eq!(values_json(&list, vec![cell]), format!("[{json},null]"), "{type_text} in a list");
        let documented = REFERENCE
            .lines()
            .any(|line| line.starts_with(&format!("| `{type_text}` |")) && line.ends_with(&format!("| `{json}` |")));
        assert!(documented, "docs/WIRE.md has no row for {type_text} with the example {json}");
    }
}

#[test]
fn floats_are_written_in_their_shortest_form_and_what_is_no_number_as_text() {
    let floats =
        [0.0, -0.0, 1.0, -2.5, 0.1, 1e15, 1e16, 1e21, 1e-5, 5e-324, f64::MAX, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    expect![[r#"0.0,-0.0,1.0,-2.5,0.1,1000000000000000.0,1e+16,1e+21,0.00001,5e-324,1.7976931348623157e+308,"NaN","Infinity","-Infinity""#]]
    .assert_eq(&values_json(&ValueType::Float64, floats.iter().map(|float| Cell::Float64(*float)).collect()));
    let floats = [1.0, 0.1, f32::MIN_POSITIVE, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    expect![[r#"1.0,0.10000000149011612,1.1754943508222875e-38,"NaN","Infinity","-Infinity""#]]
        .assert_eq(&values_json(&ValueType::Float32, floats.iter().map(|float| Cell::Float32(*float)).collect()));
}

#[test]
fn integers_and_instants_keep_their_ends() {
    let ends = || vec![Cell::Int(i64::MIN), Cell::Int(i64::MAX), Cell::Int(0), Cell::Int(-1)];
    expect!["-9223372036854775808,9223372036854775807,0,-1"].assert_eq(&values_json(&ValueType::Int64, ends()));
    expect!["-9223372037,9223372036,0,-1"].assert_eq(&values_json(&ValueType::UnixTimestamp, ends()));
}

#[test]
fn instants_with_an_offset_show_local_time_or_else_utc() {
    let zoned = |nanos, offset_seconds| Value::Zoned { nanos, offset_seconds };
    let values = [
        zoned(0, 0),
        zoned(0, -16_200),
        zoned(0, 86_340),
        zoned(0, 30),
        zoned(0, 86_400),
        zoned(0, i32::MIN),
        zoned(i64::MAX, 3_600),
        zoned(1, -3_600),
    ];
    expect![[
        r#""1970-01-01T00:00:00+00:00","1969-12-31T19:30:00-04:30","1970-01-01T23:59:00+23:59","1970-01-01T00:00:00+00:00","1970-01-01T00:00:00+00:00","1970-01-01T00:00:00+00:00","2262-04-11T23:47:16.854775807+00:00","1969-12-31T23:00:00.000000001-01:00""#
    ]]
    .assert_eq(&values_json(&ValueType::ZonedTimestamp, values.iter().map(Cell::Request).collect()));
}

#[test]
fn every_character_of_text_is_escaped_as_json_wants_it() {
    let text: String = (0..0x80).chain([0x80, 0x2028, 0xd7ff, 0xe000, 0x1_0000, 0x10_ffff]).filter_map(char::from_u32).collect();
    let json = values_json(&ValueType::String, vec![Cell::Bytes(text.as_bytes())]);
    assert_eq!(serde_json::from_str::<String>(&json).ok(), Some(text.clone()));
    assert_eq!(Some(json), serde_json::to_string(&text).ok());
}

/// The response of the reference, with every status but `OUTSIDE_MAX_AGE`.
fn documented_response<'a>(ids: &'a [Value]) -> Response<'a> {
    let at = |text| Timestamp::parse(text).expect("the instant is well-formed");
    let state = |status, event_time| RowState { status, event_time };
    let column = |name, value_type, group| Column { name: Cow::Borrowed(name), value_type, group };
    Response {
        row_count: 3,
        columns: vec![
            column("driver_id", &ValueType::Int64, 0),
            column("conv_rate", &ValueType::Float64, 1),
            column("avg_daily_trips", &ValueType::Int64, 1),
        ],
        rows: vec![
            state(Status::Present, Timestamp::EPOCH),
            state(Status::Present, Timestamp::EPOCH),
            state(Status::Present, Timestamp::EPOCH),
            state(Status::Present, at("2026-11-23T05:00:00Z")),
            state(Status::Present, at("2026-11-23T05:00:00.25Z")),
            state(Status::NotFound, Timestamp::EPOCH),
        ],
        cells: ids
            .iter()
            .map(Cell::Request)
            .chain([Cell::Float64(0.5), Cell::Null, Cell::Null])
            .chain([Cell::Int(368), Cell::Int(12), Cell::Null])
            .collect(),
        views: Some(vec!["driver_stats".into()]),
        made: vec![],
        faults: vec![],
    }
}

/// The code blocks of the reference that are marked so.
fn documented(mark: &str) -> Vec<&'static str> {
    let start = format!("```json {mark}\n");
    let blocks = REFERENCE.split(start.as_str()).skip(1);
    blocks.map(|block| block.split_once("\n```").expect("the block ends").0).collect()
}

/// JSON without the white space between its parts.
fn compact(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let keep = |character: &char| {
        let keep = in_text || !character.is_whitespace();
        in_text ^= *character == '"' && !escaped;
        escaped = in_text && *character == '\\' && !escaped;
        keep
    };
    json.chars().filter(keep).collect()
}

#[test]
fn the_response_of_the_reference_is_written_byte_for_byte() {
    let ids = [Value::Int(1001), Value::Int(1002), Value::Int(9999)];
    assert_eq!(documented("response").into_iter().map(compact).collect::<Vec<_>>(), [json_of(&documented_response(&ids))]);
}

#[test]
fn the_requests_of_the_reference_are_read() {
    let ints = |name: &str, values: &[i64]| EntityColumn::new(name, values.iter().map(|value| Value::Int(*value)).collect());
    let first = Request::new(
        Selection::Features(vec!["driver_stats:conv_rate".into(), "driver_stats:avg_daily_trips".into()]),
        vec![ints("driver_id", &[1001, 1002, 9999])],
    );
    let mut second = Request::new(
        Selection::Service("driver_activity_v1".into()),
        vec![ints("driver_id", &[1001, 1001]), ints("val_to_add", &[1, 2])],
    );
    second.full_feature_names = true;
    second.include_view_metadata = true;
    second.expired = Expired::Value;
    let requests: Vec<_> = documented("request").into_iter().map(|json| from_json(json.as_bytes())).collect();
    assert_eq!(requests, [Ok(first), Ok(second)]);
}

#[test]
fn an_error_is_the_string_of_json_that_the_reference_shows() {
    let body = br#"{"features": ["v:f"], "entities": {"driver_id": [1, 2, 3], "val_to_add": [1, 2]}}"#;
    let error = from_json(body).expect_err("the columns are ragged");
    let mut out = Vec::new();
    write_error_json(error.feast_class(), &error.to_string(), &mut out);
    assert_eq!(documented("error"), [String::from_utf8(out).expect("JSON is UTF-8")]);
}

#[test]
fn an_error_reads_back_whatever_its_message() {
    let message: String = (0..0x100).filter_map(char::from_u32).collect();
    let mut out = vec![b'x'];
    write_error_json("FeatureViewNotFoundException", &message, &mut out);
    let object: String = serde_json::from_slice(&out[1..]).expect("the body is a JSON string");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&object).ok(),
        Some(json!({"module": "feast.errors", "class": "FeatureViewNotFoundException", "message": message}))
    );
}

#[test]
fn every_status_is_written_and_nulls_differ_from_the_rest_of_their_group() {
    let state = |status| RowState { status, event_time: Timestamp::from_seconds(1) };
    let column = |name| Column { name: Cow::Borrowed(name), value_type: &ValueType::Int64, group: 0 };
    let response = Response {
        row_count: 3,
        columns: vec![column("a"), column("b"), column("c"), column("d")],
        rows: vec![state(Status::Present), state(Status::NotFound), state(Status::OutsideMaxAge)],
        cells: [
            [Cell::Null, Cell::Null, Cell::Null],
            [Cell::Int(1), Cell::Null, Cell::Int(2)],
            [Cell::Null, Cell::Null, Cell::Int(3)],
            [Cell::Int(4), Cell::Null, Cell::Null],
        ]
        .concat(),
        views: None,
        made: vec![],
        faults: vec![],
    };
    let parsed: serde_json::Value = serde_json::from_str(&json_of(&response)).expect("the response is JSON");
    let statuses: Vec<_> = (0..4).map(|column| parsed["results"][column]["statuses"].to_string()).collect();
    expect![[r#"
        ["NULL_VALUE","NOT_FOUND","OUTSIDE_MAX_AGE"]
        ["PRESENT","NOT_FOUND","OUTSIDE_MAX_AGE"]
        ["NULL_VALUE","NOT_FOUND","OUTSIDE_MAX_AGE"]
        ["PRESENT","NOT_FOUND","OUTSIDE_MAX_AGE"]"#]]
    .assert_eq(&statuses.join("\n"));
}

#[test]
fn a_response_of_nothing_is_whole() {
    let response =
        Response { row_count: 0, columns: vec![], rows: vec![], cells: vec![], views: None, made: vec![], faults: vec![] };
    expect![[r#"{"results":[],"metadata":{"feature_names":[]}}"#]].assert_eq(&json_of(&response));
    let response = response_of(&ValueType::Int64, vec![]);
    expect![[r#"{"results":[{"values":[],"statuses":[],"event_timestamps":[]}],"metadata":{"feature_names":["f"]}}"#]]
        .assert_eq(&json_of(&response));
}

#[test]
fn a_damaged_value_is_an_error_that_names_its_place_and_leaves_the_output_alone() {
    let value_type = type_of("list<string>");
    let response = response_of(&value_type, vec![Cell::Null, Cell::Bytes(&[9, 9])]);
    let mut out = b"before".to_vec();
    let error = response.write(MediaType::Json, &mut out).expect_err("the payload is damaged");
    assert_eq!(error.to_string(), "column `f`, row 1: the payload of a value is damaged");
    assert_eq!((error.http_status(), out.as_slice()), (500, b"before".as_slice()));
    let response = response_of(&value_type, vec![Cell::Int(1)]);
    let error = response.write(MediaType::Json, &mut out).expect_err("the cell is of another type");
    assert_eq!(error.to_string(), "column `f`, row 0: value is not of type list<string>");
}

/// The error of a request, with its HTTP status.
fn refused(body: impl AsRef<[u8]>) -> String {
    match from_json(body.as_ref()) {
        Ok(request) => format!("no error but {request:?}"),
        Err(error) => format!("{} {error}", error.http_status()),
    }
}

fn check_refused(bodies: &[&str], expected: Expect) {
    expected.assert_eq(&bodies.iter().map(refused).collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_is_not_json_is_refused_with_its_place() {
    check_refused(
        &[
            "",
            "{",
            "[1",
            r#"{"features": ["a:b"], "entities": {"k": [1,]}}"#,
            r#"{"features": ["v:f"], "entities": {}} x"#,
            "\u{feff}{}",
        ],
        expect![[r#"
            400 request body is not JSON: it ends early at line 1 column 1
            400 request body is not JSON: it ends early at line 1 column 2
            422 request: found a list, expected an object with `entities` and `features` or `feature_service` at line 1 column 1
            400 request body is not JSON: expected a value at line 1 column 44
            400 request body is not JSON: there is more after the request at line 1 column 39
            400 request body is not JSON: expected a value at line 1 column 1"#]],
    );
    assert_eq!(
        refused(b"{\"feature_service\": \"\xff\"}"),
        "400 request body is not JSON: the text is not UTF-8 at line 1 column 22"
    );
}

#[test]
fn what_is_no_request_is_refused_by_the_name_of_its_field() {
    check_refused(
        &[
            "7",
            "null",
            "{}",
            r#"{"entities": {"k": [1]}}"#,
            r#"{"features": ["v:f"]}"#,
            r#"{"features": null, "feature_service": null, "entities": {}}"#,
            r#"{"features": ["v:f"], "feature_service": "s", "entities": {}}"#,
            r#"{"features": "v:f", "entities": {}}"#,
            r#"{"features": ["v:f", 7], "entities": {}}"#,
            r#"{"feature_service": ["s"], "entities": {}}"#,
            r#"{"feature_service": "s", "entities": [{"k": 1}]}"#,
            r#"{"feature_service": "s", "entities": {"k": 1}}"#,
            r#"{"feature_service": "s", "entities": {"k": {"val": [1]}}}"#,
            r#"{"feature_service": "s", "entities": {}, "full_feature_names": "yes"}"#,
            r#"{"feature_service": "s", "entities": {}, "include_feature_view_version_metadata": null}"#,
            r#"{"feature_service": "s", "entities": {}, "expired": "keep"}"#,
        ],
        expect![[r#"
            422 request: found the number 7, expected an object with `entities` and `features` or `feature_service` at line 1 column 1
            422 request: found null, expected an object with `entities` and `features` or `feature_service` at line 1 column 1
            422 request: `features` or `feature_service` is missing, expected one of them at line 1 column 2
            422 request: `features` or `feature_service` is missing, expected one of them at line 1 column 24
            422 request: `entities` is missing, expected an object of lists, one for each join key at line 1 column 21
            422 request: `features` or `feature_service` is missing, expected one of them at line 1 column 59
            422 request: `features` and `feature_service` are both there, expected one of them at line 1 column 61
            422 request: found the text `v:f`, expected a list of feature references for `features` at line 1 column 14
            422 request: found the number 7, expected a feature reference `view:feature` for `features`, element 1 at line 1 column 22
            422 request: found a list, expected the name of a feature service for `feature_service` at line 1 column 21
            422 request: found a list, expected an object of lists, one for each join key, for `entities` at line 1 column 38
            422 request: found the number 1, expected a list of values for entity column `k` at line 1 column 44
            422 request: found an object, expected a list of values for entity column `k` at line 1 column 44
            422 request: found the text `yes`, expected true or false for `full_feature_names` at line 1 column 64
            422 request: found null, expected true or false for `include_feature_view_version_metadata` at line 1 column 83
            422 request: found the text `keep`, expected the text `null` or `value` for `expired` at line 1 column 53"#]],
    );
}

#[test]
fn what_is_there_twice_is_refused() {
    check_refused(
        &[
            r#"{"feature_service": "s", "entities": {}, "entities": {}}"#,
            r#"{"feature_service": "s", "feature_service": "s", "entities": {}}"#,
            r#"{"feature_service": "s", "entities": {"k": [1], "l": [1], "k": [1]}}"#,
            r#"{"feature_service": "s", "entities": {"k": [1, {"a": 1, "b": 2, "a": 3}]}}"#,
        ],
        expect![[r#"
            422 request: `entities` is there twice at line 1 column 42
            422 request: `feature_service` is there twice at line 1 column 26
            422 request: entity column `k` is there twice at line 1 column 38
            422 request: entity column `k`, row 1: key `a` is there twice at line 1 column 48"#]],
    );
}

#[test]
fn an_error_quotes_no_more_than_the_ends_of_what_it_quotes() {
    let long = "ä".repeat(100_000);
    for body in [
        format!(r#"{{"features": "{long}", "entities": {{}}}}"#),
        format!(r#"{{"feature_service": "s", "entities": {{"{long}": [1], "{long}": [1]}}}}"#),
        format!(r#"{{"feature_service": "s", "entities": {{"{long}": [1], "b{long}": []}}}}"#),
    ] {
        assert!(refused(&body).len() < 1_000, "{}", refused(&body));
    }
    assert!(refused(format!(r#"{{"features": "{long}"}}"#)).ends_with(" at line 1 column 14"));
}

#[test]
fn ragged_columns_are_refused_by_their_names_and_lengths() {
    check_refused(
        &[r#"{"feature_service": "s", "entities": {"a": [1, 2], "b": [3, 4], "c": []}}"#],
        expect!["400 entity column `a` has 2 values and `c` has 0; give each column one value per entity row"],
    );
}

/// A request whose only value is 1 in that many lists.
fn nested(levels: usize) -> String {
    format!(r#"{{"feature_service": "s", "entities": {{"k": [0, {}1{}]}}}}"#, "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn a_value_as_deep_as_types_go_is_read_and_a_deeper_one_refused() {
    assert!(from_json(nested(TYPE_DEPTH_MAX - 1).as_bytes()).is_ok());
    let expected = "422 request: entity column `k`, row 1: value is nested deeper than 16 levels at line 1 column 63";
    assert_eq!(refused(nested(TYPE_DEPTH_MAX)), expected);
    assert_eq!(refused(nested(1_000_000)), expected);
    // What is ignored may be as deep as it likes.
    let ignored = format!(r#"{{"x": {}{}, "feature_service": "s", "entities": {{}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(from_json(ignored.as_bytes()).is_ok());
}

#[test]
fn a_request_of_too_many_values_is_refused() {
    let body = |count: usize| format!(r#"{{"feature_service": "s", "entities": {{"k": [{}0]}}}}"#, "0,".repeat(count - 1));
    // The column itself counts.
    assert!(from_json(body(REQUEST_VALUES_MAX - 1).as_bytes()).is_ok());
    assert_eq!(refused(body(REQUEST_VALUES_MAX)), "413 request has more than 1048576 values; split it");
}

/// The values of the column `k` of a request.
fn read_values(values: &str) -> Vec<Value> {
    let body = format!(r#"{{"feature_service": "s", "entities": {{"k": {values}}}}}"#);
    let mut request = from_json(body.as_bytes()).expect("the request is well-formed");
    request.entities.remove(0).values
}

#[test]
fn values_are_read_as_they_are() {
    assert_eq!(
        read_values(
            r#"[null, true, -9223372036854775808, 9223372036854775807, "a\u00fc\n", 1.0, [1, "x"], {"b": null, "a": [2]}]"#
        ),
        [
            Value::Null,
            Value::Bool(true),
            Value::Int(i64::MIN),
            Value::Int(i64::MAX),
            Value::String("aü\n".into()),
            Value::Float64(1.0),
            Value::List(vec![Value::Int(1), Value::String("x".into())]),
            Value::Map(vec![("b".into(), Value::Null), ("a".into(), Value::List(vec![Value::Int(2)]))]),
        ]
    );
    // Integers of more than 64 signed bits are floats, never other integers.
    assert_eq!(
        read_values("[9223372036854775808, 18446744073709551616, -9223372036854775809]"),
        [
            Value::Float64(9_223_372_036_854_775_808.0),
            Value::Float64(18_446_744_073_709_551_616.0),
            Value::Float64(-9.223372036854776e18)
        ]
    );
}

#[test]
fn columns_keep_their_order_and_unknown_fields_are_ignored() {
    let body =
        br#"{"query": {"a": [1]}, "entities": {"z": ["x"], "a": [1], "m": [null]}, "features": [], "feature_service": "s"}"#;
    let request = from_json(body).expect("the request is well-formed");
    let names: Vec<_> = request.entities.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["z", "a", "m"]);
    assert_eq!(request.selection, Selection::Service("s".into()));
    assert_eq!((request.full_feature_names, request.include_view_metadata, request.expired), (false, false, Expired::Null));
}

#[test]
fn media_types_are_found_by_their_names() {
    let json = Ok(MediaType::Json);
    for content_type in [None, Some("application/json"), Some("Application/JSON; charset=utf-8")] {
        assert_eq!(MediaType::from_content_type(content_type), json);
    }
    let error = MediaType::from_content_type(Some("text/csv; header=present")).expect_err("it is none of ours");
    assert_eq!(error.http_status(), 415);
    assert!(error.to_string().starts_with("content type `text/csv` is not supported, expected application/json"), "{error}");
    assert_eq!(MediaType::from_content_type(Some(MediaType::Json.name())), json);
}

mod msgpack {
    use super::*;
    use serde::Deserialize;

    fn msgpack_of(response: &Response<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        response.write(MediaType::MessagePack, &mut out).expect("the response is sound");
        out
    }

    fn refused_msgpack(body: &[u8]) -> String {
        match from_msgpack(body) {
            Ok(request) => format!("no error but {request:?}"),
            Err(error) => format!("{} {error}", error.http_status()),
        }
    }

    fn packed(request: &serde_json::Value) -> Vec<u8> {
        rmp_serde::to_vec(request).expect("JSON is MessagePack")
    }

    #[test]
    fn a_response_has_the_structure_of_its_json() {
        let ids = [Value::Int(1001), Value::Int(1002), Value::Int(9999)];
        let response = documented_response(&ids);
        let from_json: serde_json::Value = serde_json::from_str(&json_of(&response)).expect("the response is JSON");
        let packed: serde_json::Value = rmp_serde::from_slice(&msgpack_of(&response)).expect("the response is MessagePack");
        assert_eq!(packed, from_json);
    }

    #[test]
    fn every_type_has_its_form() {
        let show = |value_type: &ValueType, value: &Value| {
            let whole = msgpack_of(&response_of(value_type, vec![Cell::Request(value)]));
            let empty = msgpack_of(&response_of(value_type, vec![]));
            // After `results`, a list, a map, `values` and a list's marker.
            let start = empty.windows(6).position(|name| name == b"values").expect("the values come first") + 7;
            let end = whole.windows(9).position(|name| name == b"\xa8statuses").expect("the statuses come next");
            whole[start..end].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let mut lines = Vec::new();
        for (type_text, value, _) in samples() {
            lines.push(format!("{type_text} {}", show(&type_of(type_text), &value)));
        }
        lines.push(format!("nan {}", show(&ValueType::Float64, &Value::Float64(f64::from_bits(u64::MAX)))));
        lines.push(format!("null {}", show(&ValueType::Float64, &Value::Null)));
        expect![[r#"
            bool c3
            int32 f9
            int64 cf0020000000000001
            float32 ca3dcccccd
            float64 cb4341c37937e08000
            string ac5ac3bc7269636820224e220a
            bytes c40200ff
            unix_timestamp ce6b03c850
            zoned_timestamp bd323032362d31312d32335430373a30303a30302e3530302b30323a3030
            uuid d92430313233343536372d383961622d636465662d303030312d303230333034303530363037
            time_uuid d92430313233343536372d383961622d313165662d383030312d303230333034303530363037
            decimal a4312e3130
            json a87b2261223a20317d
            list<int64> 9301c003
            set<string> 92a161a162
            map<float64> 82a162cb3fe0000000000000a161c0
            struct<lat: float64, zones: list<string>> 82a36c6174cb4047c00000000000a57a6f6e657391a465617374
            nan cb7ff8000000000000
            null c0"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn integers_and_lengths_take_the_bytes_that_serde_gives_them() {
        let around = |power: u32| [-2, -1, 0, 1, 2].map(|step| (1_i64 << power) + step);
        let ints: Vec<i64> = [5, 7, 8, 15, 16, 31, 32, 62].into_iter().flat_map(around).flat_map(|int| [int, -int]).collect();
        let ints = [ints, vec![i64::MIN, i64::MAX, 0]].concat();
        let texts =
            ["".into(), "x".repeat(31), "x".repeat(32), "x".repeat(255), "x".repeat(256), "x".repeat(65_535), "x".repeat(65_536)];
        for value in ints.into_iter().map(|int| json!(int)).chain(texts.into_iter().map(|text| json!(text))) {
            let (value_type, owned) = match (value.as_i64(), value.as_str()) {
                (Some(int), _) => (ValueType::Int64, Value::Int(int)),
                (_, text) => (ValueType::String, Value::String(text.unwrap_or_default().into())),
            };
            let mut out = Vec::new();
            super::super::response_write::write_cell(
                &value_type,
                &Cell::Request(&owned),
                &[],
                &mut Encoder { media_type: MediaType::MessagePack, out: &mut out },
            )
            .expect("the value is of the type");
            assert_eq!(out, packed(&value));
        }
        for length in [0, 15, 16, 65_535, 65_536] {
            let list = Value::List(vec![Value::Null; length]);
            let mut out = Vec::new();
            let mut encoder = Encoder { media_type: MediaType::MessagePack, out: &mut out };
            super::super::response_write::write_cell(&type_of("list<int64>"), &Cell::Request(&list), &[], &mut encoder)
                .expect("it is a list");
            assert_eq!(out, packed(&json!(vec![(); length])));
        }
    }

    #[test]
    fn bytes_and_floats_are_themselves_in_requests() {
        #[derive(serde::Serialize)]
        struct Body {
            feature_service: &'static str,
            entities: alloc::collections::BTreeMap<&'static str, (Bytes, f32, f64)>,
        }
        struct Bytes;
        impl serde::Serialize for Bytes {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&[0, 255])
            }
        }
        let body = Body { feature_service: "s", entities: [("k", (Bytes, 0.5, f64::INFINITY))].into() };
        let request = from_msgpack(&rmp_serde::to_vec_named(&body).expect("it can be packed")).expect("it is a request");
        assert_eq!(
            request.entities,
            [EntityColumn::new("k", vec![Value::Bytes(vec![0, 255]), Value::Float64(0.5), Value::Float64(f64::INFINITY)])]
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let sound = packed(&json!({"feature_service": "s", "entities": {"k": [1]}}));
        let trailing = [sound.as_slice(), &[0x91]].concat();
        // By hand, as the order of members is that of no library.
        let deep = |levels: usize| {
            let before = b"\x82\xaffeature_service\xa1s\xa8entities\x81\xa1k\x92\x00".as_slice();
            [before, &vec![0x91; levels], &[1]].concat()
        };
        let bodies: [&[u8]; 9] = [
            &[],
            &sound[..sound.len() - 1],
            &trailing,
            &[0xc1],
            &[0x07],
            &[0xdf, 0xff, 0xff, 0xff, 0xff],
            &packed(&json!({"entities": {}})),
            &packed(&json!({"feature_service": "s", "entities": {"a": [1], "b": []}})),
            &deep(TYPE_DEPTH_MAX),
        ];
        expect![[r#"
            400 request body is not MessagePack: it ends early at byte 0
            400 request body is not MessagePack: it ends early at byte 32
            400 request body is not MessagePack: there is more after the request at byte 33
            400 request body is not MessagePack: c1 is no marker at byte 0
            422 request: found the number 7, expected an object with `entities` and `features` or `feature_service` at byte 0
            400 request body is not MessagePack: it ends early at byte 5
            422 request: `features` or `feature_service` is missing, expected one of them at byte 10
            400 entity column `a` has 1 values and `b` has 0; give each column one value per entity row
            422 request: entity column `k`, row 1: value is nested deeper than 16 levels at byte 48"#]]
        .assert_eq(&bodies.map(refused_msgpack).join("\n"));
        assert!(from_msgpack(&sound).is_ok());
        assert!(from_msgpack(&deep(TYPE_DEPTH_MAX - 1)).is_ok());
        let ext = [b"\x82\xaffeature_service\xa1s\xa8entities\x81\xa1k\x91".as_slice(), &[0xd4, 1, 1]].concat();
        expect!["422 request: found an extension, expected null, true, false, a number, text, bytes, a list or an object for entity column `k`, row 0 at byte 32"].assert_eq(&refused_msgpack(&ext));
    }

    #[test]
    fn ignored_depth_is_bounded() {
        let mut body = b"\x81\xa1x".to_vec();
        body.extend(core::iter::repeat_n(0x91, 1_000_000));
        expect!["400 request body is not MessagePack: it ends early at byte 1000003"].assert_eq(&refused_msgpack(&body));
    }

    #[test]
    fn media_types_of_requests_and_answers() {
        for name in ["application/msgpack", "application/x-msgpack", "application/vnd.msgpack"] {
            assert_eq!(MediaType::from_content_type(Some(name)), Ok(MediaType::MessagePack));
            assert_eq!(MediaType::negotiate(Some(name)), MediaType::MessagePack);
        }
        for (accept, expected) in [
            ("", MediaType::Json),
            ("*/*", MediaType::Json),
            ("text/html", MediaType::Json),
            ("application/json, application/msgpack", MediaType::Json),
            ("application/msgpack, application/json", MediaType::MessagePack),
            ("application/msgpack;q=0.5, application/json", MediaType::Json),
            ("application/json; q=0.499, application/msgpack; q=0.5", MediaType::MessagePack),
            ("application/msgpack;q=0", MediaType::Json),
            ("application/msgpack;q=2", MediaType::Json),
            ("application/msgpack;q=x", MediaType::Json),
            ("application/msgpack, */*", MediaType::MessagePack),
            ("application/vnd.msgpack;v=1;q=1.000,application/json;q=0.999", MediaType::MessagePack),
        ] {
            assert_eq!(MediaType::negotiate(Some(accept)), expected, "{accept}");
        }
        assert_eq!(MediaType::negotiate(None), MediaType::Json);
    }

    proptest! {
        #[test]
        fn json_and_messagepack_are_read_as_one_request(request in request_json()) {
            let from_json = from_json(&serde_json::to_vec(&request).expect("it is JSON"));
            let from_msgpack = from_msgpack(&packed(&request));
            prop_assert!(from_json.is_ok(), "{from_json:?}");
            prop_assert_eq!(from_json, from_msgpack);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_msgpack(&bytes);
        }

        #[test]
        fn no_damaged_request_panics(request in request_json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut body = packed(&request);
            let at = at.index(body.len());
            body[at] = byte;
            let _ = from_msgpack(&body);
            body.truncate(at);
            prop_assert!(from_msgpack(&body).is_err());
        }

        #[test]
        fn responses_have_one_structure_in_both_formats(model in model()) {
            let response = model.response();
            let from_json: serde_json::Value = serde_json::from_str(&json_of(&response)).expect("it is JSON");
            let body = msgpack_of(&response);
            let mut deserializer = rmp_serde::Deserializer::from_read_ref(&body);
            let from_msgpack = serde_json::Value::deserialize(&mut deserializer).expect("it is MessagePack");
            prop_assert_eq!(from_msgpack, from_json);
        }
    }
}

/// A value of a request, in JSON.
fn value_json() -> impl Strategy<Value = serde_json::Value> {
    let scalar = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        any::<u64>().prop_map(|value| json!(value)),
        any::<f64>().prop_filter("JSON has no others", |value| value.is_finite()).prop_map(|value| json!(value)),
        any::<String>().prop_map(|value| json!(value)),
    ];
    scalar.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|values| json!(values)),
            proptest::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|entries| json!(entries)),
        ]
    })
}

/// A sound request, in JSON.
fn request_json() -> impl Strategy<Value = serde_json::Value> {
    let columns = (0_usize..4).prop_flat_map(|rows| {
        proptest::collection::btree_map(any::<String>(), proptest::collection::vec(value_json(), rows), 0..4)
    });
    let selection = prop_oneof![
        proptest::collection::vec(any::<String>(), 0..4).prop_map(|features| ("features", json!(features))),
        any::<String>().prop_map(|service| ("feature_service", json!(service))),
    ];
    let expired = prop_oneof![Just("null"), Just("value")];
    (columns, selection, any::<bool>(), any::<bool>(), expired, value_json()).prop_map(
        |(entities, (name, selection), full_feature_names, include, expired, unknown)| {
            json!({
                "entities": entities,
                name: selection,
                "full_feature_names": full_feature_names,
                "include_feature_view_version_metadata": include,
                "expired": expired,
                "unknown": unknown,
            })
        },
    )
}

/// A response and what it is.
#[derive(Clone, Debug)]
struct Model {
    row_count: usize,
    /// Per column: name, group, and per row a value.
    columns: Vec<(String, usize, ModelValues)>,
    /// Per group and row.
    rows: Vec<(Status, i64)>,
}

#[derive(Clone, Debug)]
enum ModelValues {
    Int(Vec<Option<i64>>),
    Float(Vec<Option<f64>>),
    Text(Vec<Option<String>>),
}

const MODEL_GROUPS: usize = 3;

fn model() -> impl Strategy<Value = Model> {
    (0_usize..4).prop_flat_map(|row_count| {
        let finite = any::<f64>().prop_filter("JSON has no others", |value| value.is_finite());
        let values = prop_oneof![
            proptest::collection::vec(any::<Option<i64>>(), row_count).prop_map(ModelValues::Int),
            proptest::collection::vec(proptest::option::of(finite), row_count).prop_map(ModelValues::Float),
            proptest::collection::vec(any::<Option<String>>(), row_count).prop_map(ModelValues::Text),
        ];
        let status = prop_oneof![Just(Status::Present), Just(Status::NotFound), Just(Status::OutsideMaxAge)];
        let columns = proptest::collection::vec((any::<String>(), 0..MODEL_GROUPS, values), 0..5);
        let rows = proptest::collection::vec((status, any::<i64>()), row_count * MODEL_GROUPS);
        (columns, rows).prop_map(move |(columns, rows)| Model { row_count, columns, rows })
    })
}

impl Model {
    fn response(&self) -> Response<'_> {
        fn cells<'a, T>(values: &'a [Option<T>], cell: impl Fn(&'a T) -> Cell<'a>) -> Vec<Cell<'a>> {
            values.iter().map(|value| value.as_ref().map_or(Cell::Null, &cell)).collect()
        }
        let columns = self.columns.iter().map(|(name, group, values)| Column {
            name: Cow::Borrowed(name),
            value_type: match values {
                ModelValues::Int(_) => &ValueType::Int64,
                ModelValues::Float(_) => &ValueType::Float64,
                ModelValues::Text(_) => &ValueType::String,
            },
            group: *group,
        });
        Response {
            row_count: self.row_count,
            columns: columns.collect(),
            rows: self
                .rows
                .iter()
                .map(|(status, nanos)| RowState { status: *status, event_time: Timestamp::from_nanos(*nanos) })
                .collect(),
            cells: self
                .columns
                .iter()
                .flat_map(|(_, _, values)| match values {
                    ModelValues::Int(values) => cells(values, |value| Cell::Int(*value)),
                    ModelValues::Float(values) => cells(values, |value| Cell::Float64(*value)),
                    ModelValues::Text(values) => cells(values, |value| Cell::Bytes(value.as_bytes())),
                })
                .collect(),
            views: None,
            made: vec![],
            faults: vec![],
        }
    }

    fn json(&self) -> serde_json::Value {
        let state = |group: usize, row: usize| self.rows[group * self.row_count + row];
        let results = self.columns.iter().map(|(_, group, values)| {
            let values: Vec<serde_json::Value> = match values {
                ModelValues::Int(values) => values.iter().map(|value| json!(value)).collect(),
                ModelValues::Float(values) => values.iter().map(|value| json!(value)).collect(),
                ModelValues::Text(values) => values.iter().map(|value| json!(value)).collect(),
            };
            let statuses = values.iter().enumerate().map(|(row, value)| match state(*group, row).0 {
                Status::Present if value.is_null() => "NULL_VALUE",
                status => status.name(),
            });
            let times = (0..self.row_count).map(|row| Timestamp::from_nanos(state(*group, row).1).to_string());
            json!({
                "statuses": statuses.collect::<Vec<_>>(),
                "event_timestamps": times.collect::<Vec<_>>(),
                "values": values,
            })
        });
        let names: Vec<_> = self.columns.iter().map(|(name, ..)| name).collect();
        json!({"metadata": {"feature_names": names}, "results": results.collect::<Vec<_>>()})
    }
}

proptest! {
    #[test]
    fn a_response_reads_back_as_its_model(model in model()) {
        let parsed: serde_json::Value = serde_json::from_str(&json_of(&model.response())).expect("it is JSON");
        prop_assert_eq!(parsed, model.json());
    }

    #[test]
    fn floats_are_read_exactly(float in any::<f64>().prop_filter("JSON has no others", |float| float.is_finite())) {
        prop_assert_eq!(read_values(&format!("[{float:?}]")), [Value::Float64(float)]);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(from_json(&bytes).is_err());
    }

    #[test]
    fn no_damaged_request_panics(request in request_json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = serde_json::to_vec(&request).expect("it is JSON");
        let at = at.index(body.len());
        body[at] = byte;
        let _ = from_json(&body);
        body.truncate(at);
        prop_assert!(from_json(&body).is_err());
    }

    #[test]
    fn no_payload_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        for (type_text, ..) in samples() {
            let value_type = type_of(type_text);
            let mut out = Vec::new();
            let written = response_of(&value_type, vec![Cell::Bytes(&bytes)]).write(MediaType::Json, &mut out);
            // What is written is what decoding gives.
            let decoded = crate::decode_payload(&value_type, &bytes);
            prop_assert_eq!(written.is_ok(), decoded.is_ok(), "{}", type_text);
            if let Ok(value) = decoded {
                let mut again = Vec::new();
                prop_assert_eq!(response_of(&value_type, vec![Cell::Request(&value)]).write(MediaType::Json, &mut again), Ok(()));
                prop_assert_eq!(out, again);
            } else {
                let names_its_row = matches!(written, Err(WireError::Value { row: 0, .. }));
                prop_assert!(names_its_row);
            }
        }
    }
}
