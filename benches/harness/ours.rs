//! Our side of every question, with one configuration for all rows.

use std::convert::Infallible;
use std::iter;

use futures::StreamExt;
use futures::executor::block_on;
use longshore::{App, Builder, Failure, Function, RateLimited};

/// The number of containers, and of workers of a rival.
pub(crate) const WORKERS: usize = 2;

/// A function from `u64` to `u64`. Its output is its input.
pub(crate) type Ours = Function<u64, u64, Infallible>;

/// The outcome of one of its inputs.
pub(crate) type Outcome = Result<u64, Failure<u64, Infallible>>;

/// Starts a function with the configuration of all rows: two containers, no limit on crashes, and otherwise
/// defaults.
pub(crate) fn start<I, O, E>(builder: Builder<I, O, E>) -> Function<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    start_with(WORKERS, builder.restart(RateLimited::never()))
}

/// Starts a function with this number of containers, and waits until all are live.
pub(crate) fn start_with<I, O, E>(containers: usize, builder: Builder<I, O, E>) -> Function<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    let function = builder.containers(containers).start().expect("valid settings");
    while function.status().containers.live < containers {
        std::thread::yield_now();
    }
    function
}

/// Starts a plain function. Its handle keeps it alive when the app goes out of scope.
pub(crate) fn plain(run: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Ours {
    start(App::ephemeral("bench").infallible("bench", move |n: &u64| run(*n)))
}

/// Collects an ordered map as a blocking iterator.
pub(crate) fn as_iterator(function: &Ours, inputs: u64) -> Vec<Outcome> {
    function.map(0..inputs).return_exceptions().into_iter().collect()
}

/// Collects an ordered map as a stream.
pub(crate) fn as_stream(function: &Ours, inputs: u64) -> Vec<Outcome> {
    block_on(function.map(0..inputs).return_exceptions().collect())
}

/// Collects an ordered map of a source that does not know its length.
pub(crate) fn lazily(function: &Ours, inputs: u64) -> Vec<Outcome> {
    function.map(unknown_length(inputs)).return_exceptions().into_iter().collect()
}

/// `0..inputs` as an iterator without a size hint.
pub(crate) fn unknown_length(inputs: u64) -> impl Iterator<Item = u64> + Send + 'static {
    let mut next = 0;
    iter::from_fn(move || {
        let input = (next < inputs).then_some(next)?;
        next += 1;
        Some(input)
    })
}
