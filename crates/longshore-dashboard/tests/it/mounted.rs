//! The dashboard within an axum application, under a prefix.

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use longshore::App;
use longshore_dashboard::Dashboard;
use tower_service::Service;

use crate::support::{VALID, well};

/// Sends a request through the application. Returns the status, the headers and the body.
async fn through(router: &mut Router, request: Request<Body>) -> (StatusCode, http::HeaderMap, String) {
    std::future::poll_fn(|cx| Service::<Request<Body>>::poll_ready(router, cx)).await.expect("it is ready");
    let (parts, body) = router.call(request).await.expect("it answers").into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("an answer is small");
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).expect("it is text"))
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "app.example").body(Body::empty()).expect(VALID)
}

#[tokio::test]
async fn a_mounted_dashboard_answers_below_its_prefix_with_and_without_a_slash() {
    let app = App::deployed("mounted");
    let f = well(&app, "a/b");
    f.ready().expect("it starts");
    let dashboard = Dashboard::of(&app);
    let mut router = Router::new().nest_service("/ops/longshore", dashboard);
    for path in ["/ops/longshore", "/ops/longshore/"] {
        let (status, headers, body) = through(&mut router, get(path)).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        assert!(body.starts_with("<!doctype html>"), "{path}");
    }
    let (status, _, body) = through(&mut router, get("/ops/longshore/api/v1/functions/a%2Fb")).await;
    assert!(status == StatusCode::OK && body.contains("\"name\":\"a/b\""), "{body}");
    assert_eq!(through(&mut router, get("/ops/longshore/healthz")).await.0, StatusCode::OK);
    assert_eq!(through(&mut router, get("/api/v1/overview")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_token_becomes_a_cookie_below_any_prefix() {
    let app = App::deployed("mounted");
    let dashboard = Dashboard::of(&app).token("secret");
    let mut router = Router::new().nest_service("/ops/longshore", dashboard);
    let (status, headers, _) = through(&mut router, get("/ops/longshore?token=secret")).await;
    assert_eq!((status, headers["location"].as_bytes()), (StatusCode::SEE_OTHER, &b"?"[..]));
    let cookie =
        headers["set-cookie"].to_str().expect("it is text").split(';').next().expect("a pair").to_owned();
    let mut request = get("/ops/longshore?");
    request.headers_mut().insert("cookie", cookie.parse().expect(VALID));
    assert_eq!(through(&mut router, request).await.0, StatusCode::OK);
    assert_eq!(through(&mut router, get("/ops/longshore?")).await.0, StatusCode::UNAUTHORIZED);
}
