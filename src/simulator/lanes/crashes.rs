//! The verdict on a crash in one lane of a container that lives on.

use std::task::Waker;

use crate::base::ids::LaneId;
use crate::data::source::DirectSource;
use crate::decide::life::Next;
use crate::decide::limits::LimitRules;
use crate::decide::window::Window;
use crate::engine::caller::Caller;
use crate::engine::consumer::Consumer;
use crate::engine::dispatch::WorkSeeker;
use crate::engine::map_buffers::{JobSource, Order};
use crate::engine::reader::{Failures, ReaderGuard};
use crate::simulator::lanes::directed::engine;
use crate::values::crash::{Death, Panic};

#[test]
fn a_crash_in_a_lane_is_judged_by_what_the_other_lanes_of_its_container_have_completed() {
    let (engine, _) = engine(2, LimitRules::default());
    let [first, second] = engine.create()[..] else { panic!("there are two containers") };
    for (id, generation) in [first, second] {
        assert!(engine.launch(id, generation) && engine.entered(id, generation));
    }
    let opened = ReaderGuard::of_map(
        &engine,
        JobSource::Direct(DirectSource::new(0..1_000u64)),
        (Order::Input, Failures::Yield),
        Window::Fixed(1_000),
        Default::default(),
        Caller::default(),
    );
    let map = Consumer::<u64, u64, u64>::over(opened.expect("it takes maps"));
    let mut seekers = [first, second].map(|(id, generation)| WorkSeeker::new(&engine, id, generation));
    // A lane takes a lease, and completes the first inputs of it.
    let mut completes = |at: usize, lane: u32, inputs: u64| {
        let lane = LaneId::new([first, second][at].0, lane);
        let Next::Work(work) = seekers[at].look(Waker::noop(), lane, &mut Vec::new()) else {
            panic!("there are inputs")
        };
        let mut active = work.run.begin::<u64, u64, u64>().expect("nothing fences it");
        (0..inputs).for_each(|_| _ = active.publish(1).expect("nothing fences it"));
        let (run, lease) = (work.run, work.lease);
        let returns = inputs == lease.span.len;
        let mut back = Vec::new();
        if returns {
            seekers[at].came_back(lane, Some(&run), engine.now(), &mut back);
            seekers[at].returned_all(&mut back);
        }
        lease
    };
    // The cost of an input is known after the first ones, so that leases have several.
    let lease = completes(0, 0, 1);
    completes(0, 0, 2);
    assert_eq!(completes(0, 0, 1).span.len, 4);
    assert!(completes(1, 0, 2).span.len > 2, "the lane goes on with its lease");
    let (id, generation) = second;
    completes(1, 1, 0);
    let death = Death::Panicked(Panic { message: "a panic".to_owned(), location: None });
    assert!(engine.crashed_in_lane(LaneId::new(id, 1), generation, death).is_some());
    engine.under_lock(|state| {
        let counts = state.ledger.job(lease.job).expect("the map is open").counts();
        assert_eq!(counts.ok, 3 + 2, "those of the other container are not looked at");
        assert_eq!(state.ledger.crash_loop(engine.now()), None, "the container had completed inputs");
    });
    drop((map, seekers));
}
