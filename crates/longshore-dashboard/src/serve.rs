//! The own server, for a program that has none: a thread with a runtime of its own, which nothing waits for.
//!
//! What a slow, idle or hostile client can cost is bounded by the constants below. The body of a request is
//! never read.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{poll_fn, ready};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use crate::guard::Hosts;
use crate::{Dashboard, Peer};

/// The connections at a time. Further ones wait for one of them to end. A browser has at most six for each
/// origin.
const CONNECTIONS_MAX: usize = 64;

/// The time that the head of a request may take, and that a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The time after which a connection takes no more requests. Browsers open another one then. It bounds the
/// clients that read slowly as well.
const CONNECTION_AGE: Duration = Duration::from_secs(60);

/// The time that such a connection has for the response that it is writing.
const LAST_RESPONSE: Duration = Duration::from_secs(10);

/// The largest head of a request, in bytes.
const HEAD_MAX: usize = 16 << 10;

/// The most headers of a request.
const HEADERS_MAX: usize = 64;

/// The time after which the next connection is taken if one could not be, for example because the process has
/// too many open files.
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

/// The time that [`Page::stop`] waits at most.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The own server of a dashboard: see [`Dashboard::serve`].
///
/// Dropping it stops the server and closes its connections, and waits for neither. The page holds no function and
/// no app alive.
#[must_use = "the server stops when this is dropped"]
pub struct Page {
    address: SocketAddr,
    /// The server ends when this is dropped.
    alive: oneshot::Sender<()>,
    /// It is disconnected once the server has ended.
    ended: Receiver<()>,
}

impl Page {
    /// The address of the page. It has no token in it.
    #[must_use]
    pub fn url(&self) -> String {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        format!("http://{}/", SocketAddr::new(ip, self.address.port()))
    }

    /// The address that the server listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the server and waits until its port is free, for at most a second. A drop does the same without
    /// waiting.
    pub fn stop(self) {
        let Self { alive, ended, .. } = self;
        drop(alive);
        let _ = ended.recv_timeout(STOP_TIMEOUT); // it never receives anything: the sender is dropped at the end
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("url", &self.url()).finish_non_exhaustive()
    }
}

/// Why a page is not served.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be resolved, or resolves to nothing.
    NoAddress(io::Error),
    /// The address can be reached from other machines, and the dashboard has no token.
    TokenNeeded(SocketAddr),
    /// Actions are on, and the dashboard has no token.
    ActionsNeedToken,
    /// The address cannot be listened on.
    Bind(Vec<SocketAddr>, io::Error),
    /// The thread of the server cannot be made.
    Thread(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress(_) => write!(f, "the address of the page is not known"),
            Self::TokenNeeded(address) => {
                write!(f, "{address} can be reached from other machines, which needs a token")
            }
            Self::ActionsNeedToken => write!(f, "actions need a token"),
            Self::Bind(addresses, _) => write!(f, "the page cannot listen on {addresses:?}"),
            Self::Thread(_) => write!(f, "the thread of the page cannot be made"),
        }
    }
}

impl Error for ServeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoAddress(error) | Self::Bind(_, error) | Self::Thread(error) => Some(error),
            Self::TokenNeeded(_) | Self::ActionsNeedToken => None,
        }
    }
}

pub(crate) fn serve(mut dashboard: Dashboard, address: impl ToSocketAddrs) -> Result<Page, ServeError> {
    let addresses: Vec<_> = address.to_socket_addrs().map_err(ServeError::NoAddress)?.collect();
    if addresses.is_empty() {
        return Err(ServeError::NoAddress(io::ErrorKind::AddrNotAvailable.into()));
    }
    let settings = Arc::make_mut(&mut dashboard.settings);
    let reachable = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback());
    if settings.guard.token.is_none() {
        if let Some(address) = reachable {
            return Err(ServeError::TokenNeeded(*address));
        }
        if !settings.actions.is_empty() {
            return Err(ServeError::ActionsNeedToken);
        }
    }
    settings.guard.hosts = if reachable.is_some() { Hosts::Digits } else { Hosts::Loopback };

    let (listener, address) = listen(&addresses).map_err(|error| ServeError::Bind(addresses, error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(ServeError::Thread)?;
    let (alive, dropped) = oneshot::channel();
    let (ends, ended) = channel();
    let thread = thread::Builder::new().name("longshore-page".to_owned());
    let thread = thread.spawn(move || run(&runtime, dashboard, listener, dropped, ends));
    thread.map_err(ServeError::Thread)?;
    let page = Page { address, alive, ended };
    tracing::info!(url = page.url(), "the dashboard is served");
    Ok(page)
}

fn listen(addresses: &[SocketAddr]) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(addresses)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Runs the server until the page is dropped.
fn run(
    runtime: &tokio::runtime::Runtime,
    dashboard: Dashboard,
    listener: TcpListener,
    dropped: oneshot::Receiver<()>,
    ends: Sender<()>,
) {
    runtime.block_on(async move {
        let accept = pin!(accept(dashboard, listener));
        if let Either::Second(Err(error)) = first(dropped, accept).await {
            tracing::error!(%error, "the dashboard is not served any more");
        }
    });
    // The listener is dropped by now. The connections are dropped with the runtime, whatever they do.
    drop(ends);
}

/// Takes connections for ever.
async fn accept(dashboard: Dashboard, listener: TcpListener) -> io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        match listener.accept().await {
            Ok((stream, peer)) => {
                let dashboard = dashboard.clone();
                tokio::spawn(async move {
                    connection(dashboard, stream, peer).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be taken");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Serves one connection to its end.
async fn connection(dashboard: Dashboard, stream: TcpStream, peer: SocketAddr) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        ready(Ok::<_, Infallible>(dashboard.respond(&request).map(Full::new)))
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(false);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // An error is the client's: it sent no HTTP, was too slow, or went away.
    if timeout(CONNECTION_AGE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_RESPONSE, connection).await;
    }
}

/// The output of the future that ended first.
enum Either<A, B> {
    First(A),
    Second(B),
}

async fn first<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> Either<A, B> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match (one.as_mut().poll(cx), other.as_mut().poll(cx)) {
        (Poll::Ready(output), _) => Poll::Ready(Either::First(output)),
        (_, Poll::Ready(output)) => Poll::Ready(Either::Second(output)),
        (Poll::Pending, Poll::Pending) => Poll::Pending,
    })
    .await
}
