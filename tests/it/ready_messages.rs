//! Waiting by message until a function is ready or idle.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix::{Addr, MailboxError};
use longshore::actor::{
    CallInput, Ending, GetStatus, Idle, Pause, Ready, ReadyAll, Resume, Shutdown, Supervisor,
};
use longshore::{App, Context, Function, NotReady, RateLimited, Worker};

use crate::actors::{eventually, in_a_system};
use crate::support::{Gate, Started, numbers_under};

/// A worker that returns its input.
struct Echo;

impl Worker for Echo {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    fn call(&mut self, n: &u64, _: &Context) -> Result<u64, Infallible> {
        Ok(*n)
    }
}

/// The address of the supervisor of numbers.
type Address = Addr<Supervisor<u64, u64, Infallible>>;

/// 7.2, 8.9
#[test]
fn ready_and_ready_all_reply_when_the_containers_live_and_hold_up_no_other_message() {
    in_a_system(async |policy| {
        let app = App::ephemeral("messages");
        let gates: [Gate; 2] = Default::default();
        let inside = gates.clone();
        let enter = move |context: &Context| {
            inside[context.container().index()].pass();
            Ok(Echo)
        };
        let f: Function<u64, u64, Infallible> =
            app.worker("f", enter).containers(2).restart(policy).started();
        let supervisor: Address = f.supervisor().clone();
        let ready = actix::spawn(supervisor.send(Ready));
        let all = actix::spawn(supervisor.send(ReadyAll));
        let status = supervisor.send(GetStatus).await.expect("it answers although two requests wait");
        assert_eq!(status.containers.live, 0);
        assert!(!ready.is_finished());
        gates[0].open();
        assert!(ready.await.expect("no panic").expect("it lives").is_ok());
        assert_eq!(f.status().containers.live, 1);
        assert!(!all.is_finished());
        gates[1].open();
        assert!(all.await.expect("no panic").expect("it lives").is_ok());
        assert_eq!(f.status().containers.live, 2);

        assert!(supervisor.send(Pause).await.expect("it lives"));
        let ready = actix::spawn(supervisor.send(Ready));
        assert!(supervisor.send(GetStatus).await.expect("it lives").paused);
        assert!(!ready.is_finished(), "it is paused");
        assert!(supervisor.send(Resume).await.expect("it lives"));
        assert!(ready.await.expect("no panic").expect("it lives").is_ok());
    });
}

/// 7.2, 8.9
#[test]
fn idle_replies_once_every_call_before_it_has_its_outcome() {
    in_a_system(async |policy| {
        let app = App::ephemeral("messages");
        let gate = Gate::default();
        let inside = gate.clone();
        let f = numbers_under(policy, &app, 2, move |n| {
            inside.pass();
            *n
        });
        let supervisor: Address = f.supervisor().clone();
        assert!(supervisor.send(Idle).await.expect("it lives").is_ok(), "it has no inputs");
        (0..20).for_each(|n| supervisor.do_send(CallInput::new(n)));
        let idle = actix::spawn(supervisor.send(Idle));
        let status = supervisor.send(GetStatus).await.expect("it answers although a request waits");
        assert_eq!(status.inputs_waiting + status.executing as u64, 20);
        assert!(!idle.is_finished());
        gate.open();
        assert!(idle.await.expect("no panic").expect("it lives").is_ok());
        assert_eq!(f.snapshot().totals.ok, 20);
    });
}

/// 7.2
#[test]
fn a_wait_by_message_ends_with_its_function_and_keeps_it_alive_in_no_way() {
    in_a_system(async |policy| {
        for by_hand in [true, false] {
            let app = App::ephemeral("messages");
            let gate = Gate::default();
            let (inside, captured) = (gate.clone(), Arc::new(()));
            let kept = Arc::clone(&captured);
            let f = numbers_under(policy.clone(), &app, 1, move |n| {
                let _captured = &kept;
                inside.pass();
                *n
            });
            let supervisor: Address = f.supervisor().clone();
            assert!(supervisor.send(Ready).await.expect("it lives").is_ok());
            assert!(supervisor.send(Pause).await.expect("it lives"));
            // The call is not detached, and ends with its handle.
            let call = f.call(1);
            let ready = actix::spawn(supervisor.send(Ready));
            let all = actix::spawn(supervisor.send(ReadyAll));
            let idle = actix::spawn(supervisor.send(Idle));
            assert_eq!(supervisor.send(GetStatus).await.expect("it lives").inputs_waiting, 1);
            if by_hand {
                let shutdown = Shutdown { ending: Ending::Stop, limit: Duration::from_secs(30) };
                let report = supervisor.send(shutdown).await.expect("it lives");
                assert!(report.is_clean(), "{report:?}");
                assert!(call.await.is_err());
                drop((f, app));
            } else {
                drop((call, f, app));
            }
            for refused in [ready, all] {
                let refused = refused.await.expect("no panic").expect("it was read");
                assert!(matches!(refused, Err(NotReady::ShutDown)), "{refused:?}");
            }
            assert!(idle.await.expect("no panic").expect("it was read").is_ok());
            eventually("the supervisor has ended", || !supervisor.connected()).await;
            for late in [supervisor.send(Ready).await, supervisor.send(Idle).await] {
                assert!(matches!(late, Err(MailboxError::Closed)), "{late:?}");
            }
            gate.open();
            eventually("nothing keeps the code", || Arc::strong_count(&captured) == 1).await;
        }
    });
}

/// 7.2
#[test]
fn ready_says_that_the_function_gave_up_and_idle_that_it_has_no_more_inputs() {
    in_a_system(async |_| {
        let app = App::ephemeral("messages");
        let enter = |_: &Context| Err::<Echo, _>("closed".into());
        let never = RateLimited::new().max_crashes(0);
        let f: Function<u64, u64, Infallible> = app.worker("f", enter).containers(1).restart(never).started();
        let supervisor: Address = f.supervisor().clone();
        let gave_up = supervisor.send(Ready).await.expect("it lives");
        assert!(matches!(gave_up, Err(NotReady::GaveUp(_))), "{gave_up:?}");
        assert!(supervisor.send(Idle).await.expect("it lives").is_ok());
    });
}
