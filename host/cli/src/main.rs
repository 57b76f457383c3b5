//! The mezze command.
fn main() {}
