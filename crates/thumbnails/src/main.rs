//! A server for thumbnails.
//!
//! ```sh
//! cargo run --release -p thumbnails -- 127.0.0.1:8080
//! curl --data-binary @photograph.jpg http://127.0.0.1:8080/thumbnail > small.png
//! ```
//!
//! Without an address it takes a free port of the loopback interface. Prints its address, and at the end what
//! became of the pictures. SIGTERM or Ctrl-C drains, and a second one aborts.

use std::process::ExitCode;

use longshore::{Accountant, App, BoxError};
use thumbnails::{REQUEST_LIMIT, routes, serve, settings};
use tokio::net::TcpListener;

/// The memory limit needs an allocator that counts for whom it allocates.
#[global_allocator]
static ALLOCATOR: Accountant = Accountant::system();

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, BoxError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let app = App::deployed("thumbnails");
    let signalled = app.shutdown_on_signal()?;
    let function = settings(&app).start()?;
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    serve(listener, routes(function.clone(), REQUEST_LIMIT), signalled).await?;

    let totals = function.snapshot().totals;
    let refused = totals.failed + totals.poisoned;
    println!("{} made, {refused} refused, {} cancelled", totals.ok, totals.cancelled);
    println!("without an outcome: {}", function.status().calls.pending);
    let report = app.shutdown().await;
    println!("ended well: {}", report.is_clean());
    if report.is_clean() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{report}");
    Ok(ExitCode::FAILURE)
}
