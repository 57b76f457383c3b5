//! Materialise: newest rows into immutable snapshots.
//!
//! A run merges new rows with what the newest snapshot holds (newest wins always), and writes per table either a new base or
//! one cumulative delta against the base. Equal rows with times that are all later by one span write no page at all.
//! docs/ORIGIN.md says in which order the objects of a snapshot are written.

mod build;
mod column;
mod content;
mod convert;
mod error;
mod previous;
mod run;
mod staging;
mod state;
mod table;

pub use content::ViewRows;
pub use error::SnapshotError;
pub use run::{Materialize, MaterializeReport, TableReport};
pub use staging::{StagedRows, Staging, StagingArea};
pub use state::{BuildState, FoldedFile, Forgotten, ViewLedger};
