//! Those who wait for a place among the calls of a function: who is woken, and when.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::decide::limits::LimitRules;
use crate::engine::dispatch::Reserving;
use crate::simulator::readers::Woken;
use crate::simulator::rig::Rig;
use crate::values::error::ReserveError;

#[test]
fn a_place_that_comes_back_wakes_the_waiter_that_has_it_and_no_other() {
    let rig = Rig::limited(LimitRules::default(), 1, 8, 1);
    let place = rig.engine.try_reserve().expect("there is room");
    let woken: [Arc<Woken>; 2] = Default::default();
    let wakers = woken.each_ref().map(|woken| Waker::from(Arc::clone(woken)));
    let (mut first, mut second) = (pin!(Reserving::new(&rig.engine)), pin!(Reserving::new(&rig.engine)));
    assert!(first.as_mut().poll(&mut Context::from_waker(&wakers[0])).is_pending());
    assert!(second.as_mut().poll(&mut Context::from_waker(&wakers[1])).is_pending());
    assert_eq!(woken.each_ref().map(|woken| woken.is_set()), [false, false]);
    drop(place);
    assert_eq!(woken.each_ref().map(|woken| woken.is_set()), [true, false]);
    assert!(matches!(first.as_mut().poll(&mut Context::from_waker(&wakers[0])), Poll::Ready(Ok(_))));
    assert_eq!(woken.each_ref().map(|woken| woken.is_set()), [true, true], "it has dropped its place");
}

#[test]
fn all_who_wait_for_a_place_are_woken_when_the_function_takes_no_work_any_more() {
    let rig = Rig::limited(LimitRules::default(), 1, 8, 1);
    let place = rig.engine.try_reserve();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut waits = pin!(Reserving::new(&rig.engine));
    assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    rig.engine.drain();
    assert!(woken.is_set());
    let refused = waits.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(matches!(refused, Poll::Ready(Err(ReserveError::ShutDown))));
    drop(place);
}
