//! Work for other processes: joins and the search for newest rows, cut into tasks that any process which can read the sources can
//! do, in any order and as often as need be.
//!
//! A task is about a *piece* of a view's files. Of a join it returns, for some entity rows, the best row of the piece; of all
//! pieces the best one counts, by the same rule as within a file. Of newest rows it returns those of the piece, and the newest of
//! them are found as they would be in a source that consists of nothing else. So each byte of a source is read by one task, and
//! what comes out is what one process alone would make of it.

mod join;
mod newest;
mod pieces;
mod task;
mod whole;

use std::fmt;

use arrow::array::RecordBatch;

use crate::error::Result;

pub(crate) use join::{Join, join};
pub(crate) use newest::newest;
pub use task::{Conversions, Task, Work};
pub use whole::Whole;

/// Other processes that read the sources.
#[async_trait::async_trait]
pub trait Workers: fmt::Debug + Send + Sync {
    /// Does a task and puts what it returns, whole, into `output`; where an attempt fails midway, the next begins anew with
    /// [`TaskOutput::begin`].
    ///
    /// # Errors
    /// Where the task cannot be done, or nobody is left to do it.
    async fn run(&self, task: &Task, output: &mut dyn TaskOutput) -> Result<()>;

    /// How work is cut.
    fn limits(&self) -> TaskLimits;

    /// Is told of so many tasks more that are to come.
    fn expect(&self, tasks: usize);
}

/// How work is cut into tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLimits {
    /// Entity rows of a task at the most.
    pub rows: usize,
    /// About how many bytes of files a task reads.
    pub bytes: u64,
    /// How many tasks are given out at a time.
    pub at_once: usize,
}

/// Where the rows go that a task returns.
pub trait TaskOutput: Send {
    /// Forgets what came before: the rows come from the first one on.
    ///
    /// # Errors
    /// Where they cannot be kept.
    fn begin(&mut self) -> Result<()>;

    /// Takes some rows.
    ///
    /// # Errors
    /// Where they cannot be kept.
    fn take(&mut self, batch: RecordBatch) -> Result<()>;
}

impl TaskOutput for Vec<RecordBatch> {
    fn begin(&mut self) -> Result<()> {
        self.clear();
        Ok(())
    }

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        self.push(batch);
        Ok(())
    }
}
