//! One module a command, or a group of them.

pub(crate) mod cluster;
pub(crate) mod definitions;
pub(crate) mod demo;
pub(crate) mod edge;
pub(crate) mod eval;
pub(crate) mod functions;
pub(crate) mod historical;
pub(crate) mod init;
pub(crate) mod materialize;
pub(crate) mod objects;
pub(crate) mod online;
pub(crate) mod prune;
pub(crate) mod publish;
pub(crate) mod serve;
pub(crate) mod shell;
pub(crate) mod status;
pub(crate) mod transform;
pub(crate) mod trust;
