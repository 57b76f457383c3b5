//! Transforms in an adapter's component.

use mezze_bounds::{Bounded, bound, bound_module, link};
use mezze_core::TransformId;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::guests::component;

/// A component that imports `carried`, and hands out what that gives for the digests, and for `run` of a number without columns.
fn adapter() -> Vec<u8> {
    let text = r#"(module
        (import "mezze:features/carried@0.1.0" "digests" (func $digests (param i32)))
        (import "mezze:features/carried@0.1.0" "limit" (func $limit (param i32 i64 i32 i64)))
        (import "mezze:features/carried@0.1.0" "run" (func $run (param i32 i32 i32 i32 i32)))
        (memory (export "memory") 4)
        (global $heap (mut i32) (i32.const 1024))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
            (global.get $heap)
            (global.set $heap (i32.add (global.get $heap) (local.get 3))))
        (func (export "ids") (result i32) (call $digests (i32.const 16)) (i32.const 16))
        (func (export "ask") (param i32) (result i32)
            (call $limit (local.get 0) (i64.const 1000000) (i32.const 67108864) (i64.const 65536))
            (call $run (local.get 0) (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 32))
            (i32.store (i32.const 64) (select (i32.load offset=4 (i32.const 32)) (i32.const 8) (i32.load8_u (i32.const 32))))
            (i32.store (i32.const 68) (select (i32.load offset=8 (i32.const 32)) (i32.const 0) (i32.load8_u (i32.const 32))))
            (i32.const 64)))"#;
    let wit = include_str!("../../../../wit/carried.wit").to_owned()
        + "\nworld adapter { import carried; export ids: func() -> list<u8>; export ask: func(transform: u32) -> list<u8>; }\n";
    let mut module = wat::parse_str(text).expect("it is a module");
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("adapter.wit", &wit).expect("it is WIT");
    let world = resolve.select_world(&[package], Some("adapter")).expect("it is there");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("it fits");
    let mut encoder = ComponentEncoder::default().validate(true).module(&module).expect("it fits");
    encoder.encode().expect("it is a component")
}

#[test]
fn an_adapter_reaches_each_of_its_transforms_by_number() {
    let id = |byte| TransformId::from_bytes([byte; 32]);
    let burden = bound(id(1), &component("burden")).expect("it can be bounded");
    let hostile = bound(id(2), &component("hostile")).expect("it can be bounded");
    let odd = wat::parse_str(
        r#"(module (memory (export "memory") 1) (data (i32.const 128) "\ff\fe")
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
            (func (export "mezze:features/computation@0.1.0#run") (param i32 i32 i32) (result i32)
                (i32.store8 (i32.const 64) (i32.const 1)) (i32.store (i32.const 68) (i32.const 128))
                (i32.store (i32.const 72) (i32.const 2)) (i32.const 64)))"#,
    );
    let odd = Bounded { id: id(3), module: bound_module(&odd.expect("it is a module")).expect("it can be bounded") };
    let engine = Engine::default();
    for carried in [vec![], vec![hostile.clone()], vec![burden.clone(), hostile.clone(), odd, burden]] {
        let linked = link(&adapter(), &carried).expect("it can be linked");
        let linked = Component::new(&engine, &linked).expect("it is a component");
        assert_eq!(linked.component_type().imports(&engine).count(), 0, "nothing is left to import");
        let mut store = Store::new(&engine, ());
        let instance = Linker::new(&engine).instantiate(&mut store, &linked).expect("it begins");
        let ids = instance.get_typed_func::<(), (Vec<u8>,)>(&mut store, "ids").expect("it is there");
        let (given,) = ids.call(&mut store, ()).expect("it is called");
        assert_eq!(given, carried.iter().flat_map(|transform| transform.id.bytes()).collect::<Vec<u8>>());
        let ask = instance.get_typed_func::<(u32,), (Vec<u8>,)>(&mut store, "ask").expect("it is there");
        for _ in 0..3 {
            for (number, transform) in carried.iter().enumerate() {
                let (said,) = ask.call(&mut store, (number as u32,)).expect("it is called");
                // One without columns: the hostile one refuses, and so does the other.
                assert_eq!(said == b"no deeds", transform.id == id(2), "{said:?}");
                // Bytes that are no text are no trap.
                assert_eq!(said == [0xff, 0xfe], transform.id == id(3), "{said:?}");
            }
        }
    }
    let error = link(&component("burden"), &[]).expect_err("it imports nothing");
    assert!(error.to_string().contains("does not import mezze:features/carried@0.1.0"), "{error}");
}
