//! The shape of a function: what the engine must know about the types of its inputs and outcomes.
//!
//! There is one shape for each `<I, O, E>`, as a constant.

#![expect(unsafe_code, reason = "writes an outcome whose type only the shape knows")]

use std::any::TypeId;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::time::Duration;

use crate::data::chunk::{FailedInput, Reclaimed, SharedInput};
use crate::data::erased::{ErasedValue, TypeInfo};
use crate::data::failure::{Cause, Failure, Reason, Tried};

/// The outcome of an input.
pub(crate) type Outcome<I, O, E> = Result<O, Failure<I, E>>;

/// Names the types of a function in a struct that holds no value of them. It does not affect whether the
/// struct can be sent or shared. It is invariant, because a subtype has another identity.
pub(crate) type Types<I, O, E> = PhantomData<fn(I, O, E) -> (I, O, E)>;

/// The reason why an input fails.
pub(crate) enum Why {
    /// The function returned this error.
    Error(ErasedValue),
    /// The deadline has passed. The error is from the last attempt that has returned one.
    Deadline { limit: Duration, last: Option<ErasedValue> },
    /// Any other reason.
    Reason(Reason),
}

/// The end of an input that has failed.
pub(crate) struct Failing {
    pub(crate) index: u64,
    pub(crate) tried: Tried,
    pub(crate) why: Why,
}

/// The types of a function.
pub(crate) struct Shape {
    pub(crate) input: &'static TypeInfo,
    pub(crate) outcome: &'static TypeInfo,
    /// Whether outputs or errors need to be dropped.
    drops_results: bool,
    /// See [`Shape::fail`].
    fail: unsafe fn(FailedInput, Failing, NonNull<u8>),
    /// See [`Shape::failure`].
    failure: unsafe fn(FailedInput, Failing) -> ErasedValue,
    error: fn() -> TypeId,
}

impl Shape {
    pub(crate) const fn of<I, O, E>() -> &'static Self
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        const {
            &Self {
                input: TypeInfo::of::<I>(),
                outcome: TypeInfo::of::<Outcome<I, O, E>>(),
                drops_results: std::mem::needs_drop::<O>() || std::mem::needs_drop::<E>(),
                fail: fail::<I, O, E>,
                failure: failure::<I, E>,
                error: TypeId::of::<E>,
            }
        }
    }

    /// Whether this is the shape of the given types.
    pub(crate) fn is<I, O, E>(&self) -> bool
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        ptr::eq(self, Self::of::<I, O, E>())
            || self.input.is::<I>()
                && self.outcome.is::<Outcome<I, O, E>>()
                && (self.error)() == TypeId::of::<E>()
    }

    /// Whether dropping inputs and outcomes runs the user's code. (A failure must be dropped in any case.)
    pub(crate) fn runs_drops(&self) -> bool {
        self.input.needs_drop() || self.drops_results
    }

    /// Writes the failure of an input as its outcome.
    ///
    /// # Safety
    ///
    /// `input` is the place of an input of this shape. The input is moved out unless it is shared. `slot` is
    /// the slot of an outcome of this shape, and holds no value.
    pub(crate) unsafe fn fail(&self, input: FailedInput, failing: Failing, slot: NonNull<u8>) {
        // SAFETY: the caller guarantees the input and the slot.
        unsafe { (self.fail)(input, failing, slot) };
    }

    /// The failure of an input that ends its map.
    ///
    /// # Safety
    ///
    /// The same as for the input of [`Shape::fail`].
    pub(crate) unsafe fn failure(&self, input: FailedInput, failing: Failing) -> ErasedValue {
        // SAFETY: the caller guarantees the input.
        unsafe { (self.failure)(input, failing) }
    }
}

/// # Safety
///
/// See [`Shape::fail`].
unsafe fn fail<I, O, E>(input: FailedInput, failing: Failing, slot: NonNull<u8>)
where
    I: Send + Sync + 'static,
    E: Send + 'static,
{
    // SAFETY: the caller guarantees the input and the slot.
    unsafe { slot.cast::<Outcome<I, O, E>>().write(Err(made(input, failing))) };
}

/// # Safety
///
/// See [`Shape::failure`].
unsafe fn failure<I, E>(input: FailedInput, failing: Failing) -> ErasedValue
where
    I: Send + Sync + 'static,
    E: Send + 'static,
{
    // SAFETY: the caller guarantees the input.
    Box::new(unsafe { made::<I, E>(input, failing) })
}

/// # Safety
///
/// See [`Shape::failure`].
unsafe fn made<I, E>(input: FailedInput, Failing { index, tried, why }: Failing) -> Failure<I, E>
where
    I: Send + Sync + 'static,
    E: Send + 'static,
{
    // SAFETY: the caller guarantees that the place holds an `I`.
    let input = unsafe {
        match input {
            FailedInput::Owned(input) => Reclaimed::Owned(input.cast::<I>().read()),
            FailedInput::Shared(inputs, place) => Reclaimed::Shared(SharedInput::new(inputs, place)),
        }
    };
    let typed = |error: ErasedValue| *error.downcast().expect("an error has the type of its function");
    let cause = match why {
        Why::Error(error) => Cause::Failed(typed(error)),
        Why::Deadline { limit, last } => Cause::DeadlineExceeded { limit, last: last.map(typed) },
        Why::Reason(reason) => reason.into(),
    };
    Failure::of_input(index, input, tried, cause)
}
