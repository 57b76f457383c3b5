//! Expressions: what is said of each function is so, and what is wrong is said with its place.

use mezze_core::{ExpressionColumn, Timestamp, Value, ValueType, decode_payload};
use mezze_model::{ColumnOf, FUNCTIONS, compile};

/// The result of an expression without columns, as its example writes it.
fn result_of(text: &str) -> Result<String, String> {
    let compiled = compile(&[(text, None)], &mut |_: &[String]| Err("there are no columns".to_owned()));
    let compiled = compiled.map_err(|errors| errors[0].1.to_string())?;
    let column = compiled.program.run(vec![], 1).remove(0);
    Ok(shown(compiled.types[0].as_ref(), &column))
}

fn shown(value_type: Option<&ValueType>, column: &ExpressionColumn<'_>) -> String {
    let Some(value_type) = value_type else {
        return if column.is_valid(0) { "a value of no type".to_owned() } else { "null".to_owned() };
    };
    if let Some(value) = column.int(0) {
        return value_shown(value_type, &Value::Int(value));
    }
    if let Some(value) = column.float(0) {
        return value_shown(value_type, &Value::Float64(value));
    }
    match column.bytes(0) {
        Some(bytes) => value_shown(value_type, &decode_payload(value_type, bytes).expect("a result is a payload of its type")),
        None => "null".to_owned(),
    }
}

fn value_shown(value_type: &ValueType, value: &Value) -> String {
    match (value_type, value) {
        (_, Value::Null) => "null".to_owned(),
        (ValueType::Bool, Value::Int(value)) => (*value != 0).to_string(),
        (ValueType::UnixTimestamp, Value::Int(value)) => Timestamp::from_nanos(*value).to_string(),
        (_, Value::Int(value)) => value.to_string(),
        (_, Value::Float64(value)) if value.is_nan() => "NaN".to_owned(),
        (_, Value::Float64(value)) if value.is_infinite() => if *value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        (_, Value::Float64(value)) => format!("{value:?}"),
        (_, Value::String(text)) => format!("{text:?}"),
        (ValueType::List(element), Value::List(values)) => {
            let values: Vec<String> = values.iter().map(|value| value_shown(element, value)).collect();
            format!("[{}]", values.join(","))
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn every_example_is_so() {
    let mut wrong = Vec::new();
    for entry in FUNCTIONS {
        for (text, expected) in entry.examples {
            let found = result_of(text);
            if found.as_deref() != Ok(expected) {
                wrong.push(format!("{}: {text}: expected {expected}, found {}", entry.name, found.unwrap_or_else(|error| error)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_function_has_an_example_and_a_name_of_its_own() {
    for (number, entry) in FUNCTIONS.iter().enumerate() {
        assert!(!entry.examples.is_empty() || entry.name == "now", "{} has no example", entry.name);
        assert!(FUNCTIONS.iter().skip(number + 1).all(|other| other.name != entry.name), "{} is there twice", entry.name);
    }
}

/// What is wrong with an expression over the columns a (int64), f (float32), s (string), t (unix_timestamp), l (list<float32>).
fn error_of(text: &str) -> String {
    let columns = [
        ("a", ValueType::Int64),
        ("f", ValueType::Float32),
        ("s", ValueType::String),
        ("t", ValueType::UnixTimestamp),
        ("l", ValueType::List(Box::new(ValueType::Float32))),
    ];
    let mut resolve = |names: &[String]| {
        let place = columns.iter().position(|(name, _)| names == [*name]);
        place
            .map(|place| ColumnOf { input: place as u16, value_type: columns[place].1.clone() })
            .ok_or_else(|| format!("there is no `{}`", names.join(".")))
    };
    match compile(&[(text, None)], &mut resolve) {
        Ok(compiled) => format!("compiles to {:?}", compiled.types[0].as_ref().map(ToString::to_string)),
        Err(errors) => errors[0].1.to_string(),
    }
}

#[test]
fn errors_point_at_the_character() {
    expect_test::expect![[r#"
        a + 
          this is no expression: expected: an expression, found: EOF
              a + 
                  ^
        a + b
          there is no `b`
              a + b
                  ^
        a + s
          expected a number, found string
              a + s
                  ^
        abs(s)
          `abs` takes abs(int) -> int64, abs(float) -> float64; given is (string)
              abs(s)
              ^^^
        bas(a)
          there is no function `bas`; did you mean `abs`?
              bas(a)
              ^^^
        a = s
          the two sides of a comparison are of int64 and string; bring one to the other with CAST
              a = s
                  ^
        t - t
          instants have no difference of their own; write elapsed('day', from, to) or date_diff('day', from, to)
              t - t
              ^^^^^
        t > 'yesterday'
          `yesterday` is no instant; expected one as 2024-02-29T12:00:00Z
              t > 'yesterday'
                  ^^^^^^^^^^^
        CASE WHEN a THEN 1 END
          expected a condition, found int64
              CASE WHEN a THEN 1 END
                        ^
        CASE WHEN a > 1 THEN 'x' ELSE 2 END
          the results of CASE are of string and int64; bring one to the other with CAST
              CASE WHEN a > 1 THEN 'x' ELSE 2 END
                                   ^^^
        date_trunc('fortnight', t)
          `date_trunc` knows no `fortnight`; expected one of `year`, `quarter`, `month`, `week`, `day`, `hour`, `minute`, `second`, `millisecond`, `microsecond`, `nanosecond`
              date_trunc('fortnight', t)
                         ^^^^^^^^^^^
        t AT TIME ZONE 'Europe/Berlin'
          expected a fixed offset from UTC that is written out, such as '+02:00' or 'UTC'; zones with summer time are not known
              t AT TIME ZONE 'Europe/Berlin'
                             ^^^^^^^^^^^^^^^
        t + INTERVAL '1 fortnight'
          `fortnight` is no unit of time; expected an interval that is written out, such as INTERVAL '1 day' or INTERVAL '2 hours 30 minutes'
              t + INTERVAL '1 fortnight'
                           ^^^^^^^^^^^^^
        s LIKE s
          the pattern of LIKE is a text that is written out
              s LIKE s
                     ^
        l[1.5]
          the number of an element is an integer
              l[1.5]
                ^^^
        lookup(s, ['a'], [1, 2])
          lookup has 1 keys and 2 values; each key has one value
              lookup(s, ['a'], [1, 2])
              ^^^^^^
        CAST(l AS int64)
          list<float32> cannot become int64
              CAST(l AS int64)
                   ^
        a a
          the expression should end before `a`
              a a
                ^
        sum(a) OVER ()
          a function takes values in parentheses and nothing else
              sum(a) OVER ()
              ^^^
        (SELECT 1)
          `(SELECT 1)` cannot be part of an expression; `mezze functions` lists what can
              (SELECT 1)
               ^^^^^^^^
        99999999999999999999
          99999999999999999999 is beyond int64; write it as a float, with a point, or as a text with a CAST
              99999999999999999999
              ^^^^^^^^^^^^^^^^^^^^
        "a" + 1
          compiles to Some("int64")
        f * 2
          compiles to Some("float64")
        coalesce(t, '2024-01-01')
          compiles to Some("unix_timestamp")"#]].assert_eq(
        &[
            "a + ",
            "a + b",
            "a + s",
            "abs(s)",
            "bas(a)",
            "a = s",
            "t - t",
            "t > 'yesterday'",
            "CASE WHEN a THEN 1 END",
            "CASE WHEN a > 1 THEN 'x' ELSE 2 END",
            "date_trunc('fortnight', t)",
            "t AT TIME ZONE 'Europe/Berlin'",
            "t + INTERVAL '1 fortnight'",
            "s LIKE s",
            "l[1.5]",
            "lookup(s, ['a'], [1, 2])",
            "CAST(l AS int64)",
            "a a",
            "sum(a) OVER ()",
            "(SELECT 1)",
            "99999999999999999999",
            "\"a\" + 1",
            "f * 2",
            "coalesce(t, '2024-01-01')",
        ]
        .map(|text| format!("{text}\n  {}", error_of(text).replace('\n', "\n  ")))
        .join("\n"),
    );
}

#[test]
fn expressions_that_are_too_large_are_refused_and_deep_ones_do_not_end_the_process() {
    let wide = (0..4000).map(|_| "a").collect::<Vec<_>>().join("+");
    assert!(error_of(&wide).contains("nested too deep"), "{}", error_of(&wide));
    let long = "1".repeat(9_000);
    assert!(error_of(&long).contains("at most 8192 bytes"), "{}", error_of(&long));
    let deep = format!("{}1{}", "(".repeat(3000), ")".repeat(3000));
    assert!(error_of(&deep).contains("nested too deep"), "{}", error_of(&deep));
    let casts = format!("a{}", "::int64".repeat(1000));
    assert!(error_of(&casts).contains("nested too deep"), "{}", error_of(&casts));
    let fine = (0..300).map(|_| "a").collect::<Vec<_>>().join("+");
    assert_eq!(error_of(&fine), "compiles to Some(\"int64\")");
}

/// The table of functions as docs/TRANSFORMS.md has it.
fn table() -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let mut text = String::new();
    let mut group = "";
    for entry in FUNCTIONS {
        if entry.group != group {
            group = entry.group;
            text += &format!(
                "\n### {group}\n\n| takes and gives | what it is | null where, beside null arguments | examples |\n| --- | --- | --- | --- |\n"
            );
        }
        let nulls = if entry.nulls.is_empty() { "-" } else { entry.nulls };
        let examples: Vec<String> =
            entry.examples.iter().map(|(text, result)| format!("`{}` is `{}`", cell(text), cell(result))).collect();
        text += &format!("| `{}` | {} | {} | {} |\n", cell(entry.signature), cell(entry.about), cell(nulls), examples.join("; "));
    }
    text += "\nOther names: `array_contains`, `array_length`, `btrim`, `cardinality`, `ceiling`, `char_length`, `ifnull`, `inner_product`, `lcase`, `len`, `list_avg`, `list_cosine_similarity`, `list_distance`, `list_dot_product`, `mod`, `pow`, `substring`, `ucase` are what other databases call some of these.\n";
    text
}

#[test]
fn the_page_has_the_table_of_functions() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/TRANSFORMS.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let (before, rest) = page.split_once("<!-- functions -->\n").expect("the page marks the table");
    let (_, after) = rest.split_once("<!-- end of functions -->").expect("the page marks its end");
    let expected = format!("{before}<!-- functions -->\n{}\n<!-- end of functions -->{after}", table());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &expected).expect("the page can be written");
    } else {
        assert_eq!(page, expected, "write it with UPDATE_EXPECT=1");
    }
}
