//! The priority of threads, where the platform lets a process lower it.

pub(crate) use system::Thread;

#[cfg(target_os = "linux")]
mod system {
    use libc::{SCHED_IDLE, SYS_sched_setscheduler, c_int, gettid, pid_t, syscall};

    /// A thread of this process.
    #[derive(Debug)]
    pub(crate) struct Thread(pid_t);

    #[expect(unsafe_code, reason = "system calls without a safe wrapper")]
    impl Thread {
        pub(crate) fn current() -> Self {
            // SAFETY: takes nothing and cannot fail.
            Self(unsafe { gettid() })
        }

        /// From now on it runs when nobody else wants to. Refused, it runs on as before.
        pub(crate) fn lower_priority(&self) {
            // The call itself, because not every C library has more than a stub of it; and what the system takes, a
            // priority alone, because C libraries do not agree on the rest of their `sched_param`.
            let priority: c_int = 0;
            // SAFETY: the pointer is to a value of this frame, which the call only reads.
            let _refused =
                unsafe { syscall(SYS_sched_setscheduler, self.0, SCHED_IDLE, &raw const priority) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    /// A thread of this process.
    #[derive(Debug)]
    pub(crate) struct Thread;

    impl Thread {
        pub(crate) fn current() -> Self {
            Self
        }

        /// Nothing is known that would do it here.
        #[expect(clippy::unused_self, reason = "as elsewhere")]
        pub(crate) fn lower_priority(&self) {}
    }
}
