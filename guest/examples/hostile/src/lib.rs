//! A transform that does what its input says: well where that is 0, and otherwise something that no transform should do.
#![cfg(target_family = "wasm")]

use std::hint::black_box;

use mezze_transform::bindings::exports::mezze::features::computation::{Column, Field, Guest, Payloads, Schema, Values};

struct Hostile;

impl Guest for Hostile {
    fn describe() -> Schema {
        let field = |name: &str| Field { name: name.into(), dtype: "int64".into() };
        Schema { inputs: vec![field("deed")], outputs: vec![field("done")] }
    }

    fn run(rows: u32, inputs: Vec<Column>) -> Result<Vec<Column>, String> {
        let Some(Values::Ints(deeds)) = inputs.first().map(|column| &column.values) else { return Err("no deeds".into()) };
        let rows = rows as usize;
        let ints = |values: Vec<i64>| Column { values: Values::Ints(values), valid: None };
        let bytes = |offsets: Vec<u32>, data: Vec<u8>| Column { values: Values::Bytes(Payloads { offsets, data }), valid: None };
        let done = || vec![ints(deeds.iter().map(|deed| deed + 1).collect())];
        match deeds.iter().copied().find(|deed| *deed != 0) {
            None => Ok(done()),
            Some(1) => loop {
                black_box(rows);
            },
            Some(2) => {
                let mut kept = Vec::new();
                loop {
                    kept.push(black_box(vec![1_u8; 1 << 20]));
                }
            }
            // More than it may give, in one list.
            Some(3) => Ok(vec![bytes(vec![0, 32 << 20], vec![b'x'; 32 << 20])]),
            Some(4) => Err(deep(black_box(1)).to_string()),
            Some(5) => panic!("on purpose"),
            // Other types, columns and rows than it declares.
            Some(6) => Ok(vec![Column { values: Values::Floats(vec![0.5; rows]), valid: None }]),
            Some(7) => Ok(vec![ints(vec![0; rows + 1])]),
            Some(8) => Ok(vec![]),
            Some(9) => Ok(vec![ints(vec![0; rows]), ints(vec![0; rows])]),
            Some(10) => Ok(vec![Column { values: Values::Ints(vec![0; rows]), valid: Some(vec![1; rows + 3]) }]),
            Some(11) => Err("it does not like this row".into()),
            Some(12) => Err("x".repeat(16 << 20)),
            // What one call leaves behind.
            Some(13) => {
                let before = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(vec![ints(vec![before; rows])])
            }
            Some(_) => Ok(done()),
        }
    }
}

static COUNT: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);

#[expect(unconditional_recursion, reason = "the stack is to overflow")]
#[inline(never)]
fn deep(depth: u64) -> u64 {
    let here = black_box([depth; 64]);
    deep(here[0] + 1) + here[63]
}

mezze_transform::bindings::export_transform!(Hostile with_types_in mezze_transform::bindings);
