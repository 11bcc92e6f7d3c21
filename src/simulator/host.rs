//! The host of a simulated function: a clock that the simulator moves, and threads that the simulator steps
//! itself.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::contain::drops::DeferDrop;
use crate::data::source::BlockingSource;
use crate::decide::time::Time;
use crate::engine::dispatch::Dispatch;
use crate::engine::host::Host;
use crate::simulator::events::Heard;
use crate::values::event::Event;

/// The moment at which a simulated function was started, on the clock of snapshots.
pub(super) const STARTED: Duration = Duration::from_secs(1_000_000);

/// Lets time pass on the clock of a simulated function.
pub(super) fn passes(clock: &AtomicU64, time: Duration) {
    let nanos = u64::try_from(time.as_nanos()).expect("a world is shorter than five centuries");
    clock.fetch_add(nanos, Ordering::Relaxed);
}

#[derive(Default)]
pub(super) struct Simulation {
    /// In nanoseconds since the function was started; the simulator moves it on.
    pub(super) clock: Arc<AtomicU64>,
    /// The events that subscribers receive.
    pub(super) heard: Heard,
}

impl Host for Simulation {
    fn now(&self) -> Time {
        Time(Duration::from_nanos(self.clock.load(Ordering::Relaxed)))
    }

    fn started(&self) -> Duration {
        STARTED
    }

    fn instant(&self, _: Time) -> Instant {
        unreachable!("a simulated thread does not wait, but is asked later")
    }

    fn make_container(&self, _: &Arc<Dispatch>, _: ContainerId, _: Generation) -> io::Result<()> {
        unreachable!("there are no container actors that ask for it")
    }

    fn make_feeder(&self, _: &Arc<Dispatch>, _: JobId, _: DeferDrop<BlockingSource>) -> io::Result<()> {
        unreachable!("there is no supervisor that asks for it")
    }

    fn must_not_wait(&self) -> bool {
        false
    }

    fn tells_of_each_outcome(&self) -> bool {
        false
    }

    fn hear(&self, event: &Event, at: Time) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push((event.clone(), at));
    }
}
