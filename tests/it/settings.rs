//! A setting out of its range is a named error that shows its numbers, and no function is started.

use std::time::Duration;

use longshore::{
    App, Builder, ConfigError, CrashLoopBackoff, CrashRecord, RateLimited, RestartPolicy, Retries, StartError,
};

use crate::support::unhung;

type Plain = Builder<u32, u32, std::convert::Infallible>;

fn refused(with: impl FnOnce(Plain) -> Plain) -> (ConfigError, String) {
    let app = App::ephemeral("settings");
    match with(app.infallible("f", |n: &u32| *n)).start() {
        Err(StartError::Config(error)) => {
            let text = StartError::Config(error.clone()).to_string();
            assert_eq!(text, error.to_string(), "the text of the start error has the numbers");
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
fn each_setting_is_refused_just_outside_its_range_and_accepted_at_its_edge() {
    unhung(|| {
        for containers in [0, 1025] {
            let (error, text) = refused(|f| f.containers(containers));
            assert!(matches!(error, ConfigError::Containers { .. }));
            assert!(text.contains(&containers.to_string()), "{text}");
            assert!(text.contains("1024"), "{text}");
        }
        for window in [0, (1 << 24) + 1] {
            let (error, text) = refused(|f| f.window(window));
            assert!(matches!(error, ConfigError::Window { .. }));
            assert!(text.contains(&window.to_string()), "{text}");
            assert!(text.contains("16777216"), "{text}");
        }
        accepted(|f| f.window(1 << 24).containers(1).crash_retries(1000));
        let (error, text) = refused(|f| f.crash_retries(1001));
        assert!(matches!(error, ConfigError::CrashRetries { .. }), "{text}");
        assert!(text.contains("1001"), "{text}");
        for calls_max in [0, (1 << 24) + 1] {
            let (error, text) = refused(|f| f.calls_max(calls_max));
            assert!(matches!(error, ConfigError::CallsMax { .. }));
            assert!(text.contains(&calls_max.to_string()), "{text}");
            assert!(text.contains("16777216"), "{text}");
        }
        accepted(|f| f.calls_max(1 << 24));
        accepted(|f| f.calls_max(1));
        let (error, text) = refused(|f| f.stack_size(1000));
        assert!(matches!(error, ConfigError::StackSize { .. }), "{text}");
        assert!(text.contains("65536"), "{text}");
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
        assert!(text.contains("61s"), "{text}");
        assert!(text.contains("60s"), "{text}");
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
        // 67 rounds of failed starts fit into the window, and a function gives up when the crashes exceed
        // `max_crashes`.
        for containers in [1, 64, 1024] {
            let (error, text) =
                refused(|f| f.containers(containers).restart(RateLimited::new().max_crashes(67)));
            assert!(matches!(error, ConfigError::LimitUnreachable { .. }), "{text}");
            assert!(text.contains("67"), "{text}");
            assert!(text.contains("60.27s"), "{text}");
            assert!(text.contains("60s"), "{text}");
        }
        accepted(|f| f.containers(1).restart(RateLimited::new().max_crashes(66)));
        let (error, _) = refused(|f| f.restart(CrashLoopBackoff::new().initial(Duration::ZERO)));
        assert!(matches!(error, ConfigError::ZeroBackoff));
        let (error, text) = refused(|f| f.restart(CrashLoopBackoff::new().max(Duration::from_millis(99))));
        assert!(matches!(error, ConfigError::BackoffMax { .. }), "{text}");
        assert!(text.contains("99ms"), "{text}");
        let short = CrashLoopBackoff::new().initial(Duration::from_secs(6));
        let (error, text) = refused(|f| f.restart(short));
        assert!(matches!(error, ConfigError::ResetAfter { .. }), "{text}");
        assert!(text.contains("12s"), "{text}");
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
fn explain_counts_the_crash_that_breaks_the_limit_as_a_loop_crash() {
    let every_second = (0..20).map(|s| CrashRecord::at(Duration::from_secs(s)));
    let decisions = RateLimited::new().explain(2, every_second).expect("in range");
    let told: Vec<u32> = decisions.iter().map(|decision| decision.loop_crashes).collect();
    assert_eq!(told, (1..=17).collect::<Vec<_>>());
    assert_eq!(decisions[16].restart_after, None, "the 17th breaks the limit");
}

#[test]
fn explain_knows_what_ends_a_crash_loop_and_which_crashes_count_as_one() {
    let second = Duration::from_secs(1);
    let delays = |policy: &RestartPolicy, history: &[CrashRecord]| {
        let decisions = policy.explain(8, history.to_vec()).expect("in range");
        decisions.iter().map(|decision| decision.restart_after.expect("borne")).collect::<Vec<_>>()
    };
    let backoff: RestartPolicy = CrashLoopBackoff::new().into();
    let stayed_up = [0, 11, 22].map(|s| CrashRecord::at(s * second));
    assert_eq!(delays(&backoff, &stayed_up), [Duration::ZERO; 3], "each container was up for 10 s");
    let not_up = [0, 11, 22].map(|s| CrashRecord::at(s * second).failed_start());
    assert!(delays(&backoff, &not_up)[1..].iter().all(|delay| !delay.is_zero()));
    let working = [0, 1, 2].map(|s| CrashRecord::at(s * second).completed(s * second, 1));
    assert_eq!(delays(&backoff, &working), [Duration::ZERO; 3], "progress ends a crash loop");

    // Progress of a neighbour ends the loop if it was started after the last crash, and otherwise does not.
    for (started, loop_crashes) in [(2, 1), (0, 2)] {
        let neighbour = CrashRecord::no_crash(9 * second).started(started * second);
        let history = [
            CrashRecord::at(second).failed_start(),
            CrashRecord::at(4 * second).failed_start(),
            neighbour.completed(3 * second, 1),
        ];
        let decisions = backoff.explain(8, history).expect("in range");
        assert_eq!(decisions[1].loop_crashes, loop_crashes, "{decisions:?}");
    }

    let eight = |moment: Duration| (0..8).map(move |_| CrashRecord::at(moment).started(Duration::ZERO));
    let limited = RateLimited::new();
    let decisions = limited.explain(8, eight(second)).expect("in range");
    let last = decisions.last().expect("eight");
    assert_eq!(last.crashes, 8, "crashes");
    assert_eq!(last.rounds, 1, "crashes of containers that were started together are one round");
    assert_eq!(last.loop_crashes, 1, "and one loop crash");
}
