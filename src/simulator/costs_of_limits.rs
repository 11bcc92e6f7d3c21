//! The cost of a limit of time, in counted steps, does not grow with the calls and containers that it does
//! not concern, nor with the limits that are not due.

use std::time::Duration;

use crate::decide::admission::CALLS_MAX_DEFAULT;
use crate::decide::limits::{LimitRules, Limits};
use crate::engine::caller::Caller;
use crate::engine::open_call::OpenCall;
use crate::simulator::counted::{is_constant, steps};
use crate::simulator::rig::{GRACE_OVER, Rig};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The limit that passes in these tests.
const SHORT: Duration = Duration::from_millis(20);

/// A function whose attempts and inputs have limits that do not pass.
fn rig(containers: usize) -> Rig {
    leaving(8, containers)
}

/// The same, where this number of threads may be left behind.
fn leaving(abandoned_max: usize, containers: usize) -> Rig {
    let limits = LimitRules { timeout: Some(HOUR), deadline: Some(HOUR), ..LimitRules::default() };
    Rig::limited(limits, CALLS_MAX_DEFAULT, abandoned_max, containers)
}

/// The same, where no more threads may be left behind, because the first container has left one.
fn at_the_bound(containers: usize) -> Rig {
    let rig = leaving(1, containers);
    let stuck = executes(&rig, 0, Limits::new().timeout(SHORT));
    look_after(&rig, SHORT);
    look_after(&rig, GRACE_OVER);
    drop(stuck);
    assert_eq!(rig.engine.status().containers.abandoned, 1);
    rig
}

fn call(rig: &Rig, limits: Limits) -> OpenCall {
    let begun = OpenCall::begin::<u64, u64>(&rig.engine, 1, Caller::default(), None, limits);
    begun.expect("it takes calls")
}

/// A call with these limits executes in a container.
fn executes(rig: &Rig, at: usize, limits: Limits) -> OpenCall {
    let call = call(rig, limits);
    let run = rig.ask(at).expect("there is a call");
    assert!(run.begin::<u64, u64, u64>().is_some(), "nothing fences it");
    call
}

/// Lets time pass. Returns the steps of the supervisor's look after that.
fn look_after(rig: &Rig, time: Duration) -> u64 {
    rig.passes(time);
    steps(|| _ = rig.engine.look_at_limits())
}

#[test]
fn a_timeout_costs_the_same_beside_calls_that_wait_and_execute() {
    let short = Limits::new().timeout(SHORT);
    is_constant("a timeout beside queued calls with deadlines", |calls| {
        let rig = rig(1);
        let _executing = executes(&rig, 0, short);
        let _queued: Vec<_> = (0..calls).map(|_| call(&rig, Limits::new())).collect();
        look_after(&rig, SHORT)
    });
    is_constant("a timeout beside calls that execute", |calls| {
        let rig = rig(calls + 1);
        let _executing: Vec<_> = (0..calls).map(|at| executes(&rig, at, Limits::new())).collect();
        let _short = executes(&rig, calls, short);
        look_after(&rig, SHORT)
    });
}

#[test]
fn a_deadline_costs_the_same_beside_calls_that_wait_and_execute() {
    let short = Limits::new().deadline(SHORT);
    is_constant("a deadline beside queued calls with deadlines", |calls| {
        let rig = rig(1);
        let _executing = executes(&rig, 0, Limits::new());
        let _queued: Vec<_> = (0..calls).map(|_| call(&rig, Limits::new())).collect();
        let _short = call(&rig, short);
        look_after(&rig, SHORT)
    });
    is_constant("a deadline beside calls that execute", |calls| {
        let rig = rig(calls);
        let _executing: Vec<_> = (0..calls).map(|at| executes(&rig, at, Limits::new())).collect();
        let _short = call(&rig, short);
        look_after(&rig, SHORT)
    });
}

#[test]
fn stuck_code_costs_the_same_beside_containers_that_execute() {
    let short = Limits::new().timeout(SHORT);
    for (make, stuck) in [(rig as fn(usize) -> Rig, (0, 1)), (at_the_bound, (1, 1))] {
        is_constant("code that does not return beside calls that execute", |calls| {
            let rig = make(calls + 2);
            let _executing: Vec<_> = (1..=calls).map(|at| executes(&rig, at, Limits::new())).collect();
            let _short = executes(&rig, calls + 1, short);
            look_after(&rig, SHORT);
            let taken = look_after(&rig, GRACE_OVER);
            let containers = rig.engine.status().containers;
            assert_eq!((containers.hung, containers.abandoned), stuck);
            taken
        });
    }
}

#[test]
fn a_look_costs_the_same_beside_containers_that_hang() {
    let short = Limits::new().timeout(SHORT);
    is_constant("a timeout beside containers that hang", |hung| {
        let rig = at_the_bound(hung + 2);
        let _hung: Vec<_> = (1..=hung).map(|at| executes(&rig, at, short)).collect();
        look_after(&rig, SHORT);
        look_after(&rig, GRACE_OVER);
        assert_eq!(rig.engine.status().containers.hung, hung);
        let _executing = executes(&rig, hung + 1, Limits::new().timeout(MS));
        look_after(&rig, MS)
    });
}
