//! The numbers and moments of snapshots that the random worlds do not hold against their model.

use std::time::Duration;

use crate::decide::life::Next;
use crate::decide::restart::RateLimited;
use crate::simulator::host::STARTED;
use crate::simulator::rig::{Rig, UNCOUNTED, execute, panic};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_wait_of_one_call_in_sixteen_is_measured_and_of_at_most_64_at_once() {
    for (calls, measured) in [(16 * 10, 10), (16 * 70, 64)] {
        let rig = Rig::new(1);
        let open: Vec<_> = (0..calls).map(|_| rig.call()).collect();
        assert_eq!(rig.engine.snapshot().queueing.count(), 0);
        rig.work();
        assert_eq!(rig.engine.snapshot().queueing.count(), measured, "of {calls} calls");
        drop(open);
    }
}

#[test]
fn the_last_32_maps_are_remembered_with_their_numbers_and_moments() {
    let rig = Rig::new(1);
    for _ in 0..40 {
        let map = rig.map_of(1, 1);
        rig.passes(SECOND);
        drop(map);
    }
    let open = rig.map_of(1, 1);
    let snapshot = rig.engine.snapshot();
    let ended: Vec<(u64, Duration, Duration)> =
        snapshot.maps_ended.iter().map(|map| (map.number, map.began, map.ended)).collect();
    let told = (9..=40).map(|n| (n, STARTED + SECOND * (n as u32 - 1), STARTED + SECOND * n as u32));
    assert_eq!(ended, told.collect::<Vec<_>>());
    assert_eq!((snapshot.maps[0].number, snapshot.maps[0].began), (41, STARTED + SECOND * 40));
    assert_eq!((snapshot.started, snapshot.now), (STARTED, STARTED + SECOND * 40));
    drop(open);
}

#[test]
fn the_oldest_executions_are_shown_with_the_oldest_first() {
    let rig = Rig::of(RateLimited::never().into(), UNCOUNTED, 6);
    let mut maps = Vec::new();
    for at in [3, 1, 5, 0, 4] {
        maps.push(rig.map_of(1, 1));
        let run = rig.ask(at).expect("there is an input");
        assert!(run.begin::<u64, u64, u64>().is_some());
        rig.passes(SECOND);
    }
    let snapshot = rig.engine.snapshot();
    let oldest: Vec<(usize, Duration)> =
        snapshot.oldest.iter().map(|oldest| (oldest.container.index(), oldest.since)).collect();
    let since = |seconds| STARTED + SECOND * seconds;
    assert_eq!(oldest, [(3, since(0)), (1, since(1)), (5, since(2)), (0, since(3))]);
    let jobs: Vec<Option<u64>> = snapshot.oldest.iter().map(|oldest| oldest.input.job).collect();
    assert_eq!(jobs, [1, 2, 3, 4].map(Some), "the maps in the order in which they were opened");
    assert_eq!(snapshot.inputs.executing, 5);
    let rows: Vec<(usize, Option<Duration>)> =
        snapshot.rows.iter().map(|row| (row.in_flight, row.executing.as_ref().map(|it| it.since))).collect();
    let each = [Some(3), Some(1), None, Some(0), Some(4), Some(2)];
    assert_eq!(rows, each.map(|at| (usize::from(at.is_some()), at.map(since))));
}

#[test]
fn a_crash_is_shown_with_its_moment_and_counts_for_its_container_and_a_kill_does_not() {
    let rig = Rig::of(RateLimited::never().into(), UNCOUNTED, 2);
    let ids = [rig.containers[0].0, rig.containers[1].0];
    rig.passes(SECOND * 5);
    assert!(rig.engine.crashed(ids[0], rig.containers[0].1, panic()).is_some());
    assert!(rig.engine.kill(ids[1]).is_some());
    let snapshot = rig.engine.snapshot();
    assert_eq!((snapshot.rows[0].crashes, snapshot.rows[1].crashes), (1, 0));
    assert_eq!(
        snapshot.crashes.first().map(|crash| (crash.container, crash.at)),
        Some((ids[0], STARTED + SECOND * 5))
    );
    assert_eq!(snapshot.rows[0].since, STARTED + SECOND * 5);
}

#[test]
fn an_input_that_waits_during_a_pause_is_not_stuck() {
    let rig = Rig::new(1);
    assert!(rig.engine.pause());
    let call = rig.call();
    rig.passes(SECOND * 60);
    assert_eq!(rig.engine.snapshot().health, crate::values::health::Health::Serving);
    assert!(rig.engine.unpause());
    execute(&rig.ask(0).expect("there is a call"));
    drop(call);
}

#[test]
fn the_share_of_crashes_is_of_all_that_was_executed() {
    let rig = Rig::under(RateLimited::new().into(), 1);
    let (id, generation) = rig.containers[0];
    assert_eq!(rig.engine.snapshot().tally.share, 0.0, "nothing was executed");
    let calls = [rig.call(), rig.call(), rig.call()];
    rig.work();
    assert!(rig.engine.crashed(id, generation, panic()).is_some());
    let tally = rig.engine.snapshot().tally;
    assert_eq!((tally.crashes, tally.share), (1, 0.25));
    drop(calls);
}

#[test]
fn poisoned_inputs_have_numbers_and_the_crashes_name_the_input() {
    let rig = Rig::of(RateLimited::never().into(), UNCOUNTED, 1);
    let (id, mut generation) = rig.containers[0];
    let maps = [rig.map_of(1, 1), rig.map_of(1, 1)];
    while let Next::Work(work) = rig.engine.try_next(id, generation, |_| ()).0 {
        assert!(work.run.begin::<u64, u64, u64>().is_some());
        assert!(rig.engine.crashed(id, generation, panic()).is_some());
        rig.passes(SECOND * 60);
        generation = rig.engine.begin(id, generation).expect("its delay is over");
        assert!(rig.engine.entered(id, generation));
    }
    let snapshot = rig.engine.snapshot();
    let poisoned: Vec<(u64, Option<u64>)> =
        snapshot.poisoned.iter().map(|poisoned| (poisoned.number, poisoned.input.job)).collect();
    assert_eq!(poisoned, [(1, Some(1)), (2, Some(2))]);
    let of = |job: u64| {
        let named = snapshot.crashes.iter().filter_map(|crash| crash.executing.as_ref());
        named.filter(|name| name.job == Some(job)).count()
    };
    assert_eq!((of(1), of(2)), (4, 4));
    drop(maps);
}
