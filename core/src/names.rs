//! Names and what they number, sorted.

use alloc::vec::Vec;

use crate::sort::sort_by;

/// A name and two numbers that go with it.
pub(crate) type Name<'n> = (&'n str, (u16, u16));

/// Names in order. A map would be more code, which every bundle carries.
#[derive(Default)]
pub(crate) struct Names<'n> {
    names: Vec<Name<'n>>,
}

impl<'n> Names<'n> {
    pub(crate) fn push(&mut self, name: &'n str, numbers: (u16, u16)) {
        self.names.push((name, numbers));
    }

    /// Puts them in order; equal names stay in the order they came in.
    pub(crate) fn sort(&mut self) {
        sort_by(&mut self.names, |first, second| first.0 <= second.0);
    }

    /// The first name that is there twice, in the order of names, with the numbers of the first two that have it.
    pub(crate) fn repeated(&self) -> Option<[Name<'n>; 2]> {
        self.names.windows(2).find_map(|pair| match pair {
            [first, second] if first.0 == second.0 => Some([*first, *second]),
            _ => None,
        })
    }

    /// The numbers, in the order of names.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (u16, u16)> {
        self.names.iter().map(|(_, numbers)| *numbers)
    }
}
