//! The buttons that change something: offered only if they are switched on, and pressed twice.

use longshore::{App, Health};
use longshore_dashboard::{Actions, Dashboard};

use crate::browser::browse;
use crate::functions::{given_up, healthy};

const KILL: &str = "table.containers tbody button";

/// A dashboard with all actions, and the address that has its token.
fn with_actions(app: &App) -> (longshore_dashboard::Page, String) {
    let dashboard = Dashboard::of(app).actions(Actions::ALL).token("let me in");
    let page = dashboard.serve("127.0.0.1:0").expect("it serves");
    let url = format!("{}?token=let%20me%20in", page.url());
    (page, url)
}

#[test]
fn a_container_is_killed_by_two_presses_and_not_by_one() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let fetch = healthy(&app, "fetch");
        let (page, url) = with_actions(&app);
        browser.open(&url).await;
        assert!(!browser.client.current_url().await.expect("it has one").as_str().contains("token"));
        browser.open_function(&page.url(), "fetch").await;
        for (button, says) in [
            (KILL, "Ends this container and starts a new one."),
            ("[data-b=reset]", "Forgets the crashes and restarts at once."),
            ("[data-b=drain]", "Finishes what was accepted and takes nothing new."),
            ("#function [data-b=pause]", "Dispatches nothing new."),
        ] {
            let title = browser.value(&format!("document.querySelector('{button}').title")).await;
            assert!(title.as_str().is_some_and(|title| title.starts_with(says)), "{button}: {title}");
        }

        browser.click(KILL).await;
        browser.until_text(KILL, "Kill 0?").await;
        browser
            .until(
                &format!("document.querySelector('{KILL}').textContent === 'Kill'"),
                "the button is disarmed",
            )
            .await;
        assert_eq!(fetch.snapshot().totals.crashes.killed, 0);

        browser.click(KILL).await;
        browser.until_text(KILL, "Kill 0?").await;
        browser.click(KILL).await;
        browser.until_text("table.containers .result", "killed").await;
        browser.until_text("table.containers tbody th", "0 #2").await;
        browser.until_text("ol.log", "container 0#1 was killed by hand").await;
        assert_eq!(fetch.snapshot().totals.crashes.killed, 1);
    });
}

#[test]
fn a_function_that_gave_up_serves_again_after_a_reset_and_drains_after_a_drain() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let index = given_up(&app, "index");
        let (page, url) = with_actions(&app);
        browser.open(&url).await;
        browser.open_function(&page.url(), "index").await;
        browser.until_text(".todo", "press Reset").await;
        for expected in ["Reset now?", "Reset"] {
            browser.click("[data-b=reset]").await;
            browser.until_text("[data-b=reset]", expected).await;
        }
        browser.until_text(".title .health", "serving").await;
        assert_ne!(index.snapshot().health, Health::GaveUp);
        browser.until_text("ol.log", "the crashes were forgotten by hand").await;

        browser.click("[data-b=drain]").await;
        browser.until_text("[data-b=drain]", "Drain now?").await;
        browser.click("[data-b=drain]").await;
        // An idle function ends at once.
        browser
            .until("/draining|ended/.test(document.querySelector('.title .health').textContent)", "it drains")
            .await;
    });
}

#[test]
fn a_function_is_paused_and_resumed_by_two_presses_each() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let fetch = healthy(&app, "fetch");
        let (page, url) = with_actions(&app);
        browser.open(&url).await;
        browser.open_function(&page.url(), "fetch").await;
        browser.until_text(".title .health", "serving").await;
        let (pause, resume) = ("#function [data-b=pause]", "#function [data-b=resume]");
        browser.click(pause).await;
        browser.until_text(pause, "Pause now?").await;
        assert!(!fetch.snapshot().paused, "it was pressed once");
        browser.click(pause).await;
        browser.until_text(".title .health", "paused").await;
        browser.until_text("ol.log", "paused").await;
        let call = fetch.call(1);
        browser.until_text("[data-b=inputs]", "1 call").await;
        browser.click(resume).await;
        browser.until_text(resume, "Resume now?").await;
        browser.click(resume).await;
        browser.until_text(".title .health", "serving").await;
        assert!(call.wait().is_ok());
        let hidden = format!("document.querySelector('{resume}').offsetParent === null");
        browser.until(&hidden, "there is nothing to resume").await;
    });
}

#[test]
fn without_actions_there_are_no_buttons_and_the_advice_names_the_methods() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let _index = given_up(&app, "index");
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        browser.open_function(&page.url(), "index").await;
        browser.until_text(".todo", "call reset() on the function").await;
        let buttons = "[...document.querySelectorAll('#function button')].filter((each) =>
            each.offsetParent && (/Kill|Reset|Drain|Resume/.test(each.textContent) || each.dataset.b === 'pause')).length";
        assert_eq!(browser.value(buttons).await, 0);
    });
}
