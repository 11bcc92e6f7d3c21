//! What the kernel says of this process, and this program once more, as a child whose peak is its own.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Whether it says so here.
pub(crate) fn can_be_read() -> bool {
    Path::new("/proc/self/status").exists()
}

/// The most memory that was ever resident.
pub(crate) fn peak_bytes() -> u64 {
    1024 * field(Path::new("/proc/self/status"), "VmHWM:").expect("Linux tells the peak")
}

/// How often the other threads of this process have gone to sleep so far, and thus been woken.
pub(crate) fn wake_ups_of_others() -> u64 {
    let own = fs::read_link("/proc/thread-self").expect("Linux tells the thread");
    let tasks = fs::read_dir("/proc/self/task").expect("Linux tells the threads");
    let others = tasks.flatten().filter(|task| Some(task.file_name().as_os_str()) != own.file_name());
    let slept = |task: fs::DirEntry| field(&task.path().join("status"), "voluntary_ctxt_switches:");
    others.filter_map(slept).sum() // a thread may just have ended
}

/// The number in a line of that file.
fn field(status: &Path, name: &str) -> Option<u64> {
    let status = fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Runs this program with those arguments; it prints a number.
pub(crate) fn ask_child(what: &str, inputs: u64) -> u64 {
    let program = std::env::current_exe().expect("it is known while it runs");
    let output = Command::new(program).args([what, &inputs.to_string()]).output();
    let output = output.expect("the program runs once more");
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim().parse().unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}
