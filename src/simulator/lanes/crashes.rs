//! The verdict on a crash in one lane of a container that lives on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use crate::base::ids::LaneId;
use crate::data::source::DirectSource;
use crate::decide::job::Span;
use crate::decide::life::Next;
use crate::decide::limits::LimitRules;
use crate::decide::time::Time;
use crate::decide::window::Window;
use crate::engine::caller::Caller;
use crate::engine::consumer::Consumer;
use crate::engine::dispatch::{Dispatch, Wait, WorkSeeker};
use crate::engine::map_buffers::{JobSource, Order};
use crate::engine::reader::{Failures, ReaderGuard};
use crate::simulator::lanes::directed::engine;
use crate::values::crash::{Death, Panic};

/// A map of this many inputs.
fn map(engine: &Arc<Dispatch>, inputs: u64) -> Consumer<u64, u64, u64> {
    let opened = ReaderGuard::of_map(
        engine,
        JobSource::Direct(DirectSource::new(0..inputs)),
        (Order::Input, Failures::Yield),
        Window::Fixed(inputs),
        Default::default(),
        Caller::default(),
    );
    Consumer::over(opened.expect("it takes maps"))
}

fn panicked() -> Death {
    Death::Panicked(Panic { message: "a panic".to_owned(), location: None })
}

#[test]
fn a_crash_in_a_lane_is_judged_by_what_the_other_lanes_of_its_container_have_completed() {
    let (engine, _) = engine(2, LimitRules::default());
    let [first, second] = engine.create()[..] else { panic!("there are two containers") };
    for (id, generation) in [first, second] {
        assert!(engine.launch(id, generation) && engine.entered(id, generation));
    }
    let map = map(&engine, 1_000);
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
    assert!(engine.crashed_in_lane(LaneId::new(id, 1), generation, panicked()).is_some());
    engine.under_lock(|state| {
        let counts = state.ledger.job(lease.job).expect("the map is open").counts();
        assert_eq!(counts.ok, 3 + 2, "those of the other container are not looked at");
        assert_eq!(state.ledger.crash_loop(engine.now()), None, "the container had completed inputs");
    });
    drop((map, seekers));
}

/// Whether a container was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_container_takes_a_suspect_with_a_free_lane_once_its_other_lane_has_outlived_the_crash() {
    for sleeps in [false, true] {
        let (engine, _) = engine(2, LimitRules::default());
        let [first, second] = engine.create()[..] else { panic!("there are two containers") };
        for (id, generation) in [first, second] {
            assert!(engine.launch(id, generation) && engine.entered(id, generation));
        }
        let mut map = map(&engine, 7);
        let mut seekers = [first, second].map(|(id, generation)| WorkSeeker::new(&engine, id, generation));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut takes = |at: usize, lane: u32, back: &mut Vec<(LaneId, Time)>| {
            seekers[at].look(&waker, LaneId::new([first, second][at].0, lane), back)
        };
        // The cost of an input is known after the first ones, so that leases have several.
        let mut back = Vec::new();
        for inputs in [1, 2] {
            let Next::Work(work) = takes(0, 0, &mut back) else { panic!("there are inputs") };
            assert_eq!(work.lease.span.len, inputs);
            let mut active = work.run.begin::<u64, u64, u64>().expect("nothing fences it");
            (0..inputs).for_each(|_| _ = active.publish(1).expect("nothing fences it"));
            back.push((LaneId::new(first.0, 0), engine.now()));
        }
        let Next::Work(crashes) = takes(0, 0, &mut back) else { panic!("there are inputs") };
        let _active = crashes.run.begin::<u64, u64, u64>().expect("nothing fences it");
        assert!(engine.crashed_in_lane(crashes.lane, first.1, panicked()).is_some());

        // The other container takes the rest, and completes an input of it.
        let Next::Work(rest) = takes(1, 0, &mut back) else { panic!("there are inputs") };
        assert_eq!(rest.lease.span.len, 3);
        if sleeps {
            assert!(matches!(takes(1, 1, &mut back), Next::Wait { .. }), "the suspect is not for it yet");
        }
        let mut active = rest.run.begin::<u64, u64, u64>().expect("nothing fences it");
        _ = active.publish(1).expect("nothing fences it");
        if sleeps {
            assert!(!woken.0.load(Ordering::SeqCst), "nothing has looked");
            assert!(map.poll_next(Wait::Try).is_ready());
            assert!(woken.0.load(Ordering::SeqCst), "the consumer has looked");
        }
        let Next::Work(suspect) = takes(1, 1, &mut back) else { panic!("the suspect waits for it") };
        assert_eq!(suspect.lease.span, Span { first: crashes.lease.span.first, len: 1 });
        drop((map, seekers));
    }
}
