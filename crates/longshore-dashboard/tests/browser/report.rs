//! The report: a file that shows the page without a server.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use longshore::App;
use longshore_dashboard::{Actions, Dashboard};
use serde_json::json;
use tokio::time::sleep;

use crate::browser::{Browser, browse};
use crate::functions::{healthy, looping};
use crate::server::Application;

/// Looks at a report as its reader does.
async fn read(browser: &Browser, file: &Path) {
    browser.open(&format!("file://{}", file.display())).await;
    browser.until_text(".live", "saved ").await;
    browser.until_text("#say", "parse is in a crash loop").await;
    browser.click("tbody.fn a").await;
    browser.until_text("[data-b=what]", "Crash loop: 2 rounds of crashes in a row").await;
    browser.until_text("[data-b=nextIn]", " s").await;
    let offered = "[...document.querySelectorAll('button')].filter((each) =>
        each.offsetParent && (/Kill|Reset|Drain|Pause view|Resume|Save/.test(each.textContent) || each.dataset.b === 'pause')).length";
    assert_eq!(browser.value(offered).await, 0, "a file offers no action");
    // The clock of a report stands still.
    let text = browser.text(".trouble").await;
    browser.promised("await new Promise((done) => setTimeout(done, 1100))").await;
    assert_eq!(browser.text(".trouble").await, text);
}

#[test]
fn a_saved_report_opens_from_its_file_and_asks_for_nothing() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let (_well, _sick) = (healthy(&app, "fetch"), looping(&app, "parse"));
        let dashboard = Dashboard::of(&app).actions(Actions::ALL).token("t");
        let file = browser.directory().join("crash.html");
        dashboard.save_report(&file).expect("it is saved");
        read(browser, &file).await;
        assert_eq!(browser.value("performance.getEntriesByType('resource').length").await, 0);
    });
}

#[test]
fn the_page_saves_the_report_also_when_the_program_is_gone() {
    browse(async |browser| {
        browser.is_console_silent = false; // a browser reports each request that fails
        let app = App::deployed("crawler");
        let (_well, _sick) = (healthy(&app, "fetch"), looping(&app, "parse"));
        let server = Application::start(Dashboard::of(&app), "/ops", "127.0.0.1:0").await;
        let directory = browser.directory().join("downloads");
        let allow = json!({ "behavior": "allow", "downloadPath": directory });
        browser.cdp("Browser.setDownloadBehavior", allow).await;
        let address = format!("http://{}/ops", server.address);
        browser.open_function(&address, "parse").await;

        browser.click("[data-b=save]").await;
        let from_server = browser.directory().join("from-server.html");
        fs::rename(downloaded(&directory).await, &from_server).expect("it is moved");
        server.stop().await;
        browser.until_text("#say", "Lost since ").await;
        browser.click("[data-b=save]").await;
        let from_page = downloaded(&directory).await;
        for file in [from_server, from_page] {
            read(browser, &file).await;
        }
    });
}

/// Waits until there is a file that is whole.
async fn downloaded(directory: &Path) -> PathBuf {
    let begun = Instant::now();
    loop {
        let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
        let names = entries.map(|it| it.file_name().to_string_lossy().into_owned());
        if let Some(name) = names.into_iter().find(|it| it.ends_with(".html")) {
            assert!(name.starts_with("longshore-crawler-"), "{name}");
            return directory.join(name);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "no file was saved");
        sleep(Duration::from_millis(50)).await;
    }
}
