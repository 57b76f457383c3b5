//! `mezze init`

use serde_json::json;

use crate::args::{Global, InitArgs};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::sample;

pub(crate) fn run(args: &InitArgs, global: &Global, output: Output) -> Outcome {
    let folder = global.chdir.join(&args.folder);
    let project = project_name(&folder)?;
    sample::write(&folder, &project)?;
    let shown = folder.display();
    output.result(
        || json!({ "repository": shown.to_string(), "project": project }),
        || {
            format!(
                "made the repository {shown} of project {project}\n\nnext:\n  cd {shown}\n  mezze plan     what the definitions \
                 would change\n  mezze apply    check and record them\n\nREADME.md in it leads through the rest\n"
            )
        },
    )
}

/// The folder's name in the letters that names of projects have.
fn project_name(folder: &std::path::Path) -> Outcome<String> {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name: String =
        name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' }).collect();
    if name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        Ok(name)
    } else {
        Err(Failure::input(format!("no project can be named after the folder {}", folder.display()))
            .hint("give a folder whose name begins with a letter"))
    }
}
