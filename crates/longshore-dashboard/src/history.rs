//! [`History`]: what a dashboard remembers of each function, also after the function has ended.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use longshore::snapshot::FunctionSnapshot;
use longshore::{AnyFunction, FunctionReport, Health};

use crate::series::{Ring, Sample};
use crate::source::Look;
use crate::strips::Strips;

/// The functions that ended and are still shown.
pub(crate) const ENDED_MAX: usize = 16;

/// The running functions of which series are kept. Each costs at most 0.2 MB.
pub(crate) const SAMPLED_MAX: usize = 256;

/// What a dashboard remembers.
#[derive(Default)]
pub(crate) struct History {
    /// The running functions, in the order of their start.
    pub(crate) running: Vec<Remembered>,
    /// The last functions that ended, oldest first.
    pub(crate) ended: VecDeque<Remembered>,
    /// The moment of the first look. Functions that were started later are counted from their start.
    since: Option<Duration>,
}

/// What a dashboard remembers of one function.
pub(crate) struct Remembered {
    pub(crate) function: AnyFunction,
    /// The last snapshot.
    pub(crate) last: FunctionSnapshot,
    /// `None` until the sampler has seen the function.
    pub(crate) samples: Option<Box<Samples>>,
}

/// The series and strips of one function.
pub(crate) struct Samples {
    /// One second a step, for ten minutes.
    pub(crate) seconds: Ring,
    /// One minute a step, for a day. The last minute is the one that has not ended.
    pub(crate) minutes: Ring,
    pub(crate) strips: Strips,
    /// The totals at the last sample.
    before: Totals,
}

/// The totals from which counts of a step are derived.
#[derive(Clone, Copy, Default)]
struct Totals {
    ok: u64,
    failed: u64,
    poisoned: u64,
    crashes: u64,
}

impl Totals {
    const fn of(snapshot: &FunctionSnapshot) -> Self {
        let totals = &snapshot.totals;
        Self {
            ok: totals.ok,
            failed: totals.failed,
            poisoned: totals.poisoned,
            crashes: totals.crashes.crashes(),
        }
    }
}

impl Samples {
    fn new(before: Totals) -> Self {
        Self {
            seconds: Ring::new(1_000, 600),
            minutes: Ring::new(60_000, 1440),
            strips: Strips::default(),
            before,
        }
    }

    fn push(&mut self, at_ms: u64, snapshot: &FunctionSnapshot) {
        let (before, now) = (self.before, Totals::of(snapshot));
        let more = |now: u64, before: u64| narrow(now.saturating_sub(before));
        let sample = Sample {
            ok: more(now.ok, before.ok),
            failed: more(now.failed, before.failed),
            poisoned: more(now.poisoned, before.poisoned),
            crashes: more(now.crashes, before.crashes),
            live: narrow(snapshot.containers.live as u64),
            waiting: narrow(snapshot.inputs.queued + snapshot.inputs.retry + snapshot.inputs.replay),
            bytes: snapshot.memory.map(|memory| memory.live),
        };
        self.before = now;
        self.seconds.push(at_ms, sample);
        self.minutes.push(at_ms, sample);
        self.strips.push(at_ms / 1_000, &snapshot.rows);
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl History {
    /// Takes note of a look: of functions that are new, and of those that have ended. The looks must come in
    /// their order.
    pub(crate) fn see(&mut self, look: &mut Look) {
        self.since.get_or_insert(look.now);
        let before = std::mem::take(&mut self.running).into_iter();
        let mut before: BTreeMap<String, Remembered> = before.map(|it| (it.last.name.clone(), it)).collect();
        for (function, last) in std::mem::take(&mut look.functions) {
            // A name may be used again.
            let same = before.get(&last.name).is_some_and(|it| it.last.started == last.started);
            let samples = same.then(|| before.remove(&last.name)).flatten().and_then(|it| it.samples);
            self.running.push(Remembered { function, last, samples });
        }
        let mut ended: Vec<_> = before.into_values().collect();
        ended.sort_by_key(|it| it.last.started);
        for ended in ended {
            self.end(ended, &look.app.reports);
        }
    }

    fn end(&mut self, mut gone: Remembered, reports: &[FunctionReport]) {
        if let Some(last) = gone.function.snapshot().filter(|last| last.started == gone.last.started) {
            gone.last = last; // a handle to the function is left
        }
        gone.last.health = Health::Ended;
        if gone.last.report.is_none() {
            gone.last.report = reports.iter().rev().find(|report| report.function == gone.last.name).cloned();
        }
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(gone);
    }

    /// Adds a sample of every running function, from its last snapshot.
    pub(crate) fn sample(&mut self, now: Duration) {
        // The counts are those of the seconds that are over.
        let at_ms = now.as_secs().saturating_mul(1_000);
        let since = self.since.unwrap_or(now);
        for remembered in self.running.iter_mut().take(SAMPLED_MAX) {
            let Remembered { last, samples, .. } = remembered;
            match samples {
                Some(samples) => samples.push(at_ms, last),
                // What happened before the first look is not counted, because its moment is not known.
                None if last.started <= since => *samples = Some(Box::new(Samples::new(Totals::of(last)))),
                None => {
                    let samples = samples.insert(Box::new(Samples::new(Totals::default())));
                    samples.push(at_ms, last);
                }
            }
        }
    }
}
