//! The primitives that the engine's own protocols are built from, in one place, so that a model checker
//! can put its own under the same code.
//!
//! Beside atomics and a mutex that is a barrier in two halves. Of a store before [`Light`] and a load behind
//! it on one thread, and the same around [`heavy`] on another, at least one load sees the other's store.
//! Where Linux offers its `membarrier`, the light half costs nothing and the heavy one about a microsecond;
//! elsewhere both are full fences.
//!
//! A process may put itself into a sandbox that refuses `membarrier` from then on. Threads that have passed with
//! no more than the compiler's fence until then are still reached on x86-64: a page of the process loses a right,
//! and the system interrupts every core that runs one of the threads, so that none of them uses the right on. On
//! other processors that is not known to be enough: there [`heavy`] says that it has done nothing, and its callers
//! do without, or break the function down. Who looks up its light half after the refusal gets a full fence, and is
//! reached everywhere.

// Tracks and accounts keep a place or an epoch and what belongs to it in one word of 64 bits.
#[cfg(not(target_has_atomic = "64"))]
compile_error!("longshore needs atomic integers of 64 bits, which this target does not have");

use std::sync::atomic::{compiler_fence, fence};

pub(crate) use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};

/// Whether those who look up their light half now may pass without a fence. Written by [`prepare`], and taken back
/// by the first [`heavy`] that the system refuses.
static FOR_ALL: AtomicBool = AtomicBool::new(false);

/// Whether that was ever so. Written by [`prepare`], and never taken back.
static GRANTED: AtomicBool = AtomicBool::new(false);

/// Asks the system for the cheap kind of barrier, if it has not granted it before.
pub(crate) fn prepare() {
    if !GRANTED.load(Ordering::SeqCst) && system::register() {
        GRANTED.store(true, Ordering::SeqCst);
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

    /// The least that any thread passes with, whenever it has looked that up.
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

/// The half for the side that passes seldom, where the other side passes with that light half. `false` if the system
/// refuses what it has granted before, and there is no other way: then nothing is known of what the other side sees.
#[must_use]
pub(crate) fn heavy(light: Light) -> bool {
    fence(Ordering::SeqCst);
    if !light.for_all || system::barrier() {
        return true;
    }
    FOR_ALL.store(false, Ordering::SeqCst);
    system::interrupt()
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

    /// From now on the barrier may be asked for.
    pub(super) fn register() -> bool {
        let granted = membarrier(REGISTER);
        if granted {
            page::prepare(); // while it is still allowed
        }
        granted
    }

    /// A barrier on every thread of the process. `false` if it is refused.
    pub(super) fn barrier() -> bool {
        membarrier(BARRIER)
    }

    /// The same by other means, where there are any.
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

        /// A page of this process, for nothing else.
        struct Page(NonNull<u8>);

        #[expect(unsafe_code, reason = "a page belongs to the process")]
        // SAFETY: it is never unmapped, and used under the lock alone.
        unsafe impl Send for Page {}

        /// Never changed once it is there.
        static PAGE: Mutex<Option<Page>> = Mutex::new(None);

        /// Makes the page, if the cores are interrupted when it loses a right.
        pub(super) fn prepare() {
            let mut page = PAGE.lock();
            if page.is_none() && interrupts() {
                *page = Page::new();
            }
        }

        /// Interrupts every core that runs a thread of this process. `false` if that cannot be had.
        pub(super) fn interrupt() -> bool {
            PAGE.lock().as_ref().is_some_and(Page::interrupt)
        }

        /// Whether the system has to interrupt other cores to have them forget a right. It does not where they can be
        /// told by an instruction (`INVLPGB`), which waits for no store of theirs.
        fn interrupts() -> bool {
            const SIZES: u32 = 0x8000_0008;
            const INVLPGB: u32 = 1 << 3;
            #[expect(unsafe_code, reason = "an instruction without a safe function")]
            #[allow(unused_unsafe, reason = "newer compilers have a safe one")]
            // SAFETY: every processor of this kind has the instruction.
            let (most, sizes) = unsafe { (__cpuid(0x8000_0000).eax, __cpuid(SIZES).ebx) };
            most < SIZES || sizes & INVLPGB == 0
        }

        #[expect(unsafe_code, reason = "system calls without a safe wrapper")]
        impl Page {
            fn new() -> Option<Self> {
                let (rights, kind) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
                // SAFETY: a new mapping, wherever there is room.
                let page = unsafe { mmap(ptr::null_mut(), BYTES, rights, kind, -1, 0) };
                if page == MAP_FAILED {
                    return None;
                }
                // A page that is not in memory when it loses a right interrupts nobody. It is touched a moment before;
                // so it is kept there only as long as that is allowed.
                // SAFETY: the page was just mapped.
                let _refused = unsafe { mlock(page, BYTES) };
                NonNull::new(page.cast()).map(Self)
            }

            fn interrupt(&self) -> bool {
                if !self.allow(PROT_READ | PROT_WRITE) {
                    return false;
                }
                // SAFETY: mapped, writable since a moment ago, and nobody else's while the lock is held.
                unsafe { self.0.write_volatile(1) };
                self.allow(PROT_READ)
            }

            fn allow(&self, rights: c_int) -> bool {
                // SAFETY: the page is mapped, and nobody else has a reference into it.
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

    /// A thread counts on, and looks after each count for an order, with no more than the compiler's fence in between.
    /// This one gives orders, and looks after each, behind `heavy`, how far the count is. How often the thread had
    /// counted on unseen, and had not seen the order either.
    fn misses(orders: u64, heavy: impl Fn()) -> usize {
        let light = Light { for_all: true };
        let (count, order) = (AtomicU64::new(0), AtomicU64::new(0));
        // The order that the thread has seen last, and the count with which it saw it first.
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
    fn of_two_stores_around_the_two_halves_at_least_one_is_seen() {
        prepare();
        assert_eq!(misses(ORDERS, || assert!(super::heavy(Light::of_any()))), 0);
    }

    #[test]
    fn where_the_system_refuses_its_barrier_a_page_of_ours_is_one() {
        prepare();
        if GRANTED.load(Ordering::SeqCst) && system::interrupt() {
            assert_eq!(misses(ORDERS, || assert!(system::interrupt())), 0);
        } else {
            println!("there is no such means here");
        }
    }
}
