//! A fan-out that survives its workers.
//!
//! longshore runs a function over many inputs in *containers*: supervised workers, each on a thread
//! of its own. When one panics, the input that was executing is replayed, the container comes back
//! under a restart policy, and nothing that had completed is run again. Every input that was
//! accepted ends in exactly one outcome.
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
//! An [`App`] names a set of functions; a [`Builder`] holds a function's settings; a [`Function`] is
//! the running thing, and its [`Map`], [`Call`], `run`, `run_all` and `for_each` run inputs through it.
//!
//! # Failures
//!
//! A function that returns `Err` has *failed* its input. That is nobody's crash: the container
//! lives on. [`Builder::retries`] runs the input again after a delay, [`Builder::retry_if`] says which
//! errors are worth it, and the last error surfaces with its type untouched.
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
//! A panic, in the function or in a worker's `enter`, ends the container. A crash never spends
//! `retries`: it spends the executing input's own budget, [`Builder::crash_retries`] (3 by default).
//! An input that crashes more often is *poisoned*, and comes back with the cause of each death. The
//! inputs that were assigned beside it and had not begun are merely dispatched elsewhere.
//!
//! ```
//! use longshore::{App, Cause};
//!
//! let app = App::ephemeral("docs");
//! let f = app.infallible("f", |n: &u32| if *n == 13 { panic!("unlucky {n}") } else { *n }).start()?;
//! let outcomes = f.run_all((0..100).collect());
//! let failure = outcomes[13].as_ref().unwrap_err();
//! let Cause::Poisoned(deaths) = failure.cause() else { unreachable!() };
//! assert_eq!((failure.input(), failure.attempts(), deaths.len()), (Some(&13), 4, 4));
//! assert!(deaths[0].to_string().contains("unlucky 13"));
//! assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 99);
//! # Ok::<(), longshore::StartError>(())
//! ```
//!
//! Execution is at least once, outcomes are exactly once. With `crash_retries(0)` what has begun in
//! a container that dies is never begun again: at most once.
//!
//! # Restarts
//!
//! | policy | default of | a crash loop | too many crashes |
//! |---|---|---|---|
//! | [`RateLimited`] | [`App::ephemeral`] | 0, 10 ms, 20 ms … 1 s | gives up: every pending input fails with the crash that broke the limit, and the first ones |
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
//! A [`Worker`] has a state in each container, built by `enter` for each generation and never
//! shared between threads. A plain closure is shared by all containers, and its captures survive
//! restarts, as thread-locals do.
//!
//! # Maps
//!
//! Inputs are pulled lazily and within a *window*, by default some milliseconds' work. Outcomes
//! come in the order of the inputs, or as they complete ([`Map::unordered`]). The first failure ends
//! a map when it happens, unless every outcome is asked for ([`Map::return_exceptions`]) or the
//! failure is to come at its place ([`Map::fail_in_order`]); what had finished beside it can be
//! [salvaged](Outcomes::salvage).
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
//! [`App::function_async`] and [`App::worker_async`] take async functions and [`AsyncWorker`]s. A
//! container is then a thread with a runtime of its own: `tokio`'s timers, sockets and `spawn_local`
//! work inside, futures need not be `Send`, and what a crashed container had spawned dies with it. A
//! future whose map or call is cancelled, or whose container is killed, is dropped at its `await`.
//!
//! Whatever the functions are, [`Map`] is a `Stream` too, [`Call`] a future, and [`Function::map_stream`]
//! takes a stream; `run_async`, `run_all_async`, `for_each_async`, [`App::run`] and [`App::shutdown`] are
//! the async forms of what blocks. They work on any executor.
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
//! # Memory
//!
//! [`Accountant`] is a global allocator over any other. With it, [`Builder::memory_limit`] is a limit for each
//! container: one that uses more is killed, its neighbours are untouched, and its input is replayed under
//! `crash_retries` or comes back with [`Death::MemoryLimit`]. [`Builder::memory_limit`] says what that means
//! for each kind of code. [`Builder::recycle_above`] makes containers anew between inputs whose state has
//! grown. [`Status::memory`] shows what is held, [`Context::memory_left`] what may yet be.
//!
//! What helper threads allocate is charged to the process, unless they are given the container's
//! [scope](Context::scope).
//!
//! # To be seen
//!
//! [`App::snapshot`] and [`Function::snapshot`] give everything that is to be seen, as numbers and text: a [`Health`] in one
//! word, containers, inputs, maps, crashes grouped by kind and place, a crash loop with its next restart, poisoned inputs (with
//! what [`Builder::describe`] says of them), histograms and a log. What is kept for that is bounded, at most 150 KB for a
//! function whatever storm it is in, and nothing is done for each input. [`snapshot`] is its manual. [`Function::events`] is a
//! stream of what happens. With the feature `serde` all of it can be serialized.
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
//! With the feature `testkit` there is `Builder::rehearse`: the function that an application would start is run under
//! scripted faults and in virtual time, by the engine itself, the same each time. The module `testkit` is its manual.
//!
//! # Actors
//!
//! [`actor`] holds the messages of a function's supervisor and of its maps, and an example. Every call
//! is one of them; [`Event`]s can be subscribed to.
//!
//! # The end
//!
//! | | accepted inputs | executing inputs | `exit` |
//! |---|---|---|---|
//! | drain, [`App::shutdown_blocking`] | finish | finish | runs |
//! | stop | come back | finish | runs |
//! | abort, the last handle dropped | come back | come back, refused when they return | does not run |
//!
//! Each ends in a [`Report`] that names what became of every container. [`AbortHandle`] ends one map.
//!
//! # What it is told apart by
//!
//! Panics in containers do not reach the application's panic hook unless asked to
//! ([`PanicHook::Forward`]); they are `tracing` events (target `longshore`): `warn` for crashes, crash loops and
//! poison, `error` for giving up, `info` for failures, kills and recoveries, `debug` for changes of a container. Repeated
//! crashes are `debug` too, and their number is told once a second, or with each delay of a crash loop. The span in which a
//! map or call was begun is the parent of the spans of its executions. Threads are named
//! `app/function/container#generation`.
//!
//! # Traps
//!
//! * A closure that cannot fail is [`App::infallible`]; one whose only exit is `?` or `Ok(…)` needs
//!   its error type spelled: `Ok::<_, MyError>(…)`.
//! * A function of paths takes `|path: &PathBuf| parse(path)`: `fn(&Path)` would make the input
//!   unsized.
//! * Blocking on a function inside one of its own containers would wait for itself; that is
//!   [`Cause::WouldDeadlock`]. Awaiting it there is allowed, and waits for ever if no other container
//!   can take the input.
//! * Two functions whose inputs wait for each other's outcomes can use up all of their containers in it, and then
//!   wait for ever without a word. A shutdown gets out: at its limit the inputs come back, and the waits end.
//! * A client that is shared by containers, such as one `reqwest::Client` in the closure's captures, has its connections
//!   driven by the runtime of the container that opened them. A crash of that container ends them for its neighbours as
//!   well. A worker that builds its client in `enter` shares nothing.
//! * `tokio::task::block_in_place` panics in a container, because its runtime has one thread. Use `spawn_blocking`, or
//!   a synchronous function.
//! * A blocking client (`reqwest::blocking`, say) has a runtime of its own, which must not be dropped inside another: in an
//!   async `exit` it panics. Drop it in `spawn_blocking`, or use it in a synchronous worker.
//! * Memory that is taken past the global allocator (mapped files, what C code allocates for itself) is in no account, and
//!   in no [`Builder::memory_limit`].
//! * A checkpoint unwinds. Inside a `LazyLock` or a `Once` it poisons that for the whole process, and under a
//!   `Mutex` of the standard library it poisons the lock: call it where none of them is held.
//! * A helper thread that is joined without checkpoints of its own keeps its container in the user's code for as long
//!   as it runs: hand it the [scope](Context::scope) of the container, and let it call [`Context::checkpoint`].
//! * An async closure is `async |input: &T| …` or an `async fn`; `|input| async move { … }` cannot
//!   borrow its input.
//! * Synchronous code that cannot be told to stop keeps its thread when its container is killed: a long loop
//!   calls [`Context::checkpoint`] now and then.
//! * A worker whose `Drop` blocks delays its own restart.
//! * The input of a function cannot contain a handle to that same function: such a type has no end.
//! * Inputs pass over stacks by value: those of a megabyte want a [`Builder::stack_size`] of many, or a `Box`.
//! * What a crashed attempt changed inside its input (through a lock or an atomic) stays changed for
//!   the replay.
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

pub use api::any_function::AnyFunction;
pub use api::app::App;
pub use api::builder::Builder;
pub use api::call::Call;
pub use api::function::Function;
pub use api::map::{Map, Outcomes};
pub use base::ids::{Attempt, ContainerId, Generation};
pub use code::async_worker::AsyncWorker;
pub use code::context::Context;
pub use code::scope::Scope;
pub use code::worker::Worker;
pub use contain::unwind::PanicHook;
pub use data::chunk::SharedInput;
pub use data::failure::{Bug, Cause, Failure, Returned};
pub use decide::restart::{CrashLoopBackoff, CrashRecord, Decision, RateLimited, RestartPolicy};
pub use decide::retries::Retries;
pub use engine::abort::AbortHandle;
pub use engine::actor;
pub use engine::events::{Events, WaitedFor};
pub use memory::accountant::Accountant;
pub use values::crash::{BoxError, Crash, CrashKind, Death, EnterError, Panic, Previous};
pub use values::error::{ConfigError, NotReady, StartError};
pub use values::event::{ContainerState, Event};
pub use values::gave_up::GaveUp;
pub use values::health::Health;
pub use values::progress::Progress;
pub use values::report::{Fate, FunctionReport, Report};
pub use values::snapshot::{self, FunctionSnapshot, Snapshot};
pub use values::status::{ContainerMemory, Containers, CrashLoopStatus, Memory, OldestExecution, Status};
