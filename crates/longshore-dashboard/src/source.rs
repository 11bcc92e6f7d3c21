//! [`Source`]: the app that a dashboard shows, held weakly.
//!
//! It takes snapshots of the app. It keeps neither the app nor a function alive. It remembers its last
//! look at the app itself, so that the app can still be named when it is gone. The [history](crate::history)
//! remembers the functions.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use longshore::snapshot::AppSnapshot;
use longshore::{AnyFunction, App, FunctionSnapshot, WeakApp};

/// The app that a dashboard shows.
pub(crate) struct Source {
    app: WeakApp,
    /// The app at the last look. Each look writes it, and a look after the end of the app reads it.
    last: Mutex<Seen>,
}

/// An app, without its functions.
#[derive(Clone)]
struct Seen {
    longshore: &'static str,
    process: u32,
    started_unix_ms: u64,
    now: Duration,
    app: AppSnapshot,
    /// When this was seen.
    at: Instant,
}

/// The app and its functions at one moment.
pub(crate) struct Look {
    pub(crate) longshore: &'static str,
    pub(crate) process: u32,
    pub(crate) started_unix_ms: u64,
    pub(crate) now_unix_ms: u64,
    /// The moment, on the clock of snapshots.
    pub(crate) now: Duration,
    pub(crate) app: AppSnapshot,
    pub(crate) app_gone: bool,
    /// The functions that have not ended, in the order of their start.
    pub(crate) functions: Vec<(AnyFunction, FunctionSnapshot)>,
    /// The last functions that have ended, oldest first. Some may be in `functions` too, because they have
    /// ended since.
    pub(crate) ended: Vec<FunctionSnapshot>,
}

impl Seen {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is the clock of an app that is gone, and decides nothing"
    )]
    fn of(snapshot: longshore::Snapshot) -> (Self, Vec<FunctionSnapshot>) {
        let longshore::Snapshot { longshore, process, started_unix_ms, now, app, functions, .. } = snapshot;
        (Self { longshore, process, started_unix_ms, now, app, at: Instant::now() }, functions)
    }

    /// The app at this moment.
    fn look(
        self,
        now: Duration,
        app_gone: bool,
        functions: Vec<(AnyFunction, FunctionSnapshot)>,
        ended: Vec<FunctionSnapshot>,
    ) -> Look {
        let Self { longshore, process, started_unix_ms, app, .. } = self;
        let age_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let now_unix_ms = started_unix_ms.saturating_add(age_ms);
        Look { longshore, process, started_unix_ms, now_unix_ms, now, app, app_gone, functions, ended }
    }
}

impl Source {
    pub(crate) fn of(app: &App) -> Self {
        let (seen, _) = Seen::of(app.snapshot());
        Self { app: app.downgrade(), last: Mutex::new(seen) }
    }

    /// The name of the app.
    pub(crate) fn name(&self) -> &str {
        self.app.name()
    }

    /// Looks at the app.
    pub(crate) fn look(&self) -> Look {
        let Some(snapshot) = self.app.snapshot() else {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let now = last.now + last.at.elapsed();
            return last.look(now, true, Vec::new(), self.app.ended());
        };
        let (seen, snapshots) = Seen::of(snapshot);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = seen.clone();
        let handles = self.app.functions().into_iter();
        let mut handles: BTreeMap<String, AnyFunction> =
            handles.map(|handle| (handle.name().to_owned(), handle)).collect();
        // A function without a handle has ended since.
        let with_handle = |it: FunctionSnapshot| Some((handles.remove(&it.name)?, it));
        let functions = snapshots.into_iter().filter_map(with_handle).collect();
        let now = seen.now;
        seen.look(now, false, functions, self.app.ended())
    }
}
