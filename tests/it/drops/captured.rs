//! The moment at which captured values and thread-local handles are dropped.

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use longshore::actor::GetStatus;
use longshore::{App, Call, Context, Function, Outcomes, Worker};

use crate::support::{Counted, Started, numbers_under, under_each_policy, unhung, until};

#[test]
fn captured_values_are_dropped_as_soon_as_the_function_has_ended() {
    /// Exits together with the others, so that the function has ended when the supervisor handles the first
    /// exit.
    struct Leaves(Arc<Barrier>);
    impl Worker for Leaves {
        type Input = u8;
        type Output = u8;
        type Error = std::convert::Infallible;
        fn call(&mut self, n: &u8, _: &Context) -> Result<u8, Self::Error> {
            Ok(*n)
        }
        fn exit(self, _: &Context) {
            self.0.wait();
        }
    }
    unhung(|| {
        // This function keeps the engine's thread alive. Its end would drop everything that it holds.
        let other = App::ephemeral("other");
        let _kept = other.infallible("f", |n: &u8| *n).started();
        let drops = Arc::new(AtomicU64::new(0));
        for round in 1..=20 {
            let app = App::ephemeral("captures");
            let (captured, leave) = (Counted(Arc::clone(&drops)), Arc::new(Barrier::new(9)));
            let together = Arc::clone(&leave);
            let enter = move |_: &Context| {
                assert_eq!(captured.0.load(Ordering::SeqCst), round - 1);
                Ok(Leaves(Arc::clone(&together)))
            };
            let f = app.worker("f", enter).containers(8).exit_timeout(Duration::MAX).started();
            until("all containers are live", || f.status().containers.live == 8);
            f.drain();
            until("all containers are in their exit", || f.status().containers.exiting == 8);
            // The supervisor handles these messages before the first exit, and by then all containers have
            // left.
            (0..1000).for_each(|_| f.supervisor().do_send(GetStatus));
            leave.wait();
            drop(f);
            app.shutdown_blocking();
            until("the captured value is dropped", || drops.load(Ordering::SeqCst) == round);
        }
    });
}

type Plain = Function<u64, u64, Infallible>;

/// The values that a thread keeps in a thread-local until its end.
type Kept = (Option<Call<u64, u64, Infallible>>, Option<Outcomes<u64, u64, Infallible>>, Option<App>);

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new((None, None, None)) };
}

fn keep(f: &Plain, app: Option<App>) {
    KEPT.with(|kept| kept.take()); // thread-locals are dropped in the reverse order of their first use
    assert_eq!(f.call(1).wait().expect("infallible"), 1);
    let mut outcomes = f.map(0..1_000_000u64).into_iter();
    assert_eq!(outcomes.next().and_then(Result::ok), Some(0));
    KEPT.set((Some(f.call(2)), Some(outcomes), app));
}

#[test]
fn calls_maps_and_apps_in_a_thread_local_are_dropped_with_their_thread() {
    under_each_policy(|_, policy| {
        let drops = Arc::new(AtomicU64::new(0));
        let make = || {
            let (app, captured) = (App::ephemeral("kept"), Counted(Arc::clone(&drops)));
            let f = numbers_under(policy.clone(), &app, 1, move |n| {
                let _ = &captured;
                *n
            });
            (app, f)
        };
        // First on a thread of the application, then on the thread of a container.
        let (app, f) = make();
        std::thread::spawn(move || keep(&f, Some(app))).join().expect("no panic");
        until("the function has ended", || drops.load(Ordering::SeqCst) == 1);
        let (app, f) = make();
        let (other, kept) = (App::ephemeral("other"), Mutex::new(Some((app, f))));
        let g = other
            .infallible("g", move |(): &()| {
                let (app, f) = kept.lock().expect("not poisoned").take().expect("called once");
                keep(&f, Some(app));
            })
            .containers(1)
            .started();
        g.call(()).wait().expect("infallible");
        drop(g);
        assert!(other.shutdown_blocking().is_clean());
        until("the function has ended", || drops.load(Ordering::SeqCst) == 2);
    });
}
