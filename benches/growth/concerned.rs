//! The cost of an event for each input, call or container that it concerns, beside few and beside very many
//! others.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::executor::block_on;
use futures::future::join_all;
use futures::stream::StreamExt;
use longshore::{App, ContainerId, Context, RateLimited};

use crate::harness::Harness;
use crate::harness::goal::Goal;
use crate::harness::ours::{self, Ours};
use crate::harness::question::Measure;
use crate::harness::reading::{Reading, timed};
use crate::harness::work::{Busy, no_op};

/// The largest ratio of the cost beside many others to the cost beside few.
const GOAL: Goal = Goal::Times(3.0);

/// The stack size of many containers that do almost nothing.
const SMALL_STACK: usize = 64 << 10;

pub(crate) fn ask(harness: &mut Harness) {
    open_maps(harness);
    queued_calls(harness);
    idle_containers(harness);
    ends_of_large_jobs(harness);
    batches(harness);
}

/// A map beside open maps whose consumers have paused.
fn open_maps(harness: &mut Harness) {
    let n = harness.inputs(10_000);
    let [few, many] = [100, harness.inputs(100_000)].map(|maps| {
        let function = ours::plain(no_op);
        let open = |_| {
            let mut map = function.map(0..1_000_000).window(8).into_iter();
            assert!(map.next().is_some_and(|outcome| outcome.is_ok()));
            map
        };
        let idle: Vec<_> = (0..maps).map(open).collect();
        (function, idle)
    });
    let map = |function: &Ours| {
        let function = function.clone();
        let run = move |()| function.map(0..n).into_iter().filter(Result::is_ok).count() as u64;
        timed(n, 1, || (), run, move |ok| assert_eq!(ok, n))
    };
    harness
        .question("a map beside 1e5 open maps that are not read", n)
        .ours(map(&many.0))
        .rival("itself, beside 1e2", &[GOAL], map(&few.0))
        .ask();
}

/// Calls that are dropped and calls that are answered, among other calls that wait.
fn queued_calls(harness: &mut Harness) {
    let [few, many] = [100, harness.inputs(100_000)];
    let function = ours::plain(no_op);
    let answered = |calls: u64| {
        let function = function.clone();
        let run = move |()| {
            let calls: Vec<_> = (0..calls).map(|n| function.call(n)).collect();
            calls.into_iter().map(|call| call.wait().expect("nothing fails here")).sum::<u64>()
        };
        let times = (many / calls).clamp(1, 100) as u32;
        timed(calls, times, || (), run, |sum| _ = black_box(sum))
    };
    harness
        .question("a call that is answered, 1e5 at once", many)
        .ours(answered(many))
        .rival("itself, 1e2 at once", &[GOAL], answered(few))
        .ask();

    let release = std::sync::Arc::new(AtomicBool::new(false));
    let held = std::sync::Arc::clone(&release);
    let app = App::ephemeral("bench");
    let stuck = app.infallible("stuck", move |n: &u64| {
        while !held.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        *n
    });
    let stuck: Ours = ours::start_with(1, stuck);
    let first = stuck.call(0);
    let dropped = |calls: u64| {
        let stuck = stuck.clone();
        let prepare = move || (0..calls).map(|n| stuck.call(n)).collect::<Vec<_>>();
        timed(calls, (many / calls).clamp(1, 100) as u32, prepare, drop, |()| ())
    };
    harness
        .question("a queued call that is dropped, of 1e5", many)
        .ours(dropped(many))
        .rival("itself, of 1e2", &[GOAL], dropped(few))
        .ask();
    release.store(true, Ordering::Relaxed);
    drop(first);
}

/// A crash and a kill beside idle containers.
fn idle_containers(harness: &mut Harness) {
    let [few, many] = [2, 1024].map(|containers| {
        let app = App::ephemeral("bench");
        let crashes = |n: &u64| {
            assert!(*n != 0, "a crash on purpose");
            *n
        };
        let builder = app.infallible("crashes", crashes).crash_retries(0).stack_size(SMALL_STACK);
        let function: Ours = ours::start_with(containers, builder.restart(RateLimited::never()));
        function
    });
    let times = harness.inputs(200);
    let crash = |function: &Ours| {
        let function = function.clone();
        let run = move |()| {
            for _ in 0..times {
                assert!(function.call(0).wait().is_err());
                assert!(function.call(1).wait().is_ok());
            }
        };
        timed(times, 1, || (), run, |()| ())
    };
    harness
        .question("a crash and a call beside 1024 idle containers", times)
        .ours(crash(&many))
        .rival("itself, beside 2", &[GOAL], crash(&few))
        .ask();
    let kill = |function: &Ours| {
        let function = function.clone();
        let run = move |()| {
            for _ in 0..times {
                assert!(function.kill_container(ContainerId::new(0)));
                assert!(function.call(1).wait().is_ok());
                while function.status().containers.stopped > 0 || function.status().containers.starting > 0 {
                    thread::yield_now();
                }
            }
        };
        timed(times, 1, || (), run, |()| ())
    };
    harness
        .question("a kill, a call and a restart beside 1024 idle containers", times)
        .ours(kill(&many))
        .rival("itself, beside 2", &[Goal::Shown], kill(&few))
        .ask();
    let end = |containers: usize| {
        let prepare = move || {
            let app = App::ephemeral("bench");
            let builder = app.infallible("ends", |n: &u64| *n).stack_size(SMALL_STACK);
            let function: Ours = ours::start_with(containers, builder);
            drop(function);
            app
        };
        timed(
            containers as u64,
            1,
            prepare,
            |app| app.shutdown_blocking(),
            |report| assert!(report.is_clean()),
        )
    };
    harness
        .question("the shutdown of each of 1024 idle containers", 1024)
        .ours(end(1024))
        .rival("itself, of 64", &[GOAL], end(64))
        .ask();
}

/// The end of a large job: its effect on another function, and the time until its caller has the failures.
fn ends_of_large_jobs(harness: &mut Harness) {
    let n = harness.inputs(1_000_000);
    let measures = [Measure { name: "the longest status()", unit: "µs", goal: Goal::AtMost(20_000.0) }];
    let longest = move || {
        let other = ours::plain(no_op);
        let mut longest = Duration::ZERO;
        let took = end_of_a_large_job(n, || {
            let asked = Instant::now();
            black_box(other.status());
            longest = longest.max(asked.elapsed());
        });
        Reading { took, figures: vec![longest.as_nanos() as f64 / 1000.0] }
    };
    harness.question("while a job of 1e6 inputs is aborted", n).measures(&measures).ours(longest).ask();

    let measures = [Measure { name: "each input", unit: "µs", goal: Goal::AtMost(2.0) }];
    let each = move || {
        let _load = Busy::all_cores();
        let took = end_of_a_large_job(n, || thread::sleep(Duration::from_millis(1)));
        Reading { took, figures: vec![took.as_nanos() as f64 / 1000.0 / n as f64] }
    };
    harness
        .question("a job of 1e6 inputs is aborted beside busy cores", n)
        .measures(&measures)
        .ours(each)
        .ask();
}

/// Aborts a function with a job of this many inputs. One of them executes. Calls `meanwhile` again and again
/// until the caller of the job has all failures, and returns the time until then.
fn end_of_a_large_job(inputs: u64, mut meanwhile: impl FnMut()) -> Duration {
    let app = App::ephemeral("bench");
    let stuck = std::sync::Arc::new(AtomicBool::new(true));
    let held = std::sync::Arc::clone(&stuck);
    let large = app.infallible("large", move |n: &u64| {
        while held.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        *n
    });
    let large: Ours = ours::start_with(1, large);
    let running = large.clone();
    let run = thread::spawn(move || running.run_all((0..inputs).collect()).len() as u64);
    while large.status().inputs_waiting + 1 < inputs {
        thread::yield_now();
    }
    let begun = Instant::now();
    large.abort();
    while !run.is_finished() {
        meanwhile();
    }
    let took = begun.elapsed();
    stuck.store(false, Ordering::Relaxed);
    assert!(run.join().expect("the thread only counts") >= inputs);
    took
}

/// The largest batch.
const BATCH_MAX: u64 = 65_536;

/// A batch waits for this long until it is full.
const FULL: Duration = Duration::from_secs(600);

/// A function of one container that executes batches of this many inputs, and waits until each is full.
fn of_batches(size: u64, code: impl Fn() + Send + Sync + 'static) -> Ours {
    let app = App::ephemeral("bench");
    let outputs = move |inputs: &[&u64]| {
        code();
        inputs.iter().map(|n| Ok(**n)).collect()
    };
    let builder = app.batch("batches", outputs).batch_size(size as usize).batch_wait(FULL);
    ours::start_with(1, builder.restart(RateLimited::never()))
}

/// Calls and maps of one input that are in one batch.
fn batches(harness: &mut Harness) {
    let [few, many] = [100, harness.inputs(100_000).min(BATCH_MAX)];
    let times = |size: u64| (many / size).clamp(1, 100) as u32;

    let calls = |size: u64| {
        let function = of_batches(size, || ());
        let run = move |()| {
            let calls: Vec<_> = (0..size).map(|n| function.call(n)).collect();
            calls.into_iter().map(|call| call.wait().expect("nothing fails here")).sum::<u64>()
        };
        timed(size, times(size), || (), run, |sum| _ = black_box(sum))
    };
    harness
        .question("a call of one batch, of 65 536", many)
        .ours(calls(many))
        .rival("itself, of 1e2", &[GOAL], calls(few))
        .ask();

    let cancelled = |size: u64| {
        let function = of_batches(size, || {
            let context = Context::current().expect("inside a container");
            while !context.is_cancelled() {
                thread::sleep(Duration::from_micros(100));
            }
        });
        let prepare = move || {
            let calls: Vec<_> = (0..size).map(|n| function.call(n)).collect();
            while function.status().executing != size {
                thread::sleep(Duration::from_millis(1));
            }
            calls
        };
        timed(size, times(size), prepare, drop, |()| ())
    };
    harness
        .question("a cancelled call of one batch, of 65 536", many)
        .ours(cancelled(many))
        .rival("itself, of 1e2", &[GOAL], cancelled(few))
        .ask();

    // A call waits with the maps. Without it the batch would not wait, because each map is at its end.
    let maps = |size: u64| {
        let function = of_batches(size, || ());
        let run = move |()| {
            let call = function.call(0);
            let mut maps: Vec<_> = (1..size).map(|n| function.map(vec![n])).collect();
            // The first poll begins a map. The last one makes the batch full.
            let early = maps.iter_mut().filter_map(|map| map.next().now_or_never()).count();
            assert!(early <= 1, "only the map that completes the batch may have its outcome at once");
            drop(block_on(join_all(maps.iter_mut().map(StreamExt::next))));
            call.wait().expect("nothing fails here")
        };
        timed(size, times(size), || (), run, |output| _ = black_box(output))
    };
    harness
        .question("a map of one input in one batch, of 65 536", many)
        .ours(maps(many))
        .rival("itself, of 1e2", &[GOAL], maps(few))
        .ask();
}
