//! The model of little room in a wide window. While the room may still grow it is not worth a claim, and
//! after a moment a container takes it all the same.
//!
//! A container looks at maps only if no other work goes before them. So the model has only bounds for the
//! moment since which a map has waited. The map has not waited since before the model first saw it, and it
//! has waited at the latest since a container slept although the map had little room.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::ids::JobId;
use crate::decide::time::Time;
use crate::simulator::eligible::Eligible;

/// The time for which a container waits for little room to grow.
const WAIT: Duration = Duration::from_millis(1);

/// The moments since which a map has had little room.
#[derive(Debug, Clone, Copy)]
struct Since {
    /// When the model first saw it.
    seen: Time,
    /// When a container went to sleep over it, if the map has had no more room since.
    slept: Option<Time>,
}

/// The maps that have little room.
#[derive(Debug, Default)]
pub(super) struct LittleRoom(BTreeMap<JobId, Since>);

impl LittleRoom {
    /// A container asks for work.
    pub(super) fn asked(&mut self, eligible: &Eligible, now: Time) {
        for (job, since) in &mut self.0 {
            since.slept.take_if(|_| !eligible.little_room.contains(job));
        }
        for job in &eligible.little_room {
            self.0.entry(*job).or_insert(Since { seen: now, slept: None });
        }
    }

    /// The container was given new inputs of that map.
    pub(super) fn claimed(&mut self, job: JobId, eligible: &Eligible, now: Time) {
        let since = self.0.remove(&job);
        if eligible.little_room.contains(&job) {
            let due = since.expect("it was seen when the container asked").seen + WAIT;
            assert!(due <= now, "little room was claimed at {now:?}, not from {due:?} on");
        }
        // A container to which the wake-up is passed on may see the rest of the room at once.
        self.0.insert(job, Since { seen: now, slept: None });
    }

    /// The container sleeps. `watched` is when the first of the sleeping containers wakes by itself, and
    /// `due` is when something other than little room falls due. A container may wake earlier, because it
    /// also looks for inputs that others have leased ahead.
    pub(super) fn slept(&mut self, eligible: &Eligible, watched: Option<Time>, due: Option<Time>, now: Time) {
        self.0.retain(|job, _| eligible.little_room.contains(job));
        for since in self.0.values_mut() {
            let due = *since.slept.get_or_insert(now) + WAIT;
            assert!(due > now, "little room was not taken though it had waited until {due:?}");
        }
        let little_room = self.0.values().filter_map(|since| Some(since.slept? + WAIT)).min();
        if let Some(most) = little_room.into_iter().chain(due).min() {
            assert!(
                watched.is_some_and(|watched| watched <= most),
                "work is conserved: something falls due at {most:?}, and the first sleeper wakes at {watched:?}"
            );
        }
    }
}
