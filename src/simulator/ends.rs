//! The end of a world's function: the limit of a shutdown, the abort, and the report, held against the model.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::decide::ledger::{Mode, Sources};
use crate::decide::time::Time;
use crate::simulator::course::Course;
use crate::simulator::model::{EndReason, Model};
use crate::simulator::readers::SimReader;
use crate::simulator::threads::SimThread;
use crate::simulator::world::World;
use crate::values::report::Fate;

/// The time that code has to end after it was cut off, and that idle containers have to exit.
const GRACE: Duration = Duration::from_secs(1);

/// The report that is expected of the function's end.
#[derive(Debug, Default)]
pub(super) struct EndModel {
    /// The inputs that came back because of the end.
    returned: u64,
    /// The inputs that ended with their map because of the end.
    dropped: u64,
    /// Whether the limit has passed.
    cut_off: bool,
    /// The fates of containers whose last generation has ended by itself or was cut off.
    fates: BTreeMap<ContainerId, Fate>,
}

impl EndModel {
    /// Accepted inputs of a job end for a reason. `come_back` says whether each yields its own failure.
    pub(super) fn unrun(&mut self, inputs: usize, why: EndReason, come_back: bool) {
        match why {
            EndReason::ShutDown if come_back => self.returned += inputs as u64,
            EndReason::ShutDown => self.dropped += inputs as u64,
            EndReason::Cancelled | EndReason::GaveUp => {}
        }
    }

    /// A new generation begins.
    pub(super) fn begun(&mut self, id: ContainerId) {
        self.fates.remove(&id);
    }

    pub(super) fn came_to(&mut self, id: ContainerId, fate: Fate) {
        self.fates.insert(id, fate);
    }
}

impl Model {
    /// The living containers whose code is cut off: they enter, execute an input without an outcome, or exit.
    fn in_the_users_code(&self, exits_end: bool) -> Vec<(ContainerId, Generation)> {
        let lives = |(id, generation): &(ContainerId, Generation)| self.is_alive(*id, *generation);
        let current = self.current.iter().map(|(id, generation)| (*id, *generation)).filter(lives);
        let cut = |(id, generation): &(ContainerId, Generation)| {
            if self.exiting.contains(id) {
                return exits_end;
            }
            !self.policy.has_entered(*id, *generation) || self.orphans.contains_key(id)
        };
        current.filter(cut).collect()
    }
}

impl World {
    /// The limit of a shutdown passes. The first time, executing inputs are cut off, and the second time
    /// everything is.
    pub(super) fn limit_passes(&mut self) {
        self.tally.shutdown_limits += 1;
        if self.model.ends.cut_off {
            self.limit = None;
            return self.abort();
        }
        self.log(|| "cut off".to_owned());
        let over = self.jobs_over();
        let full = self.full_windows();
        self.engine.cut_off();
        self.sync_pulled();
        self.check_windows_are_full(&full);
        self.limit = (self.model.mode < Mode::Aborted).then(|| self.now() + GRACE);
        if self.model.mode == Mode::Aborted {
            return;
        }
        self.model.ends.cut_off = true;
        self.model.mode = Mode::Stopping;
        self.model.end_all(EndReason::ShutDown, |job| over.contains(&job));
        self.cut(false);
    }

    /// The number of inputs that each open map over a vector has pulled once its window is full.
    pub(super) fn full_windows(&self) -> Vec<(JobId, u64)> {
        if self.model.mode > Mode::Running {
            return Vec::new(); // sources are not pulled any more
        }
        let is_fed = |job: &JobId| self.model.jobs[job].fed.is_some();
        let of_vectors = self.readers.iter().filter(|reader| !is_fed(&reader.job));
        self.engine.under_lock(|state| {
            let full = |reader: &SimReader| {
                let entry = &self.model.jobs[&reader.job];
                let flow = &state.buffers.map(reader.job)?.flow;
                let window = entry.window.unwrap_or_else(|| flow.window.load(Ordering::SeqCst));
                let full = reader.total?.min(state.buffers.yielded(reader.job) + window);
                entry.ended.is_none().then_some((reader.job, full.max(entry.inputs.len() as u64)))
            };
            of_vectors.filter_map(full).collect()
        })
    }

    /// Once sources are not pulled any more, the inputs for which a window had room count as pulled, and each
    /// has its own outcome.
    pub(super) fn check_windows_are_full(&self, full: &[(JobId, u64)]) {
        for (job, inputs) in full {
            let pulled = self.model.jobs[job].inputs.len() as u64;
            assert_eq!(
                pulled, *inputs,
                "of {job:?} the inputs for which the window has room count as pulled"
            );
        }
    }

    /// Sets the limit of a shutdown. If there are several limits, the earliest counts.
    pub(super) fn limit_to(&mut self, limit: Duration) {
        if self.model.ends.cut_off {
            return;
        }
        let at: Time = self.now() + limit;
        self.limit = Some(self.limit.map_or(at, |before| before.min(at)));
    }

    /// Enters into the model what is cut off in the user's code.
    pub(super) fn cut(&mut self, exits_end: bool) {
        let now = self.now();
        for (id, generation) in self.model.in_the_users_code(exits_end) {
            let thread =
                self.threads.iter().find(|thread| (thread.id, thread.generation()) == (id, generation));
            let begun = thread.filter(|thread| thread.is_tied());
            self.tally.cut_off += u64::from(begun.is_some());
            self.model.left_behind.insert((id, generation), thread.map_or(0, SimThread::holds));
            self.model.container_ended(id, now);
            match begun {
                Some(_) => self.model.ends.came_to(id, Fate::CutOff),
                None => self.model.ends.begun(id),
            }
        }
    }

    /// Checks what the report says once everything has ended.
    pub(super) fn check_report(&self) {
        let (told, is) = (self.engine.report(), &self.model.ends);
        let fate = |id: ContainerId| (id, is.fates.get(&id).cloned().unwrap_or(Fate::Stopped));
        assert_eq!(told.containers, self.model.containers().map(fate).collect::<Vec<_>>(), "report: fates");
        assert_eq!(told.limit_passed, is.cut_off, "report: whether the limit passed");
        let inputs = (told.inputs_returned, told.inputs_dropped);
        assert_eq!(inputs, (is.returned, is.dropped), "report: inputs that came back, and that did not");
        assert_eq!(told.threads_running, 0, "report: threads that still run");
    }
}
