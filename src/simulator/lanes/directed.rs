//! A test for each fault that the worlds of lanes have found, where no test of the ledger guards it.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::Waker;
use std::time::Duration;

use crate::base::ids::LaneId;
use crate::base::ready::ReadyLanes;
use crate::code::token::Token;
use crate::data::source::DirectSource;
use crate::decide::admission::CALLS_MAX_DEFAULT;
use crate::decide::ledger::Rules;
use crate::decide::life::Next;
use crate::decide::limits::{LimitRules, Limits};
use crate::decide::restart::RateLimited;
use crate::decide::retries::Retries;
use crate::decide::window::Window;
use crate::engine::caller::Caller;
use crate::engine::consumer::Consumer;
use crate::engine::dispatch::{Dispatch, WorkSeeker};
use crate::engine::map_buffers::{JobSource, Order};
use crate::engine::open_call::OpenCall;
use crate::engine::reader::{Failures, ReaderGuard};
use crate::engine::settings::MemoryRules;
use crate::simulator::host::{self, Simulation};
use crate::simulator::lanes::MS;
use crate::simulator::readers::Woken;
use crate::simulator::rig::{UNCOUNTED, settings};
use crate::values::event::Event;

/// How the code of a lane ends after its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    ByADrop,
    ByAnUnwind,
    NotAtAll,
}

/// A function without state whose containers have two lanes each, and its clock in nanoseconds.
pub(super) fn engine(containers: usize, limits: LimitRules) -> (Arc<Dispatch>, Arc<AtomicU64>) {
    let simulation = Simulation::default();
    let clock = Arc::clone(&simulation.clock);
    (engine_in(simulation, UNCOUNTED, rules(containers, limits)), clock)
}

fn rules(containers: usize, limits: LimitRules) -> Rules {
    Rules {
        containers,
        lanes: 2,
        batch: None,
        has_state: false,
        retries: Retries::new(0),
        crash_retries: 3,
        restart: RateLimited::never().into(),
        calls_max: CALLS_MAX_DEFAULT,
        limits,
    }
}

fn engine_in(simulation: Simulation, memory: MemoryRules, rules: Rules) -> Arc<Dispatch> {
    let engine = Arc::new(Dispatch::new(settings(rules, memory), Arc::new(simulation)));
    engine.supervise(|_| ());
    engine
}

#[test]
fn work_that_comes_while_the_thread_of_a_container_is_in_a_poll_wakes_another_one_too() {
    // Each container has a free lane. Those in a poll may look for work only much later.
    for (in_a_poll, woken) in [
        ([false, false, false], [false, false, true]),
        ([true, true, false], [false, false, true]),
        ([false, false, true], [false, true, true]),
        ([false, true, true], [true, true, true]),
        ([true, true, true], [true, true, true]),
    ] {
        let (engine, _) = engine(3, LimitRules::default());
        let bells: [Arc<Woken>; 3] = Default::default();
        let seekers =
            engine.create().into_iter().zip(&bells).zip(in_a_poll).map(|((created, bell), polls)| {
                let (id, generation) = created;
                let lane = LaneId::new(id, 0);
                assert!(engine.launch(id, generation) && engine.entered(id, generation));
                engine.register_lane(lane, generation, &Arc::new(Token::of_no_thread(None)));
                let driver = Arc::new(ReadyLanes::new(2));
                let mut seeker = WorkSeeker::new(&engine, id, generation).driven_by(&driver);
                let found = seeker.look(&Waker::from(Arc::clone(bell)), lane, &mut Vec::new());
                assert!(matches!(found, Next::Wait { .. }) && (polls || driver.sleeps()));
                seeker
            });
        let seekers: Vec<WorkSeeker<'_>> = seekers.collect();
        let call = OpenCall::begin::<u64, u64>(&engine, 1, Caller::default(), None, Limits::default());
        assert_eq!(bells.each_ref().map(|bell| bell.is_set()), woken, "{in_a_poll:?} are in a poll");
        drop((call, seekers));
    }
}

#[test]
fn code_that_has_returned_after_its_limit_does_not_end_a_container_that_asks_for_no_work() {
    for ends in [Ends::ByADrop, Ends::ByAnUnwind, Ends::NotAtAll] {
        let (engine, clock) = engine(1, LimitRules { timeout: Some(MS), ..LimitRules::default() });
        let [(id, generation)] = engine.create()[..] else { panic!("there is one container") };
        assert!(engine.launch(id, generation) && engine.entered(id, generation));
        let token = Arc::new(Token::of_no_thread(None));
        assert!(engine.register_token(id, generation, &token));
        let (lane, mut back) = (LaneId::new(id, 0), Vec::new());
        engine.register_lane(lane, generation, &Arc::new(token.of_lane()));
        let call = OpenCall::begin::<u64, u64>(&engine, 1, Caller::default(), None, Limits::default());
        let mut seeker = WorkSeeker::new(&engine, id, generation);
        let Next::Work(work) = seeker.look(Waker::noop(), lane, &mut back) else { panic!("there is a call") };
        assert!(work.run.begin::<u64, u64, u64>().is_some());
        let passes = |time: Duration| {
            host::passes(&clock, time);
            engine.look_at_limits();
        };
        passes(MS);
        assert!(work.run.is_fenced(), "the attempt is cut");
        match ends {
            Ends::ByADrop => seeker.came_back(lane, Some(&work.run), engine.now(), &mut back),
            Ends::ByAnUnwind => seeker.came_back(lane, None, engine.now(), &mut back),
            Ends::NotAtAll => {}
        }
        passes(60 * MS); // the thread polls another lane meanwhile
        let lives = engine.under_lock(|state| state.ledger.is_current(id, generation));
        assert_eq!(lives, ends != Ends::NotAtAll, "{ends:?}");
        drop((call, seeker));
    }
}

#[test]
fn the_input_in_whose_code_a_thread_is_stuck_is_named_and_not_the_one_that_was_cut_first() {
    // The third call begins after `later`. Its poll blocks, or it waits as well and the thread is elsewhere.
    for (later, blocks, named) in
        [(10 * MS, true, Some(3)), (80 * MS, true, Some(3)), (10 * MS, false, None), (80 * MS, false, None)]
    {
        let simulation = Simulation::default();
        let (clock, heard) = (Arc::clone(&simulation.clock), Arc::clone(&simulation.heard));
        let limits = LimitRules { timeout: Some(100 * MS), ..LimitRules::default() };
        let rules = Rules { restart: RateLimited::new().into(), ..rules(2, limits) };
        let engine = engine_in(simulation, MemoryRules { abandoned_max: 1, ..UNCOUNTED }, rules);
        let seekers: Vec<_> = engine
            .create()
            .into_iter()
            .map(|(id, generation)| {
                assert!(engine.launch(id, generation) && engine.entered(id, generation));
                (id, RefCell::new(WorkSeeker::new(&engine, id, generation)))
            })
            .collect();
        let passes = |time: Duration| {
            host::passes(&clock, time);
            engine.look_at_limits();
        };
        let begins = |at: usize, lane: u32| {
            let call = OpenCall::begin::<u64, u64>(&engine, 1, Caller::default(), None, Limits::default());
            let (id, seeker) = &seekers[at];
            let lane = LaneId::new(*id, lane);
            let Next::Work(work) = seeker.borrow_mut().look(Waker::noop(), lane, &mut Vec::new()) else {
                panic!("there is a call")
            };
            assert!(work.run.begin::<u64, u64, u64>().is_some());
            (call.expect("it takes calls"), work.run)
        };
        let (left, _) = begins(0, 0);
        passes(100 * MS);
        passes(50 * MS);
        assert_eq!(
            engine.status().containers.abandoned,
            1,
            "the thread of the first container is left behind"
        );

        let (first, waits) = begins(1, 0);
        assert!(waits.suspend());
        passes(later);
        let (second, run) = begins(1, 1);
        assert!(blocks || run.suspend());
        passes(100 * MS - later);
        assert!(waits.is_fenced() && !run.is_fenced(), "the second call is cut");
        passes(10 * MS);
        passes(40 * MS);
        let mut told: Vec<Event> =
            heard.lock().expect("no test panics with it").iter().map(|(event, _)| event.clone()).collect();
        told.retain(|event| matches!(event, Event::Hung { .. } | Event::GaveUp(_)));
        let [Event::Hung { call, input, .. }, Event::GaveUp(gave_up)] = &told[..] else {
            panic!("it hangs, and gives up: {told:?}")
        };
        let (by_hang, crash) = ((*call, *input), gave_up.last());
        assert_eq!(by_hang, (named, named.map(|_| 0)), "{later:?}, blocks: {blocks}");
        assert_eq!((crash.call, crash.executing.map(|(input, _)| input)), by_hang);
        drop((left, first, second));
    }
}

#[test]
fn of_the_inputs_in_flight_in_a_container_a_snapshot_shows_the_oldest() {
    let (engine, clock) = engine(1, LimitRules::default());
    let [(id, generation)] = engine.create()[..] else { panic!("there is one container") };
    assert!(engine.launch(id, generation) && engine.entered(id, generation));
    let mut seeker = WorkSeeker::new(&engine, id, generation);
    let opened = ReaderGuard::of_map(
        &engine,
        JobSource::Direct(DirectSource::new(0..2u64)),
        (Order::Input, Failures::Yield),
        Window::Fixed(2),
        Default::default(),
        Caller::default(),
    );
    let map = Consumer::<u64, u64, u64>::over(opened.expect("it takes maps"));
    for lane in [1, 0] {
        let next = seeker.look(Waker::noop(), LaneId::new(id, lane), &mut Vec::new());
        let Next::Work(work) = next else { panic!("there is an input") };
        assert!(work.run.begin::<u64, u64, u64>().is_some());
        host::passes(&clock, MS);
    }
    let snapshot = engine.snapshot();
    let shown = snapshot.rows[0].executing.as_ref().and_then(|executing| executing.input.input);
    assert_eq!((snapshot.rows[0].in_flight, shown), (2, Some(0)), "the first input has the second lane");
    let inputs: Vec<_> = snapshot.oldest.iter().map(|oldest| oldest.input.input).collect();
    assert_eq!(inputs, [Some(0), Some(1)]);
    drop((map, seeker));
}
