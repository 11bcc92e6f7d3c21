//! Limits of time and of calls on the page: time-outs, deadlines, hung containers, exhaustion and overload.

use std::time::Duration;

use longshore::{App, Health, Limits};
use longshore_dashboard::Dashboard;

use crate::browser::browse;
use crate::functions::{healthy, sticking};

/// An expression that is true once the tile with this label shows this number.
fn tile(label: &str, number: &str) -> String {
    format!(
        "[...document.querySelectorAll('#function dl > div')].some((each) =>
            each.querySelector('dt')?.textContent === '{label}' &&
            each.querySelector('[data-b=value]')?.textContent === '{number}')"
    )
}

#[test]
fn a_container_that_hangs_and_an_exhausted_function_are_a_story_on_the_page() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let (parse, release) = sticking(&app, "parse");
        parse.ready_all().expect("both containers enter");
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        browser.open_function(&page.url(), "parse").await;
        for n in [9, 10] {
            assert!(parse.call(n).wait().expect_err("it gets stuck").is_timed_out());
        }
        browser.until(&tile("timed out", "2"), "two attempts have timed out").await;
        browser.until_text("ol.log", "hangs, and is kept because too many threads are left behind").await;
        browser.until_text("ol.log", "the function is exhausted").await;
        browser.until_text("[data-b=what]", "No container is left").await;
        browser.until_text(".todo", "Find out what the code waits for").await;
        browser.open(&page.url()).await;
        browser.until_text("#say", "parse has no container left").await;
        browser.until_text("#tick", "1 container hangs").await;

        drop(release); // the code returns
        browser.open_function(&page.url(), "parse").await;
        browser.until_text("ol.log", "the function is no longer exhausted").await;
        browser.until_text("ol.log", "has returned").await;
        browser
            .until(
                "!/No container is left/.test(document.querySelector('[data-b=what]').textContent) ||
                document.querySelector('.trouble').hidden",
                "it has a container again",
            )
            .await;
        assert_ne!(parse.snapshot().health, Health::Exhausted);
    });
}

#[test]
fn deadlines_that_pass_and_calls_that_are_refused_are_counted_on_the_page() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let (parse, _release) = sticking(&app, "parse");
        let _well = healthy(&app, "fetch");
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        browser.open_function(&page.url(), "parse").await;
        parse.pause();
        let late = parse.call_within(1, Limits::new().deadline(Duration::from_millis(1)));
        assert!(late.wait().expect_err("it waits too long").is_past_deadline());
        browser.until(&tile("past deadline", "1"), "a deadline has passed").await;

        let held: Vec<_> = (0..8).map(|n| parse.call(n)).collect();
        for n in 0..3 {
            assert!(parse.call(n).wait().expect_err("there is no room").is_overloaded());
        }
        browser.until_text("[data-b=inputs]", "3 refused above 8").await;
        browser.until_text("ol.log", "overloaded: ").await;
        browser.until_text(".title .health", "paused").await;
        parse.resume();
        for call in held {
            assert!(call.wait().is_ok());
        }
        browser.until(&tile("ok", "8"), "the calls that had room have their outcomes").await;
    });
}
