//! A server in this process, over a function that a test has started.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use axum::serve;
use thumbnails::{REQUEST_LIMIT, Thumbnails, routes};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

/// Serves a function on the loopback interface until the end of the process.
pub(crate) fn served(thumbnails: &Thumbnails) -> SocketAddr {
    served_within(thumbnails, REQUEST_LIMIT)
}

/// The same, with a limit for each request.
pub(crate) fn served_within(thumbnails: &Thumbnails, limit: Duration) -> SocketAddr {
    let (routes, (send, address)) = (routes(thumbnails.clone(), limit), channel());
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
            send.send(listener.local_addr().expect("it is bound")).expect("the test waits");
            serve(listener, routes).await
        })
    });
    address.recv().expect("the server starts")
}
