//! A sort in a few hundred bytes of code: the standard library's is faster, and 10 KiB of every bundle for each type.

use alloc::vec::Vec;

/// Sorts, and keeps equal values in their order: insertion sort of short runs, which are then merged. `in_order` says whether two
/// values may stand in this order.
pub(crate) fn sort_by<T: Copy>(values: &mut Vec<T>, in_order: impl Fn(&T, &T) -> bool) {
    for run in values.chunks_mut(RUN) {
        for end in 1..run.len() {
            let mut at = end;
            while at > 0 && !in_order(&run[at - 1], &run[at]) {
                run.swap(at - 1, at);
                at -= 1;
            }
        }
    }
    let mut width = RUN;
    let mut merged = Vec::with_capacity(if values.len() > RUN { values.len() } else { 0 });
    while width < values.len() {
        for pair in values.chunks(2 * width) {
            let (mut left, mut right) = pair.split_at(width.min(pair.len()));
            while let (Some((first, left_rest)), Some((second, right_rest))) = (left.split_first(), right.split_first()) {
                if in_order(first, second) {
                    merged.push(*first);
                    left = left_rest;
                } else {
                    merged.push(*second);
                    right = right_rest;
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        core::mem::swap(values, &mut merged);
        merged.clear();
        width *= 2;
    }
}

const RUN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_are_sorted_and_equal_ones_keep_their_order(values in proptest::collection::vec(0_u64..100, 0..300)) {
            let mut values: Vec<(u64, usize)> = values.into_iter().zip(0..).collect();
            let mut expected = values.clone();
            expected.sort_by_key(|(value, _)| *value);
            sort_by(&mut values, |first, second| first.0 <= second.0);
            prop_assert_eq!(values, expected);
        }
    }
}
