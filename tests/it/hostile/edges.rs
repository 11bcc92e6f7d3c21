//! Settings at the edges of their ranges. Functions have to work with each of them.

use std::time::Duration;

use longshore::{App, Builder, Cause, Context, Death, Fate, Worker};
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{Started, unhung};

/// A worker that crashes once at two inputs in ten.
struct Crashes;

impl Worker for Crashes {
    type Input = u64;
    type Output = u64;
    type Error = std::convert::Infallible;

    fn call(&mut self, n: &u64, context: &Context) -> Result<u64, Self::Error> {
        assert!(*n % 10 > 1 || context.attempt().get() > 1, "once");
        Ok(n + 1)
    }

    fn exit(self, _: &Context) {}
}

type Set = fn(Builder<u64, u64, std::convert::Infallible>) -> Builder<u64, u64, std::convert::Infallible>;

/// Settings that are allowed and do not make any of the test's inputs fail.
const ALLOWED: [Set; 17] = [
    |f| f.containers(1),
    |f| f.containers(20),
    |f| f.stack_size(64 << 10),
    |f| f.window(1),
    |f| f.window(1 << 24),
    |f| f.retries(u32::MAX),
    |f| f.crash_retries(1000),
    |f| f.exit_timeout(Duration::ZERO),
    |f| f.exit_timeout(Duration::MAX),
    |f| f.memory_limit(u64::MAX),
    |f| f.memory_limit(i64::MAX as u64 + 1),
    |f| f.recycle_above(0),
    |f| f.recycle_above(u64::MAX),
    |f| f.abandoned_max(1),
    |f| f.abandoned_max(usize::MAX),
    |f| f.abandoned_bytes_max(1),
    |f| f.abandoned_bytes_max(u64::MAX),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_combination_of_allowed_settings_works(
        settings in proptest::collection::vec(select(ALLOWED.to_vec()), 1..4),
        map_window in proptest::option::of(select(vec![1u64, 1 << 24])),
        limit in select(vec![Duration::from_secs(60), Duration::MAX]),
    ) {
        unhung(move || {
            let app = App::ephemeral("edges");
            let f = app.worker("f", |_: &Context| Ok(Crashes)).restart(longshore::RateLimited::never());
            let f = settings.iter().fold(f, |f, set| set(f)).started();
            let map = f.map(0..50u64);
            let map = match map_window {
                Some(window) => map.window(window),
                None => map,
            };
            let outputs: Vec<u64> = map.into_iter().map(|outcome| outcome.expect("it crashes once")).collect();
            assert_eq!(outputs, (1..=50).collect::<Vec<u64>>());
            assert_eq!(f.run((0..50).collect()).expect("they crash once"), outputs);
            let report = app.shutdown_within(limit);
            let function = &report.functions[0];
            let timed_out = function.containers.iter().filter(|(_, fate)| *fate == Fate::ExitTimedOut).count();
            // an `exit` that had no time may still run
            assert!(function.threads_running <= timed_out, "{report}");
        });
    }
}

#[test]
fn the_largest_number_of_containers_works() {
    unhung(|| {
        let app = App::ephemeral("edges");
        let f = app
            .worker("f", |_: &Context| Ok(Crashes))
            .containers(1024)
            .stack_size(64 << 10)
            .restart(longshore::RateLimited::never())
            .started();
        assert_eq!(f.run((0..3000).collect()).expect("they crash once"), (1..=3000).collect::<Vec<u64>>());
        assert!(app.shutdown_blocking().is_clean());
    });
}

#[test]
fn a_memory_limit_that_nothing_fits_into_is_the_cause_of_giving_up() {
    unhung(|| {
        let app = App::ephemeral("edges");
        // The allocations of a container's start are already over this limit.
        let f = app
            .infallible("f", |n: &u64| vec![*n])
            .memory_limit(1)
            .restart(longshore::RateLimited::new().max_crashes(4))
            .started();
        let failure = f.call(1).wait().expect_err("it does not fit");
        let Cause::GaveUp(gave_up) = failure.cause() else { panic!("{failure:?}") };
        let crash = gave_up.last();
        assert!(matches!(crash.death, Death::MemoryLimit { limit: 1, .. }), "{crash}");
    });
}
