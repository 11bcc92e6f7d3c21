//! Ten thousand requests to a server, 500 in flight. One in 50 is refused once, and the answer to one in 1000
//! makes the client's parser panic, once. The rival is `buffer_unordered` with the retries of `backon`, and
//! each attempt in a spawned task, so that a panic is caught.
//!
//! ```sh
//! cargo bench -p longshore-indicatif --bench requests
//! ```
//!
//! The outcomes of both come as they complete. In order, an input that is retried would hold up the window of
//! the map, which is twice as many inputs as are in flight. The server is a process of its own, so the CPU
//! time is the client's. Each round has clients of its own, so making the connections is measured for both.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![allow(dead_code, reason = "each bench uses its own part of the harness")]

#[path = "../../../../benches/concurrent/cpu.rs"]
mod cpu;
#[path = "../../../../benches/harness/mod.rs"]
mod harness;
mod site;

use std::net::SocketAddr;
use std::panic::panic_any;
use std::time::{Duration, Instant};

use backon::{ConstantBuilder, Retryable};
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use longshore::{App, BoxError, Context, Function, RateLimited, Retries};
use tokio::runtime::{Builder, Runtime};

use harness::Harness;
use harness::goal::Goal;
use harness::ours::WORKERS;
use harness::question::Measure;
use harness::reading::{Reading, assert_whole};
use harness::work::Silence;
use site::Site;

const MEASURES: [Measure; 2] = [
    Measure { name: "wall", unit: "ns", goal: Goal::Shown },
    Measure { name: "CPU", unit: "ns", goal: Goal::Shown },
];

const IN_FLIGHT: usize = 500;

/// The number of retries of a refused request, and the delay of each.
const RETRIES: u32 = 5;
const DELAY: Duration = Duration::from_millis(10);

type Client = hyper_util::client::legacy::Client<HttpConnector, Empty<Bytes>>;

fn main() {
    if site::is_site() {
        return site::serve();
    }
    Silence::install();
    let mut harness = Harness::new("requests");
    requests(&mut harness, 1, || Builder::new_current_thread().enable_all().build().expect("a runtime"));
    requests(&mut harness, 2, || {
        Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().expect("a runtime")
    });
}

fn requests(harness: &mut Harness, containers: usize, runtime: impl Fn() -> Runtime) {
    let n = harness.inputs(10_000);
    let (site, runtime) = (Site::open(), runtime());
    let address = site.address;
    harness
        .question(&format!("requests, 500 in flight, containers: {containers}"), n)
        .measures(&MEASURES)
        .ours(both(
            n,
            || start(address, containers),
            |function| function.map(0..n).unordered().return_exceptions().into_iter().collect(),
            |function| assert_eq!(function.snapshot().totals.crashes.crashes(), n.div_ceil(1000)),
        ))
        .rival(
            "buffer_unordered, `backon`, spawned",
            &[Goal::Times(1.05), Goal::Times(1.15)],
            both(n, client, |client| runtime.block_on(by_hand(client, address, n)), drop),
        )
        .ask();
}

/// Starts the function. Its containers share a client.
fn start(address: SocketAddr, containers: usize) -> Function<u64, u64, BoxError> {
    let (app, client) = (App::ephemeral("bench"), client());
    app.function_async("fetch", async move |n: &u64| {
        let attempt = Context::current().expect("in a container").attempt().get();
        fetch(&client, address, *n, attempt).await
    })
    .containers(containers)
    .concurrent_inputs(IN_FLIGHT / containers)
    .retries(Retries::new(RETRIES).initial_delay(DELAY).backoff_coefficient(1.0))
    .restart(RateLimited::never())
    .start()
    .expect("the settings are valid")
}

/// The same with a stream, a crate for retries, and a task for each attempt.
async fn by_hand(client: &Client, address: SocketAddr, n: u64) -> Vec<Result<u64, BoxError>> {
    let retries = ConstantBuilder::default().with_delay(DELAY).with_max_times(RETRIES as usize);
    let attempts = |n| {
        let (client, mut attempt) = (client.clone(), 0);
        let once = move || {
            attempt += 1;
            let client = client.clone();
            let task = tokio::spawn(async move { fetch(&client, address, n, attempt).await });
            async { task.await.unwrap_or_else(|panic| Err(panic.into())) }
        };
        once.retry(retries).into_future()
    };
    stream::iter(0..n).map(attempts).buffer_unordered(IN_FLIGHT).collect().await
}

fn client() -> Client {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector)
}

/// Asks for a page, and parses it.
async fn fetch(client: &Client, address: SocketAddr, n: u64, attempt: u32) -> Result<u64, BoxError> {
    let page: Uri = format!("http://{address}/{n}/{attempt}").parse()?;
    let response = client.get(page).await?;
    if response.status() != StatusCode::OK {
        return Err(response.status().as_str().into());
    }
    let body = response.into_body().collect().await?.to_bytes();
    let Some(number) = body.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) else {
        panic_any(Silence::WORD);
    };
    Ok(std::str::from_utf8(number)?.parse()?)
}

/// The wall time and the CPU time of each request of a run, from the first to the last outcome. `check`
/// inspects the value of `prepare`, and both are dropped after that.
fn both<P, E>(
    requests: u64,
    mut prepare: impl FnMut() -> P,
    mut run: impl FnMut(&P) -> Vec<Result<u64, E>>,
    mut check: impl FnMut(P),
) -> impl FnMut() -> Reading {
    move || {
        let prepared = prepare();
        let (begun, used) = (Instant::now(), cpu::used());
        let outcomes = run(&prepared);
        let (took, used) = (begun.elapsed(), cpu::used() - used);
        assert_whole(requests, outcomes);
        check(prepared);
        let figures = [took, used].map(|time| time.as_nanos() as f64 / requests as f64);
        Reading { took, figures: figures.to_vec() }
    }
}
