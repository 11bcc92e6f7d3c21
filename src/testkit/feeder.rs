//! A feeder in a rehearsal, as a task.

use std::sync::Arc;

use crate::base::ids::JobId;
use crate::data::prefetch::PullInto;
use crate::data::source::BlockingSource;
use crate::engine::dispatch::{Dispatch, FeederEnd};
use crate::engine::feeder::{begin, pull_room, pull_stream};
use crate::values::crash::Panic;

/// Pulls `source` for `job` until it ends, panics, or the map is over.
pub(crate) async fn run(dispatch: Arc<Dispatch>, job: JobId, source: BlockingSource) {
    let mut source = source;
    let end = match &mut source {
        BlockingSource::Iterator(source) => pull(&dispatch, job, source.get_mut().as_mut()).await,
        BlockingSource::Stream(source, _) => pull_stream(&dispatch, job, source.get_mut().as_mut()).await,
    };
    dispatch.source_ends(job, end.unwrap_or_else(FeederEnd::Panicked));
    drop(source);
    dispatch.feeder_returns();
}

/// Pulls an iterator until it is exhausted or no more inputs are wanted.
async fn pull(dispatch: &Dispatch, job: JobId, source: &mut dyn PullInto) -> Result<FeederEnd, Panic> {
    let Some(mut producer) = begin(dispatch, job, || source.size_hint())? else {
        return Ok(FeederEnd::Stopped);
    };
    while let Some(mut room) = dispatch.room_in_task(job, producer.flow()).await {
        if let Some(end) = pull_room(dispatch, job, source, &mut producer, &mut room)? {
            return Ok(end);
        }
    }
    Ok(FeederEnd::Stopped)
}
