//! The sampler: a thread that looks at the app once a second while a [`Dashboard`](crate::Dashboard) lives.
//!
//! It holds the dashboard weakly. It ends at once when the last clone of the dashboard is dropped, and
//! nothing waits for it.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crate::dashboard::Watched;

/// Ends the sampler when it is dropped.
pub(crate) struct Sampler {
    _alive: Sender<()>,
}

/// The thread waits on it, and ends when the [`Sampler`] is dropped.
pub(crate) struct Ended(Receiver<()>);

impl Sampler {
    pub(crate) fn new() -> (Self, Ended) {
        let (alive, ended) = channel();
        (Self { _alive: alive }, Ended(ended))
    }
}

/// Starts the thread.
pub(crate) fn start(watched: &Arc<Watched>, ended: Ended) -> io::Result<()> {
    let watched = Arc::downgrade(watched);
    let thread = thread::Builder::new().name("longshore-sampler".to_owned());
    thread.spawn(move || run(&watched, &ended))?;
    Ok(())
}

fn run(watched: &Weak<Watched>, ended: &Ended) {
    loop {
        let Some(now) = watched.upgrade().map(|watched| watched.sample()) else { return };
        // Each look is just after the full second, so that every second has one.
        let wait = Duration::from_secs(1) - Duration::from_nanos(u64::from(now.subsec_nanos()));
        if ended.0.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore::App;

    use super::*;
    use crate::Dashboard;

    #[test]
    fn the_thread_holds_the_dashboard_weakly_and_ends_with_its_last_clone() {
        let app = App::ephemeral("sampler");
        let dashboard = Dashboard::of(&app);
        let watched = Arc::downgrade(&dashboard.watched);
        let (sampler, ended) = Sampler::new();
        let its = Weak::clone(&watched);
        let thread = thread::spawn(move || run(&its, &ended));
        let clone = dashboard.clone();
        drop(dashboard);
        assert!(watched.upgrade().is_some() && !thread.is_finished());
        drop(clone);
        drop(sampler);
        thread.join().expect("it ends at once, and does not panic");
        while watched.upgrade().is_some() {
            thread::yield_now(); // the dashboard's own sampler may be in the middle of a look
        }
    }
}
