//! The container actor: it owns the thread of one container.
//!
//! It makes a thread for each generation that the supervisor launches, and limits the time of the thread's
//! `exit`. It takes no part in what the thread does in between.

use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, SpawnHandle};

use crate::base::ids::{ContainerId, Generation};
use crate::engine::dispatch::Dispatch;
use crate::engine::messages::{Launch, Notice, Retire};
use crate::values::crash::Death;

/// One container.
pub(super) struct Container {
    id: ContainerId,
    dispatch: Arc<Dispatch>,
    /// Runs while the thread of this generation is in `exit`.
    exit_timer: Option<(Generation, SpawnHandle)>,
}

impl Container {
    pub(crate) fn new(id: ContainerId, dispatch: Arc<Dispatch>) -> Self {
        Self { id, dispatch, exit_timer: None }
    }
}

impl Actor for Container {
    type Context = Context<Self>;
}

impl Handler<Launch> for Container {
    type Result = ();

    fn handle(&mut self, Launch { generation }: Launch, _: &mut Context<Self>) {
        let (dispatch, id) = (Arc::clone(&self.dispatch), self.id);
        if !dispatch.launch(id, generation) {
            return dispatch.notify(Notice::Ended { container: id, generation });
        }
        if let Err(error) = dispatch.host.make_container(&dispatch, id, generation) {
            dispatch.crashed(id, generation, Death::NoThread(Arc::new(error)));
            dispatch.ended(id, generation, None);
        }
    }
}

impl Handler<Retire> for Container {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<Notice> for Container {
    type Result = ();

    fn handle(&mut self, notice: Notice, ctx: &mut Context<Self>) {
        match notice {
            Notice::Exiting { generation, .. } => {
                let limit = self.dispatch.settings.exit_timeout;
                let timer = ctx.run_later(limit, move |container, _| {
                    let Self { id, dispatch, .. } = container;
                    if dispatch.abandon_exit(*id, generation) {
                        dispatch.notify(Notice::Ended { container: *id, generation });
                    }
                });
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
            | Notice::Limited
            | Notice::Folds
            | Notice::Awaited => {}
        }
    }
}
