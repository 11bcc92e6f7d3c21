//! The JSON answers, version 1. Fields and words are only ever added, and a value that is not known is
//! absent.
//!
//! Every answer fits into a given number of bytes. Texts and lists that are too long for it are cut, and the
//! entries that were left out are counted.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore::snapshot::{
    AppSnapshot, BatchCounts, CallCounts, CrashCause, CrashLoopSnapshot, CurrentExecution, GaveUpSnapshot,
    InputCounts, MemorySnapshot, ModeName, RecentCrashes, Tally, Totals,
};
use longshore::{Containers, FunctionReport, FunctionSnapshot, Health};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::history::{History, Remembered, Samples};
use crate::series::{Ring, Sample};
use crate::source::Look;
use crate::strips;
use crate::text;

/// The version of the answers.
const VERSION: u32 = 1;

/// The letters of an overview: one for each container and abandoned thread.
const LETTERS_MAX: usize = 256;

/// The largest text within an answer, in bytes.
const TEXT_MAX: usize = 1024;

/// The largest list within an answer.
const LIST_MAX: usize = 256;

/// The largest part of an answer that the app may take, in bytes.
const HEAD_MAX: usize = 32 << 10;

/// The largest part of an overview that one function may take, in bytes.
const ENTRY_MAX: usize = 16 << 10;

/// The length of a step of the sparkline, in seconds.
const SPARK_SECONDS: u64 = 10;

/// The part that all answers share.
#[derive(Serialize)]
pub(crate) struct Head {
    v: u32,
    longshore: &'static str,
    process: u32,
    started_unix_ms: u64,
    now_unix_ms: u64,
    now_ms: u64,
    app: Box<RawValue>,
    dashboard: About,
}

/// The dashboard itself.
#[derive(Serialize, Clone)]
pub(crate) struct About {
    pub(crate) version: &'static str,
    pub(crate) actions: Vec<&'static str>,
    pub(crate) app_gone: bool,
}

impl Head {
    pub(crate) fn of(look: &Look, actions: Vec<&'static str>) -> Self {
        let AppSnapshot { name, .. } = &look.app;
        let mut app = value(&look.app);
        app["name"] = text::cut(name, TEXT_MAX).into();
        Self {
            v: VERSION,
            longshore: look.longshore,
            process: look.process,
            started_unix_ms: look.started_unix_ms,
            now_unix_ms: look.now_unix_ms,
            now_ms: ms(look.now),
            app: fitted(app, HEAD_MAX),
            dashboard: About { version: env!("CARGO_PKG_VERSION"), actions, app_gone: look.app_gone },
        }
    }
}

/// The answer to `api/v1/overview`.
pub(crate) fn overview(head: &Head, history: &History, bytes_max: usize) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Overview<'a> {
        #[serde(flatten)]
        head: &'a Head,
        functions: Vec<Box<RawValue>>,
        functions_omitted: usize,
        ended: Vec<Box<RawValue>>,
    }

    let left = bytes_max.saturating_sub(size(head) + 200);
    let ended: Vec<_> = history.ended.iter().map(entry).collect();
    let left = left.saturating_sub(ended.iter().map(|it| it.get().len() + 1).sum());
    let entries: Vec<_> = history.running.iter().map(|it| (it.last.health, entry(it))).collect();
    let (functions, functions_omitted) = worst_that_fit(entries, left);
    raw(&Overview { head, functions, functions_omitted, ended })
}

/// The entries that fit into `bytes_max`, in their order, and the number of the others. Entries of the worst
/// health are chosen first.
fn worst_that_fit(entries: Vec<(Health, Box<RawValue>)>, bytes_max: usize) -> (Vec<Box<RawValue>>, usize) {
    let mut by_health: Vec<usize> = (0..entries.len()).collect();
    by_health.sort_by_key(|at| std::cmp::Reverse(entries[*at].0));
    let mut fits = vec![false; entries.len()];
    let mut left = bytes_max;
    for at in by_health {
        let size = entries[at].1.get().len() + 1;
        if size > left {
            break;
        }
        left -= size;
        fits[at] = true;
    }
    let omitted = fits.iter().filter(|fits| !**fits).count();
    let chosen = entries.into_iter().zip(fits).filter(|(_, fits)| *fits).map(|((_, entry), _)| entry);
    (chosen.collect(), omitted)
}

/// A function, as it is in the overview.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    now_ms: u64,
    started_ms: u64,
    health: Health,
    mode: ModeName,
    paused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<&'a str>,
    containers: Containers,
    concurrent_inputs: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    batches: Option<BatchCounts>,
    inputs: InputCounts,
    totals: Totals,
    calls: CallCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    crash_loop: Option<CrashLoopSnapshot>,
    recent: RecentCrashes,
    tally: Tally,
    #[serde(skip_serializing_if = "Option::is_none")]
    gave_up: Option<&'a GaveUpSnapshot>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<MemorySnapshot>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<&'a CurrentExecution>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a CrashCause>,
    maps: usize,
    states: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    spark: Option<Spark>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a FunctionReport>,
}

fn entry(of: &Remembered) -> Box<RawValue> {
    let Remembered { last, samples, .. } = of;
    let entry = Entry {
        name: &text::public_name(&last.name),
        now_ms: ms(last.now),
        started_ms: ms(last.started),
        health: last.health,
        mode: last.mode,
        paused: last.paused,
        broken: last.broken.as_deref(),
        containers: last.containers,
        concurrent_inputs: last.concurrent_inputs,
        batches: last.batches,
        inputs: last.inputs,
        totals: last.totals,
        calls: last.calls,
        crash_loop: last.crash_loop,
        recent: last.recent,
        tally: last.tally,
        gave_up: last.gave_up.as_ref(),
        memory: last.memory,
        oldest: last.oldest.first(),
        cause: last.causes.first(),
        maps: last.maps.len() + last.maps_omitted,
        states: states(last),
        spark: samples.as_deref().map(Spark::of),
        report: last.report.as_ref(),
    };
    fitted(value(&entry), ENTRY_MAX)
}

/// A letter for each container and each abandoned thread.
fn states(snapshot: &FunctionSnapshot) -> String {
    let rows = snapshot.rows.iter().map(|row| strips::letter(row.state));
    let abandoned = snapshot.abandoned.iter().map(|_| b'a');
    rows.chain(abandoned).take(LETTERS_MAX).map(char::from).collect()
}

/// The last ten minutes of a function in few numbers.
#[derive(Serialize)]
struct Spark {
    step_ms: u64,
    end_ms: u64,
    ok: Vec<Option<u32>>,
    failed: Vec<Option<u32>>,
    poisoned: Vec<Option<u32>>,
    crashes: Vec<Option<u32>>,
}

impl Spark {
    fn of(samples: &Samples) -> Self {
        let ring = samples.seconds.coarser(SPARK_SECONDS, 60);
        Self {
            step_ms: ring.step_ms(),
            end_ms: ring.end_ms(),
            ok: column(&ring, |sample| sample.ok),
            failed: column(&ring, |sample| sample.failed),
            poisoned: column(&ring, |sample| sample.poisoned),
            crashes: column(&ring, |sample| sample.crashes),
        }
    }
}

/// The answer to `api/v1/functions/NAME`.
pub(crate) fn function(head: &Head, of: &Remembered, ended: bool, bytes_max: usize) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Answer<'a> {
        #[serde(flatten)]
        head: &'a Head,
        function: Box<RawValue>,
        ended: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        series: Option<Box<RawValue>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        strips: Option<Box<RawValue>>,
    }

    let samples = of.samples.as_deref();
    let series = samples.map(|samples| {
        raw(&BTreeMap::from([
            ("seconds", Series::of(&samples.seconds)),
            ("minutes", Series::of(&samples.minutes)),
        ]))
    });
    let strips = samples.map(|samples| raw(&StripsAnswer::of(samples)));
    let parts = [&series, &strips].into_iter().flatten().map(|part| part.get().len());
    let left = bytes_max.saturating_sub(size(head) + parts.sum::<usize>() + 200);
    let mut function = value(&of.last);
    function["name"] = text::public_name(&of.last.name).into();
    raw(&Answer { head, function: fitted(function, left), ended, series, strips })
}

/// A ring in columns.
#[derive(Serialize)]
struct Series {
    step_ms: u64,
    end_ms: u64,
    ok: Vec<Option<u32>>,
    failed: Vec<Option<u32>>,
    poisoned: Vec<Option<u32>>,
    crashes: Vec<Option<u32>>,
    live: Vec<Option<u32>>,
    waiting: Vec<Option<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<Vec<Option<u64>>>,
}

impl Series {
    fn of(ring: &Ring) -> Self {
        let bytes = ring.samples().map(|sample| sample.and_then(|sample| sample.bytes));
        Self {
            step_ms: ring.step_ms(),
            end_ms: ring.end_ms(),
            ok: column(ring, |sample| sample.ok),
            failed: column(ring, |sample| sample.failed),
            poisoned: column(ring, |sample| sample.poisoned),
            crashes: column(ring, |sample| sample.crashes),
            live: column(ring, |sample| sample.live),
            waiting: column(ring, |sample| sample.waiting),
            bytes: bytes.clone().any(|bytes| bytes.is_some()).then(|| bytes.collect()),
        }
    }
}

fn column(ring: &Ring, number: impl Fn(Sample) -> u32) -> Vec<Option<u32>> {
    ring.samples().map(|sample| sample.map(&number)).collect()
}

/// The strips of a function.
#[derive(Serialize)]
struct StripsAnswer {
    end_ms: u64,
    step_ms: u64,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    container: usize,
    states: String,
    crashes: Vec<(usize, u16)>,
}

impl StripsAnswer {
    fn of(samples: &Samples) -> Self {
        let rows = samples.strips.rows();
        Self {
            end_ms: samples.strips.newest() * 1_000,
            step_ms: 1_000,
            rows: rows.map(|(container, states, crashes)| Row { container, states, crashes }).collect(),
        }
    }
}

/// The value as JSON of at most `bytes_max`. Texts and lists are cut until it fits. The number of entries
/// that a list lost is added beside the list, as `NAME_cut`.
fn fitted(mut value: Value, bytes_max: usize) -> Box<RawValue> {
    let (mut text_max, mut list_max) = (TEXT_MAX, LIST_MAX);
    loop {
        trim(&mut value, text_max, list_max);
        let text = raw(&value);
        if text.get().len() <= bytes_max || (text_max <= 16 && list_max == 0) {
            return text;
        }
        (text_max, list_max) = (16.max(text_max / 2), list_max / 2);
    }
}

fn trim(value: &mut Value, text_max: usize, list_max: usize) {
    match value {
        Value::String(text) if text.len() > text_max => *text = text::cut(text, text_max).into_owned(),
        Value::Array(entries) => entries.iter_mut().for_each(|entry| trim(entry, text_max, list_max)),
        Value::Object(fields) => {
            let mut cuts = Vec::new();
            for (name, field) in fields.iter_mut() {
                if let Value::Array(entries) = field
                    && entries.len() > list_max
                {
                    cuts.push((format!("{name}_cut"), entries.len() - list_max));
                    let oldest_first =
                        matches!(name.as_str(), "crashes" | "poisoned" | "log" | "maps_ended" | "reports");
                    match oldest_first {
                        true => drop(entries.drain(..entries.len() - list_max)),
                        false => entries.truncate(list_max),
                    }
                }
                trim(field, text_max, list_max);
            }
            for (name, more) in cuts {
                let before = fields.get(&name).and_then(Value::as_u64).unwrap_or(0);
                fields.insert(name, (before + more as u64).into());
            }
        }
        _ => {}
    }
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).expect("a snapshot has names for fields, and numbers and texts in them")
}

/// The value as JSON.
pub(crate) fn raw(of: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(of)
        .expect("an answer has names for fields, and numbers and texts in them")
}

fn size(of: &impl Serialize) -> usize {
    raw(of).get().len()
}

/// A moment or a duration in whole milliseconds.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
