//! A fan-out that survives its workers. An input that crashes its container once is replayed, an input that
//! always crashes is poisoned, and an input that fails crashes nothing. Every other input completes.
//!
//! Prints eight squares, and for inputs 6 and 8 how they ended, with the input itself. Then it prints the
//! number of crashes, and that the app ended well.

use longshore::{App, Context};

fn main() -> Result<(), longshore::StartError> {
    let app = App::ephemeral("demo");
    let risky = app
        .function("risky", |n: &u64| {
            let attempt = Context::current().expect("in a container").attempt().get();
            match *n {
                3 if attempt == 1 => panic!("a crash, once"),
                6 => panic!("a crash, always"),
                8 => Err("an error"),
                n => Ok(n * n),
            }
        })
        .start()?;
    for outcome in risky.map(0..10u64).return_exceptions() {
        match outcome {
            Ok(square) => println!("{square}"),
            Err(failure) => println!("{failure}: {:?}", failure.input()),
        }
    }
    println!("{} crashes", risky.status().crashes);
    println!("ended well: {}", app.shutdown_blocking().is_clean());
    Ok(())
}
