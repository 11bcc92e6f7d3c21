//! The code that containers execute.

use std::hint::black_box;
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use longshore::{AsyncWorker, BatchWorker, BoxError, ConcurrentWorker, Context, Worker};

use crate::story::{Deed, Enter, Exit, Span};
use crate::values::{Bomb, Output, Ticket, World, Wrong, hold};

/// The memory limit of a container, in stories that set one.
pub(crate) const LIMIT: u64 = 512 << 10;

/// The payload of the panic of a spawned task.
pub(crate) const IN_A_TASK: &str = "in a task";

/// A short wait, in which other threads may act.
const MOMENT: Duration = Duration::from_micros(200);

/// Executes an input, as its script says for this attempt.
pub(crate) fn execute(ticket: &Ticket) -> Result<Output, Wrong> {
    let deed = begin(ticket);
    finish(ticket, deed)
}

/// [`execute`] in a task, which may also wait.
pub(crate) async fn execute_in_task(ticket: &Ticket) -> Result<Output, Wrong> {
    let deed = begin(ticket);
    wait_for(deed, ticket).await;
    finish(ticket, deed)
}

/// The time after a timeout at which stuck code comes back: the longest timeout of a story, and the grace.
const OVERSTAY: Duration = Duration::from_millis(70);

/// Whether a timeout ends code that hangs.
fn is_limited(ticket: &Ticket) -> bool {
    matches!(ticket.world().story.settings.limits.timeout, Span::Millis(_))
}

async fn wait_for(deed: Deed, ticket: &Ticket) {
    match deed {
        // A map or call with a longer timeout of its own would hang for that long.
        Deed::Hang if is_limited(ticket) => tokio::time::sleep(2 * OVERSTAY).await,
        Deed::Wait => tokio::time::sleep(MOMENT).await,
        Deed::Yield => {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        Deed::Spawn => {
            let task = tokio::task::spawn_local(async { panic_any(IN_A_TASK) });
            drop(task.await);
        }
        _ => {}
    }
}

/// Executes a batch, each input as its script says. The context knows only the attempt of the first input, so
/// each input counts its own.
pub(crate) fn execute_batch(tickets: &[&Ticket]) -> Vec<Result<Output, Wrong>> {
    let deeds: Vec<Deed> = tickets.iter().map(|ticket| begin_in_batch(ticket)).collect();
    tickets.iter().zip(deeds).map(|(ticket, deed)| finish(ticket, deed)).collect()
}

/// [`execute_batch`] in a task, which may also wait.
pub(crate) async fn execute_batch_in_task(tickets: &[&Ticket]) -> Vec<Result<Output, Wrong>> {
    let deeds: Vec<Deed> = tickets.iter().map(|ticket| begin_in_batch(ticket)).collect();
    for (deed, ticket) in deeds.iter().zip(tickets) {
        wait_for(*deed, ticket).await;
    }
    tickets.iter().zip(deeds).map(|(ticket, deed)| finish(ticket, deed)).collect()
}

fn begin_in_batch(ticket: &Ticket) -> Deed {
    let before = hold(&ticket.record.deeds).len();
    begin_attempt(ticket, before + 1)
}

fn begin(ticket: &Ticket) -> Deed {
    let context = Context::current().expect("in a container");
    begin_attempt(ticket, context.attempt().get() as usize)
}

fn begin_attempt(ticket: &Ticket, attempt: usize) -> Deed {
    let scripts = &ticket.world().story.scripts;
    let script = &scripts[usize::from(ticket.record.script) % scripts.len()];
    let mut deed = script[attempt.min(script.len()) - 1];
    if crashes(deed) && !ticket.world().may_crash() {
        deed = Deed::Return;
    }
    hold(&ticket.record.deeds).push(deed);
    deed
}

/// Whether the deed may end a container, or costs time. The number of such deeds is bounded.
pub(crate) fn crashes(deed: Deed) -> bool {
    matches!(
        deed,
        Deed::Panic
            | Deed::PanicBomb
            | Deed::Balloon
            | Deed::BalloonWithCheckpoints
            | Deed::BalloonThenLinger
            | Deed::BalloonOfHelper
            | Deed::KillItself
            | Deed::Hang
            | Deed::Overstay
    )
}

fn finish(ticket: &Ticket, deed: Deed) -> Result<Output, Wrong> {
    let world = ticket.world();
    match deed {
        Deed::Return | Deed::Wait | Deed::Yield | Deed::Spawn => {}
        Deed::ReturnBomb => return Ok(Output::of(ticket, true)),
        Deed::Fail => return Err(Wrong::new(world, false)),
        Deed::FailBomb => return Err(Wrong::new(world, true)),
        Deed::Panic => panic!("on purpose"),
        Deed::PanicBomb => panic_any(Bomb::new(world)),
        Deed::Balloon => drop(balloon(|| ())),
        Deed::BalloonWithCheckpoints => drop(balloon(Context::checkpoint)),
        Deed::BalloonThenLinger => {
            let balloon = balloon(|| ());
            thread::park_timeout(10 * MOMENT);
            drop(balloon);
        }
        Deed::BalloonOfHelper => {
            let scope = Context::current().expect("in a container").scope();
            let helper = scope.spawn(|| drop(balloon(Context::checkpoint)));
            drop(helper.map(thread::JoinHandle::join));
        }
        Deed::Checkpoints => checkpoints(),
        Deed::Hang => {
            let begun = Instant::now();
            while is_limited(ticket) && begun.elapsed() < 2 * OVERSTAY {
                Context::checkpoint();
                thread::yield_now();
            }
        }
        Deed::Overstay => {
            // A park may end early.
            let until = Instant::now() + OVERSTAY;
            while is_limited(ticket) && Instant::now() < until {
                thread::park_timeout(OVERSTAY);
            }
        }
        Deed::Linger => thread::park_timeout(MOMENT),
        Deed::KillItself => {
            if let Some(f) = world.function() {
                world.kills.fetch_add(1, Ordering::SeqCst);
                let container = Context::current().expect("in a container").container();
                f.kill(container);
            }
            checkpoints();
        }
        Deed::CallItself => {
            if let Some(f) = world.function() {
                f.call(Ticket::new(world, 0, ticket.record.script, false));
            }
        }
        Deed::MapItself => {
            if let Some(f) = world.function() {
                let ticket = |number| Ticket::new(world, number, 0, false);
                f.map((0..2).map(ticket).collect());
            }
        }
        Deed::AskStatus => {
            if let Some(f) = world.function() {
                f.status();
            }
        }
        Deed::DrainItself => {
            if let Some(f) = world.function() {
                world.end();
                f.drain();
            }
        }
        Deed::AbortItself => {
            if let Some(f) = world.function() {
                world.end();
                f.abort();
            }
        }
        Deed::DropHandle => {
            let f = hold(&world.f).take();
            drop(f);
        }
    }
    Ok(Output::of(ticket, false))
}

/// Allocates twice the limit in blocks, and calls `look` before each.
fn balloon(look: impl Fn()) -> Vec<Vec<u8>> {
    let block = |_| {
        look();
        black_box(Vec::with_capacity(64 << 10))
    };
    (0..(2 * LIMIT) >> 16).map(block).collect()
}

fn checkpoints() {
    for _ in 0..20 {
        Context::checkpoint();
        thread::yield_now();
    }
}

/// A worker, both synchronous and async.
pub(crate) struct Stateful {
    world: Arc<World>,
    _bomb: Option<Bomb>,
}

impl Stateful {
    pub(crate) fn enter(world: &Arc<World>) -> Result<Self, BoxError> {
        let enters = &world.story.enters;
        let entered = world.enters.fetch_add(1, Ordering::SeqCst) as usize;
        let enter = enters.get(entered).copied().unwrap_or(Enter::Succeed);
        let fails = !matches!(enter, Enter::Succeed | Enter::Linger);
        match if fails && !world.may_crash() { Enter::Succeed } else { enter } {
            Enter::Succeed => {}
            Enter::Fail => return Err("no".into()),
            Enter::FailWithBomb => return Err(Box::new(Wrong::new(world, true))),
            Enter::Panic => panic!("in enter"),
            Enter::Balloon => drop(balloon(|| ())),
            Enter::Linger => thread::park_timeout(MOMENT),
        }
        let bomb = world.story.worker_bomb.then(|| Bomb::new(world));
        Ok(Self { world: Arc::clone(world), _bomb: bomb })
    }

    fn leave(&self) {
        match self.world.story.exit {
            Exit::Succeed => {}
            Exit::Panic => panic!("in exit"),
            Exit::Linger => thread::park_timeout(2 * MOMENT),
        }
    }
}

impl Worker for Stateful {
    type Input = Ticket;
    type Output = Output;
    type Error = Wrong;

    fn call(&mut self, ticket: &Ticket, _: &Context) -> Result<Output, Wrong> {
        execute(ticket)
    }

    fn exit(self, _: &Context) {
        self.leave();
    }
}

impl AsyncWorker for Stateful {
    type Input = Ticket;
    type Output = Output;
    type Error = Wrong;

    async fn call(&mut self, ticket: &Ticket, _: &Context) -> Result<Output, Wrong> {
        execute_in_task(ticket).await
    }

    async fn exit(self, _: &Context) {
        if self.world.story.exit == Exit::Linger {
            tokio::time::sleep(2 * MOMENT).await;
        }
        self.leave();
    }
}

impl BatchWorker for Stateful {
    type Input = Ticket;
    type Output = Output;
    type Error = Wrong;

    fn call(&mut self, tickets: &[&Ticket], _: &Context) -> Vec<Result<Output, Wrong>> {
        execute_batch(tickets)
    }

    fn exit(self, _: &Context) {
        self.leave();
    }
}

impl ConcurrentWorker for Stateful {
    type Input = Ticket;
    type Output = Output;
    type Error = Wrong;

    async fn call(&self, ticket: &Ticket, _: &Context) -> Result<Output, Wrong> {
        execute_in_task(ticket).await
    }

    async fn exit(self, context: &Context) {
        AsyncWorker::exit(self, context).await;
    }
}
