//! An image decoder over thousands of truncated and corrupted files. Some files are refused, some make the
//! decoder panic, and some have a few bytes and claim to be gigabytes. Each file is accounted for, and none
//! harms another.
//!
//! ```sh
//! cargo run --release --example 11_decode_images -- 20000 1
//! ```
//!
//! The first argument is the number of files, and the second is the seed from which they are made. Prints how
//! the files of each format ended, why files were refused, where panics came from and which file was the
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

/// The memory limit of a container. The good pictures need less than 1 MiB.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// The decoder's own limit on its allocations. It is set high, because the memory limit of the container
/// should act first. It is there because no container survives a single allocation that the system refuses:
/// that ends the process.
const ALLOCATED_BYTES_MAX: u64 = 512 << 20;

/// Decodes a picture and looks at the middle of it.
fn decode(file: &File) -> ImageResult<(ImageFormat, Rgba<u8>)> {
    let mut reader = ImageReader::with_format(Cursor::new(&file.bytes), file.format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(ALLOCATED_BYTES_MAX);
    reader.limits(limits);
    let picture = reader.decode()?;
    // A picture of size 0 has no middle, and some formats allow it. This is the bug of the example.
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
        // The decoder has no state, so a second attempt would end in the same way.
        .crash_retries(0)
        // Crashes are expected here, and are no reason to give up.
        .restart(RateLimited::never())
        .start()?;

    let good = Good::new();
    println!("{files} damaged files from {} good ones, seed {seed}\n", good.count());
    let mut tally = Tally::default();
    // Each file is made when its turn comes, and comes back with its failure, so no file is kept.
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
    // A thread that was left behind in a balloon may not have returned yet. Then the report says so.
    let report = app.shutdown_blocking();
    if !report.is_clean() {
        eprintln!("{report}");
    }
    Ok(())
}
