//! Tests of [`ready`](super::ready). They are apart from it, because the model checker includes that file.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Wake, Waker};
use std::thread;

use super::ready::{LaneWaker, ReadyLanes};
use super::sync::Ordering;

/// Counts how often the driver is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn taken(ready: &ReadyLanes) -> Vec<usize> {
    std::iter::from_fn(|| ready.take()).flatten().collect()
}

#[test]
fn each_lane_that_was_rung_is_taken_once() {
    let ready = ReadyLanes::new(10_000);
    for lane in [9_999, 3, 64, 3, 4_096] {
        ready.ring(lane);
    }
    assert_eq!(taken(&ready), [3, 64, 4_096, 9_999]);
    assert_eq!(taken(&ready), [0; 0]);
}

#[test]
fn a_lane_that_is_rung_while_its_group_is_polled_comes_after_the_others() {
    let ready = ReadyLanes::new(128);
    ready.ring(1);
    ready.ring(70);
    let mut first = ready.take().expect("two lanes are ready");
    assert_eq!(first.next(), Some(1));
    ready.ring(1); // the future of the lane wakes itself while it is polled
    assert_eq!(first.next(), None);
    assert_eq!(taken(&ready), [70, 1]);
}

#[test]
fn lanes_that_are_always_ready_starve_no_other() {
    let ready = ReadyLanes::new(10_000);
    let (busy, waiting) = ([0, 100, 5_000], [70, 4_095, 4_096, 9_999]);
    busy.into_iter().chain(waiting).for_each(|lane| ready.ring(lane));
    let mut seen = Vec::new();
    for _ in 0..busy.len() + waiting.len() {
        for lane in ready.take().into_iter().flatten() {
            if busy.contains(&lane) {
                ready.ring(lane);
            }
            seen.push(lane);
        }
    }
    assert!(waiting.iter().all(|lane| seen.contains(lane)), "{seen:?}");
}

#[test]
fn only_a_driver_that_sleeps_is_woken_and_it_is_woken_once() {
    let ready = ReadyLanes::new(8);
    let woken = Arc::new(Woken::default());
    ready.awakes(&Waker::from(Arc::clone(&woken)));
    ready.ring(1);
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    assert!(!ready.sleeps(), "a lane is ready");
    assert_eq!(taken(&ready), [1]);
    assert!(ready.sleeps());
    ready.ring(2);
    ready.ring(3);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
}

#[test]
fn no_ring_of_another_thread_is_lost() {
    const LANES: usize = 200;
    const ROUNDS: usize = if cfg!(miri) { 3 } else { 300 };
    let ready = Arc::new(ReadyLanes::new(LANES));
    let parked = thread::current();
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let driver = Waker::from(Arc::new(Unpark(parked)));
    for _ in 0..ROUNDS {
        let mut left: Vec<bool> = vec![true; LANES];
        let ringers: Vec<_> = [0, LANES / 2]
            .into_iter()
            .map(|from| {
                let wakers: Vec<Waker> =
                    (from..from + LANES / 2).map(|lane| LaneWaker::of(&ready, lane)).collect();
                thread::spawn(move || wakers.into_iter().for_each(Waker::wake))
            })
            .collect();
        while left.contains(&true) {
            ready.awakes(&driver);
            while let Some(group) = ready.take() {
                group.for_each(|lane| left[lane] = false);
            }
            if left.contains(&true) && ready.sleeps() {
                thread::park();
            }
        }
        ringers.into_iter().for_each(|ringer| ringer.join().expect("it only wakes"));
    }
}
