//! The feeder: a thread that pulls one source that may block, as far ahead as the window allows.

use std::sync::Arc;

use crate::crash::Panic;
use crate::decide::ids::JobId;
use crate::engine::dispatch::{Dispatch, FeederEnd};
use crate::engine::lane::Blocking;
use crate::engine::unwind::{contain, set_thread_hook};

/// Pulls `source` for `job` until it ends, panics, or the map is over.
pub(crate) fn run<I, O, E>(dispatch: &Arc<Dispatch<I, O, E>>, job: JobId, mut source: Blocking<I>)
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    set_thread_hook(dispatch.settings.panic_hook);
    let ended = pull(dispatch, job, source.get_mut().as_mut());
    drop(source);
    dispatch.source_over(job, ended.unwrap_or_else(FeederEnd::Panicked));
}

fn pull<I, O, E>(
    dispatch: &Dispatch<I, O, E>,
    job: JobId,
    source: &mut (dyn Iterator<Item = I> + Send),
) -> Result<FeederEnd, Panic>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    let Some((pool, gate)) = dispatch.intake(job) else { return Ok(FeederEnd::Told) };
    if let (least, Some(most)) = contain(|| source.size_hint())?
        && least == most
    {
        dispatch.expect_total(job, most as u64);
    }
    while let Some(room) = dispatch.await_room(job, &gate) {
        for _ in 0..room {
            let Some(input) = contain(|| source.next())? else { return Ok(FeederEnd::Exhausted) };
            if let Err(input) = pool.push(input, &gate) {
                dispatch.fed_too_late(job, input);
                return Ok(FeederEnd::Told);
            }
            dispatch.fed();
        }
    }
    Ok(FeederEnd::Told)
}
