//! [`WeakApp`]: a handle to an app that does not keep the app alive.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::api::any_function::AnyFunction;
use crate::api::app::AppInner;
use crate::engine::viewers::EndedFunctions;
use crate::values::snapshot::{FunctionSnapshot, Snapshot};

/// A handle to an [`App`](crate::App) for a viewer, such as a dashboard or an exporter. It is cheap to clone.
///
/// It keeps nothing of the app alive and delays no end. It is valid until the app and the builders that came
/// from it are dropped. A call of [`App::shutdown_blocking`](crate::App::shutdown_blocking) or its like holds
/// the app until it returns, so a viewer sees how the functions end. While there is a `WeakApp`, the last
/// snapshots of functions that have ended are kept for it, also beyond the end of the app.
///
/// ```
/// use longshore::App;
///
/// let app = App::ephemeral("docs");
/// let viewer = app.downgrade();
/// let double = app.infallible("double", |n: &u64| 2 * n).containers(1).start()?;
/// assert_eq!(viewer.functions()[0].name(), "double");
/// assert_eq!(viewer.snapshot().unwrap().functions.len(), 1);
///
/// app.shutdown_blocking();
/// assert!(viewer.is_gone() && viewer.snapshot().is_none());
/// assert!(viewer.ended()[0].report.as_ref().unwrap().is_clean());
/// # drop(double);
/// # Ok::<(), longshore::StartError>(())
/// ```
#[derive(Clone)]
pub struct WeakApp {
    name: Arc<str>,
    app: Weak<AppInner>,
    ended: Arc<EndedFunctions>,
}

impl WeakApp {
    pub(super) fn of(app: &Arc<AppInner>) -> Self {
        Self { name: Arc::clone(&app.name), app: Arc::downgrade(app), ended: app.viewers.add() }
    }

    /// The app's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the app has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.app.strong_count() == 0
    }

    /// The functions that have been started and have not ended, in the order of their start. While the app is
    /// ending, these are the functions that it ends. It is empty if the app is gone.
    #[must_use]
    pub fn functions(&self) -> Vec<AnyFunction> {
        self.app.upgrade().map(|app| app.functions()).unwrap_or_default()
    }

    /// A snapshot of the app and of [these functions](Self::functions), as
    /// [`App::snapshot`](crate::App::snapshot) returns it. It is `None` if the app is gone.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        Some(self.app.upgrade()?.snapshot())
    }

    /// The last snapshots of the last 16 functions that ended while there was a `WeakApp`, oldest first. Each
    /// was taken at the end, and has the report of its function.
    #[must_use]
    pub fn ended(&self) -> Vec<FunctionSnapshot> {
        self.ended.snapshots()
    }
}

impl fmt::Debug for WeakApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakApp").field("name", &self.name).finish_non_exhaustive()
    }
}
