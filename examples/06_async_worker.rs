//! An async worker that holds a connection to a server, which hangs up at random. A container that has lost
//! its connection crashes, the `enter` of its next generation connects anew, and the input is replayed. So
//! all inputs are answered.
//!
//! The server is a thread of this program, and its random numbers are seeded. Prints how many inputs were
//! answered, and whether the server hung up often enough to make this hard.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use longshore::{App, AsyncWorker, BoxError, Context};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

const INPUTS: u64 = 300;

/// Quotes a price for each line of each connection, but hangs up instead of answering one line in ten. Counts
/// how often it hung up.
fn serve(listener: &TcpListener, hung_up: &Arc<AtomicU64>) -> std::io::Result<()> {
    for (seed, client) in (1..).zip(listener.incoming()) {
        let (mut client, hung_up) = (client?, Arc::clone(hung_up));
        std::thread::spawn(move || -> std::io::Result<()> {
            let mut random = u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15);
            for line in BufReader::new(client.try_clone()?).lines() {
                // xorshift64: small, seeded, and random enough for this server
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                if random.is_multiple_of(10) {
                    hung_up.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                let tons: u64 = line?.parse().map_err(std::io::Error::other)?;
                writeln!(client, "{}", tons * 12)?;
            }
            Ok(())
        });
    }
    Ok(())
}

/// A connection to the server.
struct Quotes(BufStream<TcpStream>);

impl Quotes {
    async fn connect(server: SocketAddr) -> Result<Self, BoxError> {
        Ok(Self(BufStream::new(TcpStream::connect(server).await?)))
    }

    /// Asks for one quote. Returns `None` if the server has hung up.
    async fn ask(&mut self, tons: u64) -> Option<u64> {
        self.0.write_all(format!("{tons}\n").as_bytes()).await.ok()?;
        self.0.flush().await.ok()?;
        let mut answer = String::new();
        self.0.read_line(&mut answer).await.ok()?;
        answer.trim().parse().ok()
    }
}

impl AsyncWorker for Quotes {
    type Input = u64;
    type Output = u64;
    type Error = std::convert::Infallible;

    async fn call(&mut self, tons: &u64, _: &Context) -> Result<u64, Self::Error> {
        // A lost connection is no fault of the input, and this worker is of no use without it. So it crashes.
        Ok(self.ask(*tons).await.expect("the server has hung up"))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (server, hung_up) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&hung_up);
    std::thread::spawn(move || serve(&listener, &count));

    let app = App::deployed("harbour");
    let quote = app
        .worker_async("quote", async move |_: &Context| Quotes::connect(server).await)
        .containers(2)
        // By default an input is given up after 4 crashes, but here no crash is the fault of its input.
        .crash_retries(100)
        .start()?;
    let quotes = quote.run_async((1..=INPUTS).collect()).await?;

    let right = (1..=INPUTS).zip(&quotes).all(|(tons, quote)| *quote == tons * 12);
    println!("{} inputs answered, all of them right: {right}", quotes.len());
    let hung_up = hung_up.load(Ordering::SeqCst);
    println!("the server hung up more than 10 times: {}", hung_up > 10);
    println!("each time a container crashed and came back: {}", quote.status().crashes == hung_up);
    println!("ended well: {}", app.shutdown().await.is_clean());
    Ok(())
}
