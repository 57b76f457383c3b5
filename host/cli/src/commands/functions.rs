//! `mezze functions`: what expressions may be made of

use mezze_model::{FUNCTIONS, FunctionEntry};
use serde_json::{Value as Json, json};

use crate::args::FunctionsArgs;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, Table};

pub(crate) fn run(args: &FunctionsArgs, output: Output) -> Outcome {
    let wanted = args.name.as_ref().map(|name| name.to_lowercase());
    let found: Vec<&FunctionEntry> = FUNCTIONS
        .iter()
        .filter(|entry| {
            wanted.as_ref().is_none_or(|name| {
                let named = entry.name.to_lowercase();
                named == *name || entry.group.to_lowercase() == *name || named.split(' ').any(|word| word == name)
            })
        })
        .collect();
    if found.is_empty() {
        return Err(Failure::input(format!("there is no function or group `{}`", args.name.as_deref().unwrap_or_default()))
            .hint("`mezze functions` lists them all"));
    }
    let one = wanted.is_some() && found.len() == 1;
    output.result(
        || json!(found.iter().map(|entry| entry_json(entry)).collect::<Vec<_>>()),
        || {
            if let (true, [entry]) = (one, found.as_slice()) {
                return entry_text(entry);
            }
            let mut text = String::new();
            let mut group = "";
            let mut table = Table::new(&["function", "takes and gives", "what it is"]);
            for entry in &found {
                if entry.group != group {
                    if !group.is_empty() {
                        text.push_str(&format!("{group}\n{}\n", table.render(output)));
                        table = Table::new(&["function", "takes and gives", "what it is"]);
                    }
                    group = entry.group;
                }
                table.row([entry.name.to_owned(), entry.signature.to_owned(), first_sentence(entry.about).to_owned()]);
            }
            text.push_str(&format!("{group}\n{}", table.render(output)));
            text
        },
    )
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}

fn entry_json(entry: &FunctionEntry) -> Json {
    let examples: Vec<Json> =
        entry.examples.iter().map(|(text, result)| json!({ "expression": text, "result": result })).collect();
    json!({
        "name": entry.name, "group": entry.group, "signature": entry.signature, "about": entry.about, "null_where": nulls(entry),
        "examples": examples,
    })
}

/// When the result is null.
fn nulls(entry: &FunctionEntry) -> String {
    match entry.nulls {
        "never" => "never".to_owned(),
        "" => "an argument is null".to_owned(),
        nulls => format!("an argument is null; {nulls}"),
    }
}

fn entry_text(entry: &FunctionEntry) -> String {
    let mut text = format!("{}\n\n{}\nNull where: {}.\n", entry.signature, entry.about, nulls(entry));
    if !entry.examples.is_empty() {
        text.push_str("\nExamples:\n");
        for (expression, result) in entry.examples {
            text.push_str(&format!("  {expression}  ->  {result}\n"));
        }
    }
    text
}
