//! A fan-out that survives its workers.
//!
//! longshore runs a function over many inputs in *containers*: supervised workers, each on a thread of its
//! own. When a container panics, the input that was executing is replayed, the container comes back under a
//! restart policy, and no completed input is run again. Every accepted input ends in exactly one outcome.
//!
//! ```
//! use longshore::{App, Context};
//!
//! let app = App::ephemeral("quotes");
//! let risky = app
//!     .infallible("square", |n: &u64| {
//!         let attempt = Context::current().expect("in a container").attempt().get();
//!         assert!(*n != 7 || attempt > 1, "seven crashes its container, once");
//!         n * n
//!     })
//!     .containers(2)
//!     .start()?;
//! let squares: Result<Vec<u64>, _> = risky.map(0..1_000u64).into_iter().collect();
//! assert_eq!(squares.unwrap()[7], 49);
//! assert_eq!(risky.status().crashes, 1);
//! assert!(app.shutdown_blocking().is_clean());
//! # Ok::<(), longshore::StartError>(())
//! ```
//!
//! # How it flows
//!
//! ```text
//!  inputs ──▶ map ──▶ chunks ──▶ container 0 ─┐                 ┌─▶ Ok(output)
//!  (lazily,           (shared    container 1 ─┼─▶ outcome slots ┴─▶ Err(Failure: index, input, cause)
//!   within the        ranges)    container 2 ─┘
//!   window)                          │ panic
//!                                    ▼
//!                  verdict: replay the input (or poison it), restart the container (or give up)
//! ```
//!
//! An [`App`] names a set of functions. A [`Builder`] holds the settings of one function. A [`Function`] is a
//! running function: its [`Map`], [`Call`], `run`, `run_all` and `for_each` run inputs through it.
//!
//! # Failures
//!
//! A function that returns `Err` has *failed* its input. A failure is not a crash: the container lives on.
//! [`Builder::retries`] runs the input again after a delay. [`Builder::retry_if`] decides which errors are
//! worth a retry, and [`Builder::retry_after`] may put the retry off. The last error reaches the caller with
//! its type unchanged.
//!
//! ```
//! use longshore::{App, Context, Retries};
//! use std::time::Duration;
//!
//! let app = App::ephemeral("docs");
//! let flaky = app
//!     .function("flaky", |_: &()| match Context::current().expect("in a container").attempt().get() {
//!         attempt if attempt < 3 => Err(attempt),
//!         attempt => Ok(attempt),
//!     })
//!     .retries(Retries::new(2).initial_delay(Duration::from_millis(1)))
//!     .start()?;
//! assert_eq!(flaky.call(()).wait().unwrap(), 3);
//! # Ok::<(), longshore::StartError>(())
//! ```
//!
//! # Crashes
//!
//! A panic, in the function or in a worker's `enter`, ends the container. A crash never spends `retries`. It
//! spends the budget that the executing input has for crashes, [`Builder::crash_retries`] (3 by default). An
//! input that crashes more often is *poisoned*, and comes back with the cause of each death. Inputs that were
//! assigned to the same container and had not begun are dispatched to other containers.
//!
//! ```
//! use longshore::{App, Cause};
//!
//! let app = App::ephemeral("docs");
//! let f = app.infallible("f", |n: &u32| if *n == 13 { panic!("unlucky {n}") } else { *n }).start()?;
//! let outcomes = f.run_all((0..100).collect());
//! let failure = outcomes[13].as_ref().unwrap_err();
//! let Cause::Poisoned(deaths) = failure.cause() else { unreachable!() };
//! assert_eq!(failure.input(), Some(&13));
//! assert_eq!(failure.attempts(), 4);
//! assert_eq!(deaths.len(), 4);
//! assert!(deaths[0].to_string().contains("unlucky 13"));
//! assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 99);
//! # Ok::<(), longshore::StartError>(())
//! ```
//!
//! Execution is at least once, and outcomes are exactly once. With `crash_retries(0)` execution is at most
//! once: an input that had begun in a container that dies is never begun again.
//!
//! # Restarts
//!
//! | policy | default of | a crash loop | too many crashes |
//! |---|---|---|---|
//! | [`RateLimited`] | [`App::ephemeral`] | 0, 10 ms, 20 ms … 1 s | gives up: every pending input fails with the crash that exceeded the limit, and with the first crashes of the window |
//! | [`CrashLoopBackoff`] | [`App::deployed`] | 0, 100 ms, 200 ms … 60 s | goes on for ever; inputs wait |
//!
//! ```
//! use longshore::{App, RateLimited};
//!
//! let app = App::ephemeral("docs");
//! let doomed = app
//!     .infallible("doomed", |_: &u32| -> u32 { panic!("always") })
//!     .restart(RateLimited::new().max_crashes(2).max_failure_rate(0.0))
//!     .start()?;
//! let failure = doomed.map(0..10u32).into_iter().find_map(Result::err).unwrap();
//! assert!(failure.is_given_up() || failure.is_poisoned());
//! while doomed.status().gave_up.is_none() {
//!     drop(doomed.call(0).wait());
//! }
//! assert!(doomed.call(1).wait().unwrap_err().is_given_up()); // at once, until it is reset
//! assert!(doomed.reset());
//! # Ok::<(), longshore::StartError>(())
//! ```
//!
//! # State
//!
//! A [`Worker`] has a state in each container. `enter` builds it for each generation, and it is never
//! shared between threads. A plain closure is shared by all containers. Its captures survive restarts,
//! and so do thread-locals.
//!
//! # Maps
//!
//! Inputs are pulled lazily, and only within a *window*, which is by default some milliseconds' work.
//! Outcomes come in the order of the inputs, or as they complete ([`Map::unordered`]). By default the first
//! failure ends the map as soon as it happens. [`Map::return_exceptions`] yields an outcome for every input
//! instead, and [`Map::fail_in_order`] yields the failure at its input's place. Outcomes that had finished
//! before the map ended can be [salvaged](Outcomes::salvage).
//!
//! ```
//! use longshore::App;
//!
//! let app = App::ephemeral("docs");
//! let parse = app.function("parse", |text: &String| text.parse::<i32>()).start()?;
//! let texts: Vec<String> = ["1", "two", "3"].map(str::to_owned).to_vec();
//! let bad: Vec<String> = parse
//!     .map(texts.into_iter()) // owned: a map outlives the borrow of a local
//!     .return_exceptions()
//!     .into_iter()
//!     .filter_map(|outcome| outcome.err()?.into_input()?.owned())
//!     .collect();
//! assert_eq!(bad, ["two"]);
//! # Ok::<(), longshore::StartError>(())
//! ```
//!
//! # Async code
//!
//! [`App::function_async`], [`App::worker_async`] and [`App::worker_concurrent`] take async functions,
//! [`AsyncWorker`]s and [`ConcurrentWorker`]s. The thread of
//! such a container has a runtime of its own: `tokio`'s timers, sockets and `spawn_local` work inside,
//! futures need not be `Send`, and tasks that a crashed container had spawned die with it. A future is
//! dropped at its `await` when its map or call is cancelled, or when its container is killed.
//!
//! A [`Map`] is also a `Stream` and a [`Call`] is a future, for synchronous functions too, and
//! [`Function::map_stream`] takes a stream. `run_async`, `run_all_async`, `for_each_async`, [`App::run`] and
//! [`App::shutdown`] are the async forms of the blocking methods. All of them work on any executor.
//!
//! ```
//! use futures::{StreamExt, stream};
//! use longshore::App;
//!
//! # futures::executor::block_on(async {
//! let ((), report) = App::run("docs", async |app| {
//!     let slow = app
//!         .function_async("slow", async |n: &u64| {
//!             tokio::time::sleep(std::time::Duration::from_millis(1)).await;
//!             if *n == 3 { Err("three") } else { Ok(*n) }
//!         })
//!         .start()
//!         .expect("valid settings");
//!     assert_eq!(slow.call(5).await.unwrap(), 5);
//!     let mut map = slow.map_stream(stream::iter(0..10)).return_exceptions();
//!     let mut failed = Vec::new();
//!     while let Some(outcome) = map.next().await {
//!         failed.extend(outcome.err().and_then(|failure| failure.index()));
//!     }
//!     assert_eq!(failed, [3]);
//! })
//! .await;
//! assert!(report.is_clean());
//! # });
//! ```
//!
//! # Many inputs at once
//!
//! More inputs are executed at the same time by more [containers](Builder::containers), or by more inputs in
//! flight in each container ([`Builder::concurrent_inputs`]). The first is for work that computes, and the
//! second for work that waits.
//!
//! | the work | use | at a panic |
//! |---|---|---|
//! | computes, or blocks its thread | as many containers as cores, or as many as may block | the container ends, and its one input is replayed |
//! | waits, and has no state | [`App::function_async`], one or two containers, hundreds of concurrent inputs | the guilty input is replayed; the others in flight and the container go on |
//! | waits, and shares a client, a cache or a connection | [`App::worker_concurrent`], the same | the worker ends; all in flight are replayed, and only the guilty input is charged |
//! | waits, and needs its state for itself (`&mut self`) | [`App::worker_async`], many containers | the container ends, and its one input is replayed |
//!
//! The inputs in flight of a container share its thread, and one of them is polled at a time. So the guilty
//! input of a panic is known, and [`Context::current`] always belongs to the input that is polled. An input
//! that computes for long holds up the others of its container. Cancellation, retries, memory and spans are
//! of each input on its own.
//!
//! ```
//! use longshore::{App, Context};
//! use std::time::Duration;
//!
//! let app = App::ephemeral("docs");
//! let fetch = app
//!     .function_async("fetch", async |n: &u64| {
//!         let attempt = Context::current().expect("in a container").attempt().get();
//!         tokio::time::sleep(Duration::from_millis(1)).await;
//!         assert!(*n != 7 || attempt > 1, "seven panics once");
//!         Ok::<_, std::convert::Infallible>(attempt)
//!     })
//!     .containers(1)
//!     .concurrent_inputs(100)
//!     .start()?;
//! let attempts = fetch.run((0..100).collect()).unwrap();
//! assert_eq!((attempts[7], attempts.iter().sum::<u32>()), (2, 101)); // the other 99 have not noticed
//! # Ok::<(), longshore::StartError>(())
//! ```
//!
//! # Batches
//!
//! A model or a database often takes many inputs in one call. [`App::batch`], [`App::batch_async`] and
//! [`App::batch_worker`] describe such code: it gets a slice of inputs, and returns the outcome of each. A
//! batch has at most [`Builder::batch_size`] inputs of whatever waits: maps, calls and retries.
//! [`Builder::batch_wait`] lets it wait for more.
//!
//! Each input is retried, cancelled and answered by itself. If a batch of several crashes, or comes to its
//! timeout, none of them is blamed. They are replayed in halves, each by itself, until one input crashes
//! alone.
//!
//! ```
//! use longshore::{App, Cause};
//!
//! let app = App::ephemeral("docs");
//! let square = app
//!     .batch("square", |inputs: &[&u64]| {
//!         assert!(!inputs.iter().any(|n| **n == 13), "the model does not like 13");
//!         inputs.iter().map(|n| Ok::<_, String>(**n * **n)).collect()
//!     })
//!     .containers(2)
//!     .batch_size(64)
//!     .start()?;
//! let outcomes = square.run_all((0..1_000).collect());
//! assert!(matches!(outcomes[13].as_ref().unwrap_err().cause(), Cause::Poisoned(_)));
//! assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 999);
//! # Ok::<(), longshore::StartError>(())
//! ```
//!
//! # Calls that a service can rest on
//!
//! A [`Call`] is cancelled when it is dropped, so a client that leaves frees the container that works for it.
//! Code that would go on, on a helper thread or in a spawned task, asks [`Context::is_cancelled`] or awaits
//! [`Context::cancelled`]. A [detached](Call::detach) call goes on. [`Call::wait_timeout`] waits for a
//! limited time. [`Builder::calls_max`] bounds the calls without an outcome. One more fails at once with
//! [`Cause::Overloaded`], so that a service can answer *503* during an outage. [`Function::reserve`] waits
//! for room instead, and gives a [`Permit`]. Those who wait are served in turn. With the feature `tower` a
//! function can be a tower service (`Function::service`), which is ready while there is room.
//!
//! ```
//! use longshore::App;
//!
//! let app = App::ephemeral("docs");
//! let resize = app.infallible("resize", |n: &u64| n / 2).calls_max(1).start()?;
//! let answer = |n| match resize.call(n).wait() {
//!     Ok(_) => 200,
//!     Err(failure) if failure.is_overloaded() => 503,
//!     Err(_) => 500,
//! };
//! assert_eq!(answer(4), 200);
//! let permit = resize.reserve_blocking().unwrap(); // all the room that there is
//! assert_eq!(answer(4), 503);
//! assert_eq!(permit.call(4).wait().unwrap(), 2);
//! # Ok::<(), longshore::StartError>(())
//! ```
//!
//! # Limits of time
//!
//! | limit | of | when it passes |
//! |---|---|---|
//! | [`Builder::timeout`] | one attempt | the attempt fails: [`Cause::TimedOut`], after the retries |
//! | [`Builder::deadline`] | an input, from its acceptance | the input ends: [`Cause::DeadlineExceeded`] |
//! | [`Builder::enter_timeout`] | the start of a container | the start fails: [`Death::EnterTimedOut`] |
//!
//! [`Map::timeout`], [`Map::deadline`] and [`Limits`] override the first two for one map or call. Async code
//! is dropped where it waits, and synchronous code unwinds at its next [`Context::checkpoint`]. Code that
//! does neither for 50 ms keeps its thread, which is replaced by another: [`Death::Unresponsive`].
//!
//! ```
//! use longshore::{App, Context, Limits};
//! use std::time::Duration;
//!
//! let app = App::ephemeral("docs");
//! let count = app
//!     .infallible("count", |to: &u64| (0..*to).filter(|n| { Context::checkpoint(); n % 2 == 0 }).count())
//!     .containers(1)
//!     .start()?;
//! let limits = Limits::new().timeout(Duration::from_millis(20));
//! assert!(count.call_within(u64::MAX, limits).wait().unwrap_err().is_timed_out());
//! assert_eq!(count.call_within(10, limits).wait().unwrap(), 5);
//! assert_eq!(count.status().crashes, 0);
//! # Ok::<(), longshore::StartError>(())
//! ```
//!
//! # Memory
//!
//! [`Accountant`] is a global allocator over any other. With it, [`Builder::memory_limit`] limits each
//! container: a container that uses more is killed, its neighbours are untouched, and its input is replayed
//! under `crash_retries` or comes back with [`Death::MemoryLimit`]. [`Builder::memory_limit`] describes the
//! kill for each kind of code. [`Builder::recycle_above`] renews a container between inputs when its state
//! has grown. [`Status::memory`] shows what each container holds, and [`Context::memory_left`] how much an
//! attempt may still allocate.
//!
//! Memory that a helper thread allocates is charged to the process, unless the thread enters the container's
//! [scope](Context::scope).
//!
//! # Snapshots
//!
//! [`App::snapshot`] and [`Function::snapshot`] describe an app or a function as numbers and text: a
//! [`Health`] in one word, containers, inputs, maps, crashes grouped by kind and place, a crash loop with its
//! next restart, poisoned inputs (described by [`Builder::describe`]), histograms and a log. A function keeps
//! at most 150 KB of data for its snapshots, however often it crashes, and this costs no work for each input.
//! The module [`snapshot`] is the manual. [`Function::events`] is a stream of events. With the feature
//! `serde` all of these can be serialized.
//!
//! ```
//! use longshore::{App, Health, RateLimited};
//!
//! let app = App::ephemeral("docs");
//! let f = app.infallible("f", |n: &u32| assert!(n % 5 != 0, "a multiple of five"));
//! let f = f.crash_retries(0).restart(RateLimited::never()).start()?;
//! drop(f.run_all((0..20).collect()));
//! let snapshot = f.snapshot();
//! assert_eq!((snapshot.totals.ok, snapshot.totals.poisoned), (16, 4));
//! assert_eq!((snapshot.causes[0].message.as_str(), snapshot.causes[0].count), ("a multiple of five", 4));
//! assert_ne!(snapshot.health, Health::Serving, "{snapshot}");
//! # Ok::<(), longshore::StartError>(())
//! ```
//!
//! # Tests
//!
//! The feature `testkit` adds `Builder::rehearse`. It runs the function that an application would start under
//! scripted faults and in virtual time. The engine itself does this, in the same way each time. The module
//! `testkit` is its manual.
//!
//! # Actors
//!
//! [`actor`] holds the messages of a function's supervisor and of its maps, with an example. Every call on a
//! function is such a message. An actor can also subscribe to [`Event`]s.
//!
//! # The end
//!
//! | | accepted inputs | executing inputs | `exit` |
//! |---|---|---|---|
//! | drain, [`App::shutdown_blocking`] | finish | finish | runs |
//! | stop | come back | finish | runs |
//! | abort, the last handle dropped | come back | come back, refused when they return | does not run |
//!
//! A function can also be [paused](Function::pause) and resumed: nothing new is dispatched meanwhile, and all
//! else goes on.
//!
//! Each of these ends in a [`Report`] that says how every container ended. [`AbortHandle`] ends one map or
//! call. With the feature `signal`, `App::shutdown_on_signal` drains at the first Ctrl-C or SIGTERM, and
//! aborts at the second.
//!
//! # Logs, panics and thread names
//!
//! A panic in a container does not reach the application's panic hook, unless [`PanicHook::Forward`] asks for
//! it. It becomes a `tracing` event with the target `longshore`, and so do the other changes of a function:
//!
//! | level | events |
//! |---|---|
//! | `error` | giving up, an exhausted function |
//! | `warn` | crashes, crash loops, poisoned inputs, hung containers, overloads, an end's second signal |
//! | `info` | failures, time-outs, kills, recoveries, pauses, the first signal of an end |
//! | `debug` | changes of a container's state, repeated crashes and time-outs |
//!
//! The number of repeated crashes is logged once a second, or with each delay of a crash loop. A storm of
//! time-outs, passed deadlines or refused calls has a line for the first. Then it has one at `warn` for each
//! second with more of them, and one at its end, when there was none for ten seconds. The field `timeouts`,
//! `deadlines` or `refused` of these later lines counts them since the storm began, and `repeats` counts the
//! time-outs and deadlines since the line before. The field `advice` of a line at `warn` says what to do.
//!
//! The span in which a map or call was begun is the parent of the spans of its executions. A thread is named
//! `app/function/container#generation`.
//!
//! # Traps
//!
//! * A closure that cannot fail is passed to [`App::infallible`]. One whose only exit is `?` or `Ok(…)` needs
//!   its error type spelled out: `Ok::<_, MyError>(…)`.
//! * A function of paths takes `|path: &PathBuf| parse(path)`. With `fn(&Path)` the input type would be
//!   unsized.
//! * Blocking on a function inside one of its own containers would wait for itself, and fails with
//!   [`Cause::WouldDeadlock`]. Awaiting it there is allowed. It waits for ever if no other container can take
//!   the input.
//! * Two functions whose inputs wait for each other's outcomes can occupy all of their containers with such
//!   waits, and then wait for ever without any error. A shutdown ends this: at its limit the inputs come
//!   back, and the waits end.
//! * A client that containers share, such as one `reqwest::Client` in the closure's captures, has its
//!   connections driven by the runtime of the container that opened them. A crash of that container ends
//!   those connections for its neighbours as well. A worker that builds its client in `enter` shares nothing.
//! * `tokio::task::block_in_place` panics in a container, because the container's runtime has one thread. Use
//!   `spawn_blocking`, or a synchronous function.
//! * A blocking client (`reqwest::blocking`, say) has a runtime of its own, which panics if it is dropped
//!   inside another runtime, for example in an async `exit`. Drop it in `spawn_blocking`, or use it in a
//!   synchronous worker.
//! * Memory that does not come from the global allocator (mapped files, the allocations of C code) is charged
//!   to no account, and [`Builder::memory_limit`] does not limit it.
//! * A checkpoint unwinds. Inside the initialisation of a `LazyLock` or a `Once` it poisons that value for
//!   the whole process, and under a `Mutex` of the standard library it poisons the lock. Call it where none
//!   of them is held.
//! * If your function joins a helper thread that has no checkpoints, the container stays in your function
//!   until the helper ends. Give it the [scope](Context::scope) of the container, and let it call
//!   [`Context::checkpoint`].
//! * An async closure is `async |input: &T| …` or an `async fn`. The form `|input| async move { … }` cannot
//!   borrow its input.
//! * Synchronous code without checkpoints keeps its thread when its container is killed. A long loop should
//!   call [`Context::checkpoint`] now and then.
//! * A worker whose `Drop` blocks delays its own restart.
//! * Code that blocks or computes for long holds up all inputs that its container has in flight. Use
//!   `spawn_blocking`, or a function of its own with one input at a time.
//! * An input that has crossed the memory limit beside others, and a suspect of a [`ConcurrentWorker`], waits
//!   until a container is empty, to execute alone. An input that never ends keeps its container from that.
//! * The input of a function cannot contain a handle to that same function, because such a type would contain
//!   itself.
//! * Inputs are moved through stacks by value. Inputs of a megabyte need a [`Builder::stack_size`] of many
//!   megabytes, or a `Box`.
//! * Whatever a crashed attempt changed inside its input (through a lock or an atomic) stays changed for the
//!   replay.
//! * Programs built with `panic = "abort"` are refused at the start.

mod base;
mod memory;
mod contain;
mod values;
mod data;
mod decide;
mod code;
mod engine;
mod api;
#[cfg(test)]
mod simulator;
#[cfg(feature = "testkit")]
pub mod testkit;

/// The version of actix whose addresses, recipients and message trait are in the face of [`actor`].
pub use actix;

pub use api::any_function::AnyFunction;
pub use api::app::App;
pub use api::builder::Builder;
pub use api::call::Call;
pub use api::function::Function;
pub use api::map::{Map, Outcomes};
pub use api::permit::Permit;
#[cfg(feature = "tower")]
pub use api::service::FunctionService;
#[cfg(feature = "signal")]
pub use api::signal_shutdown::SignalShutdown;
pub use api::weak_app::WeakApp;
pub use base::ids::{Attempt, ContainerId, Generation};
pub use code::async_worker::AsyncWorker;
pub use code::batch_worker::BatchWorker;
pub use code::cancellation::Cancelled;
pub use code::concurrent_worker::ConcurrentWorker;
pub use code::context::Context;
pub use code::scope::Scope;
pub use code::worker::Worker;
pub use contain::unwind::PanicHook;
pub use data::chunk::SharedInput;
pub use data::failure::{Bug, Cause, Failure, Returned};
pub use decide::limits::Limits;
pub use decide::restart::{CrashLoopBackoff, CrashRecord, Decision, RateLimited, RestartPolicy};
pub use decide::retries::Retries;
pub use engine::abort::AbortHandle;
pub use engine::actor;
pub use engine::events::{Events, WaitedFor};
pub use engine::progress_handle::ProgressHandle;
pub use memory::accountant::Accountant;
pub use values::crash::{BoxError, Crash, CrashKind, Death, EnterError, Panic, Previous};
#[cfg(feature = "signal")]
pub use values::error::SignalError;
pub use values::error::{ConfigError, NotReady, ReserveError, StartError};
pub use values::event::{ContainerState, Event};
pub use values::gave_up::GaveUp;
pub use values::health::Health;
pub use values::progress::Progress;
pub use values::report::{Fate, FunctionReport, Report};
pub use values::snapshot::{self, FunctionSnapshot, Snapshot};
pub use values::status::{ContainerMemory, Containers, CrashLoopStatus, Memory, OldestExecution, Status};
