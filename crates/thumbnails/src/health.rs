//! The health check: whether the function makes thumbnails, and the numbers that say why not.

use std::fmt::Write;

use axum::http::StatusCode;
use longshore::ReserveError;

use crate::routes::Thumbnails;

/// Answers 200 while thumbnails are made, and 503 otherwise: in a crash loop, while all containers hang,
/// after giving up, and from the signal on that ends the service. The text has a line for each number.
pub(crate) fn health(thumbnails: &Thumbnails) -> (StatusCode, String) {
    let (snapshot, status) = (thumbnails.snapshot(), thumbnails.status());
    // A function that drains takes no call. One that is full takes none at the moment, and is healthy.
    let is_ending = matches!(thumbnails.try_reserve(), Err(ReserveError::ShutDown));
    let word = if is_ending { "ending" } else { snapshot.health.as_str() };
    let (containers, totals, calls) = (status.containers, &snapshot.totals, status.calls);
    let lines = [
        ("live", containers.live as u64),
        ("abandoned", containers.abandoned as u64),
        ("executing", status.executing),
        ("pending", calls.pending),
        ("overloaded", calls.overloaded),
        ("ok", totals.ok),
        ("failed", totals.failed),
        ("poisoned", totals.poisoned),
        ("cancelled", totals.cancelled),
        ("crashes", totals.crashes.crashes()),
    ];
    let mut text = format!("health {word}\n");
    for (name, number) in lines {
        writeln!(text, "{name} {number}").expect("a string can be written to");
    }
    let is_healthy = snapshot.health.is_serving() && !is_ending;
    (if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}
