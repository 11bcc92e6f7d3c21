//! What the thread of a container runs: enter, work, crash, and again.
//!
//! The thread is kept over a restart that needs no delay, because a restart is then a matter of
//! microseconds. The verdict is taken here, under the function's lock; the supervisor is told.

use std::sync::Arc;

use crate::context::Context;
use crate::crash::{Death, EnterError};
use crate::decide::ids::{ContainerId, Generation};
use crate::decide::restart::Restart;
use crate::engine::body::{Instance, Post, Served};
use crate::engine::dispatch::Dispatch;
use crate::engine::messages::Notice;
use crate::engine::unwind::{contain, drop_contained, set_thread_hook, tell};
use crate::report::Fate;

/// How one generation ended.
enum End {
    /// A crash, and what the policy says.
    Crashed(Option<Restart>),
    /// It left gracefully.
    Left(Fate),
    /// Its generation was over.
    Stale,
}

/// Runs a container from `generation` on, until it is not restarted at once.
pub(crate) fn run<I, O, E>(dispatch: &Arc<Dispatch<I, O, E>>, id: ContainerId, generation: Generation)
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    let settings = &dispatch.settings;
    set_thread_hook(settings.panic_hook);
    let context =
        Context::install(Arc::clone(&settings.app), Arc::clone(&settings.function), settings.id, id);
    let mut next = Some(generation);
    let mut last = None;
    let mut current = generation;
    while let Some(generation) = next.take() {
        current = generation;
        context.begin_generation(generation);
        match live(dispatch, id, generation, &context) {
            End::Crashed(Some(Restart::Now)) => next = dispatch.begin(id),
            End::Crashed(_) => {}
            End::Left(fate) => last = Some(fate),
            End::Stale => last = None,
        }
    }
    dispatch.ended(id, current, last);
}

/// One generation.
fn live<I, O, E>(
    dispatch: &Arc<Dispatch<I, O, E>>,
    id: ContainerId,
    generation: Generation,
    context: &Context,
) -> End
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    if !dispatch.is_current(id, generation) {
        return End::Stale; // killed or aborted before it began
    }
    let body = dispatch.settings.body.get();
    let post = Post { dispatch, container: id, generation, context };
    let mut instance = match contain(|| body.enter(&post)) {
        Ok(Ok(instance)) => instance,
        Ok(Err(error)) => {
            let error = Arc::new(EnterError::new(error));
            return End::Crashed(dispatch.crashed(id, generation, Death::EnterFailed(error)));
        }
        Err(panic) => return End::Crashed(dispatch.crashed(id, generation, Death::EnterPanicked(panic))),
    };
    if !dispatch.entered(id, generation) {
        drop_contained(instance);
        return End::Stale;
    }
    let served = contain(|| instance.serve(&post));
    context.end_run();
    match served {
        Ok(Served::Leaves) => leave(&post, instance),
        Ok(Served::Stale) => {
            drop_contained(instance);
            End::Stale
        }
        Err(panic) => {
            let verdict = dispatch.crashed(id, generation, Death::Panicked(panic));
            drop_contained(instance);
            verdict.map_or(End::Stale, |verdict| End::Crashed(Some(verdict)))
        }
    }
}

fn leave<I, O, E>(post: &Post<'_, I, O, E>, instance: Box<dyn Instance<I, O, E> + '_>) -> End
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    let Post { dispatch, container: id, generation, .. } = *post;
    dispatch.tell(Notice::Exiting { container: id, generation });
    let settings = &dispatch.settings;
    let fate = match contain(|| instance.exit(post)) {
        Ok(()) => Fate::Exited,
        Err(panic) => {
            let (app, function, container) = (&settings.app, &settings.function, id.index());
            tell(|| tracing::warn!(%app, %function, container, %panic, "exit panicked"));
            Fate::ExitPanicked(panic)
        }
    };
    dispatch.left(id, generation);
    End::Left(fate)
}
