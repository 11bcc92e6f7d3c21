//! The history of a function: the past as a snapshot shows it, as text and bounded.
//!
//! It is pure: it hears each [`Fact`] in turn, with its time, and keeps numbers and text. It keeps no
//! value of the user's, and no crash, because a crash may hold such a value. Each list is a [`Ring`],
//! which has a bound in entries and in the bytes of its texts, and the oldest entries go first. It
//! allocates nothing before its first entry.
//!
//! A storm of crashes becomes a few lines of the log, because crashes of one cause within
//! [`REPEATS_PERIOD`] are counted in one line.

mod fact;
mod recent;
mod ring;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::ContainerId;
use crate::decide::time::Time;
use crate::decide::wave::{Coming, Wave};
use crate::values::crash::{Crash, CrashKind};
use crate::values::snapshot::FunctionSnapshot;
use crate::values::snapshot::rows::InputName;
use crate::values::snapshot::trouble::{
    CrashCause, CrashLoopSnapshot, CrashSnapshot, Happening, LastDeath, LogEntry, Poisoned, RecentCrashes,
};

pub(crate) use fact::Fact;
use recent::Recent;
use ring::{Ring, Texts, cut, of_label, of_text};

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

/// A cause of crashes.
#[derive(Debug)]
struct Known {
    cause: CrashCause,
    /// The last line of the log about this cause.
    line: u64,
}

impl Texts for Known {
    fn bytes(&self) -> usize {
        let CrashCause { message, location, executing, .. } = &self.cause;
        message.len() + of_text(location.as_ref()) + of_label(executing.as_ref())
    }
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

/// The name of an input.
pub(crate) fn name_of(map: Option<&Arc<str>>, call: Option<u64>, job: Option<u64>, index: u64) -> InputName {
    InputName { map: map.cloned(), job: call.or(job), input: call.is_none().then_some(index) }
}
