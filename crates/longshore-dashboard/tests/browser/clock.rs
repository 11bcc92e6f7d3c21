//! The clock in the time zone of the reader, and the countdown: right to the second, and running between two
//! polls.

use std::time::{Duration, SystemTime};

use longshore::{App, FunctionSnapshot};
use longshore_dashboard::Dashboard;
use serde_json::json;

use crate::browser::{Browser, browse};
use crate::functions::{healthy, looping};

/// Checks that the countdown of the page is right to the second.
///
/// # Panics
///
/// If it is not, or if the function does not back off.
pub(crate) async fn assert_countdown(browser: &Browser, snapshot: impl Fn() -> FunctionSnapshot) {
    let left = || {
        let snapshot = snapshot();
        let next = snapshot.crash_loop.and_then(|it| it.next_restart).expect("it backs off");
        next.saturating_sub(snapshot.now).as_secs_f64()
    };
    let before = left();
    let text = browser.text("[data-b=nextIn]").await;
    let after = left();
    let shown: f64 = text.trim_end_matches(" s").parse().unwrap_or_else(|_| panic!("{text}"));
    // The time that is left is rounded up, and the page looks at its clock four times a second.
    assert!(
        after - 0.3 <= shown && shown <= before + 1.3,
        "{shown} s are shown, {before} to {after} are left"
    );
}

/// Collects the numbers of the countdown, each with the moment at which it appeared, until there are four of
/// them.
const COUNTDOWN: &str = "
    const node = document.querySelector('[data-b=nextIn]'), seen = [];
    await new Promise((resolve) => {
        new MutationObserver((_, observer) => {
            seen.push([parseInt(node.textContent, 10), performance.now()]);
            if (seen.length === 4) { observer.disconnect(); resolve(); }
        }).observe(node, { childList: true, characterData: true, subtree: true });
    });
    return seen;";

#[test]
fn the_countdown_is_right_to_the_second_and_takes_one_step_a_second() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let sick = looping(&app, "parse");
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        browser.open_function(&page.url(), "parse").await;
        browser.until_text("[data-b=nextIn]", " s").await;

        assert_countdown(browser, || sick.snapshot()).await;
        let seen = browser.promised(COUNTDOWN).await;
        let seen: Vec<(f64, f64)> = serde_json::from_value(seen.clone()).unwrap_or_else(|_| panic!("{seen}"));
        for pair in seen.windows(2) {
            let ((number, at), (next, then)) = (pair[0], pair[1]);
            assert_eq!(number - next, 1.0, "{seen:?}");
            let step = Duration::from_secs_f64((then - at) / 1000.0);
            assert!(step > Duration::from_millis(300) && step < Duration::from_millis(1900), "{seen:?}");
        }
    });
}

/// The seconds since midnight in a zone that is `east` seconds ahead of UTC.
fn time_of_day(east: i64) -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs();
    (i64::try_from(now).expect("it is not that late") + east).rem_euclid(86_400)
}

#[test]
fn the_clock_at_the_top_gives_the_time_and_the_zone_of_the_reader_also_during_a_pause() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let _well = healthy(&app, "fetch");
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        for (zone, name, east) in
            [("Asia/Kolkata", "UTC+5:30", 19_800), ("Etc/GMT+3", "UTC-3", -10_800), ("Etc/UTC", "UTC", 0)]
        {
            browser.cdp("Emulation.setTimezoneOverride", json!({ "timezoneId": zone })).await;
            browser.open(&page.url()).await;
            let before = time_of_day(east);
            let text = browser.text("[data-b=clock]").await;
            let (time, shown) = text.split_once(' ').unwrap_or_else(|| panic!("{text}"));
            assert_eq!(shown, name);
            let parts = time.split(':').map(|it| it.parse::<i64>().unwrap_or_else(|_| panic!("{text}")));
            let seconds = parts.fold(0, |sum, part| 60 * sum + part);
            // Midnight may be between the two moments.
            let late = (seconds - before + 43_200).rem_euclid(86_400) - 43_200;
            assert!((-2..=2).contains(&late), "{text} is shown, and {before} s of the day have passed");
        }

        browser.key(" ").await;
        browser.until_text(".live", "paused at ").await;
        let paused = browser.text("[data-b=clock]").await;
        let moved = format!("document.querySelector('[data-b=clock]').textContent !== {}", json!(paused));
        browser.until(&moved, "the clock goes on").await;
    });
}
