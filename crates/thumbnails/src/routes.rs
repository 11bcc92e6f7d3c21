//! [`routes`]: what the service answers.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use longshore::{Function, Limits};

use crate::health::health;
use crate::picture::{NotMade, Picture, Thumbnail};
use crate::refusal::Refusal;

/// The function that makes thumbnails.
pub type Thumbnails = Function<Picture, Thumbnail, NotMade>;

/// The largest upload in bytes. axum answers 413 to a larger one before it has read it.
pub const UPLOAD_BYTES_MAX: usize = 8 << 20;

/// The longest time that a request waits for its thumbnail.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(20);

/// The state of the routes.
#[derive(Clone)]
struct Service {
    thumbnails: Thumbnails,
    /// The longest time that a request waits for its thumbnail.
    limit: Duration,
}

/// The routes of the service: `POST /thumbnail` and `GET /health`.
///
/// `limit` is the longest time that a request waits for its thumbnail. See [`REQUEST_LIMIT`].
pub fn routes(thumbnails: Thumbnails, limit: Duration) -> Router {
    Router::new()
        .route("/thumbnail", post(make))
        .route("/health", get(async |State(service): State<Service>| health(&service.thumbnails)))
        .layer(DefaultBodyLimit::max(UPLOAD_BYTES_MAX))
        .with_state(Service { thumbnails, limit })
}

/// Makes a thumbnail.
///
/// hyper drops this future if the client leaves. That drops the call, which cancels it: a picture that waits
/// is forgotten, and one that is being decoded unwinds at its next checkpoint.
async fn make(State(service): State<Service>, upload: Bytes) -> Result<Thumbnail, Refusal> {
    if let Some(refusal) = Refusal::in_crash_loop(&service.thumbnails.status(), service.limit) {
        return Err(refusal);
    }
    let limits = Limits::new().deadline(service.limit);
    Ok(service.thumbnails.call_within(Picture(upload), limits).await?)
}

impl IntoResponse for Thumbnail {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, "image/png")], self.0).into_response()
    }
}
