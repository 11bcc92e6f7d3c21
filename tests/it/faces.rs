//! The same promises for every kind of function, every kind of source and both policies.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::executor::block_on;
use futures::{StreamExt, stream};
use longshore::{
    App, AsyncWorker, BoxError, Builder, Cause, ContainerId, Context, Death, Failure, Function, Map,
    Progress, RestartPolicy, Retries, Worker,
};
use tokio::task::yield_now;

use crate::support::{Gate, Started, attempt, policies, unhung, until};

/// The action of an attempt.
enum Act {
    Return(u64),
    Fail(u64),
    /// Panics, in async code before its first await.
    Crash(String),
    /// Panics, in async code between two awaits.
    CrashLater(String),
    /// Opens the first gate, then waits: synchronous code for the second gate, a future for ever.
    Hang(Gate, Gate),
}

impl Act {
    fn now(self) -> Result<u64, u64> {
        match self {
            Self::Return(output) => Ok(output),
            Self::Fail(error) => Err(error),
            Self::Crash(why) | Self::CrashLater(why) => panic!("{why}"),
            Self::Hang(begun, gate) => {
                begun.open();
                gate.pass();
                Ok(u64::MAX)
            }
        }
    }

    async fn in_a_task(self) -> Result<u64, u64> {
        if let Self::Crash(why) = &self {
            panic!("{why}");
        }
        yield_now().await;
        if let Self::CrashLater(why) = &self {
            panic!("{why}");
        }
        yield_now().await;
        match self {
            Self::Hang(begun, _) => {
                begun.open();
                std::future::pending().await
            }
            other => other.now(),
        }
    }
}

/// Says what an attempt of an input does. It is called at the beginning of each attempt.
type Script = Arc<dyn Fn(u64) -> Act + Send + Sync>;

struct Acts(Script);

impl Worker for Acts {
    type Input = u64;
    type Output = u64;
    type Error = u64;

    fn call(&mut self, input: &u64, _: &Context) -> Result<u64, u64> {
        (self.0)(*input).now()
    }
}

struct ActsInTasks(Script);

impl AsyncWorker for ActsInTasks {
    type Input = u64;
    type Output = u64;
    type Error = u64;

    async fn call(&mut self, input: &u64, _: &Context) -> Result<u64, u64> {
        (self.0)(*input).in_a_task().await
    }
}

/// A kind of function.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Function,
    Worker,
    AsyncFunction,
    AsyncWorker,
}

/// A kind of source.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Feed {
    Vector,
    Iterator,
    Stream,
}

type Acting = Function<u64, u64, u64>;
type Outcome = Result<u64, Failure<u64, u64>>;

/// A kind of function, a kind of source and a restart policy, with the app that the function is started in.
struct Face {
    app: App,
    kind: Kind,
    feed: Feed,
    policy: RestartPolicy,
}

impl Face {
    /// The builder of a function of this kind.
    fn function(&self, script: impl Fn(u64) -> Act + Send + Sync + 'static) -> Builder<u64, u64, u64> {
        let (script, app): (Script, _) = (Arc::new(script), &self.app);
        let builder = match self.kind {
            Kind::Function => app.function("f", move |input: &u64| script(*input).now()),
            Kind::Worker => app.worker("f", move |_: &Context| Ok(Acts(Arc::clone(&script)))),
            Kind::AsyncFunction => {
                app.function_async("f", async move |input: &u64| script(*input).in_a_task().await)
            }
            Kind::AsyncWorker => app.worker_async("f", async move |_: &Context| {
                yield_now().await;
                Ok::<_, BoxError>(ActsInTasks(Arc::clone(&script)))
            }),
        };
        builder.restart(self.policy.clone())
    }

    fn map(&self, f: &Acting, inputs: u64) -> Map<u64, u64, u64> {
        match self.feed {
            Feed::Vector => f.map((0..inputs).collect::<Vec<_>>()),
            Feed::Iterator => f.map((0..inputs).step_by(1)),
            Feed::Stream => f.map_stream(stream::iter(0..inputs)),
        }
    }

    /// All outcomes of a map and its final progress. A map over a stream is consumed as a stream.
    fn finish(&self, mut map: Map<u64, u64, u64>) -> (Vec<Outcome>, Progress) {
        if self.feed == Feed::Stream {
            return (block_on(map.by_ref().collect()), map.progress());
        }
        let mut outcomes = map.into_iter();
        (outcomes.by_ref().collect(), outcomes.progress())
    }

    fn outcomes(&self, map: Map<u64, u64, u64>) -> Vec<Outcome> {
        self.finish(map).0
    }
}

impl fmt::Display for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} over {:?} under {:?}", self.kind, self.feed, self.policy)
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the face was {self}");
        }
    }
}

/// Runs a promise for every face, each in a fresh app, and fails if one hangs.
fn for_each_face(promise: impl Fn(&Face) + Send + Sync + 'static) {
    let promise = Arc::new(promise);
    for kind in [Kind::Function, Kind::Worker, Kind::AsyncFunction, Kind::AsyncWorker] {
        for feed in [Feed::Vector, Feed::Iterator, Feed::Stream] {
            for policy in policies() {
                let promise = Arc::clone(&promise);
                unhung(move || promise(&Face { app: App::ephemeral("face"), kind, feed, policy }));
            }
        }
    }
}

#[test]
fn in_flight_inputs_survive_a_panic_before_and_between_awaits() {
    for_each_face(|face| {
        let script = |n: u64| match n {
            _ if !n.is_multiple_of(97) || attempt() > 1 => Act::Return(n * 2),
            _ if n.is_multiple_of(2) => Act::Crash("before".into()),
            _ => Act::CrashLater("between".into()),
        };
        let f = face.function(script).containers(3).started();
        let outcomes = face.outcomes(face.map(&f, 1_000));
        let outputs: Vec<u64> = outcomes.into_iter().map(|outcome| outcome.expect("replayed")).collect();
        assert_eq!(outputs, (0..1_000).map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!(f.status().crashes, 11);
    });
}

#[test]
fn completed_inputs_never_run_again_and_each_input_has_one_outcome() {
    for_each_face(|face| {
        let runs = Arc::new(Mutex::new(BTreeMap::<u64, u32>::new()));
        let count = Arc::clone(&runs);
        let script = move |n: u64| {
            *count.lock().expect("not poisoned").entry(n).or_default() += 1;
            match n % 50 {
                7 if attempt() < 3 => Act::CrashLater("early".into()),
                8 if attempt() < 3 => Act::Crash("early".into()),
                11 => Act::Fail(n),
                _ => Act::Return(n),
            }
        };
        let f = face.function(script).containers(4).started();
        let (outcomes, progress) = face.finish(face.map(&f, 500).return_exceptions().unordered());
        let mut seen = BTreeMap::<u64, u32>::new();
        for outcome in outcomes {
            let index = outcome.unwrap_or_else(|failure| failure.index().expect("no error of the map"));
            *seen.entry(index).or_default() += 1;
        }
        assert_eq!(seen, (0..500).map(|n| (n, 1)).collect(), "each input has exactly one outcome");
        let expected = (0..500).map(|n| (n, if [7, 8].contains(&(n % 50)) { 3 } else { 1 })).collect();
        assert_eq!(*runs.lock().expect("not poisoned"), expected);
        assert_eq!(progress.ok, 490, "ok inputs");
        assert_eq!(progress.failed, 10, "failed inputs");
        assert_eq!(progress.replayed, 40, "replayed inputs");
        assert_eq!(progress.pulled, progress.completed());
    });
}

#[test]
fn an_input_that_always_crashes_is_poisoned_with_every_death_and_the_others_go_on() {
    for_each_face(|face| {
        let script = |n: u64| match n % 50 {
            13 => Act::Crash(format!("poison {n}, {}", attempt())),
            14 => Act::CrashLater(format!("poison {n}, {}", attempt())),
            _ => Act::Return(n),
        };
        let f = face.function(script).containers(2).started();
        let outcomes = face.outcomes(face.map(&f, 200).return_exceptions());
        assert_eq!(outcomes.len(), 200);
        for (n, outcome) in (0..).zip(outcomes) {
            let failure = match outcome {
                Ok(output) => {
                    assert_eq!(output, n);
                    continue;
                }
                Err(failure) => failure,
            };
            assert!([13, 14].contains(&(n % 50)), "an innocent: {failure:?}");
            assert_eq!(failure.index(), Some(n), "index");
            assert_eq!(failure.input(), Some(&n), "input");
            assert_eq!(failure.attempts(), 4, "attempts");
            let Cause::Poisoned(deaths) = failure.cause() else { panic!("{failure:?}") };
            let told = deaths.iter().map(|crash| {
                assert_eq!(crash.executing.map(|(input, _)| input), Some(n));
                let Death::Panicked(panic) = &crash.death else { panic!("{crash}") };
                assert!(panic.location().is_some_and(|at| at.contains("faces.rs")), "{crash}");
                panic.message().to_owned()
            });
            let expected = [1, 2, 3, 4].map(|attempt| format!("poison {n}, {attempt}"));
            assert_eq!(told.collect::<Vec<_>>(), expected);
        }
    });
}

#[test]
fn errors_that_retry_if_accepts_are_retried_and_crashes_spend_no_retry() {
    for_each_face(|face| {
        // The last digit of an input says how often it fails first. An input that ends in 9 crashes between
        // two failures.
        let script = |n: u64| match (n % 10, u64::from(attempt())) {
            (9, 2) => Act::CrashLater("between two failures".into()),
            (9, 1 | 3) => Act::Fail(9),
            (failures @ 1..=4, attempt) if attempt <= failures => Act::Fail(failures * 100 + attempt),
            (5, _) => Act::Fail(5),
            _ => Act::Return(n),
        };
        let f = face
            .function(script)
            .retries(Retries::new(2).initial_delay(Duration::ZERO))
            .retry_if(|error| *error != 5)
            .containers(2)
            .started();
        let outcomes = face.outcomes(face.map(&f, 100).return_exceptions());
        for (n, outcome) in (0..).zip(outcomes) {
            let ended = outcome.map_err(|failure| (failure.error().copied(), failure.attempts()));
            let expected = match n % 10 {
                3 => Err((Some(303), 3)),
                4 => Err((Some(403), 3)),
                5 => Err((Some(5), 1)),
                _ => Ok(n),
            };
            assert_eq!(ended, expected, "input {n}");
        }
        assert_eq!(f.status().crashes, 10);
    });
}

#[test]
fn without_crash_retries_only_inputs_that_crashed_are_given_up() {
    for_each_face(|face| {
        let runs = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&runs);
        let script = move |n: u64| {
            count.fetch_add(1, Ordering::SeqCst);
            match n {
                5 => Act::Crash("once".into()),
                6 => Act::CrashLater("once".into()),
                _ => Act::Return(n),
            }
        };
        let f = face.function(script).containers(2).crash_retries(0).started();
        let outcomes = face.outcomes(face.map(&f, 10).return_exceptions());
        let bad = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        let bad: Vec<_> =
            bad.map(|failure| (failure.index(), failure.attempts(), failure.is_poisoned())).collect();
        assert_eq!(bad, [(Some(5), 1, true), (Some(6), 1, true)]);
        assert_eq!(runs.load(Ordering::SeqCst), 10);
    });
}

#[test]
fn a_killed_container_loses_no_input_and_no_input_is_blamed() {
    for_each_face(|face| {
        let (begun, gate) = (Gate::default(), Gate::default());
        let (told, inside) = (begun.clone(), gate.clone());
        let script = move |n: u64| match n {
            3 if attempt() == 1 => Act::Hang(told.clone(), inside.clone()),
            _ => Act::Return(n),
        };
        let f = face.function(script).containers(1).started();
        let map = face.map(&f, 10);
        let outcomes = std::thread::scope(|scope| {
            let mapped = scope.spawn(|| face.outcomes(map));
            begun.pass();
            assert!(f.kill_container(ContainerId::new(0)));
            mapped.join().expect("no panic")
        });
        let outputs: Vec<u64> = outcomes.into_iter().map(|outcome| outcome.expect("replayed")).collect();
        assert_eq!(outputs, (0..10).collect::<Vec<_>>());
        assert_eq!(f.status().crashes, 0, "crashes");
        assert_eq!(f.status().containers.live, 1, "live containers");
        if matches!(face.kind, Kind::Function | Kind::Worker) {
            gate.open(); // a future is dropped, but synchronous code waits for this gate
        }
        until("the abandoned attempt ends", || f.status().containers.abandoned == 0);
    });
}
