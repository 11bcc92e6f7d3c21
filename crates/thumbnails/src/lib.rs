//! An HTTP service that makes thumbnails. Each picture is decoded in a container, because pictures from
//! strangers are truncated, are no pictures, or are bombs of a few bytes.
//!
//! ```text
//!  POST /thumbnail ──▶ routes ──▶ call ──▶ container 0 ─┐
//!  (a connection          ▲      (at most  container 1 ─┴─▶ PNG, or Failure
//!   that is dropped       │      CALLS_MAX)                       │
//!   cancels its call)     └───────────── Refusal ◀────────────────┘
//!  GET /health ─────▶ routes: is the function serving?
//!  SIGTERM ─────────▶ serve: drains, a second one aborts
//! ```
//!
//! | what happens | answer |
//! |---|---|
//! | the picture is larger than the upload may be, or its decoder needs more memory than a container may use | 413 |
//! | the bytes are no picture, or one that the decoder panics at | 422 |
//! | too many calls wait, the function has given up, is in a crash loop or is ending | 503 with `Retry-After` |
//! | the picture takes too long | 504 |
//! | the client has left | none; the container is free at the next checkpoint |
//!
//! [`picture`] is the work, [`settings`] says how much of it is allowed, and [`serve`] is the server.

mod checked;
mod health;
pub mod picture;
mod refusal;
mod routes;
mod serve;
mod settings;

pub use checked::Checked;
pub use refusal::Refusal;
pub use routes::{REQUEST_LIMIT, Thumbnails, UPLOAD_BYTES_MAX, routes};
pub use serve::serve;
pub use settings::{CALLS_MAX, DECODE_LIMIT, MEMORY_BYTES_MAX, settings};
