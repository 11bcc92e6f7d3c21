//! A page, JSON and Prometheus metrics for the functions of a [`longshore`] app.
//!
//! The page shows which function is in trouble, and why: the cause with its place in the code, how often and
//! since when, and when the next restart comes or how near the function is to giving up. It also shows each
//! container over the last two minutes, the inputs, the maps and the log.
//!
//! ```
//! use longshore::App;
//! use longshore_dashboard::Dashboard;
//!
//! let app = App::deployed("crawler");
//! let page = Dashboard::of(&app).serve("127.0.0.1:0")?;
//! println!("{}", page.url());
//! // … start functions and work with them. The page shows them as they come and go.
//! # Ok::<(), longshore_dashboard::ServeError>(())
//! ```
//!
//! A [`Dashboard`] keeps neither the app nor a function alive, and never delays an end. It is one function
//! from a request to a response ([`Dashboard::respond`]), which is polled. Nothing is pushed, so no
//! connection is open while the page is hidden, and a server with open pages shuts down at once.
//!
//! # Where it is served
//!
//! | your program has | use | example |
//! |---|---|---|
//! | no server | [`Dashboard::serve`] (feature `serve`, on by default) | `plain_main` |
//! | axum, or another router of tower services | `nest_service("/ops/longshore", dashboard)` | `axum_behind_a_login` |
//! | actix-web | `service(dashboard.scope("/ops/longshore"))` (feature `actix-web`) | `actix_web` |
//! | anything else | [`Dashboard::respond`] | |
//! | ended | [`Dashboard::save_report`], [`Dashboard::report_on_drop`] | `plain_main` |
//!
//! The page works under any path, also behind a proxy that strips a part of it: it takes its addresses from
//! the address bar. The dashboard must get the rest of the path, as `nest_service` passes it on.
//!
//! # Routes
//!
//! | request | answer |
//! |---|---|
//! | `GET` the path itself | [the page](#the-page) |
//! | `GET api/v1/overview` | [the app and each function in short](#the-overview), as JSON |
//! | `GET api/v1/functions/NAME` | [one function in full](#one-function), as JSON |
//! | `POST api/v1/functions/NAME/kill/ID`, `…/reset`, `…/drain`, `…/pause`, `…/resume` | [an action](#actions) |
//! | `GET metrics` | [the metrics](#metrics), as text for Prometheus |
//! | `GET healthz` | [200 or 503](#health) |
//! | `GET report` | [the report](#reports) as a download |
//!
//! `HEAD` is answered like `GET`, without the body. An answer has at most 1 MiB. A list that is too long for
//! it is cut, and what was left out is counted: in `functions_omitted`, and in `NAME_cut` beside a list
//! `NAME`. A text that was cut ends in `…`.
//!
//! ## The page
//!
//! One document holds the style and the script, and fetches only the JSON below. Without script it is a
//! table of the numbers.
//!
//! ## The overview
//!
//! All moments are whole milliseconds on one monotonic clock (`now_ms`), which began at `started_unix_ms`. A
//! value that is not known is absent, and never 0. Fields and words are only ever added within version 1
//! (`v`).
//!
//! ```
//! # use http::Request;
//! # use longshore::App;
//! # use longshore_dashboard::Dashboard;
//! # let app = App::deployed("docs");
//! # let f = app.infallible("double", |n: &u64| 2 * n).containers(2).start()?;
//! # f.run(vec![1, 2, 3])?;
//! let response = Dashboard::of(&app).respond(&Request::get("/api/v1/overview").body(())?);
//! let overview: serde_json::Value = serde_json::from_slice(response.body())?;
//! let function = &overview["functions"][0];
//! assert_eq!(function["name"], "double");
//! assert_eq!(function["totals"]["ok"], 3);
//! assert_eq!(function["states"].as_str().unwrap().len(), 2); // one letter for each container
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | field | holds |
//! |---|---|
//! | `longshore`, `process`, `started_unix_ms`, `now_unix_ms`, `now_ms` | as in [`Snapshot`](longshore::Snapshot) |
//! | `app` | as in [`AppSnapshot`](longshore::snapshot::AppSnapshot) |
//! | `dashboard` | its `version`, the `actions` that it offers, and whether the app is gone (`app_gone`) |
//! | `functions` | the functions that run, in the order of their start |
//! | `ended` | the last 16 that have ended, oldest first, with their reports |
//!
//! A function has fields of its [`FunctionSnapshot`](longshore::FunctionSnapshot) under the same names. In
//! addition it has `oldest` (the oldest execution), `cause` (the most recent cause of crashes), the number of
//! open `maps`, and these:
//!
//! * `states`: a letter for each container. `s` starting, `l` live, `e` exiting, `b` backing off, `x`
//!   stopped, and `a` for each abandoned thread.
//! * `spark`: the last ten minutes in steps of ten seconds, newest last. The newest step may not be over. In
//!   all series `null` is a step without a sample.
//!
//! ## One function
//!
//! The answer has the same head, and `function`, the whole [`FunctionSnapshot`](longshore::FunctionSnapshot).
//! `ended` says whether the function has ended. `series` has counts and gauges by the second for ten minutes
//! and by the minute for a day. `strips` has the state of each container by the second for two minutes, in
//! the letters from above. A `-` is a second in which the container was not seen. The crashes of a strip are
//! pairs of an index and a number.
//!
//! A name stands in the path with its escapes, as by `encodeURIComponent`. The names `.` and `..`, which no
//! address can hold, are shown and addressed with a hash behind them.
//!
//! ## Actions
//!
//! The answer is `{"done": true}`. It is `false` if there was nothing to do. If the engine has not answered
//! after 250 ms, the status is 202 and the action happens later. See [the security of actions](#security).
//!
//! ## Metrics
//!
//! The names begin with `longshore_`, and each line has the labels `app` and `function`. There are about 90
//! lines for a function. All values of a label are there from the start. Useful alerts:
//!
//! ```text
//! longshore_crash_loop_crashes > 3
//! increase(longshore_inputs_total{outcome="poisoned"}[10m]) > 0
//! longshore_containers{state="live"} == 0
//! time() - longshore_oldest_execution_timestamp_seconds > 600
//! longshore_crash_budget_ratio > 0.8
//! ```
//!
//! `longshore_inputs{state="executing"}` is the number of inputs in flight, of at most
//! `longshore_containers{state="live"} * longshore_concurrent_inputs`.
//!
//! ## Health
//!
//! The status is 200 if [every running function serves](longshore::Health::is_serving), and 503 otherwise.
//! The text of a 503 names each function that does not, with its health and its last cause. After the end of
//! the app it is 503.
//!
//! # Reports
//!
//! A report is the page with its data in one file. It opens without a server, and asks none.
//! [`Dashboard::save_report`] writes it at any time, and [`Dashboard::report_on_drop`] when a run ends, also
//! by a panic.
//!
//! # Security
//!
//! The page shows names, panic messages, places in the code and the descriptions of inputs. Do not show it to
//! the public.
//!
//! * **Access.** The own server listens on the loopback interface. Another address needs a
//!   [token](Dashboard::token), without which [`serve`](Dashboard::serve) fails. A mounted dashboard has the
//!   login of its application, so put it behind one.
//! * **Foreign pages.** The own server answers only requests that name the loopback interface or an [allowed
//!   host](Dashboard::allow_host). Other hosts get the status 421, because a page of another site can make a
//!   name of its own point to the loopback interface. A mounted dashboard leaves this to its application,
//!   until a host is allowed. No answer permits another origin to read it, and none can be framed.
//! * **Actions** are off. One that is [on](Dashboard::actions) needs the token, the header `x-longshore: 1`,
//!   and proof of its origin: `sec-fetch-site: same-origin`, or an `origin` that is the host. A program that
//!   sends the token as a header needs no origin, because a browser never does that by itself. An action that
//!   is off has no address. Only `GET`, `HEAD` and `POST` are answered at all.
//! * **The token** is compared in constant time. It comes in the header `authorization: Bearer …`, or once as
//!   `?token=…` in the address of the page. Then it becomes a cookie that scripts cannot read and that other
//!   sites cannot send. The connection is not encrypted: use a tunnel (`ssh -L`) or a proxy that speaks TLS.
//! * **Hostile text.** All names and messages count as hostile. In HTML they are escaped, and the page may
//!   run only its own script, whose hash is in its policy. In the metrics and in `healthz` control characters
//!   are replaced.
//! * **Slow clients** of the own server cost one of 64 connections for at most 70 s. The body of a request is
//!   never read.
//!
//! # Costs
//!
//! While a dashboard lives, a thread looks at each function once a second, which takes some tens of
//! microseconds. Without one nothing ticks. For a function it keeps at most 0.3 MB: series of ten minutes and
//! of a day, and the strips of 256 containers. It keeps them for 256 running functions, and for the last 16
//! that ended. The last snapshot of each function takes up to 150 KB more.

mod actions;
#[cfg(feature = "actix-web")]
mod actix;
mod dashboard;
mod document;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod golden;
mod guard;
mod health;
mod history;
mod json;
mod metrics;
mod page;
mod report;
mod respond;
mod sampler;
mod series;
#[cfg(feature = "serve")]
mod serve;
mod service;
mod settings;
mod source;
mod strips;
mod text;
mod token;

pub use actions::Actions;
pub use dashboard::{Dashboard, Peer};
pub use report::ReportOnDrop;
#[cfg(feature = "serve")]
pub use serve::{Page, ServeError};
