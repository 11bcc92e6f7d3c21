//! Time-outs and code that does not return, driven to their end on a rig. The tests check the outcomes, the
//! containers, and the lines that an operator reads in the log.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::base::ids::LaneId;
use crate::code::token::{self, Token};
use crate::contain::unwind::contain;
use crate::data::source::DirectSource;
use crate::decide::admission::CALLS_MAX_DEFAULT;
use crate::decide::life::Next;
use crate::decide::limits::LimitRules;
use crate::decide::window::Window;
use crate::engine::consumer::outcome_of_call;
use crate::engine::dispatch::Wait;
use crate::engine::log_lines::{messages, said};
use crate::engine::map_buffers::JobSource;
use crate::engine::messages::Notice;
use crate::engine::open_call::OpenCall;
use crate::simulator::rig::{GRACE_OVER, Rig, execute};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The timeout of the attempts in these tests.
const TIMEOUT: Duration = Duration::from_millis(20);

fn timeout() -> LimitRules {
    LimitRules { timeout: Some(TIMEOUT), ..LimitRules::default() }
}

impl Rig {
    /// A call begins to execute in the container `at`, comes to its timeout, and does not return.
    fn gets_stuck(&self, at: usize) -> OpenCall {
        let call = self.call();
        let run = self.ask(at).expect("there is a call");
        assert!(run.begin::<u64, u64, u64>().is_some(), "nothing fences it");
        self.passes(TIMEOUT);
        self.engine.look_at_limits();
        call
    }

    /// The containers that hang, and the threads that are left behind.
    fn stuck(&self) -> (usize, usize) {
        let containers = self.engine.status().containers;
        assert_eq!(self.engine.snapshot().containers, containers);
        (containers.hung, containers.abandoned)
    }
}

#[test]
fn code_that_was_cut_is_interrupted_and_its_container_goes_on() {
    let rig = Rig::limited(timeout(), CALLS_MAX_DEFAULT, 8, 1);
    let (id, generation) = rig.containers[0];
    let token = Arc::new(Token::of_no_thread(None));
    assert!(rig.engine.register_token(id, generation, &token), "the generation is not over");
    let mut call = rig.gets_stuck(0);
    assert!(token.is_unwanted(), "its next checkpoint unwinds");
    assert!(rig.engine.is_interrupted(LaneId::from(id), generation));
    let outcome = outcome_of_call::<u64, u64, u64>(call.poll(Wait::Try));
    assert!(outcome.expect_err("it has come to its timeout").is_timed_out());
    let next = rig.call();
    execute(&rig.ask(0).expect("it has come out"));
    assert!(!token.is_unwanted(), "the next input is wanted");
    assert_eq!((rig.stuck(), rig.engine.status().crashes), ((0, 0), 0));
    drop((call, next));
}

#[test]
fn stuck_code_is_left_behind_up_to_the_bound_and_kept_from_then_on() {
    let rig = Rig::limited(timeout(), CALLS_MAX_DEFAULT, 2, 4);
    let mut calls = Vec::new();
    for (at, stuck) in [(0, (0, 1)), (1, (0, 2)), (2, (1, 2)), (3, (2, 2))] {
        calls.push(rig.gets_stuck(at));
        rig.passes(GRACE_OVER);
        rig.engine.look_at_limits();
        assert_eq!(rig.stuck(), stuck, "hung containers and abandoned threads after container {at}");
    }
    assert_eq!(rig.engine.status().crashes, 2, "a container that is kept has not crashed");
}

#[test]
fn room_in_a_window_that_grows_as_an_attempt_is_cut_wakes_an_idle_container() {
    let limit = 2 * MS; // the window has room for 4 ms of work of each container
    for (timeout, deadline) in [(Some(limit), None), (None, Some(limit))] {
        let rules = LimitRules { timeout, deadline, ..LimitRules::default() };
        let rig = Rig::limited(rules, CALLS_MAX_DEFAULT, 8, 4);
        let window = Window::Adaptive { inputs_min: 3, inputs_max: 64 };
        let map = rig.map_within(JobSource::Direct(DirectSource::new(0..100_u64)), window);
        for at in 0..3 {
            let run = rig.ask(at).expect("the window has room for three");
            assert!(run.begin::<u64, u64, u64>().is_some(), "nothing fences it");
        }
        assert!(rig.ask(3).is_none(), "the window is full");
        rig.woken();
        rig.passes(limit);
        rig.engine.look_at_limits();
        assert_eq!(rig.woken(), [3], "with {rules:?}");
        drop(map);
    }
}

#[test]
fn cancelled_code_is_never_left_behind() {
    let rig = Rig::limited(timeout(), CALLS_MAX_DEFAULT, 8, 1);
    let call = rig.call();
    let run = rig.ask(0).expect("there is a call");
    assert!(run.begin::<u64, u64, u64>().is_some(), "nothing fences it");
    drop(call);
    rig.reviews(30 * SECOND);
    assert_eq!((rig.stuck(), rig.engine.status().crashes), ((0, 0), 0), "its container waits for it");
    let next = rig.call();
    execute(&rig.ask(0).expect("the code has returned"));
    drop(next);
}

#[test]
fn a_hang_is_a_story_of_what_why_and_what_to_do_and_is_told_once() {
    let rig = Rig::limited(timeout(), CALLS_MAX_DEFAULT, 1, 2);
    let mut calls = Vec::new();
    let lines = said(|| {
        for at in 0..2 {
            calls.push(rig.gets_stuck(at));
            for _ in 0..10 {
                rig.passes(GRACE_OVER);
                rig.engine.look_at_limits();
            }
        }
    });
    let told = [
        "INFO attempt timed out",
        "WARN container crashed",
        "WARN container hangs",
        "ERROR function exhausted",
    ];
    assert_eq!(messages(&lines), told, "{lines:#?}");
    let find = |message: &str| lines.iter().find(|line| line.contains(message)).expect("it is a line");
    assert!(find("container hangs").contains("why=its code does not return"), "{lines:#?}");
    assert!(find("container hangs").contains("advice=") && find("container hangs").contains("call="));
    assert!(find("function exhausted").contains("abandoned=1") && find("exhausted").contains("hung=1"));

    let lines = said(|| {
        let none = rig.ask(1);
        assert!(none.is_none(), "its code has returned, and nothing waits");
    });
    let told = ["INFO container has returned", "INFO function no longer exhausted"];
    assert_eq!(messages(&lines), told, "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("after=")), "{lines:#?}");
    assert_eq!(rig.stuck(), (0, 1));
}

#[test]
fn a_function_is_no_longer_exhausted_once_a_thread_that_was_left_behind_has_returned() {
    let rig = Rig::limited(timeout(), CALLS_MAX_DEFAULT, 1, 1);
    let (id, generation) = rig.containers[0];
    let mut calls = Vec::new();
    let lines = said(|| {
        calls.push(rig.gets_stuck(0));
        rig.passes(GRACE_OVER);
        rig.engine.look_at_limits();
        rig.passes(SECOND);
        rig.engine.ended(id, generation, None);
    });
    let told = [
        "INFO attempt timed out",
        "WARN container crashed",
        "ERROR function exhausted",
        "INFO function no longer exhausted",
    ];
    assert_eq!(messages(&lines), told, "{lines:#?}");
}

#[test]
fn a_storm_of_time_outs_is_one_line_a_second_and_one_at_its_end() {
    let rig = Rig::limited(timeout(), CALLS_MAX_DEFAULT, 8, 1);
    let lines = said(|| {
        for _ in 0..3000 {
            let call = rig.gets_stuck(0);
            assert!(rig.ask(0).is_none(), "the code returns at once");
            rig.engine.review();
            drop(call);
        }
        rig.reviews(30 * SECOND);
        assert!(rig.engine.review().is_none(), "nothing is left to be said");
    });
    let told = messages(&lines);
    let sums = told.iter().filter(|line| **line == "WARN attempts timed out again").count();
    assert_eq!(told.len(), sums + 2, "{told:#?}");
    assert_eq!(
        (told[0], told[told.len() - 1]),
        ("INFO attempt timed out", "INFO attempts no longer time out")
    );
    assert!((59..=61).contains(&sums), "{sums} lines in a minute");
    let over = lines.last().expect("there are lines");
    assert!(over.contains("timeouts=3000"), "{over}");
    let repeats = |line: &String| line.split("repeats=").nth(1)?.split(' ').next()?.parse::<u64>().ok();
    assert_eq!(lines.iter().filter_map(repeats).sum::<u64>(), 2999, "each is in one line");
}

#[test]
fn a_function_that_stops_is_not_exhausted() {
    let rig = Rig::limited(timeout(), CALLS_MAX_DEFAULT, 1, 1);
    let mut calls = Vec::new();
    let lines = said(|| {
        calls.push(rig.gets_stuck(0));
        rig.engine.stop();
        rig.passes(GRACE_OVER);
        rig.engine.look_at_limits();
    });
    assert_eq!(rig.stuck(), (0, 1));
    assert_eq!(messages(&lines), ["INFO attempt timed out", "WARN container crashed"], "{lines:#?}");
}

#[test]
fn a_function_that_was_aborted_looks_at_no_limit() {
    let limits = LimitRules { deadline: Some(SECOND), ..timeout() };
    let rig = Rig::limited(limits, CALLS_MAX_DEFAULT, 8, 2);
    let call = rig.gets_stuck(0);
    let more = rig.call();
    assert!(rig.ask(1).is_some());
    assert!(rig.engine.look_at_limits().is_some(), "its code has time to return");
    rig.engine.abort();
    assert_eq!(rig.engine.look_at_limits(), None);
    rig.passes(GRACE_OVER);
    assert_eq!(rig.engine.look_at_limits(), None);
    assert_eq!(rig.engine.status().crashes, 0);
    drop((call, more));
}

#[test]
fn only_code_whose_attempt_was_cut_is_interrupted_and_only_in_its_generation() {
    let rig = Rig::limited(timeout(), CALLS_MAX_DEFAULT, 8, 1);
    let (id, generation) = rig.containers[0];
    let token = Arc::new(Token::of_no_thread(None));
    assert!(rig.engine.register_token(id, generation, &token), "the generation is not over");
    let is_interrupted = || rig.engine.is_interrupted(LaneId::from(id), generation);
    assert!(!is_interrupted());
    let cut = rig.gets_stuck(0);
    assert!(is_interrupted());
    let call = rig.call();
    assert!(rig.engine.kill(id).is_some());
    let [(_, second)] = rig.engine.create()[..] else { panic!("the container is created anew") };
    assert!(rig.engine.launch(id, second));
    let token = Arc::new(Token::of_no_thread(None));
    assert!(rig.engine.register_token(id, second, &token) && rig.engine.entered(id, second));
    let Next::Work(work) = rig.engine.try_next(id, second, |_| ()).0 else { panic!("the call waits") };
    assert!(work.run.begin::<u64, u64, u64>().is_some());
    rig.passes(TIMEOUT);
    rig.engine.look_at_limits();
    assert!(rig.engine.is_interrupted(LaneId::from(id), second) && !is_interrupted());
    drop((cut, call));
}

#[test]
fn the_supervisor_reviews_the_log_after_attempts_were_cut_and_not_after_each_look() {
    let rig = Rig::limited(timeout(), CALLS_MAX_DEFAULT, 8, 1);
    let reviews = || {
        let notices = std::mem::take(&mut *rig.notices.lock().unwrap_or_else(PoisonError::into_inner));
        notices.into_iter().filter(|notice| matches!(notice, Notice::Folds)).count()
    };
    rig.engine.look_at_limits();
    assert_eq!(reviews(), 0);
    let call = rig.gets_stuck(0);
    assert_eq!(reviews(), 1);
    rig.engine.look_at_limits();
    assert_eq!(reviews(), 0);
    drop(call);
}

#[test]
fn code_that_unwinds_from_a_checkpoint_has_a_little_longer() {
    let rig = Rig::limited(timeout(), CALLS_MAX_DEFAULT, 8, 1);
    let (id, generation) = rig.containers[0];
    let token = Arc::new(Token::of_no_thread(None));
    assert!(rig.engine.register_token(id, generation, &token), "the generation is not over");
    let call = rig.gets_stuck(0);
    let unwound = token::with_current(Some(Arc::clone(&token)), || contain(token::checkpoint));
    assert!(unwound.is_err() && token.is_interrupted());
    for (crashes, left) in [(0, 0), (1, 1), (1, 1)] {
        rig.passes(GRACE_OVER);
        rig.engine.look_at_limits();
        assert_eq!((rig.engine.status().crashes, rig.stuck()), (crashes, (0, left)));
    }
    drop(call);
}

#[test]
fn an_enter_that_takes_too_long_is_left_behind_unless_too_many_threads_are() {
    let limits = LimitRules { enter_timeout: Some(TIMEOUT), ..LimitRules::default() };
    for (abandoned_max, ended) in [(2, (2, 2)), (1, (1, 1))] {
        let rig = Rig::limited(limits, CALLS_MAX_DEFAULT, abandoned_max, 2);
        let starts = |at: usize| {
            let (id, before) = rig.containers[at];
            let generation = rig.engine.enter_anew(id, before).expect("its thread begins again");
            let token = Arc::new(Token::of_no_thread(None));
            assert!(rig.engine.register_token(id, generation, &token), "the generation is not over");
        };
        starts(0);
        rig.passes(TIMEOUT - MS);
        rig.engine.look_at_limits();
        assert_eq!(rig.engine.status().crashes, 0);
        rig.passes(MS);
        rig.engine.look_at_limits();
        assert_eq!((rig.engine.status().crashes, rig.stuck().1), (1, 1));
        starts(1);
        rig.passes(TIMEOUT);
        rig.engine.look_at_limits();
        assert_eq!((rig.engine.status().crashes, rig.stuck().1), ended, "with room for {abandoned_max}");
    }
}

#[test]
fn only_inputs_whose_deadlines_have_passed_are_cut() {
    let deadline = LimitRules { deadline: Some(SECOND), ..LimitRules::default() };
    let rig = Rig::limited(deadline, CALLS_MAX_DEFAULT, 8, 2);
    let mut map = rig.map_of(3, 2);
    execute(&rig.ask(0).expect("the first input"));
    let second = rig.ask(1).expect("the second input, which was accepted with it");
    assert!(second.begin::<u64, u64, u64>().is_some());
    rig.passes(SECOND / 2);
    assert!(rig.ask(0).is_none(), "the window is full");
    assert!(map.poll_next(Wait::Try).is_ready(), "which makes room for the third");
    let third = rig.ask(0).expect("the third input");
    assert!(third.begin::<u64, u64, u64>().is_some());
    rig.passes(SECOND / 2);
    rig.engine.look_at_limits();
    assert!(second.is_fenced() && !third.is_fenced());
    rig.passes(SECOND / 2);
    rig.engine.look_at_limits();
    assert!(third.is_fenced());
}

#[test]
fn inputs_that_wait_past_their_deadline_are_told_with_their_number() {
    let deadline = LimitRules { deadline: Some(SECOND), ..LimitRules::default() };
    let rig = Rig::limited(deadline, CALLS_MAX_DEFAULT, 8, 1);
    rig.engine.pause();
    let (map, call) = (rig.map_of(100, 100), rig.call());
    let lines = said(|| rig.reviews(30 * SECOND));
    let told = [
        "INFO deadline exceeded by inputs that waited",
        "WARN deadlines exceeded again by inputs that waited",
        "INFO deadlines are no longer exceeded",
    ];
    assert_eq!(messages(&lines), told, "{lines:#?}");
    assert!(lines.last().expect("the end").contains("deadlines=101"), "{lines:#?}");
    drop((map, call));
}
