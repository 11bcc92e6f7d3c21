//! The seats of containers and lanes: their state that is not in the ledger.

use std::sync::Arc;

use crate::base::ids::{Generation, LaneId};
use crate::base::ready::ReadyLanes;
use crate::code::token::Token;
use crate::data::run::Run;
use crate::engine::caller::Caller;
use crate::engine::dispatch::State;
use crate::values::report::Fate;

/// The state of a container that is not in the ledger.
#[derive(Default)]
pub(super) struct Seat {
    /// The lanes of the current generation that were ever used, in the order of their numbers.
    pub(super) lanes: Vec<LaneSeat>,
    /// The number of leases of its last batch, if inputs execute in batches.
    pub(super) parts: usize,
    /// The first parts, up to this number, are over: no input that they execute is wanted.
    pub(super) parts_over: usize,
    /// The driver of its lanes, if it has several. Written when the container falls asleep.
    pub(super) driver: Option<Arc<ReadyLanes>>,
    /// Whether the user's code waits in a task. Written by `enter` and `exit` where they begin and cease to
    /// wait, and when the container is about to be detached. Read when the container is detached.
    pub(super) suspended: bool,
    /// The token of the last generation whose code has registered one.
    pub(super) token: Option<(Generation, Arc<Token>)>,
    /// The peak memory of the generations before that one.
    pub(super) peak: u64,
    /// The fate of the container at the end of the function.
    pub(super) fate: Option<Fate>,
}

/// The state of a lane that is not in the ledger.
#[derive(Default)]
pub(super) struct LaneSeat {
    /// The run that the lane executes. Written by a claim, and cleared by the lane's return or by a fence.
    pub(super) run: Option<Arc<Run>>,
    /// The caller that asked for the current or last execution. It is kept outside the job's buffers, because
    /// the job may have ended meanwhile.
    pub(super) caller: Caller,
    /// Whether the lane may be in the user's function.
    pub(super) at_work: bool,
    /// Whether the user's code waited in a task when the run was fenced.
    pub(super) suspended: bool,
    /// The token of the lane's code. `None` in a container that executes one input at a time.
    pub(super) token: Option<Arc<Token>>,
}

impl State {
    pub(super) fn lane(&self, id: LaneId) -> Option<&LaneSeat> {
        self.seats[id.container.index()].lanes.get(id.index())
    }

    /// A lane, which exists from now on.
    pub(super) fn lane_mut(&mut self, id: LaneId) -> &mut LaneSeat {
        let lanes = &mut self.seats[id.container.index()].lanes;
        if lanes.len() <= id.index() {
            lanes.resize_with(id.index() + 1, LaneSeat::default);
        }
        &mut lanes[id.index()]
    }

    /// The run that a lane executes.
    pub(crate) fn run(&self, id: impl Into<LaneId>) -> Option<&Arc<Run>> {
        self.lane(id.into())?.run.as_ref()
    }
}
