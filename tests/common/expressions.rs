//! On-demand features of every function, over ordinary and odd values.

use mezze_model::{FUNCTIONS, compile};

/// Expressions over the stored features of the tests' repository, and request data.
const CHECKS: &[(&str, &str, &str)] = &[
    ("double_age", "int32", "age * 2"),
    ("name_upper", "string", "upper(name) || '!'"),
    ("worth", "float64", "score * ratio + amount"),
    ("worth_narrow", "float32", "score * ratio + amount"),
    ("is_active", "bool", "active AND amount > 1"),
    ("seen_year", "int64", "date_part('year', seen)"),
    ("seen_later", "unix_timestamp", "seen + INTERVAL '1 month'"),
    ("tag_count", "int64", "list_length(tags)"),
    ("first_tag", "string", "tags[1]"),
    ("last_tag", "string", "tags[-1]"),
    ("has_tag", "bool", "list_contains(tags, name) OR list_contains(tags, '')"),
    ("id_text", "string", "CAST(id AS string)"),
    ("id_again", "uuid", "CAST(CAST(id AS string) AS uuid)"),
    ("made_bytes", "bytes", "CAST(made AS bytes)"),
    ("price_number", "float64", "CAST(price AS float64)"),
    ("price_again", "decimal", "CAST(CAST(price AS float64) AS decimal)"),
    ("doc_text", "string", "CAST(doc AS string)"),
    ("at_instant", "unix_timestamp", "CAST(at AS unix_timestamp)"),
    ("at_again", "zoned_timestamp", "CAST(CAST(at AS string) AS zoned_timestamp)"),
    ("big_overflows", "int64", "big + big"),
    ("raw_length", "int64", "octet_length(raw)"),
    ("row_of_grid", "list<int64>", "grid[1]"),
    ("ages", "list<int64>", "[age, age + 1, NULL]"),
    ("key", "int64", "user_id + 1"),
    ("missing", "string", "coalesce(name, 'nobody')"),
    ("rate_of_today", "float64", "rate / 3"),
];

/// A second view over the first.
const CHAINED: &[(&str, &str, &str)] =
    &[("more", "float64", "worth / double_age"), ("labelled", "string", "concat(name_upper, '-', first_tag, '-', missing)")];

/// Every function over the fields of the request source `odd`: floats x and y, integers i and j, texts s and u, instants t and w, a list l,
/// a condition k.
const FUNCTIONS_OF_ODD: &[&str] = &[
    "i + j",
    "i - j",
    "i * j",
    "i // j",
    "i % j",
    "-i",
    "abs(i)",
    "sign(i)",
    "x + y",
    "x - y",
    "x * y",
    "x / y",
    "x % y",
    "-x",
    "abs(x)",
    "sign(x)",
    "i / j",
    "i = j",
    "i < j",
    "i <= j",
    "x = y",
    "x < y",
    "x <= y",
    "x <> y",
    "s = u",
    "s < u",
    "s <= u",
    "t < w",
    "t = w",
    "k AND i > 0",
    "k OR i > 0",
    "NOT k",
    "k IS TRUE",
    "k IS NOT FALSE",
    "[x - y, x * y, sqrt(x)]",
    "x IS NULL",
    "i IS DISTINCT FROM j",
    "i IN (0, 7, NULL)",
    "x BETWEEN y AND 10",
    "CASE WHEN k THEN x ELSE y END",
    "CASE i WHEN 0 THEN s WHEN 7 THEN u END",
    "coalesce(s, u)",
    "nullif(x, y)",
    "greatest(i, j)",
    "least(i, j)",
    "greatest(x, y)",
    "least(x, y)",
    "greatest(s, u)",
    "least(s, u)",
    "clamp(x, -1, 1)",
    "CAST(x AS int64)",
    "CAST(x AS int32)",
    "CAST(i AS int32)",
    "CAST(x AS float32)",
    "CAST(i AS float32)",
    "CAST(i AS string)",
    "CAST(x AS string)",
    "CAST(k AS string)",
    "CAST(s AS int64)",
    "CAST(s AS float64)",
    "CAST(u AS bool)",
    "CAST(i AS bool)",
    "CAST(x AS bool)",
    "CAST(i AS unix_timestamp)",
    "CAST(x AS unix_timestamp)",
    "CAST(t AS int64)",
    "CAST(t AS float64)",
    "CAST(t AS string)",
    "CAST(s AS unix_timestamp)",
    "CAST(s AS bytes)",
    "CAST(CAST(s AS bytes) AS string)",
    "CAST(u AS uuid)",
    "CAST(x AS decimal)",
    "CAST(CAST(x AS decimal) AS int64)",
    "CAST(t AS zoned_timestamp)",
    "ceil(x)",
    "floor(x)",
    "trunc(x)",
    "round(x)",
    "round(x, 2)",
    "round(x, -2)",
    "sqrt(x)",
    "cbrt(x)",
    "exp(x)",
    "ln(x)",
    "log2(x)",
    "log10(x)",
    "power(x, y)",
    "sin(x)",
    "cos(x)",
    "tan(x)",
    "asin(x)",
    "acos(x)",
    "atan(x)",
    "atan2(x, y)",
    "tanh(x)",
    "sigmoid(x)",
    "is_nan(x)",
    "is_finite(x)",
    "degrees(x)",
    "radians(x)",
    "haversine(x, y, y, x)",
    "width_bucket(x, -10, y, 7)",
    "bucketize(x, [-1, 0, 1.5])",
    "hash(x)",
    "hash(i)",
    "hash(s)",
    "hash_bucket(s, 10)",
    "hash_bucket(i, j)",
    "one_hot(s, ['abc', '', 'b'])",
    "one_hot(i, [0, 7])",
    "lookup(s, ['abc', ''], [1.5, 2.5])",
    "lookup(i, [0, 7], ['null', 'sieben'], u)",
    "upper(s)",
    "lower(s)",
    "trim(s)",
    "ltrim(s, 'ab ')",
    "rtrim(s, 'b ')",
    "length(s)",
    "octet_length(s)",
    "substr(s, 2, 2)",
    "substr(s, i, j)",
    "left(s, i)",
    "right(s, i)",
    "s || u",
    "concat(s, u)",
    "replace(s, 'b', u)",
    "starts_with(s, u)",
    "ends_with(s, u)",
    "contains(s, u)",
    "strpos(s, u)",
    "s LIKE '%b%'",
    "s ILIKE 'A_C'",
    "lpad(s, 5, u)",
    "rpad(s, 5, '*')",
    "split_part(s, 'b', 1)",
    "split_part(s, u, -1)",
    "reverse(s)",
    "date_part('year', t)",
    "date_part('quarter', t)",
    "date_part('month', t)",
    "date_part('week', t)",
    "date_part('isoyear', t)",
    "date_part('day', t)",
    "date_part('dow', t)",
    "date_part('isodow', t)",
    "date_part('doy', t)",
    "date_part('hour', t)",
    "date_part('minute', t)",
    "date_part('second', t)",
    "date_part('millisecond', t)",
    "date_part('microsecond', t)",
    "date_part('nanosecond', t)",
    "date_part('epoch', t)",
    "date_trunc('year', t)",
    "date_trunc('quarter', t)",
    "date_trunc('month', t)",
    "date_trunc('week', t)",
    "date_trunc('day', t)",
    "date_trunc('second', t)",
    "date_diff('month', t, w)",
    "date_diff('week', t, w)",
    "date_diff('day', t, w)",
    "elapsed('hour', t, w)",
    "t + INTERVAL '13 months'",
    "t - INTERVAL '1 month 36 hours'",
    "t AT TIME ZONE '-03:30'",
    "l[1]",
    "l[-1]",
    "l[i]",
    "list_length(l)",
    "list_contains(l, x)",
    "list_sum(l)",
    "list_mean(l)",
    "list_min(l)",
    "list_max(l)",
    "dot_product(l, l)",
    "cosine_similarity(l, [1, 0])",
    "euclidean_distance(l, l)",
    "[x, y]",
    "[i, NULL]",
    "[s, u]",
];

/// A request with the fields of `odd`, eight rows.
pub(crate) const ODD: &str = r#"{
    "x": ["nan", "inf", "-inf", -0.0, 1.5, 1e308, 5e-324, null], "y": [1, "nan", 0, 0.0, -2.5, 1e308, 2, 3],
    "i": [0, 1, -1, 9223372036854775807, -9223372036854775808, null, 42, 7], "j": [0, -1, 2, 1, -1, 3, 10, null],
    "s": ["", "abc", "ÄÖß", " b ", "-12", null, "日本語b", "1e5"],
    "u": ["x", "b", "Ö", " ", "yes", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "b", "2024-02-29"],
    "t": ["1970-01-01T00:00:00Z", "2024-02-29T23:59:59.999999999Z", "1677-09-21T00:12:44Z", "2262-04-11T23:47:16Z",
          "2000-02-29T12:00:00+05:30", null, "2023-12-31T00:00:00Z", "2021-01-03T00:00:00Z"],
    "w": ["2024-02-29T00:00:00Z", "1969-12-31T23:59:59Z", "2262-04-11T00:00:00Z", "1900-03-01T00:00:00Z", null,
          "2024-01-31T00:00:00Z", "2024-01-01T00:00:00Z", "2021-01-03T00:00:01Z"],
    "l": [[1, 2], [], [null], ["nan"], null, [0, 0], [1.5, -2.5, 1e308], [3, null]],
    "k": [true, false, null, true, false, null, true, false]
}"#;

/// The columns of `odd`, with their types.
const ODD_FIELDS: [(&str, &str); 10] = [
    ("x", "float64"),
    ("y", "float64"),
    ("i", "int64"),
    ("j", "int64"),
    ("s", "string"),
    ("u", "string"),
    ("t", "unix_timestamp"),
    ("w", "unix_timestamp"),
    ("l", "list<float64>"),
    ("k", "bool"),
];

/// The type of an expression over the fields of `odd`.
fn type_of(text: &str) -> String {
    let mut resolve = |names: &[String]| {
        let place = ODD_FIELDS.iter().position(|(name, _)| names == [*name]).ok_or("there is no such field")?;
        let value_type = ODD_FIELDS[place].1.parse().expect("it is a type");
        Ok(mezze_model::ColumnOf { input: place as u16, value_type })
    };
    let compiled = compile(&[(text, None)], &mut resolve);
    let compiled = compiled.unwrap_or_else(|errors| panic!("{text}: {}", errors[0].1));
    compiled.types[0].as_ref().map_or_else(|| "int64".to_owned(), ToString::to_string)
}

/// Expressions without columns, and those over `odd`.
pub(crate) fn function_expressions() -> Vec<String> {
    let examples = FUNCTIONS.iter().flat_map(|entry| entry.examples.iter().map(|(text, _)| (*text).to_owned()));
    examples.chain(FUNCTIONS_OF_ODD.iter().map(|text| (*text).to_owned())).collect()
}

/// The names of the features of `functions`.
pub(crate) fn function_features() -> Vec<String> {
    (0..function_expressions().len()).map(|number| format!("functions:f{number}")).collect()
}

/// The names of the features over stored ones.
pub(crate) fn checked_features() -> Vec<String> {
    let of = |view: &'static str| move |(name, ..): &(&str, &str, &str)| format!("{view}:{name}");
    CHECKS.iter().map(of("checks")).chain(CHAINED.iter().map(of("chained"))).collect()
}

/// The definitions of all of them, for a file of their own.
pub(crate) fn definitions() -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let feature = |name: &str, dtype: &str, text: &str| {
        format!("      - {{ name: {name}, dtype: {}, expression: {} }}\n", quoted(dtype), quoted(text))
    };
    let fields: Vec<String> =
        ODD_FIELDS.iter().map(|(name, dtype)| format!("{{ name: {}, dtype: {dtype} }}", quoted(name))).collect();
    let mut text = format!("request_sources:\n  - {{ name: odd, schema: [{}] }}\non_demand_feature_views:\n", fields.join(", "));
    text += "  - name: checks\n    sources: [profile, kinds, blobs, today, order]\n    schema:\n";
    CHECKS.iter().for_each(|(name, dtype, expression)| text += &feature(name, dtype, expression));
    text += "  - name: chained\n    sources: [checks]\n    schema:\n";
    CHAINED.iter().for_each(|(name, dtype, expression)| text += &feature(name, dtype, expression));
    text += "  - name: functions\n    sources: [odd]\n    schema:\n";
    for (number, expression) in function_expressions().iter().enumerate() {
        text += &feature(&format!("f{number}"), &type_of(expression), expression);
    }
    text += "feature_services:\n  - { name: computed, features: [\"profile:age\", checks, chained], request_sources: [order] }\n";
    text
}
