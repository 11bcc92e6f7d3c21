//! The map actor: it owns one fan-out whose source may block, and with it the feeder.

use std::sync::Arc;

use actix::{Actor, ActorContext, Context};

use crate::decide::ids::JobId;
use crate::engine::dispatch::{Dispatch, FeederEnd};
use crate::engine::feeder::{self, Feed};

/// One fan-out.
pub(crate) struct Map<I, O, E> {
    job: JobId,
    dispatch: Arc<Dispatch<I, O, E>>,
    source: Option<Feed<I>>,
}

impl<I, O, E> Map<I, O, E> {
    pub(crate) fn new(job: JobId, dispatch: Arc<Dispatch<I, O, E>>, source: Feed<I>) -> Self {
        Self { job, dispatch, source: Some(source) }
    }
}

impl<I, O, E> Actor for Map<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let settings = &self.dispatch.settings;
        let name = format!("{}/{}/feed", settings.app, settings.function);
        let (job, dispatch) = (self.job, Arc::clone(&self.dispatch));
        let source = self.source.take().expect("an actor is started once");
        self.dispatch.hold().feeders += 1;
        let made = std::thread::Builder::new().name(name).spawn(move || feeder::run(&dispatch, job, source));
        if let Err(error) = made {
            let panic = crate::crash::Panic { message: format!("no feeder: {error}"), location: None };
            self.dispatch.source_over(job, FeederEnd::Panicked(panic));
        }
        ctx.stop();
    }
}
