//! Blocks of an allocator, which are freed at once or by another thread.

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::harness::work::hash;

/// A block on its way to the thread that frees it.
struct Block(*mut u8, Layout);

#[expect(unsafe_code, reason = "a block has one owner")]
// SAFETY: only the owner of a block touches its memory.
unsafe impl Send for Block {}

fn layout(n: u64) -> Layout {
    Layout::from_size_align(16 + (hash(n) % 500) as usize, 8).expect("small")
}

#[expect(unsafe_code, reason = "blocks are made by hand")]
impl Block {
    #[inline]
    fn new(allocator: &impl GlobalAlloc, n: u64) -> Self {
        let layout = layout(n);
        // SAFETY: the size is not zero, and the block has room for the byte.
        unsafe {
            let block = allocator.alloc(layout);
            assert!(!block.is_null());
            block.write(n as u8);
            Self(block, layout)
        }
    }

    /// Reads the whole block, and frees it.
    #[inline]
    fn read_and_free(self, allocator: &impl GlobalAlloc) {
        let mut sum = 0u8;
        for at in (0..self.1.size()).step_by(16) {
            // SAFETY: the byte is within the block. Bytes that were not written have any value, and their sum
            // is not used for anything.
            sum ^= unsafe { black_box(self.0.add(at)).read_volatile() };
        }
        black_box(sum);
        self.free(allocator);
    }

    #[inline]
    fn free(self, allocator: &impl GlobalAlloc) {
        // SAFETY: the block was allocated with this layout, and is never touched again.
        unsafe { allocator.dealloc(self.0, self.1) };
    }
}

/// Allocates and frees `blocks` blocks, one after the other, with a few alive at any time.
pub(crate) fn churn(allocator: &impl GlobalAlloc, blocks: u64) {
    const ALIVE: usize = 16;
    let mut alive: [Option<Block>; ALIVE] = [const { None }; ALIVE];
    for n in 0..blocks {
        if let Some(block) = alive[n as usize % ALIVE].replace(Block::new(allocator, n)) {
            block.free(allocator);
        }
    }
    alive.into_iter().flatten().for_each(|block| block.free(allocator));
}

/// A thread that reads blocks and frees them, until this is dropped.
pub(crate) struct Reader {
    blocks: SyncSender<Vec<Block>>,
    read: Mutex<Receiver<()>>,
}

impl Reader {
    pub(crate) fn of(allocator: &'static (impl GlobalAlloc + Sync)) -> Self {
        let (blocks, incoming) = sync_channel::<Vec<Block>>(0);
        let (done, read) = sync_channel(0);
        std::thread::spawn(move || {
            for blocks in incoming {
                blocks.into_iter().for_each(|block| block.read_and_free(allocator));
                if done.send(()).is_err() {
                    return;
                }
            }
        });
        Self { blocks, read: Mutex::new(read) }
    }

    /// Allocates `blocks` blocks on this thread. The reader's thread reads and frees them.
    pub(crate) fn round(&self, allocator: &impl GlobalAlloc, blocks: u64) {
        let blocks = (0..blocks).map(|n| Block::new(allocator, n)).collect();
        self.blocks.send(blocks).expect("it reads");
        self.read.lock().expect("one at a time").recv().expect("it has read");
    }
}
