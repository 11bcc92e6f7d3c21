//! Carries out the steps of a story that are messages.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use actix::{Actor, Addr, Handler, MailboxError, Message};
use futures::FutureExt;
use futures::executor::block_on;
use futures::task::noop_waker_ref;
use longshore::actor::{
    CallInput, CancelMap, Ending, GetProgress, GetStatus, Idle, KillContainer, Pause, Ready, ReadyAll,
    Reserve, Reset, Resume, Shutdown, StartMap, Subscribe, TryReserve,
};
use longshore::{ContainerId, NotReady};

use crate::actors::{Heard, Listener, Subscriber, arbiter};
use crate::held::judge_call;
use crate::judge::{Course, judge_refusal, judge_status};

use crate::sources::Tickets;
use crate::start::retries;
use crate::story::{AwaitedState, Failures, HowEnded, Limit, Limits, MapSpec, Reply, Step};
use crate::user::{Spoken, User};
use crate::values::{F, Ticket, armed, hold};

/// The largest number of maps that are begun by message.
const SPOKEN_MAX: usize = 4;

impl User {
    pub(crate) fn send(&mut self, step: Step, f: &F) {
        let supervisor = f.supervisor();
        match step {
            Step::SendStartMap { map, stop_after } => self.start_map(f, map, stop_after),
            Step::SendCallInput { script, bomb, limits, reply } => {
                let call = CallInput::new(Ticket::new(&self.world, 0, script, bomb)).within(limits.set());
                if let Some(Ok(outcome)) = tell(supervisor, call, reply) {
                    judge_call(&self.world, outcome, limits, false);
                }
            }
            Step::SendReserve { waits: false, reply } => {
                self.places
                    .extend(tell(supervisor, TryReserve, reply).and_then(Result::ok).and_then(Result::ok));
            }
            Step::SendReserve { waits: true, reply } => {
                // There may be no room before this user gives a place back, so it waits for a moment only.
                let reserved = await_for_a_moment(supervisor.send(Reserve), reply);
                self.places.extend(reserved.and_then(Result::ok).and_then(Result::ok));
            }
            Step::SendAwaitState { state, reply } => {
                // The state may come only after a later step of this user, so the user waits for a
                // moment only.
                let came = match state {
                    AwaitedState::Ready => await_for_a_moment(supervisor.send(Ready), reply),
                    AwaitedState::ReadyAll => await_for_a_moment(supervisor.send(ReadyAll), reply),
                    AwaitedState::Idle => await_for_a_moment(supervisor.send(Idle), reply),
                };
                let fault = matches!(came, Some(Ok(Err(NotReady::WouldDeadlock | NotReady::Engine(_)))));
                assert!(!fault, "{state:?}: {came:?}");
            }
            Step::SendCallInPlace { place, script, bomb, reply } if !self.places.is_empty() => {
                let at = usize::from(place) % self.places.len();
                let call = CallInput::new(Ticket::new(&self.world, 0, script, bomb));
                let call = call.in_place(self.places.swap_remove(at));
                if let Some(Ok(outcome)) = tell(supervisor, call, reply) {
                    let overloaded = outcome.as_ref().is_err_and(|failure| failure.is_overloaded());
                    assert!(!overloaded, "a call in a place that was reserved is overloaded");
                    judge_call(&self.world, outcome, Limits::NONE, false);
                }
            }
            Step::SendPause { reply } => {
                (self.paused, self.pause_is_sent) = (true, true);
                let _paused = tell(supervisor, Pause, reply);
            }
            Step::SendResume { reply } => _ = tell(supervisor, Resume, reply),
            Step::SendKill { container, reply } => {
                self.world.kills.fetch_add(1, Ordering::SeqCst);
                let container = ContainerId::new(container);
                let killed = tell(supervisor, KillContainer { container }, reply);
                assert!(
                    container.index() < 3 || !matches!(killed, Some(Ok(true))),
                    "there is no such container"
                );
            }
            Step::SendReset { reply } => drop(tell(supervisor, Reset, reply)),
            Step::SendGetStatus { reply } => {
                if let Some(Ok(status)) = tell(supervisor, GetStatus, reply) {
                    judge_status(&self.world, &status);
                }
            }
            Step::SendShutdown { how, limit, reply } => {
                self.world.end();
                let ending = match how {
                    HowEnded::Drain => Ending::Drain,
                    HowEnded::Stop => Ending::Stop,
                    HowEnded::Abort => Ending::Abort,
                };
                let limit = match limit {
                    Limit::Zero => Duration::ZERO,
                    Limit::Micros(micros) => Duration::from_micros(u64::from(micros)),
                    Limit::Max => Duration::MAX,
                };
                if let Some(Ok(report)) = tell(supervisor, Shutdown { ending, limit }, reply) {
                    assert_eq!(report.function, "f");
                }
            }
            Step::SendSubscribe { ends_after } => {
                let alive = Arc::clone(&self.subscribers);
                let subscriber = Subscriber { ends_after, alive };
                let subscriber = Subscriber::start_in_arbiter(arbiter(), |_| subscriber);
                supervisor.do_send(Subscribe { to: subscriber.recipient() });
            }
            _ => {}
        }
    }

    fn start_map(&mut self, f: &F, map: MapSpec, stop_after: Option<u8>) {
        if self.spoken.len() >= SPOKEN_MAX {
            return;
        }
        let (tickets, records) = Tickets::new(&self.world, map);
        let course = Course::new(&self.world, map, records);
        let heard = Arc::new(Mutex::new(Heard { course, last: false }));
        let listener = Listener { heard: Arc::clone(&heard), stop_after };
        let to = Listener::start_in_arbiter(arbiter(), |_| listener).recipient();
        let mut start = StartMap::new(tickets.boxed(f), to);
        if map.unordered {
            start = start.unordered();
        }
        start = match map.failures {
            Failures::EndMap => start,
            Failures::EndMapInOrder => start.fail_in_order(),
            Failures::Yield => start.return_exceptions(),
        };
        if let Some(window) = map.window {
            start = start.window(u64::from(window));
        }
        if let Some(times) = map.retries {
            start = start.retries(retries(times));
        }
        if let Some(limit) = map.limits.timeout.length() {
            start = start.timeout(limit);
        }
        if let Some(limit) = map.limits.deadline.length() {
            start = start.deadline(limit);
        }
        match block_on(f.supervisor().send(start)) {
            Ok(Ok(map)) => self.spoken.push(Spoken { map, heard }),
            Ok(Err(cause)) => judge_refusal(&self.world, map, &cause),
            Err(_ended) => {}
        }
    }

    pub(crate) fn send_to_map(&mut self, step: Step) {
        let spoken = self.spoken.len().max(1);
        match step {
            Step::SendCancelMap { map } => {
                if let Some(spoken) = self.spoken.get(usize::from(map) % spoken) {
                    hold(&spoken.heard).course.disturbed = true;
                    spoken.map.do_send(CancelMap);
                }
            }
            Step::SendGetProgress { map, reply } => {
                if let Some(spoken) = self.spoken.get(usize::from(map) % spoken)
                    && let Some(Ok(progress)) = tell(&spoken.map, GetProgress, reply)
                {
                    assert!(progress.completed() <= progress.pulled, "{progress:?}");
                }
            }
            _ => {}
        }
    }
}

/// Sends a message, and awaits, forgets or drops the reply.
fn tell<A, M>(to: &Addr<A>, message: M, reply: Reply) -> Option<Result<M::Result, MailboxError>>
where
    A: Actor<Context = actix::Context<A>> + Handler<M>,
    M: Message<Result: Send> + Send + 'static,
{
    match reply {
        Reply::Await => Some(block_on(to.send(message))),
        Reply::Forget => {
            armed(|| to.do_send(message));
            None
        }
        Reply::Drop => {
            let mut request = Box::pin(to.send(message));
            let polled = request.poll_unpin(&mut Context::from_waker(noop_waker_ref()));
            drop(polled);
            None
        }
    }
}

/// Waits a moment for a reply that may need a later step of this user, and then drops the request.
fn await_for_a_moment<T>(
    request: impl Future<Output = Result<T, MailboxError>>,
    reply: Reply,
) -> Option<Result<T, MailboxError>> {
    let mut request = Box::pin(request);
    let polls = if reply == Reply::Await { 20 } else { 1 };
    for _ in 0..polls {
        let polled = request.poll_unpin(&mut Context::from_waker(noop_waker_ref()));
        if let Poll::Ready(replied) = polled {
            return Some(replied);
        }
        thread::park_timeout(Duration::from_micros(50));
    }
    None
}
