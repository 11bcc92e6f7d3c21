//! A service whose dependency is down. Its worker cannot enter, so its container is in a crash loop and
//! restarts ever more slowly. Accepted inputs wait, and the status shows the loop. When the dependency is
//! back, all inputs are answered.
//!
//! Prints the status at each attempt to enter, and then the outputs of the calls that waited.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use longshore::{App, BoxError, Context, CrashLoopBackoff, Worker};

/// A connection to the price list. It cannot be made while the server is down.
struct PriceList;

impl Worker for PriceList {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    fn call(&mut self, tons: &u64, _: &Context) -> Result<u64, Infallible> {
        Ok(tons * 12)
    }
}

/// A server whose answers `main` sends, so that each status below belongs to one known moment.
struct Server {
    knocks: Sender<()>,
    answers: Mutex<Receiver<Result<PriceList, BoxError>>>,
}

impl Server {
    fn connect(&self) -> Result<PriceList, BoxError> {
        self.knocks.send(())?;
        self.answers.lock().expect("no thread panics with this lock").recv()?
    }
}

fn main() -> Result<(), BoxError> {
    let (knocks, knocked) = channel();
    let (answer, answers) = channel();
    let server = Server { knocks, answers: Mutex::new(answers) };
    let app = App::deployed("harbour");
    let quote = app
        .worker("quote", move |_: &Context| server.connect())
        .containers(1)
        // The default delays go from 100 ms up to a minute, which is too long for an example.
        .restart(CrashLoopBackoff::new().initial(Duration::from_millis(10)))
        .start()?;
    let calls: Vec<_> = (1..=3).map(|tons| quote.call(tons)).collect();
    for enter in 1..=5 {
        knocked.recv()?;
        let status = quote.status();
        let in_a_row = status.crash_loop.map_or(0, |crash_loop| crash_loop.crashes);
        println!("enter {enter}: {in_a_row} crashes in a row, {} inputs waiting", status.inputs_waiting);
        answer.send(if enter < 5 { Err("the price list is down".into()) } else { Ok(PriceList) })?;
    }
    for call in calls {
        println!("quoted {}", call.wait()?);
    }
    println!("crash loop over: {}", quote.status().crash_loop.is_none());
    app.shutdown_blocking();
    Ok(())
}
