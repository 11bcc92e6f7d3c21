//! From a request to a response: the routes.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use crate::Dashboard;
use crate::document;
use crate::history::History;
use crate::json::{self, Head};
use crate::text::{percent_decoded, public_name};

/// The largest answer, in bytes.
pub(crate) const ANSWER_MAX: usize = 1 << 20;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Document,
    Overview,
    Function(String),
}

impl Route {
    /// The route of a path. It begins below the path under which the dashboard is mounted.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let path = path.strip_prefix('/').unwrap_or(path);
        match path {
            "" => Some(Self::Document),
            "api/v1/overview" => Some(Self::Overview),
            path => {
                let name = path.strip_prefix("api/v1/functions/")?;
                Some(Self::Function(percent_decoded(name)?))
            }
        }
    }
}

pub(crate) fn respond<B>(dashboard: &Dashboard, request: &Request<B>) -> Response<Bytes> {
    let Some(route) = Route::of(request.uri().path()) else {
        return plain(StatusCode::NOT_FOUND, "there is nothing at this address\n");
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here\n");
    }
    let mut response = read(dashboard, &route);
    if *request.method() == Method::HEAD {
        response.body_mut().clear();
    }
    response
}

fn read(dashboard: &Dashboard, route: &Route) -> Response<Bytes> {
    let look = dashboard.look();
    let head = Head::of(&look, Vec::new());
    let mut history = dashboard.history();
    history.see(look);
    match route {
        Route::Document => {
            let mut response =
                of(StatusCode::OK, "text/html; charset=utf-8", document::document(&history, None));
            response
                .headers_mut()
                .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(document::policy()));
            response
        }
        Route::Overview => json(json::overview(&head, &history, ANSWER_MAX).get()),
        Route::Function(name) => match find(&history, name) {
            Some((function, ended)) => json(json::function(&head, function, ended, ANSWER_MAX).get()),
            None => plain(StatusCode::NOT_FOUND, "there is no function of this name\n"),
        },
    }
}

/// The function with this name that runs, or else the last that ended.
pub(crate) fn find<'a>(history: &'a History, name: &str) -> Option<(&'a crate::history::Remembered, bool)> {
    let running = history.running.iter().find(|it| public_name(&it.last.name) == name);
    let ended = || history.ended.iter().rev().find(|it| public_name(&it.last.name) == name);
    running.map(|it| (it, false)).or_else(|| ended().map(|it| (it, true)))
}

fn json(text: &str) -> Response<Bytes> {
    of(StatusCode::OK, "application/json", text.to_owned())
}

pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Bytes> {
    of(status, "text/plain; charset=utf-8", text.to_owned())
}

fn of(status: StatusCode, content_type: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let length = HeaderValue::from(response.body().len());
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}
