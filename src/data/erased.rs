//! Values of a type that only the code that makes them and the code that reads them know.
//!
//! The engine is compiled once, and not for each function. It handles inputs and outcomes as bytes with a
//! [`TypeInfo`], which knows how large a value is and how it is dropped. Typed code is needed only where a
//! value is made, read or moved out. It checks the type there, once for many values.

#![expect(unsafe_code, reason = "the type of a value is known by its kind only")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::any::{Any, TypeId};
use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull};

use crate::contain::unwind::contain_drop;

/// A single value of any type.
pub(crate) type ErasedValue = Box<dyn Any + Send>;

/// A type whose values the engine handles.
#[derive(Debug)]
pub(crate) struct TypeInfo {
    layout: Layout,
    /// Drops a value in place. `None` if there is nothing to drop.
    drop: Option<unsafe fn(NonNull<u8>)>,
    /// The identity of the type. A function, because an identity is not available in a constant.
    id: fn() -> TypeId,
}

impl TypeInfo {
    pub(crate) const fn of<T: 'static>() -> &'static Self {
        const {
            &Self {
                layout: Layout::new::<T>(),
                drop: if mem::needs_drop::<T>() { Some(drop_in_place::<T>) } else { None },
                id: TypeId::of::<T>,
            }
        }
    }

    /// The size of a value, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.layout.size()
    }

    pub(crate) fn is<T: 'static>(&self) -> bool {
        (self.id)() == TypeId::of::<T>()
    }

    /// Whether both kinds have the same type. Their addresses may differ even then.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        ptr::eq(self, other) || (self.id)() == (other.id)()
    }

    pub(crate) fn needs_drop(&self) -> bool {
        self.drop.is_some()
    }

    /// Drops a value in place. A panic in its `Drop` ends here.
    ///
    /// # Safety
    ///
    /// The value is initialised and of this kind, and this thread is the last to use it.
    pub(crate) unsafe fn drop_contained(&self, value: NonNull<u8>) {
        if let Some(drop) = self.drop {
            // SAFETY: the caller guarantees what `drop_in_place` needs.
            contain_drop(|| unsafe { drop(value) });
        }
    }
}

/// # Safety
///
/// See [`TypeInfo::drop_contained`].
unsafe fn drop_in_place<T>(value: NonNull<u8>) {
    // SAFETY: the caller guarantees an initialised `T` that is not used afterwards.
    unsafe { ptr::drop_in_place(value.cast::<T>().as_ptr()) };
}

/// Memory for values of one kind. A buffer does not know which of its places hold a value, and drops none.
pub(crate) struct Buffer {
    start: NonNull<u8>,
    places: usize,
    kind: &'static TypeInfo,
}

// SAFETY: a buffer is plain memory. Only unsafe code writes and reads its values, and its callers
// guarantee what that needs.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// A buffer whose places hold no values.
    pub(crate) fn new(kind: &'static TypeInfo, places: usize) -> Self {
        let layout = layout_of(kind, places);
        if layout.size() == 0 {
            // No byte is read at this address, so it only needs to be aligned.
            let start = NonNull::new(ptr::without_provenance_mut(kind.layout.align()));
            return Self { start: start.expect("an alignment is not 0"), places, kind };
        }
        // SAFETY: the size is not 0.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        Self { start, places, kind }
    }

    /// Takes over the memory and the values of a vector.
    fn of<T: 'static>(values: Vec<T>) -> Self {
        let places = values.len();
        let start = NonNull::from(Box::leak(values.into_boxed_slice())).cast();
        Self { start, places, kind: TypeInfo::of::<T>() }
    }

    /// Turns the memory and the values into a vector.
    ///
    /// # Safety
    ///
    /// All places hold values of type `T`.
    pub(crate) unsafe fn into_vec<T: 'static>(self) -> Vec<T> {
        debug_assert!(self.kind.is::<T>(), "the values are of another type");
        let this = ManuallyDrop::new(self);
        // SAFETY: the caller guarantees values of type `T` in all places. The layout is that of a boxed
        // slice, which is also the layout of a vector without spare capacity.
        unsafe { Vec::from_raw_parts(this.start.cast::<T>().as_ptr(), this.places, this.places) }
    }

    pub(crate) fn kind(&self) -> &'static TypeInfo {
        self.kind
    }

    pub(crate) fn places(&self) -> usize {
        self.places
    }

    /// The address of the value at `place`. The place after the last one is allowed, but holds no value.
    #[inline]
    pub(crate) fn at(&self, place: usize) -> NonNull<u8> {
        assert!(place <= self.places, "a place is in its buffer");
        // SAFETY: the address is within the allocation or at its end.
        unsafe { self.start.add(place * self.kind.layout.size()) }
    }

    /// Moves `values` values from another buffer, beginning at its place `first`, to place `to` of this one.
    ///
    /// # Safety
    ///
    /// Both buffers are of one kind and have those places. The source places are initialised, the target
    /// places are not, and no other thread uses either.
    pub(crate) unsafe fn move_in(&mut self, to: usize, from: &Self, first: usize, values: usize) {
        debug_assert!(self.kind.is_same(from.kind) && first + values <= from.places);
        assert!(to + values <= self.places, "a place is in its buffer");
        let bytes = values * self.kind.layout.size();
        // SAFETY: the caller guarantees the places, and two buffers do not overlap.
        unsafe { from.at(first).copy_to_nonoverlapping(self.at(to), bytes) };
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let layout = layout_of(self.kind, self.places);
        if layout.size() > 0 {
            // SAFETY: the memory was allocated with that layout, by `new` or as a boxed slice.
            unsafe { dealloc(self.start.as_ptr(), layout) };
        }
    }
}

fn layout_of(kind: &TypeInfo, places: usize) -> Layout {
    let size = kind.layout.size().checked_mul(places);
    let layout = size.and_then(|size| Layout::from_size_align(size, kind.layout.align()).ok());
    layout.expect("the values fit into the address space")
}

/// A vector of values of one kind.
pub(crate) struct Values(Buffer);

impl Values {
    pub(crate) fn of<T: Send + Sync + 'static>(values: Vec<T>) -> Self {
        Self(Buffer::of(values))
    }

    /// The values that were moved into a buffer.
    ///
    /// # Safety
    ///
    /// All places of the buffer hold values, which may be sent to other threads and shared by them.
    pub(crate) unsafe fn of_buffer(buffer: Buffer) -> Self {
        Self(buffer)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.places
    }

    pub(crate) fn kind(&self) -> &'static TypeInfo {
        self.0.kind
    }

    pub(crate) fn into_buffer(self) -> Buffer {
        let this = ManuallyDrop::new(self);
        // SAFETY: the buffer is moved out once, because `this` is not dropped.
        unsafe { ptr::read(&raw const this.0) }
    }

    /// # Panics
    ///
    /// If the values are of another type.
    pub(crate) fn into_vec<T: 'static>(self) -> Vec<T> {
        assert!(self.kind().is::<T>(), "the values are of another type");
        // SAFETY: all places hold values, and their type was just checked.
        unsafe { self.into_buffer().into_vec() }
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        if self.0.kind.needs_drop() {
            for place in 0..self.0.places {
                // SAFETY: all places hold values, and no other code has access to them.
                unsafe { self.0.kind.drop_contained(self.0.at(place)) };
            }
        }
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn values_come_back_as_they_were() {
        assert_eq!(Values::of(vec!["a".to_owned(), "b".to_owned()]).into_vec::<String>(), ["a", "b"]);
        assert_eq!(Values::of(vec![(); 3]).into_vec::<()>(), [(); 3]);
        assert_eq!(Values::of(Vec::<u64>::new()).into_vec::<u64>(), [0; 0]);
    }

    #[test]
    fn each_value_is_dropped_once_with_and_without_a_size() {
        let witness = Arc::new(());
        drop(Values::of(vec![Arc::clone(&witness); 5]));
        assert_eq!(Arc::strong_count(&witness), 1);

        static DROPPED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        struct Sizeless;
        impl Drop for Sizeless {
            fn drop(&mut self) {
                DROPPED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        drop(Values::of(vec![Sizeless, Sizeless]));
        assert_eq!(DROPPED.load(std::sync::atomic::Ordering::Relaxed), 2);
    }

    #[test]
    fn a_value_that_panics_in_its_drop_does_not_keep_the_others_from_being_dropped() {
        struct Bomb(Option<Arc<()>>);
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(self.0.is_some(), "the bomb explodes");
            }
        }
        let witness = Arc::new(());
        drop(Values::of(vec![Bomb(None), Bomb(Some(Arc::clone(&witness)))]));
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[test]
    fn values_are_moved_from_buffer_to_buffer() {
        let source = Values::of(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]).into_buffer();
        let mut target = Buffer::new(source.kind(), 3);
        // SAFETY: each place is moved once, and no other code has the buffers.
        let moved = unsafe {
            target.move_in(0, &source, 1, 2);
            target.move_in(2, &source, 0, 1);
            Values::of_buffer(target)
        };
        assert_eq!(moved.into_vec::<String>(), ["b", "c", "a"]);
    }

    #[test]
    fn memory_is_aligned_for_its_values() {
        #[repr(align(64))]
        #[derive(Debug, PartialEq, Clone, Copy)]
        struct Wide(u8);
        let source = Values::of(vec![Wide(1), Wide(2)]).into_buffer();
        let mut target = Buffer::new(source.kind(), 2);
        assert_eq!(target.at(0).as_ptr() as usize % 64, 0);
        // SAFETY: each place is moved once, and no other code has the buffers.
        let moved = unsafe {
            target.move_in(0, &source, 0, 2);
            Values::of_buffer(target)
        };
        assert_eq!(moved.into_vec::<Wide>(), [Wide(1), Wide(2)]);
    }

    #[test]
    #[should_panic(expected = "of another type")]
    fn another_type_is_refused() {
        drop(Values::of(vec![1_u32]).into_vec::<i32>());
    }
}
