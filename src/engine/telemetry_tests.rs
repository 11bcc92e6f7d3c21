//! Tests of the telemetry: each event is one line of the log, with its numbers.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, Generation};
use crate::decide::storm::StormReport;
use crate::decide::wave::WaveReport;
use crate::engine::caller::Caller;
use crate::engine::log_lines::said;
use crate::engine::log_throttle::Detail;
use crate::engine::telemetry::Telemetry;
use crate::values::crash::{Crash, Death, Panic};
use crate::values::event::{ContainerState, Event};
use crate::values::gave_up::GaveUp;
use crate::values::report::FunctionReport;

const SECOND: Duration = Duration::from_secs(1);
const TELEMETRY: Telemetry<'_> = Telemetry { app: "a", function: "f" };
const IN_FULL: Detail = Detail::InFull { repeats: 0 };

fn crash(death: Death) -> Crash {
    let (executing, peak_bytes) = (Some((7, Attempt(3))), Some(64));
    let (container, generation) = (ContainerId(2), Generation(5));
    Crash { container, generation, executing, map: None, call: None, peak_bytes, death }
}

fn panic() -> Death {
    Death::Panicked(Panic { message: "gone".to_owned(), location: Some("a.rs:1:2".to_owned()) })
}

#[test]
fn each_event_is_one_line_with_its_numbers() {
    let state = |state| Event::Container { container: ContainerId(2), generation: Generation(5), state };
    let killed = || Arc::new(crash(Death::Killed));
    let gave_up = GaveUp::new(Vec::new(), killed());
    let report = FunctionReport { threads_running: 3, ..FunctionReport::unknown("f") };
    let crash_loop = Event::CrashLoop {
        crashes: 4,
        since: SECOND,
        next_restart: 2 * SECOND,
        crash: Arc::new(crash(panic())),
    };
    for (event, line) in [
        (state(ContainerState::Starting), "DEBUG container starting container=2 generation=5"),
        (state(ContainerState::Live), "DEBUG container live container=2 generation=5"),
        (state(ContainerState::Exiting), "DEBUG container exiting container=2 generation=5"),
        (state(ContainerState::Stopped), "DEBUG container stopped container=2 generation=5"),
        (
            state(ContainerState::BackingOff { delay: SECOND }),
            "DEBUG container backing off container=2 delay=1s generation=5",
        ),
        (Event::Killed(killed()), "INFO container killed container=2 generation=5"),
        (
            crash_loop,
            "WARN crash loop cause=gone crashes=4 location=a.rs:1:2 next_restart=2s repeats=9 since=1s",
        ),
        (
            Event::Recovered { crashes: 4, after: SECOND },
            "INFO recovered from a crash loop after=1s crashes=4 repeats=9",
        ),
        (
            Event::Poisoned { map: None, call: None, input: 7, attempts: Attempt(4) },
            "WARN input poisoned attempts=4 input=7",
        ),
        (Event::ExitTimedOut(ContainerId(2), SECOND), "WARN exit timed out container=2 limit=1s"),
        (
            Event::GaveUp(gave_up),
            "ERROR function gave up crash=container 2#5 (input 7, attempt 3) killed by hand repeats=9",
        ),
        (timed_out(false), "INFO attempt timed out attempt=2 input=7 is_retried=true limit=1s"),
        (timed_out(true), "INFO deadline exceeded attempt=2 input=7 limit=1s"),
        (
            Event::Expired { map: None, call: None, input: 7, inputs: 3, limit: SECOND },
            "INFO deadline exceeded by inputs that waited input=7 inputs=3 limit=1s",
        ),
        (
            Event::Hung {
                container: ContainerId(2),
                generation: Generation(5),
                map: None,
                call: None,
                input: Some(7),
                attempt: Some(Attempt(3)),
                abandoned: 8,
            },
            "WARN container hangs abandoned=8 advice=find out what the code waits for, have it pass checkpoints, \
             or restart the process attempt=3 container=2 generation=5 input=7 why=its code does not return at its \
             limit, and abandoned_max threads are left behind already",
        ),
        (
            Event::HangEnded { container: ContainerId(2), generation: Generation(5), after: SECOND },
            "INFO container has returned after=1s container=2 generation=5",
        ),
        (
            Event::Exhausted { hung: 4, abandoned: 8 },
            "ERROR function exhausted abandoned=8 advice=find out what the code waits for, have it pass \
             checkpoints, or restart the process hung=4 why=every container hangs or is gone, and abandoned_max \
             threads are left behind already",
        ),
        (Event::ExhaustionEnded { after: SECOND }, "INFO function no longer exhausted after=1s"),
        (
            Event::Overloaded { max: 16, refused: 300, since: SECOND },
            "WARN calls refused advice=call less often, give the function more containers, or wait for room with \
             reserve calls_max=16 refused=300 since=1s",
        ),
        (
            Event::OverloadEnded { refused: 300, lasted: SECOND },
            "INFO no longer overloaded lasted=1s refused=300",
        ),
        (Event::Reset, "INFO function reset"),
        (Event::Paused, "INFO function paused"),
        (Event::Resumed, "INFO function resumed"),
        (Event::Ended(report), "DEBUG function ended threads_still_running=3"),
        (Event::Missed(8), "WARN events were missed events=8"),
    ] {
        let detail = Detail::InFull { repeats: 9 };
        assert_eq!(said(|| TELEMETRY.log(&event, &Caller::default(), detail)), [line]);
    }
}

#[test]
fn a_crash_is_logged_in_the_span_of_its_input_and_a_repeat_at_the_debug_level() {
    let labelled = Caller::within(None, Some("urls".into()));
    let call = Caller::default().of_call(9);
    let event = Event::Crashed(Arc::new(crash(panic())));
    let cause = "cause=gone container=2 generation=5 location=a.rs:1:2 peak_bytes=64";
    let in_full = format!("WARN container crashed {cause} repeats=0");
    for (caller, input) in [
        (&Caller::default(), "attempt=3 input=7"),
        (&labelled, "attempt=3 input=7 map=urls"),
        (&call, "attempt=3 call=9"),
    ] {
        assert_eq!(said(|| TELEMETRY.log(&event, caller, IN_FULL)), [format!("{in_full} in WARN {input}")]);
    }
    let folded = "DEBUG container crashed again attempt=3 cause=gone container=2 generation=5 input=7 \
                  location=a.rs:1:2 peak_bytes=64";
    assert_eq!(said(|| TELEMETRY.log(&event, &Caller::default(), Detail::Folded)), [folded]);
    let idle = Event::Crashed(Arc::new(Crash { executing: None, ..crash(panic()) }));
    assert_eq!(said(|| TELEMETRY.log(&idle, &Caller::default(), IN_FULL)), [in_full]);
    let repeats = "WARN containers crashed again cause=gone location=a.rs:1:2 repeats=6";
    assert_eq!(said(|| TELEMETRY.repeats(&crash(panic()), 6)), [repeats]);
}

fn timed_out(is_deadline: bool) -> Event {
    let (attempt, limit, is_retried) = (Attempt(2), SECOND, !is_deadline);
    Event::TimedOut { map: None, call: None, input: 7, attempt, limit, is_deadline, is_retried }
}

#[test]
fn a_storm_of_time_outs_is_logged_with_its_numbers_and_its_repeats_at_the_debug_level() {
    let expired = Event::Expired { map: Some("urls".into()), call: None, input: 7, inputs: 3, limit: SECOND };
    let goes_on = StormReport::GoesOn { repeats: 40, events: 90, since: 3 * SECOND };
    let over = StormReport::Over { events: 90, lasted: 2 * SECOND };
    for (event, folded, sum, end) in [
        (
            timed_out(false),
            "DEBUG attempt timed out again attempt=2 input=7 is_retried=true limit=1s",
            "WARN attempts timed out again advice=find out what the code waits for, or set a longer limit limit=1s \
             repeats=40 since=3s timeouts=90",
            "INFO attempts no longer time out lasted=2s timeouts=90",
        ),
        (
            timed_out(true),
            "DEBUG deadline exceeded again attempt=2 input=7 limit=1s",
            "WARN deadlines exceeded again advice=find out what the code waits for, or set a longer limit \
             deadlines=90 limit=1s repeats=40 since=3s",
            "INFO deadlines are no longer exceeded deadlines=90 lasted=2s waited=false",
        ),
        (
            expired,
            "DEBUG deadline exceeded again by inputs that waited input=7 inputs=3 limit=1s",
            "WARN deadlines exceeded again by inputs that waited advice=give the function more containers, or bound \
             its calls with calls_max deadlines=90 limit=1s map=urls repeats=40 since=3s",
            "INFO deadlines are no longer exceeded deadlines=90 lasted=2s waited=true",
        ),
    ] {
        assert_eq!(said(|| TELEMETRY.log(&event, &Caller::default(), Detail::Folded)), [folded]);
        assert_eq!(said(|| TELEMETRY.storm(&event, goes_on)), [sum]);
        assert_eq!(said(|| TELEMETRY.storm(&event, over)), [end]);
        let first = said(|| TELEMETRY.log(&event, &Caller::default(), IN_FULL));
        let next = said(|| TELEMETRY.log(&event, &Caller::default(), Detail::NextStorm { before: over }));
        assert_eq!(next, [end, &first[0]], "the end of the storm before comes first");
    }
}

#[test]
fn overloads_that_come_and_go_are_logged_with_their_numbers_and_each_at_the_debug_level() {
    let begins = Event::Overloaded { max: 16, refused: 1, since: Duration::ZERO };
    let ends = Event::OverloadEnded { refused: 3, lasted: SECOND };
    let folded = |event| said(|| TELEMETRY.log(event, &Caller::default(), Detail::Folded));
    assert_eq!(folded(&begins), ["DEBUG calls refused again calls_max=16 refused=1 since=0ns"]);
    assert_eq!(folded(&ends), ["DEBUG not overloaded for now lasted=1s refused=3"]);
    let again = said(|| TELEMETRY.log(&begins, &Caller::default(), Detail::Again));
    assert!(again[0].starts_with("WARN calls refused again advice="), "{again:?}");
    let goes_on = WaveReport::GoesOn { comings: 5, events: 90, since: 60 * SECOND };
    let sum = "WARN calls refused again and again advice=call less often, give the function more containers, or \
               wait for room with reserve overloads=5 refused=90 since=60s";
    assert_eq!(said(|| TELEMETRY.overloads(goes_on)), [sum]);
    let over = WaveReport::Over { comings: 5, events: 90, lasted: 60 * SECOND };
    let end = "INFO no longer overloaded lasted=60s overloads=5 refused=90";
    assert_eq!(said(|| TELEMETRY.overloads(over)), [end]);
    let first = said(|| TELEMETRY.log(&begins, &Caller::default(), IN_FULL));
    let next = said(|| TELEMETRY.log(&begins, &Caller::default(), Detail::NextWave { before: over }));
    assert_eq!(next, [end, &first[0]], "the end of the wave before comes first");
}
