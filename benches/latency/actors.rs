//! actix actors on an arbiter of their own: one that answers, and one that is started anew after a panic.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, Context, Handler, Message, System, SystemRunner};

use crate::harness::crashes::Probe;

/// A number that the actor sends back.
#[derive(Message)]
#[rtype(u64)]
struct Say(u64);

/// Sends each number back.
pub(crate) struct Echo;

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Say> for Echo {
    type Result = u64;

    fn handle(&mut self, Say(n): Say, _: &mut Self::Context) -> u64 {
        n
    }
}

/// An [`Echo`] on another arbiter. The system's own thread asks it.
pub(crate) struct FarEcho {
    system: SystemRunner,
    address: Addr<Echo>,
    _arbiter: Arbiter,
}

impl Echo {
    pub(crate) fn start_elsewhere() -> FarEcho {
        let system = System::new();
        let arbiter = system.block_on(async { Arbiter::new() });
        let address = Self::start_in_arbiter(&arbiter.handle(), |_| Self);
        FarEcho { system, address, _arbiter: arbiter }
    }
}

impl FarEcho {
    pub(crate) fn ask(&self, n: u64) -> u64 {
        self.system.block_on(self.address.send(Say(n))).expect("the actor lives")
    }
}

/// A probe, with a channel for the time until its replay began.
#[derive(Message, Clone)]
#[rtype(result = "()")]
struct Try {
    probe: Probe,
    answer: mpsc::Sender<Duration>,
}

/// An actor that a panic kills. actix does not restart it, so it holds a [`Guard`] that does.
pub(crate) struct Fragile {
    fresh: bool,
    guard: Guard,
}

/// The address of the current actor.
type Place = Arc<Mutex<Option<Addr<Fragile>>>>;

/// Starts a fresh actor when a panic drops the old one, and sends it the message that was being handled.
struct Guard {
    place: Place,
    handled: Option<Try>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(handled) = self.handled.take()
            && thread::panicking()
        {
            Fragile::start_at(&self.place).do_send(handled);
        }
    }
}

impl Actor for Fragile {
    type Context = Context<Self>;
}

impl Handler<Try> for Fragile {
    type Result = ();

    fn handle(&mut self, asked: Try, _: &mut Self::Context) {
        self.guard.handled = Some(asked.clone());
        let delay = asked.probe.attempt(&mut self.fresh);
        self.guard.handled = None;
        asked.answer.send(delay).expect("the asker waits");
    }
}

impl Fragile {
    /// Starts an actor on this arbiter, and stores its address in `place`.
    fn start_at(place: &Place) -> Addr<Self> {
        let guard = Guard { place: Arc::clone(place), handled: None };
        let address = Self { fresh: true, guard }.start();
        *place.lock().expect("no thread panics with this lock") = Some(address.clone());
        address
    }

    pub(crate) fn start_elsewhere() -> FarFragile {
        let system = System::new();
        let arbiter = system.block_on(async { Arbiter::new() });
        let place = Place::default();
        let (started, starts) = mpsc::channel();
        let there = Arc::clone(&place);
        arbiter.spawn_fn(move || {
            Self::start_at(&there);
            started.send(()).expect("the starter waits");
        });
        starts.recv().expect("the arbiter lives");
        FarFragile { _system: system, _arbiter: arbiter, place }
    }
}

/// A [`Fragile`] on another arbiter.
pub(crate) struct FarFragile {
    _system: SystemRunner,
    _arbiter: Arbiter,
    place: Place,
}

impl FarFragile {
    /// The time until the replay of the probe began.
    pub(crate) fn ask(&self, probe: Probe) -> Duration {
        let (answer, answers) = mpsc::channel();
        let address = self.place.lock().expect("no thread panics with this lock").clone();
        address.expect("it was started").do_send(Try { probe, answer });
        answers.recv().expect("it is answered")
    }
}
