//! Events at the very moment at which something else is due. A world cannot have them, because there the
//! supervisor's timers fire on time and so come first.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use crate::data::failure::Reason;
use crate::decide::restart::CrashLoopBackoff;
use crate::engine::dispatch::Wait;
use crate::simulator::rig::Rig;
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
