//! The shape of a function: what the engine has to know of the types of its inputs and outcomes.
//!
//! It is made once for each `<I, O, E>`, as a constant.

#![expect(unsafe_code, reason = "writes an outcome whose type only the shape knows")]

use std::any::TypeId;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use crate::data::chunk::{Place, Reclaimed, SharedInput};
use crate::data::erased::{Kind, Parcel};
use crate::data::failure::{Cause, Failure, Reason, Tried};

/// What an input ends as.
pub(crate) type Outcome<I, O, E> = Result<O, Failure<I, E>>;

/// Names the types of a function where no value of them is held. Whatever holds it can be sent and shared as if it were not
/// there, and stands for exactly these types, because a subtype has another identity.
pub(crate) type Types<I, O, E> = PhantomData<fn(I, O, E) -> (I, O, E)>;

/// Why an input fails.
pub(crate) enum Why {
    /// The function returned that error.
    Error(Parcel),
    /// Anything else.
    Reason(Reason),
}

/// How an input ended that has failed.
pub(crate) struct Failing {
    pub(crate) index: u64,
    pub(crate) tried: Tried,
    pub(crate) why: Why,
}

/// The types of a function.
pub(crate) struct Shape {
    pub(crate) input: &'static Kind,
    pub(crate) outcome: &'static Kind,
    /// Whether outputs or errors are to be dropped.
    drops_results: bool,
    /// See [`Shape::fail`].
    fail: unsafe fn(Place, Failing, NonNull<u8>),
    /// See [`Shape::failure`].
    failure: unsafe fn(Place, Failing) -> Parcel,
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
                input: Kind::of::<I>(),
                outcome: Kind::of::<Outcome<I, O, E>>(),
                drops_results: std::mem::needs_drop::<O>() || std::mem::needs_drop::<E>(),
                fail: fail::<I, O, E>,
                failure: failure::<I, E>,
                error: TypeId::of::<E>,
            }
        }
    }

    /// Whether it is the shape of those types.
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

    /// Whether dropping inputs and outcomes runs code of the user's. (A failure is to be dropped in any case.)
    pub(crate) fn runs_drops(&self) -> bool {
        self.input.needs_drop() || self.drops_results
    }

    /// Writes the failure of an input as its outcome.
    ///
    /// # Safety
    ///
    /// The place holds an input of this shape, which is moved out by this unless it is shared, and the slot is the one of an
    /// outcome of this shape, without a value.
    pub(crate) unsafe fn fail(&self, input: Place, failing: Failing, slot: NonNull<u8>) {
        // SAFETY: by the caller's word.
        unsafe { (self.fail)(input, failing, slot) };
    }

    /// The failure of an input that ends its map.
    ///
    /// # Safety
    ///
    /// As for the input of [`Shape::fail`].
    pub(crate) unsafe fn failure(&self, input: Place, failing: Failing) -> Parcel {
        // SAFETY: by the caller's word.
        unsafe { (self.failure)(input, failing) }
    }
}

/// # Safety
///
/// See [`Shape::fail`].
unsafe fn fail<I, O, E>(input: Place, failing: Failing, slot: NonNull<u8>)
where
    I: Send + Sync + 'static,
    E: Send + 'static,
{
    // SAFETY: by the caller's word.
    unsafe { slot.cast::<Outcome<I, O, E>>().write(Err(made(input, failing))) };
}

/// # Safety
///
/// See [`Shape::failure`].
unsafe fn failure<I, E>(input: Place, failing: Failing) -> Parcel
where
    I: Send + Sync + 'static,
    E: Send + 'static,
{
    // SAFETY: by the caller's word.
    Box::new(unsafe { made::<I, E>(input, failing) })
}

/// # Safety
///
/// See [`Shape::failure`].
unsafe fn made<I, E>(input: Place, Failing { index, tried, why }: Failing) -> Failure<I, E>
where
    I: Send + Sync + 'static,
    E: Send + 'static,
{
    // SAFETY: by the caller's word it holds an `I`.
    let input = unsafe {
        match input {
            Place::Owned(input) => Reclaimed::Owned(input.cast::<I>().read()),
            Place::Shared(inputs, place) => Reclaimed::Shared(SharedInput::new(inputs, place)),
        }
    };
    let cause = match why {
        Why::Error(error) => Cause::Failed(*error.downcast().expect("an error is of its function's type")),
        Why::Reason(reason) => reason.into(),
    };
    Failure::of_input(index, input, tried, cause)
}
