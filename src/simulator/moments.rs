//! Events at the very moment at which something else is due. A world cannot have them, because there the
//! supervisor's timers fire on time and so come first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::time::Duration;

use crate::code::token::Token;
use crate::data::cursor::Advance;
use crate::data::failure::{Cause, Reason};
use crate::data::shape::{Outcome, Why};
use crate::data::source::DirectSource;
use crate::decide::ledger::Retryable;
use crate::decide::life::{Next, Served};
use crate::decide::restart::{CrashLoopBackoff, RateLimited, Restart};
use crate::decide::window::Window;
use crate::engine::caller::Caller;
use crate::engine::consumer::Consumer;
use crate::engine::dispatch::{Dispatch, Wait};
use crate::engine::map_buffers::{JobSource, Order};
use crate::engine::messages::Notice;
use crate::engine::reader::{Failures, ReaderGuard};
use crate::simulator::rig::{Rig, execute, panic};
use crate::values::event::Event;

/// The time for which a container has to stay up to end a crash loop.
const RESET_AFTER: Duration = Duration::from_secs(10);

/// An upper bound of the first delay of a crash loop.
const LONGEST_DELAY: Duration = Duration::from_millis(200);

#[test]
fn a_container_that_has_stayed_up_long_enough_has_ended_the_crash_loop_before_it_is_cut_off() {
    for (up, recovers) in [(RESET_AFTER, true), (RESET_AFTER - Duration::from_millis(1), false)] {
        let rig = Rig::under(CrashLoopBackoff::new().reset_after(RESET_AFTER).into(), 2);
        let (id, mut generation) = rig.containers[0];
        // Two crashes in a row are a crash loop, and a delay follows the second.
        for _ in 0..2 {
            assert!(rig.engine.crashed(id, generation, panic()).is_some());
            rig.passes(LONGEST_DELAY);
            generation = rig.engine.begin(id, generation).expect("its delay is over");
            assert!(rig.engine.entered(id, generation));
        }
        rig.passes(up);
        rig.engine.cut_off();
        let told = rig.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let has_recovered = told.iter().any(|(event, _)| matches!(event, Event::Recovered { .. }));
        assert_eq!(has_recovered, recovers, "after {up:?}: {told:?}");
    }
}

#[test]
fn an_exit_that_begins_after_a_cut_off_and_times_out_leaves_its_thread_behind() {
    let rig = Rig::new(1);
    let (id, generation) = rig.containers[0];
    rig.engine.cut_off(); // the container is idle, and leaves as at the end of a drain
    assert!(matches!(rig.engine.try_next(id, generation, |_| ()).0, Next::Over(Served::Leaves)));
    assert!(rig.engine.abandon_exit(id, generation), "it is in its exit");
    assert_eq!(rig.engine.status().containers.abandoned, 1, "the thread is in the user's code");
}

#[test]
fn an_input_that_is_given_back_while_it_executes_is_shared() {
    let rig = Rig::new(1);
    let mut call = rig.call();
    let run = rig.ask(0).expect("there is a call");
    assert!(run.begin::<u64, u64, u64>().is_some());
    call.end_as(&Reason::WouldDeadlock);
    let Poll::Ready(Some(Err(failure))) = call.poll::<u64, u64, u64>(Wait::Try) else {
        panic!("it has ended")
    };
    assert!(failure.into_input().is_some_and(|input| input.owned().is_none()), "its attempt may read it");
}

#[test]
fn a_container_that_is_killed_before_its_code_begins_holds_none_of_the_bytes_of_its_last_generation() {
    // The bytes of two threads exceed the limit.
    let (bytes, abandoned_bytes_max) = (600, 1000);
    for (begins, ends) in [(false, false), (true, true)] {
        let rig = Rig::leaving_less_than(abandoned_bytes_max, 1);
        let (id, first) = rig.containers[0];
        rig.allocates(id, first, bytes);
        let mut call = rig.call();
        let run = rig.ask(0).expect("there is a call");
        assert!(run.begin::<u64, u64, u64>().is_some());
        assert_eq!(rig.engine.kill(id), Some(first), "its thread is left behind, and its input waits");
        let created = rig.engine.create();
        let [(_, second)] = created[..] else { panic!("it is created again: {created:?}") };
        assert!(rig.engine.launch(id, second));
        if begins {
            rig.allocates(id, second, bytes);
        }
        assert_eq!(rig.engine.kill(id), Some(second));
        // An input that has left a thread behind ends when no more threads may be left behind.
        let ended = call.poll::<u64, u64, u64>(Wait::Try).is_ready();
        assert_eq!(
            ended, ends,
            "whether the input ends, if the code of the second generation begins: {begins}"
        );
    }
}

#[test]
fn completions_that_a_review_commits_count_from_the_time_of_the_review() {
    let window = Duration::from_secs(60);
    let rig = Rig::under(RateLimited::new().window(window).max_crashes(1).into(), 2);
    // The first container has several inputs of a map ahead, because they are cheap.
    let cheap = rig.map_of(1_000, 1_000);
    while let Some(run) = rig.ask(0) {
        rig.passes(Duration::from_nanos(1_000 * run.places().len() as u64));
        execute(&run);
    }
    let map = rig.map_of(1_000, 1_000);
    let run = rig.ask(0).expect("inputs");
    let mut active = run.begin::<u64, u64, u64>().expect("nothing fences it");
    // The second container crashes, so that completions matter from now on.
    let (id, mut generation) = rig.containers[1];
    let mut crash = || {
        rig.engine.crashed(id, generation, panic()).expect("it lives");
        if let Some(next) = rig.engine.begin(id, generation) {
            assert!(rig.engine.entered(id, next));
            generation = next;
        }
        rig.engine.status().gave_up.is_some()
    };
    assert!(!crash(), "one crash is allowed");
    // The first container completes two inputs, and executes the third for longer than the window.
    for _ in 0..2 {
        assert_eq!(active.publish(1).expect("nothing fences it"), Advance::Next);
    }
    let review = rig.engine.review().expect("completions are to be counted in time");
    rig.passes(review);
    rig.engine.review();
    rig.passes(window / 2);
    assert!(!crash(), "more inputs than two have completed within the window");
    rig.passes(window / 2 + Duration::from_secs(2));
    assert!(crash(), "no input has completed within the window");
    drop((cheap, map));
}

#[test]
fn a_stop_ends_a_map_with_an_error_only_if_inputs_are_left() {
    for (inputs, is_cut_short) in [(1, false), (2, true)] {
        let rig = Rig::new(1);
        let mut map = rig.map_of(inputs, 10);
        let run = rig.ask(0).expect("an input");
        assert_eq!(run.places().len(), 1, "a container takes one input first");
        let mut active = run.begin::<u64, u64, u64>().expect("nothing fences it");
        rig.engine.stop();
        assert_eq!(active.publish(1).expect("nothing fences it"), Advance::Last);
        let mut outcomes = Vec::new();
        while let Poll::Ready(Some(outcome)) = map.poll_next(Wait::Try) {
            outcomes.push(outcome);
        }
        assert!(map.poll_next(Wait::Try).is_ready(), "the map has ended");
        let of_the_map =
            |outcome: Outcome<u64, u64, u64>| outcome.is_err_and(|failure| failure.into_input().is_none());
        let ended_by_error = outcomes.into_iter().any(of_the_map);
        assert_eq!(ended_by_error, is_cut_short, "whether a map of {inputs} inputs ends with an error");
    }
}

/// Counts how often a waker of it is woken.
#[derive(Default)]
struct WakeCount(AtomicU64);

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A container that was to restart in place counts as left at the death of the other one. Then a crash loop
/// holds it back, so it would need a new thread, and none may be made.
#[test]
fn the_supervisor_learns_that_a_function_gives_up_at_the_end_of_a_thread() {
    let limit = Duration::from_millis(20);
    let rig = Rig::entering_within(limit, 2);
    let engine = &rig.engine;
    let [(first, of_first), (second, of_second)] = rig.containers[..] else { panic!("there are two") };
    let dies = |id, generation| engine.crashed(id, generation, panic()).expect("it lives");
    let mut call = rig.call();
    assert_eq!(dies(second, of_second), Restart::Now);
    let next = engine.begin(second, of_second).expect("the first loop crash restarts at once");
    let token = Arc::new(Token::of_no_thread(None));
    assert!(engine.register_token(second, next, &token), "it enters");
    assert_eq!(dies(first, of_first), Restart::Now, "it shares in the loop crash of the other one");
    rig.passes(limit);
    engine.look_at_limits();
    let containers = engine.status().containers;
    assert_eq!(containers.abandoned, 1, "the thread of the second container is stuck in its enter");
    assert!(engine.status().gave_up.is_none(), "the first container is about to restart");
    assert_eq!(engine.begin(first, of_first), None, "the crash loop holds it back");
    rig.notices.lock().unwrap_or_else(PoisonError::into_inner).clear();
    engine.ended(first, of_first, None);
    assert!(engine.status().gave_up.is_some(), "no container is left, and none can be created");
    let notices = std::mem::take(&mut *rig.notices.lock().unwrap_or_else(PoisonError::into_inner));
    // The supervisor ends the pending inputs only if it receives this notice.
    let gives_up = |notice: &Notice| matches!(notice, Notice::Crashed { restart: Restart::GiveUp });
    assert_eq!(notices.iter().filter(|notice| gives_up(notice)).count(), 1, "of {notices:?}");
    engine.give_up();
    let Poll::Ready(Some(Err(failure))) = call.poll::<u64, u64, u64>(Wait::Try) else {
        panic!("the call ends with the function")
    };
    assert!(matches!(failure.cause(), Cause::GaveUp(_)), "{failure:?}");
}

#[test]
fn a_container_whose_input_has_ended_its_map_is_in_no_code_before_it_asks_for_work() {
    let rig = Rig::new(1);
    let cheap = rig.map_of(1_000, 1_000);
    while let Some(run) = rig.ask(0) {
        rig.passes(Duration::from_nanos(1_000 * run.places().len() as u64));
        execute(&run);
    }
    let opened = ReaderGuard::of_map(
        &rig.engine,
        JobSource::Direct(DirectSource::new(0..100_u64)),
        (Order::Input, Failures::EndMap),
        Window::Fixed(100),
        Default::default(),
        Caller::default(),
    );
    let map = Consumer::<u64, u64, u64>::over(opened.expect("it takes maps"));
    let run = rig.ask(0).expect("inputs");
    assert!(run.places().len() > 1, "there are inputs behind the one that fails");
    let mut active = run.begin::<u64, u64, u64>().expect("nothing fences it");
    let id = rig.containers[0].0;
    let how = (Retryable::No, None);
    let goes_on = rig.engine.failed(id.into(), &run, &mut active.at, Why::Error(Box::new(1_u64)), how);
    assert!(!goes_on, "its map has ended");
    rig.engine.abort();
    assert_eq!(rig.engine.status().containers.abandoned, 0, "its code has returned");
    drop((cheap, map));
}

#[test]
fn a_breakdown_wakes_everything_that_waits_and_refuses_what_executes() {
    let rig = Rig::new(2);
    let (mut call, wakes) = (rig.call(), Arc::new(WakeCount::default()));
    let waker = Waker::from(Arc::clone(&wakes));
    assert!(call.poll::<u64, u64, u64>(Wait::Register(&waker)).is_pending());
    let run = rig.ask(0).expect("there is a call");
    let mut active = run.begin::<u64, u64, u64>().expect("nothing fences it");
    rig.woken();
    rig.engine.break_down("the first fault");
    rig.engine.break_down("a later fault");
    assert!(wakes.0.load(Ordering::Relaxed) > 0, "the caller is woken");
    assert_eq!(rig.woken(), [0, 1], "all containers are woken");
    assert!(active.publish(1).is_err(), "an outcome is refused");
    let engine = &rig.engine;
    [Dispatch::drain, Dispatch::stop, Dispatch::cut_off, Dispatch::abort].iter().for_each(|end| end(engine));
    let Poll::Ready(Some(Err(failure))) = call.poll::<u64, u64, u64>(Wait::Try) else {
        panic!("the caller gets the fault")
    };
    assert!(failure.to_string().contains("the first fault"), "{failure}");
    assert!(rig.engine.has_ended());
}

/// The code of a waker of the user's, which counts its drops.
struct Probe {
    engine: Arc<Dispatch>,
    dropped: AtomicU64,
    dropped_under_the_lock: AtomicU64,
}

impl Probe {
    #[expect(unsafe_code, reason = "a waker whose drops can be counted")]
    fn waker(&'static self) -> Waker {
        fn clone(probe: *const ()) -> RawWaker {
            RawWaker::new(probe, &TABLE)
        }
        fn wake(_: *const ()) {}
        fn drop(probe: *const ()) {
            // SAFETY: the pointer is to a probe that lives for ever.
            let probe = unsafe { &*probe.cast::<Probe>() };
            probe.dropped.fetch_add(1, Ordering::Relaxed);
            let locked = u64::from(probe.engine.is_locked());
            probe.dropped_under_the_lock.fetch_add(locked, Ordering::Relaxed);
        }
        static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, drop);
        // SAFETY: the functions of the table only read a probe that lives for ever, from any thread.
        unsafe { Waker::from_raw(RawWaker::new(std::ptr::from_ref(self).cast(), &TABLE)) }
    }
}

#[test]
fn the_wakers_of_a_caller_are_dropped_with_the_lock_released() {
    let rig = Rig::new(1);
    let engine = Arc::clone(&rig.engine);
    let (dropped, dropped_under_the_lock) = (AtomicU64::new(0), AtomicU64::new(0));
    let probe: &Probe = Box::leak(Box::new(Probe { engine, dropped, dropped_under_the_lock }));
    let mut call = rig.call();
    let mut poll = || call.poll::<u64, u64, u64>(Wait::Register(&probe.waker())).is_ready();
    assert!(!poll(), "no container has taken it");
    assert!(!poll(), "the second waker replaces the first");
    let run = rig.ask(0).expect("there is a call");
    execute(&run);
    assert!(rig.ask(0).is_none());
    assert!(poll(), "the call has its outcome");
    assert!(probe.dropped.load(Ordering::Relaxed) >= 3);
    assert_eq!(probe.dropped_under_the_lock.load(Ordering::Relaxed), 0);
}
