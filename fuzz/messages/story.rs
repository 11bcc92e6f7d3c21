//! [`Story`]: the settings of a function, what its code does, and what its users do. It is made from the
//! fuzzer's bytes.

use std::time::Duration;

use arbitrary::Arbitrary;

/// The largest number of steps that are carried out, so that each story is short.
pub(crate) const STEPS_MAX: usize = 24;

#[derive(Debug, Clone, Arbitrary)]
pub(crate) struct Story {
    pub(crate) settings: Settings,
    /// For each script, what an input does at its first, second and later attempts.
    pub(crate) scripts: [[Deed; 3]; 4],
    /// What the first three `enter`s do. Later ones succeed.
    pub(crate) enters: [Enter; 3],
    pub(crate) exit: Exit,
    /// Whether a worker panics when it is dropped.
    pub(crate) worker_bomb: bool,
    pub(crate) steps: Vec<Step>,
    pub(crate) ending: Ending,
}

impl Settings {
    /// The largest number of inputs that execute together.
    pub(crate) fn batch_size(&self) -> usize {
        1 + usize::from(self.concurrent_inputs % 6)
    }
}

#[derive(Debug, Clone, Arbitrary)]
pub(crate) struct Settings {
    pub(crate) kind: Kind,
    pub(crate) containers: u8,
    pub(crate) concurrent_inputs: u8,
    pub(crate) retries: u8,
    pub(crate) retry_if: RetryIf,
    pub(crate) crash_retries: u8,
    pub(crate) policy: Policy,
    pub(crate) window: Option<u8>,
    pub(crate) memory_limit: bool,
    pub(crate) recycle: bool,
    pub(crate) abandoned_max: u8,
    pub(crate) short_exit_timeout: bool,
    pub(crate) limits: Limits,
    pub(crate) retry_timeouts: bool,
    pub(crate) keep_interrupted: bool,
    /// The timeout of `enter`.
    pub(crate) enter_timeout: Span,
    /// The number of calls that may be without an outcome, if it is bounded tightly.
    pub(crate) calls_max: Option<u8>,
}

/// Limits of time of a function, a map or a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(crate) struct Limits {
    pub(crate) timeout: Span,
    pub(crate) deadline: Span,
}

/// A limit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(crate) enum Span {
    None,
    /// Outside the range, so that it must be refused.
    Refused,
    Millis(u8),
    Long,
}

impl Span {
    /// The length, if there is a limit.
    pub(crate) fn length(self) -> Option<Duration> {
        match self {
            Self::None => None,
            Self::Refused => Some(Duration::ZERO),
            Self::Millis(millis) => Some(Duration::from_millis(1 + u64::from(millis % 8))),
            Self::Long => Some(Duration::from_secs(3600)),
        }
    }
}

impl Limits {
    /// No limits of its own.
    pub(crate) const NONE: Self = Self { timeout: Span::None, deadline: Span::None };

    /// The limits as a call takes them.
    pub(crate) fn set(self) -> longshore::Limits {
        let limits = longshore::Limits::new();
        let limits = self.timeout.length().map_or(limits, |limit| limits.timeout(limit));
        self.deadline.length().map_or(limits, |limit| limits.deadline(limit))
    }

    /// Whether a limit is outside its range.
    pub(crate) fn is_refused(self) -> bool {
        self.timeout == Span::Refused || self.deadline == Span::Refused
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(crate) enum Kind {
    Plain,
    Worker,
    Async,
    AsyncWorker,
    /// An async function with many inputs in flight.
    AsyncMany,
    /// A worker with many inputs in flight.
    ConcurrentWorker,
    Batch,
    BatchAsync,
    BatchWorker,
}

impl Kind {
    /// Whether inputs execute in batches.
    pub(crate) fn is_batched(self) -> bool {
        matches!(self, Self::Batch | Self::BatchAsync | Self::BatchWorker)
    }

    /// Whether a container may have several inputs in flight.
    pub(crate) fn is_concurrent(self) -> bool {
        matches!(self, Self::AsyncMany | Self::ConcurrentWorker)
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum RetryIf {
    Always,
    Never,
    Panics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(crate) enum Policy {
    Never,
    BacksOff,
    GivesUpAfter(u8),
}

/// An action of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(crate) enum Deed {
    Return,
    ReturnBomb,
    Fail,
    FailBomb,
    Panic,
    PanicBomb,
    /// Uses more than the memory limit.
    Balloon,
    BalloonWithCheckpoints,
    BalloonThenLinger,
    /// Uses more than the memory limit on a helper thread, in the container's scope.
    BalloonOfHelper,
    Checkpoints,
    Linger,
    /// Waits, if the code is async.
    Wait,
    Yield,
    /// Spawns a task that panics, if the code is async.
    Spawn,
    /// Waits in its task, or passes checkpoints, for much longer than a short timeout and the grace after it.
    /// It returns at once if it has no such timeout.
    Hang,
    /// Returns, without a checkpoint, after the grace that follows a timeout.
    Overstay,
    KillItself,
    CallItself,
    MapItself,
    AskStatus,
    DrainItself,
    AbortItself,
    DropHandle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(crate) enum Enter {
    Succeed,
    Fail,
    FailWithBomb,
    Panic,
    Balloon,
    Linger,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(crate) enum Exit {
    Succeed,
    Panic,
    Linger,
}

/// A map that is begun by method or by message.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct MapSpec {
    pub(crate) source: SourceKind,
    pub(crate) inputs: u8,
    pub(crate) script: u8,
    /// Whether each input panics when it is dropped.
    pub(crate) bombs: bool,
    pub(crate) unordered: bool,
    pub(crate) failures: Failures,
    /// A window of 0 must be refused.
    pub(crate) window: Option<u8>,
    pub(crate) retries: Option<u8>,
    pub(crate) limits: Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(crate) enum SourceKind {
    Vector,
    Iterator,
    /// Has this size hint, which may be wrong.
    Liar(u16, Option<u16>),
    Endless,
    /// Panics instead of ending.
    Panics,
    Stream,
    /// Pulls the outcomes of another map of the same function.
    Chained,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(crate) enum Failures {
    EndMap,
    EndMapInOrder,
    Yield,
}

/// The state of a function that a message waits for.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum AwaitedState {
    Ready,
    ReadyAll,
    Idle,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum HowReserved {
    Try,
    /// Polls the wait for room once.
    Poll,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum HowCalled {
    Wait,
    Await,
    Keep,
    Drop,
    /// Polls the call once and keeps it.
    Poll,
    Abort,
}

/// A step of the user. The numbers of maps and calls are taken modulo the number of those that are held.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Step {
    Begin { map: MapSpec, stream: bool },
    Pull { map: u8, outcomes: u8 },
    Poll { map: u8 },
    DropMap { map: u8 },
    AbortMap { map: u8 },
    Salvage { map: u8 },
    Call { script: u8, bomb: bool, limits: Limits, how: HowCalled },
    Reserve { how: HowReserved },
    DropPermit { permit: u8 },
    CallInPermit { permit: u8, script: u8, bomb: bool, limits: Limits, how: HowCalled },
    WaitTimeout { call: u8, micros: u8 },
    DetachCall { call: u8 },
    PauseFunction,
    ResumeFunction,
    AwaitCall { call: u8 },
    DropCall { call: u8 },
    Run { inputs: u8, script: u8, awaited: bool },
    RunAll { inputs: u8, script: u8, awaited: bool },
    DropRun { inputs: u8, script: u8 },
    ForEach { map: MapSpec, awaited: bool },
    Kill { container: u8 },
    Reset,
    Status,
    Ready,
    Drain,
    Stop,
    Abort,
    DropHandle,
    Pause { micros: u8 },
    SendStartMap { map: MapSpec, stop_after: Option<u8> },
    SendCallInput { script: u8, bomb: bool, limits: Limits, reply: Reply },
    SendReserve { waits: bool, reply: Reply },
    SendCallInPlace { place: u8, script: u8, bomb: bool, reply: Reply },
    DropPlace { place: u8 },
    SendPause { reply: Reply },
    SendResume { reply: Reply },
    SendKill { container: u32, reply: Reply },
    SendReset { reply: Reply },
    SendGetStatus { reply: Reply },
    SendShutdown { how: HowEnded, limit: Limit, reply: Reply },
    SendSubscribe { ends_after: u8 },
    SendCancelMap { map: u8 },
    SendGetProgress { map: u8, reply: Reply },
    SendAwaitState { state: AwaitedState, reply: Reply },
}

/// What the user does with the reply to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(crate) enum Reply {
    Await,
    /// Sends the message without asking for a reply.
    Forget,
    /// Polls the reply once and drops it.
    Drop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(crate) enum HowEnded {
    Drain,
    Stop,
    Abort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(crate) enum Limit {
    Zero,
    Micros(u8),
    Max,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(crate) struct Ending {
    /// Whether maps and calls are taken to their ends before.
    pub(crate) finish_first: bool,
    pub(crate) how: HowOver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(crate) enum HowOver {
    Dropped,
    Drained,
    DrainedAwaited,
    Stopped,
    Aborted,
}
