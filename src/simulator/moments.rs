//! Events at the very moment at which something else is due. A world cannot have them, because there the
//! supervisor's timers fire on time and so come first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use crate::data::failure::Reason;
use crate::decide::restart::CrashLoopBackoff;
use crate::engine::dispatch::{Dispatch, Wait};
use crate::simulator::rig::{Rig, execute};
use crate::values::crash::{Death, Panic};
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
            let panic = Panic { message: "a crash".to_owned(), location: None };
            assert!(rig.engine.crashed(id, generation, Death::Panicked(panic)).is_some());
            rig.clock.fetch_add(LONGEST_DELAY.as_nanos() as u64, Ordering::Relaxed);
            generation = rig.engine.begin(id, generation).expect("its delay is over");
            assert!(rig.engine.entered(id, generation));
        }
        rig.clock.fetch_add(up.as_nanos() as u64, Ordering::Relaxed);
        rig.engine.cut_off();
        let told = rig.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let has_recovered = told.iter().any(|(event, _)| matches!(event, Event::Recovered { .. }));
        assert_eq!(has_recovered, recovers, "after {up:?}: {told:?}");
    }
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
