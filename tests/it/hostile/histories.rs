//! Retry delays and `explain` with extreme settings and histories: neither needs a function.

use std::time::Duration;

use longshore::{CrashLoopBackoff, CrashRecord, RateLimited, RestartPolicy, Retries};
use proptest::prelude::*;
use proptest::sample::select;

use super::{EDGES_U32, EDGES_U64, EDGES_USIZE, durations, policies, retries};

/// Records in no order, with arbitrary fields.
fn histories() -> impl Strategy<Value = Vec<CrashRecord>> {
    let at = || prop_oneof![durations(), (0u64..200_000).prop_map(Duration::from_millis)];
    let completed = prop_oneof![select(EDGES_U64.to_vec()), 0u64..50];
    let more = (0u8..9, at(), completed);
    let first = (at(), any::<bool>());
    let first =
        first.prop_map(|(at, crashes)| if crashes { CrashRecord::at(at) } else { CrashRecord::no_crash(at) });
    let record = (first, proptest::collection::vec(more, 0..6))
        .prop_map(|(record, more)| more.into_iter().fold(record, with));
    proptest::collection::vec(record, 0..60)
}

/// The record with one more field set.
fn with(record: CrashRecord, (what, moment, number): (u8, Duration, u64)) -> CrashRecord {
    match what {
        0 => record.started(moment),
        1 => record.entered(moment),
        2 => record.failed_start(),
        3 | 4 => record.completed(moment, number),
        5 => record.suspect(),
        6 => record.input(number),
        7 => record.beside_live(),
        _ => record,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_is_explained_or_refused(
        policy in policies(),
        containers in prop_oneof![select(EDGES_USIZE.to_vec()), 1usize..5],
        history in histories(),
    ) {
        let crashes = history.len();
        match policy.explain(containers, history) {
            Err(error) => prop_assert!(!error.to_string().is_empty()),
            Ok(decisions) => {
                prop_assert!(decisions.len() <= crashes);
                for decision in &decisions {
                    let rate = decision.failure_rate();
                    prop_assert!((0.0..=1.0).contains(&rate), "{rate}");
                    prop_assert!(!decision.to_string().is_empty());
                }
                let ends = decisions.iter().position(|decision| decision.restart_after.is_none());
                prop_assert!(ends.is_none_or(|at| at + 1 == decisions.len()), "giving up is the last decision");
            }
        }
    }

    #[test]
    fn every_retry_delay_is_within_its_maximum(retries in retries(), k in select(EDGES_U32.to_vec())) {
        let delay = retries.delay(k);
        prop_assert!(retries.clone().max_delay(Duration::ZERO).delay(k).is_zero(), "a maximum of zero makes each delay zero");
        let capped = retries.clone().max_delay(Duration::from_secs(1)).delay(k);
        prop_assert!(capped <= Duration::from_secs(1), "{capped:?} of {delay:?}");
        prop_assert_eq!(Retries::from(retries.retries_max()).retries_max(), retries.retries_max());
    }
}

#[test]
fn a_million_crashes_are_explained() {
    let never: RestartPolicy = RateLimited::never().into();
    for policy in [never, CrashLoopBackoff::new().into()] {
        let crashes = (0..1_000_000).map(|at| CrashRecord::at(Duration::from_secs(61 * at)).failed_start());
        let decisions = policy.explain(1, crashes).expect("valid");
        assert_eq!(decisions.len(), 1_000_000);
        assert_eq!(decisions.last().map(|last| last.loop_crashes), Some(1_000_000));
    }
}
