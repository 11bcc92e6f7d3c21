//! A worker of an application under test: faults are scripted, time is virtual, and nothing sleeps.
//!
//! The application starts `quotes`. The code below it would be in the application's tests, with `longshore`
//! and its feature `testkit` among the `dev-dependencies`. The tests rehearse the same settings and the same
//! code, and assert what happened and at which moment.
//!
//! ```text
//! cargo run --features testkit --example 12_rehearsal
//! ```

use std::time::Duration;

use longshore::testkit::{ExecutionEnd, Record};
use longshore::{App, AsyncWorker, Builder, Context, CrashLoopBackoff, Retries, StartError};

const SECOND: Duration = Duration::from_secs(1);

/// A connection to an exchange. Each container has one.
struct Connection {
    asked: u64,
}

#[derive(Debug, Clone, PartialEq)]
enum QuoteError {
    Busy,
    UnknownPair,
}

impl AsyncWorker for Connection {
    type Input = String;
    type Output = u64;
    type Error = QuoteError;

    async fn call(&mut self, pair: &String, _: &Context) -> Result<u64, QuoteError> {
        tokio::time::sleep(Duration::from_millis(200)).await; // the time of one request
        self.asked += 1;
        if pair.contains('/') { Ok(pair.len() as u64) } else { Err(QuoteError::UnknownPair) }
    }
}

/// The function that the application starts.
fn quotes(app: &App) -> Builder<String, u64, QuoteError> {
    app.worker_async("quotes", async |_: &Context| Ok(Connection { asked: 0 }))
        .containers(2)
        .retries(Retries::new(3).initial_delay(SECOND).backoff_coefficient(2.0))
        .retry_if(|error| *error == QuoteError::Busy)
        .restart(CrashLoopBackoff::new().initial(SECOND).max(8 * SECOND))
}

fn pairs(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("C{n}/USD"))
}

fn title(what: &str, record: &Record) {
    let crashes = record.crashes().count();
    println!("{what}: {:?}, {crashes} crashes, {} restarts", record.elapsed(), record.restarts());
}

fn main() -> Result<(), StartError> {
    let app = App::deployed("exchange");

    // At attempt 1 of input 7 the exchange is busy, and attempt 2 panics.
    let busy = quotes(&app).rehearse().fails(7, 1, || QuoteError::Busy).panics(7, 2);
    let (outcomes, record) = busy.run(pairs(10))?;
    title("busy, then a panic", &record);
    assert!(outcomes.iter().all(Result::is_ok), "{record}");
    assert_eq!(record.attempts(7), 3, "{record}");
    assert_eq!(record.delays(7), [SECOND, Duration::ZERO], "a retry waits, a replay does not: {record}");

    // The container dies between two inputs. No input is replayed, because none was executing.
    let (outcomes, record) = quotes(&app).containers(1).rehearse().dies_after(3).run(pairs(10))?;
    title("a death between two inputs", &record);
    assert!(outcomes.iter().all(Result::is_ok));
    assert!((0..10).all(|input| record.attempts(input) == 1), "{record}");

    // The connection fails twice. The third attempt waits, because two loop crashes in a row have a delay.
    let (_, record) = quotes(&app).containers(1).rehearse().enter_fails(2).run(pairs(1))?;
    title("enter fails twice", &record);
    let waited = record.starts()[2].at - record.starts()[1].at;
    assert!(waited >= SECOND / 2 && waited <= SECOND, "a second, with equal jitter: {record}");

    // The exchange is down for three seconds.
    let (outcomes, record) = quotes(&app).rehearse().down(SECOND..4 * SECOND).run(pairs(40))?;
    title("down for three seconds", &record);
    assert!(outcomes.iter().all(Result::is_ok), "all inputs wait for the exchange: {record}");
    assert!(record.executions().iter().all(|execution| execution.ending != ExecutionEnd::Failed), "{record}");
    assert!(record.status().crash_loop.is_none(), "the function has recovered");

    // An unknown pair is not retried. The whole record is printed.
    let (outcomes, record) = quotes(&app).containers(1).rehearse().run(["no pair".to_owned()])?;
    assert_eq!(
        outcomes[0].as_ref().expect_err("there is no such pair").error(),
        Some(&QuoteError::UnknownPair)
    );
    print!("\n{record}");
    Ok(())
}
