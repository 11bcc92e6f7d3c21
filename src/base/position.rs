//! How far a container has come in its lease.

/// How far a container had come in its lease when it died or was fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The input that was executing or would have come next.
    pub(crate) at: u64,
    /// Whether the input at `at` was executing.
    pub(crate) begun: bool,
}
