//! Sandboxes that a process enters after its functions have started, and that refuse system calls which were
//! allowed before.
//!
//! This is a binary of its own, and each test runs in a process of its own, because a process can never leave
//! its sandbox.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::panic;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use longshore::{App, Cause, ContainerId, Failure, Function, RateLimited};

/// The environment variable that is set in the child process of a test.
const INSIDE: &str = "LONGSHORE_INSIDE_THE_SANDBOX";

/// Runs the body of the test `test` in a process of its own, and fails unless that process ends well.
fn in_a_process_of_its_own(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let this = std::env::current_exe().expect("the test runs");
    let output = Command::new(this).args([test, "--exact", "--nocapture"]).env(INSIDE, "yes").output();
    let output = output.expect("a process can be made");
    let told = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{told}\n{complaints}", output.status);
    assert!(told.contains("1 passed"), "the test has run:\n{told}");
}

/// The operation that a sandbox refuses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refuses {
    /// `membarrier`, the barrier for all threads of the process.
    Barrier,
    /// `membarrier`, and the call that makes a single page read-only.
    BarrierAndPage,
}

/// One step of a filter.
#[repr(C)]
struct Step {
    code: u16,
    if_so: u8,
    if_not: u8,
    value: u32,
}

/// A filter in the layout of the system call.
#[repr(C)]
struct Filter {
    len: u16,
    steps: *const Step,
}

/// Puts all threads of this process into a sandbox.
#[expect(unsafe_code, reason = "system calls without a safe wrapper")]
fn enter_sandbox(refuses: Refuses) {
    const LOAD: u16 = 0x20;
    const IS: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const REFUSED: u32 = 0x0005_0000 | libc::EPERM as u32;
    const ALLOWED: u32 = 0x7fff_0000;
    const ALL_THREADS: libc::c_ulong = 1;
    // The offsets, in the data of a filter, of the number of the call, and of the lower halves of its second
    // and third arguments.
    const NUMBER: u32 = 0;
    const LENGTH: u32 = 24;
    const RIGHTS: u32 = 32;
    let step = |code, if_so, if_not, value| Step { code, if_so, if_not, value };
    let page = if refuses == Refuses::BarrierAndPage { libc::SYS_mprotect } else { -1 };
    let steps = [
        step(LOAD, 0, 0, NUMBER),
        step(IS, 5, 0, libc::SYS_membarrier as u32),
        step(IS, 0, 5, page as u32),
        step(LOAD, 0, 0, LENGTH),
        step(IS, 0, 3, 4096),
        step(LOAD, 0, 0, RIGHTS),
        step(IS, 0, 1, libc::PROT_READ as u32),
        step(RETURN, 0, 0, REFUSED),
        step(RETURN, 0, 0, ALLOWED),
    ];
    let filter = Filter { len: steps.len() as u16, steps: steps.as_ptr() };
    // SAFETY: the call takes only numbers.
    let bound = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the filter and its steps are values of this frame, which the call only reads.
    let entered = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, ALL_THREADS, &raw const filter)
    };
    assert_eq!(entered, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the call takes no pointer.
    let barrier = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_QUERY, 0, 0) };
    assert_eq!(barrier, -1, "the sandbox holds");
}

/// A door at which code waits until it is opened.
#[derive(Clone, Default)]
struct Door(Arc<(Mutex<bool>, Condvar)>);

impl Door {
    fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let shut = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(shut, |open| !*open).unwrap_or_else(PoisonError::into_inner));
    }
}

/// Waits until a condition holds. `what` is the condition as a sentence.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if holds() {
            return;
        }
        std::thread::park_timeout(Duration::from_micros(200));
    }
    panic!("{what} did not come about");
}

fn is_engine<I, E>(failure: &Failure<I, E>) -> bool {
    matches!(failure.cause(), Cause::Engine(_))
}

/// A function of two containers. Input 0 sets the flag and waits at the door, and all other inputs return at
/// once.
fn porter(app: &App, name: &str) -> (Function<u64, u64, std::convert::Infallible>, Door, Arc<AtomicBool>) {
    let (door, waits) = (Door::default(), Arc::new(AtomicBool::new(false)));
    let (shut, tells) = (door.clone(), Arc::clone(&waits));
    let f = app.infallible(name, move |n: &u64| {
        if *n == 0 {
            tells.store(true, Ordering::SeqCst);
            shut.pass();
        }
        n + 1
    });
    let f = f.containers(2).restart(RateLimited::never()).start().expect("valid");
    assert_eq!(f.run((1..100).collect()).expect("nothing fails"), Vec::from_iter(2..101));
    (f, door, waits)
}

/// Whether this kind of processor has another way to make a barrier, as far as a process can see.
fn has_other_means() -> bool {
    let known = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cfg!(target_arch = "x86_64") && !known.contains("invlpgb")
}

#[test]
fn a_sandbox_that_refuses_the_barrier_changes_nothing_or_is_reported_as_a_fault_of_the_engine() {
    in_a_process_of_its_own(
        "a_sandbox_that_refuses_the_barrier_changes_nothing_or_is_reported_as_a_fault_of_the_engine",
        || {
            let app = App::ephemeral("sandboxed");
            let (f, door, waits) = porter(&app, "f");
            let executions = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&executions);
            let g = app.function_async("g", async move |n: &u64| {
                counted.fetch_add(1, Ordering::SeqCst);
                if *n % 100 == 99 {
                    std::future::pending::<()>().await; // until its map is dropped
                }
                Ok::<u64, String>(n + 1)
            });
            let g = g.containers(2).start().expect("valid");
            assert_eq!(g.run((0..50).collect()).expect("nothing fails").len(), 50);
            // The feeder of this map, and one of its inputs, are under way when the process enters the
            // sandbox.
            let (send, receive) = mpsc::channel();
            let mut fed = f.map(receive).into_iter();
            send.send(1).expect("a feeder pulls it");
            assert_eq!(fed.next().expect("the outcome comes").expect("nothing fails"), 2);
            send.send(0).expect("a feeder pulls it");
            until("input 0 executes", || waits.load(Ordering::SeqCst));
            enter_sandbox(Refuses::Barrier);
            drop(fed); // fences the executing run, and closes the pool
            drop(send);
            let mut failures: Vec<bool> = Vec::new();
            for round in 0..200 {
                // This cancels executing runs, and meanwhile kills a container.
                let mut map = f.map(1..100_000u64).into_iter();
                let mut waiting = g.map(0..1_000u64).into_iter();
                for n in 0..20 {
                    match map.next().expect("there are more") {
                        Ok(outcome) => assert_eq!(outcome, n + 2),
                        Err(failure) => failures.push(is_engine(&failure)),
                    }
                    match waiting.next().expect("there are more") {
                        Ok(outcome) => assert_eq!(outcome, n + 1),
                        Err(failure) => failures.push(is_engine(&failure)),
                    }
                    if !failures.is_empty() {
                        break;
                    }
                }
                f.kill_container(ContainerId::new(round % 2));
                drop((map, waiting));
                let outcomes = f.run_all((1..1_000).collect());
                assert_eq!(outcomes.len(), 999);
                for (outcome, n) in outcomes.iter().zip(1..) {
                    match outcome {
                        Ok(outcome) => assert_eq!(*outcome, n + 1),
                        Err(failure) => failures.push(is_engine(failure)),
                    }
                }
            }
            assert!(failures.iter().all(|is_engine| *is_engine));
            assert!(
                failures.is_empty() || !has_other_means(),
                "the function goes on if there is another barrier"
            );
            assert!(executions.load(Ordering::SeqCst) > 0);
            door.open();
            until("the abandoned thread returns", || f.status().containers.abandoned == 0);
            let report = app.shutdown_within(Duration::from_secs(30));
            assert!(report.is_clean() || !failures.is_empty(), "{report:?}");
        },
    );
}

#[test]
fn without_any_barrier_the_function_breaks_down_and_the_process_lives() {
    in_a_process_of_its_own("without_any_barrier_the_function_breaks_down_and_the_process_lives", || {
        let app = App::ephemeral("sandboxed");
        let functions = ["dropped", "unwound", "killed", "aborted", "fed"].map(|name| porter(&app, name));
        let [dropped, unwound, killed, aborted, fed] = functions;
        let begin = |(f, _, waits): &(Function<u64, u64, _>, Door, Arc<AtomicBool>)| {
            let mut map = f.map(vec![7, 0, 8]).into_iter();
            assert_eq!(map.next().expect("the outcome comes").expect("nothing fails"), 8);
            until("input 0 executes", || waits.load(Ordering::SeqCst));
            map
        };
        let maps = [&dropped, &unwound, &killed, &aborted].map(begin);
        let [of_dropped, of_unwound, mut of_killed, mut of_aborted] = maps;
        let (send, receive) = mpsc::channel();
        let mut of_fed = fed.0.map(receive).into_iter();
        send.send(1).expect("a feeder pulls it");
        assert_eq!(of_fed.next().expect("the outcome comes").expect("nothing fails"), 2);
        let waiting = dropped.0.call(0);
        enter_sandbox(Refuses::BarrierAndPage);

        drop(of_dropped);
        let failure = dropped.0.call(1).wait().expect_err("the function is broken");
        assert!(is_engine(&failure), "{failure}");
        assert!(is_engine(&waiting.wait().expect_err("the function is broken")));
        // A second panic on this unwinding thread would abort the process.
        let unwinds = std::thread::spawn(move || {
            let _map = of_unwound;
            panic::resume_unwind(Box::new("on purpose"));
        });
        assert!(unwinds.join().is_err());
        assert!(is_engine(&unwound.0.call(1).wait().expect_err("the function is broken")));
        (0..2).for_each(|id| _ = killed.0.kill_container(ContainerId::new(id)));
        assert!(is_engine(
            &of_killed.next().expect("the map yields its error").expect_err("the function is broken")
        ));
        assert!(of_killed.next().is_none(), "once");
        drop(of_fed); // closes the pool of its feeder
        drop(send);
        assert!(is_engine(&fed.0.call(1).wait().expect_err("the function is broken")));
        aborted.0.abort();
        assert!(is_engine(
            &of_aborted.next().expect("the map yields its error").expect_err("the function is broken")
        ));

        // A function that starts now knows that there is no barrier. It uses full fences, and can be
        // cancelled as usual.
        let after = porter(&app, "after");
        let of_after = begin(&after);
        drop(of_after);
        assert!(after.0.kill_container(ContainerId::new(0)));
        assert_eq!(after.0.call(3).wait().expect("it goes on"), 4);

        for (_, door, _) in [&dropped, &unwound, &killed, &aborted, &fed, &after] {
            door.open();
        }
        let report = app.shutdown_within(Duration::from_secs(30));
        assert_eq!(report.functions.len(), 6, "{report}");
    });
}
