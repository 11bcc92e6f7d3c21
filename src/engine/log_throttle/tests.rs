//! The lines that a log gets for sequences of events, in virtual time.

use std::time::Duration;

use super::*;
use crate::base::ids::{Attempt, ContainerId, Generation};
use crate::values::crash::Death;
use crate::values::crash::Panic;

fn at(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn crash(line: u32) -> Event {
    let panic = Panic { message: "gone".to_owned(), location: Some(format!("src/client.rs:{line}:9")) };
    Event::Crashed(Arc::new(Crash {
        container: ContainerId(0),
        generation: Generation(1),
        executing: None,
        map: None,
        call: None,
        peak_bytes: None,
        death: Death::Panicked(panic),
    }))
}

fn crash_loop(crashes: u32) -> Event {
    let Event::Crashed(crash) = crash(1) else { unreachable!("it is a crash") };
    Event::CrashLoop { crashes, since: Duration::ZERO, next_restart: Duration::ZERO, crash }
}

fn timed_out(is_deadline: bool) -> Event {
    let limit = Duration::from_millis(20);
    let (attempt, is_retried) = (Attempt(1), false);
    Event::TimedOut { map: None, call: None, input: 0, attempt, limit, is_deadline, is_retried }
}

fn expired(inputs: u64) -> Event {
    Event::Expired { map: None, call: None, input: 0, inputs, limit: Duration::from_millis(20) }
}

/// The numbers of the crashes in sums.
fn crashes(sums: Vec<Sum>) -> Vec<u64> {
    let crashes = |sum| if let Sum::Crashes(_, repeats) = sum { Some(repeats) } else { None };
    sums.into_iter().filter_map(crashes).collect()
}

/// The reports on storms in sums.
fn reports(sums: Vec<Sum>) -> Vec<StormReport> {
    let report = |sum| if let Sum::Storm(_, report) = sum { Some(report) } else { None };
    sums.into_iter().filter_map(report).collect()
}

fn in_full(repeats: u64) -> Detail {
    Detail::InFull { repeats }
}

#[test]
fn each_kind_of_limit_has_a_storm_of_its_own() {
    let mut throttle = LogThrottle::default();
    for event in [timed_out(false), timed_out(true), expired(3)] {
        assert_eq!(throttle.admit(&event, at(0)), in_full(0));
        assert_eq!(throttle.admit(&event, at(1)), Detail::Folded);
    }
}

#[test]
fn the_first_crash_of_each_kind_is_logged_in_full() {
    let mut throttle = LogThrottle::default();
    assert_eq!(throttle.admit(&crash(1), at(0)), in_full(0));
    assert_eq!(throttle.admit(&crash(2), at(0)), in_full(0));
}

#[test]
fn repeats_are_logged_once_a_second_with_their_number() {
    let mut throttle = LogThrottle::default();
    throttle.admit(&crash(1), at(0));
    for ms in [0, 10, 999] {
        assert_eq!(throttle.admit(&crash(1), at(ms)), Detail::Folded);
    }
    assert_eq!(throttle.admit(&crash(1), at(1000)), in_full(3));
    assert_eq!(throttle.admit(&crash(1), at(1001)), Detail::Folded);
}

#[test]
fn repeats_without_a_later_event_are_logged_after_a_second() {
    let mut throttle = LogThrottle::default();
    throttle.admit(&crash(1), at(0));
    throttle.admit(&crash(1), at(1));
    assert!(throttle.has_repeats());
    assert!(throttle.take_repeats(at(999)).is_empty());
    assert_eq!(crashes(throttle.take_repeats(at(1000))), [1]);
    assert!(!throttle.has_repeats());
}

#[test]
fn in_a_crash_loop_each_delay_carries_the_number_of_repeats() {
    let mut throttle = LogThrottle::default();
    throttle.admit(&crash(1), at(0));
    for _ in 0..7 {
        throttle.admit(&crash(1), at(0));
    }
    assert_eq!(throttle.admit(&crash_loop(2), at(1)), in_full(7));
    for _ in 0..8 {
        assert_eq!(throttle.admit(&crash(1), at(5000)), Detail::Folded);
    }
    assert!(!throttle.has_repeats(), "the event of the next delay carries them");
    assert_eq!(throttle.admit(&crash_loop(3), at(5001)), in_full(8));
    throttle.admit(&crash(1), at(6000));
    let recovered = Event::Recovered { crashes: 3, after: Duration::from_secs(6) };
    assert_eq!(throttle.admit(&recovered, at(6001)), in_full(1));
    assert_eq!(throttle.admit(&crash(1), at(7001)), in_full(0), "the loop is over");
}

#[test]
fn another_kind_of_crash_is_logged_in_full_within_a_loop() {
    let mut throttle = LogThrottle::default();
    throttle.admit(&crash(1), at(0));
    throttle.admit(&crash_loop(2), at(1));
    assert_eq!(throttle.admit(&crash(2), at(5000)), in_full(0));
    assert_eq!(throttle.admit(&crash(1), at(5000)), Detail::Folded, "the first kind is still remembered");
}

#[test]
fn missed_events_end_the_crash_loop() {
    let mut throttle = LogThrottle::default();
    throttle.admit(&crash(1), at(0));
    throttle.admit(&crash_loop(2), at(1));
    assert_eq!(throttle.admit(&Event::Missed(3), at(2)), in_full(0));
    assert_eq!(throttle.admit(&crash(1), at(1001)), in_full(0));
}

#[test]
fn a_crash_without_repeats_is_logged_once() {
    let mut throttle = LogThrottle::default();
    throttle.admit(&crash(1), at(0));
    assert!(throttle.take_repeats(at(1000)).is_empty());
}

#[test]
fn repeats_that_were_not_logged_are_kept_when_other_kinds_are_dropped() {
    let mut throttle = LogThrottle::default();
    for line in 0..KINDS_MAX as u32 {
        throttle.admit(&crash(line), at(0));
    }
    throttle.admit(&crash(0), at(0));
    throttle.admit(&crash(1000), at(1000));
    assert_eq!(crashes(throttle.take_repeats(at(1000))), [1]);
}

#[test]
fn the_number_of_kinds_is_bounded() {
    let mut throttle = LogThrottle::default();
    let logged: Vec<Detail> = (0..100).map(|line| throttle.admit(&crash(line), at(0))).collect();
    let in_full = logged.iter().filter(|detail| **detail != Detail::Folded).count();
    assert_eq!(in_full, KINDS_MAX + 1);
    assert!(throttle.kinds.len() <= KINDS_MAX + 1);
    throttle.admit(&crash(1000), at(1000));
    assert!(throttle.kinds.len() <= 3, "a kind that would be logged in full anyway is forgotten");
}

#[test]
fn a_storm_of_time_outs_is_its_first_line_then_sums_and_then_its_end() {
    let mut throttle = LogThrottle::default();
    assert_eq!(throttle.admit(&timed_out(false), at(0)), in_full(0));
    for ms in 1..5000 {
        assert_eq!(throttle.admit(&timed_out(false), at(ms)), Detail::Folded);
    }
    let (since, lasted) = (Duration::from_secs(5), Duration::from_millis(4999));
    let sum = StormReport::GoesOn { repeats: 4999, events: 5000, since };
    assert_eq!(reports(throttle.take_repeats(at(5000))), [sum]);
    assert!(throttle.take_repeats(at(14_998)).is_empty(), "it may go on");
    assert!(throttle.has_repeats(), "its end is to be logged");
    let over = StormReport::Over { events: 5000, lasted };
    assert_eq!(reports(throttle.take_repeats(at(14_999))), [over]);
    assert!(!throttle.has_repeats());
    assert_eq!(throttle.admit(&timed_out(false), at(15_000)), in_full(0), "it is another storm");
}

#[test]
fn the_end_of_a_storm_is_logged_before_the_next_one_begins() {
    let mut throttle = LogThrottle::default();
    throttle.admit(&timed_out(false), at(0));
    throttle.admit(&timed_out(false), at(100));
    for second in 0..10 {
        let sums = reports(throttle.take_repeats(at(900 + 1000 * second)));
        assert_eq!(sums.len(), usize::from(second == 1), "at {second}.9 s");
    }
    let before = StormReport::Over { events: 2, lasted: Duration::from_millis(100) };
    let next = Detail::NextStorm { before };
    assert_eq!(throttle.admit(&timed_out(false), at(10_500)), next, "no review saw its end");
    assert!(throttle.take_repeats(at(10_900)).is_empty(), "its end is logged once");
    assert_eq!(throttle.admit(&timed_out(false), at(20_500)), in_full(0), "a single one has no end");
}

#[test]
fn a_late_review_logs_the_last_events_of_a_storm_and_its_end() {
    let mut throttle = LogThrottle::default();
    throttle.admit(&timed_out(false), at(0));
    throttle.admit(&timed_out(false), at(100));
    let sum = StormReport::GoesOn { repeats: 1, events: 2, since: Duration::from_millis(10_900) };
    let over = StormReport::Over { events: 2, lasted: Duration::from_millis(100) };
    assert_eq!(reports(throttle.take_repeats(at(10_900))), [sum, over]);
    assert!(!throttle.has_repeats());
}

#[test]
fn a_single_time_out_is_logged_once_and_its_end_is_not() {
    let mut throttle = LogThrottle::default();
    throttle.admit(&timed_out(false), at(0));
    assert!(!throttle.has_repeats());
    assert!(throttle.take_repeats(at(20_000)).is_empty());
    assert!(throttle.storms.is_empty());
}

#[test]
fn time_outs_and_deadlines_are_storms_of_their_own() {
    let mut throttle = LogThrottle::default();
    for event in [timed_out(false), timed_out(true), expired(3)] {
        assert_eq!(throttle.admit(&event, at(0)), in_full(0));
    }
    assert_eq!(throttle.admit(&crash(1), at(0)), in_full(0));
    throttle.admit(&expired(700), at(1));
    let sum = StormReport::GoesOn { repeats: 700, events: 703, since: Duration::from_secs(1) };
    assert_eq!(reports(throttle.take_repeats(at(1000))), [sum], "inputs are counted");
}

#[test]
fn a_crash_loop_does_not_hold_back_the_sums_of_time_outs() {
    let mut throttle = LogThrottle::default();
    throttle.admit(&crash_loop(2), at(0));
    throttle.admit(&timed_out(false), at(0));
    throttle.admit(&timed_out(false), at(1));
    assert!(throttle.has_repeats());
    assert_eq!(reports(throttle.take_repeats(at(1000))).len(), 1);
}

#[test]
fn the_end_of_the_function_takes_the_sums_of_storms() {
    let mut throttle = LogThrottle::default();
    throttle.admit(&timed_out(false), at(0));
    throttle.admit(&timed_out(false), at(1));
    assert_eq!(reports(throttle.take_all_repeats(at(2))).len(), 1);
    assert!(!throttle.has_repeats());
}

#[test]
fn the_end_of_the_function_takes_the_end_of_a_storm_that_is_over() {
    let mut throttle = LogThrottle::default();
    throttle.admit(&timed_out(false), at(0));
    throttle.admit(&timed_out(false), at(1));
    assert_eq!(reports(throttle.take_repeats(at(1000))).len(), 1);
    let over = StormReport::Over { events: 2, lasted: Duration::from_millis(1) };
    assert_eq!(reports(throttle.take_all_repeats(at(10_001))), [over]);
}

#[test]
fn the_end_takes_all_repeats() {
    let mut throttle = LogThrottle::default();
    throttle.admit(&crash(1), at(0));
    throttle.admit(&crash_loop(2), at(0));
    throttle.admit(&crash(1), at(1));
    assert_eq!(throttle.take_all_repeats(at(2)).len(), 1);
}

fn overloaded(refused: u64) -> Event {
    Event::Overloaded { max: 4, refused, since: Duration::ZERO }
}

fn overload_ended(refused: u64) -> Event {
    Event::OverloadEnded { refused, lasted: Duration::from_secs(2) }
}

/// The reports on overloads in sums.
fn waves(sums: Vec<Sum>) -> Vec<WaveReport> {
    let report = |sum| if let Sum::Overloads(report) = sum { Some(report) } else { None };
    sums.into_iter().filter_map(report).collect()
}

#[test]
fn overloads_that_come_and_go_are_few_lines_with_their_numbers() {
    let mut throttle = LogThrottle::default();
    let mut in_full = Vec::new();
    let mut sums = Vec::new();
    for second in 0..600_u64 {
        let now = at(1000 * second);
        // One begins every twelve seconds, refuses nine calls within two, and ends ten seconds later.
        let event = match second % 12 {
            0 => Some(overloaded(1)),
            1 => Some(overloaded(9)),
            11 => Some(overload_ended(9)),
            _ => None,
        };
        if let Some(event) = event
            && throttle.admit(&event, now) != Detail::Folded
        {
            in_full.push(second);
        }
        sums.extend(waves(throttle.take_repeats(now)));
    }
    assert_eq!(in_full, [0, 1, 11, 12], "the first one as ever, and the beginning of the second");
    assert_eq!(sums.len(), 9, "{sums:?}");
    let last = WaveReport::GoesOn { comings: 47, events: 415, since: Duration::from_secs(552) };
    assert_eq!(sums.last(), Some(&last));
    assert!(throttle.has_repeats());
    let over = WaveReport::Over { comings: 50, events: 450, lasted: Duration::from_secs(599) };
    assert_eq!(throttle.take_repeats(at(612_000)).len(), 1, "the last ones before the end");
    assert!(throttle.take_repeats(at(658_999)).is_empty(), "it may come again");
    assert_eq!(waves(throttle.take_repeats(at(659_000))), [over]);
    assert!(!throttle.has_repeats(), "no review is needed any more");
}

#[test]
fn an_overload_alone_is_logged_as_it_happens() {
    let mut throttle = LogThrottle::default();
    for (ms, event) in [(0, overloaded(1)), (1_000, overloaded(700)), (11_000, overload_ended(700))] {
        assert_eq!(throttle.admit(&event, at(ms)), in_full(0));
    }
    assert!(!throttle.has_repeats());
    assert!(throttle.take_all_repeats(at(12_000)).is_empty());
}

#[test]
fn the_end_of_the_function_and_a_late_review_take_the_end_of_a_wave() {
    let over = WaveReport::Over { comings: 2, events: 5, lasted: Duration::from_secs(40) };
    let twice = || {
        let mut throttle = LogThrottle::default();
        throttle.admit(&overloaded(1), at(0));
        throttle.admit(&overload_ended(2), at(12_000));
        throttle.admit(&overloaded(1), at(20_000));
        assert_eq!(throttle.admit(&overload_ended(3), at(40_000)), Detail::Folded);
        throttle
    };
    assert_eq!(waves(twice().take_all_repeats(at(40_000))), [over]);
    let mut late = twice();
    assert_eq!(late.admit(&overloaded(1), at(200_000)), Detail::NextWave { before: over });
    assert!(waves(late.take_all_repeats(at(200_001))).is_empty());
}

#[test]
fn missed_events_end_the_wave() {
    let mut throttle = LogThrottle::default();
    throttle.admit(&overloaded(1), at(0));
    throttle.admit(&overload_ended(2), at(12_000));
    throttle.admit(&overloaded(1), at(20_000));
    let before = WaveReport::Over { comings: 2, events: 3, lasted: Duration::from_secs(12) };
    assert_eq!(throttle.admit(&Event::Missed(3), at(30_000)), Detail::NextWave { before });
    assert_eq!(throttle.admit(&overloaded(1), at(31_000)), in_full(0));
    assert_eq!(throttle.admit(&Event::Missed(3), at(32_000)), in_full(0), "there is nothing to add");
}
