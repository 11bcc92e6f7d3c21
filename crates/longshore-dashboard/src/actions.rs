//! [`Actions`]: the actions that a page offers, and how they are performed.

use std::fmt;
use std::ops::BitOr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use longshore::{AnyFunction, ContainerId};

/// The time that a response waits for the engine. It is short, because a response may be made on a thread
/// that serves other requests too.
const WAIT: Duration = Duration::from_millis(250);

/// The actions that may wait for the engine at a time. More of them are refused, so that an engine that does
/// not answer costs a few threads and no more.
const WAITING_MAX: usize = 8;

/// A set of the actions that a page offers. None of them is on by default: see
/// [`Dashboard::actions`](crate::Dashboard::actions).
///
/// ```
/// use longshore_dashboard::Actions;
///
/// let actions = Actions::KILL | Actions::RESET;
/// assert!(actions.contains(Actions::KILL) && !actions.contains(Actions::DRAIN));
/// assert_eq!(actions | Actions::DRAIN | Actions::PAUSE, Actions::ALL);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Actions(u8);

impl Actions {
    /// No action.
    pub const NONE: Self = Self(0);
    /// Killing a container: see [`AnyFunction::kill_container`](longshore::AnyFunction::kill_container).
    pub const KILL: Self = Self(1);
    /// Forgetting the crashes of a function: see [`AnyFunction::reset`](longshore::AnyFunction::reset).
    pub const RESET: Self = Self(2);
    /// Draining a function: see [`AnyFunction::drain`](longshore::AnyFunction::drain).
    pub const DRAIN: Self = Self(4);
    /// Pausing a function, and resuming it: see [`AnyFunction::pause`](longshore::AnyFunction::pause) and
    /// [`AnyFunction::resume`](longshore::AnyFunction::resume).
    pub const PAUSE: Self = Self(8);
    /// All actions.
    pub const ALL: Self = Self(15);

    /// Whether all of these actions are in the set.
    #[must_use]
    pub const fn contains(self, actions: Self) -> bool {
        self.0 & actions.0 == actions.0
    }

    /// Whether there is no action in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The words for the actions, as they are in the JSON.
    pub(crate) fn words(self) -> Vec<&'static str> {
        let all =
            [(Self::KILL, "kill"), (Self::RESET, "reset"), (Self::DRAIN, "drain"), (Self::PAUSE, "pause")];
        all.into_iter().filter(|(action, _)| self.contains(*action)).map(|(_, word)| word).collect()
    }
}

impl BitOr for Actions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Actions").field(&self.words()).finish()
    }
}

/// One action on a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Kill(ContainerId),
    Reset,
    Drain,
    Pause,
    Resume,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The engine has answered. `false`: there was nothing to do, as for a container that does not live.
    Done(bool),
    /// The engine has the request and has not answered yet.
    Pending,
    /// Too many actions wait for the engine.
    Refused,
}

impl Action {
    pub(crate) const fn kind(self) -> Actions {
        match self {
            Self::Kill(_) => Actions::KILL,
            Self::Reset => Actions::RESET,
            Self::Drain => Actions::DRAIN,
            Self::Pause | Self::Resume => Actions::PAUSE,
        }
    }

    fn act(self, function: &AnyFunction) -> bool {
        match self {
            Self::Kill(container) => function.kill_container(container),
            Self::Reset => function.reset(),
            Self::Drain => function.drain(),
            Self::Pause => function.pause(),
            Self::Resume => function.resume(),
        }
    }

    /// Acts on a thread of its own, because the engine may be slow to answer.
    pub(crate) fn perform(self, function: &AnyFunction) -> Outcome {
        static WAITING: Waiting = Waiting(AtomicUsize::new(0));
        let Some(place) = WAITING.enter() else { return Outcome::Refused };
        let (done, answer) = channel();
        let function = function.clone();
        let spawned = thread::Builder::new().name("longshore-action".to_owned()).spawn(move || {
            // The receiver is gone if the answer comes too late for the response.
            let _ = done.send(self.act(&function));
            drop(place);
        });
        match spawned {
            Ok(_) => answer.recv_timeout(WAIT).map_or(Outcome::Pending, Outcome::Done),
            Err(_) => Outcome::Refused,
        }
    }
}

/// The number of actions that wait for the engine.
struct Waiting(AtomicUsize);

/// One of them. It counts until it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl Waiting {
    fn enter(&self) -> Option<Place<'_>> {
        let place = Place(&self.0);
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        (before < WAITING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_actions_wait_and_the_ninth_is_refused() {
        let waiting = Waiting(AtomicUsize::new(0));
        let mut places: Vec<_> = (0..WAITING_MAX).map(|_| waiting.enter().expect("there is room")).collect();
        assert!(waiting.enter().is_none());
        places.pop();
        assert!(waiting.enter().is_some());
        drop(places);
        assert_eq!(waiting.0.into_inner(), 0);
    }

    #[test]
    fn words_are_those_of_the_routes() {
        assert_eq!(Actions::ALL.words(), ["kill", "reset", "drain", "pause"]);
        assert_eq!(format!("{:?}", Actions::KILL | Actions::DRAIN), "Actions([\"kill\", \"drain\"])");
        assert!(Actions::NONE.words().is_empty() && Actions::default().is_empty());
    }
}
