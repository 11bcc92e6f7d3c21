//! Values whose `Drop` panics: wherever one is dropped by the engine, that is where it ends.

use std::cell::RefCell;
use std::convert::Infallible;
use std::panic::panic_any;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use longshore::actor::{CallInput, GetStatus};
use longshore::{App, BoxError, Call, Context, Function, Outcomes, RateLimited, Worker};

use crate::support::{Bomb, Counted, Gate, attempt, bombs, crash, under_each_policy, unhung, until};

/// Lets go of a value without its drop.
fn defuse<T>(value: T) {
    std::mem::forget(value);
}

#[test]
fn inputs_that_panic_in_their_drop() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let f = app.infallible("f", |_: &Bomb| ()).containers(2).restart(policy).start().expect("valid");
        let inputs: Vec<Bomb> = (0..200).map(|_| bomb()).collect();
        assert_eq!(f.run(inputs).expect("infallible").len(), 200);
        until("each is dropped once", || drops.load(Ordering::SeqCst) == 200);
        // Dropped early: some executed, some in chunks, some still in the source.
        let inputs: Vec<Bomb> = (0..200).map(|_| bomb()).collect();
        drop(f.map(inputs).window(10).into_iter().next());
        until("each is dropped once", || drops.load(Ordering::SeqCst) == 400);
        // From a feeder.
        let again = bomb.clone();
        drop(f.map((0..50).map(move |_| again())).window(10).into_iter().next());
        until("the feeder is done", || f.status().feeders == 0);
        assert_eq!(f.status().crashes, 0, "no container dies of a drop");
        assert!(f.call(bomb()).wait().is_ok());
        // Never begun at all.
        drop(f.map((0..3).map(|_| bomb()).collect::<Vec<_>>()));
    });
}

#[test]
fn outputs_and_errors_that_panic_in_their_drop() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let f = app
            .function("f", move |n: &u64| if n.is_multiple_of(3) { Err(bomb()) } else { Ok(bomb()) })
            .retries(longshore::Retries::new(1).initial_delay(Duration::ZERO))
            .containers(2)
            .restart(policy)
            .start()
            .expect("valid");
        let mut outcomes = f.map(0..300u64).return_exceptions().into_iter();
        defuse(outcomes.next());
        until("some more are there", || outcomes.progress().completed() > 10);
        drop(outcomes);
        let before = drops.load(Ordering::SeqCst);
        assert!(before > 0, "refused errors were dropped");
        defuse(f.call(1).wait());
        assert_eq!(f.status().crashes, 0, "no container dies of a drop");
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
fn payloads_that_panic_in_their_drop() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let f = app
            .infallible("f", move |n: &u64| {
                if n.is_multiple_of(10) && attempt() == 1 {
                    panic_any(bomb());
                }
                *n
            })
            .containers(2)
            .restart(policy)
            .start()
            .expect("valid");
        assert_eq!(f.run((0..100).collect()).expect("replayed").len(), 100);
        assert_eq!(drops.load(Ordering::SeqCst), 10);
    });
}

#[test]
fn states_and_captured_values_that_panic_in_their_drop() {
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
            .start()
            .expect("valid");
        assert_eq!(f.run((0..20).collect()).expect("replayed").len(), 20);
        assert_eq!(drops.load(Ordering::SeqCst), 1, "the first generation's state");
        assert!(app.shutdown_blocking().functions[0].threads_running == 0);
        assert_eq!(drops.load(Ordering::SeqCst), 2, "the second's, in its exit");
        drop(f);
        until("the closures are dropped", || captured_drops.load(Ordering::SeqCst) == 2);
    });
}

#[test]
fn failures_hold_two_such_values_and_enter_errors_are_as_bad() {
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
        let f = app
            .function("f", move |_: &Bomb| Err::<(), Bomb>(make()))
            .restart(policy)
            .start()
            .expect("valid");
        drop(f.run_all((0..50).map(|_| bomb()).collect()));
        until("inputs and errors are dropped", || drops.load(Ordering::SeqCst) == 100);

        let enter = move |_: &Context| Err::<Never, _>(longshore::BoxError::from(Sour(bomb())));
        let give_up = longshore::RateLimited::new().max_crashes(0).max_failure_rate(0.0);
        let g = app.worker("g", enter).containers(1).restart(give_up).start().expect("valid");
        let Err(longshore::NotReady::GaveUp(gave_up)) = g.ready() else { panic!("it must give up") };
        let longshore::Death::EnterFailed(error) = &gave_up.last().death else { panic!("{gave_up}") };
        assert!(error.get().downcast_ref::<Sour>().is_some());
        assert!(error.to_string().contains("a crash on purpose"), "{error}");
    });
}

#[test]
fn a_builder_never_started_drops_its_closures_quietly() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let held = bomb();
        let builder = app.infallible("f", move |_: &u64| {
            let _ = &held;
        });
        drop(builder.restart(policy));
        until("what it captured is dropped", || drops.load(Ordering::SeqCst) == 1);
    });
}

#[test]
fn dropping_handles_while_panicking_breaks_nothing() {
    under_each_policy(|app, policy| {
        let f = app.infallible("f", |n: &u64| *n).restart(policy).start().expect("valid");
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

/// What values ask when they are dropped. Taken back at the end, because the function holds such values.
#[derive(Clone, Default)]
struct Question(Arc<Mutex<Option<Ask>>>);

impl Question {
    /// From now on the status of a function is asked for; returns how often it was answered.
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

/// Asks the question in its drop.
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
fn the_drop_of_an_enter_error_may_ask_the_function_it_belonged_to() {
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
        let f = app.worker("f", enter).containers(1).restart(policy).start().expect("valid");
        let handle = f.clone();
        let answers = question.is(move || assert_eq!(handle.status().containers.live, 0));
        until("errors of dead generations were dropped", || answers.load(Ordering::SeqCst) >= 3);
        f.abort();
        question.take_back();
    });
}

#[test]
fn the_drops_of_a_failure_may_ask_the_function_it_belonged_to() {
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
            .start()
            .expect("valid");
        let handle = f.clone();
        let answers = question.is(move || assert!(handle.status().containers.live <= 2));
        let asked = question.clone();
        let mut outcomes = f.map((0..1_000).map(move |n| Asks(n, asked.clone()))).window(8).into_iter();
        assert_eq!(outcomes.next().and_then(Result::ok), Some(0));
        begun.pass();
        // The end of the drain and the failure both claim to be the one error of the map.
        f.drain();
        until("it drains", || f.run(Vec::new()).is_err());
        gate.open();
        assert!(outcomes.by_ref().any(|outcome| outcome.is_err()), "it ends with an error");
        drop(outcomes);
        until("inputs and the error were dropped", || answers.load(Ordering::SeqCst) >= 5);
        question.take_back();
    });
}

/// What the test keeps of values that are stuck in their drop.
#[derive(Clone, Default)]
struct Hold {
    begun: Gate,
    gate: Gate,
    /// Held by each such value until its drop is over.
    witness: Arc<()>,
}

impl Hold {
    fn let_go(&self) {
        self.gate.open();
        until("each is dropped", || Arc::strong_count(&self.witness) == 1);
    }
}

/// Is stuck in its drop until the test lets it go, if it is held at all.
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
fn unpulled_inputs_stuck_in_their_drop_hold_up_no_other_app() {
    for end in ["stop", "abort", "give up"] {
        unhung(move || {
            let (app, other) = (App::ephemeral("stuck"), App::ephemeral("other"));
            let g = other.infallible("g", |n: &u64| *n).start().expect("valid");
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
                .start()
                .expect("valid");
            let inputs: Vec<Stuck> = (0..100).map(|n| Stuck((n >= 50).then(|| hold.clone()))).collect();
            let mut outcomes = f.map(inputs).window(2).into_iter();
            assert!(outcomes.next().is_some_and(|outcome| outcome.is_ok()));
            match end {
                "stop" => f.stop(),
                "abort" => f.abort(),
                _ => {}
            }
            // Whoever takes outcomes before that may come as far as the inputs that are stuck.
            until("it ends", || f.call(Stuck(None)).wait().is_err());
            assert!(outcomes.by_ref().any(|outcome| outcome.is_err()), "it ends with an error");
            assert!(g.status().gave_up.is_none(), "the engine answers");
            hold.gate.open();
            drop(outcomes);
            hold.let_go();
        });
    }
}

#[test]
fn captured_values_stuck_in_their_drop_hold_up_neither_handles_nor_apps() {
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
            let g = other.infallible("g", |n: &u64| *n).start().expect("valid");
            let hold = Hold::default();
            let stuck = Stuck(Some(hold.clone()));
            let f = app.infallible("f", move |n: &u64| *n + u64::from(stuck.0.is_some()));
            let f = f.containers(1).start().expect("valid");
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
        let f = app.infallible("f", |_: &Stuck| ()).restart(policy).start().expect("valid");
        let inputs = || (0..3).map(|_| Stuck(Some(hold.clone()))).collect::<Vec<_>>();
        drop(f.map(inputs()));
        drop(f.map(inputs()).into_iter());
        drop(f.map(inputs().into_iter().rev()).into_iter()); // a source that may block
        hold.let_go();
    });
}

#[test]
fn outputs_that_panic_in_their_drop_are_dropped_by_runs_one_by_one() {
    /// Panics though its thread panics already: two of one vector would take the process with them.
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
        // Inputs that need a drop go through a map, others do not.
        let output = move |fails: bool| {
            if fails {
                return Err("no");
            }
            makes.fetch_add(1, Ordering::SeqCst);
            Ok(Output(Arc::clone(&counted)))
        };
        let other = output.clone();
        let plain = app.function("plain", move |n: &u64| output(*n == 20)).containers(1);
        let plain = plain.restart(policy.clone()).start().expect("valid");
        let gate = Gate::default();
        let passed = gate.clone();
        let boxed = app.function("boxed", move |(n,): &(Box<u64>,)| {
            if **n == 99 {
                passed.pass();
            }
            other(**n == 20)
        });
        let boxed = boxed.containers(1).restart(policy).start().expect("valid");
        let boxes = |inputs: std::ops::Range<u64>| inputs.map(|n| (Box::new(n),)).collect::<Vec<_>>();
        assert!(plain.run((0..30).collect()).is_err());
        assert!(boxed.run(boxes(0..30)).is_err());
        assert!(futures::executor::block_on(plain.run_async((0..30).collect())).is_err());
        assert!(futures::executor::block_on(boxed.run_async(boxes(0..30))).is_err());
        assert_eq!(plain.for_each(0..20u64).expect("it goes on").ok, 20);
        let stream = futures::stream::iter(0..20u64);
        assert_eq!(futures::executor::block_on(plain.for_each_async(stream)).expect("it goes on").ok, 20);
        until("each is dropped once", || drops.load(Ordering::SeqCst) == made.load(Ordering::SeqCst));
        // A run that is dropped while it has some of its outcomes, and waits for the last.
        let mut run = Box::pin(boxed.run_all_async(boxes(80..100)));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let before = made.load(Ordering::SeqCst);
        assert!(run.as_mut().poll(&mut cx).is_pending());
        until("all but the last are made", || made.load(Ordering::SeqCst) == before + 19);
        assert!(run.as_mut().poll(&mut cx).is_pending());
        drop(run);
        gate.open();
        until("the last is made", || made.load(Ordering::SeqCst) == before + 20);
        until("each is dropped once", || drops.load(Ordering::SeqCst) == before + 20);
    });
}

#[test]
fn captured_values_are_dropped_when_the_function_has_ended_and_not_an_exit_timeout_later() {
    /// Leaves together with the others, so that the function has ended when the supervisor hears of the first.
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
        // The engine's thread goes on, or everything of it would be dropped with it.
        let other = App::ephemeral("other");
        let _kept = other.infallible("f", |n: &u8| *n).start().expect("valid");
        let drops = Arc::new(AtomicU64::new(0));
        for round in 1..=20 {
            let app = App::ephemeral("captures");
            let (captured, leave) = (Counted(Arc::clone(&drops)), Arc::new(Barrier::new(9)));
            let together = Arc::clone(&leave);
            let enter = move |_: &Context| {
                assert_eq!(captured.0.load(Ordering::SeqCst), round - 1);
                Ok(Leaves(Arc::clone(&together)))
            };
            let f = app.worker("f", enter).containers(8).exit_timeout(Duration::MAX).start().expect("valid");
            until("all are live", || f.status().containers.live == 8);
            f.drain();
            until("all are about to leave", || f.status().containers.exiting == 8);
            // Behind these the supervisor hears of the first that leaves when all have left.
            (0..1000).for_each(|_| f.supervisor().do_send(GetStatus));
            leave.wait();
            drop(f);
            app.shutdown_blocking();
            until("the captured value is dropped", || drops.load(Ordering::SeqCst) == round);
        }
    });
}

/// Takes a moment for its drop, and counts how many do at once.
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
fn many_dropped_calls_whose_inputs_are_slow_to_drop_take_a_few_threads() {
    unhung(|| {
        let app = App::ephemeral("slow");
        let gate = Gate::default();
        let passed = gate.clone();
        let f = app.infallible("f", move |_: &Slow| passed.pass()).containers(1);
        // No other test has this size, and so its threads are for this one alone.
        let f = f.stack_size((3 << 20) + 4096).start().expect("valid");
        let slowness = Arc::new(Slowness::default());
        let calls: Vec<_> = (0..400).map(|_| f.call(Slow(Arc::clone(&slowness)))).collect();
        drop(calls);
        gate.open();
        until("each is dropped once", || slowness.drops.load(Ordering::SeqCst) == 400);
        // Four of the crew, and the container with the input that it executed.
        assert!(slowness.most.load(Ordering::SeqCst) <= 5, "{:?}", slowness.most);
    });
}

#[test]
fn values_behind_ones_that_are_stuck_in_their_drop_are_dropped_all_the_same() {
    unhung(|| {
        let app = App::ephemeral("stuck");
        let f = app.infallible("f", |_: &(Stuck, Counted)| ()).containers(1);
        let f = f.stack_size((3 << 20) + 8192).start().expect("valid");
        let (hold, drops) = (Hold::default(), Arc::new(AtomicU64::new(0)));
        for _ in 0..6 {
            drop(f.map(vec![(Stuck(Some(hold.clone())), Counted(Arc::clone(&drops)))]));
        }
        for _ in 0..50 {
            drop(f.map(vec![(Stuck(None), Counted(Arc::clone(&drops)))]));
        }
        until("those behind are dropped", || drops.load(Ordering::SeqCst) == 50);
        hold.let_go();
        until("each is dropped once", || drops.load(Ordering::SeqCst) == 56);
    });
}

/// A list whose drop needs some ten MiB of stack, and is seen by the count of the witness at its end.
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

/// The stack of the functions of such values. The thread of the test has a small one.
const DEEP_STACK: usize = 256 << 20;

#[test]
fn inputs_that_need_a_large_stack_are_dropped_on_one() {
    under_each_policy(|app, policy| {
        let witness = Arc::new(());
        let make = || Deep::new(&witness);
        let all_dropped = |what| until(what, || Arc::strong_count(&witness) == 1);
        let f = app.function("f", |deep: &Deep| if deep.next.is_some() { Ok(()) } else { Err(()) });
        let f = f.containers(2).stack_size(DEEP_STACK).restart(policy).start().expect("valid");
        let deep = |n| (0..n).map(|_| make()).collect::<Vec<_>>();
        // Executed, and the outcomes taken on this thread.
        assert_eq!(f.run(deep(8)).expect("they have a next one").len(), 8);
        assert_eq!(f.for_each(deep(4)).expect("it goes on").ok, 4);
        let (kept, made) = (Arc::clone(&witness), AtomicUsize::new(0));
        let source =
            std::iter::from_fn(move || (made.fetch_add(1, Ordering::SeqCst) < 4).then(|| Deep::new(&kept)));
        assert_eq!(f.map(source).unordered().into_iter().filter(Result::is_ok).count(), 4);
        all_dropped("used inputs");
        // Some executed, some pulled, some in the source; and a map that never began.
        drop(f.map(deep(16)).window(2).into_iter().next());
        drop(f.map(deep(4)));
        drop(f.map(deep(4).into_iter().rev()));
        drop(f.call(make()));
        all_dropped("inputs of what was dropped");
        f.abort();
        until("it is aborted", || f.run(Vec::new()).is_err());
        drop(f.call(make()));
        drop(f.supervisor().try_send(CallInput::new(make())));
        until("the supervisor has ended", || !f.supervisor().connected());
        drop(f.supervisor().try_send(CallInput::new(make())));
        all_dropped("refused inputs");
    });
}

/// Drops what the test has been given, where there is room for it.
fn drop_deep<T: Send>(value: T) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(DEEP_STACK);
        thread.spawn_scoped(scope, || drop(value)).expect("a thread can be made");
    });
}

#[test]
fn outputs_errors_and_captures_that_need_a_large_stack_are_dropped_on_one() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("deep");
        let witness = Arc::new(());
        let (captured, kept) = (Deep::new(&witness), Arc::clone(&witness));
        let worth = Deep::new(&witness);
        let f = app.function("f", move |n: &u64| {
            assert!(captured.next.is_some());
            if *n == 5 { Err(Deep::new(&kept)) } else { Ok(Deep::new(&kept)) }
        });
        let f = f.retry_if(move |_| worth.next.is_none()).stack_size(DEEP_STACK);
        let f = f.containers(2).restart(policy).start().expect("valid");
        drop_deep(f.run((0..10).collect()));
        assert_eq!(f.for_each(0..10u64).expect("it goes on").failed, 1);
        let all_there = || {
            let mut outcomes = f.map(0..10u64).return_exceptions().into_iter();
            drop_deep(outcomes.next());
            until("all are there", || outcomes.progress().completed() == 10);
            outcomes
        };
        drop(all_there());
        let saved = all_there().salvage();
        assert_eq!(saved.len(), 8, "all but the one taken and the error");
        drop_deep(saved);
        // A builder that is dropped, whose settings come in either order.
        let (other, worth) = (Deep::new(&witness), Deep::new(&witness));
        let never = app.infallible("never", move |_: &u64| other.next.is_some());
        drop(never.stack_size(DEEP_STACK).retry_if(move |_| worth.next.is_none()));
        until("only what is captured is left", || Arc::strong_count(&witness) == 4);
        drop((f, app));
        until("the captures are dropped", || Arc::strong_count(&witness) == 1);
    });
}

#[test]
fn errors_of_enter_that_need_a_large_stack_are_dropped_on_one() {
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
        let f = app.worker("f", enter).containers(1).stack_size(DEEP_STACK).restart(give_up);
        let f = f.start().expect("valid");
        assert!(f.ready().is_err());
        let failure = f.call(1).wait().expect_err("it gave up");
        drop((app, f));
        drop(failure); // the last that has the crash
        until("the error is dropped", || Arc::strong_count(&witness) == 1);
    });
}

#[test]
fn helpers_and_blocking_tasks_of_a_container_have_its_stack() {
    unhung(|| {
        let (app, witness) = (App::ephemeral("deep"), Arc::new(()));
        let kept = Arc::clone(&witness);
        let f = app.function_async("f", async move |_: &u64| {
            let deep = Deep::new(&kept);
            tokio::task::spawn_blocking(move || drop(deep)).await.expect("it does not panic");
            Ok::<_, Infallible>(())
        });
        let f = f.containers(1).stack_size(DEEP_STACK).start().expect("valid");
        f.call(1).wait().expect("infallible");
        let kept = Arc::clone(&witness);
        let g = app.infallible("g", move |_: &u64| {
            let (scope, deep) = (Context::current().expect("inside").scope(), Deep::new(&kept));
            scope.spawn(move || drop(deep)).expect("a thread can be made").join().expect("no panic");
        });
        let g = g.containers(1).stack_size(DEEP_STACK).start().expect("valid");
        g.call(1).wait().expect("infallible");
        assert_eq!(Arc::strong_count(&witness), 3);
    });
}

type Plain = Function<u64, u64, Infallible>;

/// What a thread keeps for itself until its end.
type Kept = (Option<Call<u64, u64, Infallible>>, Option<Outcomes<u64, u64, Infallible>>, Option<App>);

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new((None, None, None)) };
}

fn keep(f: &Plain, app: Option<App>) {
    KEPT.with(|kept| kept.take()); // a thread drops last what it has begun to use first
    assert_eq!(f.call(1).wait().expect("infallible"), 1);
    let mut outcomes = f.map(0..1_000_000u64).into_iter();
    assert_eq!(outcomes.next().and_then(Result::ok), Some(0));
    KEPT.set((Some(f.call(2)), Some(outcomes), app));
}

#[test]
fn calls_maps_and_apps_that_a_thread_keeps_for_itself_are_dropped_with_it() {
    under_each_policy(|_, policy| {
        let drops = Arc::new(AtomicU64::new(0));
        let make = || {
            let (app, captured) = (App::ephemeral("kept"), Counted(Arc::clone(&drops)));
            let f = app.infallible("f", move |n: &u64| {
                let _ = &captured;
                *n
            });
            let f = f.containers(1).restart(policy.clone()).start().expect("valid");
            (app, f)
        };
        // On a thread of the application's, and on one of a container.
        let (app, f) = make();
        std::thread::spawn(move || keep(&f, Some(app))).join().expect("no panic");
        until("the function has ended", || drops.load(Ordering::SeqCst) == 1);
        let (app, f) = make();
        let (other, kept) = (App::ephemeral("other"), Mutex::new(Some((app, f))));
        let g = other.infallible("g", move |(): &()| {
            let (app, f) = kept.lock().expect("not poisoned").take().expect("called once");
            keep(&f, Some(app));
        });
        let g = g.containers(1).start().expect("valid");
        g.call(()).wait().expect("infallible");
        drop(g);
        assert!(other.shutdown_blocking().is_clean());
        until("the function has ended", || drops.load(Ordering::SeqCst) == 2);
    });
}
