//! Functions without their types, as a dashboard or a registry of functions uses them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::channel;

use actix::{Actor, Context, Handler, MailboxError, System};
use longshore::actor::{CallInput, Ending, GetStatus, Happened, KillContainer, Shutdown};
use longshore::{AnyFunction, App, ContainerId, Event};
use std::time::Duration;

use crate::support::{Gate, Started, numbers, unhung, until};

#[test]
fn an_app_gives_its_functions_in_the_order_of_their_start() {
    unhung(|| {
        let app = App::ephemeral("untyped");
        assert!(app.functions().is_empty());
        let _length = app.infallible("length", |text: &String| text.len()).started();
        let _double = app.infallible("a double", |n: &u64| 2 * n).started();
        let functions = app.functions();
        assert_eq!(functions.iter().map(AnyFunction::name).collect::<Vec<_>>(), ["length", "a double"]);
    });
}

#[test]
fn a_function_has_its_own_types_and_no_others() {
    unhung(|| {
        let app = App::ephemeral("untyped");
        let double = app.infallible("double", |n: &u64| 2 * n).started();
        let untyped = double.untyped();
        let again = untyped.typed::<u64, u64, Infallible>().expect("these are its types");
        assert_eq!(again.call(21).wait().expect("it works"), 42);
        assert!(untyped.typed::<u64, u64, String>().is_none());
        assert!(untyped.typed::<u64, i64, Infallible>().is_none());
        assert!(untyped.typed::<i64, u64, Infallible>().is_none());
    });
}

#[test]
fn a_function_is_inspected_and_ended_without_its_types() {
    unhung(|| {
        let app = App::ephemeral("untyped");
        let f = numbers(&app, 2, |n| *n);
        f.ready_all().expect("it begins");
        let untyped = f.untyped();
        assert_eq!(untyped.status().expect("it is there").containers.live, 2);
        assert!(untyped.kill_container(ContainerId::new(1)));
        assert!(!untyped.kill_container(ContainerId::new(7)), "there is none");
        assert!(!untyped.reset(), "it had not given up");
        assert!(untyped.drain());
        until("the function has ended", || app.functions().is_empty());
        assert!(untyped.report().expect("its handle is there").is_clean());
        drop(f);
        until("the function is gone", || untyped.is_gone());
        assert!(untyped.status().is_none());
        assert!(untyped.report().is_none());
        assert!(!untyped.stop());
        assert!(!untyped.kill_container(ContainerId::new(0)));
        assert_eq!(untyped.name(), "f");
    });
}

#[test]
fn an_untyped_handle_keeps_nothing_alive() {
    unhung(|| {
        let captured = Arc::new(());
        let app = App::ephemeral("untyped");
        let held = Arc::clone(&captured);
        let f = app.infallible("f", move |n: &u64| *n + Arc::strong_count(&held) as u64).started();
        let (untyped, functions) = (f.untyped(), app.functions());
        drop((app, f));
        until("the closure is dropped", || Arc::strong_count(&captured) == 1);
        assert!(untyped.is_gone());
        assert!(functions[0].is_gone());
    });
}

/// Sends each event to the test.
struct Listener(std::sync::mpsc::Sender<Event>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Happened> for Listener {
    type Result = ();

    fn handle(&mut self, Happened(event): Happened, _: &mut Context<Self>) {
        let _ = self.0.send(event); // the test may have stopped listening
    }
}

#[test]
fn events_are_received_without_the_types_of_the_function() {
    unhung(|| {
        System::new().block_on(async {
            let app = App::ephemeral("untyped");
            let f = numbers(&app, 1, |n| *n);
            let (told, events) = channel();
            assert!(f.untyped().subscribe(Listener(told).start().recipient()));
            f.supervisor().send(KillContainer { container: ContainerId::new(0) }).await.expect("it lives");
            while !events.try_iter().any(|event| matches!(event, Event::Killed(_))) {
                tokio::task::yield_now().await;
            }
        });
    });
}

#[test]
fn a_status_counts_every_call_that_was_sent_before_it() {
    unhung(|| {
        let app = App::ephemeral("untyped");
        let gate = Gate::default();
        let held = gate.clone();
        let f = numbers(&app, 1, move |n| {
            held.pass();
            *n
        });
        for sent in 1..=200 {
            f.supervisor().do_send(CallInput::new(sent));
            let status = f.status();
            assert_eq!(status.inputs_waiting + status.executing, sent, "after {sent} calls by message");
        }
        gate.open();
    });
}

#[test]
fn a_supervisor_that_has_ended_answers_no_message_of_any_kind() {
    unhung(|| {
        System::new().block_on(async {
            let app = App::ephemeral("untyped");
            let f = numbers(&app, 1, |n| *n);
            let supervisor = f.supervisor().clone();
            let drain = Shutdown { ending: Ending::Drain, limit: Duration::from_secs(30) };
            assert!(supervisor.send(drain).await.expect("it reports").is_clean());
            assert!(matches!(supervisor.send(GetStatus).await, Err(MailboxError::Closed)));
            let call = supervisor.send(CallInput::new(1)).await;
            assert!(matches!(call, Err(MailboxError::Closed)));
            while supervisor.connected() {
                tokio::task::yield_now().await;
            }
        });
    });
}
