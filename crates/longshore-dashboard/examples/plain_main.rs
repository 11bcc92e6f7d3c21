//! A program without a web server: the page is on a port of its own, and a report stays when the program
//! ends.
//!
//! `cargo run -p longshore-dashboard --example plain_main -- 600` prints the address, and works for ten
//! minutes.

mod client;

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use longshore::{App, CrashLoopBackoff};
use longshore_dashboard::Dashboard;

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(0), |text| text.parse())?;
    let app = App::deployed("demo");
    let dashboard = Dashboard::of(&app);
    let page = dashboard.serve("127.0.0.1:0")?;
    println!("{}", page.url());
    let report = std::env::temp_dir().join("longshore-demo.html");
    let saved = dashboard.report_on_drop(&report);

    let count =
        app.infallible("count", |n: &u64| (0..*n).fold(0, u64::wrapping_add)).containers(2).start()?;
    let restart = CrashLoopBackoff::new().initial(Duration::from_secs(2)).max(Duration::from_secs(60));
    let fetch = app.infallible("fetch", |_: &u64| -> u64 { panic!("the registry is down") });
    let fetch = fetch.containers(2).crash_retries(1).restart(restart).start()?;
    let nightly = fetch.map(0..1_000_000u64).label("nightly").return_exceptions();
    let reads = thread::spawn(move || nightly.into_iter().filter(Result::is_err).count());

    let is_over = timer(seconds);
    let in_a_loop = || fetch.snapshot().health.as_str() == "crash_loop";
    while !is_over() || !in_a_loop() {
        let sums =
            count.run((0..1_000).map(|n| n % 97 * 1_000).collect::<Vec<u64>>()).expect("it cannot fail");
        assert_eq!(sums.len(), 1_000);
    }
    let (status, why) = client::get(page.address(), "/healthz", "")?;
    print!("{status}\n{why}");

    drop(saved);
    println!("a report is in {}", report.display());
    page.stop();
    drop(app.abort());
    println!("inputs that came back: {}", reads.join().expect("it does not panic") > 0);
    Ok(())
}

/// Returns a function that says whether this number of seconds has passed.
#[expect(clippy::disallowed_methods, reason = "the end of the example is all that depends on it")]
fn timer(seconds: u64) -> impl Fn() -> bool {
    let end = Instant::now() + Duration::from_secs(seconds);
    move || Instant::now() >= end
}
