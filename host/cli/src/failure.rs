//! What went wrong, for people and for exit codes.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

/// What a command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
}

/// The exit codes of a failure. They are stable: scripts may rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The environment failed: a file, a network, a store.
    Failed = 1,
    /// Usage, definitions or input are at fault.
    Input = 2,
    /// Another run was first: nothing was changed, run again.
    LostRace = 3,
    /// A limit refused it.
    Limit = 4,
    /// Whoever read standard output has gone. Nothing is printed, and it counts as success.
    OutputClosed = 0,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), causes: Vec::new(), hints: Vec::new() }
    }

    /// A failure of usage, definitions or input.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(Exit::Input, message)
    }

    /// A file operation that failed: `what` it was to do, such as `cannot read`. A file that does not exist is bad input.
    pub(crate) fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::NotFound { Exit::Input } else { Exit::Failed };
        Self::new(exit, format!("{what} {}: {}", path.display(), plain(error)))
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// An error of a library, with its causes.
    pub(crate) fn of(exit: Exit, error: &(dyn Error + 'static)) -> Self {
        let mut failure = Self::new(exit, error.to_string());
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many errors print their cause themselves.
            let last = failure.causes.last().unwrap_or(&failure.message);
            if !last.contains(&text) {
                failure.causes.push(text);
            }
            cause = error.source();
        }
        failure
    }

    /// What went wrong, in one line.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

/// `error: ...`, then its causes and hints, a line each.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, "\n  cause: {cause}"))?;
        self.hints.iter().try_for_each(|hint| write!(f, "\n  hint: {hint}"))
    }
}

/// An I/O error without the number that the standard library puts behind.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

macro_rules! from_library_error {
    ($($error:ty => $exit:expr;)*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::of($exit, &error)
            }
        }
    )*};
}

from_library_error! {
    arrow::error::ArrowError => Exit::Failed;
    parquet::errors::ParquetError => Exit::Failed;
    serde_json::Error => Exit::Failed;
}
