//! What gives tasks to a scheduler and fetches their results.
//!
//! Each task is a job of its own, so that its result is fetched, and gone from the executor, as soon as it is there; and so that an
//! executor that dies costs its own tasks alone. Ballista does a task once more where an executor dies in the middle of it. Where
//! one dies with a result that was not fetched yet, the job has ended well and its result is gone: then the client gives the task
//! out anew.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ballista_core::client::BallistaClient;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::ids::new_instance_id;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    CancelJobParams, CleanJobDataParams, ExecuteQueryParams, GetJobStatusParams, PartitionLocation, RemoveSessionParams,
    SuccessfulJob, execute_query_params, execute_query_result, job_status,
};
use ballista_core::version::insert_version_header;
use datafusion_proto::physical_plan::AsExecutionPlan;
use datafusion_proto::protobuf::PhysicalPlanNode;
use futures::StreamExt;
use mezze_offline::{OfflineError, Task, TaskLimits, TaskOutput, Whole, Workers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::codec::Codec;
use crate::error::{ClusterError, TaskError};
use crate::executor::{endpoint, innermost, kept_alive};
use crate::operator::TaskExec;
use crate::{MESSAGE_BYTES_MAX, TASK_BYTES_MAX};

/// Is told how many tasks are done, of how many that are known by now.
pub type ProgressCallback = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// How a cluster is used.
#[derive(Clone)]
pub struct ClusterOptions {
    /// The scheduler, as `host:port`.
    pub scheduler: String,
    /// How work is cut.
    pub limits: TaskLimits,
    /// How long to wait for an executor where there is none, and for a scheduler that does not answer any more.
    pub wait: Duration,
    /// Is told how far the work is.
    pub progress: Option<ProgressCallback>,
}

impl fmt::Debug for ClusterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheduler, limits, wait, progress: _ } = self;
        f.debug_struct("ClusterOptions")
            .field("scheduler", scheduler)
            .field("limits", limits)
            .field("wait", wait)
            .finish_non_exhaustive()
    }
}

/// A scheduler with its executors, as a client sees it. [`Cluster::close`] it in the end, however that is reached.
#[derive(Debug)]
pub struct Cluster {
    options: ClusterOptions,
    scheduler: SchedulerGrpcClient<Channel>,
    session: String,
    /// Jobs that were given out and have not ended, as far as is known.
    jobs: Mutex<HashSet<String>>,
    done: AtomicU64,
    expected: AtomicU64,
    executors: Mutex<Executors>,
}

/// Whether there are executors.
#[derive(Debug)]
struct Executors {
    asked: Instant,
    /// Since when there are none.
    absent: Option<Instant>,
}

/// How often a task is given out.
const ATTEMPTS_MAX: u32 = 10;
/// Between questions how a job is, at first and at the most.
const POLL_MIN: Duration = Duration::from_millis(10);
const POLL_MAX: Duration = Duration::from_millis(250);
/// Between questions whether there are executors.
const EXECUTORS_ASKED: Duration = Duration::from_secs(1);
/// How long an answer of a line, and the first one of an executor, may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a scheduler may not know a job that it has taken.
const UNKNOWN: Duration = Duration::from_secs(10);

/// How an attempt ended that did not end well.
enum Failed {
    /// Another may do better.
    Again(String),
    /// None will.
    Finally(OfflineError),
}

impl From<OfflineError> for Failed {
    fn from(error: OfflineError) -> Self {
        Self::Finally(error)
    }
}

impl From<ClusterError> for Failed {
    fn from(error: ClusterError) -> Self {
        Self::Finally(error.into())
    }
}

impl Cluster {
    /// Connects to a scheduler, and waits until it has an executor.
    ///
    /// # Errors
    /// [`ClusterError::Address`], [`ClusterError::Unreachable`] and [`ClusterError::NoExecutors`].
    pub async fn connect(options: ClusterOptions) -> Result<Self, ClusterError> {
        let channel = endpoint(&options.scheduler)?
            .connect()
            .await
            .map_err(|error| ClusterError::Unreachable { address: options.scheduler.clone(), reason: innermost(&error) })?;
        let limit = MESSAGE_BYTES_MAX as usize;
        let scheduler = SchedulerGrpcClient::new(channel).max_decoding_message_size(limit).max_encoding_message_size(limit);
        let cluster = Self {
            options,
            scheduler,
            session: new_instance_id(),
            jobs: Mutex::default(),
            done: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            executors: Mutex::new(Executors { asked: Instant::now(), absent: None }),
        };
        let began = Instant::now();
        while !cluster.has_executors().await.unwrap_or(false) {
            if began.elapsed() > cluster.options.wait {
                return Err(cluster.no_executors());
            }
            tokio::time::sleep(POLL_MAX).await;
        }
        Ok(cluster)
    }

    /// Cancels what is still under way.
    pub async fn close(&self) {
        let jobs: Vec<String> = lock(&self.jobs).drain().collect();
        let mut scheduler = self.scheduler.clone();
        let cancel = async {
            for job_id in jobs {
                // A scheduler that is gone has nothing to cancel.
                let _ = scheduler.cancel_job(CancelJobParams { job_id }).await;
            }
            let _ = scheduler.remove_session(RemoveSessionParams { session_id: self.session.clone() }).await;
        };
        let _ = tokio::time::timeout(ANSWER, cancel).await;
    }

    fn no_executors(&self) -> ClusterError {
        ClusterError::NoExecutors { address: self.options.scheduler.clone(), seconds: self.options.wait.as_secs() }
    }

    fn unreachable(&self, reason: String) -> ClusterError {
        ClusterError::Unreachable { address: self.options.scheduler.clone(), reason }
    }

    /// Whether the scheduler has executors, by its own page about that; `None` where it does not say.
    async fn has_executors(&self) -> Option<bool> {
        let ask = async {
            let mut stream = tokio::net::TcpStream::connect(&self.options.scheduler).await.ok()?;
            let host = &self.options.scheduler;
            let request = format!("GET /readyz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut head = Vec::new();
            stream.take(1024).read_to_end(&mut head).await.ok()?;
            let status = std::str::from_utf8(head.get(9..12)?).ok()?.to_owned();
            match status.as_str() {
                "200" => Some(true),
                "503" => Some(false),
                _ => None,
            }
        };
        tokio::time::timeout(ANSWER, ask).await.ok().flatten()
    }

    /// Fails where there has been no executor for too long.
    async fn check_executors(&self) -> Result<(), ClusterError> {
        {
            let mut executors = lock(&self.executors);
            if executors.asked.elapsed() < EXECUTORS_ASKED {
                return Ok(());
            }
            executors.asked = Instant::now();
        }
        let found = self.has_executors().await;
        let mut executors = lock(&self.executors);
        match found {
            Some(true) => executors.absent = None,
            Some(false) => {
                let since = *executors.absent.get_or_insert_with(Instant::now);
                if since.elapsed() > self.options.wait {
                    return Err(self.no_executors());
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Does a task as one job.
    async fn attempt(&self, plan: &[u8], output: &mut dyn TaskOutput) -> Result<(), Failed> {
        let job = Job { cluster: self, id: self.submit(plan).await? };
        let result = self.result_of(&job.id).await?;
        self.fetch(result, output).await?;
        // The result is here, so the executor need not keep it. If it is not told, it does so for an hour.
        let done = CleanJobDataParams { job_id: job.id.clone(), remove_stage_ids: Vec::new() };
        let _ = self.scheduler.clone().clean_job_data(done).await;
        job.ended();
        Ok(())
    }

    /// Gives a plan to the scheduler, and returns the job.
    async fn submit(&self, plan: &[u8]) -> Result<String, Failed> {
        let began = Instant::now();
        let refused = |reason: String| ClusterError::Refused { address: self.options.scheduler.clone(), reason };
        loop {
            let mut request = Request::new(ExecuteQueryParams {
                settings: Vec::new(),
                session_id: self.session.clone(),
                operation_id: new_instance_id(),
                query: Some(execute_query_params::Query::PhysicalPlan(plan.to_vec())),
            });
            insert_version_header(request.metadata_mut());
            match self.scheduler.clone().execute_query(request).await {
                Ok(response) => match response.into_inner().result {
                    Some(execute_query_result::Result::Success(success)) => {
                        lock(&self.jobs).insert(success.job_id.clone());
                        return Ok(success.job_id);
                    }
                    Some(execute_query_result::Result::Failure(failure)) => {
                        return Err(refused(format!("{:?}", failure.failure)).into());
                    }
                    None => return Err(refused("it gave no answer".to_owned()).into()),
                },
                Err(status) => self.wait_for_scheduler(status, began).await?,
            }
        }
    }

    /// Waits a little where a scheduler does not answer, which may be about to come back.
    async fn wait_for_scheduler(&self, status: Status, began: Instant) -> Result<(), ClusterError> {
        let away = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded);
        if !away {
            let reason = status.message().to_owned();
            return Err(ClusterError::Refused { address: self.options.scheduler.clone(), reason });
        }
        if began.elapsed() > self.options.wait {
            return Err(self.unreachable(innermost(&status)));
        }
        tokio::time::sleep(POLL_MAX).await;
        Ok(())
    }

    /// Waits until a job has ended, and says where its result is.
    async fn result_of(&self, job_id: &str) -> Result<SuccessfulJob, Failed> {
        let mut pause = POLL_MIN;
        let (mut unknown, mut silent): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(POLL_MAX);
            self.check_executors().await?;
            let asked = GetJobStatusParams { job_id: job_id.to_owned() };
            let status = match self.scheduler.clone().get_job_status(asked).await {
                Ok(response) => response.into_inner().status.and_then(|status| status.status),
                // A scheduler that was started anew does not know the job.
                Err(status) if matches!(status.code(), Code::Internal | Code::NotFound) => None,
                Err(status) => {
                    self.wait_for_scheduler(status, *silent.get_or_insert_with(Instant::now)).await?;
                    continue;
                }
            };
            silent = None;
            match status {
                Some(job_status::Status::Successful(job)) => return Ok(job),
                Some(job_status::Status::Failed(job)) => {
                    return Err(match TaskError::find(&job.error) {
                        Some(TaskError { input: true, reason }) => OfflineError::Worker { reason }.into(),
                        Some(TaskError { input: false, reason }) => Failed::Again(reason),
                        None => Failed::Again(job.error),
                    });
                }
                Some(job_status::Status::Queued(_) | job_status::Status::Running(_)) => unknown = None,
                None => {
                    if unknown.get_or_insert_with(Instant::now).elapsed() > UNKNOWN {
                        return Err(Failed::Again("the scheduler does not know the job any more".to_owned()));
                    }
                }
            }
        }
    }

    /// Fetches a result from the executor that has it.
    async fn fetch(&self, job: SuccessfulJob, output: &mut dyn TaskOutput) -> Result<(), Failed> {
        output.begin()?;
        let mut whole = Whole::new();
        for location in job.partition_location {
            self.fetch_from(location, &mut whole, output).await?;
        }
        if whole.has_ended() { Ok(()) } else { Err(Failed::Again("a result came in part".to_owned())) }
    }

    async fn fetch_from(
        &self,
        location: PartitionLocation,
        whole: &mut Whole,
        output: &mut dyn TaskOutput,
    ) -> Result<(), Failed> {
        let again = |reason: String| Failed::Again(format!("a result could not be fetched: {reason}"));
        let layout = location.layout();
        let executor = location.executor_meta.ok_or_else(|| again("nobody has it".to_owned()))?;
        let partition = location.partition_id.ok_or_else(|| again("it has no name".to_owned()))?;
        let port = u16::try_from(executor.port).map_err(|_| again("its executor has no port".to_owned()))?;
        let lively = BallistaConfigGrpcEndpoint::new(Arc::new(|endpoint| Ok(kept_alive(endpoint))));
        let connected =
            BallistaClient::try_new(&executor.host, port, MESSAGE_BYTES_MAX as usize, false, Some(Arc::new(lively)), 1, 0, 0, 0);
        let slow = |_| again(format!("{}:{port} does not answer", executor.host));
        let mut client =
            tokio::time::timeout(ANSWER, connected).await.map_err(slow)?.map_err(|error| again(error.to_string()))?;
        let partition = partition.into();
        let fetched =
            client.fetch_partition_proxied(&executor.id, &partition, location.file_id, layout, &executor.host, port, true);
        let mut stream = fetched.await.map_err(|error| again(error.to_string()))?;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(|error| again(error.strip_backtrace()))?;
            let rows = whole.take(batch).map_err(|error| again(error.to_string()))?;
            if rows.num_rows() > 0 {
                output.take(rows)?;
            }
        }
        Ok(())
    }

    fn tell(&self) {
        if let Some(progress) = &self.options.progress {
            progress(self.done.load(Ordering::Relaxed), self.expected.load(Ordering::Relaxed));
        }
    }
}

/// A job that is to be cancelled unless it has ended.
struct Job<'a> {
    cluster: &'a Cluster,
    id: String,
}

impl Job<'_> {
    fn ended(self) {
        lock(&self.cluster.jobs).remove(&self.id);
    }
}

#[async_trait::async_trait]
impl Workers for Cluster {
    async fn run(&self, task: &Task, output: &mut dyn TaskOutput) -> Result<(), OfflineError> {
        let mut plan = Vec::new();
        let plan_node = TaskExec::new(task).map_err(OfflineError::from)?;
        let node = PhysicalPlanNode::try_from_physical_plan(Arc::new(plan_node), &Codec::default())?;
        node.try_encode(&mut plan)?;
        if plan.len() > TASK_BYTES_MAX {
            return Err(ClusterError::TooLarge { bytes: plan.len(), most: TASK_BYTES_MAX }.into());
        }
        let mut last = String::new();
        for attempt in 1..=ATTEMPTS_MAX {
            match self.attempt(&plan, output).await {
                Ok(()) => {
                    self.done.fetch_add(1, Ordering::Relaxed);
                    self.tell();
                    return Ok(());
                }
                Err(Failed::Finally(error)) => return Err(error),
                Err(Failed::Again(reason)) => last = reason,
            }
            self.check_executors().await?;
            tokio::time::sleep(POLL_MAX * attempt).await;
        }
        Err(ClusterError::GivenUp { attempts: ATTEMPTS_MAX, reason: last }.into())
    }

    fn limits(&self) -> TaskLimits {
        self.options.limits
    }

    fn expect(&self, tasks: usize) {
        self.expected.fetch_add(tasks as u64, Ordering::Relaxed);
        self.tell();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
