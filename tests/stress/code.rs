//! The code that containers execute, with every way in which an input can go well or wrong.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use longshore::{AsyncWorker, BatchWorker, BoxError, ConcurrentWorker, Context, Worker};

use crate::random::mix;

/// The memory limit of a container.
pub(crate) const LIMIT: u64 = 8 << 20;

/// The bytes that a leaking input leaks. Each leak keeps an account of the process occupied for good.
pub(crate) const LEAKED_BYTES: u64 = 100;
/// The bytes that the accountant adds to each block.
pub(crate) const MARK_BYTES: u64 = 4;

/// An input: its map, its index, and the counts of executions of that map.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) map: u64,
    pub(crate) index: u64,
    pub(crate) executions: Arc<Vec<AtomicU32>>,
    pub(crate) faults: Arc<Faults>,
}

impl Ticket {
    /// The number of executions of this input.
    pub(crate) fn count(&self) -> &AtomicU32 {
        &self.executions[self.index as usize]
    }
}

/// The counts of faults of each kind, and the gate at which stuck code waits.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) executions: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) balloons: AtomicU64,
    pub(crate) stuck: AtomicU64,
    pub(crate) deep: AtomicU64,
    pub(crate) leaks: AtomicU64,
    pub(crate) failed_starts: AtomicU64,
    pub(crate) overdue: AtomicU64,
    pub(crate) hangs: AtomicU64,
    /// Whether the function has a timeout, so that code may hang.
    pub(crate) limited: bool,
    /// Whether the dependency that `enter` needs is down.
    pub(crate) down: AtomicBool,
    gate: Mutex<Gate>,
    opens: Condvar,
}

/// The gate at which stuck code waits.
#[derive(Debug, Default)]
struct Gate {
    /// Whether it is open for good.
    open: bool,
    /// The number of times that all waiting code was let through.
    released: u64,
}

impl Faults {
    /// The counts of a function, which has a timeout if it is `limited`.
    pub(crate) fn of(limited: bool) -> Self {
        Self { limited, ..Self::default() }
    }

    /// Opens the gate, so that no code gets stuck any more.
    pub(crate) fn open(&self) {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner).open = true;
        self.opens.notify_all();
    }

    /// Lets the code through that overran its timeout, so that a function whose containers all hang goes on.
    pub(crate) fn release(&self) {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner).released += 1;
        self.opens.notify_all();
    }

    fn pass(&self) {
        self.wait(|gate| gate.open);
    }

    /// Waits for the next [`release`](Self::release).
    fn pass_once(&self) {
        let before = self.gate.lock().unwrap_or_else(PoisonError::into_inner).released;
        self.wait(|gate| gate.open || gate.released > before);
    }

    fn wait(&self, passes: impl Fn(&Gate) -> bool) {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        while !passes(&gate) {
            gate = self.opens.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The error of an input.
#[derive(Debug)]
pub(crate) struct Refused;

/// The output of an input. It identifies the input.
pub(crate) fn output(ticket: &Ticket) -> Vec<u64> {
    vec![ticket.map, ticket.index, mix(ticket.map, ticket.index)]
}

/// Executes an input. Its numbers decide what goes wrong.
pub(crate) fn execute(ticket: &Ticket) -> Result<Vec<u64>, Refused> {
    begin(ticket);
    let attempt = Context::current().expect("in a container").attempt().get();
    execute_at(ticket, attempt)
}

/// Executes a batch. The context knows only the attempt of its first input, so each input counts its own.
pub(crate) fn execute_batch(tickets: &[&Ticket]) -> Vec<Result<Vec<u64>, Refused>> {
    let attempts: Vec<u32> = tickets.iter().map(|ticket| begin(ticket)).collect();
    tickets.iter().zip(attempts).map(|(ticket, attempt)| execute_at(ticket, attempt)).collect()
}

/// Executes an input in a task, which may hang.
pub(crate) async fn execute_in_task(ticket: &Ticket) -> Result<Vec<u64>, Refused> {
    begin(ticket);
    let attempt = Context::current().expect("in a container").attempt().get();
    wait_for_ever_if_it_hangs(ticket, attempt).await;
    execute_at(ticket, attempt)
}

/// Async code that hangs waits for ever in its task. Its timeout drops it.
async fn wait_for_ever_if_it_hangs(ticket: &Ticket, attempt: u32) {
    if hangs(ticket, attempt) {
        ticket.faults.hangs.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
    }
}

/// Whether the execution passes checkpoints, or waits in its task, until its timeout ends it.
fn hangs(ticket: &Ticket, attempt: u32) -> bool {
    let fate = mix(ticket.map, ticket.index) % 1000;
    ticket.faults.limited && attempt == 1 && (132..136).contains(&fate)
}

/// [`execute_batch`] in a task that also waits.
pub(crate) async fn execute_batch_in_task(tickets: &[&Ticket]) -> Vec<Result<Vec<u64>, Refused>> {
    match tickets[0].index % 3 {
        0 => tokio::time::sleep(Duration::from_micros(100)).await,
        1 => tokio::task::yield_now().await,
        _ => {}
    }
    let attempts: Vec<u32> = tickets.iter().map(|ticket| begin(ticket)).collect();
    for (ticket, attempt) in tickets.iter().zip(&attempts) {
        wait_for_ever_if_it_hangs(ticket, *attempt).await;
    }
    let outcomes =
        tickets.iter().zip(attempts).map(|(ticket, attempt)| execute_at(ticket, attempt)).collect();
    tokio::task::yield_now().await;
    outcomes
}

/// Counts an execution of an input. Returns the number of its executions so far.
fn begin(ticket: &Ticket) -> u32 {
    ticket.faults.executions.fetch_add(1, Ordering::SeqCst);
    ticket.count().fetch_add(1, Ordering::SeqCst) + 1
}

fn execute_at(ticket: &Ticket, attempt: u32) -> Result<Vec<u64>, Refused> {
    let faults = &ticket.faults;
    let fate = mix(ticket.map, ticket.index) % 1000;
    let count = |faults: &AtomicU64| faults.fetch_add(1, Ordering::SeqCst);
    if hangs(ticket, attempt) {
        count(&faults.hangs);
        loop {
            Context::checkpoint();
            std::thread::yield_now();
        }
    }
    match fate {
        0..20 if attempt <= 2 => {
            count(&faults.errors);
            return Err(Refused);
        }
        20..30 => {
            count(&faults.errors);
            return Err(Refused);
        }
        30..60 if attempt == 1 => {
            count(&faults.panics);
            panic!("once");
        }
        60..63 => {
            count(&faults.panics);
            panic!("always");
        }
        63..66 if attempt == 1 => {
            count(&faults.balloons);
            drop(blocks(2 * LIMIT, || ()));
        }
        66..69 if attempt == 1 => {
            count(&faults.balloons);
            drop(blocks(16 * LIMIT, Context::checkpoint));
        }
        69 if attempt == 1 => {
            count(&faults.balloons);
            count(&faults.leaks);
            std::mem::forget(vec![1u8; LEAKED_BYTES as usize]);
            drop(blocks(2 * LIMIT, || ()));
        }
        70..72 if attempt == 1 && !faults.limited => {
            count(&faults.stuck);
            let blocks = blocks(2 * LIMIT, || ());
            faults.pass();
            drop(blocks);
        }
        130..132 if faults.limited && attempt == 1 => {
            count(&faults.overdue);
            faults.pass_once();
        }
        72..80 => {
            count(&faults.deep);
            assert!(deep(200) > 0);
        }
        80..130 => spin(20_000 * (1 + fate % 8)),
        _ => spin(fate),
    }
    Ok(output(ticket))
}

/// Allocates `bytes` in blocks, and calls `look` before each block.
fn blocks(bytes: u64, look: impl Fn()) -> Vec<Vec<u8>> {
    let block = |_| {
        look();
        black_box(vec![1u8; 64 << 10])
    };
    (0..bytes >> 16).map(block).collect()
}

/// Uses about a kilobyte of stack for each level.
fn deep(levels: u64) -> u64 {
    let frame = black_box([levels; 128]);
    if levels == 0 { frame[0] + 1 } else { deep(levels - 1) + frame[1] - levels }
}

fn spin(steps: u64) {
    black_box((0..steps).fold(1u64, |state, step| black_box(state ^ (state << 7) ^ step)));
}

/// A worker that fails to start while its dependency is down.
pub(crate) struct Stateful {
    cache: Vec<Vec<u64>>,
}

impl Stateful {
    pub(crate) fn enter(faults: &Faults) -> Result<Self, BoxError> {
        if faults.down.load(Ordering::SeqCst) {
            faults.failed_starts.fetch_add(1, Ordering::SeqCst);
            return Err("the dependency is down".into());
        }
        Ok(Self { cache: Vec::new() })
    }
}

impl Worker for Stateful {
    type Input = Ticket;
    type Output = Vec<u64>;
    type Error = Refused;

    fn call(&mut self, ticket: &Ticket, _: &Context) -> Result<Vec<u64>, Refused> {
        self.cache.push(vec![ticket.index; 32]);
        execute(ticket)
    }
}

impl AsyncWorker for Stateful {
    type Input = Ticket;
    type Output = Vec<u64>;
    type Error = Refused;

    async fn call(&mut self, ticket: &Ticket, _: &Context) -> Result<Vec<u64>, Refused> {
        if ticket.index.is_multiple_of(7) {
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
        execute_in_task(ticket).await
    }
}

impl BatchWorker for Stateful {
    type Input = Ticket;
    type Output = Vec<u64>;
    type Error = Refused;

    fn call(&mut self, tickets: &[&Ticket], _: &Context) -> Vec<Result<Vec<u64>, Refused>> {
        self.cache.push(tickets.iter().map(|ticket| ticket.index).collect());
        execute_batch(tickets)
    }
}

/// A worker with many inputs in flight.
pub(crate) struct Shared(RefCell<Stateful>);

impl Shared {
    pub(crate) fn enter(faults: &Faults) -> Result<Self, BoxError> {
        Stateful::enter(faults).map(|state| Self(RefCell::new(state)))
    }
}

impl ConcurrentWorker for Shared {
    type Input = Ticket;
    type Output = Vec<u64>;
    type Error = Refused;

    async fn call(&self, ticket: &Ticket, _: &Context) -> Result<Vec<u64>, Refused> {
        self.0.borrow_mut().cache.push(vec![ticket.index; 32]);
        execute_among_others(ticket).await
    }
}

/// Executes an input, and lets others execute in between.
pub(crate) async fn execute_among_others(ticket: &Ticket) -> Result<Vec<u64>, Refused> {
    match ticket.index % 4 {
        0 => tokio::time::sleep(Duration::from_micros(100 * (ticket.index % 9))).await,
        1 => tokio::task::yield_now().await,
        _ => {}
    }
    let result = execute_in_task(ticket).await;
    if ticket.index.is_multiple_of(3) {
        tokio::task::yield_now().await;
    }
    result
}
