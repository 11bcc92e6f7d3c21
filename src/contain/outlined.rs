//! Drops of the engine's own values that are compiled once.
//!
//! Where a value with the user's types holds one of the engine's values, its drop is compiled in the
//! user's crate, together with the drop of everything that the engine's value holds. [`Outlined`] turns
//! that drop into a call.

#![expect(unsafe_code, reason = "a drop that the compiler does not write")]

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// A value whose drop is compiled in this crate.
pub(crate) struct Outlined<T: Outline>(ManuallyDrop<T>);

/// A type whose drop is compiled in this crate. Only
/// [`outline!`](crate::contain::outlined::outline) implements it.
pub(crate) trait Outline: Sized {
    /// # Safety
    ///
    /// The value must not be used afterwards.
    unsafe fn drop_outlined(value: &mut ManuallyDrop<Self>);
}

/// Has the drop of a type compiled once, in this crate.
macro_rules! outline {
    ($type:ty) => {
        impl crate::contain::outlined::Outline for $type {
            #[inline(never)]
            #[expect(unsafe_code, reason = "a drop that the compiler does not write")]
            unsafe fn drop_outlined(value: &mut std::mem::ManuallyDrop<Self>) {
                // SAFETY: the caller guarantees that the value is not used afterwards.
                unsafe { std::mem::ManuallyDrop::drop(value) };
            }
        }
    };
}
pub(crate) use outline;

impl<T: Outline> Outlined<T> {
    #[inline]
    pub(crate) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    pub(crate) fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped, so the value is moved out once.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T: Outline> Drop for Outlined<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the value is dropped here and nowhere else.
        unsafe { T::drop_outlined(&mut self.0) };
    }
}

impl<T: Outline> Deref for Outlined<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Outline> DerefMut for Outlined<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Outline + Clone> Clone for Outlined<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Outline + fmt::Debug> fmt::Debug for Outlined<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    outline!(Arc<()>);

    #[test]
    fn the_value_is_dropped_once_or_given_back() {
        let witness = Arc::new(());
        let outlined = Outlined::new(Arc::clone(&witness));
        assert_eq!(Arc::strong_count(&outlined), 2);
        let again = outlined.clone();
        drop(outlined);
        assert_eq!(Arc::strong_count(&witness), 2);
        let given_back = again.into_inner();
        assert_eq!(Arc::strong_count(&witness), 2);
        drop(given_back);
        assert_eq!(Arc::strong_count(&witness), 1);
    }
}
