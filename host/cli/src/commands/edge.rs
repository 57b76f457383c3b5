//! `mezze edge`

use crate::args::{EdgeArgs, EdgeCommand};
use crate::failure::Outcome;
use crate::output::Output;

pub(crate) fn run(args: &EdgeArgs, output: Output) -> Outcome {
    match &args.command {
        EdgeCommand::Build(args) => bundles::build(args, output),
    }
}

#[cfg(not(feature = "edge"))]
mod bundles {
    use crate::args::EdgeBuildArgs;
    use crate::failure::{Exit, Failure, Outcome};
    use crate::output::Output;

    pub(super) fn build(_: &EdgeBuildArgs, _: Output) -> Outcome {
        Err(Failure::new(Exit::Failed, "this `mezze` was built without the bundles for edges")
            .hint("build it with them: `cargo install --path host/cli --features edge`"))
    }
}

#[cfg(feature = "edge")]
mod bundles {
    use std::fs;
    use std::path::Path;

    use mezze_edge::{BundleFile, Settings, Target, check, code_bytes};
    use serde_json::json;

    use crate::args::EdgeBuildArgs;
    use crate::failure::{Exit, Failure, Outcome};
    use crate::output::{Output, Table, size};

    pub(super) fn build(args: &EdgeBuildArgs, output: Output) -> Outcome {
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
        let files = target.files(&settings);
        check(target, &files).map_err(|error| Failure::of(Exit::Limit, &error))?;
        write(&args.out, &files)?;
        let (plain, packed) = code_bytes(&files);
        let next = next(target, args.kv_id.is_some());
        output.result(
            || {
                let files = files.iter().map(|file| json!({ "path": file.path, "bytes": file.bytes.len() }));
                json!({
                    "target": target.name(), "out": args.out, "code_bytes": plain, "code_gzip_bytes": packed,
                    "files": files.collect::<Vec<_>>(),
                })
            },
            || {
                let mut table = Table::new(&["file", "size#"]);
                for file in &files {
                    table.row([file.path.to_owned(), size(file.bytes.len() as u64)]);
                }
                let (plain, packed) = (size(plain as u64), size(packed as u64));
                format!("{}{} of code, {} with gzip, in {}\n{next}\n", table.render(output), plain, packed, args.out.display())
            },
        )
    }

    /// Writes the files beside the folder and moves it into place, so that nobody deploys a part.
    fn write(out: &Path, files: &[BundleFile]) -> Outcome {
        let taken = fs::read_dir(out).map(|mut entries| entries.next().is_some());
        match taken {
            Ok(true) => {
                return Err(Failure::input(format!("{} is not empty", out.display())).hint("choose another folder with --out"));
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Failure::io("cannot write", out, &error)),
            _ => {}
        }
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let failed = |error: std::io::Error| Failure::io("cannot write", out, &error);
        fs::create_dir_all(parent).map_err(failed)?;
        let mut folder = tempfile::Builder::new();
        #[cfg(unix)]
        folder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755));
        let folder = folder.prefix(".mezze-").tempdir_in(parent).map_err(failed)?;
        for file in files {
            let path = folder.path().join(file.path);
            fs::create_dir_all(path.parent().unwrap_or(out)).map_err(failed)?;
            fs::write(&path, &file.bytes).map_err(failed)?;
        }
        // An empty folder gives way.
        fs::rename(folder.path(), out).map_err(failed)?;
        // What was moved is not to be cleaned up.
        let _ = folder.keep();
        Ok(())
    }

    fn next(target: Target, has_kv: bool) -> &'static str {
        match target {
            Target::Browser => "next: serve the folder, with a snapshot's keys beside it; docs/EDGES.md",
            Target::Cloudflare if has_kv => "next: `wrangler deploy` in that folder; docs/EDGES.md",
            Target::Cloudflare => {
                "next: `wrangler kv namespace create MEZZE`, write its id into wrangler.toml, and `wrangler deploy`"
            }
            Target::Fastly => "next: `fastly compute publish` in that folder; docs/EDGES.md",
            Target::Spin => "next: `spin up` in that folder; docs/EDGES.md",
        }
    }
}
