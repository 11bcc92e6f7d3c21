//! The record of one container, from its start to its end, in a history that a policy explains.

use std::time::Duration;

/// A container that crashed, for [`RestartPolicy::explain`](crate::RestartPolicy::explain).
///
/// Moments are counted from the beginning of the history. [`CrashRecord::at`] is the simple form, and the
/// other methods change it. A record can hold everything that a decision depends on, so that a recorded
/// history is explained exactly as the engine decided it.
///
/// ```
/// use longshore::{CrashRecord, RateLimited};
/// use std::time::Duration;
///
/// let second = Duration::from_secs(1);
/// let history = [
///     // It worked for five seconds, and then input 7 killed it,
///     CrashRecord::at(5 * second).completed(2 * second, 40).completed(4 * second, 60).input(7),
///     // which did so again with the next one.
///     CrashRecord::at(6 * second).input(7),
///     // A third container could not start, while another one lived.
///     CrashRecord::at(8 * second).failed_start(),
///     CrashRecord::no_crash(9 * second).started(Duration::ZERO),
/// ];
/// let decisions = RateLimited::new().explain(2, history)?;
/// assert_eq!(decisions.iter().map(|decision| decision.rounds).collect::<Vec<_>>(), [1, 1, 1]);
/// # Ok::<(), longshore::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrashRecord {
    /// The moment at which the container ended.
    pub(super) at: Duration,
    pub(super) end: ContainerEnd,
    /// The moment at which its start began, if it is given.
    pub(super) started: Option<Duration>,
    pub(super) enter: Enter,
    /// Moments and numbers of completed inputs, in no order.
    pub(super) completed: Vec<(Duration, u64)>,
    /// Whether another container was live or recycling when this one ended. The history need not have a
    /// record of that container.
    pub(super) beside_live: bool,
}

/// The end of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContainerEnd {
    Crash(CrashedInput),
    /// The container did not crash: it lived on, was killed by hand, or exited.
    NoCrash,
}

/// The input that a container was executing when it crashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CrashedInput {
    /// A number that identifies the input, if one is given.
    pub(super) input: Option<u64>,
    /// Whether the input is declared to have crashed a container before.
    pub(super) suspect: bool,
}

/// The end of a container's `enter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enter {
    /// It succeeded at the moment at which it began.
    AtOnce,
    /// It succeeded at this moment.
    At(Duration),
    Failed,
}

impl CrashRecord {
    /// A crash at `at`. Its container was started by the restart after the previous crash, or at the
    /// beginning if there is none. It entered at once, and completed nothing. If it was executing an input,
    /// that input had not crashed a container before.
    ///
    /// If the crash comes before that restart is due, the container was started together with the container
    /// of the previous crash.
    #[must_use]
    pub const fn at(at: Duration) -> Self {
        let executing = CrashedInput { input: None, suspect: false };
        Self {
            at,
            end: ContainerEnd::Crash(executing),
            started: None,
            enter: Enter::AtOnce,
            completed: Vec::new(),
            beside_live: false,
        }
    }

    /// A container that did not crash. It existed until `until`, where it left without a crash or where the
    /// history ends. It was started and entered at the beginning. There is no [`Decision`](crate::Decision)
    /// for it. It is listed because of the inputs that it completed, because it stayed up, or because it was
    /// live while others could not start.
    #[must_use]
    pub fn no_crash(until: Duration) -> Self {
        Self { end: ContainerEnd::NoCrash, ..Self::at(until) }
    }

    /// Sets the moment at which the container's start began. If that is the moment of a crash earlier in the
    /// list, the start comes after that crash.
    #[must_use]
    pub const fn started(mut self, at: Duration) -> Self {
        self.started = Some(at);
        self
    }

    /// Sets the moment at which the container's `enter` succeeded.
    #[must_use]
    pub const fn entered(mut self, at: Duration) -> Self {
        self.enter = Enter::At(at);
        self
    }

    /// Declares that the container crashed in its `enter`, or before.
    #[must_use]
    pub const fn failed_start(mut self) -> Self {
        self.enter = Enter::Failed;
        self
    }

    /// Declares that the container completed `inputs` inputs (returned `Ok` or `Err`) at `at`. May be
    /// called several times.
    #[must_use]
    pub fn completed(mut self, at: Duration, inputs: u64) -> Self {
        self.completed.push((at, inputs));
        self
    }

    /// Sets the input that the container was executing when it crashed, as any number that identifies it. An
    /// input is a known suspect from its second crash on, and counts one crash within a window.
    #[must_use]
    pub const fn input(mut self, input: u64) -> Self {
        if let ContainerEnd::Crash(executing) = &mut self.end {
            executing.input = Some(input);
        }
        self
    }

    /// Declares that the container was executing a known suspect when it crashed: an input that had crashed a
    /// container before. Unless [`CrashRecord::input`] identifies the input, its earlier crash is assumed to
    /// have counted within the window.
    #[must_use]
    pub const fn suspect(mut self) -> Self {
        if let ContainerEnd::Crash(executing) = &mut self.end {
            executing.suspect = true;
        }
        self
    }

    /// Declares that another container was live or recycling when this one crashed. Needed only if the
    /// history has no record of that container.
    #[must_use]
    pub const fn beside_live(mut self) -> Self {
        self.beside_live = true;
        self
    }

    /// The earliest moment in the record.
    pub(super) fn earliest(&self) -> Duration {
        let entered = match self.enter {
            Enter::At(at) => Some(at),
            Enter::AtOnce | Enter::Failed => None,
        };
        let completed = self.completed.iter().map(|(at, _)| *at);
        completed.chain(entered).chain(self.started).fold(self.at, Duration::min)
    }
}

#[cfg(test)]
impl CrashRecord {
    /// The same container, which crashed at `at`.
    pub(crate) fn ending_at(self, at: Duration) -> Self {
        Self { at, ..self }
    }

    /// The same container, which did not crash and existed until `at`.
    pub(crate) fn ending_well(self, at: Duration) -> Self {
        Self { at, end: ContainerEnd::NoCrash, ..self }
    }
}
