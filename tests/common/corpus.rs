//! The requests that every host must answer alike.

use super::expressions;

/// A few hundred requests: every feature, service and alias; entities that are there, absent, null, expired or given as text;
/// and what is wrong.
pub(crate) fn corpus() -> Vec<String> {
    let mut requests = Vec::new();
    let views =
        ["profile:age", "profile:name", "profile:score", "profile:ratio", "profile:active", "profile:seen", "profile:tags"];
    let users =
        ["[1]", "[2, 3, 4]", "[5]", "[999]", "[null]", "[\"7\"]", "[1, 1, null, 999, 8]", "[9.0]", "[-1]", "[10, 11, 12]"];
    for full in [false, true] {
        for expired in ["null", "value"] {
            for user in users {
                for view in views {
                    requests.push(format!(
                        r#"{{"features": ["{view}"], "entities": {{"user_id": {user}}}, "full_feature_names": {full}, "expired": "{expired}"}}"#
                    ));
                }
                requests.push(format!(
                    r#"{{"feature_service": "everything", "entities": {{"user_id": {user}, "amount": {}}}, "full_feature_names": {full}, "expired": "{expired}"}}"#,
                    user.replace("null", "0.5").replace("\"7\"", "7"),
                ));
            }
        }
    }
    for feature in ["id", "made", "price", "doc", "at", "marks", "weights", "place", "grid", "big"] {
        requests.push(format!(r#"{{"features": ["kinds:{feature}"], "entities": {{"user_id": [1, 2, 3, 999]}}}}"#));
    }
    requests.push(r#"{"features": ["blobs:raw", "kinds:big"], "entities": {"user_id": [1, 2, 3, 999]}}"#.to_owned());
    requests.extend(computed());
    for (user, item) in [("[1, 2]", r#"["a", "b"]"#), ("[3]", r#"["ü"]"#), ("[4]", "[null]"), ("[5]", r#"["nobody"]"#)] {
        requests.push(format!(r#"{{"features": ["pairs:clicks"], "entities": {{"user_id": {user}, "item": {item}}}}}"#));
        requests.push(format!(
            r#"{{"features": ["pairs:clicks", "profile:age", "today:rate"], "entities": {{"item": {item}, "user_id": {user}}}}}"#
        ));
        requests.push(format!(
            r#"{{"feature_service": "friends", "full_feature_names": true, "entities": {{"user_id": {user}, "friend": {user}}}}}"#
        ));
    }
    requests.extend(
        [
            "",
            "{",
            "[]",
            "{}",
            r#"{"features": []}"#,
            r#"{"features": ["profile:age"]}"#,
            r#"{"features": ["profile"], "entities": {"user_id": [1]}}"#,
            r#"{"features": ["nope:age"], "entities": {"user_id": [1]}}"#,
            r#"{"features": ["profile:nope"], "entities": {"user_id": [1]}}"#,
            r#"{"features": ["profile:age", "profile:age"], "entities": {"user_id": [1]}}"#,
            r#"{"feature_service": "nope", "entities": {"user_id": [1]}}"#,
            r#"{"feature_service": "friends", "entities": {"user_id": [1], "friend": [2]}}"#,
            r#"{"feature_service": "everything", "entities": {"user_id": [1]}}"#,
            r#"{"feature_service": "everything", "features": ["profile:age"], "entities": {"user_id": [1]}}"#,
            r#"{"features": ["profile:age"], "entities": {"item": ["a"]}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": []}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": [1, 2], "other": [1]}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": ["seven"]}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": [true]}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": [1.5]}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": [[1]]}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": [9223372036854775808]}}"#,
            r#"{"features": "profile:age", "entities": {"user_id": [1]}}"#,
            r#"{"features": ["profile:age"], "entities": [1]}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": 1}}"#,
            r#"{"features": ["profile:age"], "entities": {"user_id": [1]}, "full_feature_names": "yes"}"#,
        ]
        .map(String::from),
    );
    requests
}

/// Every on-demand feature: over stored features, over odd values of the request, and without any.
fn computed() -> Vec<String> {
    let mut requests = Vec::new();
    for users in ["[1, 2, 3, 4, 5, 6]", "[7, 8, 9, 10, 12, 999]"] {
        for expired in ["null", "value"] {
            requests.push(format!(
                r#"{{"feature_service": "computed", "entities": {{"user_id": {users}, "amount": [0, 1, 2.5, null, -3, "nan"]}}, "full_feature_names": true, "expired": "{expired}"}}"#
            ));
        }
        for feature in expressions::checked_features() {
            requests.push(format!(
                r#"{{"features": ["{feature}", "profile:age"], "entities": {{"user_id": {users}, "amount": [0, 1, 2.5, null, -3, "nan"]}}}}"#
            ));
        }
    }
    for features in expressions::function_features().chunks(16) {
        let features: Vec<String> = features.iter().map(|feature| format!("\"{feature}\"")).collect();
        requests.push(format!(r#"{{"features": [{}], "entities": {}}}"#, features.join(", "), expressions::ODD));
    }
    requests.push(r#"{"features": ["checks:worth"], "entities": {"user_id": [1]}}"#.to_owned());
    requests.push(r#"{"features": ["checks:nothing"], "entities": {"user_id": [1]}}"#.to_owned());
    requests.push(r#"{"features": ["checks:key"], "entities": {"amount": [1]}}"#.to_owned());
    requests
}
