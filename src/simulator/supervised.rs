//! The questions that the supervisor asks about a function: whether it has ended, whether threads are left,
//! and when to create the next container.

use std::time::Duration;

use crate::base::ids::{ContainerId, Generation};
use crate::decide::life::{Next, Served};
use crate::decide::restart::{CrashLoopBackoff, Restart, RestartPolicy};
use crate::engine::settings::MemoryRules;
use crate::simulator::rig::{Rig, UNCOUNTED};
use crate::values::crash::{Death, Panic};

/// A function that leaves at most one thread behind.
fn leaving_one(restart: RestartPolicy, containers: usize) -> Rig {
    Rig::of(restart, MemoryRules { abandoned_max: 1, ..UNCOUNTED }, containers)
}

impl Rig {
    /// The code of a container panics between two inputs.
    fn crashes(&self, id: ContainerId, generation: Generation) -> Restart {
        let panic = Panic { message: "a crash".to_owned(), location: None };
        self.engine.crashed(id, generation, Death::Panicked(panic)).expect("its generation lives")
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
