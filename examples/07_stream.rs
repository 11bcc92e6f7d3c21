//! Streams at both ends: inputs come from a channel, and outcomes are taken from the map as a stream. A slow
//! consumer slows the producer down, through the map's window and the channel's buffer.
//!
//! Prints each outcome in the order of the inputs, and how far ahead of the consumer the producer could get.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use longshore::{App, BoxError};

const SHIPS: u64 = 20;
const WINDOW: u64 = 4;
const BUFFER: u64 = 2;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let app = App::ephemeral("pier");
    let unload = app
        .function_async("unload", async |ship: &u64| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if ship % 8 == 7 { Err("nothing on board") } else { Ok(ship * 100) }
        })
        .containers(2)
        .start()?;

    let (mut arrive, arrivals) = mpsc::channel(BUFFER as usize);
    let arrived = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&arrived);
    let producer = tokio::spawn(async move {
        for ship in 0..SHIPS {
            arrive.send(ship).await?; // waits while the channel is full
            count.fetch_add(1, Ordering::SeqCst);
        }
        Ok::<_, mpsc::SendError>(())
    });

    let mut unloaded = unload.map_stream(arrivals).window(WINDOW).return_exceptions();
    let (mut ship, mut ahead_most) = (0, 0);
    while let Some(outcome) = unloaded.next().await {
        match outcome {
            Ok(tons) => println!("ship {ship} brought {tons} tons"),
            Err(failure) => println!("{failure}"),
        }
        ship += 1;
        ahead_most = ahead_most.max(arrived.load(Ordering::SeqCst).saturating_sub(ship));
    }
    producer.await??;
    println!("{}", unloaded.progress());
    // Beside its buffer the channel has a place for each sender, and one input may be on its way into the
    // map.
    println!(
        "the producer was never more than {} ahead: {}",
        WINDOW + BUFFER + 2,
        ahead_most <= WINDOW + BUFFER + 2
    );
    drop(unload);
    println!("ended well: {}", app.shutdown().await.is_clean());
    Ok(())
}
