//! [`Source`]: the app that a dashboard shows, held weakly.
//!
//! It takes snapshots and finds functions by name. It keeps neither the app nor a function alive.

use std::time::Duration;

use longshore::snapshot::AppSnapshot;
use longshore::{AnyFunction, App, FunctionSnapshot};

/// The app that a dashboard shows.
pub(crate) struct Source {
    functions: Vec<AnyFunction>,
    app: longshore::Snapshot,
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
}

impl Source {
    pub(crate) fn of(app: &App) -> Self {
        Self { functions: app.functions(), app: app.snapshot() }
    }

    /// Looks at the app.
    pub(crate) fn look(&self) -> Look {
        let functions: Vec<_> =
            self.functions.iter().filter_map(|f| Some((f.clone(), f.snapshot()?))).collect();
        let app = &self.app;
        let now = functions.first().map_or(app.now, |(_, snapshot)| snapshot.now);
        Look {
            longshore: app.longshore,
            process: app.process,
            started_unix_ms: app.started_unix_ms,
            now_unix_ms: app.started_unix_ms + u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            now,
            app: app.app.clone(),
            app_gone: functions.is_empty(),
            functions,
        }
    }
}
