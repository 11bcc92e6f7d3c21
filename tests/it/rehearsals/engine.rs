//! A rehearsal has the same record each time, and the same outcomes as the real engine.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore::testkit::{EnterFault, Fault, Record};
use longshore::{Failure, RateLimited, Retries};
use proptest::prelude::*;

use super::{MS, app, attempt};
use crate::support::Started;

/// A kind of fault for some pairs of an input and an attempt.
fn faults() -> impl Strategy<Value = BTreeMap<(u64, u32), u8>> {
    proptest::collection::btree_map((0..30u64, 1..4u32), 0..3u8, 0..40)
}

fn rehearsed(faults: &BTreeMap<(u64, u32), u8>, containers: usize) -> (Vec<String>, Record) {
    let faults = faults.clone();
    let builder = app().function("faulty", |n: &u64| Ok(*n)).containers(containers).crash_retries(2);
    let rehearsal = builder
        .retries(Retries::new(2).initial_delay(Duration::ZERO))
        .restart(RateLimited::never())
        .rehearse()
        .takes_when(|at| Some(MS * (1 + (at.index % 7) as u32)))
        .enter_fault_when(|at| (at.nth % 5 == 4).then_some(EnterFault::Panic))
        .fault_when(move |at| match faults.get(&(at.index, at.attempt))? {
            0 => Some(Fault::Panic),
            1 => Some(Fault::ExceedMemory),
            attempt => Some(Fault::Fail(*attempt)),
        });
    let (outcomes, record) = rehearsal.run(0..30).expect("valid settings");
    (outcomes.iter().map(said).collect(), record)
}

fn really(faults: &BTreeMap<(u64, u32), u8>, containers: usize) -> Vec<String> {
    let faults = faults.clone();
    let app = app();
    let function = app
        .function("faulty", move |n: &u64| match faults.get(&(*n, attempt())) {
            None => Ok(*n),
            Some(0 | 1) => panic!("a fault"),
            Some(error) => Err(*error),
        })
        .containers(containers)
        .crash_retries(2)
        .restart(RateLimited::never());
    let function = function.retries(Retries::new(2).initial_delay(Duration::ZERO)).started();
    function.run_all((0..30).collect()).iter().map(said).collect()
}

fn said(outcome: &Result<u64, Failure<u64, u8>>) -> String {
    match outcome {
        Ok(output) => format!("{output}"),
        // The text of the last death has the place of the panic, which differs in a rehearsal.
        Err(failure) => failure.to_string().split(": container").take(1).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_rehearsal_is_the_same_each_time_and_ends_as_the_engine_does(faults in faults(), containers in 1..4usize) {
        let (outcomes, record) = rehearsed(&faults, containers);
        let (again, recorded_again) = rehearsed(&faults, containers);
        prop_assert_eq!(&outcomes, &again);
        prop_assert_eq!(record.to_string(), recorded_again.to_string());
        prop_assert_eq!(outcomes, really(&faults, containers), "{}", record);
    }
}
