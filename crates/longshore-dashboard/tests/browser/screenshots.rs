//! The pictures of the README. They are written only if `LONGSHORE_SCREENSHOTS` names a directory.

use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs};

use longshore::App;
use longshore_dashboard::{Actions, Dashboard};

use crate::browser::{Browser, browse};
use crate::functions::{healthy, hungry, without_registry};

/// The largest picture, in bytes, because the repository holds them.
const BYTES_MAX: usize = 150_000;

fn directory() -> Option<PathBuf> {
    let directory = env::var_os("LONGSHORE_SCREENSHOTS").map(PathBuf::from);
    if directory.is_none() {
        eprintln!("skipped: LONGSHORE_SCREENSHOTS names no directory");
    }
    directory
}

async fn shoot(browser: &Browser, name: &str) {
    let Some(directory) = directory() else { return };
    let picture = browser.client.screenshot().await.expect("a picture");
    assert!(picture.len() < BYTES_MAX, "{name} has {} bytes", picture.len());
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join(name).with_extension("png"), picture).expect("it is written");
}
