//! Manifests in a run-length code. A few bytes of it may unpack to gigabytes. Each container may use 16
//! MiB. A container that uses more is killed, and its input comes back with the number of bytes used. The
//! decoder passes checkpoints, so it unwinds at the next one. Its neighbours are not affected.
//!
//! Prints what each manifest unpacks to, and what became of the bomb.

use std::num::ParseIntError;

use longshore::{Accountant, App, Cause, Context, Death};

#[global_allocator]
static ALLOCATOR: Accountant = Accountant::system();

/// Unpacks `3a2b` to `aaabb`.
fn unpack(packed: &str) -> Result<String, ParseIntError> {
    let mut unpacked = String::new();
    let mut times = String::new();
    for letter in packed.chars() {
        if letter.is_ascii_digit() {
            times.push(letter);
            continue;
        }
        for n in 0..times.parse::<u64>()? {
            if n % 1024 == 0 {
                Context::checkpoint();
            }
            unpacked.push(letter);
        }
        times.clear();
    }
    Ok(unpacked)
}

fn main() -> Result<(), longshore::StartError> {
    let app = App::ephemeral("harbour");
    let unpack = app
        .function("unpack", |packed: &&str| unpack(packed))
        .containers(2)
        .memory_limit(16 << 20)
        // A second attempt would use as much.
        .crash_retries(0)
        .start()?;
    let manifests = vec!["3a2b", "900000000000000x", "xyz", "12c"];
    for outcome in unpack.map(manifests).return_exceptions() {
        match outcome {
            Ok(manifest) => println!("{manifest}"),
            Err(failure) => match failure.cause() {
                Cause::Poisoned(deaths) => {
                    let input = failure.input().expect("it comes back");
                    for crash in deaths {
                        if let Death::MemoryLimit { limit, used, .. } = crash.death {
                            println!("{input} used too much: {}", used > limit && used < 4 * limit);
                        }
                    }
                }
                _ => println!("{failure}"),
            },
        }
    }
    let status = unpack.status();
    let memory = status.memory.as_ref().expect("an accountant is installed");
    println!("{} crash, and no container used 64 MiB: {}", status.crashes, memory.peak < 64 << 20);
    app.shutdown_blocking();
    Ok(())
}
