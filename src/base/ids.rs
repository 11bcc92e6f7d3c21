//! Newtypes for identity, so that a generation can never be passed where an attempt is meant.

use std::fmt;

/// One container of a function, identified by its index among the function's containers. The index stays the
/// same over all of the container's generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(transparent))]
pub struct ContainerId(pub(crate) u32);

impl ContainerId {
    /// The container at `index`, counted from 0.
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The index of the container among the function's containers, counted from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A lane of a container: one of the inputs that it has in flight at the same time. A container that executes
/// one input at a time has only the first lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneId {
    pub(crate) container: ContainerId,
    /// The number of the lane in its container, counted from 0.
    pub(crate) lane: u32,
}

impl LaneId {
    pub(crate) const fn new(container: ContainerId, lane: u32) -> Self {
        Self { container, lane }
    }

    /// The number of the lane in its container.
    pub(crate) const fn index(self) -> usize {
        self.lane as usize
    }
}

/// The first lane of a container.
impl From<ContainerId> for LaneId {
    fn from(container: ContainerId) -> Self {
        Self::new(container, 0)
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.container, self.lane)
    }
}

/// The number of times that a container has been started. The first generation is 1. Every restart, recycling
/// or kill begins a new generation, and an answer that bears an old one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(transparent))]
pub struct Generation(pub(crate) u64);

impl Generation {
    /// The number itself, counted from 1.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One execution of an input, numbered from 1 over failures and crashes alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(transparent))]
pub struct Attempt(pub(crate) u32);

impl Attempt {
    /// The first execution of an input.
    pub const FIRST: Attempt = Attempt(1);

    /// The number itself, counted from 1.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One map or one call. The ledger of its function hands out the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobId(pub(crate) u64);

/// One input of one job. `index` is the input's position in the source, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InputId {
    pub(crate) job: JobId,
    pub(crate) index: u64,
}
