//! A pool of solvers behind a health check that is always right. Orders are quoted against a market that
//! moves meanwhile. Some orders kill their solver, and one kills every solver that tries it.
//!
//! Such a pool, written by hand over threads and a queue, needs a loop around `catch_unwind` in each thread,
//! and code that rebuilds the state which a panic left half done. It needs restarts with a backoff that ends.
//! It needs an answer for the order whose thread died, and a count of its attempts, or that order kills every
//! thread in turn. It needs a shutdown that waits for threads which may be gone. And each of these must
//! report to the health check, because the length of a list of threads does not say how many are alive. None
//! of that code is in this example: `main.rs` has a worker and its settings, `market.rs` has the solver, and
//! `health.rs` shows the function's status.
//!
//! Prints the answers of `/health`: at the start, under load, while the market feed is down and lethal orders
//! come in, and when the feed is back. It also prints what became of the orders.

mod health;
mod market;

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use longshore::{App, BoxError, Call, Cause, Context, Crash, CrashLoopBackoff, Failure, Worker};

use health::{Answer, ask_until, serve};
use market::{DELISTED, Feed, Market, Order, Quote, TOKENS};

const SOLVERS: usize = 4;
const MS: Duration = Duration::from_millis(1);
const ORDERS: u64 = 2_000;
/// An order that kills its solver: it sells an amount of 0 for a delisted token.
const LETHAL: Order = Order { number: ORDERS / 2, from: 1, to: DELISTED, amount: 0 };

#[derive(Debug)]
struct NoRoute;

impl std::fmt::Display for NoRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no route")
    }
}

/// A solver that is connected to the feed, with the market that it has seen last.
struct Solver {
    feed: Arc<Feed>,
    market: Arc<Market>,
}

impl Solver {
    fn connect(feed: &Arc<Feed>) -> Result<Self, BoxError> {
        Ok(Self { feed: Arc::clone(feed), market: feed.newest()? })
    }
}

impl Worker for Solver {
    type Input = Order;
    type Output = Quote;
    type Error = NoRoute;

    fn call(&mut self, order: &Order, context: &Context) -> Result<Quote, NoRoute> {
        // While the feed is down, a solver goes on with the last market that it has seen.
        if let Ok(newest) = self.feed.newest() {
            self.market = newest;
        }
        let quote = self.market.quote(order).ok_or(NoRoute);
        // This stands for a bug that shows only now and then.
        let unlucky = order.number % 50 == 49 && context.attempt().get() == 1;
        assert!(!unlucky, "the route has a cycle");
        quote
    }
}

fn order(number: u64) -> Order {
    let token = |n: u64| (n % TOKENS as u64) as usize;
    match number {
        number if number == LETHAL.number => LETHAL,
        // Some orders are for the delisted token. They have no route, which is an error and no crash.
        _ => Order {
            number,
            from: token(number % 9),
            to: token(number / 9),
            amount: 1 + u128::from(number) * 997,
        },
    }
}

/// Whether the quote is the one that the market of its block gives. Crashes must not change a quote.
fn is_right(number: u64, quote: &Quote) -> bool {
    Market::at(quote.block).quote(&order(number)).as_ref() == Some(quote)
}

fn tell(answer: &Answer) {
    println!("{} {}; {} waiting", answer.code(), answer.line("pool"), answer.line("waiting"));
}

/// How an order has ended.
fn in_words(outcome: Result<Quote, Failure<Order, NoRoute>>) -> String {
    let failure = match outcome {
        Ok(quote) => return format!("{} over {:?}", quote.amount, quote.route),
        Err(failure) => failure,
    };
    match failure.cause() {
        Cause::Failed(error) => error.to_string(),
        Cause::Poisoned(deaths) => {
            let how = |crash: &Arc<Crash>| crash.death.to_string().contains("divide by zero");
            let all = deaths.iter().all(how);
            format!("it killed {} solvers, each by a division by zero: {all}", deaths.len())
        }
        _ => failure.to_string(),
    }
}

fn main() -> Result<(), BoxError> {
    let feed = Arc::new(Feed::new());
    let app = App::deployed("exchange");
    let theirs = Arc::clone(&feed);
    let solvers = app
        .worker("solve", move |_: &Context| Solver::connect(&theirs))
        .containers(SOLVERS)
        .crash_retries(2)
        // By default delays go from 100 ms up to a minute, and a crash loop ends once a container has
        // completed an input or stayed up for 10 s. That is too long for an example.
        .restart(CrashLoopBackoff::new().initial(10 * MS).max(40 * MS).reset_after(20 * MS))
        .start()?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = listener.local_addr()?;
    let shown = solvers.clone();
    thread::spawn(move || serve(&listener, || shown.status()));
    let full = |answer: &Answer| answer.line("pool").starts_with("healthy");
    tell(&ask_until(server, full)?);

    println!("\n{ORDERS} orders, and a block for each hundred");
    let (mut quoted, mut wrong, mut no_route, mut block) = (0, 0, 0, 0);
    // The window is narrow, so that the orders are quoted in many blocks and not all in the first.
    let outcomes = solvers.map((0..ORDERS).map(order)).return_exceptions().window(64);
    for (number, outcome) in (0..).zip(outcomes) {
        if number % 100 == 99 {
            feed.publish(Some(Market::at(number)));
        }
        match &outcome {
            Ok(quote) => {
                quoted += 1;
                block = quote.block.max(block);
                wrong += u64::from(!is_right(number, quote));
            }
            Err(failure) if failure.error().is_some() => no_route += 1,
            Err(_) => println!("order {number}: {}", in_words(outcome)),
        }
    }
    println!(
        "{quoted} quoted, {wrong} of them wrong, {no_route} without a route; the block moved: {}",
        block > 0
    );
    println!("{} crashes", solvers.status().crashes);
    tell(&ask_until(server, full)?);

    println!("\nthe feed goes down, and a lethal order comes in");
    feed.publish(None);
    let lethal = solvers.call(LETHAL);
    let lethal = thread::spawn(move || in_words(lethal.wait()));
    // An order that has killed a solver is given only to a solver that has quoted another order since, or has
    // connected anew. So it is clear that the order is at fault and not the feed.
    while !lethal.is_finished() {
        drop(solvers.call(order(1)).wait());
    }
    println!("{}", lethal.join().expect("the thread only waits"));
    // The solvers that it killed cannot come back, because the feed is down.
    let cut_off = |answer: &Answer| answer.line("last cause").starts_with("enter failed");
    let degraded = ask_until(server, cut_off)?;
    tell(&degraded);
    println!("last cause: {}", degraded.line("last cause"));
    println!("orders are quoted all the same: {}", solvers.call(order(1)).wait().is_ok());

    println!("\na second lethal order comes in, and five others");
    let lethal = solvers.call(LETHAL);
    let calls: Vec<_> = (1..=5).map(|number| (number, solvers.call(order(number)))).collect();
    let down = ask_until(server, |answer| answer.code() == "503" && cut_off(answer))?;
    tell(&down);
    println!("last cause: {}", down.line("last cause"));
    println!("the pool goes on trying: {}", down.line("crash loop").contains("next restart"));

    println!("\nthe feed is back");
    feed.publish(Some(Market::at(ORDERS)));
    let is_right = |(number, call): (u64, Call<Order, Quote, NoRoute>)| {
        call.wait().is_ok_and(|quote| quote.block == ORDERS && is_right(number, &quote))
    };
    println!("all waiting orders are quoted, in the newest block: {}", calls.into_iter().all(is_right));
    println!("the lethal order: {}", in_words(lethal.wait()));
    // The crash loop may end a little after all solvers are live, because a failed connection may be handled
    // last.
    tell(&ask_until(server, |answer| full(answer) && answer.line("crash loop").is_empty())?);
    println!("the crash loop is over: {}", solvers.status().crash_loop.is_none());
    println!("ended well: {}", app.shutdown_blocking().is_clean());
    Ok(())
}
