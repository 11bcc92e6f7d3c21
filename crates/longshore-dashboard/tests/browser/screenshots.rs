//! The pictures of the README: a healthy run, a memory kill and a finished map. The test in `outage` takes
//! the picture of a crash loop.
//!
//! They are taken only if `LONGSHORE_SCREENSHOTS` names the directory to which they are written, because the
//! charts need a minute to fill.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use longshore::{App, Function};
use longshore_dashboard::{Actions, Dashboard, Page};

use crate::browser::{Browser, browse};
use crate::functions::hungry;

/// The largest picture, in bytes, because the repository holds them.
const BYTES_MAX: usize = 150_000;

/// The time in which the charts fill.
pub(crate) const HISTORY: Duration = Duration::from_secs(100);

/// Writes a picture of the page as it is.
pub(crate) async fn shoot(browser: &Browser, directory: &Path, name: &str) {
    let picture = browser.client.screenshot().await.expect("a picture");
    assert!(picture.len() < BYTES_MAX, "{name} has {} bytes", picture.len());
    fs::write(directory.join(name).with_extension("png"), picture).expect("it is written");
}

/// Serves the page of an app with all actions. The address has the token.
fn page(app: &App) -> (Page, String) {
    let page = Dashboard::of(app).actions(Actions::ALL).token("t").serve("127.0.0.1:0").expect("it serves");
    let url = page.url();
    (page, url)
}

/// A function whose inputs take about `ms` milliseconds. One in a thousand fails, and the poison crashes
/// its container.
fn working(app: &App, name: &str, ms: u64, poison: Option<u64>) -> Function<u64, u64, &'static str> {
    let function = app.function(name, move |n: &u64| {
        thread::sleep(Duration::from_micros(500 * ms + (n * 7919) % (1000 * ms)));
        assert!(Some(*n) != poison, "the image has a width of 0");
        if n % 1000 == 999 { Err("the remote host answered with status 503") } else { Ok(*n) }
    });
    function.containers(4).retries(1).start().expect("valid")
}

/// Maps over endless inputs until the flag is set.
fn keep_busy<E: Send + 'static>(
    function: &Function<u64, u64, E>,
    label: &str,
    input: fn(u64) -> u64,
    is_over: &Arc<AtomicBool>,
) {
    let map = function.map((0_u64..).map(input)).label(label).return_exceptions();
    let is_over = Arc::clone(is_over);
    thread::spawn(move || map.into_iter().take_while(|_| !is_over.load(Ordering::Relaxed)).for_each(drop));
}

#[test]
fn the_pictures_of_the_readme_are_taken() {
    let Some(directory) = env::var_os("LONGSHORE_SCREENSHOTS").map(PathBuf::from) else {
        eprintln!("skipped: LONGSHORE_SCREENSHOTS names no directory");
        return;
    };
    fs::create_dir_all(&directory).expect("a directory");
    browse(async |browser| {
        let is_over = Arc::new(AtomicBool::new(false));

        let healthy = App::deployed("crawler");
        for (name, label, ms) in
            [("fetch", "seed-urls", 25), ("parse", "pages", 9), ("thumbnail", "images", 14)]
        {
            keep_busy(&working(&healthy, name, ms, None), label, |n| n, &is_over);
        }
        let (_healthy_page, healthy_url) = page(&healthy);

        let leaking = App::deployed("archive");
        // One archive in a few hundred unpacks to three times the limit.
        let unpack = hungry(&leaking, "unpack");
        keep_busy(&unpack, "uploads", |n| if n % 4001 == 4000 { 96 } else { n % 20 }, &is_over);
        let (_leaking_page, leaking_url) = page(&leaking);

        let finished = App::ephemeral("nightly");
        let resize = working(&finished, "resize", 12, Some(777));
        let (_finished_page, finished_url) = page(&finished);
        let map = resize.map(0..12_345_u64).label("photos").return_exceptions();
        let map = thread::spawn(move || map.into_iter().for_each(drop));

        tokio::time::sleep(HISTORY).await;
        browser.hide_scrollbars().await;
        map.join().expect("the map ends");
        for (url, name, scheme, height, picture) in [
            (&healthy_url, None, "light", 520, "healthy"),
            (&leaking_url, Some("unpack"), "dark", 940, "memory-kill"),
            (&finished_url, Some("resize"), "light", 900, "finished-map"),
        ] {
            browser.prefer(scheme).await;
            browser.resize(1100, height).await;
            browser.open(&format!("{url}?token=t")).await;
            if let Some(name) = name {
                browser.open_function(url, name).await;
            }
            if picture == "finished-map" {
                browser
                    .value(
                        "document.querySelector('[data-b=poisonedSection]').scrollIntoView({ block: 'end' })",
                    )
                    .await;
            }
            // The rates need two answers.
            browser.until("performance.getEntriesByType('resource').length > 5", "the page has polled").await;
            shoot(browser, &directory, picture).await;
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
