//! The settings of a builder for memory, and their validation.

use crate::api::builder::{Builder, Draft};
use crate::engine::settings::MemoryRules;
use crate::values::error::ConfigError;

impl<I, O, E> Builder<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// The number of bytes that a container may use, at least 1. Two kinds of bytes count: the bytes that its
    /// `enter` has allocated, and the bytes that the executing attempt has allocated. Bytes that were freed
    /// do not count. Bytes that earlier attempts have left, such as outputs and caches, do not count. A limit
    /// needs an [`Accountant`](crate::Accountant) as the program's global allocator.
    ///
    /// A container over its limit is killed as soon as this is noticed, which is within [a little
    /// lag](crate::Memory) and at the latest at the end of the attempt. Its input is blamed and replayed as
    /// after a panic, and the cause is [`Death::MemoryLimit`](crate::Death::MemoryLimit). How the code is
    /// stopped depends on its kind:
    ///
    /// | code | how it is stopped | until then its thread is |
    /// |---|---|---|
    /// | async | it is dropped when its `poll` returns, or within 4 ms if it waits | abandoned after 4 ms |
    /// | with checkpoints | it unwinds at its next [`Context::checkpoint`](crate::Context::checkpoint) | abandoned after 4 ms if it has passed one before, and otherwise at once |
    /// | other | it returns by itself, and its output is refused | abandoned at once |
    ///
    /// An *abandoned* thread has been replaced by another. Its memory is still charged to it. On Linux it
    /// gets the lowest priority, at once or, if it was expected to unwind, after 50 ms more.
    /// [`Builder::abandoned_max`] bounds the number of abandoned threads. An input that has left two threads
    /// behind is not replayed again. An `exit` is bounded only by [`Builder::exit_timeout`]. Async code whose
    /// call waits counts as stopped at once, whatever the tasks that it has spawned do.
    ///
    /// Code that overflows its stack, aborts, or really exhausts the machine's memory takes the process with
    /// it. A single allocation that the system refuses does the same, for example of 70 GB because a damaged
    /// file claims to need them. Keep a decoder's own limit as well, therefore, and set it large.
    ///
    /// ```
    /// use longshore::{App, StartError};
    ///
    /// let app = App::ephemeral("docs");
    /// let f = app.infallible("f", |n: &u64| *n).memory_limit(64 << 20).start();
    /// // This example has no accountant, and a limit that cannot be kept is refused.
    /// assert!(matches!(f, Err(StartError::NoAccountant)));
    /// ```
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.draft.memory_limit = Some(bytes);
        self
    }

    /// Sets how many bytes the attempts of a container may leave behind. Above this number the container
    /// exits between two inputs and enters again. The setting is meant for state that grows. Outputs that the
    /// engine still holds do not count, but outputs that the caller keeps do. It needs an
    /// [`Accountant`](crate::Accountant).
    pub fn recycle_above(mut self, bytes: u64) -> Self {
        self.draft.recycle_above = Some(bytes);
        self
    }

    /// The number of threads that may be abandoned at a time, at least 1. A thread is abandoned if its
    /// generation is over, because its container was killed or its `exit` took too long, and it has not
    /// returned from the user's code.
    ///
    /// While this many threads are abandoned, no container is created. Live containers go on, and may leave
    /// further threads behind. An input whose replay might leave a thread behind is not replayed, and ends
    /// with its crashes. If no container is left that could go on, a function with limited restarts gives up,
    /// and a function that never gives up waits for a thread to return.
    pub fn abandoned_max(mut self, threads: usize) -> Self {
        self.draft.abandoned_max = Some(threads);
        self
    }

    /// The number of bytes that abandoned threads may use, measured as for [`Builder::memory_limit`]. While
    /// they use this many, an input whose replay might leave a thread behind is not replayed, as with
    /// [`Builder::abandoned_max`], but containers are still created. It needs an
    /// [`Accountant`](crate::Accountant).
    pub fn abandoned_bytes_max(mut self, bytes: u64) -> Self {
        self.draft.abandoned_bytes_max = Some(bytes);
        self
    }
}

impl Draft {
    pub(super) fn memory_rules(
        &self,
        containers: usize,
        accounted: bool,
    ) -> Result<MemoryRules, ConfigError> {
        for bytes in [self.memory_limit, self.abandoned_bytes_max].into_iter().flatten() {
            if bytes == 0 {
                return Err(ConfigError::NoMemory);
            }
        }
        if self.abandoned_max == Some(0) {
            return Err(ConfigError::NoneAbandoned);
        }
        let bytes_max = |limit: u64| limit.saturating_mul(2).saturating_mul(containers as u64);
        Ok(MemoryRules {
            accounted,
            limit: self.memory_limit,
            recycle_above: self.recycle_above,
            abandoned_max: self.abandoned_max.unwrap_or(8.max(2 * containers)),
            abandoned_bytes_max: self.abandoned_bytes_max.or(self.memory_limit.map(bytes_max)),
        })
    }
}
