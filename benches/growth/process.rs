//! Figures of the kernel about this process, and this program as a child process whose peak is its own.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Whether this system has these figures.
pub(crate) fn can_be_read() -> bool {
    Path::new("/proc/self/status").exists()
}

/// The peak of the resident memory, in bytes.
pub(crate) fn peak_bytes() -> u64 {
    1024 * field(Path::new("/proc/self/status"), "VmHWM:").expect("Linux reports the peak")
}

/// How often the other threads of this process have gone to sleep so far, which is how often they were woken.
pub(crate) fn wake_ups_of_others() -> u64 {
    let own = fs::read_link("/proc/thread-self").expect("Linux reports the thread");
    let tasks = fs::read_dir("/proc/self/task").expect("Linux reports the threads");
    let others = tasks.flatten().filter(|task| Some(task.file_name().as_os_str()) != own.file_name());
    let slept = |task: fs::DirEntry| field(&task.path().join("status"), "voluntary_ctxt_switches:");
    others.filter_map(slept).sum() // a thread that has just ended is left out
}

/// The number in the line `name` of a status file.
fn field(status: &Path, name: &str) -> Option<u64> {
    let status = fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Runs this program with these arguments, and returns the number that it prints.
pub(crate) fn ask_child(what: &str, inputs: u64) -> u64 {
    let program = std::env::current_exe().expect("it is known while it runs");
    let output = Command::new(program).args([what, &inputs.to_string()]).output();
    let output = output.expect("the program runs once more");
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim().parse().unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}
