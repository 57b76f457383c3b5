//! What computes the features of several on-demand views: expressions, and between them calls of components.

#[cfg(not(feature = "transforms"))]
mod expressions;
#[cfg(feature = "transforms")]
mod stages;

use alloc::vec::Vec;

#[cfg(not(feature = "transforms"))]
pub use expressions::Pipeline;
#[cfg(feature = "transforms")]
pub use stages::Pipeline;

use crate::expression::{ExpressionColumn, LinkInput, Program};
use crate::{FeatureSchema, Transform, TransformFault, ValueType};

/// What computes the features of a view.
#[derive(Clone, Debug, PartialEq)]
pub enum Compute {
    /// Expressions.
    Program(Program),
    /// A component.
    Transform(Transform),
}

/// A view as a pipeline is made of it.
#[derive(Clone, Debug)]
pub struct PipelineView<'v> {
    /// What computes it.
    pub compute: &'v Compute,
    /// Where its inputs come from, in its order.
    pub inputs: Vec<LinkInput>,
    /// The types of its inputs; only a component's are asked for.
    pub input_types: Vec<ValueType>,
    /// Its features.
    pub features: &'v [FeatureSchema],
    /// A column without a value where there are no features, whatever they would be.
    pub mask: Option<LinkInput>,
}

/// What a pipeline made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Made<'a> {
    /// By output its column; `None` where a component that it needs failed.
    pub columns: Vec<Option<ExpressionColumn<'a>>>,
    /// What failed, by the view's number.
    pub faults: Vec<(usize, TransformFault)>,
}
