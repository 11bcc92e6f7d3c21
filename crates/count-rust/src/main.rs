//! Counts the Rust items below a directory. Containers parse every file with `syn`. With `--chaos` some
//! attempts crash, and the totals are the same as without.
//!
//! ```sh
//! cargo run --release -p count-rust -- --chaos 0.05 --poison 3
//! ```
//!
//! Prints a table of `key  value` rows, and then the names of the files with errors, of the poisoned files
//! and of those that used too much memory. Only `crashes`, `replays`, `restarts`, `files_per_second` and
//! `peak_kib` differ between a run with `--chaos` and one without. A progress bar is drawn if stderr is a
//! terminal.

mod chaos;
mod error;
mod items;
mod options;
mod parse;
mod tally;
mod tree;

use std::process::ExitCode;

use indicatif::ProgressBar;
use longshore::{Accountant, App, Context, RateLimited};
use longshore_dashboard::Dashboard;
use longshore_indicatif::ProgressWith;

use chaos::Chaos;
use error::Error;
use options::Options;
use tally::Tally;
use tree::{SourceFile, Tree};

#[global_allocator]
static ALLOCATOR: Accountant = Accountant::system();

/// `syn` is recursive, and generated code may be nested by the thousand. No container survives an overflow of
/// its stack, so the stack is large. Its address space costs nothing until it is used.
const STACK_BYTES: usize = 64 << 20;

fn main() -> ExitCode {
    if std::env::args_os().any(|argument| argument == "--help") {
        println!("{}", options::USAGE);
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(tally) => {
            print!("{tally}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("count_rust: {}", error::chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

fn run() -> Result<Tally, Error> {
    let options = Options::parse(std::env::args_os().skip(1))?;
    let tree = match &options.directory {
        Some(directory) => Tree::below(directory)?,
        None => Tree::of_dependencies()?,
    };
    let chaos = Chaos::new(&options, &tree.files)?;
    let (tally, report) = App::run_blocking("count_rust", |app| shown(app, &options, tree.files, chaos));
    if !report.is_clean() {
        eprintln!("{report}");
    }
    tally
}

/// Counts the files, and meanwhile shows the app on a page if the user asks for that.
fn shown(app: &App, options: &Options, files: Vec<SourceFile>, chaos: Chaos) -> Result<Tally, Error> {
    if options.dashboard.is_none() && options.report.is_none() {
        return count(app, options, files, chaos);
    }
    let dashboard = Dashboard::of(app);
    let address = options.dashboard.as_deref();
    let page = address.map(|address| dashboard.serve(address)).transpose().map_err(Error::Dashboard)?;
    if let Some(page) = &page {
        eprintln!("count_rust: {} shows the run", page.url());
    }
    let tally = count(app, options, files, chaos);
    // Whatever the run has come to, the report shows it.
    if let Some(path) = &options.report {
        let saved = dashboard.save_report(path);
        saved.map_err(|error| Error::Report { path: path.clone(), error })?;
    }
    tally
}

/// Fans the files out, and adds up their counts.
fn count(app: &App, options: &Options, files: Vec<SourceFile>, chaos: Chaos) -> Result<Tally, Error> {
    let mut builder = app
        .function("parse", move |file: &SourceFile| {
            let counted = parse::parse(&file.path);
            chaos.balloon(file);
            // The strike comes last, so that an attempt that dies loses all of its work.
            let attempt = Context::current().expect("a function runs in a container").attempt();
            chaos.strike(file, attempt);
            counted
        })
        .stack_size(STACK_BYTES)
        .describe(|file| file.name.clone())
        // The user asks for these crashes. The default policy of an ephemeral app would give up in a small
        // directory, where the crashes are many compared with the files.
        .restart(RateLimited::never());
    if let Some(mib) = options.memory_limit {
        builder = builder.memory_limit(mib.saturating_mul(1 << 20));
    }
    if let Some(containers) = options.containers {
        builder = builder.containers(containers);
    }
    let function = builder.start()?;
    let bar = ProgressBar::new(files.len() as u64).with_style(longshore_indicatif::style());
    // Sums do not depend on the order, so no outcome has to wait for its turn.
    let mut map = function.map(files).label("files").return_exceptions().unordered();
    let progress = map.progress_handle();
    let mut tally = Tally::default();
    for outcome in map.progress_with(bar.clone()) {
        match outcome {
            Ok(counts) => tally.count(&counts),
            Err(failure) if failure.is_poisoned() => tally.crashed(failure),
            Err(failure) if failure.error().is_some() => tally.errors.push(failure),
            Err(failure) => return Err(failure.into()),
        }
    }
    tally.finish(progress.get(), &function.status(), bar.elapsed());
    Ok(tally)
}
