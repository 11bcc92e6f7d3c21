//! The actors of a story's user. They take batches and events, on an actix system of their own.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use actix::prelude::*;
use longshore::actor::{Batch, Demand, Happened};

use crate::judge::Course;
use crate::values::{Output, Ticket, Wrong, hold, this_thread_is_a_user};

/// The arbiter on which actors are started. Its system is never stopped.
pub(crate) fn arbiter() -> &'static ArbiterHandle {
    static ARBITER: OnceLock<ArbiterHandle> = OnceLock::new();
    ARBITER.get_or_init(|| {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            this_thread_is_a_user();
            let system = System::new();
            drop(tell.send(System::current().arbiter().clone()));
            drop(system.run());
        });
        told.recv().expect("the system starts")
    })
}

/// The batches that a listener has received so far.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) course: Course,
    /// Whether the last batch has come.
    pub(crate) last: bool,
}

/// Takes the batches of a map.
pub(crate) struct Listener {
    pub(crate) heard: Arc<Mutex<Heard>>,
    pub(crate) stop_after: Option<u8>,
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Batch<Ticket, Output, Wrong>> for Listener {
    type Result = MessageResult<Batch<Ticket, Output, Wrong>>;

    fn handle(&mut self, batch: Batch<Ticket, Output, Wrong>, ctx: &mut Context<Self>) -> Self::Result {
        let mut heard = hold(&self.heard);
        assert!(!heard.last, "a batch after the last");
        heard.last = batch.is_last();
        for outcome in batch.into_outcomes() {
            heard.course.give(&outcome);
        }
        match &mut self.stop_after {
            None => MessageResult(Demand::More),
            Some(0) => {
                heard.course.disturbed = true;
                MessageResult(Demand::Stop)
            }
            Some(1) => {
                heard.course.disturbed = true;
                ctx.stop();
                MessageResult(Demand::More)
            }
            Some(left) => {
                *left -= 2;
                MessageResult(Demand::More)
            }
        }
    }
}

/// Takes events, and ends after `ends_after` of them.
pub(crate) struct Subscriber {
    pub(crate) ends_after: u8,
    pub(crate) alive: Arc<AtomicU32>,
}

impl Actor for Subscriber {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(1 + usize::from(self.ends_after % 4));
        self.alive.fetch_add(1, Ordering::SeqCst);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Handler<Happened> for Subscriber {
    type Result = ();

    fn handle(&mut self, Happened(event): Happened, ctx: &mut Context<Self>) {
        assert!(!format!("{event:?}").is_empty());
        match self.ends_after.checked_sub(1) {
            Some(left) => self.ends_after = left,
            None => ctx.stop(),
        }
    }
}
