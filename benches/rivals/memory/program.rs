//! Programs that run with different global allocators.

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use longshore::App;

use crate::allocators::{Kind, VARIABLE};
use crate::harness::ours::{self, as_iterator};
use crate::harness::reading::Reading;
use crate::harness::work::{Spin, hash, no_op};

/// The number of runs of a program in its child. The median counts.
const TIMES: usize = 7;

/// The memory limit of containers in a program with an accountant.
const LIMIT: u64 = 256 << 20;

/// A program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Splits texts into words, and counts and sorts the words.
    Words,
    /// A map of inputs without work.
    NoOp,
    /// A map of inputs of 50 µs.
    Work,
}

impl Program {
    const ALL: [Self; 3] = [Self::Words, Self::NoOp, Self::Work];

    pub(crate) fn told(self) -> &'static str {
        match self {
            Self::Words => "words of a text, counted and sorted",
            Self::NoOp => "no-op map",
            Self::Work => "map of 50 µs of work",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Words => "--words",
            Self::NoOp => "--no-op",
            Self::Work => "--work",
        }
    }

    pub(crate) fn called(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.name() == name)
    }

    /// Runs the program in a child with this allocator.
    pub(crate) fn as_child(self, kind: Kind, inputs: u64) -> impl FnMut() -> Reading {
        move || {
            let executable = std::env::current_exe().expect("it is known while it runs");
            let mut command = Command::new(executable);
            command.env(VARIABLE.to_str().expect("ASCII"), (kind as u8).to_string());
            let output =
                command.args([self.name(), &inputs.to_string()]).output().expect("it runs once more");
            let said = String::from_utf8_lossy(&output.stdout);
            let nanos: f64 = said.trim().parse().expect("it tells nanoseconds");
            Reading { took: Duration::from_nanos((nanos * inputs as f64) as u64), figures: vec![nanos] }
        }
    }

    /// Runs the program in this process, and returns the nanoseconds per input.
    pub(crate) fn run(self, inputs: u64) -> f64 {
        let mut times: Vec<Duration> = match self {
            Self::Words => {
                let texts: Vec<u64> = (0..inputs).collect();
                let app = App::ephemeral("bench");
                let f = app.infallible("words", |seed: &u64| words(*seed));
                let f = ours::start_with(1, limited(f));
                times(|| assert!(f.run_all(texts.clone()).iter().all(Result::is_ok)))
            }
            Self::NoOp => maps(no_op, inputs),
            Self::Work => {
                let spin = Spin::calibrated().lasting(Duration::from_micros(50));
                maps(move |n| spin.run(n), inputs)
            }
        };
        times.sort();
        times[TIMES / 2].as_nanos() as f64 / inputs as f64
    }
}

fn times(mut run: impl FnMut()) -> Vec<Duration> {
    run();
    let timed = |_| {
        let begun = Instant::now();
        run();
        begun.elapsed()
    };
    (0..TIMES).map(timed).collect()
}

fn maps(run: impl Fn(u64) -> u64 + Send + Sync + 'static, inputs: u64) -> Vec<Duration> {
    let app = App::ephemeral("bench");
    let f = ours::start(limited(app.infallible("map", move |n: &u64| run(*n))));
    times(|| assert_eq!(as_iterator(&f, inputs).len() as u64, inputs))
}

/// Sets the memory limit if this process has an accountant.
fn limited<I, O, E>(f: longshore::Builder<I, O, E>) -> longshore::Builder<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    let told = std::env::var(VARIABLE.to_str().expect("ASCII")).unwrap_or_default();
    if ["1", "3"].contains(&told.as_str()) { f } else { f.memory_limit(LIMIT) }
}

/// The commonest words of a generated text.
fn words(seed: u64) -> Vec<(String, usize)> {
    let word = |n: u64| format!("word{}", hash(seed * 1_000 + n) % 300);
    let text: Vec<String> =
        (0..40).map(|line| (0..12).map(|at| word(line * 12 + at)).collect::<Vec<_>>().join(" ")).collect();
    let text = text.join("\n");
    let mut lines_of: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        for word in line.split(' ') {
            lines_of.entry(word.to_uppercase()).or_default().push(at);
        }
    }
    let mut counted: Vec<(String, usize)> =
        lines_of.into_iter().map(|(word, lines)| (word, lines.len())).collect();
    counted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counted.truncate(10);
    counted
}
