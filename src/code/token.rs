//! The token of a generation: it ties the user's code to the generation that it runs for, on every
//! thread on which it runs.
//!
//! Through the token the code's memory is charged, and through it a checkpoint learns that the generation is
//! over because the container was killed, the function was aborted, or the account is over its limit.

use std::cell::RefCell;
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::code::cancellation::Cancellations;
use crate::code::priority;
use crate::contain::unwind::{drop_contained, is_in_task};
use crate::memory::account::Epoch;
use crate::memory::accounts::Open;
use crate::memory::attempts::OpenAttempt;
use crate::memory::local_charge::ChargeGuard;
use crate::memory::watch::{self, Killer};
use crate::values::crash::Death;

thread_local! {
    /// The token of the code that this thread runs.
    static CURRENT: RefCell<Option<Arc<Token>>> = const { RefCell::new(None) };
}

/// The absence of a culprit.
const NO_LANE: u32 = u32::MAX;

/// The token of one generation of a container, or of one of its lanes.
pub(crate) struct Token {
    /// The token of the generation. `None` if this is it.
    generation: Option<Arc<Token>>,
    /// Whether the generation is over. Its thread may still be in the user's code.
    over: AtomicBool,
    /// Whether the map or call of the current execution was cancelled or has ended. Set
    /// under the function's lock.
    unwanted: AtomicBool,
    /// Whether code of that execution has unwound from a checkpoint because it is unwanted. It may have
    /// run on the container's thread or on a helper thread. In the latter case the code may take the
    /// helper's end for a panic.
    has_unwound: AtomicBool,
    /// Whether the code has reached a checkpoint, and so can be expected to reach another.
    has_checkpointed: AtomicBool,
    /// Whether the code is in its `exit`. The exit timeout bounds that, and the memory limit does not.
    exits: AtomicBool,
    /// The lane whose code has unwound. [`NO_LANE`] if there is none.
    culprit: AtomicU32,
    /// The futures that wait for the cancellation of the current execution.
    cancellations: Cancellations,
    /// `None` where no accountant is installed.
    account: Option<Open>,
    thread: Option<priority::Thread>,
    /// The size of its thread's stack, which its helper threads have too.
    stack_bytes: Option<usize>,
    /// The killer that is called when the account is over its limit.
    killer: OnceLock<Arc<dyn Killer>>,
}

impl Token {
    /// The token of the calling thread, which is a container's.
    pub(crate) fn of_this_thread(account: Option<Open>, stack_bytes: usize) -> Self {
        Self::new(account, Some(priority::Thread::current()), Some(stack_bytes))
    }

    /// The token of a simulated thread, or of a task in a rehearsal.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn of_no_thread(account: Option<Open>) -> Self {
        Self::new(account, None, None)
    }

    fn new(account: Option<Open>, thread: Option<priority::Thread>, stack_bytes: Option<usize>) -> Self {
        Self {
            generation: None,
            over: AtomicBool::new(false),
            unwanted: AtomicBool::new(false),
            has_unwound: AtomicBool::new(false),
            has_checkpointed: AtomicBool::new(false),
            exits: AtomicBool::new(false),
            culprit: AtomicU32::new(NO_LANE),
            cancellations: Cancellations::default(),
            account,
            thread,
            stack_bytes,
            killer: OnceLock::new(),
        }
    }

    /// The token of a lane of this generation, in which one of several inputs in flight executes.
    pub(crate) fn of_lane(self: &Arc<Self>) -> Self {
        let mut lane = Self::new(None, None, None);
        lane.generation = Some(Arc::clone(self));
        lane
    }

    /// The token of the generation.
    fn whole(&self) -> &Self {
        self.generation.as_deref().unwrap_or(self)
    }

    /// Records that the code of this lane has unwound.
    pub(crate) fn blame(&self, lane: u32) {
        self.culprit.store(lane, Ordering::Relaxed);
    }

    /// Forgets the lane whose code has unwound, because the container lives on.
    pub(crate) fn forget_culprit(&self) {
        self.culprit.store(NO_LANE, Ordering::Relaxed);
    }

    /// The lane whose code has unwound, if there is one. Called by the thread that has unwound.
    pub(crate) fn culprit(&self) -> Option<u32> {
        Some(self.culprit.load(Ordering::Relaxed)).filter(|lane| *lane != NO_LANE)
    }

    pub(crate) fn account(&self) -> Option<&Open> {
        self.whole().account.as_ref()
    }

    /// The stack size that a helper thread of the code should have.
    pub(crate) fn stack_bytes(&self) -> Option<usize> {
        self.whole().stack_bytes
    }

    /// Has the container killed when the account is over its limit, for as long as the token exists.
    pub(crate) fn watch(&self, killer: Arc<dyn Killer>) {
        if let Some(account) = &self.account {
            watch::watch_over(account.index(), Arc::downgrade(self.killer.get_or_init(|| killer)));
        }
    }

    /// Ends the generation.
    pub(crate) fn cancel(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Sets whether the outcome of the current execution is unwanted, because its map or call has ended.
    pub(crate) fn set_unwanted(&self, unwanted: bool) {
        // The code that unwound may belong to an earlier execution.
        self.has_unwound.store(false, Ordering::Relaxed);
        self.unwanted.store(unwanted, Ordering::Relaxed);
        if !unwanted {
            self.cancellations.next_execution();
        }
    }

    /// The futures that wait for the cancellation of an execution.
    pub(crate) fn cancellations(&self) -> &Cancellations {
        &self.cancellations
    }

    /// Whether the current execution is cancelled: its outcome is unwanted, its generation is over, or it is
    /// over its memory limit.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.unwanted.load(Ordering::Relaxed) || self.has_ended()
    }

    /// Whether the generation is over, or over its memory limit.
    pub(crate) fn has_ended(&self) -> bool {
        self.whole().over.load(Ordering::Relaxed) || self.is_over_limit()
    }

    /// Whether the outcome of the current execution is unwanted, and the code has no other reason to unwind.
    pub(crate) fn is_unwanted(&self) -> bool {
        let ends = self.whole().over.load(Ordering::Relaxed) || self.is_over_limit();
        self.unwanted.load(Ordering::Relaxed) && !ends
    }

    /// Records that the code unwinds from the current execution because its outcome is unwanted. Called by
    /// the thread that unwinds.
    pub(crate) fn unwinds_unwanted(&self) {
        self.has_unwound.store(true, Ordering::Relaxed);
    }

    /// Whether the code has unwound from the current execution because its outcome is unwanted. Called by the
    /// thread that has unwound.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.has_unwound.load(Ordering::Relaxed) && self.is_unwanted()
    }

    /// Ends the generation and leaves its thread behind in the user's code. The thread must not have ended.
    pub(crate) fn abandon(&self) {
        self.cancel();
        if !self.has_checkpointed() {
            self.lower_priority();
        }
    }

    /// Lets the thread run only when no other thread wants to. This must wait until it is clear
    /// that the code does not unwind by itself, because the code holds its memory until then. The
    /// thread must not have ended.
    pub(crate) fn lower_priority(&self) {
        if let Some(thread) = &self.thread {
            thread.lower_priority();
        }
    }

    /// Whether the code can be expected to unwind by itself.
    pub(crate) fn has_checkpointed(&self) -> bool {
        self.has_checkpointed.load(Ordering::Relaxed)
    }

    /// Records that the code begins its `exit`.
    pub(crate) fn exits(&self) {
        self.exits.store(true, Ordering::Relaxed);
    }

    /// Records that the code has reached a checkpoint.
    #[inline]
    pub(crate) fn is_at_a_checkpoint(&self) {
        if !self.has_checkpointed() {
            self.has_checkpointed.store(true, Ordering::Relaxed);
            self.whole().has_checkpointed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the account is over its limit.
    pub(crate) fn is_over_limit(&self) -> bool {
        self.account().is_some_and(|account| account.counters().is_over_limit())
    }

    /// The death of a container whose code has ended after its account was over its limit. `None` if the
    /// account is not over its limit.
    pub(crate) fn over_limit_death(&self) -> Option<Death> {
        let account = self.account()?.counters();
        let limit = account.limit().filter(|_| account.is_over_limit())?;
        Some(Death::MemoryLimit { limit, used: account.peak(), reclaimed: true })
    }

    /// Whether the code should unwind. A spawned task may outlive the execution that spawned it, and does not
    /// unwind because that execution is unwanted.
    fn should_unwind(&self) -> bool {
        self.whole().over.load(Ordering::Relaxed)
            || (self.unwanted.load(Ordering::Relaxed) && !is_in_task())
            || (self.is_over_limit() && !self.whole().exits.load(Ordering::Relaxed))
    }

    /// The most bytes that the last attempt used.
    pub(crate) fn peak(&self) -> Option<u64> {
        self.account().map(|account| account.counters().peak())
    }

    /// Charges the account for what this thread allocates, until the returned value is dropped.
    pub(crate) fn enter(&self) -> Option<ChargeGuard> {
        self.account().map(Open::enter)
    }

    /// Runs the user's code and charges the account for it.
    pub(crate) fn inside<T>(&self, run: impl FnOnce() -> T) -> T {
        let _inside = self.enter();
        run()
    }

    /// Runs the user's code of one of several attempts in flight, and charges its account. Without one, the
    /// account of the container is charged.
    pub(crate) fn inside_attempt<T>(&self, attempt: Option<OpenAttempt>, run: impl FnOnce() -> T) -> T {
        let Some(open) = attempt.zip(self.account()).map(|(attempt, account)| account.enter_attempt(attempt))
        else {
            return self.inside(run);
        };
        let _inside = open;
        run()
    }

    /// Begins one of several attempts in flight. `None` if attempts are not charged one by one.
    pub(crate) fn open_attempt(&self) -> Option<OpenAttempt> {
        self.account().filter(|account| account.has_attempts()).map(Open::begin_attempt)
    }

    /// Ends one of several attempts in flight.
    pub(crate) fn end_open_attempt(&self, attempt: OpenAttempt) -> Option<Epoch> {
        Some(self.account()?.end_attempt(attempt))
    }

    /// Whether `attempt` has crossed the limit, or it is not known which attempt has.
    pub(crate) fn has_crossed(&self, attempt: Option<OpenAttempt>) -> bool {
        self.account().is_some_and(|account| {
            account.counters().is_over_limit()
                && account.crossed_by().is_none_or(|by| attempt.is_none_or(|attempt| attempt == by))
        })
    }

    /// Lets the container live on after the attempt that has crossed the limit was ended. Returns `false` if
    /// the container is above the limit without that attempt.
    pub(crate) fn is_below_limit_again(&self) -> bool {
        let Some(account) = self.account() else { return true };
        let counters = account.counters();
        let used = u64::try_from(counters.used()).unwrap_or(0);
        counters.limit().is_none_or(|limit| used <= limit) && !account.clear_over_limit()
    }

    /// Drops a state of the user's whose code is over. Checkpoints do nothing meanwhile, so that its `Drop`
    /// is not left half-way.
    pub(crate) fn drop_inside<T>(&self, value: T) {
        at_no_checkpoint(|| self.inside(|| drop_contained(value)));
    }

    /// Ends an attempt. Called on the thread that made it, which must be inside. Returns the figures of the
    /// attempt, or `None` if no thread has charged anything since the last attempt.
    #[inline]
    pub(crate) fn end_attempt(&self) -> Option<Epoch> {
        let account = self.account()?;
        ChargeGuard::is_used().then(|| account.end_epoch())
    }

    /// Begins an attempt on this thread. Bytes that were charged since the last attempt
    /// belong to neither attempt.
    pub(crate) fn begin_attempt(&self) {
        self.end_attempt();
        if self.has_checkpointed() {
            // This attempt may run other code than the last one.
            self.has_checkpointed.store(false, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("over", &self.over)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            watch::forget(account.index());
        }
    }
}

/// Ties this thread to `token`, and returns the token to which it was tied before.
pub(crate) fn set_current(token: Option<Arc<Token>>) -> Option<Arc<Token>> {
    CURRENT.try_with(|current| current.replace(token)).ok().flatten()
}

/// Runs code whose checkpoints must do nothing, because it must not be left half-way.
pub(crate) fn at_no_checkpoint<T>(run: impl FnOnce() -> T) -> T {
    with_current(None, run)
}

/// Runs code on this thread while the thread is tied to `token`.
pub(crate) fn with_current<T>(token: Option<Arc<Token>>, run: impl FnOnce() -> T) -> T {
    struct Before(Option<Arc<Token>>);
    impl Drop for Before {
        fn drop(&mut self) {
            set_current(self.0.take());
        }
    }
    let _before = Before(set_current(token));
    run()
}

/// Runs engine code on a thread that is inside an account. Its allocations are charged to no container.
pub(crate) fn outside<T>(run: impl FnOnce() -> T) -> T {
    let _outside = ChargeGuard::process();
    run()
}

/// Unwinds if the code on this thread should, unless the thread is unwinding already.
#[inline]
pub(crate) fn checkpoint() {
    // Late in the end of a thread the thread-local no longer exists.
    let unwinds = CURRENT.try_with(|token| {
        token.borrow().as_ref().is_some_and(|token| {
            token.is_at_a_checkpoint();
            token.should_unwind() && !thread::panicking() && {
                token.has_unwound.store(token.is_unwanted(), Ordering::Relaxed);
                true
            }
        })
    });
    if unwinds == Ok(true) {
        unwind_to_boundary();
    }
}

/// The payload of the unwind that a checkpoint starts. It carries no data: the token knows why
/// the code has unwound.
struct Unwinding;

/// Unwinds out of the user's code, past the panic hook.
#[cold]
pub(crate) fn unwind_to_boundary() -> ! {
    panic::resume_unwind(Box::new(Unwinding))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contain::unwind::{contain, in_task};

    #[test]
    fn unwanted_code_counts_as_interrupted_once_it_has_reached_a_checkpoint() {
        let token = Arc::new(Token::of_no_thread(None));
        with_current(Some(Arc::clone(&token)), || {
            assert!(contain(checkpoint).is_ok());
            token.set_unwanted(true);
            assert!(!token.is_interrupted(), "a panic before the checkpoint is the code's own");
            assert!(contain(checkpoint).is_err());
            assert!(token.is_interrupted());
            token.set_unwanted(false);
            assert!(!token.is_interrupted());
            assert!(contain(checkpoint).is_ok());
        });
    }

    #[test]
    fn a_spawned_task_outlives_the_execution_that_is_unwanted() {
        let token = Arc::new(Token::of_no_thread(None));
        token.set_unwanted(true);
        with_current(Some(Arc::clone(&token)), || {
            let task = in_task(true);
            checkpoint();
            drop(task);
            assert!(contain(checkpoint).is_err());
        });
    }

    #[test]
    fn code_whose_generation_is_over_unwinds_and_does_not_count_as_interrupted() {
        let token = Arc::new(Token::of_no_thread(None));
        token.set_unwanted(true);
        token.cancel();
        with_current(Some(Arc::clone(&token)), || assert!(contain(checkpoint).is_err()));
        assert!(!token.is_interrupted());
    }
}
