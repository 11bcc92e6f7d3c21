//! [`Browser`]: one browser with one page, for one test.

use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::time::sleep;
use url::Url;

use crate::driver::Driver;

/// The longest wait for a condition. A loaded machine needs seconds for what takes milliseconds on an idle
/// one.
const WAIT: Duration = Duration::from_secs(20);

/// The time between two looks at a condition.
const LOOK: Duration = Duration::from_millis(40);

pub(crate) struct Browser {
    pub(crate) client: Client,
    driver: Driver,
    /// Whether messages on the console are a fault. They are not where a test takes the server away.
    pub(crate) is_console_silent: bool,
}

/// Whether the tests of this binary must not be skipped.
pub(crate) fn is_required() -> bool {
    env::var("LONGSHORE_BROWSER").is_ok_and(|it| it == "required")
}

/// Runs a test in a browser, or says that it is skipped. At the end of the test the console must be empty.
///
/// # Panics
///
/// If the test does, or if there is no driver and [`is_required`].
pub(crate) fn browse(test: impl AsyncFnOnce(&mut Browser)) {
    let Some(driver) = Driver::start() else {
        assert!(!is_required(), "there is no chromedriver on the PATH, and LONGSHORE_BROWSER=required");
        eprintln!("skipped: there is no chromedriver on the PATH (checks/browser installs it)");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = connect(&driver).await;
        let mut browser = Browser { client, driver, is_console_silent: true };
        test(&mut browser).await;
        let console = browser.console().await;
        assert!(console.is_empty() || !browser.is_console_silent, "the console is not empty: {console:?}");
        let _ = browser.client.close().await;
    });
}

async fn connect(driver: &Driver) -> Client {
    // As root Chromium starts without its sandbox only. The page of a test is the project's own.
    let args = [
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=1100,900",
    ];
    let capabilities = json!({
        "goog:chromeOptions": { "args": args },
        "goog:loggingPrefs": { "browser": "ALL" },
        "timeouts": { "script": 120_000 },
    });
    let Value::Object(capabilities) = capabilities else { unreachable!("it is an object") };
    let mut builder = ClientBuilder::new(HttpConnector::new());
    builder.capabilities(capabilities).connect(&driver.url()).await.expect("a session of the browser")
}

impl Browser {
    /// The directory that is removed together with the browser.
    pub(crate) fn directory(&self) -> &Path {
        self.driver.directory()
    }

    /// Opens an address, and waits until the page shows an answer.
    pub(crate) async fn open(&self, url: &str) {
        self.client.goto(url).await.expect("the page opens");
        self.until("document.querySelector('main:not([hidden])') !== null", "the page shows an answer").await;
    }

    /// Opens the page of a function.
    pub(crate) async fn open_function(&self, base: &str, name: &str) {
        let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        self.open(&format!("{base}#/f/{}", encoded.replace('+', "%20"))).await;
        self.until("!document.querySelector('#function [data-b=body]').hidden", "the function is shown")
            .await;
        self.until_text("#h-name", name).await;
    }

    /// The value of an expression of JavaScript.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression})");
        self.client.execute(&script, Vec::new()).await.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// The value of a promise.
    pub(crate) async fn promised(&self, expression: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             (async () => {{ {expression} }})().then(done, (error) => done(`failed: ${{error}}`))"
        );
        self.client
            .execute_async(&script, Vec::new())
            .await
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// The text of the first element that a selector finds, as it is in the document.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let expression = format!("document.querySelector({})?.textContent.trim() ?? null", json!(selector));
        match self.value(&expression).await {
            Value::String(text) => text,
            _ => panic!("there is no {selector}"),
        }
    }

    /// Waits until an expression of JavaScript is true.
    ///
    /// # Panics
    ///
    /// If it does not become true, with the text of the page.
    pub(crate) async fn until(&self, expression: &str, what: &str) {
        let begun = Instant::now();
        while self.value(&format!("Boolean({expression})")).await != Value::Bool(true) {
            if begun.elapsed() > WAIT {
                let page = self.value("document.body.innerText").await;
                let console = self.console().await;
                panic!("waited for: {what}\nwith: {expression}\nconsole: {console:?}\nthe page is: {page}");
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until the text of an element contains a text.
    pub(crate) async fn until_text(&self, selector: &str, text: &str) {
        let expression =
            format!("document.querySelector({})?.textContent.includes({})", json!(selector), json!(text));
        self.until(&expression, &format!("{selector} contains {text:?}")).await;
    }

    /// Clicks as a person does: the element must be visible.
    pub(crate) async fn click(&self, selector: &str) {
        let found = self.client.find(Locator::Css(selector)).await;
        let element = found.unwrap_or_else(|error| panic!("{selector}: {error}"));
        element.click().await.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Presses a key where the focus is.
    pub(crate) async fn key(&self, key: &str) {
        let active = self.client.active_element().await.expect("something has the focus");
        active.send_keys(key).await.expect("it takes keys");
    }

    /// A command of the protocol of Chromium's own tools.
    pub(crate) async fn cdp(&self, command: &'static str, params: Value) -> Value {
        let vendor = Vendor { path: "goog/cdp/execute", body: json!({ "cmd": command, "params": params }) };
        self.client.issue_cmd(vendor).await.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// The messages on the console of the page since the last look.
    pub(crate) async fn console(&self) -> Vec<String> {
        let command = Vendor { path: "se/log", body: json!({ "type": "browser" }) };
        let said = self.client.issue_cmd(command).await.expect("the driver has a log");
        let lines = said.as_array().expect("it is a list");
        lines.iter().map(|line| line["message"].to_string()).collect()
    }

    /// Makes the page believe that the reader prefers a scheme: `light` or `dark`.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.cdp("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Hides the scroll bars of pages that are opened from now on, for a picture.
    pub(crate) async fn hide_scrollbars(&self) {
        self.cdp("Emulation.setScrollbarsHidden", json!({ "hidden": true })).await;
    }

    /// Sets the size of the window of the page, in pixels.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.cdp("Emulation.setDeviceMetricsOverride", size).await;
    }
}

/// A command that only Chromium's driver has.
#[derive(Debug)]
struct Vendor {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}
