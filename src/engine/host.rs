//! The host of a function: its clock, and the threads of its containers and feeders.
//!
//! A function that is started has the [`Machine`] as its host. A function that is rehearsed or simulated has
//! a host of the test kit or of the simulator. The engine calls its host without knowing which one it is. It
//! makes no call for a single input: it makes one or two for each lease, and one for each new thread.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::contain::drops::DeferDrop;
use crate::data::source::BlockingSource;
use crate::decide::time::Time;
use crate::engine::anchor::Anchor;
use crate::engine::dispatch::Dispatch;
use crate::engine::spawn::spawn;
use crate::engine::system::on_engine_thread;
use crate::engine::{feeder, thread};
use crate::values::event::Event;

/// Stands in for a [`Host::instant`] that the platform's clock cannot represent.
pub(crate) const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The clock and the threads of a function.
pub(crate) trait Host: Send + Sync {
    /// The time since the function was started.
    fn now(&self) -> Time;

    /// The time at which the function was started, on the clock of snapshots. A host that makes time itself
    /// begins that clock with the function.
    fn started(&self) -> Duration;

    /// The instant that corresponds to `time`, for a timed wait.
    fn instant(&self, time: Time) -> Instant;

    /// Makes a thread that runs a container from `generation` on.
    ///
    /// # Errors
    ///
    /// The system makes none.
    fn make_container(
        &self,
        dispatch: &Arc<Dispatch>,
        id: ContainerId,
        generation: Generation,
    ) -> io::Result<()>;

    /// Makes a thread that pulls the source of a map.
    ///
    /// # Errors
    ///
    /// The system makes none. The source is dropped.
    fn make_feeder(
        &self,
        dispatch: &Arc<Dispatch>,
        job: JobId,
        source: DeferDrop<BlockingSource>,
    ) -> io::Result<()>;

    /// Whether the calling thread must not wait for a subscriber.
    fn must_not_wait(&self) -> bool;

    /// Whether containers wake a waiting consumer after each outcome. Otherwise, if a consumer waits in a
    /// task, the supervisor polls for outcomes on its behalf.
    fn tells_of_each_outcome(&self) -> bool;

    /// Called with each event of the function, in addition to its subscribers.
    fn hear(&self, event: &Event, at: Time);
}

/// The real machine: the system's clock and the system's threads.
#[derive(Debug)]
pub(super) struct Machine {
    /// When the function was started.
    start: Instant,
}

impl Machine {
    /// The host of a function that starts now.
    #[expect(clippy::disallowed_methods, reason = "the machine reads the clock for its function")]
    pub(super) fn from_now() -> Self {
        Self { start: Instant::now() }
    }
}

impl Host for Machine {
    fn now(&self) -> Time {
        Time(self.start.elapsed())
    }

    fn started(&self) -> Duration {
        Anchor::get().to(self.start)
    }

    fn instant(&self, time: Time) -> Instant {
        self.start.checked_add(time.0).unwrap_or_else(|| self.start + FAR)
    }

    fn make_container(
        &self,
        dispatch: &Arc<Dispatch>,
        id: ContainerId,
        generation: Generation,
    ) -> io::Result<()> {
        let settings = &dispatch.settings;
        let name = format!("{}/{}/{id}#{generation}", settings.app, settings.function);
        let theirs = Arc::clone(dispatch);
        spawn(name, settings.stack_bytes, Box::new(move || thread::run(&theirs, id, generation)))
    }

    fn make_feeder(
        &self,
        dispatch: &Arc<Dispatch>,
        job: JobId,
        source: DeferDrop<BlockingSource>,
    ) -> io::Result<()> {
        let settings = &dispatch.settings;
        let label = dispatch.label(job);
        let name = format!("{}/{}/{}", settings.app, settings.function, label.as_deref().unwrap_or("feed"));
        let feeds = Arc::clone(dispatch);
        let feed = Box::new(move || feeder::run(&feeds, job, source.into_inner()));
        // The feeder moves the same inputs by value as the containers do, and the source may need the usual
        // stack as well.
        spawn(name, settings.stack().bytes(), feed)
    }

    fn must_not_wait(&self) -> bool {
        on_engine_thread()
    }

    fn tells_of_each_outcome(&self) -> bool {
        false
    }

    fn hear(&self, _: &Event, _: Time) {}
}
