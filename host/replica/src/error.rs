use mezze_core::FormatError;

/// Why an operation on an origin or a replica failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Someone else did the same thing first. Nothing was changed; running again starts from what they did.
    #[error("{what} was taken by another run at the same time; run the command again")]
    Conflict {
        /// What both wanted: `epoch 7`, `lease 3 of replica prod`.
        what: String,
    },
    /// An object is there, but not what was written.
    #[error("{key} is damaged: {detail}")]
    Corrupt {
        /// The object.
        key: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The bytes of a manifest, a head or a page are not what they should be.
    #[error("{key}: {source}")]
    Format {
        /// The object.
        key: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// A lease is held by someone else.
    #[error("{what} is in use by {holder} until {until}; wait, or stop it first")]
    Held {
        /// What is held: `replica prod`.
        what: String,
        /// Who holds it.
        holder: String,
        /// When the lease ends if it is not renewed, RFC 3339.
        until: String,
    },
    /// The name of a place is neither a folder nor a URL that can be opened.
    #[error("cannot open {location}: {detail}")]
    Location {
        /// What was given.
        location: String,
        /// What is wrong with it.
        detail: String,
    },
    /// An object that should be there is not.
    #[error("{key} does not exist")]
    Missing {
        /// The object.
        key: String,
    },
    /// The place has no snapshot yet.
    #[error("{place} has no snapshot yet; run `mezze materialize` first")]
    NoSnapshot {
        /// The folder or URL.
        place: String,
    },
    /// What was asked for would be wrong.
    #[error("{0}")]
    Refused(String),
    /// The place where objects are kept did not do what it was asked to.
    #[error("cannot {operation} {key}: {detail}")]
    Unavailable {
        /// `read`, `write`, `create`, `list`, `delete`.
        operation: &'static str,
        /// The object.
        key: String,
        /// What the system or service said.
        detail: String,
    },
}

impl Error {
    /// Whether another run was first, so that running again may succeed.
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::Held { .. })
    }
}
