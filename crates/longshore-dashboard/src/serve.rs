//! The own server, for a program that has none: a thread with a runtime of its own.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::pin::pin;
use std::task::Poll;
use std::thread;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::oneshot;

use crate::Dashboard;

/// The own server of a dashboard. It stops when it is dropped, and the drop does not wait for that.
#[derive(Debug)]
pub struct Page {
    address: SocketAddr,
    /// The server ends when this is dropped.
    _alive: oneshot::Sender<()>,
}

impl Page {
    /// The address of the page.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

pub(crate) fn serve(dashboard: Dashboard, address: impl ToSocketAddrs) -> io::Result<Page> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (alive, ended) = oneshot::channel();
    thread::Builder::new().name("longshore-page".to_owned()).spawn(move || {
        let accept = accept(dashboard, listener);
        runtime.block_on(until(ended, accept));
    })?;
    Ok(Page { address, _alive: alive })
}

/// Drives a future to its end, or until the other one has ended.
async fn until(other: impl Future, future: impl Future) {
    let (mut other, mut future) = (pin!(other), pin!(future));
    poll_fn(|cx| match other.as_mut().poll(cx).is_ready() || future.as_mut().poll(cx).is_ready() {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

async fn accept(dashboard: Dashboard, listener: TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(dashboard.clone());
        tokio::spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new());
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
