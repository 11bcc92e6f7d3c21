//! The watch: a thread that sleeps until an account crosses its limit, and then has the container killed.
//!
//! It is there once for the process, from the first function with a limit on, and wakes for nothing else.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::memory::accounts::{self, PLACES, Place};
use crate::memory::crossings::{Crossings, Link};

#[expect(unsafe_code, reason = "a table of zeros that takes no room in the binary")]
// SAFETY: a link is an integer and a bool, both atomic, and all zeros is a value of each.
static LINKS: [Link; PLACES] = unsafe { std::mem::zeroed() };

#[expect(unsafe_code, reason = "as the table")]
// SAFETY: an atomic integer.
static CROSSINGS: Crossings = unsafe { std::mem::zeroed() };

/// The watch's thread.
static WATCH: OnceLock<Thread> = OnceLock::new();

/// Who kills the container of an account.
static KILLERS: Mutex<BTreeMap<Place, Weak<dyn Killer>>> = Mutex::new(BTreeMap::new());

/// Kills a container. Nothing in it panics.
pub(crate) trait Killer: Send + Sync {
    /// Its account is overdrawn. Called on the watch's thread.
    fn kill(&self);

    /// It was killed, and should have come out of its code by now.
    fn lower_priority(&self);

    /// Whether its code may be expected to come out by itself.
    fn may_wait(&self) -> bool;
}

/// Starts the watch, if it does not run.
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

/// An account has crossed its limit. Called inside the allocator.
pub(crate) fn raise(place: Place) {
    CROSSINGS.add(place.get().into(), &LINKS[usize::from(place.get())]);
    if let Some(watch) = WATCH.get() {
        watch.unpark();
    }
}

/// Who is called when that account is overdrawn, until `forget`.
pub(crate) fn watch_over(place: Place, killer: Weak<dyn Killer>) {
    KILLERS.lock().insert(place, killer);
}

/// Nobody is called any more.
pub(crate) fn forget(place: Place) {
    KILLERS.lock().remove(&place);
}

/// How long code may take to come out by itself that has come by a checkpoint before: it may have to wait for a
/// core. It then restarts in place, and has freed what it held; a thread that is left behind holds that for longer.
const GRACE: Duration = Duration::from_millis(4);

/// How long it may take after that before its thread is taken for one that is stuck.
const PATIENCE: Duration = Duration::from_millis(50);

/// What the watch does when the time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Kill,
    LowerPriority,
}

fn watch() {
    // What is to be done later, in no order: there are as many as containers that have just crossed their limits.
    let mut later: Vec<(Instant, Then, Weak<dyn Killer>)> = Vec::new();
    loop {
        let now = now();
        CROSSINGS.take(
            |number| &LINKS[number as usize],
            |number| {
                let place = u16::try_from(number).ok().and_then(Place::new).expect("a place was added");
                match overdrawn(place) {
                    Some(killer) if killer.may_wait() => {
                        later.push((now + GRACE, Then::Kill, Arc::downgrade(&killer)));
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
                Then::Kill => {
                    killer.kill();
                    later.push((now + PATIENCE, Then::LowerPriority, Arc::downgrade(&killer)));
                }
                Then::LowerPriority => killer.lower_priority(),
            }
        }
        // At once, if something was added meanwhile.
        match later.iter().map(|(at, _, _)| *at).min() {
            Some(at) => thread::park_timeout(at.saturating_duration_since(self::now())),
            None => thread::park(),
        }
    }
}

/// Who kills the container that has the place now, if its account is overdrawn: it may be another one by now,
/// which then has crossed no limit.
fn overdrawn(place: Place) -> Option<Arc<dyn Killer>> {
    accounts::at(place).is_overdrawn().then(|| killer(place)).flatten()
}

#[expect(clippy::disallowed_methods, reason = "the watch has no function whose clock it could read")]
fn now() -> Instant {
    Instant::now()
}

fn killer(place: Place) -> Option<Arc<dyn Killer>> {
    KILLERS.lock().get(&place).and_then(Weak::upgrade)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_raised_is_taken_once() {
        let (list, links) = (Crossings::new(), [Link::new(), Link::new(), Link::new()]);
        let take = || {
            let mut taken = Vec::new();
            list.take(|number| &links[number as usize - 1], |number| taken.push(number));
            taken
        };
        for number in [3, 1, 3] {
            list.add(number, &links[number as usize - 1]);
        }
        assert_eq!((take(), take()), (vec![1, 3], vec![]));
        list.add(3, &links[2]);
        assert_eq!(take(), [3]);
    }
}
