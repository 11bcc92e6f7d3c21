//! The handle with which any thread can read the progress of one map.

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::base::ids::JobId;
use crate::values::progress::Progress;

/// Reads the progress of a map that another thread or task consumes, for a progress bar or a log: see
/// [`Map::progress_handle`](crate::Map::progress_handle). It is cheap to clone, and keeps neither the map nor
/// the function alive.
///
/// Once the map has been consumed or dropped, the handle shows the last counts.
///
/// ```
/// use longshore::App;
///
/// let app = App::ephemeral("docs");
/// let f = app.infallible("f", |n: &u64| *n).start()?;
/// let mut map = f.map(0..100u64);
/// let progress = map.progress_handle();
/// assert_eq!(progress.get().pulled, 0, "a map begins when its first outcome is asked for");
/// assert_eq!(map.into_iter().count(), 100);
/// assert!(progress.is_ended());
/// assert_eq!((progress.get().ok, progress.get().total), (100, Some(100)));
/// # Ok::<(), longshore::StartError>(())
/// ```
#[derive(Clone)]
pub struct ProgressHandle(Arc<Mutex<State>>);

enum State {
    /// The map has not begun.
    Waiting,
    Open(Weak<dyn ReadProgress>, JobId),
    Ended(Progress),
}

/// Reads the progress of a job. A [`ProgressHandle`] reaches the function through this trait.
pub(super) trait ReadProgress: Send + Sync {
    /// The progress of the job, or `None` if the job is closed.
    fn read_progress(&self, job: JobId) -> Option<Progress>;
}

/// The map's end of its progress handles. Its drop is the end of the map.
pub(crate) struct ProgressSource(ProgressHandle);

impl ProgressSource {
    /// The source of a map that has not begun.
    pub(crate) fn new() -> Self {
        Self(ProgressHandle(Arc::new(Mutex::new(State::Waiting))))
    }

    pub(crate) fn handle(&self) -> ProgressHandle {
        self.0.clone()
    }

    /// Connects the handles to a job that has begun.
    pub(super) fn open(&self, function: Weak<dyn ReadProgress>, job: JobId) {
        *self.0.0.lock() = State::Open(function, job);
    }

    /// Stores the last progress of the job, which is closed.
    pub(super) fn end(&self, last: Progress) {
        *self.0.0.lock() = State::Ended(last);
    }
}

impl Drop for ProgressSource {
    /// A map that was dropped before it began, that was refused, or whose engine is broken has no last
    /// counts.
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        if !matches!(*state, State::Ended(_)) {
            *state = State::Ended(Progress::default());
        }
    }
}

impl fmt::Debug for ProgressSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgressSource")
    }
}

impl ProgressHandle {
    /// The progress of the map. All counts are zero before the map begins, and if it was refused.
    ///
    /// It takes the function's lock for about a microsecond.
    #[must_use]
    pub fn get(&self) -> Progress {
        let (function, job) = match &*self.0.lock() {
            State::Waiting => return Progress::default(),
            State::Ended(last) => return *last,
            State::Open(function, job) => (Weak::clone(function), *job),
        };
        // The handle is not locked here, because the end of the map locks it with the function's lock free,
        // and because the last handle to the function may be dropped here.
        let progress = function.upgrade().and_then(|function| function.read_progress(job));
        progress.unwrap_or_else(|| match &*self.0.lock() {
            State::Ended(last) => *last,
            // The job is closed, and its end is about to be stored.
            State::Waiting | State::Open(..) => Progress::default(),
        })
    }

    /// Whether the map was consumed or dropped, or was refused. A map whose iterator has returned `None` is
    /// dropped with the iterator, as at the end of a `for` loop.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(*self.0.lock(), State::Ended(_))
    }
}

impl fmt::Debug for ProgressHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProgressHandle").field(&self.get()).finish()
    }
}
