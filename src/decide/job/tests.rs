//! Tests of a job: a call is a map of one input.

use proptest::prelude::*;

use super::*;
use crate::decide::ledger::Queue;

fn a_map() -> Job {
    let sizer = ClaimSizer::default();
    Job::Map(Box::new(MapJob::new(OnFailure::GoOn, Window::Fixed(1), None, sizer)))
}

fn a_call() -> Job {
    Job::Call(CallJob::default())
}

#[test]
fn a_call_counts_as_a_map_of_one_input_does() {
    let endings =
        [InputEnd::Ok, InputEnd::Failed, InputEnd::Poisoned, InputEnd::Cancelled, InputEnd::GivenUp];
    for how in endings {
        let mut jobs = [a_map(), a_call()];
        for job in &mut jobs {
            assert_eq!(job.accept(1), 0);
            assert_eq!(job.fresh(), 1);
            assert_eq!(job.take_fresh(8), Some(Span { first: 0, len: 1 }));
            assert_eq!(job.take_fresh(8), None);
            job.retries();
            job.replays();
            job.replays();
            job.has_not_replayed();
            assert_eq!(job.counts().pending(), 1);
            job.count(how, 0);
            assert_eq!(job.counts().pending(), 1, "nothing has ended yet");
            job.count(how, 1);
        }
        let [map, call] = jobs.map(|job| job.counts());
        assert_eq!(call, map, "{how:?}");
        assert_eq!(call.ended(), 1);
    }
}

#[test]
fn a_call_waits_in_queues_as_a_map_of_one_input_does() {
    for mut job in [a_map(), a_call()] {
        let mut queue = Queue::default();
        let (left, kept) = (queue.push_back(()), queue.push_back(()));
        job.waits_at(left);
        job.has_left(left);
        assert_eq!(job.take_requeued(), []);
        job.waits_at(kept);
        job.has_left(left);
        assert_eq!(job.take_requeued(), [kept]);
        assert_eq!(job.take_requeued(), []);
        assert!(job.record(0).is_none());
        assert_eq!(job.waiting(), [0; 0], "an input without a record does not wait");
        job.record_or_new(0).waits = Some(Waits::Retry(Time::default()));
        assert_eq!(job.waiting(), [0]);
        assert!(job.record_mut(0).is_some_and(|record| record.waits.take().is_some()));
        assert_eq!(job.waiting(), [0; 0]);
        assert!(job.take_record(0).is_some());
        assert!(job.take_record(0).is_none());
    }
}

#[test]
#[should_panic(expected = "a call has one input")]
fn a_second_input_of_a_call_is_refused() {
    let mut call = a_call();
    call.accept(1);
    call.accept(1);
}

#[test]
#[should_panic(expected = "a call ends once")]
fn a_second_ending_of_a_call_is_refused() {
    let mut call = a_call();
    call.accept(1);
    call.count(InputEnd::Ok, 1);
    call.count(InputEnd::Cancelled, 1);
}

#[test]
fn a_queued_call_is_small() {
    assert!(size_of::<Job>() <= 40, "{}", size_of::<Job>());
}

proptest! {
    #[test]
    fn fresh_inputs_are_taken_in_order_and_each_once(
        lens in proptest::collection::vec(1u64..9, 0..6),
        takes in proptest::collection::vec(1u64..9, 0..60),
    ) {
        let mut job = a_map();
        let all: u64 = lens.iter().sum();
        for len in lens {
            job.accept(len);
        }
        let mut taken = Vec::new();
        for most in takes {
            let Some(span) = job.take_fresh(most) else { break };
            prop_assert!((1..=most).contains(&span.len));
            taken.extend(span.indices());
        }
        prop_assert!(taken.iter().copied().eq(0..taken.len() as u64));
        prop_assert_eq!(job.fresh(), all - taken.len() as u64);
    }
}

#[test]
fn each_execution_is_an_attempt_however_it_ended() {
    let record = InputRecord { failures: 2, crashes: 4, kills: 8, ..InputRecord::default() };
    assert_eq!(record.attempt(), Attempt(15));
    for mut job in [a_map(), a_call()] {
        assert_eq!(job.attempt(0), Attempt::FIRST);
        *job.record_or_new(0) = record.clone();
        assert_eq!(job.attempt(0), Attempt(15));
    }
}
