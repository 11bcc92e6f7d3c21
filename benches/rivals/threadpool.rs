//! threadpool, synchronised with a channel as in its first example.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;

use threadpool::ThreadPool;

use crate::harness::ours::WORKERS;

/// Starts a pool. The returned closure maps `run` over `0..inputs`. Outcomes come as they complete.
pub(crate) fn threads<F>(run: F) -> impl Fn(u64) -> Vec<Result<u64, Box<dyn Any + Send>>>
where
    F: Fn(u64) -> u64 + Copy + Send + Sync + 'static,
{
    let pool = ThreadPool::new(WORKERS);
    move |inputs| {
        let (done, outcomes) = channel();
        for input in 0..inputs {
            let done = done.clone();
            pool.execute(move || {
                let outcome = catch_unwind(AssertUnwindSafe(|| run(input)));
                done.send(outcome).expect("the caller waits");
            });
        }
        outcomes.iter().take(inputs as usize).collect()
    }
}
