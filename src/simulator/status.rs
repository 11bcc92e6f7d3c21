//! What the status says, held against the books.

use std::collections::BTreeSet;

use crate::decide::ids::ContainerId;
use crate::decide::ledger::Mode;
use crate::simulator::books::{InputBook, State};
use crate::simulator::world::World;

impl World {
    /// Somebody asks for the status.
    pub(super) fn check_status(&mut self) {
        let told = self.engine.status();
        self.sync_pulled();
        let now = self.now();
        let busy: BTreeSet<_> = self.books.inputs().filter_map(container_of).collect();
        let pending = self.books.inputs().filter(|input| input.is_pending()).count();
        let all = [
            ("crashes", told.crashes, self.books.crashes),
            ("restarts", told.restarts, self.books.restarts),
            ("late answers", told.late_answers, self.books.late),
            ("inputs waiting", told.inputs_waiting, (pending - busy.len()) as u64),
            ("given up", u64::from(told.gave_up.is_some()), u64::from(self.books.gave_up)),
        ];
        for (what, told, is) in all {
            assert_eq!(told, is, "status: {what}");
        }
        if self.books.mode < Mode::Aborted {
            let containers = told.containers;
            let live = containers.starting + containers.live + containers.exiting;
            assert_eq!(live, self.books.policy.alive(), "status: containers alive of {containers:?}");
            let memory = told.memory.expect("it is accounted for");
            assert_eq!(
                (containers.abandoned, memory.abandoned),
                self.books.left_behind(),
                "status: abandoned"
            );
            let loop_crashes = told.crash_loop.map_or(0, |crash_loop| crash_loop.crashes);
            assert_eq!(loop_crashes, self.books.policy.in_a_row(now), "status: loop crashes");
        }
    }
}

/// The container that an input was assigned to.
fn container_of(input: &InputBook) -> Option<ContainerId> {
    match input.state {
        State::Leased { to, .. } => Some(to),
        State::Executes { on } => Some(on),
        State::Waits(_) | State::Done(_) => None,
    }
}
