//! The rehearsal of a function: its settings, the script, and the run.

use std::future::poll_fn;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix::{Actor, System, SystemRunner};
use tokio::runtime::Runtime;
use tokio::time::sleep;

use crate::api::builder::Builder;
use crate::api::function::Function;
use crate::base::ids::ContainerId;
use crate::contain::drops::set_one_thread_for_all;
use crate::contain::unwind::{contain_drop, set_thread_hook};
use crate::data::failure::Failure;
use crate::decide::window::Window;
use crate::engine::actor::Ending;
use crate::engine::dispatch::Dispatch;
use crate::engine::messages::Request;
use crate::engine::running::Running;
use crate::engine::settings::Settings;
use crate::engine::supervisor::UntypedSupervisor;
use crate::engine::system::{Engine, STACK_BYTES};
use crate::testkit::host::Theatre;
use crate::testkit::record::Record;
use crate::testkit::script::{At, EnterFault, Entering, Fault, Script};
use crate::testkit::stage::{Rehearsed, Stage};
use crate::values::error::StartError;

/// How many containers a rehearsed function has unless its builder sets a number.
pub const CONTAINERS: usize = 4;

/// How long a scene may take, in virtual time, unless [`Rehearsal::for_at_most`] sets another limit.
const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the scene of an aborted function, and the drain after a scene, may take in virtual time.
const GRACE: Duration = Duration::from_secs(60);

/// A function that is to run under scripted faults in virtual time. It is made by [`Builder::rehearse`], and
/// does nothing before [`run`](Self::run) or [`play`](Self::play).
///
/// A fault names an input by its index. It applies to the input with this index in every map and call; the
/// input of a call has index 0. A fault names an attempt by its number, which counts from 1. If several
/// faults apply to one execution, the fault that was added first happens. If none applies, the function's own
/// code runs.
///
/// ```
/// use longshore::testkit::{Entered, ExecutionEnd};
/// use longshore::{App, CrashLoopBackoff};
/// use std::time::Duration;
///
/// let seconds = Duration::from_secs;
/// let app = App::deployed("docs");
/// let (outcomes, record) = app
///     .infallible("serve", |n: &u64| n + 1)
///     .containers(1)
///     .restart(CrashLoopBackoff::new().initial(seconds(1)).max(seconds(8)))
///     .rehearse()
///     .takes(Duration::from_millis(500))
///     .down(seconds(2)..seconds(5)) // the dependency
///     .run(0..10)?;
///
/// assert!(outcomes.iter().all(Result::is_ok), "{record}");
/// assert_eq!(record.restarts(), record.crashes().count());
/// assert!(record.starts().iter().any(|start| start.entered == Some((start.at, Entered::Failed))));
/// // Four inputs were completed before; the fifth was executing, and no other was touched.
/// assert_eq!(record.executions()[4].ending, ExecutionEnd::Panicked);
/// assert_eq!((0..10).filter(|input| record.attempts(*input) > 1).collect::<Vec<_>>(), [4]);
/// # Ok::<(), longshore::StartError>(())
/// ```
#[must_use = "a rehearsal does nothing before it is run"]
pub struct Rehearsal<I, O, E> {
    builder: Builder<I, O, E>,
    script: Script<I, E>,
    limit: Duration,
}

impl<I, O, E> Builder<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Rehearses the function instead of starting it: it runs under scripted faults, in virtual time. See
    /// [`testkit`](crate::testkit).
    pub fn rehearse(self) -> Rehearsal<I, O, E> {
        Rehearsal::new(self)
    }
}

impl<I, O, E> Rehearsal<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(builder: Builder<I, O, E>) -> Self {
        Self { builder, script: Script::default(), limit: LIMIT }
    }

    fn written(mut self, write: impl FnOnce(&mut Script<I, E>)) -> Self {
        write(&mut self.script);
        self
    }

    /// The given attempt of the given input panics.
    pub fn panics(self, input: u64, attempt: u32) -> Self {
        self.fault_when(move |at| (at.index == input && at.attempt == attempt).then_some(Fault::Panic))
    }

    /// Every attempt of the given input panics.
    pub fn always_panics(self, input: u64) -> Self {
        self.fault_when(move |at| (at.index == input).then_some(Fault::Panic))
    }

    /// The given attempt of the given input returns the error that `error` makes.
    pub fn fails(self, input: u64, attempt: u32, error: impl Fn() -> E + Send + 'static) -> Self {
        self.fault_when(move |at| (at.index == input && at.attempt == attempt).then(|| Fault::Fail(error())))
    }

    /// The given attempt of the given input never returns.
    pub fn hangs(self, input: u64, attempt: u32) -> Self {
        self.fault_when(move |at| (at.index == input && at.attempt == attempt).then_some(Fault::Hang))
    }

    /// In the given attempt of the given input, the container is found to be over its memory limit, and
    /// crashes as if at a checkpoint. A function without a memory limit counts as having a limit of 0 bytes.
    pub fn exceeds_memory(self, input: u64, attempt: u32) -> Self {
        self.fault_when(move |at| (at.index == input && at.attempt == attempt).then_some(Fault::ExceedMemory))
    }

    /// The container that returns `Ok` for the given input dies before it begins another, as if killed by
    /// hand.
    pub fn dies_after(self, input: u64) -> Self {
        self.written(|script| script.dies_after(input))
    }

    /// The first `times` `enter`s of the function return an error, counted over all containers.
    pub fn enter_fails(self, times: u64) -> Self {
        self.enter_fault_when(move |at| (at.nth <= times).then_some(EnterFault::Fail))
    }

    /// A dependency is down during a range of virtual time. Every `enter` that begins in the range returns an
    /// error, and every execution that begins in it panics.
    pub fn down(self, during: Range<Duration>) -> Self {
        self.written(|script| script.is_down(during))
    }

    /// The executions that begin in the range of virtual time return the error that `error` makes.
    pub fn fails_during(self, during: Range<Duration>, error: impl Fn() -> E + Send + 'static) -> Self {
        self.fault_when(move |at| during.contains(&at.now).then(|| Fault::Fail(error())))
    }

    /// Adds any other fault. `decides` is asked about every execution to which no fault that was named before
    /// applies.
    pub fn fault_when(
        self,
        decides: impl for<'a> FnMut(&At<'a, I>) -> Option<Fault<E>> + Send + 'static,
    ) -> Self {
        self.written(|script| script.fault_when(decides))
    }

    /// Adds any other fault of an `enter`. `decides` is asked about every `enter` to which no fault that was
    /// named before applies.
    pub fn enter_fault_when(
        self,
        decides: impl FnMut(&Entering) -> Option<EnterFault> + Send + 'static,
    ) -> Self {
        self.written(|script| script.enter_fault_when(decides))
    }

    /// Every execution takes `time` of virtual time before its code or its fault. It applies to executions
    /// for which no duration was named before. An execution without any named duration takes no time of its
    /// own.
    pub fn takes(self, time: Duration) -> Self {
        self.takes_when(move |_| Some(time))
    }

    /// Adds a rule for how long executions take, as [`takes`](Self::takes) does. `decides` is asked about
    /// every execution for which no duration was named before.
    pub fn takes_when(
        self,
        decides: impl for<'a> FnMut(&At<'a, I>) -> Option<Duration> + Send + 'static,
    ) -> Self {
        self.written(|script| script.takes_when(decides))
    }

    /// Every `enter` takes `time` of virtual time before its code or its fault.
    pub fn enter_takes(self, time: Duration) -> Self {
        self.written(|script| script.enter_takes = time)
    }

    /// Kills a container by hand when `at` of virtual time has passed since the start. If the container is
    /// not alive then, this has no effect.
    pub fn kills(self, at: Duration, container: ContainerId) -> Self {
        self.written(|script| script.kills.push((at, container)))
    }

    /// Sets how much virtual time the scene may take. The default is 24 h. The time that the scene
    /// [sleeps](Stage::sleep) does not count, so a scene of many days needs no other limit. After the limit
    /// the function is aborted, so that code that would go on for ever ends. A scene that takes no virtual
    /// time never reaches the limit: for example, an endless map of a function whose executions
    /// [take](Self::takes) no time.
    pub fn for_at_most(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Collects all inputs, runs them through one map, and returns the outcome of each in input order, with
    /// the record. As with [`Function::run_all`], a last failure without an index says why a map ended early.
    ///
    /// # Errors
    ///
    /// See [`Rehearsal::play`].
    ///
    /// # Panics
    ///
    /// See [`Rehearsal::play`].
    pub fn run<S>(self, inputs: S) -> Result<(AllOutcomes<I, O, E>, Record), StartError>
    where
        S: IntoIterator<Item = I>,
    {
        let inputs: Vec<I> = inputs.into_iter().collect();
        self.play(async move |stage| {
            let mut outcomes = Vec::new();
            let mut map = stage.function().map(inputs).return_exceptions();
            while let Some(outcome) = crate::api::function::next(&mut map).await {
                outcomes.push(outcome);
            }
            outcomes
        })
    }

    /// Plays a scene: an async closure that uses the function in virtual time. The function is drained after
    /// it. Returns the result of the scene, and the record.
    ///
    /// It can be called inside or outside a runtime. It blocks until the scene has ended, and plays the scene
    /// on a thread of its own.
    ///
    /// ```
    /// use longshore::{App, ContainerId};
    /// use std::time::Duration;
    ///
    /// let app = App::ephemeral("docs");
    /// let (waited, record) = app
    ///     .infallible("answer", |question: &&str| question.len())
    ///     .containers(1)
    ///     .rehearse()
    ///     .takes(Duration::from_secs(2))
    ///     .play(async |stage| {
    ///         let asked = stage.function().call("how long?");
    ///         stage.sleep(Duration::from_millis(500)).await;
    ///         assert!(stage.kill(ContainerId::new(0)).await, "it was alive, in the middle of the call");
    ///         assert_eq!(asked.await.unwrap(), 9);
    ///         stage.now()
    ///     })?;
    ///
    /// assert_eq!(waited, Duration::from_millis(2500), "{record}");
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A [`StartError`] if a setting is out of its range, the program is built with `panic = "abort"`, the
    /// caller is a panicking thread, or no thread can be made.
    ///
    /// # Panics
    ///
    /// * If the scene or the script panics.
    /// * If the scene goes on for more than a minute of virtual time after [`Rehearsal::for_at_most`] has
    ///   aborted the function. The scene's own sleep does not count.
    /// * If no runtime can be made.
    pub fn play<T, S>(mut self, scene: S) -> Result<(T, Record), StartError>
    where
        S: AsyncFnOnce(&Stage<I, O, E>) -> T + Send,
        T: Send,
    {
        self.builder.containers_or(CONTAINERS);
        let (settings, window, code) = self.builder.validate()?;
        let rehearsed = Arc::new(Rehearsed::new(code, self.script));
        let limit = self.limit;
        let name = format!("{}/{}/rehearsal", settings.app, settings.function);
        // Actors, containers and the scene share the stack.
        let stack = settings.stack_bytes.max(STACK_BYTES);
        let thread = std::thread::Builder::new().name(name).stack_size(stack);
        std::thread::scope(|scope| {
            let play = move || {
                set_thread_hook(settings.panic_hook);
                let runner = Runner::new();
                runner.system.block_on(played(settings, window, rehearsed, scene, limit))
            };
            let played = thread.spawn_scoped(scope, play).map_err(StartError::Thread)?;
            Ok(played.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }
}

/// The outcome of each input, in input order.
type AllOutcomes<I, O, E> = Vec<Result<O, Failure<I, E>>>;

/// An actix system whose time moves only when no task can run.
struct Runner {
    system: ManuallyDrop<SystemRunner>,
    runtime: Option<Arc<Runtime>>,
}

impl Runner {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = Arc::new(runtime.expect("a runtime needs only file handles, and one is free"));
        let system = System::with_tokio_rt(|| Arc::clone(&runtime));
        Self { system: ManuallyDrop::new(system), runtime: Some(runtime) }
    }
}

impl Drop for Runner {
    #[expect(unsafe_code, reason = "the system is dropped inside its runtime, before the runtime is")]
    fn drop(&mut self) {
        let runtime = self.runtime.take().expect("only drop takes the runtime");
        {
            // The futures that hang are dropped inside the runtime, because they may need its timers and
            // sockets.
            let _inside = runtime.enter();
            // SAFETY: the system is not used after this.
            contain_drop(|| unsafe { ManuallyDrop::drop(&mut self.system) });
        }
        // The shutdown does not wait for threads that block.
        Arc::into_inner(runtime).into_iter().for_each(Runtime::shutdown_background);
    }
}

/// The result of a scene, or `None` if it takes longer than `limit`, without its own sleep.
async fn within<I, O, E, T>(
    limit: Duration,
    stage: &Stage<I, O, E>,
    playing: impl Future<Output = T>,
) -> Option<T>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    let mut playing = pin!(playing);
    let mut late = pin!(stage.takes_longer_than(limit));
    poll_fn(|cx| match playing.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => late.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Starts the rehearsed function, in the actix system and the virtual time of the calling thread.
fn running<I, O, E>(
    settings: Settings,
    default_window: Window,
    rehearsed: Arc<Rehearsed<I, O, E>>,
) -> Arc<Running>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    set_one_thread_for_all();
    let engine = Arc::new(Engine::of_this_thread());
    let dispatch = Arc::new(Dispatch::new(settings, Arc::new(Theatre::from_now(rehearsed))));
    let supervisor = UntypedSupervisor::new(Arc::clone(&dispatch), default_window).start();
    Running::supervised(dispatch, supervisor, default_window, None, engine)
}

/// Plays the scene and drains the function, in the runtime of the rehearsal.
async fn played<I, O, E, T, S>(
    settings: Settings,
    window: Window,
    rehearsed: Arc<Rehearsed<I, O, E>>,
    scene: S,
    limit: Duration,
) -> (T, Record)
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
    S: AsyncFnOnce(&Stage<I, O, E>) -> T,
{
    let running = running(settings, window, Arc::clone(&rehearsed));
    let function = Function::of(running).expect("the function has these types");
    let stage = Stage::new(function, rehearsed.log.clone());
    for (at, container) in rehearsed.kills() {
        let running = Arc::downgrade(&stage.function().running);
        actix::spawn(async move {
            sleep(at).await;
            if let Some(running) = running.upgrade() {
                running.request(Request::Kill(container, None));
            }
        });
    }
    let mut playing = pin!(scene(&stage));
    let (result, timed_out) = match within(limit, &stage, playing.as_mut()).await {
        Some(result) => (result, false),
        None => {
            stage.function().abort();
            let result = within(GRACE, &stage, playing).await.unwrap_or_else(|| {
                panic!(
                    "the scene goes on for {GRACE:?} after the {limit:?} that it may take (`Rehearsal::for_at_most`):\n{}",
                    stage.timeline()
                )
            });
            (result, true)
        }
    };
    let (elapsed, status) = (stage.now(), stage.function().status());
    let report = stage.ends(Ending::Drain, GRACE).await;
    if let Some(panic) = rehearsed.take_panic() {
        panic!("the script {panic}");
    }
    let written = rehearsed.log.close(stage.now());
    (result, Record { written, elapsed, timed_out, status, report })
}
