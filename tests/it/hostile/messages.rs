//! Messages with whatever in them.

use std::time::Duration;

use actix::prelude::*;
use futures::executor::block_on;
use longshore::actor::{
    Batch, CallInput, Demand, Ending, GetStatus, KillContainer, Reset, Shutdown, StartMap,
};
use longshore::{App, Cause, ContainerId, RateLimited};
use proptest::prelude::*;
use proptest::sample::select;

use super::{EDGES_U64, durations, names, retries};
use crate::support::unhung;

type Infallible = std::convert::Infallible;

/// Tells of the last batch, and how many outcomes there were.
struct Counter {
    outcomes: usize,
    told: std::sync::mpsc::Sender<usize>,
}

impl Actor for Counter {
    type Context = actix::Context<Self>;
}

impl Handler<Batch<u32, u32, Infallible>> for Counter {
    type Result = MessageResult<Batch<u32, u32, Infallible>>;

    fn handle(&mut self, batch: Batch<u32, u32, Infallible>, _: &mut Self::Context) -> Self::Result {
        let last = batch.is_last();
        self.outcomes += batch.into_outcomes().into_iter().filter(Result::is_ok).count();
        if last {
            self.told.send(self.outcomes).expect("the test waits");
        }
        MessageResult(Demand::More)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_map_begun_by_message_with_whatever_settings_is_refused_or_works(
        window in proptest::option::of(select(EDGES_U64.to_vec())),
        retries in proptest::option::of(retries()),
        label in proptest::option::of(names()),
        unordered in any::<bool>(),
    ) {
        unhung(move || {
            let (told, outcomes) = std::sync::mpsc::channel();
            System::new().block_on(async move {
                let app = App::ephemeral("hostile");
                let f = app.infallible("f", |n: &u32| *n).containers(2).start().expect("valid");
                let to = Counter { outcomes: 0, told }.start().recipient();
                let mut start = StartMap::new(0..50u32, to);
                if unordered {
                    start = start.unordered();
                }
                if let Some(window) = window {
                    start = start.window(window);
                }
                if let Some(retries) = retries.clone() {
                    start = start.retries(retries);
                }
                if let Some(label) = &label {
                    start = start.label(label);
                }
                match f.supervisor().send(start).await.expect("it lives") {
                    Err(cause) => assert!(matches!(cause, Cause::Config(_)), "{cause:?}"),
                    Ok(_) => {
                        while outcomes.try_recv() != Ok(50) {
                            tokio::task::yield_now().await;
                        }
                    }
                }
            });
        });
    }

    #[test]
    fn a_shutdown_of_whatever_limit_ends_and_what_comes_after_it_is_refused(
        limits in proptest::collection::vec(
            (durations(), select(vec![Ending::Drain, Ending::Stop, Ending::Abort])), 1..4),
        container in any::<u32>(),
        of_the_app in durations(),
    ) {
        unhung(move || {
            let app = App::ephemeral("hostile");
            let f = app.infallible("f", |n: &u32| *n).containers(2).restart(RateLimited::never());
            let f = f.start().expect("valid");
            let endless = f.map(0..).window(20).into_iter();
            let reports: Vec<_> = limits
                .into_iter()
                .map(|(limit, ending)| f.supervisor().send(Shutdown { ending, limit }))
                .collect();
            for report in reports {
                assert_eq!(block_on(report).map_or(2, |report| report.containers.len()), 2);
            }
            assert!(endless.last().is_some_and(|last| last.is_err_and(|failure| failure.is_shut_down())));
            let supervisor = f.supervisor();
            let call = block_on(supervisor.send(CallInput::new(1)));
            assert!(call.map_or(true, |outcome| outcome.is_err_and(|failure| failure.is_shut_down())));
            let killed = block_on(supervisor.send(KillContainer { container: ContainerId::new(container) }));
            assert!(!killed.unwrap_or(false));
            assert!(!block_on(supervisor.send(Reset)).unwrap_or(false));
            drop(block_on(supervisor.send(GetStatus)));
            assert_eq!(f.status().containers.live, 0);
            assert!(f.call(2).wait().is_err_and(|failure| failure.is_shut_down()));
            drop(f);
            // A clean end is only counted; what an abort found in user code is told of as that.
            let report = app.shutdown_within(of_the_app);
            assert_eq!(report.functions.len() as u64 + report.ended_cleanly, 1, "{report}");
        });
    }
}

#[test]
fn containers_that_do_not_exist_are_not_killed() {
    unhung(|| {
        let app = App::ephemeral("hostile");
        let f = app.infallible("f", |n: &u32| *n).containers(2).start().expect("valid");
        for container in [2, 3, 1023, 1024, u32::MAX - 1, u32::MAX] {
            assert!(!f.kill_container(ContainerId::new(container)), "{container}");
        }
        assert_eq!(f.call(1).wait().ok(), Some(1));
        assert_eq!(app.shutdown_within(Duration::MAX).functions.len(), 1);
    });
}
