//! The time from the allocation that crosses a limit until the death of its container, and until the replay
//! of its input.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use longshore::{App, Context, Function};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Metadata, Subscriber};

use crate::harness::Harness;
use crate::harness::goal::Goal;
use crate::harness::ours;
use crate::harness::question::Measure;
use crate::harness::reading::{Reading, delays};

/// The memory limit of a container, and the size of the block that crosses it.
const LIMIT: u64 = 1 << 20;
const BLOCK: usize = 2 << 20;

/// The number of kills in each reading.
const KILLS: u64 = 50;

/// Nanoseconds since the first call of this function.
fn now() -> u64 {
    static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// When the last container was declared dead.
static DECLARED: AtomicU64 = AtomicU64::new(0);
/// When the limit was crossed last.
static CROSSED: AtomicU64 = AtomicU64::new(0);
/// The number of replays that have begun.
static REPLAYED: AtomicU64 = AtomicU64::new(0);

/// Notes when a container is declared dead.
struct Clock;

impl Subscriber for Clock {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("longshore") && *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Crashed(bool);
        impl Visit for Crashed {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                self.0 |= field.name() == "message" && format!("{value:?}") == "container crashed";
            }
        }
        let mut crashed = Crashed(false);
        event.record(&mut crashed);
        if crashed.0 {
            DECLARED.store(now(), Ordering::SeqCst);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Whether the code that is killed passes checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Never,
    Checkpoints,
}

/// A function that outputs the nanoseconds from the crossing until the death, and until the replay.
fn start(code: Code) -> Function<u64, (u64, u64), std::convert::Infallible> {
    let app = App::ephemeral("bench");
    let f = app.infallible("grows", move |n: &u64| {
        if Context::current().expect("in a container").attempt().get() > 1 {
            let replayed = now();
            REPLAYED.store(*n, Ordering::SeqCst);
            let crossed = CROSSED.load(Ordering::SeqCst);
            return (DECLARED.load(Ordering::SeqCst).saturating_sub(crossed), replayed - crossed);
        }
        CROSSED.store(now(), Ordering::SeqCst);
        let block = black_box(Vec::<u8>::with_capacity(BLOCK));
        while REPLAYED.load(Ordering::SeqCst) < *n {
            if code == Code::Checkpoints {
                Context::checkpoint();
            }
            std::hint::spin_loop();
        }
        drop(block);
        (0, 0)
    });
    ours::start_with(
        1,
        f.memory_limit(LIMIT)
            .abandoned_max(1000)
            .abandoned_bytes_max(u64::MAX)
            .restart(longshore::RateLimited::never()),
    )
}

pub(crate) fn ask(harness: &mut Harness) {
    tracing::subscriber::set_global_default(Clock).expect("there is no other");
    let measure = |name| Measure { name, unit: "µs", goal: Goal::Shown };
    let measures =
        [measure("dead, p50"), measure("dead, p99"), measure("replayed, p50"), measure("replayed, p99")];
    let kills = harness.inputs(KILLS);
    let mut next = 0;
    for (name, code) in
        [("killed where it never looks", Code::Never), ("killed at a checkpoint", Code::Checkpoints)]
    {
        let f = start(code);
        harness
            .question(name, kills)
            .measures(&measures)
            .ours(|| {
                let begun = Instant::now();
                let mut ask = || {
                    next += 1;
                    f.call(next).wait().expect("it is replayed once")
                };
                let told: Vec<(u64, u64)> = (0..kills).map(|_| ask()).collect();
                let nanos = |which: fn(&(u64, u64)) -> u64| {
                    told.iter().map(which).map(Duration::from_nanos).collect()
                };
                let dead = delays(begun.elapsed(), nanos(|told| told.0));
                let replayed = delays(begun.elapsed(), nanos(|told| told.1));
                Reading { took: dead.took, figures: [dead.figures, replayed.figures].concat() }
            })
            .ask();
    }
}
