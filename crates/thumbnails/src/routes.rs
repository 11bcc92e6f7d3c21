//! [`routes`]: what the service answers.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use longshore::Function;

use crate::health::health;
use crate::picture::{NotMade, Picture, Thumbnail};
use crate::refusal::Refusal;

/// The function that makes thumbnails.
pub type Thumbnails = Function<Picture, Thumbnail, NotMade>;

/// The largest upload in bytes. axum answers 413 to a larger one before it has read it.
pub const UPLOAD_BYTES_MAX: usize = 8 << 20;

/// The routes of the service: `POST /thumbnail` and `GET /health`.
pub fn routes(thumbnails: Thumbnails) -> Router {
    Router::new()
        .route("/thumbnail", post(make))
        .route("/health", get(async |State(thumbnails): State<Thumbnails>| health(&thumbnails)))
        .layer(DefaultBodyLimit::max(UPLOAD_BYTES_MAX))
        .with_state(thumbnails)
}

/// Makes a thumbnail.
///
/// hyper drops this future if the client leaves. That drops the call, which cancels it: a picture that waits
/// is forgotten, and one that is being decoded unwinds at its next checkpoint.
async fn make(State(thumbnails): State<Thumbnails>, upload: Bytes) -> Result<Thumbnail, Refusal> {
    match Refusal::in_crash_loop(&thumbnails.status()) {
        Some(refusal) => Err(refusal),
        None => Ok(thumbnails.call(Picture(upload)).await?),
    }
}

impl IntoResponse for Thumbnail {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, "image/png")], self.0).into_response()
    }
}
