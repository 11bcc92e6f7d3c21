//! [`FunctionService`]: a function as a [`tower`](https://docs.rs/tower) service.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use crate::api::call::Call;
use crate::api::function::Function;
use crate::api::permit::Permit;
use crate::data::failure::Failure;
use crate::engine::dispatch::Reserving;

/// A function as a `tower` service, from [`Function::service`]. It needs the feature `tower`.
///
/// It is ready when there is room for one more call: then it holds a [`Permit`], and a request cannot be
/// overloaded. A clone holds none, and becomes ready by itself. A request that is called without being
/// ready may fail with [`Cause::Overloaded`](crate::Cause::Overloaded). Dropping the future of a request
/// cancels it.
///
/// A function that has given up or ended is ready too, and refuses each request with its input: it may be
/// reset, and a service that is not ready for good would be thrown away.
///
/// ```
/// use longshore::App;
/// use std::future::poll_fn;
/// use tower_service::Service;
///
/// # futures::executor::block_on(async {
/// let app = App::ephemeral("docs");
/// let double = app.infallible("double", |n: &u64| 2 * n).calls_max(8).start()?;
/// let mut service = double.service();
/// poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
/// assert_eq!(service.call(21).await.unwrap(), 42);
/// # Ok::<(), longshore::StartError>(())
/// # }).unwrap();
/// ```
pub struct FunctionService<I, O, E> {
    function: Function<I, O, E>,
    readiness: Ready<I, O, E>,
}

/// How far the service is from being ready.
enum Ready<I, O, E> {
    Not,
    /// It waits for room.
    Waits(Pin<Box<Reserving>>),
    /// It has a place for one request.
    Holds(Permit<I, O, E>),
}

impl<I, O, E> FunctionService<I, O, E> {
    pub(super) fn of(function: Function<I, O, E>) -> Self {
        Self { function, readiness: Ready::Not }
    }

    /// The function.
    #[must_use]
    pub fn function(&self) -> &Function<I, O, E> {
        &self.function
    }
}

impl<I, O, E> Clone for FunctionService<I, O, E> {
    fn clone(&self) -> Self {
        Self::of(self.function.clone())
    }
}

impl<I, O, E> Service<I> for FunctionService<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Response = O;
    type Error = Failure<I, E>;
    type Future = Call<I, O, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let running = &self.function.running;
        if matches!(self.readiness, Ready::Not) {
            self.readiness = Ready::Waits(Box::pin(Reserving::new(&running.dispatch)));
        }
        if let Ready::Waits(reserving) = &mut self.readiness {
            self.readiness = match ready!(reserving.as_mut().poll(cx)) {
                Ok(place) => Ready::Holds(Permit::of(place, running.clone())),
                Err(_) => Ready::Not, // the function refuses the request itself, and gives it back
            };
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, input: I) -> Call<I, O, E> {
        match std::mem::replace(&mut self.readiness, Ready::Not) {
            Ready::Holds(permit) => permit.call(input),
            Ready::Not | Ready::Waits(_) => self.function.call(input),
        }
    }
}

impl<I, O, E> fmt::Debug for FunctionService<I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_ready = matches!(self.readiness, Ready::Holds(_));
        f.debug_struct("FunctionService")
            .field("function", &self.function)
            .field("holds_a_permit", &is_ready)
            .finish()
    }
}
