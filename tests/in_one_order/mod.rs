//! The files that rely on the one order of all sequentially consistent accesses. The checker takes such an
//! access for one that only acquires and releases, and lets a load return an old value. Here each access
//! reads and writes, because such an access always finds the latest value.

pub(crate) mod sync {
    pub(crate) use crate::sync::{Mutex, Ordering};

    /// Only the driver uses it, so that it needs no model.
    pub(crate) use std::sync::atomic::AtomicUsize;

    #[derive(Debug)]
    pub(crate) struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub(crate) fn new(value: u64) -> Self {
            Self(loom::sync::atomic::AtomicU64::new(value))
        }

        pub(crate) fn load(&self, order: Ordering) -> u64 {
            self.0.fetch_or(0, order)
        }

        pub(crate) fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
            self.0.fetch_or(bits, order)
        }

        pub(crate) fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
            self.0.fetch_and(bits, order)
        }

        pub(crate) fn swap(&self, value: u64, order: Ordering) -> u64 {
            self.0.swap(value, order)
        }
    }

    #[derive(Debug)]
    pub(crate) struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub(crate) fn new(value: bool) -> Self {
            Self(loom::sync::atomic::AtomicBool::new(value))
        }

        pub(crate) fn load(&self, order: Ordering) -> bool {
            self.0.fetch_or(false, order)
        }

        pub(crate) fn store(&self, value: bool, order: Ordering) {
            self.0.swap(value, order);
        }

        pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
            self.0.swap(value, order)
        }
    }
}

#[path = "../../src/base/ready.rs"]
#[expect(dead_code, reason = "no model asks whether the driver sleeps")]
pub(crate) mod ready;
