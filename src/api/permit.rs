//! [`Permit`]: a place among the calls of a function, reserved before there is an input.

use std::fmt;
use std::sync::Arc;

use crate::api::call::Call;
use crate::contain::outlined::Outlined;
use crate::data::shape::Types;
use crate::decide::limits::Limits;
use crate::engine::dispatch::ReservedPlace;
use crate::engine::running::Running;

/// A place among the calls of a function: see [`Function::reserve`](crate::Function::reserve). A call in it
/// cannot be [overloaded](crate::Cause::Overloaded).
///
/// It counts as a call of [`Builder::calls_max`](crate::Builder::calls_max), keeps the function alive, and
/// gives its place back when it is dropped unused.
///
/// ```
/// use longshore::{App, ReserveError};
///
/// let app = App::ephemeral("docs");
/// let double = app.infallible("double", |n: &u64| 2 * n).calls_max(1).start()?;
/// let permit = double.try_reserve().unwrap();
/// assert!(matches!(double.try_reserve(), Err(ReserveError::Overloaded { calls: 1, max: 1 })));
/// assert!(double.call(1).wait().unwrap_err().is_overloaded());
/// assert_eq!(permit.call(2).wait().unwrap(), 4);
/// # Ok::<(), longshore::StartError>(())
/// ```
#[must_use = "a permit gives its place back when it is dropped"]
pub struct Permit<I, O, E> {
    place: Outlined<ReservedPlace>,
    running: Outlined<Arc<Running>>,
    types: Types<I, O, E>,
}

impl<I, O, E> Permit<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn of(place: ReservedPlace, running: Outlined<Arc<Running>>) -> Self {
        Self { place: Outlined::new(place), running, types: Types::default() }
    }

    /// Begins one execution in this place, as [`Function::call`](crate::Function::call) does. It is refused
    /// only if the function takes no work any more.
    pub fn call(self, input: I) -> Call<I, O, E> {
        self.call_within(input, Limits::new())
    }

    /// The same as [`Permit::call`], with limits of time of its own.
    pub fn call_within(self, input: I, limits: Limits) -> Call<I, O, E> {
        Call::new(self.running, input, Some(self.place.into_inner()), limits)
    }
}

impl<I, O, E> fmt::Debug for Permit<I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("function", &self.running.dispatch.settings.function)
            .finish_non_exhaustive()
    }
}
