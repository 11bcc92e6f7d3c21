//! What a function stands on: its clock, and the threads of its containers and feeders.
//!
//! A function that is started stands on the [`Machine`]. One that is rehearsed or simulated stands on a host of the test kit's or the
//! simulator's. The engine asks its host, and does not know which one it is. It asks for no input by itself: once or twice
//! for a lease, and where a thread is made.

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

/// A [`Host::instant`] that the platform cannot tell is so far ahead.
pub(crate) const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a function stands on.
pub(crate) trait Host: Send + Sync {
    /// The time since the function was started.
    fn now(&self) -> Time;

    /// The time at which the function was started, on the clock of snapshots. A host that makes time itself begins that
    /// clock with the function.
    fn started(&self) -> Duration;

    /// The instant of `time`, for a timed wait.
    fn instant(&self, time: Time) -> Instant;

    /// Makes a thread that lives the life of a container from that generation on.
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

    /// Whether containers tell of each outcome. Otherwise a consumer that waits in a task has the supervisor look for
    /// outcomes now and then.
    fn tells_of_each_outcome(&self) -> bool;

    /// The function tells its subscribers of an event.
    fn hear(&self, event: &Event, at: Time);
}

/// The machine as it is.
#[derive(Debug)]
pub(crate) struct Machine {
    /// When the function was started.
    start: Instant,
}

impl Machine {
    /// That of a function which is started now.
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub(crate) fn from_now() -> Self {
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
        // It passes the same inputs on as the containers, by value; the source may need what other threads have.
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
