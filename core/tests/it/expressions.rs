//! Programs of any functions over any columns.

use std::borrow::Cow;

use mezze_core::{Constant, ExpressionColumn, Function, LinkInput, Program, ProgramStep, Values};
use proptest::prelude::*;

/// A value of any lane.
#[derive(Clone, Debug)]
enum Cell {
    Bytes(Vec<u8>),
    Float(f64),
    Int(i64),
    Null,
}

fn cell(lane: u8) -> BoxedStrategy<Cell> {
    let odd_ints = prop_oneof![
        Just(0),
        Just(1),
        Just(-1),
        Just(i64::MIN),
        Just(i64::MAX),
        Just(86_400_000_000_000),
        -5_i64..20,
        any::<i64>(),
    ];
    let odd_floats = prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(f64::MAX),
        Just(5e-324),
        -10.0..10.0,
        any::<f64>(),
    ];
    let payloads: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"abc".to_vec(),
        "äöü日本語".into(),
        b"12.5".to_vec(),
        b"%a_".to_vec(),
        b"2024-02-29T12:00:00+02:00".to_vec(),
        b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11".to_vec(),
        vec![0xff, 0xfe],
        vec![7; 12],
        vec![9; 16],
        // Lists: of an int64 and a null, of two floats, of a text, and one whose count is a lie.
        [&[2, 9][..], &3_i64.to_le_bytes(), &[0]].concat(),
        [&[2, 9][..], &1.5_f64.to_le_bytes(), &[9], &f64::NAN.to_le_bytes()].concat(),
        vec![1, 2, b'a'],
        vec![200, 1, 1],
        vec![3, 9, 1],
    ];
    let values = match lane {
        0 => odd_ints.prop_map(Cell::Int).boxed(),
        1 => odd_floats.prop_map(Cell::Float).boxed(),
        _ => proptest::sample::select(payloads).prop_map(Cell::Bytes).boxed(),
    };
    prop_oneof![5 => values, 1 => Just(Cell::Null)].boxed()
}

fn column(lane: u8, cells: &[Cell]) -> ExpressionColumn<'static> {
    let valid: Vec<u8> = cells.iter().map(|cell| u8::from(!matches!(cell, Cell::Null))).collect();
    let values = match lane {
        0 => Values::Int(cells.iter().map(|cell| if let Cell::Int(value) = cell { *value } else { 0 }).collect()),
        1 => Values::Float(cells.iter().map(|cell| if let Cell::Float(value) = cell { *value } else { 0.0 }).collect()),
        _ => {
            let (mut offsets, mut data) = (vec![0], Vec::new());
            for cell in cells {
                if let Cell::Bytes(bytes) = cell {
                    data.extend_from_slice(bytes);
                }
                offsets.push(data.len() as u32);
            }
            Values::Bytes { offsets, data: Cow::Owned(data), constant: false }
        }
    };
    let valid = valid.contains(&0).then_some(Cow::Owned(valid));
    ExpressionColumn { values, valid }
}

fn constant() -> impl Strategy<Value = Constant> {
    (0_u8..3).prop_flat_map(cell).prop_map(|cell| match cell {
        Cell::Null => Constant::Null,
        Cell::Int(value) => Constant::Int(value),
        Cell::Float(value) => Constant::Float(value),
        Cell::Bytes(bytes) => Constant::Bytes(bytes),
    })
}

/// A program of any steps; what they take is any register before them, of whatever lane.
fn program(input_count: u16) -> impl Strategy<Value = Program> {
    let steps =
        prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(any::<prop::sample::Index>(), 5)), 1..24);
    (prop::collection::vec(constant(), 1..6), steps).prop_map(move |(constants, drawn)| {
        let mut steps = Vec::new();
        for (function, arguments) in drawn {
            let function = *function.get(Function::ALL);
            let count = (1..=5).find(|count| function.takes(*count)).expect("every function takes one to five");
            let before = usize::from(input_count) + constants.len() + steps.len();
            let arguments = arguments.iter().take(count).map(|argument| argument.index(before) as u16).collect();
            steps.push(ProgramStep { function, arguments });
        }
        let count = usize::from(input_count) + constants.len() + steps.len();
        let outputs = (0..count).map(|register| register as u16).collect();
        Program::new(input_count, constants, steps, outputs).expect("it is well-formed")
    })
}

/// Lanes of three inputs, and rows of them.
fn inputs() -> impl Strategy<Value = (Vec<u8>, Vec<Vec<Cell>>)> {
    (prop::collection::vec(0_u8..3, 3), 1_usize..7).prop_flat_map(|(lanes, rows)| {
        let columns: Vec<_> = lanes.iter().map(|lane| prop::collection::vec(cell(*lane), rows)).collect();
        (Just(lanes), columns)
    })
}

/// The value of a row, bit by bit.
fn shown(column: &ExpressionColumn<'_>, row: usize) -> String {
    match (column.int(row), column.float(row), column.bytes(row)) {
        (Some(value), ..) => format!("int {value}"),
        (_, Some(value), _) => format!("float {:016x}", value.to_bits()),
        (.., Some(bytes)) => format!("bytes {bytes:x?}"),
        _ => "null".to_owned(),
    }
}

/// A program that nobody's compiler makes: what it computes of a lane that a function does not take is null in every row.
#[test]
fn a_lane_that_a_function_does_not_take_gives_nulls_and_nothing_shorter() {
    for function in [Function::IntToFloat, Function::Not] {
        let steps = vec![
            ProgramStep { function, arguments: [0].into() },
            ProgramStep { function: Function::Coalesce, arguments: [1, 2].into() },
        ];
        let program = Program::new(2, Vec::new(), steps, vec![2, 3]).expect("it is well-formed");
        let columns =
            vec![ExpressionColumn::floats(vec![0.5, 1.5], None), ExpressionColumn::floats(vec![2.5, 3.5], Some(vec![1, 0]))];
        let made = program.run(columns, 2);
        assert_eq!([shown(&made[0], 0), shown(&made[0], 1)], ["null", "null"], "{function:?}");
        assert_eq!([shown(&made[1], 0), shown(&made[1], 1)], ["float 4004000000000000", "null"], "{function:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Many rows at once, as a join computes them, give what each gives alone, as a request computes it; and no program, sensible or
    /// not, does more than give values.
    #[test]
    fn rows_together_give_what_each_gives_alone(program in program(3), (lanes, cells) in inputs()) {
        let rows = cells[0].len();
        let columns = lanes.iter().zip(&cells).map(|(lane, cells)| column(*lane, cells)).collect();
        let together = program.run(columns, rows);
        prop_assert_eq!(together.len(), program.outputs().len());
        for row in 0..rows {
            let columns = lanes.iter().zip(&cells).map(|(lane, cells)| column(*lane, &cells[row..=row])).collect();
            let alone = program.run(columns, 1);
            for (output, (together, alone)) in together.iter().zip(&alone).enumerate() {
                prop_assert_eq!(shown(together, row), shown(alone, 0), "output {}, row {}", output, row);
            }
        }
    }

    /// Programs linked to one give what they give one after the other.
    #[test]
    fn linked_programs_give_what_they_give_one_by_one(
        first in program(3),
        second in program(3),
        (lanes, cells) in inputs(),
        taken in prop::collection::vec(any::<prop::sample::Index>(), 2),
        wanted in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let rows = cells[0].len();
        let columns = || -> Vec<ExpressionColumn<'static>> { lanes.iter().zip(&cells).map(|(lane, cells)| column(*lane, cells)).collect() };
        let of_first = first.run(columns(), rows);
        let taken: Vec<usize> = taken.iter().map(|taken| taken.index(of_first.len())).collect();
        let expected = second.run(vec![of_first[taken[0]].clone(), of_first[taken[1]].clone(), columns().remove(2)], rows);
        let of_program = |output| LinkInput::Output { program: 0, output };
        let programs = [
            (&first, (0..3).map(LinkInput::Column).collect()),
            (&second, vec![of_program(taken[0]), of_program(taken[1]), LinkInput::Column(2)]),
        ];
        let outputs: Vec<(usize, usize)> = wanted.iter().map(|wanted| (1, wanted.index(expected.len()))).collect();
        let (linked, used) = Program::link(&programs, &outputs).expect("it fits");
        prop_assert!(linked.register_count() <= first.register_count() + second.register_count());
        let found = linked.run(used.iter().map(|column| columns().remove(*column as usize)).collect(), rows);
        for ((_, output), found) in outputs.iter().zip(&found) {
            for row in 0..rows {
                prop_assert_eq!(shown(found, row), shown(&expected[*output], row), "output {}, row {}", output, row);
            }
        }
    }
}

/// What a processor makes of `inf - inf` has a sign on one host and none on another.
#[test]
fn a_nan_on_the_way_into_a_list_has_its_one_form() {
    let step = |function, arguments: &[u16]| ProgramStep { function, arguments: arguments.into() };
    let steps =
        vec![step(Function::SubtractFloat, &[0, 0]), step(Function::ListOfFloats, &[1]), step(Function::ListOfFloats, &[0])];
    let program = Program::new(1, vec![], steps, vec![2, 3]).expect("it is well-formed");
    let odd = f64::from_bits(0xfff8_0000_0000_0001);
    let made = program.run(vec![ExpressionColumn::floats(vec![f64::INFINITY, odd], None)], 2);
    let nan: Vec<u8> = [&[1, 9][..], &f64::NAN.to_bits().to_le_bytes()].concat();
    assert_eq!((made[0].bytes(0), made[0].bytes(1), made[1].bytes(1)), (Some(&nan[..]), Some(&nan[..]), Some(&nan[..])));
}

#[test]
fn codes_are_of_one_function_each() {
    for (number, function) in Function::ALL.iter().enumerate() {
        assert_eq!(Function::of_code(function.code()), Some(*function));
        assert!(Function::ALL.iter().skip(number + 1).all(|other| other.code() != function.code()), "{function:?}");
    }
    assert_eq!(Function::of_code(0), None);
}

#[test]
fn programs_that_name_what_is_not_there_are_none() {
    let step = |function, arguments: &[u16]| ProgramStep { function, arguments: arguments.into() };
    assert!(Program::new(1, vec![], vec![step(Function::AddInt, &[0, 1])], vec![0]).is_none(), "itself");
    assert!(Program::new(1, vec![], vec![step(Function::AddInt, &[0])], vec![0]).is_none(), "too few");
    assert!(Program::new(1, vec![], vec![step(Function::AddInt, &[0, 0])], vec![2]).is_none(), "no such output");
    assert!(Program::new(1, vec![], vec![step(Function::AddInt, &[0, 0])], vec![1]).is_some());
}
