//! `mezze edge export`

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use mezze_core::{Audience, HEAD_KEY};
use mezze_replica::{Entry, KeyValue as _, ReplicaKeys, SpinKeys};
use serde_json::json;

use super::{begin_folder, finish_folder};
use crate::args::{EdgeExportArgs, Global};
use crate::context::{Context, block_on};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, count, size};

pub(super) fn run(args: &EdgeExportArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    block_on(Some(1), async {
        let keys = ReplicaKeys::open(context.store(args.from.as_deref())?, audience(&args.target)).await?;
        let folder = begin_folder(&args.out)?;
        let written = match &*args.target {
            "browser" => files(&keys, folder.path()).await?,
            "cloudflare" => lists(&keys, folder.path(), &CLOUDFLARE).await?,
            "fastly" => lists(&keys, folder.path(), &FASTLY).await?,
            _ => spin_store(&keys, &folder.path().join(SPIN_FILE)).await?,
        };
        finish_folder(folder, &args.out)?;
        let (epoch, out) = (keys.epoch(), &args.out);
        output.result(
            || {
                json!({
                    "target": args.target, "out": out, "epoch": epoch, "keys": written.keys, "bytes": written.bytes,
                    "files": written.files,
                })
            },
            || {
                let (count, size) = (count(written.keys), size(written.bytes));
                let next = next(&args.target, &written.files);
                format!("wrote {count} keys ({size}) of epoch {epoch} to {}\n{next}\n", out.display())
            },
        )
    })
}

/// Who holds the keys of a host of this kind.
pub(super) fn audience(target: &str) -> Audience {
    if target == "browser" { Audience::Public } else { Audience::Server }
}

/// What was written.
#[derive(Default)]
struct Written {
    files: Vec<String>,
    keys: u64,
    bytes: u64,
}

/// A key's value; one that is named and not there is a fault of the origin.
pub(super) async fn value(keys: &ReplicaKeys, key: &str) -> Outcome<Bytes> {
    let gone = || Failure::input(format!("key {key} is gone: the snapshot was pruned meanwhile")).hint("run the command again");
    keys.read(key).await?.ok_or_else(gone)
}

async fn files(keys: &ReplicaKeys, folder: &Path) -> Outcome<Written> {
    let mut written = Written::default();
    for key in keys.keys().await? {
        let bytes = value(keys, &key).await?;
        let path = folder.join(&key);
        let failed = |error: std::io::Error| Failure::io("cannot write", &path, &error);
        fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        fs::write(&path, &bytes).map_err(failed)?;
        written.keys += 1;
        written.bytes += bytes.len() as u64;
    }
    Ok(written)
}

async fn spin_store(keys: &ReplicaKeys, path: &Path) -> Outcome<Written> {
    let (keys, bytes) = write_spin(keys, path).await?;
    Ok(Written { files: vec![SPIN_FILE.to_owned()], keys, bytes })
}

/// Puts the keys into Spin's store `default`, in one transaction; how many, and their bytes.
pub(super) async fn write_spin(keys: &ReplicaKeys, path: &Path) -> Outcome<(u64, u64)> {
    let mut entries = Vec::new();
    for key in keys.keys().await? {
        let value = value(keys, &key).await?;
        entries.push(Entry { key, value, digest: String::new() });
    }
    SpinKeys::new(path, "default").write(&entries).await?;
    Ok((entries.len() as u64, entries.iter().map(|entry| entry.value.len() as u64).sum()))
}

/// How a vendor's tool takes many keys at once.
struct ListFormat {
    ending: &'static str,
    begin: &'static str,
    between: &'static str,
    end: &'static str,
    /// What stands behind a value.
    after: &'static str,
    /// Keys and bytes of one file.
    keys_max: u64,
    bytes_max: u64,
}

/// An array of at most 10,000 pairs and 100 MB.
const CLOUDFLARE: ListFormat = ListFormat {
    ending: "json",
    begin: "[\n",
    between: ",\n",
    end: "\n]\n",
    after: ",\"base64\":true",
    keys_max: 10_000,
    bytes_max: 90_000_000,
};

/// Lines; the vendor names no limit, so that files are kept small enough to be sent again.
const FASTLY: ListFormat =
    ListFormat { ending: "ndjson", begin: "", between: "\n", end: "\n", after: "", keys_max: 1_000, bytes_max: 10_000_000 };

/// A file that is being written.
struct List {
    file: BufWriter<File>,
    keys: u64,
    bytes: u64,
}

/// Files of pairs, and the head in one of its own: it is to be loaded last.
async fn lists(keys: &ReplicaKeys, folder: &Path, format: &ListFormat) -> Outcome<Written> {
    let failed = |error: std::io::Error| Failure::io("cannot write", folder, &error);
    let mut written = Written::default();
    let mut open: Option<List> = None;
    for key in keys.keys().await? {
        let bytes = value(keys, &key).await?;
        let pair = format!("{{\"key\":\"{key}\",\"value\":\"{}\"{}}}", BASE64_STANDARD.encode(&bytes), format.after);
        let pair_bytes = pair.len() as u64;
        let fits = |list: &List| list.keys < format.keys_max && list.bytes + pair_bytes <= format.bytes_max && key != HEAD_KEY;
        let mut list = match open.take() {
            Some(mut list) if fits(&list) => {
                list.file.write_all(format.between.as_bytes()).map_err(failed)?;
                list
            }
            full => {
                if let Some(full) = full {
                    end_list(full, format).map_err(failed)?;
                }
                let number = written.files.len() + 1;
                let name = if key == HEAD_KEY { "head".to_owned() } else { format!("keys-{number:04}") };
                let name = format!("{name}.{}", format.ending);
                let mut file = BufWriter::new(File::create(folder.join(&name)).map_err(failed)?);
                file.write_all(format.begin.as_bytes()).map_err(failed)?;
                written.files.push(name);
                List { file, keys: 0, bytes: 0 }
            }
        };
        list.file.write_all(pair.as_bytes()).map_err(failed)?;
        list.keys += 1;
        list.bytes += pair_bytes;
        written.keys += 1;
        written.bytes += bytes.len() as u64;
        open = Some(list);
    }
    if let Some(list) = open {
        end_list(list, format).map_err(failed)?;
    }
    Ok(written)
}

fn end_list(mut list: List, format: &ListFormat) -> std::io::Result<()> {
    list.file.write_all(format.end.as_bytes())?;
    list.file.flush()
}

fn next(target: &str, files: &[String]) -> String {
    let each = |command: &str| {
        let commands: Vec<String> = files.iter().map(|file| format!("  {}", command.replace("FILE", file))).collect();
        format!("next, in this order:\n{}", commands.join("\n"))
    };
    match target {
        "browser" => "next: put the folder on any static hosting; docs/edges/BROWSER.md".into(),
        "cloudflare" => each("wrangler kv bulk put FILE --namespace-id ID --remote"),
        "fastly" => each("fastly kv-store-entry create --store-id ID --file FILE"),
        _ => format!("next: name {SPIN_FILE} in Spin's runtime configuration; docs/edges/SPIN.md"),
    }
}

const SPIN_FILE: &str = "sqlite_key_value.db";
