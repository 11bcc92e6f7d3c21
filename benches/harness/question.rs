//! [`Question`]: our way and its rivals, asked in interleaved rounds.

use std::time::{Duration, Instant};

use criterion::{SamplingMode, Throughput};

use super::goal::Goal;
use super::reading::Reading;
use super::row::{Against, Row};
use super::spread::Spread;
use super::watch::Watch;
use super::{Harness, Mode};

/// Criterion's smallest number of samples. Each sample has as many rounds as are needed for the pairs of a
/// row.
const SAMPLES: u32 = 10;

/// The number of rounds of a question, unless it is cheap.
const ROUNDS: u32 = 20;

/// A question whose rounds take less than this together is cheap, and is asked in four times as many rounds.
const CHEAP: Duration = Duration::from_secs(1);

/// The smallest number of pairs for a row.
const PAIRS_MIN: usize = 15;

/// One figure that a question measures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    /// The name of the figure, shown after the question's name unless it is empty.
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// The goal of our figure without a rival.
    pub(crate) goal: Goal,
}

/// One way to do the work.
struct Way<'a> {
    name: String,
    /// For each measure, the goal of our way against this one.
    goals: Vec<Goal>,
    run: Box<dyn FnMut() -> Reading + 'a>,
}

/// A question that has not been asked. It measures nanoseconds per input, unless [`Question::measures`] says
/// otherwise.
#[must_use = "a question has to be asked"]
pub(crate) struct Question<'a> {
    harness: &'a mut Harness,
    name: String,
    inputs: u64,
    measures: Vec<Measure>,
    /// Our way, followed by the rivals.
    ways: Vec<Way<'a>>,
}

impl<'a> Question<'a> {
    pub(crate) fn new(harness: &'a mut Harness, name: &str, inputs: u64) -> Self {
        let measures = vec![Measure { name: "", unit: "ns", goal: Goal::Shown }];
        Self { harness, name: name.into(), inputs, measures, ways: Vec::new() }
    }

    /// Sets the measures of the readings' figures, in their order.
    pub(crate) fn measures(mut self, measures: &[Measure]) -> Self {
        self.measures = measures.to_vec();
        self
    }

    /// Adds our way. It must come before its rivals.
    pub(crate) fn ours(self, run: impl FnMut() -> Reading + 'a) -> Self {
        let goals = vec![Goal::Shown; self.measures.len()];
        self.way("longshore", goals, run)
    }

    /// Adds another way to do the same, with the goal of our way against it for each measure.
    pub(crate) fn rival(self, name: &str, goals: &[Goal], run: impl FnMut() -> Reading + 'a) -> Self {
        self.way(name, goals.to_vec(), run)
    }

    fn way(mut self, name: &str, goals: Vec<Goal>, run: impl FnMut() -> Reading + 'a) -> Self {
        assert_eq!(goals.len(), self.measures.len(), "a goal for each measure");
        self.ways.push(Way { name: name.into(), goals, run: Box::new(run) });
        self
    }

    /// Asks the question in rounds that criterion calls, and keeps the rows.
    pub(crate) fn ask(self) {
        let Self { harness, name, inputs, measures, mut ways } = self;
        if !name.contains(&harness.filter) {
            return;
        }
        let _watch = Watch::over(&name);
        let mut group = harness.criterion.benchmark_group(harness.bench);
        group.throughput(Throughput::Elements(inputs)).sampling_mode(SamplingMode::Flat);
        group.sample_size(SAMPLES as usize).nresamples(2000).warm_up_time(Duration::from_nanos(1));
        let mut rounds = Vec::new();
        if harness.mode == Mode::Timed {
            group.measurement_time(measurement_time(|| drop(round(&mut ways, 0))));
        }
        group.bench_function(&name, |bencher| {
            bencher.iter_custom(|iterations| {
                let at = rounds.len();
                rounds.extend((at..at + iterations as usize).map(|number| round(&mut ways, number)));
                rounds[at..].iter().map(|round| round[0].took).sum()
            });
        });
        group.finish();
        if harness.mode == Mode::Timed {
            rounds.remove(0); // the round of criterion's warm-up
            while rounds.len() < PAIRS_MIN {
                rounds.push(round(&mut ways, rounds.len())); // criterion asks for fewer after a slow warm-up
            }
            let rows = |(at, measure): (usize, &Measure)| rows(&name, inputs, measure, at, &ways, &rounds);
            let answers = measures.iter().enumerate().flat_map(rows).collect();
            harness.keep(answers).expect("the target directory is writable");
        }
    }
}

/// Takes one reading of each way, in the order of the ways. Each round begins with another way, so that a way
/// does not always run after the same other one, with the caches and threads that it left.
fn round(ways: &mut [Way<'_>], number: usize) -> Vec<Reading> {
    let mut readings: Vec<Option<Reading>> = vec![None; ways.len()];
    for turn in 0..ways.len() {
        let at = (number + turn) % ways.len();
        readings[at] = Some((ways[at].run)());
    }
    readings.into_iter().map(|reading| reading.expect("each way had its turn")).collect()
}

/// The time for which criterion must measure to call the right number of rounds. Criterion divides this time
/// among its samples, and then by the time of a round, rounded up.
fn measurement_time(mut round: impl FnMut()) -> Duration {
    let mut timed = || {
        let begun = Instant::now();
        round();
        begun.elapsed()
    };
    let first = timed();
    // A short round is timed again when it is warm. The difference matters there, and the second round is
    // cheap.
    let once = if first * ROUNDS <= CHEAP { first.min(timed()) } else { first };
    let rounds = if once * ROUNDS <= CHEAP { 4 * ROUNDS } else { ROUNDS };
    // Half a round is taken off for each sample, because criterion rounds up and the times are noisy.
    once * rounds - once * SAMPLES / 2
}

/// The rows of one measure. There is a row against each rival, and one without a rival if there are no rivals
/// or if the measure has a goal of its own.
fn rows(
    question: &str,
    inputs: u64,
    measure: &Measure,
    at: usize,
    ways: &[Way<'_>],
    rounds: &[Vec<Reading>],
) -> Vec<Row> {
    let Measure { name, unit, goal } = *measure;
    let question = if name.is_empty() { question.to_owned() } else { format!("{question}: {name}") };
    let figure = |round: &Vec<Reading>, way: usize| round[way].figures[at];
    let spread = |way: usize| Spread::of(rounds.iter().map(|round| figure(round, way)));
    let row = |goal, rival| Row { question: question.clone(), inputs, unit, goal, ours: spread(0), rival };
    let alone = (goal != Goal::Shown || ways.len() == 1).then(|| row(goal, None));
    let against = ways.iter().enumerate().skip(1).map(|(way, rival)| {
        let ratios = rounds.iter().map(|round| figure(round, 0) / figure(round, way));
        let more = rounds.iter().map(|round| figure(round, 0) - figure(round, way));
        let (ratio, more) = (Spread::of(ratios), Spread::of(more).median);
        row(rival.goals[at], Some(Against { name: rival.name.clone(), theirs: spread(way), ratio, more }))
    });
    alone.into_iter().chain(against).collect()
}
