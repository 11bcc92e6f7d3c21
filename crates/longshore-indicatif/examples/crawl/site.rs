//! The site that is crawled: an HTTP server on the loopback address, with pages that link to each other.

use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{self, Runtime};

/// The time that the server takes for a page.
const LATENCY: Duration = Duration::from_millis(50);

/// The largest number of connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Whether the site is in good health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    None,
    /// The first answer for one page in 50 is a 503, and for one page in 199 it is a page that is cut off.
    Some,
}

/// A running site. Its thread serves until the end of the program.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    inside: Arc<Inside>,
}

struct Inside {
    faults: Faults,
    /// For each page, how often it was asked for.
    asked: Vec<AtomicU32>,
    in_flight: AtomicU64,
    in_flight_most: AtomicU64,
    refused: AtomicU64,
    cut_off: AtomicU64,
}

impl Site {
    /// Opens a site with this many pages.
    pub(crate) fn open(pages: usize, faults: Faults) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            socket.listen(BACKLOG)
        })?;
        let (address, zero) = (listener.local_addr()?, AtomicU64::default);
        let asked = (0..pages).map(|_| AtomicU32::new(0)).collect();
        let inside = Inside {
            faults,
            asked,
            in_flight: zero(),
            in_flight_most: zero(),
            refused: zero(),
            cut_off: zero(),
        };
        let inside = Arc::new(inside);
        let its = Arc::clone(&inside);
        thread::spawn(move || serve(&runtime, &listener, &its));
        Ok(Self { address, inside })
    }

    /// The largest number of requests that were in flight together.
    pub(crate) fn in_flight_most(&self) -> u64 {
        self.inside.in_flight_most.load(Ordering::SeqCst)
    }

    /// The number of requests that were answered with 503.
    pub(crate) fn refused(&self) -> u64 {
        self.inside.refused.load(Ordering::SeqCst)
    }

    /// The number of pages that were sent cut off.
    pub(crate) fn cut_off(&self) -> u64 {
        self.inside.cut_off.load(Ordering::SeqCst)
    }
}

fn serve(runtime: &Runtime, listener: &TcpListener, inside: &Arc<Inside>) -> io::Result<()> {
    runtime.block_on(async {
        loop {
            let (stream, _) = listener.accept().await?;
            let its = Arc::clone(inside);
            let service = service_fn(move |request| answer(Arc::clone(&its), request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

async fn answer(
    inside: Arc<Inside>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let _in_flight = InFlight::begin(&inside);
    tokio::time::sleep(LATENCY).await;
    let (status, text) = inside.page(request.uri().path());
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    Ok(response)
}

/// A request in flight. The server drops it too if the client hangs up.
struct InFlight<'a>(&'a Inside);

impl<'a> InFlight<'a> {
    fn begin(inside: &'a Inside) -> Self {
        let in_flight = inside.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        inside.in_flight_most.fetch_max(in_flight, Ordering::SeqCst);
        Self(inside)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Inside {
    fn page(&self, path: &str) -> (StatusCode, String) {
        let page = path.strip_prefix("/page/").and_then(|page| page.parse::<usize>().ok());
        let Some((page, asked)) = page.and_then(|page| Some((page, self.asked.get(page)?))) else {
            return (StatusCode::NOT_FOUND, String::new());
        };
        let is_faulty = asked.fetch_add(1, Ordering::SeqCst) == 0 && self.faults == Faults::Some;
        let mut text = text_of(page, self.asked.len());
        if is_faulty && page % 50 == 7 {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return (StatusCode::SERVICE_UNAVAILABLE, String::new());
        }
        if is_faulty && page % 199 == 100 {
            self.cut_off.fetch_add(1, Ordering::SeqCst);
            text.truncate(text.rfind('"').expect("every page has a link"));
        }
        (StatusCode::OK, text)
    }
}

/// The text of a page. Its links lead to the three pages below it, so that all pages can be reached from the
/// first one, and to some others. One page in 97 has a link to a page that does not exist.
fn text_of(page: usize, pages: usize) -> String {
    let below = (1..=3).map(|n| 3 * page + n).filter(|below| *below < pages);
    let others = (1..=page % 5).map(|n| (page * 31 + n * 17) % pages);
    let mut text = format!("<h1>Page {page}</h1>\n<p>{}</p>\n", "word ".repeat(page % 23));
    for link in below.chain(others).chain([0]) {
        writeln!(text, "<a href=\"/page/{link}\">to page {link}</a>").expect("a string can be written to");
    }
    if page % 97 == 5 {
        text.push_str("<a href=\"/lost\">nowhere</a>\n");
    }
    text
}
