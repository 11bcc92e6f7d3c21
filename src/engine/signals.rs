//! The signals that end apps: Ctrl-C everywhere, and SIGTERM on Unix.
//!
//! A process has one [`listen`]er, a thread that is made when the first app asks for it. tokio keeps its
//! handlers installed for ever, so the thread stays too: it ends the process when a signal arrives and no app
//! is left, as the system would have.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::contain::TARGET;
use crate::contain::unwind::ignore_panic;
use crate::engine::actor::Ending;
use crate::engine::registry::{Ends, Registry};
use crate::engine::running::Running;
use crate::values::error::SignalError;
use crate::values::report::Report;

/// The apps that end on a signal, once the listener runs.
static APPS: Mutex<Option<Vec<Signalled>>> = Mutex::new(None);

/// An app that ends on a signal.
struct Signalled {
    name: Arc<str>,
    registry: Weak<Registry<Arc<Running>>>,
    /// The limit of the drain.
    limit: Duration,
    /// The number of signals that it has had.
    signals: u32,
}

/// The response of an app to a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    Drain,
    Abort,
    /// It has been aborted already.
    Nothing,
}

impl Response {
    /// The response to the signal after `before` others.
    fn after(before: u32) -> Self {
        match before {
            0 => Self::Drain,
            1 => Self::Abort,
            _ => Self::Nothing,
        }
    }
}

/// A signal that ends apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Interrupt,
    #[cfg(unix)]
    Terminate,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "Ctrl-C",
            #[cfg(unix)]
            Self::Terminate => "SIGTERM",
        }
    }

    /// The exit code of a process that this signal has ended, as a shell shows it.
    fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 128 + 2,
            #[cfg(unix)]
            Self::Terminate => 128 + 15,
        }
    }
}

/// Lets an app end on a signal. Returns a receiver of the report, which fails if the app is dropped before.
pub(crate) fn end_on_signal(
    name: &Arc<str>,
    registry: &Arc<Registry<Arc<Running>>>,
    limit: Duration,
) -> Result<oneshot::Receiver<Report>, SignalError> {
    let mut apps = APPS.lock();
    if apps.is_none() {
        listen()?;
    }
    let apps = apps.get_or_insert_default();
    apps.retain(|app| app.registry.strong_count() > 0);
    let (report, reported) = oneshot::channel();
    registry.report_to(report);
    let weak = Arc::downgrade(registry);
    if !apps.iter().any(|app| app.registry.ptr_eq(&weak)) {
        apps.push(Signalled { name: Arc::clone(name), registry: weak, limit, signals: 0 });
    }
    Ok(reported)
}

/// Makes the thread that listens, and waits until its handlers are installed.
fn listen() -> Result<(), SignalError> {
    let (installed, result) = bounded(1);
    let thread = std::thread::Builder::new().name("longshore/signals".to_owned());
    thread.spawn(move || listener(&installed)).map_err(SignalError::Thread)?;
    // The thread sends before it ends, unless it panics.
    result.recv().unwrap_or_else(|_| Err(SignalError::Install(std::io::Error::other("the thread has ended"))))
}

fn listener(installed: &Sender<Result<(), SignalError>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(installed.send(Err(SignalError::Install(error)))),
    };
    runtime.block_on(async {
        let mut signals = match Signals::install() {
            Ok(signals) => signals,
            Err(error) => return drop(installed.send(Err(SignalError::Install(error)))),
        };
        drop(installed.send(Ok(()))); // fails if the thread that asked has died
        while let Some(signal) = signals.next().await {
            respond(signal);
        }
    });
}

/// The installed handlers.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
}

impl Signals {
    #[cfg(unix)]
    fn install() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    #[cfg(windows)]
    fn install() -> std::io::Result<Self> {
        Ok(Self { interrupt: tokio::signal::windows::ctrl_c()? })
    }

    /// The next signal. `None` if the system sends no more.
    #[cfg(unix)]
    async fn next(&mut self) -> Option<Signal> {
        std::future::poll_fn(|cx| {
            use std::task::Poll;
            match (self.interrupt.poll_recv(cx), self.terminate.poll_recv(cx)) {
                (Poll::Ready(Some(())), _) => Poll::Ready(Some(Signal::Interrupt)),
                (_, Poll::Ready(Some(()))) => Poll::Ready(Some(Signal::Terminate)),
                (Poll::Ready(None), Poll::Ready(None)) => Poll::Ready(None),
                _ => Poll::Pending,
            }
        })
        .await
    }

    #[cfg(windows)]
    async fn next(&mut self) -> Option<Signal> {
        self.interrupt.recv().await.map(|()| Signal::Interrupt)
    }
}

/// Drains or aborts each app. Ends the process if there is no app, or if all apps have been aborted before.
fn respond(signal: Signal) {
    let mut due = Vec::new();
    for app in APPS.lock().iter_mut().flatten() {
        let Some(registry) = app.registry.upgrade() else { continue };
        let response = Response::after(app.signals);
        app.signals = app.signals.saturating_add(1);
        if response != Response::Nothing {
            due.push((Arc::clone(&app.name), registry, response, app.limit));
        }
    }
    if due.is_empty() {
        std::process::exit(signal.exit_code());
    }
    for (app, registry, response, limit) in due {
        let signal = signal.name();
        match response {
            Response::Drain => {
                ignore_panic(|| tracing::info!(target: TARGET, %app, signal, "draining on a signal"));
                drain(&app, &registry, limit);
            }
            Response::Abort => {
                ignore_panic(|| tracing::warn!(target: TARGET, %app, signal, "aborting on a second signal"));
                for function in registry.running() {
                    drop(function.end(Ending::Abort, Duration::ZERO));
                }
            }
            Response::Nothing => {}
        }
    }
}

/// Drains the functions of an app, and sends the report to those who wait for it.
fn drain(app: &Arc<str>, registry: &Arc<Registry<Arc<Running>>>, limit: Duration) {
    let ends = registry.refuse();
    let ending = ends.end(Ending::Drain, limit);
    let (app, receivers) = (app.to_string(), registry.take_receivers());
    tokio::spawn(async move {
        let mut reports = Vec::new();
        for report in ending {
            reports.push(report.await);
        }
        let report = ends.report(app, reports, false);
        for receiver in receivers {
            drop(receiver.send(report.clone())); // fails if the receiver no longer waits
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signal_drains_the_second_aborts_and_no_further_one_is_for_the_app() {
        let responses: Vec<Response> = (0..4).map(Response::after).collect();
        assert_eq!(responses, [Response::Drain, Response::Abort, Response::Nothing, Response::Nothing]);
        assert_eq!(Response::after(u32::MAX), Response::Nothing);
    }
}
