//! Many inputs at once in one async container.
//!
//! The container's task polls a future for each lane that has a lease. One future is polled at a time, so
//! that the input is known whose code panics or does not return. Around each poll the lane's own [`Context`]
//! and [`Token`] are installed, and its memory is charged to its own attempt.
//!
//! A lane keeps the box of its future, its waker and its context, and the next lease reuses them. A waker
//! makes its own lane [ready](crate::base::ready), and no other.
//!
//! The task is the root future of the container's runtime. It gives way after [`TURN`], and not after a
//! number of polls, so that timers and sockets are looked at in time beside futures that are always ready.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use tokio::task::coop;
use tokio::time::Sleep;

use crate::base::ids::LaneId;
use crate::base::ready::{LaneWaker, ReadyGroup, ReadyLanes};
use crate::code::context::Context;
use crate::code::token::{self, Token, at_no_checkpoint, outside, unwind_to_boundary};
use crate::contain::unwind::{contain, contain_drop};
use crate::data::run::Run;
use crate::decide::life::Served;
use crate::decide::time::Time;
use crate::engine::body::{Errors, GenerationEnv, LeasedRun};
use crate::engine::dispatch::WorkSeeker;
use crate::memory::account::Epoch;
use crate::memory::attempts::OpenAttempt;
use crate::memory::local_charge::ChargeGuard;
use crate::values::crash::{Death, Panic};

/// The time for which the task polls lanes before it gives way to timers, sockets and spawned tasks.
const TURN: Duration = Duration::from_micros(200);

/// The number of polls after which the task looks at the clock.
const POLLS: u32 = 8;

/// The result of executing a lease: the run, and the number of bytes that its attempts have left.
pub(crate) type Driven = (Arc<Run>, i64);

/// Executes inputs in the lanes of a container until its generation is over. `drive` executes one lease.
///
/// # Errors
///
/// A panic that ends the whole container, because the lanes share a state, or because the container is
/// over its limit without the lane that has panicked.
pub(crate) async fn serve_lanes<'a, F>(
    env: &'a GenerationEnv<'a>,
    drive: impl Fn(LeasedRun<'a>) -> F,
) -> Result<Served, Panic>
where
    F: Future<Output = Driven>,
{
    let death = |panic, attempt| match env.token.over_limit_death().filter(|_| env.token.has_crossed(attempt))
    {
        Some(_) if !env.token.is_below_limit_again() => Err(panic),
        overdraft => Ok(overdraft.unwrap_or(Death::Panicked(panic))),
    };
    serve_lanes_that_die(env, drive, death).await
}

/// The same, where `death` says of what a lane has died, from the panic and the account of its attempt. It
/// returns the panic if the whole container dies.
pub(crate) async fn serve_lanes_that_die<'a, F>(
    env: &'a GenerationEnv<'a>,
    drive: impl Fn(LeasedRun<'a>) -> F,
    death: impl Fn(Panic, Option<OpenAttempt>) -> Result<Death, Panic>,
) -> Result<Served, Panic>
where
    F: Future<Output = Driven>,
{
    let mut lanes = Lanes::new(env, drive, death);
    poll_fn(|cx| lanes.poll(cx)).await
}

/// A lane of the container: the parts that it keeps from one lease to the next.
struct LaneSlot<F> {
    waker: Waker,
    /// The context and the token of the lane's code. While the lane is polled, the container's are kept here
    /// instead.
    surroundings: Surroundings,
    /// The future of its lease, if it has one.
    future: Pin<Box<Option<F>>>,
}

/// All lanes of a container, and the task that polls them.
struct Lanes<'a, D, F, J> {
    env: &'a GenerationEnv<'a>,
    drive: D,
    death: J,
    slots: Vec<LaneSlot<F>>,
    /// The lanes that have no lease. The lane that was used last is taken first.
    free: Vec<u32>,
    ready: Arc<ReadyLanes>,
    /// The ready lanes that this turn has taken and not polled yet.
    taken: Option<ReadyGroup>,
    /// The lane that is being polled. It stays set if the poll unwinds.
    polled: Option<u32>,
    /// The lanes that have come back, and that the engine does not know of yet.
    back: Vec<(LaneId, Time)>,
    /// The runs of these lanes. They are dropped once the engine knows, because the last holder of a run may
    /// drop users' inputs, which must not happen under the lock.
    over: Vec<Arc<Run>>,
    seeker: WorkSeeker<'a>,
    timer: Pin<Box<Option<Sleep>>>,
    /// Whether the container exits as soon as it is empty, because it retains too many bytes.
    recycles: bool,
}

/// The result of a look for new work.
enum Sought {
    /// A lane has a lease, and is polled for the first time.
    Begun(u32),
    /// The look has changed the state, so that another one may find work.
    Again,
    /// There is nothing to begin for now.
    Nothing,
    Over(Served),
}

impl<'a, D, F, J> Lanes<'a, D, F, J>
where
    D: Fn(LeasedRun<'a>) -> F,
    F: Future<Output = Driven>,
    J: Fn(Panic, Option<OpenAttempt>) -> Result<Death, Panic>,
{
    fn new(env: &'a GenerationEnv<'a>, drive: D, death: J) -> Self {
        let ready = Arc::new(ReadyLanes::new(env.dispatch.settings.rules.lanes as usize));
        Self {
            env,
            drive,
            death,
            slots: Vec::new(),
            free: Vec::new(),
            seeker: WorkSeeker::new(env.dispatch, env.container, env.generation).driven_by(&ready),
            ready,
            taken: None,
            polled: None,
            back: Vec::new(),
            over: Vec::new(),
            timer: Box::pin(None),
            recycles: false,
        }
    }

    /// Polls lanes and begins leases, until there is nothing to do or the turn is over.
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Served, Panic>> {
        outside(|| self.ready.awakes(cx.waker()));
        let mut turn = Turn { ends: self.env.dispatch.now() + TURN, polls: 0 };
        loop {
            // One boundary for all polls of the turn. The lane that was being polled is known.
            match contain(|| self.turn(cx, &mut turn)) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(served)) => return Poll::Ready(Ok(served)),
                Err(panic) => {
                    if let Some(end) = self.unwound(panic) {
                        return Poll::Ready(end);
                    }
                }
            }
        }
    }

    fn turn(&mut self, cx: &mut TaskContext<'_>, turn: &mut Turn) -> Poll<Served> {
        loop {
            // New work and ready lanes take turns, so that an endless stream of either does not hold up the
            // other.
            let begun = match outside(|| self.seek(cx)) {
                Sought::Begun(lane) => Some(lane),
                Sought::Nothing => None,
                Sought::Again => continue,
                Sought::Over(served) => return Poll::Ready(served),
            };
            if let Some(lane) = begun {
                self.poll_lane(lane);
            }
            if self.taken.is_none() {
                self.taken = self.ready.take();
            }
            let polled_none = begun.is_none() && self.taken.is_none();
            while let Some(lane) = self.taken.as_mut().and_then(Iterator::next) {
                self.poll_lane(lane as u32);
                if self.is_turn_over(turn) {
                    return self.gives_way(cx);
                }
            }
            self.taken = None;
            if polled_none && self.ready.sleeps() {
                return Poll::Pending;
            }
            if self.is_turn_over(turn) {
                return self.gives_way(cx);
            }
        }
    }

    /// Whether the task should let others run. The tasks of tokio have a budget, which all futures of this
    /// task share. Without it, tokio's own futures wait although they are ready.
    fn is_turn_over(&self, turn: &mut Turn) -> bool {
        turn.polls += 1;
        turn.polls.is_multiple_of(POLLS)
            && (self.env.dispatch.now() >= turn.ends || !coop::has_budget_remaining())
    }

    fn gives_way(&mut self, cx: &TaskContext<'_>) -> Poll<Served> {
        outside(|| {
            self.return_all();
            cx.waker().wake_by_ref();
        });
        Poll::Pending
    }

    /// Begins a lease in a free lane, if there is one and there is work.
    fn seek(&mut self, cx: &mut TaskContext<'_>) -> Sought {
        let GenerationEnv { dispatch, container, generation, .. } = *self.env;
        let is_full = self.free.is_empty() && self.slots.len() == dispatch.settings.rules.lanes as usize;
        if self.recycles || is_full {
            self.seeker.stops();
            self.return_all();
            if self.recycles && self.free.len() == self.slots.len() {
                self.recycles = false;
                if dispatch.recycle(container, generation) {
                    return Sought::Over(Served::Recycles);
                }
                return Sought::Again;
            }
            return Sought::Nothing;
        }
        let lane = self.free.last().copied().unwrap_or_else(|| self.add_lane());
        let id = LaneId::new(container, lane);
        let sought = self.seeker.poll(cx, id, &mut self.back, self.timer.as_mut());
        if self.back.is_empty() {
            self.over.clear();
        }
        match sought {
            Poll::Pending => Sought::Nothing,
            Poll::Ready(Err(served)) => Sought::Over(served),
            Poll::Ready(Ok(work)) => {
                self.free.pop();
                let slot = &mut self.slots[lane as usize];
                let Surroundings { context: Some(context), token: Some(token) } = &mut slot.surroundings
                else {
                    unreachable!("a lane that is not polled has its own surroundings")
                };
                if context.is_kept(1) {
                    // User code has kept the context of an earlier input, and it must not change under it.
                    *context = self.env.context.of_lane(token);
                }
                work.run.keep_waker(&slot.waker); // a fence wakes this lane
                let task = self.env.begin_in(context, token, work);
                slot.future.set(Some((self.drive)(task)));
                Sought::Begun(lane)
            }
        }
    }

    /// Adds a free lane. Its token is registered before its first lease, so that the token learns if the
    /// job of that lease ends.
    fn add_lane(&mut self) -> u32 {
        let lane = self.slots.len() as u32;
        let id = LaneId::new(self.env.container, lane);
        let token = Arc::new(self.env.token.of_lane());
        // If the generation is over, the next poll for work says so.
        self.env.dispatch.register_lane(id, self.env.generation, &token);
        self.slots.push(LaneSlot {
            waker: LaneWaker::of(&self.ready, id.index()),
            surroundings: Surroundings {
                context: Some(self.env.context.of_lane(&token)),
                token: Some(token),
            },
            future: Box::pin(None),
        });
        self.free.push(lane);
        lane
    }

    /// Polls the future of a lane. A wake-up may have come after its lease had ended.
    fn poll_lane(&mut self, lane: u32) {
        let slot = &mut self.slots[lane as usize];
        let Some(future) = slot.future.as_mut().as_pin_mut() else { return };
        self.polled = Some(lane);
        slot.surroundings.swap();
        let polled = future.poll(&mut TaskContext::from_waker(&slot.waker));
        slot.surroundings.swap();
        self.polled = None;
        if let Poll::Ready((run, left)) = polled {
            self.slots[lane as usize].future.set(None);
            self.comes_back(lane, Some(&run));
            self.recycles |= outside(|| self.env.retains_too_much(&run, left));
            self.over.push(run);
        }
    }

    /// Lanes have come back, and none looks for work now.
    fn return_all(&mut self) {
        self.seeker.returned_all(&mut self.back);
        self.over.clear();
    }

    /// A lane has no lease any more. `run` is the one that it had, unless its code has unwound.
    fn comes_back(&mut self, lane: u32, run: Option<&Run>) {
        outside(|| {
            let (id, now) = (LaneId::new(self.env.container, lane), self.env.dispatch.now());
            self.free.push(lane);
            self.seeker.came_back(id, run, now, &mut self.back);
        });
    }

    /// A lane has unwound. Returns the end of serving, if that is one.
    fn unwound(&mut self, panic: Panic) -> Option<Result<Served, Panic>> {
        let Some(lane) = self.polled.take() else { return Some(Err(panic)) };
        let slot = &mut self.slots[lane as usize];
        at_no_checkpoint(|| contain_drop(|| slot.future.set(None)));
        slot.surroundings.swap();
        let is_interrupted = slot.surroundings.token.as_ref().is_some_and(|token| token.is_interrupted());
        if is_interrupted {
            self.comes_back(lane, None); // the map or call of its input has ended, so this is no crash
            return None;
        }
        // An input that has completed may prove the container.
        outside(|| {
            self.seeker.returned_all(&mut self.back);
            self.over.clear();
        });
        self.env.token.blame(lane);
        if self.env.dispatch.settings.rules.has_state {
            return Some(Err(panic)); // the other lanes lose their state
        }
        let attempt = slot.surroundings.context.as_ref().and_then(Context::open_attempt);
        let death = match (self.death)(panic, attempt) {
            Ok(death) => death,
            Err(panic) => return Some(Err(panic)),
        };
        let id = LaneId::new(self.env.container, lane);
        if self.env.dispatch.crashed_in_lane(id, self.env.generation, death).is_none() {
            return Some(Ok(Served::Stale));
        }
        self.env.token.forget_culprit();
        self.comes_back(lane, None); // the container has outlived the crash, so it looks for work again
        None
    }
}

/// The futures are dropped one by one, each inside the unwind boundary, because two panics in one drop would
/// end the process.
impl<D, F, J> Drop for Lanes<'_, D, F, J> {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            at_no_checkpoint(|| contain_drop(|| slot.future.set(None)));
        }
    }
}

/// A turn of the task: the polls of lanes between two looks at timers and sockets.
struct Turn {
    /// The moment at which the task gives way.
    ends: Time,
    /// The number of polls so far.
    polls: u32,
}

/// The context and the token of code, which are installed on the thread while the code runs.
struct Surroundings {
    context: Option<Context>,
    token: Option<Arc<Token>>,
}

impl Surroundings {
    /// Exchanges these with those that are installed on this thread.
    fn swap(&mut self) {
        self.context = Context::replace_current(self.context.take());
        self.token = token::set_current(self.token.take());
    }
}

impl<'a> LeasedRun<'a> {
    /// Executes the inputs of the run in a lane.
    #[expect(clippy::manual_async_fn, reason = "an async function keeps its arguments twice, in each lane")]
    pub(super) fn drive_in_lane<I, O, E, C>(
        self,
        errors: &'a Errors<E>,
        call: &'a C,
    ) -> impl Future<Output = Driven>
    where
        C: AsyncFn(&I, &Context) -> Result<O, E>,
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        async move {
            let mut left = 0;
            let Some(mut active) = self.run.begin::<I, O, E>() else { return (Arc::clone(&self.run), left) };
            // Most inputs have no span.
            let span = outside(|| self.span().map(Box::new));
            loop {
                self.token.is_at_a_checkpoint(); // each return of a poll is a checkpoint
                self.context.begin_input(active.index());
                let attempt = LaneAttempt::begin(&self.token);
                self.context.set_open_attempt(attempt.open);
                let mut future = pin!(None);
                let result = poll_fn(|cx| {
                    if !self.run.resume() {
                        return Poll::Ready(None);
                    }
                    let _in_span = span.as_ref().map(|span| span.enter());
                    let polled = {
                        let _inside = attempt.enter();
                        if future.is_none() {
                            future.set(Some(call(active.input(), &self.context)));
                        }
                        future.as_mut().as_pin_mut().expect("it was just made").poll(cx)
                    };
                    if let Poll::Ready(result) = polled {
                        return Poll::Ready(Some(result));
                    }
                    if self.token.has_crossed(attempt.open) {
                        return Poll::Ready(None);
                    }
                    if self.run.suspend() { Poll::Pending } else { Poll::Ready(None) }
                })
                .await;
                // The future is dropped before the end of the scope, so that a panic in its drop is
                // contained.
                at_no_checkpoint(|| {
                    let _inside = attempt.enter();
                    contain_drop(|| future.set(None));
                });
                if self.token.has_crossed(attempt.open) {
                    result.into_iter().for_each(|answer| self.too_late(answer));
                    unwind_to_boundary();
                }
                let used = attempt.end();
                left += used.map_or(0, |used| used.left);
                let goes_on = result
                    .is_some_and(|result| self.returned(&mut active, result, used, span.as_deref(), errors));
                if !goes_on {
                    return (Arc::clone(&self.run), left);
                }
            }
        }
    }
}

/// An attempt at one of several inputs in flight. It ends when this is dropped.
struct LaneAttempt<'a> {
    token: &'a Token,
    /// Its account, if attempts are charged one by one.
    open: Option<OpenAttempt>,
}

impl<'a> LaneAttempt<'a> {
    fn begin(token: &'a Token) -> Self {
        Self { token, open: token.open_attempt() }
    }

    /// Charges the attempt for what this thread allocates, until the returned value is dropped.
    fn enter(&self) -> Option<ChargeGuard> {
        Some(self.token.account()?.enter_attempt(self.open?))
    }

    /// Ends the attempt. Returns its figures.
    fn end(mut self) -> Option<Epoch> {
        self.token.end_open_attempt(self.open.take()?)
    }
}

impl Drop for LaneAttempt<'_> {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            self.token.end_open_attempt(open);
        }
    }
}
