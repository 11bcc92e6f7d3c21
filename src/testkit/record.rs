//! The record of a rehearsal: its executions, generations and events, with their times.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::ids::{ContainerId, Generation};
use crate::testkit::script::At;
use crate::values::crash::Crash;
use crate::values::event::Event;
use crate::values::report::FunctionReport;
use crate::values::status::Status;

/// One execution of one input. Moments are virtual time since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Execution {
    /// The map or call that the input belongs to, counted from 0 in the order in which they began.
    pub map: u64,
    /// The input's index in that map or call.
    pub input: u64,
    /// The attempt, counted from 1.
    pub attempt: u32,
    /// The container that executed the input.
    pub container: ContainerId,
    /// The generation of that container.
    pub generation: Generation,
    /// The batch in which it was executed, counted from 0 over all containers. `None` for code that executes
    /// one input in a call.
    pub batch: Option<u64>,
    /// When it began.
    pub began: Duration,
    /// When it ended. If it never did, when the rehearsal ended.
    pub ended: Duration,
    /// How it ended.
    pub ending: ExecutionEnd,
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecutionEnd {
    /// It returned `Ok`.
    Completed,
    /// It returned `Err`.
    Failed,
    /// It panicked, or its container was found to be over the memory limit.
    Panicked,
    /// It was dropped at an `await`, because its container was killed, or its map or call was cancelled.
    Dropped,
    /// It returned after its container had been killed, or after its map or call had been cancelled. Its
    /// outcome was refused.
    Late,
    /// It did not end.
    Unended,
}

/// One generation of a container. Moments are virtual time since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Start {
    /// The container.
    pub container: ContainerId,
    /// Its generation, counted from 1. Each generation from the second on is a restart.
    pub generation: Generation,
    /// When its `enter` began.
    pub at: Duration,
    /// When its `enter` ended, and how. `None` if it did not end.
    pub entered: Option<(Duration, Entered)>,
}

/// How an `enter` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entered {
    /// It returned `Ok`. The container was live from then on, unless its generation was over by then.
    Well,
    /// It returned an error.
    Failed,
    /// It panicked.
    Panicked,
    /// It was dropped at an `await`, because its generation was over.
    Dropped,
}

/// The record of a rehearsal. Its `Display` form (`{record}`) has one line for each thing that happened,
/// which is useful in the message of an assertion.
#[derive(Debug, Clone)]
pub struct Record {
    pub(super) written: Written,
    pub(super) elapsed: Duration,
    pub(super) timed_out: bool,
    pub(crate) status: Status,
    pub(crate) report: FunctionReport,
}

impl Record {
    /// Every execution, in the order in which they began.
    #[must_use]
    pub fn executions(&self) -> &[Execution] {
        &self.written.executions
    }

    /// How often the input of this index was executed. If there are several maps or calls, their executions
    /// are added up.
    #[must_use]
    pub fn attempts(&self, input: u64) -> usize {
        self.executions_of(input).count()
    }

    /// The virtual times that the input of this index waited, from the end of each execution to the beginning
    /// of the next. An input with three attempts has two of them. Inputs of different maps and calls can have
    /// the same index; use [`Record::executions`] to distinguish them.
    #[must_use]
    pub fn delays(&self, input: u64) -> Vec<Duration> {
        let ends = self.executions_of(input).map(|execution| execution.ended);
        let begins = self.executions_of(input).skip(1).map(|execution| execution.began);
        begins.zip(ends).map(|(began, ended)| began.saturating_sub(ended)).collect()
    }

    fn executions_of(&self, input: u64) -> impl Iterator<Item = &Execution> {
        self.written.executions.iter().filter(move |execution| execution.input == input)
    }

    /// The batches as they were executed, in the order in which they began.
    #[must_use]
    pub fn batches(&self) -> Vec<Vec<&Execution>> {
        let mut batches: Vec<Vec<&Execution>> = Vec::new();
        for execution in &self.written.executions {
            let Some(batch) = execution.batch else { continue };
            match batches.last_mut().filter(|last| last[0].batch == Some(batch)) {
                Some(last) => last.push(execution),
                None => batches.push(vec![execution]),
            }
        }
        batches
    }

    /// Every generation of every container, in the order in which they began.
    #[must_use]
    pub fn starts(&self) -> &[Start] {
        &self.written.starts
    }

    /// How many restarts there were: generations that followed another of the same container.
    #[must_use]
    pub fn restarts(&self) -> usize {
        self.written.starts.iter().filter(|start| start.generation.get() > 1).count()
    }

    /// Every crash of a container, and when it happened. Kills by hand are among the [events](Self::events).
    pub fn crashes(&self) -> impl Iterator<Item = (Duration, &Arc<Crash>)> {
        self.written.events.iter().filter_map(|(at, event)| match event {
            Event::Crashed(crash) => Some((*at, crash)),
            _ => None,
        })
    }

    /// Every event that the function sent to its subscribers, and when it happened.
    #[must_use]
    pub fn events(&self) -> &[(Duration, Event)] {
        &self.written.events
    }

    /// The virtual time that the scene took, without the drain after it.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Whether the scene took longer than [`Rehearsal::for_at_most`](crate::testkit::Rehearsal::for_at_most),
    /// so that the function was aborted.
    #[must_use]
    pub const fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// The status of the function at the end of the scene.
    #[must_use]
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// The report of the drain after the scene.
    #[must_use]
    pub const fn report(&self) -> &FunctionReport {
        &self.report
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.lock().fmt(f)
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|(at, line)| {
            let said = self.say(*line);
            if said.is_empty() { Ok(()) } else { writeln!(f, "{:>12}  {said}", format!("{at:?}")) }
        })
    }
}

/// Everything that has been recorded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    executions: Vec<Execution>,
    starts: Vec<Start>,
    /// The number of batches that have begun.
    batches: u64,
    events: Vec<(Duration, Event)>,
    /// One line for each entry, in the order in which things happened.
    lines: Vec<(Duration, Line)>,
}

/// A line of the record, as the position of its execution, generation or event.
#[derive(Debug, Clone, Copy)]
enum Line {
    Starts(usize),
    Entered(usize),
    Begins(usize),
    Ends(usize),
    Event(usize),
}

impl Written {
    /// One line in words. Empty for an event that other lines report already.
    fn say(&self, line: Line) -> String {
        let of = |start: &Start| format!("{}#{}", start.container, start.generation);
        let input = |execution: &Execution| {
            let Execution { container, generation, map, input, attempt, .. } = execution;
            format!("{container}#{generation} map {map} input {input} attempt {attempt}")
        };
        match line {
            Line::Starts(at) => format!("{} enters", of(&self.starts[at])),
            Line::Entered(at) => match self.starts[at].entered {
                Some((_, Entered::Well)) => format!("{} has entered", of(&self.starts[at])),
                how => format!("{} enter: {:?}", of(&self.starts[at]), how.map(|(_, how)| how)),
            },
            Line::Begins(at) => format!("{} begins", input(&self.executions[at])),
            Line::Ends(at) => format!("{}: {:?}", input(&self.executions[at]), self.executions[at].ending),
            Line::Event(at) => match &self.events[at].1 {
                Event::Crashed(crash) => format!("crash: {crash}"),
                Event::Killed(crash) => format!("kill: {crash}"),
                Event::Recovered { crashes, after } => {
                    format!("recovered from a loop of {crashes} crashes after {after:?}")
                }
                Event::CrashLoop { crashes, next_restart, .. } => {
                    format!("crash loop: {crashes} in a row, restarts in {next_restart:?}")
                }
                Event::Poisoned { input, attempts, .. } => {
                    format!("input {input} is poisoned after {attempts} attempts")
                }
                Event::TimedOut { input, attempt, limit, is_deadline, .. } => {
                    let what = if *is_deadline { "deadline" } else { "timeout" };
                    format!("input {input} attempt {attempt} is cut at its {what} of {limit:?}")
                }
                Event::Expired { input, inputs, limit, .. } => {
                    format!("{inputs} inputs from {input} on wait past their deadline of {limit:?}")
                }
                Event::Hung { container, generation, .. } => format!("{container}#{generation} hangs"),
                Event::HangEnded { container, generation, after } => {
                    format!("{container}#{generation} has returned after {after:?}")
                }
                Event::Exhausted { hung, abandoned } => {
                    format!("exhausted: {hung} containers hang, {abandoned} threads are left behind")
                }
                Event::ExhaustionEnded { after } => format!("no longer exhausted after {after:?}"),
                Event::Overloaded { max, refused, .. } => {
                    format!("overloaded: {refused} calls beyond {max} were refused")
                }
                Event::OverloadEnded { refused, .. } => {
                    format!("no longer overloaded after {refused} refused calls")
                }
                Event::GaveUp(gave_up) => format!("gave up: {}", gave_up.in_full()),
                Event::ExitTimedOut(container, limit) => format!("{container} exit took over {limit:?}"),
                Event::Reset => "reset".to_owned(),
                Event::Paused => "paused".to_owned(),
                Event::Resumed => "resumed".to_owned(),
                Event::Ended(_) => "ended".to_owned(),
                Event::Missed(events) => format!("{events} events were missed"),
                Event::Container { .. } => String::new(),
            },
        }
    }
}

/// The log that a rehearsal writes while it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Written>>);

impl Log {
    /// Records that a generation begins. Returns its position.
    pub(crate) fn starts(&self, container: ContainerId, generation: Generation, at: Duration) -> usize {
        let mut written = self.0.lock();
        let place = written.starts.len();
        written.starts.push(Start { container, generation, at, entered: None });
        written.lines.push((at, Line::Starts(place)));
        place
    }

    pub(crate) fn entered(&self, place: usize, how: Entered, now: Duration) {
        let mut written = self.0.lock();
        written.starts[place].entered = Some((now, how));
        written.lines.push((now, Line::Entered(place)));
    }

    /// Records that an execution begins. It ends at the latest when the returned value is dropped.
    pub(crate) fn begins<I, N: Fn() -> Duration>(&self, at: &At<'_, I>, now: N) -> Executing<N> {
        self.begins_in_batch(at, None, now)
    }

    /// The number of a batch that begins.
    pub(super) fn next_batch(&self) -> u64 {
        let mut written = self.0.lock();
        written.batches += 1;
        written.batches - 1
    }

    /// The same, for an input of a batch.
    pub(super) fn begins_in_batch<I, N: Fn() -> Duration>(
        &self,
        at: &At<'_, I>,
        batch: Option<u64>,
        now: N,
    ) -> Executing<N> {
        let mut written = self.0.lock();
        let place = written.executions.len();
        written.executions.push(Execution {
            map: at.map,
            input: at.index,
            attempt: at.attempt,
            container: at.container,
            generation: at.generation,
            batch,
            began: at.now,
            ended: at.now,
            ending: ExecutionEnd::Unended,
        });
        written.lines.push((at.now, Line::Begins(place)));
        Executing { log: self.clone(), place, now, ended: false }
    }

    pub(super) fn event(&self, event: Event, now: Duration) {
        let mut written = self.0.lock();
        let place = written.events.len();
        written.events.push((now, event));
        written.lines.push((now, Line::Event(place)));
    }

    /// Takes everything that was recorded. An execution that has not ended gets `now` as its end.
    pub(crate) fn close(&self, now: Duration) -> Written {
        let mut written = std::mem::take(&mut *self.0.lock());
        for execution in &mut written.executions {
            if execution.ending == ExecutionEnd::Unended {
                execution.ended = now;
            }
        }
        written
    }
}

/// An execution that has not ended.
pub(crate) struct Executing<N: Fn() -> Duration> {
    log: Log,
    place: usize,
    now: N,
    ended: bool,
}

impl<N: Fn() -> Duration> Executing<N> {
    pub(super) fn ends(mut self, ending: ExecutionEnd) {
        self.write(ending);
    }

    fn write(&mut self, ending: ExecutionEnd) {
        self.ended = true;
        let now = (self.now)();
        let mut written = self.log.0.lock();
        // An execution that ends after the record was closed is not recorded.
        let Some(execution) = written.executions.get_mut(self.place) else { return };
        (execution.ended, execution.ending) = (now, ending);
        written.lines.push((now, Line::Ends(self.place)));
    }
}

impl<N: Fn() -> Duration> Drop for Executing<N> {
    fn drop(&mut self) {
        if !self.ended {
            self.write(if std::thread::panicking() { ExecutionEnd::Panicked } else { ExecutionEnd::Dropped });
        }
    }
}
