//! The messages of calls: to execute one input, and to reserve a place for that.

use std::marker::PhantomData;

use actix::Message;

use crate::contain::drops::{DeferDrop, Stack};
use crate::data::failure::Failure;
use crate::decide::limits::Limits;
use crate::engine::caller::Caller;
use crate::engine::place::Place;
use crate::values::error::ReserveError;

/// Anyone → supervisor: execute one input, ahead of the inputs of all maps. The reply is the outcome. Once
/// the supervisor has read the call, it runs to its end, even if its sender no longer awaits the reply.
pub struct CallInput<I, O, E> {
    pub(crate) input: DeferDrop<I>,
    pub(crate) caller: Caller,
    pub(in crate::engine) limits: Limits,
    pub(in crate::engine) place: Option<Place>,
    outcome: PhantomData<fn() -> (O, E)>,
}

impl<I: Send + 'static, O, E> CallInput<I, O, E> {
    /// A call with this input.
    pub fn new(input: I) -> Self {
        let holds_values = std::mem::needs_drop::<I>();
        let input = DeferDrop::new(input, Stack::of_any(), holds_values);
        Self { input, caller: Caller::here(None), limits: Limits::new(), place: None, outcome: PhantomData }
    }

    /// A call with limits of time of its own: see [`Function::call_within`](crate::Function::call_within).
    #[must_use]
    pub fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// A call in a place that was reserved for it: see [`Reserve`]. It is refused only if the function
    /// takes no work any more, or if its [limits](Self::within) are outside their range. A place of another
    /// function goes back there, and the call takes a free place.
    #[must_use]
    pub fn in_place(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }
}

impl<I: std::fmt::Debug, O, E> std::fmt::Debug for CallInput<I, O, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallInput").field("input", self.input.get()).finish()
    }
}

impl<I, O, E> Message for CallInput<I, O, E>
where
    I: 'static,
    O: 'static,
    E: 'static,
{
    type Result = Result<O, Failure<I, E>>;
}

/// Anyone → supervisor: wait for room among the calls of the function, and reserve a place for one, as
/// [`Function::reserve`](crate::Function::reserve) does. The reply is the [`Place`], or a [`ReserveError`] if
/// the function takes no work any more.
///
/// Those who wait are served in the order in which the supervisor has read their messages, together with
/// those who wait for a [`Permit`](crate::Permit). A sender that stops awaiting the reply gives up its turn,
/// and a place that it was granted goes to the next one. With `do_send` nothing is reserved.
///
/// ```
/// use longshore::App;
/// use longshore::actor::{CallInput, Reserve, TryReserve};
///
/// # actix::System::new().block_on(async {
/// let app = App::ephemeral("docs");
/// let double = app.infallible("double", |n: &u64| 2 * n).calls_max(1).start()?;
/// let place = double.supervisor().send(Reserve).await.unwrap().unwrap();
/// assert!(double.supervisor().send(TryReserve).await.unwrap().is_err(), "there is one place");
/// let call = CallInput::new(21).in_place(place);
/// assert_eq!(double.supervisor().send(call).await.unwrap().unwrap(), 42);
/// # Ok::<(), longshore::StartError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Message)]
#[rtype(result = "Result<Place, ReserveError>")]
pub struct Reserve;

/// Anyone → supervisor: reserve a place for a call if there is room now, as
/// [`Function::try_reserve`](crate::Function::try_reserve) does. The reply is the [`Place`], or a
/// [`ReserveError`]. Those who wait for room go first.
#[derive(Debug, Message)]
#[rtype(result = "Result<Place, ReserveError>")]
pub struct TryReserve;
