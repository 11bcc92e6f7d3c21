//! An actor that runs a map by messages, and handles the events of its function.
//!
//! Prints the sum of the outputs that it received, the number of crash events, and how the function ended.

use actix::prelude::*;
use longshore::actor::{Batch, Demand, Ending, Happened, Shutdown, StartMap, Subscribe};
use longshore::{App, Cause, Event, StartError};
use std::convert::Infallible;
use std::time::Duration;

/// Adds up the outputs, and ends the function after the last batch.
struct Bookkeeper {
    function: longshore::Function<u64, u64, Infallible>,
    total: u64,
    poisoned: Vec<u64>,
    crashes: u64,
}

impl Actor for Bookkeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(1_000); // an event for a full mailbox is lost
        let supervisor = self.function.supervisor().clone();
        let me = ctx.address();
        // The actor subscribes before it starts the map, so that it misses no event.
        let begin = async move {
            let told = supervisor.send(Subscribe { to: me.clone().recipient() }).await;
            told.expect("the handle keeps the function");
            let map = StartMap::new(1..=100u64, me.recipient()).return_exceptions().window(16);
            supervisor.send(map).await.expect("the handle keeps the function")
        };
        let begun = begin.into_actor(self).map(|map, _, ctx| {
            if let Err(refused) = map {
                println!("refused: {refused:?}");
                ctx.stop();
            }
        });
        ctx.spawn(begun);
    }
}

impl Handler<Batch<u64, u64, Infallible>> for Bookkeeper {
    type Result = MessageResult<Batch<u64, u64, Infallible>>;

    fn handle(&mut self, batch: Batch<u64, u64, Infallible>, _: &mut Context<Self>) -> Self::Result {
        let last = batch.is_last();
        for outcome in batch.into_outcomes() {
            match outcome {
                Ok(output) => self.total += output,
                Err(failure) if matches!(failure.cause(), Cause::Poisoned(_)) => {
                    self.poisoned.extend(failure.input());
                }
                Err(failure) => println!("{failure}"),
            }
        }
        if last {
            println!("total {}, poisoned {:?}", self.total, self.poisoned);
            let end = Shutdown { ending: Ending::Drain, limit: Duration::from_secs(30) };
            self.function.supervisor().do_send(end);
        }
        MessageResult(Demand::More)
    }
}

impl Handler<Happened> for Bookkeeper {
    type Result = ();

    fn handle(&mut self, Happened(event): Happened, _: &mut Context<Self>) {
        match event {
            Event::Crashed(_) => self.crashes += 1,
            Event::Poisoned { input, attempts, .. } => {
                println!("input {input} is given up after {attempts} attempts")
            }
            Event::Ended(report) => {
                println!("{} crash events", self.crashes);
                println!("ended, {} threads still run", report.threads_running);
                System::current().stop();
            }
            _ => {}
        }
    }
}

fn main() -> Result<(), StartError> {
    let system = System::new();
    let app = App::ephemeral("books");
    let function = app
        .infallible("double", |n: &u64| if *n == 13 { panic!("unlucky") } else { 2 * n })
        .containers(1)
        .start()?;
    system.block_on(async { Bookkeeper { function, total: 0, poisoned: Vec::new(), crashes: 0 }.start() });
    // Returns when the bookkeeper stops the system.
    system.run().expect("nothing stops it with an error");
    Ok(())
}
