//! One container of a history that a policy is to explain, from its start to its end.

use std::time::Duration;

/// A container that crashed, as [`RestartPolicy::explain`](crate::RestartPolicy::explain) is to see it.
///
/// Moments are counted from the begin of the history. [`CrashRecord::at`] is the simple form; the
/// other methods say what differs from it. Everything that a decision depends on can be said, so
/// that a history which was recorded is explained as the engine decided it.
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
    /// When the container ended.
    pub(super) at: Duration,
    pub(super) end: End,
    /// When its start began, if that is said.
    pub(super) started: Option<Duration>,
    pub(super) enter: Enter,
    /// Moments and numbers of completed inputs, in no order.
    pub(super) completed: Vec<(Duration, u64)>,
    /// Whether another container was live or recycling when this one ended, which the history need
    /// not have a record of.
    pub(super) beside_live: bool,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Crash(Executing),
    /// It did not crash: it lived on, was killed by hand, or exited.
    NoCrash,
}

/// Which input a container was executing when it crashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Executing {
    /// What tells it from others, if it is told.
    pub(super) input: Option<u64>,
    /// Whether it is said to have crashed a container before.
    pub(super) suspect: bool,
}

/// How the `enter` of a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enter {
    /// Well, and at the moment at which it began.
    AtOnce,
    /// Well, and then.
    At(Duration),
    Failed,
}

impl CrashRecord {
    /// The crash of a container that was started by the restart after the crash before it (the
    /// first: at the begin), entered at once, and completed nothing. If it was executing an input,
    /// that had not crashed a container before.
    ///
    /// A crash that comes before that restart is due ends a container that was started together
    /// with the one before.
    #[must_use]
    pub const fn at(at: Duration) -> Self {
        let executing = Executing { input: None, suspect: false };
        Self {
            at,
            end: End::Crash(executing),
            started: None,
            enter: Enter::AtOnce,
            completed: Vec::new(),
            beside_live: false,
        }
    }

    /// A container that did not crash. It was there until then, and it left without a crash or the
    /// history ends there. It was started and entered at the begin. There is no [`Decision`](crate::Decision)
    /// for it; it is listed for what it completed, because it stayed up, or because it was live
    /// while others could not start.
    #[must_use]
    pub fn no_crash(until: Duration) -> Self {
        Self { end: End::NoCrash, ..Self::at(until) }
    }

    /// When its start began. At the moment of a crash that is listed before, it began after that.
    #[must_use]
    pub const fn started(mut self, at: Duration) -> Self {
        self.started = Some(at);
        self
    }

    /// When its `enter` ended well.
    #[must_use]
    pub const fn entered(mut self, at: Duration) -> Self {
        self.enter = Enter::At(at);
        self
    }

    /// It crashed in its `enter`, or before.
    #[must_use]
    pub const fn failed_start(mut self) -> Self {
        self.enter = Enter::Failed;
        self
    }

    /// It completed so many inputs (returned `Ok` or `Err`) at that moment. May be said many times.
    #[must_use]
    pub fn completed(mut self, at: Duration, inputs: u64) -> Self {
        self.completed.push((at, inputs));
        self
    }

    /// It was executing this input when it crashed: any number that tells it from others. An input
    /// is a known suspect from its second crash on, and counts one crash within a window.
    #[must_use]
    pub const fn input(mut self, input: u64) -> Self {
        if let End::Crash(executing) = &mut self.end {
            executing.input = Some(input);
        }
        self
    }

    /// It was executing a known suspect when it crashed: an input that had crashed a container before.
    /// Unless [`CrashRecord::input`] tells which, that crash is taken to have been counted within the window.
    #[must_use]
    pub const fn suspect(mut self) -> Self {
        if let End::Crash(executing) = &mut self.end {
            executing.suspect = true;
        }
        self
    }

    /// Another container was live or recycling when it crashed. To be said where the history has no
    /// record of that one.
    #[must_use]
    pub const fn beside_live(mut self) -> Self {
        self.beside_live = true;
        self
    }

    /// The first moment that is said of it.
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
    /// The same container, which crashed then.
    pub(crate) fn ending_at(self, at: Duration) -> Self {
        Self { at, ..self }
    }

    /// The same container, which did not crash, and was there until then.
    pub(crate) fn ending_well(self, at: Duration) -> Self {
        Self { at, end: End::NoCrash, ..self }
    }
}
