//! A ledger under test: containers do what the test says, and sources have what it gives them.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, Generation, InputId, JobId, LaneId};
use crate::decide::admission::{CALLS_MAX_DEFAULT, Place};
use crate::decide::job::{OnFailure, Span};
use crate::decide::ledger::{
    AfterCrash, Assignment, ContainerStage, Lease, LeaseKind, Leaving, Ledger, Mode, Position, Pressure,
    Rules, Scene, Sources, Verdict,
};
use crate::decide::life::Next;
use crate::decide::limits::LimitRules;
use crate::decide::restart::{RateLimited, RestartPolicy};
use crate::decide::retries::Retries;
use crate::decide::time::Time;
use crate::decide::window::Window;
use crate::values::crash::{Crash, Death, Panic};

pub(super) const FIRST: ContainerId = ContainerId(0);
pub(super) const SECOND: ContainerId = ContainerId(1);
pub(super) const START: Time = Time(Duration::ZERO);
pub(super) const MS: Duration = Duration::from_millis(1);

/// A container leaves its code as it dies, and there is room for others that do not.
pub(super) const UNCROWDED: Leaving = Leaving { abandoned: false, pressure: Pressure::None };

/// A thread is left behind, under this pressure.
pub(super) const fn abandoned(pressure: Pressure) -> Leaving {
    Leaving { abandoned: true, pressure }
}

/// One container that never gives up, and has a call.
pub(super) fn one(retries: Retries, crash_retries: u32) -> (Rig, InputId) {
    let mut rig = Rig::with(1, RateLimited::never(), retries, crash_retries);
    let job = rig.call();
    rig.enters(FIRST, START);
    (rig, InputId { job, index: 0 })
}

/// Containers that are live. A failed input is due again at once.
pub(super) fn live(containers: usize) -> Rig {
    let retries = Retries::new(1).initial_delay(Duration::ZERO);
    let mut rig = Rig::with(containers, RateLimited::never(), retries, 3);
    for id in rig.ledger.containers() {
        rig.enters(id, START);
    }
    rig
}

/// The leases that the first container takes from `now` on, one after the other, each for a millisecond.
pub(super) fn taken(rig: &mut Rig, mut now: Time) -> Vec<(JobId, u64, LeaseKind)> {
    let mut taken = Vec::new();
    while let Next::Work(lease) = rig.claims(FIRST, now) {
        assert_eq!(lease.span.len, 1, "dear inputs travel singly");
        taken.push((lease.job, lease.span.first, lease.kind));
        now = now + Duration::from_millis(1);
        rig.completes(FIRST, now);
    }
    taken
}

/// A container that backs off until 11 ms.
pub(super) fn backing_off() -> Rig {
    let mut rig = Rig::new(1, RateLimited::new());
    rig.fails_to_start(FIRST, at(0));
    rig.fails_to_start(FIRST, at(1));
    assert_eq!(rig.ledger.stage(FIRST), (Generation(2), ContainerStage::BackingOff { until: at(11) }));
    rig
}

/// Two containers, and a map of this many inputs. The first container has leased inputs 3 to 6 at the start.
/// Those before have cost 100 ns each, and inputs that are known to be cheap travel together. The second
/// container has no lease.
pub(super) fn leased_ahead(inputs: u64, window: u64) -> (Rig, JobId) {
    let mut rig = Rig::new(2, RateLimited::new());
    let map = rig.map(inputs, window);
    rig.enters(FIRST, START);
    rig.enters(SECOND, START);
    for _ in 0..2 {
        rig.takes(FIRST, START);
        rig.completes(FIRST, Time(Duration::from_nanos(100)));
    }
    assert_eq!(rig.takes(FIRST, START).span, Span { first: 3, len: 4 });
    (rig, map)
}

/// A ledger of two containers, without sources.
pub(super) fn ledger(restart: RestartPolicy) -> Ledger {
    let mut rig = Rig::new(2, restart);
    std::mem::replace(&mut rig.ledger, Ledger::new(rules(2)))
}

/// A container of such a ledger is begun, and entered.
pub(super) fn enters(ledger: &mut Ledger, id: ContainerId) -> Generation {
    let generation = ledger.begin(id, START).expect("the container may begin");
    assert!(ledger.entered(id, generation, START));
    generation
}

/// The numbers of inputs that ended as ok, failed, poisoned, cancelled and given up.
pub(super) fn endings(rig: &Rig, job: JobId) -> [u64; 5] {
    let counts = rig.ledger.job(job).expect("it is open").counts();
    [counts.ok, counts.failed, counts.poisoned, counts.cancelled, counts.given_up]
}

/// The rules of a function with this number of containers. Each executes one input at a time.
pub(super) fn rules(containers: usize) -> Rules {
    let restart = RateLimited::never().into();
    Rules {
        containers,
        lanes: 1,
        has_state: true,
        batch: None,
        retries: Retries::new(0),
        crash_retries: 3,
        restart,
        calls_max: CALLS_MAX_DEFAULT,
        limits: LimitRules::default(),
    }
}

pub(super) fn at(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

pub(super) fn crash(container: ContainerId, generation: Generation) -> Arc<Crash> {
    crash_by(container, generation, panic())
}

pub(super) fn panic() -> Death {
    Death::Panicked(Panic { message: "a crash".to_owned(), location: None })
}

fn crash_by(container: ContainerId, generation: Generation, death: Death) -> Arc<Crash> {
    Arc::new(Crash { container, generation, executing: None, map: None, call: None, peak_bytes: None, death })
}

/// How many inputs each source still has, and how many its consumer has taken.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) inputs: BTreeMap<JobId, u64>,
    pub(super) yielded: BTreeMap<JobId, u64>,
    /// The maps whose sources may bring more than that.
    pub(super) more: BTreeSet<JobId>,
    /// The sources do not say when they have inputs again.
    pub(super) silent: bool,
    /// How often the ledger has asked to hear of more room.
    pub(super) room_wanted: Cell<u64>,
}

impl Sources for Given {
    fn available(&self, job: JobId, mode: Mode) -> u64 {
        if mode == Mode::Running { self.inputs.get(&job).copied().unwrap_or_default() } else { 0 }
    }

    fn is_over(&self, job: JobId) -> bool {
        !self.more.contains(&job)
    }

    fn yielded(&self, job: JobId) -> u64 {
        self.yielded.get(&job).copied().unwrap_or_default()
    }

    fn await_inputs(&self, _: JobId, _: Mode) -> Option<u64> {
        (!self.silent).then_some(0)
    }

    fn request_room(&self, _: JobId, _: u64) {
        self.room_wanted.set(self.room_wanted.get() + 1);
    }
}

/// A ledger with its sources.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) ledger: Ledger,
    pub(super) sources: Given,
}

impl Drop for Rig {
    /// At the end of each test, the number of containers that serve is the same as a look at each gives.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let serving = self.ledger.containers.iter().filter(|container| container.serves()).count();
            assert_eq!(self.ledger.serving(), serving, "containers that serve");
        }
    }
}

impl Rig {
    pub(super) fn new(containers: usize, restart: impl Into<RestartPolicy>) -> Self {
        Self::with(containers, restart, Retries::new(0), 3)
    }

    pub(super) fn with(
        containers: usize,
        restart: impl Into<RestartPolicy>,
        retries: Retries,
        crash_retries: u32,
    ) -> Self {
        Self::of(Rules { retries, crash_retries, restart: restart.into(), ..rules(containers) })
    }

    pub(super) fn of(rules: Rules) -> Self {
        Self { ledger: Ledger::new(rules), sources: Given::default() }
    }

    /// A call, whose input is there.
    pub(super) fn call(&mut self) -> JobId {
        self.ledger.open_call(Place::Free).expect("there is room")
    }

    /// Opens a map with this window, over a source with this number of inputs.
    pub(super) fn map(&mut self, window: u64, inputs: u64) -> JobId {
        let job = self.ledger.open(OnFailure::GoOn, Window::Fixed(window), None);
        self.sources.inputs.insert(job, inputs);
        job
    }

    /// The next generation of a container is begun, and entered.
    pub(super) fn enters(&mut self, id: ContainerId, now: Time) -> Generation {
        let generation = self.ledger.begin(id, now).expect("it may begin");
        assert!(self.ledger.entered(id, generation, now));
        generation
    }

    /// A container claims, and what its claim says is pulled.
    pub(super) fn claims(&mut self, id: impl Into<LaneId>, now: Time) -> Next<Lease> {
        let id = id.into();
        let (generation, _) = self.ledger.stage(id.container);
        match self.ledger.claim(id, generation, now, &self.sources) {
            Next::Work(Assignment::Lease(lease)) => Next::Work(lease),
            Next::Work(Assignment::Pull { job, most, leased }) => {
                let left = self.sources.inputs.entry(job).or_default();
                let pulled = most.min(*left);
                *left -= pulled;
                Next::Work(self.ledger.pulled(id, job, (pulled, leased), now).expect("the source has inputs"))
            }
            Next::Wait { until } => Next::Wait { until },
            Next::Hold { until } => Next::Hold { until },
            Next::Over(served) => Next::Over(served),
        }
    }

    /// A container takes a batch. Returns its inputs in their order, or the reason why there is none.
    pub(super) fn takes_batch(&mut self, id: ContainerId, now: Time) -> Next<Vec<Lease>> {
        let mut leases = match self.claims(id, now) {
            Next::Work(lease) => vec![lease],
            Next::Wait { until } => return Next::Wait { until },
            Next::Hold { until } => return Next::Hold { until },
            Next::Over(served) => return Next::Over(served),
        };
        loop {
            let lane = LaneId::new(id, leases.len() as u32);
            let lease = match self.ledger.join(lane, now, &self.sources) {
                None => break,
                Some(Assignment::Lease(lease)) => lease,
                Some(Assignment::Pull { job, most, leased }) => {
                    let left = self.sources.inputs.entry(job).or_default();
                    let pulled = most.min(*left);
                    *left -= pulled;
                    self.ledger.pulled(lane, job, (pulled, leased), now).expect("the source has inputs")
                }
            };
            leases.push(lease);
        }
        self.ledger.note_left(now, &self.sources);
        Next::Work(leases)
    }

    /// A container completes all of its leases with `Ok`.
    pub(super) fn completes_batch(&mut self, id: ContainerId, now: Time) {
        let lanes: Vec<LaneId> = self.ledger.leased_by(id).collect();
        lanes.into_iter().for_each(|lane| self.completes(lane, now));
    }

    /// The code of a batch dies. Only an input that executes alone is known to be guilty.
    pub(super) fn batch_dies(&mut self, id: ContainerId, death: Death, now: Time) -> Verdict {
        let positions = self.executing_in(id);
        let executing = |(lane, position): &(LaneId, Position)| {
            let inputs = self.ledger.executing_at(*lane, Some(*position));
            (*lane, inputs.end - inputs.start)
        };
        let inputs: Vec<(LaneId, u64)> = positions.iter().map(executing).collect();
        let culprit = if let [(lane, 1)] = inputs[..] { Some(lane) } else { None };
        self.all_die(id, culprit, death, now)
    }

    /// A container takes what it is given, which must be something.
    pub(super) fn takes(&mut self, id: impl Into<LaneId>, now: Time) -> Lease {
        let id = id.into();
        match self.claims(id, now) {
            Next::Work(lease) => lease,
            other => panic!("lane {id} is given {other:?}"),
        }
    }

    /// A container completes all of its lease with `Ok`.
    pub(super) fn completes(&mut self, id: impl Into<LaneId>, now: Time) {
        let id = id.into();
        let lease = self.ledger.lease(id).expect("it has a lease");
        self.ledger.advanced(id, lease.span.end(), now);
        self.ledger.released(id, now);
    }

    /// A container crashes: in the middle of the next input of its lease, if it has one.
    pub(super) fn crashes(&mut self, id: ContainerId, now: Time) -> Verdict {
        self.crashes_leaving(id, UNCROWDED, now)
    }

    pub(super) fn crashes_leaving(&mut self, id: ContainerId, leaving: Leaving, now: Time) -> Verdict {
        let (generation, _) = self.ledger.stage(id);
        let position = self.executing(id);
        let crash = crash(id, generation);
        let verdict = self.ledger.crashed(id, generation, &Scene::of(id, position), &crash, leaving, now);
        verdict.expect("its generation lives")
    }

    /// A container is killed: in the middle of the next input of its lease, if it has one.
    pub(super) fn kills(&mut self, id: ContainerId, leaving: Leaving, now: Time) -> Vec<AfterCrash> {
        let (generation, _) = self.ledger.stage(id);
        let position = self.executing(id);
        self.ledger.killed(id, &Scene::of(id, position), &crash(id, generation), leaving, now)
    }

    /// A container is begun, and dies before it has entered.
    pub(super) fn fails_to_start(&mut self, id: ContainerId, now: Time) -> Verdict {
        self.ledger.begin(id, now).expect("it may begin");
        self.crashes(id, now)
    }

    /// A container with several lanes dies in the middle of the next input of each of its leases.
    pub(super) fn all_die(
        &mut self,
        id: ContainerId,
        culprit: Option<LaneId>,
        death: Death,
        now: Time,
    ) -> Verdict {
        let (generation, _) = self.ledger.stage(id);
        let scene = Scene { culprit, positions: self.executing_in(id) };
        let crash = crash_by(id, generation, death);
        self.ledger.crashed(id, generation, &scene, &crash, UNCROWDED, now).expect("its generation lives")
    }

    /// Code in a lane crashes in the middle of the next input of its lease, if it has one. Its container
    /// has no state, and lives on.
    pub(super) fn lane_dies(&mut self, lane: LaneId, death: Death, now: Time) -> Verdict {
        let (generation, _) = self.ledger.stage(lane.container);
        let positions = self.executing_in(lane.container).into_iter().filter(|(at, _)| *at == lane).collect();
        let scene = Scene { culprit: Some(lane), positions };
        let crash = crash_by(lane.container, generation, death);
        self.ledger.crashed_in_lane(lane, generation, &scene, &crash, now).expect("its generation lives")
    }

    /// A container is killed by hand in the middle of the next input of each of its leases. Its thread is
    /// left behind in the code of a lane, if one is given.
    pub(super) fn all_are_killed(
        &mut self,
        id: ContainerId,
        in_code: Option<LaneId>,
        now: Time,
    ) -> Vec<AfterCrash> {
        let (generation, _) = self.ledger.stage(id);
        let scene = Scene { culprit: in_code, positions: self.executing_in(id) };
        let leaving = Leaving { abandoned: in_code.is_some(), pressure: Pressure::None };
        self.ledger.killed(id, &scene, &crash_by(id, generation, Death::Killed), leaving, now)
    }

    /// A container is killed by hand at these positions.
    pub(super) fn is_killed(
        &mut self,
        id: ContainerId,
        positions: Vec<(LaneId, Position)>,
        now: Time,
    ) -> Vec<AfterCrash> {
        let (generation, _) = self.ledger.stage(id);
        let scene = Scene { culprit: None, positions };
        self.ledger.killed(id, &scene, &crash_by(id, generation, Death::Killed), UNCROWDED, now)
    }

    /// The attempt at which an input that waits, or executes, is or would be.
    pub(super) fn attempt(&self, input: InputId) -> Attempt {
        self.ledger.job(input.job).expect("it is open").attempt(input.index)
    }

    fn executing(&self, id: impl Into<LaneId>) -> Option<Position> {
        let lane = self.ledger.lane(id.into()).expect("it was used before");
        lane.lease.map(|_| Position { at: lane.committed, begun: true })
    }

    fn executing_in(&self, id: ContainerId) -> Vec<(LaneId, Position)> {
        self.ledger.leased_by(id).filter_map(|lane| Some((lane, self.executing(lane)?))).collect()
    }
}
