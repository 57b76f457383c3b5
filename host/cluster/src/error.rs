//! What can go wrong with a cluster.

use std::fmt;

use mezze_offline::OfflineError;

/// Why a part of a cluster cannot do its work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// An address that is none.
    #[error("`{text}` is not an address: {expected}")]
    Address {
        /// What was given.
        text: String,
        /// What should have been.
        expected: &'static str,
    },
    /// A service that cannot listen.
    #[error("cannot listen on {address}: {reason}")]
    Bind {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// A folder that cannot be used.
    #[error("no temporary folder: {reason}")]
    Folder {
        /// Which, and why.
        reason: String,
    },
    /// A service that ended by itself.
    #[error("{what} ended: {reason}")]
    Ended {
        /// What ended.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A scheduler that does not answer.
    #[error(
        "the scheduler {address} cannot be reached: {reason}; start one there with `mezze cluster scheduler --bind {address}`"
    )]
    Unreachable {
        /// Where it should be.
        address: String,
        /// Why.
        reason: String,
    },
    /// A scheduler without executors.
    #[error(
        "the scheduler {address} has had no executor for {seconds} seconds; start some with `mezze cluster executor --scheduler {address}`"
    )]
    NoExecutors {
        /// The scheduler.
        address: String,
        /// How long it was waited.
        seconds: u64,
    },
    /// A task that failed again and again, not because of its input.
    #[error("a task was given up after {attempts} attempts; the last one ended so: {reason}")]
    GivenUp {
        /// How often it was tried.
        attempts: u32,
        /// The last attempt's end.
        reason: String,
    },
    /// A task that is too large for a message.
    #[error("a task has {bytes} bytes, more than {most}; give tasks fewer entity rows with --task-rows")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// How many it may have.
        most: usize,
    },
    /// A scheduler that refuses a job.
    #[error("the scheduler {address} does not take a task: {reason}")]
    Refused {
        /// The scheduler.
        address: String,
        /// What it said.
        reason: String,
    },
}

impl From<ClusterError> for OfflineError {
    fn from(error: ClusterError) -> Self {
        Self::Workers { reason: error.to_string() }
    }
}

/// Why an executor could not do a task, on its way to the client: the engines between them pass errors on as text, so it is found
/// again between marks.
pub(crate) struct TaskError {
    /// Whether the task's input is at fault, so that no other attempt would do better.
    pub(crate) input: bool,
    pub(crate) reason: String,
}

const BEGIN: &str = "<<mezze ";
const END: &str = " mezze>>";

impl TaskError {
    /// Finds one in what was passed on.
    pub(crate) fn find(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once(BEGIN)?;
        let (inner, _) = rest.split_once(END)?;
        let (kind, reason) = inner.split_once(' ')?;
        Some(Self { input: kind == "input", reason: reason.replace("\\\"", "\"").replace("\\n", "\n") })
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.input { "input" } else { "failed" };
        write!(f, "{BEGIN}{kind} {}{END}", self.reason)
    }
}

/// As the engines print errors.
impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for TaskError {}

#[cfg(test)]
mod tests {
    use datafusion::error::DataFusionError;

    use super::*;

    #[test]
    fn a_task_error_is_found_in_whatever_the_engines_made_of_it() {
        for input in [true, false] {
            let error = TaskError { input, reason: "no file \"a b\"\nat all".to_owned() };
            let engine = DataFusionError::External(Box::new(error));
            let passed = format!("Job failed due to stage 1 failed: {engine:?}");
            for text in [passed.clone(), format!("{passed:?}")] {
                let found = TaskError::find(&text).unwrap();
                assert_eq!((found.input, found.reason.as_str()), (input, "no file \"a b\"\nat all"), "{text}");
            }
        }
        assert!(TaskError::find("stage 1 failed: executor lost").is_none());
    }
}
