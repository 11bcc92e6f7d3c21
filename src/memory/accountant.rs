//! The global allocator that knows whose every block is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

use crate::memory::till::{self, Mark};

/// What is added to each block.
const MARK_BYTES: usize = size_of::<Mark>();

/// A global allocator over another one, that charges every block to the container in whose code it was
/// allocated, and credits that container whichever thread frees it. [`Builder::memory_limit`] needs it.
///
/// ```
/// use longshore::Accountant;
///
/// #[global_allocator]
/// static ALLOCATOR: Accountant = Accountant::system(); // or `Accountant::over(mimalloc::MiMalloc)`
/// # fn main() {}
/// ```
///
/// Eight bytes behind each block say whose it is; the allocator below may round them up to 16, or to nothing.
/// To reallocate a block is to allocate one and to free another: whoever grows what another has made is
/// charged for all of it.
///
/// It sees what goes through the global allocator. Stacks, mapped files and what C code allocates for itself
/// are not seen.
///
/// Inside it there is no lock, no allocation and no unwinding: where a limit is crossed, the block is handed
/// out all the same, and another thread is woken to kill the container.
///
/// [`Builder::memory_limit`]: crate::Builder::memory_limit
#[derive(Debug, Default, Clone, Copy)]
pub struct Accountant<A = System>(A);

impl Accountant {
    /// Over the system's allocator.
    #[must_use]
    pub const fn system() -> Self {
        Self(System)
    }
}

impl<A> Accountant<A> {
    /// Over another allocator.
    pub const fn over(allocator: A) -> Self {
        Self(allocator)
    }
}

/// The layout with room for the mark, if there can be one.
#[inline]
fn with_mark(layout: Layout) -> Option<Layout> {
    Layout::from_size_align(layout.size() + MARK_BYTES, layout.align()).ok()
}

/// The layout with room for the mark, of a block that is there.
///
/// # Safety
///
/// [`with_mark`] has given it before, when the block was allocated.
#[inline]
#[expect(unsafe_code, reason = "a layout that was checked once")]
unsafe fn with_mark_of(layout: Layout) -> Layout {
    // SAFETY: by the caller's word.
    unsafe { Layout::from_size_align_unchecked(layout.size() + MARK_BYTES, layout.align()) }
}

/// Charges a block of `size` bytes to this thread's scope, and writes the mark behind it.
///
/// # Safety
///
/// `block` has room for `size` bytes and the mark, and the latter is nobody else's.
#[inline]
#[expect(unsafe_code, reason = "writes behind the user's block")]
unsafe fn charge(block: *mut u8, size: usize) {
    let mark = till::charge(size);
    // SAFETY: by the caller's word it is within the block; it need not be aligned.
    unsafe { block.add(size).cast::<u64>().write_unaligned(mark.bits()) };
}

/// The mark behind a block of `size` bytes.
///
/// # Safety
///
/// [`charge`] has written it, for that size.
#[inline]
#[expect(unsafe_code, reason = "reads behind the user's block")]
unsafe fn mark(block: *const u8, size: usize) -> Mark {
    // SAFETY: by the caller's word.
    Mark::from_bits(unsafe { block.add(size).cast::<u64>().read_unaligned() })
}

#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: blocks are those of the allocator below, which keeps this trait's promises, for layouts that are
// larger by the mark and no less aligned: the first `layout.size()` bytes are the caller's, and those behind
// are touched by these functions alone. The same layout is made of the same one each time. Nothing here
// unwinds, allocates or locks: tills and accounts are cells and atomics, and to wake the watch is
// `Thread::unpark`, which `GlobalAlloc` allows, as it allows thread-locals.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Accountant<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(marked) = with_mark(layout) else { return ptr::null_mut() };
        // SAFETY: its size is not zero, with the mark in it.
        let block = unsafe { self.0.alloc(marked) };
        if !block.is_null() {
            // SAFETY: the block is new, and of that size and the mark's.
            unsafe { charge(block, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(marked) = with_mark(layout) else { return ptr::null_mut() };
        // SAFETY: its size is not zero, with the mark in it.
        let block = unsafe { self.0.alloc_zeroed(marked) };
        if !block.is_null() {
            // SAFETY: the block is new, and of that size and the mark's.
            unsafe { charge(block, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's block is one of ours, allocated with this layout.
        unsafe {
            till::credit(mark(block, layout.size()), layout.size());
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
        // SAFETY: the caller's block is one of ours, allocated with this layout.
        let before = unsafe { mark(block, layout.size()) };
        // SAFETY: as above; the new size is not zero, and was found to be no more than a layout may have.
        let moved = unsafe { self.0.realloc(block, with_mark_of(layout), grown) };
        if !moved.is_null() {
            till::credit(before, layout.size());
            // SAFETY: the block has room for that size and the mark. Where there was no room it stays as it was,
            // with the mark that it had.
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
    use crate::memory::till::Inside;

    const ALLOCATOR: Accountant = Accountant::system();

    /// A block of the accountant's, filled with one byte.
    struct Block {
        at: *mut u8,
        layout: Layout,
        fill: u8,
        /// In whose scope it was allocated last: an account, or none.
        owner: Option<usize>,
    }

    #[expect(unsafe_code, reason = "a block has one owner")]
    // SAFETY: it is memory, and only its owner touches it.
    unsafe impl Send for Block {}

    #[expect(unsafe_code, reason = "the tests allocate by hand")]
    impl Block {
        fn new(layout: Layout, fill: u8, zeroed: bool, owner: Option<usize>) -> Self {
            // SAFETY: the size is not zero.
            let at = unsafe { if zeroed { ALLOCATOR.alloc_zeroed(layout) } else { ALLOCATOR.alloc(layout) } };
            assert!(!at.is_null() && (at as usize).is_multiple_of(layout.align()), "{layout:?}");
            let block = Self { at, layout, fill, owner };
            if zeroed {
                assert!(block.bytes().iter().all(|byte| *byte == 0));
            }
            block.fill()
        }

        fn bytes(&self) -> &[u8] {
            // SAFETY: it was allocated with that size, and initialised before anybody looks.
            unsafe { std::slice::from_raw_parts(self.at, self.layout.size()) }
        }

        fn fill(self) -> Self {
            // SAFETY: it was allocated with that size.
            unsafe { self.at.write_bytes(self.fill, self.layout.size()) };
            self
        }

        fn check(&self, bytes: usize) {
            assert!(
                self.bytes()[..bytes].iter().all(|byte| *byte == self.fill),
                "somebody wrote into a block"
            );
        }

        fn resize(mut self, size: usize, owner: Option<usize>) -> Self {
            self.check(self.layout.size());
            let kept = size.min(self.layout.size());
            // SAFETY: allocated with this layout; the size is not zero, and small.
            self.at = unsafe { ALLOCATOR.realloc(self.at, self.layout, size) };
            self.layout = Layout::from_size_align(size, self.layout.align()).expect("as before");
            self.owner = owner;
            assert_eq!(self.at as usize % self.layout.align(), 0);
            self.check(kept);
            self.fill()
        }

        fn free(self) {
            self.check(self.layout.size());
            // SAFETY: allocated with this layout, and never touched again.
            unsafe { ALLOCATOR.dealloc(self.at, self.layout) };
        }
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("small")
    }

    #[test]
    fn a_million_random_operations_agree_with_a_shadow() {
        const THREADS: u64 = 4;
        const OPERATIONS: u64 = if cfg!(miri) { 500 } else { 250_000 };
        let accounts: Vec<Open> = (0..5).map(|_| Open::new(None).expect("there are many")).collect();
        let shadow: Vec<AtomicI64> = accounts.iter().map(|_| AtomicI64::new(0)).collect();
        let shared: Mutex<Vec<Block>> = Mutex::default();
        let book = |owner: Option<usize>, bytes: i64| {
            if let Some(owner) = owner {
                shadow[owner].fetch_add(bytes, Ordering::Relaxed);
            }
        };
        let start = Barrier::new(THREADS as usize);
        thread::scope(|threads| {
            for seed in 0..THREADS {
                let (accounts, shared, book, start) = (&accounts, &shared, &book, &start);
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
                        let _inside = owner.map_or_else(Inside::process, |owner| accounts[owner].enter());
                        for _ in 0..50 {
                            let size = 1 + if draw(20) == 0 { draw(200_000) } else { draw(300) };
                            let taken = if draw(5) > 1 { shared.lock().pop() } else { None };
                            let block = match (taken, draw(3)) {
                                (Some(block), 0) => {
                                    book(block.owner, -(block.layout.size() as i64));
                                    block.free();
                                    continue;
                                }
                                (Some(block), _) => {
                                    book(block.owner, -(block.layout.size() as i64));
                                    block.resize(size, owner)
                                }
                                (None, zeroed) => {
                                    let layout = layout(size, 1 << draw(13));
                                    Block::new(layout, draw(256) as u8, zeroed == 0, owner)
                                }
                            };
                            book(block.owner, block.layout.size() as i64);
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
        assert!(said.iter().all(|bytes| *bytes > 0), "nothing was left to be told apart: {said:?}");
        shared.into_inner().into_iter().for_each(Block::free);
        assert!(accounts.iter().all(|account| live(account) == 0));
    }

    #[test]
    fn generations_that_each_leave_a_block_behind_do_not_need_a_place_each() {
        const GENERATIONS: usize = if cfg!(miri) { 300 } else { 200_000 };
        let block = |size| Block::new(layout(size, 1), 9, false, None);
        let counters = |account: &Open| (account.counters().used(), account.counters().retained());
        let mut kept = Vec::new();
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..GENERATIONS {
            let account = Open::new(None).expect("few are open");
            places.insert(account.place());
            let _inside = account.enter();
            let state = block(8);
            account.end_epoch();
            kept.push(block(3));
            assert_eq!(account.end_epoch().left, 3);
            assert_eq!(counters(&account), (8, 3), "what others have left is not its own");
            kept.push(state);
        }
        assert!(places.len() < 1_000, "{} places: other tests have some of them", places.len());
        // A generation that frees what others before it have left, and what it has made itself.
        let account = Open::new(Some(1 << 20)).expect("few are open");
        let inside = account.enter();
        let state = block(100);
        account.end_epoch();
        let own = block(50);
        kept.drain(..GENERATIONS / 2).for_each(Block::free);
        let over = account.end_epoch();
        assert_eq!((over.peak, over.left, counters(&account)), (150, 50, (100, 50)));
        drop(inside);
        kept.into_iter().for_each(Block::free);
        assert_eq!(counters(&account), (100, 50));
        [own, state].into_iter().for_each(Block::free);
        assert_eq!(counters(&account), (0, 0));
    }

    #[test]
    fn three_scopes_interleaved_on_one_thread_are_told_apart() {
        let accounts: Vec<Open> = (0..3).map(|_| Open::new(None).expect("there are many")).collect();
        let mut blocks = Vec::new();
        for round in 1..=100 {
            for (at, account) in accounts.iter().enumerate() {
                let _inside = account.enter();
                let _nested = (round % 2 == 0).then(|| accounts[(at + 1) % 3].enter());
                blocks.push(Block::new(layout(10 * (at + 1), 1), 7, false, None));
            }
        }
        let live = || accounts.iter().map(|account| account.counters().live()).collect::<Vec<_>>();
        // Every other round is charged to the next: 50 of 10 and 50 of 30, and so on.
        assert_eq!(live(), [2000, 1500, 2500]);
        let grown: Vec<Block> = {
            let _inside = accounts[0].enter();
            blocks.drain(..).map(|block| block.resize(100, None)).collect()
        };
        assert_eq!(live(), [30_000, 0, 0], "who grows a block has it");
        let _elsewhere = accounts[2].enter();
        grown.into_iter().for_each(Block::free);
        assert_eq!(live(), [0, 0, 0]);
    }

    #[test]
    fn a_peak_is_exact_though_the_till_is_booked_seldom() {
        let account = Open::new(Some(1 << 20)).expect("there are many");
        let inside = account.enter();
        let block = |size| Block::new(layout(size, 1), 1, false, None);
        let state = block(100);
        account.end_epoch();
        let blocks: Vec<Block> = (0..200).map(|_| block(1000)).collect();
        let kept = block(50);
        blocks.into_iter().for_each(Block::free);
        let over = account.end_epoch();
        assert_eq!((over.peak, over.left), (200_150, 50));
        drop(inside);
        let counters = account.counters();
        assert_eq!((counters.live(), counters.used(), counters.retained()), (150, 100, 50));
        [state, kept].into_iter().for_each(Block::free);
        assert_eq!((counters.live(), counters.used(), counters.retained()), (0, 0, 0));
    }

    #[test]
    fn sizes_that_leave_no_room_for_the_mark_are_refused_and_change_nothing() {
        let most = isize::MAX as usize;
        let account = Open::new(None).expect("there are many");
        let _inside = account.enter();
        let block = Block::new(layout(8, 1), 3, false, None);
        #[expect(unsafe_code, reason = "the tests allocate by hand")]
        // SAFETY: the sizes are not zero, and the block is one of the accountant's with that layout.
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
