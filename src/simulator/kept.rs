//! The memory of open maps, held against the books: it is bounded by their windows, and finished inputs are
//! dropped.

use std::sync::Arc;

use crate::base::ids::JobId;
use crate::data::chunk::Chunk;
use crate::decide::job::JobKind;
use crate::engine::map_lane::{MapLane, Order, Supply};
use crate::simulator::books::{End, InputBook, JobBook, State};
use crate::simulator::world::World;

/// Inputs of a job that were pulled and are not dropped.
fn inputs_alive(lane: &MapLane) -> u64 {
    let pool = if let Supply::Fed(pool) = &lane.supply { pool.len() } else { 0 };
    lane.chunks.values().chain(lane.apart.values()).map(|chunk| chunk.inputs_alive()).sum::<u64>() + pool
}

impl World {
    /// Checks invariant 7, that a window set by the user is strict, and that the memory of a map is bounded
    /// by what is outstanding.
    pub(super) fn check_lanes(&self) {
        self.engine.under_lock(|state| {
            let map = |job: &JobId| self.books.jobs.get(job).filter(|book| book.kind == JobKind::Map);
            for (book, lane) in
                state.lanes.open.iter().filter_map(|(job, lane)| Some((map(job)?, lane.map()?)))
            {
                let outstanding = lane.gate.outstanding();
                let chunks = lane.chunks.len() as u64;
                assert!(
                    chunks <= outstanding,
                    "memory: {chunks} chunks for {outstanding} outstanding inputs"
                );
                self.check_chunks(book, lane);
                let Some(window) = book.window else { continue };
                // An input that a fenced attempt may still read stays alive.
                let alive = inputs_alive(lane);
                assert!(alive <= 2 * window + 64, "memory: {alive} inputs are alive in a window of {window}");
                assert!(
                    outstanding <= window,
                    "invariant 7: {outstanding} outstanding in a window of {window}"
                );
            }
        });
    }

    /// Checks that a finished input is dropped whatever becomes of the others in its chunk, and that a chunk
    /// is not kept for inputs that are executed again.
    fn check_chunks(&self, book: &JobBook, lane: &MapLane) {
        let fenced = |input: &InputBook| input.crashes + input.kills > 0;
        let is_done =
            |input: &InputBook| matches!(input.state, State::Done(End::Ok { .. })) && !fenced(input);
        let kept = book.inputs.iter().filter(|input| !is_done(input)).count() as u64;
        let ahead = book.fed.map_or(0, |fed| fed - book.inputs.len() as u64);
        let publishing = self.threads.iter().filter(|thread| thread.is_publishing_anything()).count() as u64;
        let alive = inputs_alive(lane);
        assert!(alive <= kept + ahead + publishing, "memory: {alive} inputs are alive, {kept} are not done");
        if lane.order == Order::AtOnce {
            return; // its only chunk is taken as a whole
        }
        // A fenced attempt may still read its input, and so its chunk is kept.
        let again = |input: &InputBook| input.failures > 0 && input.crashes + input.kills == 0;
        let used_up = |(first, chunk): &(&u64, &Arc<Chunk>)| {
            let places = **first as usize..(**first + chunk.len()) as usize;
            book.inputs[places].iter().all(|input| input.yielded || (again(input) && input.is_pending()))
        };
        let used_up = lane.chunks.iter().filter(|(_, chunk)| chunk.len() > 1).filter(used_up).count();
        assert!(used_up <= 1, "memory: {used_up} chunks are kept for inputs that are executed again");
    }
}
