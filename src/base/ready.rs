//! The lanes of one container that are ready to be polled, and the wakers that make them so.
//!
//! Each lane has a bit. A waker sets the bit of its lane, and wakes the driver only if the driver sleeps. The
//! driver takes the bits of 64 lanes at a time. A lane that becomes ready while its group is polled is polled
//! again after all others, so that a future that always wakes itself does not starve them.
//!
//! No wake-up is lost:
//!
//! ```text
//! waker                          driver
//! bit of the lane ← 1            asleep ← true
//! bit of its group ← 1           any group's bit set?
//! asleep?                          yes: asleep ← false, goes on
//!   yes: wakes the driver          no: sleeps
//! ```
//!
//! The stores and loads are sequentially consistent. If the driver does not see the bit of the group, the
//! waker sees that the driver sleeps.
//!
//! A waker owns the set that it writes to, and nothing else. User code may keep it for as long as it likes. A
//! waker that is used after its future has ended makes a lane ready for nothing, which does no harm.

use std::sync::Arc;
use std::task::{Wake, Waker};

use super::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering};

/// The number of lanes in a group.
const GROUP: usize = u64::BITS as usize;

/// The lanes that are ready to be polled.
#[derive(Debug)]
pub(crate) struct ReadyLanes {
    /// A bit for each lane.
    groups: Box<[AtomicU64]>,
    /// A bit for each group that may have a ready lane.
    summary: Box<[AtomicU64]>,
    /// The group at which the driver looks first, behind the one that it has taken last. Otherwise a future
    /// that always wakes itself would starve the lanes of all higher groups. Only the driver uses it.
    first: AtomicUsize,
    /// Whether the driver sleeps, or is about to.
    asleep: AtomicBool,
    driver: Mutex<Option<Waker>>,
}

impl ReadyLanes {
    /// A set of this many lanes. None is ready.
    pub(crate) fn new(lanes: usize) -> Self {
        let groups = lanes.div_ceil(GROUP);
        let zeros = |words| (0..words).map(|_| AtomicU64::new(0)).collect();
        Self {
            groups: zeros(groups),
            summary: zeros(groups.div_ceil(GROUP)),
            first: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            driver: Mutex::new(None),
        }
    }

    /// Makes a lane ready.
    pub(crate) fn ring(&self, lane: usize) {
        let (group, bit) = (lane / GROUP, 1 << (lane % GROUP));
        if self.groups[group].fetch_or(bit, Ordering::SeqCst) & bit != 0 {
            return; // the driver will take the bit that another wake-up has set
        }
        self.summary[group / GROUP].fetch_or(1 << (group % GROUP), Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            let driver = self.driver.lock().clone();
            if let Some(driver) = driver {
                driver.wake();
            }
        }
    }

    /// The driver is awake, and is woken by this waker the next time that it sleeps.
    pub(crate) fn awakes(&self, driver: &Waker) {
        self.asleep.store(false, Ordering::SeqCst);
        let mut known = self.driver.lock();
        if !known.as_ref().is_some_and(|known| known.will_wake(driver)) {
            *known = Some(driver.clone());
        }
    }

    /// The driver is about to sleep. Returns `false` if a lane is ready, so that the driver must not sleep.
    pub(crate) fn sleeps(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let is_idle = self.summary.iter().all(|word| word.load(Ordering::SeqCst) == 0);
        if !is_idle {
            self.asleep.store(false, Ordering::SeqCst);
        }
        is_idle
    }

    /// Whether the driver sleeps, or is about to. A driver that does not may be in user code for long.
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::SeqCst)
    }

    /// Takes the ready lanes of one group. The groups take turns. Lanes that become ready from now on are
    /// taken the next time.
    pub(crate) fn take(&self) -> Option<ReadyGroup> {
        let first = self.first.load(Ordering::Relaxed);
        let (word, bit) = (first / GROUP, first % GROUP);
        let behind = u64::MAX << bit;
        let words = self.summary.len();
        // The word of the first group comes once more at the end, with the groups before that one.
        (0..=words).find_map(|step| {
            let at = (word + step) % words;
            let mask = match step {
                0 => behind,
                _ if step == words => !behind,
                _ => u64::MAX,
            };
            let groups = self.summary[at].load(Ordering::SeqCst) & mask;
            (groups != 0).then(|| self.take_group(at * GROUP + groups.trailing_zeros() as usize))
        })
    }

    fn take_group(&self, group: usize) -> ReadyGroup {
        // The bit of the group is cleared first. A waker that sets a lane's bit later sets it again.
        self.summary[group / GROUP].fetch_and(!(1 << (group % GROUP)), Ordering::SeqCst);
        let lanes = self.groups[group].swap(0, Ordering::SeqCst);
        self.first.store(group + 1, Ordering::Relaxed);
        ReadyGroup { first: group * GROUP, lanes }
    }
}

/// Ready lanes that the driver has taken, as an iterator over their numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadyGroup {
    first: usize,
    lanes: u64,
}

impl Iterator for ReadyGroup {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.lanes == 0 {
            return None;
        }
        let bit = self.lanes.trailing_zeros() as usize;
        self.lanes &= self.lanes - 1;
        Some(self.first + bit)
    }
}

/// The waker of one lane.
pub(crate) struct LaneWaker {
    ready: Arc<ReadyLanes>,
    lane: usize,
}

impl LaneWaker {
    pub(crate) fn of(ready: &Arc<ReadyLanes>, lane: usize) -> Waker {
        Waker::from(Arc::new(Self { ready: Arc::clone(ready), lane }))
    }
}

impl Wake for LaneWaker {
    fn wake(self: Arc<Self>) {
        self.ready.ring(self.lane);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.ring(self.lane);
    }
}
