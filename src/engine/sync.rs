//! The primitives that the engine's own protocols are built from, in one place, so that a model checker
//! can put its own under the same code.
//!
//! Beside atomics and a mutex that is a barrier in two halves. Of a store before [`Light`] and a load behind
//! it on one thread, and the same around [`heavy`] on another, at least one load sees the other's store.
//! Where Linux offers its `membarrier`, the light half costs nothing and the heavy one about a microsecond;
//! elsewhere both are full fences.

use std::sync::atomic::{compiler_fence, fence};

pub(crate) use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};

/// Whether [`heavy`] is a barrier for all threads of the process. Never taken back.
static FOR_ALL: AtomicBool = AtomicBool::new(false);

/// Asks the system for the cheap kind of barrier, if that was not done before.
pub(crate) fn prepare() {
    if !FOR_ALL.load(Ordering::Relaxed) && system::register() {
        FOR_ALL.store(true, Ordering::SeqCst);
    }
}

/// Which light half there is, looked up once by whoever passes often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Light {
    for_all: bool,
}

impl Light {
    pub(crate) fn get() -> Self {
        // A full fence too many, where a thread has not heard of the system's barrier, does no harm.
        Self { for_all: FOR_ALL.load(Ordering::Relaxed) }
    }

    /// The half for the side that passes often.
    #[inline]
    pub(crate) fn pass(self) {
        if self.for_all {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }
}

/// The half for the side that passes seldom.
pub(crate) fn heavy() {
    fence(Ordering::SeqCst);
    // Where a thread has passed with no more than the compiler's fence, this is seen to be set.
    if FOR_ALL.load(Ordering::SeqCst) {
        system::barrier();
    }
}

// An interpreter that looks for undefined behaviour knows no such call.
#[cfg(all(target_os = "linux", not(miri)))]
mod system {
    use libc::{
        MEMBARRIER_CMD_PRIVATE_EXPEDITED as BARRIER, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as REGISTER,
        SYS_membarrier, c_int, syscall,
    };

    #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
    fn membarrier(command: c_int) -> bool {
        // SAFETY: these commands take no pointer; flags and processor are none.
        unsafe { syscall(SYS_membarrier, command, 0, 0) == 0 }
    }

    pub(super) fn register() -> bool {
        membarrier(REGISTER)
    }

    /// # Panics
    ///
    /// If the system takes back what it has granted. Going on would publish outcomes twice.
    pub(super) fn barrier() {
        assert!(membarrier(BARRIER), "the system refuses a barrier that it has granted before");
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod system {
    pub(super) fn register() -> bool {
        false
    }

    pub(super) fn barrier() {}
}
