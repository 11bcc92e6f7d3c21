//! Panics of tasks that were spawned inside a container.
//!
//! Tokio catches such a panic and hands it to the code that awaits the task, and often there is none. The
//! application's panic hook therefore hears of it, as it would outside of a container, and it becomes a
//! `warn` event. The hook itself cannot call a subscriber, because a panic inside of the hook ends the
//! process. It records the panic here, and a thread that exists for as long as there are panics to report
//! emits the events: the first panic of a location at once, and repeats once a second with their count.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::base::ids::{ContainerId, Generation};
use crate::contain::TARGET;
use crate::contain::panic::Panic;
use crate::contain::unwind::{ignore_panic, in_task};

/// The time for which repeats from one location are counted before they are reported.
const REPEATS_PERIOD: Duration = Duration::from_secs(1);

/// The number of locations that are reported separately within that time. All further ones are reported as
/// one location without a name.
const PLACES_MAX: usize = 64;

/// The container whose tasks a thread polls.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) app: Arc<str>,
    pub(crate) function: Arc<str>,
    pub(crate) container: ContainerId,
    pub(crate) generation: Generation,
}

impl Origin {
    pub(crate) fn of(
        (app, function): (&Arc<str>, &Arc<str>),
        container: ContainerId,
        generation: Generation,
    ) -> Self {
        Self { app: Arc::clone(app), function: Arc::clone(function), container, generation }
    }
}

thread_local! {
    static ORIGIN: RefCell<Option<Arc<Origin>>> = const { RefCell::new(None) };
}

/// A location where tasks panic. Each function has places of its own, although functions may share code.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PanicSite {
    function: Option<(Arc<str>, Arc<str>)>,
    location: Option<String>,
}

/// The panics that were recorded for one place.
#[derive(Debug)]
struct Noted {
    /// The number of panics that have not been reported.
    unreported: u64,
    /// The message of the last of them.
    message: String,
    origin: Option<Arc<Origin>>,
    /// Until this moment panics are only counted. `None` before the first was reported.
    counted_until: Option<Instant>,
}

/// All recorded panics. The panic hook writes them, and the reporting thread takes them.
struct Notes {
    places: BTreeMap<PanicSite, Noted>,
    /// Whether the reporting thread exists.
    has_reporter: bool,
}

static NOTES: Mutex<Notes> = Mutex::new(Notes { places: BTreeMap::new(), has_reporter: false });

/// Signals the thread that something was noted.
static CHANGED: Condvar = Condvar::new();

/// Polls a future that may run tasks which were spawned inside a container, on the container's thread.
pub(crate) fn among_tasks<T>(origin: &Arc<Origin>, poll: impl FnOnce() -> T) -> T {
    struct Before(Option<Arc<Origin>>);
    impl Drop for Before {
        fn drop(&mut self) {
            set_origin(self.0.take());
        }
    }
    let (_before, _in_task) = (Before(set_origin(Some(Arc::clone(origin)))), in_task(true));
    poll()
}

/// Runs the container's own code on a thread that polls tasks as well. A panic in that code is a
/// crash of the container.
pub(crate) fn as_its_own<T>(poll: impl FnOnce() -> T) -> T {
    let _own = in_task(false);
    poll()
}

/// Declares that this thread only runs blocking tasks of the container.
pub(crate) fn this_thread_runs_tasks(origin: &Arc<Origin>) {
    set_origin(Some(Arc::clone(origin)));
    mem::forget(in_task(true));
}

/// Replaces the origin. Late in the end of a thread there is no origin any more.
fn set_origin(origin: Option<Arc<Origin>>) -> Option<Arc<Origin>> {
    ORIGIN.try_with(|slot| slot.replace(origin)).ok().flatten()
}

/// Records that a task has panicked on this thread. Called in the panic hook, where nothing may panic.
pub(crate) fn panicked(panic: Panic) {
    let origin = ORIGIN.try_with(|origin| origin.borrow().clone()).ok().flatten();
    let mut notes = NOTES.lock();
    notes.add(panic, origin);
    if notes.has_reporter {
        drop(notes);
        CHANGED.notify_one();
        return;
    }
    notes.has_reporter = true;
    drop(notes);
    let reporter = std::thread::Builder::new().name("longshore/panics".to_owned());
    if reporter.spawn(report_all).is_err() {
        NOTES.lock().has_reporter = false; // the next panic tries again to make the thread
    }
}

impl Notes {
    fn add(&mut self, panic: Panic, origin: Option<Arc<Origin>>) {
        let function = |origin: &Arc<Origin>| (Arc::clone(&origin.app), Arc::clone(&origin.function));
        let mut place = PanicSite { function: origin.as_ref().map(function), location: panic.location };
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&place) {
            place = PanicSite { function: None, location: None };
        }
        let noted = Noted { unreported: 0, message: String::new(), origin: None, counted_until: None };
        let noted = match self.places.entry(place) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(noted),
        };
        noted.unreported += 1;
        noted.message = panic.message;
        noted.origin = origin;
    }

    /// Reports the panics that are due, with the lock released. Returns when the next ones are due, or
    /// `None` if there are none.
    fn report_due(this: &mut MutexGuard<'_, Self>, now: Instant) -> Option<Instant> {
        let over = |noted: &Noted| noted.counted_until.is_none_or(|until| until <= now);
        this.places.retain(|_, noted| noted.unreported > 0 || !over(noted));
        let mut due = Vec::new();
        for (place, noted) in &mut this.places {
            if over(noted) {
                noted.counted_until = Some(now + REPEATS_PERIOD);
                let message = mem::take(&mut noted.message);
                due.push((
                    place.location.clone(),
                    message,
                    noted.origin.take(),
                    mem::take(&mut noted.unreported),
                ));
            }
        }
        MutexGuard::unlocked(this, || {
            for (location, message, origin, panics) in due {
                ignore_panic(|| emit(location.as_deref(), &message, origin.as_deref(), panics));
            }
        });
        this.places.values().map(|noted| noted.counted_until.unwrap_or(now)).min()
    }
}

/// The main function of the reporting thread.
fn report_all() {
    let mut notes = NOTES.lock();
    while let Some(next) = Notes::report_due(&mut notes, now()) {
        CHANGED.wait_until(&mut notes, next);
    }
    notes.has_reporter = false;
}

fn emit(location: Option<&str>, cause: &str, origin: Option<&Origin>, panics: u64) {
    let app = origin.map(|origin| &*origin.app);
    let function = origin.map(|origin| &*origin.function);
    let container = origin.map(|origin| origin.container.index());
    let generation = origin.map(|origin| origin.generation.get());
    tracing::warn!(target: TARGET, app, function, container, generation, cause, location, panics, "task panicked");
}

#[expect(clippy::disallowed_methods, reason = "the thread has no function whose clock it could read")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(notes: &mut Notes, location: &str) {
        notes.add(Panic { message: "a task's".into(), location: Some(location.into()) }, None);
    }

    fn unreported(notes: &Mutex<Notes>) -> Vec<u64> {
        notes.lock().places.values().map(|noted| noted.unreported).collect()
    }

    #[test]
    fn the_first_panic_of_a_place_is_reported_at_once_and_repeats_once_a_second() {
        let notes = Mutex::new(Notes { places: BTreeMap::new(), has_reporter: true });
        let tell = |now| Notes::report_due(&mut notes.lock(), now);
        let begun = now();
        add(&mut notes.lock(), "a");
        assert_eq!(tell(begun), Some(begun + REPEATS_PERIOD));
        assert_eq!(unreported(&notes), [0]);
        (0..3).for_each(|_| add(&mut notes.lock(), "a"));
        add(&mut notes.lock(), "b");
        assert_eq!(tell(begun + REPEATS_PERIOD / 2), Some(begun + REPEATS_PERIOD));
        assert_eq!(unreported(&notes), [3, 0], "b is reported at once, a is only counted");
        assert_eq!(tell(begun + REPEATS_PERIOD), Some(begun + REPEATS_PERIOD / 2 + REPEATS_PERIOD));
        assert_eq!(unreported(&notes), [0, 0]);
        assert_eq!(tell(begun + REPEATS_PERIOD / 2 + REPEATS_PERIOD), Some(begun + 2 * REPEATS_PERIOD));
        assert_eq!(tell(begun + 2 * REPEATS_PERIOD), None, "nothing is left");
    }

    #[test]
    fn further_places_share_a_note() {
        let mut notes = Notes { places: BTreeMap::new(), has_reporter: true };
        (0..3 * PLACES_MAX).for_each(|n| add(&mut notes, &format!("{n}")));
        assert_eq!(notes.places.len(), PLACES_MAX + 1);
        let all: u64 = notes.places.values().map(|noted| noted.unreported).sum();
        assert_eq!(all, 3 * PLACES_MAX as u64);
    }
}
