//! The history of a function: the past as a snapshot shows it, as text and bounded.
//!
//! It is pure: it hears each [`Fact`] in turn, with its time, and keeps numbers and text. It keeps no value
//! of the user's, and no crash, because a crash may hold such a value. Each list has a bound in entries and
//! in the bytes of its texts, and the oldest entries go first. It allocates nothing before its first entry.
//!
//! A storm of crashes becomes a few lines of the log, because crashes of one cause within [`REPEATS_PERIOD`]
//! are counted in one line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId};
use crate::decide::time::Time;
use crate::decide::wave::{Coming, Wave};
use crate::values::crash::{Crash, CrashKind};
use crate::values::event::Event;
use crate::values::health::CRASHING_OVER;
use crate::values::snapshot::FunctionSnapshot;
use crate::values::snapshot::rows::InputName;
use crate::values::snapshot::trouble::{
    CrashCause, CrashLoopSnapshot, CrashSnapshot, Happening, LastDeath, LogEntry, Poisoned, RecentCrashes,
};

/// The largest number of deaths that are kept one by one.
const CRASHES_MAX: usize = 64;
/// The largest number of bytes of the texts of these deaths.
const CRASHES_TEXT_MAX: usize = 24 << 10;
/// The largest number of causes that are kept. Crashes of further causes are only counted.
const CAUSES_MAX: usize = 32;
/// The largest number of bytes of the texts of the causes.
const CAUSES_TEXT_MAX: usize = 10 << 10;
/// The largest number of poisoned inputs that are kept.
const POISONED_MAX: usize = 64;
/// The largest number of bytes of the texts of poisoned inputs.
const POISONED_TEXT_MAX: usize = 16 << 10;
/// The largest number of lines of the log.
const LOG_MAX: usize = 256;
/// Repeats within this time of the first are counted in one line of the log.
const REPEATS_PERIOD: Duration = Duration::from_secs(10);
/// The largest number of bytes of the message of a single crash.
const MESSAGE_MAX: usize = 512;
/// The largest number of bytes of a message that stands for many.
const EXAMPLE_MAX: usize = 256;
/// The largest number of bytes of a place in the code.
const LOCATION_MAX: usize = 256;
/// The largest number of characters of the description of an input.
pub(super) const DESCRIPTION_CHARS_MAX: usize = 200;

/// Something that happened to a function and that its snapshots show.
#[derive(Debug, Clone)]
pub(crate) enum Fact {
    /// A container died. `completed` inputs of the function had been completed by then.
    Died {
        crash: Arc<Crash>,
        job: Option<u64>,
        completed: u64,
    },
    /// An input was poisoned. The sender numbers these inputs, and may send the description later.
    Poisoned {
        number: u64,
        input: InputName,
        attempts: Attempt,
        last: Option<Arc<Crash>>,
        description: Option<String>,
    },
    /// The description of the poisoned input with this number.
    Described {
        number: u64,
        description: String,
    },
    /// A crash loop reached its next delay.
    CrashLoop {
        crashes: u32,
        since: Time,
        next_restart: Time,
    },
    /// A crash loop ended.
    Recovered {
        crashes: u32,
        since: Time,
    },
    ExitTimedOut(ContainerId),
    Hung(ContainerId),
    HangEnded(ContainerId),
    Exhausted,
    ExhaustionEnded,
    /// Calls are refused, or were refused and no more are.
    Overloaded {
        refused: u64,
        ended: bool,
    },
    GaveUp,
    Reset,
    Paused,
    Resumed,
    Ended,
}

impl Fact {
    /// The fact of an event. Deaths and poisoned inputs are not made here, because their senders know more
    /// than the event.
    pub(crate) fn of(event: &Event, now: Time) -> Option<Self> {
        let before = |age: Duration| Time(now.0.saturating_sub(age));
        match event {
            Event::CrashLoop { crashes, since, next_restart, .. } => Some(Self::CrashLoop {
                crashes: *crashes,
                since: before(*since),
                next_restart: now + *next_restart,
            }),
            Event::Recovered { crashes, after } => {
                Some(Self::Recovered { crashes: *crashes, since: before(*after) })
            }
            Event::ExitTimedOut(container, _) => Some(Self::ExitTimedOut(*container)),
            Event::Hung { container, .. } => Some(Self::Hung(*container)),
            Event::HangEnded { container, .. } => Some(Self::HangEnded(*container)),
            Event::Exhausted { .. } => Some(Self::Exhausted),
            Event::ExhaustionEnded { .. } => Some(Self::ExhaustionEnded),
            Event::Overloaded { refused, .. } => Some(Self::Overloaded { refused: *refused, ended: false }),
            Event::OverloadEnded { refused, .. } => Some(Self::Overloaded { refused: *refused, ended: true }),
            Event::GaveUp(_) => Some(Self::GaveUp),
            Event::Reset => Some(Self::Reset),
            Event::Paused => Some(Self::Paused),
            Event::Resumed => Some(Self::Resumed),
            Event::Ended(_) => Some(Self::Ended),
            Event::Container { .. }
            | Event::Crashed(_)
            | Event::Killed(_)
            | Event::Poisoned { .. }
            | Event::TimedOut { .. }
            | Event::Expired { .. }
            | Event::Missed(_) => None,
        }
    }
}

/// The name of an input.
pub(crate) fn name_of(map: Option<&Arc<str>>, call: Option<u64>, job: Option<u64>, index: u64) -> InputName {
    InputName { map: map.cloned(), job: call.or(job), input: call.is_none().then_some(index) }
}

/// The beginning of a text, at most `most` bytes.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    const MARK: &str = "…";
    let mut end = most - MARK.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut cut = String::with_capacity(end + MARK.len());
    cut.push_str(&text[..end]);
    cut.push_str(MARK);
    cut
}

/// An entry with texts whose bytes are bounded.
trait Texts {
    fn bytes(&self) -> usize;
}

fn of_label(input: Option<&InputName>) -> usize {
    input.and_then(|input| input.map.as_ref()).map_or(0, |label| label.len())
}

fn of_text(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}

impl Texts for CrashSnapshot {
    fn bytes(&self) -> usize {
        self.message.len() + of_text(self.location.as_ref()) + of_label(self.executing.as_ref())
    }
}

impl Texts for Poisoned {
    fn bytes(&self) -> usize {
        [&self.message, &self.location, &self.description]
            .into_iter()
            .map(|text| of_text(text.as_ref()))
            .sum::<usize>()
            + of_label(Some(&self.input))
    }
}

impl Texts for Known {
    fn bytes(&self) -> usize {
        let CrashCause { message, location, executing, .. } = &self.cause;
        message.len() + of_text(location.as_ref()) + of_label(executing.as_ref())
    }
}

/// The last entries of a list, as many as fit.
#[derive(Debug)]
struct Ring<T> {
    entries: VecDeque<T>,
    /// The bytes of the texts of all entries.
    text: usize,
    entries_max: usize,
    text_max: usize,
}

impl<T: Texts> Ring<T> {
    const fn new(entries_max: usize, text_max: usize) -> Self {
        Self { entries: VecDeque::new(), text: 0, entries_max, text_max }
    }

    /// Adds an entry. Returns the entries that had to make room for it, oldest first.
    fn push(&mut self, entry: T) -> Vec<T> {
        self.text += entry.bytes();
        let mut gone = Vec::new();
        while self.entries.len() >= self.entries_max
            || (self.text > self.text_max && !self.entries.is_empty())
        {
            gone.extend(self.remove(0));
        }
        self.entries.push_back(entry);
        gone
    }

    fn remove(&mut self, at: usize) -> Option<T> {
        let entry = self.entries.remove(at)?;
        self.text -= entry.bytes();
        Some(entry)
    }
}

/// A cause of crashes.
#[derive(Debug)]
struct Known {
    cause: CrashCause,
    /// The last line of the log about this cause.
    line: u64,
}

/// Crashes by the second, over the last minute.
#[derive(Debug, Default)]
struct Recent(VecDeque<Second>);

/// A second with crashes.
#[derive(Debug)]
struct Second {
    number: u64,
    crashes: u64,
    /// The number of inputs that had been completed since the start, before the first of these crashes.
    completed: u64,
}

impl Recent {
    fn forget(&mut self, now: Time) {
        while self.0.front().is_some_and(|second| second.number + CRASHING_OVER.as_secs() <= now.0.as_secs())
        {
            self.0.pop_front();
        }
    }

    fn add(&mut self, completed: u64, at: Time) {
        let number = at.0.as_secs();
        match self.0.back_mut() {
            // A thread reads the time before it takes the lock. So this crash may be of an earlier second
            // than the last one.
            Some(last) if last.number >= number => last.crashes += 1,
            _ => self.0.push_back(Second { number, crashes: 1, completed }),
        }
        self.forget(at);
    }

    /// The number of crashes, and their share of all executions that ended since the first of them.
    fn look(&mut self, completed: u64, now: Time) -> RecentCrashes {
        self.forget(now);
        let crashes = self.0.iter().map(|second| second.crashes).sum::<u64>();
        let since = self.0.front().map(|first| completed.saturating_sub(first.completed));
        let share = since.map(|completed| crashes as f64 / (crashes + completed) as f64);
        RecentCrashes { crashes, over: CRASHING_OVER, share }
    }
}

/// The past of a function, as its snapshots show it.
#[derive(Debug)]
pub(crate) struct History {
    /// The time at which the function was started, on the clock of snapshots.
    started: Duration,
    /// The number of deaths of containers, kills by hand included.
    deaths: u64,
    crashes: Ring<CrashSnapshot>,
    /// The causes, those whose last crash was longest ago first.
    causes: Ring<Known>,
    causes_other: u64,
    poisoned: Ring<Poisoned>,
    /// The last death of each container, by its number.
    last_deaths: Vec<Option<LastDeath>>,
    recent: Recent,
    /// The last crash loop.
    crash_loop: Option<CrashLoopSnapshot>,
    crash_loops: u64,
    give_ups: u64,
    exit_timeouts: u64,
    /// The time at which the function last gave up.
    gave_up: Option<Duration>,
    log: VecDeque<LogEntry>,
    /// The number of lines that were ever written.
    lines: u64,
    /// The number of times that a line was added or changed.
    changes: u64,
    /// The last lines about kills and about poisoned inputs.
    killed_line: u64,
    poisoned_line: u64,
    /// The overloads that come and go, and the last line about them.
    overloads: Wave,
    overload_line: u64,
}

impl History {
    pub(crate) const fn new(started: Duration) -> Self {
        Self {
            started,
            deaths: 0,
            crashes: Ring::new(CRASHES_MAX, CRASHES_TEXT_MAX),
            causes: Ring::new(CAUSES_MAX, CAUSES_TEXT_MAX),
            causes_other: 0,
            poisoned: Ring::new(POISONED_MAX, POISONED_TEXT_MAX),
            last_deaths: Vec::new(),
            recent: Recent(VecDeque::new()),
            crash_loop: None,
            crash_loops: 0,
            give_ups: 0,
            exit_timeouts: 0,
            gave_up: None,
            log: VecDeque::new(),
            lines: 0,
            changes: 0,
            killed_line: 0,
            poisoned_line: 0,
            overloads: Wave::NEVER,
            overload_line: 0,
        }
    }

    /// Adds the next fact, which happened at `now`.
    pub(crate) fn hear(&mut self, fact: Fact, now: Time) {
        let at = self.moment(now);
        match fact {
            Fact::Died { crash, job, completed } => self.died(&crash, job, completed, now),
            Fact::Poisoned { number, input, attempts, last, description } => {
                self.poisoned_line = self.tell(at, Happening::Poisoned { number }, self.poisoned_line);
                let death = last.as_ref().map(|crash| &crash.death);
                self.poisoned.push(Poisoned {
                    number,
                    at,
                    input,
                    attempts,
                    kind: death.map(|death| death.kind()),
                    message: death.map(|death| cut(&death.text(), EXAMPLE_MAX)),
                    location: death.and_then(|death| death.location()).map(|place| cut(place, LOCATION_MAX)),
                    description,
                });
            }
            Fact::Described { number, description } => {
                let at = self.poisoned.entries.iter().position(|poisoned| poisoned.number == number);
                // The description makes the entry longer, so other entries may have to make room for it.
                if let Some(poisoned) = at.and_then(|at| self.poisoned.remove(at)) {
                    self.poisoned.push(Poisoned { description: Some(description), ..poisoned });
                    self.poisoned.entries.make_contiguous().sort_by_key(|poisoned| poisoned.number);
                }
            }
            Fact::CrashLoop { crashes, since, next_restart } => {
                let (since, next_restart) = (self.moment(since), self.moment(next_restart));
                let goes_on = self.crash_loop.is_some_and(|before| before.ended.is_none());
                self.crash_loops += u64::from(!goes_on);
                let next = Some(next_restart);
                self.crash_loop = Some(CrashLoopSnapshot { crashes, since, next_restart: next, ended: None });
                self.tell(at, Happening::CrashLoop { crashes, next_restart }, 0);
            }
            Fact::Recovered { crashes, since } => {
                let since = self.moment(since);
                self.crash_loop =
                    Some(CrashLoopSnapshot { crashes, since, next_restart: None, ended: Some(at) });
                self.tell(at, Happening::Recovered { crashes }, 0);
            }
            Fact::ExitTimedOut(container) => {
                self.exit_timeouts += 1;
                self.tell(at, Happening::ExitTimedOut { container }, 0);
            }
            Fact::Hung(container) => _ = self.tell(at, Happening::Hung { container }, 0),
            Fact::HangEnded(container) => _ = self.tell(at, Happening::HangEnded { container }, 0),
            Fact::Exhausted => _ = self.tell(at, Happening::Exhausted, 0),
            Fact::ExhaustionEnded => _ = self.tell(at, Happening::ExhaustionEnded, 0),
            Fact::Overloaded { refused, ended: false } => {
                let coming = self.overloads.is_there(refused, now);
                let what = Happening::Overloaded { refused: self.overloads.events() };
                let before = if matches!(coming, Coming::First { .. }) { 0 } else { self.overload_line };
                self.overload_line = self.refresh(at, what, before);
                self.counts_overloads();
            }
            Fact::Overloaded { refused, ended: true } => {
                self.overloads.is_gone(refused, now);
                let what = Happening::OverloadEnded { refused: self.overloads.events() };
                // The first overload of a wave has a line for its end. If it comes again, that line is
                // rewritten.
                let before = if self.overloads.is_folded() { self.overload_line } else { 0 };
                self.overload_line = self.refresh(at, what, before);
                self.counts_overloads();
            }
            Fact::GaveUp => {
                self.give_ups += 1;
                self.gave_up = Some(at);
                self.tell(at, Happening::GaveUp, 0);
            }
            Fact::Reset => {
                if let Some(crash_loop) = self.crash_loop.as_mut().filter(|before| before.ended.is_none()) {
                    (crash_loop.ended, crash_loop.next_restart) = (Some(at), None);
                }
                self.tell(at, Happening::Reset, 0);
            }
            Fact::Paused => _ = self.tell(at, Happening::Paused, 0),
            Fact::Resumed => _ = self.tell(at, Happening::Resumed, 0),
            Fact::Ended => _ = self.tell(at, Happening::Ended, 0),
        }
    }

    /// Writes into the line about overloads that come and go how many there were.
    fn counts_overloads(&mut self) {
        let line = self.log.binary_search_by_key(&self.overload_line, |line| line.seq);
        if let Some(line) = line.ok().and_then(|place| self.log.get_mut(place)) {
            line.count = self.overloads.comings();
        }
    }

    /// A time of the function on the clock of snapshots.
    fn moment(&self, time: Time) -> Duration {
        self.started.saturating_add(time.0)
    }

    fn died(&mut self, crash: &Crash, job: Option<u64>, completed: u64, now: Time) {
        let at = self.moment(now);
        self.deaths += 1;
        let number = self.deaths;
        let kind = crash.death.kind();
        let text = crash.death.text();
        let location = crash.death.location().map(|place| cut(place, LOCATION_MAX));
        let executing = crash.executing.map(|(index, _)| name_of(crash.map.as_ref(), crash.call, job, index));
        if kind == CrashKind::Killed {
            self.killed_line = self.tell(at, Happening::Killed { number }, self.killed_line);
        } else {
            self.recent.add(completed, now);
            self.caused(number, crash.container, kind, &text, location.as_ref(), executing.as_ref(), at);
        }
        let place = crash.container.index();
        if self.last_deaths.len() <= place {
            self.last_deaths.resize(place + 1, None);
        }
        self.last_deaths[place] = Some(LastDeath { number, at, kind });
        self.crashes.push(CrashSnapshot {
            number,
            at,
            container: crash.container,
            generation: crash.generation,
            kind,
            message: cut(&text, MESSAGE_MAX),
            location,
            executing,
            attempt: crash.executing.map(|(_, attempt)| attempt),
            peak_bytes: crash.peak_bytes,
        });
    }

    /// Counts a crash with the crashes of the same kind and place. If a crash has no place, its message is
    /// compared in the place's stead.
    #[expect(clippy::too_many_arguments, reason = "the parts of one crash")]
    fn caused(
        &mut self,
        number: u64,
        container: ContainerId,
        kind: CrashKind,
        text: &str,
        location: Option<&String>,
        executing: Option<&InputName>,
        at: Duration,
    ) {
        let message = cut(text, EXAMPLE_MAX);
        // A memory limit is one cause, although its message has other numbers each time.
        let by_kind = kind == CrashKind::MemoryLimit;
        let is_it = |known: &Known| {
            let CrashCause { kind: of, location: place, message: said, .. } = &known.cause;
            *of == kind && place.as_ref() == location && (by_kind || place.is_some() || *said == message)
        };
        let place = self.causes.entries.iter().position(is_it);
        let before = place.and_then(|place| self.causes.remove(place));
        let (first, count, line) =
            before.map_or((at, 0, 0), |known| (known.cause.first, known.cause.count, known.line));
        let line = self.tell(at, Happening::Crashed { number }, line);
        let cause = CrashCause {
            kind,
            location: location.cloned(),
            message,
            count: count + 1,
            first,
            last: at,
            container,
            executing: executing.cloned(),
        };
        let gone = self.causes.push(Known { cause, line });
        self.causes_other += gone.iter().map(|known| known.cause.count).sum::<u64>();
    }

    /// Writes a line, or counts a repeat in line `before` if that line is kept and recent. Returns the line's
    /// number.
    fn tell(&mut self, at: Duration, what: Happening, before: u64) -> u64 {
        self.changes += 1;
        let changed = self.changes;
        if let Ok(place) = self.log.binary_search_by_key(&before, |line| line.seq)
            && at.saturating_sub(self.log[place].at) < REPEATS_PERIOD
        {
            let line = &mut self.log[place];
            (line.changed, line.last, line.what) = (changed, at, what);
            line.count += 1;
            return before;
        }
        self.write(at, what)
    }

    /// Writes a line about something that goes on, or rewrites line `before` if that line is kept. However
    /// long it goes on, it then pushes no other line out. Returns the line's number.
    fn refresh(&mut self, at: Duration, what: Happening, before: u64) -> u64 {
        self.changes += 1;
        let changed = self.changes;
        let Ok(place) = self.log.binary_search_by_key(&before, |line| line.seq) else {
            return self.write(at, what);
        };
        let line = &mut self.log[place];
        (line.changed, line.last, line.what) = (changed, at, what);
        before
    }

    /// Writes a line, as the change that was counted last. Returns its number.
    fn write(&mut self, at: Duration, what: Happening) -> u64 {
        let changed = self.changes;
        if self.log.len() == LOG_MAX {
            self.log.pop_front();
        }
        self.lines += 1;
        self.log.push_back(LogEntry { seq: self.lines, changed, at, last: at, count: 1, what });
        self.lines
    }

    /// The crashes of the last minute. `completed` inputs of the function have been completed by `now`.
    pub(crate) fn recent(&mut self, completed: u64, now: Time) -> RecentCrashes {
        self.recent.look(completed, now)
    }

    /// The time at which the function last gave up.
    pub(crate) fn gave_up(&self) -> Option<Duration> {
        self.gave_up
    }

    /// Adds the past to a snapshot. The crash loop of the snapshot, if it goes on, stays as it is.
    pub(crate) fn fill(&self, snapshot: &mut FunctionSnapshot) {
        for row in &mut snapshot.rows {
            row.last_death = self.last_deaths.get(row.container.index()).copied().flatten();
        }
        snapshot.totals.exit_timeouts = self.exit_timeouts;
        snapshot.totals.crash_loops = self.crash_loops;
        snapshot.totals.give_ups = self.give_ups;
        if snapshot.crash_loop.is_none() {
            // A crash loop that the ledger does not know is over, although its end may not have been heard
            // yet.
            snapshot.crash_loop = self.crash_loop.filter(|crash_loop| crash_loop.ended.is_some());
        }
        snapshot.causes = self.causes.entries.iter().rev().map(|known| known.cause.clone()).collect();
        snapshot.causes_other = self.causes_other;
        snapshot.crashes = self.crashes.entries.iter().cloned().collect();
        snapshot.poisoned = self.poisoned.entries.iter().cloned().collect();
        snapshot.log = self.log.iter().cloned().collect();
        snapshot.seq = self.changes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Generation;
    use crate::values::crash::{Death, Panic};

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn history() -> History {
        History::new(Duration::ZERO)
    }

    fn death_of(container: u32, death: Death) -> Fact {
        let crash = Crash {
            container: ContainerId(container),
            generation: Generation(1),
            executing: Some((7, Attempt(2))),
            map: None,
            call: None,
            peak_bytes: None,
            death,
        };
        Fact::Died { crash: Arc::new(crash), job: Some(3), completed: 0 }
    }

    fn panicked(message: &str, location: Option<&str>) -> Death {
        Death::Panicked(Panic { message: message.to_owned(), location: location.map(str::to_owned) })
    }

    fn poisoned(number: u64, description: Option<&str>) -> Fact {
        let input = name_of(None, None, Some(1), number);
        let description = description.map(str::to_owned);
        Fact::Poisoned { number, input, attempts: Attempt(4), last: None, description }
    }

    /// The bytes on the heap, by the capacities of everything that is kept.
    fn heap_bytes(history: &History) -> usize {
        fn of<T>(entries: &VecDeque<T>) -> usize {
            entries.capacity() * size_of::<T>()
        }
        let text = |text: &String| text.capacity();
        let maybe = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        // The label of a map has two counters before it, and may be kept by the history alone.
        let label = |input: Option<&InputName>| {
            input.and_then(|input| input.map.as_ref()).map_or(0, |label| label.len() + 2 * size_of::<usize>())
        };
        let History { crashes, causes, poisoned, last_deaths, recent, log, .. } = history;
        of(&crashes.entries)
            + of(&causes.entries)
            + of(&poisoned.entries)
            + of(&recent.0)
            + of(log)
            + last_deaths.capacity() * size_of::<Option<LastDeath>>()
            + crashes
                .entries
                .iter()
                .map(|crash| text(&crash.message) + maybe(&crash.location) + label(crash.executing.as_ref()))
                .sum::<usize>()
            + causes
                .entries
                .iter()
                .map(|Known { cause, .. }| {
                    text(&cause.message) + maybe(&cause.location) + label(cause.executing.as_ref())
                })
                .sum::<usize>()
            + poisoned
                .entries
                .iter()
                .map(|input| {
                    maybe(&input.message)
                        + maybe(&input.location)
                        + maybe(&input.description)
                        + label(Some(&input.input))
                })
                .sum::<usize>()
    }

    #[test]
    fn nothing_is_allocated_before_the_first_crash() {
        assert_eq!(heap_bytes(&history()), 0);
    }

    #[test]
    fn the_worst_storm_stays_within_its_bound() {
        let mut history = history();
        let long = "ü".repeat(10_000);
        for n in 0..20_000_u64 {
            // Each crash has a place and a label of its own. The crashes are spread over as many containers
            // as a function may have.
            let label: Arc<str> = format!("{n:0>255}").into();
            let (place, message) = (format!("{n}{long}"), format!("{n}{long}"));
            let crash = Arc::new(Crash {
                container: ContainerId((n % 1024) as u32),
                generation: Generation(n),
                executing: Some((n, Attempt(1))),
                map: Some(Arc::clone(&label)),
                call: None,
                peak_bytes: Some(n),
                death: panicked(&message, Some(&place)),
            });
            history.hear(Fact::Died { crash: Arc::clone(&crash), job: Some(n), completed: n }, at(10 * n));
            let input = name_of(Some(&label), None, Some(n), n);
            let description = Some("ü".repeat(DESCRIPTION_CHARS_MAX));
            let poison =
                Fact::Poisoned { number: n, input, attempts: Attempt(4), last: Some(crash), description };
            history.hear(poison, at(10 * n));
            history.hear(Fact::ExitTimedOut(ContainerId(0)), at(10 * n));
        }
        let bytes = heap_bytes(&history);
        assert!(bytes < 120_000, "{bytes} bytes; the maps that have ended take 15 000 more at most");
        assert_eq!(history.log.len(), LOG_MAX);
        let told: u64 = history.causes.entries.iter().map(|known| known.cause.count).sum();
        assert_eq!(told + history.causes_other, 20_000, "every crash is counted");
        assert!(
            history.crashes.entries.len() > 16 && history.causes.entries.len() > 8,
            "texts are cut, not all dropped"
        );
    }

    #[test]
    fn crashes_are_grouped_by_kind_and_place() {
        let mut history = history();
        let facts = [
            (0, panicked("one", Some("a.rs:1:1"))),
            (10, panicked("two", Some("a.rs:1:1"))),
            (20, panicked("two", Some("b.rs:1:1"))),
            (30, panicked("no place", None)),
            (40, panicked("no place", None)),
            (50, panicked("another", None)),
            (60, Death::MemoryLimit { limit: 1, used: 2, reclaimed: true }),
            (70, Death::MemoryLimit { limit: 1, used: 3, reclaimed: false }),
            (80, Death::Killed),
        ];
        for (ms, death) in facts {
            history.hear(death_of(0, death), at(ms));
        }
        let causes: Vec<_> = history.causes.entries.iter().map(|known| &known.cause).collect();
        let told: Vec<_> = causes.iter().map(|cause| (cause.message.as_str(), cause.count)).collect();
        assert_eq!(told[..4], [("two", 2), ("two", 1), ("no place", 2), ("another", 1)]);
        assert_eq!((causes[4].kind, causes[4].count), (CrashKind::MemoryLimit, 2));
        assert_eq!(causes.len(), 5, "a kill by hand is no crash");
        assert_eq!((causes[0].first, causes[0].last), (at(0).0, at(10).0));
        assert_eq!(causes[0].executing, Some(name_of(None, None, Some(3), 7)));
        assert_eq!(
            history.last_deaths[0].map(|death| (death.number, death.kind)),
            Some((9, CrashKind::Killed))
        );
    }

    #[test]
    fn the_cause_that_was_seen_longest_ago_goes_first() {
        let mut history = history();
        for n in 0..CAUSES_MAX {
            history.hear(death_of(0, panicked("m", Some(&format!("{n}")))), at(n as u64));
        }
        history.hear(death_of(0, panicked("m", Some("0"))), at(100));
        history.hear(death_of(0, panicked("m", Some("new"))), at(101));
        let places: Vec<_> =
            history.causes.entries.iter().filter_map(|known| known.cause.location.as_deref()).collect();
        assert!(places.contains(&"0") && places.contains(&"new") && !places.contains(&"1"), "{places:?}");
        assert_eq!(history.causes_other, 1);
    }

    #[test]
    fn repeats_of_one_cause_are_one_line_for_ten_seconds() {
        let mut history = history();
        for ms in [0, 5_000, 9_999, 10_000] {
            history.hear(death_of(0, panicked("m", Some("here"))), at(ms));
            history.hear(poisoned(1 + ms, None), at(ms));
        }
        let lines: Vec<_> = history.log.iter().map(|line| (line.seq, line.changed, line.count)).collect();
        assert_eq!(lines, [(1, 5, 3), (2, 6, 3), (3, 7, 1), (4, 8, 1)]);
        assert_eq!(history.log[0].what, Happening::Crashed { number: 3 });
        assert_eq!((history.log[0].at, history.log[0].last), (at(0).0, at(9_999).0));
    }

    #[test]
    fn an_overload_is_one_line_however_long_it_lasts() {
        let mut history = history();
        history.hear(death_of(0, panicked("m", Some("here"))), at(0));
        let seconds = 4 * LOG_MAX as u64;
        for second in 1..=seconds {
            history.hear(Fact::Overloaded { refused: second, ended: false }, at(1000 * second));
        }
        let lines: Vec<_> = history.log.iter().map(|line| (line.seq, line.changed, line.what)).collect();
        let crash = (1, 1, Happening::Crashed { number: 1 });
        assert_eq!(lines, [crash, (2, 1 + seconds, Happening::Overloaded { refused: seconds })]);
        assert_eq!((history.log[1].at, history.log[1].last), (at(1000).0, at(1000 * seconds).0));
        let (before, after) = (1000 * seconds + 1, 1000 * seconds + 60_001);
        history.hear(Fact::Overloaded { refused: seconds, ended: true }, at(before));
        history.hear(Fact::Overloaded { refused: 1, ended: false }, at(after));
        assert_eq!(history.log[1].what, Happening::Overloaded { refused: seconds });
        let last: Vec<_> = history.log.iter().skip(2).map(|line| line.what).collect();
        let ended = Happening::OverloadEnded { refused: seconds };
        assert_eq!(last, [ended, Happening::Overloaded { refused: 1 }], "the next one has its own line");
    }

    #[test]
    fn overloads_that_come_and_go_are_two_lines_however_often() {
        let mut history = history();
        history.hear(death_of(0, panicked("m", Some("here"))), at(0));
        let mut last = Vec::new();
        for coming in 1..=4 * LOG_MAX as u64 {
            let begins = 20_000 * coming;
            history.hear(Fact::Overloaded { refused: 1, ended: false }, at(begins));
            history.hear(Fact::Overloaded { refused: 5, ended: false }, at(begins + 1_000));
            let there = history.log.back().map(|line| (line.what, line.count));
            assert_eq!(there, Some((Happening::Overloaded { refused: 5 * coming }, coming)));
            history.hear(Fact::Overloaded { refused: 5, ended: true }, at(begins + 11_000));
            let gone = history.log.back().map(|line| (line.what, line.count));
            assert_eq!(gone, Some((Happening::OverloadEnded { refused: 5 * coming }, coming)));
            last = history.log.iter().map(|line| (line.what, line.last)).collect();
        }
        let crash = (Happening::Crashed { number: 1 }, at(0).0);
        let first = (Happening::Overloaded { refused: 5 }, at(21_000).0);
        let ended = Happening::OverloadEnded { refused: 20 * LOG_MAX as u64 };
        assert_eq!(last, [crash, first, (ended, at(80_000 * LOG_MAX as u64 + 11_000).0)]);
    }

    #[test]
    fn crashes_of_late_are_those_of_a_minute() {
        let mut history = history();
        for ms in [0, 500, 59_000] {
            history.hear(death_of(0, panicked("m", None)), at(ms));
        }
        assert_eq!(history.recent(0, at(59_999)).crashes, 3);
        assert_eq!(history.recent(0, at(60_000)).crashes, 1);
        assert_eq!(history.recent(0, at(119_000)).crashes, 0);
    }

    #[test]
    fn crashes_of_late_are_a_share_of_what_ended_since_the_first_of_them() {
        let mut history = history();
        assert_eq!(history.recent(100, at(0)).share, None);
        for (ms, completed) in [(0, 100), (30_000, 104), (61_000, 106)] {
            let Fact::Died { crash, job, .. } = death_of(0, panicked("m", None)) else { unreachable!() };
            history.hear(Fact::Died { crash, job, completed }, at(ms));
        }
        let recent = history.recent(108, at(61_000));
        assert_eq!((recent.crashes, recent.share), (2, Some(2.0 / 6.0)));
    }

    #[test]
    fn a_crash_loop_is_remembered_after_its_end() {
        let mut history = history();
        for (crashes, ms) in [(2, 100), (3, 300)] {
            let (since, next_restart) = (at(0), at(2 * ms));
            history.hear(Fact::CrashLoop { crashes, since, next_restart }, at(ms));
        }
        let goes_on = history.crash_loop.expect("it goes on");
        assert_eq!((goes_on.crashes, goes_on.next_restart, goes_on.ended), (3, Some(at(600).0), None));
        history.hear(Fact::Recovered { crashes: 3, since: at(0) }, at(700));
        let over = history.crash_loop.expect("it is remembered");
        assert_eq!((over.crashes, over.next_restart, over.ended), (3, None, Some(at(700).0)));
        history.hear(Fact::CrashLoop { crashes: 2, since: at(800), next_restart: at(950) }, at(900));
        history.hear(Fact::Reset, at(910));
        assert_eq!(history.crash_loop.and_then(|crash_loop| crash_loop.ended), Some(at(910).0));
        assert_eq!(history.crash_loops, 2);
    }

    #[test]
    fn a_description_may_come_late_and_keeps_its_place() {
        let mut history = history();
        (1..=3).for_each(|number| history.hear(poisoned(number, None), at(number)));
        history.hear(Fact::Described { number: 2, description: "two".to_owned() }, at(9));
        history.hear(Fact::Described { number: 9, description: "unknown".to_owned() }, at(9));
        let told: Vec<_> = history
            .poisoned
            .entries
            .iter()
            .map(|input| (input.number, input.description.as_deref()))
            .collect();
        assert_eq!(told, [(1, None), (2, Some("two")), (3, None)]);
    }

    #[test]
    fn moments_are_told_on_the_clock_of_snapshots() {
        let mut history = History::new(Duration::from_secs(5));
        history.hear(death_of(0, panicked("m", None)), at(1));
        assert_eq!(history.crashes.entries[0].at, Duration::from_millis(5_001));
        assert_eq!(history.recent(0, at(59_000)).crashes, 1);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("äöüß", 7), "äö…");
        assert_eq!(cut("äöüß", 6), "ä…");
    }
}
