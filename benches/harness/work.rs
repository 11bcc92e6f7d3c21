//! The work that inputs are, and what disturbs it.

use std::hint::black_box;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Work that is none. It could panic, as functions can, for all that a compiler knows: otherwise it would
/// leave out a rival's `catch_unwind`, and what is compared would not be the same.
pub(crate) fn no_op(n: u64) -> u64 {
    let n = black_box(n);
    assert_ne!(n, u64::MAX);
    n
}

/// Arithmetic that keeps one core busy. It counts its steps and reads no clock, so that a thread that is
/// held up has as much left to do as before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spin {
    steps: u64,
}

impl Spin {
    /// The steps that one core does in a second, as it does them undisturbed: the best of a few tries.
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

    /// That much of what would take a second.
    pub(crate) fn lasting(self, length: Duration) -> Self {
        Self { steps: (self.steps as f64 * length.as_secs_f64()) as u64 }
    }

    /// That many times as much.
    pub(crate) fn times(self, times: u64) -> Self {
        Self { steps: self.steps * times }
    }

    /// Does the work; gives `n` back.
    pub(crate) fn run(self, n: u64) -> u64 {
        let mut state = n | 1;
        for _ in 0..self.steps {
            // xorshift64: each step needs the one before it, so none can be skipped or done beside it
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        black_box(state);
        n
    }
}

/// A number that looks random and always is the same for `n` (splitmix64).
pub(crate) fn hash(n: u64) -> u64 {
    let mut mixed = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Whether `n` is the one in so many that something is to happen to, at places that look random.
pub(crate) fn one_in(many: u64, n: u64) -> bool {
    hash(n).is_multiple_of(many)
}

/// Threads that use up every core until this is dropped.
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

/// Keeps panics that say [`Silence::WORD`] from being printed: rivals panic by the thousand, and what a
/// hook prints would be timed. Others are told as ever.
pub(crate) struct Silence;

impl Silence {
    /// What a panic that is part of a bench says.
    pub(crate) const WORD: &'static str = "as the bench wants it";

    /// From now on, for the whole process.
    pub(crate) fn install() {
        let told: Hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref() != Some(&Self::WORD) {
                told(panic);
            }
        }));
    }
}
