//! Tests of the history: its bounds, its causes and its log.

use super::*;
use crate::base::ids::{Attempt, Generation};
use crate::values::crash::{Death, Panic};

fn at(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn history() -> History {
    History::new(Duration::ZERO)
}

fn death_of(container: u32, death: Death) -> Fact {
    let crash = Crash {
        container: ContainerId(container),
        generation: Generation(1),
        executing: Some((7, Attempt(2))),
        map: None,
        call: None,
        peak_bytes: None,
        death,
    };
    Fact::Died { crash: Arc::new(crash), job: Some(3), completed: 0 }
}

fn panicked(message: &str, location: Option<&str>) -> Death {
    Death::Panicked(Panic { message: message.to_owned(), location: location.map(str::to_owned) })
}

fn poisoned(number: u64, description: Option<&str>) -> Fact {
    let input = name_of(None, None, Some(1), number);
    let description = description.map(str::to_owned);
    Fact::Poisoned { number, input, attempts: Attempt(4), last: None, description }
}

/// The bytes on the heap, by the capacities of everything that is kept.
fn heap_bytes(history: &History) -> usize {
    fn of<T>(entries: &VecDeque<T>) -> usize {
        entries.capacity() * size_of::<T>()
    }
    let text = |text: &String| text.capacity();
    let maybe = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
    // The label of a map has two counters before it, and may be kept by the history alone.
    let label = |input: Option<&InputName>| {
        input.and_then(|input| input.map.as_ref()).map_or(0, |label| label.len() + 2 * size_of::<usize>())
    };
    let History { crashes, causes, poisoned, last_deaths, recent, log, .. } = history;
    of(&crashes.entries)
        + of(&causes.entries)
        + of(&poisoned.entries)
        + of(&recent.0)
        + of(log)
        + last_deaths.capacity() * size_of::<Option<LastDeath>>()
        + crashes
            .entries
            .iter()
            .map(|crash| text(&crash.message) + maybe(&crash.location) + label(crash.executing.as_ref()))
            .sum::<usize>()
        + causes
            .entries
            .iter()
            .map(|Known { cause, .. }| {
                text(&cause.message) + maybe(&cause.location) + label(cause.executing.as_ref())
            })
            .sum::<usize>()
        + poisoned
            .entries
            .iter()
            .map(|input| {
                maybe(&input.message)
                    + maybe(&input.location)
                    + maybe(&input.description)
                    + label(Some(&input.input))
            })
            .sum::<usize>()
}

#[test]
fn nothing_is_allocated_before_the_first_crash() {
    assert_eq!(heap_bytes(&history()), 0);
}

#[test]
fn the_worst_storm_stays_within_its_bound() {
    let mut history = history();
    let long = "ü".repeat(10_000);
    for n in 0..20_000_u64 {
        // Each crash has a place and a label of its own. The crashes are spread over as many containers
        // as a function may have.
        let label: Arc<str> = format!("{n:0>255}").into();
        let (place, message) = (format!("{n}{long}"), format!("{n}{long}"));
        let crash = Arc::new(Crash {
            container: ContainerId((n % 1024) as u32),
            generation: Generation(n),
            executing: Some((n, Attempt(1))),
            map: Some(Arc::clone(&label)),
            call: None,
            peak_bytes: Some(n),
            death: panicked(&message, Some(&place)),
        });
        history.hear(Fact::Died { crash: Arc::clone(&crash), job: Some(n), completed: n }, at(10 * n));
        let input = name_of(Some(&label), None, Some(n), n);
        let description = Some("ü".repeat(DESCRIPTION_CHARS_MAX));
        let poison =
            Fact::Poisoned { number: n, input, attempts: Attempt(4), last: Some(crash), description };
        history.hear(poison, at(10 * n));
        history.hear(Fact::ExitTimedOut(ContainerId(0)), at(10 * n));
    }
    let bytes = heap_bytes(&history);
    assert!(bytes < 120_000, "{bytes} bytes; the maps that have ended take 15 000 more at most");
    assert_eq!(history.log.len(), LOG_MAX);
    let told: u64 = history.causes.entries.iter().map(|known| known.cause.count).sum();
    assert_eq!(told + history.causes_other, 20_000, "every crash is counted");
    assert!(
        history.crashes.entries.len() > 16 && history.causes.entries.len() > 8,
        "texts are cut, not all dropped"
    );
}

#[test]
fn crashes_are_grouped_by_kind_and_place() {
    let mut history = history();
    let facts = [
        (0, panicked("one", Some("a.rs:1:1"))),
        (10, panicked("two", Some("a.rs:1:1"))),
        (20, panicked("two", Some("b.rs:1:1"))),
        (30, panicked("no place", None)),
        (40, panicked("no place", None)),
        (50, panicked("another", None)),
        (60, Death::MemoryLimit { limit: 1, used: 2, reclaimed: true }),
        (70, Death::MemoryLimit { limit: 1, used: 3, reclaimed: false }),
        (80, Death::Killed),
    ];
    for (ms, death) in facts {
        history.hear(death_of(0, death), at(ms));
    }
    let causes: Vec<_> = history.causes.entries.iter().map(|known| &known.cause).collect();
    let told: Vec<_> = causes.iter().map(|cause| (cause.message.as_str(), cause.count)).collect();
    assert_eq!(told[..4], [("two", 2), ("two", 1), ("no place", 2), ("another", 1)]);
    assert_eq!((causes[4].kind, causes[4].count), (CrashKind::MemoryLimit, 2));
    assert_eq!(causes.len(), 5, "a kill by hand is no crash");
    assert_eq!((causes[0].first, causes[0].last), (at(0).0, at(10).0));
    assert_eq!(causes[0].executing, Some(name_of(None, None, Some(3), 7)));
    assert_eq!(history.last_deaths[0].map(|death| (death.number, death.kind)), Some((9, CrashKind::Killed)));
}

#[test]
fn the_cause_that_was_seen_longest_ago_goes_first() {
    let mut history = history();
    for n in 0..CAUSES_MAX {
        history.hear(death_of(0, panicked("m", Some(&format!("{n}")))), at(n as u64));
    }
    history.hear(death_of(0, panicked("m", Some("0"))), at(100));
    history.hear(death_of(0, panicked("m", Some("new"))), at(101));
    let places: Vec<_> =
        history.causes.entries.iter().filter_map(|known| known.cause.location.as_deref()).collect();
    assert!(places.contains(&"0") && places.contains(&"new") && !places.contains(&"1"), "{places:?}");
    assert_eq!(history.causes_other, 1);
}

#[test]
fn repeats_of_one_cause_are_one_line_for_ten_seconds() {
    let mut history = history();
    for ms in [0, 5_000, 9_999, 10_000] {
        history.hear(death_of(0, panicked("m", Some("here"))), at(ms));
        history.hear(poisoned(1 + ms, None), at(ms));
    }
    let lines: Vec<_> = history.log.iter().map(|line| (line.seq, line.changed, line.count)).collect();
    assert_eq!(lines, [(1, 5, 3), (2, 6, 3), (3, 7, 1), (4, 8, 1)]);
    assert_eq!(history.log[0].what, Happening::Crashed { number: 3 });
    assert_eq!((history.log[0].at, history.log[0].last), (at(0).0, at(9_999).0));
}

#[test]
fn an_overload_is_one_line_however_long_it_lasts() {
    let mut history = history();
    history.hear(death_of(0, panicked("m", Some("here"))), at(0));
    let seconds = 4 * LOG_MAX as u64;
    for second in 1..=seconds {
        history.hear(Fact::Overloaded { refused: second, ended: false }, at(1000 * second));
    }
    let lines: Vec<_> = history.log.iter().map(|line| (line.seq, line.changed, line.what)).collect();
    let crash = (1, 1, Happening::Crashed { number: 1 });
    assert_eq!(lines, [crash, (2, 1 + seconds, Happening::Overloaded { refused: seconds })]);
    assert_eq!((history.log[1].at, history.log[1].last), (at(1000).0, at(1000 * seconds).0));
    let (before, after) = (1000 * seconds + 1, 1000 * seconds + 60_001);
    history.hear(Fact::Overloaded { refused: seconds, ended: true }, at(before));
    history.hear(Fact::Overloaded { refused: 1, ended: false }, at(after));
    assert_eq!(history.log[1].what, Happening::Overloaded { refused: seconds });
    let last: Vec<_> = history.log.iter().skip(2).map(|line| line.what).collect();
    let ended = Happening::OverloadEnded { refused: seconds };
    assert_eq!(last, [ended, Happening::Overloaded { refused: 1 }], "the next one has its own line");
}

#[test]
fn overloads_that_come_and_go_are_two_lines_however_often() {
    let mut history = history();
    history.hear(death_of(0, panicked("m", Some("here"))), at(0));
    let mut last = Vec::new();
    for coming in 1..=4 * LOG_MAX as u64 {
        let begins = 20_000 * coming;
        history.hear(Fact::Overloaded { refused: 1, ended: false }, at(begins));
        history.hear(Fact::Overloaded { refused: 5, ended: false }, at(begins + 1_000));
        let there = history.log.back().map(|line| (line.what, line.count));
        assert_eq!(there, Some((Happening::Overloaded { refused: 5 * coming }, coming)));
        history.hear(Fact::Overloaded { refused: 5, ended: true }, at(begins + 11_000));
        let gone = history.log.back().map(|line| (line.what, line.count));
        assert_eq!(gone, Some((Happening::OverloadEnded { refused: 5 * coming }, coming)));
        last = history.log.iter().map(|line| (line.what, line.last)).collect();
    }
    let crash = (Happening::Crashed { number: 1 }, at(0).0);
    let first = (Happening::Overloaded { refused: 5 }, at(21_000).0);
    let ended = Happening::OverloadEnded { refused: 20 * LOG_MAX as u64 };
    assert_eq!(last, [crash, first, (ended, at(80_000 * LOG_MAX as u64 + 11_000).0)]);
}

#[test]
fn crashes_of_late_are_those_of_a_minute() {
    let mut history = history();
    for ms in [0, 500, 59_000] {
        history.hear(death_of(0, panicked("m", None)), at(ms));
    }
    assert_eq!(history.recent(0, at(59_999)).crashes, 3);
    assert_eq!(history.recent(0, at(60_000)).crashes, 1);
    assert_eq!(history.recent(0, at(119_000)).crashes, 0);
}

#[test]
fn crashes_of_late_are_a_share_of_what_ended_since_the_first_of_them() {
    let mut history = history();
    assert_eq!(history.recent(100, at(0)).share, None);
    for (ms, completed) in [(0, 100), (30_000, 104), (61_000, 106)] {
        let Fact::Died { crash, job, .. } = death_of(0, panicked("m", None)) else { unreachable!() };
        history.hear(Fact::Died { crash, job, completed }, at(ms));
    }
    let recent = history.recent(108, at(61_000));
    assert_eq!((recent.crashes, recent.share), (2, Some(2.0 / 6.0)));
}

#[test]
fn a_crash_loop_is_remembered_after_its_end() {
    let mut history = history();
    for (crashes, ms) in [(2, 100), (3, 300)] {
        let (since, next_restart) = (at(0), at(2 * ms));
        history.hear(Fact::CrashLoop { crashes, since, next_restart }, at(ms));
    }
    let goes_on = history.crash_loop.expect("it goes on");
    assert_eq!((goes_on.crashes, goes_on.next_restart, goes_on.ended), (3, Some(at(600).0), None));
    history.hear(Fact::Recovered { crashes: 3, since: at(0) }, at(700));
    let over = history.crash_loop.expect("it is remembered");
    assert_eq!((over.crashes, over.next_restart, over.ended), (3, None, Some(at(700).0)));
    history.hear(Fact::CrashLoop { crashes: 2, since: at(800), next_restart: at(950) }, at(900));
    history.hear(Fact::Reset, at(910));
    assert_eq!(history.crash_loop.and_then(|crash_loop| crash_loop.ended), Some(at(910).0));
    assert_eq!(history.crash_loops, 2);
}

#[test]
fn a_description_may_come_late_and_keeps_its_place() {
    let mut history = history();
    (1..=3).for_each(|number| history.hear(poisoned(number, None), at(number)));
    history.hear(Fact::Described { number: 2, description: "two".to_owned() }, at(9));
    history.hear(Fact::Described { number: 9, description: "unknown".to_owned() }, at(9));
    let told: Vec<_> =
        history.poisoned.entries.iter().map(|input| (input.number, input.description.as_deref())).collect();
    assert_eq!(told, [(1, None), (2, Some("two")), (3, None)]);
}

#[test]
fn moments_are_told_on_the_clock_of_snapshots() {
    let mut history = History::new(Duration::from_secs(5));
    history.hear(death_of(0, panicked("m", None)), at(1));
    assert_eq!(history.crashes.entries[0].at, Duration::from_millis(5_001));
    assert_eq!(history.recent(0, at(59_000)).crashes, 1);
}
