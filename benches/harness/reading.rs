//! [`Reading`]: the figures of one way in one round, and the usual functions that take them.

use std::time::{Duration, Instant};

use super::spread::at;

/// The figures of one way in one round.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// The duration, which criterion reports.
    pub(crate) took: Duration,
    /// One figure for each measure of the question.
    pub(crate) figures: Vec<f64>,
}

/// Nanoseconds per input. `run` consumes the value of `prepare`, and `check` inspects and drops the value of
/// `run`. Only `run` is timed. All three are repeated `times` times, for a run that is too short to be timed
/// alone.
pub(crate) fn timed<P, T>(
    inputs: u64,
    times: u32,
    mut prepare: impl FnMut() -> P,
    mut run: impl FnMut(P) -> T,
    mut check: impl FnMut(T),
) -> impl FnMut() -> Reading {
    move || {
        let mut took = Duration::ZERO;
        for _ in 0..times {
            let prepared = prepare();
            let begun = Instant::now();
            let returned = run(prepared);
            took += begun.elapsed();
            check(returned);
        }
        let figure = took.as_nanos() as f64 / (inputs * u64::from(times)) as f64;
        Reading { took, figures: vec![figure] }
    }
}

/// Nanoseconds per input of a run over `0..inputs` whose outcomes are those inputs again.
pub(crate) fn per_input<E>(inputs: u64, run: impl FnMut() -> Vec<Result<u64, E>>) -> impl FnMut() -> Reading {
    repeated(inputs, 1, run)
}

/// Like [`per_input`], but with `times` runs in a round.
pub(crate) fn repeated<E>(
    inputs: u64,
    times: u32,
    mut run: impl FnMut() -> Vec<Result<u64, E>>,
) -> impl FnMut() -> Reading {
    timed(inputs, times, || (), move |()| run(), move |outcomes| assert_whole(inputs, outcomes))
}

/// The median and the 99th percentile of some delays, in microseconds.
pub(crate) fn delays(took: Duration, delays: Vec<Duration>) -> Reading {
    let mut micros: Vec<f64> = delays.iter().map(|delay| delay.as_nanos() as f64 / 1000.0).collect();
    micros.sort_by(f64::total_cmp);
    Reading { took, figures: vec![at(&micros, 0.5), at(&micros, 0.99)] }
}

/// # Panics
///
/// If the outcomes are not the inputs `0..inputs` in any order.
pub(crate) fn assert_whole<E>(inputs: u64, outcomes: Vec<Result<u64, E>>) {
    let (mut count, mut sum) = (0, 0);
    for outcome in outcomes {
        sum += outcome.ok().expect("nothing fails here");
        count += 1;
    }
    assert_eq!((count, sum), (inputs, inputs * inputs.saturating_sub(1) / 2), "an outcome for each input");
}
