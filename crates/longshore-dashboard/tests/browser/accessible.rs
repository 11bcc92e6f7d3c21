//! Accessibility: axe-core finds no violation, in both schemes, and nothing overflows at 320 pixels.
//!
//! axe-core is other people's code, and is not part of the repository. `checks/browser` puts it into
//! `target/axe/axe.min.js`, and `LONGSHORE_AXE` names another file.

use std::path::PathBuf;
use std::{env, fs};

use longshore::App;
use longshore_dashboard::{Actions, Dashboard};
use serde_json::json;

use crate::browser::{Browser, browse, is_required};
use crate::functions::{given_up, healthy, hungry, looping};

fn axe() -> Option<String> {
    let ours = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/axe/axe.min.js");
    let path = env::var_os("LONGSHORE_AXE").map_or(ours, PathBuf::from);
    match fs::read_to_string(&path) {
        Ok(axe) => Some(axe),
        Err(error) => {
            assert!(!is_required(), "{}: {error}, and LONGSHORE_BROWSER=required", path.display());
            eprintln!("skipped: there is no axe-core at {} (checks/browser installs it)", path.display());
            None
        }
    }
}

/// The rules that are violated, each with the first elements that violate it.
async fn violations(browser: &Browser, axe: &str) -> Vec<String> {
    // The driver is not subject to the policy of the page.
    browser.client.execute(axe, Vec::new()).await.expect("it loads");
    let found = browser
        .promised(
            "const { violations } = await axe.run(document, { resultTypes: ['violations'] });
             return violations.map(({ id, nodes }) =>
                 `${id}: ${nodes.slice(0, 3).map((node) => `${node.html} ${node.failureSummary}`).join(' | ')}`);",
        )
        .await;
    serde_json::from_value(found.clone()).unwrap_or_else(|_| panic!("{found}"))
}

#[test]
fn axe_finds_no_violation_in_either_scheme() {
    let Some(axe) = axe() else { return };
    browse(async |browser| {
        let app = App::deployed("crawler");
        let _functions = (healthy(&app, "fetch"), looping(&app, "parse"), given_up(&app, "index"));
        let unpack = hungry(&app, "unpack");
        assert_eq!(
            unpack.map(vec![1_u64, 2, 99, 3]).label("nightly").return_exceptions().into_iter().count(),
            4
        );
        let dashboard = Dashboard::of(&app).actions(Actions::ALL).token("t");
        let page = dashboard.serve("127.0.0.1:0").expect("it serves");
        browser.open(&format!("{}?token=t", page.url())).await;
        for scheme in ["light", "dark"] {
            browser.prefer(scheme).await;
            browser.open(&page.url()).await;
            assert_eq!(violations(browser, &axe).await, [""; 0], "all functions, {scheme}");
            for name in ["fetch", "parse", "index", "unpack"] {
                browser.open_function(&page.url(), name).await;
                assert_eq!(violations(browser, &axe).await, [""; 0], "{name}, {scheme}");
            }
            browser.key("?").await;
            assert_eq!(violations(browser, &axe).await, [""; 0], "the help, {scheme}");
            browser.click("[data-b=close]").await;
        }
    });
}

#[test]
fn nothing_overflows_on_a_narrow_window() {
    browse(async |browser| {
        let app = App::deployed("an-application-with-a-rather-long-name-and-no-place-to-break-it");
        let long = "a_function_whose_name_is_as_long_as_names_of_functions_can_be::and_then_some";
        let _functions = (healthy(&app, long), looping(&app, "parse"), given_up(&app, "index"));
        let unpack = hungry(&app, "unpack");
        assert_eq!(unpack.map(vec![1_u64, 99, 3]).return_exceptions().into_iter().count(), 3);
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        for width in [320, 600, 1020, 1021] {
            browser.resize(width, 800).await;
            browser.open(&page.url()).await;
            let wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(browser.value(wider).await, json!(0), "all functions at {width}");
            for name in [long, "parse", "index", "unpack"] {
                browser.open_function(&page.url(), name).await;
                assert_eq!(browser.value(wider).await, json!(0), "{name} at {width}");
            }
        }
    });
}
