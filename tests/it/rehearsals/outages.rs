//! Rehearsed outages: failing starts, delays, and functions that give up.

use std::time::Duration;

use longshore::testkit::{EnterFault, Entered};
use longshore::{App, Cause, CrashLoopBackoff, Event, RateLimited};

use super::{MS, SECOND, app, attempts, poisoned};

#[test]
fn enter_fails_twice_and_containers_come_back_with_growing_delays() {
    let rehearsal = attempts(&app()).containers(1).rehearse().enter_fails(2);
    let (outcomes, record) = rehearsal.run(0..3).expect("valid settings");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(1))), "{record}");
    let starts: Vec<_> = record.starts().iter().map(|start| (start.at, start.entered)).collect();
    let entered = |at: Duration, how| (at, Some((at, how)));
    let (now, then) = (Duration::ZERO, 10 * MS);
    assert_eq!(
        starts,
        [entered(now, Entered::Failed), entered(now, Entered::Failed), entered(then, Entered::Well)]
    );
}

#[test]
fn a_dependency_that_is_down_for_three_seconds_is_waited_for() {
    let app = App::deployed("rehearsals");
    let down = SECOND..4 * SECOND;
    let rehearsal = attempts(&app).containers(2).rehearse().takes(100 * MS).down(down.clone());
    let (outcomes, record) = rehearsal.run(0..60).expect("valid settings");
    assert!(outcomes.iter().all(Result::is_ok), "{record}");
    let crashes: Vec<_> = record.crashes().collect();
    // Two containers were executing when the dependency went down. Until it came back, each `enter` failed.
    let while_down =
        crashes.iter().all(|(at, _)| down.contains(&at.saturating_sub(100 * MS)) || down.contains(at));
    assert!(crashes.len() > 3, "{record}");
    assert!(while_down, "{record}");
    let failed = record.starts().iter().filter(|start| start.entered == Some((start.at, Entered::Failed)));
    assert!(failed.clone().count() > 1, "{record}");
    assert!(failed.clone().all(|start| down.contains(&start.at)), "{record}");
    assert!(record.status().crash_loop.is_none(), "the function has recovered");
    // At 100 ms an input, 20 inputs are completed before the outage, and the other 40 take two seconds after
    // it.
    assert!(record.elapsed() > 6 * SECOND, "{:?}", record.elapsed());
    assert!(record.elapsed() < 9 * SECOND, "{:?}", record.elapsed());
}

#[test]
fn a_function_gives_up_at_the_crash_that_breaks_its_limit() {
    let limited = |down| {
        let policy = RateLimited::new().max_crashes(3);
        let rehearsal = attempts(&app()).containers(1).restart(policy).rehearse().takes(100 * MS).down(down);
        rehearsal.run(0..100).expect("valid settings")
    };
    let (outcomes, record) = limited(Duration::ZERO..9000 * SECOND);
    assert_eq!(record.crashes().count(), 4, "{record}");
    assert!(outcomes.iter().all(|o| matches!(o.as_ref().expect_err("given up").cause(), Cause::GaveUp(_))));
    assert!(record.status().gave_up.is_some());
    assert_eq!(record.executions().len(), 0, "it never entered");

    // Fifty inputs have completed before, so the failure rate passes a half with the 51st crash.
    let (outcomes, record) = limited(5 * SECOND..9000 * SECOND);
    let gave_up = record.events().iter().find(|(_, event)| matches!(event, Event::GaveUp(_)));
    let (at, _) = gave_up.expect("an outage of hours breaks the limit");
    assert!(*at > 30 * SECOND, "{at:?}");
    assert!(*at < 66 * SECOND, "{at:?}");
    assert_eq!(record.crashes().count(), 51);
    assert!(outcomes.iter().take(50).all(Result::is_ok));
    assert!(outcomes[51].is_err());
    let (outcomes, record) = limited(5 * SECOND..20 * SECOND);
    assert!(outcomes.iter().all(Result::is_ok), "{record}");
}

#[test]
fn an_outage_at_the_start_is_survived_with_any_number_of_containers() {
    for containers in [1, 2, 4, 8, 64] {
        for down in [MS, 10 * MS, 2 * SECOND, 5 * SECOND] {
            let rehearsal = attempts(&app()).containers(containers).rehearse();
            let (outcomes, record) = rehearsal.down(Duration::ZERO..down).run(0..10).expect("valid settings");
            assert!(outcomes.iter().all(Result::is_ok), "{containers} containers, {down:?}: {record}");
        }
    }
}

#[test]
fn an_outage_of_five_seconds_is_survived_at_any_moment() {
    for containers in [1, 2, 8, 64] {
        for takes in [10 * MS, 300 * MS, 1_100 * MS, 7 * SECOND] {
            for begin in [MS, 333 * MS, 6 * SECOND] {
                let builder = attempts(&app()).containers(containers).crash_retries(100);
                let rehearsal = builder.rehearse().down(begin..begin + 5 * SECOND);
                // The durations differ, so that the containers die one after the other.
                let rehearsal = rehearsal.takes_when(move |at| Some(takes + 7 * MS * (at.index % 13) as u32));
                let inputs = 4 * containers as u64;
                let (_, record) = rehearsal.run(0..inputs).expect("valid settings");
                let gave_up = &record.status().gave_up;
                assert!(
                    gave_up.is_none(),
                    "{containers} containers, {takes:?}, {begin:?}: {gave_up:?} {record}"
                );
            }
        }
    }
}

#[test]
fn failed_starts_beside_live_containers_do_not_make_a_function_give_up() {
    for made in [48, 32, 16, 1] {
        let rehearsal = attempts(&app()).containers(64).rehearse().takes(SECOND);
        let rehearsal =
            rehearsal.enter_fault_when(move |at| (at.container.index() >= made).then_some(EnterFault::Fail));
        let (outcomes, record) = rehearsal.run(0..100).expect("valid settings");
        assert!(outcomes.iter().all(Result::is_ok), "{made} can be made: {:?}", record.status().gave_up);
        assert!(record.status().crash_loop.is_some(), "the failed starts are delayed");
    }
}

#[test]
fn a_container_that_died_of_a_known_suspect_restarts_at_once_inside_a_delay() {
    let app = App::deployed("rehearsals");
    // Container 1 never starts, so a delay of minutes runs. Input 0 crashes container 0 three times.
    let policy = CrashLoopBackoff::new().initial(100 * SECOND).max(600 * SECOND).reset_after(2_000 * SECOND);
    let builder = attempts(&app).containers(2).restart(policy).crash_retries(2);
    let rehearsal =
        builder.rehearse().enter_fault_when(|at| (at.container.index() == 1).then_some(EnterFault::Fail));
    let (outcomes, record) =
        rehearsal.takes(SECOND).panics(0, 2).panics(0, 3).panics(0, 1).run(0..3).expect("valid settings");
    assert_eq!(poisoned(&outcomes[0]), Some(3), "{record}");
    let starts = record.starts().iter().filter(|start| start.container.index() == 0);
    let starts: Vec<Duration> = starts.map(|start| start.at).collect();
    let crashes = record.crashes().filter(|(_, crash)| crash.executing.is_some());
    let crashes: Vec<(Duration, bool)> = crashes
        .map(|(at, crash)| (at, crash.executing.is_some_and(|(_, attempt)| attempt.get() > 1)))
        .collect();
    let suspect = crashes.iter().filter(|(_, suspect)| *suspect);
    assert!(suspect.clone().count() == 2, "{record}");
    assert!(suspect.clone().all(|(at, _)| starts.contains(at)), "{record}");
}

#[test]
fn backoff_doubles_up_to_its_maximum_in_virtual_time() {
    let app = App::deployed("rehearsals");
    let policy = CrashLoopBackoff::new().initial(SECOND).max(60 * SECOND);
    let rehearsal =
        attempts(&app).containers(1).restart(policy).rehearse().down(Duration::ZERO..3600 * SECOND);
    let (outcomes, record) = rehearsal.run([1]).expect("valid settings");
    assert!(outcomes[0].is_ok(), "{record}");
    let at: Vec<Duration> = record.starts().iter().map(|start| start.at).collect();
    let delays: Vec<Duration> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(delays[0], Duration::ZERO, "the first restart is at once");
    for (n, delay) in delays[1..].iter().enumerate() {
        let whole = (SECOND * (1 << n.min(10))).min(60 * SECOND);
        assert!(*delay >= whole / 2, "equal jitter: {n} {delay:?} {record}");
        assert!(*delay <= whole + MS, "equal jitter: {n} {delay:?} {record}");
    }
    assert!(delays.len() > 60, "{}", delays.len());
}
