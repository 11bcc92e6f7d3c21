//! The facts about inputs that a world of batches records by itself, and what a death costs by them.

use crate::base::ids::{ContainerId, Generation};
use crate::decide::ledger::{Lease, LeaseKind, Mode, Rules};
use crate::decide::time::Time;
use crate::simulator::batches::BatchWorld;
use crate::simulator::batches::driver::Phase;
use crate::simulator::course::Course;
use crate::simulator::fates::Act;
use crate::simulator::suspects::UNPROVEN;

/// The facts about an input that the world records.
#[derive(Debug, Default, Clone)]
pub(super) struct Record {
    pub(super) executions: u32,
    pub(super) failures: u32,
    /// Crashes while it executed alone.
    pub(super) own: u32,
    /// When it last crashed alone.
    crashed_at: Option<Time>,
    /// Whether any container may have taken its current lease, because none was entered for ten seconds.
    is_unproven: bool,
    /// Its crashes alone that may be free, because the container may have proved nothing.
    unproven: u32,
    /// Crashes while it executed together with others.
    pub(super) freed: u32,
    /// Kills by hand, other than in a half.
    pub(super) kills: u32,
    pub(super) kills_in_halves: u32,
    /// Threads that were left behind in its code while it executed alone.
    pub(super) left: u32,
    /// The half in which it waits.
    half: Option<Half>,
    /// The container that executes it. An execution that is fenced does not count.
    on: Option<(ContainerId, Generation)>,
    /// Whether its outcome was published.
    has_ended: bool,
    pub(super) miscounted: bool,
    pub(super) outcomes: u32,
}

/// Inputs that are replayed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Half {
    /// The crash of several inputs to which they belong.
    of: u64,
    /// The most inputs that it has.
    most: usize,
}

/// How a container was when it died.
pub(super) struct DeathScene {
    executing: Vec<u64>,
    alone: bool,
    is_half: bool,
    unbegun: Vec<u64>,
}

impl DeathScene {
    /// The input that executed alone.
    pub(super) fn alone(&self) -> Option<u64> {
        self.executing.first().copied().filter(|_| self.alone)
    }
}

impl BatchWorld<'_> {
    pub(super) fn record(&mut self, input: u64) -> &mut Record {
        self.records.entry(input).or_default()
    }

    pub(super) fn inputs_of(&self, lease: &Lease) -> impl Iterator<Item = u64> + use<> {
        let first = self.takers.input(lease.job, lease.span.first);
        first..first + lease.span.len
    }

    /// How an execution of an input ends, if its batch is not ended by another.
    pub(super) fn act(&mut self, input: u64) -> Act {
        let executions = self.record(input).executions;
        self.habits.fates.act(input, executions)
    }

    /// A container has put a batch together.
    pub(super) fn took_batch(&mut self, at: usize) {
        self.forms_since = None;
        let leases: Vec<Lease> = self.drivers[at].parts.iter().map(|part| part.lease).collect();
        self.log(|| format!("a batch of {leases:?}"));
        let inputs: Vec<u64> = leases.iter().flat_map(|lease| self.inputs_of(lease)).collect();
        self.tally.of_several_parts += u64::from(leases.len() > 1);
        let size = self.batching.size;
        let fits = leases.len() == 1 || inputs.len() as u64 <= size;
        assert!(fits, "{} inputs in {} parts for a batch of {size}", inputs.len(), leases.len());
        let (now, entered_at) = (self.now(), self.entered_at);
        for lease in &leases {
            let input = self.inputs_of(lease).next().expect("a lease has an input");
            let Record { executions, own, half, .. } = *self.record(input);
            assert_eq!(lease.attempt.get(), executions + 1, "the attempt of {input:x}");
            assert!(lease.span.len == 1 || lease.kind == LeaseKind::First, "a long lease: {lease:?}");
            let is_suspect = lease.kind == LeaseKind::Replay { suspect: true };
            let replays = matches!(lease.kind, LeaseKind::Replay { .. });
            let expected = replays && own > 0 && half.is_none();
            assert_eq!(
                is_suspect, expected,
                "{input:x} is replayed as {lease:?}: {:?}",
                self.records[&input]
            );
            let record = self.record(input);
            let may_be_any = record.crashed_at.is_some_and(|at| at.max(entered_at) + UNPROVEN <= now);
            record.is_unproven = is_suspect && may_be_any;
            assert!(!is_suspect || leases.len() == 1, "a suspect executes beside others: {leases:?}");
            self.tally.alone += u64::from(is_suspect);
        }
        let halves: Vec<Option<Half>> = inputs.iter().map(|input| self.record(*input).half.take()).collect();
        if let Some(half) = halves.iter().flatten().next().copied() {
            self.tally.halves += 1;
            assert!(
                halves.iter().all(|other| *other == Some(half)),
                "a half beside others: {inputs:x?}, {halves:?}"
            );
            assert!(inputs.len() <= half.most, "a half of {} of {half:?}", inputs.len());
            self.drivers[at].is_half = true;
        }
    }

    /// An input begins to execute.
    pub(super) fn begins(&mut self, input: u64, on: (ContainerId, Generation)) {
        let Rules { retries, crash_retries, .. } = self.rules.clone();
        let logarithm = self.batching.size.next_power_of_two().trailing_zeros();
        let record = self.record(input);
        record.executions += 1;
        let other = record.on.replace(on);
        assert_eq!(other, None, "{input:x} executes twice at a time: {record:?}");
        assert!(!record.has_ended, "{input:x} executes after its outcome: {record:?}");
        let Record { executions, failures, own, unproven, freed, kills, kills_in_halves, .. } = *record;
        assert_eq!(executions, 1 + failures + own + freed + kills, "{input:x}: {record:?}");
        assert!(failures <= retries.retries_max(), "{input:x} fails {failures} times");
        // A crash is not charged in a container that has proved nothing. A retry may be executed there, and
        // after ten seconds a replay.
        assert!(own <= crash_retries + 2 * failures + unproven, "{input:x} crashes alone {own} times");
        let freed_most = logarithm * (1 + failures) + kills_in_halves;
        assert!(freed <= freed_most, "{input:x} is freed {freed} times: {record:?}");
        assert!(crash_retries > 0 || executions == 1 + failures, "{input:x} has begun {executions} times");
    }

    /// The outcome of an input was published.
    pub(super) fn ends_with_outcome(&mut self, input: u64) {
        let record = self.record(input);
        record.on = None;
        assert!(!record.has_ended, "{input:x} has two outcomes");
        record.has_ended = true;
    }

    pub(super) fn has_failed(&mut self, input: u64, miscounted: bool) {
        let record = self.record(input);
        record.on = None;
        record.failures += 1;
        record.miscounted |= miscounted;
    }

    /// The inputs of a container that dies now.
    pub(super) fn scene(&self, at: usize) -> DeathScene {
        let driver = &self.drivers[at];
        DeathScene {
            executing: driver.executing(),
            alone: driver.executes_one_alone(),
            is_half: driver.is_half,
            unbegun: driver.unbegun().iter().flat_map(|(_, lease)| self.inputs_of(lease)).collect(),
        }
    }

    /// A container has crashed. An input that executed alone is to blame, and of several none is.
    pub(super) fn is_to_pay(&mut self, scene: DeathScene) {
        let DeathScene { executing, alone, unbegun, .. } = scene;
        self.begins_no_more(&executing, &unbegun);
        if alone {
            let now = self.now();
            let record = self.record(executing[0]);
            record.own += 1;
            record.unproven += u32::from(record.is_unproven);
            record.crashed_at = Some(now);
            return;
        }
        if executing.is_empty() {
            return;
        }
        self.tally.crashes_of_several += 1;
        self.are_freed(&executing, executing.len().div_ceil(2));
    }

    fn are_freed(&mut self, inputs: &[u64], most: usize) {
        self.crashes_of_several += 1;
        let half = Some(Half { of: self.crashes_of_several, most });
        for input in inputs {
            let record = self.record(*input);
            record.freed += 1;
            record.half = half;
        }
    }

    /// A container was killed by hand, which costs nothing.
    pub(super) fn was_killed(&mut self, scene: DeathScene) {
        let DeathScene { executing, is_half, unbegun, .. } = scene;
        self.begins_no_more(&executing, &unbegun);
        if is_half {
            self.tally.kills_of_halves += 1;
            self.are_freed(&executing, executing.len());
            executing.iter().for_each(|input| self.record(*input).kills_in_halves += 1);
            return;
        }
        for input in executing {
            let alone = self.alone_again(input);
            let record = self.record(input);
            record.kills += 1;
            record.half = alone;
        }
    }

    /// The half of one as which an input is replayed, if it was freed before and has not crashed alone.
    fn alone_again(&mut self, input: u64) -> Option<Half> {
        let record = self.record(input);
        let is_freed = record.freed > 0 && record.own == 0;
        is_freed.then(|| {
            self.crashes_of_several += 1;
            Half { of: self.crashes_of_several, most: 1 }
        })
    }

    /// The executions of a container are fenced, and what it has not begun waits again.
    fn begins_no_more(&mut self, executing: &[u64], unbegun: &[u64]) {
        executing.iter().for_each(|input| self.record(*input).on = None);
        for input in unbegun {
            let was_replayed = self.record(*input).failures == 0; // a retry waits as a retry again
            if was_replayed {
                self.record(*input).half = self.alone_again(*input);
            }
        }
    }

    /// Inputs that were leased and have not begun wait again, if the function is paused or stops.
    pub(super) fn nothing_more_begins(&mut self) {
        let (mode, paused) = self.engine.under_lock(|state| (state.ledger.mode(), state.ledger.is_paused()));
        if paused || mode > Mode::Draining {
            for at in 0..self.drivers.len() {
                let unbegun = self.scene(at).unbegun;
                self.begins_no_more(&[], &unbegun);
                self.drivers[at].begins_nothing_more();
            }
        }
    }

    /// Executions whose jobs have ended do not count as executions any more.
    pub(super) fn forget_orphans(&mut self) {
        let mut fenced = Vec::new();
        for driver in self.drivers.iter().filter(|driver| driver.phase != Phase::Over) {
            for part in driver.parts.iter().filter(|part| part.run.is_fenced()) {
                fenced
                    .extend(self.inputs_of(&part.lease).map(|input| (input, (driver.id, driver.generation))));
            }
        }
        for (input, on) in fenced {
            let record = self.record(input);
            record.on = record.on.filter(|at| *at != on);
        }
    }
}
