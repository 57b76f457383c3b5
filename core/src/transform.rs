//! Transforms: features that a component computes, whatever language it is written in.
//!
//! The core runs no component. A host that can hands a [`RunTransforms`] to [`Plan::answer_with`](crate::Plan::answer_with); what
//! comes back is checked here, so that every host takes and refuses the same.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use crate::expression::ExpressionColumn;
#[cfg(feature = "transforms")]
use crate::expression::Values;
use crate::{FeatureSchema, ValueType};
#[cfg(feature = "transforms")]
use crate::{Physical, canonical_f64, decode_payload};

/// The BLAKE3 digest of a component's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransformId([u8; 32]);

/// A component that computes features, as a snapshot names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transform {
    /// Which component: no other may stand in for it.
    pub id: TransformId,
    /// What one call may cost.
    pub limits: TransformLimits,
}

/// What one call of a transform may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransformLimits {
    /// Instructions of WebAssembly, as wasmtime's fuel counts them: so many for the call, and as many again for each row.
    pub fuel: u64,
    /// Bytes of linear memory.
    pub memory_bytes: u32,
    /// Bytes of all columns that come back: so many for the call, and as many again for each row.
    pub output_bytes: u32,
    /// Milliseconds of wall-clock time for the call of one request.
    pub millis: u32,
}

impl TransformLimits {
    /// What a transform has where its definition says nothing: 10 million instructions, 64 MiB of memory, 64 KiB of output, 1 s.
    pub const DEFAULT: Self = Self { fuel: 10_000_000, memory_bytes: 64 << 20, output_bytes: 64 << 10, millis: 1_000 };

    /// Instructions for a call with so many rows.
    pub const fn fuel_of(&self, rows: usize) -> u64 {
        self.fuel.saturating_mul((rows as u64).saturating_add(1))
    }

    /// Bytes that a call with so many rows may give back.
    pub const fn output_bytes_of(&self, rows: usize) -> u64 {
        (self.output_bytes as u64).saturating_mul((rows as u64).saturating_add(1))
    }
}

impl Default for TransformLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A call of a transform.
#[derive(Clone, Copy, Debug)]
pub struct TransformCall<'a> {
    /// The transform.
    pub transform: &'a Transform,
    /// How many rows there are.
    pub rows: usize,
    /// The columns that it takes, in its order: of the lane of their type, with a value or a place for each row.
    pub inputs: &'a [ExpressionColumn<'a>],
    /// The types of those columns.
    pub input_types: &'a [ValueType],
    /// What it is to give.
    pub outputs: &'a [FeatureSchema],
}

/// What runs components.
pub trait RunTransforms: fmt::Debug {
    /// Calls a transform, as though none had been called before: what one call leaves behind no other sees.
    ///
    /// # Errors
    /// [`TransformFault`] where it cannot be called, was stopped, or says itself that it failed.
    fn run(&self, call: &TransformCall<'_>) -> Result<Vec<ExpressionColumn<'static>>, TransformFault>;

    /// The components that it has, in order.
    fn carried(&self) -> Vec<TransformId>;

    /// Whether a component that had to be stopped ends the request, with 503, and not just its own features: where it lives in
    /// the same instance as the host, what it did there is not to be built upon.
    fn overrun_ends_request(&self) -> bool {
        false
    }
}

/// A host without components.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTransforms;

impl NoTransforms {
    /// What it says of each.
    pub(crate) fn fault(id: &TransformId) -> TransformFault {
        let message = format!("this host does not carry the transform {id}");
        TransformFault { kind: TransformFaultKind::NotCarried, message }
    }
}

impl RunTransforms for NoTransforms {
    fn run(&self, call: &TransformCall<'_>) -> Result<Vec<ExpressionColumn<'static>>, TransformFault> {
        Err(Self::fault(&call.transform.id))
    }

    fn carried(&self) -> Vec<TransformId> {
        Vec::new()
    }
}

/// Why a transform gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformFault {
    /// What kind of fault it is.
    pub kind: TransformFaultKind,
    /// What happened.
    pub message: String,
}

/// Kinds of faults of transforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TransformFaultKind {
    /// What it gave is not what was declared: columns, types, rows.
    BadOutput,
    /// It used up its instructions.
    Fuel,
    /// It wanted more memory than it may have.
    Memory,
    /// The host does not have it.
    NotCarried,
    /// It gave more than it may.
    OutputSize,
    /// It said itself that it failed.
    Refused,
    /// It took longer than it may.
    Time,
    /// It trapped: a panic, a stack overflow, an access out of bounds.
    Trap,
}

impl TransformFaultKind {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::BadOutput, Self::Fuel, Self::Memory, Self::NotCarried, Self::OutputSize, Self::Refused, Self::Time, Self::Trap];

    /// Whether it was stopped, and did not end by itself.
    pub const fn is_overrun(self) -> bool {
        matches!(self, Self::Fuel | Self::Memory | Self::OutputSize | Self::Time | Self::Trap)
    }

    /// Its name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadOutput => "bad-output",
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::NotCarried => "not-carried",
            Self::OutputSize => "output-size",
            Self::Refused => "refused",
            Self::Time => "time",
            Self::Trap => "trap",
        }
    }
}

impl fmt::Display for TransformFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for TransformFault {}

#[cfg(feature = "transforms")]
impl TransformFault {
    /// What a component said of its own failure. It goes into logs, a line a fault: not all of a long text, and no control characters.
    pub fn refused(said: &str) -> Self {
        let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
        Self { kind: TransformFaultKind::Refused, message: said.chars().take(SAID_CHARS_MAX).map(plain).collect() }
    }

    /// A call has more rows than can be counted on its way.
    pub fn too_many_rows(rows: usize) -> Self {
        Self::refused(&format!("{rows} rows are too many for one call"))
    }

    /// A call with so many rows used up its instructions.
    pub fn fuel(limits: &TransformLimits, rows: usize) -> Self {
        let fuel = limits.fuel_of(rows);
        let message = format!("it took more than the {fuel} instructions that {rows} rows may take");
        Self { kind: TransformFaultKind::Fuel, message }
    }

    /// It gives more than a call with so many rows may, as was seen before all of it was read.
    pub fn output_size(limits: &TransformLimits, rows: usize) -> Self {
        let bytes = limits.output_bytes_of(rows);
        let message = format!("it gave more than the {bytes} bytes that {rows} rows may give");
        Self { kind: TransformFaultKind::OutputSize, message }
    }

    fn bad_output(message: String) -> Self {
        Self { kind: TransformFaultKind::BadOutput, message }
    }
}

impl TransformId {
    /// The id of these 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for TransformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for TransformId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` is no digest of a transform: expected 64 hex digits");
        if text.len() != 64 {
            return Err(refused());
        }
        let mut bytes = [0; 32];
        for (slot, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = core::str::from_utf8(digits).map_err(|_| refused())?;
            if digits.starts_with('+') {
                return Err(refused());
            }
            *slot = u8::from_str_radix(digits, 16).map_err(|_| refused())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(feature = "transforms")]
impl TransformCall<'_> {
    /// Calls it, and takes what it gives only if it is what was declared.
    ///
    /// # Errors
    /// [`TransformFault`].
    pub fn run(&self, transforms: &dyn RunTransforms) -> Result<Vec<ExpressionColumn<'static>>, TransformFault> {
        let mut columns = transforms.run(self)?;
        if columns.len() != self.outputs.len() {
            return Err(TransformFault::bad_output(format!(
                "it gave {} columns, declared are {}",
                columns.len(),
                self.outputs.len()
            )));
        }
        let mut bytes = 0_u64;
        for (column, feature) in columns.iter_mut().zip(self.outputs) {
            bytes = bytes.saturating_add(column.byte_count());
            check(column, feature, self.rows)?;
        }
        let allowed = self.transform.limits.output_bytes_of(self.rows);
        if bytes > allowed {
            let message = format!("it gave {bytes} bytes for {} rows, it may give {allowed}", self.rows);
            return Err(TransformFault { kind: TransformFaultKind::OutputSize, message });
        }
        Ok(columns)
    }
}

/// Checks a column that a component gave, and brings its floats into the one form that they have.
#[cfg(feature = "transforms")]
fn check(column: &mut ExpressionColumn<'_>, feature: &FeatureSchema, rows: usize) -> Result<(), TransformFault> {
    let bad = |what: String| Err(TransformFault::bad_output(format!("column {}: {what}", feature.name)));
    let of_type = |found: &str| bad(format!("it gave {found}, declared is {}", feature.value_type));
    let physical = feature.value_type.physical();
    let count = match &column.values {
        Values::Null => rows,
        Values::Int(values) if physical == Physical::Int => values.len(),
        Values::Float(values) if matches!(physical, Physical::Float32 | Physical::Float64) => values.len(),
        Values::Bytes { offsets, data, .. } if physical == Physical::Bytes => {
            let ordered = offsets.is_sorted() && offsets.first() == Some(&0);
            if !ordered || offsets.last().is_none_or(|last| *last as usize != data.len()) {
                return bad("its offsets do not go from 0 to the end of its bytes".into());
            }
            offsets.len() - 1
        }
        Values::Int(_) => return of_type("integers"),
        Values::Float(_) => return of_type("floats"),
        Values::Bytes { .. } => return of_type("bytes"),
    };
    if count != rows {
        return bad(format!("it gave {count} values for {rows} rows"));
    }
    if let Some(valid) = &column.valid
        && valid.len() != rows
    {
        return bad(format!("it said of {} values whether they are null, there are {rows} rows", valid.len()));
    }
    for row in 0..rows {
        if !column.is_valid(row) {
            continue;
        }
        let fits = match (&feature.value_type, column.int(row)) {
            (ValueType::Bool, Some(value)) => matches!(value, 0 | 1),
            (ValueType::Int32, Some(value)) => i32::try_from(value).is_ok(),
            (_, Some(_)) => true,
            (value_type, None) => column.bytes(row).is_none_or(|bytes| decode_payload(value_type, bytes).is_ok()),
        };
        if !fits {
            return bad(format!("the value of row {} is no {}", row + 1, feature.value_type));
        }
    }
    if let Values::Float(values) = &mut column.values {
        for value in values.to_mut() {
            // As a page would have it.
            let rounded = if physical == Physical::Float32 { f64::from(*value as f32) } else { *value };
            *value = canonical_f64(rounded);
        }
    }
    Ok(())
}

/// What went wrong in an answer: the view, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewFault {
    /// The on-demand view whose transform gave nothing.
    pub view: String,
    /// Why.
    pub fault: TransformFault,
}

impl fmt::Display for ViewFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the transform of `{}`: {}", self.view, self.fault.message)
    }
}

/// Characters of what a component says of itself.
#[cfg(feature = "transforms")]
const SAID_CHARS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn an_id_is_64_hex_digits() {
        let id = TransformId::from_bytes([0xa7; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "a7", &"g7".repeat(32), &"+7".repeat(32), &"é".repeat(32)] {
            let error = wrong.parse::<TransformId>().unwrap_err();
            assert!(error.contains("64 hex digits"), "{error}");
        }
    }

    #[cfg(feature = "transforms")]
    #[test]
    fn what_a_component_says_is_a_line() {
        assert_eq!(TransformFault::refused("row 1:\n\tno\u{1}").message, "row 1:  no ");
        assert_eq!(TransformFault::refused(&"é".repeat(1_001)).message, "é".repeat(1_000));
        assert_eq!(TransformFault::refused("").kind, TransformFaultKind::Refused);
    }

    #[test]
    fn limits_grow_with_rows_and_never_overflow() {
        let limits = TransformLimits { fuel: 10, output_bytes: 5, ..TransformLimits::DEFAULT };
        assert_eq!((limits.fuel_of(0), limits.fuel_of(3)), (10, 40));
        assert_eq!((limits.output_bytes_of(0), limits.output_bytes_of(3)), (5, 20));
        let most = TransformLimits { fuel: u64::MAX, output_bytes: u32::MAX, ..limits };
        assert_eq!(most.fuel_of(usize::MAX), u64::MAX);
        assert_eq!(most.output_bytes_of(usize::MAX), u64::MAX);
    }
}
