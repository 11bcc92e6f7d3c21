//! Extreme values, which no sensible caller passes: each is refused with a typed error, or it works.
//!
//! [`edges`] is about allowed settings at the edges of their ranges, [`histories`] about delays and
//! `explain`, [`messages`] about messages, [`sources`] about sources, and [`sizes`] about inputs and outputs
//! without a size and with great ones.

mod edges;
mod histories;
mod messages;
mod sizes;
mod sources;

use std::time::Duration;

use longshore::actor::{Ending, KillContainer, Shutdown};
use longshore::{
    App, Builder, Cause, ContainerId, CrashLoopBackoff, RateLimited, RestartPolicy, Retries, StartError,
};
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::unhung;

pub(crate) const EDGES_U64: [u64; 6] = [0, 1, 2, 1 << 24, (1 << 24) + 1, u64::MAX];
pub(crate) const EDGES_U32: [u32; 6] = [0, 1, 3, 1000, 1001, u32::MAX];
pub(crate) const EDGES_USIZE: [usize; 7] = [0, 1, 2, 65_536, 1025, 1_000_000, usize::MAX];
const EDGES_F64: [f64; 9] = [0.0, -0.0, 0.5, 1.0, 10.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE];

pub(crate) fn durations() -> impl Strategy<Value = Duration> {
    select(vec![
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_millis(1),
        Duration::from_secs(60),
        Duration::from_secs(24 * 60 * 60),
        Duration::MAX,
    ])
}

pub(crate) fn names() -> impl Strategy<Value = String> {
    select(vec![
        String::new(),
        "f".to_owned(),
        "x".repeat(255),
        "ü".repeat(128),
        "y".repeat(1 << 20),
        "a\0b".to_owned(),
    ])
}

pub(crate) fn retries() -> impl Strategy<Value = Retries> {
    let numbers = (select(EDGES_U32.to_vec()), select(EDGES_F64.to_vec()), any::<Option<u64>>());
    (numbers, durations(), durations()).prop_map(|((times, coefficient, jitter), initial, max)| {
        let retries =
            Retries::new(times).initial_delay(initial).backoff_coefficient(coefficient).max_delay(max);
        match jitter {
            Some(seed) => retries.jitter(seed),
            None => retries,
        }
    })
}

pub(crate) fn policies() -> impl Strategy<Value = RestartPolicy> {
    let limited = (durations(), select(EDGES_U32.to_vec()), select(EDGES_F64.to_vec())).prop_map(
        |(window, crashes, rate)| {
            RestartPolicy::from(RateLimited::new().window(window).max_crashes(crashes).max_failure_rate(rate))
        },
    );
    let backoff = (durations(), durations(), durations()).prop_map(|(initial, max, reset_after)| {
        CrashLoopBackoff::new().initial(initial).max(max).reset_after(reset_after).into()
    });
    prop_oneof![limited, backoff]
}

type Plain = Builder<u32, u32, std::convert::Infallible>;

/// A setting of a builder, with an arbitrary value.
#[derive(Debug, Clone)]
enum Setting {
    Containers(usize),
    StackSize(usize),
    AbandonedMax(usize),
    CrashRetries(u32),
    Window(u64),
    MemoryLimit(u64),
    RecycleAbove(u64),
    AbandonedBytesMax(u64),
    ExitTimeout(Duration),
    Retries(Retries),
    Restart(RestartPolicy),
}

impl Setting {
    fn set(&self, f: Plain) -> Plain {
        match self.clone() {
            Self::Containers(containers) => f.containers(containers),
            Self::StackSize(bytes) => f.stack_size(bytes),
            Self::AbandonedMax(threads) => f.abandoned_max(threads),
            Self::CrashRetries(crash_retries) => f.crash_retries(crash_retries),
            Self::Window(inputs) => f.window(inputs),
            Self::MemoryLimit(bytes) => f.memory_limit(bytes),
            Self::RecycleAbove(bytes) => f.recycle_above(bytes),
            Self::AbandonedBytesMax(bytes) => f.abandoned_bytes_max(bytes),
            Self::ExitTimeout(limit) => f.exit_timeout(limit),
            Self::Retries(retries) => f.retries(retries),
            Self::Restart(policy) => f.restart(policy),
        }
    }
}

fn settings() -> impl Strategy<Value = Setting> {
    let bytes = || select(EDGES_U64.to_vec());
    prop_oneof![
        // There are hundreds of cases, and more than a few threads in each would prove nothing more.
        select(vec![0, 1, 3, 1025, 1_000_000, usize::MAX]).prop_map(Setting::Containers),
        select(EDGES_USIZE.to_vec()).prop_map(Setting::StackSize),
        select(EDGES_USIZE.to_vec()).prop_map(Setting::AbandonedMax),
        select(EDGES_U32.to_vec()).prop_map(Setting::CrashRetries),
        bytes().prop_map(Setting::Window),
        bytes().prop_map(Setting::MemoryLimit),
        bytes().prop_map(Setting::RecycleAbove),
        bytes().prop_map(Setting::AbandonedBytesMax),
        durations().prop_map(Setting::ExitTimeout),
        retries().prop_map(Setting::Retries),
        policies().prop_map(Setting::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_function_with_any_settings_is_refused_or_works(
        app_name in names(),
        name in names(),
        settings in proptest::collection::vec(settings(), 0..6),
        map_window in proptest::option::of(select(EDGES_U64.to_vec())),
        map_retries in proptest::option::of(retries()),
        container in any::<u32>(),
        limit in durations(),
    ) {
        let app = App::ephemeral(&app_name);
        let f = settings.iter().fold(app.infallible(&name, |n: &u32| *n), |f, setting| setting.set(f));
        match f.start() {
            Err(StartError::Config(error)) => prop_assert!(!error.to_string().is_empty()),
            Err(other) => prop_assert!(false, "{other:?}"),
            Ok(f) => unhung(move || {
                let label = "l".repeat(container as usize % 300);
                let mut map = f.map(0..5u32).return_exceptions().label(&label);
                if let Some(window) = map_window {
                    map = map.window(window);
                }
                if let Some(retries) = map_retries.clone() {
                    map = map.retries(retries);
                }
                let calls = [f.call(1), f.call(2)];
                assert!(!f.kill_container(ContainerId::new(container.max(2000))), "there is none");
                f.supervisor().do_send(KillContainer { container: ContainerId::new(u32::MAX) });
                f.reset();
                assert!(!f.status().to_string().is_empty());
                // A function that can never start may wait for ever, because its settings ask for it. So it
                // is aborted.
                f.supervisor().do_send(Shutdown { ending: Ending::Abort, limit });
                for (n, call) in (1..).zip(calls) {
                    assert!(call.wait().map_or(true, |told| told == n));
                }
                for outcome in map {
                    let config = outcome.is_err_and(|failure| matches!(failure.cause(), Cause::Config(_)));
                    let hostile = map_window.is_some() || map_retries.is_some() || !(1..=255).contains(&label.len());
                    assert!(!config || hostile);
                }
            }),
        }
    }
}
