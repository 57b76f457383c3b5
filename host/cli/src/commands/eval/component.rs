//! Components in `mezze eval`.

use std::path::Path;
use std::sync::Arc;

use mezze_core::{
    Compute, ExpressionColumn, FeatureSchema, LinkInput, Pipeline, PipelineView, Timestamp, Transform, TransformCall,
    TransformLimits, Value, ValueType,
};
use mezze_model::{Definitions, DescribedTransform, OnDemandColumn, OnDemandFeatureView, on_demand_program};
use mezze_offline::{Rows, RowsTransform};
use mezze_runtime::{Transforms, TransformsConfig};
use serde_json::json;

use super::{Shown, column_name, given, snapshot_values, typed_value};
use crate::args::EvalArgs;
use crate::commands::historical::default_threads;
use crate::context::{Context, block_on};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, count, duration, size};
use crate::transforms;

/// Columns with their names and types.
type Inputs<'a> = Vec<(String, ValueType, ExpressionColumn<'a>)>;

/// A component's file, with values of the command line or rows of files.
pub(super) fn eval(path: &Path, args: &EvalArgs, output: Output) -> Outcome {
    let engine = transforms::engine(TransformsConfig::for_jobs())?;
    let (described, _) =
        transforms::describe(&engine, path).map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
    match &args.rows {
        Some(rows) => over_rows(engine, &described, rows, args, output),
        None => {
            let inputs = of_values(&described.inputs, args)?;
            let transform = Transform { id: described.id, limits: TransformLimits::DEFAULT };
            show(&engine, &transform, &inputs, &described.outputs, 1, output)
        }
    }
}

/// The inputs as `--set` gives them.
fn of_values(wanted: &[FeatureSchema], args: &EvalArgs) -> Outcome<Inputs<'static>> {
    let mut inputs = Inputs::new();
    let mut used = Vec::new();
    for input in wanted {
        let of_input = |argument: &&String| {
            let name = argument.split_once('=').map_or(argument.as_str(), |(name, _)| name);
            name == input.name || name.split_once(':').is_some_and(|(name, _)| name == input.name)
        };
        let argument = args.set.iter().find(of_input).ok_or_else(|| {
            Failure::input(format!("the component takes `{}`, {}", input.name, input.value_type))
                .hint(format!("give it with --set {}=VALUE; null is a value, too", input.name))
        })?;
        used.push(argument);
        // The type is the component's to say; one that is said beside it has to be the same.
        let (_, given_type, value) = given(argument)?;
        let said = argument.split_once('=').is_some_and(|(name, _)| name.contains(':'));
        let text = argument.split_once('=').map_or("", |(_, text)| text);
        let value = match (said, given_type == input.value_type) {
            (true, true) => value,
            (true, false) => {
                return Err(Failure::input(format!("the component takes `{}` as {}", input.name, input.value_type)));
            }
            (false, _) if text == "null" => Value::Null,
            (false, _) => typed_value(&input.value_type, text)
                .ok_or_else(|| Failure::input(format!("`--set {argument}`: `{text}` is no {}", input.value_type)))?,
        };
        inputs.push((input.name.clone(), input.value_type.clone(), ExpressionColumn::of_values(&input.value_type, &[value])));
    }
    if let Some(other) = args.set.iter().find(|argument| !used.contains(argument)) {
        let names: Vec<&str> = wanted.iter().map(|input| input.name.as_str()).collect();
        return Err(Failure::input(format!("`--set {other}`: the component does not take it"))
            .hint(format!("it takes {}", names.join(", "))));
    }
    Ok(inputs)
}

/// Computes, and shows what went in and what came out.
fn show(
    engine: &Transforms,
    transform: &Transform,
    inputs: &Inputs<'_>,
    outputs: &[FeatureSchema],
    rows: usize,
    output: Output,
) -> Outcome {
    let columns: Vec<ExpressionColumn<'_>> =
        inputs.iter().map(|(_, value_type, column)| column.full_for(value_type, rows)).collect();
    let types: Vec<ValueType> = inputs.iter().map(|(_, value_type, _)| value_type.clone()).collect();
    let call = TransformCall { transform, rows, inputs: &columns, input_types: &types, outputs };
    let made = call.run(engine).map_err(|fault| Failure::new(Exit::Failed, format!("the transform failed: {fault}")))?;
    let shown = Shown::of_columns(inputs, outputs, &made, rows);
    output.result(|| shown.features_json(), || shown.text(output))
}

/// Over the rows of files.
fn over_rows(engine: Transforms, described: &DescribedTransform, path: &str, args: &EvalArgs, output: Output) -> Outcome {
    let threads = args.threads.map_or_else(default_threads, usize::from);
    block_on(Some(threads), async {
        let rows = Rows::open(Path::new("."), path).await?;
        let columns = rows.columns();
        for input in &described.inputs {
            let found = columns.iter().find(|(name, _)| *name == input.name);
            match found {
                Some((_, Some(value_type))) if fits(value_type, &input.value_type) => {}
                Some((_, found)) => {
                    let found = found.as_ref().map_or_else(|| "of an unknown type".to_owned(), ToString::to_string);
                    return Err(Failure::input(format!(
                        "the component takes `{}` as {}, in {path} it is {found}",
                        input.name, input.value_type
                    )));
                }
                None => {
                    let all: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
                    return Err(Failure::input(format!("the component takes `{}`; {path} has {}", input.name, all.join(", "))));
                }
            }
        }
        let transform = Transform { id: described.id, limits: TransformLimits::DEFAULT };
        let Some(out) = &args.out else {
            let first = rows.first(args.limit).await?;
            let mut inputs = Inputs::new();
            for input in &described.inputs {
                let Some(array) = first.column_by_name(&input.name) else { continue };
                let column = mezze_arrow::expression_column(&input.value_type, array);
                inputs.push((
                    input.name.clone(),
                    input.value_type.clone(),
                    column.map_err(|error| Failure::of(Exit::Input, &error))?,
                ));
            }
            return show(&engine, &transform, &inputs, &described.outputs, first.num_rows(), output);
        };
        let view = PipelineView {
            compute: &Compute::Transform(transform),
            inputs: (0..).map(LinkInput::Column).take(described.inputs.len()).collect(),
            input_types: described.inputs.iter().map(|input| input.value_type.clone()).collect(),
            features: &described.outputs,
            mask: None,
        };
        let outputs: Vec<(usize, usize)> = (0..described.outputs.len()).map(|output| (0, output)).collect();
        let pipeline = Pipeline::link(&[view], &outputs).ok_or_else(|| Failure::input("the component has too many columns"))?;
        let taken = pipeline.columns().iter().filter_map(|column| described.inputs.get(*column as usize));
        let transform = RowsTransform {
            columns: taken.map(|input| (input.name.clone(), input.value_type.clone())).collect(),
            pipeline,
            outputs: described.outputs.clone(),
            name: args.component.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            transforms: Arc::new(engine),
        };
        let written = rows.write_transformed(transform, out, None, threads).await?;
        output.result(
            || json!({ "out": out.to_string_lossy(), "rows": written.rows, "bytes": written.bytes, "seconds": written.elapsed.as_secs_f64() }),
            || format!("wrote {} rows to {} ({}) in {}\n", count(written.rows), out.display(), size(written.bytes), duration(written.elapsed)),
        )
    })
}

/// Whether a column of files can be taken as a type.
fn fits(found: &ValueType, wanted: &ValueType) -> bool {
    found == wanted || matches!((found, wanted), (ValueType::Int32, ValueType::Int64) | (ValueType::Float32, ValueType::Float64))
}

/// A view's component, with an entity of the newest snapshot.
pub(super) async fn eval_view(
    context: &Context,
    definitions: &Definitions,
    view: &OnDemandFeatureView,
    args: &EvalArgs,
    at: Timestamp,
) -> Outcome {
    let (Some(source), output) = (&view.transform, context.output) else { return Ok(()) };
    let engine = transforms::engine(TransformsConfig::default())?;
    // What is in the files counts: this is for trying.
    let (described, _) = transforms::describe(&engine, &context.repo.join(&source.component)).map_err(Failure::input)?;
    let mut view = view.clone();
    if let Some(transform) = &mut view.transform {
        transform.id = Some(described.id);
        transform.inputs.clone_from(&described.inputs);
    }
    let compiled = on_demand_program(definitions, &view)
        .map_err(|errors| Failure::input(errors.into_iter().map(|(_, error)| error).collect::<Vec<_>>().join("\n")))?;
    let Compute::Transform(transform) = compiled.compute else { return Ok(()) };
    let mut wanted: Vec<(String, OnDemandColumn)> = Vec::new();
    for column in &compiled.columns {
        let named = (column_name(column), column.clone());
        if !wanted.contains(&named) {
            wanted.push(named);
        }
    }
    let values = snapshot_values(context, definitions, &wanted, args, at).await?;
    let mut inputs = Inputs::new();
    for (column, input) in compiled.columns.iter().zip(&described.inputs) {
        let name = column_name(column);
        let column = values.iter().find(|(known, _)| *known == name).map(|(_, column)| column.clone());
        inputs.push((name, input.value_type.clone(), column.unwrap_or_else(ExpressionColumn::null)));
    }
    show(&engine, &transform, &inputs, &described.outputs, 1, output)
}
