//! The scene of a death: how far a container was in its leases, and how it leaves the user's code.
//! These are the facts that the engine brings for a verdict. The decisions on them are in `verdict` and
//! `blame`.

#[cfg(test)]
use crate::base::ids::ContainerId;
use crate::base::ids::{InputId, JobId, LaneId};
use crate::decide::job::Span;
use crate::decide::ledger::{Ledger, Position};

/// How far a container was in each of its leases when it died.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scene {
    /// The lane whose code ended the container, or in whose code its thread was, if that is known.
    pub(crate) culprit: Option<LaneId>,
    /// The position in the lease of each lane that has one.
    pub(crate) positions: Vec<(LaneId, Position)>,
}

impl Scene {
    /// The scene of a container that executes one input at a time.
    #[cfg(test)]
    pub(crate) fn of(id: ContainerId, position: Option<Position>) -> Self {
        let lane = LaneId::from(id);
        Self {
            culprit: Some(lane),
            positions: position.map(|position| (lane, position)).into_iter().collect(),
        }
    }

    fn position(&self, lane: LaneId) -> Option<Position> {
        self.positions.iter().find(|(at, _)| *at == lane).map(|(_, position)| *position)
    }

    /// The culprit, with its position.
    pub(crate) fn culprit(&self) -> Option<(LaneId, Option<Position>)> {
        self.culprit.map(|lane| (lane, self.position(lane)))
    }

    /// The only lane whose input was executing. `None` if none was, or several were.
    pub(crate) fn only_executing(&self) -> Option<LaneId> {
        let mut executing = self.positions.iter().filter(|(_, position)| position.begun);
        let (lane, _) = executing.next()?;
        executing.next().is_none().then_some(*lane)
    }

    /// Whether an input of this lane was executing.
    pub(crate) fn has_begun(&self, lane: LaneId) -> bool {
        self.position(lane).is_some_and(|position| position.begun)
    }

    /// Whether more than one input was executing.
    pub(super) fn is_crowded(&self) -> bool {
        self.positions.iter().filter(|(_, position)| position.begun).count() > 1
    }
}

/// How a container leaves the user's code when it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// Whether its thread is left behind there, for an unknown time. Otherwise the thread has left the
    /// code, or is about to.
    pub(crate) abandoned: bool,
    /// How crowded the abandoned threads are, including this one.
    pub(crate) pressure: Pressure,
}

impl Leaving {
    /// The same for an input in whose code the thread is not, so that it has left no thread behind.
    pub(super) fn of_innocent(self) -> Self {
        Self { abandoned: false, ..self }
    }
}

/// How many threads are abandoned, and how much memory they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// More threads may be abandoned.
    None,
    /// The threads hold as much memory as they may. No input is replayed that might abandon another thread.
    Bytes,
    /// As many threads are abandoned as may be. No container is created either.
    Threads,
}

impl Ledger {
    /// The input that was executing at `position`, if there is one. If a batch was executing, it is the
    /// first.
    pub(super) fn executing(&self, id: LaneId, position: Option<Position>) -> Option<InputId> {
        let (job, span) = self.executing_span(id, position)?;
        Some(InputId { job, index: span.first })
    }

    /// The inputs that were executing at `position`, if there are any.
    pub(super) fn executing_span(&self, id: LaneId, position: Option<Position>) -> Option<(JobId, Span)> {
        let lane = self.lane(id)?;
        let lease = lane.lease?;
        let position = position.filter(|position| position.begun)?;
        assert_eq!(position.at, lane.committed, "all inputs before it are committed");
        Some((lease.job, self.executing_with(&lease, position.at)))
    }

    /// The indices of the inputs that were executing at `position`.
    pub(crate) fn executing_at(&self, id: LaneId, position: Option<Position>) -> std::ops::Range<u64> {
        self.executing_span(id, position).map_or(0..0, |(_, span)| span.indices())
    }
}
