//! The routes and their answers.

use http::{Method, StatusCode};
use longshore::App;
use longshore_dashboard::Dashboard;

use crate::support::{get, named, overview, path_of, send, sick, until, well};

#[test]
fn the_overview_shows_each_function_with_its_health_and_cause() {
    let app = App::deployed("routes");
    let dashboard = Dashboard::of(&app);
    let (double, _sick) = (well(&app, "double"), sick(&app, "fetch", "the registry is down"));
    double.ready_all().expect("both of its containers start"); // the overview shows both
    assert_eq!(double.run(vec![1, 2, 3]).expect("it cannot fail"), [2, 4, 6]);

    let overview = overview(&dashboard);
    assert_eq!((&overview["v"], &overview["app"]["name"]), (&1.into(), &"routes".into()));
    assert_eq!(overview["process"], std::process::id());
    assert_eq!(overview["dashboard"]["actions"], serde_json::json!([]));
    let double = named(&overview, "double");
    assert_eq!((&double["health"], &double["totals"]["ok"]), (&"serving".into(), &3.into()));
    assert_eq!((&double["states"], double.get("cause")), (&"ll".into(), None), "what is absent is left out");
    let fetch = named(&overview, "fetch");
    assert_eq!((&fetch["health"], &fetch["states"]), (&"crash_loop".into(), &"b".into()));
    assert_eq!(fetch["cause"]["message"], "the registry is down");
    let next = fetch["crash_loop"]["next_restart_ms"].as_u64().expect("a moment");
    assert!(next > overview["now_ms"].as_u64().expect("a moment"), "it is on the same clock");
}

#[test]
fn the_answer_about_a_function_is_its_whole_snapshot() {
    let app = App::deployed("routes");
    let dashboard = Dashboard::of(&app);
    let f = sick(&app, "fetch", "the registry is down");
    let answer = get(&dashboard, &path_of("fetch")).json();
    assert_eq!((&answer["ended"], &answer["app"]["name"]), (&false.into(), &"routes".into()));
    let function = &answer["function"];
    assert_eq!(function["crashes"][1]["message"], "the registry is down");
    assert_eq!(function["rows"][0]["state"], "backing_off");
    assert_eq!(function["totals"]["poisoned"], f.snapshot().totals.poisoned);
    assert_eq!(get(&dashboard, &path_of("other")).status, StatusCode::NOT_FOUND);
}

#[test]
fn series_and_strips_come_with_the_first_full_second() {
    let app = App::deployed("routes");
    let dashboard = Dashboard::of(&app);
    let f = well(&app, "double");
    f.run(vec![1; 100]).expect("it cannot fail");
    let mut answer = serde_json::Value::Null;
    until("two seconds are sampled", || {
        answer = get(&dashboard, &path_of("double")).json();
        answer["series"]["seconds"]["ok"].as_array().is_some_and(|seconds| seconds.len() >= 2)
    });
    let seconds = &answer["series"]["seconds"];
    let ok: u64 =
        seconds["ok"].as_array().expect("a list").iter().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(ok, 100, "a function that is younger than the dashboard is counted from its start");
    let (end, now) = (seconds["end_ms"].as_u64(), answer["now_ms"].as_u64());
    assert!(end <= now && end >= now.map(|now| now.saturating_sub(5_000)), "{end:?} {now:?}");
    let strips = &answer["strips"]["rows"];
    assert_eq!((&strips[0]["container"], &strips[1]["container"]), (&0.into(), &1.into()));
    assert!(strips[0]["states"].as_str().is_some_and(|states| states.contains('l')), "{strips}");
    assert_eq!(named(&overview(&dashboard), "double")["spark"]["step_ms"], 10_000);
}

#[test]
fn a_function_that_has_ended_is_still_shown() {
    let app = App::deployed("routes");
    let dashboard = Dashboard::of(&app);
    let f = well(&app, "double");
    f.run(vec![1, 2, 3]).expect("it cannot fail");
    assert_eq!(named(&overview(&dashboard), "double")["totals"]["ok"], 3);
    f.run(vec![4]).expect("it cannot fail");
    app.shutdown_blocking();

    let overview = overview(&dashboard);
    assert_eq!(overview["dashboard"]["app_gone"], true);
    assert_eq!(overview["functions"], serde_json::json!([]));
    let ended = &overview["ended"][0];
    assert_eq!((&ended["name"], &ended["health"]), (&"double".into(), &"ended".into()));
    assert_eq!(ended["totals"]["ok"], 4, "the last snapshot is of the end");
    assert_eq!(ended["report"]["threads_running"], 0);
    let answer = get(&dashboard, &path_of("double")).json();
    assert_eq!((&answer["ended"], &answer["function"]["health"]), (&true.into(), &"ended".into()));
}

#[test]
fn a_function_that_outlives_its_app_is_shown_as_it_is() {
    let app = App::deployed("routes");
    let dashboard = Dashboard::of(&app);
    let f = well(&app, "double");
    assert_eq!(named(&overview(&dashboard), "double")["totals"]["ok"], 0);
    drop(app);
    f.run(vec![1, 2]).expect("it goes on while there is a handle");
    let shown = overview(&dashboard);
    assert_eq!(shown["dashboard"]["app_gone"], true);
    assert_eq!(
        (&named(&shown, "double")["totals"]["ok"], &shown["ended"]),
        (&2.into(), &serde_json::json!([]))
    );
    drop(f);
    until("it ends with its last handle", || overview(&dashboard)["ended"][0]["totals"]["ok"] == 2);
    assert_eq!(overview(&dashboard)["functions"], serde_json::json!([]));
}

#[test]
fn a_name_that_is_used_again_is_another_function() {
    let app = App::deployed("routes");
    let dashboard = Dashboard::of(&app);
    for runs in 1..=20 {
        let f = well(&app, "tenant");
        f.run(vec![1]).expect("it cannot fail");
        assert_eq!(named(&overview(&dashboard), "tenant")["totals"]["ok"], 1, "run {runs}");
        f.abort();
        drop(f);
        until("the name is free again", || app.functions().is_empty());
    }
    let ended = overview(&dashboard)["ended"].as_array().map(Vec::len);
    assert_eq!(ended, Some(16), "the last ones are kept");
}

#[test]
fn the_health_says_which_function_does_not_serve_and_why() {
    let app = App::deployed("routes");
    let dashboard = Dashboard::of(&app);
    let double = well(&app, "double");
    double.ready().expect("it starts");
    let health = get(&dashboard, "/healthz");
    assert_eq!((health.status, health.text()), (StatusCode::OK, "ok\n"));
    let _sick = sick(&app, "fetch", "the registry\nis down");
    let health = get(&dashboard, "/healthz");
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(health.text(), "fetch: crash loop: the registry\u{fffd}is down\n");
    app.abort();
    let health = get(&dashboard, "/healthz");
    assert_eq!((health.status, health.text()), (StatusCode::SERVICE_UNAVAILABLE, "the app has ended\n"));
}

#[test]
fn every_answer_is_guarded_against_its_surroundings() {
    let app = App::deployed("routes");
    let dashboard = Dashboard::of(&app);
    for path in ["/", "/api/v1/overview", "/metrics", "/healthz", "/report", "/nothing"] {
        let answer = get(&dashboard, path);
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
        assert!(answer.header("content-security-policy").contains("default-src 'none'"), "{path}");
        assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{path}");
        assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "{path}");
    }
}

#[test]
fn a_head_request_is_answered_without_the_body() {
    let app = App::deployed("routes");
    let dashboard = Dashboard::of(&app);
    let (head, full) = (send(&dashboard, Method::HEAD, "/", &[]), get(&dashboard, "/"));
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert_eq!(head.header("content-length"), full.body.len().to_string());
}

#[test]
fn other_methods_are_refused() {
    let app = App::deployed("routes");
    let dashboard = Dashboard::of(&app);
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS, Method::TRACE] {
        let answer = send(&dashboard, method.clone(), "/", &[]);
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.header("allow"), "GET, HEAD");
    }
    let origin = [("x-longshore", "1"), ("sec-fetch-site", "same-origin")];
    assert_eq!(send(&dashboard, Method::POST, "/metrics", &origin).status, StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn a_thousand_functions_do_not_make_an_answer_too_long() {
    let app = App::deployed("routes");
    let name = |n: usize| format!("{}{n:04}", "\u{1}".repeat(251)); // each byte is six in JSON
    let start = |n: usize| app.infallible(&name(n), |n: &u64| *n).containers(1).start().expect("valid");
    let _functions: Vec<_> = (0..500).map(start).collect();
    let dashboard = Dashboard::of(&app);
    for path in ["/", "/api/v1/overview", "/metrics", "/healthz", "/report"] {
        let length = get(&dashboard, path).body.len();
        assert!(length <= 1 << 20, "{path}: {length}");
    }
    let overview = overview(&dashboard);
    let shown = overview["functions"].as_array().expect("a list").len() as u64;
    let omitted = overview["functions_omitted"].as_u64().expect("a number");
    assert_eq!(shown + omitted, 500);
    assert!(omitted > 0 && shown > 100, "{shown} are shown");
}
