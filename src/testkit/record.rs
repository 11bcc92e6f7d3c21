//! The record of a rehearsal: what happened, when, and to whom.

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
    /// Which map or call it belongs to, in the order in which they began, from 0.
    pub map: u64,
    /// The input's index in that.
    pub input: u64,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Where it was executed.
    pub container: ContainerId,
    /// In which of its generations.
    pub generation: Generation,
    /// When it began.
    pub began: Duration,
    /// When it ended; for one that never did, when the rehearsal ended.
    pub ended: Duration,
    /// How.
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
    /// It came out of its code by a panic, or at the memory limit.
    Panicked,
    /// It was dropped at an `await`: its container was killed, its map or call cancelled.
    Dropped,
    /// It returned when nobody wanted its answer any more, which was refused.
    Late,
    /// It did not end.
    Unended,
}

/// One generation of a container. Moments are virtual time since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Start {
    /// Which container.
    pub container: ContainerId,
    /// Its generation; those from the second on are restarts.
    pub generation: Generation,
    /// When its `enter` began.
    pub at: Duration,
    /// When that ended, and how; `None` if it did not.
    pub entered: Option<(Duration, Entered)>,
}

/// How an `enter` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entered {
    /// The container was live from then on, unless its generation was over by then.
    Well,
    /// It returned an error.
    Failed,
    /// It panicked.
    Panicked,
    /// It was dropped at an `await`, because its generation was over.
    Dropped,
}

/// What happened in a rehearsal. Shown (`{record}`) it is a line for each thing that did, which is worth having in
/// the message of an assertion.
#[derive(Debug, Clone)]
pub struct Record {
    pub(crate) written: Written,
    pub(crate) elapsed: Duration,
    pub(crate) timed_out: bool,
    pub(crate) status: Status,
    pub(crate) report: FunctionReport,
}

impl Record {
    /// Every execution, in the order in which they began.
    #[must_use]
    pub fn executions(&self) -> &[Execution] {
        &self.written.executions
    }

    /// How often the input of that index was executed; where there are several maps or calls, in all of them.
    #[must_use]
    pub fn attempts(&self, input: u64) -> usize {
        self.executions_of(input).count()
    }

    /// How long the input of that index waited between its executions: one duration less than it has attempts. Of
    /// several maps and calls, whose inputs share their indices, [`Record::executions`] tells more.
    #[must_use]
    pub fn delays(&self, input: u64) -> Vec<Duration> {
        let ends = self.executions_of(input).map(|execution| execution.ended);
        let begins = self.executions_of(input).skip(1).map(|execution| execution.began);
        begins.zip(ends).map(|(began, ended)| began.saturating_sub(ended)).collect()
    }

    fn executions_of(&self, input: u64) -> impl Iterator<Item = &Execution> {
        self.written.executions.iter().filter(move |execution| execution.input == input)
    }

    /// Every generation of every container, in the order in which they began.
    #[must_use]
    pub fn starts(&self) -> &[Start] {
        &self.written.starts
    }

    /// How many generations followed another.
    #[must_use]
    pub fn restarts(&self) -> usize {
        self.written.starts.iter().filter(|start| start.generation.get() > 1).count()
    }

    /// Every death of a container that was a crash, and when. Kills by hand are among the [events](Self::events).
    pub fn crashes(&self) -> impl Iterator<Item = (Duration, &Arc<Crash>)> {
        self.written.events.iter().filter_map(|(at, event)| match event {
            Event::Crashed(crash) => Some((*at, crash)),
            _ => None,
        })
    }

    /// What the function told its subscribers, and when.
    #[must_use]
    pub fn events(&self) -> &[(Duration, Event)] {
        &self.written.events
    }

    /// How long the scene took, the shutdown after it not included.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Whether it took longer than [`Rehearsal::for_at_most`](crate::testkit::Rehearsal::for_at_most), so that the
    /// function was aborted.
    #[must_use]
    pub const fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// The function at the end of the scene.
    #[must_use]
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// What became of it when it was drained after that.
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

/// What has been written down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    executions: Vec<Execution>,
    starts: Vec<Start>,
    events: Vec<(Duration, Event)>,
    /// All of it, in order.
    lines: Vec<(Duration, Line)>,
}

/// A line of the record, by the place of what it is about.
#[derive(Debug, Clone, Copy)]
enum Line {
    Starts(usize),
    Entered(usize),
    Begins(usize),
    Ends(usize),
    Event(usize),
}

impl Written {
    /// One line in words; none for what other lines say already.
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
                Event::GaveUp(gave_up) => format!("gave up: {}", gave_up.in_full()),
                Event::ExitTimedOut(container, limit) => format!("{container} exit took over {limit:?}"),
                Event::Reset => "reset".to_owned(),
                Event::Ended(_) => "ended".to_owned(),
                Event::Missed(events) => format!("{events} events were missed"),
                Event::Container { .. } => String::new(),
            },
        }
    }
}

/// Where it is written down, as it happens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Written>>);

impl Log {
    /// A generation begins. Returns its place.
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

    /// An execution begins. It ends at the latest when what is returned is dropped.
    pub(crate) fn begins<I, N: Fn() -> Duration>(&self, at: &At<'_, I>, now: N) -> Executing<N> {
        let mut written = self.0.lock();
        let place = written.executions.len();
        written.executions.push(Execution {
            map: at.map,
            input: at.index,
            attempt: at.attempt,
            container: at.container,
            generation: at.generation,
            began: at.now,
            ended: at.now,
            ending: ExecutionEnd::Unended,
        });
        written.lines.push((at.now, Line::Begins(place)));
        Executing { log: self.clone(), place, now, ended: false }
    }

    pub(crate) fn event(&self, event: Event, now: Duration) {
        let mut written = self.0.lock();
        let place = written.events.len();
        written.events.push((now, event));
        written.lines.push((now, Line::Event(place)));
    }

    /// All that was written. What has not ended ends now, without an ending.
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

/// An execution that goes on.
pub(crate) struct Executing<N: Fn() -> Duration> {
    log: Log,
    place: usize,
    now: N,
    ended: bool,
}

impl<N: Fn() -> Duration> Executing<N> {
    pub(crate) fn ends(mut self, ending: ExecutionEnd) {
        self.write(ending);
    }

    fn write(&mut self, ending: ExecutionEnd) {
        self.ended = true;
        let now = (self.now)();
        let mut written = self.log.0.lock();
        // Nothing is written of what ends after the record was closed.
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
