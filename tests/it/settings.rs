//! Every setting out of its range is a named error with its numbers, and nothing is started.

use std::time::Duration;

use longshore::{App, Builder, ConfigError, CrashLoopBackoff, CrashRecord, RateLimited, Retries, StartError};

use crate::support::unhung;

type Plain = Builder<u32, u32, std::convert::Infallible>;

fn refused(with: impl FnOnce(Plain) -> Plain) -> (ConfigError, String) {
    let app = App::ephemeral("settings");
    match with(app.infallible("f", |n: &u32| *n)).start() {
        Err(StartError::Config(error)) => {
            let text = StartError::Config(error.clone()).to_string();
            assert_eq!(text, error.to_string(), "the reader of a start error sees the numbers");
            (error, text)
        }
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it is out of range"),
    }
}

fn accepted(with: impl FnOnce(Plain) -> Plain) {
    let app = App::ephemeral("settings");
    with(app.infallible("f", |n: &u32| *n)).start().expect("it is in range");
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const NS: Duration = Duration::from_nanos(1);

#[test]
fn each_setting_is_refused_just_outside_its_range_and_taken_at_its_end() {
    unhung(|| {
        for containers in [0, 1025] {
            let (error, text) = refused(|f| f.containers(containers));
            assert!(matches!(error, ConfigError::Containers { .. }));
            assert!(text.contains(&containers.to_string()) && text.contains("1024"), "{text}");
        }
        for window in [0, (1 << 24) + 1] {
            let (error, text) = refused(|f| f.window(window));
            assert!(matches!(error, ConfigError::Window { .. }));
            assert!(text.contains(&window.to_string()) && text.contains("16777216"), "{text}");
        }
        accepted(|f| f.window(1 << 24).containers(1).crash_retries(1000));
        let (error, text) = refused(|f| f.crash_retries(1001));
        assert!(matches!(error, ConfigError::CrashRetries { .. }) && text.contains("1001"), "{text}");
        let (error, text) = refused(|f| f.stack_size(1000));
        assert!(matches!(error, ConfigError::StackSize { .. }) && text.contains("65536"), "{text}");
    });
}

#[test]
fn retries_are_validated_at_the_start() {
    unhung(|| {
        for coefficient in [0.999, 10.001, f64::NAN, f64::INFINITY] {
            let (error, _) = refused(|f| f.retries(Retries::new(1).backoff_coefficient(coefficient)));
            assert!(matches!(error, ConfigError::BackoffCoefficient { .. }));
        }
        for delay in [Duration::ZERO, DAY + NS] {
            let (error, _) =
                refused(|f| f.retries(Retries::new(1).initial_delay(Duration::ZERO).max_delay(delay)));
            assert!(matches!(error, ConfigError::RetryMaxDelay { .. }));
        }
        let (error, text) = refused(|f| f.retries(Retries::new(1).initial_delay(Duration::from_secs(61))));
        assert!(matches!(error, ConfigError::RetryInitialDelay { .. }));
        assert!(text.contains("61s") && text.contains("60s"), "{text}");
        accepted(|f| f.retries(Retries::new(0).initial_delay(Duration::ZERO).max_delay(DAY)));
        accepted(|f| f.retries(3));
    });
}

#[test]
fn restart_policies_are_validated_at_the_start() {
    unhung(|| {
        for rate in [1.0, 1.5, -0.1, f64::NAN] {
            let (error, _) = refused(|f| f.restart(RateLimited::new().max_failure_rate(rate)));
            assert!(matches!(error, ConfigError::FailureRate { .. }));
        }
        let (error, _) = refused(|f| f.restart(RateLimited::new().window(Duration::ZERO)));
        assert!(matches!(error, ConfigError::CrashWindow { .. }));
        let (error, text) = refused(|f| f.containers(1).restart(RateLimited::new().max_crashes(1_000)));
        assert!(matches!(error, ConfigError::LimitUnreachable { .. }) && text.contains("1000"), "{text}");
        let (error, _) = refused(|f| f.restart(CrashLoopBackoff::new().initial(Duration::ZERO)));
        assert!(matches!(error, ConfigError::ZeroBackoff));
        let (error, text) = refused(|f| f.restart(CrashLoopBackoff::new().max(Duration::from_millis(99))));
        assert!(matches!(error, ConfigError::BackoffMax { .. }) && text.contains("99ms"), "{text}");
        let short = CrashLoopBackoff::new().initial(Duration::from_secs(6));
        let (error, text) = refused(|f| f.restart(short));
        assert!(matches!(error, ConfigError::ResetAfter { .. }) && text.contains("12s"), "{text}");
        accepted(|f| f.restart(RateLimited::never()));
        accepted(|f| f.restart(RateLimited::new().max_crashes(0).max_failure_rate(0.0)));
    });
}

#[test]
fn names_are_validated_at_the_start() {
    unhung(|| {
        let app = App::ephemeral("names");
        for name in [String::new(), "a\0b".to_owned(), "x".repeat(256)] {
            let refused = app.infallible(&name, |n: &u32| *n).start();
            assert!(matches!(refused, Err(StartError::Config(ConfigError::Name { .. }))));
        }
    });
}

#[test]
fn explain_refuses_what_start_refuses() {
    for containers in [0, 1025] {
        let explained = [
            RateLimited::new().explain(containers, []),
            RateLimited::never().explain(containers, []),
            CrashLoopBackoff::new().explain(containers, []),
        ];
        for refused in explained {
            let error = refused.expect_err("it is out of range");
            assert!(matches!(error, ConfigError::Containers { containers: told, .. } if told == containers));
        }
    }
}

#[test]
fn explain_counts_the_crash_it_gives_up_on_as_a_loop_crash() {
    let every_second = (0..20).map(|s| CrashRecord::at(Duration::from_secs(s)));
    let decisions = RateLimited::new().explain(2, every_second).expect("in range");
    let told: Vec<u32> = decisions.iter().map(|decision| decision.loop_crashes).collect();
    assert_eq!(told, (1..=11).collect::<Vec<_>>());
    assert_eq!(decisions[10].restart_after, None, "the eleventh breaks the limit");
}
