//! Transforms that a bundle carries beside the core: each is a module of WebAssembly of its own, which bounds itself.
//!
//! In JavaScript a call crosses as bytes, and so does what comes of it: [`Carried`]. In a component it is a call like any other:
//! `Linked`, with the feature `imported`.
#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

mod bytes;
mod fault;
#[cfg(feature = "imported")]
mod imported;

use alloc::vec::Vec;

use mezze_core::{ExpressionColumn, NoTransforms, RunTransforms, TransformCall, TransformFault, TransformId};

#[cfg(feature = "imported")]
pub use imported::Linked;

/// Transforms that are called with bytes.
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    digests: fn() -> Vec<u8>,
    run: fn(&[u8]) -> Vec<u8>,
}

impl Carried {
    /// Those of these digests, 32 bytes each, the first of them number 0. `run` calls one, as edge-deploy/carry.js does.
    pub const fn new(digests: fn() -> Vec<u8>, run: fn(&[u8]) -> Vec<u8>) -> Self {
        Self { digests, run }
    }
}

impl RunTransforms for Carried {
    fn run(&self, call: &TransformCall<'_>) -> Result<Vec<ExpressionColumn<'static>>, TransformFault> {
        let Some(number) = number_of(&(self.digests)(), call) else { return NoTransforms.run(call) };
        let asked = bytes::of_call(number, call).ok_or_else(|| TransformFault::too_many_rows(call.rows))?;
        bytes::read_result(&(self.run)(&asked), call)
    }

    fn carried(&self) -> Vec<TransformId> {
        ids(&(self.digests)())
    }
}

/// The number of a call's transform among digests of 32 bytes each.
fn number_of(digests: &[u8], call: &TransformCall<'_>) -> Option<usize> {
    let (digests, _) = digests.as_chunks();
    digests.iter().position(|digest| *digest == call.transform.id.bytes())
}

/// Those digests, in order.
fn ids(digests: &[u8]) -> Vec<TransformId> {
    let (digests, _) = digests.as_chunks();
    let mut ids: Vec<TransformId> = digests.iter().copied().map(TransformId::from_bytes).collect();
    ids.sort_unstable();
    ids
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use mezze_core::{FeatureSchema, Transform, TransformFaultKind, TransformLimits, ValueType};

    use super::*;

    const FIRST: [u8; 32] = [9; 32];
    const SECOND: [u8; 32] = [7; 32];

    fn digests() -> Vec<u8> {
        // What is left of a third is none.
        [&FIRST[..], &SECOND[..], &[1, 2, 3]].concat()
    }

    /// Says which was called, and how long the call was.
    fn answers(call: &[u8]) -> Vec<u8> {
        let mut result = vec![0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0];
        result.extend(i64::from(call[0]).to_le_bytes());
        result.extend((call.len() as i64).to_le_bytes());
        result
    }

    fn stops(_: &[u8]) -> Vec<u8> {
        vec![2, b'f']
    }

    fn call_with<T>(id: [u8; 32], use_it: impl FnOnce(&TransformCall<'_>) -> T) -> T {
        let transform = Transform { id: TransformId::from_bytes(id), limits: TransformLimits::DEFAULT };
        let outputs = [FeatureSchema::new("made", ValueType::Int64)];
        use_it(&TransformCall { transform: &transform, rows: 2, inputs: &[], input_types: &[], outputs: &outputs })
    }

    #[test]
    fn the_one_of_the_digest_is_called() {
        let carried = Carried::new(digests, answers);
        assert_eq!(carried.carried(), [SECOND, FIRST].map(TransformId::from_bytes));
        for (id, number) in [(FIRST, 0), (SECOND, 1)] {
            let made = call_with(id, |call| call.run(&carried));
            assert_eq!(made, Ok(vec![ExpressionColumn::ints(vec![number, 32], None)]));
        }
    }

    #[test]
    fn what_is_not_carried_is_not_called() {
        let fault = call_with([0; 32], |call| call.run(&Carried::new(digests, answers))).unwrap_err();
        assert_eq!(fault.kind, TransformFaultKind::NotCarried);
        let fault = call_with(FIRST, |call| call.run(&Carried::new(Vec::new, answers))).unwrap_err();
        assert_eq!(fault.kind, TransformFaultKind::NotCarried);
    }

    #[test]
    fn a_call_that_was_stopped_says_why() {
        let fault = call_with(FIRST, |call| call.run(&Carried::new(digests, stops))).unwrap_err();
        assert_eq!(fault.kind, TransformFaultKind::Fuel);
        assert_eq!(fault.message, "it took more than the 30000000 instructions that 2 rows may take");
    }
}
