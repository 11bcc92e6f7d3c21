//! beekeeper's hive with channel queues ("a good choice for most workloads"), a worker that catches panics,
//! and local batches, which are meant for short tasks.

use beekeeper::bee::stock::RefCaller;
use beekeeper::hive::prelude::*;

use crate::harness::ours::WORKERS;

/// The number of tasks that a worker takes at a time.
const BATCH: usize = 64;

/// Starts a hive. The returned closure maps `run` over `0..inputs`, in order.
pub(crate) fn hive<F>(run: F) -> impl Fn(u64) -> Vec<Result<u64, ()>>
where
    F: Fn(u64) -> u64 + Copy + Send + Sync + 'static,
{
    let call = move |input: &u64| Ok::<u64, String>(run(*input));
    let hive = channel_builder(false)
        .num_threads(WORKERS)
        .batch_limit(BATCH)
        .with_worker(RefCaller::from(call))
        .build();
    move |inputs| {
        let inputs: Vec<u64> = (0..inputs).collect();
        hive.swarm(inputs).map(|outcome| outcome.success().ok_or(())).collect()
    }
}
