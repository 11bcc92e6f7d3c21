//! The page under a prefix of another application, and behind a proxy that takes a prefix away.

use longshore::App;
use longshore_dashboard::Dashboard;

use crate::browser::browse;
use crate::functions::looping;
use crate::server::{Application, stripping_proxy};

#[test]
fn the_page_works_under_a_prefix_with_and_without_a_slash_and_behind_a_proxy() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let _sick = looping(&app, "parse");
        let mounted = Application::start(Dashboard::of(&app), "/ops/longshore", "127.0.0.1:0").await;
        let behind = Application::start(Dashboard::of(&app), "/inner", "127.0.0.1:0").await;
        let proxy = stripping_proxy("/outer", behind.address).await;
        for address in [
            format!("http://{}/ops/longshore", mounted.address),
            format!("http://{}/ops/longshore/", mounted.address),
            format!("http://{proxy}/outer/inner"),
            format!("http://{proxy}/outer/inner/"),
        ] {
            browser.open(&address).await;
            browser.until_text("#say", "parse is in a crash loop").await;
            browser.click("tbody.fn a").await;
            browser.until_text("[data-b=what]", "Crash loop").await;
        }
    });
}

#[test]
fn a_lost_server_is_said_and_found_again() {
    browse(async |browser| {
        browser.is_console_silent = false; // a browser reports each request that fails
        let app = App::deployed("crawler");
        let _sick = looping(&app, "parse");
        let server = Application::start(Dashboard::of(&app), "/ops", "127.0.0.1:0").await;
        let address = server.address.to_string();
        browser.open(&format!("http://{address}/ops")).await;
        browser.until_text("#say", "parse is in a crash loop").await;
        server.stop().await;
        browser.until_text("#say", "Lost since ").await;
        browser.until_text("#tick", "Next try in ").await;
        browser
            .until(
                "document.body.classList.contains('lost') && document.querySelector('tbody.fn') !== null",
                "the last picture is grey",
            )
            .await;
        let _server = Application::start(Dashboard::of(&app), "/ops", &address).await;
        browser.until_text("#say", "parse is in a crash loop").await;
        browser.until("!document.body.classList.contains('lost')", "the picture is live again").await;
    });
}

#[test]
fn without_script_there_is_a_table() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let _sick = looping(&app, "parse");
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        browser.cdp("Emulation.setScriptExecutionDisabled", serde_json::json!({ "value": true })).await;
        browser.client.goto(&page.url()).await.expect("the page opens");
        let table =
            browser.client.find(fantoccini::Locator::Css("noscript table")).await.expect("there is a table");
        let text = table.text().await.expect("it has text");
        assert!(text.contains("parse") && text.contains("crash loop"), "{text}");
    });
}
