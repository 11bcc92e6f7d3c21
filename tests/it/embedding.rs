//! The threads, runtimes and executors that longshore may be called from, and the threads of its own.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt, stream};
use longshore::{App, Call, Cause, Context, Function, NotReady, StartError};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use crate::support::{
    Counted, Gate, Started, async_numbers, async_numbers_under, attempt, crash, numbers, numbers_under,
    under_each_policy, unhung, until,
};

/// A runtime of each flavor.
fn runtimes() -> [Runtime; 2] {
    let multi = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let current = Builder::new_current_thread().enable_all().build();
    [multi, current].map(|runtime| runtime.expect("a runtime"))
}

/// Uses each part of the async interface once.
async fn everything() {
    let (outputs, report) = App::run("everything", async |app| {
        let f = async_numbers_under(longshore::RateLimited::never(), app, 2, async |n| {
            tokio::time::sleep(Duration::from_micros(10)).await;
            if n % 10 == 3 && attempt() == 1 {
                crash();
            }
            n + 1
        });
        let g = app.infallible("g", |n: &u64| n + 1).containers(1).started();
        assert_eq!(f.call(3).await.expect("replayed"), 4);
        assert_eq!(g.run_async(vec![1, 2]).await.expect("infallible"), [2, 3]);
        let through = f.map_stream(stream::iter(0..100)).map(|outcome| outcome.expect("infallible"));
        g.map_stream(through).try_collect::<Vec<u64>>().await.expect("infallible")
    })
    .await;
    assert_eq!(outputs, (2..102).collect::<Vec<_>>());
    assert!(report.is_clean(), "{report}");
}

#[test]
fn async_code_may_run_on_any_executor_or_runtime() {
    unhung(|| block_on(everything()));
    for runtime in runtimes() {
        unhung(move || runtime.block_on(everything()));
    }
    unhung(|| actix::System::new().block_on(everything()));
    for runtime in runtimes() {
        unhung(move || tokio::task::LocalSet::new().block_on(&runtime, everything()));
    }
}

#[test]
fn blocking_calls_work_inside_a_tokio_runtime_of_either_flavor() {
    for runtime in runtimes() {
        unhung(move || {
            runtime.block_on(async {
                let app = App::ephemeral("tokio");
                let f = app.infallible("f", |n: &u32| n + 1).started();
                assert_eq!(f.run(vec![1, 2, 3]).expect("infallible"), [2, 3, 4]);
                assert!(app.shutdown_blocking().is_clean());
            });
        });
    }
}

#[test]
fn a_blocking_wait_inside_a_container_of_the_same_function_is_a_typed_error() {
    under_each_policy(|app, policy| {
        let myself: Arc<std::sync::OnceLock<Function<u32, String, &'static str>>> = Arc::default();
        let inside = Arc::clone(&myself);
        let f = app
            .function("f", move |n: &u32| {
                let f = inside.get().expect("set before the first call");
                let mut told = vec![];
                if *n == 0 {
                    let call = f.call(1).wait().expect_err("it would wait for itself");
                    told.push((matches!(call.cause(), Cause::WouldDeadlock), call.input() == Some(&1)));
                    let mut map = f.map(vec![1]).into_iter();
                    let first = map.next().expect("an error").map(|_| ()).expect_err("it would wait");
                    told.push((matches!(first.cause(), Cause::WouldDeadlock), map.next().is_none()));
                    told.push((matches!(f.ready(), Err(NotReady::WouldDeadlock)), true));
                }
                Ok(format!("{told:?}"))
            })
            .containers(1)
            .restart(policy)
            .started();
        assert!(myself.set(f.clone()).is_ok());
        assert_eq!(f.call(0).wait().expect("it answers"), "[(true, true), (true, true), (true, true)]");
    });
}

#[test]
fn a_container_may_call_another_function() {
    under_each_policy(|app, policy| {
        let inner = app.infallible("inner", |n: &u64| n * 2).containers(1).started();
        let outer = numbers_under(policy, app, 2, move |n| inner.call(*n).wait().expect("infallible"));
        assert_eq!(outer.run((0..50).collect()).expect("infallible")[49], 98);
    });
}

#[test]
fn starting_while_panicking_is_a_typed_error() {
    struct StartsInDrop(Option<App>, std::sync::mpsc::Sender<bool>);
    impl Drop for StartsInDrop {
        fn drop(&mut self) {
            let app = self.0.take().expect("once");
            let refused = app.infallible("f", |n: &u32| *n).start();
            self.1.send(matches!(refused, Err(StartError::Panicking))).expect("the test listens");
        }
    }
    let (send, receive) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _starts = StartsInDrop(Some(App::ephemeral("panicking")), send);
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(thread.join().is_err());
    assert_eq!(receive.recv(), Ok(true));
}

#[test]
fn threads_bear_names_and_the_context_knows_where_it_is() {
    under_each_policy(|app, policy| {
        let f = app
            .infallible("shrink", |(): &()| {
                let context = Context::current().expect("in a container");
                let name = std::thread::current().name().map(str::to_owned);
                (name, format!("{context:?}"), context.input(), context.container().index())
            })
            .containers(1)
            .restart(policy)
            .started();
        let (name, context, input, container) = f.call(()).wait().expect("infallible");
        assert_eq!(name.as_deref(), Some("promise/shrink/0#1"));
        assert_eq!(context.as_str(), "promise/shrink/0#1", "context");
        assert_eq!(input, Some(0), "input");
        assert_eq!(container, 0, "container");
        assert!(Context::current().is_none(), "not in a container");
    });
}

#[test]
fn the_stack_of_a_container_has_the_size_that_was_set() {
    fn deep(levels: u32) -> u32 {
        let frame = std::hint::black_box([levels; 256]);
        if levels == 0 { 0 } else { deep(levels - 1) + frame[0].min(1) }
    }
    unhung(|| {
        let app = App::ephemeral("stack");
        // 10 000 frames of more than 1 KiB do not fit the default 8 MiB.
        let f = app.infallible("f", |n: &u32| deep(*n)).stack_size(128 << 20).started();
        assert_eq!(f.call(20_000).wait().expect("infallible"), 20_000);
    });
}

/// The number of living threads of an app.
#[cfg(target_os = "linux")]
fn threads_of(app: &str) -> usize {
    // The kernel keeps 15 bytes of a thread's name.
    let tasks = std::fs::read_dir("/proc/self/task").expect("a Linux");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(app)).count()
}

#[cfg(target_os = "linux")]
#[test]
fn a_clean_shutdown_leaves_no_thread_behind() {
    unhung(|| {
        for _ in 0..5 {
            let app = App::ephemeral("leak-test");
            let f = numbers_under(longshore::RateLimited::never(), &app, 3, |n| {
                if n.is_multiple_of(10) && attempt() == 1 {
                    crash()
                }
                *n
            });
            f.for_each(std::iter::successors(Some(0), |n| (*n < 200).then_some(n + 1))).expect("it goes on");
            assert!(threads_of("leak-test") >= 1);
            drop(f);
            assert!(app.shutdown_blocking().is_clean());
            until("the app's threads are gone", || threads_of("leak-test") == 0);
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_apps_one_after_another_leave_no_thread_behind() {
    unhung(|| {
        for n in 0..1_000u64 {
            let app = App::ephemeral("thousand");
            let f = async_numbers(&app, 1, async |n| {
                if *n == u64::MAX {
                    std::future::pending::<()>().await;
                }
                n + 1
            });
            assert_eq!(f.call(n).wait().expect("infallible"), n + 1);
            match n % 4 {
                0 => assert!(app.shutdown_blocking().is_clean()),
                1 => assert!(block_on(app.shutdown()).is_clean()),
                2 => drop((f.call(u64::MAX), f.map_stream(stream::pending()), app)),
                _ => drop((app, f)),
            }
            assert!(threads_of("thousand") < 100, "threads end as fast as they begin");
        }
        until("all threads are gone", || threads_of("thousand") == 0);
    });
}

#[test]
fn handles_may_be_dropped_in_any_order_from_any_thread() {
    under_each_policy(|_, policy| {
        // Each number from 0 to 119 is the Lehmer code of one order of the five handles.
        for code in 0..120 {
            let (drops, app) = (Arc::new(AtomicU64::new(0)), App::ephemeral("orders"));
            let witness = Counted(Arc::clone(&drops));
            let f = async_numbers_under(policy.clone(), &app, 1, async move |n| {
                let _ = &witness;
                if *n > 0 {
                    std::future::pending::<()>().await;
                }
                *n
            });
            let mut map = f.map_stream(stream::iter(0..));
            assert_eq!(block_on(map.next()).and_then(Result::ok), Some(0));
            let (call, abort) = (f.call(1), map.abort_handle());
            let mut handles: Vec<Box<dyn Send>> =
                vec![Box::new(app), Box::new(f), Box::new(map), Box::new(call), Box::new(abort)];
            let mut code = code;
            while !handles.is_empty() {
                let handle = handles.swap_remove(code % handles.len());
                code /= handles.len() + 1;
                std::thread::spawn(move || drop(handle)).join().expect("no panic");
            }
            until("the function is gone", || drops.load(Ordering::SeqCst) == 1);
        }
    });
}

#[test]
fn two_apps_live_beside_each_other_and_end_one_by_one() {
    unhung(|| {
        let apps = [App::ephemeral("one"), App::deployed("other")];
        let functions = apps.each_ref().map(|app| {
            let f = app.function_async("f", async |n: &u64| Ok::<_, Infallible>(n + 1));
            f.containers(1).start().expect("the same name is another function's in another app")
        });
        let [f, g] = &functions;
        let both = block_on(async { futures::join!(f.run_async(vec![1, 2]), g.run_async(vec![3, 4])) });
        assert_eq!(both.0.into_iter().chain(both.1).flatten().collect::<Vec<_>>(), [2, 3, 4, 5]);
        let [one, other] = apps;
        assert!(block_on(one.shutdown()).is_clean());
        assert!(f.call(1).wait().is_err_and(|failure| failure.is_shut_down()));
        assert_eq!(g.call(1).wait().expect("the other app goes on"), 2);
        drop(other);
    });
}

#[test]
fn a_map_ends_with_a_source_error_when_the_runtime_of_its_source_is_shut_down() {
    under_each_policy(|app, policy| {
        for (name, runtime) in ["multi", "current"].into_iter().zip(runtimes()) {
            let f = app.infallible(name, |n: &u64| *n).containers(1).restart(policy.clone()).started();
            let source = stream::unfold(0u64, async |n| {
                tokio::time::sleep(Duration::from_micros(100)).await;
                Some((n, n + 1))
            });
            let mut map = runtime.block_on(async { f.map_stream(source) }).return_exceptions();
            let gate = Gate::default();
            let leave = gate.clone();
            // A runtime of one thread drives its timers only inside its `block_on`.
            let driver = std::thread::spawn(move || {
                runtime.block_on(leave.passed());
                runtime.shutdown_background();
            });
            for n in 0..5 {
                assert_eq!(block_on(map.next()).and_then(Result::ok), Some(n));
            }
            gate.open();
            let last = block_on(map.fold(None, async |_, outcome| Some(outcome))).expect("an error");
            let last = last.expect_err("it is endless otherwise");
            assert!(matches!(last.cause(), Cause::Source(_)), "{last:?}");
            assert!(last.index().is_none(), "{last:?}");
            driver.join().expect("no panic");
            until("no feeder is left", || f.status().feeders == 0);
            assert_eq!(f.call(1).wait().expect("the function goes on"), 1);
        }
    });
}

#[test]
fn an_app_may_be_started_and_used_inside_a_container_of_another() {
    under_each_policy(|app, policy| {
        let sync = numbers_under(policy.clone(), app, 1, |n| {
            let (sum, report) = App::run_blocking("inner", |inner| {
                let f = async_numbers(inner, 1, async |n| *n);
                f.run((0..*n).collect()).expect("infallible").into_iter().sum::<u64>()
            });
            assert!(report.is_clean(), "{report}");
            sum
        });
        let inner = sync.clone();
        let tasks = app
            .function_async("async", async move |n: &u64| {
                let (sum, report) = App::run("inner", async |app| {
                    let f = numbers(app, 1, |n| *n);
                    f.run_async((0..*n).collect()).await.expect("infallible").into_iter().sum::<u64>()
                })
                .await;
                assert!(report.is_clean(), "{report}");
                Ok::<_, Infallible>(sum + inner.call(*n).await.expect("infallible"))
            })
            .containers(1)
            .restart(policy)
            .started();
        assert_eq!(tasks.run(vec![10, 20]).expect("infallible"), [90, 380]);
        drop((tasks, sync));
    });
}

#[test]
fn a_call_awaited_inside_its_function_works_if_another_container_is_free() {
    under_each_policy(|app, policy| {
        let myself: Arc<std::sync::OnceLock<Function<u64, u64, Infallible>>> = Arc::default();
        let inside = Arc::clone(&myself);
        let f = app
            .function_async("f", async move |n: &u64| {
                if *n == 0 {
                    return Ok(0);
                }
                let f = inside.get().expect("set before the first call");
                Ok(n + f.call(0).await.expect("infallible") + f.map(vec![0]).next().await.map_or(1, |_| 0))
            })
            .containers(2)
            .restart(policy)
            .started();
        assert!(myself.set(f.clone()).is_ok());
        for n in 1..50 {
            assert_eq!(f.call(n).wait().expect("infallible"), n);
        }
        f.abort(); // the function holds a handle to itself
    });
}

#[test]
fn a_function_may_be_run_from_several_tasks_at_once() {
    for runtime in runtimes() {
        unhung(move || {
            let app = App::ephemeral("tasks");
            let f = async_numbers(&app, 2, async |n| {
                yield_now().await;
                *n
            });
            let runs = (0..4u64).map(|task| {
                let f = f.clone();
                runtime.spawn(async move { f.run_async((task * 1_000..task * 1_000 + 500).collect()).await })
            });
            let runs: Vec<_> = runs.collect();
            for (task, run) in (0..).zip(runs) {
                let outputs = runtime.block_on(run).expect("no panic").expect("infallible");
                assert_eq!(outputs, (task * 1_000..task * 1_000 + 500).collect::<Vec<_>>());
            }
        });
    }
}

#[test]
fn a_blocking_wait_for_a_call_inside_its_function_fails_and_gives_its_input_back() {
    under_each_policy(|app, policy| {
        let (send, receive) = std::sync::mpsc::channel::<Call<u32, bool, Infallible>>();
        let receive = Mutex::new(receive);
        let f = app
            .infallible("f", move |n: &u32| {
                if *n != 0 {
                    return false;
                }
                let call = receive.lock().expect("not poisoned").recv().expect("the test sends one");
                let failure = call.wait().expect_err("it would wait for itself");
                matches!(failure.cause(), Cause::WouldDeadlock) && failure.input() == Some(&7)
            })
            .containers(1)
            .restart(policy)
            .started();
        let outer = f.call(0);
        send.send(f.call(7)).expect("the container listens");
        assert!(outer.wait().expect("infallible"), "WouldDeadlock, with the input");
        assert_eq!(f.status().inputs_waiting, 0, "the inner call is cancelled");
    });
}
