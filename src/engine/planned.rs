//! A map that has not begun: its source and its options.

use std::sync::Arc;

use crate::contain::drops::{DeferDrop, Stack};
use crate::contain::outlined::{Outlined, outline};
use crate::data::failure::Reason;
use crate::data::prefetch::PrefetchQueue;
use crate::data::source::{BlockingSource, Source};
use crate::decide::limits::Limits;
use crate::decide::retries::Retries;
use crate::decide::window::Window;
use crate::engine::abort::AbortHandle;
use crate::engine::caller::Caller;
use crate::engine::dispatch::Dispatch;
use crate::engine::map_buffers::{JobSource, Order};
use crate::engine::messages::{DropGuard, Request};
use crate::engine::progress_handle::ProgressSource;
use crate::engine::reader::{Failures, ReaderGuard};
use crate::engine::running::Running;
use crate::engine::span::SafeSpan;
use crate::values::error::name_in_range;

/// The options of a map.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) order: Order,
    pub(crate) failures: Failures,
    pub(crate) window: Option<u64>,
    pub(crate) retries: Option<Retries>,
    pub(crate) limits: Limits,
    pub(crate) label: Option<Arc<str>>,
    /// Shows the progress of the map, if the caller has asked for it.
    pub(crate) progress: Option<ProgressSource>,
    /// The span in which the map was made.
    span: Option<SafeSpan>,
}

/// The default options, with the current span of the calling thread.
impl Default for Options {
    fn default() -> Self {
        let (order, failures) = (Order::Input, Failures::EndMap);
        Self {
            order,
            failures,
            window: None,
            retries: None,
            limits: Limits::default(),
            label: None,
            progress: None,
            span: SafeSpan::current(),
        }
    }
}

/// A map that has not begun.
pub(crate) struct Planned {
    pub(crate) source: DeferDrop<Source>,
    pub(crate) options: Options,
}

outline!(Planned);

impl Planned {
    /// A map over `source`, made by the calling thread. If the source is dropped before it is pulled, it is
    /// dropped on another thread with a stack of size `stack`. `holds_values` says whether there is anything
    /// to drop.
    pub(crate) fn over((source, holds_values): (Source, bool), stack: Stack) -> Outlined<Self> {
        let source = DeferDrop::new(source, stack, holds_values);
        Outlined::new(Self { source, options: Options::default() })
    }

    /// Begins the map. Returns its source if that needs a feeder.
    pub(super) fn open(
        self,
        dispatch: &Arc<Dispatch>,
        default_window: Window,
    ) -> Result<(ReaderGuard, Option<DeferDrop<BlockingSource>>), Reason> {
        let Self { source, options } = self;
        let Options { order, failures, window, retries, limits, label, progress, span } = options;
        let window = match window {
            Some(inputs) => Window::fixed(inputs).map_err(Reason::Config)?,
            None => default_window,
        };
        retries.as_ref().map_or(Ok(()), Retries::validate).map_err(Reason::Config)?;
        limits.validate().map_err(Reason::Config)?;
        label.as_deref().map_or(Ok(()), name_in_range).map_err(Reason::Config)?;
        let (source, blocking) = match source.into_inner() {
            Source::Direct(direct) => (JobSource::Direct(direct), None),
            // If the map is refused, the source is dropped on a thread that may block.
            Source::Blocking(source) => (
                JobSource::Prefetched(Arc::new(PrefetchQueue::new(dispatch.settings.shape.input))),
                Some(DeferDrop::new(source, dispatch.settings.stack(), true)),
            ),
        };
        let caller = Caller::within(span, label);
        let own = (retries, limits);
        let mut reader = ReaderGuard::of_map(dispatch, source, (order, failures), window, own, caller)?;
        if let Some(source) = progress {
            reader.shows_by(source);
        }
        Ok((reader, blocking))
    }

    /// Begins the map, and requests a feeder if its source needs one.
    pub(crate) fn begin(
        planned: Outlined<Self>,
        running: &Running,
        abort: &AbortHandle,
    ) -> Result<ReaderGuard, Reason> {
        if abort.is_aborted() {
            return Err(Reason::Cancelled); // no input of an aborted map is executed
        }
        let dispatch = &running.dispatch;
        let (reader, blocking) = planned.into_inner().open(dispatch, running.default_window)?;
        let job = reader.job();
        if let Some(source) = blocking {
            let broken = Arc::clone(dispatch);
            let guard = DropGuard::new(move || broken.map_undelivered(job));
            running.request(Request::FeedMap { job, source, guard });
        }
        reader.ends_by(abort);
        Ok(reader)
    }
}
