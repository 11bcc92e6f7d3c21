//! The maps from which a container could be given new inputs, as the model sees them.

use std::sync::atomic::Ordering;

use crate::base::ids::JobId;
use crate::decide::job::JobKind;
use crate::decide::ledger::Sources;
use crate::engine::dispatch;
use crate::simulator::model::{InputState, WaitsFor};
use crate::simulator::world::{WIDE, World};

/// The maps that have new inputs.
#[derive(Debug, Default)]
pub(super) struct Eligible {
    /// The maps from which a container could be given inputs now.
    pub(super) now: Vec<JobId>,
    /// The maps of `now` for which a sleeping container is woken. The last few inputs of a source may wait
    /// until there is as much room as is worth a wake-up.
    pub(super) told: Vec<JobId>,
    /// The maps that have room, but for fewer inputs than are worth a claim.
    pub(super) little_room: Vec<JobId>,
}

impl World {
    /// The maps from which a container could be given new inputs, now or soon.
    pub(super) fn eligible(&self, state: &dispatch::State) -> Eligible {
        let mut eligible = Eligible::default();
        if !self.model.dispatches() {
            return eligible;
        }
        for (id, entry) in self.model.jobs.iter().filter(|(_, entry)| entry.kind == JobKind::Map) {
            if entry.inputs.iter().any(|input| matches!(input.state, InputState::Waits(WaitsFor::New))) {
                eligible.now.push(*id);
                eligible.told.push(*id);
                continue;
            }
            let available = state.buffers.available(*id, self.model.mode);
            if available == 0 {
                continue;
            }
            let yielded = entry.inputs.iter().filter(|input| input.yielded).count() as u64;
            let told = state.buffers.yielded(*id);
            let narrow = entry.window.is_some_and(|window| window < WIDE);
            assert!(told == yielded || (told < yielded && !narrow), "what was yielded is told of");
            let window = entry.window.unwrap_or_else(|| state.ledger.window(*id));
            let room = window.saturating_sub(entry.inputs.len() as u64 - told);
            if room >= state.ledger.room_min(*id).min(available) {
                eligible.now.push(*id);
                let told = state.buffers.map(*id).expect("it is a map").flow.room_min.load(Ordering::SeqCst);
                eligible.told.extend((room >= told).then_some(*id));
            } else if room > 0 && state.ledger.is_in_sight(*id) {
                eligible.little_room.push(*id);
            }
        }
        eligible
    }
}
