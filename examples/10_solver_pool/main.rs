//! A pool of solvers behind a health check that cannot lie. Orders are quoted against a market that moves
//! meanwhile; some kill their solver, and one does so whenever it is tried.
//!
//! Written by hand over threads and a queue, such a pool needs: a loop around `catch_unwind` in each thread,
//! and the rebuilding of what the panic left half done; a restart with a backoff, and the end of one;
//! an answer for the order whose thread died with it, and a count of how often it may try again, lest it kill
//! every thread in turn; a shutdown that waits for threads which may be gone; and, for each of these, what
//! the health check is to be told, because the length of a list of threads says how many there were. All
//! of that is not in this example: `main.rs` has a worker and its settings, `market.rs` the solver, and
//! `health.rs` shows the function's status.
//!
//! Prints what the program sees of itself as a client of `/health`: at the start, under load, while the market
//! feed is down and lethal orders come in, and when it is back; and what became of the orders.

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
/// Sells nothing for nothing.
const LETHAL: Order = Order { number: ORDERS / 2, from: 1, to: DELISTED, amount: 0 };

#[derive(Debug)]
struct NoRoute;

impl std::fmt::Display for NoRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no route")
    }
}

/// A solver, connected to the feed. It has the market it has seen last.
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
        // While the feed is down the last market will do, for whoever has one.
        if let Ok(newest) = self.feed.newest() {
            self.market = newest;
        }
        let quote = self.market.quote(order).ok_or(NoRoute);
        // In place of the bug that shows once in a while, and never when it is looked for.
        let unlucky = order.number % 50 == 49 && context.attempt().get() == 1;
        assert!(!unlucky, "the route has a cycle");
        quote
    }
}

fn order(number: u64) -> Order {
    let token = |n: u64| (n % TOKENS as u64) as usize;
    match number {
        number if number == LETHAL.number => LETHAL,
        // Sometimes to the delisted token, to which there is no route; that kills nobody.
        _ => Order {
            number,
            from: token(number % 9),
            to: token(number / 9),
            amount: 1 + u128::from(number) * 997,
        },
    }
}

/// Crashes must not be seen in what is quoted: it is what anyone finds who asks the market of that block.
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
        // By default delays go from 100 ms up to a minute, and a loop is over once somebody has completed an
        // input or stayed up for 10 s; an example should not take that.
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
    // A narrow window, so that the orders are quoted in many blocks and not all ahead of the first.
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
    // A solver is given an order that has killed one only if it has quoted another since, or has connected anew: so it is
    // clear that the order is at fault, and not the feed.
    while !lethal.is_finished() {
        drop(solvers.call(order(1)).wait());
    }
    println!("{}", lethal.join().expect("it only waits"));
    // Nobody who has died of it comes back.
    let cut_off = |answer: &Answer| answer.line("last cause").starts_with("enter failed");
    let degraded = ask_until(server, cut_off)?;
    tell(&degraded);
    println!("last cause: {}", degraded.line("last cause"));
    println!("orders are quoted all the same: {}", solvers.call(order(1)).wait().is_ok());

    println!("\nanother comes in, and five more orders");
    let lethal = solvers.call(LETHAL);
    let calls: Vec<_> = (1..=5).map(|number| (number, solvers.call(order(number)))).collect();
    let down = ask_until(server, |answer| answer.code() == "503" && cut_off(answer))?;
    tell(&down);
    println!("last cause: {}", down.line("last cause"));
    println!("it goes on trying: {}", down.line("crash loop").contains("next restart"));

    println!("\nthe feed is back");
    feed.publish(Some(Market::at(ORDERS)));
    let is_right = |(number, call): (u64, Call<Order, Quote, NoRoute>)| {
        call.wait().is_ok_and(|quote| quote.block == ORDERS && is_right(number, &quote))
    };
    println!("all that waited are quoted, in the newest block: {}", calls.into_iter().all(is_right));
    println!("the lethal one: {}", in_words(lethal.wait()));
    // It may be over a little after all are live: one that had found the feed down may tell of it last.
    tell(&ask_until(server, |answer| full(answer) && answer.line("crash loop").is_empty())?);
    println!("the crash loop is over: {}", solvers.status().crash_loop.is_none());
    println!("ended well: {}", app.shutdown_blocking().is_clean());
    Ok(())
}
