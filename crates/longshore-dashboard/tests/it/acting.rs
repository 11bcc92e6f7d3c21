//! Actions: who may ask for them, and what they do.

use http::{Method, StatusCode};
use longshore::App;
use longshore_dashboard::{Actions, Dashboard};

use crate::support::{Answer, named, overview, path_of, send, sick, until, well};

const BEARER: (&str, &str) = ("authorization", "Bearer secret");
const MARK: (&str, &str) = ("x-longshore", "1");

fn post(dashboard: &Dashboard, path: &str) -> Answer {
    send(dashboard, Method::POST, path, &[BEARER, MARK])
}

#[test]
fn a_kill_kills_one_container() {
    let app = App::deployed("acting");
    let dashboard = Dashboard::of(&app).token("secret").actions(Actions::KILL);
    let f = well(&app, "double");
    f.ready().expect("it starts");
    until("both containers are live", || f.snapshot().containers.live == 2);
    let path = path_of("double");
    assert_eq!(post(&dashboard, &format!("{path}/kill/1")).json()["done"], true);
    assert_eq!(f.snapshot().totals.crashes.killed, 1);
    assert_eq!(f.snapshot().rows[1].last_death.map(|death| death.number), Some(1));
    assert_eq!(
        post(&dashboard, &format!("{path}/kill/7")).json()["done"],
        false,
        "there is no such container"
    );
    assert_eq!(post(&dashboard, &format!("{}/kill/0", path_of("other"))).status, StatusCode::NOT_FOUND);
}

#[test]
fn a_reset_forgets_the_crash_loop() {
    let app = App::deployed("acting");
    let dashboard = Dashboard::of(&app).token("secret").actions(Actions::RESET);
    let f = sick(&app, "fetch", "the registry is down");
    assert_eq!(f.snapshot().health.as_str(), "crash_loop");
    let answer = post(&dashboard, &format!("{}/reset", path_of("fetch")));
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    until("the function serves again", || f.snapshot().health.as_str() != "crash_loop");
}

#[test]
fn a_drain_ends_the_function() {
    let app = App::deployed("acting");
    let dashboard = Dashboard::of(&app).token("secret").actions(Actions::DRAIN);
    let f = well(&app, "double");
    assert_eq!(post(&dashboard, &format!("{}/drain", path_of("double"))).json()["done"], true);
    until("the function has ended", || f.snapshot().health.as_str() == "ended");
}

#[test]
fn a_pause_holds_calls_up_and_a_resume_lets_them_go_on() {
    let app = App::deployed("acting");
    let dashboard = Dashboard::of(&app).token("secret").actions(Actions::PAUSE);
    let f = well(&app, "double");
    f.ready().expect("it starts");
    let path = path_of("double");
    assert_eq!(post(&dashboard, &format!("{path}/pause")).json()["done"], true);
    assert!(f.snapshot().paused);
    let call = f.call(2);
    let held = send(&dashboard, Method::GET, &path, &[BEARER]).json();
    assert_eq!(
        (&held["function"]["paused"], &held["function"]["inputs"]["queued"]),
        (&true.into(), &1.into())
    );
    assert_eq!(post(&dashboard, &format!("{path}/resume")).json()["done"], true);
    assert!(call.wait().is_ok());
    assert_eq!(post(&dashboard, &format!("{path}/resume")).json()["done"], false, "it was not paused");
}

#[test]
fn an_action_that_is_off_has_no_address() {
    let app = App::deployed("acting");
    let f = well(&app, "double");
    let off = Dashboard::of(&app).token("secret");
    let only_reset = off.clone().actions(Actions::RESET);
    let path = path_of("double");
    for (dashboard, action) in [
        (&off, "reset"),
        (&off, "drain"),
        (&off, "kill/0"),
        (&off, "pause"),
        (&only_reset, "kill/0"),
        (&only_reset, "pause"),
        (&only_reset, "resume"),
    ] {
        assert_eq!(post(dashboard, &format!("{path}/{action}")).status, StatusCode::NOT_FOUND, "{action}");
    }
    assert_eq!(post(&only_reset, &format!("{path}/reset")).status, StatusCode::OK);
    assert_eq!(f.snapshot().totals.crashes.killed, 0);
}

#[test]
fn an_action_needs_a_token_and_the_page_shows_none_without() {
    let app = App::deployed("acting");
    let f = well(&app, "double");
    let without = Dashboard::of(&app).actions(Actions::ALL);
    let kill = format!("{}/kill/0", path_of("double"));
    let same_origin = [MARK, ("sec-fetch-site", "same-origin")];
    assert_eq!(send(&without, Method::POST, &kill, &same_origin).status, StatusCode::FORBIDDEN);
    assert_eq!(overview(&without)["dashboard"]["actions"], serde_json::json!([]));

    let with = without.token("secret");
    assert_eq!(send(&with, Method::POST, &kill, &same_origin).status, StatusCode::UNAUTHORIZED);
    let wrong = [MARK, ("sec-fetch-site", "same-origin"), ("authorization", "Bearer Secret")];
    assert_eq!(send(&with, Method::POST, &kill, &wrong).status, StatusCode::UNAUTHORIZED);
    assert_eq!(f.snapshot().totals.crashes.killed, 0);
    let offered = send(&with, Method::GET, "/api/v1/overview", &[BEARER]).json();
    assert_eq!(offered["dashboard"]["actions"], serde_json::json!(["kill", "reset", "drain", "pause"]));
    assert_eq!(named(&offered, "double")["name"], "double");
}

#[test]
fn the_cookie_of_the_page_lets_the_page_act_and_no_other_site() {
    let app = App::deployed("acting");
    let _f = well(&app, "double");
    let dashboard = Dashboard::of(&app).token("secret").actions(Actions::RESET);
    let first = send(&dashboard, Method::GET, "/?token=secret", &[]);
    assert_eq!((first.status, first.header("location")), (StatusCode::SEE_OTHER, "?"));
    let cookie = first.header("set-cookie").to_owned();
    let cookie = cookie.split(';').next().expect("a pair");

    let reset = format!("{}/reset", path_of("double"));
    let ask = |more: &[(&str, &str)]| {
        let headers: Vec<_> = [("cookie", cookie)].into_iter().chain(more.iter().copied()).collect();
        send(&dashboard, Method::POST, &reset, &headers).status
    };
    assert_eq!(ask(&[MARK, ("sec-fetch-site", "same-origin")]), StatusCode::OK);
    assert_eq!(ask(&[MARK, ("host", "a"), ("origin", "http://a")]), StatusCode::OK);
    assert_eq!(ask(&[MARK]), StatusCode::FORBIDDEN);
    assert_eq!(ask(&[MARK, ("sec-fetch-site", "cross-site")]), StatusCode::FORBIDDEN);
    assert_eq!(ask(&[("sec-fetch-site", "same-origin")]), StatusCode::FORBIDDEN);
    assert_eq!(ask(&[MARK, ("host", "a"), ("origin", "http://b")]), StatusCode::FORBIDDEN);
}
