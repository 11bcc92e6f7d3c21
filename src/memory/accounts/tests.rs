//! Tests of the table, and of the accounts in it. The file of [`Account`] holds no tests, because the model
//! checker compiles it as well.

use super::*;
use crate::memory::local_charge;

fn open(limit: u64) -> Account {
    let account = Account::new();
    assert!(account.open(Some(limit)));
    account
}

#[test]
fn the_limit_applies_to_the_state_and_the_running_attempt() {
    let account = open(100);
    assert!(!account.charge(account.enter_epoch(), 60, 60));
    account.end_epoch();
    let first = account.epoch();
    assert!(!account.charge(first, 40, 40), "exactly the limit is allowed");
    assert_eq!(account.end_epoch(), Epoch { peak: 100, left: 40 });
    assert_eq!(account.used(), 60);
    assert_eq!(account.retained(), 40);
    assert_eq!(account.live(), 100);
    assert!(!account.charge(account.epoch(), 30, 40), "bytes that the first attempt left do not count");
    account.credit(first, 40);
    assert_eq!(account.used(), 90);
    assert_eq!(account.retained(), 0);
    assert_eq!(account.live(), 90);
    assert!(account.charge(account.epoch(), 0, 11), "the highest sum in between counts");
    assert!(!account.charge(account.epoch(), 100, 100), "the crossing is reported once");
    assert!(account.is_over_limit());
    assert_eq!(account.peak(), 190);
    assert_eq!(account.highest(), 190);
}

#[test]
fn a_block_that_outlives_its_epoch_is_not_mistaken_for_one_of_another_epoch() {
    let account = open(1000);
    account.end_epoch();
    let old = account.epoch();
    account.charge(old, 500, 500);
    account.end_epoch();
    account.charge(account.epoch(), 7, 7);
    account.credit(old, 500);
    assert_eq!(account.used(), 7);
    assert_eq!(account.live(), 7);
    account.charge(old, 3, 3); // a helper thread has outlived the attempt
    assert_eq!(account.used(), 7);
    assert_eq!(account.retained(), 3);
    assert_eq!(account.live(), 10);
}

#[test]
fn a_block_that_a_container_keeps_is_credited_to_it_after_any_number_of_attempts() {
    let account = open(u64::MAX);
    account.charge(account.enter_epoch(), 100, 100);
    account.end_epoch();
    let kept = account.epoch();
    account.charge(kept, 500, 500);
    // The word of the attempt holds only 16 bits of the epoch, so its bits repeat several times here.
    for n in 0..200_000 {
        account.end_epoch();
        if n % 65_536 == 65_535 {
            account.charge(account.epoch(), 7, 7);
            account.charge(kept, 1, 1); // a helper thread has outlived the attempt
            account.credit(kept, 1);
            account.credit(account.enter_epoch(), 1);
            account.charge(account.enter_epoch(), 1, 1);
            assert_eq!(account.used(), 107);
            assert_eq!(account.retained(), 500 + n / 65_536 * 7);
        }
    }
    account.credit(kept, 500);
    assert_eq!(account.used(), 100);
    assert_eq!(account.retained(), 21);
    assert_eq!(account.live(), 121);
}

#[test]
fn negative_sums_and_the_wrap_around_of_epochs_are_counted_correctly() {
    // Two epochs before the numbers wrap around to 0.
    let account = Account::after_epochs((1 << 48) - 2);
    assert!(account.open(Some(1000)));
    let (enter, old) = (account.enter_epoch(), account.enter_epoch() - 1);
    account.charge(enter, 50, 50);
    account.end_epoch();
    let last = account.epoch();
    account.credit(last, 5); // freed before the thread that allocated it has flushed
    assert_eq!(account.used(), 45);
    assert_eq!(account.retained(), 0);
    account.charge(last, 5, 5);
    assert_eq!(account.used(), 50);
    assert_eq!(account.live(), 50);
    account.charge(last, 20, 20);
    account.end_epoch();
    assert_eq!(account.epoch(), 0);
    assert_eq!(account.used(), 50);
    assert_eq!(account.retained(), 20);
    account.charge(0, 3, 3);
    account.end_epoch();
    account.charge(account.epoch(), 4, 4);
    account.credit(old, 1000); // a block of the previous account
    assert_eq!(account.used(), 54);
    assert_eq!(account.retained(), 23);
    [(enter, 50), (last, 20), (0, 3), (1, 4)]
        .iter()
        .for_each(|(epoch, bytes)| account.credit(*epoch, *bytes));
    assert_eq!(account.used(), 0);
    assert_eq!(account.retained(), 0);
    assert_eq!(account.live(), 0);
    account.close();
    assert!(account.open(None));
    [enter, last, 0, 1].iter().for_each(|epoch| account.credit(*epoch, 10));
    assert_eq!(account.enter_epoch(), 2);
    assert_eq!(account.live(), 0);
}

#[test]
fn opening_an_account_tries_at_most_two_places_whatever_was_opened_and_closed_before() {
    let mut unused = Unused { next: 1, free: VecDeque::new() };
    let mut occupied = Vec::new(); // each of these places has a guest
    let mut most = 0;
    for round in 0..200_000u32 {
        let mut looks = 0;
        let index = unused.take(|index| {
            looks += 1;
            !occupied.contains(&index)
        });
        let index = index.expect("the guests are few");
        most = most.max(looks);
        if round % 1_000 == 0 && occupied.len() < 20 {
            occupied.push(index);
        }
        unused.free.push_back(index);
    }
    assert_eq!(most, 2, "one try at a place with a guest, one at the next place");
    assert_eq!(unused.next, 1 + 21, "places are reused");
}

#[test]
fn a_full_table_gives_no_place_until_one_is_given_back() {
    let mut unused = Unused { next: 1, free: VecDeque::new() };
    let places = (1..ACCOUNTS_MAX).filter(|_| unused.take(|_| true).is_some()).count();
    assert_eq!(places, ACCOUNTS_MAX - 1);
    assert_eq!(unused.take(|_| true), None);
    let back = [3, 5].map(|index| AccountIndex::new(index).expect("3 and 5 are not 0"));
    unused.free.extend(back);
    assert_eq!(unused.take(|index| index == back[0]), Some(back[0]), "the place at the back has a guest");
    assert_eq!(unused.take(|index| index == back[0]), None);
    assert_eq!(unused.take(|_| true), Some(back[1]));
}

/// An account for up to `most` open attempts whose place has been in use for `epochs` epochs.
fn several(limit: u64, most: usize, epochs: u64) -> Account {
    let account = Account::after_epochs(epochs);
    assert!(account.open(Some(limit)));
    account.set_attempts(SPARE.lock().take(most), most);
    account
}

fn charge_and_credit(account: &Account, epoch: u64, charged: i64, credited: i64) {
    account.charge(epoch, charged, charged);
    account.credit(epoch, credited);
}

#[test]
fn the_limit_applies_to_enter_and_all_open_attempts_together() {
    let account = several(100, 3, 0);
    assert!(!account.charge(account.enter_epoch(), 40, 40));
    let [a, b] = [account.begin_attempt(), account.begin_attempt()];
    assert!(!account.charge(a.epoch, 40, 40));
    assert!(!account.charge(b.epoch, 20, 20), "exactly the limit is allowed");
    assert_eq!(account.used(), 100);
    assert_eq!(account.crossed_by(), None);
    assert!(account.charge(b.epoch, 0, 1), "the highest sum in between counts");
    assert!(!account.charge(a.epoch, 50, 50), "the crossing is reported once");
    assert_eq!(account.crossed_by(), Some(b));
    assert_eq!(account.peak(), 150);
    assert_eq!(account.end_attempt(a), Epoch { peak: 130, left: 90 }, "no bytes of the other attempt");
    assert_eq!(account.end_attempt(b), Epoch { peak: 61, left: 20 });
    assert_eq!(account.used(), 40);
    assert_eq!(account.retained(), 110);
    assert_eq!(account.live(), 150);
    assert_eq!(account.highest(), 150);
}

#[test]
fn a_block_is_credited_to_its_attempt_while_that_is_open_and_then_to_what_attempts_left() {
    let account = several(1000, 2, 0);
    account.charge(account.enter_epoch(), 10, 10);
    let [a, b] = [account.begin_attempt(), account.begin_attempt()];
    charge_and_credit(&account, a.epoch, 100, 30);
    account.charge(b.epoch, 7, 7);
    account.credit(account.enter_epoch(), 4);
    assert_eq!(account.used(), 6 + 70 + 7);
    assert_eq!(account.end_attempt(a), Epoch { peak: 110, left: 70 });
    assert_eq!(account.used(), 6 + 7);
    account.credit(a.epoch, 50);
    account.charge(a.epoch, 3, 3); // a helper thread has outlived the attempt
    assert_eq!(account.used(), 6 + 7);
    assert_eq!(account.retained(), 23);
    account.close();
    assert!(account.open(None));
    [account.enter_epoch() - 1, a.epoch, b.epoch].iter().for_each(|epoch| account.credit(*epoch, 1));
    assert_eq!(account.live(), 0, "a block of a closed account belongs to none");
}

#[test]
fn what_is_charged_to_enter_beside_open_attempts_is_never_charged_to_one_of_them() {
    let open = Open::for_attempts(Some(1000), 2).expect("the table has free places");
    let _inside = open.enter();
    let first = local_charge::charge(10);
    let a = open.begin_attempt();
    {
        let _polled = open.enter_attempt(a);
        local_charge::charge(100);
    }
    assert_eq!(local_charge::charge(900), first, "a spawned task");
    let outside = ChargeGuard::process();
    assert_eq!(open.counters().used(), 1010);
    assert!(open.counters().is_over_limit());
    assert_eq!(open.crossed_by(), None, "the bytes were charged to `enter`");
    drop(outside);
    assert_eq!(open.end_attempt(a), Epoch { peak: 1010, left: 100 });
    assert_eq!(local_charge::charge(1), first, "also after an attempt has ended");
}

#[test]
fn a_crossing_that_is_forgotten_is_reported_again_by_the_next_charge_above_the_limit() {
    let account = several(100, 2, 0);
    let [a, b] = [account.begin_attempt(), account.begin_attempt()];
    account.charge(b.epoch, 60, 60);
    assert!(account.charge(a.epoch, 50, 50));
    account.credit(a.epoch, 50);
    account.end_attempt(a);
    assert!(!account.clear_over_limit(), "the limit is kept now");
    assert!(!account.is_over_limit());
    assert_eq!(account.crossed_by(), None);
    assert_eq!((account.peak(), account.highest()), (60, 110));
    assert!(!account.charge(b.epoch, 40, 40));
    let c = account.begin_attempt();
    assert!(account.charge(c.epoch, 1, 1), "the second crossing");
    assert_eq!(account.crossed_by(), Some(c));
    assert!(account.clear_over_limit(), "the bytes are still there");
    assert!(account.charge(b.epoch, -1, 0), "each charge crosses the limit until it is kept");
    assert_eq!(account.crossed_by(), Some(b));
    assert!(!account.charge(c.epoch, -30, 0));
    assert!(!account.clear_over_limit());
    assert!(!account.charge(c.epoch, 1, 1));
}

#[test]
fn an_attempt_never_begins_in_the_cell_of_an_open_one() {
    const MOST: usize = if cfg!(miri) { 8 } else { 512 };
    // The numbers of the epochs wrap around to 0 on the way.
    let account = several(u64::MAX, MOST, (1 << 48) - 3 * MOST as u64);
    let mut long: Vec<_> = (0..MOST - 1).map(|_| account.begin_attempt()).collect();
    for (bytes, attempt) in (1..).zip(&long) {
        account.charge(attempt.epoch, bytes, bytes);
    }
    let (all, before) = ((MOST * (MOST - 1) / 2) as i64, account.begin_attempt());
    account.end_attempt(before);
    for round in 0..20 * MOST as i64 {
        let short = account.begin_attempt();
        assert!(!long.contains(&short));
        charge_and_credit(&account, short.epoch, 1000, 999);
        assert_eq!(account.used(), all + 1);
        assert_eq!(account.end_attempt(short), Epoch { peak: 1000, left: 1 });
        account.credit(short.epoch, 1);
        account.credit(before.epoch, 1);
        account.charge(before.epoch, 1, 1);
        assert_eq!((account.used(), account.retained()), (all, 0), "round {round}");
    }
    long.sort_by_key(|attempt| attempt.epoch);
    let left: i64 = long.into_iter().map(|attempt| account.end_attempt(attempt).left).sum();
    assert_eq!((left, account.used(), account.live()), (all, 0, all));
}

#[test]
fn the_epochs_of_an_account_are_used_up_at_most_twice_as_fast_as_attempts_begin() {
    const MOST: u64 = 64;
    let account = several(1000, MOST as usize, 0);
    let first = account.begin_attempt().epoch;
    for _ in 0..MOST - 2 {
        account.begin_attempt();
    }
    let begun = 100 * MOST;
    let last = (0..begun).map(|_| {
        let attempt = account.begin_attempt();
        account.end_attempt(attempt);
        attempt.epoch
    });
    let used_up = last.max().expect("attempts began") - first;
    assert!(used_up <= 2 * (begun + MOST), "{used_up} epochs for {begun} attempts");
}

#[test]
#[should_panic(expected = "memory: at most 2 attempts are open")]
fn no_more_attempts_are_open_than_the_account_is_for() {
    let account = several(1000, 2, 0);
    for _ in 0..3 {
        account.begin_attempt();
    }
}

#[test]
#[should_panic(expected = "memory: the attempt is open")]
fn an_attempt_ends_once() {
    let account = several(1000, 2, 0);
    let attempt = account.begin_attempt();
    account.end_attempt(attempt);
    account.end_attempt(attempt);
}

#[test]
fn a_helper_thread_charges_its_attempt_and_afterwards_what_the_attempt_left() {
    let open = Open::for_attempts(None, 2).expect("the table has free places");
    ChargeGuard::share(open.index());
    let [a, b] = [open.begin_attempt(), open.begin_attempt()];
    std::thread::scope(|threads| {
        let helper = threads.spawn(|| {
            let _inside = open.enter_attempt(a);
            local_charge::charge(100);
        });
        helper.join().expect("no panic");
        assert_eq!(open.counters().used(), 100);
        let helper = threads.spawn(|| {
            let inside = open.enter_attempt(a);
            local_charge::charge(20);
            assert_eq!(open.end_attempt(a), Epoch { peak: 120, left: 120 }, "a thread flushes its own");
            let kept = local_charge::charge(5);
            local_charge::charge(6);
            local_charge::credit(kept, 5);
            drop(inside);
        });
        helper.join().expect("no panic");
    });
    assert_eq!(open.counters().used(), 0);
    assert_eq!(open.counters().retained(), 126);
    assert_eq!(open.end_attempt(b), Epoch { peak: 0, left: 0 }, "the other attempt had no part in it");
}

#[test]
fn generations_with_many_attempts_use_the_same_cells_one_after_the_other() {
    const GENERATIONS: usize = if cfg!(miri) { 50 } else { 20_000 };
    let mut spare = SpareAttempts([const { Vec::new() }; SIZES]);
    let address = |attempts: &'static Attempts| std::ptr::from_ref(attempts).addr();
    let mut cells = std::collections::BTreeSet::new();
    let account = Account::new();
    for n in 0..GENERATIONS {
        assert!(account.open(None));
        let most = 33 + n % 32; // all of them need cells of one size
        let taken = spare.take(most);
        cells.insert(address(taken));
        account.set_attempts(taken, most);
        charge_and_credit(&account, account.begin_attempt().epoch, 10, 3);
        assert_eq!((account.used(), account.live()), (7, 7));
        spare.give_back(account.close().expect("it has no guests"));
    }
    assert_eq!(cells.len(), 1);
    let [small, large] = [spare.take(1), spare.take(ATTEMPTS_MAX)];
    assert_eq!((small.most(), large.most()), (1, ATTEMPTS_MAX));
    [small, large].into_iter().for_each(|attempts| spare.give_back(attempts));
    assert_eq!(address(spare.take(ATTEMPTS_MAX)), address(large));
}

#[test]
fn blocks_of_closed_accounts_freed_at_any_time_change_no_account_with_open_attempts() {
    const GENERATIONS: i64 = if cfg!(miri) { 30 } else { 3_000 };
    let (freed, blocks) = std::sync::mpsc::channel::<Vec<local_charge::Mark>>();
    let frees = move || {
        for mark in blocks.into_iter().flatten() {
            local_charge::credit(mark, 10);
        }
    };
    std::thread::scope(|threads| {
        threads.spawn(frees);
        let mut of_last = Vec::new();
        for generation in 0..GENERATIONS {
            let open = Open::for_attempts(None, 4).expect("the table has free places");
            let mut kept = Vec::new();
            let inside = open.enter();
            kept.push(local_charge::charge(10));
            freed.send(std::mem::take(&mut of_last)).expect("the thread waits for blocks");
            let attempts = [(); 4].map(|()| open.begin_attempt());
            for attempt in attempts {
                let _polled = open.enter_attempt(attempt);
                kept.extend((0..20).map(|_| local_charge::charge(10)));
            }
            for attempt in &attempts[..2] {
                assert_eq!(open.end_attempt(*attempt), Epoch { peak: 210, left: 200 });
            }
            let account = open.counters();
            drop(inside);
            assert_eq!((account.used(), account.retained()), (410, 400), "generation {generation}");
            assert_eq!((account.live(), account.highest()), (810, 810));
            of_last = kept;
        }
        drop(freed);
    });
}

#[test]
fn blocks_that_another_thread_frees_while_their_attempts_end_are_counted_once() {
    const ATTEMPTS: usize = if cfg!(miri) { 100 } else { 20_000 };
    let open = Open::for_attempts(None, 3).expect("the table has free places");
    let (freed, blocks) = std::sync::mpsc::channel::<local_charge::Mark>();
    std::thread::scope(|threads| {
        threads.spawn(move || blocks.into_iter().for_each(|mark| local_charge::credit(mark, 10)));
        let mut running = VecDeque::new();
        for _ in 0..ATTEMPTS {
            let attempt = open.begin_attempt();
            running.push_back(attempt);
            for attempt in &running {
                let _polled = open.enter_attempt(*attempt);
                for _ in 0..3 {
                    freed.send(local_charge::charge(10)).expect("the thread waits for blocks");
                }
                local_charge::charge(1);
            }
            if running.len() == 3 {
                open.end_attempt(running.pop_front().expect("three are open"));
            }
        }
        drop(freed);
    });
    // Two attempts are open: the last one was polled once, and the one before it twice.
    assert_eq!(open.counters().used(), 3);
    assert_eq!(open.counters().retained(), (ATTEMPTS as u64 - 2) * 3);
}
