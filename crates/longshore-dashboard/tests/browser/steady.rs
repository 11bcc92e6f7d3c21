//! A page that is open for long: its memory stays flat.

use longshore::App;
use longshore_dashboard::Dashboard;
use serde_json::{Value, json};

use crate::browser::{Browser, browse};
use crate::functions::{healthy, hungry, looping};

/// The number of refreshes. An open page makes as many in 50 minutes.
const REFRESHES: usize = 3000;

struct Held {
    bytes: f64,
    nodes: f64,
    listeners: f64,
}

/// Counts what the page holds after its garbage was collected.
async fn held(browser: &Browser) -> Held {
    browser.cdp("HeapProfiler.collectGarbage", json!({})).await;
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value}"));
    let heap = browser.cdp("Runtime.getHeapUsage", json!({})).await;
    let counters = browser.cdp("Memory.getDOMCounters", json!({})).await;
    Held {
        bytes: number(&heap["usedSize"]),
        nodes: number(&counters["nodes"]),
        listeners: number(&counters["jsEventListeners"]),
    }
}

#[test]
fn three_thousand_refreshes_leave_the_heap_flat() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let _functions = (healthy(&app, "fetch"), looping(&app, "parse"));
        let unpack = hungry(&app, "unpack");
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        browser.open_function(&page.url(), "unpack").await;
        let mut work = unpack.map(0_u64..).return_exceptions().into_iter();
        let refresh = async |times: usize| {
            let script = format!("for (let n = 0; n < {times}; n++) await longshore.refresh(); return true;");
            assert_eq!(browser.promised(&script).await, true);
        };
        // The lists of the page fill up to their bounds first.
        for _ in 0..5 {
            refresh(REFRESHES / 50).await;
            let _ = work.next();
        }
        let before = held(browser).await;
        for part in 0..9 {
            refresh(REFRESHES / 10).await;
            let _ = work.next();
            if part == 4 {
                // Both views are walked through.
                browser.open(&page.url()).await;
            }
        }
        browser.open_function(&page.url(), "unpack").await;
        let after = held(browser).await;
        assert!(after.bytes < 1.2 * before.bytes, "{} bytes grew to {}", before.bytes, after.bytes);
        assert!(after.nodes < 1.3 * before.nodes, "{} nodes grew to {}", before.nodes, after.nodes);
        assert!(
            after.listeners <= before.listeners,
            "{} listeners grew to {}",
            before.listeners,
            after.listeners
        );
    });
}
