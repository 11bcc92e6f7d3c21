//! Two things at the same moment, in a container that executes a batch: what the random worlds have found.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation};
use crate::code::token::Token;
use crate::data::cursor::Advance;
use crate::data::erased::TypeInfo;
use crate::data::failure::Reason;
use crate::data::prefetch::PrefetchQueue;
use crate::data::shape::Why;
use crate::decide::ledger::{Batching, Retryable};
use crate::decide::life::Next;
use crate::decide::limits::LimitRules;
use crate::decide::restart::Restart;
use crate::engine::dispatch::{FeederEnd, Wait, Work};
use crate::engine::map_buffers::JobSource;
use crate::simulator::rig::{Rig, panic};
use crate::values::crash::{Death, Panic};
use crate::values::event::Event;

const MS: Duration = Duration::from_millis(1);

fn batches_of(size: u64, wait: Duration, containers: usize) -> Rig {
    Rig::of_batches(Batching { size, wait }, containers)
}

fn generation(rig: &Rig, id: ContainerId) -> Generation {
    rig.engine.under_lock(|state| state.ledger.stage(id).0)
}

/// The next batch of a container. It sleeps if there is none.
fn ask(rig: &Rig, at: usize) -> Vec<Work> {
    let (id, _) = rig.containers[at];
    let generation = generation(rig, id);
    rig.engine.wake(id, generation);
    let mut batch = Vec::new();
    let next = rig.engine.try_next_batch(id, generation, &mut batch);
    assert!(matches!(next, Next::Work(()) | Next::Wait { .. }), "it lives");
    batch
}

fn begin(batch: &[Work]) {
    batch.iter().for_each(|work| assert!(work.run.begin::<u64, u64, u64>().is_some()));
}

fn complete(batch: &[Work]) {
    for work in batch {
        let Some(mut active) = work.run.begin::<u64, u64, u64>() else { continue };
        while active.publish(1).expect("nothing fences it") == Advance::Next {}
    }
}

fn crash(rig: &Rig, at: usize) {
    let (id, _) = rig.containers[at];
    assert_eq!(rig.engine.crashed(id, generation(rig, id), panic()), Some(Restart::Now));
}

fn suspects(rig: &Rig) -> u64 {
    rig.engine.under_lock(|state| state.ledger.again().suspects)
}

fn token(rig: &Rig, id: ContainerId) -> Arc<Token> {
    let token = Arc::new(Token::of_no_thread(None));
    assert!(rig.engine.register_token(id, generation(rig, id), &token), "the generation is not over");
    token
}

#[test]
fn the_last_input_of_a_batch_without_an_outcome_is_not_to_blame() {
    let rig = batches_of(2, Duration::ZERO, 1);
    let map = rig.map_of(2, 2);
    let batch = ask(&rig, 0);
    let mut active = batch[0].run.begin::<u64, u64, u64>().expect("nothing interferes");
    assert_eq!(active.publish(1), Ok(Advance::Next));
    crash(&rig, 0);
    assert_eq!(suspects(&rig), 0, "it has executed together with the first one");
    assert_eq!(map.progress().ok, 1);
}

#[test]
fn of_two_parts_the_one_that_is_left_is_not_to_blame() {
    let rig = batches_of(2, Duration::ZERO, 1);
    let calls = [rig.call(), rig.call()];
    let batch = ask(&rig, 0);
    begin(&batch);
    complete(&batch[..1]);
    crash(&rig, 0);
    assert_eq!(suspects(&rig), 0);
    drop(calls);
}

#[test]
fn an_input_that_was_cancelled_in_an_earlier_batch_does_not_hide_a_culprit() {
    let rig = batches_of(2, Duration::ZERO, 1);
    let [first, second] = [rig.call(), rig.call()];
    let batch = ask(&rig, 0);
    begin(&batch);
    second.end_as(&Reason::Cancelled);
    complete(&batch[..1]);
    let third = rig.call();
    begin(&ask(&rig, 0));
    crash(&rig, 0);
    assert_eq!(suspects(&rig), 1, "it has executed alone");
    drop((first, third));
}

#[test]
fn code_is_told_that_nothing_is_wanted_although_a_part_was_cancelled_before_it_began() {
    let rig = batches_of(2, Duration::ZERO, 1);
    let token = token(&rig, rig.containers[0].0);
    let [first, second] = [rig.call(), rig.call()];
    let batch = ask(&rig, 0);
    begin(&batch[..1]);
    second.end_as(&Reason::Cancelled);
    assert!(!token.is_unwanted(), "the first one is wanted");
    first.end_as(&Reason::Cancelled);
    assert!(token.is_unwanted());
}

#[test]
fn code_is_told_that_nothing_is_wanted_although_a_pause_has_taken_a_part_back() {
    let rig = batches_of(2, Duration::ZERO, 1);
    let token = token(&rig, rig.containers[0].0);
    let [first, second] = [rig.call(), rig.call()];
    let batch = ask(&rig, 0);
    begin(&batch[..1]);
    assert!(rig.engine.pause());
    assert!(!token.is_unwanted());
    first.end_as(&Reason::Cancelled);
    assert!(token.is_unwanted());
    drop(second);
}

#[test]
fn a_worker_that_is_interrupted_gives_the_leases_of_all_parts_back() {
    let rig = batches_of(2, Duration::ZERO, 1);
    let (id, _) = rig.containers[0];
    let [first, second] = [rig.call(), rig.call()];
    begin(&ask(&rig, 0)[..1]);
    rig.engine.pause();
    first.end_as(&Reason::Cancelled);
    let next = rig.engine.enter_anew(id, generation(&rig, id)).expect("it restarts");
    assert!(rig.engine.entered(id, next));
    assert!(rig.engine.unpause());
    assert_eq!(ask(&rig, 0).len(), 1, "the second call waits");
    drop(second);
}

#[test]
fn a_task_that_waits_is_not_left_behind_although_a_part_was_cancelled_while_it_was_polled() {
    for cancelled in [0, 1] {
        let rig = batches_of(2, Duration::ZERO, 1);
        let calls = [rig.call(), rig.call()];
        let batch = ask(&rig, 0);
        begin(&batch);
        calls[cancelled].end_as(&Reason::Cancelled);
        let waits: Vec<bool> = batch.iter().map(|work| work.run.suspend()).collect();
        assert!(waits.contains(&true), "one of them is wanted");
        assert!(rig.engine.kill(rig.containers[0].0).is_some());
        assert_eq!(rig.engine.status().containers.abandoned, 0);
    }
}

#[test]
fn a_task_that_goes_on_is_left_behind_although_a_part_was_cancelled_while_it_waited() {
    for cancelled in [0, 1] {
        let rig = batches_of(2, Duration::ZERO, 1);
        let calls = [rig.call(), rig.call()];
        let batch = ask(&rig, 0);
        begin(&batch);
        batch.iter().for_each(|work| assert!(work.run.suspend()));
        calls[cancelled].end_as(&Reason::Cancelled);
        let goes_on: Vec<bool> = batch.iter().map(|work| work.run.resume()).collect();
        assert!(goes_on.contains(&true), "one of them is wanted");
        assert!(rig.engine.kill(rig.containers[0].0).is_some());
        assert_eq!(rig.engine.status().containers.abandoned, 1);
    }
}

#[test]
fn an_input_that_is_fed_wakes_a_container_once_it_completes_the_batch() {
    let rig = batches_of(3, 100 * MS, 1);
    let map = rig.map(JobSource::Prefetched(Arc::new(PrefetchQueue::new(TypeInfo::of::<u64>()))), 10);
    let job = map.job;
    rig.engine.feeder_begins();
    let mut producer = rig.engine.producer(job).expect("it has a feeder");
    assert!(ask(&rig, 0).is_empty());
    for (input, wakes) in [(0_u64, true), (1, false), (2, true)] {
        // The first one has the container look again in time.
        assert!(producer.of_type().push(input).is_ok());
        assert!(producer.of_type::<u64>().is_awaited(), "input {input} is awaited");
        rig.engine.wake_for_input(job);
        assert_eq!(rig.woken().is_empty(), !wakes, "after input {input}");
        if input == 0 {
            assert!(ask(&rig, 0).is_empty());
        }
    }
    let batch = ask(&rig, 0);
    assert_eq!(batch[0].lease.span.len, 3);
    complete(&batch);
    rig.engine.source_over(job, FeederEnd::Exhausted);
    drop(map);
}

#[test]
fn room_wakes_a_container_once_it_completes_the_batch() {
    let rig = batches_of(3, 100 * MS, 1);
    let mut map = rig.map_of(10, 2);
    let first = rig.call();
    let batch = ask(&rig, 0);
    assert_eq!(batch.len(), 2, "the call, and as many of the map as its window holds");
    complete(&batch);
    let call = rig.call();
    assert!(ask(&rig, 0).is_empty(), "more calls may come");
    for wakes in [false, true] {
        rig.woken();
        assert!(matches!(map.poll_next(Wait::Try), Poll::Ready(Some(Ok(1)))));
        assert_eq!(!rig.woken().is_empty(), wakes, "when there is room for one, and for two");
    }
    assert_eq!(ask(&rig, 0).len(), 2);
    drop((first, call));
}

#[test]
fn a_cancelled_call_lets_the_batch_run_that_has_waited_for_more_calls() {
    let rig = batches_of(4, 100 * MS, 1);
    let map = rig.map_of(2, 1);
    let call = rig.call();
    rig.woken();
    assert!(ask(&rig, 0).is_empty(), "more calls may come");
    drop(call);
    assert_eq!(rig.woken(), [0], "nothing more may come");
    assert_eq!(ask(&rig, 0).len(), 1);
    drop(map);
}

#[test]
fn a_batch_waits_from_the_moment_at_which_its_first_input_came_although_all_were_busy() {
    let rig = batches_of(4, 10 * MS, 1);
    let first = rig.call();
    rig.passes(10 * MS);
    let busy = ask(&rig, 0);
    begin(&busy);
    let map = rig.map_of(1, 10);
    rig.passes(5 * MS);
    let call = rig.call();
    rig.passes(5 * MS);
    let outcome = busy[0].run.active_at::<u64, u64, u64>(0).publish(1);
    assert_eq!(outcome, Ok(Advance::Last));
    assert_eq!(ask(&rig, 0).len(), 2, "they have waited for long enough");
    drop((first, map, call));
}

#[test]
fn a_retry_that_is_due_waits_in_the_batch_that_forms_and_no_container_looks_for_it_all_the_time() {
    let rig = batches_of(4, 10 * MS, 1);
    let call = rig.call();
    rig.passes(10 * MS);
    let batch = ask(&rig, 0);
    let mut active = batch[0].run.begin::<u64, u64, u64>().expect("nothing interferes");
    let why = Why::Error(Box::new(1_u64));
    rig.engine.failed(batch[0].lane, &batch[0].run, &mut active.at, why, (Retryable::Yes, None));
    rig.passes(5 * MS);
    let other = rig.call();
    let (id, generation) = (rig.containers[0].0, generation(&rig, rig.containers[0].0));
    let now = rig.engine.now();
    match rig.engine.try_next_batch(id, generation, &mut Vec::new()) {
        Next::Wait { until } => {
            assert!(until.is_none_or(|until| until > now), "{until:?} is over at {now:?}")
        }
        _ => panic!("it waits for more"),
    }
    drop((call, other));
}

#[test]
fn maps_without_inputs_do_not_hide_the_batch_of_another() {
    let rig = batches_of(1, 10 * MS, 1);
    let empty: Vec<_> = (0..3).map(|_| rig.map_of(0, 1)).collect();
    let map = rig.map_of(1, 1);
    assert_eq!(ask(&rig, 0).len(), 1, "its batch is full");
    drop((empty, map));
}

#[test]
fn nothing_is_left_of_a_batch_that_forms_once_the_function_drains() {
    let rig = batches_of(4, 10 * MS, 1);
    let call = rig.call();
    assert!(ask(&rig, 0).is_empty());
    rig.engine.drain();
    complete(&ask(&rig, 0));
    drop(call);
    rig.engine.under_lock(|state| assert_eq!(state.ledger.left_of_batches(), ""));
}

#[test]
fn a_start_that_fails_after_a_half_has_crashed_is_a_loop_crash() {
    let rig = batches_of(2, Duration::ZERO, 1);
    let calls = [rig.call(), rig.call()];
    let (id, _) = rig.containers[0];
    begin(&ask(&rig, 0));
    crash(&rig, 0);
    let enters = || rig.engine.begin(id, generation(&rig, id)).expect("it restarts");
    let next = enters();
    assert!(rig.engine.entered(id, next));
    begin(&ask(&rig, 0)); // a half of one input
    crash(&rig, 0);
    let loops =
        || rig.engine.under_lock(|state| state.ledger.crash_loop(rig.engine.now()).map_or(0, |(n, _)| n));
    let before = loops();
    let next = enters();
    rig.engine.crashed(id, next, Death::EnterPanicked(Panic { message: String::new(), location: None }));
    assert_eq!(loops(), before + 1, "no half was executing");
    drop(calls);
}

#[test]
fn a_retry_that_came_due_while_all_were_busy_has_waited_since_then() {
    let rig = batches_of(4, 10 * MS, 1);
    let call = rig.call();
    rig.passes(10 * MS);
    let batch = ask(&rig, 0);
    let mut active = batch[0].run.begin::<u64, u64, u64>().expect("nothing interferes");
    let retryable = Retryable::After(5 * MS);
    rig.engine.failed(
        batch[0].lane,
        &batch[0].run,
        &mut active.at,
        Why::Error(Box::new(1_u64)),
        (retryable, None),
    );
    rig.passes(15 * MS);
    assert_eq!(ask(&rig, 0).len(), 1, "it was due ten milliseconds ago");
    drop(call);
}

#[test]
fn a_batch_that_times_out_is_told_once_and_the_part_that_had_not_begun_waits_again_at_once() {
    let limits = LimitRules { timeout: Some(20 * MS), ..LimitRules::default() };
    let rig = Rig::of_timed_batches(Batching { size: 3, wait: Duration::ZERO }, limits, 2);
    let calls = [rig.call(), rig.call(), rig.call()];
    let batch = ask(&rig, 0);
    begin(&batch[..2]);
    rig.passes(20 * MS);
    rig.engine.look_at_limits();
    assert!(batch.iter().all(|work| work.run.is_fenced()));
    let told = rig.heard.lock().expect("no test panics with it");
    let cuts: Vec<bool> = told
        .iter()
        .filter_map(|(event, _)| match event {
            Event::TimedOut { is_retried, .. } => Some(*is_retried),
            _ => None,
        })
        .collect();
    assert_eq!(cuts, [true], "it is not known which input is slow");
    drop(told);
    assert_eq!(rig.engine.snapshot().batches.map(|batches| (batches.size, batches.inputs)), Some((3, 2)));
    let jobs = |batch: &[Work]| batch.iter().map(|work| work.lease.job).collect::<Vec<_>>();
    assert!(rig.woken().contains(&1), "an idle container hears of the input that had not begun");
    assert_eq!(jobs(&ask(&rig, 1)), [calls[2].0.job]);
    assert!(ask(&rig, 0).len() == 1, "the code has returned, and the first half is replayed");
}

#[test]
fn code_that_goes_on_after_its_map_is_named_by_its_crash_if_it_had_one_input() {
    for (inputs, is_named) in [(1, true), (2, false)] {
        let rig = batches_of(2, Duration::ZERO, 1);
        let map = rig.map_of(inputs, 2);
        begin(&ask(&rig, 0));
        drop(map);
        crash(&rig, 0);
        let (_, last) = rig.engine.status().last_crash.expect("it has crashed");
        assert_eq!(last.executing.is_some(), is_named, "of {inputs} inputs");
    }
}
