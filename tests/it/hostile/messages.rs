//! Messages with extreme values in them.

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
use crate::support::{numbers, numbers_under, unhung};

type Infallible = std::convert::Infallible;

/// Counts the outputs, and sends their number to the test with the last batch.
struct Counter {
    outcomes: usize,
    told: std::sync::mpsc::Sender<usize>,
}

impl Actor for Counter {
    type Context = actix::Context<Self>;
}

impl Handler<Batch<u64, u64, Infallible>> for Counter {
    type Result = MessageResult<Batch<u64, u64, Infallible>>;

    fn handle(&mut self, batch: Batch<u64, u64, Infallible>, _: &mut Self::Context) -> Self::Result {
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
    fn a_map_begun_by_message_with_any_settings_is_refused_or_works(
        window in proptest::option::of(select(EDGES_U64.to_vec())),
        retries in proptest::option::of(retries()),
        label in proptest::option::of(names()),
        unordered in any::<bool>(),
    ) {
        unhung(move || {
            let (told, outcomes) = std::sync::mpsc::channel();
            System::new().block_on(async move {
                let app = App::ephemeral("hostile");
                let f = numbers(&app, 2, |n| *n);
                let to = Counter { outcomes: 0, told }.start().recipient();
                let mut start = StartMap::new(0..50u64, to);
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
    fn a_shutdown_with_any_limit_ends_and_refuses_later_messages(
        limits in proptest::collection::vec(
            (durations(), select(vec![Ending::Drain, Ending::Stop, Ending::Abort])), 1..4),
        container in any::<u32>(),
        of_the_app in durations(),
    ) {
        unhung(move || {
            let app = App::ephemeral("hostile");
            let f = numbers_under(RateLimited::never(), &app, 2, |n| *n);
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
            // The report only counts a clean end, and lists an end that was not clean.
            let report = app.shutdown_within(of_the_app);
            assert_eq!(report.functions.len() as u64 + report.ended_cleanly, 1, "{report}");
        });
    }
}

#[test]
fn a_kill_of_a_container_that_does_not_exist_returns_false() {
    unhung(|| {
        let app = App::ephemeral("hostile");
        let f = numbers(&app, 2, |n| *n);
        for container in [2, 3, 1023, 1024, u32::MAX - 1, u32::MAX] {
            assert!(!f.kill_container(ContainerId::new(container)), "{container}");
        }
        assert_eq!(f.call(1).wait().ok(), Some(1));
        assert_eq!(app.shutdown_within(Duration::MAX).functions.len(), 1);
    });
}
