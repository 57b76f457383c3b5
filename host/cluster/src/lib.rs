//! Joins and the search for newest rows on many machines, by [Ballista](https://datafusion.apache.org/ballista/).
//!
//! `mezze-offline` cuts the work into tasks, and this crate has them done: a [`Cluster`] gives each to a scheduler as a job of one
//! operator, whose codec carries all that it needs, and fetches the result from the executor that did it. It does not read sources,
//! and executors do not write outputs: those that a client writes appear whole or not at all. docs/CLUSTER.md says what crosses the
//! network, and what happens when an executor dies.
#![forbid(unsafe_code)]

mod client;
mod codec;
mod error;
mod executor;
mod message;
mod operator;
mod scheduler;

pub use client::{Cluster, ClusterOptions, ProgressCallback};
pub use error::ClusterError;
pub use executor::{Executor, ExecutorOptions, SLOTS_MAX};
pub use scheduler::{Scheduler, SchedulerOptions};

/// Bytes of a task at the most.
const TASK_BYTES_MAX: usize = 16 << 20;
/// Bytes of a message at the most, which is a task for each slot of an executor.
const MESSAGE_BYTES_MAX: u32 = 1 << 30;
const _: () = assert!(TASK_BYTES_MAX * SLOTS_MAX <= MESSAGE_BYTES_MAX as usize);
