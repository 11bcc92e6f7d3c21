//! The watch: a thread that sleeps until an account crosses its limit, and then has the container killed.
//!
//! There is one watch per process. The first function with a limit starts it, and nothing else wakes it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::memory::accounts::{self, ACCOUNTS_MAX, AccountIndex};
use crate::memory::over_limit::{Link, OverLimitList};

#[expect(unsafe_code, reason = "a table of zeros that takes no room in the binary")]
// SAFETY: a link is an atomic integer and an atomic bool, and all zeros is a valid value of each.
static LINKS: [Link; ACCOUNTS_MAX] = unsafe { std::mem::zeroed() };

#[expect(unsafe_code, reason = "a list of zeros, like the table of links")]
// SAFETY: the list is one atomic integer, and zero is a valid value of it.
static OVER_LIMIT: OverLimitList = unsafe { std::mem::zeroed() };

/// The thread of the watch.
static WATCH: OnceLock<Thread> = OnceLock::new();

/// The killer of each account's container.
static KILLERS: Mutex<BTreeMap<AccountIndex, Weak<dyn Killer>>> = Mutex::new(BTreeMap::new());

/// Kills one container. Its methods must not panic.
pub(crate) trait Killer: Send + Sync {
    /// The account of the container is over its limit. Called on the watch's thread.
    fn kill(&self);

    /// The container was killed, and its thread should have left the user's code by now.
    fn lower_priority(&self);

    /// Whether the container's code can be expected to unwind by itself.
    fn may_wait(&self) -> bool;
}

/// Starts the watch, unless it runs already.
pub(crate) fn start_watch() -> io::Result<()> {
    static STARTING: Mutex<()> = Mutex::new(());
    let _starting = STARTING.lock();
    if WATCH.get().is_some() {
        return Ok(());
    }
    let watch =
        thread::Builder::new().name("longshore/memory".to_owned()).stack_size(256 << 10).spawn(watch)?;
    WATCH.get_or_init(|| watch.thread().clone());
    Ok(())
}

/// Reports that the account at `index` has crossed its limit. Called inside the allocator.
pub(crate) fn raise(index: AccountIndex) {
    OVER_LIMIT.add(index.get().into(), &LINKS[usize::from(index.get())]);
    if let Some(watch) = WATCH.get() {
        watch.unpark();
    }
}

/// Sets the killer that is called when the account at `index` is over its limit, until `forget`.
pub(crate) fn watch_over(index: AccountIndex, killer: Weak<dyn Killer>) {
    KILLERS.lock().insert(index, killer);
}

/// Removes the killer of the account at `index`.
pub(crate) fn forget(index: AccountIndex) {
    KILLERS.lock().remove(&index);
}

/// The time in which code may unwind by itself if it has reached a checkpoint before. It may have to wait for
/// a core. The container then restarts in place, and its memory is free; a thread that is left behind would
/// hold the memory for longer.
const GRACE: Duration = Duration::from_millis(4);

/// The time after the kill in which the code may still unwind, before its thread is taken for a stuck one.
const STUCK_AFTER: Duration = Duration::from_millis(50);

/// The next thing that the watch does to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatchStep {
    Kill,
    LowerPriority,
}

/// A step that is due later.
struct LaterStep {
    at: Instant,
    step: WatchStep,
    index: AccountIndex,
    killer: Weak<dyn Killer>,
}

/// The steps that are due later, in no order. There is at most one for each account that has crossed its
/// limit.
#[derive(Default)]
struct LaterSteps(Vec<LaterStep>);

impl LaterSteps {
    fn add(&mut self, at: Instant, step: WatchStep, index: AccountIndex, killer: &Arc<dyn Killer>) {
        self.0.push(LaterStep { at, step, index, killer: Arc::downgrade(killer) });
    }

    /// Forgets the step for an account that has crossed its limit again. That step is about a crossing that
    /// the account has forgotten, or about an earlier account in the same place.
    fn forget(&mut self, index: AccountIndex) {
        self.0.retain(|later| later.index != index);
    }

    /// Takes the steps that are due. Drops the steps for accounts that have forgotten their crossings since.
    fn take_due(
        &mut self,
        now: Instant,
        is_over_limit: impl Fn(AccountIndex) -> bool,
    ) -> Vec<(WatchStep, AccountIndex, Arc<dyn Killer>)> {
        let due = self.0.extract_if(.., |later| later.at <= now);
        due.filter(|later| is_over_limit(later.index))
            .filter_map(|later| Some((later.step, later.index, later.killer.upgrade()?)))
            .collect()
    }

    /// The time at which the next step is due.
    fn next(&self) -> Option<Instant> {
        self.0.iter().map(|later| later.at).min()
    }
}

fn watch() {
    let mut later = LaterSteps::default();
    loop {
        let now = now();
        OVER_LIMIT.take(
            |number| &LINKS[number as usize],
            |number| {
                let index =
                    u16::try_from(number).ok().and_then(AccountIndex::new).expect("a place was added");
                let Some(killer) = over_limit(index) else { return };
                later.forget(index);
                if killer.may_wait() {
                    later.add(now + GRACE, WatchStep::Kill, index, &killer);
                } else {
                    killer.kill();
                }
            },
        );
        for (step, index, killer) in later.take_due(now, |index| accounts::at(index).is_over_limit()) {
            match step {
                WatchStep::Kill => {
                    killer.kill();
                    later.add(now + STUCK_AFTER, WatchStep::LowerPriority, index, &killer);
                }
                WatchStep::LowerPriority => killer.lower_priority(),
            }
        }
        // If an account was added meanwhile, parking returns at once.
        match later.next() {
            Some(at) => thread::park_timeout(at.saturating_duration_since(self::now())),
            None => thread::park(),
        }
    }
}

/// The killer of the container that has the place now, if its account is over its limit. The place may have
/// gone to another container by now, and that one has crossed no limit.
fn over_limit(index: AccountIndex) -> Option<Arc<dyn Killer>> {
    accounts::at(index).is_over_limit().then(|| killer(index)).flatten()
}

#[expect(clippy::disallowed_methods, reason = "the watch has no function whose clock it could read")]
fn now() -> Instant {
    Instant::now()
}

fn killer(index: AccountIndex) -> Option<Arc<dyn Killer>> {
    KILLERS.lock().get(&index).and_then(Weak::upgrade)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::memory::accounts::Open;
    use crate::memory::local_charge;

    #[test]
    fn an_account_that_is_added_is_taken_once() {
        let (list, links) = (OverLimitList::new(), [Link::new(), Link::new(), Link::new()]);
        let take = || {
            let mut taken = Vec::new();
            list.take(|number| &links[number as usize - 1], |number| taken.push(number));
            taken
        };
        for number in [3, 1, 3] {
            list.add(number, &links[number as usize - 1]);
        }
        assert_eq!(take(), vec![1, 3]);
        assert!(take().is_empty());
        list.add(3, &links[2]);
        assert_eq!(take(), [3]);
    }

    struct Kills;

    impl Killer for Kills {
        fn kill(&self) {}

        fn lower_priority(&self) {}

        fn may_wait(&self) -> bool {
            true
        }
    }

    #[test]
    fn an_account_that_has_forgotten_its_crossing_is_not_killed_for_it_later() {
        let killer: Arc<dyn Killer> = Arc::new(Kills);
        let [forgets, stays] = [1, 2].map(|place| AccountIndex::new(place).expect("1 and 2 are not 0"));
        let mut later = LaterSteps::default();
        let now = now();
        later.add(now + GRACE, WatchStep::Kill, forgets, &killer);
        later.add(now + GRACE, WatchStep::Kill, stays, &killer);
        assert!(later.take_due(now, |_| true).is_empty(), "nothing is due yet");
        assert_eq!(later.next(), Some(now + GRACE));
        let due = later.take_due(now + GRACE, |index| index == stays);
        assert_eq!(
            due.iter().map(|(step, index, _)| (*step, *index)).collect::<Vec<_>>(),
            [(WatchStep::Kill, stays)]
        );
        assert!(later.next().is_none());
    }

    #[test]
    fn an_account_that_crosses_its_limit_again_has_the_whole_grace_again() {
        let killer: Arc<dyn Killer> = Arc::new(Kills);
        let index = AccountIndex::new(1).expect("1 is not 0");
        let mut later = LaterSteps::default();
        let now = now();
        later.add(now, WatchStep::Kill, index, &killer);
        later.forget(index);
        later.add(now + GRACE, WatchStep::Kill, index, &killer);
        assert!(later.take_due(now, |_| true).is_empty(), "the first crossing was forgotten");
        drop(killer);
        assert!(later.take_due(now + GRACE, |_| true).is_empty(), "the container is gone");
    }

    struct Tells(mpsc::Sender<()>);

    impl Killer for Tells {
        fn kill(&self) {
            self.0.send(()).expect("the test waits");
        }

        fn lower_priority(&self) {}

        fn may_wait(&self) -> bool {
            false
        }
    }

    #[test]
    fn each_crossing_of_an_account_that_lives_on_wakes_the_watch() {
        start_watch().expect("the system has a thread left");
        let account = Open::for_attempts(Some(1000), 2).expect("the table has free places");
        let (tells, told) = mpsc::channel();
        let killer: Arc<dyn Killer> = Arc::new(Tells(tells));
        watch_over(account.index(), Arc::downgrade(&killer));
        for _ in 0..3 {
            let attempt = account.begin_attempt();
            let block = {
                let _polled = account.enter_attempt(attempt);
                local_charge::charge(2000)
            };
            told.recv_timeout(Duration::from_secs(60)).expect("the watch kills");
            assert_eq!(account.crossed_by(), Some(attempt));
            local_charge::credit(block, 2000);
            account.end_attempt(attempt);
            assert!(!account.clear_over_limit());
        }
        forget(account.index());
        assert!(told.try_recv().is_err(), "each crossing is told once");
    }
}
