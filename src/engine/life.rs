//! The life of a container, carried out: all of it but the user's code.
//!
//! A [`Living`] does what the [`Life`] of a container asks of the engine, and hands the parts that are the user's code to its
//! driver: a container's [thread](crate::engine::thread), a task of a rehearsal, or a simulated thread, which does one
//! act at a time.

use std::sync::Arc;

use crate::base::ids::{ContainerId, Generation};
use crate::code::token::Token;
use crate::contain::TARGET;
use crate::contain::unwind::ignore_panic;
use crate::decide::life::{Act, Event, Life, Part, Served};
use crate::engine::dispatch::Dispatch;
use crate::engine::messages::Notice;
use crate::values::crash::{BoxError, Death, EnterError, Panic};
use crate::values::report::Fate;

/// Makes the token of a generation, with an account where its memory is counted. `Err` if no account is free.
pub(crate) type MakeLeash = fn(&Dispatch) -> Result<Token, Death>;

/// A container that lives on one thread.
pub(crate) struct Living {
    dispatch: Arc<Dispatch>,
    id: ContainerId,
    pub(crate) life: Life,
    make_leash: MakeLeash,
    /// What ties the user's code to the current generation. `None` before it is tied, and once its state is dropped.
    pub(crate) token: Option<Arc<Token>>,
}

impl Living {
    pub(crate) fn new(
        dispatch: &Arc<Dispatch>,
        id: ContainerId,
        generation: Generation,
        make_leash: MakeLeash,
    ) -> Self {
        let life = Life::new(generation, dispatch.settings.code.has_state());
        Self { dispatch: Arc::clone(dispatch), id, life, make_leash, token: None }
    }

    /// The current generation, or the last one.
    pub(crate) fn generation(&self) -> Generation {
        self.life.generation()
    }

    /// The token of the current generation, whose code runs.
    pub(crate) fn with_current(&self) -> &Arc<Token> {
        self.token.as_ref().expect("a generation is tied before its code runs")
    }

    /// Does what is the engine's, up to the next part of the user's code. `None` once only the thread is to
    /// [end](Self::end).
    pub(crate) fn next(&mut self) -> Option<Part> {
        loop {
            match self.life.act() {
                Act::Run(part) => return Some(*part),
                Act::End | Act::Nothing => return None,
                Act::Tie
                | Act::Admit
                | Act::Announce
                | Act::Leave
                | Act::Die(_)
                | Act::Begin
                | Act::EnterAnew => {
                    let event = self.perform();
                    self.hear(event);
                }
            }
        }
    }

    /// The thread ends: nothing of the user's is left on it.
    pub(crate) fn end(mut self) {
        let event = self.perform();
        self.hear(event);
    }

    /// The user's `enter` has come to that.
    pub(crate) fn entered(&mut self, entered: Result<Result<(), BoxError>, Panic>) {
        let outcome = match entered {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(Death::EnterFailed(Arc::new(EnterError::new(error, self.dispatch.settings.stack()))))
            }
            Err(panic) => Err(Death::EnterPanicked(panic)),
        };
        let overdraft = self.with_current().over_limit_death();
        self.hear(Event::Entered { outcome, overdraft });
    }

    /// The user's code serves no more, or has unwound.
    pub(crate) fn served(&mut self, served: Result<Served, Panic>) {
        let event = match served {
            Ok(served) => Event::Served(served),
            Err(panic) => {
                let (interrupted, overdraft) =
                    (self.with_current().is_interrupted(), self.with_current().over_limit_death());
                Event::Unwinding { panic, interrupted, overdraft }
            }
        };
        self.hear(event);
    }

    /// The user's `exit` has returned, or has unwound.
    pub(crate) fn exited(&mut self, exit: Result<(), Panic>) {
        let fate = match exit {
            Ok(()) => Fate::Exited,
            Err(panic) => {
                let settings = &self.dispatch.settings;
                let (app, function, container) = (&settings.app, &settings.function, self.id.index());
                ignore_panic(
                    || tracing::warn!(target: TARGET, %app, %function, container, %panic, "exit panicked"),
                );
                Fate::ExitPanicked(panic)
            }
        };
        self.hear(Event::Exited(fate));
    }

    /// That came of what was to be done.
    pub(crate) fn hear(&mut self, event: Event) {
        if matches!(event, Event::Dropped) {
            self.token = None;
        }
        self.life.hear(event);
    }

    /// Does the one act that is to be done, which is no part of the user's code. What came of it is to be
    /// [heard](Self::hear).
    pub(crate) fn perform(&mut self) -> Event {
        let Self { dispatch, id, life, .. } = self;
        let (id, generation) = (*id, life.generation());
        match life.act() {
            Act::Tie => self.tie(),
            Act::Admit => {
                if let Some(account) = self.with_current().account() {
                    account.counters().end_epoch(); // what comes is charged to attempts
                }
                if self.dispatch.entered(id, generation) { Event::Admitted } else { Event::Stale }
            }
            Act::Announce => {
                self.with_current().exits();
                self.dispatch.notify(Notice::Exiting { container: id, generation });
                Event::Announced
            }
            Act::Leave => {
                dispatch.left(id, generation);
                Event::Left
            }
            Act::Die(death) => Event::Judged(dispatch.crashed(id, generation, death.clone())),
            Act::Begin => Event::Begun(dispatch.begin(id, generation)),
            Act::EnterAnew => Event::Begun(dispatch.enter_anew(id, generation)),
            Act::End => {
                dispatch.ended(id, generation, life.fate().cloned());
                Event::Ended
            }
            act @ (Act::Run(_) | Act::Nothing) => panic!("the engine does not perform {act:?}"),
        }
    }

    fn tie(&mut self) -> Event {
        let token = match (self.make_leash)(&self.dispatch) {
            Ok(token) => Arc::new(token),
            Err(death) => return Event::NoAccount(death),
        };
        let tied = self.dispatch.register_token(self.id, self.life.generation(), &token);
        self.token = Some(token);
        if tied { Event::Tied } else { Event::Stale }
    }
}
