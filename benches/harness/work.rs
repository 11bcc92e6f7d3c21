//! The work of inputs, and threads and panics that disturb it.

use std::hint::black_box;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// An input without work. The compiler cannot prove that it never panics. Otherwise it would remove the
/// `catch_unwind` of a rival, and the comparison would be unfair.
pub(crate) fn no_op(n: u64) -> u64 {
    let n = black_box(n);
    assert_ne!(n, u64::MAX);
    n
}

/// Arithmetic that keeps one core busy. It counts its steps and reads no clock, so that the work does not
/// shrink while its thread is held up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spin {
    steps: u64,
}

impl Spin {
    /// The steps of one undisturbed core in a second, as the best of a few tries.
    pub(crate) fn calibrated() -> Self {
        const TRY: Spin = Spin { steps: 2_000_000 };
        let tried = (0..9).map(|_| {
            let begun = Instant::now();
            TRY.run(1);
            begun.elapsed()
        });
        let best = tried.min().expect("there were tries");
        Self { steps: (TRY.steps as f64 / best.as_secs_f64()) as u64 }
    }

    /// The part of this work that takes `length`, if all of it takes a second.
    pub(crate) fn lasting(self, length: Duration) -> Self {
        Self { steps: (self.steps as f64 * length.as_secs_f64()) as u64 }
    }

    /// This work `times` times over.
    pub(crate) fn times(self, times: u64) -> Self {
        Self { steps: self.steps * times }
    }

    /// Does the work, and returns `n`.
    pub(crate) fn run(self, n: u64) -> u64 {
        let mut state = n | 1;
        for _ in 0..self.steps {
            // xorshift64. Each step depends on the one before, so no step can be skipped or done in parallel.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        black_box(state);
        n
    }
}

/// A number that looks random and is always the same for `n` (splitmix64).
pub(crate) fn hash(n: u64) -> u64 {
    let mut mixed = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// True for one number in `many`, at places that look random.
pub(crate) fn one_in(many: u64, n: u64) -> bool {
    hash(n).is_multiple_of(many)
}

/// Threads that keep every core busy until this is dropped.
pub(crate) struct Busy {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    pub(crate) fn all_cores() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let over = Arc::new(AtomicBool::new(false));
        let spin = |over: Arc<AtomicBool>| {
            move || {
                while !over.load(Ordering::Relaxed) {
                    Spin { steps: 1000 }.run(1);
                }
            }
        };
        let threads = (0..cores).map(|_| std::thread::spawn(spin(Arc::clone(&over)))).collect();
        Self { over, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a spinning thread does not panic");
        }
    }
}

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// Keeps panics with the message [`Silence::WORD`] from being printed. Rivals panic by the thousand, and the
/// time of printing would be measured. Other panics are printed as always.
pub(crate) struct Silence;

impl Silence {
    /// The message of a panic that is part of a bench.
    pub(crate) const WORD: &'static str = "as the bench wants it";

    /// Installs the hook for the whole process.
    pub(crate) fn install() {
        let told: Hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref() != Some(&Self::WORD) {
                told(panic);
            }
        }));
    }
}
