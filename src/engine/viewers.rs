//! The last snapshots of functions that have ended, for those who view an app.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::values::snapshot::FunctionSnapshot;

/// How many snapshots of functions that have ended are kept.
const ENDED_MAX: usize = 16;

/// The last [`ENDED_MAX`] functions that have ended, oldest first. The viewers of an app share it, and it may
/// outlive the app.
#[derive(Default)]
pub(crate) struct EndedFunctions(Mutex<VecDeque<FunctionSnapshot>>);

impl EndedFunctions {
    pub(crate) fn snapshots(&self) -> Vec<FunctionSnapshot> {
        self.0.lock().iter().cloned().collect()
    }
}

/// The viewers of an app, if it has any. An app without viewers keeps no snapshots.
#[derive(Default)]
pub(crate) struct Viewers(Mutex<Weak<EndedFunctions>>);

impl Viewers {
    /// The list that the viewers share. From now on ends are recorded.
    pub(crate) fn add(&self) -> Arc<EndedFunctions> {
        let mut shared = self.0.lock();
        shared.upgrade().unwrap_or_else(|| {
            let ended = Arc::default();
            *shared = Arc::downgrade(&ended);
            ended
        })
    }

    /// Records a function that has ended, if the app has a viewer.
    pub(super) fn record(&self, snapshot: impl FnOnce() -> FunctionSnapshot) {
        let Some(ended) = self.0.lock().upgrade() else { return };
        let snapshot = snapshot();
        let mut snapshots = ended.0.lock();
        if snapshots.len() == ENDED_MAX {
            snapshots.pop_front();
        }
        snapshots.push_back(snapshot);
    }
}
