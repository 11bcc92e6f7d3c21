//! How functions and apps end: what is cut off, what comes back, what the report says, and which threads are
//! left.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use longshore::actor::{Ending, GetStatus, Shutdown};
use longshore::{App, ContainerId, Context, Fate, Function, FunctionReport, Report, StartError, Worker};

use crate::support::{Counted, Gate, Started, numbers, numbers_under, under_each_policy, unhung, until};

/// A limit longer than any test takes. A test that ends has not waited for it.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(10);

/// Ends a function from outside its app, and waits for it.
fn end<I, O, E>(f: &Function<I, O, E>, ending: Ending, limit: Duration) -> FunctionReport
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    block_on(f.supervisor().send(Shutdown { ending, limit })).expect("it has not ended before")
}

fn fates(report: &FunctionReport) -> Vec<Fate> {
    report.containers.iter().map(|(_, fate)| fate.clone()).collect()
}

// ---- a function that has ended is forgotten ----

#[test]
fn a_function_that_has_ended_drops_its_captures_and_frees_its_name_with_its_last_handle() {
    unhung(|| {
        let app = App::deployed("tenants");
        let drops = Arc::new(AtomicU64::new(0));
        for round in 0..20 {
            let captured = Counted(Arc::clone(&drops));
            let start = || app.infallible("tenant", |n: &u64| *n).containers(1).start();
            let f = app
                .infallible("tenant", move |n: &u64| n + u64::from(captured.0.load(Ordering::SeqCst) > 99))
                .containers(2)
                .start()
                .expect("the name is free");
            f.ready_all().expect("it starts"); // otherwise the abort would cut `enter` off
            let call = f.call(1);
            let abort_handle = call.abort_handle();
            assert_eq!(call.wait().expect("infallible"), 1);
            let report = end(&f, [Ending::Drain, Ending::Stop, Ending::Abort][round % 3], LONG);
            assert!(report.is_clean(), "{report}");
            let other = f.clone();
            drop(f);
            assert!(matches!(start(), Err(StartError::NameTaken(_))), "a handle is left");
            assert_eq!(drops.load(Ordering::SeqCst), round as u64, "the handle keeps the captured value");
            drop(other);
            until("the captures are dropped", || drops.load(Ordering::SeqCst) == round as u64 + 1);
            drop(abort_handle); // until here, to show that it keeps nothing alive
        }
        let last = app.infallible("tenant", |n: &u64| *n).containers(1).start().expect("the name is free");
        assert_eq!(last.call(7).wait().expect("infallible"), 7);
        let report = app.shutdown_blocking();
        assert_eq!(report.functions.len(), 1, "functions: {report}");
        assert_eq!(report.ended_cleanly, 20, "functions that ended cleanly: {report}");
        assert!(report.is_clean(), "the end is clean: {report}");
    });
}

#[test]
fn a_drained_function_without_handles_is_forgotten_in_the_background() {
    unhung(|| {
        let app = App::deployed("tenants");
        let drops = Arc::new(AtomicU64::new(0));
        let captured = Counted(Arc::clone(&drops));
        let f = numbers(&app, 1, move |_| captured.0.load(Ordering::SeqCst));
        assert_eq!(f.call(1).wait().expect("infallible"), 0);
        f.drain();
        drop(f);
        until("the captures are dropped", || drops.load(Ordering::SeqCst) == 1);
        until("the name is free", || app.infallible("f", |n: &u64| *n).containers(1).start().is_ok());
    });
}

#[test]
fn an_app_keeps_a_function_whose_last_handle_is_dropped_before_its_end() {
    unhung(|| {
        let app = App::ephemeral("kept");
        let f = numbers(&app, 1, |n| *n);
        f.ready().expect("it starts");
        drop(f);
        assert!(matches!(app.infallible("f", |n: &u64| *n).start(), Err(StartError::NameTaken(_))));
        let report = app.shutdown_blocking();
        assert_eq!(fates(&report.functions[0]), [Fate::Exited], "{report}");
    });
}

#[test]
fn the_report_of_an_app_has_each_unclean_end_and_each_function_that_still_runs() {
    unhung(|| {
        let app = App::ephemeral("kept");
        let (begun, gate) = (Gate::default(), Gate::default());
        let mut calls = Vec::new();
        for name in ["first", "second"] {
            let (told, inside) = (begun.clone(), gate.clone());
            let waits = move |stays: &bool| {
                if *stays {
                    told.open();
                    inside.pass();
                }
            };
            let f = app.infallible(name, waits).containers(1).started();
            calls.push(f.call(name == "second"));
        }
        begun.pass();
        let clean = numbers(&app, 1, |n| *n);
        clean.ready().expect("it starts");
        assert!(end(&clean, Ending::Drain, LONG).is_clean());
        let hangs = app
            .infallible("hangs", {
                let (told, inside) = (Gate::default(), gate.clone());
                move |_: &u64| {
                    told.open();
                    inside.pass();
                }
            })
            .containers(1)
            .started();
        let call = hangs.call(1);
        until("the call executes", || hangs.status().inputs_waiting == 0);
        let report = end(&hangs, Ending::Abort, LONG);
        assert_eq!(fates(&report), vec![Fate::StillRunning], "fates: {report}");
        assert_eq!(report.threads_running, 1, "running threads: {report}");
        gate.open();
        until("the abandoned thread ends", || hangs.status().containers.abandoned == 0);
        drop((hangs, call));
        let report = app.shutdown_blocking();
        let names: Vec<&str> = report.functions.iter().map(|function| function.function.as_str()).collect();
        assert_eq!(names, vec!["first", "second", "hangs"], "functions that are reported: {report}");
        assert_eq!(report.ended_cleanly, 1, "functions that ended cleanly: {report}");
        assert_eq!(fates(&report.functions[2]), [Fate::CutOff], "its thread has ended since");
        assert_eq!(report.functions[2].threads_running, 0);
        assert!(!report.is_clean());
        drop(calls);
    });
}

// ---- work that is cut off ----

#[test]
fn async_work_that_is_cut_off_is_reported_so_and_returned_inputs_are_counted() {
    let ways: [fn(App) -> Report; 3] =
        [|app| app.shutdown_within(SHORT), |app| app.stop_within(SHORT), App::abort];
    for way in ways {
        under_each_policy(move |_, policy| {
            let app = App::ephemeral("cut");
            let begun = Gate::default();
            let told = begun.clone();
            let f = app
                .function_async("f", async move |_: &u64| {
                    told.open();
                    pending::<Result<u64, Infallible>>().await
                })
                .containers(1)
                .restart(policy)
                .started();
            let executing = f.call(0);
            begun.pass();
            let waiting = [f.call(1), f.call(2)];
            // A run accepts all its inputs at once, and ends with its first failure.
            let map = std::thread::spawn({
                let f = f.clone();
                move || f.run(vec![3, 4, 5, 6])
            });
            until("all inputs are accepted", || f.status().inputs_waiting == 6);
            let report = way(app);
            assert!(executing.wait().is_err_and(|failure| failure.attempts() == 1));
            for call in waiting {
                assert!(call.wait().is_err_and(|failure| failure.is_shut_down() && failure.attempts() == 0));
            }
            assert!(map.join().expect("no panic").is_err_and(|failure| failure.index().is_none()));
            let ended = &report.functions[0];
            assert_eq!(fates(ended), vec![Fate::CutOff], "fates: {report}");
            assert_eq!(ended.threads_running, 0, "running threads: {report}");
            assert_eq!(ended.inputs_returned, 3, "returned inputs: {report}");
            assert_eq!(ended.inputs_dropped, 4, "dropped inputs: {report}");
            assert!(!report.is_clean(), "{report}");
        });
    }
}

#[test]
fn a_stop_within_its_limit_is_clean_and_says_how_many_inputs_came_back() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("stop");
        let (begun, gate) = (Gate::default(), Gate::default());
        let (told, inside) = (begun.clone(), gate.clone());
        let f = numbers_under(policy, &app, 1, move |n| {
            if *n == 0 {
                told.open();
                inside.pass();
            }
            *n
        });
        let executing = f.call(0);
        begun.pass();
        let waiting = [f.call(1), f.call(2), f.call(3)];
        f.stop();
        gate.open();
        let report = app.stop_within(LONG);
        assert!(executing.wait().is_ok());
        assert!(waiting.into_iter().all(|call| call.wait().is_err()));
        let ended = report.functions.first();
        let told = ended.map(|ended| (fates(ended), ended.inputs_returned, ended.limit_passed));
        assert!(told.is_none_or(|told| told == (vec![Fate::Exited], 3, false)), "{report}");
        assert!(report.is_clean(), "{report}");
    });
}

#[test]
fn an_end_that_gives_inputs_back_because_its_limit_passed_is_not_clean() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("left over");
        let f = app
            .function("f", |_: &u64| Err::<u64, _>("again"))
            .containers(1)
            .restart(policy)
            .retries(longshore::Retries::new(1).initial_delay(Duration::from_secs(60)))
            .started();
        let call = f.call(1);
        until("the input waits for its retry", || f.status().inputs_waiting == 1);
        let report = app.shutdown_within(SHORT);
        assert!(call.wait().is_err_and(|failure| failure.is_shut_down() && failure.attempts() == 1));
        let ended = &report.functions[0];
        assert_eq!(fates(ended), vec![Fate::Exited], "fates: {report}");
        assert_eq!(ended.inputs_returned, 1, "returned inputs: {report}");
        assert!(ended.limit_passed, "{report}");
        assert!(!report.is_clean(), "{report}");
    });
}

#[test]
fn code_with_checkpoints_is_cut_off_within_the_second_after_the_limit() {
    let ways: [fn(App) -> Report; 2] = [|app| app.shutdown_within(SHORT), |app| app.stop_within(SHORT)];
    for way in ways {
        under_each_policy(move |_, policy| {
            let app = App::ephemeral("checkpoints");
            let begun = Gate::default();
            let told = begun.clone();
            let f = numbers_under(policy, &app, 2, move |_| {
                told.open();
                loop {
                    Context::checkpoint();
                    std::thread::yield_now();
                }
            });
            let call = f.call(0);
            begun.pass();
            let report = way(app);
            assert!(
                call.wait().is_err_and(|failure: longshore::Failure<u64, Infallible>| failure.is_shut_down())
            );
            let ended = &report.functions[0];
            assert_eq!(ended.threads_running, 0, "{report}");
            assert!(fates(ended).contains(&Fate::CutOff), "{report}");
            assert!(!fates(ended).contains(&Fate::StillRunning), "{report}");
            assert!(!report.is_clean());
        });
    }
}

/// A worker that waits for a gate at input 0, and whose exits are counted and take a given time.
struct Waits {
    begun: Gate,
    gate: Gate,
    exits: Arc<AtomicU64>,
    exit_takes: Duration,
}

impl Worker for Waits {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Infallible> {
        if *input == 0 {
            self.begun.open();
            self.gate.pass();
        }
        Ok(*input)
    }

    fn exit(self, _: &Context) {
        std::thread::sleep(self.exit_takes); // the duration of the exit is what the test is about
        self.exits.fetch_add(1, Ordering::SeqCst);
    }
}

/// A function of [`Waits`] workers, the gate that input 0 opens, the gate that it waits for, and the number
/// of exits.
type Waiting = (Function<u64, u64, Infallible>, Gate, Gate, Arc<AtomicU64>);

fn waiting(app: &App, containers: usize, exit_takes: Duration, policy: longshore::RestartPolicy) -> Waiting {
    let (begun, gate, exits) = (Gate::default(), Gate::default(), Arc::new(AtomicU64::new(0)));
    let kept = (begun.clone(), gate.clone(), Arc::clone(&exits));
    let enter = move |_: &Context| {
        Ok(Waits { begun: begun.clone(), gate: gate.clone(), exits: Arc::clone(&exits), exit_takes })
    };
    let f = app.worker("f", enter).containers(containers).restart(policy).started();
    f.ready_all().expect("it starts");
    (f, kept.0, kept.1, kept.2)
}

#[test]
fn idle_containers_exit_though_a_neighbour_outlasts_the_limit() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("idle");
        let (f, begun, gate, exits) = waiting(&app, 3, Duration::ZERO, policy);
        let call = f.call(0);
        begun.pass();
        let report = app.shutdown_within(SHORT);
        let (mut told, of) = (fates(&report.functions[0]), [Fate::Exited, Fate::Exited, Fate::StillRunning]);
        told.sort_by_key(|fate| *fate != Fate::Exited);
        assert_eq!(told, of.to_vec(), "fates: {report}");
        assert_eq!(exits.load(Ordering::SeqCst), 2, "exits: {report}");
        assert!(call.wait().is_err_and(|failure| failure.is_shut_down()));
        gate.open();
    });
}

#[test]
fn an_exit_that_runs_when_the_limit_passes_has_a_second_more() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("exits");
        let (_f, _, _, exits) = waiting(&app, 2, Duration::from_millis(100), policy);
        let report = app.shutdown_within(Duration::from_millis(1));
        assert_eq!(fates(&report.functions[0]), [Fate::Exited, Fate::Exited], "{report}");
        assert_eq!(exits.load(Ordering::SeqCst), 2, "exits");
        assert!(report.is_clean(), "the end is clean");
    });
}

#[test]
fn an_abort_after_the_limit_of_a_drain_waits_for_nothing() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("abort");
        let (f, begun, gate, _) = waiting(&app, 1, Duration::ZERO, policy);
        let call = f.call(0);
        begun.pass();
        let drained = f.supervisor().send(Shutdown { ending: Ending::Drain, limit: Duration::ZERO });
        let asked = std::thread::spawn(move || block_on(drained));
        assert!(call.wait().is_err_and(|failure| failure.is_shut_down()), "the limit has passed");
        let report = app.abort();
        assert_eq!(fates(&report.functions[0]), [Fate::StillRunning], "{report}");
        assert_eq!(asked.join().expect("no panic").expect("a report"), report.functions[0]);
        gate.open();
    });
}

// ---- when calls are refused ----

#[test]
fn calls_are_refused_from_the_moment_a_drain_a_stop_or_an_abort_returns() {
    for ending in ["drain", "stop", "abort"] {
        under_each_policy(move |app, policy| {
            let f = app.infallible(ending, |n: &u64| *n).containers(1).restart(policy).started();
            f.ready().expect("it starts");
            // The supervisor is busy with these messages when the end begins.
            (0..2_000).for_each(|_| f.supervisor().do_send(GetStatus));
            match ending {
                "drain" => f.drain(),
                "stop" => f.stop(),
                _ => f.abort(),
            }
            let refused = f.call(7).wait().expect_err("refused");
            assert!(refused.is_shut_down());
            assert!(refused.input() == Some(&7));
            assert!(refused.attempts() == 0);
            assert!(f.run(vec![1]).is_err_and(|failure| failure.is_shut_down()));
        });
    }
}

// ---- an end that would wait for itself ----

type Place = Arc<Mutex<Option<App>>>;

#[test]
fn a_shutdown_inside_a_container_of_the_app_reports_the_deadlock_at_once() {
    let ways: [fn(App) -> Report; 3] =
        [|app| app.shutdown_within(LONG), |app| app.stop_within(LONG), |app| block_on(app.shutdown())];
    for way in ways {
        for asynchronous in [false, true] {
            under_each_policy(move |_, policy| {
                let place = Place::default();
                let its = Arc::clone(&place);
                let app = App::ephemeral("itself");
                let end = move || way(its.lock().expect("not poisoned").take().expect("it is called once"));
                let f = if asynchronous {
                    let end = Mutex::new(end);
                    app.function_async("f", async move |_: &u64| {
                        let end = end.lock().expect("not poisoned");
                        Ok::<_, Infallible>(end())
                    })
                } else {
                    app.infallible("f", move |_: &u64| end())
                };
                let f = f.containers(2).restart(policy).started();
                f.ready_all().expect("it starts");
                *place.lock().expect("not poisoned") = Some(app);
                let report = f.call(1).wait().expect("it goes on to its end");
                assert!(report.would_deadlock, "{report}");
                assert!(!report.is_clean(), "{report}");
                assert!(fates(&report.functions[0]).contains(&Fate::StillRunning), "{report}");
                until("the function ends all the same", || f.status().containers.stopped == 2);
                assert!(f.call(2).wait().is_err_and(|failure| failure.is_shut_down()));
            });
        }
    }
}

#[test]
fn a_shutdown_of_another_app_inside_a_container_waits_for_its_end() {
    under_each_policy(|app, policy| {
        let f = numbers_under(policy, app, 1, |_| {
            let (sum, report) = App::run_blocking("inner", |inner| {
                let g = numbers(inner, 1, |n| *n);
                g.run(vec![1, 2]).expect("infallible").into_iter().sum::<u64>()
            });
            assert!(report.is_clean(), "{report}");
            sum
        });
        assert_eq!(f.call(1).wait().expect("the end is clean"), 3);
    });
}

/// Ends an app in its first wake-up, and keeps the name of the thread and the report.
struct EndsApp(Mutex<Option<App>>, Mutex<Option<(Option<String>, Report)>>);

impl Wake for EndsApp {
    fn wake(self: Arc<Self>) {
        if let Some(app) = self.0.lock().expect("not poisoned").take() {
            let thread = std::thread::current().name().map(str::to_owned);
            *self.1.lock().expect("not poisoned") = Some((thread, app.shutdown_within(LONG)));
        }
    }
}

#[test]
fn a_shutdown_on_the_engine_thread_reports_the_deadlock_at_once_and_ends_the_app_all_the_same() {
    unhung(|| {
        let (app, other) = (App::ephemeral("ended"), App::ephemeral("other"));
        let g = numbers(&app, 1, |n| *n);
        g.ready().expect("it starts");
        let f = other
            .function_async("f", async |_: &u64| pending::<Result<u64, Infallible>>().await)
            .containers(1)
            .started();
        let mut call = f.call(1);
        let woken = Arc::new(EndsApp(Mutex::new(Some(app)), Mutex::default()));
        let waker = Waker::from(Arc::clone(&woken));
        let polled = std::pin::Pin::new(&mut call).poll(&mut TaskContext::from_waker(&waker));
        assert!(matches!(polled, Poll::Pending));
        f.supervisor().do_send(Shutdown { ending: Ending::Abort, limit: LONG });
        until("the waker was called", || woken.1.lock().expect("not poisoned").is_some());
        let (thread, report) = woken.1.lock().expect("not poisoned").take().expect("just seen");
        assert_eq!(thread.as_deref(), Some("longshore"), "the engine's thread");
        assert!(report.would_deadlock, "{report}");
        assert!(report.functions.len() == 1, "{report}");
        until("the function ends all the same", || g.status().containers.stopped == 1);
    });
}

#[test]
fn an_abort_inside_the_app_s_own_container_does_not_wait() {
    under_each_policy(|_, policy| {
        let place = Place::default();
        let its = Arc::clone(&place);
        let app = App::ephemeral("itself");
        let (send, reports) = std::sync::mpsc::channel();
        let f = numbers_under(policy, &app, 1, move |_| {
            let app = its.lock().expect("not poisoned").take().expect("it is called once");
            send.send(app.abort()).expect("the test waits");
            0
        });
        *place.lock().expect("not poisoned") = Some(app);
        let begun = Instant::now();
        assert!(f.call(1).wait().is_err_and(|failure| failure.is_shut_down()));
        let report = reports.recv().expect("it reports");
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(!report.would_deadlock);
        assert_eq!(report.functions[0].containers, [(ContainerId::new(0), Fate::StillRunning)], "{report}");
    });
}

// ---- getting ready ----

#[test]
fn ready_all_waits_for_the_last_container_on_threads_and_in_tasks() {
    under_each_policy(|app, policy| {
        let gates: [Gate; 3] = Default::default();
        let inside = gates.clone();
        let enter = move |context: &Context| {
            inside[context.container().index()].pass();
            let (begun, gate, exits) = (Gate::default(), Gate::default(), Arc::default());
            Ok(Waits { begun, gate, exits, exit_takes: Duration::ZERO })
        };
        let f = app.worker("f", enter).containers(3).restart(policy).started();
        let live = move |f: &Function<u64, u64, Infallible>| f.status().containers.live;
        let thread = std::thread::spawn({
            let f = f.clone();
            move || f.ready_all().map(|()| live(&f))
        });
        let task = std::thread::spawn({
            let f = f.clone();
            move || block_on(f.ready_all_async()).map(|()| live(&f))
        });
        let one = std::thread::spawn({
            let f = f.clone();
            move || block_on(f.ready_async()).map(|()| live(&f))
        });
        gates[0].open();
        assert!(one.join().expect("no panic").expect("one is live") >= 1);
        gates[1].open();
        until("two containers are live", || f.status().containers.live == 2);
        assert!(!thread.is_finished());
        assert!(!task.is_finished());
        gates[2].open();
        for waiting in [thread, task] {
            assert_eq!(waiting.join().expect("no panic").expect("all are live"), 3);
        }
        assert!(block_on(f.ready_all_async()).is_ok());
        assert!(f.ready_all().is_ok());
    });
}

#[test]
fn each_wait_for_containers_ends_with_the_function() {
    type Wait = fn(&Function<u64, u64, Infallible>) -> Result<(), longshore::NotReady>;
    under_each_policy(|app, policy| {
        let gate = Gate::default();
        let inside = gate.clone();
        let enter = move |_: &Context| {
            inside.pass();
            Err::<Waits, _>("closed".into())
        };
        let f = app.worker("f", enter).containers(2).restart(policy).started();
        let waits: [Wait; 4] = [
            |f| f.ready(),
            |f| f.ready_all(),
            |f| block_on(f.ready_async()),
            |f| block_on(f.ready_all_async()),
        ];
        let mut waiting: Vec<_> = Vec::new();
        for wait in waits {
            let f = f.clone();
            waiting.push(std::thread::spawn(move || wait(&f)));
        }
        f.drain();
        for waiting in waiting {
            let told = waiting.join().expect("no panic");
            assert!(matches!(told, Err(longshore::NotReady::ShutDown)), "{told:?}");
        }
        gate.open();
    });
}

#[test]
fn a_wait_for_containers_inside_one_of_them_is_a_typed_error() {
    under_each_policy(|app, policy| {
        let place: Arc<Mutex<Option<Function<u64, bool, Infallible>>>> = Arc::default();
        let its = Arc::clone(&place);
        let f = app
            .infallible("f", move |_: &u64| {
                let f = its.lock().expect("not poisoned").take().expect("it is called once");
                matches!(f.ready_all(), Err(longshore::NotReady::WouldDeadlock))
            })
            .containers(1)
            .restart(policy)
            .started();
        *place.lock().expect("not poisoned") = Some(f.clone());
        assert!(f.call(1).wait().expect("infallible"));
    });
}

#[test]
fn a_drain_or_a_stop_wakes_a_task_that_waits_for_containers() {
    type End = fn(&Function<u64, u64, Infallible>);
    under_each_policy(|app, policy| {
        let ends: [End; 2] = [|f| f.drain(), |f| f.stop()];
        for (number, end) in ends.into_iter().enumerate() {
            let gate = Gate::default();
            let inside = gate.clone();
            let enter = move |_: &Context| {
                inside.pass();
                Err::<Waits, _>("closed".into())
            };
            let f = app.worker(&format!("f{number}"), enter).containers(2).restart(policy.clone()).started();
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let mut ready = Box::pin(f.ready_async());
            assert!(ready.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
            end(&f);
            assert!(
                woken.is_woken(),
                "the end wakes the task at once, while the containers are still in `enter`"
            );
            let told = block_on(ready);
            assert!(matches!(told, Err(longshore::NotReady::ShutDown)), "{told:?}");
            gate.open();
        }
    });
}

/// A waker that counts its calls.
#[derive(Default)]
struct Woken(AtomicU64);

impl Woken {
    fn is_woken(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
