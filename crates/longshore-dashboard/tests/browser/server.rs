//! Servers of the tests' own: an application that mounts the dashboard, and a proxy that takes a prefix away.

use std::future::Future;
use std::net::SocketAddr;

use axum::Router;
use longshore_dashboard::Dashboard;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// An application of axum that shows the dashboard under a prefix. It shuts down gracefully.
pub(crate) struct Application {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Application {
    pub(crate) async fn start(dashboard: Dashboard, prefix: &str, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("an address");
        let address = listener.local_addr().expect("it has an address");
        let router = Router::new().nest_service(prefix, dashboard);
        let (stop, stopped) = oneshot::channel();
        let serve = axum::serve(listener, router).with_graceful_shutdown(async move {
            let _ = stopped.await;
        });
        let ended = tokio::spawn(async move { serve.await.expect("it serves") });
        Self { address, stop, ended }
    }

    /// Does what Ctrl-C does to such an application, and waits for its end.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.ended.await.expect("it ends");
    }
}

/// A proxy that answers below a prefix, and asks the server behind it without the prefix.
pub(crate) async fn stripping_proxy(prefix: &'static str, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("it has an address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(forward(client, prefix, to));
        }
    });
    address
}

/// Forwards one request, and closes the connection after its response.
async fn forward(mut client: TcpStream, prefix: &str, to: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let (line, headers) = head.split_once("\r\n").unwrap_or_default();
    let mut line = line.split(' ');
    let (method, path) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
    let Some(path) = path.strip_prefix(prefix) else {
        return client
            .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await;
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let headers: String = headers
        .lines()
        .filter(|header| !header.is_empty() && !header.to_ascii_lowercase().starts_with("connection:"))
        .map(|header| format!("{header}\r\n"))
        .collect();
    let mut server = TcpStream::connect(to).await?;
    server
        .write_all(format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n").as_bytes())
        .await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// Waits until a future has ended, and says how long that took.
pub(crate) async fn timed(future: impl Future<Output = ()>) -> std::time::Duration {
    let begun = std::time::Instant::now();
    future.await;
    begun.elapsed()
}
