//! The requests that wait for a function to be ready or idle: they end as soon as their condition holds, as
//! the function ends, or as their senders go away.

use actix::System;
use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::engine::dispatch::Wanted;
use crate::engine::ready_request::{Waited, reply_when};
use crate::simulator::rig::Rig;
use crate::values::error::NotReady;

fn asks(rig: &Rig, wanted: Wanted) -> oneshot::Receiver<Waited> {
    let (reply, answer) = oneshot::channel();
    reply_when(&rig.engine, wanted, Some(reply));
    answer
}

fn waiting(rig: &Rig) -> usize {
    rig.engine.under_lock(|state| state.readying_tasks())
}

/// Lets every task run that can.
async fn all_run() {
    for _ in 0..100 {
        yield_now().await;
    }
}

fn in_a_system(test: impl Future<Output = ()>) {
    System::new().block_on(test);
}

#[test]
fn a_request_is_answered_when_its_condition_holds_and_not_before() {
    in_a_system(async {
        let rig = Rig::new(2);
        assert!(matches!(asks(&rig, Wanted::One).await, Ok(Ok(()))), "its containers are live");
        assert!(matches!(asks(&rig, Wanted::Idle).await, Ok(Ok(()))), "it has no inputs");
        rig.engine.pause();
        let call = rig.call();
        let mut answers = [Wanted::One, Wanted::All, Wanted::Idle].map(|wanted| asks(&rig, wanted));
        all_run().await;
        assert!(answers.iter_mut().all(|answer| answer.try_recv().is_err()), "it is paused");
        rig.engine.unpause();
        all_run().await;
        let [one, all, idle] = &mut answers;
        assert!(matches!((one.try_recv(), all.try_recv()), (Ok(Ok(())), Ok(Ok(())))));
        assert!(idle.try_recv().is_err(), "the call has no outcome");
        rig.work();
        assert!(matches!(idle.await, Ok(Ok(()))));
        assert_eq!(waiting(&rig), 0);
        drop(call);
    });
}

#[test]
fn a_moment_without_inputs_counts_although_new_ones_come_before_the_task_runs() {
    in_a_system(async {
        let rig = Rig::new(1);
        let first = rig.call();
        let mut answer = asks(&rig, Wanted::Idle);
        rig.work();
        let next = rig.call();
        all_run().await;
        assert!(matches!(answer.try_recv(), Ok(Ok(()))), "it was idle between the two calls");
        drop((first, next));
    });
}

#[test]
fn a_request_whose_sender_has_gone_away_waits_no_longer() {
    in_a_system(async {
        let rig = Rig::new(1);
        rig.engine.pause();
        let call = rig.call();
        let answers = [Wanted::One, Wanted::All, Wanted::Idle].map(|wanted| asks(&rig, wanted));
        all_run().await;
        assert_eq!(waiting(&rig), 3);
        drop(answers);
        all_run().await;
        assert_eq!(waiting(&rig), 0, "a wait is left, and keeps the function's code");
        drop(call);
    });
}

#[test]
fn the_end_of_the_function_answers_every_request() {
    in_a_system(async {
        let rig = Rig::new(1);
        rig.engine.pause();
        let call = rig.call();
        let [one, all, idle] = [Wanted::One, Wanted::All, Wanted::Idle].map(|wanted| asks(&rig, wanted));
        rig.engine.abort();
        assert!(matches!(one.await, Ok(Err(NotReady::ShutDown))));
        assert!(matches!(all.await, Ok(Err(NotReady::ShutDown))));
        assert!(matches!(idle.await, Ok(Ok(()))), "nothing is without its outcome");
        drop(call);

        let rig = Rig::new(1);
        rig.engine.pause();
        let call = rig.call();
        let answers = [Wanted::One, Wanted::All, Wanted::Idle].map(|wanted| asks(&rig, wanted));
        rig.engine.break_down("the supervisor ended unexpectedly");
        for answer in answers {
            assert!(matches!(answer.await, Ok(Err(NotReady::Engine(_)))));
        }
        drop(call);
    });
}
