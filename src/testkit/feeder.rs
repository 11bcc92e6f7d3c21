//! A feeder in a rehearsal, as a task.

use std::sync::Arc;

use crate::base::ids::JobId;
use crate::data::pool::Flow;
use crate::data::source::Feed;
use crate::engine::dispatch::{Dispatch, FeederEnd};
use crate::engine::feeder::{begin, pull_room, pull_stream};
use crate::values::crash::Panic;

/// Pulls `source` for `job` until it ends, panics, or the map is over.
pub(crate) async fn run(dispatch: Arc<Dispatch>, job: JobId, source: Feed) {
    let mut source = source;
    let end = match &mut source {
        Feed::Iterator(source) => pull(&dispatch, job, source.get_mut().as_mut()).await,
        Feed::Stream(source, _) => pull_stream(&dispatch, job, source.get_mut().as_mut()).await,
    };
    dispatch.source_ends(job, end.unwrap_or_else(FeederEnd::Panicked));
    drop(source);
    dispatch.feeder_returns();
}

/// Pulls an iterator, until nothing more comes or nothing more is wanted.
async fn pull(dispatch: &Dispatch, job: JobId, source: &mut dyn Flow) -> Result<FeederEnd, Panic> {
    let Some(mut inlet) = begin(dispatch, job, || source.size_hint())? else { return Ok(FeederEnd::Told) };
    while let Some(mut room) = dispatch.room_in_task(job, inlet.gate()).await {
        if let Some(end) = pull_room(dispatch, job, source, &mut inlet, &mut room)? {
            return Ok(end);
        }
    }
    Ok(FeederEnd::Told)
}
