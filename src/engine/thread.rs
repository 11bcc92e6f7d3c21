//! What the thread of a container runs: enter, work, crash, and again.
//!
//! The thread is kept over a restart that needs no delay, because a restart is then a matter of
//! microseconds. The verdict is taken here, under the function's lock; the supervisor is told.

use std::sync::Arc;

use crate::base::ids::{ContainerId, Generation};
use crate::code::context::Context;
use crate::code::leash::{self, Leash};
use crate::contain::TARGET;
use crate::contain::unwind::{contain, set_thread_hook, tell};
use crate::decide::restart::Restart;
use crate::engine::body::{Instance, Post, Served};
use crate::engine::dispatch::Dispatch;
use crate::engine::messages::Notice;
use crate::values::crash::{Death, EnterError, Panic};
use crate::values::report::Fate;

/// How one generation ended.
pub(crate) enum End {
    /// A crash, and what the policy says.
    Crashed(Option<Restart>),
    /// It left gracefully.
    Left(Fate),
    /// The same, to begin anew if that is still wanted.
    Recycled(Fate),
    /// A worker was interrupted, and is to be entered anew.
    Interrupted,
    /// Its generation was over.
    Stale,
}

/// Runs a container from `generation` on, until it is not restarted at once.
pub(crate) fn run(dispatch: &Arc<Dispatch>, id: ContainerId, generation: Generation) {
    let settings = &dispatch.settings;
    set_thread_hook(settings.panic_hook);
    let context =
        Context::install(Arc::clone(&settings.app), Arc::clone(&settings.function), settings.id, id);
    let mut next = Some(generation);
    let mut last = None;
    let mut current = generation;
    while let Some(generation) = next.take() {
        current = generation;
        match live(dispatch, id, generation, &context) {
            End::Crashed(Some(Restart::Now)) => next = dispatch.begin(id, generation),
            End::Crashed(_) => {}
            End::Recycled(fate) => {
                next = dispatch.begin(id, generation);
                last = next.is_none().then_some(fate);
            }
            End::Left(fate) => last = Some(fate),
            End::Interrupted => next = dispatch.enter_anew(id, generation),
            End::Stale => last = None,
        }
    }
    leash::tie(None);
    context.end_generation();
    dispatch.ended(id, current, last);
}

/// One generation.
fn live(dispatch: &Arc<Dispatch>, id: ContainerId, generation: Generation, context: &Context) -> End {
    let leash = match dispatch.open_account() {
        Ok(account) => Arc::new(Leash::of_this_thread(account, dispatch.settings.stack_bytes)),
        Err(death) => return End::Crashed(dispatch.crashed(id, generation, death)),
    };
    if !dispatch.tie(id, generation, &leash) {
        return End::Stale; // killed or aborted before it began
    }
    leash::tie(Some(Arc::clone(&leash)));
    context.begin_generation(generation, &leash);
    let code = &dispatch.settings.code;
    let post = Post::new(dispatch, (id, generation), context, &leash);
    let entered = contain(|| leash.inside(|| code.enter(&post)));
    let mut instance = match entered {
        Ok(Ok(instance)) if !leash.is_overdrawn() => instance,
        Ok(Ok(instance)) => {
            let verdict = dispatch.crashed(id, generation, leash.overdraft().expect("it is overdrawn"));
            leash.drop_inside(instance);
            return End::Crashed(verdict);
        }
        Ok(Err(error)) => {
            let error = Arc::new(EnterError::new(error, dispatch.settings.stack()));
            let death = leash.overdraft().unwrap_or(Death::EnterFailed(error));
            return End::Crashed(dispatch.crashed(id, generation, death));
        }
        Err(panic) => {
            let death = leash.overdraft().unwrap_or(Death::EnterPanicked(panic));
            return End::Crashed(dispatch.crashed(id, generation, death));
        }
    };
    if let Some(account) = leash.account() {
        account.counters().end_epoch(); // what comes is charged to attempts
    }
    if !dispatch.entered(id, generation) {
        leash.drop_inside(instance);
        return End::Stale;
    }
    let served = loop {
        let served = contain(|| instance.serve(&post));
        context.end_run();
        match served {
            Err(_) if leash.is_interrupted() && !code.has_state() => {}
            served => break served,
        }
    };
    match served {
        Ok(Served::Leaves) => End::Left(leave(&post, instance)),
        Ok(Served::Recycles) => End::Recycled(leave(&post, instance)),
        Ok(Served::Stale) => {
            leash.drop_inside(instance);
            End::Stale
        }
        Err(_) if leash.is_interrupted() => {
            leash.drop_inside(instance);
            End::Interrupted
        }
        Err(panic) => {
            let death = leash.overdraft().unwrap_or(Death::Panicked(panic));
            let verdict = dispatch.crashed(id, generation, death);
            leash.drop_inside(instance);
            verdict.map_or(End::Stale, |verdict| End::Crashed(Some(verdict)))
        }
    }
}

fn leave(post: &Post<'_>, instance: Box<dyn Instance + '_>) -> Fate {
    let Post { dispatch, container: id, generation, .. } = *post;
    post.leash.exits();
    dispatch.tell(Notice::Exiting { container: id, generation });
    let fate = exited(post, contain(|| post.leash.inside(|| instance.exit(post))));
    dispatch.left(id, generation);
    fate
}

/// What has become of a container by its exit.
pub(crate) fn exited(post: &Post<'_>, exit: Result<(), Panic>) -> Fate {
    let Err(panic) = exit else { return Fate::Exited };
    let settings = &post.dispatch.settings;
    let (app, function, container) = (&settings.app, &settings.function, post.container.index());
    tell(|| tracing::warn!(target: TARGET, %app, %function, container, %panic, "exit panicked"));
    Fate::ExitPanicked(panic)
}
