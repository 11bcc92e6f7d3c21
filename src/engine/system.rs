//! The engine's own thread: one actix system for the process, which ends with the last app.
//!
//! The engine has a thread of its own, whatever runtime the application uses. An actor cannot be started
//! inside a plain tokio runtime, and supervisors must not share a thread with the user's code.

use std::cell::Cell;
use std::sync::{Arc, Weak};

use actix::{Actor, Addr, ArbiterHandle, Context, System};
use crossbeam_channel::bounded;
use parking_lot::Mutex;

use crate::contain::TARGET;
use crate::contain::unwind::ignore_panic;
use crate::values::error::StartError;

static ENGINE: Mutex<Weak<Engine>> = Mutex::new(Weak::new());

/// The stack size of the engine's thread, in bytes. It is large, because the inputs and outcomes of calls by
/// message pass over the stack by value.
pub(crate) const STACK_BYTES: usize = 16 << 20;

thread_local! {
    static ON_ENGINE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is the engine's thread, where no code may block.
pub(crate) fn on_engine_thread() -> bool {
    ON_ENGINE.get()
}

/// The running engine. It ends when the last holder drops it.
#[derive(Debug)]
pub(crate) struct Engine {
    system: System,
    arbiter: ArbiterHandle,
}

impl Engine {
    /// The engine of the process, started if it does not run.
    pub(crate) fn get() -> Result<Arc<Self>, StartError> {
        let mut engine = ENGINE.lock();
        if let Some(running) = engine.upgrade() {
            return Ok(running);
        }
        let (send, receive) = bounded(1);
        let thread = std::thread::Builder::new().name("longshore".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn(move || {
            let runner = System::new();
            runner.block_on(async move {
                drop(send.send(Self::of_this_thread())); // fails if the starting thread has died
            });
            if let Err(error) = runner.run() {
                ignore_panic(|| tracing::error!(target: TARGET, %error, "the engine ended with an error"));
            }
        });
        thread.map_err(StartError::Thread)?;
        let started = Arc::new(receive.recv().map_err(|_| StartError::Engine)?);
        *engine = Arc::downgrade(&started);
        Ok(started)
    }

    /// The engine on the actix system of the calling thread. The thread counts as the engine's from now on.
    pub(crate) fn of_this_thread() -> Self {
        ON_ENGINE.set(true);
        let system = System::current();
        let arbiter = system.arbiter().clone();
        Self { system, arbiter }
    }

    /// The arbiter on which the engine's actors run.
    pub(super) fn arbiter(&self) -> &ArbiterHandle {
        &self.arbiter
    }

    /// Starts an actor on the engine and waits for its address.
    pub(crate) fn start<A>(&self, actor: A) -> Result<Addr<A>, StartError>
    where
        A: Actor<Context = Context<A>> + Send,
    {
        if on_engine_thread() {
            return Err(StartError::WouldDeadlock);
        }
        let (send, receive) = bounded(1);
        self.arbiter.spawn_fn(move || {
            drop(send.send(actor.start())); // fails if the starting thread has died
        });
        receive.recv().map_err(|_| StartError::Engine)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.system.stop();
    }
}
