//! Values that need a large stack to drop.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use longshore::actor::CallInput;
use longshore::{App, BoxError, Context, RateLimited, Worker};

use crate::support::{Started, under_each_policy, unhung, until};

/// A list whose drop needs some ten MiB of stack. Its last node holds the witness, which shows when the drop
/// is over.
struct Deep {
    next: Option<Box<Deep>>,
    _witness: Option<Arc<()>>,
}

impl Deep {
    fn new(witness: &Arc<()>) -> Self {
        let end = Self { next: None, _witness: Some(Arc::clone(witness)) };
        (0..200_000).fold(end, |next, _| Self { next: Some(Box::new(next)), _witness: None })
    }
}

impl std::fmt::Debug for Deep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "deep: {}", self.next.is_some())
    }
}

impl std::fmt::Display for Deep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Deep {}

/// The stack size of functions with such values. The stack of the test's own thread is small.
const DEEP_STACK: usize = 256 << 20;

#[test]
fn inputs_that_need_a_large_stack_to_drop_are_dropped_on_one() {
    under_each_policy(|app, policy| {
        let witness = Arc::new(());
        let make = || Deep::new(&witness);
        let all_dropped = |what| until(what, || Arc::strong_count(&witness) == 1);
        let f = app
            .function("f", |deep: &Deep| if deep.next.is_some() { Ok(()) } else { Err(()) })
            .containers(2)
            .stack_size(DEEP_STACK)
            .restart(policy)
            .started();
        let deep = |n| (0..n).map(|_| make()).collect::<Vec<_>>();
        // All inputs are executed, and this thread takes the outcomes.
        assert_eq!(f.run(deep(8)).expect("they have a next one").len(), 8);
        assert_eq!(f.for_each(deep(4)).expect("it goes on").ok, 4);
        let (kept, made) = (Arc::clone(&witness), AtomicUsize::new(0));
        let source =
            std::iter::from_fn(move || (made.fetch_add(1, Ordering::SeqCst) < 4).then(|| Deep::new(&kept)));
        assert_eq!(f.map(source).unordered().into_iter().filter(Result::is_ok).count(), 4);
        all_dropped("executed inputs are dropped");
        // One map is dropped when some inputs were executed, some pulled, and some are in the source. The
        // others never began.
        drop(f.map(deep(16)).window(2).into_iter().next());
        drop(f.map(deep(4)));
        drop(f.map(deep(4).into_iter().rev()));
        drop(f.call(make()));
        all_dropped("inputs of dropped maps and calls are dropped");
        f.abort();
        until("the function is aborted", || f.run(Vec::new()).is_err());
        drop(f.call(make()));
        drop(f.supervisor().try_send(CallInput::new(make())));
        until("the supervisor has ended", || !f.supervisor().connected());
        drop(f.supervisor().try_send(CallInput::new(make())));
        all_dropped("refused inputs are dropped");
    });
}

/// Drops a value that belongs to the test, on a thread with a large stack.
fn drop_deep<T: Send>(value: T) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(DEEP_STACK);
        thread.spawn_scoped(scope, || drop(value)).expect("a thread can be made");
    });
}

#[test]
fn outputs_errors_and_captures_that_need_a_large_stack_to_drop_are_dropped_on_one() {
    under_each_policy(|_, policy| {
        let app = App::ephemeral("deep");
        let witness = Arc::new(());
        let (captured, kept) = (Deep::new(&witness), Arc::clone(&witness));
        let worth = Deep::new(&witness);
        let f = app
            .function("f", move |n: &u64| {
                assert!(captured.next.is_some());
                if *n == 5 { Err(Deep::new(&kept)) } else { Ok(Deep::new(&kept)) }
            })
            .retry_if(move |_| worth.next.is_none())
            .stack_size(DEEP_STACK)
            .containers(2)
            .restart(policy)
            .started();
        drop_deep(f.run((0..10).collect()));
        assert_eq!(f.for_each(0..10u64).expect("it goes on").failed, 1);
        let all_there = || {
            let mut outcomes = f.map(0..10u64).return_exceptions().into_iter();
            drop_deep(outcomes.next());
            until("all inputs are completed", || outcomes.progress().completed() == 10);
            outcomes
        };
        drop(all_there());
        let saved = all_there().salvage();
        assert_eq!(saved.len(), 8, "all but the output that was taken and the error");
        drop_deep(saved);
        // A builder is dropped. Its stack size is set before one of its closures and after the other.
        let (other, worth) = (Deep::new(&witness), Deep::new(&witness));
        let never = app.infallible("never", move |_: &u64| other.next.is_some());
        drop(never.stack_size(DEEP_STACK).retry_if(move |_| worth.next.is_none()));
        until("only the captured values are left", || Arc::strong_count(&witness) == 4);
        drop((f, app));
        until("the captures are dropped", || Arc::strong_count(&witness) == 1);
    });
}

#[test]
fn errors_of_enter_that_need_a_large_stack_to_drop_are_dropped_on_one() {
    struct Never;
    impl Worker for Never {
        type Input = u64;
        type Output = u64;
        type Error = Infallible;

        fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Infallible> {
            Ok(*input)
        }
    }
    unhung(|| {
        let (app, witness) = (App::ephemeral("deep"), Arc::new(()));
        let kept = Arc::clone(&witness);
        let enter = move |_: &Context| Err::<Never, _>(BoxError::from(Deep::new(&kept)));
        let give_up = RateLimited::new().max_crashes(0).max_failure_rate(0.0);
        let f = app.worker("f", enter).containers(1).stack_size(DEEP_STACK).restart(give_up).started();
        assert!(f.ready().is_err());
        let failure = f.call(1).wait().expect_err("it gave up");
        drop((app, f));
        drop(failure); // the last owner of the crash
        until("the error is dropped", || Arc::strong_count(&witness) == 1);
    });
}

#[test]
fn helper_threads_and_blocking_tasks_of_a_container_have_its_stack_size() {
    unhung(|| {
        let (app, witness) = (App::ephemeral("deep"), Arc::new(()));
        let kept = Arc::clone(&witness);
        let f = app
            .function_async("f", async move |_: &u64| {
                let deep = Deep::new(&kept);
                tokio::task::spawn_blocking(move || drop(deep)).await.expect("it does not panic");
                Ok::<_, Infallible>(())
            })
            .containers(1)
            .stack_size(DEEP_STACK)
            .started();
        f.call(1).wait().expect("infallible");
        let kept = Arc::clone(&witness);
        let g = app
            .infallible("g", move |_: &u64| {
                let (scope, deep) = (Context::current().expect("inside").scope(), Deep::new(&kept));
                scope.spawn(move || drop(deep)).expect("a thread can be made").join().expect("no panic");
            })
            .containers(1)
            .stack_size(DEEP_STACK)
            .started();
        g.call(1).wait().expect("infallible");
        assert_eq!(Arc::strong_count(&witness), 3);
    });
}
