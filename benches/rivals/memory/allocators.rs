//! The global allocator of this bench, which is another one in each of its processes.
//!
//! A child is told by its environment which one it is to have, and has it from its first allocation to its
//! last. Every one of them pays for the choice, which is a load and a jump.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CStr;
use std::sync::atomic::{AtomicU8, Ordering};

use longshore::Accountant;
use mimalloc::MiMalloc;

/// What a child is told.
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
    /// What the environment says; an accountant over the system's, if nothing.
    fn told() -> Self {
        #[expect(unsafe_code, reason = "the standard library's way allocates")]
        // SAFETY: the name ends with its zero, and nobody changes the environment of this program.
        let told = unsafe { libc::getenv(VARIABLE.as_ptr()) };
        if told.is_null() {
            return Self::OverSystem;
        }
        #[expect(unsafe_code, reason = "as above")]
        // SAFETY: what is not null is a string of at least its zero.
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

/// The one that this process was told to have.
pub(crate) struct Chosen;

#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: every block comes from one allocator, and goes back to it: the choice is made once.
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
