//! The scheduler: takes tasks from clients and gives them to executors.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::utils::{default_config_producer, default_session_builder};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::{SchedulerConfig, TaskDistributionPolicy};
use ballista_scheduler::scheduler_process::{create_scheduler, start_grpc_service_with_listener};
use ballista_scheduler::scheduler_server::SchedulerServer;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tokio::net::TcpListener;

use crate::MESSAGE_BYTES_MAX;
use crate::codec::codecs;
use crate::error::ClusterError;

/// Where a scheduler listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// The address; port 0 for any that is free.
    pub bind: SocketAddr,
}

/// A scheduler that listens.
pub struct Scheduler {
    listener: TcpListener,
    address: SocketAddr,
    server: SchedulerServer<LogicalPlanNode, PhysicalPlanNode>,
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Seconds without a sign of life after which an executor is taken for dead. It gives one every second.
const EXECUTOR_TIMEOUT_SECONDS: u64 = 5;
/// Seconds between looks for dead executors.
const EXECUTOR_CHECK_SECONDS: u64 = 1;
/// Seconds that a job waits where all executors are gone. Clients know best how long they want to wait, and say so themselves.
const NO_EXECUTORS_SECONDS: u64 = 3600;
/// Seconds after which results that nobody has fetched are removed.
const RESULT_SECONDS: u64 = 3600;
/// Seconds that the end of a job is known. Clients ask several times a second, and each job takes as much memory as its task.
const JOB_SECONDS: u64 = 30;

impl Scheduler {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`ClusterError::Bind`] where the address is taken.
    pub async fn bind(options: SchedulerOptions) -> Result<Self, ClusterError> {
        let failed = |reason: String| ClusterError::Bind { address: options.bind.to_string(), reason };
        let listener = TcpListener::bind(options.bind).await.map_err(|error| failed(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let (logical, physical) = codecs();
        let mut config = SchedulerConfig::default()
            // Executors ask for work: whatever they can reach the scheduler through, it need not reach them to give some.
            .with_scheduler_policy(TaskSchedulingPolicy::PullStaged)
            .with_task_distribution(TaskDistributionPolicy::RoundRobin)
            .with_hostname(address.ip().to_string())
            .with_port(address.port())
            .with_finished_job_data_clean_up_interval_seconds(RESULT_SECONDS)
            .with_finished_job_state_clean_up_interval_seconds(JOB_SECONDS)
            .with_no_executors_grace_period_seconds(NO_EXECUTORS_SECONDS)
            .with_grpc_server_max_decoding_message_size(MESSAGE_BYTES_MAX)
            .with_grpc_server_max_encoding_message_size(MESSAGE_BYTES_MAX)
            .with_grpc_client_max_message_size(MESSAGE_BYTES_MAX);
        config.executor_timeout_seconds = EXECUTOR_TIMEOUT_SECONDS;
        config.expire_dead_executor_interval_seconds = EXECUTOR_CHECK_SECONDS;
        config.override_logical_codec = Some(logical);
        config.override_physical_codec = Some(physical);
        let cluster = BallistaCluster::new_memory(
            address.to_string(),
            Arc::new(default_session_builder),
            Arc::new(default_config_producer),
        );
        let server = create_scheduler(cluster, Arc::new(config)).await;
        Ok(Self { listener, address, server: server.map_err(|error| failed(error.to_string()))? })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Schedules until `stop` ends. Jobs under way are lost then; their clients give them to whichever scheduler they reach next.
    ///
    /// # Errors
    /// [`ClusterError::Ended`] where it ends by itself.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ClusterError> {
        let ended = |reason: String| ClusterError::Ended { what: "the scheduler", reason };
        tokio::select! {
            () = stop => Ok(()),
            result = start_grpc_service_with_listener(self.listener, self.server) => {
                Err(ended(result.err().map_or_else(|| "it does not listen any more".to_owned(), |error| error.to_string())))
            }
        }
    }
}
