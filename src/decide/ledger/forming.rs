//! The batch that forms in the queues: how many inputs it has, and since when it waits for more.
//!
//! Its inputs are counted as they begin and cease to wait, and a map is looked at only after something has
//! changed for it. So an arrival costs the same beside a batch of many inputs as beside an empty one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::base::ids::{InputId, JobId};
use crate::decide::job::{Job, JobKind};
use crate::decide::ledger::{Ledger, Mode, Sources};
use crate::decide::steps;
use crate::decide::time::Time;

/// The batch that forms. It is empty in a function whose batches are not waited for.
#[derive(Debug, Default)]
pub(super) struct FormingBatch {
    /// Since when it has an input.
    pub(super) since: Option<Time>,
    /// The inputs that were leased before, and may go into a batch with others.
    again: Waiting,
    /// The retries that are due at this moment or before count among those inputs.
    due_to: Time,
    /// The new inputs of the maps.
    maps: CountedMaps,
    /// Maps whose sources may bring more inputs than have been counted.
    pub(super) sources_open: BTreeSet<JobId>,
}

/// A number of inputs that wait.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    inputs: u64,
    /// The number of those that are of calls. More calls may come at any time.
    of_calls: u64,
}

/// The new inputs of the maps that have their turn.
#[derive(Debug, Default)]
struct CountedMaps {
    /// The number of inputs of each map that nothing has changed for since it was looked at.
    counted: BTreeMap<JobId, u64>,
    /// The sum of these numbers.
    inputs: u64,
    /// The maps that are to be looked at.
    unseen: BTreeSet<JobId>,
}

impl CountedMaps {
    /// Something has changed for a map that has its turn.
    fn changes(&mut self, job: JobId) {
        self.leaves(job);
        self.unseen.insert(job);
    }

    /// A map has its turn no longer.
    fn leaves(&mut self, job: JobId) {
        self.inputs -= self.counted.remove(&job).unwrap_or(0);
        self.unseen.remove(&job);
    }

    fn count(&mut self, job: JobId, inputs: u64) {
        self.leaves(job);
        self.counted.insert(job, inputs);
        self.inputs += inputs;
    }
}

/// The inputs that a batch has found so far.
struct Found {
    inputs: u64,
    /// Whether it has an input of a call.
    holds_call: bool,
}

impl Ledger {
    /// Whether the batch that forms may run now. It forms from everything that waits and may execute
    /// together. Where no batch is waited for, it may.
    pub(super) fn has_formed(&mut self, now: Time, sources: &impl Sources) -> bool {
        let Some(batching) = self.rules.batch.filter(|batching| !batching.wait.is_zero()) else {
            return true;
        };
        if self.mode != Mode::Running {
            return true; // no more inputs come, so there is no reason to wait
        }
        let Found { inputs, holds_call } = self.find(batching.size, now, sources);
        if inputs == 0 {
            self.forming.since = None;
            return false;
        }
        // A retry may have come due while no container was idle.
        let due = self.retries.first().map_or(now, |(due, _)| now.min(*due));
        let since = self.forming.since.map_or(due, |since| since.min(due));
        self.forming.since = Some(since);
        let until = since + batching.wait;
        let may_grow = holds_call || !self.forming.sources_open.is_empty();
        inputs >= batching.size || until <= now || !may_grow
    }

    /// An input begins to wait. A batch that has none yet forms from now on.
    pub(crate) fn note_arrival(&mut self, now: Time) {
        if self.awaits_batches() && self.mode == Mode::Running {
            self.forming.since.get_or_insert(now);
        }
    }

    /// Whether a batch that is not full waits for more inputs.
    pub(crate) fn awaits_batches(&self) -> bool {
        self.rules.batch.is_some_and(|batching| !batching.wait.is_zero())
    }

    /// A container has put its batch together. If it has left something, the next batch forms from now on.
    pub(crate) fn note_left(&mut self, now: Time, sources: &impl Sources) {
        if let Some(batching) = self.rules.batch.filter(|_| self.awaits_batches()) {
            self.forming.since = None;
            if self.mode == Mode::Running && self.find(batching.size, now, sources).inputs > 0 {
                self.forming.since = Some(now);
            }
        }
    }

    /// The moment at which the batch that forms has waited for long enough.
    pub(super) fn batch_due(&self) -> Option<Time> {
        Some(self.forming.since? + self.rules.batch?.wait)
    }

    /// The next moment at which a retry is due. While a batch forms, the retries that are due are in it, and
    /// only the others are looked for.
    pub(super) fn next_retry_due(&self, now: Time) -> Option<Time> {
        if self.forming.since.is_none() {
            return self.retries.first().map(|(due, _)| *due);
        }
        self.retries.range((after(now), Bound::Unbounded)).next().map(|(due, _)| *due)
    }

    /// The inputs of the batch that forms, at least up to `size`.
    fn find(&mut self, size: u64, now: Time, sources: &impl Sources) -> Found {
        self.count_due(now);
        self.line_up_little_room(now);
        let Waiting { inputs: again, of_calls } = self.waiting_again(now);
        let calls = self.calls.len() as u64;
        let mut unheard = Vec::new();
        let mut inputs = calls + again;
        while inputs + self.forming.maps.inputs < size
            && let Some(job) = self.forming.maps.unseen.pop_first()
        {
            steps::step();
            // The feeder announces each input, and the consumer all room, because any of them may complete
            // the batch. Each announcement has the map looked at again.
            let is_announced = sources.await_inputs(job, self.mode).is_some();
            sources.request_room(job, 1);
            match self.ready(job, now, sources) {
                0 => self.step_out(job),
                ready if is_announced => self.forming.maps.count(job, ready),
                ready => {
                    inputs += ready;
                    unheard.push(job);
                }
            }
        }
        self.forming.maps.unseen.extend(unheard);
        Found { inputs: inputs + self.forming.maps.inputs, holds_call: calls + of_calls > 0 }
    }

    /// The inputs that were leased before and may go into a batch at `now`.
    fn waiting_again(&self, now: Time) -> Waiting {
        let mut again = self.forming.again;
        // A thread reads the clock before it takes the lock. So another one may have looked at a later
        // moment.
        for (_, input) in self.retries_within(now, self.forming.due_to) {
            again.inputs -= 1;
            again.of_calls -= self.of_call(input.job);
        }
        again
    }

    /// Counts the retries that are due by now.
    fn count_due(&mut self, now: Time) {
        let (mut inputs, mut of_calls) = (0, 0);
        for (_, input) in self.retries_within(self.forming.due_to, now) {
            inputs += 1;
            of_calls += self.of_call(input.job);
        }
        self.forming.again.inputs += inputs;
        self.forming.again.of_calls += of_calls;
        self.forming.due_to = self.forming.due_to.max(now);
    }

    /// The retries that are due after `from`, and at `to` or before.
    fn retries_within(&self, from: Time, to: Time) -> impl Iterator<Item = &(Time, InputId)> {
        let retries = (from < to).then(|| self.retries.range((after(from), Bound::Included((to, LAST)))));
        retries.into_iter().flatten().map(steps::each)
    }

    fn of_call(&self, job: JobId) -> u64 {
        u64::from(self.jobs.get(&job).is_some_and(|job| job.kind() == JobKind::Call))
    }

    /// Puts an input into the queue of the retries.
    pub(super) fn queue_retry(&mut self, due: Time, input: InputId) {
        self.retries.insert((due, input));
        if due <= self.forming.due_to {
            self.joins_batch(input.job, 1);
        }
    }

    /// Removes an input from the queue of the retries.
    pub(super) fn leave_retries(&mut self, due: Time, input: InputId) {
        self.retries.remove(&(due, input));
        if due <= self.forming.due_to {
            self.leaves_batch(input.job, 1);
        }
    }

    /// Inputs wait that were leased before, and may go into a batch with others.
    pub(super) fn joins_batch(&mut self, job: JobId, inputs: u64) {
        if self.awaits_batches() {
            self.forming.again.inputs += inputs;
            self.forming.again.of_calls += inputs * self.of_call(job);
        }
    }

    /// Some of these inputs wait no longer.
    pub(super) fn leaves_batch(&mut self, job: JobId, inputs: u64) {
        if self.awaits_batches() {
            self.forming.again.inputs -= inputs;
            self.forming.again.of_calls -= inputs * self.of_call(job);
        }
    }

    /// Something has changed for the new inputs of a job. If it is a map that has its turn, the batch that
    /// forms looks at it again.
    pub(super) fn recount(&mut self, id: JobId) {
        let has_turn = |job: &Job| job.map().is_some_and(|map| map.turn.is_some());
        if self.awaits_batches() && self.jobs.get(&id).is_some_and(has_turn) {
            self.forming.maps.changes(id);
        }
    }

    /// A map has its turn no longer, because it has no new inputs.
    pub(super) fn leaves_turns(&mut self, id: JobId) {
        if self.awaits_batches() {
            self.forming.maps.leaves(id);
        }
    }

    /// Records whether the source of a map may bring more inputs than the batch that forms has counted.
    pub(super) fn note_source(&mut self, job: JobId, may_bring_more: bool) {
        if !self.awaits_batches() {
            return;
        }
        if may_bring_more {
            self.forming.sources_open.insert(job);
        } else {
            self.forming.sources_open.remove(&job);
        }
    }
}

/// The last input that any moment has in the queue of the retries.
const LAST: InputId = InputId { job: JobId(u64::MAX), index: u64::MAX };

/// The bound of the retries that are due after `time`.
const fn after(time: Time) -> Bound<(Time, InputId)> {
    Bound::Excluded((time, LAST))
}

/// Questions of the simulator.
#[cfg(test)]
impl Ledger {
    /// The inputs that wait and may go into one batch, other than new inputs of maps. The first number counts
    /// the calls that were never leased. The others were leased before, and some of these are calls too.
    pub(crate) fn waiting_together(&self, now: Time) -> (u64, (u64, u64)) {
        let requeued = self.requeued.iter().map(|(job, span)| (span.len, span.len * self.of_call(*job)));
        let replays = self.replays.iter().map(|(_, input)| (1, self.of_call(input.job)));
        let due = self.retries.iter().filter(|(due, _)| *due <= now);
        let again = requeued.chain(replays).chain(due.map(|(_, input)| (1, self.of_call(input.job))));
        (self.calls.len() as u64, again.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1)))
    }

    /// Checks what is kept about the batch that forms against the queues. Where nothing else goes on
    /// (`at_rest`), what was counted of each map is what it has.
    pub(crate) fn check_forming(&self, sources: &impl Sources, at_rest: bool) {
        if !self.awaits_batches() {
            return;
        }
        let FormingBatch { again, maps, due_to, .. } = &self.forming;
        let (_, waiting) = self.waiting_together(*due_to);
        assert_eq!((again.inputs, again.of_calls), waiting, "inputs that were leased before");
        assert_eq!(maps.inputs, maps.counted.values().sum::<u64>(), "the sum over the maps");
        for (_, job) in self.turns.iter() {
            let is_known = maps.counted.contains_key(job) != maps.unseen.contains(job);
            assert!(is_known, "{job:?} has its turn, and is counted or to be looked at: {maps:?}");
        }
        assert_eq!(self.turns.len() as usize, maps.counted.len() + maps.unseen.len(), "{maps:?}");
        for (job, counted) in maps.counted.iter().filter(|_| at_rest && self.mode == Mode::Running) {
            let fresh = self.jobs[job].fresh();
            let has = if fresh > 0 {
                fresh
            } else {
                sources.available(*job, self.mode).min(self.room(*job, sources))
            };
            assert_eq!(*counted, has, "the new inputs of {job:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::ids::LaneId;
    use crate::decide::ledger::fixture::{FIRST, Rig, START, at, rules};
    use crate::decide::ledger::{Batching, Retryable, Rules, Unrun};
    use crate::decide::life::Next;
    use crate::decide::retries::Retries;
    use crate::decide::steps::tests::taken;

    const FEW: u64 = 30;
    const MANY: u64 = 3_000;
    const HOUR: Duration = Duration::from_secs(3_600);

    /// A live container whose batches have this size, and wait for an hour.
    fn rig(size: u64) -> Rig {
        let batch = Some(Batching { size, wait: HOUR });
        let retries = Retries::new(1).initial_delay(Duration::from_secs(1));
        let mut rig = Rig::of(Rules { batch, retries, ..rules(1) });
        rig.enters(FIRST, START);
        rig
    }

    fn has_more(rig: &mut Rig, now: Time) -> bool {
        let formed = rig.ledger.has_more(now, &rig.sources);
        rig.ledger.check_forming(&rig.sources, true);
        formed
    }

    /// The steps of one more call beside a batch that forms from what `waits` makes wait, which are as many
    /// inputs as its argument says.
    fn arrival(waits: impl Fn(&mut Rig, u64)) -> [u64; 2] {
        [FEW, MANY].map(|inputs| {
            let mut rig = rig(10 * MANY);
            waits(&mut rig, inputs);
            assert!(!has_more(&mut rig, later(1_000)));
            let before = taken();
            rig.call();
            rig.ledger.note_arrival(later(1_001));
            assert!(!rig.ledger.has_more(later(1_001), &rig.sources), "it waits for more");
            taken() - before
        })
    }

    #[test]
    fn only_as_many_maps_are_looked_at_as_fill_the_batch() {
        // A map has two inputs, and there are ten maps. The numbers of calls, and of maps in a batch of four.
        for (calls, maps) in [(0, 2), (1, 2), (2, 1), (3, 1), (4, 0)] {
            let mut rig = rig(4);
            (0..10).for_each(|_| _ = rig.map(2, 2));
            (0..calls).for_each(|_| _ = rig.call());
            assert!(rig.ledger.has_formed(START, &rig.sources), "the batch is full");
            assert_eq!(rig.sources.room_wanted.get(), maps, "beside {calls} calls");
        }
    }

    /// The moment this many milliseconds after the first batch has waited for an hour.
    fn later(ms: u64) -> Time {
        at(ms) + HOUR
    }

    /// Calls wait for an hour, and a container takes them as a batch. Returns its lanes.
    fn leased(rig: &mut Rig, calls: u64) -> Vec<LaneId> {
        rig.ledger.note_arrival(START);
        (0..calls).for_each(|_| _ = rig.call());
        let Next::Work(leases) = rig.takes_batch(FIRST, later(0)) else { panic!("they have waited") };
        assert_eq!(leases.len() as u64, calls);
        (0..calls as u32).map(|lane| LaneId::new(FIRST, lane)).collect()
    }

    /// A batch of calls fails. Each is retried after a second.
    fn fail(rig: &mut Rig, calls: u64) {
        for lane in leased(rig, calls) {
            rig.ledger.failed(lane, Retryable::Yes, later(0));
            rig.ledger.released(lane, later(0));
        }
    }

    #[test]
    fn an_arrival_costs_the_same_beside_many_inputs_that_wait() {
        let [few, many] = arrival(|rig, inputs| {
            for _ in 0..inputs {
                let map = rig.map(10, 1);
                rig.sources.more.insert(map); // nothing says that the source is at its end
            }
        });
        assert!(many <= few + 2, "one-input maps: {few} steps beside {FEW}, and {many} beside {MANY}");
        let [few, many] = arrival(|rig, inputs| {
            fail(rig, inputs);
        });
        assert!(many <= few + 2, "retries: {few} steps beside {FEW}, and {many} beside {MANY}");
        let [few, many] = arrival(|rig, inputs| {
            // They have not begun when their container gives them back.
            leased(rig, inputs).into_iter().for_each(|lane| rig.ledger.released(lane, later(0)));
        });
        assert!(many <= few + 2, "requeued calls: {few} steps beside {FEW}, and {many} beside {MANY}");
    }

    #[test]
    fn a_batch_of_one_input_maps_takes_a_bounded_number_of_steps_for_each() {
        let [few, many] = [FEW, MANY].map(|maps| {
            let mut rig = rig(maps);
            let before = taken();
            for map in 0..maps {
                let id = rig.map(10, 1);
                rig.sources.more.insert(id);
                rig.ledger.note_arrival(START);
                assert_eq!(rig.ledger.has_more(START, &rig.sources), map + 1 == maps, "map {map}");
            }
            let Next::Work(leases) = rig.takes_batch(FIRST, START) else { panic!("it is full") };
            assert_eq!(leases.len() as u64, maps);
            rig.ledger.check_forming(&rig.sources, true);
            (taken() - before) / maps
        });
        assert!(many <= few + 2, "{few} steps for each of {FEW} maps, and {many} for each of {MANY}");
    }

    #[test]
    fn a_retry_is_in_the_batch_from_the_moment_at_which_it_is_due() {
        let mut rig = rig(3);
        fail(&mut rig, 2);
        rig.call();
        assert!(!has_more(&mut rig, later(999)));
        assert!(has_more(&mut rig, later(1_000)), "two retries and a call");
        assert!(!has_more(&mut rig, later(999)), "a thread may have read the clock before another one");
        assert!(has_more(&mut rig, later(1_000)));
    }

    #[test]
    fn what_waits_no_longer_is_not_counted() {
        let mut rig = rig(3);
        fail(&mut rig, 2);
        assert!(!has_more(&mut rig, later(1_000)));
        let failed: Vec<JobId> = rig.ledger.job_ids();
        let map = rig.map(10, 1);
        rig.sources.more.insert(map);
        assert!(has_more(&mut rig, later(1_000)));
        for job in failed {
            assert_eq!(rig.ledger.take_pending(job).len(), 1);
            rig.ledger.ended(job, Unrun::Cancelled, 1);
        }
        assert!(!has_more(&mut rig, later(1_000)));
        rig.ledger.accept(map, 1);
        rig.sources.inputs.insert(map, 0);
        (0..2).for_each(|_| _ = rig.call());
        assert!(has_more(&mut rig, later(1_000)), "an input that was pulled, and two calls");
        rig.ledger.take_pending(map);
        rig.ledger.ended(map, Unrun::Cancelled, 1);
        assert!(!has_more(&mut rig, later(1_000)));
    }

    #[test]
    fn what_was_leased_of_a_map_is_not_counted() {
        let mut rig = rig(2);
        let map = rig.map(10, 0);
        rig.sources.more.insert(map);
        rig.ledger.accept(map, 3);
        assert!(has_more(&mut rig, START));
        let Next::Work(leases) = rig.takes_batch(FIRST, START) else { panic!("it is full") };
        assert_eq!(leases.iter().map(|lease| lease.span.len).sum::<u64>(), 2);
        assert!(!has_more(&mut rig, START), "one input is left, and more may come");
    }

    #[test]
    fn a_source_that_says_nothing_is_looked_at_at_each_arrival() {
        let mut rig = rig(3);
        rig.sources.silent = true;
        let map = rig.map(10, 1);
        rig.sources.more.insert(map);
        assert!(!rig.ledger.has_more(START, &rig.sources));
        rig.sources.inputs.insert(map, 3);
        assert!(rig.ledger.has_more(START, &rig.sources), "it has three by now");
    }
}
