//! Values that block in their drop, or are slow to drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use longshore::{App, Context, Function, RateLimited};

use crate::support::{Counted, Gate, Started, crash, numbers, under_each_policy, unhung, until};

/// The test's half of values that block in their drop.
#[derive(Clone, Default)]
struct Hold {
    begun: Gate,
    gate: Gate,
    /// Each such value holds a clone until its drop is over.
    witness: Arc<()>,
}

impl Hold {
    fn let_go(&self) {
        self.gate.open();
        until("each blocked value is dropped", || Arc::strong_count(&self.witness) == 1);
    }
}

/// Blocks in its drop until the test opens the gate, if it has a [`Hold`].
struct Stuck(Option<Hold>);

impl Drop for Stuck {
    fn drop(&mut self) {
        if let Some(hold) = &self.0 {
            hold.begun.open();
            hold.gate.pass();
        }
    }
}

#[test]
fn unpulled_inputs_that_block_in_their_drop_hold_up_no_other_app() {
    for end in ["stop", "abort", "give up"] {
        unhung(move || {
            let (app, other) = (App::ephemeral("stuck"), App::ephemeral("other"));
            let g = other.infallible("g", |n: &u64| *n).started();
            let hold = Hold::default();
            let f = app
                .infallible("f", move |_: &Stuck| {
                    let index = Context::current().and_then(|context| context.input());
                    if end == "give up" && index == Some(1) {
                        crash()
                    }
                })
                .containers(1)
                .restart(RateLimited::new().max_crashes(0).max_failure_rate(0.0))
                .started();
            let inputs: Vec<Stuck> = (0..100).map(|n| Stuck((n >= 50).then(|| hold.clone()))).collect();
            let mut outcomes = f.map(inputs).window(2).into_iter();
            assert!(outcomes.next().is_some_and(|outcome| outcome.is_ok()));
            match end {
                "stop" => f.stop(),
                "abort" => f.abort(),
                _ => {}
            }
            // Outcomes are taken only after the end, because a map that goes on could reach the inputs that
            // block.
            until("the function ends", || f.call(Stuck(None)).wait().is_err());
            assert!(outcomes.by_ref().any(|outcome| outcome.is_err()), "it ends with an error");
            assert!(g.status().gave_up.is_none(), "the engine answers");
            hold.gate.open();
            drop(outcomes);
            hold.let_go();
        });
    }
}

#[test]
fn captured_values_that_block_in_their_drop_hold_up_neither_handles_nor_apps() {
    type Plain = Function<u64, u64, std::convert::Infallible>;
    let ways: [fn(App, Plain); 4] = [
        |app, f| drop((f, app)),
        |app, f| drop((app, f)),
        |app, f| {
            assert!(app.shutdown_blocking().is_clean());
            drop(f);
        },
        |app, f| {
            drop(f);
            assert!(app.shutdown_blocking().is_clean());
        },
    ];
    for end in ways {
        unhung(move || {
            let (app, other) = (App::ephemeral("stuck"), App::ephemeral("other"));
            let g = other.infallible("g", |n: &u64| *n).started();
            let hold = Hold::default();
            let stuck = Stuck(Some(hold.clone()));
            let f = numbers(&app, 1, move |n| *n + u64::from(stuck.0.is_some()));
            assert_eq!(f.call(1).wait().expect("infallible"), 2);
            end(app, f);
            hold.begun.pass();
            assert!(g.status().gave_up.is_none(), "the engine answers");
            hold.let_go();
        });
    }
}

#[test]
fn a_map_that_never_began_is_dropped_without_waiting_for_its_inputs() {
    under_each_policy(|app, policy| {
        let hold = Hold::default();
        let f = app.infallible("f", |_: &Stuck| ()).restart(policy).started();
        let inputs = || (0..3).map(|_| Stuck(Some(hold.clone()))).collect::<Vec<_>>();
        drop(f.map(inputs()));
        drop(f.map(inputs()).into_iter());
        drop(f.map(inputs().into_iter().rev()).into_iter()); // a source that a feeder pulls
        hold.let_go();
    });
}

/// Takes a millisecond for its drop, and counts how many drops run at once.
struct Slow(Arc<Slowness>);

#[derive(Default)]
struct Slowness {
    drops: AtomicUsize,
    at_once: AtomicUsize,
    most: AtomicUsize,
}

impl Drop for Slow {
    fn drop(&mut self) {
        let at_once = self.0.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most.fetch_max(at_once, Ordering::SeqCst);
        std::thread::park_timeout(Duration::from_millis(1));
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
        self.0.drops.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn slow_drops_of_many_cancelled_inputs_take_only_a_few_threads() {
    unhung(|| {
        let app = App::ephemeral("slow");
        let gate = Gate::default();
        let passed = gate.clone();
        let f = app.infallible("f", move |_: &Slow| passed.pass()).containers(1);
        // No other test uses this stack size, so the threads of this size drop values of this test only.
        let f = f.stack_size((3 << 20) + 4096).started();
        let slowness = Arc::new(Slowness::default());
        let calls: Vec<_> = (0..400).map(|_| f.call(Slow(Arc::clone(&slowness)))).collect();
        drop(calls);
        gate.open();
        until("each value is dropped once", || slowness.drops.load(Ordering::SeqCst) == 400);
        // Four threads drop values, and the container drops the input that it executed.
        assert!(slowness.most.load(Ordering::SeqCst) <= 5, "{:?}", slowness.most);
    });
}

#[test]
fn values_behind_blocked_drops_are_dropped_all_the_same() {
    unhung(|| {
        let app = App::ephemeral("stuck");
        let f = app
            .infallible("f", |_: &(Stuck, Counted)| ())
            .containers(1)
            .stack_size((3 << 20) + 8192)
            .started();
        let (hold, drops) = (Hold::default(), Arc::new(AtomicU64::new(0)));
        for _ in 0..6 {
            drop(f.map(vec![(Stuck(Some(hold.clone())), Counted(Arc::clone(&drops)))]));
        }
        for _ in 0..50 {
            drop(f.map(vec![(Stuck(None), Counted(Arc::clone(&drops)))]));
        }
        until("the values behind the blocked ones are dropped", || drops.load(Ordering::SeqCst) == 50);
        hold.let_go();
        until("each value is dropped once", || drops.load(Ordering::SeqCst) == 56);
    });
}
