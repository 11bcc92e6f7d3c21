//! A crawler with hundreds of requests in flight, whose inputs are found in its outcomes.
//!
//! The program opens a site with pages that link to each other, twice: one in good health, and one that
//! answers 503 now and then and sends some pages cut off, which make the parser panic. Two containers crawl
//! each site, with up to 128 pages in flight in each of them. A page that was refused is retried. A panic of
//! the parser ends its container with the client in it, and all pages that it has in flight are replayed. So
//! the totals of both sites are equal.
//!
//! `crawl PAGES` opens sites of that many pages. The default is 2 000. Prints the totals, what went wrong,
//! and whether the totals are equal.

mod site;

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use indicatif::ProgressBar;
use longshore::snapshot;
use longshore::{App, BoxError, ConcurrentWorker, Context, Retries};
use longshore_indicatif::{ProgressWith, style};

use crate::site::{Faults, Site};

const ROOT: &str = "/page/0";

/// The number of pages that each of the two containers has in flight.
const IN_FLIGHT: usize = 128;

/// The state of a container: a client, whose connections all requests in flight share.
struct Crawler {
    client: Client<HttpConnector, Empty<Bytes>>,
    site: SocketAddr,
}

impl Crawler {
    fn enter(site: SocketAddr) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), site }
    }
}

impl ConcurrentWorker for Crawler {
    type Input = String;
    type Output = Page;
    type Error = Refused;

    async fn call(&self, path: &String, _: &Context) -> Result<Page, Refused> {
        let address: Uri = format!("http://{}{path}", self.site).parse().map_err(Refused::other)?;
        let response = self.client.get(address).await.map_err(Refused::other)?;
        if response.status() != StatusCode::OK {
            return Err(Refused::Status(response.status()));
        }
        let body = response.into_body().collect().await.map_err(Refused::other)?.to_bytes();
        Ok(parse(&String::from_utf8_lossy(&body)))
    }
}

/// The error of a page that was not answered with 200.
#[derive(Debug)]
enum Refused {
    Status(StatusCode),
    /// The connection was not made, or broke.
    Other(BoxError),
}

impl Refused {
    fn other(error: impl Into<BoxError>) -> Self {
        Self::Other(error.into())
    }

    /// Whether another attempt may help.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Status(status) => *status == StatusCode::SERVICE_UNAVAILABLE,
            Self::Other(_) => true,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Other(error) => write!(f, "{error}"),
        }
    }
}

/// The links and the number of words of a page.
struct Page {
    links: Vec<String>,
    words: usize,
}

/// Parses a page.
///
/// # Panics
///
/// If a link has no end, as parsers do that are not made for pages which were cut off.
fn parse(text: &str) -> Page {
    let links = text.split("<a href=\"").skip(1);
    let links = links.map(|rest| rest.split_once('"').expect("a link has an end").0.to_owned()).collect();
    Page { links, words: text.split_whitespace().count() }
}

/// The sums over all pages of a site.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    pages: usize,
    links: usize,
    words: usize,
    /// Links to pages that do not exist.
    dead: usize,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pages, links, words, dead } = self;
        write!(f, "{pages} pages, {links} links, {words} words, {dead} dead")
    }
}

/// Crawls a site. Returns the totals, and the counts of the function.
fn crawl(site: &Site) -> Result<(Totals, snapshot::Totals), BoxError> {
    let (app, address) = (App::ephemeral("crawl"), site.address);
    let fetch = app
        .worker_concurrent("fetch", async move |_: &Context| Ok(Crawler::enter(address)))
        .containers(2)
        .concurrent_inputs(IN_FLIGHT)
        .retries(Retries::new(5).initial_delay(Duration::from_millis(20)))
        .retry_if(Refused::is_temporary)
        .start()?;

    // The map takes its inputs from a channel, and each outcome sends the links that were not known before.
    // Nothing is left to do once each page that was sent has its outcome. Then the sender is dropped, which
    // ends the channel, and thereby the map.
    let (found, pages) = channel();
    found.send(ROOT.to_owned())?;
    let (mut found, mut open) = (Some(found), 1_u64);
    let mut known = HashSet::from([ROOT.to_owned()]);

    let mut totals = Totals::default();
    let bar = ProgressBar::new(open).with_style(style());
    for outcome in fetch.map(pages).unordered().return_exceptions().progress_with(bar.clone()) {
        match outcome {
            Ok(page) => {
                totals.pages += 1;
                totals.links += page.links.len();
                totals.words += page.words;
                for link in page.links {
                    if let Some(found) = found.as_ref().filter(|_| known.insert(link.clone())) {
                        found.send(link)?;
                        open += 1;
                    }
                }
            }
            Err(failure) => match failure.error() {
                Some(Refused::Status(StatusCode::NOT_FOUND)) => totals.dead += 1,
                _ => return Err(failure.to_string().into()),
            },
        }
        bar.set_length(known.len() as u64);
        open -= 1;
        if open == 0 {
            found = None;
        }
    }
    let counts = fetch.snapshot().totals;
    drop(fetch);
    assert!(app.shutdown_blocking().is_clean());
    Ok((totals, counts))
}

fn main() -> Result<(), BoxError> {
    let pages = std::env::args().nth(1).map_or(Ok(2_000), |pages| pages.parse())?;
    let calm = Site::open(pages, Faults::None)?;
    let (expected, counts) = crawl(&calm)?;
    println!("a site in good health: {expected}");
    println!("up to {} requests at a time", calm.in_flight_most());
    assert_eq!((counts.crashes.crashes(), counts.retried), (0, 0));

    let sick = Site::open(pages, Faults::Some)?;
    let (totals, counts) = crawl(&sick)?;
    println!("a site with faults: {totals}");
    println!(
        "{} answers were 503 and {} pages were cut off: {} retries, {} crashes, {} replays",
        sick.refused(),
        sick.cut_off(),
        counts.retried,
        counts.crashes.crashes(),
        counts.replayed
    );
    assert_eq!(totals, expected);
    println!("the totals are equal: true");
    Ok(())
}
