//! The cost of an operation, in counted steps, does not grow with the things that it does not concern: open
//! maps, queued calls, and idle and busy containers.
//!
//! A test does the same operation beside few things and beside many, and compares the steps. Steps are
//! counted exactly, so a loop over all things shows at once. `benches/growth` measures how long the steps
//! take.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use crate::base::ids::JobId;
use crate::data::erased::{TypeInfo, Values};
use crate::data::prefetch::PrefetchQueue;
use crate::data::run::Run;
use crate::decide::job::OnFailure;
use crate::decide::life::{Next, Served};
use crate::engine::caller::Caller;
use crate::engine::consumer::Consumer;
use crate::engine::dispatch::Wait;
use crate::engine::map_buffers::JobSource;
use crate::simulator::counted::{is_constant, is_linear, steps};
use crate::simulator::rig::{Rig, execute, panic};

/// Open maps that have nothing to execute. By turns they are unread with a full window, or have no input so
/// far.
fn idle_maps(rig: &Rig, maps: usize) -> Vec<Consumer<u64, u64, u64>> {
    let open = |at: usize| match at % 2 {
        0 => rig.map_of(2, 1),
        _ => rig.map(JobSource::Prefetched(Arc::new(PrefetchQueue::new(TypeInfo::of::<u64>()))), 10),
    };
    let maps = (0..maps).map(open).collect();
    rig.work();
    maps
}

#[test]
fn executing_a_map_beside_idle_maps() {
    is_constant("a map of 100 inputs beside idle maps", |maps| {
        let rig = Rig::new(2);
        let idle = idle_maps(&rig, maps);
        let taken = steps(|| {
            let map = rig.map_of(100, 1000);
            rig.work();
            assert_eq!(map.progress().ok, 100);
            drop(map);
        });
        drop(idle);
        taken
    });
}

#[test]
fn outcomes_above_a_window_that_became_narrow_are_reported_together() {
    const NARROW: u64 = 100;
    let rig = Rig::new(1);
    let mut map = rig.map_of(5_000, 5_000);
    rig.work();
    let flow = rig.engine.under_lock(|state| {
        let buffers = state.buffers.map(map.job).expect("its consumer keeps it open");
        buffers.flow.window.store(NARROW, Ordering::SeqCst);
        buffers.flow.room_min.store(1, Ordering::SeqCst);
        Arc::clone(&buffers.flow)
    });
    let (mut taken, mut reports, mut reported) = (0, 0, 0);
    while let Poll::Ready(Some(_)) = map.poll_next(Wait::Try) {
        taken += 1;
        let yielded = flow.yielded.load(Ordering::SeqCst);
        reports += u64::from(yielded > reported);
        reported = yielded;
        assert!(taken <= 5_000 - NARROW || yielded == taken, "room for an input is reported at once");
    }
    assert_eq!(taken, 5_000);
    // One for each outcome within the window, one for each of some twenty chunks, and one for each thousand.
    assert!(reports < NARROW + 50, "{reports} reports");
}

#[test]
fn a_call_beside_idle_maps_queued_calls_and_idle_containers() {
    is_constant("a call beside idle maps", |maps| {
        let rig = Rig::new(2);
        let _idle = idle_maps(&rig, maps);
        steps(|| {
            let call = rig.call();
            rig.work();
            drop(call);
        })
    });
    is_constant("an answer beside queued calls", |calls| {
        let rig = Rig::new(1);
        let _queued: Vec<_> = (0..calls).map(|_| rig.call()).collect();
        rig.woken();
        steps(|| {
            let run = rig.ask(0).expect("a call");
            execute(&run);
            assert!(rig.ask(0).is_some(), "the next call");
        })
    });
    is_constant("a call beside idle containers", |containers| {
        let rig = Rig::new(containers);
        steps(|| {
            let call = rig.call();
            rig.work();
            drop(call);
        })
    });
}

#[test]
fn dropping_a_call_beside_queued_calls() {
    is_constant("a queued call that is dropped", |calls| {
        let rig = Rig::new(1);
        let mut queued: Vec<_> = (0..calls).map(|_| rig.call()).collect();
        let middle = queued.swap_remove(calls / 2);
        steps(|| drop(middle))
    });
}

#[test]
fn a_crash_and_a_kill_beside_idle_and_busy_containers() {
    let crash = |rig: &Rig| {
        let (id, generation) = rig.containers[0];
        steps(|| {
            rig.engine.crashed(id, generation, panic()).expect("it lives");
            let next = rig.engine.begin(id, generation).expect("it restarts at once");
            assert!(rig.engine.entered(id, next));
        })
    };
    is_constant("a crash beside idle containers", |containers| {
        let rig = Rig::new(containers);
        let _call = rig.call();
        let run = rig.ask(0).expect("the call");
        assert!(run.begin::<u64, u64, u64>().is_some());
        crash(&rig)
    });
    is_constant("a crash beside busy containers", |containers| {
        let rig = Rig::new(containers);
        let _calls: Vec<_> = (0..containers).map(|_| rig.call()).collect();
        let runs: Vec<_> = (0..containers).map(|at| rig.ask(at).expect("a call")).collect();
        runs.iter().for_each(|run| assert!(run.begin::<u64, u64, u64>().is_some()));
        crash(&rig)
    });
    is_constant("a kill beside idle containers", |containers| {
        let rig = Rig::new(containers);
        let (id, _) = rig.containers[0];
        steps(|| {
            rig.engine.kill(id).expect("it lives");
            rig.engine.give_up();
        })
    });
}

#[test]
fn creating_and_ending_all_containers() {
    is_linear("creating containers", |containers| steps(|| drop(Rig::new(containers))));
    is_linear("an abort beside idle containers", |containers| {
        let rig = Rig::new(containers);
        steps(|| rig.engine.abort())
    });
    is_linear("a drain of idle containers", |containers| {
        let rig = Rig::new(containers);
        steps(|| {
            rig.engine.drain();
            for (id, generation) in &rig.containers {
                assert!(matches!(
                    rig.engine.try_next(*id, *generation, |_| ()).0,
                    Next::Over(Served::Leaves)
                ));
                rig.engine.left(*id, *generation);
                rig.engine.ended(*id, *generation, None);
            }
        })
    });
}

#[test]
fn ending_one_job_beside_others() {
    is_constant("a map that is cancelled beside idle maps", |maps| {
        let rig = Rig::new(2);
        let _idle = idle_maps(&rig, maps);
        let map = rig.map_of(100, 1000);
        steps(|| drop(map))
    });
    is_linear("an abort beside queued calls", |calls| {
        let rig = Rig::new(1);
        let _queued: Vec<_> = (0..calls).map(|_| rig.call()).collect();
        steps(|| rig.engine.abort())
    });
}

#[test]
fn a_poll_for_outcomes_beside_containers_that_execute_those_of_another_job() {
    is_constant("a task that waits beside busy containers", |containers| {
        let rig = Rig::new(containers);
        let nothing = PrefetchQueue::new(TypeInfo::of::<u64>());
        let mut waits = rig.map(JobSource::Prefetched(Arc::new(nothing)), 10);
        let (inputs, on_failure) = (Values::of(Vec::from_iter(0..100_000_u64)), OnFailure::GoOn);
        let opened = rig.engine.open_with(inputs, on_failure, Caller::default());
        let (job, _): (JobId, _) = opened.expect("it takes maps");
        for _ in 0..20 {
            // The inputs are cheap, so later leases are ranges of several.
            let run = rig.ask(1).expect("inputs");
            rig.passes(Duration::from_nanos(1000 * run.places().len() as u64));
            execute(&run);
        }
        let runs: Vec<_> = (1..containers).map(|at| rig.ask(at).expect("inputs")).collect();
        runs.iter().for_each(|run| assert!(run.places().len() > 1 && run.begin::<u64, u64, u64>().is_some()));
        let mut call = rig.call();
        let taken = steps(|| {
            drop(call.poll::<u64, u64, u64>(Wait::Register(std::task::Waker::noop())));
            assert!(waits.poll_next(Wait::Register(std::task::Waker::noop())).is_pending());
        });
        drop((call, waits));
        drop(rig.engine.close(job));
        taken
    });
}

/// This test counts no steps, but needs the same rig. A container that finds little room in a wide window
/// puts the claim off. If it is busy by then, another container must wake for that room.
#[test]
fn little_room_that_is_put_off_is_watched_by_a_container_that_sleeps() {
    let rig = Rig::new(8);
    let cost = Duration::from_micros(40);
    let mut map = rig.map_of(10_000, 1000);
    while map.progress().ok < 1000 {
        let mut woken = rig.woken();
        if woken.is_empty() {
            // A container takes little room only after a moment.
            rig.passes(Duration::from_millis(1));
            woken.push(0);
        }
        for at in woken {
            while let Some(run) = rig.ask(at) {
                let inputs = run.places().len() as u64;
                rig.passes(Duration::from_nanos(cost.as_nanos() as u64 * inputs));
                execute(&run);
            }
        }
    }
    rig.work();
    // After this time no container looks for inputs that others have leased ahead.
    rig.passes(Duration::from_millis(20));
    (0..8).for_each(|at| assert!(rig.ask(at).is_none(), "the window is full"));
    rig.woken();
    let mut room = 0;
    let woken = loop {
        assert!(matches!(map.poll_next(Wait::Try), Poll::Ready(Some(Ok(_)))));
        room += 1;
        rig.engine.made_room(map.job);
        if let Some(at) = rig.woken().first() {
            break *at;
        }
    };
    // Each woken container is busy with what it finds, and wakes the next one.
    let (mut woken, mut busy) = (Some(woken), Vec::new());
    while let Some(at) = woken {
        busy.extend(rig.ask(at).inspect(|run| assert!(run.begin::<u64, u64, u64>().is_some())));
        woken = rig.woken().first().copied();
    }
    let taken: u64 = busy.iter().map(|run| run.places().len() as u64).sum();
    assert!((1..room).contains(&taken), "of {room} they take {taken}");
    assert!(
        !rig.engine.under_lock(|state| state.needs_a_watch(rig.engine.now())),
        "somebody wakes for what is left"
    );
    drop(map);
}

/// A container that watches over inputs that another has leased ahead may be woken late, and find other work
/// then. Another one must watch in its place, however long ago the lease was given.
#[test]
fn inputs_leased_ahead_are_watched_although_the_watching_container_finds_other_work_late() {
    let rig = Rig::new(4);
    let cheap = rig.map_of(1_000, 1_000);
    while let Some(run) = rig.ask(0) {
        rig.passes(Duration::from_nanos(1_000 * run.places().len() as u64));
        execute(&run);
    }
    rig.work();
    let map = rig.map_of(6, 1_000);
    let ahead = rig.ask(0).expect("inputs");
    assert!(ahead.places().len() > 1 && ahead.begin::<u64, u64, u64>().is_some());
    let watches = loop {
        let at = *rig.woken().last().expect("a container watches");
        if rig.ask(at).is_none() {
            break at;
        }
    };
    rig.passes(Duration::from_millis(20)); // the system has other things to do
    let call = rig.call();
    let woken = rig.woken();
    assert_eq!(woken, [watches], "the container that slept last is woken for the call");
    let run = rig.ask(watches).expect("the call");
    assert!(run.begin::<u64, u64, u64>().is_some());
    let next = *rig.woken().first().expect("another container watches");
    assert!(rig.ask(next).is_some(), "it takes over what has not begun");
    drop((cheap, map, call));
}

/// Inputs that are leased ahead need a container that looks for them until one has looked, however late the
/// woken containers are. A late one may find other work, or take over the inputs of another lease.
#[test]
fn a_lease_of_several_inputs_is_watched_until_a_container_has_looked() {
    let rig = Rig::new(6);
    let cheap = rig.map_of(1_000, 1_000);
    while let Some(run) = rig.ask(0) {
        rig.passes(Duration::from_nanos(7_000 * run.places().len() as u64));
        execute(&run);
    }
    rig.work();
    rig.passes(Duration::from_millis(20));
    (0..6).for_each(|at| assert!(rig.ask(at).is_none(), "there is nothing to do"));
    rig.woken();
    let map = rig.map_of(6, 1_000);
    let first = *rig.woken().first().expect("there is work");
    let ahead = rig.ask(first).expect("inputs");
    assert!(ahead.places().len() > 1 && ahead.begin::<u64, u64, u64>().is_some());
    let needs_a_watch = || rig.engine.under_lock(|state| state.needs_a_watch(rig.engine.now()));
    assert!(needs_a_watch(), "none of those that sleep looks by itself");
    rig.passes(Duration::from_millis(20)); // those that were woken have not looked yet
    assert!(needs_a_watch(), "still none has looked");
    drop((cheap, map));
}

/// The number of claims that a map of 100 000 inputs of 1 µs takes. Its consumer takes `taken_meanwhile`
/// outcomes while both containers execute a lease.
fn claims(taken_meanwhile: usize) -> usize {
    let rig = Rig::new(2);
    let mut map = rig.map_of(100_000, 8_000);
    let (mut taken, mut claims) = (0, 0);
    while taken < 100_000 {
        let runs: Vec<Arc<Run>> = (0..2).filter_map(|at| rig.ask(at)).collect();
        claims += runs.len();
        let longest = runs.iter().map(|run| run.places().len() as u64).max();
        // Without a lease, a container takes little room only after a moment.
        rig.passes(Duration::from_nanos(longest.map_or(1_000_000, |inputs| inputs * 1_000)));
        runs.iter().for_each(|run| execute(run));
        for _ in 0..taken_meanwhile {
            match map.poll_next(Wait::Try) {
                Poll::Ready(Some(outcome)) => taken += usize::from(outcome.is_ok()),
                Poll::Pending | Poll::Ready(None) => break,
            }
        }
    }
    claims
}

/// A claim costs as much as several inputs of a microsecond. So that its cost does not show, each claim takes
/// many inputs.
#[test]
fn a_map_of_cheap_inputs_is_executed_in_few_claims() {
    for taken_meanwhile in [700, 1_013, 100_000] {
        let claims = claims(taken_meanwhile);
        assert!(claims <= 500, "{claims} claims where {taken_meanwhile} are taken meanwhile");
    }
}
