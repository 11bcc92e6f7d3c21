//! Async functions and workers: what works inside a container, when futures are dropped, and that each panic
//! is contained.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::pending;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use longshore::{
    App, AsyncWorker, BoxError, Cause, ContainerId, Context, Death, Fate, Function, RateLimited, Report,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{spawn_local, yield_now};

use crate::support::{
    Bomb, Counted, Gate, Started, async_numbers_under, attempt, bombs, crash, under_each_policy, unhung,
    until,
};

const FIRST: ContainerId = ContainerId::new(0);

type Doubles = Function<u64, u64, &'static str>;

/// Doubles its input, but fails at 13. The first attempt at 0 waits for ever, and holds a value.
fn doubles<V: 'static>(
    hold: impl Fn() -> V + Send + Sync + 'static,
    begun: &Gate,
) -> impl AsyncFn(&u64) -> Result<u64, &'static str> + Send + Sync + 'static {
    let begun = begun.clone();
    async move |n: &u64| {
        if *n == 0 && attempt() == 1 {
            let _held = hold();
            let begun = begun.clone();
            // A second task opens the gate, because it runs only once this one waits.
            spawn_local(async move { begun.open() });
            pending::<()>().await;
        }
        yield_now().await;
        if *n == 13 { Err("unlucky") } else { Ok(n * 2) }
    }
}

fn counted() -> (Arc<AtomicU64>, impl Fn() -> Counted + Send + Sync + 'static) {
    let drops = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&drops);
    (drops, move || Counted(Arc::clone(&count)))
}

/// The ways to end the attempt at input 0 while its container waits in it.
const WAYS: [fn(&Doubles, &Gate); 5] = [
    |f, begun| {
        let call = f.call(0);
        begun.pass();
        drop(call);
    },
    |f, begun| {
        let mut outcomes = f.map([1, 0, 0, 0]).into_iter();
        assert_eq!(outcomes.next().and_then(Result::ok), Some(2));
        begun.pass();
        drop(outcomes);
    },
    |f, begun| {
        let mut map = f.map_stream(stream::iter([0, 1, 2, 3]));
        assert!(map.next().now_or_never().is_none());
        begun.pass();
        drop(map);
    },
    |f, begun| {
        let mut map = f.map(vec![0, 1, 2, 3]);
        assert!(map.next().now_or_never().is_none());
        begun.pass();
        map.abort_handle().abort();
        let failure = map.into_iter().next().expect("the error").expect_err("it is aborted");
        assert!(matches!(failure.cause(), Cause::Cancelled), "{failure:?}");
    },
    |f, begun| {
        let call = f.call(0);
        begun.pass();
        assert!(f.kill_container(FIRST));
        assert_eq!(call.wait().ok(), Some(0), "it is replayed");
    },
];

#[test]
fn the_future_of_a_cancelled_or_killed_attempt_is_dropped_at_once_and_frees_its_container() {
    for way in WAYS {
        under_each_policy(move |app, policy| {
            let ((drops, hold), begun) = (counted(), Gate::default());
            let f = app.function_async("f", doubles(hold, &begun)).containers(1).restart(policy).started();
            way(&f, &begun);
            assert_eq!(f.call(4).wait().expect("the container is free"), 8);
            until("the future is dropped", || drops.load(Ordering::SeqCst) == 1);
            until("no abandoned thread is left", || f.status().containers.abandoned == 0);
            let status = f.status();
            assert_eq!(status.crashes, 0, "crashes");
            assert_eq!(status.late_answers, 0, "late answers");
            assert_eq!(status.inputs_waiting, 0, "waiting inputs");
        });
    }
}

#[test]
fn the_future_of_a_cancelled_or_killed_attempt_that_panics_in_its_drop_is_no_crash() {
    for way in WAYS {
        under_each_policy(move |app, policy| {
            let ((drops, bomb), begun) = (bombs(), Gate::default());
            let f = app.function_async("f", doubles(bomb, &begun)).containers(1).restart(policy).started();
            way(&f, &begun);
            assert_eq!(f.call(4).wait().expect("the container is free"), 8);
            until("the future is dropped", || drops.load(Ordering::SeqCst) == 1);
            until("no abandoned thread is left", || f.status().containers.abandoned == 0);
            assert_eq!(f.status().crashes, 0);
        });
    }
}

#[test]
fn the_first_failure_of_a_map_drops_the_futures_that_wait() {
    under_each_policy(|app, policy| {
        let ((drops, hold), begun) = (counted(), Gate::default());
        let f = app.function_async("f", doubles(hold, &begun)).containers(2).restart(policy).started();
        let told = begun.clone();
        let inputs = [0, 13].into_iter().inspect(move |n| {
            if *n == 13 {
                told.pass();
            }
        });
        let failure = f.map(inputs).into_iter().next().expect("the failure").expect_err("13 fails");
        assert_eq!(failure.index(), Some(1), "index");
        assert_eq!(failure.error(), Some(&"unlucky"), "error");
        until("the future is dropped", || drops.load(Ordering::SeqCst) == 1);
        until("both containers answer calls", || f.call(1).wait().is_ok() && f.call(2).wait().is_ok());
        assert_eq!(f.status().crashes, 0);
    });
}

#[test]
fn giving_up_drops_the_futures_that_wait_and_their_inputs_come_back() {
    unhung(|| {
        let app = App::ephemeral("give up");
        let (drops, hold) = counted();
        let begun = Gate::default();
        let waits = doubles(hold, &begun);
        let f = app
            .function_async("f", async move |n: &u64| if *n == 666 { crash() } else { waits(n).await })
            .containers(2)
            .restart(RateLimited::new().max_crashes(0).max_failure_rate(0.0))
            .started();
        let call = f.call(0);
        begun.pass();
        assert!(f.call(666).wait().is_err());
        let failure = call.wait().expect_err("the function gave up");
        assert!(failure.is_given_up());
        assert_eq!(failure.input(), Some(&0), "input");
        assert_eq!(failure.attempts(), 1, "attempts");
        until("the future is dropped", || drops.load(Ordering::SeqCst) == 1);
    });
}

#[test]
fn an_abort_drops_the_futures_that_wait_and_reports_their_containers_as_cut_off() {
    let ways: [fn(App) -> Report; 2] = [App::abort, |app| app.shutdown_within(Duration::from_millis(10))];
    for end in ways {
        under_each_policy(move |_, policy| {
            let app = App::ephemeral("abort");
            let ((drops, hold), begun) = (counted(), Gate::default());
            let f = app.function_async("f", doubles(hold, &begun)).containers(2).restart(policy).started();
            until("both containers live", || f.status().containers.live == 2);
            let call = f.call(0);
            begun.pass();
            let report = end(app);
            let failure = call.wait().expect_err("aborted");
            assert!(failure.is_shut_down(), "the cause is the shutdown");
            assert_eq!(failure.input(), Some(&0), "input");
            assert_eq!(failure.attempts(), 1, "attempts");
            let fates: Vec<_> = report.functions[0].containers.iter().map(|(_, fate)| fate).collect();
            assert_eq!(fates.iter().filter(|fate| **fate == &Fate::CutOff).count(), 1, "{report}");
            assert_eq!(fates.iter().filter(|fate| fate.is_clean()).count(), 1, "{report}");
            assert_eq!(report.functions[0].threads_running, 0, "running threads");
            assert_eq!(drops.load(Ordering::SeqCst), 1, "drops");
            assert!(!report.is_clean());
        });
    }
}

#[test]
fn an_abort_does_not_wait_for_an_async_function_that_blocks_its_thread() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("abort");
        let (begun, gate) = (Gate::default(), Gate::default());
        let (told, inside) = (begun.clone(), gate.clone());
        let f = async_numbers_under(policy, &app, 1, async move |n| {
            yield_now().await;
            told.open();
            inside.pass();
            *n
        });
        let call = f.call(0);
        begun.pass();
        let report = app.abort();
        assert!(call.wait().expect_err("aborted").is_shut_down());
        assert_eq!(report.functions[0].containers[0].1, Fate::StillRunning, "{report}");
        gate.open();
        until("the abandoned thread ends", || f.status().containers.abandoned == 0);
    });
}

/// An async worker with a state whose drops a test can count, and with an `exit` that ends as `exits` says.
struct Moody<V> {
    _state: V,
    exits: Exits,
}

#[derive(Clone, Copy)]
enum Exits {
    AfterAwhile,
    Panics,
    Never,
}

impl<V: 'static> AsyncWorker for Moody<V> {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    async fn call(&mut self, input: &u64, context: &Context) -> Result<u64, Infallible> {
        yield_now().await;
        if *input == 5 && context.attempt().get() == 1 {
            crash();
        }
        Ok(*input)
    }

    async fn exit(self, _: &Context) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        match self.exits {
            Exits::AfterAwhile => {}
            Exits::Panics => crash(),
            Exits::Never => pending().await,
        }
    }
}

#[test]
fn a_worker_that_panics_in_its_drop_is_no_crash() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("states");
        let (drops, bomb) = bombs();
        let enter = async move |_: &Context| {
            yield_now().await;
            Ok::<_, BoxError>(Moody::<Bomb> { _state: bomb(), exits: Exits::AfterAwhile })
        };
        let f = app.worker_async("f", enter).containers(1).restart(policy).started();
        assert_eq!(f.run((0..20).collect()).expect("replayed").len(), 20);
        assert_eq!(drops.load(Ordering::SeqCst), 1, "drops of the first generation");
        assert_eq!(f.status().crashes, 1, "crashes");
        assert!(f.kill_container(FIRST));
        until("the second generation has dropped its values", || drops.load(Ordering::SeqCst) == 2);
        assert_eq!(f.call(1).wait().ok(), Some(1), "a call is answered");
        assert_eq!(f.status().crashes, 1, "crashes");
        let report = app.shutdown_blocking();
        assert_eq!(drops.load(Ordering::SeqCst), 3, "the third generation drops its state in its exit");
        assert!(matches!(report.functions[0].containers[0].1, Fate::ExitPanicked(_)), "{report}");
        assert_eq!(report.functions[0].threads_running, 0);
    });
}

#[test]
fn an_async_exit_may_await_or_panic_or_hang_and_its_fate_is_reported() {
    under_each_policy(|_, policy| {
        for exits in [Exits::AfterAwhile, Exits::Panics, Exits::Never] {
            let app = App::ephemeral("exits");
            let (drops, hold) = counted();
            let enter = async move |_: &Context| Ok::<_, BoxError>(Moody { _state: hold(), exits });
            let f = app
                .worker_async("f", enter)
                .containers(1)
                .exit_timeout(Duration::from_millis(50))
                .restart(policy.clone())
                .started();
            f.ready().expect("it starts");
            let report = app.shutdown_blocking();
            match (exits, &report.functions[0].containers[0].1) {
                (Exits::AfterAwhile, Fate::Exited) => assert!(report.is_clean()),
                (Exits::Panics, Fate::ExitPanicked(panic)) => {
                    assert_eq!(panic.message(), "a crash on purpose");
                    assert!(panic.location().is_some_and(|at| at.contains("support.rs")), "{panic}");
                }
                (Exits::Never, Fate::ExitTimedOut) => {}
                _ => panic!("{report}"),
            }
            assert_eq!(f.status().crashes, 0);
            until("the state is dropped", || drops.load(Ordering::SeqCst) == 1);
        }
    });
}

#[test]
fn an_async_enter_may_await_and_its_panic_is_a_crash_with_message_and_location() {
    under_each_policy(|app, policy| {
        let enter = async |context: &Context| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if context.generation().get() < 3 {
                crash();
            }
            Ok::<_, BoxError>(Moody { _state: (), exits: Exits::AfterAwhile })
        };
        let f = app.worker_async("f", enter).containers(1).restart(policy).started();
        assert_eq!(f.call(1).wait().expect("the third generation"), 1);
        let (_, last) = f.status().last_crash.expect("two of them");
        assert_eq!(f.status().crashes, 2, "crashes");
        assert_eq!(last.generation.get(), 2, "generation of the last crash");
        let Death::EnterPanicked(panic) = &last.death else { panic!("{last}") };
        assert_eq!(panic.message(), "a crash on purpose");
        assert!(panic.location().is_some_and(|at| at.contains("support.rs")), "{panic:?}");
    });
}

#[test]
fn an_enter_that_waits_is_dropped_when_its_container_is_killed_or_its_function_ends() {
    type Way = fn(App, &Function<u64, u64, Infallible>) -> Report;
    let ways: [(Way, Fate); 3] = [
        (
            |app, f| {
                assert!(f.kill_container(FIRST));
                assert_eq!(f.call(1).wait().expect("the second generation enters"), 1);
                app.shutdown_blocking()
            },
            Fate::Exited,
        ),
        (|app, _| app.abort(), Fate::CutOff),
        (|app, _| app.stop_within(Duration::from_millis(5)), Fate::CutOff),
    ];
    for (way, fate) in ways {
        under_each_policy(move |_, policy| {
            let app = App::ephemeral("enters");
            let ((drops, hold), begun) = (counted(), Gate::default());
            let told = begun.clone();
            let enter = async move |context: &Context| {
                let state = hold();
                if context.generation().get() == 1 {
                    let told = told.clone();
                    spawn_local(async move { told.open() }); // runs once this task waits
                    pending::<()>().await;
                }
                Ok::<_, BoxError>(Moody { _state: state, exits: Exits::AfterAwhile })
            };
            let f = app.worker_async("f", enter).containers(1).restart(policy).started();
            begun.pass();
            let report = way(app, &f);
            assert_eq!(&report.functions[0].containers[0].1, &fate, "fate: {report}");
            assert_eq!(report.functions[0].threads_running, 0, "running threads: {report}");
            assert!(drops.load(Ordering::SeqCst) >= 1, "what it held is dropped");
            assert_eq!(f.status().crashes, 0);
        });
    }
}

#[test]
fn spawned_tasks_that_panic_or_panic_in_their_drop_are_no_crash() {
    under_each_policy(|app, policy| {
        let (drops, bomb) = bombs();
        let f = async_numbers_under(policy, app, 1, async move |n| {
            let bomb = bomb();
            spawn_local(async move {
                let _held = bomb;
                pending::<()>().await;
            });
            let ended = spawn_local(async { crash() }).await;
            assert!(ended.is_err_and(|error| error.is_panic()));
            if *n == 3 && attempt() == 1 {
                crash();
            }
            *n
        });
        assert_eq!(f.run((0..6).collect()).expect("replayed").len(), 6);
        assert_eq!(drops.load(Ordering::SeqCst), 4, "drops of the first generation");
        assert_eq!(f.status().crashes, 1, "crashes");
        assert!(f.kill_container(FIRST));
        until("the second generation has dropped its values", || drops.load(Ordering::SeqCst) == 7);
        assert_eq!(f.status().crashes, 1);
    });
}

/// A worker that answers its inputs through a socket of its own. The socket goes on listening while the
/// container is idle.
struct Harbour {
    port: u16,
    /// The number of served connections. It is not `Send`, and so the task that shares it is not `Send`
    /// either.
    served: Rc<Cell<u32>>,
}

impl Harbour {
    async fn open(tasks: Arc<AtomicU64>) -> Result<Self, BoxError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (port, served) = (listener.local_addr()?.port(), Rc::new(Cell::new(0)));
        let (count, witness) = (Rc::clone(&served), Counted(Arc::clone(&tasks)));
        spawn_local(async move {
            let _witness = witness;
            while let Ok((mut ship, _)) = listener.accept().await {
                count.set(count.get() + 1);
                let mut cargo = [0];
                while ship.read_exact(&mut cargo).await.is_ok() {
                    ship.write_all(&[cargo[0] + 1]).await.expect("the other end listens");
                }
            }
        });
        let witness = Counted(tasks);
        tokio::spawn(async move {
            let _witness = witness;
            pending::<()>().await;
        });
        Ok(Self { port, served })
    }
}

impl AsyncWorker for Harbour {
    type Input = u8;
    type Output = (u8, u16, u32);
    type Error = std::io::Error;

    async fn call(&mut self, input: &u8, context: &Context) -> Result<Self::Output, Self::Error> {
        let mut ship = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        ship.write_all(&[*input]).await?;
        let answer = tokio::time::timeout(Duration::from_secs(30), ship.read_u8()).await??;
        if *input == 13 && context.attempt().get() == 1 {
            crash();
        }
        // The answer is moved to another task and back.
        let doubled = tokio::spawn(async move { answer * 2 }).await.expect("it does not panic");
        Ok((doubled, self.port, self.served.get()))
    }
}

#[test]
fn timers_tasks_and_sockets_work_and_go_on_while_the_container_is_idle() {
    under_each_policy(|app, policy| {
        let ended = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&ended);
        let enter = async move |_: &Context| Harbour::open(Arc::clone(&count)).await;
        let f = app.worker_async("f", enter).containers(1).restart(policy).started();
        let (answer, port, served) = f.call(20).wait().expect("it answers");
        assert_eq!(answer, 42, "answer");
        assert_eq!(served, 1, "served connections");
        // The container is idle now.
        let mut ship = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        ship.write_all(&[7]).expect("it reads");
        let mut answer = [0];
        ship.read_exact(&mut answer).expect("it answers");
        assert_eq!(answer, [8]);
        drop(ship);
        let (_, _, served) = f.call(1).wait().expect("it answers");
        assert_eq!(served, 3, "served connections");
        assert_eq!(ended.load(Ordering::SeqCst), 0, "ended tasks");
    });
}

#[test]
fn tasks_that_a_generation_has_spawned_are_dropped_with_it() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("spawned");
        let ended = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&ended);
        let enter = async move |_: &Context| Harbour::open(Arc::clone(&count)).await;
        let f = app.worker_async("f", enter).containers(1).restart(policy).started();
        let (_, first, _) = f.call(1).wait().expect("it answers");
        let (_, second, served) = f.call(13).wait().expect("it is replayed");
        assert_eq!(served, 1, "a fresh generation has served one connection");
        assert_eq!(ended.load(Ordering::SeqCst), 2, "both tasks of the first generation have ended");
        assert_ne!(first, second);
        assert!(
            TcpStream::connect((Ipv4Addr::LOCALHOST, first)).is_err(),
            "the socket of the first generation is closed"
        );
        assert!(f.kill_container(FIRST));
        until("both tasks of the second generation have ended", || ended.load(Ordering::SeqCst) == 4);
        f.call(1).wait().expect("it answers");
        assert!(app.shutdown_blocking().is_clean());
        assert_eq!(ended.load(Ordering::SeqCst), 6);
    });
}

#[test]
fn futures_need_not_be_send() {
    under_each_policy(|app, policy| {
        let f = async_numbers_under(policy, app, 2, async |n| {
            let shared = Rc::new(Cell::new(*n));
            let other = Rc::clone(&shared);
            spawn_local(async move { other.set(other.get() + 1) }).await.expect("it does not panic");
            yield_now().await;
            shared.get()
        });
        assert_eq!(f.run((0..500).collect()).expect("infallible"), (1..=500).collect::<Vec<_>>());
    });
}

#[test]
fn all_containers_execute_a_function_that_only_waits_at_once() {
    under_each_policy(|app, policy| {
        let (here, all) = (Arc::new(AtomicU64::new(0)), Gate::default());
        let (count, gate) = (Arc::clone(&here), all.clone());
        let f = async_numbers_under(policy, app, 4, async move |n| {
            if count.fetch_add(1, Ordering::SeqCst) == 3 {
                gate.open();
            }
            gate.passed().await;
            *n
        });
        assert_eq!(f.run((0..100).collect()).expect("infallible").len(), 100);
        assert_eq!(here.load(Ordering::SeqCst), 100);
    });
}
