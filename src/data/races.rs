//! Tests of the data path between real threads: chunks, runs and prefetch queues, which are unsafe code. Few
//! inputs in many rounds, so that each test fits into Miri (`cargo +nightly miri test --lib races`), which
//! detects undefined behaviour and races. The interleavings differ from round to round.

#![expect(unsafe_code, reason = "the tests keep the contracts of the data path's unsafe functions")]

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::base::position::Position;
use crate::data::chunk::Chunk;
use crate::data::cursor::Advance;
use crate::data::erased::{TypeInfo, Values};
use crate::data::prefetch::{PrefetchQueue, Producer};
use crate::data::run::Run;
use crate::data::shape::{Outcome, Shape, Why};

/// The number of inputs of a round.
const INPUTS: u64 = 6;
const ROUNDS: u64 = if cfg!(miri) { 4 } else { 2_000 };

/// After this many looks, a missing outcome counts as lost.
const LOOKS_MAX: u64 = 100_000_000;

/// Counts the values that are alive. Each is on the heap, so that Miri notices one that
/// is read after its drop.
struct Value(Box<u64>, Arc<AtomicU64>);

impl Value {
    fn new(value: u64, alive: &Arc<AtomicU64>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(Box::new(value), Arc::clone(alive))
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

type Shared = Arc<Chunk>;

type Answer = Outcome<Value, Value, Value>;

fn chunk(alive: &Arc<AtomicU64>) -> Shared {
    let inputs = Values::of((0..INPUTS).map(|n| Value::new(n, alive)).collect());
    Arc::new(Chunk::new(Shape::of::<Value, Value, Value>(), 0, inputs))
}

/// The work of a container's thread. Returns the number of refused outcomes.
fn execute(run: &Run) -> u64 {
    let Some(mut active) = run.begin::<Value, Value, Value>() else { return 0 };
    loop {
        let outcome = Value::new(10 * *active.input().0, &active.input().1);
        match active.publish(outcome) {
            Ok(Advance::Next) => {}
            Ok(Advance::Last | Advance::Fenced) => return 0,
            Err(_) => return 1,
        }
    }
}

/// The work of a container's task, which waits before each outcome. Returns whether a fence has ended it.
fn execute_in_task(run: &Run) -> bool {
    let Some(mut active) = run.begin::<Value, Value, Value>() else { return true };
    loop {
        if !run.suspend() {
            return true;
        }
        pause(64); // a task waits for most of its time
        if !run.resume() {
            return true;
        }
        let outcome = Value::new(10 * *active.input().0, &active.input().1);
        match active.publish(outcome) {
            Ok(Advance::Next) => {}
            Ok(Advance::Last) => return false,
            Ok(Advance::Fenced) | Err(_) => return true,
        }
    }
}

/// The work of a container's thread whose code gets batches. It reads all inputs of a batch before it
/// publishes the first outcome. Returns the number of refused outcomes.
fn execute_batches(run: &Run) -> u64 {
    let Some(mut active) = run.begin::<Value, Value, Value>() else { return 0 };
    loop {
        let outcome = |input: &Value| Value::new(10 * *input.0, &input.1);
        let outcomes: Vec<Value> = active.inputs().map(outcome).collect();
        let mut left = outcomes.len() as u64;
        let mut goes_on = false;
        for outcome in outcomes {
            match active.publish(outcome) {
                Ok(advance) => goes_on = advance == Advance::Next,
                Err(_) => return left,
            }
            left -= 1;
        }
        if !goes_on {
            return 0;
        }
    }
}

/// The work of a consumer: takes `most` outcomes in order, as soon as each is there.
fn consume(chunk: &Shared, most: u64) -> Vec<u64> {
    let mut taken = Vec::new();
    let mut looks = 0_u64;
    while (taken.len() as u64) < most {
        let place = taken.len();
        // SAFETY: this is the only consumer, and the chunk is kept.
        let outcome = unsafe { chunk.slots(place..place + 1).take::<Answer>(place) };
        match outcome {
            Some(outcome) => taken.push(value(outcome)),
            None => pause_at(looks),
        }
        looks += 1;
        assert!(looks < LOOKS_MAX, "an outcome is missing: {taken:?}");
    }
    taken
}

/// The output, or ten times the input of a failure.
fn value(outcome: Answer) -> u64 {
    match outcome {
        Ok(output) => *output.0,
        Err(failure) => 10 * *failure.input().expect("an input failed").0,
    }
}

/// The work of a thread that kills a container. Returns the first place whose outcome is
/// refused or not begun.
fn fence(run: &Run, chunk: &Shared) -> u64 {
    let Position { at, begun } = run.fence().expect("the system grants the barrier");
    if begun {
        chunk.share(at as usize);
    }
    at
}

/// The same, where the inputs of a batch execute together.
fn fence_batch(run: &Run, chunk: &Shared) -> u64 {
    let position = run.fence().expect("the system grants the barrier");
    run.executing_places(position).for_each(|place| chunk.share(place));
    position.at
}

fn take(queue: &PrefetchQueue, most: u64) -> Vec<u64> {
    queue.take(most).into_vec::<Value>().into_iter().map(|input| *input.0).collect()
}

fn in_order(outcomes: u64) -> Vec<u64> {
    (0..outcomes).map(|n| 10 * n).collect()
}

/// Lets a few moments pass. The thread keeps its core. A thread that yields its core may lose it for
/// milliseconds beside busy programs, which is longer than all of a round.
fn pause(moments: u64) {
    match cfg!(miri) {
        true => (0..moments.min(1)).for_each(|_| thread::yield_now()),
        false => (0..4 * moments).for_each(|_| spin_loop()),
    }
}

/// Lets a moment pass before another look. The other thread may need the core of this one after many looks.
fn pause_at(looks: u64) {
    if cfg!(miri) || looks % 1_024 == 1_023 { thread::yield_now() } else { spin_loop() }
}

/// Whether another thread has begun its work. It orders nothing, so that it hides no race.
#[derive(Default)]
struct Begins(AtomicBool);

impl Begins {
    fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Lets a few moments pass, a different number of them in each round. In most rounds they are those after
    /// the beginning.
    fn wait(&self, round: u64) {
        if !cfg!(miri) && !round.is_multiple_of(4) {
            (0..).take_while(|_| !self.0.load(Ordering::Relaxed)).for_each(pause_at);
        }
        (0..round % 17).for_each(|_| pause(1));
    }
}

#[test]
fn outcomes_are_taken_while_others_are_computed_and_the_last_owner_drops_the_rest() {
    for round in 0..ROUNDS {
        let alive = Arc::default();
        let chunk = chunk(&alive);
        let taken = thread::scope(|scope| {
            let run = Run::new(Arc::clone(&chunk), 0, INPUTS);
            scope.spawn(move || execute(&run));
            let consumer = scope.spawn(move || consume(&chunk, round % (INPUTS + 1)));
            consumer.join().expect("no panic")
        });
        assert_eq!(taken, in_order(round % (INPUTS + 1)));
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}

/// A thread executes a run by `work`, and is fenced after a few moments. Its input is executed again at once.
/// Returns the result of `work`, and whether the fence has found a task at rest.
fn fenced_in_between<T: Send>(round: u64, work: impl FnOnce(&Run) -> T + Send) -> (T, bool) {
    let (alive, begins) = (Arc::default(), Begins::default());
    let chunk = chunk(&alive);
    let result = thread::scope(|scope| {
        let run = Arc::new(Run::new(Arc::clone(&chunk), 0, INPUTS));
        let (executed, begins) = (Arc::clone(&run), &begins);
        let fenced = scope.spawn(move || {
            begins.now();
            work(&executed)
        });
        let consumed = Arc::clone(&chunk);
        let consumer = scope.spawn(move || consume(&consumed, INPUTS));
        begins.wait(round);
        let at = fence(&run, &chunk);
        let at_rest = run.is_suspended();
        let rest = Run::new(Arc::clone(&chunk), at, INPUTS);
        drop((run, chunk));
        execute(&rest);
        drop(rest);
        assert_eq!(consumer.join().expect("no panic"), in_order(INPUTS));
        (fenced.join().expect("no panic"), at_rest)
    });
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    result
}

#[test]
fn a_refused_input_is_executed_again_while_the_fenced_thread_still_reads_it() {
    let refused: u64 = (0..ROUNDS).map(|round| fenced_in_between(round, execute).0).sum();
    println!("{refused} of {ROUNDS} answers were refused by the fence");
}

#[test]
fn a_task_that_waits_is_fenced_and_its_input_is_executed_elsewhere() {
    let rounds: Vec<(bool, bool)> =
        (0..ROUNDS).map(|round| fenced_in_between(round, execute_in_task)).collect();
    let fenced = rounds.iter().filter(|(is_fenced, _)| *is_fenced).count();
    let at_rest = rounds.iter().filter(|(_, at_rest)| *at_rest).count();
    println!("{fenced} of {ROUNDS} tasks were fenced, {at_rest} of them at rest");
    assert!(cfg!(miri) || at_rest > 0, "a fence has found no task at rest");
}

#[test]
fn an_input_that_fails_for_good_comes_back_and_a_fenced_reader_keeps_it() {
    for round in 0..ROUNDS {
        let (alive, begins) = (Arc::default(), Begins::default());
        let chunk = chunk(&alive);
        thread::scope(|scope| {
            let run = Arc::new(Run::new(Arc::clone(&chunk), 0, INPUTS));
            let (executed, begins) = (Arc::clone(&run), &begins);
            scope.spawn(move || {
                begins.now();
                execute(&executed)
            });
            begins.wait(round);
            let at = fence(&run, &chunk);
            drop(run);
            for place in at..INPUTS {
                // SAFETY: the run is fenced, the place that may still be read was marked, and
                // each place comes once.
                unsafe {
                    chunk.fail(place as usize, 1.into(), Why::Error(Box::new(Value::new(place, &alive))))
                };
            }
            assert_eq!(consume(&chunk, INPUTS), in_order(INPUTS));
        });
        drop(chunk);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn a_split_run_is_executed_by_two_threads_at_once_and_no_input_twice() {
    for round in 0..ROUNDS {
        let (alive, begins) = (Arc::default(), Begins::default());
        let chunk = chunk(&alive);
        thread::scope(|scope| {
            let run = Arc::new(Run::new(Arc::clone(&chunk), 0, INPUTS));
            let (executed, begins) = (Arc::clone(&run), &begins);
            scope.spawn(move || {
                begins.now();
                execute(&executed)
            });
            let consumed = Arc::clone(&chunk);
            let consumer = scope.spawn(move || consume(&consumed, INPUTS));
            begins.wait(round);
            let end = run.truncate(INPUTS / 2);
            let rest = Run::new(Arc::clone(&chunk), end, INPUTS);
            drop((run, chunk));
            execute(&rest);
            drop(rest);
            assert_eq!(consumer.join().expect("no panic"), in_order(INPUTS));
        });
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn the_refused_inputs_of_a_batch_are_executed_again_while_the_fenced_thread_still_reads_them() {
    let mut refused = 0;
    for round in 0..ROUNDS {
        let (alive, begins) = (Arc::default(), Begins::default());
        let chunk = chunk(&alive);
        let batch = 2 + round % 4;
        thread::scope(|scope| {
            let run = Arc::new(Run::in_batches(Arc::clone(&chunk), 0, INPUTS, batch));
            let (executed, begins) = (Arc::clone(&run), &begins);
            let fenced = scope.spawn(move || {
                begins.now();
                execute_batches(&executed)
            });
            let consumed = Arc::clone(&chunk);
            let consumer = scope.spawn(move || consume(&consumed, INPUTS));
            begins.wait(round);
            let at = fence_batch(&run, &chunk);
            let rest = Run::in_batches(Arc::clone(&chunk), at, INPUTS, batch);
            drop((run, chunk));
            execute_batches(&rest);
            drop(rest);
            assert_eq!(consumer.join().expect("no panic"), in_order(INPUTS));
            refused += fenced.join().expect("no panic");
        });
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
    println!("{refused} answers were refused by the fences of {ROUNDS} rounds");
}

#[test]
fn a_split_run_of_batches_is_executed_by_two_threads_and_no_batch_is_cut() {
    for round in 0..ROUNDS {
        let (alive, begins) = (Arc::default(), Begins::default());
        let chunk = chunk(&alive);
        let batch = 2 + round % 3;
        thread::scope(|scope| {
            let run = Arc::new(Run::in_batches(Arc::clone(&chunk), 0, INPUTS, batch));
            let (executed, begins) = (Arc::clone(&run), &begins);
            scope.spawn(move || {
                begins.now();
                assert_eq!(execute_batches(&executed), 0);
            });
            let consumed = Arc::clone(&chunk);
            let consumer = scope.spawn(move || consume(&consumed, INPUTS));
            begins.wait(round);
            let end = run.truncate(batch);
            assert!(end == INPUTS || end.is_multiple_of(batch), "a cut at {end} in batches of {batch}");
            let rest = Run::in_batches(Arc::clone(&chunk), end, INPUTS, batch);
            drop((run, chunk));
            execute_batches(&rest);
            drop(rest);
            assert_eq!(consumer.join().expect("no panic"), in_order(INPUTS));
        });
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn published_outcomes_become_the_answer_while_the_thread_that_made_them_goes_on() {
    for _ in 0..ROUNDS {
        let alive = Arc::default();
        let chunk = chunk(&alive);
        thread::scope(|scope| {
            let run = Run::new(Arc::clone(&chunk), 0, INPUTS);
            scope.spawn(move || {
                execute(&run);
                assert!(run.begin::<Value, Value, Value>().is_none(), "the run has ended");
            });
            let misses = |_: &u64| !(0..INPUTS).all(|place| chunk.is_published(place as usize));
            (0..).take_while(misses).for_each(pause_at);
            // SAFETY: all outcomes are published, as was just checked, and this is the only consumer.
            let outcomes = unsafe { chunk.take_all().into_vec::<Answer>() };
            assert_eq!(outcomes.into_iter().map(value).collect::<Vec<_>>(), in_order(INPUTS));
        });
        drop(chunk);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn an_input_that_is_fed_into_a_closing_pool_is_taken_or_refused() {
    let mut refused = 0;
    for round in 0..ROUNDS {
        let (alive, begins) = (Arc::default(), Begins::default());
        let queue = Arc::new(PrefetchQueue::new(TypeInfo::of::<Value>()));
        let mut producer = Producer::new(Arc::clone(&queue), Arc::default());
        let inputs: Vec<Value> = (0..40).map(|n| Value::new(n, &alive)).collect();
        let (accepted, taken) = thread::scope(|scope| {
            let feeds = &begins;
            let feeder = scope.spawn(move || {
                feeds.now();
                let refused = inputs.into_iter().position(|input| producer.of_type().push(input).is_err());
                refused.map_or(40, |accepted| accepted as u64)
            });
            let mut taken = Vec::new();
            begins.wait(round);
            for _ in 0..round % 9 {
                taken.extend(take(&queue, 3));
                pause(1);
            }
            assert!(queue.close());
            taken.extend(take(&queue, u64::MAX));
            (feeder.join().expect("no panic"), taken)
        });
        assert_eq!(taken, Vec::from_iter(0..accepted), "exactly the inputs accepted before the queue closed");
        drop(queue);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
        refused += u64::from(accepted < 40);
    }
    println!("{refused} of {ROUNDS} feeders were refused");
}
