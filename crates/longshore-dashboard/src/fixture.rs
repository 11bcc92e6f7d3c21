//! For tests: the history of a function that crashes, in virtual time, so that it is the same in each run.

use std::time::Duration;

use longshore::snapshot::FunctionSnapshot;
use longshore::testkit::Stage;
use longshore::{AnyFunction, App, CrashLoopBackoff, Retries};

use crate::history::History;
use crate::json::Head;
use crate::source::Look;

const SECOND: Duration = Duration::from_secs(1);

/// An app, and a handle under which rehearsed snapshots are remembered. Its function is gone, so that no
/// snapshot comes from it.
pub(crate) struct Fixture {
    pub(crate) app: App,
    pub(crate) function: AnyFunction,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let gone = App::ephemeral("gone");
        let running = gone.infallible("gone", |n: &u64| *n).containers(1).start().expect("valid settings");
        let function = gone.functions().remove(0);
        drop(running);
        gone.shutdown_blocking();
        while !function.is_gone() {
            std::thread::yield_now(); // the engine's thread lets go of the function soon
        }
        Self { app: App::deployed("golden"), function }
    }

    /// A look in which the functions are as these snapshots say.
    pub(crate) fn look(&self, now: Duration, functions: Vec<FunctionSnapshot>) -> Look {
        let handle = |it| (self.function.clone(), it);
        Look {
            longshore: "VERSION",
            process: 7,
            started_unix_ms: 1_000_000,
            now_unix_ms: 1_000_000 + u64::try_from(now.as_millis()).expect("it is short"),
            now,
            app: self.app.snapshot().app,
            app_gone: false,
            functions: functions.into_iter().map(handle).collect(),
            ended: Vec::new(),
        }
    }

    /// The history of looks at these snapshots, one a second, and the head of an answer after the last one.
    pub(crate) fn history(&self, snapshots: &[FunctionSnapshot]) -> (Head, History) {
        let mut history = History::default();
        let mut head = None;
        for snapshot in snapshots {
            let mut look = self.look(snapshot.now, vec![snapshot.clone()]);
            history.see(&mut look);
            history.sample(look.now);
            head = Some(Head::of(&look, vec!["kill"]));
        }
        (head.expect("there is a snapshot"), history)
    }
}

/// The snapshots of a function that crashes and fails, one a second.
pub(crate) fn sick() -> Vec<FunctionSnapshot> {
    let policy =
        CrashLoopBackoff::new().initial(10 * SECOND).max(10 * SECOND).reset_after(20 * SECOND).seed(7);
    let f = App::deployed("golden").function("sick", |n: &u64| Ok::<u64, u8>(*n));
    let f = f.containers(2).crash_retries(1).describe(|n| format!("number {n}")).restart(policy);
    let f = f.retries(Retries::new(1).initial_delay(60 * SECOND)).rehearse();
    let f = f.takes(SECOND).always_panics(3).fails(4, 1, || 9);
    let scene = async |stage: &Stage<u64, u64, u8>| {
        let f = stage.function();
        let map = f.map(0..9u64).label("nightly").return_exceptions();
        let reads = futures::StreamExt::for_each(map, async |outcome| drop(outcome));
        let looks = async {
            let mut snapshots = vec![f.snapshot()];
            for _ in 0..14 {
                stage.sleep(SECOND).await;
                snapshots.push(f.snapshot());
            }
            snapshots
        };
        futures::join!(looks, reads).0
    };
    f.play(scene).expect("valid settings").0
}
