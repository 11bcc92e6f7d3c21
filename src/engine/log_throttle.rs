//! The throttle of a function's log. It decides which crashes and time-outs the log reports in full, and
//! which it only counts.
//!
//! It has no side effects: it is given each event in turn, and returns how the log is to report it. The first
//! crash of each kind is logged in full. Repeats are counted. For each kind, the count is logged once a
//! second, and in a crash loop it is logged with each delay of the loop instead. An outage is therefore one
//! line for its beginning, one for each delay and one for its end, however many containers it kills.
//!
//! Attempts that time out, and inputs whose deadlines pass, are [storms](crate::decide::storm): one line for
//! the first, one a second with the number of those that followed, and one when they are over.
//!
//! An overload is reported by its events, at most once a second, and so is its end. Overloads that come and
//! go are a [wave](crate::decide::wave): one line a minute with their number, and one when they are over.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use crate::decide::storm::{PERIOD, Storm, StormReport};
use crate::decide::time::Time;
use crate::decide::wave::{Coming, Wave, WaveReport};
use crate::values::crash::{Crash, Death};
use crate::values::event::Event;

/// How many kinds of crashes are distinguished within [`PERIOD`]. Crashes of further kinds count as
/// one kind.
const KINDS_MAX: usize = 64;

/// How the log reports an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// In full, with the number of crashes that were only counted before it. For a crash, only the crashes of
    /// its kind are counted. For any other event, the crashes of all kinds are.
    InFull { repeats: u64 },
    /// In full, because it begins a storm. The storm of the same kind before it is over, and the log has not
    /// said so yet. It says so first.
    NextStorm { before: StormReport },
    /// In full, because it begins a wave. The wave before it is over, and the log has not said so yet. It
    /// says so first.
    NextWave { before: WaveReport },
    /// At the debug level, because the event is counted as a repeat.
    Folded,
}

/// The kind of a crash. Crashes of one kind are repeats of each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum RepeatedCrash {
    Panic {
        place: String,
    },
    EnterPanic {
        place: String,
    },
    EnterError {
        text: String,
    },
    NoThread,
    NoAccount,
    Memory,
    EnterTimedOut,
    Unresponsive,
    Killed,
    /// Any further kind, once there are [`KINDS_MAX`] kinds.
    Other,
}

impl RepeatedCrash {
    fn of(crash: &Crash) -> Self {
        // The message is no part of the kind, because the same place may panic with another message for each
        // input.
        let place =
            |panic: &crate::values::crash::Panic| panic.location().unwrap_or(panic.message()).to_owned();
        match &crash.death {
            Death::Panicked(panic) => Self::Panic { place: place(panic) },
            Death::EnterPanicked(panic) => Self::EnterPanic { place: place(panic) },
            Death::EnterFailed(error) => Self::EnterError { text: error.to_string() },
            Death::NoThread(_) => Self::NoThread,
            Death::NoAccount => Self::NoAccount,
            Death::MemoryLimit { .. } => Self::Memory,
            Death::EnterTimedOut { .. } => Self::EnterTimedOut,
            Death::Unresponsive => Self::Unresponsive,
            Death::Killed => Self::Killed,
        }
    }
}

/// The crashes of one kind that were only counted.
#[derive(Debug)]
struct Repeats {
    /// When their number was last logged.
    logged: Time,
    /// How many crashes there have been since then.
    unlogged: u64,
    /// The last of these crashes.
    last: Arc<Crash>,
}

/// The kind of a storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum StormKind {
    /// Attempts time out.
    Timeouts,
    /// Deadlines pass while inputs execute.
    Deadlines,
    /// Deadlines pass while inputs wait.
    Expiries,
}

impl StormKind {
    fn of(event: &Event) -> Option<Self> {
        match event {
            Event::TimedOut { is_deadline: false, .. } => Some(Self::Timeouts),
            Event::TimedOut { is_deadline: true, .. } => Some(Self::Deadlines),
            Event::Expired { .. } => Some(Self::Expiries),
            _ => None,
        }
    }
}

/// A line of the log about events that were only counted.
#[derive(Debug)]
pub(super) enum Sum {
    /// This number of crashes like the given one.
    Crashes(Arc<Crash>, u64),
    /// A storm, and the last of its events.
    Storm(Event, StormReport),
    /// Overloads that come and go.
    Overloads(WaveReport),
}

/// The state of the throttle of one function.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    kinds: BTreeMap<RepeatedCrash, Repeats>,
    /// The storms, each with the last of its events.
    storms: BTreeMap<StormKind, (Storm, Event)>,
    /// The overloads.
    overloads: Wave,
    /// Whether there is a crash loop. The event of each delay of the loop carries the number of repeats.
    in_a_loop: bool,
}

impl LogThrottle {
    /// Takes the next event, which happened at `at`, and returns how to log it.
    pub(crate) fn admit(&mut self, event: &Event, at: Time) -> Detail {
        if let Some(kind) = StormKind::of(event) {
            return self.stormed(kind, event, at);
        }
        match event {
            Event::Crashed(crash) => self.crashed(crash, at),
            Event::CrashLoop { .. } => {
                self.in_a_loop = true;
                Detail::InFull { repeats: self.take_counts(at) }
            }
            Event::Recovered { .. } | Event::Reset | Event::GaveUp(_) => {
                self.in_a_loop = false;
                Detail::InFull { repeats: self.take_counts(at) }
            }
            Event::Overloaded { refused, .. } => {
                let coming = self.overloads.is_there(*refused, at);
                match coming {
                    Coming::First { before: Some(before) } => Detail::NextWave { before },
                    _ if self.overloads.reports(coming) => Detail::InFull { repeats: 0 },
                    _ => Detail::Folded,
                }
            }
            Event::OverloadEnded { refused, .. } => {
                self.overloads.is_gone(*refused, at);
                if self.overloads.is_folded() { Detail::Folded } else { Detail::InFull { repeats: 0 } }
            }
            Event::Missed(_) => {
                self.in_a_loop = false; // the end of the loop may be among the missed events
                self.overloads = Wave::default(); // and so may the end of an overload
                Detail::InFull { repeats: 0 }
            }
            _ => Detail::InFull { repeats: 0 },
        }
    }

    fn crashed(&mut self, crash: &Arc<Crash>, at: Time) -> Detail {
        let mut kind = RepeatedCrash::of(crash);
        if !self.kinds.contains_key(&kind) && self.kinds.len() >= KINDS_MAX {
            // A kind whose next crash would be logged in full anyway need not be remembered.
            self.kinds.retain(|_, repeats| repeats.unlogged > 0 || at.since(repeats.logged) < PERIOD);
            if self.kinds.len() >= KINDS_MAX {
                kind = RepeatedCrash::Other;
            }
        }
        let Some(repeats) = self.kinds.get_mut(&kind) else {
            self.kinds.insert(kind, Repeats { logged: at, unlogged: 0, last: Arc::clone(crash) });
            return Detail::InFull { repeats: 0 };
        };
        if self.in_a_loop || at.since(repeats.logged) < PERIOD {
            repeats.unlogged += 1;
            repeats.last = Arc::clone(crash);
            return Detail::Folded;
        }
        repeats.logged = at;
        Detail::InFull { repeats: mem::take(&mut repeats.unlogged) }
    }

    fn stormed(&mut self, kind: StormKind, event: &Event, at: Time) -> Detail {
        let inputs = if let Event::Expired { inputs, .. } = event { *inputs } else { 1 };
        if let Some((storm, last)) = self.storms.get_mut(&kind)
            && !storm.is_over(at)
        {
            storm.again(inputs, at);
            *last = event.clone();
            return Detail::Folded;
        }
        let before = self.storms.insert(kind, (Storm::begins(inputs, at), event.clone()));
        match before {
            // No review has come since it was over. Its end has the number of all events, also of those that
            // were not reported.
            Some((storm, _)) if !storm.is_single() => Detail::NextStorm { before: storm.end() },
            Some(_) | None => Detail::InFull { repeats: 0 },
        }
    }

    /// Takes the sums that are due to be logged, with the last event of each kind. It is needed if no later
    /// event logs them.
    pub(crate) fn take_repeats(&mut self, at: Time) -> Vec<Sum> {
        let mut sums = self.take_crashes(at);
        self.storms.retain(|_, (storm, last)| {
            // A review that comes late reports the last events, and then the end.
            while let Some(report) = storm.review(at) {
                let is_over = matches!(report, StormReport::Over { .. });
                if !storm.is_single() {
                    sums.push(Sum::Storm(last.clone(), report));
                }
                if is_over {
                    return false;
                }
            }
            true
        });
        sums.extend(self.overloads.review(at).map(Sum::Overloads));
        sums
    }

    fn take_crashes(&mut self, at: Time) -> Vec<Sum> {
        if self.in_a_loop {
            return Vec::new(); // the next delay of the loop logs them, or its end
        }
        let due = self
            .kinds
            .values_mut()
            .filter(|repeats| repeats.unlogged > 0 && at.since(repeats.logged) >= PERIOD);
        let take = |repeats: &mut Repeats| {
            repeats.logged = at;
            Sum::Crashes(Arc::clone(&repeats.last), mem::take(&mut repeats.unlogged))
        };
        due.map(take).collect()
    }

    /// Takes all repeats that were not logged, because the function has ended.
    pub(crate) fn take_all_repeats(&mut self, at: Time) -> Vec<Sum> {
        self.in_a_loop = false;
        let mut sums = self.take_crashes(at + PERIOD);
        for (mut storm, last) in mem::take(&mut self.storms).into_values() {
            let unreported = storm.take_unreported(at);
            let end = (storm.is_over(at) && !storm.is_single()).then(|| storm.end());
            sums.extend(unreported.into_iter().chain(end).map(|report| Sum::Storm(last.clone(), report)));
        }
        sums.extend(mem::take(&mut self.overloads).end().map(Sum::Overloads));
        sums
    }

    /// Whether there are sums that `take_repeats` will return once they are due.
    pub(super) fn has_repeats(&self) -> bool {
        let crashes = !self.in_a_loop && self.kinds.values().any(|repeats| repeats.unlogged > 0);
        let storms = self.storms.values().any(|(storm, _)| !storm.is_single());
        crashes || storms || self.overloads.is_folded()
    }

    /// Takes the number of repeats of all kinds, which is logged now.
    fn take_counts(&mut self, at: Time) -> u64 {
        let take = |repeats: &mut Repeats| {
            repeats.logged = at;
            mem::take(&mut repeats.unlogged)
        };
        self.kinds.values_mut().map(take).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::ids::{Attempt, ContainerId, Generation};
    use crate::values::crash::Panic;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn crash(line: u32) -> Event {
        let panic = Panic { message: "gone".to_owned(), location: Some(format!("src/client.rs:{line}:9")) };
        Event::Crashed(Arc::new(Crash {
            container: ContainerId(0),
            generation: Generation(1),
            executing: None,
            map: None,
            call: None,
            peak_bytes: None,
            death: Death::Panicked(panic),
        }))
    }

    fn crash_loop(crashes: u32) -> Event {
        let Event::Crashed(crash) = crash(1) else { unreachable!("it is a crash") };
        Event::CrashLoop { crashes, since: Duration::ZERO, next_restart: Duration::ZERO, crash }
    }

    fn timed_out(is_deadline: bool) -> Event {
        let limit = Duration::from_millis(20);
        let (attempt, is_retried) = (Attempt(1), false);
        Event::TimedOut { map: None, call: None, input: 0, attempt, limit, is_deadline, is_retried }
    }

    fn expired(inputs: u64) -> Event {
        Event::Expired { map: None, call: None, input: 0, inputs, limit: Duration::from_millis(20) }
    }

    /// The numbers of the crashes in sums.
    fn crashes(sums: Vec<Sum>) -> Vec<u64> {
        let crashes = |sum| if let Sum::Crashes(_, repeats) = sum { Some(repeats) } else { None };
        sums.into_iter().filter_map(crashes).collect()
    }

    /// The reports on storms in sums.
    fn reports(sums: Vec<Sum>) -> Vec<StormReport> {
        let report = |sum| if let Sum::Storm(_, report) = sum { Some(report) } else { None };
        sums.into_iter().filter_map(report).collect()
    }

    fn in_full(repeats: u64) -> Detail {
        Detail::InFull { repeats }
    }

    #[test]
    fn each_kind_of_limit_has_a_storm_of_its_own() {
        let mut throttle = LogThrottle::default();
        for event in [timed_out(false), timed_out(true), expired(3)] {
            assert_eq!(throttle.admit(&event, at(0)), in_full(0));
            assert_eq!(throttle.admit(&event, at(1)), Detail::Folded);
        }
    }

    #[test]
    fn the_first_crash_of_each_kind_is_logged_in_full() {
        let mut throttle = LogThrottle::default();
        assert_eq!(throttle.admit(&crash(1), at(0)), in_full(0));
        assert_eq!(throttle.admit(&crash(2), at(0)), in_full(0));
    }

    #[test]
    fn repeats_are_logged_once_a_second_with_their_number() {
        let mut throttle = LogThrottle::default();
        throttle.admit(&crash(1), at(0));
        for ms in [0, 10, 999] {
            assert_eq!(throttle.admit(&crash(1), at(ms)), Detail::Folded);
        }
        assert_eq!(throttle.admit(&crash(1), at(1000)), in_full(3));
        assert_eq!(throttle.admit(&crash(1), at(1001)), Detail::Folded);
    }

    #[test]
    fn repeats_without_a_later_event_are_logged_after_a_second() {
        let mut throttle = LogThrottle::default();
        throttle.admit(&crash(1), at(0));
        throttle.admit(&crash(1), at(1));
        assert!(throttle.has_repeats());
        assert!(throttle.take_repeats(at(999)).is_empty());
        assert_eq!(crashes(throttle.take_repeats(at(1000))), [1]);
        assert!(!throttle.has_repeats());
    }

    #[test]
    fn in_a_crash_loop_each_delay_carries_the_number_of_repeats() {
        let mut throttle = LogThrottle::default();
        throttle.admit(&crash(1), at(0));
        for _ in 0..7 {
            throttle.admit(&crash(1), at(0));
        }
        assert_eq!(throttle.admit(&crash_loop(2), at(1)), in_full(7));
        for _ in 0..8 {
            assert_eq!(throttle.admit(&crash(1), at(5000)), Detail::Folded);
        }
        assert!(!throttle.has_repeats(), "the event of the next delay carries them");
        assert_eq!(throttle.admit(&crash_loop(3), at(5001)), in_full(8));
        throttle.admit(&crash(1), at(6000));
        let recovered = Event::Recovered { crashes: 3, after: Duration::from_secs(6) };
        assert_eq!(throttle.admit(&recovered, at(6001)), in_full(1));
        assert_eq!(throttle.admit(&crash(1), at(7001)), in_full(0), "the loop is over");
    }

    #[test]
    fn another_kind_of_crash_is_logged_in_full_within_a_loop() {
        let mut throttle = LogThrottle::default();
        throttle.admit(&crash(1), at(0));
        throttle.admit(&crash_loop(2), at(1));
        assert_eq!(throttle.admit(&crash(2), at(5000)), in_full(0));
        assert_eq!(throttle.admit(&crash(1), at(5000)), Detail::Folded, "the first kind is still remembered");
    }

    #[test]
    fn missed_events_end_the_crash_loop() {
        let mut throttle = LogThrottle::default();
        throttle.admit(&crash(1), at(0));
        throttle.admit(&crash_loop(2), at(1));
        assert_eq!(throttle.admit(&Event::Missed(3), at(2)), in_full(0));
        assert_eq!(throttle.admit(&crash(1), at(1001)), in_full(0));
    }

    #[test]
    fn a_crash_without_repeats_is_logged_once() {
        let mut throttle = LogThrottle::default();
        throttle.admit(&crash(1), at(0));
        assert!(throttle.take_repeats(at(1000)).is_empty());
    }

    #[test]
    fn repeats_that_were_not_logged_are_kept_when_other_kinds_are_dropped() {
        let mut throttle = LogThrottle::default();
        for line in 0..KINDS_MAX as u32 {
            throttle.admit(&crash(line), at(0));
        }
        throttle.admit(&crash(0), at(0));
        throttle.admit(&crash(1000), at(1000));
        assert_eq!(crashes(throttle.take_repeats(at(1000))), [1]);
    }

    #[test]
    fn the_number_of_kinds_is_bounded() {
        let mut throttle = LogThrottle::default();
        let logged: Vec<Detail> = (0..100).map(|line| throttle.admit(&crash(line), at(0))).collect();
        let in_full = logged.iter().filter(|detail| **detail != Detail::Folded).count();
        assert_eq!(in_full, KINDS_MAX + 1);
        assert!(throttle.kinds.len() <= KINDS_MAX + 1);
        throttle.admit(&crash(1000), at(1000));
        assert!(throttle.kinds.len() <= 3, "a kind that would be logged in full anyway is forgotten");
    }

    #[test]
    fn a_storm_of_time_outs_is_its_first_line_then_sums_and_then_its_end() {
        let mut throttle = LogThrottle::default();
        assert_eq!(throttle.admit(&timed_out(false), at(0)), in_full(0));
        for ms in 1..5000 {
            assert_eq!(throttle.admit(&timed_out(false), at(ms)), Detail::Folded);
        }
        let (since, lasted) = (Duration::from_secs(5), Duration::from_millis(4999));
        let sum = StormReport::GoesOn { repeats: 4999, events: 5000, since };
        assert_eq!(reports(throttle.take_repeats(at(5000))), [sum]);
        assert!(throttle.take_repeats(at(14_998)).is_empty(), "it may go on");
        assert!(throttle.has_repeats(), "its end is to be logged");
        let over = StormReport::Over { events: 5000, lasted };
        assert_eq!(reports(throttle.take_repeats(at(14_999))), [over]);
        assert!(!throttle.has_repeats());
        assert_eq!(throttle.admit(&timed_out(false), at(15_000)), in_full(0), "it is another storm");
    }

    #[test]
    fn the_end_of_a_storm_is_logged_before_the_next_one_begins() {
        let mut throttle = LogThrottle::default();
        throttle.admit(&timed_out(false), at(0));
        throttle.admit(&timed_out(false), at(100));
        for second in 0..10 {
            let sums = reports(throttle.take_repeats(at(900 + 1000 * second)));
            assert_eq!(sums.len(), usize::from(second == 1), "at {second}.9 s");
        }
        let before = StormReport::Over { events: 2, lasted: Duration::from_millis(100) };
        let next = Detail::NextStorm { before };
        assert_eq!(throttle.admit(&timed_out(false), at(10_500)), next, "no review saw its end");
        assert!(throttle.take_repeats(at(10_900)).is_empty(), "its end is logged once");
        assert_eq!(throttle.admit(&timed_out(false), at(20_500)), in_full(0), "a single one has no end");
    }

    #[test]
    fn a_late_review_logs_the_last_events_of_a_storm_and_its_end() {
        let mut throttle = LogThrottle::default();
        throttle.admit(&timed_out(false), at(0));
        throttle.admit(&timed_out(false), at(100));
        let sum = StormReport::GoesOn { repeats: 1, events: 2, since: Duration::from_millis(10_900) };
        let over = StormReport::Over { events: 2, lasted: Duration::from_millis(100) };
        assert_eq!(reports(throttle.take_repeats(at(10_900))), [sum, over]);
        assert!(!throttle.has_repeats());
    }

    #[test]
    fn a_single_time_out_is_logged_once_and_its_end_is_not() {
        let mut throttle = LogThrottle::default();
        throttle.admit(&timed_out(false), at(0));
        assert!(!throttle.has_repeats());
        assert!(throttle.take_repeats(at(20_000)).is_empty());
        assert!(throttle.storms.is_empty());
    }

    #[test]
    fn time_outs_and_deadlines_are_storms_of_their_own() {
        let mut throttle = LogThrottle::default();
        for event in [timed_out(false), timed_out(true), expired(3)] {
            assert_eq!(throttle.admit(&event, at(0)), in_full(0));
        }
        assert_eq!(throttle.admit(&crash(1), at(0)), in_full(0));
        throttle.admit(&expired(700), at(1));
        let sum = StormReport::GoesOn { repeats: 700, events: 703, since: Duration::from_secs(1) };
        assert_eq!(reports(throttle.take_repeats(at(1000))), [sum], "inputs are counted");
    }

    #[test]
    fn a_crash_loop_does_not_hold_back_the_sums_of_time_outs() {
        let mut throttle = LogThrottle::default();
        throttle.admit(&crash_loop(2), at(0));
        throttle.admit(&timed_out(false), at(0));
        throttle.admit(&timed_out(false), at(1));
        assert!(throttle.has_repeats());
        assert_eq!(reports(throttle.take_repeats(at(1000))).len(), 1);
    }

    #[test]
    fn the_end_of_the_function_takes_the_sums_of_storms() {
        let mut throttle = LogThrottle::default();
        throttle.admit(&timed_out(false), at(0));
        throttle.admit(&timed_out(false), at(1));
        assert_eq!(reports(throttle.take_all_repeats(at(2))).len(), 1);
        assert!(!throttle.has_repeats());
    }

    #[test]
    fn the_end_of_the_function_takes_the_end_of_a_storm_that_is_over() {
        let mut throttle = LogThrottle::default();
        throttle.admit(&timed_out(false), at(0));
        throttle.admit(&timed_out(false), at(1));
        assert_eq!(reports(throttle.take_repeats(at(1000))).len(), 1);
        let over = StormReport::Over { events: 2, lasted: Duration::from_millis(1) };
        assert_eq!(reports(throttle.take_all_repeats(at(10_001))), [over]);
    }

    #[test]
    fn the_end_takes_all_repeats() {
        let mut throttle = LogThrottle::default();
        throttle.admit(&crash(1), at(0));
        throttle.admit(&crash_loop(2), at(0));
        throttle.admit(&crash(1), at(1));
        assert_eq!(throttle.take_all_repeats(at(2)).len(), 1);
    }

    fn overloaded(refused: u64) -> Event {
        Event::Overloaded { max: 4, refused, since: Duration::ZERO }
    }

    fn overload_ended(refused: u64) -> Event {
        Event::OverloadEnded { refused, lasted: Duration::from_secs(2) }
    }

    /// The reports on overloads in sums.
    fn waves(sums: Vec<Sum>) -> Vec<WaveReport> {
        let report = |sum| if let Sum::Overloads(report) = sum { Some(report) } else { None };
        sums.into_iter().filter_map(report).collect()
    }

    #[test]
    fn overloads_that_come_and_go_are_few_lines_with_their_numbers() {
        let mut throttle = LogThrottle::default();
        let mut in_full = Vec::new();
        let mut sums = Vec::new();
        for second in 0..600_u64 {
            let now = at(1000 * second);
            // One begins every twelve seconds, refuses nine calls within two, and ends ten seconds later.
            let event = match second % 12 {
                0 => Some(overloaded(1)),
                1 => Some(overloaded(9)),
                11 => Some(overload_ended(9)),
                _ => None,
            };
            if let Some(event) = event
                && throttle.admit(&event, now) != Detail::Folded
            {
                in_full.push(second);
            }
            sums.extend(waves(throttle.take_repeats(now)));
        }
        assert_eq!(in_full, [0, 1, 11, 12], "the first one as ever, and the beginning of the second");
        assert_eq!(sums.len(), 9, "{sums:?}");
        let last = WaveReport::GoesOn { comings: 47, events: 415, since: Duration::from_secs(552) };
        assert_eq!(sums.last(), Some(&last));
        assert!(throttle.has_repeats());
        let over = WaveReport::Over { comings: 50, events: 450, lasted: Duration::from_secs(599) };
        assert_eq!(throttle.take_repeats(at(612_000)).len(), 1, "the last ones before the end");
        assert!(throttle.take_repeats(at(658_999)).is_empty(), "it may come again");
        assert_eq!(waves(throttle.take_repeats(at(659_000))), [over]);
        assert!(!throttle.has_repeats(), "no review is needed any more");
    }

    #[test]
    fn an_overload_alone_is_logged_as_it_happens() {
        let mut throttle = LogThrottle::default();
        for (ms, event) in [(0, overloaded(1)), (1_000, overloaded(700)), (11_000, overload_ended(700))] {
            assert_eq!(throttle.admit(&event, at(ms)), in_full(0));
        }
        assert!(!throttle.has_repeats());
        assert!(throttle.take_all_repeats(at(12_000)).is_empty());
    }

    #[test]
    fn the_end_of_the_function_and_a_late_review_take_the_end_of_a_wave() {
        let over = WaveReport::Over { comings: 2, events: 5, lasted: Duration::from_secs(40) };
        let twice = || {
            let mut throttle = LogThrottle::default();
            throttle.admit(&overloaded(1), at(0));
            throttle.admit(&overload_ended(2), at(12_000));
            throttle.admit(&overloaded(1), at(20_000));
            assert_eq!(throttle.admit(&overload_ended(3), at(40_000)), Detail::Folded);
            throttle
        };
        assert_eq!(waves(twice().take_all_repeats(at(40_000))), [over]);
        let mut late = twice();
        assert_eq!(late.admit(&overloaded(1), at(200_000)), Detail::NextWave { before: over });
        assert!(waves(late.take_all_repeats(at(200_001))).is_empty());
    }

    #[test]
    fn missed_events_end_the_wave() {
        let mut throttle = LogThrottle::default();
        throttle.admit(&overloaded(1), at(0));
        throttle.admit(&overload_ended(2), at(12_000));
        throttle.admit(&overloaded(1), at(20_000));
        throttle.admit(&Event::Missed(3), at(30_000));
        assert_eq!(throttle.admit(&overloaded(1), at(31_000)), in_full(0));
    }
}
