//! The memory of open maps, held against the model: it is bounded by their windows, and finished inputs are
//! dropped.

use std::sync::Arc;

use crate::base::ids::JobId;
use crate::data::chunk::Chunk;
use crate::decide::job::JobKind;
use crate::engine::map_buffers::{JobSource, MapBuffers, Order};
use crate::simulator::model::{ExpectedEnd, InputModel, InputState, JobModel};
use crate::simulator::world::World;

/// Inputs of a job that were pulled and are not dropped.
fn inputs_alive(buffers: &MapBuffers) -> u64 {
    let pool = if let JobSource::Prefetched(pool) = &buffers.source { pool.len() } else { 0 };
    buffers.chunks.values().chain(buffers.moved_out.values()).map(|chunk| chunk.inputs_alive()).sum::<u64>()
        + pool
}

impl World {
    /// Checks invariant 7, that a window set by the user is strict, and that the memory of a map is bounded
    /// by what is outstanding.
    pub(super) fn check_buffers(&self) {
        self.engine.under_lock(|state| {
            let map = |job: &JobId| self.model.jobs.get(job).filter(|entry| entry.kind == JobKind::Map);
            for (entry, buffers) in
                state.buffers.open.iter().filter_map(|(job, buffers)| Some((map(job)?, buffers.map()?)))
            {
                let outstanding = buffers.flow.outstanding();
                let chunks = buffers.chunks.len() as u64;
                assert!(
                    chunks <= outstanding,
                    "memory: {chunks} chunks for {outstanding} outstanding inputs"
                );
                // An input that a fenced attempt may still read stays alive.
                let alive = inputs_alive(buffers);
                self.check_chunks(entry, buffers, alive);
                let Some(window) = entry.window else { continue };
                assert!(alive <= 2 * window + 64, "memory: {alive} inputs are alive in a window of {window}");
                assert!(
                    outstanding <= window,
                    "invariant 7: {outstanding} outstanding in a window of {window}"
                );
            }
        });
    }

    /// Checks that a finished input is dropped whatever becomes of the others in its chunk, and that a chunk
    /// is not kept for inputs that are executed again. `alive` is the number of inputs that are not dropped.
    fn check_chunks(&self, entry: &JobModel, buffers: &MapBuffers, alive: u64) {
        let fenced = |input: &InputModel| input.crashes + input.kills + input.cuts > 0;
        let is_done = |input: &InputModel| {
            matches!(input.state, InputState::Done(ExpectedEnd::Ok { .. })) && !fenced(input)
        };
        let kept = entry.inputs.iter().filter(|input| !is_done(input)).count() as u64;
        let ahead = entry.fed.map_or(0, |fed| fed - entry.inputs.len() as u64);
        let publishing = self.threads.iter().filter(|thread| thread.is_publishing_anything()).count() as u64;
        assert!(alive <= kept + ahead + publishing, "memory: {alive} inputs are alive, {kept} are not done");
        if buffers.order == Order::AtOnce {
            return; // its only chunk is taken as a whole
        }
        // A fenced attempt may still read its input, and so its chunk is kept.
        let again = |input: &InputModel| input.failures > 0 && !fenced(input);
        let used_up = |(first, chunk): &(&u64, &Arc<Chunk>)| {
            let places = **first as usize..(**first + chunk.len()) as usize;
            entry.inputs[places].iter().all(|input| input.yielded || (again(input) && input.is_pending()))
        };
        let used_up = buffers.chunks.iter().filter(|(_, chunk)| chunk.len() > 1).filter(used_up).count();
        assert!(used_up <= 1, "memory: {used_up} chunks are kept for inputs that are executed again");
    }
}
