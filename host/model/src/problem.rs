//! What is wrong with definitions, and where.

use std::fmt;

use crate::node::Place;

/// One thing that is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The file, relative to the repository, and line and column in it: `features/credit.yaml:7:5`. Empty where the problem is
    /// of no file.
    pub place: String,
    /// What is wrong, what was expected and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.place, self.message) }
    }
}

/// Definitions cannot be used. All that is wrong with them is told at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.problems))]
#[non_exhaustive]
pub struct LoadError {
    /// What is wrong: at least one thing.
    pub problems: Vec<Problem>,
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Collects problems of one file.
#[derive(Debug)]
pub(crate) struct Problems<'a> {
    pub(crate) file: &'a str,
    pub(crate) found: &'a mut Vec<Problem>,
}

impl Problems<'_> {
    pub(crate) fn add(&mut self, place: Place, message: impl Into<String>) {
        let place = located(self.file, place);
        self.found.push(Problem { place, message: message.into() });
    }
}

/// A place as text.
pub(crate) fn located(file: &str, place: Place) -> String {
    if place.line == 0 { file.to_owned() } else { format!("{file}:{}:{}", place.line, place.column) }
}

/// `; did you mean ...` for the known name that is nearest to an unknown one, or what there is.
pub(crate) fn instead<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let near = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min();
    match near {
        Some((_, near)) => format!("; did you mean `{near}`?"),
        None if known.is_empty() => "; there are none".into(),
        None => {
            let some: Vec<String> = known.iter().take(NAMED_MAX).map(|name| format!("`{name}`")).collect();
            let more = if known.len() > NAMED_MAX { ", ..." } else { "" };
            format!("; expected one of {}{more}", some.join(", "))
        }
    }
}

/// Names that an error lists at the most.
const NAMED_MAX: usize = 16;
