//! The values of a story: inputs, outputs and errors, each counted, and some of which panic when they are dropped.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore::actor::KillContainer;
use longshore::{ContainerId, Failure, Function};

use crate::story::{Deed, Policy, Story};

pub(crate) type F = Function<Ticket, Output, Wrong>;
pub(crate) type Outcome = Result<Output, Failure<Ticket, Wrong>>;

thread_local! {
    /// Values that are dropped here are dropped by the story's user, whom no boundary protects.
    static IS_USER: Cell<bool> = const { Cell::new(false) };
}

/// From now on values that this thread drops do not panic, but in what [`armed`] does.
pub(crate) fn this_thread_is_a_user() {
    IS_USER.set(true);
}

/// Does what drops values only within the engine, which has to contain their panics.
pub(crate) fn armed<T>(act: impl FnOnce() -> T) -> T {
    let before = IS_USER.replace(false);
    let result = act();
    IS_USER.set(before);
    result
}

pub(crate) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a function's own code does with it. Not the function itself, because no input's type may name the function that
/// takes it: whether the one can be sent would depend on the other.
pub(crate) trait Itself: Send + Sync {
    fn call(&self, ticket: Ticket);
    fn map(&self, tickets: Vec<Ticket>);
    fn kill(&self, container: ContainerId);
    fn status(&self);
    fn drain(&self);
    fn abort(&self);
}

impl std::fmt::Debug for dyn Itself {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("f")
    }
}

impl Itself for F {
    fn call(&self, ticket: Ticket) {
        drop(self.call(ticket).wait());
    }

    fn map(&self, tickets: Vec<Ticket>) {
        drop(self.map(tickets).into_iter().next());
    }

    fn kill(&self, container: ContainerId) {
        self.supervisor().do_send(KillContainer { container });
    }

    fn status(&self) {
        assert!(!self.status().to_string().is_empty());
    }

    fn drain(&self) {
        self.drain();
    }

    fn abort(&self) {
        self.abort();
    }
}

/// What everybody in a story shares.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) story: Story,
    /// Values that are alive.
    pub(crate) live: AtomicI64,
    /// Crashes that may yet be, because each may cost a delay.
    crashes_left: AtomicU32,
    pub(crate) enters: AtomicU32,
    /// Containers were killed by hand, so often at most.
    pub(crate) kills: AtomicU32,
    /// The function has been told to end.
    pub(crate) ended: AtomicBool,
    /// Endless sources end.
    pub(crate) over: AtomicBool,
    /// The function, for its own code.
    pub(crate) f: Mutex<Option<Arc<dyn Itself>>>,
}

impl World {
    pub(crate) fn new(story: Story) -> Arc<Self> {
        let crashes_left = match story.settings.policy {
            Policy::Never => 3, // the delays between loop crashes are 10 ms, 20 ms …
            Policy::GivesUpAfter(_) => 5,
            Policy::BacksOff => 40,
        };
        Arc::new(Self {
            story,
            live: AtomicI64::new(0),
            crashes_left: AtomicU32::new(crashes_left),
            enters: AtomicU32::new(0),
            kills: AtomicU32::new(0),
            ended: AtomicBool::new(false),
            over: AtomicBool::new(false),
            f: Mutex::new(None),
        })
    }

    /// Whether one crash more may be.
    pub(crate) fn may_crash(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        self.crashes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    pub(crate) fn function(&self) -> Option<Arc<dyn Itself>> {
        hold(&self.f).clone()
    }
}

/// What became of one input.
#[derive(Debug)]
pub(crate) struct Record {
    /// Its place in its map.
    pub(crate) number: u64,
    pub(crate) script: u8,
    pub(crate) deeds: Mutex<Vec<Deed>>,
    pub(crate) outcomes: AtomicU32,
}

/// Counts as alive, and panics when it is dropped if it is a bomb.
#[derive(Debug)]
struct Counted {
    world: Arc<World>,
    bomb: bool,
}

impl Counted {
    fn new(world: &Arc<World>, bomb: bool) -> Self {
        world.live.fetch_add(1, Ordering::SeqCst);
        Self { world: Arc::clone(world), bomb }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let before = self.world.live.fetch_sub(1, Ordering::SeqCst);
        if before <= 0 {
            eprintln!("a value was dropped twice");
            std::process::abort();
        }
        // A panic during unwinding takes the process with it, and nobody promises otherwise.
        if self.bomb && !IS_USER.get() && !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

/// An input.
#[derive(Debug)]
pub(crate) struct Ticket {
    counted: Counted,
    pub(crate) record: Arc<Record>,
}

impl Ticket {
    pub(crate) fn new(world: &Arc<World>, number: u64, script: u8, bomb: bool) -> Self {
        let record = Record { number, script, deeds: Mutex::default(), outcomes: AtomicU32::new(0) };
        Self { counted: Counted::new(world, bomb), record: Arc::new(record) }
    }

    pub(crate) fn world(&self) -> &Arc<World> {
        &self.counted.world
    }
}

/// An output.
#[derive(Debug)]
pub(crate) struct Output {
    _counted: Counted,
    pub(crate) record: Arc<Record>,
}

impl Output {
    pub(crate) fn of(ticket: &Ticket, bomb: bool) -> Self {
        Self { _counted: Counted::new(ticket.world(), bomb), record: Arc::clone(&ticket.record) }
    }
}

/// An error.
#[derive(Debug)]
pub(crate) struct Wrong {
    _counted: Counted,
}

impl Wrong {
    pub(crate) fn new(world: &Arc<World>, bomb: bool) -> Self {
        Self { _counted: Counted::new(world, bomb) }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("shown"); // what the engine shows it has to contain
    }
}

impl std::error::Error for Wrong {}

/// A payload of a panic that panics when it is dropped.
pub(crate) struct Bomb {
    _counted: Counted,
}

impl Bomb {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self { _counted: Counted::new(world, true) }
    }
}
