//! An image decoder over thousands of truncated and corrupted files. Some are refused, some make the program
//! panic, some have a few bytes and claim to be gigabytes; each is accounted for, and none costs another.
//!
//! ```sh
//! cargo run --release --example 11_decode_images -- 20000 1
//! ```
//!
//! The files are made from a few good ones, as many as the first argument says, from the seed that is the second.
//! Prints how they have ended in each format, why files were refused, where panics came from and which file was the
//! first, how large the balloons were, and whether the sum is right.

mod damage;
mod tally;

use std::io::Cursor;

use image::{GenericImageView, ImageFormat, ImageReader, ImageResult, Limits, Rgba};
use longshore::{Accountant, App, BoxError, RateLimited};

use damage::{File, Good};
use tally::Tally;

#[global_allocator]
static ALLOCATOR: Accountant = Accountant::system();

/// What a container may use. The good pictures need less than 1 MiB.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// What the decoder may allocate, by its own count. It has no other limit, and this one is not meant to be met: it
/// is for what no container survives, since a single allocation that the system refuses ends the process.
const ALLOCATED_BYTES_MAX: u64 = 512 << 20;

/// Decodes a picture and looks at the middle of it.
fn decode(file: &File) -> ImageResult<(ImageFormat, Rgba<u8>)> {
    let mut reader = ImageReader::with_format(Cursor::new(&file.bytes), file.format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(ALLOCATED_BYTES_MAX);
    reader.limits(limits);
    let picture = reader.decode()?;
    // Nobody has thought of a picture that has no middle, which some formats can say.
    Ok((file.format, picture.get_pixel(picture.width() / 2, picture.height() / 2)))
}

fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let files: u64 = arguments.next().map_or(Ok(4_000), |files| files.parse())?;
    let seed: u64 = arguments.next().map_or(Ok(0), |seed| seed.parse())?;

    let app = App::ephemeral("gallery");
    let decode = app
        .function("decode", decode)
        .containers(2)
        .memory_limit(MEMORY_BYTES_MAX)
        // The decoder has no state and no luck: a second try would end the same.
        .crash_retries(0)
        // Crashes are what this is about, and no reason to give up.
        .restart(RateLimited::never())
        .start()?;

    let good = Good::new();
    println!("{files} damaged files from {} good ones, seed {seed}\n", good.count());
    let mut tally = Tally::default();
    // Each is made when its turn has come, and comes back with its failure: none is kept.
    let damaged = (0..files).map(move |number| good.damaged(seed, number));
    for outcome in decode.map(damaged).return_exceptions().unordered() {
        match outcome {
            Ok((format, _middle)) => tally.decoded(format),
            Err(failure) => tally.failed(&failure),
        }
    }
    print!("{tally}");
    let status = decode.status();
    println!("crashes, one for each that panicked or ballooned: {}", status.crashes == tally.crashes());
    println!("every file is accounted for: {}", tally.files() == files);
    // A thread that was left behind in a balloon may not have returned yet: then that is told.
    let report = app.shutdown_blocking();
    if !report.is_clean() {
        eprintln!("{report}");
    }
    Ok(())
}
