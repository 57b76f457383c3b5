//! `mezze serve`

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use mezze_core::{HttpConfig, Snapshot};
use mezze_replica::Reader;
use mezze_runtime::TransformsConfig;
use mezze_server::{Online, Server, ServerOptions};
use serde_json::json;

use crate::args::{Global, ServeArgs};
use crate::context::{Context, block_on, now};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Format, Output};
use crate::transforms::Carried;

pub(crate) fn run(args: &ServeArgs, global: &Global, output: Output) -> Outcome {
    let context = Context::load(global, output)?;
    block_on(Some(1), async {
        let config = HttpConfig::server().with_variables(|name| std::env::var(name).ok());
        let mut config = config.map_err(|error| Failure::of(Exit::Input, &error))?;
        config.limits.entities_max = args.entities_max;
        let store = context.store(args.from.as_deref())?;
        let reader = Reader::open_trusting(store, args.cache << 20, config.trust.clone(), now()).await?;
        let reader = Arc::new(reader);
        let address = SocketAddr::new(args.host, args.port);
        let listener = TcpListener::bind(address).map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot listen on {address}: {}", crate::failure::plain(&error)))
                .hint("another server may run there; choose a port with --port, 0 for any that is free")
        })?;
        let mut options = ServerOptions::default();
        if let Some(workers) = args.workers {
            options.threads = workers.get();
        }
        let transforms = Arc::new(Carried::new(&context, TransformsConfig::default())?);
        transforms.look().await?;
        let online = Online::new(Arc::clone(&reader), config).with_transforms(Arc::<Carried>::clone(&transforms));
        let online = Arc::new(online);
        let server = Server::start(online, listener, options).map_err(|error| Failure::of(Exit::Failed, &error))?;
        let snapshot = reader.snapshot();
        match output.format {
            // A line of JSON that a script can wait for.
            Format::Json => output.line(
                &json!({
                    "address": server.address().to_string(), "epoch": snapshot.epoch(), "snapshot": snapshot.id().to_string(),
                })
                .to_string(),
            )?,
            Format::Text => output.line(&format!(
                "serving epoch {} (snapshot {}) of {} on http://{}  (Ctrl-C stops)",
                snapshot.epoch(),
                snapshot.id(),
                reader.store().place(),
                server.address()
            ))?,
        }
        let stopped = stop_signal();
        tokio::pin!(stopped);
        let mut last_problem = String::new();
        loop {
            tokio::select! {
                () = &mut stopped => break,
                () = tokio::time::sleep(Duration::from_secs(args.refresh)) => match refresh(&reader, &transforms).await {
                    Ok(Some(snapshot)) => {
                        last_problem.clear();
                        output.note(&format!("serving epoch {} (snapshot {})", snapshot.epoch(), snapshot.id()));
                    }
                    Ok(None) => last_problem.clear(),
                    Err(error) => {
                        // Said once, not every few seconds.
                        let problem = error.to_string();
                        if problem != last_problem {
                            output.note(&format!("warning: cannot switch to a newer snapshot: {problem}"));
                            last_problem = problem;
                        }
                    }
                },
            }
        }
        output.note("stopping: requests under way finish");
        tokio::task::block_in_place(|| server.stop(Duration::from_secs(args.grace)));
        Ok(())
    })
}

/// Looks for a newer snapshot, and for components that were applied since.
async fn refresh(reader: &Reader, transforms: &Carried) -> Result<Option<Snapshot>, mezze_replica::Error> {
    // Without the registry those that are here go on.
    let _ = transforms.look().await;
    reader.refresh(now()).await
}

/// Ends with Ctrl-C, or where there is one with SIGTERM.
pub(super) async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
