//! The dashboard as a part of an axum application, behind the login of the application.
//!
//! `cargo run -p longshore-dashboard --example axum_behind_a_login -- serve` prints the address, and goes on
//! until it is interrupted. `curl -H 'session: operator' ADDRESS/ops/longshore/metrics` reads the metrics.

mod client;

use std::error::Error;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use longshore::App;
use longshore_dashboard::Dashboard;
use tokio::net::TcpListener;

/// This stands for the login of your application. The dashboard has none, and shows names and panic messages.
async fn operators_only(request: Request, next: Next) -> Response {
    match request.headers().get("session").is_some_and(|session| session == "operator") {
        true => next.run(request).await,
        false => StatusCode::FORBIDDEN.into_response(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = App::deployed("shop");
    let price = app.infallible("price", |quantity: &u64| 3 * quantity).containers(2).start()?;
    assert_eq!(price.call(4).await?, 12);

    let operations =
        Router::new().nest_service("/ops/longshore", Dashboard::of(&app)).layer(from_fn(operators_only));
    let site = Router::new().route("/", get(async || "the shop")).merge(operations);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("http://{address}/ops/longshore");
    let server = tokio::spawn(async move { axum::serve(listener, site).await });

    if std::env::args().nth(1).is_none() {
        let ask = move |path: &'static str, headers: &'static str| {
            tokio::task::spawn_blocking(move || client::get(address, path, headers))
        };
        println!("without a login: {}", ask("/ops/longshore/healthz", "").await??.0);
        let (status, health) = ask("/ops/longshore/healthz", "session: operator\r\n").await??;
        println!("with one: {status}, {}", health.trim_end());
        server.abort();
    }
    let _ = server.await; // an abort is no error here
    println!("ended well: {}", app.shutdown().await.is_clean());
    Ok(())
}
