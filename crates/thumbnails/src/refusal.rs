//! [`Refusal`]: why a request has no thumbnail, as an answer of HTTP.

use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use longshore::{Cause, Death, Failure, Status};

use crate::picture::{NotMade, Picture};

/// When a client may try again if there were too many calls. By then most of them have an outcome.
const OVERLOADED: Duration = Duration::from_secs(1);

/// When a client may try again if the service is ending. By then another process has taken its place.
const ENDING: Duration = Duration::from_secs(5);

/// When a client may try again if an operator has to do something before.
const GAVE_UP: Duration = Duration::from_secs(60);

/// An answer without a thumbnail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// The least time until the client may try again, if that can help.
    pub retry_after: Option<Duration>,
    /// The reason in words.
    pub why: String,
}

impl Refusal {
    /// A refusal of this picture, which would be refused again.
    fn for_good(status: StatusCode, why: String) -> Self {
        Self { status, retry_after: None, why }
    }

    /// A refusal that has nothing to do with the picture.
    fn for_now(retry_after: Duration, why: String) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: Some(retry_after), why }
    }

    /// The refusal of a request that took too long.
    fn timed_out(limit: Duration) -> Self {
        Self::for_good(StatusCode::GATEWAY_TIMEOUT, format!("there was no thumbnail within {limit:?}"))
    }

    /// The refusal of each request while no container lives, and none may be started within the `limit` of
    /// the request. The call would wait until its client gets a 504.
    pub(crate) fn in_crash_loop(status: &Status, limit: Duration) -> Option<Self> {
        let delay = status.crash_loop.as_ref()?.next_restart?;
        (status.containers.live == 0 && delay >= limit)
            .then(|| Self::for_now(delay, "the containers crash again and again".to_owned()))
    }
}

/// The answer to a call that failed.
impl From<Failure<Picture, NotMade>> for Refusal {
    fn from(failure: Failure<Picture, NotMade>) -> Self {
        let why = failure.to_string();
        match failure.cause() {
            Cause::Failed(NotMade::TooLarge(_)) => Self::for_good(StatusCode::PAYLOAD_TOO_LARGE, why),
            Cause::Failed(NotMade::NotAPicture(_)) => Self::for_good(StatusCode::UNPROCESSABLE_ENTITY, why),
            Cause::Poisoned(deaths) => match deaths.last().map(|crash| &crash.death) {
                Some(Death::MemoryLimit { .. }) => Self::for_good(StatusCode::PAYLOAD_TOO_LARGE, why),
                // The decoder has panicked at this picture, and would panic at it again.
                _ => Self::for_good(StatusCode::UNPROCESSABLE_ENTITY, why),
            },
            Cause::TimedOut { limit } | Cause::DeadlineExceeded { limit, .. } => Self::timed_out(*limit),
            Cause::Overloaded { .. } => Self::for_now(OVERLOADED, why),
            // A container was killed by hand, and the next one is not to blame for it.
            Cause::Lost(_) => Self::for_now(OVERLOADED, why),
            Cause::GaveUp(_) => Self::for_now(GAVE_UP, why),
            Cause::ShutDown | Cause::Cancelled => Self::for_now(ENDING, why),
            _ => Self::for_good(StatusCode::INTERNAL_SERVER_ERROR, why),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = format!("{}\n", self.why);
        match self.retry_after {
            // The header has whole seconds, and at zero a client would come back at once.
            Some(delay) => {
                let seconds = delay.as_secs_f64().ceil().max(1.0);
                (self.status, [(RETRY_AFTER, seconds.to_string())], text).into_response()
            }
            None => (self.status, text).into_response(),
        }
    }
}
