//! The priority of threads, on platforms where a process may lower it.

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
            // SAFETY: the call takes no argument and cannot fail.
            Self(unsafe { gettid() })
        }

        /// Lets the thread run only when no other thread wants to. If the system refuses, the
        /// thread runs on as before.
        pub(crate) fn lower_priority(&self) {
            // This is the bare system call, because some C libraries have only a stub of it. Its argument is
            // the priority alone, because C libraries do not agree on the other fields of `sched_param`.
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
        pub(super) fn current() -> Self {
            Self
        }

        /// Does nothing, because no way to lower the priority is known on this platform.
        #[expect(clippy::unused_self, reason = "the method uses its receiver on Linux")]
        pub(super) fn lower_priority(&self) {}
    }
}
