//! Requests of any kind: none makes the dashboard panic or answer at length.

use std::sync::LazyLock;

use http::{Method, Request};
use longshore::App;
use longshore_dashboard::{Actions, Dashboard};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{Numbers, VALID, ask, exchange, path_of, sick, well};

/// An app with functions of strange names.
struct World {
    app: App,
    _functions: Vec<Numbers>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let app = App::deployed("requests");
    let functions = vec![well(&app, "f"), well(&app, "%2F/kill/0"), sick(&app, "..", &"</".repeat(1 << 16))];
    World { app, _functions: functions }
});

fn dashboards() -> impl Strategy<Value = Dashboard> {
    static OPEN: LazyLock<Dashboard> = LazyLock::new(|| Dashboard::of(&WORLD.app));
    let closed =
        || OPEN.clone().token("secret").actions(Actions::KILL | Actions::RESET).allow_host("a.example");
    prop_oneof![Just(()).prop_map(|()| OPEN.clone()), Just(()).prop_map(move |()| closed())]
}

fn paths() -> impl Strategy<Value = String> {
    let known = ["/", "/api/v1/overview", "/metrics", "/healthz", "/report", "/api/v1/functions/f", "*", ""];
    let known = select(known.map(str::to_owned).to_vec());
    let function = (".*", "(/kill/[0-9]{0,12}|/reset|/drain|/pause|/resume)?")
        .prop_map(|(name, rest)| path_of(&name) + &rest);
    let query = "(\\?token=(secret|%73ecret|.{0,9}))?";
    (prop_oneof![known, function, "[ -~]{0,40}", "/(%[0-9a-fA-F%]{0,2}|[a-z/.]){0,30}"], query)
        .prop_map(|(path, query)| path + &query)
}

fn methods() -> impl Strategy<Value = String> {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    prop_oneof![select(known.map(str::to_owned).to_vec()), "[A-Za-z-]{1,12}"]
}

fn headers() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let known = [
        "host",
        "origin",
        "sec-fetch-site",
        "x-longshore",
        "authorization",
        "cookie",
        "content-length",
        "transfer-encoding",
        "accept-encoding",
        "range",
        "if-none-match",
        "upgrade",
    ];
    let names = prop_oneof![select(known.map(str::to_owned).to_vec()), "[a-z-]{1,20}"];
    let values = [
        "1",
        "a.example",
        "http://a.example",
        "same-origin",
        "Bearer secret",
        "null",
        "chunked",
        "[::1",
        "@:",
    ];
    let values =
        prop_oneof![select(values.map(|it| it.as_bytes().to_vec()).to_vec()), vec(any::<u8>(), 0..40)];
    vec((names, values), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_request_makes_the_dashboard_panic_or_answer_at_length(
        dashboard in dashboards(),
        (method, path, headers) in (methods(), paths(), headers()),
    ) {
        let builder = Request::builder().method(method.as_str()).uri(path.as_str());
        let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(name, &value[..]));
        let Ok(request) = builder.body(()) else { return Ok(()) }; // it is none
        let response = dashboard.respond(&request);
        prop_assert!(response.body().len() <= 1 << 20);
        let status = response.status().as_u16();
        prop_assert!([200, 202, 303, 401, 403, 404, 405, 421, 503].contains(&status), "{status}");
        if *request.method() == Method::HEAD {
            prop_assert!(response.body().is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_keep_the_own_server_from_answering_the_next_client(
        noise in vec(any::<u8>(), 1..2000),
        (method, path, headers) in (methods(), paths(), headers()),
    ) {
        static PAGE: LazyLock<longshore_dashboard::Page> =
            LazyLock::new(|| Dashboard::of(&WORLD.app).serve("127.0.0.1:0").expect(VALID));
        let mut bytes = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
        for (name, value) in &headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"connection: close\r\n\r\n");
        bytes.extend_from_slice(&noise);
        for bytes in [&bytes, &noise] {
            let mut ended = bytes.clone();
            ended.extend_from_slice(b"\r\n\r\n\r\n\r\n"); // so that the server does not wait for the rest
            let answer = exchange(PAGE.address(), &ended);
            prop_assert!(answer.len() <= (1 << 20) + 2048);
        }
        prop_assert!(ask(PAGE.address(), "/api/v1/overview", "localhost").starts_with("HTTP/1.1 200"));
    }
}
