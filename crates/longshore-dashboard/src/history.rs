//! [`History`]: the functions that a dashboard remembers, also after their end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use longshore::snapshot::FunctionSnapshot;
use longshore::{AnyFunction, Health};

use crate::series::{Ring, Sample};
use crate::source::Look;
use crate::strips::Strips;

/// The functions that ended and are still shown. The engine keeps as many.
const ENDED_MAX: usize = 16;

/// The time within which the last snapshot of a function follows its end.
const LAST_SNAPSHOT: Duration = Duration::from_secs(5);

/// A function that is younger at its first sample was started since the sample before. On a loaded machine a
/// sample may be seconds late.
const YOUNG: Duration = Duration::from_secs(5);

/// The largest number of running functions with series. Each costs at most 0.3 MB, besides its last snapshot.
pub(crate) const SAMPLED_MAX: usize = 256;

/// The functions that a dashboard remembers.
#[derive(Default)]
pub(crate) struct History {
    /// The running functions, in the order of their start.
    pub(crate) running: Vec<Remembered>,
    /// The last functions that ended, oldest first.
    pub(crate) ended: VecDeque<Remembered>,
    /// The moment of the first look. Functions that were started later are counted from their start.
    since: Option<Duration>,
}

/// A function, as a dashboard remembers it.
pub(crate) struct Remembered {
    /// The last snapshot.
    pub(crate) last: FunctionSnapshot,
    /// `None` until the sampler has seen the function.
    pub(crate) samples: Option<Box<Samples>>,
    /// `None` once the last snapshot was taken at the end.
    pub(crate) function: Option<AnyFunction>,
}

/// The name of a function and the moment of its start, because a name may be used again.
type Key = (String, Duration);

fn key(of: &FunctionSnapshot) -> Key {
    (of.name.clone(), of.started)
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
    /// The samples of a function that was started since the last look, so that all of its events belong to
    /// the first sample.
    fn since_start() -> Self {
        Self::new(Totals::default(), Strips::since_start())
    }

    /// The samples of an older function. Its events so far are not counted, because their moments are not
    /// known.
    fn from_now(snapshot: &FunctionSnapshot) -> Self {
        Self::new(Totals::of(snapshot), Strips::default())
    }

    fn new(before: Totals, strips: Strips) -> Self {
        Self { seconds: Ring::new(1_000, 600), minutes: Ring::new(60_000, 1440), strips, before }
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
        let all = std::mem::take(&mut self.running).into_iter().chain(std::mem::take(&mut self.ended));
        let mut before: BTreeMap<Key, Remembered> = all.map(|it| (key(&it.last), it)).collect();

        let have_ended: BTreeSet<Key> = look.ended.iter().map(key).collect();
        let mut samples_of = |last: &FunctionSnapshot| before.remove(&key(last)).and_then(|it| it.samples);
        for last in std::mem::take(&mut look.ended) {
            let samples = samples_of(&last);
            self.ended.push_back(Remembered { last, samples, function: None });
        }
        for (function, last) in std::mem::take(&mut look.functions) {
            if !have_ended.contains(&key(&last)) {
                let samples = samples_of(&last);
                self.running.push(Remembered { last, samples, function: Some(function) });
            }
        }
        for left in before.into_values() {
            self.see_again(left, look.now);
        }
    }

    /// Takes note of a function that the app has no more. A function outlives its app while there is a handle
    /// to it, and its last snapshot may be taken a moment after its end.
    fn see_again(&mut self, left: Remembered, now: Duration) {
        let Remembered { mut last, samples, function: Some(function) } = left else { return };
        let latest = function.snapshot().filter(|latest| latest.started == last.started);
        match latest {
            Some(last) if last.health != Health::Ended => {
                self.running.push(Remembered { last, samples, function: Some(function) });
            }
            _ if now.saturating_sub(last.now) < LAST_SNAPSHOT && self.ended.len() < ENDED_MAX => {
                last.health = Health::Ended;
                self.ended.push_back(Remembered { last, samples, function: Some(function) });
            }
            _ => {}
        }
    }

    /// Adds a sample of every running function, from its last snapshot.
    pub(crate) fn sample(&mut self, now: Duration) {
        // The counts belong to the seconds that are over.
        let at_ms = now.as_secs().saturating_mul(1_000);
        let since = self.since.unwrap_or(now);
        for remembered in self.running.iter_mut().take(SAMPLED_MAX) {
            let Remembered { last, samples, .. } = remembered;
            match samples {
                Some(samples) => samples.push(at_ms, last),
                None if last.started > since && now.saturating_sub(last.started) < YOUNG => {
                    samples.insert(Box::new(Samples::since_start())).push(at_ms, last);
                }
                None => *samples = Some(Box::new(Samples::from_now(last))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, sick};

    fn see(history: &mut History, look: &mut Look) {
        history.see(look);
        history.sample(look.now);
    }

    #[test]
    fn the_series_of_a_function_stay_when_it_ends_although_its_last_snapshot_comes_later() {
        let fixture = Fixture::new();
        let snapshots = sick();
        let (_, mut history) = fixture.history(&snapshots);
        let last = snapshots.last().expect("there are some").clone();

        see(&mut history, &mut fixture.look(last.now + Duration::from_secs(1), Vec::new()));
        assert!(history.running.is_empty());
        assert_eq!((history.ended.len(), history.ended[0].last.health), (1, Health::Ended));

        let mut look = fixture.look(last.now + Duration::from_secs(2), Vec::new());
        look.ended.push(last.clone());
        see(&mut history, &mut look);
        assert_eq!(history.ended.len(), 1);
        assert!(history.ended[0].samples.is_some() && history.ended[0].function.is_none());
    }

    #[test]
    fn a_function_without_a_last_snapshot_is_forgotten_after_a_while() {
        let fixture = Fixture::new();
        let snapshots = sick();
        let (_, mut history) = fixture.history(&snapshots);
        let now = snapshots.last().expect("there are some").now;
        see(&mut history, &mut fixture.look(now + LAST_SNAPSHOT / 2, Vec::new()));
        assert_eq!(history.ended.len(), 1);
        see(&mut history, &mut fixture.look(now + LAST_SNAPSHOT, Vec::new()));
        assert_eq!(history.ended.len(), 0);
    }

    #[test]
    fn a_function_that_has_ended_since_the_look_is_shown_once() {
        let fixture = Fixture::new();
        let last = sick().pop().expect("there are some");
        let mut history = History::default();
        let mut look = fixture.look(last.now, vec![last.clone()]);
        look.ended.push(last);
        see(&mut history, &mut look);
        assert_eq!((history.running.len(), history.ended.len()), (0, 1));
    }

    #[test]
    fn the_series_of_a_function_take_a_hundred_kilobytes_at_most() {
        let last = sick().pop().expect("there are some");
        let mut samples = Samples::since_start();
        for second in 0..100_000 {
            samples.push(second * 1_000, &last);
        }
        let bytes = samples.seconds.bytes() + samples.minutes.bytes();
        assert!(bytes < 110_000, "{bytes}");
        assert_eq!((samples.seconds.samples().count(), samples.minutes.samples().count()), (600, 1440));
    }

    #[test]
    fn series_are_kept_of_so_many_functions_and_no_more() {
        let fixture = Fixture::new();
        let last = sick().pop().expect("there are some");
        let named = |n: usize| {
            let mut snapshot = last.clone();
            snapshot.name = format!("f{n}");
            snapshot
        };
        let mut history = History::default();
        for _ in 0..2 {
            see(&mut history, &mut fixture.look(last.now, (0..SAMPLED_MAX + 7).map(named).collect()));
        }
        let sampled = history.running.iter().filter(|it| it.samples.is_some()).count();
        assert_eq!((history.running.len(), sampled), (SAMPLED_MAX + 7, SAMPLED_MAX));
    }
}
