//! Tests of the limits of time that run in a ledger.

use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, InputId, JobId, LaneId};
use crate::decide::job::Span;
use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, at, rules};
use crate::decide::ledger::{
    AfterCrash, AfterCut, AfterFailure, CutBy, DueLimit, LaneStep, Leaving, Position, Pressure, Retryable,
    Rules, Scene, Unrun,
};
use crate::decide::life::Next;
use crate::decide::limits::{LimitRules, Limits};
use crate::decide::restart::{RateLimited, Restart};
use crate::decide::retries::Retries;
use crate::decide::steps;
use crate::decide::time::Time;
use crate::values::crash::{Crash, Death, Previous};

const MS: Duration = Duration::from_millis(1);

/// A thread that is left behind, and is not one too many.
const ABANDONED: Leaving = Leaving { abandoned: true, pressure: Pressure::None };

/// A function whose attempts may take 100 ms.
fn timing(containers: usize, retries: u32, limits: LimitRules) -> Rig {
    let limits = LimitRules { timeout: Some(100 * MS), ..limits };
    let retries = Retries::new(retries).initial_delay(10 * MS).backoff_coefficient(1.0);
    Rig::of(Rules { limits, retries, ..rules(containers) })
}

/// A call to a function, which has the function's limits.
fn call(rig: &mut Rig, now: Time) -> JobId {
    let job = rig.call();
    rig.ledger.limit(job, Limits::new());
    rig.ledger.take_limits_news(now);
    job
}

/// A container takes its lease and begins it.
fn begins(rig: &mut Rig, id: impl Into<LaneId>, now: Time) -> LaneId {
    let id = id.into();
    rig.takes(id, now);
    rig.ledger.lent(id, now);
    rig.ledger.take_limits_news(now);
    id
}

/// Cuts the attempt at the first input of a lease.
fn cut(rig: &mut Rig, lane: LaneId, now: Time) -> AfterCut {
    let index = rig.ledger.lease(lane).expect("it has a lease").span.first;
    rig.ledger.cut(lane, Position { at: index, begun: true }, CutBy::Timeout(100 * MS), now)
}

/// The container of a lane dies in the code of that lane, whose attempt was cut.
fn dies_stuck(rig: &mut Rig, lane: LaneId, leaving: Leaving, now: Time) -> Vec<AfterCrash> {
    let (generation, _) = rig.ledger.stage(lane.container);
    let crash = std::sync::Arc::new(Crash {
        container: lane.container,
        generation,
        executing: None,
        map: None,
        call: None,
        peak_bytes: None,
        death: Death::Unresponsive,
    });
    let scene = Scene { culprit: Some(lane), positions: Vec::new() };
    let verdict = rig.ledger.crashed(lane.container, generation, &scene, &crash, leaving, now);
    verdict.expect("its generation lives").inputs
}

#[test]
fn a_function_without_limits_has_no_moment_to_look_at() {
    let mut rig = Rig::new(1, RateLimited::never());
    rig.enters(FIRST, START);
    let job = call(&mut rig, START);
    begins(&mut rig, FIRST, START);
    assert_eq!(
        (rig.ledger.has_limits_news(), rig.ledger.arm(), rig.ledger.has_deadline(job)),
        (false, None, false)
    );
}

#[test]
fn the_engine_looks_at_an_attempt_at_its_limit_and_not_before() {
    let mut rig = timing(1, 0, LimitRules::default());
    rig.enters(FIRST, START);
    call(&mut rig, START);
    let lane = begins(&mut rig, FIRST, at(5));
    assert_eq!(rig.ledger.arm(), Some(at(105)));
    assert_eq!(rig.ledger.take_due_limit(at(104)), None);
    assert_eq!(rig.ledger.take_due_limit(at(105)), Some(DueLimit::Lane(lane)));
    assert_eq!(rig.ledger.lane_step(lane, Some(0), at(105)), LaneStep::Cut(0, 100 * MS));
}

#[test]
fn a_call_with_the_timeout_of_its_function_has_no_deadline_and_keeps_nothing_of_its_own() {
    let mut rig = timing(1, 0, LimitRules::default());
    let [plain, own] = [(); 2].map(|()| rig.call());
    rig.ledger.limit(plain, Limits::new());
    assert!(!rig.ledger.has_deadline(plain) && rig.ledger.limits.calls.is_empty());
    rig.ledger.limit(own, Limits::new().deadline(50 * MS));
    assert!(rig.ledger.has_deadline(own) && !rig.ledger.has_deadline(plain));
    assert_eq!(rig.ledger.limits.calls.len(), 1);
}

#[test]
fn an_attempt_that_ends_is_not_looked_at() {
    let mut rig = timing(1, 0, LimitRules::default());
    rig.enters(FIRST, START);
    call(&mut rig, START);
    begins(&mut rig, FIRST, START);
    rig.completes(FIRST, at(99));
    assert_eq!(rig.ledger.take_due_limit(at(1_000)), None);
}

#[test]
fn the_engine_is_told_only_of_a_moment_before_the_one_that_it_waits_for() {
    let mut rig = timing(2, 0, LimitRules::default());
    rig.enters(FIRST, START);
    rig.enters(SECOND, START);
    call(&mut rig, START);
    rig.takes(FIRST, START);
    rig.ledger.lent(FIRST.into(), START);
    assert!(rig.ledger.take_limits_news(START), "it waits for nothing yet");
    assert!(!rig.ledger.has_limits_news(), "it waits for this very moment");
    call(&mut rig, START);
    rig.takes(SECOND, at(1));
    rig.ledger.lent(SECOND.into(), at(1));
    assert!(!rig.ledger.take_limits_news(at(1)), "the first attempt is due before");
    rig.completes(FIRST, at(2));
    rig.completes(SECOND, at(2));
    let job = rig.call();
    rig.ledger.limit(job, Limits::new().timeout(50 * MS));
    rig.takes(FIRST, at(3));
    rig.ledger.lent(FIRST.into(), at(3));
    assert!(rig.ledger.take_limits_news(at(3)), "this one is due before the first");
}

#[test]
fn a_deadline_at_the_moment_of_another_needs_no_look_of_its_own() {
    let mut rig = Rig::of(rules(1));
    for is_first in [true, false] {
        let job = rig.call();
        rig.ledger.limit(job, Limits::new().deadline(50 * MS));
        assert!(rig.ledger.has_limits_news(), "a deadline begins to run");
        assert_eq!(rig.ledger.take_limits_news(START), is_first);
    }
}

/// A container whose attempts have a timeout of 100 ms. It has leased several inputs of a map at the start.
/// Returns the index of the first of them too.
fn leased_under_a_timeout() -> (Rig, u64) {
    let mut rig = timing(1, 0, LimitRules::default());
    rig.enters(FIRST, START);
    let map = rig.map(100, 100);
    rig.ledger.limit(map, Limits::new());
    rig.ledger.accept(map, 50);
    // The cost of an input is known, so that a lease has several.
    for _ in 0..3 {
        rig.takes(FIRST, START);
        rig.completes(FIRST, START + MS / 1000);
    }
    let lease = rig.takes(FIRST, START);
    assert!(lease.span.len > 2, "{lease:?}");
    rig.ledger.lent(FIRST.into(), START);
    (rig, lease.span.first)
}

#[test]
fn the_inputs_behind_a_slow_one_are_given_back_and_its_clock_starts_when_it_was_seen() {
    let (mut rig, first) = leased_under_a_timeout();
    let lane = LaneId::from(FIRST);
    let sample = START + MS / 2;
    assert_eq!(rig.ledger.arm(), Some(sample));
    // At the first look another input executes than at the start.
    assert_eq!(rig.ledger.take_due_limit(sample), Some(DueLimit::Lane(lane)));
    rig.ledger.advanced(lane, first + 1, sample);
    assert_eq!(rig.ledger.lane_step(lane, Some(first + 1), sample), LaneStep::Wait);
    // At the second look it still executes.
    let second = sample + MS / 2;
    assert_eq!(rig.ledger.take_due_limit(second), Some(DueLimit::Lane(lane)));
    assert_eq!(rig.ledger.lane_step(lane, Some(first + 1), second), LaneStep::Shorten(first + 1));
    rig.ledger.truncated(lane, first + 2, None);
    assert_eq!(rig.ledger.arm(), Some(sample + 100 * MS), "it was first seen at the first look");
    assert_eq!(rig.ledger.take_due_limit(sample + 100 * MS), Some(DueLimit::Lane(lane)));
    let step = rig.ledger.lane_step(lane, Some(first + 1), sample + 100 * MS);
    assert_eq!(step, LaneStep::Cut(first + 1, 100 * MS));
}

#[test]
fn a_late_look_does_not_time_an_input_out_that_it_has_not_seen_before() {
    let (mut rig, first) = leased_under_a_timeout();
    let lane = LaneId::from(FIRST);
    rig.ledger.take_due_limit(at(500));
    rig.ledger.advanced(lane, first + 1, at(500));
    assert_eq!(rig.ledger.lane_step(lane, Some(first + 1), at(500)), LaneStep::Wait);
}

#[test]
fn an_input_that_has_not_begun_has_used_up_no_time() {
    let mut rig = timing(1, 0, LimitRules::default());
    rig.enters(FIRST, START);
    call(&mut rig, START);
    let lane = begins(&mut rig, FIRST, START);
    rig.ledger.take_due_limit(at(100));
    assert_eq!(rig.ledger.lane_step(lane, None, at(100)), LaneStep::Wait);
    let soon = rig.ledger.arm().expect("another look is due");
    assert!(soon <= at(101));
    rig.ledger.take_due_limit(soon);
    assert_eq!(rig.ledger.lane_step(lane, Some(0), soon), LaneStep::Wait);
    assert_eq!(rig.ledger.arm(), Some(at(200)));
}

#[test]
fn a_cut_attempt_spends_a_retry_which_waits_for_its_delay_and_for_the_code_to_come_out() {
    for (comes_out, begins_again) in [(105, 110), (130, 130)] {
        let mut rig = timing(2, 1, LimitRules::default());
        rig.enters(FIRST, START);
        rig.enters(SECOND, START);
        let job = call(&mut rig, START);
        let input = InputId { job, index: 0 };
        let lane = begins(&mut rig, FIRST, START);
        assert!(matches!(cut(&mut rig, lane, at(100)), AfterCut::Retry { .. }));
        assert!(matches!(rig.ledger.previous(input), Some(Previous::TimedOut)));
        assert_eq!(
            rig.claims(SECOND, at(comes_out)),
            Next::Wait { until: None },
            "its code has not come out"
        );
        rig.ledger.came_out(lane);
        if begins_again > comes_out {
            assert_eq!(rig.claims(SECOND, at(comes_out)), Next::Wait { until: Some(at(begins_again)) });
        }
        assert_eq!(rig.takes(SECOND, at(begins_again)).attempt, Attempt(2));
        let AfterCut::Final { attempts, cut, .. } = self::cut(&mut rig, SECOND.into(), at(500)) else {
            panic!("its retries are spent");
        };
        assert_eq!((attempts, cut), (Attempt(2), CutBy::Timeout(100 * MS)));
        let counts = rig.ledger.job(job).expect("it is open").counts();
        assert_eq!((counts.failed, counts.retried, counts.pending()), (1, 1, 0));
        assert_eq!(rig.ledger.totals().timed_out, 2);
    }
}

#[test]
fn an_attempt_that_is_cut_before_its_timeout_is_not_looked_at_for_that() {
    let mut rig = timing(1, 1, LimitRules::default());
    rig.enters(FIRST, START);
    call(&mut rig, START);
    let lane = begins(&mut rig, FIRST, START);
    assert_eq!(rig.ledger.arm(), Some(at(100)));
    rig.ledger.cut(lane, Position { at: 0, begun: true }, CutBy::Deadline(60 * MS), at(60));
    assert_eq!(rig.ledger.arm(), Some(at(110)), "only its code is looked at");
}

#[test]
fn a_crash_in_code_that_was_cut_counts_from_its_first_death_that_counted() {
    let restart = RateLimited::new().max_crashes(9).into();
    let limits = LimitRules { timeout: Some(100 * MS), ..LimitRules::default() };
    let retries = Retries::new(5).initial_delay(Duration::ZERO);
    let mut rig = Rig::of(Rules { limits, retries, restart, ..rules(1) });
    let job = call(&mut rig, START);
    for time in [1_000, 2_000] {
        rig.enters(FIRST, at(time));
        let lane = begins(&mut rig, FIRST, at(time));
        assert!(matches!(cut(&mut rig, lane, at(time + 100)), AfterCut::Retry { .. }));
        dies_stuck(&mut rig, lane, Leaving { abandoned: false, pressure: Pressure::None }, at(time + 150));
        let record = rig.ledger.record(InputId { job, index: 0 }).expect("it waits for its retry");
        assert_eq!(record.counted, Some(at(1_150)), "the second death is the same trouble");
    }
}

#[test]
fn only_inputs_before_the_end_are_taken_from_what_was_given_back() {
    let mut rig = Rig::of(rules(2));
    let map = rig.map(9, 2);
    for id in [FIRST, SECOND] {
        rig.enters(id, START);
        rig.takes(id, START);
    }
    for id in [FIRST, SECOND] {
        rig.ledger.released(id, START);
    }
    assert_eq!(rig.ledger.take_waiting(map, 0), []);
    assert_eq!(rig.ledger.take_waiting(map, 1), [Span { first: 0, len: 1 }]);
    assert_eq!(rig.ledger.take_waiting(map, 1), []);
    assert_eq!(rig.ledger.take_waiting(map, 2), [Span { first: 1, len: 1 }]);
}

#[test]
fn the_history_of_an_input_is_forgotten_once_its_outcome_is_made() {
    let mut rig = timing(1, 1, LimitRules::default());
    rig.enters(FIRST, START);
    let job = call(&mut rig, START);
    let lane = begins(&mut rig, FIRST, START);
    cut(&mut rig, lane, at(100));
    let input = InputId { job, index: 0 };
    assert!(rig.ledger.record(input).is_some());
    rig.ledger.forget_record(input);
    assert!(rig.ledger.record(input).is_none());
}

#[test]
fn a_cut_attempt_is_final_where_timeouts_are_not_retried() {
    let mut rig = timing(1, 9, LimitRules { retry_timeouts: false, ..LimitRules::default() });
    rig.enters(FIRST, START);
    call(&mut rig, START);
    let lane = begins(&mut rig, FIRST, START);
    assert!(matches!(cut(&mut rig, lane, at(100)), AfterCut::Final { .. }));
    assert!(rig.ledger.nothing_pending());
}

#[test]
fn code_that_overstays_has_fifty_milliseconds_and_once_more_if_it_unwinds() {
    let mut rig = timing(1, 0, LimitRules::default());
    rig.enters(FIRST, START);
    call(&mut rig, START);
    let lane = begins(&mut rig, FIRST, START);
    rig.ledger.take_due_limit(at(100));
    cut(&mut rig, lane, at(100));
    assert_eq!(rig.ledger.take_due_limit(at(149)), None);
    assert_eq!(rig.ledger.take_due_limit(at(150)), Some(DueLimit::Lane(lane)));
    assert_eq!(rig.ledger.lane_step(lane, None, at(150)), LaneStep::Overstays { extended: false });
    rig.ledger.stays(lane, false, at(150));
    assert_eq!(rig.ledger.take_due_limit(at(200)), Some(DueLimit::Lane(lane)));
    assert_eq!(rig.ledger.lane_step(lane, None, at(200)), LaneStep::Overstays { extended: true });
    rig.ledger.stays(lane, false, at(200));
    rig.ledger.came_out(lane);
    assert_eq!(rig.ledger.take_due_limit(at(1_000)), None);
}

#[test]
fn an_unresponsive_container_is_a_crash_of_its_own_and_the_second_thread_ends_the_input() {
    let mut rig = timing(1, 9, LimitRules::default());
    let job = {
        rig.enters(FIRST, START);
        call(&mut rig, START)
    };
    let lane = begins(&mut rig, FIRST, START);
    cut(&mut rig, lane, at(100));
    assert!(dies_stuck(&mut rig, lane, ABANDONED, at(150)).is_empty(), "it waits for its retry");
    let record = rig.ledger.job(job).expect("it is open").record(0).expect("it has failed").clone();
    assert_eq!((record.crashes, record.deaths.len(), record.abandoned), (0, 0, 1));
    assert_eq!(rig.ledger.lives().crashes, 1);
    rig.enters(FIRST, at(150));
    let lane = begins(&mut rig, FIRST, at(150));
    cut(&mut rig, lane, at(250));
    let inputs = dies_stuck(&mut rig, lane, ABANDONED, at(300));
    let [AfterCrash::TimedOut { attempts, limit, .. }] = &inputs[..] else { panic!("{inputs:?}") };
    assert_eq!((*attempts, *limit), (Attempt(2), 100 * MS));
    assert!(rig.ledger.nothing_pending());
}

#[test]
fn under_pressure_an_input_that_has_left_a_thread_behind_ends_as_timed_out() {
    for was_given_back in [false, true] {
        let mut rig = timing(2, 9, LimitRules::default());
        rig.enters(FIRST, START);
        rig.enters(SECOND, START);
        let waits = call(&mut rig, START);
        let lane = begins(&mut rig, FIRST, START);
        cut(&mut rig, lane, at(100));
        dies_stuck(&mut rig, lane, ABANDONED, at(150));
        if was_given_back {
            rig.enters(FIRST, at(160));
            rig.takes(FIRST, at(160));
            rig.ledger.released(FIRST, at(161)); // its retry has not begun
        }
        call(&mut rig, at(100));
        let lane = begins(&mut rig, SECOND, at(100));
        cut(&mut rig, lane, at(200));
        let full = Leaving { pressure: Pressure::Threads, ..ABANDONED };
        let inputs = dies_stuck(&mut rig, lane, full, at(250));
        let ended = inputs.iter().filter(|after| matches!(after, AfterCrash::TimedOut { .. })).count();
        assert_eq!(ended, 2, "given back: {was_given_back}, {inputs:?}");
        assert_eq!(rig.ledger.job(waits).expect("it is open").counts().failed, 1);
        assert!(rig.ledger.nothing_pending());
    }
}

#[test]
fn a_function_gives_up_once_every_container_that_is_left_hangs() {
    let mut rig = timing(2, 0, LimitRules::default());
    rig.ledger = super::Ledger::new(Rules {
        restart: RateLimited::new().into(),
        limits: LimitRules { timeout: Some(100 * MS), ..LimitRules::default() },
        ..rules(2)
    });
    rig.enters(FIRST, START);
    rig.enters(SECOND, START);
    call(&mut rig, START);
    call(&mut rig, START);
    let lanes = [FIRST, SECOND].map(|id| begins(&mut rig, id, START));
    let crash = super::fixture::crash(FIRST, rig.ledger.stage(FIRST).0);
    for (lane, gives_up) in lanes.into_iter().zip([false, true]) {
        cut(&mut rig, lane, at(100));
        rig.ledger.stays(lane, true, at(150));
        assert_eq!(rig.ledger.give_up_if_all_hang(&crash), gives_up);
    }
    assert_eq!(rig.ledger.hung(), 2);
    rig.ledger.came_out(lanes[0]);
    assert_eq!(rig.ledger.hung(), 1, "it has returned after all");
}

#[test]
fn whether_a_container_serves_is_known_without_a_look_at_each() {
    let cost = |containers: usize| {
        let limits = LimitRules { timeout: Some(100 * MS), ..LimitRules::default() };
        let mut rig = Rig::of(Rules { limits, ..rules(containers) });
        let ids: Vec<ContainerId> = rig.ledger.containers().collect();
        ids.iter().for_each(|id| _ = rig.enters(*id, START));
        let (last, others) = ids.split_last().expect("there are some");
        for id in others {
            call(&mut rig, START);
            let lane = begins(&mut rig, *id, START);
            cut(&mut rig, lane, at(100));
            rig.ledger.stays(lane, true, at(150));
        }
        let before = steps::tests::taken();
        assert!(rig.ledger.has_server(), "the last one does not hang");
        let steps = steps::tests::taken() - before;
        call(&mut rig, at(160));
        let lane = begins(&mut rig, *last, at(160));
        cut(&mut rig, lane, at(260));
        rig.ledger.stays(lane, true, at(310));
        assert!(!rig.ledger.has_server(), "all hang");
        rig.ledger.came_out(lane);
        assert!(rig.ledger.has_server(), "the last one has returned");
        steps
    };
    assert_eq!((cost(2), cost(500)), (0, 0));
}

#[test]
fn a_hung_container_does_not_count_as_one_that_is_left() {
    let mut rig = Rig::of(Rules {
        restart: RateLimited::new().into(),
        limits: LimitRules { timeout: Some(100 * MS), ..LimitRules::default() },
        ..rules(2)
    });
    rig.enters(FIRST, START);
    rig.enters(SECOND, START);
    call(&mut rig, START);
    let lane = begins(&mut rig, FIRST, START);
    cut(&mut rig, lane, at(100));
    rig.ledger.stays(lane, true, at(150));
    let full = Leaving { pressure: Pressure::Threads, ..ABANDONED };
    assert_eq!(rig.crashes_leaving(SECOND, full, at(160)).restart, Restart::GiveUp);
}

/// A map with a deadline of 100 ms that has accepted inputs at 0 and at 10 ms.
fn dated(rig: &mut Rig) -> JobId {
    let map = rig.map(100, 100);
    rig.ledger.limit(map, Limits::new().deadline(100 * MS));
    rig.ledger.accept(map, 3);
    rig.ledger.take_limits_news(START);
    rig.ledger.accept(map, 2);
    rig.ledger.take_limits_news(at(10));
    map
}

#[test]
fn each_accepted_input_of_a_map_has_its_deadline_wherever_it_waits() {
    let mut rig = Rig::with(2, RateLimited::never(), Retries::new(9).initial_delay(50 * MS), 3);
    rig.enters(FIRST, START);
    rig.enters(SECOND, START);
    let map = dated(&mut rig);
    // The first input waits for its retry, and the second one executes.
    rig.takes(FIRST, START);
    assert!(matches!(rig.ledger.failed(FIRST, Retryable::Yes, at(20)), AfterFailure::Retry));
    rig.ledger.released(FIRST, at(60));
    let executing = rig.takes(SECOND, at(60));
    assert_eq!(executing.span, Span { first: 1, len: 1 });
    assert_eq!(rig.ledger.arm(), Some(at(100)));
    assert_eq!(rig.ledger.take_due_limit(at(100)), Some(DueLimit::Job(map)));
    let (end, limit) = rig.ledger.take_expired(map, at(100)).expect("three inputs are past it");
    assert_eq!((end, limit), (3, 100 * MS));
    let mut waiting: Vec<u64> =
        rig.ledger.take_waiting(map, end).into_iter().flat_map(Span::indices).collect();
    waiting.sort_unstable();
    assert_eq!(waiting, [0, 2], "the second one executes");
    rig.ledger.ended(map, Unrun::Expired, 2);
    assert!(rig.ledger.take_waiting(map, end).is_empty());
    let cut = rig.ledger.cut(SECOND.into(), Position { at: 1, begun: true }, CutBy::Deadline(limit), at(100));
    assert!(matches!(cut, AfterCut::Final { cut: CutBy::Deadline(_), .. }), "{cut:?}");
    let counts = rig.ledger.job(map).expect("it is open").counts();
    assert_eq!((counts.failed, counts.pending()), (3, 2));
    assert_eq!(rig.ledger.totals().past_deadline, 3);
    rig.ledger.watch_job(map);
    rig.ledger.came_out(SECOND.into());
    assert_eq!(rig.ledger.arm(), Some(at(110)), "the others were accepted later");
    assert_eq!(rig.takes(FIRST, at(105)).span.first, 3);
}

#[test]
fn a_retry_at_or_after_the_deadline_is_not_waited_for() {
    for (delay, ends) in [(89, false), (90, true)] {
        let retries = Retries::new(9).initial_delay(delay * MS).backoff_coefficient(1.0);
        let mut rig = Rig::with(1, RateLimited::never(), retries, 3);
        rig.enters(FIRST, START);
        dated(&mut rig);
        rig.takes(FIRST, START);
        match rig.ledger.failed(FIRST, Retryable::Yes, at(10)) {
            AfterFailure::Retry => assert!(!ends),
            AfterFailure::PastDeadline { limit, attempts, .. } => {
                assert!(ends);
                assert_eq!((limit, attempts), (100 * MS, Attempt(1)));
            }
            AfterFailure::Final { .. } => panic!("it has retries left"),
        }
    }
}

#[test]
fn a_timeout_whose_retry_is_due_after_the_deadline_ends_by_the_deadline() {
    let mut rig = timing(1, 9, LimitRules { deadline: Some(105 * MS), ..LimitRules::default() });
    rig.enters(FIRST, START);
    call(&mut rig, START);
    let lane = begins(&mut rig, FIRST, START);
    let cut = cut(&mut rig, lane, at(100));
    assert!(
        matches!(cut, AfterCut::Final { cut: CutBy::Deadline(limit), .. } if limit == 105 * MS),
        "{cut:?}"
    );
}

#[test]
fn a_job_that_is_closed_leaves_no_limit_behind() {
    let mut rig = Rig::of(Rules {
        limits: LimitRules { deadline: Some(100 * MS), ..LimitRules::default() },
        ..rules(1)
    });
    let call = call(&mut rig, START);
    let map = dated(&mut rig);
    for job in [call, map] {
        let waiting = rig.ledger.take_pending(job).iter().map(|span| span.len).sum();
        rig.ledger.ended(job, Unrun::Cancelled, waiting);
        rig.ledger.close(job);
    }
    assert_eq!((rig.ledger.arm(), rig.ledger.take_due_limit(at(10_000))), (None, None));
}

#[test]
fn an_enter_is_looked_at_at_its_limit_unless_it_has_ended() {
    let limits = LimitRules { enter_timeout: Some(100 * MS), ..LimitRules::default() };
    let mut rig = Rig::of(Rules { limits, ..rules(2) });
    for id in [FIRST, SECOND] {
        rig.ledger.begin(id, START).expect("it may begin");
        rig.ledger.begins_to_enter(id, START);
    }
    let (generation, _) = rig.ledger.stage(SECOND);
    assert!(rig.ledger.entered(SECOND, generation, at(99)));
    assert_eq!(rig.ledger.take_due_limit(at(100)), Some(DueLimit::Enter(FIRST)));
    assert_eq!(rig.ledger.enter_overstays(FIRST), Some(100 * MS));
    assert_eq!(rig.ledger.take_due_limit(at(10_000)), None);
    rig.ledger.enters_on(FIRST, at(100));
    assert_eq!(rig.ledger.take_due_limit(at(149)), None);
    assert_eq!(rig.ledger.take_due_limit(at(150)), Some(DueLimit::Enter(FIRST)), "it is looked at again");
}

#[test]
fn a_look_costs_nothing_for_what_is_not_due() {
    let cost = |open: usize| {
        let mut rig = timing(1, 0, LimitRules { deadline: Some(100_000 * MS), ..LimitRules::default() });
        rig.enters(FIRST, START);
        call(&mut rig, START);
        (0..open).for_each(|_| _ = call(&mut rig, START));
        let lane = begins(&mut rig, FIRST, START);
        let before = steps::tests::taken();
        assert_eq!(rig.ledger.take_due_limit(at(100)), Some(DueLimit::Lane(lane)));
        assert_eq!(rig.ledger.lane_step(lane, Some(0), at(100)), LaneStep::Cut(0, 100 * MS));
        cut(&mut rig, lane, at(100));
        rig.ledger.came_out(lane);
        rig.ledger.arm();
        steps::tests::taken() - before
    };
    assert_eq!(cost(10), cost(10_000));
}

#[test]
fn an_input_in_whose_poll_the_thread_is_stuck_is_not_blamed_for_the_timeout_of_another() {
    let limits = LimitRules { timeout: Some(100 * MS), ..LimitRules::default() };
    let mut rig = Rig::of(Rules { lanes: 4, has_state: false, limits, ..rules(1) });
    rig.enters(FIRST, START);
    call(&mut rig, START);
    let cut_lane = begins(&mut rig, LaneId::new(FIRST, 0), START);
    let stuck = call(&mut rig, at(50));
    let stuck_lane = begins(&mut rig, LaneId::new(FIRST, 1), at(50));
    cut(&mut rig, cut_lane, at(100));
    let (generation, _) = rig.ledger.stage(FIRST);
    let crash = std::sync::Arc::new(Crash {
        death: Death::Unresponsive,
        ..(*super::fixture::crash(FIRST, generation)).clone()
    });
    let positions = vec![(stuck_lane, Position { at: 0, begun: true })];
    let scene = Scene { culprit: Some(stuck_lane), positions };
    let verdict = rig.ledger.crashed(FIRST, generation, &scene, &crash, ABANDONED, at(150));
    let inputs = verdict.expect("its generation lives").inputs;
    assert!(matches!(inputs[..], [AfterCrash::Pending { .. }]), "{inputs:?}");
    let record = rig.ledger.job(stuck).expect("it is open").record(0).expect("it was executing");
    assert_eq!((record.crashes, record.deaths.len(), record.abandoned), (0, 0, 1));
    rig.enters(FIRST, at(150));
    assert_eq!(rig.takes(LaneId::new(FIRST, 0), at(150)).job, stuck, "it is replayed");
}
