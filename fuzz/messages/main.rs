//! Makes stories from the fuzzer's bytes. A story has the settings of a function, what its code does at each
//! attempt of each input, and what its users do with it, by method and by message. See [`story`] for its
//! parts.
//!
//! Every story is judged in the same way. No code but the story's own panics, and the engine has no fault.
//! Each accepted input has one outcome, which is its own, in order if the map is ordered. Executions are
//! within their budgets, causes are those that happened, and sums balance. The function ends within seconds,
//! every value is dropped once, and threads end.
//!
//! [`user`] carries out the steps, and [`speech`] the steps that are messages. [`code`] is executed by the
//! containers, and [`judge`] holds the outcomes against the promises. The README in this folder says how to
//! run it.

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

/// The number of threads that may still be about to end when a story has ended.
const THREADS_LEAVING: u64 = 4;

/// Keeps the engine's thread alive over all stories, and returns the number of threads outside any story.
fn threads_kept() -> u64 {
    static KEPT: OnceLock<(App, u64)> = OnceLock::new();
    let (_, threads) = KEPT.get_or_init(|| {
        let_tasks_panic();
        wait::watch();
        actors::arbiter();
        let app = App::ephemeral("kept");
        // It sets a memory limit, because the thread that watches limits stays for good once it is needed.
        let f = app.infallible("f", |n: &u8| *n).containers(1).memory_limit(1 << 20).start();
        let f = f.expect("valid settings");
        assert_eq!(f.call(1).wait().ok(), Some(1));
        (app, wait::threads())
    });
    *threads
}

/// The fuzzer ends the process at each panic that reaches its hook. The panics of spawned tasks reach it by
/// promise, so they are left out. The hook has to be there before the first function starts.
fn let_tasks_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&code::IN_A_TASK) {
            before(panic);
        }
    }));
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
        wait::until("the threads have ended", || wait::threads() <= threads + THREADS_LEAVING);
    });
});
