//! The global allocator that knows the owner of every block.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

use crate::memory::local_charge::{self, Mark};

/// The bytes that are added to each block.
const MARK_BYTES: usize = size_of::<Mark>();

/// A global allocator over another one. It charges every block to the container whose code allocated it, and
/// credits that container when the block is freed, on whichever thread that happens.
/// [`Builder::memory_limit`] needs it.
///
/// ```
/// use longshore::Accountant;
///
/// #[global_allocator]
/// static ALLOCATOR: Accountant = Accountant::system(); // or `Accountant::over(mimalloc::MiMalloc)`
/// # fn main() {}
/// ```
///
/// Eight bytes behind each block name its owner. The allocator below may round them up to 16 bytes, or to
/// none. A reallocation counts as an allocation and a free: a container that grows another container's block
/// is charged for all of it.
///
/// The accountant sees only the allocations that go through the global allocator. It does not see stacks,
/// mapped files and the allocations of C code.
///
/// The accountant itself never locks, allocates or unwinds. Where a limit is crossed, it still hands out the
/// block, and wakes another thread to kill the container.
///
/// [`Builder::memory_limit`]: crate::Builder::memory_limit
#[derive(Debug, Default, Clone, Copy)]
pub struct Accountant<A = System>(A);

impl Accountant {
    /// An accountant over the system's allocator.
    #[must_use]
    pub const fn system() -> Self {
        Self(System)
    }
}

impl<A> Accountant<A> {
    /// An accountant over another allocator.
    pub const fn over(allocator: A) -> Self {
        Self(allocator)
    }
}

/// The layout with room for the mark. Returns `None` if it would be too large.
#[inline]
fn with_mark(layout: Layout) -> Option<Layout> {
    Layout::from_size_align(layout.size() + MARK_BYTES, layout.align()).ok()
}

/// The layout of an existing block with room for the mark.
///
/// # Safety
///
/// [`with_mark`] has returned this layout before, when the block was allocated.
#[inline]
#[expect(unsafe_code, reason = "a layout that was checked once")]
unsafe fn with_mark_of(layout: Layout) -> Layout {
    // SAFETY: the caller guarantees that the layout has been checked.
    unsafe { Layout::from_size_align_unchecked(layout.size() + MARK_BYTES, layout.align()) }
}

/// Charges a block of `size` bytes to this thread's scope, and writes the mark behind it.
///
/// # Safety
///
/// `block` has room for `size` bytes and the mark, and no other code uses the bytes of the mark.
#[inline]
#[expect(unsafe_code, reason = "writes behind the user's block")]
unsafe fn charge(block: *mut u8, size: usize) {
    let mark = local_charge::charge(size);
    // SAFETY: the caller guarantees that the mark lies within the block, and the write may be unaligned.
    unsafe { block.add(size).cast::<u64>().write_unaligned(mark.bits()) };
}

/// The mark behind a block of `size` bytes.
///
/// # Safety
///
/// [`charge`] has written the mark, for the same size.
#[inline]
#[expect(unsafe_code, reason = "reads behind the user's block")]
unsafe fn mark(block: *const u8, size: usize) -> Mark {
    // SAFETY: the caller guarantees that the mark was written there.
    Mark::from_bits(unsafe { block.add(size).cast::<u64>().read_unaligned() })
}

#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: blocks come from the allocator below, which keeps the promises of this trait. Their layouts are
// larger by the mark and equally aligned: the first `layout.size()` bytes are the caller's, and only these
// functions touch the bytes behind them. One layout always gives the same marked layout. Nothing here
// unwinds, allocates or locks: tills and accounts are cells and atomics, and waking the watch is
// `Thread::unpark`. `GlobalAlloc` allows that, and it allows thread-locals.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Accountant<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(marked) = with_mark(layout) else { return ptr::null_mut() };
        // SAFETY: the size includes the mark, and so it is not zero.
        let block = unsafe { self.0.alloc(marked) };
        if !block.is_null() {
            // SAFETY: the block is new, and has room for `layout.size()` bytes and the mark.
            unsafe { charge(block, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(marked) = with_mark(layout) else { return ptr::null_mut() };
        // SAFETY: the size includes the mark, and so it is not zero.
        let block = unsafe { self.0.alloc_zeroed(marked) };
        if !block.is_null() {
            // SAFETY: the block is new, and has room for `layout.size()` bytes and the mark.
            unsafe { charge(block, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's block was allocated here, with this layout.
        unsafe {
            local_charge::credit(mark(block, layout.size()), layout.size());
            self.0.dealloc(block, with_mark_of(layout));
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(grown) = Layout::from_size_align(size, layout.align())
            .ok()
            .and_then(with_mark)
            .map(|layout| layout.size())
        else {
            return ptr::null_mut();
        };
        // SAFETY: the caller's block was allocated here, with this layout.
        let before = unsafe { mark(block, layout.size()) };
        // SAFETY: as above. The new size is not zero, and a layout of that size exists.
        let moved = unsafe { self.0.realloc(block, with_mark_of(layout), grown) };
        if !moved.is_null() {
            local_charge::credit(before, layout.size());
            // SAFETY: the block has room for `size` bytes and the mark. If `realloc` fails, the old block
            // stays as it was, with its mark.
            unsafe { charge(moved, size) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::thread;

    use parking_lot::Mutex;

    use super::*;
    use crate::memory::accounts::Open;
    use crate::memory::local_charge::ChargeGuard;

    const ALLOCATOR: Accountant = Accountant::system();

    /// A block that the accountant allocated, filled with one byte.
    struct Block {
        at: *mut u8,
        layout: Layout,
        fill: u8,
        /// The account in whose scope the block was last allocated, or `None`.
        owner: Option<usize>,
    }

    #[expect(unsafe_code, reason = "a block has one owner")]
    // SAFETY: the block is plain memory, and only its owner touches it.
    unsafe impl Send for Block {}

    #[expect(unsafe_code, reason = "the tests allocate by hand")]
    impl Block {
        fn new(layout: Layout, fill: u8, zeroed: bool, owner: Option<usize>) -> Self {
            // SAFETY: the size is not zero.
            let at = unsafe { if zeroed { ALLOCATOR.alloc_zeroed(layout) } else { ALLOCATOR.alloc(layout) } };
            assert!(!at.is_null(), "{layout:?}");
            assert!((at as usize).is_multiple_of(layout.align()), "{layout:?}");
            let block = Self { at, layout, fill, owner };
            if zeroed {
                assert!(block.bytes().iter().all(|byte| *byte == 0));
            }
            block.fill()
        }

        fn bytes(&self) -> &[u8] {
            // SAFETY: the block was allocated with that size, and it is initialised before it is read.
            unsafe { std::slice::from_raw_parts(self.at, self.layout.size()) }
        }

        fn fill(self) -> Self {
            // SAFETY: the block was allocated with that size.
            unsafe { self.at.write_bytes(self.fill, self.layout.size()) };
            self
        }

        fn check(&self, bytes: usize) {
            // Each byte equals the one before it. In a debug build this is far cheaper than a look at each.
            let (bytes, end) = (&self.bytes()[..bytes], bytes.saturating_sub(1));
            let first = bytes.first().is_none_or(|byte| *byte == self.fill);
            assert!(first && bytes[..end] == bytes[bytes.len() - end..], "a block was overwritten");
        }

        fn resize(mut self, size: usize, owner: Option<usize>) -> Self {
            self.check(self.layout.size());
            let kept = size.min(self.layout.size());
            // SAFETY: the block was allocated with this layout. The new size is small and not zero.
            self.at = unsafe { ALLOCATOR.realloc(self.at, self.layout, size) };
            self.layout = Layout::from_size_align(size, self.layout.align())
                .expect("the size is small and the alignment is unchanged");
            self.owner = owner;
            assert_eq!(self.at as usize % self.layout.align(), 0);
            self.check(kept);
            self.fill()
        }

        fn free(self) {
            self.check(self.layout.size());
            // SAFETY: the block was allocated with this layout, and it is never touched again.
            unsafe { ALLOCATOR.dealloc(self.at, self.layout) };
        }
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("the layouts in these tests are small")
    }

    #[test]
    fn a_million_random_operations_agree_with_a_shadow() {
        const THREADS: u64 = 4;
        const OPERATIONS: u64 = if cfg!(miri) { 500 } else { 250_000 };
        let accounts: Vec<Open> =
            (0..5).map(|_| Open::new(None).expect("the table has free places")).collect();
        let shadow: Vec<AtomicI64> = accounts.iter().map(|_| AtomicI64::new(0)).collect();
        let shared: Mutex<Vec<Block>> = Mutex::default();
        let flush = |owner: Option<usize>, bytes: i64| {
            if let Some(owner) = owner {
                shadow[owner].fetch_add(bytes, Ordering::Relaxed);
            }
        };
        let start = Barrier::new(THREADS as usize);
        thread::scope(|threads| {
            for seed in 0..THREADS {
                let (accounts, shared, flush, start) = (&accounts, &shared, &flush, &start);
                threads.spawn(move || {
                    start.wait();
                    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                    let mut draw = |below: usize| {
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        (state % below as u64) as usize
                    };
                    for _ in 0..OPERATIONS / 50 {
                        let owner = draw(6).checked_sub(1);
                        let _inside =
                            owner.map_or_else(ChargeGuard::process, |owner| accounts[owner].enter());
                        for _ in 0..50 {
                            let size = 1 + if draw(20) == 0 { draw(200_000) } else { draw(300) };
                            let taken = if draw(5) > 1 { shared.lock().pop() } else { None };
                            let block = match (taken, draw(3)) {
                                (Some(block), 0) => {
                                    flush(block.owner, -(block.layout.size() as i64));
                                    block.free();
                                    continue;
                                }
                                (Some(block), _) => {
                                    flush(block.owner, -(block.layout.size() as i64));
                                    block.resize(size, owner)
                                }
                                (None, zeroed) => {
                                    let layout = layout(size, 1 << draw(13));
                                    Block::new(layout, draw(256) as u8, zeroed == 0, owner)
                                }
                            };
                            flush(block.owner, block.layout.size() as i64);
                            shared.lock().push(block);
                        }
                    }
                });
            }
        });
        let live = |account: &Open| account.counters().live();
        let said: Vec<i64> = accounts.iter().map(live).collect();
        let expected: Vec<i64> = shadow.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect();
        assert_eq!(said, expected);
        assert!(said.iter().all(|bytes| *bytes > 0), "every account should still hold blocks: {said:?}");
        shared.into_inner().into_iter().for_each(Block::free);
        assert!(accounts.iter().all(|account| live(account) == 0));
    }

    #[test]
    fn generations_that_each_leave_a_block_behind_do_not_need_a_place_each() {
        const GENERATIONS: usize = if cfg!(miri) { 300 } else { 200_000 };
        let block = |size| Block::new(layout(size, 1), 9, false, None);
        let used_and_retained = |account: &Open| (account.counters().used(), account.counters().retained());
        let mut kept = Vec::new();
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..GENERATIONS {
            let account = Open::new(None).expect("the table has free places");
            places.insert(account.index());
            let _inside = account.enter();
            let state = block(8);
            account.end_epoch();
            kept.push(block(3));
            assert_eq!(account.end_epoch().left, 3);
            assert_eq!(used_and_retained(&account), (8, 3), "blocks of earlier generations do not count");
            kept.push(state);
        }
        assert!(places.len() < 1_000, "{} places, of which other tests may hold some", places.len());
        // One more generation frees blocks that earlier generations left, and blocks of its own.
        let account = Open::new(Some(1 << 20)).expect("the table has free places");
        let inside = account.enter();
        let state = block(100);
        account.end_epoch();
        let own = block(50);
        kept.drain(..GENERATIONS / 2).for_each(Block::free);
        let over = account.end_epoch();
        assert_eq!(over.peak, 150);
        assert_eq!(over.left, 50);
        assert_eq!(used_and_retained(&account), (100, 50));
        drop(inside);
        kept.into_iter().for_each(Block::free);
        assert_eq!(used_and_retained(&account), (100, 50));
        [own, state].into_iter().for_each(Block::free);
        assert_eq!(used_and_retained(&account), (0, 0));
    }

    #[test]
    fn three_scopes_interleaved_on_one_thread_are_charged_separately() {
        let accounts: Vec<Open> =
            (0..3).map(|_| Open::new(None).expect("the table has free places")).collect();
        let mut blocks = Vec::new();
        for round in 1..=100 {
            for (at, account) in accounts.iter().enumerate() {
                let _inside = account.enter();
                let _nested = (round % 2 == 0).then(|| accounts[(at + 1) % 3].enter());
                blocks.push(Block::new(layout(10 * (at + 1), 1), 7, false, None));
            }
        }
        let live = || accounts.iter().map(|account| account.counters().live()).collect::<Vec<_>>();
        // In every other round the nested scope of the next account is charged: 50 blocks of 10 bytes
        // and 50 of 30, and so on.
        assert_eq!(live(), [2000, 1500, 2500]);
        let grown: Vec<Block> = {
            let _inside = accounts[0].enter();
            blocks.drain(..).map(|block| block.resize(100, None)).collect()
        };
        assert_eq!(live(), [30_000, 0, 0], "a block belongs to the scope that grew it last");
        let _elsewhere = accounts[2].enter();
        grown.into_iter().for_each(Block::free);
        assert_eq!(live(), [0, 0, 0]);
    }

    #[test]
    fn a_peak_is_exact_though_the_till_is_booked_rarely() {
        let account = Open::new(Some(1 << 20)).expect("the table has free places");
        let inside = account.enter();
        let block = |size| Block::new(layout(size, 1), 1, false, None);
        let state = block(100);
        account.end_epoch();
        let blocks: Vec<Block> = (0..200).map(|_| block(1000)).collect();
        let kept = block(50);
        blocks.into_iter().for_each(Block::free);
        let over = account.end_epoch();
        assert_eq!(over.peak, 200_150);
        assert_eq!(over.left, 50);
        drop(inside);
        let counters = account.counters();
        assert_eq!(counters.live(), 150);
        assert_eq!(counters.used(), 100);
        assert_eq!(counters.retained(), 50);
        [state, kept].into_iter().for_each(Block::free);
        assert_eq!(counters.live(), 0);
        assert_eq!(counters.used(), 0);
        assert_eq!(counters.retained(), 0);
    }

    #[test]
    fn sizes_that_leave_no_room_for_the_mark_are_refused_and_change_nothing() {
        let most = isize::MAX as usize;
        let account = Open::new(None).expect("the table has free places");
        let _inside = account.enter();
        let block = Block::new(layout(8, 1), 3, false, None);
        #[expect(unsafe_code, reason = "the tests allocate by hand")]
        // SAFETY: the sizes are not zero, and the accountant allocated the block with that layout.
        unsafe {
            assert!(ALLOCATOR.alloc(layout(most, 1)).is_null());
            assert!(ALLOCATOR.alloc_zeroed(layout(most - 3, 1)).is_null());
            assert!(ALLOCATOR.realloc(block.at, block.layout, most).is_null());
        }
        block.free();
        drop(_inside);
        assert_eq!(account.counters().live(), 0);
    }
}
