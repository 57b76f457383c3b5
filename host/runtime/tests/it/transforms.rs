//! Transforms in wasmtime: the values of the same function run natively, and nothing that a transform does harms its host.

use std::sync::Arc;

use mezze_core::{
    ExpressionColumn, FeatureSchema, RunTransforms as _, Transform, TransformCall, TransformFault, TransformFaultKind,
    TransformId, TransformLimits, Value, ValueType, decode_payload,
};
use mezze_runtime::{Transforms, TransformsConfig};

use super::guests::component;

fn engine() -> Transforms {
    Transforms::new(TransformsConfig::default()).expect("there is an engine")
}

/// Calls a component with values by column.
fn call(
    engine: &Transforms,
    id: TransformId,
    limits: TransformLimits,
    inputs: &[(ValueType, Vec<Value>)],
    outputs: &[FeatureSchema],
) -> Result<Vec<ExpressionColumn<'static>>, TransformFault> {
    let rows = inputs.first().map_or(0, |(_, values)| values.len());
    let types: Vec<ValueType> = inputs.iter().map(|(value_type, _)| value_type.clone()).collect();
    let made: Vec<_> = inputs.iter().map(|(value_type, values)| ExpressionColumn::of_values(value_type, values)).collect();
    let columns: Vec<_> = made.iter().zip(&types).map(|(column, value_type)| column.full_for(value_type, rows)).collect();
    let transform = Transform { id, limits };
    TransformCall { transform: &transform, rows, inputs: &columns, input_types: &types, outputs }.run(engine)
}

/// A call of the hostile one, a row a deed.
fn deeds(engine: &Transforms, id: TransformId, deeds: &[i64]) -> Result<Vec<Option<i64>>, TransformFault> {
    let limits = TransformLimits { memory_bytes: 16 << 20, ..TransformLimits::DEFAULT };
    let inputs = [(ValueType::Int64, deeds.iter().map(|deed| Value::Int(*deed)).collect())];
    let made = call(engine, id, limits, &inputs, &[FeatureSchema::new("done", ValueType::Int64)])?;
    Ok((0..deeds.len()).map(|row| made[0].int(row)).collect())
}

#[test]
fn a_component_says_what_it_takes_and_gives() {
    let engine = engine();
    let id = engine.add(&component("burden")).expect("it is a transform");
    let schema = engine.schema(&id).expect("it has a schema");
    let shown = |fields: &[FeatureSchema]| {
        fields.iter().map(|field| format!("{} {}", field.name, field.value_type)).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(
        shown(&schema.inputs),
        "income float64, loan_amnt int64, debt float64, city string, since unix_timestamp, now unix_timestamp"
    );
    assert_eq!(shown(&schema.outputs), "burden float64, strain float64, grade string, payments list<float64>, days int64");
}

#[test]
fn a_component_computes_what_its_function_does() {
    let engine = engine();
    let id = engine.add(&component("burden")).expect("it is a transform");
    let outputs = engine.schema(&id).expect("it has a schema").outputs;
    let floats = [0.0, -0.0, 52_000.0, 1e308, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324];
    let texts = ["", "Zürich", "日本", "a\u{0}b"];
    type Row<'t> = (f64, i64, Option<f64>, Option<&'t str>, Option<i64>);
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (number, income) in floats.iter().enumerate() {
        for (other, loan) in [0, 1, -1, i64::MIN, i64::MAX].into_iter().enumerate() {
            let debt = (other % 2 == 0).then(|| floats[(number + other) % floats.len()]);
            let city = (other % 3 != 0).then(|| texts[(number + other) % texts.len()]);
            rows.push((*income, loan, debt, city, (other != 4).then_some(loan)));
        }
    }
    const NOW: i64 = 1_709_164_800_000_000_000;
    let column = |value: &dyn Fn(usize) -> Value| (0..rows.len()).map(value).collect::<Vec<_>>();
    let inputs = [
        (ValueType::Float64, column(&|row| Value::Float64(rows[row].0))),
        (ValueType::Int64, column(&|row| Value::Int(rows[row].1))),
        (ValueType::Float64, column(&|row| rows[row].2.map_or(Value::Null, Value::Float64))),
        (ValueType::String, column(&|row| rows[row].3.map_or(Value::Null, |text| Value::String(text.into())))),
        (ValueType::UnixTimestamp, column(&|row| rows[row].4.map_or(Value::Null, Value::Int))),
        (ValueType::UnixTimestamp, column(&|_| Value::Int(NOW))),
    ];
    let made = call(&engine, id, TransformLimits::DEFAULT, &inputs, &outputs).expect("it computes");
    let payments = ValueType::List(Box::new(ValueType::Float64));
    let bits = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
    for (row, (income, loan, debt, city, since)) in rows.iter().enumerate() {
        let time = mezze_transform::Timestamp;
        let (burden, strain, grade, owed, days) =
            mezze_example_burden::burden(*income, *loan, *debt, *city, since.map(time), time(NOW));
        let shown = format!("row {row}: {:?}", rows[row]);
        assert_eq!(made[0].float(row).map(f64::to_bits), Some(bits(burden)), "{shown}");
        // The component's own logarithm is that of every host, but not that of this machine's C library.
        let near = made[1].float(row).expect("it is there");
        assert!(near == strain || (near - strain).abs() <= strain.abs() * 1e-15 || near.is_nan() && strain.is_nan(), "{shown}");
        assert_eq!(made[2].bytes(row), grade.as_deref().map(str::as_bytes), "{shown}");
        let Ok(Value::List(found)) = decode_payload(&payments, made[3].bytes(row).expect("it is there")) else {
            panic!("{shown}: no list")
        };
        let found: Vec<u64> =
            found.iter().map(|value| if let Value::Float64(value) = value { value.to_bits() } else { 0 }).collect();
        assert_eq!(found, owed.values().map(|value| bits(*value)).collect::<Vec<_>>(), "{shown}");
        assert_eq!(made[4].int(row), days, "{shown}");
    }
}

#[test]
fn null_parameters_give_null_features() {
    let engine = engine();
    let id = engine.add(&component("burden")).expect("it is a transform");
    let outputs = engine.schema(&id).expect("it has a schema").outputs;
    let one = |value_type, value| (value_type, vec![value]);
    let inputs = [
        one(ValueType::Float64, Value::Null),
        one(ValueType::Int64, Value::Int(1)),
        one(ValueType::Float64, Value::Null),
        one(ValueType::String, Value::Null),
        one(ValueType::UnixTimestamp, Value::Null),
        one(ValueType::UnixTimestamp, Value::Int(0)),
    ];
    let made = call(&engine, id, TransformLimits::DEFAULT, &inputs, &outputs).expect("it computes");
    assert!(made.iter().all(|column| !column.is_valid(0)));
}

#[test]
fn every_deed_is_stopped_for_what_it_is() {
    let engine = engine();
    let id = engine.add(&component("hostile")).expect("it is a transform");
    assert_eq!(deeds(&engine, id, &[0, 0]), Ok(vec![Some(1), Some(1)]));
    let expected = [
        (1, TransformFaultKind::Fuel, "instructions"),
        (2, TransformFaultKind::Memory, "it may have 16777216"),
        (3, TransformFaultKind::Memory, "bytes of memory"),
        // The stack of Rust is in the memory, and ends where that begins.
        (4, TransformFaultKind::Trap, "out of bounds memory access"),
        (5, TransformFaultKind::Trap, "unreachable"),
        (6, TransformFaultKind::BadOutput, "column done: it gave floats, declared is int64"),
        (7, TransformFaultKind::BadOutput, "column done: it gave 2 values for 1 rows"),
        (8, TransformFaultKind::BadOutput, "it gave 0 columns, declared are 1"),
        (9, TransformFaultKind::BadOutput, "it gave 2 columns, declared are 1"),
        (10, TransformFaultKind::BadOutput, "it said of 4 values whether they are null"),
        (11, TransformFaultKind::Refused, "it does not like this row"),
    ];
    for (deed, kind, message) in expected {
        let fault = deeds(&engine, id, &[deed]).expect_err("it is stopped");
        assert_eq!(fault.kind, kind, "deed {deed}: {fault}");
        assert!(fault.message.contains(message), "deed {deed}: {fault}");
        // The next call is as though nothing had been.
        assert_eq!(deeds(&engine, id, &[0]), Ok(vec![Some(1)]), "after deed {deed}");
    }
}

#[test]
fn what_is_given_back_has_a_bound_of_its_own() {
    let engine = engine();
    let id = engine.add(&component("hostile")).expect("it is a transform");
    let roomy = TransformLimits { memory_bytes: 256 << 20, fuel: u64::MAX, ..TransformLimits::DEFAULT };
    for deed in [3, 12] {
        let inputs = [(ValueType::Int64, vec![Value::Int(deed)])];
        let fault =
            call(&engine, id, roomy, &inputs, &[FeatureSchema::new("done", ValueType::Int64)]).expect_err("it is stopped");
        assert_eq!(fault.kind, TransformFaultKind::OutputSize, "deed {deed}: {fault}");
    }
}

#[test]
fn a_deadline_ends_what_fuel_does_not() {
    let engine = engine();
    let id = engine.add(&component("hostile")).expect("it is a transform");
    let limits = TransformLimits { fuel: u64::MAX, millis: 30, ..TransformLimits::DEFAULT };
    let inputs = [(ValueType::Int64, vec![Value::Int(1)])];
    let fault = call(&engine, id, limits, &inputs, &[FeatureSchema::new("done", ValueType::Int64)]).expect_err("it is stopped");
    assert_eq!((fault.kind, fault.message.as_str()), (TransformFaultKind::Time, "it took longer than 30 ms"));
}

#[test]
fn no_call_sees_what_another_left() {
    let engine = engine();
    let id = engine.add(&component("hostile")).expect("it is a transform");
    for _ in 0..3 {
        assert_eq!(deeds(&engine, id, &[13, 13]), Ok(vec![Some(0), Some(0)]));
    }
}

/// What the process has of the machine's memory, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("there is a /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has a size");
    line.trim().trim_end_matches("kB").trim().parse().expect("it is a number")
}

#[test]
fn ten_thousand_deeds_leave_nothing_behind_and_others_unharmed() {
    let engine = Arc::new(engine());
    let id = engine.add(&component("hostile")).expect("it is a transform");
    // A small budget: a loop that is stopped late is no different from one that is stopped early.
    let limits = TransformLimits { memory_bytes: 4 << 20, fuel: 200_000, ..TransformLimits::DEFAULT };
    let outputs = [FeatureSchema::new("done", ValueType::Int64)];
    let run = |deed: i64| call(&engine, id, limits, &[(ValueType::Int64, vec![Value::Int(deed)])], &outputs);
    for deed in 0..14 {
        let _ = run(deed);
    }
    let before = resident();
    std::thread::scope(|scope| {
        let good = scope.spawn(|| {
            for _ in 0..2_000 {
                let made = run(0).expect("it is unharmed");
                assert_eq!(made[0].int(0), Some(1));
            }
        });
        for number in 0..10_000_i64 {
            let deed = 1 + number % 12;
            assert!(run(deed).is_err(), "deed {deed}");
        }
        good.join().expect("it is unharmed");
    });
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more after ten thousand calls");
}

#[test]
fn what_is_no_transform_is_refused() {
    let engine = engine();
    let refused = |bytes: &[u8]| engine.add(bytes).expect_err("it is refused").to_string();
    assert!(refused(b"not wasm").contains("it is no component"), "{}", refused(b"not wasm"));
    // A module, not a component.
    assert!(refused(b"\0asm\x01\0\0\0").contains("it is no component"), "{}", refused(b"\0asm\x01\0\0\0"));
    // A component without anything.
    let empty = refused(b"\0asm\x0d\0\x01\0");
    assert!(empty.contains("it is not of the world mezze:features/transform"), "{empty}");
    // A component that imports a function `clock`.
    let mut imports = b"\0asm\x0d\0\x01\0".to_vec();
    imports.extend([7, 5, 1, 0x40, 0, 1, 0]);
    imports.extend([10, 10, 1, 0, 5]);
    imports.extend(b"clock");
    imports.extend([1, 0]);
    let imports = refused(&imports);
    assert!(imports.contains("it imports `clock`; a transform imports nothing"), "{imports}");
    let known = engine.carried();
    assert!(known.is_empty(), "{known:?}");
    let id = TransformId::from_bytes([7; 32]);
    let fault = deeds(&engine, id, &[0]).expect_err("it is not there");
    assert_eq!(fault.kind, TransformFaultKind::NotCarried);
}
