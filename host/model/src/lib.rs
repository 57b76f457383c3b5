//! Definitions, registry, plan and apply.

mod definitions;
pub use definitions::{
    About, Availability, Definitions, Entity, FeatureService, FeatureView, Projection, ReplicaConfig, RequestSource, Source,
    SourceFormat, StoreConfig,
};
