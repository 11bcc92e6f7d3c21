//! Little room in a wide window: while it may still grow it is not worth a claim, and after a moment
//! it is taken all the same.
//!
//! A container looks at maps only where nothing goes before them, so that the books know only within
//! bounds since when one has waited: not before it was first seen so, and at the latest since a
//! container slept over it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decide::ids::JobId;
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
    }

    /// It sleeps, and wakes at `until` where the first retry is due at `retry`, or before if others have
    /// leases that may be split.
    pub(super) fn slept(
        &mut self,
        eligible: &Eligible,
        until: Option<Time>,
        retry: Option<Time>,
        now: Time,
        beside_leases: bool,
    ) {
        self.0.retain(|job, _| eligible.crumbs.contains(job));
        for since in self.0.values_mut() {
            let due = *since.slept.get_or_insert(now) + WAIT;
            assert!(due > now, "crumbs: little room was not taken though it had waited until {due:?}");
        }
        let with = |due: Option<Time>| due.into_iter().chain(retry).min();
        let least = with(self.0.values().map(|since| since.seen + WAIT).min());
        let most = with(self.0.values().filter_map(|since| Some(since.slept? + WAIT)).min());
        let early = beside_leases && most.is_none_or(|most| until.is_some_and(|until| until <= most));
        assert!(
            early || (least..=most).contains(&until),
            "a container that sleeps wakes at {until:?}, not when something falls due: {least:?} to {most:?}"
        );
    }
}
