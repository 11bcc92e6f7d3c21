//! A program that tells how it was built: with `panic = "abort"` no container could survive a panic, so
//! the function is refused at its start, by a typed error.
//!
//! `cargo run --profile abort --example panic_abort` builds it so; any other profile lets it run.

use longshore::{App, StartError};

fn main() -> Result<(), StartError> {
    let app = App::ephemeral("careful");
    let halve = app.infallible("halve", |n: &u32| 100 / n).containers(1).start();
    match (cfg!(panic = "abort"), halve) {
        (true, Err(error @ StartError::PanicAbort)) => println!("refused: {error}"),
        (true, Ok(_)) => panic!("a function was started although nothing can be caught"),
        (_, Err(error)) => return Err(error),
        (false, Ok(halve)) => {
            println!("panics unwind here, so it runs: {:?}", halve.run(vec![1, 2]).ok());
            match halve.call(0).wait() {
                Ok(output) => println!("divided by zero: {output}"),
                Err(failure) => println!("and a division by zero is contained: {failure}"),
            }
        }
    }
    app.shutdown_blocking();
    Ok(())
}
