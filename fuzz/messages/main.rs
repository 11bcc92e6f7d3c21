//! Stories of a function: its settings, what its code does at each attempt of each input, and what its users do
//! with it, by calls and by messages; all from the fuzzer's bytes. See [`story`] for the words.
//!
//! What is judged, whatever the story: no panic but the code's own, no fault of the engine, one outcome for
//! each accepted input and of that input, in order where that was asked for; executions within their budgets; causes that there
//! were; sums that balance; an end within seconds; every value dropped, once; threads that come back.
//!
//! [`user`] carries out the steps and [`speech`] those that are messages, [`code`] is what containers execute,
//! [`judge`] holds what is given against what is promised. The README beside this tells how it is run.

#![no_main]
#![expect(clippy::disallowed_methods, reason = "a fuzz target is bounded by time")]

mod actors;
mod code;
mod held;
mod judge;
mod sources;
mod speech;
mod start;
mod story;
mod user;
mod values;
mod wait;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use longshore::{Accountant, App};

use story::Story;
use user::User;
use values::{World, this_thread_is_a_user};

#[global_allocator]
static ALLOCATOR: Accountant = Accountant::system();

/// Threads that may be on their way out when a story has ended.
const THREADS_LEAVING: u64 = 4;

/// Keeps the engine's thread over all stories, and tells how many threads there are without one.
fn threads_kept() -> u64 {
    static KEPT: OnceLock<(App, u64)> = OnceLock::new();
    let (_, threads) = KEPT.get_or_init(|| {
        wait::watch();
        actors::arbiter();
        let app = App::ephemeral("kept");
        // With a limit, because the watch of limits is there for good once it is needed.
        let f = app.infallible("f", |n: &u8| *n).containers(1).memory_limit(1 << 20).start();
        let f = f.expect("valid settings");
        assert_eq!(f.call(1).wait().ok(), Some(1));
        (app, wait::threads())
    });
    *threads
}

fuzz_target!(|story: Story| {
    this_thread_is_a_user();
    let threads = threads_kept();
    wait::watched(|| {
        let world = World::new(story);
        let app = App::ephemeral("story");
        if let Some(f) = start::start(&app, &world) {
            User::new(world, app, f).live();
        }
        wait::until("the end of threads", || wait::threads() <= threads + THREADS_LEAVING);
    });
});
