//! The feeder: a thread that pulls one source that may block, as far ahead as the map's window allows.
//!
//! An iterator is pulled on the feeder's own thread. A stream is polled on that thread too, inside the
//! runtime in which its map was made, or else inside a runtime of the feeder's own. A stream is dropped as
//! soon as no more inputs are wanted, while an iterator that blocks must return first. The feeder reports the
//! end of the source to the map before it drops the source, because the drop may block. The feeder counts as
//! running until the drop has returned.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::{Builder, Handle};

use crate::base::ids::JobId;
use crate::contain::drops::DeferDrop;
use crate::contain::unwind::{Contained, contain, contain_drop, set_thread_hook};
use crate::data::prefetch::{PollPullInto, Producer, PullInto, Pulled};
use crate::data::source::BlockingSource;
use crate::engine::dispatch::{Dispatch, FeederEnd};
use crate::values::crash::Panic;

/// Makes the feeder of a map, which pulls its source.
pub(crate) fn start(dispatch: &Arc<Dispatch>, job: JobId, source: DeferDrop<BlockingSource>) {
    dispatch.feeder_begins();
    if let Err(error) = dispatch.host.make_feeder(dispatch, job, source) {
        let panic = Panic { message: format!("no feeder: {error}"), location: None };
        dispatch.source_over(job, FeederEnd::Panicked(panic));
    }
}

/// Pulls `source` for `job` until it ends, panics, or the map is over.
pub(crate) fn run(dispatch: &Arc<Dispatch>, job: JobId, source: BlockingSource) {
    set_thread_hook(dispatch.settings.panic_hook);
    match source {
        BlockingSource::Iterator(mut source) => {
            let end = pull(dispatch, job, source.get_mut().as_mut());
            dispatch.source_ends(job, end.unwrap_or_else(FeederEnd::Panicked));
        }
        BlockingSource::Stream(source, runtime) => pull_in_runtime(dispatch, job, source, runtime),
    }
    dispatch.feeder_returns();
}

/// Pulls a stream in `owners`, the runtime in which its map was made, or else in a runtime of the feeder's
/// own. The stream is dropped in the same runtime, because it may hold timers and sockets. A runtime that was
/// shut down may panic when it is entered, and that counts as a panic of the source.
fn pull_in_runtime(
    dispatch: &Dispatch,
    job: JobId,
    mut source: Contained<Pin<Box<dyn PollPullInto>>>,
    owners: Option<Handle>,
) {
    let ends = |end: Result<Result<FeederEnd, Panic>, Panic>| {
        dispatch.source_ends(job, end.unwrap_or_else(Err).unwrap_or_else(FeederEnd::Panicked));
    };
    let pulling = pull_stream(dispatch, job, source.get_mut().as_mut());
    if let Some(runtime) = owners {
        ends(contain(|| runtime.block_on(pulling)));
        let _inside = runtime.enter();
        return drop(source);
    }
    let stack = dispatch.settings.stack().bytes();
    let runtime = match Builder::new_current_thread().enable_all().thread_stack_size(stack).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let message = format!("no runtime for the stream: {error}");
            return ends(Err(Panic { message, location: None }));
        }
    };
    ends(contain(|| runtime.block_on(pulling)));
    {
        let _inside = runtime.enter();
        drop(source);
    }
    contain_drop(|| runtime.shutdown_background()); // it drops the tasks that the stream has spawned
}

/// Passes the exact length of a source on to the map's progress, if the source knows its length, and returns
/// the producer for its inputs. Returns `None` if no inputs are wanted any more.
pub(crate) fn begin(
    dispatch: &Dispatch,
    job: JobId,
    size_hint: impl FnOnce() -> (usize, Option<usize>),
) -> Result<Option<Producer>, Panic> {
    let Some(producer) = dispatch.producer(job) else { return Ok(None) };
    if let (least, Some(most)) = contain(size_hint)?
        && least == most
    {
        dispatch.expect_total(job, most as u64);
    }
    Ok(Some(producer))
}

/// Pulls an iterator until it is exhausted or no more inputs are wanted.
fn pull(dispatch: &Dispatch, job: JobId, source: &mut dyn PullInto) -> Result<FeederEnd, Panic> {
    let Some(mut producer) = begin(dispatch, job, || source.size_hint())? else {
        return Ok(FeederEnd::Stopped);
    };
    while let Some(mut room) = dispatch.await_room(job, producer.flow()) {
        if let Some(end) = pull_room(dispatch, job, source, &mut producer, &mut room)? {
            return Ok(end);
        }
    }
    Ok(FeederEnd::Stopped)
}

/// Pulls as many inputs as there is room for. Returns `Some` if the source is to be pulled no more.
pub(crate) fn pull_room(
    dispatch: &Dispatch,
    job: JobId,
    source: &mut dyn PullInto,
    producer: &mut Producer,
    room: &mut u64,
) -> Result<Option<FeederEnd>, Panic> {
    while *room > 0 {
        let pulled = contain(|| source.pull(room, producer))?;
        if let Some(end) = after_pull(dispatch, job, pulled) {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

/// Decides how the feeder goes on after one pull. Returns `Some` if the source is to be pulled no more.
fn after_pull(dispatch: &Dispatch, job: JobId, pulled: Pulled) -> Option<FeederEnd> {
    match pulled {
        Pulled::Enough => None,
        Pulled::Awaited => {
            dispatch.wake_for_input(job);
            None
        }
        Pulled::Exhausted => Some(FeederEnd::Exhausted),
        Pulled::Refused(input) => {
            dispatch.fed_too_late(job, input);
            Some(FeederEnd::Stopped)
        }
    }
}

/// Pulls a stream until it is exhausted or no more inputs are wanted. It may run in any task.
pub(crate) async fn pull_stream(
    dispatch: &Dispatch,
    job: JobId,
    mut source: Pin<&mut dyn PollPullInto>,
) -> Result<FeederEnd, Panic> {
    let Some(mut producer) = begin(dispatch, job, || source.size_hint())? else {
        return Ok(FeederEnd::Stopped);
    };
    while let Some(room) = dispatch.room_in_task(job, producer.flow()).await {
        for _ in 0..room {
            let mut waited = false;
            let next = poll_fn(|cx| {
                // If it was woken because no more inputs are wanted, it must not poll the source once more.
                if waited && !dispatch.is_wanted_by_task(job, cx.waker()) {
                    return Poll::Ready(Ok(None));
                }
                waited = true;
                match contain(|| source.as_mut().poll_pull(&mut producer, cx)) {
                    Ok(Poll::Ready(pulled)) => Poll::Ready(Ok(Some(pulled))),
                    Ok(Poll::Pending) if dispatch.is_wanted_by_task(job, cx.waker()) => Poll::Pending,
                    Ok(Poll::Pending) => Poll::Ready(Ok(None)),
                    Err(panic) => Poll::Ready(Err(panic)),
                }
            });
            match next.await? {
                Some(pulled) => {
                    if let Some(end) = after_pull(dispatch, job, pulled) {
                        return Ok(end);
                    }
                }
                None => return Ok(FeederEnd::Stopped),
            }
        }
    }
    Ok(FeederEnd::Stopped)
}
