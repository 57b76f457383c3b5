//! Expressions: from their text to a program that the core runs.

mod build;
mod call;
mod cast;
mod compile;
mod error;
mod functions;

pub use compile::{ColumnOf, Compiled, compile, compile_parts};
pub use error::ExpressionError;
pub use functions::{FUNCTIONS, FunctionEntry};
