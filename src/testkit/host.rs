//! The host of a rehearsed function: virtual time, and tasks in place of threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::contain::drops::DeferDrop;
use crate::data::source::BlockingSource;
use crate::decide::time::Time;
use crate::engine::dispatch::Dispatch;
use crate::engine::host::{FAR, Host};
use crate::engine::system::on_engine_thread;
use crate::testkit::stage::Rehearsed;
use crate::testkit::{container, feeder};
use crate::values::event::Event;

/// The [`Host`] on the thread and the runtime of a rehearsal.
pub(super) struct Theatre<I, O, E> {
    rehearsed: Arc<Rehearsed<I, O, E>>,
    start: tokio::time::Instant,
    /// Virtual time in nanoseconds, as last read on the runtime's thread. Other threads cannot read tokio's
    /// clock.
    seen: AtomicU64,
}

impl<I, O, E> Theatre<I, O, E> {
    /// The host in the runtime of the calling task, whose virtual time begins now.
    pub(super) fn from_now(rehearsed: Arc<Rehearsed<I, O, E>>) -> Self {
        Self { rehearsed, start: tokio::time::Instant::now(), seen: AtomicU64::new(0) }
    }
}

impl<I, O, E> Host for Theatre<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn now(&self) -> Time {
        if !on_engine_thread() {
            return Time(Duration::from_nanos(self.seen.load(Ordering::Relaxed)));
        }
        let now = self.start.elapsed();
        self.seen.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Time(now)
    }

    fn started(&self) -> Duration {
        Duration::ZERO
    }

    fn instant(&self, time: Time) -> Instant {
        self.start.checked_add(time.0).unwrap_or_else(|| self.start + FAR).into_std()
    }

    fn make_container(
        &self,
        dispatch: &Arc<Dispatch>,
        id: ContainerId,
        generation: Generation,
    ) -> io::Result<()> {
        actix::spawn(container::run(Arc::clone(dispatch), id, generation, Arc::clone(&self.rehearsed)));
        Ok(())
    }

    fn make_feeder(
        &self,
        dispatch: &Arc<Dispatch>,
        job: JobId,
        source: DeferDrop<BlockingSource>,
    ) -> io::Result<()> {
        actix::spawn(feeder::run(Arc::clone(dispatch), job, source.into_inner()));
        Ok(())
    }

    fn must_not_wait(&self) -> bool {
        false // there is no other thread that could deliver instead
    }

    fn tells_of_each_outcome(&self) -> bool {
        true
    }

    fn hear(&self, event: &Event, at: Time) {
        self.rehearsed.log.event(event.clone(), at.0);
    }
}
