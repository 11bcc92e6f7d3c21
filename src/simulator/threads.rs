//! Simulated threads of containers, and their phases. [`thread_life`](super::thread_life) and
//! [`thread_work`](super::thread_work) have the steps from one phase to the next.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation, JobId};
use crate::code::token::Token;
use crate::data::run::Run;
use crate::decide::ledger::Lease;
use crate::decide::life::Act;
use crate::decide::time::Time;
use crate::engine::dispatch::Dispatch;
use crate::engine::life::Living;
use crate::memory::account::Account;
use crate::simulator::values::{Refusal, SimInput, SimOutput};

/// A simulated thread of a container.
pub(super) struct SimThread {
    pub(super) id: ContainerId,
    pub(super) living: Living,
    pub(super) phase: ThreadPhase,
    /// How long `enter` takes in the first generation of the thread. In its later generations it takes no
    /// time.
    pub(super) enter_takes: Duration,
}

/// The phase of a thread, between two of its steps.
pub(super) enum ThreadPhase {
    /// The next act is one of the engine's, or the drop of the user's state.
    Between,
    Entering {
        until: Time,
    },
    /// The thread is about to ask for work.
    Asking,
    Asleep {
        until: Option<Time>,
    },
    /// The thread has its run, and has not checked whether it may begin.
    Beginning {
        task: SimTask,
    },
    Executing {
        task: SimTask,
        place: usize,
        until: Option<Time>,
    },
    /// The thread has the right to publish its outcome, and has not yet done so.
    Publishing {
        task: SimTask,
        place: usize,
        answer: SimOutput,
        last: bool,
    },
    Exiting {
        until: Time,
        /// Whether the container is recycled, and enters again after its `exit`.
        recycles: bool,
    },
    Over,
}

/// The run and the lease that a thread works on.
pub(super) struct SimTask {
    pub(super) run: Arc<Run>,
    pub(super) lease: Lease,
}

impl SimTask {
    pub(super) fn job(&self) -> JobId {
        self.lease.job
    }

    #[expect(unsafe_code, reason = "the right to publish that one step was given is used in a later step")]
    pub(super) fn publish(&self, place: usize, answer: SimOutput) {
        // SAFETY: the step that finished the execution obtained the right, and did not use it.
        unsafe { self.run.publish_at::<SimInput, SimOutput, Refusal>(place, answer) };
        // SAFETY: the input's outcome has just been published.
        unsafe { self.run.chunk.drop_input(place) };
    }

    pub(super) fn attempt(&self) -> u32 {
        self.lease.attempt.get()
    }

    pub(super) fn index(&self, place: usize) -> u64 {
        self.run.chunk.first() + place as u64
    }
}

impl std::fmt::Debug for SimThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{} ", self.id, self.generation())?;
        match &self.phase {
            ThreadPhase::Between => write!(f, "comes to {:?}", self.living.life.act()),
            ThreadPhase::Entering { .. } => write!(f, "has entered"),
            ThreadPhase::Asking => write!(f, "asks"),
            ThreadPhase::Asleep { .. } => write!(f, "wakes"),
            ThreadPhase::Beginning { task } => write!(f, "begins {:?}", task.lease),
            ThreadPhase::Executing { task, place, .. } => {
                write!(f, "returns from {:?} {}", task.lease.job, task.index(*place))
            }
            ThreadPhase::Publishing { task, place, .. } => {
                write!(f, "publishes {:?} {}", task.lease.job, task.index(*place))
            }
            ThreadPhase::Exiting { .. } => write!(f, "has exited"),
            ThreadPhase::Over => write!(f, "is over"),
        }
    }
}

impl SimThread {
    pub(super) fn new(
        engine: &Arc<Dispatch>,
        id: ContainerId,
        generation: Generation,
        enter_takes: Duration,
    ) -> Self {
        let token = |engine: &Dispatch| Ok(Token::of_no_thread(engine.open_account()?));
        let living = Living::new(engine, id, generation, token);
        Self { id, living, phase: ThreadPhase::Between, enter_takes }
    }

    pub(super) fn generation(&self) -> Generation {
        self.living.generation()
    }

    /// Whether the current generation of the thread is tied.
    pub(super) fn is_tied(&self) -> bool {
        !matches!(self.living.life.act(), Act::Tie)
    }

    /// The account of the current generation, once the generation is tied.
    fn account(&self) -> Option<&'static Account> {
        let token = self.living.token.as_ref()?;
        Some(token.account().expect("a simulated function counts its memory").counters())
    }

    /// Lets the user's code allocate. Returns whether this exceeds the memory limit for the first time.
    pub(super) fn grow(&self, bytes: u64) -> bool {
        let account = self.account().expect("a generation is tied before it runs the user's code");
        account.charge(account.epoch(), bytes as i64, bytes as i64)
    }

    /// The number of bytes that the user's code holds.
    pub(super) fn holds(&self) -> u64 {
        self.account().map_or(0, |account| account.live() as u64)
    }

    /// Lets the user's code free its memory, as it does when its state is dropped.
    pub(super) fn shrink(&self) {
        if let Some(account) = self.account() {
            account.credit(account.epoch(), account.live());
        }
    }

    pub(super) fn is_over_limit(&self) -> bool {
        self.account().is_some_and(Account::is_over_limit)
    }

    /// When the thread can take its next step. `None` if another part of the simulation must step first.
    pub(super) fn ready_at(&self) -> Option<Time> {
        match &self.phase {
            ThreadPhase::Entering { until } | ThreadPhase::Exiting { until, .. } => Some(*until),
            ThreadPhase::Asleep { until } | ThreadPhase::Executing { until, .. } => *until,
            ThreadPhase::Over => None,
            ThreadPhase::Between
            | ThreadPhase::Asking
            | ThreadPhase::Beginning { .. }
            | ThreadPhase::Publishing { .. } => Some(Time::default()),
        }
    }

    /// Whether the thread may have completed an input that the engine has not seen.
    pub(super) fn is_ahead(&self) -> bool {
        matches!(
            self.phase,
            ThreadPhase::Executing { .. } | ThreadPhase::Publishing { .. } | ThreadPhase::Asking
        )
    }

    pub(super) fn is_publishing_anything(&self) -> bool {
        matches!(&self.phase, ThreadPhase::Publishing { .. })
    }

    pub(super) fn is_publishing(&self, job: JobId) -> bool {
        matches!(&self.phase, ThreadPhase::Publishing { task, .. } if task.job() == job)
    }
}
