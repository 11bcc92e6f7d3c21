//! Waits for containers, and how they end.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Wake, Waker};
use std::time::Duration;

use futures::executor::block_on;
use longshore::{Context, Function};

use super::Waits;
use crate::support::{Gate, Started, under_each_policy, until};

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
