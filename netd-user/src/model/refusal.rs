//! Refusals: the only errors of the model, each caused by what a user asked for.
//!
//! Law: where Docker has a sentence for it, the message is Docker's, since scripts search for it.

use std::fmt;

/// What kind of mistake it was; front doors turn it into a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The words make no sense: HTTP 400.
    Invalid,
    /// It names what is not there: HTTP 404.
    NotFound,
    /// It collides with what is there: HTTP 409.
    Conflict,
    /// It is never allowed in this state: HTTP 403.
    Forbidden,
}

/// Why a command was not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Kind of mistake.
    pub kind: RefusalKind,
    /// One sentence for the user.
    pub message: String,
}

impl Refusal {
    /// The words make no sense.
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(RefusalKind::Invalid, &message)
    }

    /// It names what is not there.
    pub fn not_found(message: impl fmt::Display) -> Self {
        Self::new(RefusalKind::NotFound, &message)
    }

    /// It collides with what is there.
    pub fn conflict(message: impl fmt::Display) -> Self {
        Self::new(RefusalKind::Conflict, &message)
    }

    /// It is never allowed in this state.
    pub fn forbidden(message: impl fmt::Display) -> Self {
        Self::new(RefusalKind::Forbidden, &message)
    }

    /// The same refusal, told within a wider sentence: `context: message`.
    #[must_use]
    pub fn within(self, context: impl fmt::Display) -> Self {
        Self::new(self.kind, &format_args!("{context}: {}", self.message))
    }

    fn new(kind: RefusalKind, message: &dyn fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }
}
