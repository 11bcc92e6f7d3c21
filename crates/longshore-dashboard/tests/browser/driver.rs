//! [`Driver`]: a `chromedriver` with all that it starts, in a process group and a directory of its own.
//!
//! A killed driver leaves its browsers running. So a shell leads the group. It waits for the end of its
//! input, which is the end of the [`Driver`] or of the test process, however that ends. It then ends the
//! group and removes the directory.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

/// The shell that leads the group. The driver gets no `--silent`, which would hide the line with its port.
const LEADER: &str = r#"
chromedriver --port=0 </dev/null &
read -r _
trap '' TERM
kill -TERM 0
wait
for _ in 1 2 3 4 5 6 7 8 9; do # browsers that are ending still write
    rm -rf "$TMPDIR"
    sleep 0.1
    [ -e "$TMPDIR" ] || break
done
kill -KILL 0
"#;

pub(crate) struct Driver {
    leader: Child,
    port: u16,
    directory: PathBuf,
    /// Held, because the driver dies of a closed pipe.
    _lines: BufReader<std::process::ChildStdout>,
}

impl Driver {
    /// Starts a driver. `None` if there is none on the `PATH`.
    ///
    /// # Panics
    ///
    /// If there is one, and it does not start.
    pub(crate) fn start() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).find(|directory| directory.join("chromedriver").is_file())?;
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("longshore-browser-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory for the browser");
        let mut leader = Command::new("sh")
            .args(["-c", LEADER])
            .env("TMPDIR", &directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let mut lines = BufReader::new(leader.stdout.take().expect("it is piped"));
        let port = port_of(&mut lines).expect("the driver says its port");
        Some(Self { leader, port, directory, _lines: lines })
    }

    /// The address of the driver.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The directory that is removed together with the driver.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

fn port_of(lines: &mut impl BufRead) -> Option<u16> {
    let mut line = String::new();
    while lines.read_line(&mut line).ok()? > 0 {
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            return port.trim().trim_end_matches('.').parse().ok();
        }
        line.clear();
    }
    None
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.leader.stdin.take());
        let _ = self.leader.wait();
        // A browser that was ending may have written once more.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn the_port_is_read_from_what_the_driver_says() {
    let said = "Starting ChromeDriver\nChromeDriver was started successfully on port 41209.\n";
    assert_eq!(port_of(&mut said.as_bytes()), Some(41209));
    assert_eq!(port_of(&mut "error\n".as_bytes()), None);
}
