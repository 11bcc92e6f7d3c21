//! Failures give the failed inputs back by value, and a map that ends early gives the finished outputs.
//!
//! Prints the parcels that were delivered at the first try, those that came back, and those that were
//! delivered after a repair. Then a map ends at its first failure, and the outputs that are salvaged from it
//! are printed.

use std::sync::Mutex;

use longshore::{App, StartError};

/// A parcel is not `Clone`, so there is only one of each.
struct Parcel {
    address: String,
}

fn parcel(address: &str) -> Parcel {
    Parcel { address: address.to_owned() }
}

/// `main` holds this lock to make the first weighing slow.
static SCALES: Mutex<()> = Mutex::new(());

fn main() -> Result<(), StartError> {
    let app = App::ephemeral("post");
    let deliver = app
        .function("deliver", |parcel: &Parcel| {
            let number = parcel.address.strip_prefix("pier ").ok_or("no such pier")?;
            number.parse::<u32>().map_err(|_| "not a number")
        })
        .start()?;
    let parcels = vec![parcel("pier 1"), parcel("peir 2"), parcel("pier 3"), parcel("pier four")];
    let mut dead_letters = Vec::new();
    for outcome in deliver.map(parcels).return_exceptions() {
        match outcome {
            Ok(pier) => println!("delivered to {pier}"),
            Err(failure) => {
                println!("{failure}");
                dead_letters.extend(failure.into_input().and_then(|input| input.owned()));
            }
        }
    }
    for parcel in &mut dead_letters {
        parcel.address = parcel.address.replace("peir", "pier").replace("four", "4");
    }
    println!("repaired and delivered to {:?}", deliver.run(dead_letters).unwrap_or_default());

    let weigh = app
        .function("weigh", |number: &u64| match number {
            0 => SCALES.lock().map(drop).map_err(|_| "broken scales"),
            4 => Err("too heavy"),
            _ => Ok(()),
        })
        .containers(2)
        .start()?;
    let held = SCALES.lock();
    // The failure ends the map at once. It does not wait for its turn behind the slow input 0.
    let mut outcomes = weigh.map(0..8u64).into_iter();
    let first = outcomes.next().and_then(Result::err);
    println!("the first outcome is a failure: input {:?}", first.and_then(|failure| failure.index()));
    let finished: Vec<u64> = outcomes.salvage().into_iter().map(|(index, ())| index).collect();
    println!("salvaged {finished:?}");
    drop(held);
    println!("ended well: {}", app.shutdown_blocking().is_clean());
    Ok(())
}
