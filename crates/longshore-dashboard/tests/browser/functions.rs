//! The functions that the tests show: one for each kind of trouble.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use longshore::{App, BoxError, Call, Context, CrashLoopBackoff, Function, Health, RateLimited, Worker};

pub(crate) type Numbers = Function<u64, u64, Infallible>;

/// A function in which nothing goes wrong. Its containers are 2.
pub(crate) fn healthy(app: &App, name: &str) -> Numbers {
    app.infallible(name, |n: &u64| *n).containers(2).start().expect("valid")
}

/// A function whose only container has `inputs` of up to 64 inputs in flight, until the returned calls are
/// dropped.
pub(crate) fn waiting(app: &App, name: &str, inputs: u64) -> (Numbers, Vec<Call<u64, u64, Infallible>>) {
    let wait =
        app.function_async(name, async |_: &u64| std::future::pending::<Result<u64, Infallible>>().await);
    let wait = wait.containers(1).concurrent_inputs(64).start().expect("valid");
    let calls = (0..inputs).map(|n| wait.call(n)).collect();
    while wait.snapshot().inputs.executing < inputs {
        std::thread::yield_now();
    }
    (wait, calls)
}

/// The message of the crash loop of [`looping`].
pub(crate) const REASON: &str = "the page <b>42</b> has no end";

/// A function in a crash loop: its only container has panicked twice, and comes back in a minute.
pub(crate) fn looping(app: &App, name: &str) -> Numbers {
    let minute = Duration::from_secs(60);
    let policy = CrashLoopBackoff::new().initial(minute).max(minute).reset_after(2 * minute);
    let sick = app.infallible(name, |n: &u64| if *n < 9 { panic!("{REASON}") } else { *n });
    let sick = sick.containers(1).crash_retries(0).restart(policy).start().expect("valid");
    for n in 1..=2 {
        assert!(sick.call(n).wait().is_err());
    }
    assert_eq!(sick.snapshot().health, Health::CrashLoop);
    sick
}

/// A worker that cannot enter, because a service that it needs is down.
pub(crate) struct Parser;

impl Worker for Parser {
    type Input = String;
    type Output = usize;
    type Error = Infallible;

    fn call(&mut self, page: &String, _: &Context) -> Result<usize, Infallible> {
        Ok(page.len())
    }
}

/// A worker whose containers fail in `enter`, and come back ever more slowly.
pub(crate) fn without_registry(
    app: &App,
    name: &str,
    initial: Duration,
) -> Function<String, usize, Infallible> {
    let policy = CrashLoopBackoff::new().initial(initial).max(60 * initial).reset_after(120 * initial);
    let refused = "the schema registry refuses the connection (registry:8081)";
    let enter = move |_: &Context| Err::<Parser, BoxError>(refused.into());
    app.worker(name, enter).containers(4).restart(policy).start().expect("valid")
}

/// A function that has given up.
pub(crate) fn given_up(app: &App, name: &str) -> Numbers {
    let policy = RateLimited::new().max_crashes(1).max_failure_rate(0.1);
    let sick = app.infallible(name, |n: &u64| if *n < 9 { panic!("index {n} is out of bounds") } else { *n });
    let sick = sick.containers(1).crash_retries(0).restart(policy).start().expect("valid");
    while sick.snapshot().health != Health::GaveUp {
        assert!(sick.call(1).wait().is_err());
    }
    sick
}

/// A function whose containers are 2 and whose inputs from 9 on get stuck until the sender of the returned
/// channel is dropped. An attempt may take 30 ms, and one thread may be left behind.
pub(crate) fn sticking(app: &App, name: &str) -> (Numbers, Sender<()>) {
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let sticky = app.infallible(name, move |n: &u64| {
        if *n >= 9 {
            drop(held.lock().map(|held| held.recv()));
        }
        *n
    });
    let sticky = sticky.containers(2).timeout(Duration::from_millis(30)).abandoned_max(1).calls_max(8);
    (sticky.restart(RateLimited::never()).start().expect("valid"), release)
}

/// A function whose inputs fill memory: input `n` allocates `n` MiB. A container may use 32 MiB.
pub(crate) fn hungry(app: &App, name: &str) -> Numbers {
    let hungry = app.infallible(name, |n: &u64| {
        let mut blocks = Vec::new();
        for _ in 0..*n * 16 {
            Context::checkpoint();
            blocks.push(vec![1_u8; 1 << 16]);
        }
        blocks.len() as u64
    });
    hungry.containers(4).memory_limit(32 << 20).crash_retries(1).start().expect("valid")
}
