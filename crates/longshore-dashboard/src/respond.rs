//! From a request to a response: the routes, and what each answers.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use longshore::ContainerId;

use crate::actions::{Action, Outcome};
use crate::document;
use crate::guard::{Admission, Refusal};
use crate::health;
use crate::history::{History, Remembered};
use crate::json;
use crate::metrics::{self, Of};
use crate::report;
use crate::text::{percent_decoded, public_name};
use crate::{Dashboard, Peer};

/// The largest answer, in bytes.
const ANSWER_MAX: usize = 1 << 20;

/// The things that can be read.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    Document,
    Overview,
    Function(String),
    Metrics,
    Health,
    Report,
}

/// The path below which the functions are.
const FUNCTIONS: &str = "api/v1/functions/";

impl Read {
    /// The thing that a path names, or `None`. The path begins below the path under which the dashboard is
    /// mounted.
    fn of(path: &str) -> Option<Self> {
        match path.strip_prefix('/').unwrap_or(path) {
            "" => Some(Self::Document),
            "api/v1/overview" => Some(Self::Overview),
            "healthz" => Some(Self::Health),
            "metrics" => Some(Self::Metrics),
            "report" => Some(Self::Report),
            // A proxy may have decoded a slash within the name.
            path => Some(Self::Function(percent_decoded(path.strip_prefix(FUNCTIONS)?)?)),
        }
    }
}

/// The action that a path names, and the function.
fn action_of(path: &str) -> Option<(String, Action)> {
    let path = path.strip_prefix('/').unwrap_or(path).strip_prefix(FUNCTIONS)?;
    let (before, last) = path.rsplit_once('/')?;
    let (name, action) = match last {
        "reset" => (before, Action::Reset),
        "drain" => (before, Action::Drain),
        "pause" => (before, Action::Pause),
        "resume" => (before, Action::Resume),
        container => {
            let is_number = !container.is_empty() && container.bytes().all(|byte| byte.is_ascii_digit());
            let container = container.parse().ok().filter(|_| is_number)?;
            (before.strip_suffix("/kill")?, Action::Kill(ContainerId::new(container)))
        }
    };
    Some((percent_decoded(name)?, action))
}

/// The response to a request.
pub(crate) fn respond<B>(dashboard: &Dashboard, request: &Request<B>) -> Response<Bytes> {
    let mut response = match dashboard.settings.guard.admit(request) {
        Ok(Admission::Admitted) if *request.method() == Method::POST => act(dashboard, request),
        Ok(Admission::Admitted) => match Read::of(request.uri().path()) {
            Some(what) => read(dashboard, &what),
            None => nothing_here(),
        },
        Ok(Admission::ToCookie(cookie)) => to_cookie(&cookie),
        Err(refusal) => refused(refusal),
    };
    if *request.method() == Method::HEAD {
        response.body_mut().clear(); // the header `content-length` still says how long it would be
    }
    response
}

fn read(dashboard: &Dashboard, what: &Read) -> Response<Bytes> {
    let (look, history) = dashboard.watched.look();
    let head = dashboard.head(&look);
    match what {
        Read::Document => {
            let policy = HeaderValue::from_static(document::policy());
            let mut response = whole(StatusCode::OK, HTML, document::document(&history, None));
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
            response
        }
        Read::Overview => json(StatusCode::OK, json::overview(&head, &history, ANSWER_MAX).get()),
        Read::Function(name) => match find(&history, name) {
            Some((function, ended)) => {
                json(StatusCode::OK, json::function(&head, function, ended, ANSWER_MAX).get())
            }
            None => plain(StatusCode::NOT_FOUND, "there is no function of this name\n"),
        },
        Read::Metrics => {
            let of = Of::new(&look, dashboard.settings.each_container);
            whole(StatusCode::OK, metrics::CONTENT_TYPE, metrics::metrics(&of, &history, ANSWER_MAX))
        }
        Read::Health => {
            let (status, text) = health::health(&history, look.app_gone);
            whole(status, PLAIN, text)
        }
        Read::Report => {
            let mut response = whole(StatusCode::OK, HTML, report::report(&head, &history, ANSWER_MAX));
            let download = HeaderValue::from_static("attachment; filename=\"longshore.html\"");
            response.headers_mut().insert(header::CONTENT_DISPOSITION, download);
            response
        }
    }
}

/// The function with this name that runs, or else the last one that ended.
fn find<'a>(history: &'a History, name: &str) -> Option<(&'a Remembered, bool)> {
    let is_it = |it: &&Remembered| public_name(&it.last.name) == name;
    let running = history.running.iter().find(is_it).map(|it| (it, false));
    running.or_else(|| history.ended.iter().rev().find(is_it).map(|it| (it, true)))
}

fn act<B>(dashboard: &Dashboard, request: &Request<B>) -> Response<Bytes> {
    let path = request.uri().path();
    let allowed = dashboard.settings.actions;
    let Some((name, action)) = action_of(path).filter(|(_, action)| allowed.contains(action.kind())) else {
        return match Read::of(path) {
            Some(Read::Function(_)) | None => nothing_here(), // an action that is off has no address
            Some(_) => {
                refused(Refusal { status: StatusCode::METHOD_NOT_ALLOWED, why: "this is only read\n" })
            }
        };
    };
    if dashboard.settings.guard.token.is_none() {
        return plain(StatusCode::FORBIDDEN, "actions need a token, and the dashboard has none\n");
    }
    let (_, history) = dashboard.watched.look();
    let found = history.running.iter().find(|it| public_name(&it.last.name) == name);
    let Some(function) = found.and_then(|it| it.function.clone()) else {
        return plain(StatusCode::NOT_FOUND, "no function of this name runs\n");
    };
    drop(history); // the engine may be slow to answer
    let outcome = action.perform(&function);
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    tracing::info!(function = ?function.name(), ?action, ?outcome, ?peer, "an action was asked for");
    match outcome {
        Outcome::Done(done) => json(StatusCode::OK, &format!("{{\"done\":{done}}}")),
        Outcome::Pending => json(StatusCode::ACCEPTED, "{\"done\":false,\"pending\":true}"),
        Outcome::Refused => plain(StatusCode::SERVICE_UNAVAILABLE, "too many actions wait for the engine\n"),
    }
}

fn nothing_here() -> Response<Bytes> {
    plain(StatusCode::NOT_FOUND, "there is nothing at this address\n")
}

/// The cookie, and the address without its query. The reference `?` is relative, because the dashboard does
/// not know under which path it is mounted.
fn to_cookie(cookie: &str) -> Response<Bytes> {
    let mut response = plain(StatusCode::SEE_OTHER, "the token is in a cookie now\n");
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_static("?"));
    let cookie = HeaderValue::from_str(cookie).expect("it is made of hexadecimal digits and fixed words");
    headers.insert(header::SET_COOKIE, cookie);
    response
}

fn refused(refusal: Refusal) -> Response<Bytes> {
    let Refusal { status, why } = refusal;
    let mut response = plain(status, why);
    let more = match status {
        StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
        StatusCode::METHOD_NOT_ALLOWED => Some((header::ALLOW, "GET, HEAD")),
        _ => None,
    };
    if let Some((name, value)) = more {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

const HTML: &str = "text/html; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

fn json(status: StatusCode, text: &str) -> Response<Bytes> {
    whole(status, "application/json", text.to_owned())
}

fn plain(status: StatusCode, text: &str) -> Response<Bytes> {
    whole(status, PLAIN, text.to_owned())
}

fn whole(status: StatusCode, content_type: &'static str, body: String) -> Response<Bytes> {
    let length = HeaderValue::from(body.len());
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
    headers.insert(header::CONTENT_LENGTH, length);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_begins_with_a_slash_or_not() {
        for path in ["", "/"] {
            assert_eq!(Read::of(path), Some(Read::Document));
        }
        assert_eq!(Read::of("/healthz"), Some(Read::Health));
        assert_eq!(Read::of("metrics"), Some(Read::Metrics));
        for path in ["/x", "//", "/healthz/", "/api/v1/functions", "/api/v2/overview"] {
            assert_eq!(Read::of(path), None, "{path}");
        }
    }

    #[test]
    fn the_name_of_a_function_may_have_slashes_and_any_character() {
        let name = |name: &str| Some(Read::Function(name.to_owned()));
        assert_eq!(Read::of("/api/v1/functions/a%2Fb"), name("a/b"));
        assert_eq!(Read::of("/api/v1/functions/a/b"), name("a/b"));
        assert_eq!(Read::of("/api/v1/functions/%00%E2%80%AE"), name("\0\u{202e}"));
        assert_eq!(Read::of("/api/v1/functions/%ff"), None, "no UTF-8");
    }

    #[test]
    fn an_action_stands_behind_the_name() {
        let action = |path: &str| action_of(&format!("/api/v1/functions/{path}"));
        let kill = Action::Kill(ContainerId::new(12));
        assert_eq!(action("a%2Fb/kill/12"), Some(("a/b".to_owned(), kill)));
        assert_eq!(action("a/b/kill/12"), Some(("a/b".to_owned(), kill)));
        assert_eq!(action("reset/reset"), Some(("reset".to_owned(), Action::Reset)));
        assert_eq!(action("x/drain"), Some(("x".to_owned(), Action::Drain)));
        assert_eq!(action("x/pause"), Some(("x".to_owned(), Action::Pause)));
        assert_eq!(action("pause/resume"), Some(("pause".to_owned(), Action::Resume)));
        for wrong in
            ["reset", "x/kill", "x/kill/", "x/kill/+1", "x/kill/-1", "x/kill/4294967296", "x/12", "x/stop"]
        {
            assert_eq!(action(wrong), None, "{wrong}");
        }
    }
}
