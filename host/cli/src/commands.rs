//! One module a command, or a group of them.

pub(crate) mod init;
