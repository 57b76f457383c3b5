//! Modules written by hand: what is counted, what is refused, and the bits of NaN.

use mezze_bounds::{BoundError, bound, bound_module};
use mezze_core::TransformId;
use proptest::prelude::*;

use crate::instance::{Column, MEMORY, OUTPUT, Running, Values, engine, engine_for_plain};

/// A module with `run` as given, which puts the number of its own into the one value that it gives back.
fn module(body: &str, more: &str) -> Vec<u8> {
    wat::parse_str(text(body, more)).expect("it is a module")
}

fn text(body: &str, more: &str) -> String {
    format!(
        r#"(module
            (memory (export "memory") 1)
            {more}
            (global $heap (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                (global.get $heap)
                (global.set $heap (i32.add (global.get $heap) (local.get 3))))
            (func $work (param $rows i32) (param $in i32) (result i64) {body})
            (func (export "cabi_post_mezze:features/computation@0.1.0#run") (param i32))
            (func (export "mezze:features/computation@0.1.0#run") (param i32 i32 i32) (result i32)
                (i64.store (i32.const 256) (call $work (local.get 0) (i32.load offset=4 (local.get 1))))
                (i32.store8 (i32.const 64) (i32.const 0))
                (i32.store offset=4 (i32.const 64) (i32.const 128))
                (i32.store offset=8 (i32.const 64) (i32.const 1))
                (i32.store offset=4 (i32.const 128) (i32.const 256))
                (i32.store offset=8 (i32.const 128) (i32.const 1))
                (i32.const 64)))"#
    )
}

fn ints(values: &[i64]) -> Vec<Column> {
    vec![Column { values: Values::Ints(values.to_vec()), valid: None }]
}

fn run(bounded: &[u8], input: i64) -> Result<Vec<Column>, String> {
    Running::new(&engine(), bounded).call(1, &ints(&[input]))
}

fn run_plain(module: &[u8], input: i64) -> Result<Vec<Column>, String> {
    Running::new(&engine_for_plain(false), module).call(1, &ints(&[input]))
}

/// The value that a body gives, which the plain module has to give as well.
fn value(body: &str, input: i64) -> i64 {
    let module = module(body, "");
    let given = run(&bound_module(&module).expect("it can be bounded"), input);
    let Ok([Column { values: Values::Ints(values), .. }]) = given.as_deref() else { panic!("{given:?}") };
    assert_eq!(run_plain(&module, input), given);
    values[0]
}

#[test]
fn a_nan_has_one_form_whichever_operation_made_it() {
    let canonical = 0x7ff8_0000_0000_0000;
    let odd = "(f64.reinterpret_i64 (i64.const 0xfff8000000000123))";
    for body in [
        "(i64.reinterpret_f64 (f64.div (f64.const 0) (f64.const 0)))".to_owned(),
        format!("(i64.reinterpret_f64 (f64.add {odd} (f64.const 1)))"),
        format!("(i64.reinterpret_f64 (f64.min (f64.const 1) {odd}))"),
        format!("(i64.reinterpret_f64 (f64.sqrt {odd}))"),
        format!("(i64x2.extract_lane 1 (f64x2.mul (f64x2.splat {odd}) (f64x2.splat (f64.const 2))))"),
        format!("(i64.reinterpret_f64 (f64.promote_f32 (f32.demote_f64 {odd})))"),
    ] {
        assert_eq!(value(&body, 0), canonical, "{body}");
    }
    // The bits of one that was only carried are its own.
    assert_eq!(value(&format!("(i64.reinterpret_f64 (f64.neg {odd}))"), 0), 0x7ff8_0000_0000_0123);
    assert_eq!(value("(i64.extend_i32_u (i32.reinterpret_f32 (f32.sub (f32.const inf) (f32.const inf))))", 0), 0x7fc0_0000);
}

#[test]
fn divisions_that_trap_are_a_stop() {
    let of_input = "(i64.load (local.get $in))";
    for (body, input, expected) in [
        (format!("(i64.div_s (i64.const 7) {of_input})"), 2, Some(3)),
        (format!("(i64.div_s (i64.const 7) {of_input})"), 0, None),
        (format!("(i64.div_s (i64.const 0x8000000000000000) {of_input})"), -1, None),
        (format!("(i64.rem_s (i64.const 0x8000000000000000) {of_input})"), -1, Some(0)),
        (format!("(i64.div_u (i64.const 7) {of_input})"), 0, None),
        (format!("(i64.extend_i32_s (i32.div_s (i32.const 0x80000000) (i32.wrap_i64 {of_input})))"), -1, None),
        (format!("(i64.extend_i32_s (i32.rem_u (i32.const 7) (i32.wrap_i64 {of_input})))"), 4, Some(3)),
        (format!("(i64.extend_i32_s (i32.rem_u (i32.const 7) (i32.wrap_i64 {of_input})))"), 0, None),
    ] {
        match expected {
            Some(expected) => assert_eq!(value(&body, input), expected, "{body}"),
            None => {
                let bounded = bound_module(&module(&body, "")).expect("it can be bounded");
                assert_eq!(run(&bounded, input), Err("\u{1}t".into()), "{body}");
            }
        }
    }
}

#[test]
fn fuel_is_counted_as_wasmtime_does() {
    let body = "(local $sum i64) (local $left i64)
        (local.set $left (i64.load (local.get $in)))
        (block $end (loop $more
            (br_if $end (i64.eqz (local.get $left)))
            (if (i64.eqz (i64.rem_u (local.get $left) (i64.const 3)))
                (then (local.set $sum (i64.add (local.get $sum) (i64.const 5))))
                (else (local.set $sum (i64.mul (local.get $sum) (i64.const 3)))))
            (local.set $left (i64.sub (local.get $left) (i64.const 1)))
            (br $more)))
        (local.get $sum)";
    let module = module(body, "");
    let mut plain = Running::new(&engine_for_plain(true), &module);
    let full = plain.store.get_fuel().expect("it is counted");
    assert!(plain.call(1, &ints(&[10_000])).is_ok());
    let used = full - plain.store.get_fuel().expect("it is counted");
    let mut bounded = Running::new(&engine(), &bound_module(&module).expect("it can be bounded"));
    // What makes room for the input is counted by the one and not quite by the other.
    assert!(bounded.call_within(1, &ints(&[10_000]), (used + 100, MEMORY, OUTPUT)).is_ok(), "{used}");
    assert_eq!(bounded.call_within(1, &ints(&[10_000]), (used - 100, MEMORY, OUTPUT)), Err("\u{1}f".into()), "{used}");
}

#[test]
fn globals_memory_and_its_size_are_as_new_for_every_call() {
    let body = "(local $before i64)
        (local.set $before (i64.add (i64.extend_i32_u (memory.size)) (i64.add (global.get $calls) (i64.load8_u (i32.const 3000)))))
        (global.set $calls (i64.const 1000))
        (i64.store8 (i32.const 3000) (i64.const 77))
        (drop (memory.grow (i32.const 3)))
        (i64.store (i32.const 200000) (i64.const 9))
        (i64.add (local.get $before) (i64.load (i32.const 180000)))";
    let more = r#"(global $calls (mut i64) (i64.const 10)) (data (i32.const 3000) "\05")"#;
    let mut running = Running::new(&engine(), &bound_module(&module(body, more)).expect("it can be bounded"));
    for _ in 0..3 {
        assert_eq!(running.call(1, &ints(&[0])), Ok(ints(&[16])));
    }
}

#[test]
fn results_that_lie_outside_of_memory_are_none() {
    let wrong = |patch: &str| {
        // Written over what `run` says of its result.
        let text = format!("(i32.store offset=8 (i32.const 64) (i32.const 1)) {patch}");
        let module = wat::parse_str(format!(
            r#"(module (memory (export "memory") 1)
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
                (func (export "mezze:features/computation@0.1.0#run") (param i32 i32 i32) (result i32) (local $result i32)
                    (local.set $result (i32.const 64))
                    (i32.store offset=4 (i32.const 64) (i32.const 128))
                    (i32.store offset=4 (i32.const 128) (i32.const 256))
                    (i32.store offset=8 (i32.const 128) (i32.const 1))
                    {text} (local.get $result)))"#
        ));
        run(&bound_module(&module.expect("it is a module")).expect("it can be bounded"), 0)
    };
    assert_eq!(wrong(""), Ok(ints(&[0])));
    for patch in [
        "(local.set $result (i32.const 65533))",
        "(local.set $result (i32.const 66))",
        "(local.set $result (i32.const -4))",
        "(i32.store8 (i32.const 64) (i32.const 2))",
        "(i32.store offset=4 (i32.const 64) (i32.const 65520))",
        "(i32.store offset=8 (i32.const 64) (i32.const 0x7fffffff))",
        "(i32.store8 (i32.const 128) (i32.const 3))",
        "(i32.store offset=4 (i32.const 128) (i32.const 257))",
        "(i32.store offset=8 (i32.const 128) (i32.const 0x20000001))",
        "(i32.store8 (i32.const 128) (i32.const 2)) (i32.store offset=16 (i32.const 128) (i32.const 70000))",
        "(i32.store8 offset=20 (i32.const 128) (i32.const 1)) (i32.store offset=24 (i32.const 128) (i32.const -1))
         (i32.store offset=28 (i32.const 128) (i32.const 1))",
        "(i32.store8 offset=20 (i32.const 128) (i32.const 9))",
    ] {
        assert_eq!(wrong(patch), Err("\u{1}b".into()), "{patch}");
    }
}

/// Where no loop is, nothing may go on for long either.
#[test]
fn what_is_long_without_a_loop_is_stopped_too() {
    let stopped = |body: &str, more: &str| {
        let mut running = Running::new(&engine(), &bound_module(&module(body, more)).expect("it can be bounded"));
        running.call_within(1, &ints(&[0]), (1_000_000, MEMORY, OUTPUT))
    };
    let fills = "(memory.fill (i32.const 0) (i32.const 0) (i32.const 65536))".repeat(200);
    assert_eq!(stopped(&format!("{fills} (i64.const 0)"), ""), Err("\u{1}f".into()));
    let adds = "(global.set $g (i64.add (global.get $g) (i64.const 1)))".repeat(2_000);
    let leaf = format!("(global $g (mut i64) (i64.const 0)) (func $leaf {adds})");
    assert_eq!(stopped(&format!("{} (i64.const 0)", "(call $leaf)".repeat(2_000)), &leaf), Err("\u{1}f".into()));
    let deep = "(func $down (param i32) (if (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1)))
        (call $down (i32.sub (local.get 0) (i32.const 1))))))";
    assert_eq!(stopped("(call $down (i32.const 60)) (i64.const 0)", deep), Err("\u{1}f".into()));
    let endless = "(func $down (param i32) (call $down (local.get 0)))";
    assert_eq!(stopped("(call $down (i32.const 60)) (i64.const 0)", endless), Err("\u{1}s".into()));
    // A function with many locals needs more of a host's stack.
    let wide =
        format!("(func $down (param i64) (local {}) (call $down (i64.add (local.get 0) (local.get 150))))", "i64 ".repeat(300));
    assert_eq!(stopped("(call $down (i64.const 60)) (i64.const 0)", &wide), Err("\u{1}s".into()));
}

/// Memory that an earlier call has grown is there still, and out of its own bounds a module may write to it.
#[test]
fn what_is_written_beyond_its_pages_no_later_call_reads() {
    let body = "(local $what i64) (local.set $what (i64.load (local.get $in)))
        (if (i64.eq (local.get $what) (i64.const 1)) (then (drop (memory.grow (i32.const 3)))))
        (if (i64.eq (local.get $what) (i64.const 2)) (then (i64.store (i32.const 150000) (i64.const 4242))))
        (if (i64.eq (local.get $what) (i64.const 3)) (then (return (i64.load (i32.const 150000)))))
        (i64.const 0)";
    let mut running = Running::new(&engine(), &bound_module(&module(body, "")).expect("it can be bounded"));
    for what in [1, 3, 2, 3, 1, 3] {
        assert_eq!(running.call(1, &ints(&[what])), Ok(ints(&[0])), "{what}");
    }
}

#[test]
fn room_that_cannot_be_had_is_a_stop_and_takes_no_memory() {
    let with = |realloc: &str| {
        let text = format!(
            r#"(module (memory (export "memory") 1)
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
                (func (export "cabi_post_mezze:features/computation@0.1.0#run") (param i32))
                (func (export "mezze:features/computation@0.1.0#run") (param i32 i32 i32) (result i32) (i32.const 64)))"#
        );
        bound_module(&wat::parse_str(text).expect("it is a module")).expect("it can be bounded")
    };
    for realloc in ["(i32.const -8)", "(i32.const 8193)", "(i32.const 65532)", "unreachable"] {
        let mut running = Running::new(&engine(), &with(realloc));
        for _ in 0..100 {
            assert_eq!(running.call(1, &ints(&[0])), Err("\u{1}t".into()), "{realloc}");
        }
        assert_eq!(running.pages(), 1, "{realloc}");
    }
}

#[test]
fn what_begins_an_instance_is_bounded_too() {
    let body = "(i64.load (i32.const 3000))";
    let started = |start: &str| {
        let more = format!("(func $start {start} (i64.store (i32.const 3000) (i64.const 5))) (start $start)");
        let mut running = Running::new(&engine(), &bound_module(&module(body, &more)).expect("it can be bounded"));
        [running.call(1, &ints(&[0])), running.call(1, &ints(&[0]))]
    };
    assert_eq!(started(""), [Ok(ints(&[5])), Ok(ints(&[5]))]);
    assert_eq!(started("(loop $l (br $l))"), [Err("\u{1}f".into()), Err("\u{1}f".into())]);
    assert_eq!(started("(drop (memory.grow (i32.const 60000)))"), [Err("\u{1}m".into()), Err("\u{1}m".into())]);
}

#[test]
fn odd_modules_compute_what_they_did() {
    // A global that is no pointer of a stack, however much it looks like one.
    let seed = "(global $seed (mut i32) (i32.const 1073741824))";
    let body = "(global.set $seed (i32.sub (i32.const 0) (i32.const 16))) (i64.extend_i32_s (global.get $seed))";
    assert_eq!(run(&bound_module(&module(body, seed)).expect("it can be bounded"), 0), Ok(ints(&[-16])));
    // More than it may have is that, also where it declares less itself.
    let text = text("(i64.extend_i32_s (memory.grow (i32.const 70000)))", "");
    let small = wat::parse_str(text.replace("(memory (export \"memory\") 1)", "(memory (export \"memory\") 1 2)"));
    let bounded = bound_module(&small.expect("it is a module")).expect("it can be bounded");
    assert_eq!(run(&bounded, 0), Err("\u{1}m".into()));
    // A reference to a function that its export alone declares.
    let body = "(call_indirect $t (type $give) (i32.const 0))";
    let more = r#"(type $give (func (result i64))) (table $t 1 funcref) (elem (i32.const 0) $given)
        (func $other (export "other") (result i64) (i64.const 9))
        (func $given (result i64) (drop (ref.func $other)) (i64.const 7))"#;
    assert_eq!(run(&bound_module(&module(body, more)).expect("it can be bounded"), 0), Ok(ints(&[7])));
}

#[test]
fn what_cannot_be_bounded_says_why() {
    let refused = |module: Vec<u8>| bound_module(&module).expect_err("it cannot be bounded").to_string();
    let table = module("(table.set $t (i32.const 0) (ref.null func)) (i64.const 0)", "(table $t 1 funcref)");
    assert!(refused(table).contains("changes a table"));
    let imports = wat::parse_str(r#"(module (import "a" "b" (func)) (func (export "mezze:features/computation@0.1.0#run")))"#);
    assert!(refused(imports.expect("it is a module")).contains("imports something"));
    let other = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "run")))"#).expect("it is a module");
    assert!(refused(other).contains("does not export `mezze:features/computation@0.1.0#run`"));
    let typed = r#"(module (memory (export "memory") 1) (func (export "mezze:features/computation@0.1.0#run") (param i64)))"#;
    assert!(refused(wat::parse_str(typed).expect("it is a module")).contains("takes or gives something else"));
    assert!(refused(b"nothing".to_vec()).contains("cannot be read"));
    let component = bound(TransformId::from_bytes([0; 32]), &wat::parse_str("(component)").expect("it is one"));
    assert!(matches!(&component, Err(BoundError::Unbounded(reason)) if reason.contains("0 modules")), "{component:?}");
    // What it lifts is not what its module calls so: a join would call the one, and a bundle the other.
    let lifted = r#"(component
        (core module $m (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8))
            (func (export "mezze:features/computation@0.1.0#run") (param i32 i32 i32) (result i32) (i32.const 64))
            (func (export "other") (result i32) (i32.const 64)))
        (core instance $i (instantiate $m))
        (func (export "run") (result u32) (canon lift (core func $i "other"))))"#;
    let lifted = bound(TransformId::from_bytes([0; 32]), &wat::parse_str(lifted).expect("it is one"));
    assert!(matches!(&lifted, Err(BoundError::Unbounded(reason)) if reason.contains("toolchains name")), "{lifted:?}");
    let module = bound(TransformId::from_bytes([0; 32]), &wat::parse_str("(module)").expect("it is one"));
    assert!(matches!(&module, Err(BoundError::Unbounded(reason)) if reason.contains("a module, no component")), "{module:?}");
}

/// A text of WebAssembly that computes with what is on top of a local, with blocks within blocks.
fn statements(depth: u32) -> BoxedStrategy<String> {
    let simple = prop_oneof![
        (-9_i64..9).prop_map(|by| format!("(local.set $x (i64.add (local.get $x) (i64.const {by})))")),
        Just("(local.set $x (i64.mul (local.get $x) (local.get $x)))".to_owned()),
        Just("(local.set $x (i64.xor (local.get $x) (i64.extend_i32_u (memory.size))))".to_owned()),
        Just("(local.set $x (i64.trunc_sat_f64_s (f64.sqrt (f64.convert_i64_s (local.get $x)))))".to_owned()),
        Just("(local.set $x (i64.reinterpret_f64 (f64.sub (f64.const inf) (f64.convert_i64_s (local.get $x)))))".to_owned()),
        Just("(local.set $x (call $twice (local.get $x)))".to_owned()),
        Just("(if (i64.lt_s (local.get $x) (i64.const -5)) (then (return (local.get $x))))".to_owned()),
        Just("(memory.fill (i32.const 2048) (i32.wrap_i64 (local.get $x)) (i32.const 16))".to_owned()),
        Just("(local.set $x (i64.load (i32.const 2048)))".to_owned()),
    ];
    if depth == 0 {
        return simple.boxed();
    }
    let inner = || proptest::collection::vec(statements(depth - 1), 1..4).prop_map(|all| all.join(" "));
    prop_oneof![
        2 => simple,
        1 => inner().prop_map(|body| format!("(block $b {body} (br_if $b (i64.eqz (local.get $x))) {body})")),
        1 => (inner(), inner()).prop_map(|(yes, no)| {
            format!("(if (i64.gt_s (local.get $x) (i64.const 3)) (then {yes}) (else {no}))")
        }),
        1 => inner().prop_map(|body| {
            format!("(local.set $n (i32.const 3)) (loop $l {body} (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))")
        }),
        1 => inner().prop_map(|body| format!("(block $c (block $a (block $b
            (br_table $a $b $c (i32.wrap_i64 (local.get $x)))) {body}) (local.set $x (i64.const 1)))")),
    ]
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn bounded_code_computes_what_it_did(body in proptest::collection::vec(statements(3), 1..6), input in -20_i64..20) {
        let body = format!("(local $x i64) (local $n i32) (local.set $x (i64.load (local.get $in))) {} (local.get $x)", body.join(" "));
        let more = "(func $twice (param i64) (result i64) (i64.add (local.get 0) (local.get 0)))";
        let module = module(&body, more);
        let bounded = bound_module(&module).expect("it can be bounded");
        let given = run(&bounded, input);
        // A loop within loops may take more instructions than it may, in which case there is nothing to compare.
        prop_assume!(given != Err("\u{1}f".into()));
        prop_assert_eq!(run_plain(&module, input), given);
    }
}
