//! The function as an actor: calls, maps and events as messages.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use actix::prelude::*;
use longshore::actor::{
    Batch, CallInput, CancelMap, Demand, Ending, GetProgress, GetStatus, Happened, KillContainer, Reserve,
    Reset, Shutdown, StartMap, Subscribe, TryReserve,
};
use longshore::{
    App, Cause, ContainerId, CrashLoopBackoff, Event, Function, RateLimited, ReserveError, RestartPolicy,
    Worker,
};

use crate::support::{Gate, Started, attempt, crash, policies, unhung, until};

type Square = Function<u64, u64, Infallible>;

/// Runs a test inside an actix system of its own, under each policy.
pub(crate) fn in_a_system<F: Future<Output = ()>>(test: impl Fn(RestartPolicy) -> F + Send + Sync + 'static) {
    let test = Arc::new(test);
    for policy in policies() {
        let test = Arc::clone(&test);
        unhung(move || System::new().block_on(test(policy)));
    }
}

/// Waits until a condition holds, without blocking the thread of the actix system. `what` is the condition as
/// a sentence.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "this never came true: {what}");
        tokio::task::yield_now().await;
    }
}

fn square(app: &App, policy: RestartPolicy) -> Square {
    let f = app.infallible("square", |n: &u64| if *n % 10 == 7 && attempt() == 1 { crash() } else { n * n });
    f.containers(2).restart(policy).started()
}

/// Answers a batch with this number of outputs.
type Answer = Box<dyn FnMut(usize) -> Demand>;

/// Takes batches, sends the outputs of each to the test, and answers with its closure.
struct Taker {
    told: Sender<(Vec<u64>, bool)>,
    answer: Answer,
}

impl Actor for Taker {
    type Context = Context<Self>;
}

impl Handler<Batch<u64, u64, Infallible>> for Taker {
    type Result = MessageResult<Batch<u64, u64, Infallible>>;

    fn handle(&mut self, batch: Batch<u64, u64, Infallible>, ctx: &mut Context<Self>) -> Self::Result {
        let last = batch.is_last();
        let outputs: Vec<u64> = batch.into_outcomes().into_iter().flatten().collect();
        let demand = (self.answer)(outputs.len());
        let _ = self.told.send((outputs, last)); // the test may have stopped listening
        if demand == Demand::Stop {
            ctx.stop();
        }
        MessageResult(demand)
    }
}

#[test]
fn an_actor_is_delivered_every_outcome_in_batches_no_larger_than_the_window() {
    in_a_system(async |policy| {
        let app = App::ephemeral("actors");
        let f = square(&app, policy);
        let (told, batches) = channel();
        let taker = Taker { told, answer: Box::new(|_| Demand::More) }.start();
        let start = StartMap::new(0..100u64, taker.recipient()).window(8);
        assert!(f.supervisor().send(start).await.expect("it lives").is_ok());
        let mut outputs = Vec::new();
        let mut over = false;
        eventually("the last batch arrives", || {
            while let Ok((batch, last)) = batches.try_recv() {
                assert!(batch.len() <= 8);
                assert!(!over);
                outputs.extend(batch);
                over = last;
            }
            over
        })
        .await;
        assert_eq!(outputs, (0..100).map(|n| n * n).collect::<Vec<_>>());
    });
}

#[test]
fn a_recipient_that_stops_or_has_ended_ends_its_map_and_nothing_else() {
    in_a_system(async |policy| {
        let app = App::ephemeral("actors");
        let f = square(&app, policy);
        for answer in [Demand::Stop, Demand::More] {
            let (told, batches) = channel();
            let taker = Taker { told, answer: Box::new(move |_| answer) }.start();
            let start = StartMap::new(0.., taker.clone().recipient());
            let map = f.supervisor().send(start).await.expect("it lives").expect("it is taken");
            eventually("a batch arrives", || batches.try_recv().is_ok()).await;
            if answer == Demand::More {
                map.do_send(CancelMap); // this recipient goes on, and its map is endless
            }
            eventually("the actor of the map ends", || !map.connected()).await;
            eventually("no input of the map waits", || f.status().inputs_waiting == 0).await;
            eventually("the feeder of the map has ended", || f.status().feeders == 0).await;
        }
        assert_eq!(f.run_async((0..50).collect()).await.expect("it goes on").len(), 50);
    });
}

/// Answers a batch only once a gate is open.
struct Slow {
    gate: Gate,
    taken: Arc<AtomicU64>,
}

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<Batch<u64, u64, Infallible>> for Slow {
    type Result = ResponseFuture<Demand>;

    fn handle(&mut self, batch: Batch<u64, u64, Infallible>, _: &mut Context<Self>) -> Self::Result {
        self.taken.fetch_add(batch.into_outcomes().len() as u64, Ordering::SeqCst);
        let gate = self.gate.clone();
        Box::pin(async move {
            gate.passed().await;
            Demand::More
        })
    }
}

#[test]
fn a_slow_recipient_holds_up_its_map_and_nothing_else() {
    in_a_system(async |policy| {
        let app = App::ephemeral("actors");
        let executed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&executed);
        let counted = app.infallible("counted", move |n: &u64| {
            count.fetch_add(u64::from(*n < 1_000), Ordering::SeqCst);
            *n
        });
        let f: Square = counted.containers(2).restart(policy).started();
        let (gate, taken) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let slow = Slow { gate: gate.clone(), taken: Arc::clone(&taken) }.start();
        let start = StartMap::new(0..500u64, slow.recipient()).window(4);
        let map = f.supervisor().send(start).await.expect("it lives").expect("it is taken");
        eventually("the recipient takes a batch", || taken.load(Ordering::SeqCst) > 0).await;
        for n in 1_000..1_100 {
            assert_eq!(f.call(n).await.expect("others are served"), n);
        }
        // One batch is unanswered. The window bounds the inputs behind it.
        assert!(executed.load(Ordering::SeqCst) <= taken.load(Ordering::SeqCst) + 4);
        let progress = map.send(GetProgress).await.expect("it lives");
        assert!(progress.pulled <= taken.load(Ordering::SeqCst) + 4, "{progress}");
        gate.open();
        eventually("the recipient takes all outcomes", || taken.load(Ordering::SeqCst) == 500).await;
    });
}

#[test]
fn every_call_is_a_message_with_its_reply() {
    in_a_system(async |policy| {
        let app = App::ephemeral("actors");
        let f = square(&app, policy);
        let supervisor = f.supervisor().clone();
        let call = CallInput::new(7);
        assert_eq!(supervisor.send(call).await.expect("it lives").expect("replayed"), 49);
        let status = supervisor.send(GetStatus).await.expect("it lives");
        assert_eq!(status.crashes, 1);
        eventually("both containers live", || f.status().containers.live == 2).await;
        let (first, none) = (ContainerId::new(0), ContainerId::new(9));
        assert!(supervisor.send(KillContainer { container: first }).await.expect("it lives"));
        assert!(!supervisor.send(KillContainer { container: none }).await.expect("it lives"));
        assert!(!supervisor.send(Reset).await.expect("it lives"), "it had not given up");
        let end = Shutdown { ending: Ending::Drain, limit: Duration::from_secs(600) };
        let report = supervisor.send(end).await.expect("it lives");
        assert_eq!(report.function.as_str(), "square", "name of the function");
        assert_eq!(report.containers.len(), 2, "containers");
        assert!(supervisor.send(GetStatus).await.is_err(), "it has ended");
        assert!(f.call(1).await.expect_err("it has ended").is_shut_down());
    });
}

/// 8.6
#[test]
fn a_place_is_reserved_by_message_and_used_by_message() {
    in_a_system(async |policy| {
        let app = App::ephemeral("actors");
        let f: Square = app.infallible("f", |n: &u64| n * n).calls_max(1).restart(policy).started();
        let supervisor = f.supervisor().clone();
        let place = supervisor.send(Reserve).await.expect("it lives").expect("there is room");
        assert_eq!(f.status().calls.permits, 1);
        let refused = supervisor.send(TryReserve).await.expect("it lives").expect_err("there is one place");
        assert!(matches!(refused, ReserveError::Overloaded { calls: 1, max: 1 }), "{refused:?}");
        let refused = supervisor.send(CallInput::new(2)).await.expect("it lives").expect_err("no room");
        assert!(refused.is_overloaded());
        let call = CallInput::new(3).in_place(place);
        assert_eq!(supervisor.send(call).await.expect("it lives").expect("it has its place"), 9);
        assert_eq!(f.status().calls.permits, 0);
        let place = supervisor.send(TryReserve).await.expect("it lives").expect("there is room again");
        drop(place);
        assert_eq!(f.status().calls.permits, 0, "it came back");
    });
}

/// 8.6
#[test]
fn who_waits_for_a_place_by_message_is_served_in_turn_or_leaves_the_line() {
    in_a_system(async |policy| {
        let app = App::ephemeral("actors");
        let f: &Square = &app.infallible("f", |n: &u64| n * n).calls_max(1).restart(policy).started();
        let supervisor = f.supervisor().clone();
        let permit = f.try_reserve().expect("there is room");
        let waits = || actix::spawn(supervisor.send(Reserve));
        let waiting = |number: u64| move || f.status().calls.reserving == number;
        let first = waits();
        eventually("the first request waits", waiting(1)).await;
        let second = waits();
        eventually("the second request waits", waiting(2)).await;
        let third = waits();
        eventually("the third request waits", waiting(3)).await;
        first.abort(); // its sender no longer awaits the reply
        eventually("it has left the line", || f.status().calls.reserving == 2).await;
        assert!(!second.is_finished());
        drop(permit);
        let place = second.await.expect("no panic").expect("it lives").expect("it is its turn");
        assert!(!third.is_finished());
        let call = CallInput::new(3).in_place(place);
        assert_eq!(supervisor.send(call).await.expect("it lives").expect("it has its place"), 9);
        drop(third.await.expect("no panic").expect("it lives").expect("it is its turn"));
        assert_eq!((f.status().calls.reserving, f.status().calls.permits), (0, 0));
    });
}

/// 8.6
#[test]
fn a_place_by_message_ends_with_its_function_and_is_of_no_other() {
    in_a_system(async |policy| {
        let app = App::ephemeral("actors");
        let f: Square = app.infallible("f", |n: &u64| n * n).calls_max(1).restart(policy.clone()).started();
        let g: Square = app.infallible("g", |n: &u64| n * n).calls_max(1).restart(policy).started();
        let of_g = g.supervisor().send(Reserve).await.expect("it lives").expect("there is room");
        let call = CallInput::new(3).in_place(of_g);
        assert_eq!(f.supervisor().send(call).await.expect("it lives").expect("there is room"), 9);
        assert_eq!((f.status().calls.permits, g.status().calls.permits), (0, 0), "it went back to `g`");

        let place = f.supervisor().send(Reserve).await.expect("it lives").expect("there is room");
        let waits = actix::spawn(f.supervisor().send(Reserve));
        eventually("the request waits", || f.status().calls.reserving == 1).await;
        f.stop();
        let refused = waits.await.expect("no panic").expect("it lives");
        assert!(matches!(refused, Err(ReserveError::ShutDown)), "{refused:?}");
        drop(place);
    });
}

#[test]
fn a_map_that_is_refused_says_why() {
    in_a_system(async |policy| {
        let app = App::ephemeral("actors");
        let f = square(&app, policy);
        let (told, _batches) = channel();
        let taker = Taker { told, answer: Box::new(|_| Demand::More) }.start();
        let wide = StartMap::new(0..9u64, taker.clone().recipient()).window(0);
        let refused = f.supervisor().send(wide).await.expect("it lives").expect_err("no window");
        assert!(matches!(refused, Cause::Config(_)), "{refused:?}");
        let begun = Gate::default();
        let inside = begun.clone();
        let hold = f.map((0..1u64).inspect(move |_| inside.pass())); // this map keeps the drain from ending
        let mut hold = hold.into_iter();
        let reader = std::thread::spawn(move || hold.next().is_some());
        until("a feeder asks the source", || f.status().feeders == 1);
        f.drain();
        let late = StartMap::new(0..9u64, taker.recipient());
        match f.supervisor().send(late).await {
            Ok(refused) => assert!(matches!(refused, Err(Cause::ShutDown))),
            Err(MailboxError::Closed) => {} // the supervisor had ended already
            Err(MailboxError::Timeout) => panic!("no timeout was set"),
        }
        begun.open();
        reader.join().expect("no panic");
    });
}

/// Sends each event to the test.
struct Listener(Sender<Event>);

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(1_000);
    }
}

impl Handler<Happened> for Listener {
    type Result = ();

    fn handle(&mut self, Happened(event): Happened, _: &mut Context<Self>) {
        let _ = self.0.send(event); // the test may have stopped listening
    }
}

#[test]
fn subscribers_receive_every_event() {
    unhung(|| {
        System::new().block_on(async {
            let app = App::ephemeral("events");
            let policy = RateLimited::new().max_crashes(1).max_failure_rate(0.0);
            let f = app
                .infallible("f", |n: &u64| if *n == 13 { crash() } else { *n })
                .containers(1)
                .crash_retries(0)
                .restart(policy)
                .started();
            let (told, events) = channel();
            let listener = Listener(told).start();
            f.supervisor().send(Subscribe { to: listener.recipient() }).await.expect("it lives");
            for n in [1, 13, 2, 13] {
                drop(f.call(n).await);
            }
            let mut kinds = Vec::new();
            eventually("the function has given up", || {
                kinds.extend(events.try_iter().map(|event| kind(&event)));
                kinds.contains(&"gave up")
            })
            .await;
            let crashes = kinds.iter().filter(|kind| **kind == "crashed").count();
            assert_eq!(crashes, 2, "crashes: {kinds:?}");
            assert!(kinds.contains(&"poisoned"), "an input is poisoned: {kinds:?}");
            assert!(f.reset());
            let report = app.shutdown().await;
            assert!(report.is_clean());
            eventually("the function has ended", || {
                kinds.extend(events.try_iter().map(|event| kind(&event)));
                kinds.contains(&"ended")
            })
            .await;
            assert!(kinds.contains(&"reset"), "{kinds:?}");
            assert!(kinds.contains(&"container"), "{kinds:?}");
        });
    });
}

#[test]
fn a_crash_loop_says_when_containers_come_back() {
    unhung(|| {
        System::new().block_on(async {
            let app = App::deployed("events");
            let policy =
                CrashLoopBackoff::new().initial(Duration::from_millis(1)).max(Duration::from_millis(2));
            let crashes = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&crashes);
            let f = app
                .worker("f", move |_| -> Result<Never, _> {
                    count.fetch_add(1, Ordering::SeqCst);
                    Err("the dependency is down".into())
                })
                .containers(1)
                .restart(policy)
                .started();
            let (told, events) = channel();
            let listener = Listener(told).start();
            f.supervisor().send(Subscribe { to: listener.recipient() }).await.expect("it lives");
            let mut loops = Vec::new();
            eventually("three loop crashes have happened", || {
                loops.extend(events.try_iter().filter_map(|event| match event {
                    Event::CrashLoop { crashes, next_restart, .. } => Some((crashes, next_restart)),
                    _ => None,
                }));
                loops.len() >= 3
            })
            .await;
            assert!(loops.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "{loops:?}");
            assert!(loops.iter().all(|(_, delay)| *delay <= Duration::from_millis(2)), "{loops:?}");
        });
    });
}

/// A worker that is never built.
struct Never;

impl longshore::Worker for Never {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    fn call(&mut self, input: &u64, _: &longshore::Context) -> Result<u64, Infallible> {
        Ok(*input)
    }
}

#[test]
fn a_subscriber_that_does_not_keep_up_learns_how_many_events_it_missed() {
    unhung(|| {
        System::new().block_on(async {
            let app = App::ephemeral("events");
            let f: Square = app
                .infallible("f", |n: &u64| if attempt() == 1 { crash() } else { *n })
                .containers(1)
                .restart(RateLimited::never())
                .started();
            let (told, events) = channel();
            let listener = Listener(told).start();
            // Once the listener has taken this event, it has started and set the capacity of its mailbox.
            listener.send(Happened(Event::Reset)).await.expect("it lives");
            f.supervisor().send(Subscribe { to: listener.clone().recipient() }).await.expect("it lives");
            // The listener runs on this thread, so its mailbox of 1000 events fills up during these calls.
            let called: u64 = (0..1_000).map(|n| f.call(n).wait().expect("replayed")).sum();
            assert_eq!(called, 499_500);
            let mut missed = 0;
            let mut seen = 0;
            eventually("the listener learns how many events it missed", || {
                if missed == 0 {
                    drop(f.call(1).wait()); // makes further events
                }
                for event in events.try_iter() {
                    seen += 1;
                    missed += if let Event::Missed(events) = event { events } else { 0 };
                }
                missed > 0
            })
            .await;
            assert!(seen >= 1_000, "{seen}");
        });
    });
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Container { .. } => "container",
        Event::Crashed(_) => "crashed",
        Event::Poisoned { .. } => "poisoned",
        Event::GaveUp(_) => "gave up",
        Event::Reset => "reset",
        Event::Ended(_) => "ended",
        _ => "other",
    }
}

/// Sends the name of the thread that drops it to the test.
struct Told {
    n: u64,
    dropped_on: Sender<String>,
}

impl Drop for Told {
    fn drop(&mut self) {
        let thread = std::thread::current().name().unwrap_or("?").to_owned();
        let _ = self.dropped_on.send(thread); // the test may have ended
    }
}

#[test]
fn inputs_and_outcomes_of_messages_are_never_dropped_on_the_engine_thread() {
    /// Drops its batches, and stops in the middle of a long map.
    struct Careless(Sender<()>);

    impl Actor for Careless {
        type Context = Context<Self>;
    }

    impl Handler<Batch<Told, Told, Infallible>> for Careless {
        type Result = MessageResult<Batch<Told, Told, Infallible>>;

        fn handle(&mut self, batch: Batch<Told, Told, Infallible>, ctx: &mut Context<Self>) -> Self::Result {
            if batch.is_last() || batch.into_outcomes().into_iter().flatten().any(|told| told.n > 300) {
                ctx.stop(); // the next batch has no recipient
                let _ = self.0.send(());
            }
            MessageResult(Demand::More)
        }
    }

    in_a_system(async |policy| {
        let (dropped_on, drops) = channel();
        let made = Arc::new(AtomicU64::new(0));
        let maker = {
            let (made, dropped_on) = (Arc::clone(&made), dropped_on.clone());
            move |n: u64| {
                made.fetch_add(1, Ordering::SeqCst);
                Told { n, dropped_on: dropped_on.clone() }
            }
        };
        let app = App::ephemeral("actors");
        let make = maker.clone();
        let f = app.infallible("f", move |told: &Told| make(told.n));
        let f: Function<Told, Told, Infallible> = f.containers(2).restart(policy).started();
        let supervisor = f.supervisor().clone();

        // The first reply is awaited, the second is dropped while it is awaited, and the others were never
        // awaited.
        let output = supervisor.send(CallInput::new(maker(1))).await.expect("it lives").expect("infallible");
        assert_eq!(output.n, 1);
        drop(output);
        drop(supervisor.send(CallInput::new(maker(2))));
        (0..20).for_each(|n| supervisor.do_send(CallInput::new(maker(n))));

        // The first recipient takes all outcomes, the second ends half-way, and the third one is gone before
        // its map begins.
        let (ended, end) = channel();
        for inputs in [100, 500] {
            let careless = Careless(ended.clone()).start();
            let inputs: Vec<Told> = (0..inputs).map(&maker).collect();
            let start = StartMap::new(inputs, careless.recipient()).window(16);
            assert!(supervisor.send(start).await.expect("it lives").is_ok());
            eventually("the map is delivered", || end.try_recv().is_ok()).await;
        }
        let gone = Careless(ended.clone()).start();
        let recipient = gone.clone().recipient();
        let start = StartMap::new((0..50).map(maker.clone()), recipient);
        supervisor.do_send(start);

        // A container is killed while it may execute a call, and the supervisor ends with calls in its
        // mailbox.
        (0..20).for_each(|n| supervisor.do_send(CallInput::new(maker(n))));
        supervisor.do_send(KillContainer { container: ContainerId::new(0) });
        supervisor.do_send(Shutdown { ending: Ending::Abort, limit: Duration::ZERO });
        (0..20).for_each(|n| supervisor.do_send(CallInput::new(maker(n))));
        drop((f, app, supervisor, maker));
        let mut seen = 0;
        eventually("each value is dropped", || {
            seen += drops.try_iter().inspect(|thread| assert_ne!(thread, "longshore")).count() as u64;
            seen == made.load(Ordering::SeqCst)
        })
        .await;
    });
}

#[test]
fn maps_and_calls_begun_by_message_keep_their_function() {
    in_a_system(async |policy| {
        let (gate, called) = (Gate::default(), Arc::new(AtomicU64::new(0)));
        let app = App::ephemeral("actors");
        let (inside, begun) = (gate.clone(), Arc::clone(&called));
        let f = app.infallible("f", move |n: &u64| {
            begun.fetch_add(u64::from(*n == 1_000), Ordering::SeqCst);
            inside.pass();
            *n
        });
        let f: Square = f.containers(2).restart(policy).started();
        let supervisor = f.supervisor().clone();
        let (told, batches) = channel();
        let taker = Taker { told, answer: Box::new(|_| Demand::More) }.start();
        let start = StartMap::new(0..50u64, taker.recipient());
        assert!(supervisor.send(start).await.expect("it lives").is_ok());
        let call = actix::spawn(supervisor.send(CallInput::new(1_000)));
        let taken = || called.load(Ordering::SeqCst) > 0 || f.status().inputs_waiting > 0;
        eventually("the supervisor has taken the call", taken).await;
        drop((f, app));
        gate.open();
        assert_eq!(call.await.expect("no panic").expect("it lives").expect("infallible"), 1_000);
        let (mut outputs, mut ended) = (Vec::new(), false);
        eventually("the last batch arrives", || {
            for (some, last) in batches.try_iter() {
                outputs.extend(some);
                ended |= last;
            }
            ended
        })
        .await;
        assert_eq!(outputs, Vec::from_iter(0..50));
        // Nothing keeps the function alive any more.
        while supervisor.send(GetStatus).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_shutdown_that_was_polled_once_goes_on_when_its_future_is_dropped() {
    struct Exits(Arc<AtomicU64>);

    impl Worker for Exits {
        type Input = u64;
        type Output = u64;
        type Error = Infallible;

        fn call(&mut self, n: &u64, _: &longshore::Context) -> Result<u64, Infallible> {
            Ok(*n)
        }

        fn exit(self, _: &longshore::Context) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    in_a_system(async |policy| {
        for drops_the_function in [false, true] {
            let exits = Arc::new(AtomicU64::new(0));
            let app = App::ephemeral("actors");
            let count = Arc::clone(&exits);
            let f = app
                .worker("f", move |_| Ok(Exits(Arc::clone(&count))))
                .containers(2)
                .restart(policy.clone())
                .started();
            eventually("both containers live", || f.status().containers.live == 2).await;
            let mut shutdown = Box::pin(app.shutdown());
            drop(futures::poll!(shutdown.as_mut()));
            drop(shutdown);
            let kept = (!drops_the_function).then_some(f);
            eventually("both workers exit", || exits.load(Ordering::SeqCst) == 2).await;
            drop(kept);
        }
    });
}
