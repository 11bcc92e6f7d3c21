//! The life of a container, except for the user's code.
//!
//! A [`Living`] performs the acts that the [`Life`] of a container asks of the engine. It leaves the parts
//! that are user code to its driver: a container's [thread](crate::engine::thread), a task of a rehearsal, or
//! a simulated thread, which performs one act at a time.

use std::sync::Arc;

use crate::base::ids::{ContainerId, Generation};
use crate::code::token::Token;
use crate::contain::TARGET;
use crate::contain::unwind::ignore_panic;
use crate::decide::life::{Act, Life, LifeEvent, Part, Served};
use crate::engine::dispatch::Dispatch;
use crate::engine::messages::Notice;
use crate::values::crash::{BoxError, Death, EnterError, Panic};
use crate::values::report::Fate;

/// Makes the token of a generation, with a memory account if the function's memory is counted. Returns `Err`
/// if no account is free.
pub(crate) type MakeToken = fn(&Dispatch) -> Result<Token, Death>;

/// A container that lives on one thread.
pub(crate) struct Living {
    dispatch: Arc<Dispatch>,
    id: ContainerId,
    pub(crate) life: Life,
    make_token: MakeToken,
    /// Ties the user's code to the current generation. `None` before the generation is tied, and once its
    /// state is dropped.
    pub(crate) token: Option<Arc<Token>>,
}

impl Living {
    pub(crate) fn new(
        dispatch: &Arc<Dispatch>,
        id: ContainerId,
        generation: Generation,
        make_token: MakeToken,
    ) -> Self {
        let settings = &dispatch.settings;
        let tears = settings.code.has_state() && !settings.keep_interrupted;
        let life = Life::new(generation, tears);
        Self { dispatch: Arc::clone(dispatch), id, life, make_token, token: None }
    }

    /// The current generation, or the last one.
    pub(crate) fn generation(&self) -> Generation {
        self.life.generation()
    }

    /// The token of the current generation.
    ///
    /// # Panics
    ///
    /// If the generation is not tied, or its state is dropped.
    pub(crate) fn with_current(&self) -> &Arc<Token> {
        self.token.as_ref().expect("the generation is tied")
    }

    /// Performs the engine's acts up to the next part of the user's code. Returns `None` once the only thing
    /// left is to [end](Self::end) the thread.
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

    /// Ends the thread. None of the user's values may be left on it.
    pub(crate) fn end(mut self) {
        let event = self.perform();
        self.hear(event);
    }

    /// Records how the user's `enter` ended.
    pub(crate) fn entered(&mut self, entered: Result<Result<(), BoxError>, Panic>) {
        let outcome = match entered {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(Death::EnterFailed(Arc::new(EnterError::new(error, self.dispatch.settings.stack()))))
            }
            Err(panic) => Err(Death::EnterPanicked(panic)),
        };
        let overdraft = self.with_current().over_limit_death();
        self.hear(LifeEvent::Entered { outcome, overdraft });
    }

    /// Records why the user's code stopped serving, or that it has unwound.
    pub(crate) fn served(&mut self, served: Result<Served, Panic>) {
        let event = match served {
            Ok(served) => LifeEvent::Served(served),
            Err(panic) => {
                let (interrupted, overdraft) =
                    (self.with_current().is_interrupted(), self.with_current().over_limit_death());
                LifeEvent::Unwinding { panic, interrupted, overdraft }
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
        self.hear(LifeEvent::Exited(fate));
    }

    /// Passes the result of the last act on to the [`Life`].
    pub(crate) fn hear(&mut self, event: LifeEvent) {
        if matches!(event, LifeEvent::Dropped) {
            self.token = None;
        }
        self.life.hear(event);
    }

    /// Performs the next act, which must be one of the engine's. The caller passes the result on to
    /// [`hear`](Self::hear).
    ///
    /// # Panics
    ///
    /// If the next act is a part of the user's code, or there is none.
    pub(crate) fn perform(&mut self) -> LifeEvent {
        let Self { dispatch, id, life, .. } = self;
        let (id, generation) = (*id, life.generation());
        match life.act() {
            Act::Tie => self.tie(),
            Act::Admit => {
                let executes_many = self.dispatch.settings.rules.lanes > 1;
                if let Some(account) = self.with_current().account().filter(|_| !executes_many) {
                    account.counters().end_epoch(); // from now on memory is charged to attempts
                }
                if self.dispatch.entered(id, generation) { LifeEvent::Admitted } else { LifeEvent::Stale }
            }
            Act::Announce => {
                self.with_current().exits();
                self.dispatch.notify(Notice::Exiting { container: id, generation });
                LifeEvent::Announced
            }
            Act::Leave => {
                dispatch.left(id, generation);
                LifeEvent::Left
            }
            Act::Die(death) => LifeEvent::Judged(dispatch.crashed(id, generation, death.clone())),
            Act::Begin => LifeEvent::Begun(dispatch.begin(id, generation)),
            Act::EnterAnew => LifeEvent::Begun(dispatch.enter_anew(id, generation)),
            Act::End => {
                dispatch.ended(id, generation, life.fate().cloned());
                LifeEvent::Ended
            }
            act @ (Act::Run(_) | Act::Nothing) => panic!("the engine does not perform {act:?}"),
        }
    }

    fn tie(&mut self) -> LifeEvent {
        let token = match (self.make_token)(&self.dispatch) {
            Ok(token) => Arc::new(token),
            Err(death) => return LifeEvent::NoAccount(death),
        };
        let tied = self.dispatch.register_token(self.id, self.life.generation(), &token);
        self.token = Some(token);
        if tied { LifeEvent::Tied } else { LifeEvent::Stale }
    }
}
