//! A program that may be built with `panic = "abort"`. No container could survive a panic then, so the start
//! of the function is refused with a typed error.
//!
//! `cargo run --profile abort --example panic_abort` builds it in that way. With any other profile the
//! function runs.

use longshore::{App, StartError};

fn main() -> Result<(), StartError> {
    let app = App::ephemeral("careful");
    let halve = app.infallible("halve", |n: &u32| 100 / n).containers(1).start();
    match (cfg!(panic = "abort"), halve) {
        (true, Err(error @ StartError::PanicAbort)) => println!("refused: {error}"),
        (true, Ok(_)) => panic!("a function was started although nothing can be caught"),
        (_, Err(error)) => return Err(error),
        (false, Ok(halve)) => {
            println!("panics unwind in this build, so the function runs: {:?}", halve.run(vec![1, 2]).ok());
            match halve.call(0).wait() {
                Ok(output) => println!("divided by zero: {output}"),
                Err(failure) => println!("a division by zero is contained: {failure}"),
            }
        }
    }
    app.shutdown_blocking();
    Ok(())
}
