//! A service whose dependency is down: its worker cannot enter, so its container crash-loops, ever
//! more slowly; accepted inputs wait, the status tells of it, and with the dependency all come back.
//!
//! Prints the status at each attempt to enter, then the outputs of the calls that waited.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use longshore::{App, BoxError, Context, CrashLoopBackoff, Worker};

/// A connection to the price list; there is none while the server is down.
struct PriceList;

impl Worker for PriceList {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    fn call(&mut self, tons: &u64, _: &Context) -> Result<u64, Infallible> {
        Ok(tons * 12)
    }
}

/// A server that answers when, and as, `main` wants it: so each status below is that of one moment.
struct Server {
    knocks: Sender<()>,
    answers: Mutex<Receiver<Result<PriceList, BoxError>>>,
}

impl Server {
    fn connect(&self) -> Result<PriceList, BoxError> {
        self.knocks.send(())?;
        self.answers.lock().expect("nobody panics here").recv()?
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
        // The default begins with 100 ms and goes up to a minute; an example should not take that.
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
