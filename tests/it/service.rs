//! A function as a tower service: its readiness is the room for calls.

use std::task::{Context, Poll, Waker};

use longshore::{App, RateLimited};
use tower_service::Service;

use crate::support::{Gate, Started, crash, numbers_under, under_each_policy, unhung, until};

/// 8.6
#[test]
fn a_service_is_ready_while_there_is_room_and_a_clone_holds_none() {
    under_each_policy(|app, policy| {
        let gate = Gate::default();
        let inside = gate.clone();
        let f = app.infallible("f", move |n: &u64| {
            inside.pass();
            *n
        });
        let f = f.containers(1).calls_max(2).restart(policy).started();
        let mut cx = Context::from_waker(Waker::noop());
        let mut service = f.service();
        assert!(service.poll_ready(&mut cx).is_ready());
        assert!(service.poll_ready(&mut cx).is_ready(), "asked twice, it holds one place");
        assert_eq!(f.status().calls.permits, 1);
        let mut clone = service.clone();
        assert_eq!(f.status().calls.permits, 1, "a clone holds none");
        assert!(clone.poll_ready(&mut cx).is_ready());
        let mut third = clone.clone();
        assert!(third.poll_ready(&mut cx).is_pending());
        assert!(third.poll_ready(&mut cx).is_pending());
        assert_eq!(f.status().calls.reserving, 1, "it waits once");
        let (first, second) = (service.call(1), clone.call(2));
        assert!(third.poll_ready(&mut cx).is_pending(), "both calls execute or wait");
        drop(second);
        assert!(third.poll_ready(&mut cx).is_ready(), "a request that is dropped makes room");
        let third = third.call(3);
        assert!(service.call(4).wait().expect_err("it was not ready").is_overloaded());
        gate.open();
        assert_eq!((first.wait().expect("it returns"), third.wait().expect("it returns")), (1, 3));
        until("there is room", || f.status().calls.pending == 0);
        assert!(service.poll_ready(&mut cx).is_ready());
        drop(service);
        assert_eq!(f.status().calls.permits, 0, "a service that is dropped gives its place back");
    });
}

/// 8.6
#[test]
fn a_service_of_a_function_that_takes_no_work_is_ready_to_give_requests_back() {
    unhung(|| {
        let app = App::ephemeral("service");
        let limited = RateLimited::new().max_crashes(0);
        let f = numbers_under(limited, &app, 1, |n| if *n == 0 { crash() } else { *n });
        let mut cx = Context::from_waker(Waker::noop());
        let mut service = f.service();
        assert!(f.call(0).wait().is_err());
        until("it gives up", || f.status().gave_up.is_some());
        let Poll::Ready(Ok(())) = service.poll_ready(&mut cx) else { panic!("it is not ready") };
        let refused = service.call(7).wait().expect_err("it gave up");
        assert!(refused.is_given_up() && refused.input() == Some(&7));
        assert!(f.reset());
        assert!(service.poll_ready(&mut cx).is_ready());
        assert_eq!(service.call(7).wait().expect("it takes work again"), 7);
        f.drain();
        assert!(service.poll_ready(&mut cx).is_ready());
        assert!(service.call(8).wait().expect_err("it drains").is_shut_down());
    });
}
