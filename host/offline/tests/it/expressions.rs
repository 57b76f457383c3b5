//! Generated expressions: Mezze's results beside those of the query engine, bit by bit.
//!
//! Left out is what is meant to differ (docs/TRANSFORMS.md): integers that go beyond int64, comparisons of NaN and of -0, and
//! functions of floats whose last bit differs from library to library. `/` and casts are written as each of the two means them.

use std::sync::Arc;

use arrow::array::TimestampNanosecondArray;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit, TimestampNanosecondType};
use datafusion::prelude::SessionContext;
use mezze_arrow::{array_of, expression_column};
use mezze_core::ValueType;
use mezze_model::{ColumnOf, compile};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// An expression in both forms.
#[derive(Clone, Debug)]
struct Both {
    ours: String,
    theirs: String,
}

fn same(text: impl Into<String>) -> Both {
    let text = text.into();
    Both { ours: text.clone(), theirs: text }
}

fn forms(ours: &str, theirs: &str, of: &[&Both]) -> Both {
    let fill = |form: &str, which: &dyn Fn(&Both) -> &str| {
        of.iter().enumerate().fold(form.to_owned(), |text, (number, part)| text.replace(&format!("${number}"), which(part)))
    };
    Both { ours: fill(ours, &|both| &both.ours), theirs: fill(theirs, &|both| &both.theirs) }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Bool,
    Float,
    Int,
    Text,
    Time,
}

fn leaf(kind: Kind) -> BoxedStrategy<Both> {
    match kind {
        Kind::Int => {
            prop_oneof![Just(same("a")), Just(same("b")), (-20_i64..20).prop_map(|value| same(value.to_string()))].boxed()
        }
        Kind::Float => {
            const LITERALS: [&str; 5] = ["0.5", "-2.25", "1e300", "1e-300", "3.0"];
            prop_oneof![Just(same("x")), Just(same("y")), proptest::sample::select(LITERALS.to_vec()).prop_map(same)].boxed()
        }
        Kind::Text => {
            const LITERALS: [&str; 5] = ["'a'", "''", "'Ä'", "'b c'", "'12'"];
            prop_oneof![Just(same("s")), Just(same("u")), proptest::sample::select(LITERALS.to_vec()).prop_map(same)].boxed()
        }
        Kind::Bool => prop_oneof![Just(same("k")), Just(same("true")), Just(same("false"))].boxed(),
        Kind::Time => {
            let literal = forms("TIMESTAMP '2024-02-29T12:34:56.789Z'", "to_timestamp_nanos('2024-02-29T12:34:56.789Z')", &[]);
            let theirs = format!("arrow_cast({}, 'Timestamp(Nanosecond, Some(\"UTC\"))')", literal.theirs);
            prop_oneof![3 => Just(same("t")), 1 => Just(Both { theirs, ..literal })].boxed()
        }
    }
}

/// Forms of a kind: of what kinds their parts are, and how each of the two writes them.
fn known_forms(kind: Kind) -> Vec<(&'static [Kind], &'static str, &'static str)> {
    use Kind::{Bool, Float, Int, Text, Time};
    let twice = |parts: &'static [Kind], both: &'static str| (parts, both, both);
    match kind {
        Int => vec![
            twice(&[Int, Int], "($0 + $1)"),
            twice(&[Int, Int], "($0 - $1)"),
            twice(&[Int], "(-($0))"),
            twice(&[Int, Int], "($0 % nullif($1, 0))"),
            (&[Int, Int], "($0 // $1)", "($0 / nullif($1, 0))"),
            twice(&[Bool, Int, Int], "CASE WHEN $0 THEN $1 ELSE $2 END"),
            twice(&[Int, Int, Int], "CASE $0 WHEN 1 THEN $1 WHEN 2 THEN $2 END"),
            twice(&[Int, Int], "coalesce($0, $1)"),
            twice(&[Int, Int], "nullif($0, $1)"),
            twice(&[Int, Int], "greatest($0, $1)"),
            twice(&[Int, Int], "least($0, $1)"),
            (&[Text], "length($0)", "CAST(character_length($0) AS BIGINT)"),
            (&[Text], "octet_length($0)", "CAST(octet_length($0) AS BIGINT)"),
            (&[Text, Text], "strpos($0, $1)", "CAST(strpos($0, $1) AS BIGINT)"),
            (&[Text], "CAST($0 AS int64)", "TRY_CAST(btrim($0) AS BIGINT)"),
            (&[Bool], "CAST($0 AS int64)", "CAST($0 AS BIGINT)"),
            // Bare, the engine makes a comparison of years one of instants, and null where they are beyond its range.
            (&[Time], "date_part('year', $0)", "nullif(CAST(date_part('year', $0) AS BIGINT), -1)"),
            (&[Time], "date_part('quarter', $0)", "CAST(date_part('quarter', $0) AS BIGINT)"),
            (&[Time], "EXTRACT(month FROM $0)", "CAST(date_part('month', $0) AS BIGINT)"),
            (&[Time], "date_part('week', $0)", "CAST(date_part('week', $0) AS BIGINT)"),
            (&[Time], "date_part('doy', $0)", "CAST(date_part('doy', $0) AS BIGINT)"),
            (&[Time], "date_part('dow', $0)", "CAST(date_part('dow', $0) AS BIGINT)"),
            (&[Time], "date_part('hour', $0)", "CAST(date_part('hour', $0) AS BIGINT)"),
            (&[Time], "date_part('second', $0)", "CAST(date_part('second', $0) AS BIGINT)"),
        ],
        Float => vec![
            twice(&[Float, Float], "($0 + $1)"),
            twice(&[Float, Float], "($0 - $1)"),
            twice(&[Float, Float], "($0 * $1)"),
            twice(&[Float, Float], "($0 / $1)"),
            twice(&[Float, Float], "($0 % $1)"),
            twice(&[Float], "(-($0))"),
            (&[Int], "CAST($0 AS float64)", "CAST($0 AS DOUBLE)"),
            (&[Int, Int], "($0 / $1)", "(CAST($0 AS DOUBLE) / CAST($1 AS DOUBLE))"),
            (&[Float], "CAST(CAST($0 AS float32) AS float64)", "CAST(CAST($0 AS FLOAT) AS DOUBLE)"),
            twice(&[Bool, Float, Float], "CASE WHEN $0 THEN $1 ELSE $2 END"),
            twice(&[Float, Float], "coalesce($0, $1)"),
        ],
        Text => vec![
            twice(&[Text, Text], "($0 || $1)"),
            twice(&[Text, Text], "concat($0, $1)"),
            twice(&[Text], "lower($0)"),
            twice(&[Text], "upper($0)"),
            twice(&[Text], "trim($0)"),
            twice(&[Text], "ltrim($0, 'ab')"),
            twice(&[Text], "rtrim($0, 'ab')"),
            twice(&[Text], "reverse($0)"),
            twice(&[Text], "substr($0, 2)"),
            twice(&[Text], "substr($0, -1, 3)"),
            twice(&[Text], "left($0, 2)"),
            twice(&[Text], "left($0, -1)"),
            twice(&[Text], "right($0, 2)"),
            twice(&[Text], "right($0, -1)"),
            twice(&[Text, Text], "replace($0, 'b', $1)"),
            twice(&[Text], "lpad($0, 4, 'xy')"),
            twice(&[Text], "rpad($0, 3, '-')"),
            twice(&[Text], "split_part($0, 'b', 2)"),
            twice(&[Bool, Text, Text], "CASE WHEN $0 THEN $1 ELSE $2 END"),
            twice(&[Text, Text], "coalesce($0, $1)"),
            twice(&[Text, Text], "nullif($0, $1)"),
            (&[Int], "CAST($0 AS string)", "CAST($0 AS VARCHAR)"),
            (&[Bool], "CAST($0 AS string)", "CAST($0 AS VARCHAR)"),
        ],
        Bool => vec![
            // Where a side is seldom true the engine looks only at some rows of the other, and then at wrong ones: the truth
            // tables are written out for it.
            (
                &[Bool, Bool],
                "($0 AND $1)",
                "(CASE WHEN NOT $0 THEN 0 WHEN NOT $1 THEN 0 WHEN $0 IS NULL THEN NULL WHEN $1 IS NULL THEN NULL ELSE 1 END = 1)",
            ),
            (
                &[Bool, Bool],
                "($0 OR $1)",
                "(CASE WHEN $0 THEN 1 WHEN $1 THEN 1 WHEN $0 IS NULL THEN NULL WHEN $1 IS NULL THEN NULL ELSE 0 END = 1)",
            ),
            twice(&[Bool], "(NOT $0)"),
            twice(&[Int, Int], "($0 = $1)"),
            twice(&[Int, Int], "($0 < $1)"),
            twice(&[Int, Int], "($0 >= $1)"),
            twice(&[Int, Int], "($0 <> $1)"),
            twice(&[Int, Int], "($0 IS DISTINCT FROM $1)"),
            twice(&[Int, Int, Int], "($0 BETWEEN $1 AND $2)"),
            twice(&[Int, Int], "($0 IN (1, $1, NULL))"),
            twice(&[Int, Int], "($0 NOT IN (1, $1))"),
            twice(&[], "(p < q)"),
            twice(&[], "(p <= 0.5)"),
            twice(&[], "(p = q)"),
            twice(&[Text, Text], "($0 = $1)"),
            twice(&[Text, Text], "($0 > $1)"),
            twice(&[Text], "($0 LIKE '%b_')"),
            twice(&[Text], "($0 NOT LIKE 'a%')"),
            twice(&[Text], "($0 ILIKE '%A%')"),
            twice(&[Text, Text], "starts_with($0, $1)"),
            twice(&[Text, Text], "ends_with($0, $1)"),
            twice(&[Text, Text], "contains($0, $1)"),
            twice(&[Time, Time], "($0 < $1)"),
            twice(&[Int], "($0 IS NULL)"),
            twice(&[Float], "($0 IS NOT NULL)"),
            twice(&[Text], "($0 IS NULL)"),
            twice(&[Bool], "($0 IS TRUE)"),
            twice(&[Bool], "($0 IS NOT FALSE)"),
        ],
        Time => vec![
            twice(&[Time], "date_trunc('year', $0)"),
            twice(&[Time], "date_trunc('month', $0)"),
            twice(&[Time], "date_trunc('week', $0)"),
            twice(&[Time], "date_trunc('day', $0)"),
            twice(&[Time], "date_trunc('minute', $0)"),
            twice(&[Time], "($0 + INTERVAL '36 hours')"),
            twice(&[Time], "($0 - INTERVAL '1 month')"),
            twice(&[Bool, Time, Time], "CASE WHEN $0 THEN $1 ELSE $2 END"),
        ],
    }
}

fn expression(kind: Kind, depth: u32) -> BoxedStrategy<Both> {
    if depth == 0 {
        return leaf(kind);
    }
    let known = known_forms(kind);
    let deeper = (0..known.len()).prop_flat_map(move |number| {
        let (kinds, ours, theirs) = known_forms(kind)[number];
        let parts: Vec<BoxedStrategy<Both>> = kinds.iter().map(|kind| expression(*kind, depth - 1)).collect();
        parts.prop_map(move |parts| forms(ours, theirs, &parts.iter().collect::<Vec<_>>()))
    });
    prop_oneof![1 => leaf(kind), 6 => deeper].boxed()
}

/// Rows with what is odd in each column.
fn rows() -> RecordBatch {
    let odd_ints = [Some(0), Some(1), Some(-1), None, Some(2), Some(7), Some(-13), Some(1000)];
    let odd_floats = [
        Some(0.0),
        Some(-0.0),
        None,
        Some(1.5),
        Some(f64::NAN),
        Some(f64::INFINITY),
        Some(f64::NEG_INFINITY),
        Some(5e-324),
        Some(f64::MAX),
        Some(-2.5),
        Some(0.1),
    ];
    let odd_texts =
        [Some(""), Some("abc"), None, Some("ÄÖß"), Some(" b "), Some("-12"), Some("bbb"), Some("日本語b"), Some("ab%_")];
    let odd_times = [
        Some(0),
        Some(-1),
        None,
        Some(1_709_208_896_789_000_000),
        Some(951_782_400_000_000_000),
        Some(-2_208_988_800_000_000_000),
        Some(1_609_459_199_999_999_999),
    ];
    let count = 616;
    let ints = |step: usize| (0..count).map(move |row| odd_ints[row * step % odd_ints.len()]).collect::<Int64Array>();
    let floats =
        |step: usize| (0..count).map(move |row| odd_floats[(row * step + row / 11) % odd_floats.len()]).collect::<Float64Array>();
    let texts =
        |step: usize| (0..count).map(move |row| odd_texts[(row * step + row / 9) % odd_texts.len()]).collect::<StringArray>();
    let clean = |step: usize| {
        (0..count).map(move |row| [Some(0.5), Some(-1.0), None, Some(3.25)][(row * step + row / 4) % 4]).collect::<Float64Array>()
    };
    let times: TimestampNanosecondArray = (0..count).map(|row| odd_times[(row + row / 7) % odd_times.len()]).collect();
    let flags: BooleanArray = (0..count).map(|row| [Some(true), None, Some(false)][row % 3]).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("a", Arc::new(ints(1))),
        ("b", Arc::new(ints(3))),
        ("x", Arc::new(floats(1))),
        ("y", Arc::new(floats(5))),
        ("p", Arc::new(clean(1))),
        ("q", Arc::new(clean(3))),
        ("s", Arc::new(texts(1))),
        ("u", Arc::new(texts(4))),
        ("t", Arc::new(times.with_timezone("UTC"))),
        ("k", Arc::new(flags)),
    ];
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect())
        .expect("it is well-formed")
}

fn type_of(data_type: &DataType) -> ValueType {
    match data_type {
        DataType::Boolean => ValueType::Bool,
        DataType::Int64 => ValueType::Int64,
        DataType::Float64 => ValueType::Float64,
        DataType::Utf8 => ValueType::String,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => ValueType::UnixTimestamp,
        other => panic!("there is no column of {other}"),
    }
}

fn ours(text: &str, rows: &RecordBatch) -> ArrayRef {
    let schema = rows.schema();
    let mut resolve = |names: &[String]| {
        let column = schema.index_of(&names[0]).map_err(|error| error.to_string())?;
        Ok(ColumnOf { input: column as u16, value_type: type_of(schema.field(column).data_type()) })
    };
    let compiled = compile(&[(text, None)], &mut resolve);
    let compiled = compiled.unwrap_or_else(|errors| panic!("{text}: {}", errors[0].1));
    let types: Vec<ValueType> = schema.fields().iter().map(|field| type_of(field.data_type())).collect();
    let columns =
        types.iter().zip(rows.columns()).map(|(value_type, array)| expression_column(value_type, array).expect("it fits"));
    let column = compiled.program.run(columns.collect(), rows.num_rows()).remove(0);
    array_of(compiled.types[0].as_ref().unwrap_or(&ValueType::Int64), column, rows.num_rows()).expect("it has an array")
}

/// What two arrays differ in first, floats compared by their bits.
fn difference(ours: &ArrayRef, theirs: &ArrayRef) -> Option<String> {
    let theirs = if theirs.data_type() == ours.data_type() {
        theirs.clone()
    } else {
        arrow::compute::cast(theirs, ours.data_type()).expect("they are of kindred types")
    };
    (0..ours.len()).find_map(|row| {
        let shown = |array: &ArrayRef| {
            if array.is_null(row) {
                return "null".to_owned();
            }
            match array.data_type() {
                DataType::Boolean => array.as_boolean().value(row).to_string(),
                DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
                DataType::Float64 => {
                    let value = array.as_primitive::<Float64Type>().value(row);
                    if value.is_nan() { "NaN".to_owned() } else { format!("{value:?} ({:016x})", value.to_bits()) }
                }
                DataType::Utf8 => format!("{:?}", array.as_string::<i32>().value(row)),
                _ => array.as_primitive::<TimestampNanosecondType>().value(row).to_string(),
            }
        };
        let (ours, theirs) = (shown(ours), shown(&theirs));
        (ours != theirs).then(|| format!("row {row}: {ours} here, {theirs} there"))
    })
}

#[test]
fn generated_expressions_give_what_the_query_engine_gives() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let rows = rows();
    let context = SessionContext::new();
    context.register_batch("rows", rows.clone()).expect("it is registered");
    // The same every time: a failure is one to all.
    let config = Config { failure_persistence: None, cases: 400, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let kinds = proptest::sample::select(vec![Kind::Bool, Kind::Float, Kind::Int, Kind::Text, Kind::Time]);
    let cases = kinds.prop_flat_map(|kind| expression(kind, 3));
    let compared = std::cell::Cell::new(0);
    let result = runner.run(&cases, |both| {
        let theirs = runtime.block_on(async {
            let frame = context.sql(&format!("SELECT {} AS result FROM rows", both.theirs)).await?;
            frame.collect().await
        });
        // What the engine refuses there is nothing to compare with, such as an interval beyond its range.
        let Ok(batches) = theirs else { return Ok(()) };
        let theirs: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(0).as_ref()).collect();
        let theirs = arrow::compute::concat(&theirs).expect("they are of one type");
        compared.set(compared.get() + 1);
        match difference(&ours(&both.ours, &rows), &theirs) {
            None => Ok(()),
            Some(difference) => Err(TestCaseError::fail(format!("{} | {}: {difference}", both.ours, both.theirs))),
        }
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(compared.get() > 340, "only {} were compared", compared.get());
}
