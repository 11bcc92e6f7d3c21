//! The adaptor for actix-web, which has an older version of the request and response types.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, Scope, web};
use http::{Method, Request};

use crate::{Dashboard, Peer};

impl Dashboard {
    /// The dashboard as a scope of an actix-web application. The path begins with a slash and has none at its
    /// end.
    ///
    /// As in every mounted dashboard, the login is the application's: wrap the scope in it.
    ///
    /// ```
    /// use actix_web::{App, test};
    /// use longshore_dashboard::Dashboard;
    ///
    /// # actix_web::rt::System::new().block_on(async {
    /// let app = longshore::App::deployed("docs");
    /// let dashboard = Dashboard::of(&app);
    /// let site = test::init_service(App::new().service(dashboard.scope("/ops/longshore"))).await;
    /// let request = test::TestRequest::get().uri("/ops/longshore/healthz").to_request();
    /// assert!(test::call_service(&site, request).await.status().is_success());
    /// # });
    /// ```
    #[must_use]
    pub fn scope(&self, path: &str) -> Scope {
        let dashboard = self.clone();
        let answers = move |request: HttpRequest| std::future::ready(answer(&dashboard, &request));
        web::scope(path).default_service(web::to(answers))
    }
}

fn answer(dashboard: &Dashboard, request: &HttpRequest) -> HttpResponse {
    let Some(request) = converted(request) else { return HttpResponse::BadRequest().finish() };
    let (parts, body) = dashboard.respond(&request).into_parts();
    let status = StatusCode::from_u16(parts.status.as_u16()).expect("both have the same codes");
    let mut response = HttpResponse::build(status);
    for (name, value) in &parts.headers {
        response.append_header((name.as_str(), value.as_bytes()));
    }
    response.body(body)
}

/// The head of the request, with the path below the scope.
fn converted(request: &HttpRequest) -> Option<Request<()>> {
    // The server cuts the body of the answer to a `HEAD` itself, and needs it to know the length.
    let method = match Method::from_bytes(request.method().as_str().as_bytes()).ok()? {
        Method::HEAD => Method::GET,
        method => method,
    };
    let below = request.match_info().unprocessed();
    let path = last_segments(request.uri().path(), below.matches('/').count());
    let uri = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in request.headers() {
        builder = builder.header(name.as_str(), value.as_bytes());
    }
    if let Some(peer) = request.peer_addr() {
        builder = builder.extension(Peer(peer));
    }
    builder.body(()).ok()
}

/// The last segments of a path, with the slash before each. The path below the scope is known only with its
/// escapes resolved, except those for slashes, so the number of segments is the same in both.
fn last_segments(path: &str, count: usize) -> &str {
    let start = path.rmatch_indices('/').take(count).last();
    start.map_or("/", |(at, _)| &path[at..])
}

#[cfg(test)]
mod tests {
    use actix_web::App;
    use actix_web::http::Method;
    use actix_web::test as client;
    use serde_json::Value;

    use super::*;
    use crate::Actions;

    #[test]
    fn the_last_segments_keep_their_escapes() {
        let path = "/ops/longshore/api/v1/functions/a%2Fb%00";
        assert_eq!(last_segments(path, 4), "/api/v1/functions/a%2Fb%00");
        assert_eq!(last_segments("/ops/longshore/", 1), "/");
        assert_eq!(last_segments("/ops/longshore", 0), "/");
    }

    #[test]
    fn a_scope_answers_below_its_path_with_and_without_a_slash() {
        actix_web::rt::System::new().block_on(answers_below_its_path());
    }

    async fn answers_below_its_path() {
        let app = longshore::App::deployed("actix");
        let name = "a/b %2F\u{202e}<script>";
        let _f = app.infallible(name, |n: &u64| *n).containers(1).start().expect("valid settings");
        let dashboard = Dashboard::of(&app);
        let outer = web::scope("/ops").service(dashboard.scope("/longshore"));
        let site = client::init_service(App::new().service(outer)).await;
        let status = async |path: &str| {
            let request = client::TestRequest::get().uri(path).to_request();
            client::call_service(&site, request).await.status().as_u16()
        };
        assert_eq!(status("/ops/longshore").await, 200);
        assert_eq!(status("/ops/longshore/").await, 200);
        assert_eq!(status("/ops/longshore/metrics").await, 200);
        assert_eq!(status("/ops/longshore/nothing").await, 404);
        let escaped: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let request = client::TestRequest::get()
            .uri(&format!("/ops/longshore/api/v1/functions/{escaped}"))
            .to_request();
        let answer: Value = client::call_and_read_body_json(&site, request).await;
        assert_eq!(answer["function"]["name"], name);
    }

    #[test]
    fn the_guard_sees_the_headers() {
        actix_web::rt::System::new().block_on(is_guarded());
    }

    async fn is_guarded() {
        let app = longshore::App::deployed("actix");
        let f = app.infallible("f", |n: &u64| *n).containers(1).start().expect("valid settings");
        f.ready().expect("it starts");
        let dashboard = Dashboard::of(&app).token("secret").actions(Actions::KILL);
        let site = client::init_service(App::new().service(dashboard.scope("/ops"))).await;
        let ask = async |headers: &[(&'static str, &'static str)]| {
            let request =
                client::TestRequest::default().method(Method::POST).uri("/ops/api/v1/functions/f/kill/0");
            let request = headers.iter().fold(request, |request, header| request.insert_header(*header));
            client::call_service(&site, request.to_request()).await.status().as_u16()
        };
        assert_eq!(ask(&[]).await, 401);
        assert_eq!(ask(&[("authorization", "Bearer secret")]).await, 403);
        assert_eq!(ask(&[("authorization", "Bearer secret"), ("x-longshore", "1")]).await, 200);
    }
}
