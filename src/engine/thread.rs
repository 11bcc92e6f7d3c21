//! The code that the thread of a container runs: the user's code, one part of the container's life after
//! another.
//!
//! The thread is kept over a restart that needs no delay, so that such a restart takes microseconds. The
//! [`Life`](crate::decide::life::Life) of the container decides the order of the parts, and a [`Living`]
//! carries it out.

use std::sync::Arc;

use crate::base::ids::{ContainerId, Generation};
use crate::code::context::Context;
use crate::code::token::{self, Token};
use crate::contain::unwind::{contain, set_thread_hook};
use crate::decide::life::{LifeEvent, Part};
use crate::engine::body::{GenerationEnv, Instance};
use crate::engine::dispatch::Dispatch;
use crate::engine::life::Living;

/// The user's code in one generation.
struct EnteredCode<'a> {
    env: GenerationEnv<'a>,
    /// `None` if `enter` has failed, and once it has exited.
    instance: Option<Box<dyn Instance + 'a>>,
}

/// Runs a container from `generation` on, until it ends or its restart has a delay.
pub(crate) fn run(dispatch: &Arc<Dispatch>, id: ContainerId, generation: Generation) {
    let settings = &dispatch.settings;
    set_thread_hook(settings.panic_hook);
    let context =
        Context::install(Arc::clone(&settings.app), Arc::clone(&settings.function), settings.id, id);
    let token = |dispatch: &Dispatch| {
        Ok(Token::of_this_thread(dispatch.open_account()?, dispatch.settings.stack_bytes))
    };
    let mut living = Living::new(dispatch, id, generation, token);
    let mut entered = None;
    while let Some(part) = living.next() {
        match (part, &mut entered) {
            (Part::Enter, entered) => *entered = Some(enter(&mut living, dispatch, id, &context)),
            (Part::Serve, Some(EnteredCode { env, instance: Some(instance) })) => {
                let served = contain(|| instance.serve(env)).and_then(|served| served);
                context.end_run();
                living.served(served);
            }
            (Part::Exit, Some(EnteredCode { env, instance })) => {
                let instance = instance.take().expect("a generation exits once");
                living.exited(contain(|| env.token.inside(|| instance.exit(env))));
            }
            (Part::Drop, entered) => {
                if let Some(EnteredCode { env, instance: Some(instance) }) = entered.take() {
                    env.token.drop_inside(instance);
                }
                living.hear(LifeEvent::Dropped);
            }
            (Part::Serve | Part::Exit, _) => unreachable!("the generation has entered"),
        }
    }
    token::set_current(None);
    context.end_generation();
    living.end();
}

/// Runs the user's `enter`, in a generation that was tied.
fn enter<'a>(
    living: &mut Living,
    dispatch: &'a Arc<Dispatch>,
    id: ContainerId,
    context: &'a Context,
) -> EnteredCode<'a> {
    let generation = living.generation();
    token::set_current(Some(Arc::clone(living.with_current())));
    context.begin_generation(generation, living.with_current());
    let env = GenerationEnv::new(dispatch, (id, generation), context, living.with_current());
    let (instance, outcome) = match contain(|| env.token.inside(|| dispatch.settings.code.enter(&env))) {
        Ok(Ok(instance)) => (Some(instance), Ok(Ok(()))),
        Ok(Err(error)) => (None, Ok(Err(error))),
        Err(panic) => (None, Err(panic)),
    };
    living.entered(outcome);
    EnteredCode { env, instance }
}
