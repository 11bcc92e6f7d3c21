//! Many tabs: all are live, and none of them delays the end of a server.

use std::time::Duration;

use longshore::App;
use longshore_dashboard::Dashboard;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::browser::{Browser, browse};
use crate::functions::looping;
use crate::server::{Application, timed};

/// The largest number of connections that a browser opens to one server is 6.
const TABS: usize = 7;

/// The longest time that a server may take to end.
const SOON: Duration = Duration::from_secs(1);

/// The longest time that an attempt to connect may take.
const ATTEMPT: Duration = Duration::from_millis(100);

async fn open_tabs(browser: &Browser, url: &str) {
    for tab in 0..TABS {
        if tab > 0 {
            let window = browser.client.new_window(true).await.expect("a tab");
            browser.client.switch_to_window(window.handle).await.expect("it opens");
        }
        browser.open(url).await;
        browser.until_text("#say", "parse is in a crash loop").await;
    }
    // The first tab is still live.
    let windows = browser.client.windows().await.expect("they are open");
    browser.client.switch_to_window(windows[0].clone()).await.expect("it is open");
    let before = browser.value("performance.getEntriesByType('resource').length").await;
    browser
        .until(&format!("performance.getEntriesByType('resource').length > {before}"), "the first tab polls")
        .await;
}

#[test]
fn an_application_ends_within_a_second_with_seven_tabs_open() {
    browse(async |browser| {
        browser.is_console_silent = false; // a browser reports each request that fails
        let app = App::deployed("crawler");
        let _sick = looping(&app, "parse");
        let server = Application::start(Dashboard::of(&app), "/ops", "127.0.0.1:0").await;
        open_tabs(browser, &format!("http://{}/ops", server.address)).await;
        let took = timed(server.stop()).await;
        assert!(took < SOON, "it took {took:?}");
    });
}

#[test]
fn the_own_server_and_the_app_end_within_a_second_with_seven_tabs_open() {
    browse(async |browser| {
        browser.is_console_silent = false; // a browser reports each request that fails
        let app = App::deployed("crawler");
        let sick = looping(&app, "parse");
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        let url = page.url();
        open_tabs(browser, &url).await;
        let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let end = async {
            drop(page);
            // The system may repeat an attempt that meets the closing listener only after a second.
            while !matches!(timeout(ATTEMPT, TcpStream::connect(&address)).await, Ok(Err(_))) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let took = timed(async { timeout(10 * SOON, end).await.expect("the server ends") }).await;
        assert!(took < SOON, "it took {took:?}");
        drop(sick);
        let took = timed(async { drop(app.shutdown_blocking()) }).await;
        assert!(took < SOON, "it took {took:?}");
    });
}
