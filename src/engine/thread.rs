//! What the thread of a container runs: the user's code, from part to part of its life.
//!
//! The thread is kept over a restart that needs no delay, because a restart is then a matter of
//! microseconds. What comes after what is decided by the [`Life`](crate::decide::life::Life) of the container, and a
//! [`Living`] carries it out.

use std::sync::Arc;

use crate::base::ids::{ContainerId, Generation};
use crate::code::context::Context;
use crate::code::leash::{self, Leash};
use crate::contain::unwind::{contain, set_thread_hook};
use crate::decide::life::{Event, Part};
use crate::engine::body::{Instance, Post};
use crate::engine::dispatch::Dispatch;
use crate::engine::life::Living;

/// The user's code in one generation.
struct Entered<'a> {
    post: Post<'a>,
    /// `None` if `enter` has failed, and once it has exited.
    instance: Option<Box<dyn Instance + 'a>>,
}

/// Runs a container from `generation` on, until it is not restarted at once.
pub(crate) fn run(dispatch: &Arc<Dispatch>, id: ContainerId, generation: Generation) {
    let settings = &dispatch.settings;
    set_thread_hook(settings.panic_hook);
    let context =
        Context::install(Arc::clone(&settings.app), Arc::clone(&settings.function), settings.id, id);
    let leash = |dispatch: &Dispatch| {
        Ok(Leash::of_this_thread(dispatch.open_account()?, dispatch.settings.stack_bytes))
    };
    let mut living = Living::new(dispatch, id, generation, leash);
    let mut entered = None;
    while let Some(part) = living.next() {
        match (part, &mut entered) {
            (Part::Enter, entered) => *entered = Some(enter(&mut living, dispatch, id, &context)),
            (Part::Serve, Some(Entered { post, instance: Some(instance) })) => {
                let served = contain(|| instance.serve(post));
                context.end_run();
                living.served(served);
            }
            (Part::Exit, Some(Entered { post, instance })) => {
                let instance = instance.take().expect("it exits once");
                living.exited(contain(|| post.leash.inside(|| instance.exit(post))));
            }
            (Part::Drop, entered) => {
                if let Some(Entered { post, instance: Some(instance) }) = entered.take() {
                    post.leash.drop_inside(instance);
                }
                living.hear(Event::Dropped);
            }
            (Part::Serve | Part::Exit, _) => unreachable!("it has entered"),
        }
    }
    leash::tie(None);
    context.end_generation();
    living.end();
}

/// The user's `enter`, in a generation that was tied.
fn enter<'a>(
    living: &mut Living,
    dispatch: &'a Arc<Dispatch>,
    id: ContainerId,
    context: &'a Context,
) -> Entered<'a> {
    let generation = living.generation();
    leash::tie(Some(Arc::clone(living.tied())));
    context.begin_generation(generation, living.tied());
    let post = Post::new(dispatch, (id, generation), context, living.tied());
    let (instance, outcome) = match contain(|| post.leash.inside(|| dispatch.settings.code.enter(&post))) {
        Ok(Ok(instance)) => (Some(instance), Ok(Ok(()))),
        Ok(Err(error)) => (None, Ok(Err(error))),
        Err(panic) => (None, Err(panic)),
    };
    living.entered(outcome);
    Entered { post, instance }
}
