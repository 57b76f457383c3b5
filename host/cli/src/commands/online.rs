//! `mezze get-online-features`

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use mezze_core::{Limits, MediaType, NoTransforms, PageRef, Timestamp, TransformId};
use mezze_replica::Reader;
use mezze_runtime::TransformsConfig;
use mezze_server::CarryTransforms;
use serde_json::{Map, Value as Json, json};

use crate::args::{Global, OnlineArgs};
use crate::context::{Context, block_on, now};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Format, Output, Table};
use crate::transforms::Carried;

pub(crate) fn run(args: &OnlineArgs, global: &Global, output: Output) -> Outcome {
    let body = body(args)?;
    let context = Context::load(global, output)?;
    let response = block_on(None, async {
        let reader = Reader::open(context.store(args.from.as_deref())?, CACHE_BYTES).await?;
        let transforms = Carried::new(&context, TransformsConfig::default())?;
        answer_with(&Arc::new(reader), &transforms, &body, args.now.unwrap_or_else(now)).await
    })?;
    match output.format {
        Format::Json => {
            output.print_bytes(&response)?;
            output.print("\n")
        }
        Format::Text => output.print(&table(&response, output)?),
    }
}

/// [`answer_with`] where there are no components.
pub(crate) async fn answer(reader: &Arc<Reader>, body: &[u8], now: Timestamp) -> Outcome<Vec<u8>> {
    answer_with(reader, &NoTransforms, body, now).await
}

/// The response's body to a request's body: the same bytes as over HTTP.
pub(crate) async fn answer_with(
    reader: &Arc<Reader>,
    transforms: &dyn CarryTransforms,
    body: &[u8],
    now: Timestamp,
) -> Outcome<Vec<u8>> {
    let refused = |refusal: mezze_core::Refusal| {
        let exit = if refusal.status == 413 { Exit::Limit } else { Exit::Input };
        Failure::new(exit, refusal.message)
    };
    let plan = reader.snapshot().plan_body(body, MediaType::Json, now, &Limits::server()).map_err(refused)?;
    let pages = reader.pages(&plan).await.map_err(|error| {
        Failure::of(Exit::Failed, &error).hint("the snapshot is incomplete; `mezze materialize` again, or `mezze rollback`")
    })?;
    let pages: Vec<Option<PageRef<'_>>> = pages.iter().map(|page| PageRef::resident(page).ok()).collect();
    let needed: Vec<TransformId> = plan.transforms().map(|transform| transform.id).collect();
    transforms.make_ready(&needed).await;
    let response = plan.answer_with(&pages, transforms).map_err(|error| Failure::of(Exit::Failed, &error))?;
    let mut body = Vec::new();
    response.write(MediaType::Json, &mut body).map_err(|error| Failure::of(Exit::Failed, &error))?;
    Ok(body)
}

/// The request's body: that of the file, or one made of the arguments.
fn body(args: &OnlineArgs) -> Outcome<Vec<u8>> {
    if let Some(path) = &args.request {
        return read(path);
    }
    let mut entities: Map<String, Json> = Map::new();
    for (name, value) in pairs(&args.entity)? {
        let column = entities.entry(name.to_owned()).or_insert_with(|| json!([]));
        if let Json::Array(values) = column {
            values.push(value_of(value));
        }
    }
    let mut body = json!({ "entities": entities, "full_feature_names": args.selection.full_feature_names });
    if let Json::Object(fields) = &mut body {
        match &args.selection.service {
            Some(service) => fields.insert("feature_service".into(), json!(service)),
            None => fields.insert("features".into(), json!(args.selection.features)),
        };
        if args.expired_values {
            fields.insert("expired".into(), json!("value"));
        }
    }
    Ok(body.to_string().into_bytes())
}

/// An argument's value: null, a list or an object as JSON has it; anything else as text, which the column's type decides on.
fn value_of(text: &str) -> Json {
    match serde_json::from_str(text) {
        Ok(value @ (Json::Null | Json::Array(_) | Json::Object(_))) => value,
        _ => json!(text),
    }
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    if path == Path::new("-") {
        let mut body = Vec::new();
        std::io::stdin().read_to_end(&mut body).map_err(|error| Failure::io("cannot read", path, &error))?;
        return Ok(body);
    }
    std::fs::read(path).map_err(|error| Failure::io("cannot read", path, &error))
}

/// The response for people: a line a feature and entity row.
fn table(response: &[u8], output: Output) -> Outcome<String> {
    let response: Json = serde_json::from_slice(response)?;
    let list = |value: &Json, key: &str| value.get(key).and_then(Json::as_array).cloned().unwrap_or_default();
    let names = list(&response["metadata"], "feature_names");
    let results = list(&response, "results");
    let rows = results.first().map_or(0, |column| list(column, "values").len());
    let mut table = Table::new(&["row#", "feature", "value", "status", "event time"]);
    for row in 0..rows {
        for (name, column) in names.iter().zip(&results) {
            let text = |key: &str| match column.get(key).and_then(|values| values.get(row)) {
                Some(Json::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => String::new(),
            };
            let time = text("event_timestamps");
            table.row([
                (row + 1).to_string(),
                name.as_str().unwrap_or_default().to_owned(),
                text("values"),
                text("statuses"),
                // What the request brought along is of no time.
                if time == "1970-01-01T00:00:00Z" { "-".into() } else { time },
            ]);
        }
    }
    Ok(table.render(output))
}

/// The names and values of `NAME=VALUE` arguments.
pub(crate) fn pairs(arguments: &[String]) -> Outcome<Vec<(&str, &str)>> {
    arguments
        .iter()
        .map(|argument| {
            argument.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
                Failure::input(format!("`--entity {argument}` is not of the form NAME=VALUE"))
                    .hint("for example --entity zipcode=76104")
            })
        })
        .collect()
}

/// One request reads few pages.
pub(crate) const CACHE_BYTES: usize = 64 << 20;
