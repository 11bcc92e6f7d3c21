//! Calls that are refused because there is no room, driven on a rig: the events that subscribers hear,
//! and the lines that an operator reads in the log.

use std::sync::PoisonError;
use std::time::Duration;

use crate::decide::limits::{LimitRules, Limits};
use crate::engine::caller::Caller;
use crate::engine::log_lines::{messages, said};
use crate::engine::open_call::OpenCall;
use crate::simulator::rig::Rig;
use crate::values::event::Event;
use crate::values::snapshot::trouble::Happening;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_overload_is_told_when_it_begins_once_a_second_and_when_it_is_over() {
    let rig = Rig::limited(LimitRules::default(), 2, 8, 1);
    let refused = || {
        let begun = OpenCall::begin::<u64, u64>(&rig.engine, 1, Caller::default(), None, Limits::default());
        assert!(begun.err().expect("there is no room").is_overloaded());
    };
    let calls = [rig.call(), rig.call()];
    let lines = said(|| {
        for _ in 0..3000 {
            refused();
            rig.passes(MS);
            rig.engine.review();
        }
        rig.reviews(5 * SECOND);
        refused();
        rig.reviews(30 * SECOND);
        assert!(rig.engine.review().is_none(), "nothing is left to be said");
        refused();
    });
    let told = messages(&lines);
    assert_eq!(
        told[told.len() - 2..],
        ["INFO no longer overloaded", "WARN calls refused again"],
        "{lines:#?}"
    );
    assert!(told[..told.len() - 2].iter().all(|line| *line == "WARN calls refused"), "{lines:#?}");
    assert!((5..=7).contains(&told.len()), "{lines:#?}");
    assert!(lines[lines.len() - 2].contains("refused=3001"), "{lines:#?}");
    assert!(lines[0].contains("calls_max=2") && lines[0].contains("refused=1 "), "{lines:#?}");
    let lines = said(|| rig.engine.ended_with(rig.engine.report()));
    assert_eq!(messages(&lines), ["INFO no longer overloaded"], "the end of the function ends it");
    drop(calls);
}

#[test]
fn an_overload_that_was_over_before_its_review_ends_before_the_next_one_begins() {
    let rig = Rig::limited(LimitRules::default(), 1, 8, 1);
    let call = rig.call();
    let lines = said(|| {
        for _ in 0..2 {
            let begun =
                OpenCall::begin::<u64, u64>(&rig.engine, 1, Caller::default(), None, Limits::default());
            assert!(begun.is_err(), "there is no room");
            rig.passes(30 * SECOND);
        }
    });
    let told = ["WARN calls refused", "INFO no longer overloaded", "WARN calls refused again"];
    assert_eq!(messages(&lines), told, "{lines:#?}");
    drop(call);
}

#[test]
fn overloads_that_come_and_go_are_a_line_a_minute_and_each_of_them_is_an_event() {
    const TIMES: u64 = 20;
    let rig = Rig::limited(LimitRules::default(), 2, 8, 1);
    let calls = [rig.call(), rig.call()];
    let lines = said(|| {
        for _ in 0..TIMES {
            let begun =
                OpenCall::begin::<u64, u64>(&rig.engine, 1, Caller::default(), None, Limits::default());
            assert!(begun.err().expect("there is no room").is_overloaded());
            rig.reviews(15 * SECOND);
        }
        rig.reviews(90 * SECOND);
        assert!(rig.engine.review().is_none(), "nothing is left to be said");
    });
    let told = messages(&lines);
    assert_eq!(told[..3], ["WARN calls refused", "INFO no longer overloaded", "WARN calls refused again"]);
    let (sums, over) = (&told[3..told.len() - 1], told[told.len() - 1]);
    assert!(sums.iter().all(|line| *line == "WARN calls refused again and again"), "{lines:#?}");
    assert!((3..=5).contains(&sums.len()), "in five minutes: {lines:#?}");
    assert_eq!(over, "INFO no longer overloaded");
    assert!(lines.last().expect("the end").contains("overloads=20 refused=20"), "{lines:#?}");
    let heard = rig.heard.lock().unwrap_or_else(PoisonError::into_inner);
    let of = |is: fn(&Event) -> bool| heard.iter().filter(|(event, _)| is(event)).count() as u64;
    assert_eq!(of(|event| matches!(event, Event::Overloaded { .. })), TIMES, "subscribers hear of each");
    assert_eq!(of(|event| matches!(event, Event::OverloadEnded { .. })), TIMES);
    drop(heard);
    let log = rig.engine.snapshot().log;
    let log: Vec<_> = log.iter().map(|line| (line.what, line.count)).collect();
    let (first, ended) = (Happening::Overloaded { refused: 1 }, Happening::OverloadEnded { refused: TIMES });
    assert_eq!(log, [(first, 1), (ended, TIMES)], "the page has two lines");
    drop(calls);
}
