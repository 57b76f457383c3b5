//! `mezze demo`
use crate::args::{DemoArgs, Global};
use crate::failure::Outcome;
use crate::output::Output;
pub(crate) fn run(_: &DemoArgs, _: &Global, _: Output) -> Outcome {
    Ok(())
}
