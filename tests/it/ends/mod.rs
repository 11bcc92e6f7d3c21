//! How functions and apps end: what is cut off, what comes back, what the report says, and which threads are
//! left.

mod cut_off;
mod deadlocks;
mod forgotten;
mod ready;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use longshore::actor::{Ending, Shutdown};
use longshore::{Context, Fate, Function, FunctionReport, Worker};

use crate::support::Gate;

/// A limit longer than any test takes. A test that ends has not waited for it.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(10);

/// Ends a function from outside its app, and waits for it.
fn end<I, O, E>(f: &Function<I, O, E>, ending: Ending, limit: Duration) -> FunctionReport
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    block_on(f.supervisor().send(Shutdown { ending, limit })).expect("it has not ended before")
}

fn fates(report: &FunctionReport) -> Vec<Fate> {
    report.containers.iter().map(|(_, fate)| fate.clone()).collect()
}

/// A worker that waits for a gate at input 0, and whose exits are counted and take a given time.
struct Waits {
    begun: Gate,
    gate: Gate,
    exits: Arc<AtomicU64>,
    exit_takes: Duration,
}

impl Worker for Waits {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Infallible> {
        if *input == 0 {
            self.begun.open();
            self.gate.pass();
        }
        Ok(*input)
    }

    fn exit(self, _: &Context) {
        std::thread::sleep(self.exit_takes); // the duration of the exit is what the test is about
        self.exits.fetch_add(1, Ordering::SeqCst);
    }
}
