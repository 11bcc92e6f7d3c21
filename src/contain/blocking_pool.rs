//! A blocking pool: a few threads that do jobs which may block, in place of threads that must not block.
//!
//! The jobs are queued by the size of the stack that they need, and each queue has threads of its own. A
//! thread is made when a job comes and no thread waits for one, and it ends soon after its queue is empty. At
//! most [`FEW`] threads of a queue work at once, unless all of them are stuck. When no job has been taken for
//! a second, one more thread may take the next job, up to [`MOST`] threads. This needs no clock: a waiting
//! thread counts the jobs that the others take meanwhile.
//!
//! ```text
//!            job comes, none waits               a thread may work           done
//!  (no thread) ───────────────────▶ waiting ───────────────────────▶ working ──────▶ waiting
//!                                     │ the queue has been empty for a moment
//!                                     ▼
//!                                   ended
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::contain::unwind::contain_drop;
use crate::memory::local_charge::ChargeGuard;

/// The work of one job.
pub(super) type BoxedJob = Box<dyn FnOnce() + Send>;

/// The number of threads of a queue that work at once. More of them would not be faster where jobs compute,
/// and thousands of jobs that sleep for a moment must not have thousands of threads.
const FEW: usize = 4;

/// The largest number of threads of a queue. Where all of them are stuck, the next job waits for one of them.
const MOST: usize = 64;

/// The time after which the threads of a queue that stands still count as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// The time that a thread waits for another job, because making a thread costs more than waking one.
const LINGER: Duration = Duration::from_millis(10);

/// Threads that do jobs.
pub(super) struct BlockingPool {
    /// The name of each of the pool's threads.
    name: &'static str,
    /// The queues that have threads, by the size of their stacks.
    queues: Mutex<BTreeMap<usize, Arc<JobQueue>>>,
}

/// The jobs that need one size of stack.
struct JobQueue {
    stack_bytes: usize,
    state: Mutex<JobQueueState>,
    /// Signals a waiting thread that there is a job which it may take.
    changed: Condvar,
}

struct JobQueueState {
    /// The jobs that are not yet taken, the oldest first.
    jobs: VecDeque<BoxedJob>,
    /// The number of threads that do a job.
    working: usize,
    /// The number of threads that wait for a job or are being made.
    waiting: usize,
    /// The number of threads that may work: [`FEW`], and one more for each that is stuck.
    may_work: usize,
    /// The number of jobs taken so far.
    taken: u64,
    /// The number of times that the queue has stood still. A job counts as stuck if the queue stood
    /// still while it was done.
    stood_still: u64,
}

impl BlockingPool {
    /// A pool without threads.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, queues: Mutex::new(BTreeMap::new()) }
    }

    /// Has the job done by a thread with a stack of `stack_bytes`. Where no thread can be made, the
    /// caller's thread does it.
    pub(crate) fn push(&'static self, stack_bytes: usize, job: BoxedJob) {
        let _outside = ChargeGuard::process(); // the queue belongs to no container
        let queue = self.queue(stack_bytes);
        let mut state = queue.state.lock();
        state.jobs.push_back(job);
        if state.waiting > 0 {
            // A thread that waits because the others may be stuck is not woken: it would
            // begin its wait again.
            if state.working < state.may_work {
                queue.changed.notify_one();
            }
            return;
        }
        if state.working >= MOST {
            return; // the next thread that is done takes the job
        }
        state.waiting += 1;
        drop(state);
        if !self.make_thread(&queue) {
            queue.work_here();
        }
    }

    fn queue(&self, stack_bytes: usize) -> Arc<JobQueue> {
        let mut queues = self.queues.lock();
        Arc::clone(queues.entry(stack_bytes).or_insert_with(|| Arc::new(JobQueue::new(stack_bytes))))
    }

    /// Makes a thread that is already counted as waiting. Returns whether that was possible.
    fn make_thread(&'static self, queue: &Arc<JobQueue>) -> bool {
        let thread = std::thread::Builder::new().name(self.name.to_owned()).stack_size(queue.stack_bytes);
        let its_queue = Arc::clone(queue);
        thread.spawn(move || self.work(&its_queue)).is_ok()
    }

    /// The main function of a thread of the pool.
    fn work(&'static self, queue: &Arc<JobQueue>) {
        let mut state = queue.state.lock();
        while let Some((job, stood_still)) = queue.next(&mut state) {
            // Another thread waits for the next job, so that the next job does not depend on this one.
            let successor = !state.jobs.is_empty() && state.waiting == 0 && state.working < MOST;
            state.waiting += usize::from(successor);
            drop(state);
            if successor && !self.make_thread(queue) {
                queue.state.lock().waiting -= 1;
            }
            contain_drop(job);
            state = queue.state.lock();
            state.done(stood_still);
        }
        drop(state);
        self.forget_if_idle(queue);
    }

    /// Forgets a queue without threads. A caller of `push` that has just found the queue makes a
    /// thread for it anyway.
    fn forget_if_idle(&self, queue: &Arc<JobQueue>) {
        let mut queues = self.queues.lock();
        let known = queues.get(&queue.stack_bytes).is_some_and(|known| Arc::ptr_eq(known, queue));
        if known && queue.state.lock().is_idle() {
            queues.remove(&queue.stack_bytes);
        }
    }
}

impl JobQueue {
    fn new(stack_bytes: usize) -> Self {
        let state = JobQueueState {
            jobs: VecDeque::new(),
            working: 0,
            waiting: 0,
            may_work: FEW,
            taken: 0,
            stood_still: 0,
        };
        Self { stack_bytes, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits for a job that the calling thread may take. Returns it with the number of times that
    /// the queue has stood still by then, or `None` if the thread must end. A thread that must end
    /// is no longer counted.
    fn next(&self, state: &mut MutexGuard<'_, JobQueueState>) -> Option<(BoxedJob, u64)> {
        loop {
            if state.jobs.is_empty() {
                let nothing_came = self.changed.wait_for(state, LINGER).timed_out();
                if nothing_came && state.jobs.is_empty() {
                    break;
                }
            } else if state.working >= MOST {
                break; // the next thread that is done takes the job
            } else if state.working < state.may_work || self.stands_still(state) {
                state.waiting -= 1;
                state.working += 1;
                state.taken += 1;
                let job = state.jobs.pop_front().expect("the queue is not empty");
                return Some((job, state.stood_still));
            }
        }
        state.waiting -= 1;
        None
    }

    /// Waits while others take jobs. Returns whether no job was taken for a while, although there are some.
    fn stands_still(&self, state: &mut MutexGuard<'_, JobQueueState>) -> bool {
        let taken = state.taken;
        let long = self.changed.wait_for(state, STUCK_AFTER).timed_out();
        let stands_still = long && state.taken == taken && !state.jobs.is_empty() && state.working < MOST;
        if stands_still {
            state.stood_still += 1;
            state.may_work = (state.working + 1).max(FEW);
        }
        stands_still
    }

    /// Does jobs on the caller's thread, because the thread that is counted as waiting could not be
    /// made. The caller does one job in place of the one that it has pushed, and all of them if the
    /// queue has no thread at all.
    fn work_here(&self) {
        let mut state = self.state.lock();
        state.waiting -= 1;
        while let Some(job) = state.jobs.pop_front() {
            state.taken += 1;
            drop(state);
            contain_drop(job);
            state = self.state.lock();
            if !state.is_idle() {
                return;
            }
        }
    }
}

impl JobQueueState {
    /// A thread has done its job, and waits. `stood_still` is the count at the time when it took the job.
    fn done(&mut self, stood_still: u64) {
        self.working -= 1;
        self.waiting += 1;
        if self.stood_still != stood_still {
            self.may_work = FEW.max(self.may_work - 1); // it counted as stuck, and does no more
        }
    }

    /// Whether no thread serves the queue.
    fn is_idle(&self) -> bool {
        self.working == 0 && self.waiting == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    const STACK_BYTES: usize = 256 << 10;

    fn count(pool: &BlockingPool) -> (usize, usize) {
        pool.queues.lock().get(&STACK_BYTES).map_or((0, 0), |queue| {
            let state = queue.state.lock();
            (state.working, state.waiting)
        })
    }

    fn until(mut holds: impl FnMut() -> bool) {
        while !holds() {
            std::thread::park_timeout(Duration::from_micros(200));
        }
    }

    #[test]
    fn many_jobs_that_wait_are_each_done_once_by_a_few_threads_that_then_end() {
        static CREW: BlockingPool = BlockingPool::new("few");
        let pool = &CREW;
        let (done, at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let most = Arc::new(AtomicUsize::new(0));
        for _ in 0..200 {
            let (done, at_once, most) = (Arc::clone(&done), Arc::clone(&at_once), Arc::clone(&most));
            let job = move || {
                most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::park_timeout(Duration::from_micros(500));
                at_once.fetch_sub(1, Ordering::SeqCst);
                done.fetch_add(1, Ordering::SeqCst);
            };
            pool.push(STACK_BYTES, Box::new(job));
        }
        until(|| done.load(Ordering::SeqCst) == 200);
        assert!(most.load(Ordering::SeqCst) <= FEW, "{most:?} at once");
        until(|| pool.queues.lock().is_empty());
        assert_eq!(done.load(Ordering::SeqCst), 200);
    }

    #[test]
    fn jobs_behind_stuck_jobs_are_done_by_an_additional_thread_that_stays_as_long_as_they_are_stuck() {
        static CREW: BlockingPool = BlockingPool::new("stuck");
        let (pool, done) = (&CREW, Arc::new(AtomicUsize::new(0)));
        let mut gates = Vec::new();
        for _ in 0..FEW {
            let (open, gate) = channel::<()>();
            gates.push(open);
            pool.push(STACK_BYTES, Box::new(move || assert!(gate.recv().is_err())));
        }
        until(|| count(pool).0 == FEW);
        // One second of patience for each job would be far too long for this test.
        for _ in 0..100 {
            let done = Arc::clone(&done);
            pool.push(STACK_BYTES, Box::new(move || assert!(done.fetch_add(1, Ordering::SeqCst) < 100)));
        }
        until(|| done.load(Ordering::SeqCst) == 100);
        let queue = pool.queue(STACK_BYTES);
        assert_eq!(queue.state.lock().stood_still, 1);
        drop(gates);
        until(|| pool.queues.lock().is_empty());
        assert_eq!(queue.state.lock().may_work, FEW, "no job is stuck any more");
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    #[cfg_attr(miri, ignore = "it makes a stack of any size")]
    fn a_job_for_which_no_thread_can_be_made_is_done_by_the_caller() {
        static CREW: BlockingPool = BlockingPool::new("none");
        let here = std::thread::current().id();
        let (send, done) = channel();
        CREW.push(
            1 << 60,
            Box::new(move || send.send(std::thread::current().id()).expect("the receiver is kept")),
        );
        assert_eq!(done.try_recv(), Ok(here));
    }

    #[test]
    #[cfg_attr(miri, ignore = "its payload is leaked on purpose")]
    fn a_job_that_panics_takes_no_thread_with_it() {
        static CREW: BlockingPool = BlockingPool::new("panics");
        crate::contain::unwind::install_hook(crate::contain::unwind::Moment::default);
        let (pool, done) = (&CREW, Arc::new(AtomicUsize::new(0)));
        for n in 0..20 {
            let done = Arc::clone(&done);
            let job = move || {
                done.fetch_add(1, Ordering::SeqCst);
                assert!(n % 2 == 0, "a job's panic");
            };
            pool.push(STACK_BYTES, Box::new(job));
        }
        until(|| done.load(Ordering::SeqCst) == 20);
        until(|| pool.queues.lock().is_empty());
    }
}
