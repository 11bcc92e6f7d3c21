//! The questions that the supervisor asks about a function: whether it has ended, whether threads are left,
//! and when to create the next container.

use std::time::Duration;

use crate::base::ids::{ContainerId, Generation};
use crate::decide::life::{Next, Served};
use crate::decide::restart::{CrashLoopBackoff, RateLimited, Restart, RestartPolicy};
use crate::engine::actor::Ending;
use crate::engine::settings::MemoryRules;
use crate::simulator::host::STARTED;
use crate::simulator::rig::{Rig, UNCOUNTED, panic};
use crate::values::health::Health;
use crate::values::report::Fate;
use crate::values::snapshot::ModeName;
use crate::values::snapshot::rows::ContainerStateName;

/// A function that leaves at most one thread behind.
fn leaving_one(restart: RestartPolicy, containers: usize) -> Rig {
    Rig::of(restart, MemoryRules { abandoned_max: 1, ..UNCOUNTED }, containers)
}

impl Rig {
    /// The code of a container panics between two inputs.
    fn crashes(&self, id: ContainerId, generation: Generation) -> Restart {
        self.engine.crashed(id, generation, panic()).expect("its generation lives")
    }

    /// A container is killed by hand while it executes a call, so that its thread is left behind.
    fn leaves_one_behind(&self, at: usize) {
        let call = self.call();
        let run = self.ask(at).expect("there is a call");
        assert!(run.begin::<u64, u64, u64>().is_some(), "nothing fences it");
        assert!(self.engine.kill(self.containers[at].0).is_some());
        drop(call);
        assert_eq!(self.engine.status().containers.abandoned, 1);
    }
}

#[test]
fn a_function_has_ended_once_its_containers_and_its_threads_have() {
    let rig = Rig::new(1);
    let (engine, (id, first)) = (&rig.engine, rig.containers[0]);
    assert!(!engine.has_ended() && engine.has_threads(), "a container lives");
    assert_eq!(rig.crashes(id, first), Restart::Now);
    engine.ended(id, first, None);
    assert!(!engine.has_threads());
    let [(_, second)] = engine.create()[..] else { panic!("the container is created anew") };
    assert!(!engine.has_ended(), "a container is about to live, although no thread runs");
    assert!(engine.launch(id, second) && engine.has_threads());
    assert!(engine.entered(id, second));
    engine.drain();
    assert!(matches!(engine.try_next(id, second, |_| ()).0, Next::Over(Served::Leaves)));
    engine.left(id, second);
    assert!(!engine.has_ended(), "the thread of the container runs");
    engine.ended(id, second, None);
    assert!(engine.has_ended() && !engine.has_threads());
}

#[test]
fn a_function_with_inputs_has_not_ended_although_no_thread_runs() {
    let rig = Rig::new(1);
    let (id, first) = rig.containers[0];
    let call = rig.call();
    assert_eq!(rig.crashes(id, first), Restart::Now);
    rig.engine.ended(id, first, None);
    assert!(!rig.engine.has_threads() && !rig.engine.has_ended(), "the call has no outcome");
    drop(call);
}

#[test]
fn a_feeder_counts_until_its_source_is_dropped() {
    let rig = Rig::new(1);
    assert!(!rig.engine.is_fed());
    rig.engine.feeder_begins();
    assert!(rig.engine.is_fed());
    rig.engine.feeder_returns();
    assert!(!rig.engine.is_fed());
}

#[test]
fn a_container_that_backs_off_is_waited_for_only_while_it_may_be_created() {
    let backs_off = || {
        let rig = leaving_one(CrashLoopBackoff::new().into(), 2);
        let (id, mut generation) = rig.containers[0];
        while rig.crashes(id, generation) == Restart::Now {
            generation = rig.engine.begin(id, generation).expect("it restarts in place");
            assert!(rig.engine.entered(id, generation));
        }
        rig.engine.ended(id, generation, None);
        assert!(rig.engine.next_creation().is_some_and(|delay| delay > Duration::ZERO));
        rig
    };
    let rig = backs_off();
    rig.leaves_one_behind(1);
    assert_eq!(rig.engine.next_creation(), None, "the return of the thread makes room for another");
    let rig = backs_off();
    rig.engine.stop();
    assert_eq!(rig.engine.next_creation(), None, "the function stops");
}

#[test]
fn a_report_says_which_containers_and_threads_still_run() {
    let rig = Rig::of(RateLimited::never().into(), UNCOUNTED, 3);
    rig.leaves_one_behind(0);
    let (id, generation) = rig.containers[1];
    assert!(rig.engine.kill(id).is_some());
    let abandoned: Vec<_> =
        rig.engine.snapshot().abandoned.into_iter().map(|thread| thread.container).collect();
    assert_eq!(abandoned, [rig.containers[0].0], "the other thread is in no code of the user's");
    rig.engine.ended(id, generation, None);
    (0..3).for_each(|_| rig.engine.feeder_begins());
    let report = rig.engine.report();
    let fates: Vec<&Fate> = report.containers.iter().map(|(_, fate)| fate).collect();
    assert!(matches!(fates[..], [Fate::StillRunning, Fate::Stopped, Fate::StillRunning]), "{fates:?}");
    assert_eq!(report.threads_running, 2 + 3, "two of containers, and three feeders");
}

#[test]
fn the_containers_are_counted_by_their_stages() {
    let rig = Rig::under(CrashLoopBackoff::new().into(), 10);
    let (engine, ids) = (&rig.engine, &rig.containers);
    assert!(engine.kill(ids[1].0).is_some() && engine.kill(ids[2].0).is_some());
    assert_eq!(engine.create().len(), 2);
    let (id, mut generation) = ids[0];
    while rig.crashes(id, generation) == Restart::Now {
        generation = engine.begin(id, generation).expect("it restarts in place");
        assert!(engine.entered(id, generation));
    }
    assert!([3, 4, 5].iter().all(|at: &usize| engine.kill(ids[*at].0).is_some()));
    for at in [6, 7] {
        let (id, generation) = ids[at];
        assert!(engine.under_lock(|state| state.ledger.recycle(id, generation, Default::default())));
    }
    let containers = engine.status().containers;
    let counted = (containers.stopped, containers.starting, containers.live, containers.exiting);
    assert_eq!((counted, containers.backing_off), ((3, 2, 2, 2), 1), "{containers:?}");
    let snapshot = engine.snapshot();
    assert_eq!(snapshot.containers, containers);
    let states: Vec<ContainerStateName> = snapshot.rows.iter().map(|row| row.state).collect();
    use ContainerStateName::{BackingOff, Exiting, Live, Starting, Stopped};
    let all = [BackingOff, Starting, Starting, Stopped, Stopped, Stopped, Exiting, Exiting, Live, Live];
    assert_eq!(states, all);
    assert!(snapshot.rows[0].until > Some(STARTED) && snapshot.rows[1].until.is_none());
}

#[test]
fn each_ending_begins_as_it_is_asked_for() {
    for (ending, mode) in [
        (Ending::Drain, ModeName::Draining),
        (Ending::Stop, ModeName::Stopping),
        (Ending::Abort, ModeName::Aborted),
    ] {
        let rig = Rig::new(1);
        rig.engine.begin_end(ending);
        assert_eq!(rig.engine.snapshot().mode, mode);
    }
}

#[test]
fn a_reset_is_refused_only_if_no_container_is_left_and_none_can_be_created() {
    for (containers, resets) in [(2, false), (3, true)] {
        let rig = leaving_one(RateLimited::new().max_crashes(0).max_failure_rate(0.0).into(), containers);
        rig.leaves_one_behind(0);
        let (id, generation) = rig.containers[1];
        assert_eq!(rig.crashes(id, generation), Restart::GiveUp);
        rig.engine.ended(id, generation, None);
        assert_eq!(rig.engine.reset(), resets, "with {containers} containers");
    }
}

#[test]
fn a_function_is_starting_while_no_container_lives_unless_it_ends() {
    let rig = Rig::new(1);
    assert_eq!(rig.engine.snapshot().health, Health::Serving);
    assert!(rig.engine.kill(rig.containers[0].0).is_some());
    assert_eq!(rig.engine.snapshot().health, Health::Starting);
    rig.engine.drain();
    assert_eq!(rig.engine.snapshot().health, Health::Serving);
    rig.engine.break_down("a fault");
    assert_eq!(rig.engine.snapshot().health, Health::Ended);
}
