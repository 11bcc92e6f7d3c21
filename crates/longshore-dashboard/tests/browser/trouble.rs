//! The banner and the trouble card: what is wrong, where, since when, and what comes next.

use std::time::Duration;

use longshore::App;
use longshore_dashboard::Dashboard;

use crate::browser::browse;
use crate::functions::{REASON, given_up, healthy, looping, without_registry};

#[test]
fn a_crash_loop_is_shown_with_its_cause_its_place_and_the_next_restart() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let (_well, _sick) = (healthy(&app, "fetch"), looping(&app, "parse"));
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");

        browser.open(&page.url()).await;
        let said = browser.text("#say").await;
        assert!(
            said.starts_with("parse is in a crash loop: panic at ") && said.contains("functions.rs:"),
            "{said}"
        );
        let counted = browser.text("#tick").await;
        assert!(
            counted.starts_with("2 rounds of crashes in a row since ")
                && counted.contains(", next restart in "),
            "{counted}"
        );
        let first = browser.text("tbody.fn").await;
        assert!(first.contains("parse") && first.contains(REASON), "the worst comes first: {first}");
        assert!(browser.client.title().await.expect("a title").contains("parse: crash loop"));

        browser.click("tbody.fn a").await;
        browser.until_text("#h-name", "parse").await;
        browser.until_text("[data-b=what]", "Crash loop: 2 rounds of crashes in a row").await;
        let card = browser.text(".trouble").await;
        for text in [
            "next restart in",
            "0 of 1 container live, 0 inputs wait",
            "A round counts once, however many containers crash in it.",
            "panic",
            "functions.rs:",
            REASON,
            "container 0",
            "What to do next",
            "never gives up",
        ] {
            assert!(card.contains(text), "{text:?} is not in the card: {card}");
        }
        let cause = browser.text("table.causes tbody").await;
        assert!(cause.starts_with('2') && cause.contains(REASON), "{cause}");
        browser.until_text("table.containers tbody", "backing off").await;
        assert_eq!(browser.text("table.poisoned tbody .message").await, "");
        let log = browser.text("ol.log").await;
        assert!(
            log.contains("crash loop: 2 rounds of crashes in a row")
                && log.contains("2 × call 2 is poisoned"),
            "{log}"
        );
    });
}

#[test]
fn the_worst_function_comes_first_and_the_others_in_trouble_are_named() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let _well = healthy(&app, "fetch");
        let registry = without_registry(&app, "parse", Duration::from_secs(30));
        let _gone = given_up(&app, "index");
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        browser.open(&page.url()).await;
        browser.until_text("#say", "index gave up: panic at ").await;
        browser.until_text("#tick", "Also in trouble: parse (crash loop).").await;
        let names = browser
            .value("[...document.querySelectorAll('tbody.fn bdi')].map((each) => each.textContent)")
            .await;
        assert_eq!(names, serde_json::json!(["index", "parse", "fetch"]));

        browser.open_function(&page.url(), "parse").await;
        browser.until_text(".trouble", "error from enter").await;
        browser.until_text("[data-b=advice]", "Inputs wait. None of them is lost or counts as failed.").await;
        assert_eq!(browser.text("[data-b=advice] code").await, "enter");
        let _waiting: Vec<_> = (0..3).map(|n| registry.call(n.to_string())).collect();
        browser.until_text("[data-b=extent]", "0 of 4 containers live, 3 inputs wait").await;
        browser.open_function(&page.url(), "index").await;
        browser.until_text("[data-b=what]", "This function gave up").await;
        browser.until_text("[data-b=policy]", "gives up above 1 round of crashes in ").await;
    });
}

#[test]
fn an_app_without_functions_and_an_unknown_function_are_said_in_words() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        browser.open(&page.url()).await;
        browser.until_text("#say", "No function is running").await;
        browser.until_text("#overview .empty", "No function has been started yet").await;
        browser.is_console_silent = false; // a browser reports each answer of 404
        browser.open(&format!("{}#/f/nothing", page.url())).await;
        browser.until_text("[data-b=missing]", "There is no function of this name").await;
    });
}
