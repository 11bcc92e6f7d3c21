//! How the ledger puts batches together, waits for them, and replays those that crash.

use std::time::Duration;

use crate::base::ids::{ContainerId, InputId, JobId, LaneId};
use crate::decide::job::Span;
use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, at, panic, rules};
use crate::decide::ledger::{
    AfterCrash, Batching, Lease, LeaseKind, Position, Retryable, Rules, Steal, Unrun,
};
use crate::decide::life::Next;
use crate::decide::restart::RateLimited;
use crate::decide::retries::Retries;
use crate::decide::time::Time;
use crate::values::crash::Death;

const INNOCENT: LeaseKind = LeaseKind::Replay { suspect: false };
const SUSPECT: LeaseKind = LeaseKind::Replay { suspect: true };
const WAIT: Next<Vec<Lease>> = Next::Wait { until: None };

fn under(rules: Rules) -> Rig {
    let mut rig = Rig::of(rules);
    for id in rig.ledger.containers() {
        rig.enters(id, START);
    }
    rig
}

/// Live containers whose batches have this size, and wait for this time.
fn batches_of(containers: usize, size: u64, wait: Duration) -> Rig {
    let retries = Retries::new(1).initial_delay(Duration::ZERO);
    under(Rules { batch: Some(Batching { size, wait }), retries, ..rules(containers) })
}

fn inputs(leases: &[Lease]) -> Vec<(JobId, u64)> {
    leases.iter().flat_map(|lease| lease.span.indices().map(|index| (lease.job, index))).collect()
}

/// The inputs of the next batch of a container.
fn batch(rig: &mut Rig, id: ContainerId, now: Time) -> Vec<(JobId, u64)> {
    match rig.takes_batch(id, now) {
        Next::Work(leases) => inputs(&leases),
        other => panic!("there is no batch: {other:?}"),
    }
}

fn kinds(rig: &mut Rig, id: ContainerId, now: Time) -> Vec<LeaseKind> {
    match rig.takes_batch(id, now) {
        Next::Work(leases) => leases.iter().map(|lease| lease.kind).collect(),
        other => panic!("there is no batch: {other:?}"),
    }
}

fn calls(rig: &mut Rig, calls: usize) -> Vec<JobId> {
    (0..calls).map(|_| rig.call()).collect()
}

fn of(jobs: &[JobId]) -> Vec<(JobId, u64)> {
    jobs.iter().map(|job| (*job, 0)).collect()
}

/// The indices that a map has in a batch, which are its own only.
fn indices(batch: &[(JobId, u64)]) -> Vec<u64> {
    batch.iter().map(|(_, index)| *index).collect()
}

#[test]
fn a_batch_is_filled_from_calls_and_maps_and_replays_and_retries() {
    let mut rig = batches_of(2, 6, Duration::ZERO);
    let again = calls(&mut rig, 2);
    batch(&mut rig, FIRST, START);
    rig.ledger.failed(LaneId::new(FIRST, 0), Retryable::Yes, START);
    let executing = rig.ledger.leased_by(FIRST).map(|lane| (lane, Position { at: 0, begun: true }));
    let positions = executing.filter(|(lane, _)| *lane == LaneId::new(FIRST, 1)).collect();
    rig.ledger.released(LaneId::new(FIRST, 0), START);
    rig.is_killed(FIRST, positions, START);
    rig.enters(FIRST, START);
    let fresh = calls(&mut rig, 1);
    let (map, other) = (rig.map(10, 2), rig.map(10, 9));
    let mut batch = batch(&mut rig, FIRST, START);
    batch.sort_unstable();
    let (again, fresh) = (of(&again), of(&fresh));
    assert_eq!(batch, [again, fresh, vec![(map, 0), (map, 1), (other, 0)]].concat());
}

#[test]
fn a_batch_takes_what_is_there_and_never_more_than_its_size() {
    let mut rig = batches_of(2, 4, Duration::ZERO);
    let jobs = calls(&mut rig, 6);
    assert_eq!(batch(&mut rig, FIRST, START), of(&jobs[..4]));
    assert_eq!(batch(&mut rig, SECOND, START), of(&jobs[4..]));
    rig.completes_batch(FIRST, at(1));
    assert_eq!(rig.takes_batch(FIRST, at(1)), WAIT);
    assert_eq!(rig.ledger.inputs_executing(), 2);
}

#[test]
fn cheap_inputs_of_one_map_are_leased_in_whole_batches() {
    let mut rig = batches_of(1, 4, Duration::ZERO);
    let map = rig.map(10_000, 5_000);
    let mut now = START;
    let mut longest = 0;
    let mut executed = 0;
    while let Next::Work(leases) = rig.takes_batch(FIRST, now) {
        assert_eq!(leases.len(), 1, "one lease has enough inputs");
        let len = leases[0].span.len;
        assert!(len % 4 == 0, "a batch inside a lease is whole");
        longest = longest.max(len);
        executed += len;
        now = now + Duration::from_nanos(20 * len);
        rig.completes_batch(FIRST, now);
    }
    assert_eq!((executed, longest > 400), (5_000, true));
    assert_eq!(rig.ledger.job(map).map(|job| job.counts().ok), Some(5_000));
}

#[test]
fn only_whole_batches_that_have_not_begun_are_stolen() {
    let mut rig = batches_of(2, 4, Duration::ZERO);
    rig.map(1_000, 500);
    let mut now = START;
    let lease = loop {
        let Next::Work(leases) = rig.takes_batch(FIRST, now) else { panic!("there is more") };
        if leases[0].span.len > 8 {
            break leases[0];
        }
        now = now + Duration::from_nanos(400);
        rig.completes_batch(FIRST, now);
    };
    let span = lease.span;
    rig.ledger.advanced(FIRST, span.first + 5, now);
    // The second batch executes, and its first input has ended.
    let late = now + Duration::from_millis(5);
    let begun = span.first + 8;
    assert!(
        matches!(rig.ledger.steal(late), Steal::Before { index, .. } if index == begun),
        "each of the batches may take as long"
    );
    rig.ledger.truncated(FIRST.into(), begun, None);
    assert_eq!(rig.ledger.steal(late), Steal::Nothing, "a batch that executes is not split");
}

#[test]
fn a_batch_waits_until_it_is_full_or_has_waited_for_long_enough() {
    let mut rig = batches_of(2, 3, Duration::from_millis(50));
    let first = rig.call();
    assert_eq!(rig.takes_batch(FIRST, at(0)), Next::Wait { until: Some(at(50)) });
    assert!(!rig.ledger.has_more(at(10), &rig.sources), "no container is woken for half a batch");
    let second = rig.call();
    assert_eq!(rig.takes_batch(SECOND, at(49)), Next::Wait { until: Some(at(50)) });
    assert_eq!(batch(&mut rig, SECOND, at(50)), of(&[first, second]));
    let third = calls(&mut rig, 3);
    assert_eq!(batch(&mut rig, FIRST, at(51)), of(&third), "a full batch does not wait");
}

#[test]
fn the_wait_counts_from_the_first_input_whether_or_not_a_container_sees_it() {
    let mut rig = batches_of(1, 3, Duration::from_millis(50));
    let jobs = calls(&mut rig, 4);
    assert_eq!(batch(&mut rig, FIRST, at(0)), of(&jobs[..3]));
    assert_eq!(rig.ledger.next_due(at(0)), Some(at(50)), "one is left, and waits from now on");
    rig.completes_batch(FIRST, at(80));
    assert_eq!(batch(&mut rig, FIRST, at(80)), of(&jobs[3..]));
    rig.ledger.note_arrival(at(100));
    let last = rig.call();
    rig.completes_batch(FIRST, at(140));
    assert_eq!(rig.takes_batch(FIRST, at(140)), Next::Wait { until: Some(at(150)) });
    assert_eq!(batch(&mut rig, FIRST, at(150)), of(&[last]));
}

#[test]
fn a_batch_does_not_wait_where_nothing_more_can_come() {
    let mut rig = batches_of(1, 10, Duration::from_secs(60));
    rig.map(10, 2);
    assert_eq!(indices(&batch(&mut rig, FIRST, START)), [0, 1], "the map is at its end");
    rig.completes_batch(FIRST, at(1));
    let open = rig.map(10, 2);
    rig.sources.more.insert(open);
    assert_eq!(rig.takes_batch(FIRST, at(1)), Next::Wait { until: Some(at(60_001)) });
    rig.sources.more.remove(&open);
    rig.ledger.requeue_map(open);
    assert_eq!(indices(&batch(&mut rig, FIRST, at(2))), [0, 1], "it is at its end now");
    rig.completes_batch(FIRST, at(2));
    let narrow = rig.map(2, 5);
    rig.sources.more.insert(narrow);
    assert_eq!(indices(&batch(&mut rig, FIRST, at(3))), [0, 1], "its window is full");
    rig.completes_batch(FIRST, at(3));
    let unread = rig.map(10, 0);
    rig.sources.more.insert(unread);
    rig.map(10, 3);
    assert_eq!(rig.takes_batch(FIRST, at(4)), Next::Wait { until: Some(at(60_004)) });
    rig.ledger.take_pending(unread); // it was cancelled
    assert_eq!(batch(&mut rig, FIRST, at(5)).len(), 3);
}

#[test]
fn a_batch_with_a_call_waits_because_more_calls_may_come_and_a_drain_does_not_wait() {
    let mut rig = batches_of(1, 10, Duration::from_secs(60));
    let call = rig.call();
    assert_eq!(rig.takes_batch(FIRST, START), Next::Wait { until: Some(at(60_000)) });
    rig.ledger.advance_mode(super::Mode::Draining);
    assert_eq!(batch(&mut rig, FIRST, at(1)), of(&[call]));
}

#[test]
fn of_several_that_crash_none_pays_and_they_are_replayed_in_halves_until_one_crashes_alone() {
    let mut rig = batches_of(1, 8, Duration::ZERO);
    let jobs = calls(&mut rig, 8);
    let guilty = jobs[5];
    let mut executions = vec![0; 8];
    let mut crashes = 0;
    let mut now = at(0);
    let mut poisoned = None;
    while let Next::Work(leases) = rig.takes_batch(FIRST, now) {
        now = now + Duration::from_secs(1);
        for lease in &leases {
            executions[jobs.iter().position(|job| *job == lease.job).expect("it is one of them")] += 1;
        }
        if !leases.iter().any(|lease| lease.job == guilty) {
            rig.completes_batch(FIRST, now);
            continue;
        }
        crashes += 1;
        let verdict = rig.batch_dies(FIRST, panic(), now);
        for after in verdict.inputs {
            match after {
                AfterCrash::Pending { input } => {
                    let record = rig.ledger.record(input).expect("it was executing");
                    let charged = u32::from(leases.len() == 1);
                    assert!(record.crashes >= charged && (charged == 1 || record.crashes == 0));
                }
                AfterCrash::Poisoned { input, deaths, .. } => {
                    assert_eq!(input.job, guilty);
                    poisoned = Some(deaths.len());
                }
                AfterCrash::Lost { .. } | AfterCrash::TimedOut { .. } => panic!("nothing is lost"),
            }
        }
        now = now + Duration::from_secs(1);
        rig.enters(FIRST, now);
    }
    assert_eq!(poisoned, Some(4), "it has crashed alone as often as it may");
    assert_eq!(crashes, 3 + 1 + 3, "log2 of the size, once alone, and the retries");
    let innocent = executions.iter().enumerate().filter(|(at, _)| *at != 5).map(|(_, executed)| *executed);
    assert!(innocent.clone().all(|executed| executed <= 4), "{executions:?}");
    assert!(rig.ledger.nothing_pending() && rig.ledger.halves.is_empty());
}

#[test]
fn a_half_has_its_container_to_itself_and_a_suspect_as_well() {
    let mut rig = batches_of(2, 4, Duration::ZERO);
    let map = rig.map(100, 3);
    assert_eq!(indices(&batch(&mut rig, FIRST, START)), [0, 1, 2]);
    rig.batch_dies(FIRST, panic(), START);
    rig.enters(FIRST, START);
    rig.sources.inputs.insert(map, 5);
    rig.ledger.requeue_map(map);
    assert_eq!(indices(&batch(&mut rig, FIRST, START)), [0, 1], "nothing joins the larger half");
    assert_eq!(kinds(&mut rig, SECOND, START), [INNOCENT], "the other half executes elsewhere");
    rig.batch_dies(SECOND, panic(), START);
    rig.enters(SECOND, START);
    assert_eq!(kinds(&mut rig, SECOND, START), [SUSPECT], "it has crashed alone, and pays");
    rig.completes_batch(SECOND, at(1));
    assert_eq!(indices(&batch(&mut rig, SECOND, at(1))), [3, 4, 5, 6]);
}

#[test]
fn the_crash_of_a_half_is_no_loop_crash_and_each_crash_of_several_counts_once() {
    let restart = RateLimited::new().max_crashes(2).max_failure_rate(0.0).into();
    let batch_rules = Some(Batching { size: 4, wait: Duration::ZERO });
    let mut rig = under(Rules { batch: batch_rules, restart, ..rules(1) });
    calls(&mut rig, 4);
    batch(&mut rig, FIRST, START);
    rig.batch_dies(FIRST, panic(), START);
    assert_eq!(rig.ledger.crash_loop(at(1)).map(|(crashes, _)| crashes), Some(1));
    rig.enters(FIRST, at(1));
    assert_eq!(batch(&mut rig, FIRST, at(1)).len(), 2);
    rig.batch_dies(FIRST, panic(), at(2));
    assert_eq!(rig.ledger.crash_loop(at(2)).map(|(crashes, _)| crashes), Some(1), "that was a half");
    assert!(rig.ledger.gave_up().is_none(), "there were two crashes, and not one for each input");
}

#[test]
fn after_a_memory_kill_a_batch_is_halved_as_well() {
    let mut rig = batches_of(1, 4, Duration::ZERO);
    let jobs = calls(&mut rig, 4);
    batch(&mut rig, FIRST, START);
    let memory = Death::MemoryLimit { limit: 10, used: 11, reclaimed: true };
    rig.batch_dies(FIRST, memory, START);
    rig.enters(FIRST, START);
    assert_eq!(batch(&mut rig, FIRST, START), of(&jobs[..2]));
    assert!(jobs.iter().all(|job| rig.ledger.job(*job).expect("it is open").record(0).is_some()));
}

#[test]
fn with_no_crash_retries_a_batch_is_lost_with_its_container() {
    let batch_rules = Some(Batching { size: 4, wait: Duration::ZERO });
    let mut rig = under(Rules { batch: batch_rules, crash_retries: 0, ..rules(1) });
    calls(&mut rig, 3);
    batch(&mut rig, FIRST, START);
    let verdict = rig.batch_dies(FIRST, panic(), START);
    assert_eq!(verdict.inputs.len(), 3);
    assert!(verdict.inputs.iter().all(|after| matches!(after, AfterCrash::Lost { .. })));
    assert!(rig.ledger.nothing_pending());
}

#[test]
fn an_input_that_is_cancelled_leaves_its_half_and_the_last_one_takes_the_half_with_it() {
    let mut rig = batches_of(1, 4, Duration::ZERO);
    let jobs = calls(&mut rig, 4);
    batch(&mut rig, FIRST, START);
    rig.batch_dies(FIRST, panic(), START);
    let cancel = |rig: &mut Rig, job: JobId| {
        assert_eq!(rig.ledger.take_pending(job), [Span { first: 0, len: 1 }]);
        rig.ledger.ended(job, Unrun::Cancelled, 1);
    };
    cancel(&mut rig, jobs[0]);
    cancel(&mut rig, jobs[2]);
    cancel(&mut rig, jobs[3]);
    assert_eq!(rig.ledger.again().replay, 1);
    rig.enters(FIRST, START);
    assert_eq!(batch(&mut rig, FIRST, START), of(&jobs[1..2]));
    rig.completes_batch(FIRST, at(1));
    assert_eq!(rig.takes_batch(FIRST, at(1)), WAIT);
}

#[test]
fn a_half_that_is_killed_by_hand_is_replayed_as_it_was_and_costs_nothing() {
    let mut rig = batches_of(1, 4, Duration::ZERO);
    let jobs = calls(&mut rig, 4);
    batch(&mut rig, FIRST, START);
    rig.batch_dies(FIRST, panic(), START);
    rig.enters(FIRST, START);
    batch(&mut rig, FIRST, START);
    rig.all_are_killed(FIRST, None, at(1));
    rig.enters(FIRST, at(1));
    assert_eq!(batch(&mut rig, FIRST, at(1)), of(&jobs[2..]), "the other half was waiting before it");
    rig.completes_batch(FIRST, at(2));
    assert_eq!(batch(&mut rig, FIRST, at(2)), of(&jobs[..2]), "it is whole");
    assert_eq!(rig.ledger.record(InputId { job: jobs[0], index: 0 }).expect("it was executing").crashes, 0);
}

#[test]
fn a_batch_that_is_killed_by_hand_is_replayed_among_others() {
    let mut rig = batches_of(1, 4, Duration::ZERO);
    let map = rig.map(10, 2);
    batch(&mut rig, FIRST, START);
    rig.all_are_killed(FIRST, None, at(1));
    rig.enters(FIRST, at(1));
    let call = rig.call();
    assert_eq!(batch(&mut rig, FIRST, at(1)), [(call, 0), (map, 0), (map, 1)]);
}

#[test]
fn a_batch_that_is_recalled_while_it_executes_is_known_with_its_size() {
    let mut rig = batches_of(1, 4, Duration::ZERO);
    let map = rig.map(10, 4);
    batch(&mut rig, FIRST, START);
    let lane = LaneId::from(FIRST);
    let position = Some(Position { at: 0, begun: true });
    assert_eq!(rig.ledger.executing_at(lane, position), 0..4);
    rig.ledger.recalled(lane, position, at(1));
    assert_eq!(rig.ledger.orphan(lane).map(|orphan| orphan.together), Some(4));
    assert_eq!(rig.ledger.take_pending(map), [Span { first: 0, len: 4 }]);
}
