//! Progress of long work: one line on a terminal, nothing in a pipe.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{Format, Output};

/// A line that says what is done now; gone when dropped.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: Arc<ProgressBar>,
}

impl Progress {
    /// A line, if somebody sees it.
    pub(crate) fn new(output: Output) -> Self {
        let seen = std::io::stderr().is_terminal() && !output.quiet && output.format == Format::Text;
        let target = if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
            bar.set_style(style);
        }
        if seen {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Self { bar: Arc::new(bar) }
    }

    /// Says what is done now.
    pub(crate) fn say(&self, message: impl Into<String>) {
        self.bar.set_message(message.into());
    }

    /// Says how many rows are done, and how fast.
    pub(crate) fn rows(&self, what: &str, rows: u64) {
        self.bar.set_position(rows);
        let rate = self.bar.per_sec();
        self.say(format!("{what} {} rows, {} rows/s", crate::output::count(rows), crate::output::count(rate as u64)));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if Arc::strong_count(&self.bar) == 1 {
            self.bar.finish_and_clear();
        }
    }
}
