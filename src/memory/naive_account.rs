//! A naive account for several open attempts, against which the real one is checked. It keeps a plain number
//! for each attempt, and looks an attempt up by going through all of them.

use std::collections::BTreeMap;
use std::thread;

use proptest::prelude::*;

use crate::memory::account::Epoch;
use crate::memory::accounts::Open;
use crate::memory::attempts::OpenAttempt;
use crate::memory::local_charge::{self, ChargeGuard, Mark};

/// The owner of bytes: a generation, and one of its attempts or its `enter`.
type Owner = Option<(usize, Option<OpenAttempt>)>;

#[derive(Default)]
struct NaiveGeneration {
    limit: Option<i64>,
    enter: i64,
    /// The bytes and the peak of each open attempt.
    open: Vec<(OpenAttempt, i64, i64)>,
    left: i64,
    highest: i64,
    crossed: Option<Option<OpenAttempt>>,
}

impl NaiveGeneration {
    fn used(&self) -> i64 {
        self.enter + self.open.iter().map(|(_, bytes, _)| bytes).sum::<i64>()
    }

    fn add(&mut self, to: Option<OpenAttempt>, bytes: i64) {
        let attempt = self.open.iter_mut().find(|(attempt, ..)| Some(*attempt) == to);
        *match (to, attempt) {
            (None, _) => &mut self.enter,
            (Some(_), Some((_, bytes, _))) => bytes,
            (Some(_), None) => &mut self.left,
        } += bytes;
    }

    fn flush(&mut self, to: Option<OpenAttempt>, sum: i64, high: i64) {
        let (used, enter) = (self.used(), self.enter);
        if let Some(epoch) = to {
            let attempt = self.open.iter_mut().find(|(attempt, ..)| *attempt == epoch);
            let Some((_, bytes, peak)) = attempt else { return self.left += sum };
            *peak = (*peak).max(enter + *bytes + high);
        }
        self.add(to, sum);
        self.highest = self.highest.max(used + high);
        if self.limit.is_some_and(|limit| used + high > limit) {
            self.crossed.get_or_insert(to);
        }
    }
}

/// The bytes that a thread has not flushed, like the real local charge.
#[derive(Default)]
struct NaiveLocalCharge {
    owner: Owner,
    sum: i64,
    high: i64,
}

struct World {
    generations: Vec<NaiveGeneration>,
    /// The account that is open, and the number of its generation.
    places: Vec<(Open, usize)>,
    inside: Vec<(ChargeGuard, Owner)>,
    local: NaiveLocalCharge,
    blocks: Vec<(Owner, Mark, i64)>,
    /// The owner of each mark that was ever given out.
    owners: BTreeMap<u64, Owner>,
}

/// The most open attempts and the limit of each account.
const ACCOUNTS: [(usize, Option<u64>); 3] = [(1, None), (2, Some(900)), (5, Some(6_400))];

impl World {
    fn new() -> Self {
        let mut world = Self {
            generations: Vec::new(),
            places: Vec::new(),
            inside: Vec::new(),
            local: NaiveLocalCharge::default(),
            blocks: Vec::new(),
            owners: BTreeMap::new(),
        };
        for (attempts, limit) in ACCOUNTS {
            let place = world.open(attempts, limit);
            world.places.push(place);
        }
        world
    }

    fn open(&mut self, attempts: usize, limit: Option<u64>) -> (Open, usize) {
        let limit_bytes = limit.map(|limit| limit as i64);
        self.generations.push(NaiveGeneration { limit: limit_bytes, ..NaiveGeneration::default() });
        let open = Open::for_attempts(limit, attempts).expect("the table has free places");
        (open, self.generations.len() - 1)
    }

    fn flush(&mut self) {
        let NaiveLocalCharge { owner, sum, high } = std::mem::take(&mut self.local);
        if let Some((generation, attempt)) = owner.filter(|_| (sum, high) != (0, 0)) {
            self.generations[generation].flush(attempt, sum, high);
        }
        self.local.owner = owner;
    }

    fn enter(&mut self, guard: ChargeGuard, owner: Owner) {
        self.flush();
        self.local.owner = owner;
        self.inside.push((guard, owner));
    }

    fn leave(&mut self) {
        self.flush();
        drop(self.inside.pop());
        self.local.owner = self.inside.last().and_then(|(_, owner)| *owner);
    }

    /// The sum from which a local charge is flushed.
    fn batch(&self) -> i64 {
        let limit = self.local.owner.and_then(|(generation, _)| self.generations[generation].limit);
        limit.map_or(64 * 1024, |limit| limit / 32)
    }

    fn allocate(&mut self, bytes: i64) {
        let mark = local_charge::charge(bytes as usize);
        let owner = self.local.owner;
        if let Some(before) = self.owners.insert(mark.bits(), owner) {
            assert_eq!(before, owner, "two owners have the same mark");
        }
        self.blocks.push((owner, mark, bytes));
        if owner.is_some() {
            self.local.sum += bytes;
            if self.local.sum > self.local.high {
                self.local.high = self.local.sum;
                if self.local.sum > self.batch() {
                    self.flush();
                }
            }
        }
    }

    fn free(&mut self, which: usize, elsewhere: bool) {
        if self.blocks.is_empty() {
            return;
        }
        let (owner, mark, bytes) = self.blocks.swap_remove(which % self.blocks.len());
        if elsewhere {
            thread::scope(|threads| {
                threads.spawn(|| local_charge::credit(mark, bytes as usize));
            });
        } else {
            local_charge::credit(mark, bytes as usize);
        }
        let Some((generation, attempt)) = owner else { return };
        if !elsewhere && owner == self.local.owner {
            self.local.sum -= bytes;
            if self.local.sum < -self.batch() {
                self.flush();
            }
        } else if self.places.iter().any(|(_, open)| *open == generation) {
            self.generations[generation].add(attempt, -bytes);
        }
    }

    fn begin(&mut self, place: usize) {
        let (open, generation) = &self.places[place];
        let naive = &mut self.generations[*generation];
        if naive.open.len() < ACCOUNTS[place].0 {
            let attempt = open.begin_attempt();
            assert!(naive.open.iter().all(|(other, ..)| *other != attempt));
            naive.open.push((attempt, 0, naive.enter));
        }
    }

    fn end(&mut self, place: usize, which: usize) {
        let Some(attempt) = self.attempt(place, which) else { return };
        let generation = self.places[place].1;
        if self.local.owner == Some((generation, Some(attempt))) {
            self.flush();
        }
        let over = self.places[place].0.end_attempt(attempt);
        let naive = &mut self.generations[generation];
        let at = naive.open.iter().position(|(open, ..)| *open == attempt).expect("it is open");
        let (_, left, peak) = naive.open.swap_remove(at);
        naive.left += left;
        let peak = peak.max(naive.enter).max(naive.enter + left);
        assert_eq!(over, Epoch { peak: u64::try_from(peak).unwrap_or(0), left });
    }

    fn attempt(&self, place: usize, which: usize) -> Option<OpenAttempt> {
        let open = &self.generations[self.places[place].1].open;
        (!open.is_empty()).then(|| open[which % open.len()].0)
    }

    fn close(&mut self, place: usize) {
        while !self.inside.is_empty() {
            self.leave();
        }
        let (attempts, limit) = ACCOUNTS[place];
        let next = self.open(attempts, limit);
        self.places[place] = next;
        self.allocate(1); // outside all accounts
    }

    fn clear(&mut self, place: usize) {
        let (open, generation) = &self.places[place];
        let naive = &mut self.generations[*generation];
        let is_over = naive.limit.is_some_and(|limit| naive.used() > limit);
        naive.crossed = None;
        assert_eq!(open.clear_over_limit(), is_over);
    }

    fn check(&mut self) {
        self.flush();
        let _outside = ChargeGuard::process();
        for (open, generation) in &self.places {
            let (account, naive) = (open.counters(), &self.generations[*generation]);
            let positive = |sum: i64| u64::try_from(sum).unwrap_or(0);
            assert_eq!(account.used(), naive.used());
            assert_eq!(account.retained(), positive(naive.left));
            assert_eq!(account.live(), naive.used() + naive.left);
            assert_eq!(account.highest(), positive(naive.highest.max(naive.used())));
            assert_eq!(account.is_over_limit(), naive.crossed.is_some());
            assert_eq!(open.crossed_by(), naive.crossed.flatten());
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Begin(usize),
    Enter(usize),
    EnterAttempt(usize, usize),
    Leave,
    Allocate(i64),
    Free { which: usize, elsewhere: bool },
    End(usize, usize),
    Close(usize),
    Clear(usize),
    Check,
}

fn step() -> impl Strategy<Value = Step> {
    let (place, which) = (|| 0..ACCOUNTS.len(), || 0..64usize);
    prop_oneof![
        6 => place().prop_map(Step::Begin),
        2 => place().prop_map(Step::Enter),
        6 => (place(), which()).prop_map(|(place, which)| Step::EnterAttempt(place, which)),
        5 => Just(Step::Leave),
        12 => (1..400i64).prop_map(Step::Allocate),
        6 => which().prop_map(|which| Step::Free { which, elsewhere: false }),
        2 => which().prop_map(|which| Step::Free { which, elsewhere: true }),
        5 => (place(), which()).prop_map(|(place, which)| Step::End(place, which)),
        1 => place().prop_map(Step::Close),
        1 => place().prop_map(Step::Clear),
        4 => Just(Step::Check),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 400 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn several_open_attempts_agree_with_the_naive_account(steps in prop::collection::vec(step(), 1..300)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Begin(place) => world.begin(place),
                Step::Enter(place) => {
                    let (open, generation) = &world.places[place];
                    let (guard, owner) = (open.enter(), Some((*generation, None)));
                    world.enter(guard, owner);
                }
                Step::EnterAttempt(place, which) => {
                    if let Some(attempt) = world.attempt(place, which) {
                        let (open, generation) = &world.places[place];
                        let (guard, owner) = (open.enter_attempt(attempt), Some((*generation, Some(attempt))));
                        world.enter(guard, owner);
                    }
                }
                Step::Leave => world.leave(),
                Step::Allocate(bytes) => world.allocate(bytes),
                Step::Free { which, elsewhere } => world.free(which, elsewhere),
                Step::End(place, which) => world.end(place, which),
                Step::Close(place) => world.close(place),
                Step::Clear(place) => world.clear(place),
                Step::Check => world.check(),
            }
        }
        while !world.inside.is_empty() {
            world.leave();
        }
        world.check();
    }
}
