//! How far a container is.

/// How far a container had come in its lease when it died or was fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The input that executes or comes next.
    pub(crate) at: u64,
    /// Whether it executes.
    pub(crate) begun: bool,
}
