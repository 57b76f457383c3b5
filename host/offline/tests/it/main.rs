//! Sources, entity rows and data sets, from files.

mod bloom;
mod common;
mod entity_rows;
mod expressions;
mod features;
mod formats;
mod historical;
mod join_historical;
mod pit;
mod pit_support;
mod prepare;
mod source;
mod workers;
