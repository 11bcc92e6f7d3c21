//! The keyboard, and what a refresh must leave alone: the focus, the selection, the scroll, and a pause.

use fantoccini::key::Key;
use longshore::App;
use longshore_dashboard::Dashboard;

use crate::browser::browse;
use crate::functions::{healthy, looping};

/// An expression for the text of the element that has the focus.
const FOCUS: &str = "document.activeElement.textContent";

#[test]
fn the_page_can_be_used_by_keys_alone() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let (_well, _sick) = (healthy(&app, "fetch"), looping(&app, "parse"));
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        browser.open(&page.url()).await;

        browser.key("j").await;
        assert_eq!(browser.value(FOCUS).await, "parse");
        browser.key("j").await;
        assert_eq!(browser.value(FOCUS).await, "fetch");
        browser.key("j").await;
        assert_eq!(browser.value(FOCUS).await, "fetch", "there is no row after the last");
        browser.key("k").await;
        browser.key(&Key::Enter).await;
        browser.until("document.activeElement.id === 'h-name'", "the heading has the focus").await;
        assert_eq!(browser.value(FOCUS).await, "parse");
        browser.key("j").await;
        browser.until("document.activeElement.id === 'h-trouble'", "the first section has the focus").await;

        browser.key("?").await;
        browser.until("document.getElementById('help').open", "the help is open").await;
        browser.key(&Key::Escape).await;
        browser.until("!document.getElementById('help').open", "the help is closed").await;
        assert_eq!(browser.value("location.hash").await, "#/f/parse", "the key closes the help and no more");
        browser.key(&Key::Escape).await;
        browser.until("!document.getElementById('overview').hidden", "all functions are shown").await;
        browser.until(&format!("{FOCUS} === 'parse'"), "the row that was opened has the focus").await;

        browser.key(" ").await;
        browser.until_text(".live", "paused at ").await;
        let requests = "performance.getEntriesByType('resource').length";
        // A pause is seen only by what does not happen: no request in the time of two.
        let made = browser
            .promised(&format!(
                "const before = {requests};
                await new Promise((done) => setTimeout(done, 2200));
                return {requests} - before;"
            ))
            .await;
        assert!(
            made.as_u64().is_some_and(|made| made <= 1),
            "{made} requests, of which one may have been under way"
        );
        browser.key(" ").await;
        browser.until("document.querySelector('.live').textContent === 'live'", "the page goes on").await;
    });
}

#[test]
fn a_refresh_keeps_the_focus_the_selection_and_the_scroll() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let sick = looping(&app, "parse");
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        browser.resize(600, 500).await;
        browser.open_function(&page.url(), "parse").await;
        browser
            .value(
                "(document.getElementById('h-log').focus(), scrollTo(0, 400), \
                 getSelection().selectAllChildren(document.querySelector('.cause .message')), scrollY)",
            )
            .await;
        let marked = "document.querySelector('table.containers tbody').marked";
        browser.value(&format!("{marked} = true")).await;
        let look = "JSON.stringify([document.activeElement.id, String(getSelection()), scrollY])";
        let before = browser.value(look).await;
        for n in 100..110 {
            // The container backs off, so the call waits, and numbers of the page change.
            drop(sick.call(n));
            browser.promised("await longshore.refresh()").await;
        }
        assert_eq!(browser.value(look).await, before);
        assert_eq!(browser.value(marked).await, true, "a row is changed in place");
    });
}

#[test]
fn the_log_is_filtered_paused_and_copied() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let sick = looping(&app, "parse");
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        browser.open_function(&page.url(), "parse").await;
        let lines = "document.querySelectorAll('ol.log li').length";
        browser.until(&format!("{lines} > 2"), "the log has lines").await;
        let filter =
            browser.client.find(fantoccini::Locator::Css("[data-b=filter]")).await.expect("there is one");
        filter.send_keys("POISONED").await.expect("it takes keys");
        browser
            .until(
                &format!(
                    "{lines} > 0 && [...document.querySelectorAll('ol.log li')]
                    .every((each) => each.textContent.includes('poisoned'))"
                ),
                "the lines are those that match",
            )
            .await;
        filter.send_keys(" and nothing else").await.expect("it takes keys");
        browser.until_text("[data-b=noLog]", "No line matches").await;
        filter.clear().await.expect("it can be cleared");
        browser.until(&format!("{lines} > 2"), "all lines are shown again").await;

        browser.click("[data-b=logPause]").await;
        let before = browser.value(lines).await;
        sick.reset();
        browser.promised("await longshore.refresh()").await;
        assert_eq!(browser.value(lines).await, before);
        browser.click("[data-b=logPause]").await;
        browser.until_text("ol.log", "the crashes were forgotten by hand").await;

        browser.click("[data-b=logCopy]").await;
        browser
            .until(
                "/copied|selected/.test(document.querySelector('[data-b=logNote]').textContent)",
                "the log is copied",
            )
            .await;
    });
}
