//! The primitives that the engine's own protocols are built from. They are in one file, so that a model
//! checker can put its own primitives under the same code.
//!
//! Beside atomics and the mutex of [`lock`](super::lock) there is a barrier in two halves, for two threads
//! that each store to one variable and then load the other's. One thread has [`Light`] between its store and
//! its load, the other has [`heavy`]. At least one of the two loads then sees the other thread's store. Where
//! Linux offers its `membarrier`, the light half costs nothing and the heavy half about a microsecond.
//! Elsewhere both are full fences.
//!
//! A process may enter a sandbox that refuses `membarrier` from then on. Threads that looked up their light
//! half before the refusal pass with a compiler fence only. On x86-64 they can still be reached: a page of
//! the process loses a right, and the system interrupts every core that runs one of the threads, so that none
//! of them goes on using that right. On other processors this is not known to be enough. There [`heavy`]
//! returns `false`, and its callers either do without the barrier or declare the function broken. A thread
//! that looks up its light half after the refusal gets a full fence, and is reached everywhere.

// A cursor keeps a place, and an account keeps an epoch, in one word of 64 bits with the state that belongs
// to it.
#[cfg(not(target_has_atomic = "64"))]
compile_error!("longshore needs atomic integers of 64 bits, which this target does not have");

use std::sync::atomic::compiler_fence;

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

pub(crate) use super::lock::{Condvar, Mutex, MutexGuard};

/// Whether a thread that looks up its light half now may pass without a fence. Set by [`prepare`], and
/// cleared by the first [`heavy`] that the system refuses.
static FOR_ALL: AtomicBool = AtomicBool::new(false);

/// Whether the system has ever granted the cheap barrier. Set by [`prepare`], and never cleared.
static GRANTED: AtomicBool = AtomicBool::new(false);

/// Asks the system for the cheap barrier, unless it has granted it already.
pub(crate) fn prepare() {
    if !GRANTED.load(Ordering::SeqCst) && system::register() {
        GRANTED.store(true, Ordering::SeqCst);
        FOR_ALL.store(true, Ordering::SeqCst);
    }
}

/// The light half of the barrier that a thread uses. A thread that passes often looks it up once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Light {
    for_all: bool,
}

impl Light {
    pub(crate) fn get() -> Self {
        // A stale `false` costs a full fence that was not needed, which does no harm.
        Self { for_all: FOR_ALL.load(Ordering::Relaxed) }
    }

    /// The weakest light half that any thread may have looked up.
    pub(crate) fn of_any() -> Self {
        Self { for_all: GRANTED.load(Ordering::SeqCst) }
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

/// The half for the side that passes rarely, where the other side passes with `light`. Returns `false` if the
/// system refuses the barrier that it granted before and there is no other way to reach the other side.
/// Nothing is then known of what that side sees.
#[must_use]
pub(crate) fn heavy(light: Light) -> bool {
    fence(Ordering::SeqCst);
    if !light.for_all || system::barrier() {
        return true;
    }
    FOR_ALL.store(false, Ordering::SeqCst);
    system::interrupt()
}

// Miri does not know this system call.
#[cfg(all(target_os = "linux", not(miri)))]
mod system {
    use libc::{
        MEMBARRIER_CMD_PRIVATE_EXPEDITED as BARRIER, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as REGISTER,
        SYS_membarrier, c_int, syscall,
    };

    #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
    fn membarrier(command: c_int) -> bool {
        // SAFETY: these commands take no pointer, and no flag or processor is given.
        unsafe { syscall(SYS_membarrier, command, 0, 0) == 0 }
    }

    /// Registers the process for the barrier.
    pub(super) fn register() -> bool {
        let granted = membarrier(REGISTER);
        if granted {
            page::prepare(); // now, because a sandbox may forbid it later
        }
        granted
    }

    /// A barrier on every thread of the process. Returns `false` if the system refuses it.
    pub(super) fn barrier() -> bool {
        membarrier(BARRIER)
    }

    /// The same barrier by other means. Returns `false` where there are none.
    pub(super) fn interrupt() -> bool {
        page::interrupt()
    }

    #[cfg(not(target_arch = "x86_64"))]
    mod page {
        pub(super) fn prepare() {}

        pub(super) fn interrupt() -> bool {
            false
        }
    }

    #[cfg(target_arch = "x86_64")]
    mod page {
        use std::arch::x86_64::__cpuid;
        use std::ptr::{self, NonNull};

        use libc::{
            MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, c_int, mlock, mmap, mprotect,
        };
        use parking_lot::Mutex;

        const BYTES: usize = 4096;

        /// A page of this process that holds no data.
        struct Page(NonNull<u8>);

        #[expect(unsafe_code, reason = "a page belongs to the process")]
        // SAFETY: the page is never unmapped, and it is only used under the lock.
        unsafe impl Send for Page {}

        /// Set once by `prepare`, and never changed after that.
        static PAGE: Mutex<Option<Page>> = Mutex::new(None);

        /// Maps the page, if the system interrupts the cores when the page loses a right.
        pub(super) fn prepare() {
            let mut page = PAGE.lock();
            if page.is_none() && interrupts() {
                *page = Page::new();
            }
        }

        /// Interrupts every core that runs a thread of this process. Returns `false` if that is not possible.
        pub(super) fn interrupt() -> bool {
            PAGE.lock().as_ref().is_some_and(Page::interrupt)
        }

        /// Whether the system must interrupt other cores to make them forget a right. It need not where the
        /// processor has an instruction for it (`INVLPGB`), and that instruction does not wait for the
        /// stores of the other cores.
        fn interrupts() -> bool {
            const SIZES: u32 = 0x8000_0008;
            const INVLPGB: u32 = 1 << 3;
            #[expect(unsafe_code, reason = "an instruction without a safe function")]
            #[allow(unused_unsafe, reason = "newer compilers have a safe one")]
            // SAFETY: every x86-64 processor has the `cpuid` instruction.
            let (most, sizes) = unsafe { (__cpuid(0x8000_0000).eax, __cpuid(SIZES).ebx) };
            most < SIZES || sizes & INVLPGB == 0
        }

        #[expect(unsafe_code, reason = "system calls without a safe wrapper")]
        impl Page {
            fn new() -> Option<Self> {
                let (rights, kind) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
                // SAFETY: the mapping is new, at an address that the system chooses.
                let page = unsafe { mmap(ptr::null_mut(), BYTES, rights, kind, -1, 0) };
                if page == MAP_FAILED {
                    return None;
                }
                // Removing a right from a page that is not in memory interrupts no core. `interrupt` touches
                // the page a moment before it removes the right, so `mlock` only closes a small gap, and it
                // may be refused.
                // SAFETY: the page was just mapped.
                let _refused = unsafe { mlock(page, BYTES) };
                NonNull::new(page.cast()).map(Self)
            }

            fn interrupt(&self) -> bool {
                if !self.allow(PROT_READ | PROT_WRITE) {
                    return false;
                }
                // SAFETY: the page is mapped, it has just become writable, and the lock keeps other
                // threads away from it.
                unsafe { self.0.write_volatile(1) };
                self.allow(PROT_READ)
            }

            fn allow(&self, rights: c_int) -> bool {
                // SAFETY: the page is mapped, and no reference points into it.
                unsafe { mprotect(self.0.as_ptr().cast(), BYTES, rights) == 0 }
            }
        }
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod system {
    pub(super) fn register() -> bool {
        false
    }

    pub(super) fn barrier() -> bool {
        false
    }

    pub(super) fn interrupt() -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use std::thread;

    use super::*;

    const ORDERS: u64 = 2_000;

    /// Counts how often both loads missed the other thread's store. One thread counts on and looks for a new
    /// order after each count, with only a compiler fence in between. The other thread gives orders and calls
    /// `heavy` after each, and then reads the count.
    fn misses(orders: u64, heavy: impl Fn()) -> usize {
        let light = Light { for_all: true };
        let (count, order) = (AtomicU64::new(0), AtomicU64::new(0));
        // The last order that the counting thread has seen, and the count at which it saw that order first.
        let (obeyed, obeyed_at) = (AtomicU64::new(0), AtomicU64::new(0));
        let counts = || {
            let (mut at, mut last) = (0, 0);
            while last < orders {
                at += 1;
                count.store(at, Ordering::Release);
                light.pass();
                let seen = order.load(Ordering::Acquire);
                if seen != last {
                    last = seen;
                    obeyed_at.store(at, Ordering::Relaxed);
                    obeyed.store(seen, Ordering::Release);
                }
            }
        };
        let gives = |number: u64| {
            order.store(number, Ordering::SeqCst);
            heavy();
            let at = count.load(Ordering::Acquire);
            while obeyed.load(Ordering::Acquire) < number {
                thread::yield_now();
            }
            obeyed_at.load(Ordering::Relaxed) > at + 1
        };
        thread::scope(|threads| {
            threads.spawn(counts);
            (1..=orders).filter(|number| gives(*number)).count()
        })
    }

    #[test]
    fn at_least_one_of_two_stores_before_the_halves_is_seen() {
        prepare();
        assert_eq!(misses(ORDERS, || assert!(super::heavy(Light::of_any()))), 0);
    }

    #[test]
    fn a_page_that_loses_a_right_replaces_a_refused_barrier() {
        prepare();
        if GRANTED.load(Ordering::SeqCst) && system::interrupt() {
            assert_eq!(misses(ORDERS, || assert!(system::interrupt())), 0);
        } else {
            println!("the system has no barrier by other means here");
        }
    }
}
