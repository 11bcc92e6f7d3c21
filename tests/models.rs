//! The engine's own protocols under a model checker, which tries every interleaving and every value that a
//! weak memory model allows.
//!
//! This is a binary of its own, because the checker's primitives replace the real ones under the engine's own
//! files. The barrier in two halves is modelled as a full fence on each side. Two full fences promise more
//! than the barrier does, so the models rely only on the part that both promise.

#[path = "../src/data/cursor.rs"]
#[expect(dead_code, reason = "a thread that fences itself has no other party")]
mod cursor;

#[path = "../src/data/rest.rs"]
mod rest;

#[path = "../src/memory/account.rs"]
#[expect(dead_code, reason = "some methods of an account are not part of the protocol")]
mod account;

#[path = "../src/memory/attempts.rs"]
#[expect(dead_code, reason = "the models keep no spare cells")]
mod attempts;

#[path = "../src/memory/over_limit.rs"]
mod over_limit;

#[path = "../src/base/signal.rs"]
#[expect(dead_code, reason = "the model's task polls nothing but the signal")]
mod signal;

/// Takes the place of `src/base/sync.rs`.
mod sync {
    use std::ops::{Deref, DerefMut};
    use std::time::Instant;

    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect("no thread panics")))
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    /// A guard that a wait releases and takes again, like the guard of `parking_lot`.
    pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().expect("held")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("held")
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    pub(crate) struct TimedOut;

    impl TimedOut {
        pub(crate) fn timed_out(&self) -> bool {
            true
        }
    }

    impl Condvar {
        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let held = guard.0.take().expect("held");
            guard.0 = Some(self.0.wait(held).expect("no thread panics"));
        }

        pub(crate) fn wait_until<T>(&self, _: &mut MutexGuard<'_, T>, _: Instant) -> TimedOut {
            unreachable!("no model waits by the clock")
        }
    }

    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Light;

    impl Light {
        #[expect(clippy::unused_self, reason = "as the real one")]
        pub(crate) fn pass(self) {
            fence(Ordering::SeqCst);
        }
    }

    pub(crate) fn heavy(_: Light) -> bool {
        fence(Ordering::SeqCst);
        true
    }
}

mod in_one_order;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use std::sync::Arc as StdArc;
use std::task::{Wake, Waker};

use account::{Account, Epoch};
use attempts::Attempts;
use cursor::{Advance, Cursor, CursorPosition};
use in_one_order::ready::{LaneWaker, ReadyLanes};
use over_limit::{Link, OverLimitList};
use rest::Rest;
use signal::Signal;
use sync::{AtomicBool, Light, Mutex, Ordering, heavy};

/// A cursor over slots, like the track of a run over the slots of a chunk.
struct Slots {
    cursor: Cursor,
    slots: Vec<UnsafeCell<u64>>,
}

impl Slots {
    fn new(places: u64) -> Arc<Self> {
        Self::in_batches(places, 1)
    }

    fn in_batches(places: u64, batch: u64) -> Arc<Self> {
        let slots = (0..places).map(|_| UnsafeCell::new(0)).collect();
        Arc::new(Self { cursor: Cursor::in_batches(0, places, Light, batch), slots })
    }

    /// Counts an outcome. The checker finds two threads that write at once, and a write that is not ordered
    /// with another.
    #[expect(unsafe_code, reason = "the protocol must keep these writes apart")]
    fn publish(&self, place: u64) {
        // SAFETY: the checker proves that no other thread accesses the slot meanwhile.
        self.slots[place as usize].with_mut(|slot| unsafe { *slot += 1 });
    }

    #[expect(unsafe_code, reason = "as in `publish`")]
    fn outcomes(&self) -> Vec<u64> {
        // SAFETY: the threads have been joined.
        self.slots.iter().map(|slot| slot.with(|slot| unsafe { *slot })).collect()
    }

    /// Executes like a container's thread, and returns the number of places that it began.
    fn execute(&self) -> u64 {
        let Some(mut place) = self.cursor.begin() else { return 0 };
        loop {
            let advance = self.cursor.step(place, Light);
            if advance != Advance::Fenced {
                self.publish(place);
            }
            place += 1;
            if advance != Advance::Next {
                return place;
            }
        }
    }
}

/// Executes like a container's thread whose code gets a batch at a time. The places of a batch begin
/// together, and their outcomes are published one by one. Returns the end of the last batch that the code has
/// got.
fn execute_batches(slots: &Slots) -> u64 {
    let Some(mut place) = slots.cursor.begin() else { return 0 };
    loop {
        let end = slots.cursor.executing_to(place);
        while place < end {
            let advance = slots.cursor.step(place, Light);
            if advance == Advance::Fenced {
                return end;
            }
            slots.publish(place);
            place += 1;
            if advance == Advance::Last {
                return end;
            }
        }
    }
}

#[test]
fn a_fence_knows_all_places_of_a_batch_that_has_begun() {
    for (places, batch) in [(2, 2), (3, 2)] {
        loom::model(move || {
            let slots = Slots::in_batches(places, batch);
            let executed = Arc::clone(&slots);
            let thread = thread::spawn(move || execute_batches(&executed));
            let CursorPosition { at, begun } = slots.cursor.fence(|| false).expect("nothing is refused");
            let shared = if begun { slots.cursor.executing_to(at) } else { at };
            (at..places).for_each(|place| slots.publish(place));
            let reads = thread.join().expect("no panic");
            assert_eq!(slots.outcomes(), vec![1; places as usize]);
            assert!(reads <= shared, "the code reads up to {reads}, and {at} to {shared} are shared");
        });
    }
}

#[test]
fn a_cut_leaves_a_batch_that_has_begun_whole() {
    for wanted in 0..4 {
        loom::model(move || {
            let slots = Slots::in_batches(4, 2);
            let executed = Arc::clone(&slots);
            let thread = thread::spawn(move || execute_batches(&executed));
            let end = slots.cursor.truncate(wanted);
            (end..4).for_each(|place| slots.publish(place));
            let reads = thread.join().expect("no panic");
            assert!(end >= wanted);
            assert_eq!(reads, end, "the code gets what the cut leaves, and nothing behind it");
            assert_eq!(slots.outcomes(), [1, 1, 1, 1]);
        });
    }
}

#[test]
fn a_cut_and_a_fence_of_a_batch_together_leave_no_place_out() {
    loom::model(|| {
        let slots = Slots::in_batches(3, 2);
        let executed = Arc::clone(&slots);
        let thread = thread::spawn(move || execute_batches(&executed));
        let end = slots.cursor.truncate(1);
        let CursorPosition { at, begun } = slots.cursor.fence(|| false).expect("nothing is refused");
        let shared = if begun { slots.cursor.executing_to(at) } else { at };
        (at..3).for_each(|place| slots.publish(place));
        let reads = thread.join().expect("no panic");
        assert!(shared <= end && reads <= shared.max(at), "up to {reads}, of {at} to {shared}, cut at {end}");
        assert_eq!(slots.outcomes(), [1, 1, 1]);
    });
}

#[test]
fn a_fence_gives_every_place_to_one_of_the_two() {
    loom::model(|| {
        let slots = Slots::new(2);
        let executed = Arc::clone(&slots);
        let thread = thread::spawn(move || executed.execute());
        let CursorPosition { at, begun } = slots.cursor.fence(|| false).expect("nothing is refused");
        // The places to which the thread has no right are executed again at once.
        (at..2).for_each(|place| slots.publish(place));
        let began = thread.join().expect("no panic");
        assert_eq!(slots.outcomes(), [1, 1]);
        assert!(
            begun || began <= at,
            "a place that the fence did not see begin has not begun: {began}, {at}"
        );
        assert!(slots.cursor.is_fenced());
    });
}

/// Executes two places like a task that waits before the end of each. `goes_on` says whether the code goes on
/// although this run is fenced, as it does for the other inputs of its batch. Returns whether the task went on
/// after its first wait.
fn execute_in_task(slots: &Slots, rest: &Rest, goes_on: bool) -> bool {
    let Some(mut place) = slots.cursor.begin() else { return false };
    let mut went_on = false;
    loop {
        rest.begins();
        thread::yield_now();
        let is_wanted = rest.ends() && !slots.cursor.is_fenced();
        if !is_wanted && !goes_on {
            return went_on;
        }
        went_on = true;
        let advance = slots.cursor.step(place, Light);
        if advance != Advance::Fenced {
            slots.publish(place);
        }
        place += 1;
        if advance != Advance::Next {
            return went_on;
        }
    }
}

#[test]
fn a_fence_of_a_task_that_waits_needs_no_barrier_and_gives_every_place_to_one_of_the_two() {
    for goes_on in [false, true] {
        loom::model(move || {
            let (slots, rest) = (Slots::new(2), Arc::new(Rest::new()));
            let (executed, waits) = (Arc::clone(&slots), Arc::clone(&rest));
            let thread = thread::spawn(move || execute_in_task(&executed, &waits, goes_on));
            let mut halted = false;
            let fenced = slots.cursor.fence(|| {
                halted = rest.halt();
                halted
            });
            let CursorPosition { at, begun } = fenced.expect("nothing is refused");
            assert!(!halted || begun && rest.is_on(), "a task that waits has begun, and stays at rest");
            (at..2).for_each(|place| slots.publish(place));
            let went_on = thread.join().expect("no panic");
            assert!(goes_on || !halted || !went_on || at > 0, "a task that was halted does not go on");
            assert_eq!(slots.outcomes(), [1, 1]);
        });
    }
}

#[test]
fn a_cursor_that_is_cut_short_is_executed_by_one_up_to_the_cut_and_by_another_behind_it() {
    for wanted in 0..3 {
        loom::model(move || {
            let slots = Slots::new(3);
            let executed = Arc::clone(&slots);
            let thread = thread::spawn(move || executed.execute());
            let end = slots.cursor.truncate(wanted);
            (end..3).for_each(|place| slots.publish(place));
            thread.join().expect("no panic");
            assert!(end >= wanted);
            assert_eq!(slots.outcomes(), [1, 1, 1]);
        });
    }
}

#[test]
fn a_cut_and_a_fence_together_leave_no_place_out() {
    loom::model(|| {
        let slots = Slots::new(2);
        let executed = Arc::clone(&slots);
        let thread = thread::spawn(move || executed.execute());
        let end = slots.cursor.truncate(1);
        let at = slots.cursor.fence(|| false).expect("nothing is refused").at;
        (at.min(end)..2).filter(|place| *place >= at || *place >= end).for_each(|place| slots.publish(place));
        thread.join().expect("no panic");
        assert_eq!(slots.outcomes(), [1, 1]);
    });
}

#[test]
fn an_input_that_is_fed_while_a_container_goes_to_sleep_is_seen_or_wakes_it() {
    loom::model(|| {
        let pool = Slots::new(2);
        let starving = Arc::new(AtomicBool::new(false));
        let (fed, told) = (Arc::clone(&pool), Arc::clone(&starving));
        pool.cursor.begin().expect("no other party interferes");
        let feeder = thread::spawn(move || {
            fed.publish(0);
            fed.cursor.step(0, Light);
            told.load(Ordering::Relaxed)
        });
        starving.store(true, Ordering::SeqCst);
        assert!(heavy(Light));
        let seen = pool.cursor.at() > 0;
        if seen {
            pool.publish(0); // the write of the input is visible here, so it may be taken
        }
        assert!(feeder.join().expect("no panic") || seen, "a container sleeps over an input");
    });
}

#[test]
fn a_block_freed_on_another_thread_is_not_credited_to_a_later_attempt() {
    loom::model(|| {
        let account = opened(1000);
        account.end_epoch();
        let first = account.epoch();
        let freed = Arc::clone(&account);
        let caller = thread::spawn(move || freed.credit(first, 10)); // this may come before the charge
        account.charge(first, 10, 10);
        account.end_epoch();
        account.charge(account.epoch(), 7, 7);
        caller.join().expect("no panic");
        assert_eq!(account.used(), 7, "used");
        assert_eq!(account.live(), 7, "live");
        assert_eq!(account.retained(), 0, "retained");
    });
}

#[test]
fn a_limit_that_several_threads_cross_is_reported_once() {
    loom::model(|| {
        let account = opened(10);
        let (own, helper) = (Arc::clone(&account), Arc::clone(&account));
        let charges = [
            thread::spawn(move || own.charge(own.enter_epoch(), 6, 6)),
            thread::spawn(move || helper.charge(helper.enter_epoch(), 6, 6)),
        ];
        let told = charges.map(|thread| thread.join().expect("no panic"));
        assert_eq!(told.iter().filter(|told| **told).count(), 1);
        assert!(account.is_over_limit());
    });
}

/// Closes an account while another thread frees a block of it, and opens the next account at the same place.
fn give_away(epoch: impl Fn(&Account) -> u64 + Send + Sync + 'static) {
    loom::model(move || {
        let account = opened(1000);
        account.charge(account.enter_epoch(), 3, 3);
        account.end_epoch();
        account.charge(account.epoch(), 5, 5);
        let (freed, epoch) = (Arc::clone(&account), epoch(&account));
        let caller = thread::spawn(move || freed.credit(epoch, 2));
        account.close();
        let anew = account.open(Some(1000));
        if anew {
            account.charge(account.enter_epoch(), 100, 100); // the place belongs to another container now
            account.end_epoch();
            account.charge(account.epoch(), 20, 20);
            account.end_epoch();
            account.charge(account.epoch(), 7, 7);
        }
        caller.join().expect("no panic");
        if anew {
            assert_eq!(account.used(), 107, "used");
            assert_eq!(account.retained(), 20, "retained");
            assert_eq!(account.live(), 127, "live");
        } else {
            assert!(account.open(None), "the place is free for the next account");
            assert_eq!(account.live(), 0);
        }
    });
}

#[test]
fn a_block_of_enter_freed_while_its_place_is_given_away_does_not_change_the_next_account() {
    give_away(Account::enter_epoch);
}

#[test]
fn a_block_of_the_last_attempt_freed_while_its_place_is_given_away_does_not_change_the_next_account() {
    give_away(Account::epoch);
}

#[test]
fn a_block_left_by_an_attempt_freed_while_its_place_is_given_away_does_not_change_the_next_account() {
    give_away(|account| {
        account.end_epoch();
        account.epoch() - 1
    });
}

#[test]
fn a_block_freed_on_another_thread_while_its_attempt_ends_is_credited_once() {
    loom::model(|| {
        let account = opened_for_attempts(1000, 1);
        let first = account.begin_attempt();
        let epoch = account.enter_epoch() + 1;
        let freed = Arc::clone(&account);
        account.charge(epoch, 10, 10);
        let caller = thread::spawn(move || freed.credit(epoch, 4));
        let left = account.end_attempt(first).left;
        assert!(left == 10 || left == 6, "left: {left}");
        account.end_attempt(account.begin_attempt());
        account.begin_attempt(); // in the cell of the first attempt
        account.charge(epoch + 2, 7, 7);
        caller.join().expect("no panic");
        assert_eq!(account.used(), 7, "used");
        assert_eq!(account.retained(), 6, "retained");
        assert_eq!(account.live(), 13, "live");
    });
}

#[test]
fn two_threads_charge_two_open_attempts_and_one_of_them_crosses_the_limit() {
    loom::model(|| {
        let account = opened_for_attempts(10, 2);
        let attempts = [account.begin_attempt(), account.begin_attempt()];
        let helper = Arc::clone(&account);
        let first = account.enter_epoch() + 1;
        let thread = thread::spawn(move || helper.charge(first, 6, 6));
        let crossed = [account.charge(first + 1, 6, 6), thread.join().expect("no panic")];
        assert_eq!(crossed.iter().filter(|crossed| **crossed).count(), 1);
        assert_eq!(account.crossed_by(), Some(attempts[usize::from(crossed[1]) ^ 1]));
        assert_eq!((account.used(), account.highest()), (12, 12));
    });
}

#[test]
fn a_crossing_is_reported_although_an_earlier_one_is_forgotten_at_the_same_time() {
    loom::model(|| {
        let account = opened_for_attempts(10, 2);
        let (attempt, first) = (account.begin_attempt(), account.enter_epoch() + 1);
        account.begin_attempt();
        assert!(account.charge(first, 12, 12));
        account.credit(first, 12);
        account.end_attempt(attempt);
        let helper = Arc::clone(&account);
        let thread = thread::spawn(move || helper.charge(first + 1, 11, 11));
        let is_over = account.clear_over_limit();
        assert!(thread.join().expect("no panic") || is_over, "a container lives on above its limit");
    });
}

/// Closes an account with cells while another thread frees a block of it. The cells go to another account at
/// once, or else to the next account in the same place.
fn give_cells_away(attempts_ended: u64) {
    loom::model(move || {
        let account = opened_for_attempts(1000, 1);
        for _ in 0..attempts_ended {
            account.end_attempt(account.begin_attempt());
        }
        account.begin_attempt();
        let epoch = account.enter_epoch() + 1;
        account.charge(epoch + attempts_ended, 5, 5);
        let freed = Arc::clone(&account);
        let caller = thread::spawn(move || freed.credit(epoch, 2));
        if let Some(cells) = account.close() {
            let other = opened(1000); // it gives its attempts the same epochs
            other.set_attempts(cells, 1);
            let attempt = other.begin_attempt();
            other.charge(epoch, 7, 7);
            caller.join().expect("no panic");
            assert_eq!(other.end_attempt(attempt), Epoch { peak: 7, left: 7 });
        } else {
            let anew = account.open(Some(1000));
            if !anew {
                caller.join().expect("no panic");
                assert!(account.open(Some(1000)), "the place is free for the next account");
            }
            let cells = account.take_attempts().expect("the guest kept the cells in their place");
            account.set_attempts(cells, 1);
            let epoch = account.enter_epoch() + 1;
            let attempt = account.begin_attempt();
            account.charge(epoch, 7, 7);
            assert_eq!(account.end_attempt(attempt), Epoch { peak: 7, left: 7 });
            assert_eq!(account.live(), 7);
        }
    });
}

#[test]
fn a_block_of_an_open_attempt_freed_while_the_cells_are_given_away_does_not_change_another_account() {
    give_cells_away(0);
}

#[test]
fn a_block_left_by_an_attempt_freed_while_the_cells_are_given_away_does_not_change_another_account() {
    give_cells_away(1);
}

#[test]
fn the_watch_never_sleeps_while_an_account_over_its_limit_is_listed() {
    loom::model(|| {
        let list = Arc::new((OverLimitList::new(), [Link::new(), Link::new()]));
        let crossed = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let watch = thread::current();
        let raise = |number: u32| {
            let (list, crossed, watch) = (Arc::clone(&list), Arc::clone(&crossed), watch.clone());
            thread::spawn(move || {
                crossed[number as usize - 1].store(true, Ordering::SeqCst);
                list.0.add(number, &list.1[number as usize - 1]);
                watch.unpark();
            })
        };
        let raising = [raise(1), raise(2)];
        let mut seen = [false; 2];
        loop {
            list.0.take(
                |number| &list.1[number as usize - 1],
                |number| seen[number as usize - 1] |= crossed[number as usize - 1].load(Ordering::Relaxed),
            );
            if seen == [true; 2] {
                break;
            }
            thread::park();
        }
        raising.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

#[test]
fn an_account_that_crosses_its_limit_while_it_is_still_listed_is_seen() {
    loom::model(|| {
        let list = Arc::new((OverLimitList::new(), Link::new()));
        let crossed = Arc::new(AtomicBool::new(false));
        list.0.add(1, &list.1); // the entry of the container that had the place before
        let (added, sets) = (Arc::clone(&list), Arc::clone(&crossed));
        let raising = thread::spawn(move || {
            sets.store(true, Ordering::SeqCst);
            added.0.add(1, &added.1);
        });
        let mut seen = false;
        let mut look = || list.0.take(|_| &list.1, |_| seen |= crossed.load(Ordering::Relaxed));
        look();
        raising.join().expect("no panic");
        look(); // the watch looks when it is woken
        assert!(seen);
    });
}

/// The part of a function's state that decides whether its containers sleep.
#[derive(Default)]
struct Function {
    work: u32,
    /// Whether the function has ended, so that no container may sleep any more.
    over: bool,
    /// The containers that sleep and have not been woken.
    asleep: Vec<usize>,
}

#[derive(Default)]
struct Sleepers {
    function: Mutex<Function>,
    /// The signal of each container.
    signals: [Signal; 2],
}

impl Sleepers {
    /// Runs as a container's thread. Returns whether it got work before the end.
    fn thread(&self, id: usize) -> bool {
        let mut function = self.function.lock();
        while function.work == 0 && !function.over {
            function.asleep.push(id);
            self.signals[id].wait(&mut function, None);
            function.asleep.retain(|asleep| *asleep != id);
        }
        self.took(&mut function)
    }

    /// Runs as a container's task, which leaves its waker when it is polled, and is polled again once it is
    /// woken.
    fn task(&self, id: usize) -> bool {
        let waker = Waker::from(StdArc::new(Unpark(thread::current())));
        loop {
            let mut function = self.function.lock();
            self.signals[id].forget(1);
            function.asleep.retain(|asleep| *asleep != id);
            if function.work > 0 || function.over {
                return self.took(&mut function);
            }
            self.signals[id].register(1, waker.clone());
            function.asleep.push(id);
            drop(function);
            while self.signals[id].is_registered(1, &waker) {
                thread::park();
            }
        }
    }

    fn took(&self, function: &mut Function) -> bool {
        let took = function.work > 0;
        function.work -= u32::from(took);
        if function.work > 0 {
            self.wake_one(function); // passes the rest of the work on
        }
        took
    }

    fn wake_one(&self, function: &mut Function) {
        if let Some(id) = function.asleep.pop() {
            self.signals[id].notify_all();
        }
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: StdArc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn work_for_two_wakes_a_thread_and_a_task_one_after_the_other() {
    loom::model(|| {
        let sleepers = Arc::new(Sleepers::default());
        let (one, other) = (Arc::clone(&sleepers), Arc::clone(&sleepers));
        let containers = [thread::spawn(move || one.thread(0)), thread::spawn(move || other.task(1))];
        {
            let mut function = sleepers.function.lock();
            function.work = 2;
            sleepers.wake_one(&mut function);
        }
        assert_eq!(containers.map(|container| container.join().expect("no panic")), [true, true]);
    });
}

#[test]
fn no_container_sleeps_over_the_end_of_a_function() {
    loom::model(|| {
        let sleepers = Arc::new(Sleepers::default());
        let (one, other) = (Arc::clone(&sleepers), Arc::clone(&sleepers));
        let containers = [thread::spawn(move || one.thread(0)), thread::spawn(move || other.task(1))];
        {
            let mut function = sleepers.function.lock();
            (function.work, function.over) = (1, true);
        }
        // as in `break_down`, the lock is already released
        sleepers.signals.iter().for_each(Signal::notify_all);
        let took = containers.map(|container| container.join().expect("no panic"));
        assert_eq!(took.iter().filter(|took| **took).count(), 1);
    });
}

fn opened_for_attempts(limit: u64, most: usize) -> Arc<Account> {
    let account = opened(limit);
    account.set_attempts(Box::leak(Box::new(Attempts::new(most))), most);
    account
}

fn opened(limit: u64) -> Arc<Account> {
    let account = Account::new();
    assert!(account.open(Some(limit)));
    Arc::new(account)
}

/// Wakes the driver of several lanes, which waits on its own thread.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    rings: sync::Condvar,
}

impl Wake for Bell {
    fn wake(self: StdArc<Self>) {
        *self.rung.lock() = true;
        self.rings.notify_all();
    }
}

impl Bell {
    fn wait(&self) {
        let mut rung = self.rung.lock();
        while !*rung {
            self.rings.wait(&mut rung);
        }
        *rung = false;
    }
}

/// Polls lanes until each has seen its last event, and sleeps in between. If a wake-up is lost, it sleeps for
/// ever, which the checker reports.
fn drive(ready: &ReadyLanes, events: &[Arc<loom::sync::atomic::AtomicUsize>], last: usize) {
    let bell = StdArc::new(Bell::default());
    let waker = Waker::from(StdArc::clone(&bell));
    let mut seen: Vec<usize> = events.iter().map(|_| 0).collect();
    loop {
        ready.awakes(&waker);
        while let Some(group) = ready.take() {
            group.for_each(|lane| seen[lane] = events[lane].load(Ordering::Relaxed));
        }
        if seen.iter().all(|event| *event == last) {
            return;
        }
        if ready.sleeps() {
            bell.wait();
        }
    }
}

/// Each of the threads has events for its lane, and wakes the lane after each of them.
fn rings(lanes: usize, last: usize) {
    let mut checker = loom::model::Builder::new();
    checker.preemption_bound = Some(3); // with more, a minute does not suffice
    checker.check(move || {
        let ready = StdArc::new(ReadyLanes::new(lanes));
        let events: Vec<_> = (0..lanes).map(|_| Arc::new(loom::sync::atomic::AtomicUsize::new(0))).collect();
        let ringers: Vec<_> = events
            .iter()
            .enumerate()
            .map(|(lane, event)| {
                let (event, waker) = (Arc::clone(event), LaneWaker::of(&ready, lane));
                thread::spawn(move || {
                    for at in 1..=last {
                        event.store(at, Ordering::Relaxed);
                        waker.wake_by_ref();
                    }
                })
            })
            .collect();
        drive(&ready, &events, last);
        ringers.into_iter().for_each(|ringer| ringer.join().expect("no panic"));
    });
}

#[test]
fn a_driver_that_falls_asleep_is_woken_by_each_event_of_a_lane() {
    rings(1, 2);
}

#[test]
fn a_driver_that_falls_asleep_is_woken_by_two_lanes_at_once() {
    rings(2, 1);
}
