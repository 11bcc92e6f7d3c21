//! The smallest fan-out: a function, a map over inputs, and the end of the app.
//!
//! Prints ten squares in the order of the inputs, whichever container is faster, and then `ended well`.

use longshore::{App, StartError};

fn main() -> Result<(), StartError> {
    let app = App::ephemeral("hello");
    let square = app.infallible("square", |n: &u64| n * n).containers(2).start()?;
    for (n, outcome) in (0..10).zip(square.map(0..10u64)) {
        match outcome {
            Ok(squared) => println!("{n} squared is {squared}"),
            // The function cannot fail, but it could crash.
            Err(failure) => println!("{failure}"),
        }
    }
    // The report says what became of every container.
    let report = app.shutdown_blocking();
    println!("{}", if report.is_clean() { "ended well".to_owned() } else { report.to_string() });
    Ok(())
}
