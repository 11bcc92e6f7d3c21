//! Values of the user whose `Drop` panics, blocks, is slow, needs a large stack, or calls the engine: the
//! engine drops each once, and nothing else is disturbed.

use std::cell::RefCell;
use std::convert::Infallible;
use std::panic::panic_any;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use longshore::actor::{CallInput, GetStatus};
use longshore::{App, BoxError, Call, Context, Function, Outcomes, RateLimited, Worker};

use crate::support::{
    Bomb, Counted, Gate, Started, attempt, bombs, crash, numbers, numbers_under, under_each_policy, unhung,
    until,
};

/// Keeps a value from being dropped.
fn defuse<T>(value: T) {
    std::mem::forget(value);
}

#[test]
fn inputs_that_panic_in_their_drop_are_dropped_once_and_crash_nothing() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let f = app.infallible("f", |_: &Bomb| ()).containers(2).restart(policy).started();
        let inputs: Vec<Bomb> = (0..200).map(|_| bomb()).collect();
        assert_eq!(f.run(inputs).expect("infallible").len(), 200);
        until("each value is dropped once", || drops.load(Ordering::SeqCst) == 200);
        // The map is dropped early: some inputs were executed, some are in chunks, some are still in the
        // source.
        let inputs: Vec<Bomb> = (0..200).map(|_| bomb()).collect();
        drop(f.map(inputs).window(10).into_iter().next());
        until("each value is dropped once", || drops.load(Ordering::SeqCst) == 400);
        // The inputs come from a feeder.
        let again = bomb.clone();
        drop(f.map((0..50).map(move |_| again())).window(10).into_iter().next());
        until("the feeder has ended", || f.status().feeders == 0);
        assert_eq!(f.status().crashes, 0, "no drop crashes a container");
        assert!(f.call(bomb()).wait().is_ok());
        // This map never begins.
        drop(f.map((0..3).map(|_| bomb()).collect::<Vec<_>>()));
    });
}

#[test]
fn outputs_and_errors_that_panic_in_their_drop_crash_nothing() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let f = app
            .function("f", move |n: &u64| if n.is_multiple_of(3) { Err(bomb()) } else { Ok(bomb()) })
            .retries(longshore::Retries::new(1).initial_delay(Duration::ZERO))
            .containers(2)
            .restart(policy)
            .started();
        let mut outcomes = f.map(0..300u64).return_exceptions().into_iter();
        defuse(outcomes.next());
        until("more than ten inputs are completed", || outcomes.progress().completed() > 10);
        drop(outcomes);
        let before = drops.load(Ordering::SeqCst);
        assert!(before > 0, "errors of failed attempts and of the dropped map were dropped");
        defuse(f.call(1).wait());
        assert_eq!(f.status().crashes, 0, "no drop crashes a container");
        let mut all = f.map(0..30u64).return_exceptions().into_iter();
        let mut yielded = 0;
        for outcome in all.by_ref() {
            defuse(outcome);
            yielded += 1;
        }
        assert_eq!(yielded, 30);
    });
}

#[test]
fn panic_payloads_that_panic_in_their_drop_are_dropped_once() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let f = numbers_under(policy, app, 2, move |n| {
            if n.is_multiple_of(10) && attempt() == 1 {
                panic_any(bomb());
            }
            *n
        });
        assert_eq!(f.run((0..100).collect()).expect("replayed").len(), 100);
        assert_eq!(drops.load(Ordering::SeqCst), 10);
    });
}

#[test]
fn workers_and_captured_values_that_panic_in_their_drop_are_dropped_once() {
    struct Armed(#[expect(dead_code, reason = "dropped with the worker")] Bomb);
    impl Worker for Armed {
        type Input = u64;
        type Output = u64;
        type Error = std::convert::Infallible;

        fn call(&mut self, input: &u64, context: &Context) -> Result<u64, Self::Error> {
            if *input == 5 && context.attempt().get() == 1 {
                crate::support::crash();
            }
            Ok(*input)
        }
    }
    under_each_policy(|_, policy| {
        let (drops, bomb) = bombs();
        let (captured_drops, captured) = bombs();
        let app = longshore::App::ephemeral("states");
        let held = captured();
        let worth = captured();
        let f = app
            .worker("f", move |_: &Context| {
                let _ = &held;
                Ok(Armed(bomb()))
            })
            .retry_if(move |_| {
                let _ = &worth;
                true
            })
            .containers(1)
            .restart(policy)
            .started();
        assert_eq!(f.run((0..20).collect()).expect("replayed").len(), 20);
        assert_eq!(drops.load(Ordering::SeqCst), 1, "the worker of the first generation");
        assert!(app.shutdown_blocking().functions[0].threads_running == 0);
        assert_eq!(drops.load(Ordering::SeqCst), 2, "the worker of the second generation, in its exit");
        drop(f);
        until("both closures are dropped", || captured_drops.load(Ordering::SeqCst) == 2);
    });
}

#[test]
fn inputs_and_errors_inside_failures_and_errors_of_enter_may_panic_in_their_drop() {
    #[derive(Debug)]
    struct Sour(#[expect(dead_code, reason = "dropped with the error")] Bomb);
    impl std::fmt::Display for Sour {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            crate::support::crash()
        }
    }
    impl std::error::Error for Sour {}
    struct Never;
    impl Worker for Never {
        type Input = u64;
        type Output = u64;
        type Error = std::convert::Infallible;

        fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Self::Error> {
            Ok(*input)
        }
    }
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let make = bomb.clone();
        let f = app.function("f", move |_: &Bomb| Err::<(), Bomb>(make())).restart(policy).started();
        drop(f.run_all((0..50).map(|_| bomb()).collect()));
        until("the inputs and the errors are dropped", || drops.load(Ordering::SeqCst) == 100);

        let enter = move |_: &Context| Err::<Never, _>(longshore::BoxError::from(Sour(bomb())));
        let give_up = longshore::RateLimited::new().max_crashes(0).max_failure_rate(0.0);
        let g = app.worker("g", enter).containers(1).restart(give_up).started();
        let Err(longshore::NotReady::GaveUp(gave_up)) = g.ready() else { panic!("it must give up") };
        let longshore::Death::EnterFailed(error) = &gave_up.last().death else { panic!("{gave_up}") };
        assert!(error.get().downcast_ref::<Sour>().is_some());
        assert!(error.to_string().contains("a crash on purpose"), "{error}");
    });
}

#[test]
fn a_builder_that_is_never_started_contains_the_panics_of_its_captures() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let held = bomb();
        let builder = app.infallible("f", move |_: &u64| {
            let _ = &held;
        });
        drop(builder.restart(policy));
        until("the captured value is dropped", || drops.load(Ordering::SeqCst) == 1);
    });
}

#[test]
fn handles_dropped_while_their_thread_panics_leave_the_function_whole() {
    under_each_policy(|app, policy| {
        let f = app.infallible("f", |n: &u64| *n).restart(policy).started();
        let handle = f.clone();
        let caught = std::thread::spawn(move || {
            let mut outcomes = handle.map(0..1_000u64).into_iter();
            outcomes.next();
            let _call = handle.call(1);
            std::panic::resume_unwind(Box::new("an application's own panic"));
        })
        .join();
        assert!(caught.is_err());
        assert_eq!(f.run(vec![1, 2]).expect("the function is whole"), [1, 2]);
    });
}

type Ask = Arc<dyn Fn() + Send + Sync>;

/// What [`Asks`] does in its drop. A test takes it back at its end, because the question holds a handle to a
/// function that may hold such values.
#[derive(Clone, Default)]
struct Question(Arc<Mutex<Option<Ask>>>);

impl Question {
    /// Sets the question, and returns the number of times it has been answered.
    fn is(&self, ask: impl Fn() + Send + Sync + 'static) -> Arc<AtomicU64> {
        let answers = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&answers);
        *self.0.lock().expect("not poisoned") = Some(Arc::new(move || {
            ask();
            count.fetch_add(1, Ordering::SeqCst);
        }));
        answers
    }

    fn take_back(&self) {
        let question = self.0.lock().expect("not poisoned").take();
        drop(question);
    }
}

/// Asks its question in its drop.
struct Asks(u64, Question);

impl Drop for Asks {
    fn drop(&mut self) {
        let question = self.1.0.lock().expect("not poisoned").clone();
        if let Some(question) = question {
            question();
        }
    }
}

impl std::fmt::Debug for Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "asks {}", self.0)
    }
}

impl std::fmt::Display for Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Asks {}

#[test]
fn the_drop_of_an_error_of_enter_may_call_its_function() {
    struct Never;
    impl Worker for Never {
        type Input = u64;
        type Output = u64;
        type Error = std::convert::Infallible;

        fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Self::Error> {
            Ok(*input)
        }
    }
    under_each_policy(|app, policy| {
        let question = Question::default();
        let asked = question.clone();
        let enter =
            move |_: &Context| Err::<Never, _>(longshore::BoxError::from(Box::new(Asks(0, asked.clone()))));
        let f = app.worker("f", enter).containers(1).restart(policy).started();
        let handle = f.clone();
        let answers = question.is(move || assert_eq!(handle.status().containers.live, 0));
        until("the errors of three generations were dropped", || answers.load(Ordering::SeqCst) >= 3);
        f.abort();
        question.take_back();
    });
}

#[test]
fn the_drops_inside_a_failure_may_call_its_function() {
    under_each_policy(|app, policy| {
        let (question, begun, gate) = (Question::default(), Gate::default(), Gate::default());
        let (asked, told, inside) = (question.clone(), begun.clone(), gate.clone());
        let f = app
            .function("f", move |input: &Asks| {
                if input.0 == 3 {
                    told.open();
                    inside.pass();
                    return Err(Asks(3, asked.clone()));
                }
                Ok(input.0)
            })
            .containers(2)
            .restart(policy)
            .started();
        let handle = f.clone();
        let answers = question.is(move || assert!(handle.status().containers.live <= 2));
        let asked = question.clone();
        let mut outcomes = f.map((0..1_000).map(move |n| Asks(n, asked.clone()))).window(8).into_iter();
        assert_eq!(outcomes.next().and_then(Result::ok), Some(0));
        begun.pass();
        // The end of the drain and the failure compete to be the one error of the map.
        f.drain();
        until("the function drains", || f.run(Vec::new()).is_err());
        gate.open();
        assert!(outcomes.by_ref().any(|outcome| outcome.is_err()), "it ends with an error");
        drop(outcomes);
        until("inputs and the error were dropped and answered", || answers.load(Ordering::SeqCst) >= 5);
        question.take_back();
    });
}

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

#[test]
fn outputs_that_panic_in_their_drop_are_dropped_by_runs_one_by_one() {
    /// Panics in its drop even if its thread is panicking already: two of them in one vector would abort the
    /// process.
    struct Output(Arc<AtomicU64>);
    impl Drop for Output {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("dropped");
        }
    }
    under_each_policy(|app, policy| {
        let (made, drops) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (makes, counted) = (Arc::clone(&made), Arc::clone(&drops));
        // Inputs that need a drop go through a map, and other inputs do not.
        let output = move |fails: bool| {
            if fails {
                return Err("no");
            }
            makes.fetch_add(1, Ordering::SeqCst);
            Ok(Output(Arc::clone(&counted)))
        };
        let other = output.clone();
        let plain = app
            .function("plain", move |n: &u64| output(*n == 20))
            .containers(1)
            .restart(policy.clone())
            .started();
        let gate = Gate::default();
        let passed = gate.clone();
        let boxed = app
            .function("boxed", move |(n,): &(Box<u64>,)| {
                if **n == 99 {
                    passed.pass();
                }
                other(**n == 20)
            })
            .containers(1)
            .restart(policy)
            .started();
        let boxes = |inputs: std::ops::Range<u64>| inputs.map(|n| (Box::new(n),)).collect::<Vec<_>>();
        assert!(plain.run((0..30).collect()).is_err());
        assert!(boxed.run(boxes(0..30)).is_err());
        assert!(futures::executor::block_on(plain.run_async((0..30).collect())).is_err());
        assert!(futures::executor::block_on(boxed.run_async(boxes(0..30))).is_err());
        assert_eq!(plain.for_each(0..20u64).expect("it goes on").ok, 20);
        let stream = futures::stream::iter(0..20u64);
        assert_eq!(futures::executor::block_on(plain.for_each_async(stream)).expect("it goes on").ok, 20);
        until("each value is dropped once", || drops.load(Ordering::SeqCst) == made.load(Ordering::SeqCst));
        // This run is dropped while it holds some of its outcomes and waits for the last one.
        let mut run = Box::pin(boxed.run_all_async(boxes(80..100)));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let before = made.load(Ordering::SeqCst);
        assert!(run.as_mut().poll(&mut cx).is_pending());
        until("all outputs but the last are made", || made.load(Ordering::SeqCst) == before + 19);
        assert!(run.as_mut().poll(&mut cx).is_pending());
        drop(run);
        gate.open();
        until("the last output is made", || made.load(Ordering::SeqCst) == before + 20);
        until("each value is dropped once", || drops.load(Ordering::SeqCst) == before + 20);
    });
}

#[test]
fn captured_values_are_dropped_as_soon_as_the_function_has_ended() {
    /// Exits together with the others, so that the function has ended when the supervisor handles the first
    /// exit.
    struct Leaves(Arc<Barrier>);
    impl Worker for Leaves {
        type Input = u8;
        type Output = u8;
        type Error = std::convert::Infallible;
        fn call(&mut self, n: &u8, _: &Context) -> Result<u8, Self::Error> {
            Ok(*n)
        }
        fn exit(self, _: &Context) {
            self.0.wait();
        }
    }
    unhung(|| {
        // This function keeps the engine's thread alive. Its end would drop everything that it holds.
        let other = App::ephemeral("other");
        let _kept = other.infallible("f", |n: &u8| *n).started();
        let drops = Arc::new(AtomicU64::new(0));
        for round in 1..=20 {
            let app = App::ephemeral("captures");
            let (captured, leave) = (Counted(Arc::clone(&drops)), Arc::new(Barrier::new(9)));
            let together = Arc::clone(&leave);
            let enter = move |_: &Context| {
                assert_eq!(captured.0.load(Ordering::SeqCst), round - 1);
                Ok(Leaves(Arc::clone(&together)))
            };
            let f = app.worker("f", enter).containers(8).exit_timeout(Duration::MAX).started();
            until("all containers are live", || f.status().containers.live == 8);
            f.drain();
            until("all containers are in their exit", || f.status().containers.exiting == 8);
            // The supervisor handles these messages before the first exit, and by then all containers have
            // left.
            (0..1000).for_each(|_| f.supervisor().do_send(GetStatus));
            leave.wait();
            drop(f);
            app.shutdown_blocking();
            until("the captured value is dropped", || drops.load(Ordering::SeqCst) == round);
        }
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

/// A list whose drop needs some ten MiB of stack. Its last node holds the witness, which shows when the drop
/// is over.
struct Deep {
    next: Option<Box<Deep>>,
    _witness: Option<Arc<()>>,
}

impl Deep {
    fn new(witness: &Arc<()>) -> Self {
        let end = Self { next: None, _witness: Some(Arc::clone(witness)) };
        (0..200_000).fold(end, |next, _| Self { next: Some(Box::new(next)), _witness: None })
    }
}

impl std::fmt::Debug for Deep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "deep: {}", self.next.is_some())
    }
}

impl std::fmt::Display for Deep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Deep {}

/// The stack size of functions with such values. The stack of the test's own thread is small.
const DEEP_STACK: usize = 256 << 20;

#[test]
fn inputs_that_need_a_large_stack_to_drop_are_dropped_on_one() {
    under_each_policy(|app, policy| {
        let witness = Arc::new(());
        let make = || Deep::new(&witness);
        let all_dropped = |what| until(what, || Arc::strong_count(&witness) == 1);
        let f = app
            .function("f", |deep: &Deep| if deep.next.is_some() { Ok(()) } else { Err(()) })
            .containers(2)
            .stack_size(DEEP_STACK)
            .restart(policy)
            .started();
        let deep = |n| (0..n).map(|_| make()).collect::<Vec<_>>();
        // All inputs are executed, and this thread takes the outcomes.
        assert_eq!(f.run(deep(8)).expect("they have a next one").len(), 8);
        assert_eq!(f.for_each(deep(4)).expect("it goes on").ok, 4);
        let (kept, made) = (Arc::clone(&witness), AtomicUsize::new(0));
        let source =
            std::iter::from_fn(move || (made.fetch_add(1, Ordering::SeqCst) < 4).then(|| Deep::new(&kept)));
        assert_eq!(f.map(source).unordered().into_iter().filter(Result::is_ok).count(), 4);
        all_dropped("executed inputs are dropped");
        // One map is dropped when some inputs were executed, some pulled, and some are in the source. The
        // others never began.
        drop(f.map(deep(16)).window(2).into_iter().next());
        drop(f.map(deep(4)));
        drop(f.map(deep(4).into_iter().rev()));
        drop(f.call(make()));
        all_dropped("inputs of dropped maps and calls are dropped");
        f.abort();
        until("the function is aborted", || f.run(Vec::new()).is_err());
        drop(f.call(make()));
        drop(f.supervisor().try_send(CallInput::new(make())));
        until("the supervisor has ended", || !f.supervisor().connected());
        drop(f.supervisor().try_send(CallInput::new(make())));
        all_dropped("refused inputs are dropped");
    });
}

/// Drops a value that belongs to the test, on a thread with a large stack.
fn drop_deep<T: Send>(value: T) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(DEEP_STACK);
        thread.spawn_scoped(scope, || drop(value)).expect("a thread can be made");
    });
}

#[test]
fn outputs_errors_and_captures_that_need_a_large_stack_to_drop_are_dropped_on_one() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("deep");
        let witness = Arc::new(());
        let (captured, kept) = (Deep::new(&witness), Arc::clone(&witness));
        let worth = Deep::new(&witness);
        let f = app
            .function("f", move |n: &u64| {
                assert!(captured.next.is_some());
                if *n == 5 { Err(Deep::new(&kept)) } else { Ok(Deep::new(&kept)) }
            })
            .retry_if(move |_| worth.next.is_none())
            .stack_size(DEEP_STACK)
            .containers(2)
            .restart(policy)
            .started();
        drop_deep(f.run((0..10).collect()));
        assert_eq!(f.for_each(0..10u64).expect("it goes on").failed, 1);
        let all_there = || {
            let mut outcomes = f.map(0..10u64).return_exceptions().into_iter();
            drop_deep(outcomes.next());
            until("all inputs are completed", || outcomes.progress().completed() == 10);
            outcomes
        };
        drop(all_there());
        let saved = all_there().salvage();
        assert_eq!(saved.len(), 8, "all but the output that was taken and the error");
        drop_deep(saved);
        // A builder is dropped. Its stack size is set before one of its closures and after the other.
        let (other, worth) = (Deep::new(&witness), Deep::new(&witness));
        let never = app.infallible("never", move |_: &u64| other.next.is_some());
        drop(never.stack_size(DEEP_STACK).retry_if(move |_| worth.next.is_none()));
        until("only the captured values are left", || Arc::strong_count(&witness) == 4);
        drop((f, app));
        until("the captures are dropped", || Arc::strong_count(&witness) == 1);
    });
}

#[test]
fn errors_of_enter_that_need_a_large_stack_to_drop_are_dropped_on_one() {
    struct Never;
    impl Worker for Never {
        type Input = u64;
        type Output = u64;
        type Error = Infallible;

        fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Infallible> {
            Ok(*input)
        }
    }
    unhung(|| {
        let (app, witness) = (App::ephemeral("deep"), Arc::new(()));
        let kept = Arc::clone(&witness);
        let enter = move |_: &Context| Err::<Never, _>(BoxError::from(Deep::new(&kept)));
        let give_up = RateLimited::new().max_crashes(0).max_failure_rate(0.0);
        let f = app.worker("f", enter).containers(1).stack_size(DEEP_STACK).restart(give_up).started();
        assert!(f.ready().is_err());
        let failure = f.call(1).wait().expect_err("it gave up");
        drop((app, f));
        drop(failure); // the last owner of the crash
        until("the error is dropped", || Arc::strong_count(&witness) == 1);
    });
}

#[test]
fn helper_threads_and_blocking_tasks_of_a_container_have_its_stack_size() {
    unhung(|| {
        let (app, witness) = (App::ephemeral("deep"), Arc::new(()));
        let kept = Arc::clone(&witness);
        let f = app
            .function_async("f", async move |_: &u64| {
                let deep = Deep::new(&kept);
                tokio::task::spawn_blocking(move || drop(deep)).await.expect("it does not panic");
                Ok::<_, Infallible>(())
            })
            .containers(1)
            .stack_size(DEEP_STACK)
            .started();
        f.call(1).wait().expect("infallible");
        let kept = Arc::clone(&witness);
        let g = app
            .infallible("g", move |_: &u64| {
                let (scope, deep) = (Context::current().expect("inside").scope(), Deep::new(&kept));
                scope.spawn(move || drop(deep)).expect("a thread can be made").join().expect("no panic");
            })
            .containers(1)
            .stack_size(DEEP_STACK)
            .started();
        g.call(1).wait().expect("infallible");
        assert_eq!(Arc::strong_count(&witness), 3);
    });
}

type Plain = Function<u64, u64, Infallible>;

/// What a thread keeps in a thread-local until its end.
type Kept = (Option<Call<u64, u64, Infallible>>, Option<Outcomes<u64, u64, Infallible>>, Option<App>);

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new((None, None, None)) };
}

fn keep(f: &Plain, app: Option<App>) {
    KEPT.with(|kept| kept.take()); // thread-locals are dropped in the reverse order of their first use
    assert_eq!(f.call(1).wait().expect("infallible"), 1);
    let mut outcomes = f.map(0..1_000_000u64).into_iter();
    assert_eq!(outcomes.next().and_then(Result::ok), Some(0));
    KEPT.set((Some(f.call(2)), Some(outcomes), app));
}

#[test]
fn calls_maps_and_apps_in_a_thread_local_are_dropped_with_their_thread() {
    under_each_policy(|_, policy| {
        let drops = Arc::new(AtomicU64::new(0));
        let make = || {
            let (app, captured) = (App::ephemeral("kept"), Counted(Arc::clone(&drops)));
            let f = numbers_under(policy.clone(), &app, 1, move |n| {
                let _ = &captured;
                *n
            });
            (app, f)
        };
        // First on a thread of the application, then on the thread of a container.
        let (app, f) = make();
        std::thread::spawn(move || keep(&f, Some(app))).join().expect("no panic");
        until("the function has ended", || drops.load(Ordering::SeqCst) == 1);
        let (app, f) = make();
        let (other, kept) = (App::ephemeral("other"), Mutex::new(Some((app, f))));
        let g = other
            .infallible("g", move |(): &()| {
                let (app, f) = kept.lock().expect("not poisoned").take().expect("called once");
                keep(&f, Some(app));
            })
            .containers(1)
            .started();
        g.call(()).wait().expect("infallible");
        drop(g);
        assert!(other.shutdown_blocking().is_clean());
        until("the function has ended", || drops.load(Ordering::SeqCst) == 2);
    });
}
