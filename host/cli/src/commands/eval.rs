//! `mezze eval`: expressions and components, tried out

mod component;

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use mezze_core::{
    Compute, EntityColumn, ExpressionColumn, FeatureSchema, Limits, LinkInput, PageRef, Pipeline, PipelineView, Request,
    Selection, Timestamp, TransformId, Value, ValueType, decode_payload, value_text,
};
use mezze_model::{ColumnOf, Compiled, Definitions, OnDemandColumn, OnDemandFeature, compile_parts, on_demand_scope};
use mezze_offline::{Rows, RowsProgram};
use mezze_replica::Reader;
use mezze_runtime::TransformsConfig;
use mezze_server::CarryTransforms as _;
use serde_json::{Map, Value as Json, json};

use crate::args::{EvalArgs, Global};
use crate::commands::historical::default_threads;
use crate::commands::online::{CACHE_BYTES, pairs};
use crate::context::{Context, block_on, now};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, Table, count, duration, size};
use crate::transforms::Carried;

pub(crate) fn eval(args: &EvalArgs, global: &Global, output: Output) -> Outcome {
    match (&args.view, &args.component, &args.rows) {
        (Some(view), ..) => eval_view(view, args, global, output),
        (None, Some(component), _) => component::eval(component, args, output),
        (None, None, Some(rows)) => eval_rows(rows, args, output),
        (None, None, None) => eval_values(args, output),
    }
}

/// One evaluation, to be shown: the inputs, and each part with its values.
struct Shown {
    /// Name, type and values of what went in.
    inputs: Vec<(String, ValueType, Vec<Json>)>,
    /// The same of what was computed, the result last.
    parts: Vec<(String, Option<ValueType>, Vec<Json>)>,
    rows: usize,
}

impl Shown {
    fn of(inputs: Vec<(String, ValueType, ExpressionColumn<'_>)>, compiled: &Compiled, texts: &[String], rows: usize) -> Self {
        let shown = |value_type: &ValueType, column: &ExpressionColumn<'_>| {
            (0..rows).map(|row| cell_json(Some(value_type), column, row)).collect::<Vec<_>>()
        };
        let named: Vec<_> = inputs
            .iter()
            .map(|(name, value_type, column)| (name.clone(), value_type.clone(), shown(value_type, column)))
            .collect();
        let columns = inputs.into_iter().map(|(_, _, column)| column).collect();
        let made = compiled.program.run(columns, rows);
        let parts = texts.iter().zip(&compiled.types).zip(&made).map(|((text, value_type), column)| {
            let values = (0..rows).map(|row| cell_json(value_type.as_ref(), column, row)).collect();
            (text.clone(), value_type.clone(), values)
        });
        Self { inputs: named, parts: parts.collect(), rows }
    }

    /// What a component made of its inputs.
    fn of_columns(
        inputs: &[(String, ValueType, ExpressionColumn<'_>)],
        outputs: &[FeatureSchema],
        made: &[ExpressionColumn<'_>],
        rows: usize,
    ) -> Self {
        let shown = |name: &str, value_type: &ValueType, column: &ExpressionColumn<'_>| {
            let values = (0..rows).map(|row| cell_json(Some(value_type), column, row)).collect::<Vec<_>>();
            (name.to_owned(), value_type.clone(), values)
        };
        let parts = outputs.iter().zip(made).map(|(output, column)| {
            let (name, value_type, values) = shown(&output.name, &output.value_type, column);
            (name, Some(value_type), values)
        });
        Self {
            inputs: inputs.iter().map(|(name, value_type, column)| shown(name, value_type, column)).collect(),
            parts: parts.collect(),
            rows,
        }
    }

    /// Inputs and features, each with its values.
    fn features_json(&self) -> Json {
        let column = |name: &str, value_type: Option<&ValueType>, values: &[Json]| json!({ "name": name, "dtype": value_type.map(ToString::to_string), "values": values });
        json!({
            "inputs": self.inputs.iter().map(|(name, found, values)| column(name, Some(found), values)).collect::<Vec<_>>(),
            "features": self.parts.iter().map(|(name, found, values)| column(name, found.as_ref(), values)).collect::<Vec<_>>(),
        })
    }

    fn json(&self) -> Json {
        let column = |name: &str, value_type: Option<&ValueType>, values: &[Json]| json!({ "name": name, "dtype": value_type.map(ToString::to_string), "values": values });
        let (parts, result) = self.parts.split_at(self.parts.len().saturating_sub(1));
        json!({
            "inputs": self.inputs.iter().map(|(name, found, values)| column(name, Some(found), values)).collect::<Vec<_>>(),
            "parts": parts.iter().map(|(name, found, values)| column(name, found.as_ref(), values)).collect::<Vec<_>>(),
            "result": result.first().map(|(name, found, values)| column(name, found.as_ref(), values)),
        })
    }

    fn text(&self, output: Output) -> String {
        let mut text = String::new();
        for row in 0..self.rows {
            if self.rows > 1 {
                text.push_str(&format!(
                    "{}row {}
",
                    if row == 0 {
                        ""
                    } else {
                        "
"
                    },
                    row + 1
                ));
            }
            let mut table = Table::new(&["", "type", "value"]);
            let value = |values: &[Json]| values.get(row).map(ToString::to_string).unwrap_or_default();
            for (name, value_type, values) in &self.inputs {
                table.row([name.clone(), value_type.to_string(), value(values)]);
            }
            for (name, value_type, values) in &self.parts {
                let value_type = value_type.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
                table.row([name.clone(), value_type, value(values)]);
            }
            text.push_str(&table.render(output));
        }
        text
    }
}

/// A value as responses have it, but instants as text.
fn cell_json(value_type: Option<&ValueType>, column: &ExpressionColumn<'_>, row: usize) -> Json {
    let Some(value_type) = value_type else { return Json::Null };
    let value = match value_type {
        ValueType::Bool => column.int(row).map(|value| Value::Bool(value != 0)),
        _ => column
            .int(row)
            .map(Value::Int)
            .or_else(|| column.float(row).map(Value::Float64))
            .or_else(|| decode_payload(value_type, column.bytes(row)?).ok()),
    };
    value.map_or(Json::Null, |value| value_json(value_type, &value))
}

fn value_json(value_type: &ValueType, value: &Value) -> Json {
    match (value_type, value) {
        (_, Value::Null) => Json::Null,
        (ValueType::UnixTimestamp, Value::Int(nanos)) => json!(Timestamp::from_nanos(*nanos).to_string()),
        (_, Value::Bool(value)) => json!(value),
        (_, Value::Int(value)) => json!(value),
        (_, Value::Float32(value)) => float_json(f64::from(*value)),
        (_, Value::Float64(value)) => float_json(*value),
        (ValueType::List(element) | ValueType::Set(element), Value::List(values)) => {
            Json::Array(values.iter().map(|value| value_json(element, value)).collect())
        }
        (_, Value::Bytes(bytes)) if *value_type == ValueType::Bytes => {
            json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        (_, value) => value_text(value_type, value).map_or_else(|| json!(format!("{value:?}")), |text| json!(text)),
    }
}

fn float_json(value: f64) -> Json {
    if value.is_finite() {
        json!(value)
    } else if value.is_nan() {
        json!("NaN")
    } else {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    }
}

/// A value from the command line: its type is said before it, or is what it looks like.
fn given(argument: &str) -> Outcome<(String, ValueType, Value)> {
    let form = || {
        Failure::input(format!("`--set {argument}` is not of the form NAME=VALUE or NAME:TYPE=VALUE"))
            .hint("for example --set income=52000 --set city:string=Berlin")
    };
    let (name, text) = argument.split_once('=').ok_or_else(form)?;
    let (name, value_type) = match name.split_once(':') {
        Some((name, value_type)) => {
            let parsed: Result<ValueType, _> = value_type.parse();
            (name, Some(parsed.map_err(|error| Failure::input(format!("`--set {argument}`: {error}")))?))
        }
        None => (name, None),
    };
    if name.is_empty() {
        return Err(form());
    }
    let json = json_of(text);
    let value_type = value_type.unwrap_or_else(|| looks_like(&json));
    let value = typed_value(&value_type, text)
        .ok_or_else(|| Failure::input(format!("`--set {argument}`: `{text}` is no {value_type}")))?;
    Ok((name.to_owned(), value_type, value))
}

/// What a text of the command line says: JSON, or else itself.
fn json_of(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

/// The value of a type that a text of the command line says, as JSON or as it stands.
fn typed_value(value_type: &ValueType, text: &str) -> Option<Value> {
    mezze_core::coerce_value(value_type, &json_value(&json_of(text)))
        .or_else(|| mezze_core::coerce_value(value_type, &Value::String(text.to_owned())))
}

fn looks_like(json: &Json) -> ValueType {
    match json {
        Json::Bool(_) => ValueType::Bool,
        Json::Number(number) if number.is_i64() => ValueType::Int64,
        Json::Number(_) => ValueType::Float64,
        Json::Array(values) => {
            let floats = values.iter().any(|value| value.is_f64());
            let first = values.iter().find(|value| !value.is_null()).map_or(ValueType::Int64, looks_like);
            ValueType::List(Box::new(if floats { ValueType::Float64 } else { first }))
        }
        _ => ValueType::String,
    }
}

fn json_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Value::Int(value),
            (None, value) => Value::Float64(value.unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(values) => Value::List(values.iter().map(json_value).collect()),
        Json::Object(fields) => Value::Map(fields.iter().map(|(key, value)| (key.clone(), json_value(value))).collect()),
    }
}

/// The expression, which has to be there unless a view has it.
fn expression(args: &EvalArgs) -> Outcome<&str> {
    args.expression
        .as_deref()
        .ok_or_else(|| Failure::input("an expression is missing").hint("for example mezze eval 'income / 12' --set income=52000"))
}

/// Finds a column by its name: what it is called, and its type.
type Known<'k> = dyn Fn(&[String]) -> Result<(String, ValueType), String> + 'k;

/// An expression, ready to be run.
struct Ready {
    compiled: Compiled,
    /// The texts of its parts; the last is the whole.
    texts: Vec<String>,
    /// The columns that it takes, in order.
    taken: Vec<(String, ValueType)>,
}

/// Compiles an expression over named columns.
fn ready(text: &str, wanted: Option<&ValueType>, known: &Known<'_>) -> Outcome<Ready> {
    let mut taken: Vec<(String, ValueType)> = Vec::new();
    let mut resolve = |names: &[String]| {
        let found = known(names)?;
        let place = taken.iter().position(|known| known.0 == found.0).unwrap_or(taken.len());
        if place == taken.len() {
            taken.push(found.clone());
        }
        Ok(ColumnOf { input: u16::try_from(place).unwrap_or(u16::MAX), value_type: found.1 })
    };
    let (compiled, texts) = compile_parts(text, wanted, &mut resolve).map_err(|error| Failure::input(error.to_string()))?;
    Ok(Ready { compiled, texts, taken })
}

/// The name under which the time of the request goes in.
const NOW: &str = "now()";

/// With values of the command line.
fn eval_values(args: &EvalArgs, output: Output) -> Outcome {
    let values = args.set.iter().map(|argument| given(argument)).collect::<Outcome<Vec<_>>>()?;
    let known = |names: &[String]| match names {
        [] => Ok((NOW.to_owned(), ValueType::UnixTimestamp)),
        [name] => match values.iter().find(|(known, ..)| known == name) {
            Some((name, value_type, _)) => Ok((name.clone(), value_type.clone())),
            None => Err(format!("there is no `{name}`; give it a value with --set {name}=VALUE")),
        },
        several => Err(format!("there is no `{}`; values have names of one part", several.join("."))),
    };
    let Ready { compiled, texts, taken } = ready(expression(args)?, None, &known)?;
    let at = args.now.unwrap_or_else(now);
    let inputs = taken.into_iter().map(|(name, value_type)| {
        let value = values
            .iter()
            .find(|(known, ..)| *known == name)
            .map_or_else(|| Value::Int(at.nanos()), |(_, _, value)| value.clone());
        let column = ExpressionColumn::of_values(&value_type, &[value]);
        (name, value_type, column)
    });
    let shown = Shown::of(inputs.collect(), &compiled, &texts, 1);
    output.result(|| shown.json(), || shown.text(output))
}

/// Over the rows of files.
fn eval_rows(path: &str, args: &EvalArgs, output: Output) -> Outcome {
    let text = expression(args)?;
    let threads = args.threads.map_or_else(default_threads, usize::from);
    block_on(Some(threads), async {
        let rows = Rows::open(Path::new("."), path).await?;
        let columns = rows.columns();
        let known = |names: &[String]| match names {
            [name] => match columns.iter().find(|(known, _)| known == name) {
                Some((name, Some(value_type))) => Ok((name.clone(), value_type.clone())),
                Some((name, None)) => Err(format!("the column `{name}` is of a type that expressions do not know")),
                None => {
                    let all: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
                    Err(format!("there is no column `{name}`; {path} has {}", all.join(", ")))
                }
            },
            [] => Err("rows of files have no now(); use their column of times".to_owned()),
            several => Err(format!("there is no column `{}`", several.join("."))),
        };
        let Ready { compiled, texts, taken } = ready(text, None, &known)?;
        if let Some(out) = &args.out {
            let Some(value_type) = compiled.types.last().cloned().flatten() else {
                return Err(Failure::input("the expression is nothing but NULL; CAST it to a type"));
            };
            // Without the parts, which nobody sees.
            let view = PipelineView {
                compute: &Compute::Program(compiled.program),
                inputs: (0..).map(LinkInput::Column).take(taken.len()).collect(),
                input_types: Vec::new(),
                features: &[],
                mask: None,
            };
            let pipeline = Pipeline::link(&[view], &[(0, texts.len() - 1)]);
            let pipeline = pipeline.ok_or_else(|| Failure::input("the expression is too large"))?;
            let columns = pipeline
                .columns()
                .iter()
                .filter_map(|column| taken.get(*column as usize).map(|(name, _)| name.clone()))
                .collect();
            let program = RowsProgram { name: args.name.clone(), value_type, pipeline, columns };
            let written = rows.write(&[program], out, None, threads).await?;
            return output.result(
                || json!({ "out": out.to_string_lossy(), "rows": written.rows, "bytes": written.bytes, "seconds": written.elapsed.as_secs_f64() }),
                || format!("wrote {} rows to {} ({}) in {}\n", count(written.rows), out.display(), size(written.bytes), duration(written.elapsed)),
            );
        }
        let first = rows.first(args.limit).await?;
        let mut inputs = Vec::with_capacity(taken.len());
        for (name, value_type) in taken {
            let array =
                first.column_by_name(&name).cloned().ok_or_else(|| Failure::input(format!("there is no column `{name}`")))?;
            let values = (0..first.num_rows())
                .map(|row| mezze_arrow::value_at(&value_type, &array, row))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| Failure::of(Exit::Input, &error))?;
            let column = ExpressionColumn::of_values(&value_type, &values);
            inputs.push((name, value_type, column));
        }
        let shown = Shown::of(inputs, &compiled, &texts, first.num_rows());
        output.result(|| shown.json(), || shown.text(output))
    })
}

/// A view's features, of an entity of the newest snapshot.
fn eval_view(view: &str, args: &EvalArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    let (view, feature) = view.split_once(':').map_or((view, None), |(view, feature)| (view, Some(feature)));
    let at = args.now.unwrap_or_else(now);
    block_on(None, async {
        // What is in the files counts: this is for trying.
        let definitions = &context.with_schemas().await?;
        let found = definitions.on_demand_feature_view(view).ok_or_else(|| {
            let known: Vec<&str> = definitions.on_demand_feature_views.iter().map(|view| view.name.as_str()).collect();
            let failure = Failure::input(format!("no on-demand feature view is called `{view}`"));
            if known.is_empty() {
                failure.hint("there are none")
            } else {
                failure.hint(format!("there are {}", known.join(", ")))
            }
        })?;
        if found.transform.is_some() && args.expression.is_none() {
            return component::eval_view(&context, definitions, found, args, at).await;
        }
        let own;
        let features: Vec<&OnDemandFeature> = match (&args.expression, feature) {
            // Another expression in its place.
            (Some(expression), _) => {
                let schema = FeatureSchema::new("expression", ValueType::String);
                own = OnDemandFeature { schema, expression: expression.clone() };
                vec![&own]
            }
            (None, Some(name)) => {
                let feature = found.features.iter().find(|feature| feature.schema.name == name);
                vec![feature.ok_or_else(|| Failure::input(format!("`{view}` has no feature `{name}`")))?]
            }
            (None, None) => found.features.iter().collect(),
        };
        let scope = on_demand_scope(definitions, found);
        let mut columns: Vec<(String, OnDemandColumn)> = Vec::new();
        let mut programs = Vec::new();
        for feature in features {
            let names: RefCell<Vec<(String, OnDemandColumn)>> = RefCell::new(Vec::new());
            let known = |names_of: &[String]| {
                let (column, value_type) = scope(names_of)?;
                let name = column_name(&column);
                names.borrow_mut().push((name.clone(), column));
                Ok((name, value_type))
            };
            let wanted = if args.expression.is_some() { None } else { Some(&feature.schema.value_type) };
            let made = ready(&feature.expression, wanted, &known)?;
            for named in names.into_inner() {
                if !columns.contains(&named) {
                    columns.push(named);
                }
            }
            programs.push((feature.schema.name.clone(), made));
        }
        let values = snapshot_values(&context, definitions, &columns, args, at).await?;
        let mut shown = Vec::new();
        for (name, Ready { compiled, texts, taken }) in programs {
            let inputs = taken.into_iter().map(|(name, value_type)| {
                let column = values
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map_or_else(ExpressionColumn::null, |(_, column)| column.clone());
                (name, value_type, column)
            });
            shown.push((name, Shown::of(inputs.collect(), &compiled, &texts, 1)));
        }
        output.result(
            || {
                let features: Map<String, Json> = shown.iter().map(|(name, shown)| (name.clone(), shown.json())).collect();
                Json::Object(features)
            },
            || {
                let texts: Vec<String> =
                    shown
                        .iter()
                        .map(|(name, shown)| {
                            if args.expression.is_some() { shown.text(output) } else { format!("{name}\n{}", shown.text(output)) }
                        })
                        .collect();
                texts.join("\n")
            },
        )
    })
}

fn column_name(column: &OnDemandColumn) -> String {
    match column {
        OnDemandColumn::Feature { view, feature } => format!("{view}:{feature}"),
        OnDemandColumn::JoinKey { entity } => entity.clone(),
        OnDemandColumn::Now => NOW.to_owned(),
        OnDemandColumn::RowTime { view } => format!("{view}:event_timestamp"),
        OnDemandColumn::Request { field, .. } => field.clone(),
    }
}

/// The values of columns for the entity of the command line: features from the newest snapshot, all else as given.
async fn snapshot_values(
    context: &Context,
    definitions: &Definitions,
    columns: &[(String, OnDemandColumn)],
    args: &EvalArgs,
    at: Timestamp,
) -> Outcome<Vec<(String, ExpressionColumn<'static>)>> {
    let given = pairs(&args.entity)?;
    let mut values = Vec::new();
    let mut features = Vec::new();
    for (name, column) in columns {
        let (value_type, key) = match column {
            OnDemandColumn::Now => {
                values.push((name.clone(), ExpressionColumn::ints(vec![at.nanos()], None)));
                continue;
            }
            OnDemandColumn::Feature { .. } => {
                features.push(name.clone());
                continue;
            }
            // Views as they are written do not ask for it.
            OnDemandColumn::RowTime { .. } => continue,
            OnDemandColumn::JoinKey { entity } => {
                let entity = definitions.entity(entity);
                (entity.map(|entity| entity.value_type.clone()), entity.map(|entity| entity.join_key.clone()))
            }
            OnDemandColumn::Request { source, field } => {
                let source = definitions.request_sources.iter().find(|known| known.name == *source);
                let schema = source.and_then(|source| source.schema.iter().find(|known| known.name == *field));
                (schema.map(|schema| schema.value_type.clone()), Some(field.clone()))
            }
        };
        let (Some(value_type), Some(key)) = (value_type, key) else { continue };
        let text = given.iter().find(|(known, _)| *known == key).map(|(_, text)| *text);
        let text = text.ok_or_else(|| {
            Failure::input(format!("the expression needs `{key}`")).hint(format!("give it with --entity {key}=VALUE"))
        })?;
        let value = typed_value(&value_type, text)
            .ok_or_else(|| Failure::input(format!("`--entity {key}={text}`: `{text}` is no {value_type}")))?;
        values.push((name.clone(), ExpressionColumn::of_values(&value_type, &[value])));
    }
    if features.is_empty() {
        return Ok(values);
    }
    let entities = given.iter().map(|(name, text)| EntityColumn::new(*name, vec![Value::String((*text).to_owned())])).collect();
    let reader = Arc::new(Reader::open(context.store(args.from.as_deref())?, CACHE_BYTES).await?);
    let request = Request::new(Selection::Features(features.clone()), entities);
    let plan = reader.snapshot().plan(&request, at, &Limits::server()).map_err(|error| {
        Failure::of(Exit::Input, &error)
            .hint("the values of features are those of the newest snapshot; join keys are given with --entity NAME=VALUE")
    })?;
    let pages = reader.pages(&plan).await.map_err(|error| Failure::of(Exit::Failed, &error))?;
    let pages: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
    let transforms = Carried::new(context, TransformsConfig::default())?;
    let needed: Vec<TransformId> = plan.transforms().map(|transform| transform.id).collect();
    transforms.make_ready(&needed).await;
    let response = plan.answer_with(&pages, &transforms).map_err(|error| Failure::of(Exit::Failed, &error))?;
    if let Some(fault) = response.faults.first() {
        return Err(Failure::new(Exit::Failed, fault.to_string()));
    }
    let echoed = plan.echoed_columns();
    for (number, name) in features.into_iter().enumerate() {
        values.push((name, response.expression_column(echoed + number)));
    }
    Ok(values)
}
