//! A page, JSON and Prometheus metrics for the functions of a [`longshore`] app.

mod document;
mod history;
mod json;
mod page;
mod respond;
mod sampler;
mod series;
#[cfg(feature = "serve")]
mod serve;
mod service;
mod source;
mod strips;
mod text;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use longshore::App;

use history::History;
use sampler::Sampler;
#[cfg(feature = "serve")]
pub use serve::Page;
use source::{Look, Source};

/// The dashboard of an app. It is cheap to clone, and keeps nothing alive.
#[derive(Clone)]
pub struct Dashboard {
    watched: Arc<Watched>,
}

/// The app that is shown, and what is remembered of it. All clones of a dashboard share it.
struct Watched {
    source: Source,
    history: Mutex<History>,
    _sampler: Sampler,
}

impl Watched {
    /// Takes a sample of each function. Returns the moment of it.
    fn sample(&self) -> Duration {
        let look = self.source.look();
        let now = look.now;
        let mut history = self.history();
        history.see(look);
        history.sample(now);
        now
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dashboard {
    /// The dashboard of this app.
    #[must_use]
    pub fn of(app: &App) -> Self {
        let (sampler, ended) = Sampler::new();
        let watched =
            Arc::new(Watched { source: Source::of(app), history: Mutex::default(), _sampler: sampler });
        if let Err(error) = sampler::start(&watched, ended) {
            tracing::warn!(%error, "the dashboard has no series, because its thread could not be made");
        }
        Self { watched }
    }

    /// Answers a request. The body of the request is not read.
    #[must_use]
    pub fn respond<B>(&self, request: &Request<B>) -> Response<Bytes> {
        respond::respond(self, request)
    }

    /// Serves the page at an address.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    #[cfg(feature = "serve")]
    pub fn serve(&self, address: impl std::net::ToSocketAddrs) -> std::io::Result<Page> {
        serve::serve(self.clone(), address)
    }

    fn look(&self) -> Look {
        self.watched.source.look()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.watched.history()
    }
}

impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard").finish_non_exhaustive()
    }
}
