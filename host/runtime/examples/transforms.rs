//! What a component costs: the same Rust code natively and in wasmtime, over many rows and for one.
//!
//! `cargo run --release -p mezze-runtime --example transforms -- COMPONENT [ROWS]`, where COMPONENT is guest/examples/burden as a
//! component (`mezze transform build guest/examples/burden`).
#![allow(clippy::print_stdout, reason = "it is for people")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use mezze_core::{ExpressionColumn, Transform, TransformCall, TransformLimits, Value, ValueType};
use mezze_runtime::{Transforms, TransformsConfig};
use mezze_transform::bindings::exports::mezze::features::computation as native;
use mezze_transform::bindings::exports::mezze::features::computation::Guest as _;

const BATCH: usize = 1_024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("name a component")?;
    let rows: usize = arguments.next().as_deref().unwrap_or("2000000").parse()?;
    let engine = Transforms::new(TransformsConfig::for_jobs())?;
    let began = Instant::now();
    let id = engine.add(&std::fs::read(path)?)?;
    println!("compiled in {:.1?}", began.elapsed());
    let schema = engine.schema(&id)?;
    let transform = Transform { id, limits: TransformLimits::DEFAULT };
    let types: Vec<ValueType> = schema.inputs.iter().map(|input| input.value_type.clone()).collect();
    let batch = |rows: usize| -> Vec<ExpressionColumn<'static>> {
        let value = |column: usize, row: usize| match types.get(column) {
            Some(ValueType::Float64) if (row + column) % 10 == 9 && column > 1 => Value::Null,
            Some(ValueType::Float64) => Value::Float64(1_000.0 + (row * 7_919 % 100_000) as f64),
            Some(ValueType::String) => {
                Value::String(["Berlin", "Zürich", "Fort Worth"].get(row % 3).map_or("", |text| text).into())
            }
            Some(ValueType::UnixTimestamp) => Value::Int(1_700_000_000_000_000_000 + row as i64),
            _ => Value::Int((row * 31 % 40_000) as i64),
        };
        (0..types.len())
            .zip(&types)
            .map(|(column, found)| {
                ExpressionColumn::of_values(found, &(0..rows).map(|row| value(column, row)).collect::<Vec<_>>())
            })
            .collect()
    };
    let columns = batch(BATCH);
    let inputs: Vec<ExpressionColumn<'_>> =
        columns.iter().zip(&types).map(|(column, found)| column.full_for(found, BATCH)).collect();
    let call =
        TransformCall { transform: &transform, rows: BATCH, inputs: &inputs, input_types: &types, outputs: &schema.outputs };
    let batches = rows.div_ceil(BATCH);
    let mut best = [Duration::MAX; 2];
    for _ in 0..5 {
        let began = Instant::now();
        for _ in 0..batches {
            let columns: Vec<native::Column> = inputs.iter().map(native_column).collect();
            black_box(mezze_example_burden::MezzeTransform::run(BATCH as u32, columns)?);
        }
        best[0] = best[0].min(began.elapsed());
        let began = Instant::now();
        for _ in 0..batches {
            black_box(call.run(&engine)?);
        }
        best[1] = best[1].min(began.elapsed());
    }
    let rate = |time: Duration| (batches * BATCH) as f64 / time.as_secs_f64() / 1e6;
    println!("native     {:.2} M rows/s", rate(best[0]));
    println!("component  {:.2} M rows/s, {:.2} of native", rate(best[1]), rate(best[1]) / rate(best[0]));
    let columns = batch(1);
    let inputs: Vec<ExpressionColumn<'_>> = columns.iter().zip(&types).map(|(column, found)| column.full_for(found, 1)).collect();
    let call = TransformCall { rows: 1, inputs: &inputs, ..call };
    let mut times: Vec<Duration> = Vec::with_capacity(20_000);
    for _ in 0..20_000 {
        let began = Instant::now();
        black_box(call.run(&engine)?);
        times.push(began.elapsed());
    }
    times.sort();
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or_default();
    println!("one row    p50 {:.1?}, p99 {:.1?}", at(0.5), at(0.99));
    Ok(())
}

/// A column as the SDK has it.
fn native_column(column: &ExpressionColumn<'_>) -> native::Column {
    let values = match &column.values {
        mezze_core::Values::Int(values) => native::Values::Ints(values.to_vec()),
        mezze_core::Values::Float(values) => native::Values::Floats(values.to_vec()),
        mezze_core::Values::Bytes { offsets, data, .. } => {
            native::Values::Bytes(native::Payloads { offsets: offsets.clone(), data: data.to_vec() })
        }
        mezze_core::Values::Null => native::Values::Ints(Vec::new()),
    };
    native::Column { values, valid: column.valid.as_deref().map(<[u8]>::to_vec) }
}
