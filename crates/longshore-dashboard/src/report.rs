//! The report: the document with its data, as one file that opens without a server.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::Dashboard;
use crate::document::document;
use crate::history::{History, Remembered};
use crate::json::{self, Head};
use crate::text::public_name;

/// The largest report that is a file, in bytes. Browsers open a document of this size at once.
const FILE_MAX: usize = 16 << 20;

/// The report as a document of at most `bytes_max`.
///
/// The worst functions come first, and those that do not fit are counted.
pub(crate) fn report(head: &Head, history: &History, bytes_max: usize) -> String {
    let mut data_max = bytes_max - bytes_max / 8;
    loop {
        let document = document(history, Some(data(head, history, data_max).get()));
        // The data may grow where it is escaped, and the page around it has a size of its own.
        if document.len() <= bytes_max || data_max < 1024 {
            return document;
        }
        data_max /= 2;
    }
}

fn data(head: &Head, history: &History, bytes_max: usize) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Data {
        overview: Box<RawValue>,
        functions: BTreeMap<String, Box<RawValue>>,
        functions_omitted: usize,
    }

    let overview = json::overview(head, history, bytes_max / 2);
    let mut left = bytes_max.saturating_sub(overview.get().len() + 100);
    let mut running: Vec<&Remembered> = history.running.iter().collect();
    running.sort_by_key(|it| std::cmp::Reverse(it.last.health));
    let running = running.into_iter().map(|it| (it, false));
    let ended = history.ended.iter().rev().map(|it| (it, true));
    let mut functions = BTreeMap::new();
    let mut functions_omitted = 0;
    for (function, has_ended) in running.chain(ended) {
        let name = public_name(&function.last.name).into_owned();
        if functions.contains_key(&name) {
            continue; // the name was used again
        }
        // Whether there is room is known beforehand only roughly, and an answer takes a while to make.
        let answer = (functions_omitted == 0).then(|| json::function(head, function, has_ended, left));
        match answer.filter(|answer| answer.get().len() + 2 * name.len() + 4 <= left) {
            Some(answer) => {
                left -= answer.get().len() + 2 * name.len() + 4;
                functions.insert(name, answer);
            }
            None => functions_omitted += 1,
        }
    }
    json::raw(&Data { overview, functions, functions_omitted })
}

/// Writes the report. A reader of the file sees all of it or none.
pub(crate) fn save(dashboard: &Dashboard, path: &Path) -> io::Result<()> {
    let report = dashboard.report(FILE_MAX);
    let mut partial = path.to_owned().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    fs::write(&partial, report)?;
    fs::rename(&partial, path).inspect_err(|_| drop(fs::remove_file(&partial)))
}

/// Saves a report when it is dropped, also by a panic: see [`Dashboard::report_on_drop`].
///
/// If the report cannot be written, a `tracing` event of level `error` says why.
#[must_use = "the report is saved when this is dropped"]
pub struct ReportOnDrop {
    pub(crate) dashboard: Dashboard,
    pub(crate) path: PathBuf,
}

impl Drop for ReportOnDrop {
    fn drop(&mut self) {
        let Self { dashboard, path } = self;
        match save(dashboard, path) {
            Ok(()) => tracing::info!(path = ?path, "saved a report"),
            Err(error) => tracing::error!(path = ?path, %error, "a report could not be saved"),
        }
    }
}

impl fmt::Debug for ReportOnDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportOnDrop").field("path", &self.path).finish_non_exhaustive()
    }
}
