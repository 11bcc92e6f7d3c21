//! The own server, for a program that has none: a thread with a runtime of its own, which nothing waits for.
//!
//! The constants below bound the cost of a slow, idle or hostile client. The body of a request is never read.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{poll_fn, ready};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
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

/// The resources that clients may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// The connections at a time. Further ones wait for one of them to end.
    connections: usize,
    /// The time that the head of a request may take, and that a connection may be idle.
    head: Duration,
    /// The time after which a connection takes no more requests. Browsers open another one then. It bounds
    /// the clients that read slowly as well.
    age: Duration,
    /// The time that such a connection has for the response that it is writing.
    last_response: Duration,
}

/// A browser has at most six connections for each origin, so ten of them find room. They all poll once a
/// second, which is well within the time that a connection may be idle.
const LIMITS: Limits = Limits {
    connections: 64,
    head: Duration::from_secs(10),
    age: Duration::from_secs(60),
    last_response: Duration::from_secs(10),
};

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
/// Dropping it stops the server and closes its connections, and waits for neither. The page holds no function
/// and no app alive.
#[must_use = "the server stops when this is dropped"]
pub struct Page {
    address: SocketAddr,
    /// The server ends when this is dropped.
    alive: oneshot::Sender<()>,
    /// It is disconnected once the server has ended. The lock makes a page `Sync`.
    ended: Mutex<Receiver<()>>,
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
        let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent. The sender is dropped at the end of the server.
        let _ = ended.recv_timeout(STOP_TIMEOUT);
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
    let page = Page { address, alive, ended: Mutex::new(ended) };
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
        let accept = pin!(accept(dashboard, listener, LIMITS));
        if let Either::Second(Err(error)) = first(dropped, accept).await {
            tracing::error!(%error, "the dashboard is not served any more");
        }
    });
    // The listener is dropped by now. The connections are dropped with the runtime, whatever they do.
    drop(ends);
}

/// Takes connections for ever.
async fn accept(dashboard: Dashboard, listener: TcpListener, limits: Limits) -> io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        match listener.accept().await {
            Ok((stream, peer)) => {
                let dashboard = dashboard.clone();
                tokio::spawn(async move {
                    connection(dashboard, stream, peer, limits).await;
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
async fn connection(dashboard: Dashboard, stream: TcpStream, peer: SocketAddr, limits: Limits) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        ready(Ok::<_, Infallible>(dashboard.respond(&request).map(Full::new)))
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(false);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // An error is the client's: it sent no HTTP, was too slow, or went away.
    if timeout(limits.age, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(limits.last_response, connection).await;
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

#[cfg(test)]
mod tests {
    use longshore::App;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(30);
    const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

    /// Runs a scene against a server with these limits.
    fn with_server<F: Future<Output = ()>>(limits: Limits, scene: impl FnOnce(SocketAddr) -> F) {
        let app = App::ephemeral("serve");
        let dashboard = Dashboard::of(&app);
        let (listener, address) = listen(&["127.0.0.1:0".parse().expect("an address")]).expect("a free port");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let server = pin!(accept(dashboard, listener, limits));
            let scene = pin!(timeout(LONG, scene(address)));
            match first(server, scene).await {
                Either::First(ended) => panic!("the server ended: {ended:?}"),
                Either::Second(scene) => scene.expect("nothing takes so long"),
            }
        });
    }

    async fn connect(address: SocketAddr) -> TcpStream {
        TcpStream::connect(address).await.expect("the server listens")
    }

    /// Reads until the server closes the connection.
    async fn rest(mut stream: TcpStream) -> String {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await; // it may also be reset
        String::from_utf8(rest).expect("it is text")
    }

    #[test]
    fn a_client_that_is_slow_with_its_head_is_left() {
        with_server(Limits { head: SHORT, ..LIMITS }, async |address| {
            let silent = connect(address).await;
            let mut slow = connect(address).await;
            slow.write_all(&REQUEST[..20]).await.expect("it is open");
            let mut idle = connect(address).await;
            idle.write_all(REQUEST).await.expect("it is open");
            assert_eq!(rest(silent).await, "");
            assert_eq!(rest(slow).await, "");
            assert!(rest(idle).await.starts_with("HTTP/1.1 200"), "its one request was answered");
        });
    }

    #[test]
    fn a_connection_beyond_the_limit_waits_for_another_to_end() {
        with_server(Limits { connections: 2, ..LIMITS }, async |address| {
            let (one, other) = (connect(address).await, connect(address).await);
            let mut third = connect(address).await;
            third.write_all(REQUEST).await.expect("the system has accepted it");
            let mut byte = [0];
            timeout(SHORT, third.read(&mut byte)).await.expect_err("there is no place for it");
            drop(one);
            third.read_exact(&mut byte).await.expect("it is answered");
            drop(other);
        });
    }

    #[test]
    fn a_client_that_reads_nothing_is_left_after_its_time() {
        let limits = Limits { connections: 1, age: SHORT, last_response: SHORT, ..LIMITS };
        with_server(limits, async |address| {
            let mut deaf = connect(address).await;
            let report = b"GET /report HTTP/1.1\r\nhost: localhost\r\n\r\n";
            for _ in 0..1000 {
                if timeout(SHORT, deaf.write_all(report)).await.is_err() {
                    break; // the server does not read on, because its answers are not read
                }
            }
            let mut next = connect(address).await;
            next.write_all(REQUEST).await.expect("the system has accepted it");
            assert!(rest(next).await.starts_with("HTTP/1.1 200"), "the one place is free again");
            drop(deaf);
        });
    }
}
