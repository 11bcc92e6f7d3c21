//! [`Settings`]: the requests and actions that a dashboard allows.

use crate::actions::Actions;
use crate::guard::Guard;

/// The requests and actions that a dashboard allows. The builder methods of [`Dashboard`](crate::Dashboard)
/// write it.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) guard: Guard,
    pub(crate) actions: Actions,
    /// Whether the metrics have a line for each container.
    pub(crate) each_container: bool,
}

impl Settings {
    /// The actions that have an effect. Without a token there are none.
    pub(crate) fn offered(&self) -> Actions {
        if self.guard.token.is_some() { self.actions } else { Actions::NONE }
    }
}
