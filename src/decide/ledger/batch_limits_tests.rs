//! How the ledger cuts batches at their timeouts, and how it measures what their inputs cost.

use std::time::Duration;

use crate::base::ids::{Attempt, InputId, JobId, LaneId};
use crate::decide::job::OnFailure;
use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, at, rules};
use crate::decide::ledger::{AfterCut, Batching, CutBy, Lease, Mode, Position, Retryable, Rules};
use crate::decide::life::Next;
use crate::decide::limits::{LimitRules, Limits};
use crate::decide::retries::Retries;
use crate::decide::window::Window;
use crate::values::crash::Previous;

const TIMEOUT: Duration = Duration::from_millis(100);

/// Two live containers with batches of four inputs, which may take [`TIMEOUT`].
fn timed(crash_retries: u32) -> Rig {
    let batch = Some(Batching { size: 4, wait: Duration::ZERO });
    let limits = LimitRules { timeout: Some(TIMEOUT), ..LimitRules::default() };
    let mut rig = Rig::of(Rules { batch, limits, crash_retries, ..rules(2) });
    for id in rig.ledger.containers() {
        rig.enters(id, START);
    }
    rig
}

/// Calls that the first container begins together.
fn together(rig: &mut Rig, calls: usize) -> Vec<JobId> {
    let jobs: Vec<JobId> = (0..calls).map(|_| rig.call()).collect();
    jobs.iter().for_each(|job| rig.ledger.limit(*job, Limits::new()));
    assert_eq!(takes(rig, START), jobs);
    jobs
}

/// The jobs of the next batch of the first container.
fn takes(rig: &mut Rig, now: crate::decide::time::Time) -> Vec<JobId> {
    match rig.takes_batch(FIRST, now) {
        Next::Work(leases) => leases.iter().map(|lease| lease.job).collect(),
        other => panic!("there is no batch: {other:?}"),
    }
}

/// The batch of the first container comes to its timeout while its code executes.
fn cut(rig: &mut Rig) -> Vec<AfterCut> {
    let begun =
        |lane| (lane, Position { at: rig.ledger.lease(lane).expect("it is leased").span.first, begun: true });
    let positions: Vec<(LaneId, Position)> = rig.ledger.leased_by(FIRST).map(begun).collect();
    rig.ledger.cut_batch(FIRST, &positions, TIMEOUT, at(100))
}

fn only(job: JobId) -> InputId {
    InputId { job, index: 0 }
}

#[test]
fn a_batch_that_times_out_is_replayed_free_in_halves_once_its_code_has_returned() {
    let mut rig = timed(1);
    let jobs = together(&mut rig, 4);
    let replayed: Vec<InputId> = cut(&mut rig)
        .into_iter()
        .map(|after| match after {
            AfterCut::Retry { input } => input,
            AfterCut::Final { .. } => panic!("no input is to blame: {after:?}"),
        })
        .collect();
    assert_eq!(replayed, [0, 1, 2, 3].map(|at: usize| only(jobs[at])));
    for job in &jobs {
        let record = rig.ledger.record(only(*job)).expect("it was executing");
        assert_eq!((record.crashes, record.freed, record.kills), (0, 1, 1));
        assert!(matches!(record.previous, Some(Previous::TimedOut)));
        assert_eq!(rig.attempt(only(*job)), Attempt(2));
    }
    let totals = rig.ledger.totals();
    assert_eq!((totals.counts.replayed, totals.counts.failed, totals.timed_out), (4, 0, 0));
    assert_eq!(rig.takes_batch(SECOND, at(101)), Next::Wait { until: None }, "the code has not returned");
    assert_eq!(rig.ledger.take_pending(jobs[1]).len(), 1);
    rig.ledger.came_out(LaneId::from(FIRST));
    for half in [&[jobs[0], jobs[2]][..], &[jobs[3]][..]] {
        assert_eq!(takes(&mut rig, at(102)), half, "without the call that was cancelled meanwhile");
        rig.completes_batch(FIRST, at(103));
    }
    assert_eq!(rig.takes_batch(FIRST, at(104)), Next::Wait { until: None });
}

#[test]
fn where_no_input_of_a_batch_may_begin_again_each_fails_by_the_timeout() {
    for (crash_retries, mode) in [(0, Mode::Running), (0, Mode::Stopping), (1, Mode::Stopping)] {
        let mut rig = timed(crash_retries);
        let jobs = together(&mut rig, 3);
        rig.ledger.advance_mode(mode);
        for (after, job) in cut(&mut rig).into_iter().zip(&jobs) {
            let AfterCut::Final { input, attempts, deaths, cut, ends_map } = after else {
                panic!("it may not begin again: {after:?}")
            };
            assert_eq!((input, attempts, deaths.len(), ends_map), (only(*job), Attempt::FIRST, 0, false));
            assert!(matches!(cut, CutBy::Timeout(TIMEOUT)));
            assert!(rig.ledger.record(input).is_none());
        }
        let totals = rig.ledger.totals();
        assert_eq!((totals.counts.replayed, totals.counts.failed, totals.timed_out), (0, 3, 3));
        assert!(rig.ledger.nothing_pending());
    }
}

#[test]
fn a_timeout_that_no_input_survives_ends_a_map_that_ends_by_its_failures() {
    for on_failure in [OnFailure::EndMap, OnFailure::GoOn] {
        let mut rig = timed(0);
        let map = rig.ledger.open(on_failure, Window::Fixed(9), None);
        rig.ledger.limit(map, Limits::new());
        rig.sources.inputs.insert(map, 2);
        assert_eq!(takes(&mut rig, START), [map]);
        let ends: Vec<bool> = cut(&mut rig)
            .into_iter()
            .map(|after| matches!(after, AfterCut::Final { ends_map: true, .. }))
            .collect();
        assert_eq!(ends, [on_failure == OnFailure::EndMap; 2]);
    }
}

#[test]
fn each_input_of_a_batch_of_several_parts_takes_its_share_of_the_time() {
    let mut rig = timed(1);
    together(&mut rig, 4);
    rig.completes_batch(FIRST, at(8));
    assert_eq!(rig.ledger.usual_cost(), Some(Duration::from_millis(2)));
    assert_eq!((rig.ledger.totals().batches, rig.ledger.totals().batched), (1, 4));
}

#[test]
fn batches_of_one_lease_are_executed_one_after_the_other() {
    let mut rig = timed(1);
    let map = rig.map(10_000, 5_000);
    let mut now = START;
    let lease = loop {
        let Next::Work(leases) = rig.takes_batch(FIRST, now) else { panic!("there are inputs enough") };
        let Lease { span, .. } = leases[0];
        if span.len >= 8 {
            break span;
        }
        now = now + Duration::from_nanos(100);
        rig.completes_batch(FIRST, now);
    };
    let lane = LaneId::from(FIRST);
    let before = rig.ledger.totals().batches;
    rig.ledger.advanced(lane, lease.first + 4, now + Duration::from_millis(80));
    rig.ledger.truncated(lane, lease.first + 4, None);
    rig.ledger.released(lane, now + Duration::from_millis(80));
    assert_eq!(rig.ledger.totals().batches, before + 1);
    assert_eq!(
        rig.ledger.usual_cost(),
        Some(Duration::from_millis(20)),
        "the first batch has taken all of the time"
    );
    assert!(rig.ledger.job(map).is_some());
}

#[test]
fn a_batch_waits_for_more_calls_although_its_only_call_waits_for_its_retry() {
    let wait = Duration::from_millis(10);
    let retries = Retries::new(1).initial_delay(Duration::ZERO);
    let mut rig = Rig::of(Rules { batch: Some(Batching { size: 4, wait }), retries, ..rules(1) });
    rig.enters(FIRST, START);
    let call = rig.call();
    rig.ledger.note_arrival(START);
    assert_eq!(takes(&mut rig, at(10)), [call]);
    let lane = LaneId::from(FIRST);
    rig.ledger.failed(lane, Retryable::Yes, at(11));
    rig.ledger.released(lane, at(11));
    assert_eq!(rig.takes_batch(FIRST, at(11)), Next::Wait { until: Some(at(21)) });
    assert_eq!(takes(&mut rig, at(21)), [call]);
}
