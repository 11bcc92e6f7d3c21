//! A program without a web server: the page is on a port of its own.
//!
//! `cargo run -p longshore-dashboard --example plain_main -- 600` prints the address, and works for ten minutes.

use std::thread;
use std::time::{Duration, Instant};

use longshore::{App, CrashLoopBackoff};
use longshore_dashboard::Dashboard;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(1), |text| text.parse())?;
    let app = App::deployed("demo");
    let count =
        app.infallible("count", |n: &u64| (0..*n).fold(0, u64::wrapping_add)).containers(2).start()?;
    let restart = CrashLoopBackoff::new().initial(Duration::from_secs(2)).max(Duration::from_secs(60));
    let fetch = app.infallible("fetch", |_: &u64| -> u64 { panic!("the registry is down") });
    let fetch = fetch.containers(2).crash_retries(1).restart(restart).start()?;

    let dashboard = Dashboard::of(&app);
    let page = dashboard.serve("127.0.0.1:0")?;
    println!("{}", page.url());

    let nightly = fetch.map(0..1_000_000u64).label("nightly").return_exceptions();
    let reads = thread::spawn(move || nightly.into_iter().filter(Result::is_err).count());
    let end = page_time(seconds);
    while !end() {
        let sums =
            count.run((0..1_000).map(|n| n % 97 * 1_000).collect::<Vec<u64>>()).expect("it cannot fail");
        assert_eq!(sums.len(), 1_000);
    }
    drop(app.abort());
    println!("{} inputs of the nightly map did not end well", reads.join().expect("it does not panic"));
    Ok(())
}

/// Returns a function that says whether the example has run for so many seconds.
#[expect(clippy::disallowed_methods, reason = "nothing but the end of the example is decided by it")]
fn page_time(seconds: u64) -> impl Fn() -> bool {
    let end = Instant::now() + Duration::from_secs(seconds);
    move || Instant::now() >= end
}
