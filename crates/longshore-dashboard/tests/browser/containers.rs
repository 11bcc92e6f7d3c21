//! The table of containers: how many inputs each of them has in flight.

use longshore::App;
use longshore_dashboard::Dashboard;

use crate::browser::browse;
use crate::functions::{healthy, waiting};

#[test]
fn a_container_shows_how_many_inputs_it_has_in_flight_where_it_may_have_several() {
    browse(async |browser| {
        let app = App::deployed("crawler");
        let ((_fetch, calls), _parse) = (waiting(&app, "fetch", 37), healthy(&app, "parse"));
        let page = Dashboard::of(&app).serve("127.0.0.1:0").expect("it serves");
        browser.open_function(&page.url(), "fetch").await;
        browser.until_text("table.containers tbody", "37 of 64 in flight, the oldest: call 1").await;
        browser.until_text("[data-b=inputs]", "up to 64 in each container").await;
        drop(calls);
        browser.until_text("table.containers tbody", "0 of 64 in flight").await;

        browser.open_function(&page.url(), "parse").await;
        browser.until_text("table.containers tbody", "live").await;
        let containers = browser.text("table.containers").await;
        assert!(!containers.contains("in flight"), "one at a time needs no words: {containers}");
        let inputs = browser.text("[data-b=inputs]").await;
        assert!(!inputs.contains("in each container"), "{inputs}");
    });
}
