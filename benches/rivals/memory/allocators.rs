//! The global allocator of this bench. Each of its processes has another one.
//!
//! An environment variable chooses the allocator of a child, from its first allocation to its last. Each
//! allocator pays for that choice, which is a load and a jump.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CStr;
use std::sync::atomic::{AtomicU8, Ordering};

use longshore::Accountant;
use mimalloc::MiMalloc;

/// The environment variable that chooses the allocator of a child.
pub(crate) const VARIABLE: &CStr = c"LONGSHORE_BENCH_ALLOCATOR";

/// A global allocator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    System = 1,
    OverSystem,
    MiMalloc,
    OverMiMalloc,
}

impl Kind {
    /// The allocator that the environment names, or an accountant over the system's allocator.
    fn told() -> Self {
        #[expect(unsafe_code, reason = "the standard library's way allocates")]
        // SAFETY: the name ends with a zero byte, and this program never changes its environment.
        let told = unsafe { libc::getenv(VARIABLE.as_ptr()) };
        if told.is_null() {
            return Self::OverSystem;
        }
        #[expect(unsafe_code, reason = "as above")]
        // SAFETY: a pointer that is not null is a string with at least its zero byte.
        match unsafe { *told } as u8 {
            b'1' => Self::System,
            b'3' => Self::MiMalloc,
            b'4' => Self::OverMiMalloc,
            _ => Self::OverSystem,
        }
    }

    fn of_this_process() -> Self {
        static KIND: AtomicU8 = AtomicU8::new(0);
        match KIND.load(Ordering::Relaxed) {
            1 => Self::System,
            2 => Self::OverSystem,
            3 => Self::MiMalloc,
            4 => Self::OverMiMalloc,
            _ => {
                let kind = Self::told();
                KIND.store(kind as u8, Ordering::Relaxed);
                kind
            }
        }
    }
}

const OVER_SYSTEM: Accountant = Accountant::system();
const OVER_MIMALLOC: Accountant<MiMalloc> = Accountant::over(MiMalloc);

/// The allocator that the environment of this process names.
pub(crate) struct Chosen;

#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: the choice is made once, so every block goes back to the allocator that it came from.
unsafe impl GlobalAlloc for Chosen {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe {
            match Kind::of_this_process() {
                Kind::System => System.alloc(layout),
                Kind::OverSystem => OVER_SYSTEM.alloc(layout),
                Kind::MiMalloc => MiMalloc.alloc(layout),
                Kind::OverMiMalloc => OVER_MIMALLOC.alloc(layout),
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe {
            match Kind::of_this_process() {
                Kind::System => System.dealloc(block, layout),
                Kind::OverSystem => OVER_SYSTEM.dealloc(block, layout),
                Kind::MiMalloc => MiMalloc.dealloc(block, layout),
                Kind::OverMiMalloc => OVER_MIMALLOC.dealloc(block, layout),
            }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe {
            match Kind::of_this_process() {
                Kind::System => System.realloc(block, layout, size),
                Kind::OverSystem => OVER_SYSTEM.realloc(block, layout, size),
                Kind::MiMalloc => MiMalloc.realloc(block, layout, size),
                Kind::OverMiMalloc => OVER_MIMALLOC.realloc(block, layout, size),
            }
        }
    }
}
