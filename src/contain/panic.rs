//! The message and the location of a panic.

use std::error::Error;
use std::fmt;

/// A panic that was contained.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Panic {
    pub(crate) message: String,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub(crate) location: Option<String>,
}

impl Panic {
    /// The panic's message, or a note that its payload was not text.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The location as `file:line:column`. It is `None` if the application replaced the panic hook
    /// after the start, and for a panic that was raised again (`resume_unwind`), such as one that
    /// came from another thread.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(location) => write!(f, "panicked at {location}: {}", self.message),
            None => write!(f, "panicked: {}", self.message),
        }
    }
}

impl Error for Panic {}
