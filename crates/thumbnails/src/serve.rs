//! [`serve`]: the server from its first connection to its last.

use std::io;
use std::time::Duration;

use axum::Router;
use longshore::SignalShutdown;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// The time for which the server waits for clients once the app has ended. Every call has its outcome by
/// then. So this is for a client that reads slowly, and not for one that has stopped in the middle of an
/// upload.
const LINGER: Duration = Duration::from_secs(2);

/// Serves until a signal has ended the app.
///
/// After the first signal the function finishes the calls that it has, and refuses others, which is answered
/// with 503. So the server goes on until the app has drained. Only then it takes no further connection, and
/// waits for the answers to be sent.
///
/// # Errors
///
/// If the listener breaks.
pub async fn serve(listener: TcpListener, routes: Router, signalled: SignalShutdown) -> io::Result<()> {
    let (send, ended) = oneshot::channel();
    let drained = async move {
        let _report = signalled.await; // the app has it too
        let _ = send.send(()); // fails if the server broke
    };
    let too_late = async {
        // If the server broke, it ends by itself.
        if ended.await.is_ok() {
            sleep(LINGER).await;
        }
    };
    let server = axum::serve(listener, routes).with_graceful_shutdown(drained);
    tokio::select! {
        served = server => served,
        () = too_late => Ok(()),
    }
}
