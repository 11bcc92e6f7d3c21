//! Calls: single executions of a function, and the places for them.

use crate::api::call::Call;
use crate::api::function::Function;
use crate::api::permit::Permit;
#[cfg(feature = "tower")]
use crate::api::service::FunctionService;
use crate::decide::limits::Limits;
use crate::engine::dispatch::Reserving;
use crate::engine::wait::wait;
use crate::values::error::ReserveError;

impl<I, O, E> Function<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Begins one execution, which goes ahead of all maps. [`Call::wait`] gives its outcome. Dropping the
    /// call cancels it.
    ///
    /// If as many calls are without an outcome as [`Builder::calls_max`](crate::Builder::calls_max)
    /// allows, the call fails at once with [`Cause::Overloaded`](crate::Cause::Overloaded), and gives its
    /// input back.
    pub fn call(&self, input: I) -> Call<I, O, E> {
        self.call_within(input, Limits::new())
    }

    /// The same as [`Function::call`], with limits of time of its own in place of the function's.
    ///
    /// ```
    /// use longshore::{App, Limits};
    /// use std::time::Duration;
    ///
    /// let app = App::ephemeral("docs");
    /// let sleep = app
    ///     .function_async("sleep", async |ms: &u64| {
    ///         tokio::time::sleep(Duration::from_millis(*ms)).await;
    ///         Ok::<_, std::convert::Infallible>(())
    ///     })
    ///     .start()?;
    /// let limits = Limits::new().timeout(Duration::from_millis(20));
    /// assert!(sleep.call_within(1, limits).wait().is_ok());
    /// assert!(sleep.call_within(60_000, limits).wait().unwrap_err().is_timed_out());
    /// # Ok::<(), longshore::StartError>(())
    /// ```
    pub fn call_within(&self, input: I, limits: Limits) -> Call<I, O, E> {
        Call::new(self.running.clone(), input, None, limits)
    }

    /// Waits for room among the calls of the function, and reserves a place for one. Those who wait are
    /// served in the order in which they began to.
    ///
    /// A server that reserves before it reads a request accepts no more than it can work on.
    ///
    /// # Errors
    ///
    /// A [`ReserveError`] if the function has given up, is shut down, or its engine is broken.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the turn. A place that it was granted goes to the next one.
    ///
    /// ```
    /// use longshore::App;
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let app = App::ephemeral("docs");
    /// let double = app.infallible("double", |n: &u64| 2 * n).calls_max(8).start()?;
    /// for n in 0..100 {
    ///     let permit = double.reserve().await.unwrap();
    ///     permit.call(n).detach().unwrap();
    /// }
    /// double.idle_async().await.unwrap();
    /// assert_eq!(double.snapshot().totals.ok, 100);
    /// # Ok::<(), longshore::StartError>(())
    /// # }).unwrap();
    /// ```
    pub async fn reserve(&self) -> Result<Permit<I, O, E>, ReserveError> {
        let place = Reserving::new(&self.running.dispatch).await?;
        Ok(Permit::of(place, self.running.clone()))
    }

    /// [`Function::reserve`] for a thread, which blocks.
    ///
    /// # Errors
    ///
    /// The same as for [`Function::reserve`], and [`ReserveError::WouldDeadlock`] if the caller is a
    /// container of the function or the engine's thread.
    pub fn reserve_blocking(&self) -> Result<Permit<I, O, E>, ReserveError> {
        if self.would_deadlock() {
            return Err(ReserveError::WouldDeadlock);
        }
        wait(self.reserve())
    }

    /// Reserves a place for a call if there is room now. Those who wait for room go first.
    ///
    /// # Errors
    ///
    /// [`ReserveError::Overloaded`] if there is no room, and otherwise the same as for
    /// [`Function::reserve`].
    pub fn try_reserve(&self) -> Result<Permit<I, O, E>, ReserveError> {
        let place = self.running.dispatch.try_reserve()?;
        Ok(Permit::of(place, self.running.clone()))
    }

    /// The function as a tower service, which is ready while there is room for one more call. It needs
    /// the feature `tower`.
    #[cfg(feature = "tower")]
    #[must_use]
    pub fn service(&self) -> FunctionService<I, O, E> {
        FunctionService::of(self.clone())
    }
}
