//! [`Rig`]: a function whose containers do what a test says, one step after the other.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation};
use crate::code::kinds::Plain;
use crate::code::token::Token;
use crate::contain::unwind::PanicHook;
use crate::data::cursor::Advance;
use crate::data::run::Run;
use crate::data::shape::Shape;
use crate::data::source::DirectSource;
use crate::decide::admission::CALLS_MAX_DEFAULT;
use crate::decide::ledger::{Batching, Rules};
use crate::decide::life::Next;
use crate::decide::limits::{LimitRules, Limits};
use crate::decide::restart::{RateLimited, RestartPolicy};
use crate::decide::retries::Retries;
use crate::decide::window::Window;
use crate::engine::body::CodeOf;
use crate::engine::caller::Caller;
use crate::engine::consumer::Consumer;
use crate::engine::dispatch::Dispatch;
use crate::engine::map_buffers::{JobSource, Order};
use crate::engine::messages::Notice;
use crate::engine::open_call::OpenCall;
use crate::engine::reader::{Failures, ReaderGuard};
use crate::engine::settings::{MemoryRules, Settings};
use crate::simulator::events::Heard;
use crate::simulator::host::{Simulation, passes};
use crate::values::crash::{Death, Panic};

/// The rules of a function that does not count memory.
pub(super) const UNCOUNTED: MemoryRules = MemoryRules {
    accounted: false,
    limit: None,
    recycle_above: None,
    abandoned_max: usize::MAX,
    abandoned_bytes_max: None,
};

/// The time that code has to return after its limit, and a little more.
pub(super) const GRACE_OVER: Duration = Duration::from_millis(51);

/// A function whose containers do only what a test says.
pub(super) struct Rig {
    pub(super) engine: Arc<Dispatch>,
    pub(super) clock: Arc<AtomicU64>,
    /// The events that subscribers have received.
    pub(super) heard: Heard,
    /// The notices that the supervisor has received.
    pub(super) notices: Arc<Mutex<Vec<Notice>>>,
    pub(super) containers: Vec<(ContainerId, Generation)>,
}

impl Rig {
    /// A rig whose containers are all live and asleep.
    pub(super) fn new(containers: usize) -> Self {
        Self::under(RateLimited::new().into(), containers)
    }

    /// A rig with this restart policy, whose containers are all live and asleep.
    pub(super) fn under(restart: RestartPolicy, containers: usize) -> Self {
        Self::of(restart, UNCOUNTED, containers)
    }

    /// A rig that counts the memory of its containers, and leaves threads behind that hold fewer than
    /// `bytes`. The containers are all live and asleep.
    pub(super) fn leaving_less_than(bytes: u64, containers: usize) -> Self {
        let memory = MemoryRules { accounted: true, abandoned_bytes_max: Some(bytes), ..UNCOUNTED };
        Self::of(RateLimited::new().into(), memory, containers)
    }

    /// A rig that executes batches, and whose containers are all live and asleep.
    pub(super) fn of_batches(batching: Batching, containers: usize) -> Self {
        Self::of_kind(RateLimited::never().into(), UNCOUNTED, containers, Some(batching))
    }

    /// A rig that executes batches of inputs with a deadline, and whose containers are all live and asleep.
    pub(super) fn of_batches_until(batching: Batching, deadline: Duration, containers: usize) -> Self {
        let limits = LimitRules { deadline: Some(deadline), ..LimitRules::default() };
        let rules = rules(RateLimited::never().into(), containers, Some(batching));
        Self::by(Rules { limits, ..rules }, UNCOUNTED)
    }

    /// A rig that never gives up, with these limits of time, at most `calls_max` calls and at most
    /// `abandoned_max` threads that are left behind. The containers are all live and asleep.
    pub(super) fn limited(
        limits: LimitRules,
        calls_max: u64,
        abandoned_max: usize,
        containers: usize,
    ) -> Self {
        let memory = MemoryRules { abandoned_max, ..UNCOUNTED };
        let rules = Rules { limits, calls_max, ..rules(RateLimited::never().into(), containers, None) };
        Self::by(rules, memory)
    }

    /// A rig that executes batches with these limits of time, and whose containers are all live and asleep.
    pub(super) fn of_timed_batches(batching: Batching, limits: LimitRules, containers: usize) -> Self {
        let rules = Rules { limits, ..rules(RateLimited::never().into(), containers, Some(batching)) };
        Self::by(rules, UNCOUNTED)
    }

    /// A rig that may give up, whose `enter` has this limit, and in which one thread may be left behind. The
    /// containers are all live and asleep.
    pub(super) fn entering_within(limit: Duration, containers: usize) -> Self {
        let memory = MemoryRules { abandoned_max: 1, ..UNCOUNTED };
        let limits = LimitRules { enter_timeout: Some(limit), ..LimitRules::default() };
        let rules = Rules { limits, ..rules(RateLimited::new().into(), containers, None) };
        Self::by(rules, memory)
    }

    /// A rig with this restart policy and these limits of memory, whose containers are all live and asleep.
    pub(super) fn of(restart: RestartPolicy, memory: MemoryRules, containers: usize) -> Self {
        Self::of_kind(restart, memory, containers, None)
    }

    fn of_kind(
        restart: RestartPolicy,
        memory: MemoryRules,
        containers: usize,
        batch: Option<Batching>,
    ) -> Self {
        Self::by(rules(restart, containers, batch), memory)
    }

    fn by(rules: Rules, memory: MemoryRules) -> Self {
        let simulation = Simulation::default();
        let (clock, heard) = (Arc::clone(&simulation.clock), Arc::clone(&simulation.heard));
        let engine = Arc::new(Dispatch::new(settings(rules, memory), Arc::new(simulation)));
        let notices = Arc::new(Mutex::new(Vec::new()));
        let mail = Arc::clone(&notices);
        engine.supervise(move |notice| mail.lock().unwrap_or_else(PoisonError::into_inner).push(notice));
        let containers = engine.create();
        let rig = Self { engine, clock, heard, notices, containers };
        for (id, generation) in &rig.containers {
            assert!(rig.engine.launch(*id, *generation) && rig.engine.entered(*id, *generation));
            assert!(rig.ask(id.index()).is_none(), "there is nothing to do");
        }
        rig
    }

    /// Lets time pass.
    pub(super) fn passes(&self, time: Duration) {
        passes(&self.clock, time);
    }

    /// Lets time pass, and does what the supervisor does meanwhile: it reviews the function in each second.
    pub(super) fn reviews(&self, time: Duration) {
        let mut left = time;
        while left > Duration::ZERO {
            let step = left.min(Duration::from_secs(1));
            self.passes(step);
            self.engine.look_at_limits();
            self.engine.review();
            left -= step;
        }
    }

    /// A container asks for work, and sleeps if there is none.
    pub(super) fn ask(&self, at: usize) -> Option<Arc<Run>> {
        let (id, generation) = self.containers[at];
        self.engine.wake(id, generation);
        match self.engine.try_next(id, generation, |_| ()).0 {
            Next::Work(work) => Some(work.run),
            Next::Over(_) => panic!("it lives"),
            Next::Wait { .. } | Next::Hold { .. } => None,
        }
    }

    /// The code of a generation begins, and allocates `bytes`.
    pub(super) fn allocates(&self, id: ContainerId, generation: Generation, bytes: i64) {
        let account = self.engine.open_account().expect("an account is free");
        let token = Arc::new(Token::of_no_thread(account));
        assert!(self.engine.register_token(id, generation, &token), "the generation is not over");
        let account = token.account().expect("the rig counts memory").counters();
        account.charge(account.epoch(), bytes, bytes);
    }

    /// The containers that were woken since the last call, by their numbers.
    pub(super) fn woken(&self) -> Vec<usize> {
        self.engine.take_raised().into_iter().map(ContainerId::index).collect()
    }

    /// Lets the containers execute everything, until all of them sleep.
    pub(super) fn work(&self) {
        loop {
            let woken = self.woken();
            if woken.is_empty() {
                return;
            }
            for at in woken {
                while let Some(run) = self.ask(at) {
                    execute(&run);
                }
            }
        }
    }

    pub(super) fn call(&self) -> OpenCall {
        let begun = OpenCall::begin::<u64, u64>(&self.engine, 1, Caller::default(), None, Limits::default());
        begun.expect("it takes calls")
    }

    pub(super) fn map(&self, source: JobSource, window: u64) -> Consumer<u64, u64, u64> {
        self.map_within(source, Window::Fixed(window))
    }

    pub(super) fn map_within(&self, source: JobSource, window: Window) -> Consumer<u64, u64, u64> {
        let opened = ReaderGuard::of_map(
            &self.engine,
            source,
            (Order::Input, Failures::Yield),
            window,
            Default::default(),
            Caller::default(),
        );
        Consumer::over(opened.expect("it takes maps"))
    }

    pub(super) fn map_of(&self, inputs: u64, window: u64) -> Consumer<u64, u64, u64> {
        self.map(JobSource::Direct(DirectSource::new(0..inputs)), window)
    }
}

fn rules(restart: RestartPolicy, containers: usize, batch: Option<Batching>) -> Rules {
    let retries = Retries::new(1).initial_delay(Duration::ZERO);
    Rules {
        containers,
        lanes: 1,
        batch,
        has_state: true,
        retries: if batch.is_some() { retries } else { Retries::default() },
        crash_retries: 3,
        restart,
        calls_max: CALLS_MAX_DEFAULT,
        limits: LimitRules::default(),
    }
}

/// A container executes all inputs of its lease.
pub(super) fn execute(run: &Run) {
    let Some(mut active) = run.begin::<u64, u64, u64>() else { return };
    while active.publish(1).expect("nothing fences it") == Advance::Next {}
}

/// The settings of a function over numbers, with a limit on the memory of a container.
pub(super) fn settings(rules: Rules, memory: MemoryRules) -> Settings {
    let code = CodeOf::<u64, u64, u64>::new(Box::new(Plain(|n: &u64| Ok(*n))), false, |_, _| Ok(()));
    Settings {
        app: "rig".into(),
        function: "rig".into(),
        id: 0,
        rules,
        shape: Shape::of::<u64, u64, u64>(),
        code: Arc::new(code),
        exit_timeout: Duration::ZERO,
        keep_interrupted: false,
        stack_bytes: 0,
        panic_hook: PanicHook::Silent,
        memory,
        viewers: Arc::default(),
    }
}

/// The death of a container whose code has panicked.
pub(super) fn panic() -> Death {
    Death::Panicked(Panic { message: "a crash".to_owned(), location: None })
}
