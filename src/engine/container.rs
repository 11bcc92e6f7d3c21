//! The container actor: it owns the thread of one container.
//!
//! It makes a thread for each generation the supervisor launches, and watches over its `exit`. What
//! the thread does between is not its business. It knows no types, so that it is compiled once: what it asks of its
//! function is [`Hosts`].

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, SpawnHandle};

use crate::crash::Death;
use crate::decide::ids::{ContainerId, Generation};
use crate::engine::dispatch::Dispatch;
use crate::engine::messages::{Launch, Notice, Retire};
use crate::engine::spawn::spawn;
use crate::engine::thread;

/// The function of a container, as its actor sees it.
pub(crate) trait Hosts: Send + Sync {
    /// Makes a thread for that generation.
    fn launch_thread(self: Arc<Self>, id: ContainerId, generation: Generation);

    /// How long an `exit` may take.
    fn exit_timeout(&self) -> Duration;

    /// The `exit` of that generation has taken too long.
    fn exit_timed_out(&self, id: ContainerId, generation: Generation);
}

impl<I, O, E> Hosts for Dispatch<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn launch_thread(self: Arc<Self>, id: ContainerId, generation: Generation) {
        let settings = &self.settings;
        let name = format!("{}/{}/{id}#{generation}", settings.app, settings.function);
        if !self.launch(id, generation) {
            return self.tell(Notice::Ended { container: id, generation });
        }
        #[cfg(feature = "testkit")]
        if let Some(rehearsed) = &settings.rehearsed {
            return Arc::clone(rehearsed).container(Arc::clone(&self), id, generation);
        }
        let dispatch = Arc::clone(&self);
        let made =
            spawn(name, settings.stack_bytes, Box::new(move || thread::run(&dispatch, id, generation)));
        if let Err(error) = made {
            self.crashed(id, generation, Death::NoThread(Arc::new(error)));
            self.ended(id, generation, None);
        }
    }

    fn exit_timeout(&self) -> Duration {
        self.settings.exit_timeout
    }

    fn exit_timed_out(&self, id: ContainerId, generation: Generation) {
        if self.abandon_exit(id, generation) {
            self.tell(Notice::Ended { container: id, generation });
        }
    }
}

/// One container.
pub(crate) struct Container {
    id: ContainerId,
    function: Arc<dyn Hosts>,
    /// Runs while the thread of that generation is in `exit`.
    exit_timer: Option<(Generation, SpawnHandle)>,
}

impl Container {
    pub(crate) fn new(id: ContainerId, function: Arc<dyn Hosts>) -> Self {
        Self { id, function, exit_timer: None }
    }
}

impl Actor for Container {
    type Context = Context<Self>;
}

impl Handler<Launch> for Container {
    type Result = ();

    fn handle(&mut self, Launch { generation }: Launch, _: &mut Context<Self>) {
        Arc::clone(&self.function).launch_thread(self.id, generation);
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
                let limit = self.function.exit_timeout();
                let timer = ctx.run_later(limit, move |container, _| {
                    container.function.exit_timed_out(container.id, generation);
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
            | Notice::Awaited => {}
        }
    }
}
