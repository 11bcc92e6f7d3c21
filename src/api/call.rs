//! [`Call`]: one execution of a function, outside any map.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::contain::drops::DeferDrop;
use crate::contain::outlined::Outlined;
use crate::data::failure::{Failure, Reason};
use crate::decide::limits::Limits;
use crate::engine::abort::AbortHandle;
use crate::engine::caller::Caller;
use crate::engine::consumer::outcome_of_call;
use crate::engine::detached_call::detach;
use crate::engine::dispatch::{ReservedPlace, Wait};
use crate::engine::open_call::OpenCall;
use crate::engine::running::Running;

/// One execution that has begun. Await it, or [wait](Call::wait) for it. Dropping it cancels it.
/// [Detached](Call::detach), it goes on.
#[must_use = "dropping a call cancels it"]
pub struct Call<I, O, E> {
    running: Outlined<Arc<Running>>,
    state: CallState<I, E>,
    output: PhantomData<fn() -> O>,
}

/// The fault of a caller that asks for the outcome twice.
const GIVEN: &str = "a call is polled after its outcome was given";

enum CallState<I, E> {
    /// The function accepted it.
    Begun(OpenCall),
    /// The function refused it at once.
    Refused(Box<DeferDrop<Failure<I, E>>>),
    /// The outcome was given to the caller.
    Over,
}

impl<I, O, E> Call<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Begins the call, in the place that was reserved for it if there is one.
    pub(crate) fn new(
        running: Outlined<Arc<Running>>,
        input: I,
        place: Option<ReservedPlace>,
        limits: Limits,
    ) -> Self {
        let state = match OpenCall::begin(&running.dispatch, input, Caller::here(None), place, limits) {
            Ok(call) => CallState::Begun(call),
            Err(failure) => {
                let stack = running.dispatch.settings.stack();
                CallState::Refused(Box::new(DeferDrop::new(failure, stack, true)))
            }
        };
        Self { running, state, output: PhantomData }
    }

    /// A handle that cancels the call from another place.
    pub fn abort_handle(&self) -> AbortHandle {
        if let CallState::Begun(call) = &self.state { call.abort_handle() } else { AbortHandle::new() }
    }

    /// Waits for the outcome.
    ///
    /// # Errors
    ///
    /// The [`Failure`] says why the input has no output, and gives the input back. Inside a container of the
    /// same function, and on the engine's thread, a call whose outcome is not there yet fails with
    /// [`Cause::WouldDeadlock`](crate::Cause::WouldDeadlock).
    pub fn wait(mut self) -> Result<O, Failure<I, E>> {
        match std::mem::replace(&mut self.state, CallState::Over) {
            CallState::Begun(mut call) => {
                let mut polled = call.poll(Wait::Try);
                if matches!(polled, Poll::Pending) {
                    if self.running.would_deadlock() {
                        call.end_as(&Reason::WouldDeadlock);
                    }
                    polled = call.wait();
                }
                outcome_of_call(polled)
            }
            CallState::Refused(failure) => Err(failure.into_inner()),
            CallState::Over => panic!("{GIVEN}"),
        }
    }

    /// Waits for the outcome, for `limit` at most. Returns the call itself if there is no outcome by
    /// then. The call goes on, and can be waited for again. A limit of 0 only looks.
    ///
    /// In async code, `tokio::time::timeout(limit, &mut call)` does the same.
    ///
    /// # Errors
    ///
    /// The call, if the limit has passed. The outcome may be a [`Failure`], as for [`Call::wait`].
    ///
    /// ```
    /// use longshore::App;
    /// use std::time::Duration;
    ///
    /// let app = App::ephemeral("docs");
    /// let (open, gate) = std::sync::mpsc::channel();
    /// let gate = std::sync::Mutex::new(gate);
    /// let f = app.infallible("f", move |n: &u64| gate.lock().unwrap().recv().map(|()| n + 1)).start()?;
    /// let call = f.call(1).wait_timeout(Duration::from_millis(1)).unwrap_err();
    /// open.send(()).unwrap();
    /// assert_eq!(call.wait().unwrap(), Ok(2));
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn wait_timeout(mut self, limit: Duration) -> Result<Result<O, Failure<I, E>>, Self> {
        if let CallState::Begun(call) = &mut self.state {
            let mut polled = call.poll(Wait::Try);
            if matches!(polled, Poll::Pending) {
                if self.running.would_deadlock() {
                    call.end_as(&Reason::WouldDeadlock);
                    polled = call.wait();
                } else {
                    polled = call.wait_for(limit);
                }
            }
            if matches!(polled, Poll::Pending) {
                return Err(self);
            }
            self.state = CallState::Over;
            return Ok(outcome_of_call(polled));
        }
        Ok(self.wait())
    }

    /// Lets the call go on without this handle. Its outcome is dropped. Until then the call keeps the
    /// function alive, counts in the status, and can be ended by an [`abort_handle`](Call::abort_handle).
    ///
    /// # Errors
    ///
    /// The failure of a call that the function had refused, which gives the input back.
    ///
    /// ```
    /// use longshore::App;
    ///
    /// let app = App::ephemeral("docs");
    /// let log = app.infallible("log", |line: &String| println!("{line}")).start()?;
    /// log.call("no one waits for this".to_owned()).detach().unwrap();
    /// log.idle().unwrap();
    /// assert_eq!(log.snapshot().totals.ok, 1);
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn detach(mut self) -> Result<(), Failure<I, E>> {
        match std::mem::replace(&mut self.state, CallState::Over) {
            CallState::Begun(call) => {
                detach(call, Arc::clone(&self.running));
                Ok(())
            }
            CallState::Refused(failure) => Err(failure.into_inner()),
            CallState::Over => Ok(()),
        }
    }
}

/// Awaits the outcome.
///
/// # Cancel safety
///
/// A call that is awaited by reference goes on when that future is dropped. Dropping the call itself cancels
/// it.
///
/// # Panics
///
/// If the call is polled again after it has given its outcome.
impl<I, O, E> Future for Call<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<O, Failure<I, E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = match &mut self.state {
            CallState::Begun(call) => call.poll(Wait::Register(cx.waker())),
            CallState::Refused(_) => Poll::Ready(None),
            CallState::Over => panic!("{GIVEN}"),
        };
        if matches!(polled, Poll::Pending) {
            return Poll::Pending;
        }
        Poll::Ready(match std::mem::replace(&mut self.state, CallState::Over) {
            CallState::Refused(failure) => Err(failure.into_inner()),
            CallState::Begun(_) | CallState::Over => outcome_of_call(polled),
        })
    }
}

impl<I, O, E> Unpin for Call<I, O, E> {}
