//! The values of a story: inputs, outputs and errors. Each is counted, and some panic when they are dropped.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore::actor::KillContainer;
use longshore::{ContainerId, Failure, Function};

use crate::story::{Deed, Policy, Story};

pub(crate) type F = Function<Ticket, Output, Wrong>;
pub(crate) type Outcome = Result<Output, Failure<Ticket, Wrong>>;

thread_local! {
    /// Whether this thread is the story's user. Its own drops must not panic, because no unwind boundary
    /// protects it.
    static IS_USER: Cell<bool> = const { Cell::new(false) };
}

/// From now on, values that this thread drops do not panic, except inside [`armed`].
pub(crate) fn this_thread_is_a_user() {
    IS_USER.set(true);
}

/// Runs code that drops values only inside the engine, which must contain their panics.
pub(crate) fn armed<T>(act: impl FnOnce() -> T) -> T {
    let before = IS_USER.replace(false);
    let result = act();
    IS_USER.set(before);
    result
}

pub(crate) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The function as its own code uses it. It is a trait, because the type of an input must not name the type
/// of the function that takes it: whether one is `Send` would depend on the other.
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

/// The state that all parties of a story share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) story: Story,
    /// The number of values that are alive.
    pub(crate) live: AtomicI64,
    /// The number of crashes that may still happen. It is bounded, because each crash may cost a delay.
    crashes_left: AtomicU32,
    pub(crate) enters: AtomicU32,
    /// An upper bound of the number of containers that were killed by hand.
    pub(crate) kills: AtomicU32,
    /// Whether the end of the function has been requested.
    pub(crate) ended: AtomicBool,
    /// Whether endless sources end now.
    pub(crate) over: AtomicBool,
    /// The function, for use by its own code.
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

    /// Whether one more crash may happen. If so, it is counted.
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

/// The history of one input.
#[derive(Debug)]
pub(crate) struct Record {
    /// Its place in its map.
    pub(crate) number: u64,
    pub(crate) script: u8,
    pub(crate) deeds: Mutex<Vec<Deed>>,
    pub(crate) outcomes: AtomicU32,
}

/// A part of each value. It counts as alive until it is dropped, and panics in its drop if it is a bomb.
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
        // A panic during unwinding aborts the process, which the crate cannot prevent.
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
        panic!("shown"); // the engine must contain a panic of `Debug` or `Display`
    }
}

impl std::error::Error for Wrong {}

/// A panic payload that panics when it is dropped.
pub(crate) struct Bomb {
    _counted: Counted,
}

impl Bomb {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self { _counted: Counted::new(world, true) }
    }
}
