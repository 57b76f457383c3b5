//! An executor: asks a scheduler for tasks, does them, and keeps their results until they are fetched.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::extension::SessionConfigExt;
use ballista_core::ids::new_instance_id;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::BallistaCodec;
use ballista_core::serde::protobuf::executor_grpc_server::{ExecutorGrpc, ExecutorGrpcServer};
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    CancelTasksParams, CancelTasksResult, ExecutorRegistration, ExecutorStoppedParams, HeartBeatParams, LaunchMultiTaskParams,
    LaunchMultiTaskResult, LaunchTaskParams, LaunchTaskResult, RemoveJobDataParams, RemoveJobDataResult, StopExecutorParams,
    StopExecutorResult,
};
use ballista_core::serde::scheduler::{ExecutorOperatingSystemSpecification, ExecutorSpecification};
use ballista_core::{BALLISTA_PROTOCOL_VERSION, ConfigProducer, RuntimeProducer};
use ballista_executor::execution_loop::poll_loop;
use ballista_executor::flight_service::BallistaFlightService;
use ballista_executor::health::ExecutorHealth;
use ballista_executor::metrics::LoggingMetricsCollector;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionConfig;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use mezze_offline::TempFolder;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::MESSAGE_BYTES_MAX;
use crate::codec::codecs;
use crate::error::ClusterError;
use crate::operator::TaskResources;

/// What an executor is to do its work with. Results go to the folder of [`mezze_offline::set_temp_folder`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorOptions {
    /// The scheduler, as `host:port`.
    pub scheduler: String,
    /// The address to listen on, for clients that fetch results; port 0 for any that is free.
    pub bind: SocketAddr,
    /// The name or address that clients find it by; that of `bind` if not given.
    pub host: Option<String>,
    /// Tasks at a time.
    pub slots: usize,
    /// Bytes of memory for all tasks.
    pub memory: usize,
    /// How long to wait for the scheduler at first.
    pub wait: Duration,
}

/// An executor that a scheduler knows.
#[derive(Debug)]
pub struct Executor {
    address: SocketAddr,
    id: String,
    scheduler: SchedulerGrpcClient<Channel>,
    /// Results, which go with the process.
    _folder: TempFolder,
    services: tokio::task::JoinSet<String>,
}

/// Tasks at a time at the most, for an answer of the scheduler may have one for each.
pub const SLOTS_MAX: usize = 64;
/// Between signs of life; those that come with questions for work may be seconds apart where all slots are busy.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Between looks whether the scheduler answers by now.
const RETRY: Duration = Duration::from_millis(200);

impl Executor {
    /// Listens, and makes itself known to the scheduler.
    ///
    /// # Errors
    /// [`ClusterError::Bind`], [`ClusterError::Folder`], and [`ClusterError::Unreachable`] where the scheduler does not answer in
    /// time.
    pub async fn start(options: ExecutorOptions) -> Result<Self, ClusterError> {
        let failed = |reason: String| ClusterError::Bind { address: options.bind.to_string(), reason };
        let listener = TcpListener::bind(options.bind).await.map_err(|error| failed(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let folder_failed = |reason: String| ClusterError::Folder { reason };
        let folder = TempFolder::new().map_err(|error| folder_failed(error.to_string()))?;
        let work_folder =
            folder.path().to_str().ok_or_else(|| folder_failed(format!("{}: not UTF-8", folder.path().display())))?.to_owned();
        let host = options.host.clone().unwrap_or_else(|| address.ip().to_string());
        let id = new_instance_id();
        let slots = options.slots.clamp(1, SLOTS_MAX);
        let registration = ExecutorRegistration {
            id: id.clone(),
            host: Some(host.clone()),
            port: u32::from(address.port()),
            // One port does for both services.
            grpc_port: u32::from(address.port()),
            specification: Some(ExecutorSpecification::default().with_vcores(u32::try_from(slots).unwrap_or(u32::MAX)).into()),
            os_info: Some(ExecutorOperatingSystemSpecification::default().into()),
            ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
        };
        let runtime: Arc<RuntimeEnv> = RuntimeEnvBuilder::new()
            .with_temp_file_path(folder.path())
            .build_arc()
            .map_err(|error| folder_failed(error.strip_backtrace()))?;
        let resources = Arc::new(TaskResources {
            memory: options.memory / slots,
            conversions: Arc::default(),
            name: format!("{host}:{}", address.port()),
        });
        let config: ConfigProducer = Arc::new(move || SessionConfig::new_with_ballista().with_extension(Arc::clone(&resources)));
        let runtimes: RuntimeProducer = Arc::new(move |_| Ok(Arc::clone(&runtime)));
        let executor = Arc::new(ballista_executor::executor::Executor::with_default_execution_engine(
            registration.clone(),
            &work_folder,
            runtimes,
            config,
            Arc::new(BallistaFunctionRegistry::default()),
            Arc::new(LoggingMetricsCollector::default()),
            slots,
        ));
        let scheduler = connect(&options).await?;
        let mut services = tokio::task::JoinSet::new();
        let limit = MESSAGE_BYTES_MAX as usize;
        let flight = FlightServiceServer::new(BallistaFlightService::new(work_folder.clone()))
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        let orders = ExecutorGrpcServer::new(Orders { executor: Arc::clone(&executor) });
        let server = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .add_service(flight)
            .add_service(orders)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        services.spawn(async move { format!("the server for results: {:?}", server.await) });
        let (logical, physical) = codecs();
        let codec: BallistaCodec<LogicalPlanNode, PhysicalPlanNode> = BallistaCodec::new(logical, physical);
        let health = ExecutorHealth::new();
        let polling = poll_loop(scheduler.clone(), executor, codec, None, None, health.clone());
        services.spawn(async move { format!("the questions for work: {:?}", polling.await) });
        // It is known once its first question was answered.
        let deadline = Instant::now() + options.wait;
        while !health.is_ready() {
            if Instant::now() > deadline {
                let reason = "it does not answer, or is of another version".to_owned();
                return Err(ClusterError::Unreachable { address: options.scheduler.clone(), reason });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        services.spawn(heartbeats(scheduler.clone(), registration));
        Ok(Self { address, id, scheduler, _folder: folder, services })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does tasks until `stop` ends; the scheduler then gives those under way, and results that are still needed, to others.
    ///
    /// # Errors
    /// [`ClusterError::Ended`] where it ends by itself.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), ClusterError> {
        let result = tokio::select! {
            () = stop => Ok(()),
            ended = self.services.join_next() => {
                let reason = match ended {
                    Some(Ok(reason)) => reason,
                    Some(Err(error)) => error.to_string(),
                    None => String::new(),
                };
                Err(ClusterError::Ended { what: "the executor", reason })
            }
        };
        // Asks for no more work, or it would be known again.
        self.services.abort_all();
        let stopped = ExecutorStoppedParams { executor_id: self.id.clone(), reason: "it was stopped".to_owned() };
        // A scheduler that is not there finds out by itself.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.scheduler.executor_stopped(stopped)).await;
        result
    }
}

/// Connects to the scheduler, which may be about to start.
async fn connect(options: &ExecutorOptions) -> Result<SchedulerGrpcClient<Channel>, ClusterError> {
    let endpoint = endpoint(&options.scheduler)?;
    let deadline = Instant::now() + options.wait;
    loop {
        match endpoint.connect().await {
            Ok(channel) => {
                let limit = MESSAGE_BYTES_MAX as usize;
                let client = SchedulerGrpcClient::new(channel);
                return Ok(client.max_decoding_message_size(limit).max_encoding_message_size(limit));
            }
            Err(error) if Instant::now() > deadline => {
                return Err(ClusterError::Unreachable { address: options.scheduler.clone(), reason: innermost(&error) });
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

/// How a scheduler or an executor at `host:port` is talked to: whoever is gone is noticed within seconds.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, ClusterError> {
    let wrong = || ClusterError::Address { text: address.to_owned(), expected: "host and port are needed, as in 10.0.0.7:50050" };
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    if host.is_empty() || host.contains('/') || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    Ok(kept_alive(Endpoint::from_shared(format!("http://{address}")).map_err(|_| wrong())?))
}

/// With signs of life both ways.
pub(crate) fn kept_alive(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(3))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
}

/// The cause of an error that says nothing by itself.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Says to the scheduler that the executor lives, for ever.
async fn heartbeats(mut scheduler: SchedulerGrpcClient<Channel>, registration: ExecutorRegistration) -> String {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        let beat = HeartBeatParams {
            executor_id: registration.id.clone(),
            metrics: Vec::new(),
            status: None,
            metadata: Some(registration.clone()),
        };
        // A scheduler that is away may come back.
        let _ = tokio::time::timeout(HEARTBEAT, scheduler.heart_beat_from_executor(beat)).await;
    }
}

/// What the scheduler may tell an executor by itself.
struct Orders {
    executor: Arc<ballista_executor::executor::Executor>,
}

fn not_pushed() -> Status {
    Status::unimplemented("this executor asks for its work")
}

#[tonic::async_trait]
impl ExecutorGrpc for Orders {
    async fn launch_task(&self, _: Request<LaunchTaskParams>) -> Result<Response<LaunchTaskResult>, Status> {
        Err(not_pushed())
    }

    async fn launch_multi_task(&self, _: Request<LaunchMultiTaskParams>) -> Result<Response<LaunchMultiTaskResult>, Status> {
        Err(not_pushed())
    }

    /// Comes where the executor was taken for dead. It lives, and is known again as soon as it asks for work: it need not stop.
    async fn stop_executor(&self, _: Request<StopExecutorParams>) -> Result<Response<StopExecutorResult>, Status> {
        Ok(Response::new(StopExecutorResult {}))
    }

    async fn cancel_tasks(&self, request: Request<CancelTasksParams>) -> Result<Response<CancelTasksResult>, Status> {
        let mut cancelled = true;
        for task in request.into_inner().task_infos {
            let (stage, number) = (usize::try_from(task.stage_id), usize::try_from(task.task_id));
            let (Ok(stage), Ok(number)) = (stage, number) else { continue };
            cancelled &= self.executor.cancel_task(task.job_id.into(), stage, number).await.is_ok();
        }
        Ok(Response::new(CancelTasksResult { cancelled }))
    }

    /// Comes with answers to questions for work.
    async fn remove_job_data(&self, _: Request<RemoveJobDataParams>) -> Result<Response<RemoveJobDataResult>, Status> {
        Err(not_pushed())
    }
}
