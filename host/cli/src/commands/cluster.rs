//! `mezze cluster`, and the engines that read sources

use std::sync::Arc;

use mezze_offline::Workers;

use crate::args::{ClusterArgs, ClusterCommand, Engine, EngineArgs};
use crate::failure::Outcome;
use crate::output::Output;
use crate::progress::Progress;

pub(crate) fn run(args: &ClusterArgs, output: Output) -> Outcome {
    match &args.command {
        ClusterCommand::Executor(args) => services::executor(args, output),
        ClusterCommand::Scheduler(args) => services::scheduler(args, output),
    }
}

/// Does work with the engine that the arguments name. Where that is a cluster, nothing is left under way there, however it ends.
pub(crate) async fn with_engine<T>(
    args: &EngineArgs,
    progress: &Progress,
    output: Output,
    work: impl AsyncFnOnce(Option<Arc<dyn Workers>>) -> Outcome<T>,
) -> Outcome<T> {
    match &args.engine {
        Engine::Ballista(scheduler) => services::with_cluster(scheduler, args, progress, output, work).await,
        Engine::Local => work(None).await,
    }
}

#[cfg(not(feature = "cluster"))]
mod services {
    use std::sync::Arc;

    use mezze_offline::Workers;

    use crate::args::{EngineArgs, ExecutorArgs, SchedulerArgs};
    use crate::failure::{Exit, Failure, Outcome};
    use crate::output::Output;
    use crate::progress::Progress;

    pub(super) fn executor(_: &ExecutorArgs, _: Output) -> Outcome {
        Err(without())
    }

    pub(super) fn scheduler(_: &SchedulerArgs, _: Output) -> Outcome {
        Err(without())
    }

    pub(super) async fn with_cluster<T>(
        _: &str,
        _: &EngineArgs,
        _: &Progress,
        _: Output,
        _: impl AsyncFnOnce(Option<Arc<dyn Workers>>) -> Outcome<T>,
    ) -> Outcome<T> {
        Err(without())
    }

    fn without() -> Failure {
        Failure::new(Exit::Failed, "this `mezze` was built without the cluster engine")
            .hint("build it with it: `cargo install --path host/cli --features cluster`")
    }
}

#[cfg(feature = "cluster")]
mod services {
    use std::io::IsTerminal;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    use mezze_cluster::{
        Cluster, ClusterError, ClusterOptions, Executor, ExecutorOptions, ProgressCallback, Scheduler, SchedulerOptions,
    };
    use mezze_offline::{TaskLimits, Workers};
    use serde_json::json;

    use crate::args::{EngineArgs, ExecutorArgs, SchedulerArgs};
    use crate::bytes::{ByteSize, half_of_memory};
    use crate::commands::historical::default_threads;
    use crate::commands::serve::stop_signal;
    use crate::context::block_on;
    use crate::failure::{Exit, Failure, Outcome};
    use crate::output::{Format, Output, count, size};
    use crate::progress::Progress;

    /// Tasks that are given out at a time: more than a cluster has slots, mostly, so that none waits for the client.
    const AT_ONCE: usize = 64;
    /// With less, a task hardly has room for anything.
    const SLOT_MEMORY_MIN: u64 = 32 << 20;
    /// What a task may take where the system does not say how much memory there is.
    const SLOT_MEMORY: u64 = 1 << 30;
    /// How long an executor waits for a scheduler at first.
    const SCHEDULER_WAIT: Duration = Duration::from_secs(30);

    pub(super) fn scheduler(args: &SchedulerArgs, output: Output) -> Outcome {
        block_on(None, async {
            let scheduler = Scheduler::bind(SchedulerOptions { bind: args.bind }).await?;
            let address = scheduler.address();
            match output.format {
                Format::Json => output.line(&json!({ "address": address.to_string() }).to_string())?,
                Format::Text => output.line(&format!("scheduling on {address}  (Ctrl-C stops)"))?,
            }
            scheduler.run(stop_signal()).await?;
            output.note("stopped");
            Ok(())
        })
    }

    pub(super) fn executor(args: &ExecutorArgs, output: Output) -> Outcome {
        if let Some(folder) = &args.temp_folder {
            if !folder.is_dir() {
                return Err(Failure::input(format!("{} is not a folder", folder.display()))
                    .hint("--temp-folder names one that is there, on a disk with room for the results of tasks"));
            }
            mezze_offline::set_temp_folder(folder.clone());
        }
        let slots = args.slots.map_or_else(default_threads, usize::from);
        let memory = match args.memory {
            Some(ByteSize(bytes)) => bytes,
            None => half_of_memory().unwrap_or_else(|| SLOT_MEMORY.saturating_mul(slots as u64)),
        };
        if memory / (slots as u64) < SLOT_MEMORY_MIN {
            return Err(Failure::input(format!("{} are too little memory for {slots} tasks at a time", size(memory)))
                .hint("give at least 32 MiB for each with --memory, or fewer --slots"));
        }
        let options = ExecutorOptions {
            scheduler: args.scheduler.clone(),
            bind: args.bind,
            host: args.host.clone(),
            slots,
            memory: usize::try_from(memory).unwrap_or(usize::MAX),
            wait: SCHEDULER_WAIT,
        };
        block_on(None, async {
            let mut stopped = std::pin::pin!(stop_signal());
            let executor = tokio::select! {
                executor = Executor::start(options) => executor?,
                () = &mut stopped => return Ok(()),
            };
            let address = executor.address();
            match output.format {
                Format::Json => output.line(&json!({ "address": address.to_string(), "slots": slots }).to_string())?,
                Format::Text => output.line(&format!(
                    "executor on {address} takes {slots} tasks at a time from {}  (Ctrl-C stops)",
                    args.scheduler
                ))?,
            }
            executor.run(stopped).await?;
            output.note("stopped");
            Ok(())
        })
    }

    pub(super) async fn with_cluster<T>(
        scheduler: &str,
        args: &EngineArgs,
        progress: &Progress,
        output: Output,
        work: impl AsyncFnOnce(Option<Arc<dyn Workers>>) -> Outcome<T>,
    ) -> Outcome<T> {
        let options = ClusterOptions {
            scheduler: scheduler.to_owned(),
            limits: TaskLimits { rows: args.task_rows.get(), bytes: args.task_bytes.0, at_once: AT_ONCE },
            wait: Duration::from_secs(args.executor_wait),
            progress: Some(callback(progress.clone(), output)),
        };
        let mut stopped = std::pin::pin!(stop_signal());
        progress.say(format!("waiting for {scheduler}"));
        let cluster = tokio::select! {
            cluster = Cluster::connect(options) => Arc::new(cluster?),
            () = &mut stopped => return Err(cancelled()),
        };
        let result = tokio::select! {
            result = work(Some(Arc::clone(&cluster) as Arc<dyn Workers>)) => result,
            () = stopped => Err(cancelled()),
        };
        cluster.close().await;
        result
    }

    fn cancelled() -> Failure {
        Failure::new(Exit::Failed, "cancelled; nothing was written, and nothing is under way in the cluster any more")
    }

    /// Says how far the work is: in the line of a terminal, or else, as a log keeps it, a line for every hundredth of it.
    fn callback(progress: Progress, output: Output) -> ProgressCallback {
        let terminal = std::io::stderr().is_terminal();
        let said = Mutex::new((0, 0));
        Arc::new(move |done, of| {
            let text = format!("{} of {} tasks are done", count(done), count(of));
            if terminal {
                progress.say(text);
                return;
            }
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if done == of || done.saturating_sub(said.0).saturating_mul(100) >= of || done < said.0 || said.1 == 0 {
                *said = (done, of);
                output.note(&text);
            }
        })
    }

    impl From<ClusterError> for Failure {
        fn from(error: ClusterError) -> Self {
            let exit = if matches!(error, ClusterError::Address { .. }) { Exit::Input } else { Exit::Failed };
            Self::of(exit, &error)
        }
    }
}
