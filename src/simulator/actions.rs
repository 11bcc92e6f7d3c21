//! The steps that may come next in a world, and what each of them does.

use std::sync::PoisonError;

use crate::decide::time::Time;
use crate::simulator::course::Course;
use crate::simulator::threads::SimThread;
use crate::simulator::world::World;

/// A step that may come next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    SimThread(usize),
    Feeder(usize),
    SimReader(usize),
    Notice,
    Launch(usize),
    Create,
    ExitTimer(usize),
    Watch(usize),
    Tick,
    Review,
    Look,
    Limit,
}

impl World {
    pub(super) fn ready(&self) -> Vec<Action> {
        let now = self.now();
        let mut ready = Vec::new();
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        ready.extend(
            (0..self.threads.len()).filter(|at| due(self.threads[*at].ready_at())).map(Action::SimThread),
        );
        ready.extend(
            (0..self.feeders.len()).filter(|at| self.feeders[*at].is_ready(self.healed)).map(Action::Feeder),
        );
        let looks = |at: &usize| self.readers[*at].consumer.is_some() && due(self.readers[*at].polls_at);
        ready.extend((0..self.readers.len()).filter(looks).map(Action::SimReader));
        if !self.notices.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            ready.push(Action::Notice);
        }
        ready.extend((0..self.launches.len()).map(Action::Launch));
        if due(self.wake) {
            ready.push(Action::Create);
        }
        let over = |at: &usize| self.exit_timers[*at].2 <= now;
        ready.extend((0..self.exit_timers.len()).filter(over).map(Action::ExitTimer));
        ready.extend((0..self.over_limit.len()).map(Action::Watch));
        if due(self.limit) {
            ready.push(Action::Limit);
        }
        if due(self.tick.map(|(at, _)| at)) {
            ready.push(Action::Tick);
        }
        if due(self.review) {
            ready.push(Action::Review);
        }
        if due(self.look) {
            ready.push(Action::Look);
        }
        ready
    }

    /// The next moment at which a step can be taken.
    pub(super) fn next_moment(&self) -> Option<Time> {
        let threads = self.threads.iter().filter_map(SimThread::ready_at);
        let readers = self.readers.iter().filter(|reader| reader.consumer.is_some());
        let exits = self.exit_timers.iter().map(|(_, _, at)| *at);
        let singles = [self.wake, self.limit, self.review, self.look].into_iter().flatten();
        // A look for outcomes makes no progress by itself, so looks count only beside a step that does.
        let real = threads.chain(exits).chain(singles).min();
        let looks = readers.filter_map(|reader| reader.polls_at).chain(self.tick.map(|(at, _)| at)).min();
        match (real, looks) {
            (Some(real), Some(looks)) => Some(real.min(looks)),
            (Some(real), None) => Some(real),
            (None, looks) => looks.filter(|at| *at > self.now()),
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        self.log(|| match action {
            Action::SimThread(at) => format!("{:?}", self.threads[at]),
            Action::Feeder(at) => format!("feeder of {:?}", self.feeders[at].job),
            Action::SimReader(at) => format!("reader of {:?}", self.readers[at].job),
            _ => format!("{action:?}"),
        });
        match action {
            Action::SimThread(at) => self.advance(at),
            Action::Feeder(at) => self.feed(at),
            Action::SimReader(at) => self.read(at),
            Action::Notice => self.deliver_notice(),
            Action::Launch(at) => self.launch(at),
            Action::Create => self.create(),
            Action::ExitTimer(at) => self.exit_times_out(at),
            Action::Watch(at) => self.watch(at),
            Action::Tick => self.tick(),
            Action::Review => self.review(),
            Action::Look => self.look_at_limits(),
            Action::Limit => self.limit_passes(),
        }
    }
}
