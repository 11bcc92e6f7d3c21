//! Ends inside the app itself, which would wait for themselves.

use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use longshore::actor::{Ending, Shutdown};
use longshore::{App, ContainerId, Fate, Report};

use super::{LONG, fates};
use crate::support::{Started, numbers, numbers_under, under_each_policy, unhung, until};

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
