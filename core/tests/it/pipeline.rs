//! Pipelines of expressions and components, and what becomes of what a component gives.

use std::cell::RefCell;

use mezze_core::{
    Compute, ExpressionColumn, FeatureSchema, Function, LinkInput, Pipeline, PipelineView, Program, ProgramStep, RunTransforms,
    Transform, TransformCall, TransformFault, TransformFaultKind, TransformId, TransformLimits, Values,
};

/// Integers by row or column.
type Cells = Vec<Vec<Option<i64>>>;

/// Components whose first byte says what they do to the sum of their inputs; each call is noted.
#[derive(Debug, Default)]
struct Adders {
    failing: Vec<u8>,
    calls: RefCell<Vec<(u8, Cells)>>,
}

impl RunTransforms for Adders {
    fn run(&self, call: &TransformCall<'_>) -> Result<Vec<ExpressionColumn<'static>>, TransformFault> {
        let kind = call.transform.id.bytes()[0];
        let row = |row| call.inputs.iter().map(|column| column.int(row)).collect::<Vec<_>>();
        let rows: Cells = (0..call.rows).map(row).collect();
        self.calls.borrow_mut().push((kind, rows.clone()));
        if self.failing.contains(&kind) {
            return Err(TransformFault { kind: TransformFaultKind::Trap, message: format!("component {kind} failed") });
        }
        let sums: Vec<i64> = rows.iter().map(|row| row.iter().flatten().sum::<i64>() + i64::from(kind)).collect();
        Ok(call.outputs.iter().map(|_| ExpressionColumn::ints(sums.clone(), None)).collect())
    }

    fn carried(&self) -> Vec<TransformId> {
        Vec::new()
    }
}

fn component(kind: u8) -> Compute {
    Compute::Transform(Transform { id: TransformId::from_bytes([kind; 32]), limits: TransformLimits::DEFAULT })
}

/// The sum of its two inputs.
fn sum() -> Compute {
    let step = ProgramStep { function: Function::AddInt, arguments: [0, 1].into() };
    Compute::Program(Program::new(2, vec![], vec![step], vec![2]).expect("it is well-formed"))
}

fn int_features(count: usize) -> Vec<FeatureSchema> {
    (0..count).map(|number| FeatureSchema::new(format!("f{number}"), mezze_core::ValueType::Int64)).collect()
}

fn view<'v>(compute: &'v Compute, inputs: &[LinkInput], features: &'v [FeatureSchema]) -> PipelineView<'v> {
    let input_types = vec![mezze_core::ValueType::Int64; inputs.len()];
    PipelineView { compute, inputs: inputs.into(), input_types, features, mask: None }
}

const fn column(number: u32) -> LinkInput {
    LinkInput::Column(number)
}

const fn output(program: usize, output: usize) -> LinkInput {
    LinkInput::Output { program, output }
}

/// a = c0 + c1; B = component 10 of (a, c2); c = B + c0; D = component 20 of (c, B.1, a); e = D + B.1
fn chain<'v>(computes: &'v [Compute; 5], features: &'v [FeatureSchema]) -> Vec<PipelineView<'v>> {
    let [a, b, c, d, e] = computes;
    vec![
        view(a, &[column(0), column(1)], &features[..1]),
        view(b, &[output(0, 0), column(2)], &features[..2]),
        view(c, &[output(1, 0), column(0)], &features[..1]),
        view(d, &[output(2, 0), output(1, 1), output(0, 0)], &features[..1]),
        view(e, &[output(3, 0), output(1, 1)], &features[..1]),
    ]
}

fn run(pipeline: &Pipeline, adders: &Adders) -> (Cells, Vec<(usize, String)>) {
    let values = [[1, 2], [10, 20], [100, 200]];
    let inputs = pipeline.columns().iter().map(|number| ExpressionColumn::ints(values[*number as usize].into(), None));
    let made = pipeline.run(inputs.collect(), 2, adders);
    let shown = |column: &Option<ExpressionColumn<'_>>| match column {
        Some(column) => (0..2).map(|row| column.int(row)).collect(),
        None => vec![],
    };
    let faults = made.faults.iter().map(|(view, fault)| (*view, fault.message.clone())).collect();
    (made.columns.iter().map(shown).collect(), faults)
}

#[test]
fn components_and_expressions_take_of_each_other() {
    let computes = [sum(), component(10), sum(), component(20), sum()];
    let features = int_features(2);
    let views = chain(&computes, &features);
    let pipeline = Pipeline::link(&views, &[(4, 0), (0, 0), (1, 1)]).expect("it fits");
    let adders = Adders::default();
    // Row 1: a = 11, B = 11 + 100 + 10 = 121, c = 122, D = 122 + 121 + 11 + 20 = 274, e = 395.
    // Row 2: a = 22, B = 22 + 200 + 10 = 232, c = 234, D = 234 + 232 + 22 + 20 = 508, e = 740.
    let (columns, faults) = run(&pipeline, &adders);
    assert_eq!(columns, [[Some(395), Some(740)], [Some(11), Some(22)], [Some(121), Some(232)]]);
    assert!(faults.is_empty());
    let calls = adders.calls.into_inner();
    assert_eq!(calls.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [10, 20], "each once, in order");
    assert_eq!(calls[1].1, [[Some(122), Some(121), Some(11)], [Some(234), Some(232), Some(22)]]);
}

#[test]
fn what_nobody_asks_for_is_not_called() {
    let computes = [sum(), component(10), sum(), component(20), sum()];
    let features = int_features(2);
    let views = chain(&computes, &features);
    let adders = Adders::default();
    let pipeline = Pipeline::link(&views, &[(0, 0)]).expect("it fits");
    assert!(!pipeline.has_transforms());
    assert_eq!(run(&pipeline, &adders).0, [[Some(11), Some(22)]]);
    let pipeline = Pipeline::link(&views, &[(2, 0)]).expect("it fits");
    assert_eq!(run(&pipeline, &adders).0, [[Some(122), Some(234)]]);
    assert_eq!(adders.calls.into_inner().iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [10]);
}

#[test]
fn what_is_computed_from_a_failure_fails_and_nothing_else() {
    let computes = [sum(), component(10), sum(), component(20), sum()];
    let features = int_features(2);
    let views = chain(&computes, &features);
    let all = [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)];
    let pipeline = Pipeline::link(&views, &all).expect("it fits");
    let of_failing = |failing: &[u8]| {
        let adders = Adders { failing: failing.into(), ..Adders::default() };
        let (columns, faults) = run(&pipeline, &adders);
        let harmed: Vec<bool> = columns.iter().map(Vec::is_empty).collect();
        let calls: Vec<u8> = adders.calls.into_inner().iter().map(|(kind, _)| *kind).collect();
        (harmed, faults, calls)
    };
    let fault = |view: usize, kind: u8| (view, format!("component {kind} failed"));
    assert_eq!(of_failing(&[20]), (vec![false, false, false, true, true], vec![fault(3, 20)], vec![10, 20]));
    // The second is not even called: what it would take is not there.
    assert_eq!(of_failing(&[10, 20]), (vec![false, true, true, true, true], vec![fault(1, 10)], vec![10]));
}

#[test]
fn what_is_masked_is_null_and_so_it_is_for_others() {
    let features = int_features(1);
    let coalesce = |first, second| ProgramStep { function: Function::Coalesce, arguments: [first, second].into() };
    let seven = || vec![mezze_core::Constant::Int(7)];
    // Never null by itself.
    let always = Compute::Program(Program::new(1, seven(), vec![coalesce(0, 1)], vec![2, 1]).expect("it is well-formed"));
    let two = int_features(2);
    let (called, of_it) = (component(3), component(4));
    let mut views = [
        view(&always, &[column(0)], &two),
        view(&called, &[column(0)], &features),
        view(&of_it, &[output(0, 1), output(1, 0)], &features),
    ];
    views[0].mask = Some(column(9));
    views[1].mask = Some(column(9));
    let pipeline = Pipeline::link(&views, &[(0, 0), (0, 1), (1, 0), (2, 0)]).expect("it fits");
    let adders = Adders::default();
    let inputs = pipeline.columns().iter().map(|number| match number {
        9 => ExpressionColumn::ints(vec![1, 2, 3], Some(vec![1, 0, 1])),
        _ => ExpressionColumn::ints(vec![1, 2, 3], Some(vec![1, 1, 0])),
    });
    let made = pipeline.run(inputs.collect(), 3, &adders);
    let shown: Cells = made
        .columns
        .iter()
        .map(|column| (0..3).map(|row| column.as_ref().and_then(|column| column.int(row))).collect())
        .collect();
    assert_eq!(shown[0], [Some(1), None, Some(7)]);
    assert_eq!(shown[1], [Some(7), None, Some(7)]);
    assert_eq!(shown[2], [Some(4), None, Some(3)]);
    assert_eq!(shown[3], [Some(7 + 4 + 4), Some(4), Some(7 + 3 + 4)]);
}

#[test]
fn a_view_cannot_be_computed_from_itself() {
    let computes = [component(1), component(2)];
    let features = int_features(1);
    let views = [view(&computes[0], &[output(1, 0)], &features), view(&computes[1], &[output(0, 0)], &features)];
    assert_eq!(Pipeline::link(&views, &[(1, 0)]), None);
    assert_eq!(Pipeline::link(&views[..1], &[(0, 0)]), None, "and not from one that is not there");
    assert_eq!(Pipeline::link(&[], &[(0, 0)]), None);
}

/// Gives whatever it was given.
#[derive(Debug)]
struct Giving(Vec<ExpressionColumn<'static>>);

impl RunTransforms for Giving {
    fn run(&self, _: &TransformCall<'_>) -> Result<Vec<ExpressionColumn<'static>>, TransformFault> {
        Ok(self.0.clone())
    }

    fn carried(&self) -> Vec<TransformId> {
        Vec::new()
    }
}

#[test]
fn what_a_component_gives_has_to_be_what_it_declares() {
    let given = |dtype: &str, column: ExpressionColumn<'static>| {
        let Compute::Transform(transform) = component(1) else { panic!("it is one") };
        let outputs = [FeatureSchema::new("x", dtype.parse().expect("it is a type"))];
        let call = TransformCall { transform: &transform, rows: 2, inputs: &[], input_types: &[], outputs: &outputs };
        call.run(&Giving(vec![column])).map(|mut columns| columns.remove(0)).map_err(|fault| fault.message)
    };
    let ints = |values: &[i64], valid: Option<&[u8]>| ExpressionColumn::ints(values.into(), valid.map(Into::into));
    let bytes = |offsets: &[u32], data: &[u8]| ExpressionColumn {
        values: Values::Bytes { offsets: offsets.into(), data: data.to_vec().into(), constant: false },
        valid: None,
    };
    assert!(given("int64", ints(&[i64::MIN, i64::MAX], None)).is_ok());
    assert!(given("bool", ints(&[0, 1], None)).is_ok());
    assert!(given("string", bytes(&[0, 0, 2], "ü".as_bytes())).is_ok());
    let wrong = |dtype: &str, column, message: &str| assert_eq!(given(dtype, column), Err(message.into()));
    wrong("bool", ints(&[0, 2], None), "column x: the value of row 2 is no bool");
    wrong("int32", ints(&[0, 1 << 31], None), "column x: the value of row 2 is no int32");
    assert!(given("int32", ints(&[0, 1 << 31], Some(&[1, 0]))).is_ok(), "what is null means nothing");
    wrong("float64", ints(&[0, 1], None), "column x: it gave integers, declared is float64");
    wrong("int64", ints(&[0], None), "column x: it gave 1 values for 2 rows");
    wrong("int64", ints(&[0, 1], Some(&[1])), "column x: it said of 1 values whether they are null, there are 2 rows");
    wrong("string", bytes(&[0, 1, 2], &[b'a', 0xff]), "column x: the value of row 2 is no string");
    wrong("list<int64>", bytes(&[0, 0, 1], &[7]), "column x: the value of row 1 is no list<int64>");
    for offsets in [&[][..], &[0], &[0, 2, 1], &[0, 1, 3], &[1, 1, 2], &[0, 1, 1]] {
        let said = given("bytes", bytes(offsets, b"ab")).expect_err("it is refused");
        assert!(said.contains("offsets") || said.contains("values for 2 rows"), "{offsets:?}: {said}");
    }
    // Floats as a page would have them.
    let odd = f64::from_bits(0xfff8_0000_0000_1234);
    let made = given("float32", ExpressionColumn::floats(vec![0.1, odd], None)).expect("it is of its type");
    assert_eq!(made.float(0).map(f64::to_bits), Some(f64::from(0.1_f32).to_bits()));
    assert_eq!(made.float(1).map(f64::to_bits), Some(f64::NAN.to_bits()));
    let large = given("string", bytes(&[0, 0, 400_000], &vec![b'x'; 400_000]));
    assert_eq!(large, Err("it gave 400012 bytes for 2 rows, it may give 196608".into()));
}
