//! The life of a container on one thread: it enters, serves and exits, and perhaps begins again.
//!
//! A [`Life`] names the next act, and takes the event that results from the act. The parts that are user code
//! ([`Part`]) are run by the container's driver: a thread, a task of a rehearsal, or a simulated thread. The
//! other acts concern the function (its memory accounts, its ledger, its verdicts), and the engine performs
//! them for all three. The consequences of an event for a container are therefore decided only here.
//!
//! ```text
//!   ┌──▶ Tie ──▶ Enter ──▶ Admit ──▶ Serve ──▶ Announce ──▶ Exit ──▶ Leave
//!   │     │        │         │       ▲ │ │                             │
//!   │     ├────────┴──▶ Die ◀┼───────┼─┤ └─ interrupted, with a state ─┤
//!   │     │              │   │       └─┘ interrupted, without one       │
//!   │     └─── stale ────┴───┴───────────▶ Drop ◀───────────────────────┘
//!   │                                        │
//!   └────────── Begin, EnterAnew ◀───────────┴──▶ End
//! ```

use crate::base::ids::Generation;
use crate::decide::restart::Restart;
use crate::decide::time::Time;
use crate::values::crash::{Death, Panic};
use crate::values::report::Fate;

/// The next step of a container. `W` is its work: a lease in the ledger, or that lease together with its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next<W> {
    /// Execute this work.
    Work(W),
    /// There is nothing to do before this moment, or before the container is woken.
    Wait { until: Option<Time> },
    /// The container takes nothing before this moment, or before one of its own inputs has ended, although
    /// there may be work. A wake-up that is meant for any container must not go to this one.
    Hold { until: Option<Time> },
    /// Stop serving.
    Over(Served),
}

/// Why a generation stops serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// There will be no more work, so the container exits gracefully.
    Leaves,
    /// The container exits gracefully, and then begins its next generation.
    Recycles,
    /// The generation is over already, and ends without an `exit`.
    Stale,
}

/// A part of a life that is the user's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Enter,
    /// Execute inputs until there is a reason to stop serving.
    Serve,
    Exit,
    /// The generation is over: drop the state that `enter` has built, if it is still there.
    Drop,
}

/// The next act in a life.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Open a memory account for the generation, and tie the user's code to the generation and the account.
    Tie,
    /// Run the user's code.
    Run(Part),
    /// Have the function count the container as live.
    Admit,
    /// Announce that the container is about to exit, so that the time of its `exit` is limited.
    Announce,
    /// Report that the container has exited.
    Leave,
    /// Have the function judge this death.
    Die(Death),
    /// Begin the next generation on this thread, if the function still wants one.
    Begin,
    /// Begin the next generation on this thread, for a worker that was interrupted.
    EnterAnew,
    /// The thread ends.
    End,
    /// The thread has ended.
    Nothing,
}

/// The result of an [`Act`].
#[derive(Debug, Clone)]
pub(crate) enum LifeEvent {
    /// The generation was over before: the container was killed, or its function has ended.
    Stale,
    Tied,
    /// No memory account is free. The container dies of that.
    NoAccount(Death),
    /// `enter` has returned, or has died of the error in `outcome`. `overdraft` is the death of a container
    /// whose account is over its limit.
    Entered {
        outcome: Result<(), Death>,
        overdraft: Option<Death>,
    },
    Admitted,
    Served(Served),
    /// An execution has unwound. `interrupted` says that a checkpoint has unwound it, because its outcome was
    /// no longer wanted.
    Unwinding {
        panic: Panic,
        interrupted: bool,
        overdraft: Option<Death>,
    },
    Announced,
    Exited(Fate),
    Left,
    /// The decision of the restart policy about the death. `None` if the generation was over before.
    Judged(Option<Restart>),
    Dropped,
    /// The next generation, if there is one.
    Begun(Option<Generation>),
    Ended,
}

/// The act that follows the end of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Begin,
    EnterAnew,
    End,
}

impl After {
    fn act(self) -> Act {
        match self {
            Self::Begin => Act::Begin,
            Self::EnterAnew => Act::EnterAnew,
            Self::End => Act::End,
        }
    }
}

/// The life of a container on one thread, over all generations that this thread has.
#[derive(Debug)]
pub(crate) struct Life {
    generation: Generation,
    /// Whether the user's code has a state that an interruption may leave torn.
    tears: bool,
    act: Act,
    /// The act that follows this generation. It is written when the generation's end is known, and read once
    /// the generation's state is dropped.
    after: After,
    /// The fate of the container in its last generation, if it has exited.
    fate: Option<Fate>,
}

impl Life {
    pub(crate) fn new(generation: Generation, tears: bool) -> Self {
        Self { generation, tears, act: Act::Tie, after: After::End, fate: None }
    }

    /// The current generation, or the last one.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn act(&self) -> &Act {
        &self.act
    }

    /// The fate of the container, as far as its last generation knows.
    pub(crate) fn fate(&self) -> Option<&Fate> {
        self.fate.as_ref()
    }

    /// Takes the result of the current act, and moves on to the next act.
    ///
    /// # Panics
    ///
    /// If the current act cannot have this result.
    pub(crate) fn hear(&mut self, event: LifeEvent) {
        self.act = match (&self.act, event) {
            (Act::Tie, LifeEvent::Tied) => Act::Run(Part::Enter),
            (Act::Tie, LifeEvent::NoAccount(death)) => Act::Die(death),
            (Act::Run(Part::Enter), LifeEvent::Entered { outcome, overdraft }) => {
                overdraft.or(outcome.err()).map_or(Act::Admit, Act::Die)
            }
            (Act::Admit, LifeEvent::Admitted) => Act::Run(Part::Serve),
            (Act::Run(Part::Serve), LifeEvent::Unwinding { interrupted: true, .. }) if !self.tears => {
                Act::Run(Part::Serve)
            }
            (Act::Run(Part::Serve), LifeEvent::Unwinding { interrupted: true, .. }) => {
                self.ends(After::EnterAnew)
            }
            (Act::Run(Part::Serve), LifeEvent::Unwinding { panic, overdraft, .. }) => {
                Act::Die(overdraft.unwrap_or(Death::Panicked(panic)))
            }
            (Act::Run(Part::Serve), LifeEvent::Served(Served::Leaves)) => {
                self.after = After::End;
                Act::Announce
            }
            (Act::Run(Part::Serve), LifeEvent::Served(Served::Recycles)) => {
                self.after = After::Begin;
                Act::Announce
            }
            (Act::Announce, LifeEvent::Announced) => Act::Run(Part::Exit),
            (Act::Run(Part::Exit), LifeEvent::Exited(fate)) => {
                self.fate = Some(fate);
                Act::Leave
            }
            (Act::Leave, LifeEvent::Left) => Act::Run(Part::Drop),
            (Act::Die(_), LifeEvent::Judged(Some(Restart::Now))) => self.ends(After::Begin),
            (Act::Die(_), LifeEvent::Judged(Some(Restart::At(_) | Restart::GiveUp) | None))
            | (Act::Run(Part::Serve), LifeEvent::Served(Served::Stale))
            | (Act::Tie | Act::Run(Part::Enter) | Act::Admit, LifeEvent::Stale) => self.ends(After::End),
            (Act::Run(Part::Drop), LifeEvent::Dropped) => self.after.act(),
            (Act::Begin | Act::EnterAnew, LifeEvent::Begun(Some(generation))) => {
                self.generation = generation;
                self.fate = None; // the next generation has a fate of its own
                Act::Tie
            }
            (Act::Begin | Act::EnterAnew, LifeEvent::Begun(None)) => Act::End,
            (Act::End, LifeEvent::Ended) => Act::Nothing,
            (act, event) => panic!("in a container's life {act:?} cannot come to {event:?}"),
        };
    }

    /// The generation is over, once its state is dropped.
    fn ends(&mut self, after: After) -> Act {
        self.after = after;
        Act::Run(Part::Drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Generation = Generation(1);
    const SECOND: Generation = Generation(2);

    fn panic() -> Panic {
        Panic { message: "a crash".to_owned(), location: None }
    }

    fn overdraft() -> Option<Death> {
        Some(Death::MemoryLimit { limit: 1, used: 2, reclaimed: true })
    }

    fn came_out(interrupted: bool, overdraft: Option<Death>) -> LifeEvent {
        LifeEvent::Unwinding { panic: panic(), interrupted, overdraft }
    }

    fn entered() -> LifeEvent {
        LifeEvent::Entered { outcome: Ok(()), overdraft: None }
    }

    /// A life that has taken all these events.
    fn life(has_state: bool, events: impl IntoIterator<Item = LifeEvent>) -> Life {
        let mut life = Life::new(FIRST, has_state);
        events.into_iter().for_each(|event| life.hear(event));
        life
    }

    /// A life that serves, and has then taken all these events.
    fn served(has_state: bool, events: impl IntoIterator<Item = LifeEvent>) -> Life {
        life(has_state, [LifeEvent::Tied, entered(), LifeEvent::Admitted].into_iter().chain(events))
    }

    #[test]
    fn a_container_that_leaves_exits_and_ends_with_its_fate() {
        let mut life = served(true, [LifeEvent::Served(Served::Leaves)]);
        assert!(matches!(life.act(), Act::Announce));
        life.hear(LifeEvent::Announced);
        assert!(matches!(life.act(), Act::Run(Part::Exit)));
        life.hear(LifeEvent::Exited(Fate::ExitPanicked(panic())));
        assert!(matches!(life.act(), Act::Leave));
        life.hear(LifeEvent::Left);
        life.hear(LifeEvent::Dropped);
        assert!(matches!(life.act(), Act::End));
        assert_eq!(life.fate(), Some(&Fate::ExitPanicked(panic())));
        life.hear(LifeEvent::Ended);
        assert!(matches!(life.act(), Act::Nothing));
    }

    #[test]
    fn a_recycled_container_exits_and_begins_again_and_has_a_fate_only_if_it_does_not() {
        let exits = [
            LifeEvent::Served(Served::Recycles),
            LifeEvent::Announced,
            LifeEvent::Exited(Fate::Exited),
            LifeEvent::Left,
            LifeEvent::Dropped,
        ];
        let mut life = served(true, exits.clone());
        assert!(matches!(life.act(), Act::Begin));
        life.hear(LifeEvent::Begun(Some(SECOND)));
        assert!(matches!(life.act(), Act::Tie));
        assert_eq!((life.generation(), life.fate()), (SECOND, None));
        let mut life = served(true, exits);
        life.hear(LifeEvent::Begun(None));
        assert!(matches!(life.act(), Act::End));
        assert_eq!((life.generation(), life.fate()), (FIRST, Some(&Fate::Exited)));
    }

    #[test]
    fn a_crash_drops_the_state_behind_the_verdict_which_says_whether_the_thread_goes_on() {
        for (verdict, goes_on) in [
            (Some(Restart::Now), true),
            (Some(Restart::At(Time::default())), false),
            (Some(Restart::GiveUp), false),
            (None, false),
        ] {
            let mut life = served(true, [came_out(false, None)]);
            assert!(matches!(life.act(), Act::Die(Death::Panicked(_))));
            life.hear(LifeEvent::Judged(verdict));
            assert!(matches!(life.act(), Act::Run(Part::Drop)));
            life.hear(LifeEvent::Dropped);
            assert_eq!(matches!(life.act(), Act::Begin), goes_on, "after {verdict:?}");
            assert_eq!(matches!(life.act(), Act::End), !goes_on, "after {verdict:?}");
            assert_eq!(life.fate(), None);
        }
    }

    #[test]
    fn an_overdraft_is_the_death_whatever_the_code_came_to() {
        for outcome in [Ok(()), Err(Death::EnterPanicked(panic()))] {
            let life = life(true, [LifeEvent::Tied, LifeEvent::Entered { outcome, overdraft: overdraft() }]);
            assert!(matches!(life.act(), Act::Die(Death::MemoryLimit { .. })));
        }
        let life = served(true, [came_out(false, overdraft())]);
        assert!(matches!(life.act(), Act::Die(Death::MemoryLimit { .. })));
    }

    #[test]
    fn a_failed_start_dies_of_its_reason() {
        let failed = LifeEvent::Entered { outcome: Err(Death::EnterPanicked(panic())), overdraft: None };
        assert!(matches!(life(true, [LifeEvent::Tied, failed]).act(), Act::Die(Death::EnterPanicked(_))));
        let none = LifeEvent::NoAccount(Death::NoAccount);
        assert!(matches!(life(true, [none]).act(), Act::Die(Death::NoAccount)));
    }

    #[test]
    fn interrupted_code_goes_on_unless_it_has_a_state_which_is_built_anew() {
        let life = served(false, [came_out(true, None)]);
        assert!(matches!(life.act(), Act::Run(Part::Serve)));
        let mut life = served(true, [came_out(true, None)]);
        assert!(matches!(life.act(), Act::Run(Part::Drop)));
        life.hear(LifeEvent::Dropped);
        assert!(matches!(life.act(), Act::EnterAnew));
        life.hear(LifeEvent::Begun(Some(SECOND)));
        assert!(matches!(life.act(), Act::Tie));
        assert_eq!(life.generation(), SECOND);
    }

    #[test]
    fn a_generation_that_is_over_ends_its_thread_without_an_exit_wherever_it_is_found_out() {
        let before: [&[LifeEvent]; 4] = [
            &[LifeEvent::Stale],
            &[LifeEvent::Tied, LifeEvent::Stale],
            &[LifeEvent::Tied, entered(), LifeEvent::Stale],
            &[LifeEvent::Tied, entered(), LifeEvent::Admitted, LifeEvent::Served(Served::Stale)],
        ];
        for events in before {
            let mut life = life(true, events.iter().cloned());
            assert!(matches!(life.act(), Act::Run(Part::Drop)), "after {events:?}");
            life.hear(LifeEvent::Dropped);
            assert!(matches!(life.act(), Act::End), "after {events:?}");
            assert_eq!(life.fate(), None, "after {events:?}");
        }
    }

    #[test]
    #[should_panic(expected = "cannot come to")]
    fn what_cannot_come_of_an_act_is_a_fault() {
        life(true, [LifeEvent::Admitted]);
    }
}
