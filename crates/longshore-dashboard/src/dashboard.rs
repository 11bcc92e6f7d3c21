//! [`Dashboard`]: the app that is shown, what is remembered of it, and what is allowed.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use longshore::App;

use crate::actions::Actions;
use crate::history::History;
use crate::json::Head;
use crate::report::{self, ReportOnDrop};
use crate::respond;
use crate::sampler::{self, Sampler};
#[cfg(feature = "serve")]
use crate::serve::{self, Page, ServeError};
use crate::settings::Settings;
use crate::source::{Look, Source};
use crate::token::Token;

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
    pub(crate) watched: Arc<Watched>,
    pub(crate) settings: Arc<Settings>,
}

/// The app that is shown, and what is remembered of it. All clones of a dashboard share it.
pub(crate) struct Watched {
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
    /// Looks at the app and takes note of what is there. Returns the look without its functions, which are in
    /// the history then.
    ///
    /// Looks are taken under the lock, so that they come in their order. Everything that is done under it is
    /// bounded, and none of it is the user's code.
    pub(crate) fn look(&self) -> (Look, MutexGuard<'_, History>) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let mut look = self.source.look();
        history.see(&mut look);
        (look, history)
    }

    /// Takes a sample of each function. Returns the moment of it.
    pub(crate) fn sample(&self) -> Duration {
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

    /// Requires this token of each request: in the header `authorization: Bearer …`, or once in the address
    /// of the page as `?token=…`, which becomes a cookie. With an empty token no request is answered.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.settings_mut().guard.token = Some(Token::new(token));
        self
    }

    /// Offers these actions. They are refused unless there is a [token](Self::token). Each one that is asked
    /// for is a `tracing` event of level `info`.
    #[must_use]
    pub fn actions(mut self, actions: Actions) -> Self {
        self.settings_mut().actions = actions;
        self
    }

    /// Allows a host name in the header `host`, in addition to the names of the loopback interface. A port is
    /// not a part of it.
    ///
    /// With the own server it is needed where a proxy passes the outer name on. Where the dashboard is
    /// mounted, host names are not checked until one is allowed.
    #[must_use]
    pub fn allow_host(mut self, host: &str) -> Self {
        self.settings_mut().guard.allowed.push(host.to_ascii_lowercase());
        self
    }

    /// Adds lines to the metrics for each container, for at most 64 containers of a function: how many inputs
    /// it has in flight, and its memory.
    #[must_use]
    pub fn each_container(mut self) -> Self {
        self.settings_mut().each_container = true;
        self
    }

    /// Answers a request. The path of its address begins below the path under which the dashboard is mounted.
    ///
    /// It looks at the app, and waits for no function: that takes some tens of microseconds for each
    /// function. An action waits for the engine, for at most 250 ms. The body of the request is not read. The
    /// response has at most 1 MiB.
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

    /// Saves the page as one file with the present data, which a browser opens without a server. The file has
    /// at most 16 MiB. The worst functions come first, and functions that do not fit are counted.
    ///
    /// It has the running functions and the last 16 that ended. It can be saved after the end of the app as
    /// well.
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
    pub(crate) fn report(&self, bytes_max: usize) -> String {
        let (look, history) = self.watched.look();
        let head = self.head(&look);
        report::report(&head, &history, bytes_max)
    }

    pub(crate) fn head(&self, look: &Look) -> Head {
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
