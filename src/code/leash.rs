//! What ties the user's code to the generation it runs for, on whatever thread it runs.
//!
//! By its leash the code is charged for its memory, and by it a checkpoint learns that the generation is over:
//! because the container was killed or the function aborted, or because its account is overdrawn.

use std::cell::RefCell;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::code::priority;
use crate::contain::unwind::{drop_contained, is_in_task};
use crate::memory::account::Epoch;
use crate::memory::accounts::Open;
use crate::memory::alarm::{self, Killer};
use crate::memory::till::Inside;
use crate::values::crash::Death;

thread_local! {
    /// The leash of the code that this thread runs.
    static CURRENT: RefCell<Option<Arc<Leash>>> = const { RefCell::new(None) };
}

/// The leash of one generation of a container.
pub(crate) struct Leash {
    /// The generation is over, though its thread may not have come out.
    over: AtomicBool,
    /// The map or call of the current execution was cancelled, or has ended. Set under the function's lock.
    unwanted: AtomicBool,
    /// Code of that execution has come out at a checkpoint because of it: on the container's thread, or on one of a helper,
    /// whose end the code may take for a panic.
    has_come_out: AtomicBool,
    /// The code has come by a checkpoint, and so may be expected to come by another.
    heeds: AtomicBool,
    /// The code is in its `exit`, which the timeout bounds and not the limit.
    exits: AtomicBool,
    /// `None` where no accountant is installed.
    account: Option<Open>,
    thread: Option<priority::Thread>,
    /// The stack of its thread, which is that of its helpers too.
    stack_bytes: Option<usize>,
    /// Who is called when the account is overdrawn.
    killer: OnceLock<Arc<dyn Killer>>,
}

impl Leash {
    /// Of the calling thread, which is a container's.
    pub(crate) fn of_this_thread(account: Option<Open>, stack_bytes: usize) -> Self {
        Self::new(account, Some(priority::Thread::current()), Some(stack_bytes))
    }

    /// Of a simulated thread, or of a task in a rehearsal.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn of_no_thread(account: Option<Open>) -> Self {
        Self::new(account, None, None)
    }

    fn new(account: Option<Open>, thread: Option<priority::Thread>, stack_bytes: Option<usize>) -> Self {
        Self {
            over: AtomicBool::new(false),
            unwanted: AtomicBool::new(false),
            has_come_out: AtomicBool::new(false),
            heeds: AtomicBool::new(false),
            exits: AtomicBool::new(false),
            account,
            thread,
            stack_bytes,
            killer: OnceLock::new(),
        }
    }

    pub(crate) fn account(&self) -> Option<&Open> {
        self.account.as_ref()
    }

    /// The stack that a helper thread of the code is to have.
    pub(crate) fn stack_bytes(&self) -> Option<usize> {
        self.stack_bytes
    }

    /// Has the container killed when the account is overdrawn, for as long as the leash is there.
    pub(crate) fn watch(&self, killer: Arc<dyn Killer>) {
        if let Some(account) = &self.account {
            alarm::watch_over(account.place(), Arc::downgrade(self.killer.get_or_init(|| killer)));
        }
    }

    /// The generation is over.
    pub(crate) fn pull(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Sets whether the outcome of the current execution is unwanted, because its map or call has ended.
    pub(crate) fn set_unwanted(&self, unwanted: bool) {
        self.has_come_out.store(false, Ordering::Relaxed); // it may be of an earlier execution
        self.unwanted.store(unwanted, Ordering::Relaxed);
    }

    /// Whether the outcome of the current execution is unwanted, and for no other reason the code is to come out.
    pub(crate) fn is_unwanted(&self) -> bool {
        let ends = self.over.load(Ordering::Relaxed) || self.is_overdrawn();
        self.unwanted.load(Ordering::Relaxed) && !ends
    }

    /// Whether the code has unwound out of the current execution because its outcome is unwanted. Asked by the thread that
    /// has unwound.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.has_come_out.load(Ordering::Relaxed) && self.is_unwanted()
    }

    /// The generation is over, and its thread is left behind in the user's code. The thread must not have ended.
    pub(crate) fn abandon(&self) {
        self.pull();
        if !self.heeds() {
            self.lower_priority();
        }
    }

    /// From now on the thread runs when nobody else wants to: not before it is clear that it does not come out as
    /// soon as it runs, because it holds its memory until then. It must not have ended.
    pub(crate) fn lower_priority(&self) {
        if let Some(thread) = &self.thread {
            thread.lower_priority();
        }
    }

    /// Whether the code may be expected to come out by itself.
    pub(crate) fn heeds(&self) -> bool {
        self.heeds.load(Ordering::Relaxed)
    }

    /// The code begins its `exit`.
    pub(crate) fn exits(&self) {
        self.exits.store(true, Ordering::Relaxed);
    }

    /// The code comes by a checkpoint.
    #[inline]
    pub(crate) fn is_at_a_checkpoint(&self) {
        if !self.heeds() {
            self.heeds.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the account is overdrawn.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.counters().is_overdrawn())
    }

    /// The death of a container that has come out of the user's code after its account was overdrawn.
    pub(crate) fn overdraft(&self) -> Option<Death> {
        let account = self.account.as_ref()?.counters();
        let limit = account.limit().filter(|_| account.is_overdrawn())?;
        Some(Death::MemoryLimit { limit, used: account.peak(), reclaimed: true })
    }

    /// Whether the code is to come out. Tasks that it has spawned outlive an execution.
    fn is_taut(&self) -> bool {
        self.over.load(Ordering::Relaxed)
            || (self.unwanted.load(Ordering::Relaxed) && !is_in_task())
            || (self.is_overdrawn() && !self.exits.load(Ordering::Relaxed))
    }

    /// The most that the attempt used which was made last.
    pub(crate) fn peak(&self) -> Option<u64> {
        self.account.as_ref().map(|account| account.counters().peak())
    }

    /// Charges the account for what this thread allocates, until that is dropped.
    pub(crate) fn enter(&self) -> Option<Inside> {
        self.account.as_ref().map(Open::enter)
    }

    /// Runs the user's code, charged to the account.
    pub(crate) fn inside<T>(&self, run: impl FnOnce() -> T) -> T {
        let _inside = self.enter();
        run()
    }

    /// Drops a state of the user's whose code is over. Its `Drop` is not to come out half-way: checkpoints in it do
    /// nothing.
    pub(crate) fn drop_inside<T>(&self, value: T) {
        at_no_checkpoint(|| self.inside(|| drop_contained(value)));
    }

    /// An attempt is over, on the thread that made it, which is inside. What it used, if anything was charged
    /// since the last one, by whatever thread.
    #[inline]
    pub(crate) fn end_attempt(&self) -> Option<Epoch> {
        let account = self.account.as_ref()?;
        Inside::is_used().then(|| account.end_epoch())
    }

    /// An attempt begins, on that thread. What was charged since the last one is nobody's of the two.
    pub(crate) fn begin_attempt(&self) {
        self.end_attempt();
        if self.heeds() {
            self.heeds.store(false, Ordering::Relaxed); // the last one's code may have been another
        }
    }
}

impl std::fmt::Debug for Leash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leash")
            .field("over", &self.over)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            alarm::forget(account.place());
        }
    }
}

/// Ties this thread, until it is tied otherwise. Gives what it was tied by before.
pub(crate) fn tie(leash: Option<Arc<Leash>>) -> Option<Arc<Leash>> {
    CURRENT.try_with(|current| current.replace(leash)).ok().flatten()
}

/// Runs code that must not be left half-way.
pub(crate) fn at_no_checkpoint<T>(run: impl FnOnce() -> T) -> T {
    tied(None, run)
}

/// Runs code on this thread, tied like that meanwhile.
pub(crate) fn tied<T>(leash: Option<Arc<Leash>>, run: impl FnOnce() -> T) -> T {
    struct Before(Option<Arc<Leash>>);
    impl Drop for Before {
        fn drop(&mut self) {
            tie(self.0.take());
        }
    }
    let _before = Before(tie(leash));
    run()
}

/// Runs engine code on a thread that is inside an account: what it allocates is charged to nobody.
pub(crate) fn outside<T>(run: impl FnOnce() -> T) -> T {
    let _outside = Inside::process();
    run()
}

/// Unwinds if the code on this thread is to come out. Not while it unwinds already.
#[inline]
pub(crate) fn checkpoint() {
    // Late in the end of a thread there is none any more.
    let taut = CURRENT.try_with(|leash| {
        leash.borrow().as_ref().is_some_and(|leash| {
            leash.is_at_a_checkpoint();
            leash.is_taut() && !thread::panicking() && {
                leash.has_come_out.store(leash.is_unwanted(), Ordering::Relaxed);
                true
            }
        })
    });
    if taut == Ok(true) {
        come_out();
    }
}

/// What unwinds from a checkpoint. Nothing reads it: the leash knows why the code has come out.
struct CameOut;

/// Unwinds out of the user's code, past the panic hook.
#[cold]
pub(crate) fn come_out() -> ! {
    panic::resume_unwind(Box::new(CameOut))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contain::unwind::{contain, in_task};

    #[test]
    fn unwanted_code_is_interrupted_once_it_has_come_by_a_checkpoint() {
        let leash = Arc::new(Leash::of_no_thread(None));
        tied(Some(Arc::clone(&leash)), || {
            assert!(contain(checkpoint).is_ok());
            leash.set_unwanted(true);
            assert!(!leash.is_interrupted(), "a panic before that is the code's own");
            assert!(contain(checkpoint).is_err());
            assert!(leash.is_interrupted());
            leash.set_unwanted(false);
            assert!(!leash.is_interrupted() && contain(checkpoint).is_ok());
        });
    }

    #[test]
    fn a_spawned_task_outlives_the_execution_that_is_unwanted() {
        let leash = Arc::new(Leash::of_no_thread(None));
        leash.set_unwanted(true);
        tied(Some(Arc::clone(&leash)), || {
            let task = in_task(true);
            checkpoint();
            drop(task);
            assert!(contain(checkpoint).is_err());
        });
    }

    #[test]
    fn code_whose_generation_is_over_is_not_interrupted_but_ends() {
        let leash = Arc::new(Leash::of_no_thread(None));
        leash.set_unwanted(true);
        leash.pull();
        tied(Some(Arc::clone(&leash)), || assert!(contain(checkpoint).is_err()));
        assert!(!leash.is_interrupted());
    }
}
