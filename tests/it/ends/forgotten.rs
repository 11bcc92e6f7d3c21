//! A function that has ended is forgotten once its last handle is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use longshore::actor::Ending;
use longshore::{App, Fate, StartError};

use super::{LONG, end, fates};
use crate::support::{Counted, Gate, Started, numbers, unhung, until};

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
