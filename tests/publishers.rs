//! Publishing to every kind of store: killed anywhere, refused, limited, rivalled and tampered with, a reader of what the store
//! really holds gets one snapshot's answer, never an earlier one than before.
//!
//! Time is virtual but for the runs of the command. Chance is a seed's, which a failure names.

#[path = "publishers/care.rs"]
mod care;
#[path = "publishers/command.rs"]
mod command;
mod common;
#[path = "publishers/errors.rs"]
mod errors;
#[path = "publishers/hosts.rs"]
mod hosts;
#[path = "publishers/kills.rs"]
mod kills;
#[path = "publishers/limits.rs"]
mod limits;
#[path = "publishers/places.rs"]
mod places;
#[allow(dead_code, reason = "it is the simulation's")]
#[path = "simulation/random.rs"]
mod random;
#[path = "publishers/rivals.rs"]
mod rivals;
#[path = "publishers/tampering.rs"]
mod tampering;
#[path = "vendors/mod.rs"]
mod vendors;
#[path = "publishers/world.rs"]
mod world;
#[path = "publishers/wrapped.rs"]
mod wrapped;
