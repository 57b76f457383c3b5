//! `mezze edge`

#[cfg(feature = "edge")]
mod carried;
#[cfg(feature = "edge")]
mod dev;
mod export;

use std::fs;
use std::path::Path;

use crate::args::{EdgeArgs, EdgeCommand, Global};
use crate::failure::{Failure, Outcome};
use crate::output::Output;

pub(crate) fn run(args: &EdgeArgs, global: &Global, output: Output) -> Outcome {
    match &args.command {
        EdgeCommand::Build(args) => bundles::build(args, global, output),
        EdgeCommand::Dev(args) => bundles::dev(args, global, output),
        EdgeCommand::Export(args) => export::run(args, global, output),
    }
}

/// Writes files by their paths beside the folder, and moves it into place, so that nobody deploys a part.
#[cfg(feature = "edge")]
fn write_folder<'f>(out: &Path, files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Outcome {
    let failed = |error: std::io::Error| Failure::io("cannot write", out, &error);
    let folder = begin_folder(out)?;
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(out)).map_err(failed)?;
        fs::write(&path, bytes).map_err(failed)?;
    }
    finish_folder(folder, out)
}

/// A folder beside one that does not exist or is empty.
fn begin_folder(out: &Path) -> Outcome<tempfile::TempDir> {
    match fs::read_dir(out).map(|mut entries| entries.next().is_some()) {
        Ok(true) => {
            return Err(Failure::input(format!("{} is not empty", out.display())).hint("choose another folder with --out"));
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Failure::io("cannot write", out, &error)),
        _ => {}
    }
    let failed = |error: std::io::Error| Failure::io("cannot write", out, &error);
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(parent).map_err(failed)?;
    let mut folder = tempfile::Builder::new();
    #[cfg(unix)]
    folder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755));
    folder.prefix(".mezze-").tempdir_in(parent).map_err(failed)
}

/// Moves it into place. An empty folder gives way.
fn finish_folder(folder: tempfile::TempDir, out: &Path) -> Outcome {
    fs::rename(folder.path(), out).map_err(|error| Failure::io("cannot write", out, &error))?;
    // What was moved is not to be cleaned up.
    let _ = folder.keep();
    Ok(())
}

#[cfg(not(feature = "edge"))]
mod bundles {
    use crate::args::{EdgeBuildArgs, EdgeDevArgs, Global};
    use crate::failure::{Exit, Failure, Outcome};
    use crate::output::Output;

    pub(super) fn build(_: &EdgeBuildArgs, _: &Global, _: Output) -> Outcome {
        Err(without())
    }

    pub(super) fn dev(_: &EdgeDevArgs, _: &Global, _: Output) -> Outcome {
        Err(without())
    }

    fn without() -> Failure {
        Failure::new(Exit::Failed, "this `mezze` was built without the bundles for edges")
            .hint("build it with them: `cargo install --path host/cli --features edge`")
    }
}

#[cfg(feature = "edge")]
mod bundles {
    pub(super) use super::dev::run as dev;

    use mezze_edge::{BundleError, BundleFile, Settings, Target, check, code_bytes};
    use serde_json::json;

    use super::carried::{self, Carried};
    use super::write_folder;
    use crate::args::{EdgeBuildArgs, Global};
    use crate::failure::{Exit, Failure, Outcome, plain};
    use crate::output::{Output, Table, size};

    pub(super) fn build(args: &EdgeBuildArgs, global: &Global, output: Output) -> Outcome {
        let target = Target::ALL.into_iter().find(|target| target.name() == args.target);
        let target = target.ok_or_else(|| Failure::input(format!("no target is called `{}`", args.target)))?;
        let settings = Settings::default().with_name(&args.name).ok_or_else(|| {
            Failure::input(format!("name `{}`: expected lower-case letters, digits and dashes, at most 54", args.name))
        })?;
        let settings = match &args.kv_id {
            Some(_) if target != Target::Cloudflare => {
                return Err(Failure::input("--kv-id is for cloudflare: the other targets name their store in another way"));
            }
            Some(id) => settings.with_kv_id(id).ok_or_else(|| {
                Failure::input(format!("KV namespace id `{id}`: expected hex digits, as `wrangler kv namespace list` shows"))
            })?,
            None => settings,
        };
        let settings = match args.trust {
            true if target != Target::Browser => {
                return Err(Failure::input(
                    "--trust is for browser: the other bundles always check signatures, once they have keys",
                ));
            }
            true => settings.with_trust(),
            false => settings,
        };
        let settings = match args.expressions {
            true if target != Target::Browser => {
                return Err(Failure::input("--expressions is for browser: the other bundles always compute on-demand features"));
            }
            true => settings.with_expressions(),
            false => settings,
        };
        let settings = match &args.viceroy {
            Some(_) if target != Target::Fastly => {
                return Err(Failure::input("--viceroy is for fastly: no other bundle is made by it"));
            }
            Some(program) => settings.with_viceroy(program.clone()),
            None => settings,
        };
        let carried = carried::of_repository(global, target, &args.leave_out, output)?;
        let settings = settings.with_transforms(carried.iter().map(|carried| carried.bounded.clone()).collect());
        let files = files(target, &settings)?;
        check(target, &files).map_err(|error| Failure::of(Exit::Limit, &error))?;
        let files_written = files.iter().map(|file| (&*file.path, &file.bytes[..]));
        write_folder(&args.out, files_written)?;
        let (plain, packed) = code_bytes(&files);
        let next = next(target, args.kv_id.is_some());
        output.result(
            || {
                let files = files.iter().map(|file| json!({ "path": file.path, "bytes": file.bytes.len() }));
                json!({
                    "target": target.name(), "out": args.out, "code_bytes": plain, "code_gzip_bytes": packed,
                    "files": files.collect::<Vec<_>>(), "transforms": carried.iter().map(transform_json).collect::<Vec<_>>(),
                })
            },
            || {
                let mut table = Table::new(&["file", "size#"]);
                for file in &files {
                    table.row([file.path.clone().into_owned(), size(file.bytes.len() as u64)]);
                }
                let (plain, packed) = (size(plain as u64), size(packed as u64));
                let transforms: String = carried.iter().map(transform_text).collect();
                format!(
                    "{}{plain} of code, {packed} with gzip, in {}\n{transforms}{next}\n",
                    table.render(output),
                    args.out.display()
                )
            },
        )
    }

    /// The files of a bundle.
    pub(super) fn files(target: Target, settings: &Settings) -> Outcome<Vec<BundleFile>> {
        target.files(settings).map_err(|error| {
            match &error {
                BundleError::NoViceroy { program, error } => Failure::new(
                    Exit::Failed,
                    format!(
                        "a bundle for Fastly Compute with transforms is a component, which `viceroy adapt` makes, and {program} cannot be \
                         run: {}",
                        plain(error)
                    ),
                )
                .hint(
                    "install it: `cargo install viceroy --version 0.22.0 --locked`, or name its program with --viceroy; --leave-out \
                     makes a bundle without transforms",
                ),
                _ => Failure::of(Exit::Failed, &error),
            }
        })
    }

    fn transform_json(carried: &Carried) -> serde_json::Value {
        let bounded = &carried.bounded;
        json!({ "digest": bounded.id.to_string(), "views": carried.views, "bytes": bounded.module.len() })
    }

    fn transform_text(carried: &Carried) -> String {
        let bytes = size(carried.bounded.module.len() as u64);
        format!("carries the transform {} of {} ({bytes})\n", carried.bounded.id, carried.views.join(", "))
    }

    fn next(target: Target, has_kv: bool) -> &'static str {
        match target {
            Target::Browser => "next: serve the folder, with a snapshot's keys beside it; docs/edges/BROWSER.md",
            Target::Cloudflare if has_kv => "next: `wrangler deploy` in that folder; docs/edges/CLOUDFLARE.md",
            Target::Cloudflare => {
                "next: `wrangler kv namespace create MEZZE`, write its id into wrangler.toml, and `wrangler deploy`"
            }
            Target::Component => "next: run serving.wasm in your program; docs/EMBEDDING.md",
            Target::Fastly => "next: `fastly compute publish` in that folder; docs/edges/FASTLY.md",
            Target::Spin => "next: `spin up` in that folder; docs/edges/SPIN.md",
        }
    }
}
