//! Progress bars of [indicatif](https://docs.rs/indicatif) for the maps of
//! [longshore](https://docs.rs/longshore).
//!
//! [`ProgressWith::progress_with`] ties a bar to a map. The bar counts the inputs that have **ended**,
//! whatever their outcome. indicatif's own `progress_with` counts the outcomes that an iterator has
//! yielded. It stands still behind a slow first input of an ordered map, and knows nothing of failures and
//! replays.
//!
//! ```
//! use indicatif::ProgressBar;
//! use longshore::App;
//! use longshore_indicatif::{ProgressWith, style};
//!
//! let app = App::ephemeral("docs");
//! let square = app.infallible("square", |n: &u64| n * n).start()?;
//! let bar = ProgressBar::no_length().with_style(style());
//! let mut sum = 0;
//! for outcome in square.map(0..1_000u64).progress_with(bar.clone()) {
//!     sum += outcome.unwrap();
//! }
//! assert_eq!(sum, 332_833_500);
//! assert_eq!((bar.position(), bar.length()), (1_000, Some(1_000)));
//! # Ok::<(), longshore::StartError>(())
//! ```
//!
//! # The counts of the bar
//!
//! The position is [`Progress::completed`](longshore::Progress::completed). The length is the number of
//! inputs of the source, where it is known. A bar without a length is a spinner. Templates may use these
//! keys in addition to the keys of indicatif: `{failed}`, `{poisoned}`, `{cancelled}`, `{given_up}`,
//! `{retried}`, `{replayed}`.
//!
//! When all inputs have ended, the bar finishes as its [`with_finish`](indicatif::ProgressBar::with_finish)
//! says. When the map ends early, because an input failed or the map was dropped, the bar is left standing
//! with the last counts.
//!
//! # Cost
//!
//! A thread of its own reads the progress ten times a second and moves the bar. Inputs and outcomes cost
//! nothing. The thread ends with the map. If the system has no thread to give, the bar moves only at the end.

use std::fmt;
use std::pin::Pin;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::task::{Context, Poll};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use futures_core::Stream;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use longshore::{Failure, Map, Outcomes, Progress, ProgressHandle};

/// The pause between two updates of a bar.
const PAUSE: Duration = Duration::from_millis(100);

/// A bar with the counts that matter: what has ended, the time left, and what has failed, was poisoned or was
/// replayed.
#[must_use]
pub fn style() -> ProgressStyle {
    let template = "{bar:40} {pos}/{len} {eta} {failed} failed {poisoned} poisoned {replayed} replayed";
    ProgressStyle::with_template(template).expect("the template is valid")
}

/// Adds [`progress_with`](Self::progress_with) to maps.
pub trait ProgressWith<I, O, E> {
    /// The outcomes of the map, with a bar that shows how many inputs have ended. It is the last setting of a
    /// map, as an adapter of iterators is. Use `ProgressBar::hidden()` to show nothing.
    ///
    /// The bar may be one of a [`MultiProgress`](indicatif::MultiProgress). Its style is kept, and is given
    /// the keys [of this crate](crate).
    fn progress_with(self, bar: ProgressBar) -> WithProgress<I, O, E>;
}

impl<I, O, E> ProgressWith<I, O, E> for Map<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn progress_with(mut self, bar: ProgressBar) -> WithProgress<I, O, E> {
        let follower = Follower::new(bar, self.progress_handle());
        WithProgress { map: Some(self), follower }
    }
}

/// A map with a bar. As the map is, it is a stream, and can be iterated over, which blocks. See
/// [`ProgressWith`].
///
/// Dropping it cancels the map. The drop waits until the bar was drawn for the last time.
#[must_use = "a map does nothing before its first outcome is asked for"]
pub struct WithProgress<I, O, E> {
    /// `None` once all outcomes were taken. It is dropped before the follower shows the last counts.
    map: Option<Map<I, O, E>>,
    follower: Follower,
}

// No field is pinned.
impl<I, O, E> Unpin for WithProgress<I, O, E> {}

impl<I, O, E> IntoIterator for WithProgress<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Item = Result<O, Failure<I, E>>;
    type IntoIter = OutcomesWithProgress<I, O, E>;

    fn into_iter(self) -> OutcomesWithProgress<I, O, E> {
        OutcomesWithProgress { outcomes: self.map.map(Map::into_iter), follower: self.follower }
    }
}

impl<I, O, E> Stream for WithProgress<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Item = Result<O, Failure<I, E>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(map) = &mut self.map else { return Poll::Ready(None) };
        let next = Pin::new(map).poll_next(cx);
        if let Poll::Ready(None) = next {
            self.map = None;
            self.follower.finish();
        }
        next
    }
}

impl<I, O, E> fmt::Debug for WithProgress<I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WithProgress").field(&self.follower.progress).finish()
    }
}

/// The outcomes of a map with a bar, as an iterator that blocks. Dropping it cancels the map.
pub struct OutcomesWithProgress<I, O, E> {
    /// `None` once all outcomes were taken. It is dropped before the follower shows the last counts.
    outcomes: Option<Outcomes<I, O, E>>,
    follower: Follower,
}

impl<I, O, E> Iterator for OutcomesWithProgress<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Item = Result<O, Failure<I, E>>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.outcomes.as_mut()?.next();
        if next.is_none() {
            self.outcomes = None;
            self.follower.finish();
        }
        next
    }
}

impl<I, O, E> fmt::Debug for OutcomesWithProgress<I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OutcomesWithProgress").field(&self.follower.progress).finish()
    }
}

/// Moves a bar after the progress of a map, until it is dropped.
struct Follower {
    bar: ProgressBar,
    progress: ProgressHandle,
    /// The thread that moves the bar. It ends when the sender is dropped.
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Follower {
    fn new(bar: ProgressBar, progress: ProgressHandle) -> Self {
        bar.set_style(with_keys(bar.style(), &progress));
        let (stop, stopped) = channel::<()>();
        let (its_bar, its_progress) = (bar.clone(), progress.clone());
        let follow = move || {
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                show(&its_bar, its_progress.get());
            }
        };
        let thread = Builder::new().name("longshore-bar".to_owned()).spawn(follow).ok();
        Self { bar, progress, thread: thread.map(|thread| (stop, thread)) }
    }

    /// Shows the last counts. The map has been dropped.
    fn finish(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            let _ = thread.join(); // a panic of a drawing bar was printed when it happened
        }
        if self.bar.is_finished() {
            return;
        }
        let last = self.progress.get();
        show(&self.bar, last);
        let is_whole = last.total.is_none_or(|total| last.completed() == total);
        if is_whole && last.cancelled + last.given_up == 0 {
            self.bar.finish_using_style();
        } else {
            self.bar.abandon();
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Moves the bar to where the map is.
fn show(bar: &ProgressBar, progress: Progress) {
    if let Some(total) = progress.total.filter(|total| bar.length() != Some(*total)) {
        bar.set_length(total);
    }
    bar.set_position(progress.completed());
}

/// The style with the keys of this crate.
fn with_keys(style: ProgressStyle, progress: &ProgressHandle) -> ProgressStyle {
    type Count = fn(Progress) -> u64;
    const KEYS: [(&str, Count); 6] = [
        ("failed", |progress| progress.failed),
        ("poisoned", |progress| progress.poisoned),
        ("cancelled", |progress| progress.cancelled),
        ("given_up", |progress| progress.given_up),
        ("retried", |progress| progress.retried),
        ("replayed", |progress| progress.replayed),
    ];
    KEYS.into_iter().fold(style, |style, (key, count)| {
        let progress = progress.clone();
        style.with_key(key, move |_: &ProgressState, text: &mut dyn fmt::Write| {
            // A bar has no place for an error of its text.
            let _ = write!(text, "{}", count(progress.get()));
        })
    })
}
