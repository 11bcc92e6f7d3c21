//! The memory of 100 000 inputs that are in flight at once, and sleep. The rival is tokio's `JoinSet`. Each
//! side is a process of its own, and ends while all of its inputs sleep.

use std::convert::Infallible;
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use longshore::App;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::harness::Harness;
use crate::harness::goal::Goal;
use crate::harness::ours::{self, WORKERS};
use crate::harness::question::Measure;
use crate::harness::reading::Reading;
use crate::{heap, two_threads};

const OURS: &str = "--in-flight-at-once";
const JOIN_SET: &str = "--in-a-join-set";

/// The inputs sleep for longer than their process lives.
const SLEEP: Duration = Duration::from_secs(3600);

/// The size of an input with its outcome, which are numbers here.
const VALUES: f64 = 8.0 + 16.0;

/// Takes the part of this program that its arguments ask for. Returns whether they ask for one.
pub(crate) fn is_child() -> bool {
    let mut arguments = std::env::args().skip(1);
    let child = match arguments.next().as_deref() {
        Some(OURS) => in_flight,
        Some(JOIN_SET) => in_a_join_set,
        _ => return false,
    };
    let inputs = arguments.next().and_then(|inputs| inputs.parse().ok()).expect("a number of inputs");
    child(inputs)
}

pub(crate) fn all_at_once(harness: &mut Harness) {
    if heap::allocated().and(heap::resident()).is_none() {
        return;
    }
    let n = harness.inputs(100_000);
    let measures = [
        Measure { name: "heap beside the future", unit: "bytes", goal: Goal::AtMost(150.0) },
        Measure { name: "resident", unit: "bytes", goal: Goal::Shown },
    ];
    harness
        .question("100 000 in flight at once, for each", n)
        .measures(&measures)
        .ours(|| ask(OURS, n))
        .rival("`JoinSet`", &[Goal::Shown, Goal::Times(0.8)], || ask(JOIN_SET, n))
        .ask();
}

/// Runs this program as a child, and returns the two numbers that it prints.
fn ask(what: &str, inputs: u64) -> Reading {
    let begun = Instant::now();
    let program = std::env::current_exe().expect("it is known while it runs");
    let output = Command::new(program).args([what, &inputs.to_string()]).output();
    let output = output.expect("the program runs once more");
    let printed = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = printed.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    assert_eq!(figures.len(), 2, "{}", String::from_utf8_lossy(&output.stderr));
    Reading { took: begun.elapsed(), figures }
}

/// The memory of this process at some moment.
struct Before {
    allocated: f64,
    resident: f64,
}

impl Before {
    fn now() -> Self {
        let [allocated, resident] = [heap::allocated(), heap::resident()].map(|bytes| bytes.expect("Linux"));
        Self { allocated, resident }
    }

    /// Prints by how much the memory has grown for each input: the heap beside the future, the input and the
    /// outcome, and the resident bytes. Ends the process, with all that sleeps in it.
    fn report(&self, inputs: u64, future: usize) -> ! {
        let now = Self::now();
        let heap = (now.allocated - self.allocated) / inputs as f64 - future as f64 - VALUES;
        let resident = (now.resident - self.resident) / inputs as f64;
        println!("{heap} {resident}");
        std::process::exit(0)
    }
}

/// The number of inputs that sleep.
#[derive(Clone, Default)]
struct Asleep(Arc<AtomicU64>);

impl Asleep {
    fn one(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    fn wait_for(&self, inputs: u64) {
        while self.0.load(Ordering::Acquire) < inputs {
            thread::yield_now();
        }
    }
}

fn in_flight(inputs: u64) -> ! {
    let asleep = Asleep::default();
    let falls = asleep.clone();
    let work = async move |n: &u64| {
        let mut sleeps = pin!(sleep(SLEEP));
        _ = futures::poll!(sleeps.as_mut()); // the runtime has its timer now
        falls.one();
        sleeps.await;
        Ok::<u64, Infallible>(*n)
    };
    let future = size_of_val(&work(&0));
    let before = Before::now();
    let app = App::ephemeral("bench");
    let function = app.function_async("bench", work);
    let function = function.concurrent_inputs(inputs as usize / WORKERS);
    let function = ours::start_with(WORKERS, function);
    let mut outcomes = function.map(0..inputs).into_iter();
    thread::spawn(move || outcomes.next().is_some());
    asleep.wait_for(inputs);
    before.report(inputs, future)
}

fn in_a_join_set(inputs: u64) -> ! {
    let asleep = Asleep::default();
    let work = |n: u64| {
        let falls = asleep.clone();
        async move {
            let mut sleeps = pin!(sleep(SLEEP));
            _ = futures::poll!(sleeps.as_mut());
            falls.one();
            sleeps.await;
            n
        }
    };
    let future = size_of_val(&work(0));
    let before = Before::now();
    let runtime = two_threads();
    let mut tasks = JoinSet::new();
    for n in 0..inputs {
        tasks.spawn_on(work(n), runtime.handle());
    }
    asleep.wait_for(inputs);
    before.report(inputs, future)
}
