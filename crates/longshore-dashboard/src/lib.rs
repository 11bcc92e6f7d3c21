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
//! A [`Dashboard`] keeps neither the app nor a function alive, and never delays an end. It is one function from
//! a request to a response ([`Dashboard::respond`]), which is polled. Nothing is pushed, so no connection is
//! open while nobody looks, and a server with open pages shuts down at once.
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
//! The page works under any path, also behind a proxy that strips a part of it: it takes its addresses from the
//! address bar. The dashboard must get the rest of the path, as `nest_service` passes it on.
//!
//! # Routes
//!
//! | request | answer |
//! |---|---|
//! | `GET` the path itself | [the page](#the-page) |
//! | `GET api/v1/overview` | [the app and each function in short](#the-overview), as JSON |
//! | `GET api/v1/functions/NAME` | [one function in full](#one-function), as JSON |
//! | `POST api/v1/functions/NAME/kill/ID`, `…/reset`, `…/drain` | [an action](#actions) |
//! | `GET metrics` | [the metrics](#metrics), as text for Prometheus |
//! | `GET healthz` | [200 or 503](#health) |
//! | `GET report` | [the report](#reports) as a download |
//!
//! `HEAD` is answered like `GET`, without the body. An answer has at most 1 MiB. A list that is too long for it
//! is cut, and what was left out is counted: in `functions_omitted`, and in `NAME_cut` beside a list `NAME`. A
//! text that was cut ends in `…`.
//!
//! ## The page
//!
//! One document holds the style and the script, and fetches nothing but the JSON below. Without script it is a
//! table of the numbers.
//!
//! ## The overview
//!
//! All moments are whole milliseconds on one monotonic clock (`now_ms`), which began at `started_unix_ms`. A
//! value that is not known is absent, and never 0. Fields and words are only ever added within version 1 (`v`).
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
//! * `states`: a letter for each container. `s` starting, `l` live, `e` exiting, `b` backing off, `x` stopped,
//!   and `a` for each abandoned thread.
//! * `spark`: the last ten minutes in steps of ten seconds, newest last, of which the last may not be over. In
//!   all series `null` is a step without a sample.
//!
//! ## One function
//!
//! The answer has the same head, and `function`, the whole [`FunctionSnapshot`](longshore::FunctionSnapshot).
//! `ended` says whether the function has ended. `series` has counts and gauges by the second for ten minutes and
//! by the minute for a day. `strips` has the state of each container by the second for two minutes, in the
//! letters of above and `-` for a second in which the container was not seen, and its crashes as pairs of an
//! index and a number.
//!
//! A name stands in the path with its escapes, as by `encodeURIComponent`. The names `.` and `..`, which no
//! address can hold, are shown and addressed with a hash behind them.
//!
//! ## Actions
//!
//! The answer is `{"done": true}`. It is `false` if there was nothing to do. If the engine has not answered after
//! 250 ms, the status is 202 and the action happens later. See [the security of actions](#security).
//!
//! ## Metrics
//!
//! The names begin with `longshore_`, and each line has the labels `app` and `function`. There are about 100
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
//! ## Health
//!
//! The status is 200 if [every running function serves](longshore::Health::is_serving), and 503 otherwise. The
//! text of a 503 names each function that does not, with its health and its last cause. After the end of the app
//! it is 503.
//!
//! # Reports
//!
//! A report is the page with its data in one file. It opens without a server, and asks none.
//! [`Dashboard::save_report`] writes it at any time, and [`Dashboard::report_on_drop`] when a run ends, also by a
//! panic.
//!
//! # Security
//!
//! The page shows names, panic messages, places in the code and the descriptions of inputs. Do not show it to the
//! public.
//!
//! * **Who can reach it.** The own server listens on the loopback interface. Another address needs a
//!   [token](Dashboard::token), without which [`serve`](Dashboard::serve) fails. A mounted dashboard has the login
//!   of its application, so put it behind one.
//! * **Foreign pages.** The own server answers only requests that name the loopback interface, or a host that was
//!   [allowed](Dashboard::allow_host), because a page of another site can make a name of its own point there. Other
//!   hosts get the status 421. A mounted dashboard leaves this to its application, until a host is allowed.
//!   No answer permits another origin to read it, and none can be framed.
//! * **Actions** are off. One that is [on](Dashboard::actions) needs the token, the header `x-longshore: 1`, and
//!   proof of its origin: `sec-fetch-site: same-origin`, or an `origin` that is the host. A program that sends the
//!   token as a header needs no origin, because a browser never does that by itself. An action that is off has
//!   no address. Only `GET`, `HEAD` and `POST` are answered at all.
//! * **The token** is compared in constant time. It comes in the header `authorization: Bearer …`, or once as
//!   `?token=…` in the address of the page. Then it becomes a cookie that scripts cannot read and that other
//!   sites cannot send. The connection is not encrypted: use a tunnel (`ssh -L`) or a proxy that speaks TLS.
//! * **Hostile text.** All names and messages count as hostile. In HTML they are escaped, and the page may run
//!   only its own script, whose hash is in its policy. In the metrics and in `healthz` control characters are
//!   replaced.
//! * **Slow clients** of the own server cost one of 64 connections for at most 70 s. The body of a request is
//!   never read.
//!
//! # Costs
//!
//! While a dashboard lives, a thread looks at each function once a second, which takes some tens of microseconds.
//! Without one nothing ticks. For a function it keeps at most 0.3 MB: series of ten minutes and of a day, and the
//! strips of 256 containers. It keeps them for 256 running functions, and for the last 16 that ended. The last
//! snapshot of each function takes up to 150 KB more.

mod actions;
#[cfg(feature = "actix-web")]
mod actix;
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

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use longshore::App;

pub use actions::Actions;
use history::History;
use json::Head;
pub use report::ReportOnDrop;
use sampler::Sampler;
#[cfg(feature = "serve")]
pub use serve::{Page, ServeError};
use settings::Settings;
use source::{Look, Source};
use token::Token;

/// The dashboard of an app.
///
/// It is cheap to clone, and the clones share what they remember. It keeps neither the app nor a function
/// alive. While a clone lives, a thread looks at the app once a second. The [crate's page](crate) says what a
/// dashboard answers, and to whom.
///
/// | setting | default |
/// |---|---|
/// | [`actions`](Self::actions) | none |
/// | [`token`](Self::token) | none: requests are answered without one |
/// | [`allow_host`](Self::allow_host) | the own server allows loopback names, and a mounted dashboard all names |
/// | [`each_container`](Self::each_container) | the metrics have no lines for single containers |
///
/// ```
/// use http::Request;
/// use longshore::App;
/// use longshore_dashboard::Dashboard;
///
/// let app = App::ephemeral("docs");
/// let double = app.infallible("double", |n: &u64| 2 * n).containers(2).start()?;
/// assert_eq!(double.run(vec![1, 2, 3])?, [2, 4, 6]);
///
/// let dashboard = Dashboard::of(&app);
/// let response = dashboard.respond(&Request::get("/api/v1/functions/double").body(())?);
/// let answer: serde_json::Value = serde_json::from_slice(response.body())?;
/// assert_eq!(answer["function"]["totals"]["ok"], 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Dashboard {
    watched: Arc<Watched>,
    settings: Arc<Settings>,
}

/// The app that is shown, and what is remembered of it. All clones of a dashboard share it.
struct Watched {
    source: Source,
    history: Mutex<History>,
    _sampler: Sampler,
}

/// The address of the client, as an extension of a request.
///
/// The own server adds it. An application that mounts the dashboard may add it as well, so that the `tracing`
/// event of an action says who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

impl Watched {
    /// Looks at the app and takes note of what is there. Returns the look without its functions, which are in the
    /// history then.
    ///
    /// Looks are taken under the lock, so that they come in their order. Everything that is done under it is
    /// bounded, and none of it is the user's code.
    fn look(&self) -> (Look, MutexGuard<'_, History>) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let mut look = self.source.look();
        history.see(&mut look);
        (look, history)
    }

    /// Takes a sample of each function. Returns the moment of it.
    fn sample(&self) -> Duration {
        let (look, mut history) = self.look();
        history.sample(look.now);
        look.now
    }
}

impl Dashboard {
    /// The dashboard of this app. It shows the functions of the app as they come and go.
    #[must_use]
    pub fn of(app: &App) -> Self {
        let (sampler, ended) = Sampler::new();
        let source = Source::of(app);
        let watched = Arc::new(Watched { source, history: Mutex::default(), _sampler: sampler });
        watched.sample();
        if let Err(error) = sampler::start(&watched, ended) {
            tracing::warn!(%error, "the dashboard has no series, because its thread could not be made");
        }
        Self { watched, settings: Arc::default() }
    }

    /// Requires this token of each request: in the header `authorization: Bearer …`, or once in the address of
    /// the page as `?token=…`, which becomes a cookie. With an empty token no request is answered.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.settings_mut().guard.token = Some(Token::new(token));
        self
    }

    /// Offers these actions. They are refused unless there is a [token](Self::token). Each one that is asked for
    /// is a `tracing` event of level `info`.
    #[must_use]
    pub fn actions(mut self, actions: Actions) -> Self {
        self.settings_mut().actions = actions;
        self
    }

    /// Allows a host name in the header `host`, in addition to the names of the loopback interface. A port is
    /// not a part of it.
    ///
    /// With the own server it is needed where a proxy passes the outer name on. Where the dashboard is mounted,
    /// host names are not checked until one is allowed.
    #[must_use]
    pub fn allow_host(mut self, host: &str) -> Self {
        self.settings_mut().guard.allowed.push(host.to_ascii_lowercase());
        self
    }

    /// Adds a line to the metrics for the memory of each container, for at most 64 containers of a function.
    #[must_use]
    pub fn each_container(mut self) -> Self {
        self.settings_mut().each_container = true;
        self
    }

    /// Answers a request. The path of its address begins below the path under which the dashboard is mounted.
    ///
    /// It looks at the app, and waits for no function: that takes some tens of microseconds for each function.
    /// An action waits for the engine, for at most 250 ms. The body of the request is not read. The response has
    /// at most 1 MiB.
    #[must_use]
    pub fn respond<B>(&self, request: &Request<B>) -> Response<Bytes> {
        respond::respond(self, request)
    }

    /// Serves the page at an address, on a thread of its own. Port 0 is a free one: [`Page::url`] says which.
    ///
    /// An address that other machines can reach needs a [token](Self::token), and so do
    /// [actions](Self::actions). The connection is not encrypted. From another machine a tunnel is better
    /// (`ssh -L 8000:localhost:PORT`), or a proxy that speaks TLS.
    ///
    /// # Errors
    ///
    /// See [`ServeError`].
    ///
    /// ```
    /// use longshore::App;
    /// use longshore_dashboard::{Dashboard, ServeError};
    ///
    /// let app = App::ephemeral("docs");
    /// let dashboard = Dashboard::of(&app);
    /// let page = dashboard.serve("127.0.0.1:0")?;
    /// println!("{}", page.url());
    ///
    /// let open = dashboard.serve("0.0.0.0:0");
    /// assert!(matches!(open, Err(ServeError::TokenNeeded(_))));
    /// # Ok::<(), ServeError>(())
    /// ```
    #[cfg(feature = "serve")]
    pub fn serve(&self, address: impl std::net::ToSocketAddrs) -> Result<Page, ServeError> {
        serve::serve(self.clone(), address)
    }

    /// Saves the page as one file with the present data, which a browser opens without a server. The file has at
    /// most 16 MiB. The worst functions come first, and functions that do not fit are counted.
    ///
    /// It has the running functions and the last 16 that ended. It can be saved after the end of the app as well.
    ///
    /// # Errors
    ///
    /// If the file cannot be written. It is written under the name `PATH.partial` first.
    ///
    /// ```
    /// use longshore::App;
    /// use longshore_dashboard::Dashboard;
    ///
    /// let app = App::ephemeral("docs");
    /// let dashboard = Dashboard::of(&app);
    /// let path = std::env::temp_dir().join(format!("longshore-docs-{}.html", std::process::id()));
    /// dashboard.save_report(&path)?;
    /// assert!(std::fs::read_to_string(&path)?.contains("\"name\":\"docs\""));
    /// std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn save_report(&self, path: impl AsRef<Path>) -> io::Result<()> {
        report::save(self, path.as_ref())
    }

    /// Saves a report when the returned value is dropped, also by a panic. So a run leaves a report behind,
    /// however it ends, except by an abort of the process.
    ///
    /// If it is declared before the app, the report is of the end.
    #[must_use = "the report is saved when this is dropped"]
    pub fn report_on_drop(&self, path: impl AsRef<Path>) -> ReportOnDrop {
        ReportOnDrop { dashboard: self.clone(), path: path.as_ref().to_owned() }
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }

    /// The report as a document.
    fn report(&self, bytes_max: usize) -> String {
        let (look, history) = self.watched.look();
        let head = self.head(&look);
        report::report(&head, &history, bytes_max)
    }

    fn head(&self, look: &Look) -> Head {
        Head::of(look, self.settings.offered().words())
    }
}

impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { actions, .. } = &*self.settings;
        let app = &self.watched.source.name();
        f.debug_struct("Dashboard").field("app", app).field("actions", actions).finish_non_exhaustive()
    }
}
