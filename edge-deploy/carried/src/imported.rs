//! Transforms in the component of the adapter: the interface `carried` of wit/carried.wit, which `mezze edge build` links.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use mezze_core::{ExpressionColumn, NoTransforms, RunTransforms, TransformCall, TransformFault, TransformId, Values};

use crate::fault::stopped;
use crate::{ids, number_of};

/// What wit/carried.wit declares.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the interface is documented in wit/carried.wit")]
mod bindings {
    wit_bindgen::generate!({ world: "carries", path: "../../wit" });
}

use bindings::mezze::features::carried as wit;

/// Transforms that are linked to this component.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linked;

impl RunTransforms for Linked {
    fn run(&self, call: &TransformCall<'_>) -> Result<Vec<ExpressionColumn<'static>>, TransformFault> {
        let Some(number) = number_of(&wit::digests(), call) else { return NoTransforms.run(call) };
        let (Ok(number), Ok(rows)) = (u32::try_from(number), u32::try_from(call.rows)) else {
            return Err(TransformFault::too_many_rows(call.rows));
        };
        let limits = &call.transform.limits;
        let inputs: Vec<wit::Column> = call.inputs.iter().map(column_in).collect();
        wit::limit(number, limits.fuel_of(call.rows), limits.memory_bytes, limits.output_bytes_of(call.rows));
        match wit::run(number, rows, &inputs) {
            Ok(columns) => Ok(columns.into_iter().map(column_out).collect()),
            Err(said) => Err(match &said[..] {
                [1, letter] => stopped(*letter, call),
                said => core::str::from_utf8(said).map_or_else(|_| stopped(b'b', call), TransformFault::refused),
            }),
        }
    }

    fn carried(&self) -> Vec<TransformId> {
        ids(&wit::digests())
    }

    fn overrun_ends_request(&self) -> bool {
        true
    }
}

fn column_in(column: &ExpressionColumn<'_>) -> wit::Column {
    let values = match &column.values {
        // The core hands over none of it.
        Values::Null => wit::Values::Ints(Vec::new()),
        Values::Int(values) => wit::Values::Ints(values.to_vec()),
        Values::Float(values) => wit::Values::Floats(values.to_vec()),
        Values::Bytes { offsets, data, .. } => {
            wit::Values::Bytes(wit::Payloads { offsets: offsets.clone(), data: data.to_vec() })
        }
    };
    wit::Column { values, valid: column.valid.as_deref().map(<[u8]>::to_vec) }
}

fn column_out(column: wit::Column) -> ExpressionColumn<'static> {
    let values = match column.values {
        wit::Values::Ints(values) => Values::Int(values.into()),
        wit::Values::Floats(values) => Values::Float(values.into()),
        wit::Values::Bytes(wit::Payloads { offsets, data }) => Values::Bytes { offsets, data: data.into(), constant: false },
    };
    ExpressionColumn { values, valid: column.valid.map(Cow::Owned) }
}
