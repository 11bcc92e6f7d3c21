//! The promises of snapshots: they show what is wrong, since when and where, their numbers add up, and they
//! keep nothing alive.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use longshore::snapshot::{AppKind, ContainerStateName, CrashKind, Happening, ModeName, PolicyName};
use longshore::{
    App, BoxError, ConcurrentWorker, ContainerId, Context, CrashLoopBackoff, Event, FunctionReport,
    FunctionSnapshot, Health, RateLimited, Retries, WeakApp, Worker,
};

use crate::support::{Gate, Started, attempt, unhung, until};

const MINUTE: Duration = Duration::from_secs(60);

/// A policy whose second loop crash in a row delays the restart by half a minute at least.
fn slow() -> CrashLoopBackoff {
    CrashLoopBackoff::new().initial(MINUTE).max(MINUTE).reset_after(2 * MINUTE)
}

/// Whether the numbers of a snapshot add up, whenever it was taken.
fn adds_up(snapshot: &FunctionSnapshot, containers: usize) {
    assert_eq!(snapshot.containers.configured(), containers, "{snapshot:?}");
    assert_eq!(snapshot.rows.len() + snapshot.rows_omitted, containers);
    let live = snapshot.rows.iter().filter(|row| row.state == ContainerStateName::Live).count();
    assert_eq!(live, snapshot.containers.live);
    let in_flight: usize = snapshot.rows.iter().map(|row| row.in_flight).sum();
    assert_eq!(in_flight as u64, snapshot.inputs.executing);
    for row in &snapshot.rows {
        assert_eq!(row.executing.is_some(), row.in_flight > 0, "{row:?}");
        assert!(row.in_flight <= row.concurrent_inputs, "{row:?}");
        assert!(row.concurrent_inputs <= snapshot.concurrent_inputs, "{row:?}");
    }
    let totals = snapshot.totals;
    let ended = totals.ok + totals.failed + totals.poisoned + totals.cancelled + totals.given_up;
    assert_eq!(
        totals.accepted + snapshot.inputs.in_windows,
        ended + snapshot.inputs.pending(),
        "{snapshot:?}"
    );
}

/// Whether the crashes in a snapshot add up too, once the function is at rest.
fn remembers_all(snapshot: &FunctionSnapshot) {
    let crashes = snapshot.totals.crashes;
    let causes: u64 = snapshot.causes.iter().map(|cause| cause.count).sum();
    assert_eq!(causes + snapshot.causes_other, crashes.crashes());
    let of_containers: u64 = snapshot.rows.iter().map(|row| row.crashes).sum();
    assert_eq!(of_containers, crashes.crashes());
    assert_eq!(snapshot.crashes.last().map_or(0, |crash| crash.number), crashes.crashes() + crashes.killed);
}

#[test]
fn each_container_shows_how_many_inputs_it_has_in_flight_and_the_oldest_of_them() {
    unhung(|| {
        let app = App::ephemeral("snapshots");
        let gate = Gate::default();
        let its = gate.clone();
        let f = app.function_async("many", async move |n: &u64| {
            its.passed().await;
            Ok::<_, Infallible>(*n)
        });
        let f = f.containers(2).concurrent_inputs(8).started();
        let first = f.call(0);
        until("the first is in flight", || f.snapshot().inputs.executing == 1);
        let calls: Vec<_> = (1..12).map(|n| f.call(n)).collect();
        until("all are in flight", || f.snapshot().inputs.executing == 12);
        let snapshot = f.snapshot();
        adds_up(&snapshot, 2);
        assert_eq!((snapshot.concurrent_inputs, f.status().concurrent_inputs), (8, 8));
        assert_eq!(snapshot.oldest.len(), 4, "the list is bounded");
        assert!(snapshot.oldest.is_sorted_by_key(|execution| execution.since), "{:?}", snapshot.oldest);
        let oldest = &snapshot.oldest[0];
        assert_eq!(
            oldest.input.job,
            Some(1),
            "the first call is the oldest: {oldest}",
            oldest = oldest.input
        );
        let row = snapshot.rows.iter().find(|row| row.container == oldest.container);
        assert_eq!(row.and_then(|row| row.executing.as_ref()), Some(oldest));
        let text = snapshot.to_string();
        assert!(text.contains("12 executing (up to 8 in each container)"), "{text}");
        gate.open();
        for call in calls.into_iter().chain([first]) {
            call.wait().expect("infallible");
        }
        adds_up(&f.snapshot(), 2);
    });
}

/// A worker whose second input panics once, and then waits for a gate.
struct PanicsOnce(Gate);

impl ConcurrentWorker for PanicsOnce {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    async fn call(&self, n: &u64, context: &Context) -> Result<u64, Infallible> {
        assert!(*n != 1 || context.attempt().get() > 1, "one");
        self.0.passed().await;
        Ok(*n)
    }
}

#[test]
fn a_container_whose_suspect_executes_alone_may_have_one_input_in_flight() {
    unhung(|| {
        let app = App::ephemeral("snapshots");
        let gate = Gate::default();
        let its = gate.clone();
        let f = app.worker_concurrent("shared", async move |_: &Context| Ok(PanicsOnce(its.clone())));
        let f = f.containers(1).concurrent_inputs(8).started();
        let suspect = f.call(1);
        let attempt = || f.snapshot().rows[0].executing.as_ref().map(|execution| execution.attempt.get());
        until("the suspect is replayed", || attempt() == Some(2));
        let waits = f.call(2);
        until("the other call waits", || f.snapshot().calls.queued == 1);
        let snapshot = f.snapshot();
        adds_up(&snapshot, 1);
        let row = &snapshot.rows[0];
        assert_eq!((row.in_flight, row.concurrent_inputs, snapshot.concurrent_inputs), (1, 1, 8));
        gate.open();
        assert_eq!((suspect.wait().expect("it panics once"), waits.wait().expect("infallible")), (1, 2));
        until("its lane is free", || f.snapshot().rows[0].concurrent_inputs == 8);
    });
}

#[test]
fn a_crash_loop_says_what_where_how_often_since_when_and_when_next() {
    unhung(|| {
        let app = App::deployed("snapshots");
        let gate = Gate::default();
        let passes = gate.clone();
        let f = app.infallible("looping", move |_: &u64| -> u64 {
            passes.pass();
            panic!("no database")
        });
        let f = f.containers(1).restart(slow()).start().expect("valid settings");
        let calls = [f.call(1), f.call(2)];
        gate.open(); // a call that was never begun goes before the replay of the first
        until("it is in a loop", || f.snapshot().health == Health::CrashLoop);
        let snapshot = f.snapshot();
        adds_up(&snapshot, 1);
        remembers_all(&snapshot);
        let crash_loop = snapshot.crash_loop.expect("it goes on");
        assert_eq!((crash_loop.crashes, crash_loop.ended), (2, None));
        let next = crash_loop.next_restart.expect("a delay runs");
        assert!(next > snapshot.now && next <= snapshot.now + MINUTE, "{crash_loop:?}");
        assert!(crash_loop.since >= snapshot.started && crash_loop.since <= snapshot.now);
        let [cause] = &snapshot.causes[..] else { panic!("one cause: {snapshot:?}") };
        assert_eq!((cause.kind, cause.message.as_str(), cause.count), (CrashKind::Panic, "no database", 2));
        assert!(cause.location.as_ref().is_some_and(|place| place.contains("snapshots.rs:")), "{cause:?}");
        assert_eq!(cause.first, crash_loop.since);
        assert_eq!(cause.executing.as_ref().map(ToString::to_string).as_deref(), Some("call 2"));
        let row = &snapshot.rows[0];
        assert_eq!((row.state, row.until, row.crashes), (ContainerStateName::BackingOff, Some(next), 2));
        assert_eq!(row.last_death.map(|death| (death.number, death.kind)), Some((2, CrashKind::Panic)));
        let lines: Vec<_> = snapshot.log.iter().map(|line| (line.count, line.what)).collect();
        assert_eq!(lines[0], (2, Happening::Crashed { number: 2 }), "repeats are one line");
        assert!(matches!(lines[1], (1, Happening::CrashLoop { crashes: 2, .. })), "{lines:?}");
        assert_eq!((snapshot.totals.crash_loops, snapshot.totals.replayed), (1, 2));
        assert_eq!((snapshot.calls.open, snapshot.inputs.replay, snapshot.inputs.suspects), (2, 2, 2));
        assert_eq!((snapshot.tally.policy, snapshot.tally.used()), (PolicyName::CrashLoopBackoff, None));
        let told = snapshot.to_string();
        assert!(told.starts_with("looping: crash loop\n  2 crashes in a row for "), "{told}");
        assert!(told.contains("next restart in ") && told.contains("2 × panic at "), "{told}");
        drop(calls);
    });
}

#[test]
fn a_loop_that_was_over_a_moment_ago_can_still_be_read() {
    unhung(|| {
        let app = App::deployed("snapshots");
        let backoff = CrashLoopBackoff::new().initial(Duration::from_millis(1)).max(Duration::from_millis(1));
        let gate = Gate::default();
        let passes = gate.clone();
        let f = app.infallible("over", move |n: &u64| {
            passes.pass();
            if attempt() == 1 { panic!("once") } else { *n }
        });
        let f = f.containers(1).restart(backoff).start().expect("valid settings");
        let calls = [f.call(1), f.call(2)];
        gate.open();
        for call in calls {
            call.wait().expect("replayed");
        }
        until("the end is told", || {
            f.snapshot().crash_loop.is_some_and(|crash_loop| crash_loop.ended.is_some())
        });
        let snapshot = f.snapshot();
        let crash_loop = snapshot.crash_loop.expect("it is remembered");
        assert_eq!((crash_loop.crashes, crash_loop.next_restart), (2, None));
        assert!(crash_loop.ended.is_some_and(|ended| ended >= crash_loop.since && ended <= snapshot.now));
        assert_eq!(snapshot.health, Health::Serving, "two crashes are what containers are for");
        assert!(snapshot.to_string().contains("a crash loop of 2 in a row was over"), "{snapshot}");
    });
}

#[test]
fn an_outage_of_a_dependency_shows_the_text_of_enter() {
    struct Never;
    impl Worker for Never {
        type Input = u64;
        type Output = u64;
        type Error = std::convert::Infallible;

        fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Self::Error> {
            Ok(*input)
        }
    }
    unhung(|| {
        let app = App::deployed("snapshots");
        let enter = |_: &Context| Err::<Never, BoxError>("connection refused".into());
        let f = app.worker("outage", enter).containers(2).restart(slow()).start().expect("valid settings");
        until("it is in a loop", || f.snapshot().health == Health::CrashLoop);
        until("both wait", || f.snapshot().containers.backing_off == 2);
        let snapshot = f.snapshot();
        remembers_all(&snapshot);
        let cause = &snapshot.causes[0];
        assert_eq!((cause.kind, cause.message.as_str()), (CrashKind::EnterError, "connection refused"));
        assert_eq!((cause.location.as_ref(), cause.executing.as_ref()), (None, None));
        assert_eq!(snapshot.totals.crashes.enter_error, snapshot.totals.crashes.crashes());
        assert_eq!(snapshot.entering.count(), 0, "none has ended well");
    });
}

#[test]
fn poisoned_inputs_are_listed_with_what_the_code_says_of_them() {
    unhung(|| {
        let app = App::ephemeral("snapshots");
        let asked = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&asked);
        let f = app.infallible("poison", |n: &u64| if n % 10 == 3 { panic!("three") } else { *n });
        let describe = move |n: &u64| {
            counted.fetch_add(1, Ordering::SeqCst);
            if *n == 13 { panic!("unlucky") } else { format!("number {n} {}", "ä".repeat(300)) }
        };
        let f = f.describe(describe).containers(2).crash_retries(1).restart(RateLimited::never());
        let f = f.start().expect("valid settings");
        let map = f.map(0..20u64).label("numbers").return_exceptions().into_iter();
        assert_eq!(map.filter(Result::is_err).count(), 2);
        let snapshot = f.snapshot();
        assert_eq!(asked.load(Ordering::SeqCst), 2, "once for each");
        let mut poisoned = snapshot.poisoned.clone();
        poisoned.sort_by_key(|poisoned| poisoned.input.input);
        let names: Vec<_> = poisoned.iter().map(|poisoned| poisoned.input.to_string()).collect();
        assert_eq!(names, ["input 3 of numbers", "input 13 of numbers"]);
        assert!(poisoned.iter().all(|poisoned| poisoned.attempts.get() == 2));
        assert_eq!(poisoned[0].message.as_deref(), Some("three"));
        let described = poisoned[0].description.as_ref().expect("it was asked for");
        assert!(described.starts_with("number 3 ää") && described.chars().count() == 200, "{described}");
        assert!(
            poisoned[1]
                .description
                .as_ref()
                .is_some_and(|said| said.contains("panicked") && said.contains("unlucky"))
        );
        assert_eq!((snapshot.totals.poisoned, snapshot.totals.ok), (2, 18));
        remembers_all(&snapshot);
        adds_up(&snapshot, 2);
        assert_eq!(
            snapshot.health,
            Health::Crashing,
            "four crashes within a minute, and no loop: {snapshot}"
        );
    });
}

#[test]
fn an_input_that_keeps_its_thread_is_described_as_well_and_its_thread_is_shown() {
    unhung(|| {
        let app = App::ephemeral("snapshots");
        let gate = Gate::default();
        let (hold, asked) = (gate.clone(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&asked);
        let f = app.infallible("hog", move |n: &u64| {
            let held = std::hint::black_box(vec![1u8; 8 << 20]);
            hold.pass();
            n + held.len() as u64
        });
        let describe = move |n: &u64| {
            counted.fetch_add(1, Ordering::SeqCst);
            format!("hog {n}")
        };
        let f = f.describe(describe).containers(1).crash_retries(0).memory_limit(4 << 20);
        let f = f.restart(RateLimited::never()).start().expect("valid settings");
        assert!(f.call(7).wait().is_err());
        let description = || f.snapshot().poisoned.first().and_then(|poisoned| poisoned.description.clone());
        until("it is described", || description().is_some());
        assert_eq!(description().as_deref(), Some("hog 7"));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let snapshot = f.snapshot();
        assert_eq!((snapshot.containers.abandoned, snapshot.abandoned.len()), (1, 1));
        let abandoned = snapshot.abandoned[0];
        assert!(abandoned.bytes >= 8 << 20 && abandoned.since <= snapshot.now, "{abandoned:?}");
        assert_eq!((abandoned.container, abandoned.generation.get()), (ContainerId::new(0), 1));
        assert_eq!(snapshot.causes[0].kind, CrashKind::MemoryLimit);
        assert_eq!(snapshot.rows[0].memory.and_then(|memory| memory.limit), Some(4 << 20));
        assert!(snapshot.memory.is_some_and(|memory| memory.abandoned >= 8 << 20));
        gate.open();
        until("it has returned", || f.snapshot().abandoned.is_empty());
    });
}

#[test]
fn totals_are_what_the_maps_say_and_every_look_adds_up() {
    unhung(|| {
        let app = App::ephemeral("snapshots");
        let retries = Retries::new(2).initial_delay(Duration::from_millis(1));
        let f = app.function("sums", |n: &u64| match (n % 100, attempt()) {
            (1, _) => Err("always"),
            (2, 1) => Err("once"),
            (3, 1) => panic!("once"),
            (4, _) => panic!("always"),
            _ => Ok(*n),
        });
        let f = f.containers(3).retries(retries).crash_retries(1).restart(RateLimited::never());
        let f = f.start().expect("valid settings");
        let mut map =
            f.map((0..2_000u64).map(|n| n + 5)).window(100).return_exceptions().label("all").into_iter();
        let mut yielded = 0;
        for _ in map.by_ref() {
            yielded += 1;
            if yielded % 50 == 0 {
                let snapshot = f.snapshot();
                adds_up(&snapshot, 3);
                let [open] = &snapshot.maps[..] else { panic!("one map: {snapshot:?}") };
                assert_eq!((open.label.as_deref(), open.window, open.number), (Some("all"), 100, 1));
            }
        }
        let (progress, snapshot) = (map.progress(), f.snapshot());
        let totals = snapshot.totals;
        assert_eq!(yielded, 2_000);
        assert_eq!(
            (totals.accepted, totals.ok, totals.failed, totals.poisoned, totals.cancelled, totals.given_up),
            (
                progress.pulled,
                progress.ok,
                progress.failed,
                progress.poisoned,
                progress.cancelled,
                progress.given_up
            )
        );
        assert_eq!((totals.retried, totals.replayed), (progress.retried, progress.replayed));
        assert_eq!(
            (progress.failed, progress.poisoned, progress.retried, progress.replayed),
            (20, 20, 60, 40)
        );
        adds_up(&snapshot, 3);
        remembers_all(&snapshot);
        assert_eq!(snapshot.inputs.pending(), 0);
        assert_eq!(snapshot.executing.count(), 2_000 + 60 + 40, "every execution is in the histogram");
        drop(map);
        let ended = f.snapshot();
        assert!(ended.maps.is_empty());
        let [map] = &ended.maps_ended[..] else { panic!("one map: {ended:?}") };
        assert_eq!((map.label.as_deref(), map.progress), (Some("all"), progress));
        assert!(map.began <= map.ended && map.ended <= ended.now);
    });
}

#[test]
fn lists_are_bounded_and_say_what_they_leave_out() {
    unhung(|| {
        let app = App::ephemeral("snapshots");
        let gate = Gate::default();
        let passes = gate.clone();
        let f = app.infallible("many", move |n: &u64| {
            passes.pass();
            *n
        });
        let f = f.containers(300).start().expect("valid settings");
        f.ready_all().expect("they start");
        let begun = |_| {
            let mut map = f.map(0..10u64);
            assert!(map.next().now_or_never().is_none(), "the gate is closed");
            map
        };
        let maps: Vec<_> = (0..70).map(begun).collect();
        let calls: Vec<_> = (0..320).map(|n| f.call(n)).collect();
        until("all execute", || f.snapshot().inputs.executing == 300);
        let snapshot = f.snapshot();
        assert_eq!((snapshot.rows.len(), snapshot.rows_omitted), (256, 44));
        assert_eq!((snapshot.maps.len(), snapshot.maps_omitted), (64, 6));
        assert_eq!((snapshot.calls.open, snapshot.oldest.len()), (320, 4));
        assert!(snapshot.oldest.windows(2).all(|pair| pair[0].since <= pair[1].since));
        gate.open();
        for call in calls {
            call.wait().expect("the gate is open");
        }
        drop(maps);
        let snapshot = f.snapshot();
        assert_eq!((snapshot.maps.len(), snapshot.maps_ended.len(), snapshot.calls.open), (0, 32, 0));
        assert_eq!(snapshot.queueing.count(), 20, "of the calls numbered 71 to 390 one in sixteen");
    });
}

#[test]
fn giving_up_says_why_and_a_reset_is_a_line_of_the_log() {
    unhung(|| {
        let app = App::ephemeral("snapshots");
        let policy = RateLimited::new().max_crashes(1).max_failure_rate(0.0);
        let gate = Gate::default();
        let passes = gate.clone();
        let f = app.infallible("gives up", move |_: &u64| -> u64 {
            passes.pass();
            panic!("hopeless")
        });
        let f = f.containers(1).restart(policy).start().expect("valid settings");
        let calls: Vec<_> = (0..3).map(|n| f.call(n)).collect();
        gate.open(); // none of them is refused
        for call in calls {
            assert!(call.wait().is_err());
        }
        let snapshot = f.snapshot();
        assert_eq!(snapshot.health, Health::GaveUp);
        let gave_up = snapshot.gave_up.as_ref().expect("it did");
        assert!(gave_up.message.contains("hopeless") && gave_up.at <= snapshot.now, "{gave_up:?}");
        assert_eq!((snapshot.tally.crashes, snapshot.tally.crashes_max), (2, Some(1)));
        assert_eq!((snapshot.tally.share, snapshot.tally.used()), (1.0, Some(1.0)));
        assert_eq!(snapshot.totals.given_up + snapshot.totals.poisoned, 3);
        assert!(snapshot.log.iter().any(|line| line.what == Happening::GaveUp));
        assert!(f.reset());
        let after = f.snapshot();
        assert!(after.gave_up.is_none() && after.seq > snapshot.seq);
        assert_eq!(after.log.last().map(|line| line.what), Some(Happening::Reset));
        assert_eq!(after.totals.give_ups, 1);
    });
}

#[test]
fn an_app_shows_its_functions_and_what_has_become_of_those_that_have_ended() {
    unhung(|| {
        let app = App::deployed("all of it");
        let start = |name| app.infallible(name, |n: &u64| *n).containers(1).start().expect("valid settings");
        let (one, two) = (start("one"), start("two"));
        let before = app.snapshot();
        assert_eq!((before.v, before.app.kind, before.process), (1, AppKind::Deployed, std::process::id()));
        let names: Vec<&str> = before.functions.iter().map(|function| function.name.as_str()).collect();
        assert_eq!(names, ["one", "two"]);
        let events = two.events();
        two.drain();
        let last = events.into_iter().last();
        assert!(matches!(last, Some(Event::Ended(_))), "the stream ends with the function");
        until("it is forgotten", || app.snapshot().app.ended_cleanly == 1);
        let after = app.snapshot();
        assert_eq!(after.functions.len(), 1);
        assert!(after.now >= before.now && after.now_unix_ms >= before.started_unix_ms);
        assert_eq!(after.started_unix_ms, before.started_unix_ms);
        until("it is over", || two.snapshot().health == Health::Ended);
        let ended = two.snapshot();
        assert_eq!(ended.mode, ModeName::Draining);
        assert!(ended.report.is_some_and(|report| report.is_clean()));
        assert!(two.events().wait().is_none(), "nothing comes after the end");
        let untyped = two.untyped();
        assert!(untyped.snapshot().is_some() && untyped.events().is_some());
        drop(two);
        until("it is gone", || untyped.is_gone());
        assert!(untyped.snapshot().is_none() && untyped.events().is_none());
        let events = one.events();
        drop((one, app));
        drop(events.into_iter().last()); // an app that is dropped ends the stream
    });
}

#[test]
fn a_viewer_sees_how_an_app_ends_and_does_not_keep_it() {
    unhung(|| {
        let app = App::deployed("viewed");
        let (gate, began) = (Gate::default(), Gate::default());
        let (its_gate, its_beginning) = (gate.clone(), began.clone());
        let f = app.infallible("f", move |_: &()| {
            its_beginning.open();
            its_gate.pass();
        });
        let f = f.containers(1).started();
        let viewer = app.downgrade();
        let call = f.call(());
        began.pass();
        let end = std::thread::spawn(move || app.shutdown_blocking());
        let mode = |viewer: &WeakApp| viewer.snapshot().map(|snapshot| snapshot.functions[0].mode);
        until("the viewer sees that the function drains", || mode(&viewer) == Some(ModeName::Draining));
        assert_eq!(viewer.functions()[0].snapshot().expect("it is there").inputs.executing, 1);
        gate.open();
        call.wait().expect("a drain lets it finish");
        assert!(end.join().expect("it ends").is_clean());
        assert!(viewer.is_gone());
        assert!(viewer.snapshot().is_none());
        assert!(viewer.functions().is_empty());
        assert_eq!(viewer.name(), "viewed");
        let ended = viewer.ended();
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].name.as_str(), ended[0].health, ended[0].totals.ok), ("f", Health::Ended, 1));
        assert!(ended[0].report.as_ref().is_some_and(FunctionReport::is_clean));
        drop(f);
    });
}

#[test]
fn the_last_snapshots_of_the_last_16_functions_are_kept_for_viewers_only() {
    unhung(|| {
        let app = App::ephemeral("viewed");
        let start = |name: &str| app.infallible(name, |n: &u64| *n).containers(1).started();
        start("before there was a viewer").drain();
        until("it is forgotten", || app.functions().is_empty());
        let viewer = app.downgrade();
        let names: Vec<String> = (0..20).map(|n| format!("f{n}")).collect();
        for name in &names {
            let f = start(name);
            f.call(1).wait().expect("it works");
            f.drain();
            until("it has ended", || viewer.ended().last().is_some_and(|last| last.name == *name));
        }
        let dropped = app.infallible("dropped", |_: &u64| panic!("a crash")).crash_retries(0).started();
        assert!(dropped.call(1).wait().is_err());
        drop((dropped, app));
        until("the end of a dropped app is seen", || {
            viewer.ended().last().is_some_and(|last| last.name == "dropped")
        });
        let ended = viewer.ended();
        let kept: Vec<&str> = ended.iter().map(|ended| ended.name.as_str()).collect();
        assert_eq!(kept[..15], names[5..]);
        let last = ended.last().expect("it is there");
        assert_eq!((last.totals.poisoned, last.causes[0].message.as_str()), (1, "a crash"));
    });
}

#[test]
fn a_snapshot_keeps_nothing_alive() {
    unhung(|| {
        let app = App::ephemeral("snapshots");
        let witness = Arc::new(());
        let held = Arc::clone(&witness);
        let f = app.infallible("kept", move |_: &Arc<()>| {
            assert!(Arc::strong_count(&held) == 0, "it panics");
        });
        let f = f.describe(|input: &Arc<()>| format!("{input:?}"));
        let f =
            f.containers(1).crash_retries(0).restart(RateLimited::never()).start().expect("valid settings");
        drop(f.call(Arc::clone(&witness)).wait());
        let snapshot = f.snapshot();
        assert_eq!(snapshot.poisoned[0].description.as_deref(), Some("()"));
        drop((f, app));
        until("only the test holds it", || Arc::strong_count(&witness) == 1);
        assert_eq!(snapshot.totals.poisoned, 1);
    });
}

#[cfg(feature = "testkit")]
mod rehearsed {
    use super::*;
    use longshore::testkit::{Fault, Stage};

    const SECOND: Duration = Duration::from_secs(1);

    type Numbers = Stage<u64, u64, u8>;

    #[test]
    fn crashing_is_a_state_of_its_own_with_its_rate_and_share() {
        let f = App::ephemeral("snapshots").function("crashing", |n: &u64| Ok::<u64, u8>(*n));
        let f = f.containers(4).restart(RateLimited::never()).rehearse().takes(SECOND / 10);
        let f = f.fault_when(|at| (at.index % 5 == 4 && at.attempt == 1).then_some(Fault::Panic));
        let scene = async |stage: &Numbers| {
            stage.function().run_all_async((0..200).collect()).await;
            let at_once = stage.function().snapshot();
            stage.sleep(61 * SECOND).await;
            (at_once, stage.function().snapshot())
        };
        let ((crashing, later), record) = f.play(scene).expect("valid settings");
        assert_eq!(crashing.health, Health::Crashing, "{record}");
        assert_eq!((crashing.recent.crashes, crashing.recent.over), (40, 60 * SECOND));
        let share = crashing.recent.share.expect("there were crashes");
        assert!((0.15..0.18).contains(&share), "40 of 240, less what came before the first: {share}");
        assert!(
            crashing.to_string().contains("40 crashes in the last minute, 17 % of what was executed"),
            "{crashing}"
        );
        assert_eq!(crashing.causes[0].count, 40);
        assert_eq!((later.health, later.recent.crashes, later.recent.share), (Health::Serving, 0, None));
        assert_eq!(later.causes[0].count, 40, "what was can still be read");
    }

    #[test]
    fn stuck_is_told_after_ten_seconds_and_who_hangs_in_what() {
        let f = App::ephemeral("snapshots").function("stuck", |n: &u64| Ok::<u64, u8>(*n));
        let f = f.containers(1).rehearse().hangs(0, 1);
        let scene = async |stage: &Numbers| {
            let f = stage.function();
            let run = f.run_async(vec![0, 1, 2]);
            let look = async {
                stage.sleep(SECOND * 9).await;
                let before = f.snapshot();
                stage.sleep(SECOND).await;
                let stuck = f.snapshot();
                assert!(stage.kill(ContainerId::new(0)).await);
                (before, stuck)
            };
            let (outputs, (before, stuck)) = futures::join!(run, look);
            assert_eq!(outputs.expect("replayed"), [0, 1, 2]);
            (before, stuck, f.snapshot())
        };
        let ((before, stuck, after), record) = f.play(scene).expect("valid settings");
        assert_eq!((before.health, stuck.health), (Health::Serving, Health::Stuck), "{record}");
        assert_eq!((stuck.inputs.queued, stuck.inputs.executing), (2, 1));
        let oldest = &stuck.oldest[0];
        assert_eq!((oldest.input.input, oldest.since, stuck.now), (Some(0), Duration::ZERO, 10 * SECOND));
        assert_eq!(stuck.rows[0].executing.as_ref(), Some(oldest));
        assert_eq!(after.totals.crashes.killed, 1, "{after}");
        assert_eq!((after.recent.crashes, after.causes.len()), (0, 0), "a kill by hand is no crash");
        assert_eq!(after.abandoned.iter().map(|thread| thread.since).collect::<Vec<_>>(), [10 * SECOND]);
        assert_eq!(after.health, Health::Serving);
    }

    #[test]
    fn moments_are_virtual_time_and_retries_say_when_they_are_due() {
        let f = App::ephemeral("snapshots").function("retrying", |n: &u64| Ok::<u64, u8>(*n));
        let f = f.containers(1).retries(Retries::new(1).initial_delay(30 * SECOND)).rehearse();
        let f = f.takes(SECOND).enter_takes(2 * SECOND).fails(0, 1, || 7);
        let scene = async |stage: &Numbers| {
            let f = stage.function();
            let run = f.run_all_async(vec![0, 1]);
            let look = async {
                stage.sleep(10 * SECOND).await;
                f.snapshot()
            };
            futures::join!(run, look).1
        };
        let (snapshot, record) = f.play(scene).expect("valid settings");
        assert_eq!((snapshot.started, snapshot.now), (Duration::ZERO, 10 * SECOND), "{record}");
        assert_eq!((snapshot.inputs.retry, snapshot.inputs.next_retry), (1, Some(33 * SECOND)));
        assert_eq!((snapshot.totals.retried, snapshot.totals.ok), (1, 1));
        assert_eq!((snapshot.rows[0].since, snapshot.entering.sum()), (2 * SECOND, 2 * SECOND));
        assert_eq!((snapshot.executing.count(), snapshot.executing.sum()), (2, 2 * SECOND));
        adds_up(&snapshot, 1);
    }

    #[test]
    fn events_are_a_stream_for_tasks() {
        let f = App::ephemeral("snapshots").function("streamed", |n: &u64| Ok::<u64, u8>(*n));
        let scene = async |stage: &Numbers| {
            let events = stage.function().events();
            stage.function().run_async(vec![0, 1]).await.expect("replayed");
            events
        };
        let (events, record) = f.containers(1).rehearse().panics(1, 1).play(scene).expect("valid settings");
        let told: Vec<Event> = futures::executor::block_on(events.collect());
        let crashes = told.iter().filter(|event| matches!(event, Event::Crashed(_))).count();
        assert_eq!(crashes, 1, "{record}");
        assert!(matches!(told.last(), Some(Event::Ended(_))), "{told:?}");
    }
}
