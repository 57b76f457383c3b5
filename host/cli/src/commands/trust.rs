//! `mezze keys` and `mezze verify`

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use mezze_core::{PublicKey, Span, Trust};
use mezze_replica::{Reader, Signer, Store, SystemClock, Target, Verified, verify};
use serde_json::json;

use super::online::{CACHE_BYTES, answer};
use crate::args::{Global, KeysArgs, KeysCommand, KeysNewArgs, VerifyArgs};
use crate::context::{Context, block_on, now, show_instant};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, size};

pub(crate) fn keys(args: &KeysArgs, output: Output) -> Outcome {
    match &args.command {
        KeysCommand::New(args) => new_key(args, output),
    }
}

fn new_key(args: &KeysNewArgs, output: Output) -> Outcome {
    let signer = Signer::generate().map_err(|error| {
        Failure::new(Exit::Failed, format!("the system gives no randomness: {}", crate::failure::plain(&error)))
    })?;
    write_secret(&args.out, &signer.secret_text())?;
    let public = signer.public_key();
    output.result(
        || json!({ "public_key": public.to_string(), "key_id": public.id().to_string(), "secret_key_file": args.out }),
        || {
            format!(
                "{public}\n\nThe secret key is in {file}: whoever has it can sign. It belongs to where `mezze publish` runs, and \
                 not into the repository.\n\
                 next: give every host the public key, as MEZZE_TRUST_KEYS={public}\n\
                 next: let publish sign, in feature_store.yaml:\n\n  signing:\n    key_file: {file}\n\n\
                 Publish signed once before the hosts get the key: with it they serve nothing that is not signed.\n",
                file = args.out.display()
            )
        },
    )
}

/// Writes a secret to a new file that only its owner can read.
fn write_secret(path: &Path, text: &str) -> Outcome {
    let failed = |error: &std::io::Error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return Failure::input(format!("{} is there already", path.display()))
                .hint("a key that is overwritten is lost; choose another file with --out");
        }
        Failure::io("cannot write", path, error)
    };
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| failed(&error))?;
    file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(|error| failed(&error))
}

pub(crate) fn run_verify(args: &VerifyArgs, global: &Global, output: Output) -> Outcome {
    let trust = trust_of(args)?;
    let target = match &args.at {
        Some(place) => Target::Folder(Store::open(place, &global.chdir)?),
        None => {
            let context = Context::load(global, output)?;
            match &args.to {
                Some(name) => context.replica(name)?.target,
                None => {
                    return Err(Failure::input("nothing is named that could be verified")
                        .hint("name a replica with --to, or a folder with --at"));
                }
            }
        }
    };
    block_on(None, async {
        match (&args.request, &args.response) {
            (Some(request), Some(response)) => verify_response(args, target, trust, request, response, output).await,
            _ => {
                let verified = verify(&target, &trust, args.now.unwrap_or_else(now), &SystemClock).await;
                let verified = verified.map_err(|error| Failure::of(Exit::Failed, &error))?;
                report(&verified, trust.is_required(), output)
            }
        }
    })
}

fn trust_of(args: &VerifyArgs) -> Outcome<Trust> {
    let parse = |text: &String| {
        text.trim().parse::<PublicKey>().map_err(|error| Failure::input(format!("--key `{}`: {error}", shortened(text))))
    };
    let keys = args.key.iter().map(parse).collect::<Outcome<Vec<PublicKey>>>()?;
    if keys.is_empty() {
        return Err(Failure::input("no key is given that could have signed")
            .hint("give the public key with --key, as `mezze keys new` shows it"));
    }
    let mut trust = Trust::new(keys).with_epoch_min(args.epoch_min);
    trust.head_age_max = args.head_age_max.map(|seconds| Span::from_seconds(seconds.into()));
    Ok(trust)
}

/// The beginning of what may be a secret.
fn shortened(text: &str) -> String {
    let beginning: String = text.chars().take(24).collect();
    if beginning.len() < text.len() { format!("{beginning}...") } else { beginning }
}

fn report(verified: &Verified, is_required: bool, output: Output) -> Outcome {
    let signed = verified.signed.as_ref().filter(|_| is_required);
    output.result(
        || {
            json!({
                "epoch": verified.epoch, "snapshot": verified.snapshot.to_string(),
                "key_id": signed.map(|(key, _)| key.to_string()), "signed_at": signed.map(|(_, at)| show_instant(*at)),
                "manifests": verified.manifests, "pages": verified.pages, "page_bytes": verified.page_bytes,
                "faults": verified.fault_count, "first_faults": verified.faults,
            })
        },
        || {
            let head = match signed {
                Some((key, at)) => format!("head      epoch {}, signed with key {key} at {}", verified.epoch, show_instant(*at)),
                None => format!("head      epoch {}", verified.epoch),
            };
            format!(
                "{head}\nmanifests {} as signed\npages     {} as signed, {}\n",
                verified.manifests,
                verified.pages,
                size(verified.page_bytes)
            )
        },
    )?;
    match verified.fault_count {
        0 => Ok(()),
        count => {
            let shown: Vec<&str> = verified.faults.iter().map(String::as_str).collect();
            let more = count.saturating_sub(shown.len() as u64);
            let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
            Err(Failure::new(Exit::Failed, format!("{count} objects are not as signed:\n  {}{more}", shown.join("\n  "))))
        }
    }
}

/// Answers a request again from what was signed, and compares. The answer may be older than the signature: whether that is good is
/// judged by the time now.
async fn verify_response(
    args: &VerifyArgs,
    target: Target,
    trust: Trust,
    request: &Path,
    response: &Path,
    output: Output,
) -> Outcome {
    let Target::Folder(store) = target else {
        return Err(Failure::input("a response can be verified against a replica of type directory, or a folder with --at"));
    };
    let Some(at) = args.now else {
        return Err(Failure::input("the instant of the response is missing")
            .hint("give it with --now: freshness is judged by it, and so are the statuses"));
    };
    let read = |path: &Path| fs::read(path).map_err(|error| Failure::io("cannot read", path, &error));
    let (request, saved) = (read(request)?, read(response)?);
    let reader =
        Reader::open_trusting(store, CACHE_BYTES, trust, now()).await.map_err(|error| Failure::of(Exit::Failed, &error))?;
    let reader = Arc::new(reader);
    let expected = answer(&reader, &request, at).await?;
    let snapshot = reader.snapshot();
    // A file that a shell has written may end with a line's end.
    if saved.trim_ascii_end() != expected.trim_ascii_end() {
        let same = saved.iter().zip(&expected).take_while(|(saved, expected)| saved == expected).count();
        return Err(Failure::new(
            Exit::Failed,
            format!(
                "the response is not that of epoch {} (snapshot {}): it differs from byte {same} on",
                snapshot.epoch(),
                snapshot.id()
            ),
        )
        .hint("an answer of another epoch differs, too: its header x-mezze-epoch says which it was"));
    }
    output.result(
        || json!({ "epoch": snapshot.epoch(), "snapshot": snapshot.id().to_string(), "bytes": expected.len() }),
        || format!("the response is that of epoch {} (snapshot {}), as signed\n", snapshot.epoch(), snapshot.id()),
    )
}
