//! The memory of this process.

use std::fs;

/// The bytes that are allocated now, with what the allocator adds to each block. `None` on a system that does
/// not say.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a call of the C library without a safe wrapper")]
pub(crate) fn allocated() -> Option<f64> {
    // SAFETY: the call has no conditions.
    let heap = unsafe { libc::mallinfo2() };
    Some((heap.uordblks + heap.hblkhd) as f64)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn allocated() -> Option<f64> {
    None
}

/// The resident bytes. `None` on a system that does not say.
pub(crate) fn resident() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok().map(|kibibytes: f64| 1024.0 * kibibytes)
}
