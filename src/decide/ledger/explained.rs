//! Random histories of the ledger, passed to `explain` as records. Both must decide the same.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::decide::admission::Place;
use crate::decide::ledger::fixture::rules;
use crate::decide::ledger::{
    Assignment, ContainerStage, Lease, Leaving, Ledger, Mode, Position, Pressure, Retryable, Rules, Scene,
    Sources,
};
use crate::decide::life::Next;
use crate::decide::restart::{CrashLoopBackoff, CrashRecord, RateLimited, Restart, RestartPolicy};
use crate::decide::time::Time;
use crate::values::crash::{Crash, Death, Panic};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// An event in the life of one container.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Begin,
    Enter,
    FailToEnter,
    /// The container asks for work. If `of_new`, a new call is made first.
    Claim {
        of_new: bool,
    },
    Complete,
    ReturnError,
    /// The container dies. If it has an input that has `begun`, it dies in the middle of that input.
    Crash {
        begun: bool,
    },
    Kill,
    Recycle,
    Exit,
}

/// The sources of calls, which have no further inputs.
struct Nothing;

impl Sources for Nothing {
    fn is_over(&self, _: JobId) -> bool {
        true
    }

    fn available(&self, _: JobId, _: Mode) -> u64 {
        0
    }

    fn yielded(&self, _: JobId) -> u64 {
        0
    }

    fn await_inputs(&self, _: JobId, _: Mode) -> Option<u64> {
        Some(0)
    }

    fn request_room(&self, _: JobId, _: u64) {}
}

/// The decision on a crash: the time that the restart waits, the loop crashes, the crashes, the
/// rounds, the completions.
type Decided = (Option<Duration>, u32, u64, u64, u64);

/// A ledger whose history is recorded.
struct Recorded {
    ledger: Ledger,
    now: Time,
    /// The record so far of each container that exists.
    lives: Vec<Option<CrashRecord>>,
    /// Whether each container is exiting to begin a new generation, or is starting that generation.
    recycling: Vec<bool>,
    history: Vec<CrashRecord>,
    decided: Vec<Decided>,
}

impl Recorded {
    fn new(containers: usize, restart: RestartPolicy) -> Self {
        let rules = Rules { restart, ..rules(containers) };
        Self {
            ledger: Ledger::new(rules),
            now: Time::default(),
            lives: vec![None; containers],
            recycling: vec![false; containers],
            history: Vec::new(),
            decided: Vec::new(),
        }
    }

    /// Applies an event to a container. Returns whether the function goes on.
    fn does(&mut self, id: ContainerId, deed: Deed) -> bool {
        let (generation, stage) = self.ledger.stage(id);
        let lease = self.ledger.lease(id);
        let now = self.now;
        match (deed, stage) {
            (Deed::Begin, ContainerStage::Absent | ContainerStage::BackingOff { .. }) => {
                let begun = self.ledger.begin(id, now);
                let life = begun.map(|_| CrashRecord::at(now.0).started(now.0).failed_start());
                self.lives[id.index()] = life;
            }
            (Deed::Enter, ContainerStage::Starting) => {
                assert!(self.ledger.entered(id, generation, now));
                self.recycling[id.index()] = false;
                self.tell(id, |life| life.entered(now.0));
            }
            (Deed::FailToEnter, ContainerStage::Starting) => return self.dies(id, generation, None),
            (Deed::Claim { of_new }, ContainerStage::Live) if lease.is_none() => {
                if of_new {
                    self.ledger.open_call(Place::Free).expect("there is room");
                }
                let claim = self.ledger.claim(id, generation, now, &Nothing);
                assert!(matches!(claim, Next::Work(Assignment::Lease(_)) | Next::Wait { .. }));
            }
            (Deed::Complete, ContainerStage::Live) => {
                let Some(lease) = lease else { return true };
                self.ledger.advanced(id, lease.span.end(), now);
                self.ledger.released(id, now);
                self.tell(id, |life| life.completed(now.0, lease.span.len));
            }
            (Deed::ReturnError, ContainerStage::Live) if lease.is_some() => {
                self.ledger.failed(id, Retryable::No, now);
                self.ledger.released(id, now);
                self.tell(id, |life| life.completed(now.0, 1));
            }
            (Deed::Crash { begun }, ContainerStage::Live) => {
                return self.dies(id, generation, lease.map(|lease| (lease, begun)));
            }
            (Deed::Kill, ContainerStage::Starting | ContainerStage::Live) => {
                let position = lease.map(|lease| Position { at: lease.span.first, begun: true });
                self.ledger.killed(id, &Scene::of(id, position), &crash(id, generation), UNCROWDED, now);
                self.ends_well(id);
                self.recycling[id.index()] = false;
            }
            (Deed::Recycle, ContainerStage::Live) if lease.is_none() => {
                assert!(self.ledger.recycle(id, generation, now));
                self.ends_well(id);
                self.recycling[id.index()] = true;
            }
            (Deed::Exit, ContainerStage::Exiting) => self.ledger.left(id, generation),
            _ => {}
        }
        true
    }

    /// Adds to the record of a container.
    fn tell(&mut self, id: ContainerId, more: impl FnOnce(CrashRecord) -> CrashRecord) {
        let life = self.lives[id.index()].take().expect("the container has begun");
        self.lives[id.index()] = Some(more(life));
    }

    fn ends_well(&mut self, id: ContainerId) {
        let life = self.lives[id.index()].take().expect("the container has begun");
        self.history.push(life.ending_well(self.now.0));
    }

    fn dies(&mut self, id: ContainerId, generation: Generation, leased: Option<(Lease, bool)>) -> bool {
        let now = self.now;
        let position = leased.map(|(lease, begun)| Position { at: lease.span.first, begun });
        let verdict = self.ledger.crashed(
            id,
            generation,
            &Scene::of(id, position),
            &crash(id, generation),
            UNCROWDED,
            now,
        );
        let restart = verdict.expect("the generation is the current one").restart;
        self.recycling[id.index()] = false;
        let mut life = self.lives[id.index()].take().expect("the container has begun").ending_at(now.0);
        if let Some((lease, true)) = leased {
            life = life.input(lease.job.0);
        }
        if self.recycling.contains(&true) {
            life = life.beside_live();
        }
        self.history.push(life);
        let tally = self.ledger.restarts.tally(now);
        let loop_crashes = self.ledger.crash_loop(now).map_or(0, |(crashes, _)| crashes);
        let restart_after = match restart {
            Restart::Now => Some(Duration::ZERO),
            Restart::At(due) => Some(due.since(now)),
            Restart::GiveUp => None,
        };
        self.decided.push((restart_after, loop_crashes, tally.crashes, tally.rounds, tally.completed));
        restart != Restart::GiveUp
    }
}

const UNCROWDED: Leaving = Leaving { abandoned: false, pressure: Pressure::None };

fn crash(container: ContainerId, generation: Generation) -> Arc<Crash> {
    let death = Death::Panicked(Panic { message: "a crash".to_owned(), location: None });
    Arc::new(Crash { container, generation, executing: None, map: None, call: None, peak_bytes: None, death })
}

fn policies() -> impl Strategy<Value = RestartPolicy> {
    let limited = (0u32..5, prop::sample::select(vec![0.0, 0.3, 0.5, 0.9]), 1u32..7);
    let limited = limited.prop_map(|(crashes, rate, seconds)| {
        RateLimited::new().max_crashes(crashes).max_failure_rate(rate).window(seconds * SECOND).into()
    });
    let backoff = (1u32..300, 1u32..5).prop_map(|(initial, seconds)| {
        let policy = CrashLoopBackoff::new().initial(initial * MS).max(seconds * SECOND);
        policy.reset_after(2 * initial * MS).into()
    });
    prop_oneof![limited, backoff, Just(RateLimited::never().into())]
}

fn deeds() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => Just(Deed::Begin),
        3 => Just(Deed::Enter),
        2 => Just(Deed::FailToEnter),
        4 => any::<bool>().prop_map(|of_new| Deed::Claim { of_new }),
        2 => Just(Deed::Complete),
        1 => Just(Deed::ReturnError),
        3 => any::<bool>().prop_map(|begun| Deed::Crash { begun }),
        1 => Just(Deed::Kill),
        1 => Just(Deed::Recycle),
        1 => Just(Deed::Exit),
    ]
}

/// The time between two events. It is never zero, because records have no order within a moment.
fn pauses() -> impl Strategy<Value = Duration> {
    let edges = [Duration::from_nanos(1), MS, 10 * MS, 100 * MS, SECOND, 2 * SECOND, 6 * SECOND];
    prop_oneof![
        prop::sample::select(edges.to_vec()),
        (1u64..30_000_000).prop_map(Duration::from_nanos),
        Just(Duration::from_nanos(999_999_999)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn explain_decides_as_the_ledger_did(
        containers in 1usize..5,
        policy in policies(),
        deeds in proptest::collection::vec((0u32..4, deeds(), pauses()), 1..120),
    ) {
        prop_assume!(policy.validate().is_ok());
        let mut recorded = Recorded::new(containers, policy.clone());
        for (container, deed, pause) in deeds {
            recorded.now = recorded.now + pause;
            if !recorded.does(ContainerId(container % containers as u32), deed) {
                break;
            }
        }
        for id in 0..containers as u32 {
            if recorded.lives[id as usize].is_some() {
                recorded.ends_well(ContainerId(id));
            }
        }
        let decisions = policy.explain(containers, recorded.history.clone()).expect("the policy is valid");
        let explained: Vec<Decided> = decisions
            .iter()
            .map(|said| (said.restart_after, said.loop_crashes, said.crashes, said.rounds, said.completed))
            .collect();
        prop_assert_eq!(explained, recorded.decided, "{:#?}", recorded.history);
    }
}
