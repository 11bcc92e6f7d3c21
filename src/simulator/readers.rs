//! Simulated consumers, each with a habit of its own. [`reading`](super::reading) has what they read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake};
use std::time::Duration;

use crate::base::ids::JobId;
use crate::base::signal::Signal;
use crate::data::shape::Outcome;
use crate::decide::time::Time;
use crate::engine::consumer::Consumer;
use crate::engine::dispatch::Wait;
use crate::engine::map_buffers::Order;
use crate::engine::open_call::OpenCall;
use crate::engine::reader::Failures;
use crate::simulator::values::{Refusal, SimInput, SimOutput};

/// How a consumer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// Takes everything.
    Greedy,
    /// Takes everything, with pauses.
    Slow,
    /// Takes everything, one by one at regular intervals.
    Steady,
    /// Is dropped after this many outcomes.
    DropsAfter(u64),
    /// Salvages after this many outcomes.
    SalvagesAfter(u64),
}

/// The consumer of the outcomes of a map or a call.
pub(super) enum Taker {
    Map(Consumer<SimInput, SimOutput, Refusal>),
    Call(OpenCall),
}

impl Taker {
    pub(super) fn job(&self) -> JobId {
        match self {
            Self::Map(consumer) => consumer.job,
            Self::Call(call) => call.0.job,
        }
    }

    pub(super) fn poll_next(
        &mut self,
        wait: Wait<'_>,
    ) -> Poll<Option<Outcome<SimInput, SimOutput, Refusal>>> {
        match self {
            Self::Map(consumer) => consumer.poll_next(wait),
            Self::Call(call) => call.poll(wait),
        }
    }

    /// Whether it has seen the end, of itself or by a failure.
    pub(super) fn is_ended(&self) -> bool {
        match self {
            Self::Map(consumer) => consumer.ended,
            Self::Call(call) => call.0.over,
        }
    }

    pub(super) fn map(&mut self) -> &mut Consumer<SimInput, SimOutput, Refusal> {
        match self {
            Self::Map(consumer) => consumer,
            Self::Call(_) => panic!("a map does that"),
        }
    }
}

/// The consumer of one map or call.
pub(super) struct SimReader {
    pub(super) consumer: Option<Taker>,
    pub(super) job: JobId,
    pub(super) order: Order,
    pub(super) failures: Failures,
    pub(super) habit: Habit,
    /// The number of inputs of its source, unless it is endless.
    pub(super) total: Option<u64>,
    pub(super) taken: u64,
    /// Whether it was given an error that must be the last outcome.
    pub(super) last: bool,
    /// When it looks next. `None` while it waits in a task, because then it looks only after a wake-up.
    pub(super) polls_at: Option<Time>,
    pub(super) waits: ReaderWaits,
    /// How long it waits for a signal before it looks anyway.
    pub(super) pause: Duration,
    pub(super) arrived: Option<Arc<Signal>>,
}

/// How a consumer waits.
#[derive(Debug, Clone)]
pub(super) enum ReaderWaits {
    /// As a thread, which also looks without a signal now and then.
    InThread,
    /// As a task, which is woken through this waker.
    InTask(Arc<Woken>),
}

/// Whether a task was woken.
#[derive(Debug, Default)]
pub(super) struct Woken(AtomicBool);

impl Woken {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The interval at which a steady consumer looks. It looks several times while a container waits for little
/// room to grow.
pub(super) const STEADY: Duration = Duration::from_micros(300);

/// The first pause without a look, as in the engine.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(1);

/// The longest pause without a look, as in the engine.
pub(super) const POLL_MAX: Duration = Duration::from_millis(16);

/// The longest pause once the world is healed. It is long, because each look only makes the test longer then.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(60);

impl SimReader {
    pub(super) fn new(
        consumer: Taker,
        order: Order,
        failures: Failures,
        habit: Habit,
        total: Option<u64>,
        waits: ReaderWaits,
    ) -> Self {
        let job = consumer.job();
        Self {
            consumer: Some(consumer),
            job,
            order,
            failures,
            habit,
            total,
            taken: 0,
            last: false,
            polls_at: Some(Time::default()),
            waits,
            pause: PAUSE_MIN,
            arrived: None,
        }
    }
}

impl SimReader {
    /// Makes the consumer look if it was signalled. A steady consumer looks only if it found nothing at its
    /// last look.
    pub(super) fn hear(&mut self) {
        let signalled = match &self.waits {
            ReaderWaits::InThread => self.arrived.as_ref().is_some_and(|arrived| arrived.take_raised()),
            ReaderWaits::InTask(woken) => woken.0.swap(false, Ordering::Relaxed),
        };
        if signalled && (self.habit != Habit::Steady || self.pause > PAUSE_MIN) {
            self.polls_at = Some(Time::default());
        }
    }

    pub(super) fn is_endless(&self) -> bool {
        self.total.is_none()
    }
}
