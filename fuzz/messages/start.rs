//! Starts the function of a story with its settings.

use std::sync::Arc;
use std::time::Duration;

use longshore::{App, Builder, ConfigError, Context, CrashLoopBackoff, RateLimited, Retries, StartError};

use crate::code::{LIMIT, Stateful, execute, execute_batch, execute_batch_in_task, execute_in_task};
use crate::story::{Kind, Policy, RetryIf, Settings, Span};
use crate::values::{F, Output, Ticket, World, Wrong};

/// The started function, or `None` if its settings are refused as they should be.
pub(crate) fn start(app: &App, world: &Arc<World>) -> Option<F> {
    let entered = Arc::clone(world);
    let settings = &world.story.settings;
    let f = match settings.kind {
        Kind::Plain => {
            // The captured value is dropped with the closure.
            app.function("f", move |ticket: &Ticket| {
                assert!(Arc::ptr_eq(&entered, ticket.world()), "the ticket is of another story");
                execute(ticket)
            })
        }
        Kind::Worker => app.worker("f", move |_: &Context| Stateful::enter(&entered)),
        Kind::Async | Kind::AsyncMany => {
            app.function_async("f", async |ticket: &Ticket| execute_in_task(ticket).await)
        }
        Kind::AsyncWorker => app.worker_async("f", async move |_: &Context| {
            tokio::task::yield_now().await;
            Stateful::enter(&entered)
        }),
        Kind::Batch => app.batch("f", execute_batch),
        Kind::BatchAsync => {
            app.batch_async("f", async |tickets: &[&Ticket]| execute_batch_in_task(tickets).await)
        }
        Kind::BatchWorker => app.batch_worker("f", move |_: &Context| Stateful::enter(&entered)),
        Kind::ConcurrentWorker => {
            app.worker_concurrent("f", async move |_: &Context| Stateful::enter(&entered))
        }
    };
    let refused_limit = settings.limits.is_refused() || settings.enter_timeout == Span::Refused;
    let refused_calls = settings.calls_max == Some(0);
    match set(f, settings).start() {
        Ok(f) => {
            assert!(settings.window != Some(0), "a window of 0 was accepted");
            assert!(!refused_limit && !refused_calls, "a limit out of its range was accepted: {settings:?}");
            Some(f)
        }
        Err(StartError::Config(ConfigError::Window { .. })) if settings.window == Some(0) => None,
        Err(StartError::Config(ConfigError::TimeLimit { .. })) if refused_limit => None,
        Err(StartError::Config(ConfigError::CallsMax { .. })) if refused_calls => None,
        Err(refused) => panic!("{refused}: {settings:?}"),
    }
}

type Started = Builder<Ticket, Output, Wrong>;

fn set(f: Started, settings: &Settings) -> Started {
    let micro = Duration::from_micros(1);
    let f = f
        .containers(1 + usize::from(settings.containers % 3))
        .crash_retries(u32::from(settings.crash_retries % 4))
        .retries(retries(settings.retries))
        .abandoned_max(1 + usize::from(settings.abandoned_max % 4))
        .stack_size(256 << 10);
    let many = 1 + usize::from(settings.concurrent_inputs % 6);
    let f = if settings.kind.is_concurrent() { f.concurrent_inputs(many) } else { f };
    let f = if settings.kind.is_batched() {
        let wait = if settings.concurrent_inputs > 127 { 100 * micro } else { Duration::ZERO };
        f.batch_size(settings.batch_size()).batch_wait(wait)
    } else {
        f
    };
    let f = match settings.retry_if {
        RetryIf::Always => f,
        RetryIf::Never => f.retry_if(|_| false),
        RetryIf::Panics => f.retry_if(|_| panic!("in retry_if")),
    };
    let f = match settings.policy {
        Policy::Never => f.restart(RateLimited::never()),
        Policy::BacksOff => {
            f.restart(CrashLoopBackoff::new().initial(50 * micro).max(400 * micro).reset_after(1000 * micro))
        }
        Policy::GivesUpAfter(crashes) => {
            let rate = if crashes > 127 { 0.5 } else { 0.0 };
            f.restart(RateLimited::new().max_crashes(u32::from(crashes % 4)).max_failure_rate(rate))
        }
    };
    let f = match settings.limits.timeout.length() {
        Some(limit) => f.timeout(limit),
        None => f,
    };
    let f = match settings.limits.deadline.length() {
        Some(limit) => f.deadline(limit),
        None => f,
    };
    let f = match settings.enter_timeout.length() {
        Some(limit) => f.enter_timeout(limit),
        None => f,
    };
    let f = f.retry_timeouts(settings.retry_timeouts);
    let f = if settings.keep_interrupted { f.keep_interrupted() } else { f };
    let f = match settings.calls_max {
        Some(calls) => f.calls_max(u64::from(calls)),
        None => f,
    };
    let f = match settings.window {
        Some(window) => f.window(u64::from(window)),
        None => f,
    };
    let f = if settings.memory_limit { f.memory_limit(LIMIT) } else { f };
    let f = if settings.recycle { f.recycle_above(2 << 10) } else { f };
    if settings.short_exit_timeout { f.exit_timeout(100 * micro) } else { f }
}

/// A few retries, with short delays or none.
pub(crate) fn retries(times: u8) -> Retries {
    let micro = Duration::from_micros(1);
    let initial = if times > 127 { 50 * micro } else { Duration::ZERO };
    Retries::new(u32::from(times % 4)).max_delay(300 * micro).initial_delay(initial)
}
