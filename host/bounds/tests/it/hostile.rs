//! What a bounded transform may not do, and what it does all the same.

use mezze_bounds::bound;
use mezze_core::TransformId;

use crate::guests::component;
use crate::instance::{Column, FUEL, MEMORY, OUTPUT, Running, Values, engine, engine_for_plain};

fn bounded(name: &str) -> Vec<u8> {
    bound(TransformId::from_bytes([7; 32]), &component(name)).expect("it can be bounded").module
}

/// The module of a component that was not bounded.
fn plain(name: &str) -> Vec<u8> {
    let component = component(name);
    wasmparser::Parser::new(0)
        .parse_all(&component)
        .find_map(|payload| match payload.expect("it can be read") {
            wasmparser::Payload::ModuleSection { unchecked_range, .. } => Some(component[unchecked_range].to_vec()),
            _ => None,
        })
        .expect("it has a module")
}

fn deeds(deeds: &[i64]) -> Vec<Column> {
    vec![Column { values: Values::Ints(deeds.to_vec()), valid: None }]
}

fn done(values: &[i64]) -> Result<Vec<Column>, String> {
    Ok(deeds(values))
}

#[test]
fn bounded_it_computes_the_same_bits() {
    let odd = [0.0, -0.0, 1.5, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX, 5e-324];
    let odd = odd.map(f64::to_bits).into_iter().chain([0xfff8_0000_0000_0001, 0x7ff0_0000_0000_0001]);
    let odd: Vec<u64> = odd.collect();
    let ints = [0, 1, -1, i64::MAX, i64::MIN, 1_000];
    let mut rows: (Vec<u64>, Vec<i64>, Vec<u64>, Vec<u8>) = Default::default();
    for (number, income) in odd.iter().enumerate() {
        for loan in ints {
            rows.0.push(*income);
            rows.1.push(loan);
            rows.2.push(odd[(number * 5 + 3) % odd.len()]);
            rows.3.push(u8::from(number % 3 != 0));
        }
    }
    let count = rows.1.len() as u32;
    let cities: Vec<&str> = (0..rows.1.len()).map(|row| ["", "Österreich", "a"][row % 3]).collect();
    let mut offsets = vec![0];
    for city in &cities {
        offsets.push(offsets[offsets.len() - 1] + city.len() as u32);
    }
    let inputs = [
        Column { values: Values::Floats(rows.0), valid: Some(rows.3.clone()) },
        Column { values: Values::Ints(rows.1.clone()), valid: None },
        Column { values: Values::Floats(rows.2), valid: Some(rows.3.clone()) },
        Column { values: Values::Bytes(offsets, cities.concat().into_bytes()), valid: None },
        Column { values: Values::Ints(rows.1.clone()), valid: Some(rows.3) },
        Column { values: Values::Ints(rows.1), valid: None },
    ];
    let expected = Running::new(&engine_for_plain(false), &plain("burden")).call(count, &inputs);
    assert!(expected.as_ref().is_ok_and(|columns| columns.len() == 5), "{expected:?}");
    let mut bounded = Running::new(&engine(), &bounded("burden"));
    for _ in 0..3 {
        assert_eq!(bounded.call(count, &inputs), expected);
    }
}

#[test]
fn every_deed_is_stopped_and_the_next_call_is_as_new() {
    let mut running = Running::new(&engine(), &bounded("hostile"));
    assert_eq!(running.call(2, &deeds(&[0, 0])), done(&[1, 1]));
    for (deed, letter) in [(1, 'f'), (2, 'm'), (3, 'o'), (4, 's'), (5, 't'), (12, 'o')] {
        assert_eq!(running.call(1, &deeds(&[deed])), Err(format!("\u{1}{letter}")), "deed {deed}");
        assert_eq!(running.call(2, &deeds(&[0, 0])), done(&[1, 1]), "after deed {deed}");
    }
    // What is wrong with these is not for the module to say.
    assert_eq!(running.call(1, &deeds(&[7])), done(&[0, 0]));
    assert_eq!(running.call(1, &deeds(&[11])), Err("it does not like this row".into()));
    assert_eq!(running.call(1, &deeds(&[8])), Ok(vec![]));
    // What one call leaves behind.
    for _ in 0..3 {
        assert_eq!(running.call(1, &deeds(&[13])), done(&[0]));
    }
}

#[test]
fn ten_thousand_deeds_take_no_more_memory_than_the_first() {
    let mut running = Running::new(&engine(), &bounded("hostile"));
    let all = [2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13];
    let first: Vec<_> = all.iter().map(|deed| running.call(1, &deeds(&[*deed]))).collect();
    let pages = running.pages();
    // A full memory is slow to fill and to empty: fewer of those.
    for (number, deed) in all.iter().cycle().filter(|deed| **deed > 3).enumerate().take(10_000) {
        let place = all.iter().position(|known| known == deed).expect("it is one of them");
        assert_eq!(running.call(1, &deeds(&[*deed])), first[place], "call {number}, deed {deed}");
    }
    for _ in 0..100 {
        assert_eq!(running.call(1, &deeds(&[2])), first[0]);
        assert_eq!(running.call(1, &deeds(&[3])), first[1]);
    }
    assert_eq!(running.pages(), pages);
    assert_eq!(running.call(2, &deeds(&[0, 0])), done(&[1, 1]));
}

#[test]
fn limits_count_from_the_very_first_instruction() {
    let mut running = Running::new(&engine(), &bounded("hostile"));
    assert_eq!(running.call_within(1, &deeds(&[0]), (0, MEMORY, OUTPUT)), Err("\u{1}f".into()));
    // Less than it begins with.
    assert_eq!(running.call_within(1, &deeds(&[0]), (FUEL, 1 << 16, OUTPUT)), Err("\u{1}m".into()));
    // So much input that making room for it is too much: it is stopped, and says so.
    let many = vec![0; 1 << 20];
    assert_eq!(running.call_within(1 << 20, &deeds(&many), (FUEL, 2 << 20, OUTPUT)), Err("\u{1}m".into()));
    assert_eq!(running.call(2, &deeds(&[0, 0])), done(&[1, 1]));
}
