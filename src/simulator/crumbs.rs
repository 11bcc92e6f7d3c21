//! Little room in a wide window: while it may still grow it is not worth a claim, and after a moment
//! it is taken all the same.
//!
//! A container looks at maps only where nothing goes before them, so that the books know only within
//! bounds since when one has waited: not before it was first seen so, and at the latest since a
//! container slept over it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::ids::JobId;
use crate::decide::time::Time;

/// How long little room may wait to become more.
const WAIT: Duration = Duration::from_millis(1);

/// Maps that have new inputs.
#[derive(Debug, Default)]
pub(super) struct Eligible {
    /// A container could be given some of theirs now.
    pub(super) now: Vec<JobId>,
    /// Those of them of which a container that sleeps is told. The last few inputs of a source may wait
    /// until there is as much room as is told of.
    pub(super) told: Vec<JobId>,
    /// They have room, but for fewer than are worth a claim.
    pub(super) crumbs: Vec<JobId>,
}

/// Since when a map has had little room.
#[derive(Debug, Clone, Copy)]
struct Since {
    /// It was seen so.
    seen: Time,
    /// A container slept over it, and it has not had more since.
    slept: Option<Time>,
}

/// The maps that have little room.
#[derive(Debug, Default)]
pub(super) struct Crumbs(BTreeMap<JobId, Since>);

impl Crumbs {
    /// A container asks for work.
    pub(super) fn asked(&mut self, eligible: &Eligible, now: Time) {
        for (job, since) in &mut self.0 {
            since.slept.take_if(|_| !eligible.crumbs.contains(job));
        }
        for job in &eligible.crumbs {
            self.0.entry(*job).or_insert(Since { seen: now, slept: None });
        }
    }

    /// It was given new inputs of that map.
    pub(super) fn claimed(&mut self, job: JobId, eligible: &Eligible, now: Time) {
        let since = self.0.remove(&job);
        if eligible.crumbs.contains(&job) {
            let due = since.expect("it was seen when the container asked").seen + WAIT;
            assert!(due <= now, "crumbs: little room was claimed at {now:?}, not from {due:?} on");
        }
        // What is left of the room may be seen at once, where the wake-up is passed on.
        self.0.insert(job, Since { seen: now, slept: None });
    }

    /// It sleeps. `watched` is when the first of those that sleep wakes by itself, and `due` when something other than
    /// little room falls due. To wake too early is no fault: containers also look for what others have leased ahead.
    pub(super) fn slept(&mut self, eligible: &Eligible, watched: Option<Time>, due: Option<Time>, now: Time) {
        self.0.retain(|job, _| eligible.crumbs.contains(job));
        for since in self.0.values_mut() {
            let due = *since.slept.get_or_insert(now) + WAIT;
            assert!(due > now, "crumbs: little room was not taken though it had waited until {due:?}");
        }
        let crumbs = self.0.values().filter_map(|since| Some(since.slept? + WAIT)).min();
        if let Some(most) = crumbs.into_iter().chain(due).min() {
            assert!(
                watched.is_some_and(|watched| watched <= most),
                "work is conserved: something falls due at {most:?}, and the first sleeper wakes at {watched:?}"
            );
        }
    }
}
