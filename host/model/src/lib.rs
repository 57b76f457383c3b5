//! Definitions, registry, plan and apply.
//!
//! [`load`] reads a repository's files and tells everything that is wrong with them, with file, line and column.
//! [`check_against`] compares them with the real schemas of their sources, [`diff`] with what the [`Registry`] recorded before,
//! and [`tables`], [`services`] and [`request_sources`] make of them what a manifest holds.

mod check;
mod definitions;
mod diff;
mod expression;
mod fields;
mod json;
mod json_schema;
mod keys;
mod load;
mod node;
mod on_demand;
mod problem;
mod registry;
mod size;
mod span;
mod tables;
mod transforms;

pub use check::{SourceColumn, check_against};
pub use definitions::{
    About, Availability, Definitions, Entity, FeatureService, FeatureView, HostConfig, OnDemandFeature, OnDemandFeatureView,
    OnFault, Probe, Projection, ReplicaConfig, ReplicaKind, RequestSource, SigningConfig, Source, SourceFormat, StoreConfig,
    TransformSource,
};
pub use diff::{Action, Change, Diff, diff};
pub use expression::{ColumnOf, Compiled, ExpressionError, FUNCTIONS, FunctionEntry, compile, compile_parts};
pub use json::{digest, to_json};
pub use json_schema::{features_schema, store_schema};
pub use load::{FEATURES_FOLDER, Repo, STORE_FILE, load};
pub use on_demand::{OnDemandColumn, OnDemandPipeline, OnDemandProgram, OnDemandPrograms, on_demand_program, on_demand_scope};
pub use problem::{LoadError, Problem};
pub use registry::{Registry, RegistryError, Version};
pub use size::parse_size;
pub use tables::{on_demand_views, request_sources, services, table_of, tables};
pub use transforms::{DescribedTransform, describe_transforms};
