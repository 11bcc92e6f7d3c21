//! The answer to `healthz`: one status for a load balancer or an orchestrator, and a line for each function
//! that does not serve.

use http::StatusCode;

use crate::history::History;
use crate::text::{self, public_name};

/// The functions that are named.
const NAMED_MAX: usize = 64;

/// 200 if every running function serves, and 503 otherwise. See [`Health::is_serving`](longshore::Health).
pub(crate) fn health(history: &History, app_gone: bool) -> (StatusCode, String) {
    if app_gone {
        return (StatusCode::SERVICE_UNAVAILABLE, "the app has ended\n".to_owned());
    }
    let sick = history.running.iter().filter(|it| !it.last.health.is_serving());
    let mut lines = sick.map(|it| {
        let name = text::one_line(&public_name(&it.last.name));
        let cause = it.last.causes.first().map(|cause| text::one_line(&cause.message));
        match cause {
            Some(cause) => format!("{name}: {}: {cause}\n", it.last.health),
            None => format!("{name}: {}\n", it.last.health),
        }
    });
    let named: String = lines.by_ref().take(NAMED_MAX).collect();
    match (named.is_empty(), lines.count()) {
        (true, _) => (StatusCode::OK, "ok\n".to_owned()),
        (false, 0) => (StatusCode::SERVICE_UNAVAILABLE, named),
        (false, more) => (StatusCode::SERVICE_UNAVAILABLE, format!("{named}and {more} more\n")),
    }
}
