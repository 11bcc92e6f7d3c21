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

fn watch() {
    // Actions that are due later, in no order. There is at most one for each container that has
    // just crossed its limit.
    let mut later: Vec<(Instant, WatchStep, Weak<dyn Killer>)> = Vec::new();
    loop {
        let now = now();
        OVER_LIMIT.take(
            |number| &LINKS[number as usize],
            |number| {
                let index =
                    u16::try_from(number).ok().and_then(AccountIndex::new).expect("a place was added");
                match over_limit(index) {
                    Some(killer) if killer.may_wait() => {
                        later.push((now + GRACE, WatchStep::Kill, Arc::downgrade(&killer)));
                    }
                    Some(killer) => killer.kill(),
                    None => {}
                }
            },
        );
        let due: Vec<_> = later.extract_if(.., |(at, _, _)| *at <= now).collect();
        for (_, then, killer) in due {
            let Some(killer) = killer.upgrade() else { continue };
            match then {
                WatchStep::Kill => {
                    killer.kill();
                    later.push((now + STUCK_AFTER, WatchStep::LowerPriority, Arc::downgrade(&killer)));
                }
                WatchStep::LowerPriority => killer.lower_priority(),
            }
        }
        // If an account was added meanwhile, parking returns at once.
        match later.iter().map(|(at, _, _)| *at).min() {
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
    use super::*;

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
}
