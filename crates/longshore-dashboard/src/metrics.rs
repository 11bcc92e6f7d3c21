//! The metrics: the text exposition format of Prometheus, version 0.0.4, from one look.
//!
//! All values of a label are there from the start, at 0. Labels never hold inputs, messages or places, so
//! their number is bounded by the program's own text. A value that is not known has no line.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use longshore::FunctionSnapshot;
use longshore::snapshot::{AppKind, Histogram, PolicyName};

use crate::history::History;
use crate::source::Look;
use crate::text;

/// The value of the header `content-type`.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The containers of a function that have lines of their own, if that is on.
const CONTAINERS_MAX: usize = 64;

/// The app, for the labels and the clock.
pub(crate) struct Of {
    app: String,
    kind: &'static str,
    started_unix_ms: u64,
    /// Whether there is a line for each container.
    each_container: bool,
}

impl Of {
    pub(crate) fn new(look: &Look, each_container: bool) -> Self {
        let kind = match look.app.kind {
            AppKind::Ephemeral => "ephemeral",
            AppKind::Deployed => "deployed",
            _ => "unknown",
        };
        let started_unix_ms = look.started_unix_ms;
        Self { app: text::label(&look.app.name), kind, started_unix_ms, each_container }
    }
}

/// The metrics of the running functions, in at most `bytes_max`. Functions that do not fit are counted.
pub(crate) fn metrics(of: &Of, history: &History, bytes_max: usize) -> String {
    let functions: Vec<&FunctionSnapshot> = history.running.iter().map(|it| &it.last).collect();
    let mut shown = functions.len();
    loop {
        let text = exposition(of, &functions[..shown], functions.len() - shown);
        if text.len() <= bytes_max || shown == 0 {
            return text;
        }
        // The lines of a function do not get longer when others are left out.
        shown = (shown * bytes_max / text.len()).min(shown - 1);
    }
}

/// One family of metrics after the other: its lines must be next to each other.
struct Families<'a> {
    text: String,
    functions: Vec<(String, &'a FunctionSnapshot)>,
    started: Duration,
}

fn exposition(of: &Of, functions: &[&FunctionSnapshot], omitted: usize) -> String {
    let app = &of.app;
    let labels = |it: &FunctionSnapshot| format!("app=\"{app}\",function=\"{}\"", text::label(&it.name));
    let mut all = Families {
        text: String::new(),
        functions: functions.iter().map(|it| (labels(it), *it)).collect(),
        started: Duration::from_millis(of.started_unix_ms),
    };
    all.head(
        "functions_omitted",
        "gauge",
        "Functions that are left out, because the answer would be too long.",
    );
    all.line("functions_omitted", &format!("app=\"{app}\""), omitted);
    let kind = of.kind;
    all.each(
        "function_info",
        "gauge",
        "The restart policy of the function and the kind of its app.",
        |it, line| {
            let policy = match it.tally.policy {
                PolicyName::RateLimited => "rate_limited",
                PolicyName::CrashLoopBackoff => "crash_loop_backoff",
                _ => "unknown",
            };
            line(&format!("policy=\"{policy}\",kind=\"{kind}\""), 1.0);
        },
    );
    containers(&mut all);
    inputs(&mut all);
    crashes(&mut all);
    memory(&mut all);
    all.histogram(
        "execution_seconds",
        "Durations of executions. Inputs of less than half a millisecond count with the average of their lease.",
        |it| &it.executing,
    );
    all.histogram(
        "queue_seconds",
        "Time that calls waited for a container. One in sixteen is measured.",
        |it| &it.queueing,
    );
    all.histogram("enter_seconds", "Durations of enter where it succeeded.", |it| &it.entering);
    if of.each_container {
        each_container(&mut all);
    }
    all.text
}

fn containers(all: &mut Families<'_>) {
    all.each(
        "containers",
        "gauge",
        "Containers by state. Their sum is the configured number.",
        |it, line| {
            let by_state = it.containers;
            let states = [
                ("starting", by_state.starting),
                ("live", by_state.live),
                ("exiting", by_state.exiting),
                ("backing_off", by_state.backing_off),
                ("stopped", by_state.stopped),
            ];
            for (state, number) in states {
                line(&format!("state=\"{state}\""), number as f64);
            }
        },
    );
    all.gauge("abandoned_threads", "Threads that were left behind in the user's code.", |it| {
        Some(it.containers.abandoned as f64)
    });
    all.counter("restarts_total", "Restarts of containers.", |it| it.totals.restarts);
    all.counter("recycled_total", "Graceful exits of containers that were started again.", |it| {
        it.totals.recycled
    });
    all.counter("late_answers_total", "Answers of fenced attempts, which were refused.", |it| {
        it.totals.late_answers
    });
    all.counter("exit_timeouts_total", "Executions of exit that took too long.", |it| {
        it.totals.exit_timeouts
    });
}

fn inputs(all: &mut Families<'_>) {
    all.each("inputs", "gauge", "Inputs without an outcome, by what they wait for.", |it, line| {
        let by_state = it.inputs;
        let states = [
            ("queued", by_state.queued),
            ("retry", by_state.retry),
            ("replay", by_state.replay),
            ("executing", by_state.executing),
        ];
        for (state, number) in states {
            line(&format!("state=\"{state}\""), number as f64);
        }
    });
    all.gauge("concurrent_inputs", "Inputs that each container may execute at the same time.", |it| {
        Some(it.concurrent_inputs as f64)
    });
    all.each("batches_total", "counter", "Batches that were executed.", |it, line| {
        it.batches.iter().for_each(|batches| line("", batches.executed as f64));
    });
    all.each("batch_inputs_total", "counter", "Executions of inputs in batches.", |it, line| {
        it.batches.iter().for_each(|batches| line("", batches.inputs as f64));
    });
    all.gauge("maps", "Open maps.", |it| Some((it.maps.len() + it.maps_omitted) as f64));
    all.gauge("calls", "Calls that are not closed.", |it| Some(it.calls.open as f64));
    all.gauge("calls_pending", "Calls without an outcome, and permits that are not used.", |it| {
        Some((it.calls.pending + it.calls.permits) as f64)
    });
    all.gauge("calls_max", "The largest number of calls without an outcome.", |it| Some(it.calls.max as f64));
    all.gauge("calls_reserving", "Callers that wait for a permit.", |it| Some(it.calls.reserving as f64));
    all.counter("calls_overloaded_total", "Calls that were refused because there was no room.", |it| {
        it.calls.overloaded
    });
    all.counter("inputs_accepted_total", "Inputs that were accepted.", |it| it.totals.accepted);
    all.each("inputs_total", "counter", "Inputs that ended, by outcome.", |it, line| {
        let totals = it.totals;
        let outcomes = [
            ("ok", totals.ok),
            ("failed", totals.failed),
            ("poisoned", totals.poisoned),
            ("cancelled", totals.cancelled),
            ("given_up", totals.given_up),
        ];
        for (outcome, number) in outcomes {
            line(&format!("outcome=\"{outcome}\""), number as f64);
        }
    });
    all.counter("retries_total", "Failures that led to a retry.", |it| it.totals.retried);
    all.counter("timeouts_total", "Attempts that took longer than their timeout.", |it| it.totals.timed_out);
    all.counter("deadlines_exceeded_total", "Inputs whose deadline has passed.", |it| {
        it.totals.past_deadline
    });
    all.counter("replays_total", "Inputs put back because their container died.", |it| it.totals.replayed);
    all.moment("oldest_execution", "When the oldest current execution began.", |it| {
        it.oldest.first().map(|oldest| oldest.since)
    });
}

fn crashes(all: &mut Families<'_>) {
    all.each(
        "crashes_total",
        "counter",
        "Deaths of containers by cause. Kills by hand are no crashes.",
        |it, line| {
            let by_cause = it.totals.crashes;
            let causes = [
                ("panic", by_cause.panic),
                ("enter_panic", by_cause.enter_panic),
                ("enter_error", by_cause.enter_error),
                ("memory_limit", by_cause.memory_limit),
                ("no_thread", by_cause.no_thread),
                ("no_account", by_cause.no_account),
                ("enter_timeout", by_cause.enter_timeout),
                ("unresponsive", by_cause.unresponsive),
                ("killed", by_cause.killed),
            ];
            for (cause, number) in causes {
                line(&format!("cause=\"{cause}\""), number as f64);
            }
        },
    );
    all.counter("crash_loops_total", "Crash loops: two or more loop crashes in a row.", |it| {
        it.totals.crash_loops
    });
    all.counter("give_ups_total", "The number of times that the function gave up.", |it| it.totals.give_ups);
    all.gauge("crash_loop_crashes", "Loop crashes in a row. It is 0 without a crash loop.", |it| {
        let current = it.crash_loop.filter(|crash_loop| crash_loop.ended.is_none());
        Some(current.map_or(0.0, |crash_loop| f64::from(crash_loop.crashes)))
    });
    all.gauge("gave_up", "Whether the function has given up: 1 or 0.", |it| {
        Some(if it.gave_up.is_some() { 1.0 } else { 0.0 })
    });
    all.gauge("paused", "Whether the function is paused by hand: 1 or 0.", |it| {
        Some(if it.paused { 1.0 } else { 0.0 })
    });
    all.gauge("crash_budget_ratio", "How near the function is to giving up, from 0 to 1.", |it| {
        it.tally.used()
    });
    all.moment("next_restart", "When a crash loop creates containers again.", |it| {
        it.crash_loop.and_then(|crash_loop| crash_loop.next_restart)
    });
    all.moment("last_crash", "When a container last crashed.", |it| {
        it.causes.iter().map(|cause| cause.last).max()
    });
}

fn memory(all: &mut Families<'_>) {
    let bytes = |bytes: u64| Some(bytes as f64);
    all.gauge("memory_live_bytes", "Bytes that are not freed.", |it| bytes(it.memory?.live));
    all.gauge("memory_retained_bytes", "The part of them that earlier attempts left behind.", |it| {
        bytes(it.memory?.retained)
    });
    all.gauge("memory_abandoned_bytes", "Bytes that abandoned threads use.", |it| {
        bytes(it.memory?.abandoned)
    });
    all.gauge("memory_peak_bytes", "The largest use of the limit by one container.", |it| {
        bytes(it.memory?.peak)
    });
    all.gauge("memory_limit_bytes", "The limit of each container.", |it| bytes(it.memory?.limit?));
}

fn each_container(all: &mut Families<'_>) {
    all.each("container_inputs_in_flight", "gauge", "Inputs that a container executes.", |it, line| {
        for row in it.rows.iter().take(CONTAINERS_MAX) {
            line(&format!("container=\"{}\"", row.container), row.in_flight as f64);
        }
    });
    let help = "Bytes of a container that are not freed.";
    all.each("container_memory_live_bytes", "gauge", help, |it, line| {
        for row in it.rows.iter().take(CONTAINERS_MAX) {
            if let Some(memory) = row.memory {
                line(&format!("container=\"{}\"", row.container), memory.live as f64);
            }
        }
    });
}

impl Families<'_> {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.text, "# HELP longshore_{name} {help}\n# TYPE longshore_{name} {kind}").expect(WRITES);
    }

    fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        writeln!(self.text, "longshore_{name}{{{labels}}} {value}").expect(WRITES);
    }

    /// A family with any number of lines for each function.
    fn each(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        lines: impl Fn(&FunctionSnapshot, &mut dyn FnMut(&str, f64)),
    ) {
        self.head(name, kind, help);
        let functions = std::mem::take(&mut self.functions);
        for (labels, function) in &functions {
            lines(function, &mut |more, value| {
                let comma = if more.is_empty() { "" } else { "," };
                self.line(name, &format!("{labels}{comma}{more}"), value);
            });
        }
        self.functions = functions;
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Fn(&FunctionSnapshot) -> u64) {
        self.each(name, "counter", help, |it, line| line("", value(it) as f64));
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Fn(&FunctionSnapshot) -> Option<f64>) {
        self.each(name, "gauge", help, |it, line| {
            if let Some(value) = value(it) {
                line("", value);
            }
        });
    }

    /// A moment in seconds since 1970, so that an age can be computed at any time.
    fn moment(&mut self, name: &str, help: &str, moment: impl Fn(&FunctionSnapshot) -> Option<Duration>) {
        let started = self.started;
        self.gauge(&format!("{name}_timestamp_seconds"), help, |it| {
            Some((started + moment(it)?).as_secs_f64())
        });
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: impl Fn(&FunctionSnapshot) -> &Histogram) {
        self.head(name, "histogram", help);
        let functions = std::mem::take(&mut self.functions);
        for (labels, function) in &functions {
            let histogram = histogram(function);
            let mut below = 0;
            for (bound, count) in histogram.ranges() {
                below += count;
                let bound = bound.map_or("+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
                self.line(&format!("{name}_bucket"), &format!("{labels},le=\"{bound}\""), below);
            }
            self.line(&format!("{name}_sum"), labels, histogram.sum().as_secs_f64());
            self.line(&format!("{name}_count"), labels, below);
        }
        self.functions = functions;
    }
}

const WRITES: &str = "a string can be written to";

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::convert::Infallible;

    use longshore::App;
    use prometheus_parse::{Scrape, Value};

    use super::*;
    use crate::fixture::{Fixture, sick};

    fn exposed(bytes_max: usize, name: &str, functions: usize) -> String {
        exposed_of(&sick().pop().expect("there are some"), bytes_max, name, functions)
    }

    fn exposed_of(snapshot: &FunctionSnapshot, bytes_max: usize, name: &str, functions: usize) -> String {
        let fixture = Fixture::new();
        let names = (0..functions).map(|n| if n == 0 { name.to_owned() } else { format!("{name} {n}") });
        let named = |name| {
            let mut named = snapshot.clone();
            named.name = name;
            named
        };
        let mut look = fixture.look(snapshot.now, names.map(named).collect());
        let of = Of::new(&look, true);
        let mut history = History::default();
        history.see(&mut look);
        metrics(&of, &history, bytes_max)
    }

    fn scraped(text: &str) -> Scrape {
        Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).expect("a scraper reads it")
    }

    fn value(scrape: &Scrape, name: &str, label: Option<(&str, &str)>) -> Option<f64> {
        let is_it = |labels: &prometheus_parse::Labels| {
            label.is_none_or(|(name, value)| labels.get(name) == Some(value))
        };
        let sample = scrape.samples.iter().find(|sample| sample.metric == name && is_it(&sample.labels))?;
        match &sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => Some(*value),
            Value::Histogram(_) | Value::Summary(_) => None,
        }
    }

    #[test]
    fn a_scraper_reads_the_numbers_of_the_snapshot() {
        let last = sick().pop().expect("there are some");
        let scrape = scraped(&exposed(1 << 20, "sick", 1));
        let totals = last.totals;
        assert!(totals.ok > 0 && totals.poisoned == 1 && totals.crashes.panic == 2 && totals.retried == 1);
        let expected = [
            ("longshore_inputs_total", Some(("outcome", "ok")), totals.ok as f64),
            ("longshore_inputs_total", Some(("outcome", "poisoned")), 1.0),
            ("longshore_inputs_total", Some(("outcome", "given_up")), 0.0),
            ("longshore_inputs_accepted_total", None, totals.accepted as f64),
            ("longshore_crashes_total", Some(("cause", "panic")), 2.0),
            ("longshore_crashes_total", Some(("cause", "killed")), 0.0),
            ("longshore_retries_total", None, 1.0),
            ("longshore_timeouts_total", None, 0.0),
            ("longshore_deadlines_exceeded_total", None, 0.0),
            ("longshore_containers", Some(("state", "live")), last.containers.live as f64),
            ("longshore_containers", Some(("state", "stopped")), 0.0),
            ("longshore_inputs", Some(("state", "retry")), 1.0),
            ("longshore_gave_up", None, 0.0),
            ("longshore_paused", None, 0.0),
            ("longshore_calls_pending", None, 0.0),
            ("longshore_calls_max", None, 1_048_576.0),
            ("longshore_calls_overloaded_total", None, 0.0),
            ("longshore_functions_omitted", None, 0.0),
            ("longshore_function_info", Some(("policy", "crash_loop_backoff")), 1.0),
            ("longshore_function_info", Some(("kind", "deployed")), 1.0),
        ];
        for (name, label, number) in expected {
            assert_eq!(value(&scrape, name, label), Some(number), "{name} {label:?}");
        }
        let crashed =
            value(&scrape, "longshore_last_crash_timestamp_seconds", None).expect("there was a crash");
        assert_eq!(crashed, 1_000.0 + last.causes[0].last.as_secs_f64());
        assert_eq!(value(&scrape, "longshore_memory_live_bytes", None), None, "there is no accountant");
        assert_eq!(value(&scrape, "longshore_crash_budget_ratio", None), None, "it never gives up");
    }

    #[test]
    fn batches_are_counted_where_there_are_any() {
        let app = App::ephemeral("metrics");
        let code = |inputs: &[&u64]| vec![Ok::<_, Infallible>(()); inputs.len()];
        let f = app.batch("f", code).containers(1).batch_size(4).start().expect("valid settings");
        assert!(f.run((0..40).collect()).is_ok());
        while f.snapshot().inputs.executing > 0 {
            std::thread::yield_now();
        }
        let last = f.snapshot();
        let batches = last.batches.expect("it executes batches");
        assert_eq!((batches.size, batches.inputs), (4, 40));
        assert!((10..=40).contains(&batches.executed), "{batches:?}");
        let scrape = scraped(&exposed_of(&last, 1 << 20, "some", 1));
        assert_eq!(value(&scrape, "longshore_batches_total", None), Some(batches.executed as f64));
        assert_eq!(value(&scrape, "longshore_batch_inputs_total", None), Some(40.0));
        assert_eq!(value(&scrape, "longshore_concurrent_inputs", None), Some(4.0));
        let plain = sick().pop().expect("there are some");
        let scrape = scraped(&exposed_of(&plain, 1 << 20, "none", 1));
        assert_eq!(value(&scrape, "longshore_batches_total", None), None);
    }

    #[test]
    fn it_shows_how_many_inputs_are_in_flight_and_how_many_may_be() {
        let mut last = sick().pop().expect("there are some");
        last.concurrent_inputs = 64;
        last.rows[1].in_flight = 37;
        let scrape = scraped(&exposed_of(&last, 1 << 20, "many", 1));
        assert_eq!(value(&scrape, "longshore_concurrent_inputs", None), Some(64.0));
        let of = |container| {
            value(&scrape, "longshore_container_inputs_in_flight", Some(("container", container)))
        };
        assert_eq!((of("0"), of("1")), (Some(0.0), Some(37.0)));
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_in_its_count() {
        let text = exposed(1 << 20, "sick", 1);
        let scrape = scraped(&text);
        let execution = scrape.samples.iter().find(|sample| sample.metric == "longshore_execution_seconds");
        let Some(Value::Histogram(buckets)) = execution.map(|sample| &sample.value) else {
            panic!("it is a histogram: {text}");
        };
        let executed = sick().pop().expect("there are some").executing.count() as f64;
        assert!(buckets.windows(2).all(|pair| pair[0].count <= pair[1].count));
        assert_eq!(
            buckets.last().map(|last| (last.less_than.is_infinite(), last.count)),
            Some((true, executed))
        );
        assert!(text.contains(&format!(
            "longshore_execution_seconds_count{{app=\"golden\",function=\"sick\"}} {executed}\n"
        )));
    }

    #[test]
    fn each_family_has_one_help_and_one_type_before_its_lines_and_no_series_comes_twice() {
        let text = exposed(1 << 20, "f", 3);
        let mut types = BTreeMap::new();
        let mut series = BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split(' ').next().expect("a name").to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a kind");
                assert_eq!(name, family, "the type follows the help");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
            } else {
                let (labelled, _) = line.rsplit_once(' ').expect("a value");
                assert!(series.insert(labelled.to_owned()), "{labelled} comes twice");
                let name = labelled.split('{').next().expect("a name");
                let kind = &types[&family];
                let suffixes: &[&str] =
                    if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(
                    suffixes.iter().any(|suffix| name == format!("{family}{suffix}")),
                    "{name} in {family}"
                );
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            }
        }
        assert!(series.len() > 3 * 60, "{}", series.len());
    }

    #[test]
    fn a_hostile_name_is_one_label() {
        let name = "a\"} 1\nlongshore_gave_up{app=\"x\\";
        let text = exposed(1 << 20, name, 1);
        let gave_up: Vec<_> = text.lines().filter(|line| line.starts_with("longshore_gave_up")).collect();
        let [line] = gave_up[..] else { panic!("{gave_up:?}") };
        assert!(line.ends_with("\"} 0"), "{line}");
        assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("longshore_")), "{text}");
        for control in ['\0', '\r', '\u{1b}', '\u{2028}'] {
            assert!(!exposed(1 << 20, &format!("a{control}b"), 1).contains(control), "{control:?}");
        }
    }

    #[test]
    fn functions_that_do_not_fit_are_counted() {
        let one = exposed(1 << 20, "f", 1).len();
        let text = exposed(4 * one, "f", 40);
        assert!(text.len() <= 4 * one && text.len() > 2 * one, "{} of {}", text.len(), 4 * one);
        let shown = text.lines().filter(|line| line.starts_with("longshore_gave_up{")).count();
        let omitted = value(&scraped(&text), "longshore_functions_omitted", None);
        assert_eq!(omitted, Some((40 - shown) as f64));
    }
}
