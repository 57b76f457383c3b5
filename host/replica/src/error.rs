use mezze_core::{FormatError, Span, TrustError};

/// Why an operation on an origin or a replica failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The place takes no more calls for now.
    #[error("{place} is busy: {detail}")]
    Busy {
        /// The place.
        place: String,
        /// What it said.
        detail: String,
        /// How long it asks to wait.
        retry_after: Option<Span>,
    },
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
    /// The place does not accept the token.
    #[error("{place} does not accept the token in {token_env}: {detail}")]
    Denied {
        /// The place.
        place: String,
        /// What it said.
        detail: String,
        /// The environment variable that the token came from.
        token_env: String,
    },
    /// The bytes of a manifest, a head or a page are not what they should be.
    #[error("{key}: {source}")]
    Format {
        /// The object.
        key: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The place has no room, or its owner's account has not.
    #[error("{place} is full: {detail}")]
    Full {
        /// The place.
        place: String,
        /// What it said.
        detail: String,
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
    /// Something is larger than the place takes.
    #[error("{place} takes no {what}")]
    Limit {
        /// The place.
        place: String,
        /// What is too large, and how large it may be.
        what: String,
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
    /// An object is not what a trusted key has signed.
    #[error("{key}: {source}")]
    Untrusted {
        /// The object.
        key: String,
        /// What is wrong with it.
        source: TrustError,
    },
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

    /// Whether the same call may succeed a little later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Unavailable { .. })
    }

    /// Whether a limit is in the way.
    pub const fn is_limit(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Limit { .. })
    }
}
