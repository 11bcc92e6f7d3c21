//! The cost of batches, in counted steps, does not grow with what they do not concern.

use std::task::Waker;
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation};
use crate::data::cursor::Advance;
use crate::decide::ledger::Batching;
use crate::decide::life::Next;
use crate::decide::steps::tests::taken;
use crate::engine::dispatch::{Wait, Work};
use crate::simulator::counted::is_constant;
use crate::simulator::rig::Rig;
use crate::values::crash::{Death, Panic};

fn batch(rig: &Rig, at: usize) -> Vec<Work> {
    let (id, _) = rig.containers[at];
    let generation = rig.engine.under_lock(|state| state.ledger.stage(id).0);
    rig.engine.wake(id, generation);
    let mut batch = Vec::new();
    let next = rig.engine.try_next_batch(id, generation, &mut batch);
    assert!(matches!(next, Next::Work(()) | Next::Wait { .. }), "it lives");
    batch
}

fn begins(batch: &[Work]) {
    batch.iter().for_each(|work| assert!(work.run.begin::<u64, u64, u64>().is_some()));
}

fn completes(batch: &[Work]) {
    for work in batch {
        let Some(mut active) = work.run.begin::<u64, u64, u64>() else { continue };
        while active.publish(1).expect("nothing fences it") == Advance::Next {}
    }
}

fn enters(rig: &Rig, id: ContainerId, generation: Generation) {
    let next = rig.engine.begin(id, generation).expect("it restarts");
    assert!(rig.engine.entered(id, next));
}

/// The steps of two calls that wait for a third, which completes their batch.
fn forming(rig: &Rig) -> u64 {
    let before = taken();
    let calls: Vec<_> = (0..3).map(|_| rig.call()).collect();
    let works = batch(rig, 0);
    assert_eq!(works.len(), 3);
    completes(&works);
    assert!(batch(rig, 0).is_empty());
    drop(calls);
    taken() - before
}

#[test]
fn a_batch_that_forms_beside_idle_maps() {
    let batching = Batching { size: 3, wait: Duration::from_secs(1) };
    is_constant("a batch of calls beside maps without inputs", |maps| {
        let rig = Rig::of_batches(batching, 2);
        let idle: Vec<_> = (0..maps).map(|_| rig.map_of(0, 10)).collect();
        assert!(batch(&rig, 0).is_empty() && batch(&rig, 1).is_empty());
        let taken = forming(&rig);
        drop(idle);
        taken
    });
}

#[test]
fn a_crash_of_a_batch_beside_waiting_halves() {
    let batching = Batching { size: 4, wait: Duration::ZERO };
    is_constant("the crash of a batch beside halves that wait", |halves| {
        let rig = Rig::of_batches(batching, 1);
        let (id, _) = rig.containers[0];
        let panic = || Death::Panicked(Panic { message: "a crash".to_owned(), location: None });
        let crash = || {
            let works = batch(&rig, 0);
            begins(&works);
            let generation = rig.engine.under_lock(|state| state.ledger.stage(id).0);
            rig.engine.crashed(id, generation, panic()).expect("it lived");
            rig.passes(Duration::from_secs(2));
            enters(&rig, id, generation);
        };
        // Fresh calls go before halves by turns, so the halves pile up.
        let mut calls = Vec::new();
        for _ in 0..halves {
            calls.extend((0..4).map(|_| rig.call()));
            crash();
        }
        let before = taken();
        crash();
        let taken = taken() - before;
        drop(calls);
        taken
    });
}

#[test]
fn the_calls_of_a_batch_that_are_cancelled_one_by_one() {
    for is_reversed in [false, true] {
        is_constant("each cancelled call of a batch that executes", |parts| {
            let rig = Rig::of_batches(Batching { size: parts as u64, wait: Duration::ZERO }, 1);
            let mut calls: Vec<_> = (0..parts).map(|_| rig.call()).collect();
            let works = batch(&rig, 0);
            assert_eq!(works.len(), parts);
            begins(&works);
            if is_reversed {
                calls.reverse();
            }
            let before = taken();
            drop(calls);
            (taken() - before) / parts as u64
        });
    }
}

#[test]
fn a_poll_for_outcomes_beside_the_parts_of_a_batch_and_containers_with_other_jobs() {
    let register = || Wait::Register(Waker::noop());
    is_constant("a poll of a map that has each of its inputs in a part of its own", |parts| {
        let batching = Batching { size: parts as u64, wait: Duration::ZERO };
        let rig = Rig::of_batches_until(batching, Duration::from_secs(60), 1);
        let mut map = rig.map_of(parts as u64, parts as u64);
        let works = batch(&rig, 0);
        assert_eq!(works.len(), parts, "each input may end at its own deadline");
        begins(&works);
        let before = taken();
        assert!(map.poll_next(register()).is_pending());
        let taken = taken() - before;
        drop(map);
        taken
    });
    is_constant("a poll beside containers that are ahead in another map", |containers| {
        let rig = Rig::of_batches(Batching { size: 2, wait: Duration::ZERO }, containers);
        let other = rig.map_of(1_000_000, 1_000_000);
        for _ in 0..20 {
            // The inputs are cheap, so later leases are ranges of several batches.
            let works = batch(&rig, 1);
            rig.passes(Duration::from_nanos(1000 * works[0].run.places().len() as u64));
            completes(&works);
        }
        for at in 1..containers {
            let works = batch(&rig, at);
            assert!(works[0].run.places().len() > 2);
            begins(&works);
        }
        let mut map = rig.map_of(0, 10);
        let mut call = rig.call();
        let before = taken();
        drop(call.poll::<u64, u64, u64>(register()));
        drop(map.poll_next(register()));
        let taken = taken() - before;
        drop((map, call, other));
        taken
    });
}
