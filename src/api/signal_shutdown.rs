//! [`SignalShutdown`]: waiting for the end of an app on a signal.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::sync::oneshot::Receiver;

use crate::engine::registry::{Ends, Registry};
use crate::engine::running::Running;
use crate::engine::system::on_engine_thread;
use crate::engine::wait::wait;
use crate::values::report::Report;

/// The end of an app on a signal: see [`App::shutdown_on_signal`](crate::App::shutdown_on_signal). Await
/// it, or [wait](SignalShutdown::wait) for it. It keeps nothing alive, and dropping it changes nothing:
/// the app still ends on a signal. It needs the feature `signal`.
///
/// # Cancel safety
///
/// It can be awaited by reference.
///
/// ```
/// use longshore::App;
///
/// let app = App::ephemeral("docs");
/// let signalled = app.shutdown_on_signal().unwrap();
/// drop(app);
/// assert!(signalled.wait().is_none()); // there was no signal
/// ```
pub struct SignalShutdown {
    reported: Receiver<Report>,
    registry: Weak<Registry<Arc<Running>>>,
}

impl SignalShutdown {
    pub(super) fn new(reported: Receiver<Report>, registry: &Arc<Registry<Arc<Running>>>) -> Self {
        Self { reported, registry: Arc::downgrade(registry) }
    }

    /// Waits until a signal has ended the app, and returns the report. Returns `None` if the app was shut
    /// down or dropped without a signal. On the engine's thread, and inside a container of one of the
    /// app's own functions, this would wait for itself, and returns `None` at once.
    #[must_use]
    pub fn wait(self) -> Option<Report> {
        let functions = self.registry.upgrade().map(|registry| registry.running()).unwrap_or_default();
        if on_engine_thread() || functions.iter().any(Ends::is_in_a_container) {
            return None;
        }
        drop(functions);
        wait(self)
    }
}

/// The report, or `None` if the app was shut down or dropped without a signal.
impl Future for SignalShutdown {
    type Output = Option<Report>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.reported).poll(cx).map(Result::ok)
    }
}

impl fmt::Debug for SignalShutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignalShutdown")
    }
}
