//! The container actor: it owns the thread of one container.
//!
//! It makes a thread for each generation the supervisor launches, and watches over its `exit`. What
//! the thread does between is not its business.

use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, SpawnHandle};

use crate::crash::Death;
use crate::decide::ids::{ContainerId, Generation};
use crate::engine::dispatch::Dispatch;
use crate::engine::messages::{Launch, Notice, Retire};
use crate::engine::thread;

/// One container.
pub(crate) struct Container<I, O, E> {
    id: ContainerId,
    dispatch: Arc<Dispatch<I, O, E>>,
    /// Runs while the thread of that generation is in `exit`.
    exit_timer: Option<(Generation, SpawnHandle)>,
}

impl<I, O, E> Container<I, O, E> {
    pub(crate) fn new(id: ContainerId, dispatch: Arc<Dispatch<I, O, E>>) -> Self {
        Self { id, dispatch, exit_timer: None }
    }
}

impl<I, O, E> Actor for Container<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Context = Context<Self>;
}

impl<I, O, E> Handler<Launch> for Container<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, Launch { generation }: Launch, _: &mut Context<Self>) {
        let settings = &self.dispatch.settings;
        let name = format!("{}/{}/{}#{generation}", settings.app, settings.function, self.id);
        let (id, dispatch) = (self.id, Arc::clone(&self.dispatch));
        if !self.dispatch.launch(id, generation) {
            return self.dispatch.tell(Notice::Ended { container: id, generation });
        }
        #[cfg(feature = "testkit")]
        if let Some(rehearsed) = &settings.rehearsed {
            return Arc::clone(rehearsed).container(dispatch, id, generation);
        }
        let made = std::thread::Builder::new()
            .name(name)
            .stack_size(settings.stack_bytes)
            .spawn(move || thread::run(&dispatch, id, generation));
        if let Err(error) = made {
            let death = Death::NoThread(Arc::new(error));
            self.dispatch.crashed(id, generation, death);
            self.dispatch.ended(id, generation, None);
        }
    }
}

impl<I, O, E> Handler<Retire> for Container<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl<I, O, E> Handler<Notice> for Container<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, notice: Notice, ctx: &mut Context<Self>) {
        match notice {
            Notice::Exiting { generation, .. } => {
                let limit = self.dispatch.settings.exit_timeout;
                let timer = ctx.run_later(limit, move |container, _| container.exit_timed_out(generation));
                self.exit_timer = Some((generation, timer));
            }
            Notice::Ended { generation, .. } => {
                if let Some((_, timer)) = self.exit_timer.take_if(|(exiting, _)| *exiting == generation) {
                    ctx.cancel_future(timer);
                }
            }
            Notice::Crashed { .. }
            | Notice::Fenced { .. }
            | Notice::FeederEnded
            | Notice::Recovered
            | Notice::Entered
            | Notice::NothingPending
            | Notice::Awaited => {}
        }
    }
}

impl<I, O, E> Container<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn exit_timed_out(&mut self, generation: Generation) {
        if self.dispatch.abandon_exit(self.id, generation) {
            self.dispatch.tell(Notice::Ended { container: self.id, generation });
        }
    }
}
