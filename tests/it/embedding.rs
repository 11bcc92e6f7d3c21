//! Where longshore may be called from, and what its threads are like.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use longshore::{App, Call, Cause, Context, Function, NotReady, StartError};

use crate::support::{under_each_policy, unhung};

#[test]
fn it_works_inside_tokio_of_either_flavor() {
    let multi = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
    let current = tokio::runtime::Builder::new_current_thread().build();
    for runtime in [multi, current] {
        let runtime = runtime.expect("a runtime");
        unhung(move || {
            runtime.block_on(async {
                let app = App::ephemeral("tokio");
                let f = app.infallible("f", |n: &u32| n + 1).start().expect("valid");
                assert_eq!(f.run(vec![1, 2, 3]).expect("infallible"), [2, 3, 4]);
                assert!(app.shutdown_blocking().is_clean());
            });
        });
    }
}

#[test]
fn a_blocking_call_on_a_container_of_the_same_function_is_a_typed_error() {
    under_each_policy(|app, policy| {
        let myself: Arc<std::sync::OnceLock<Function<u32, String, &'static str>>> = Arc::default();
        let inside = Arc::clone(&myself);
        let f = app
            .function("f", move |n: &u32| {
                let f = inside.get().expect("set before the first call");
                let mut told = vec![];
                if *n == 0 {
                    let call = f.call(1).wait().expect_err("it would wait for itself");
                    told.push((matches!(call.cause(), Cause::WouldDeadlock), call.input() == Some(&1)));
                    let mut map = f.map(vec![1]).into_iter();
                    let first = map.next().expect("an error").map(|_| ()).expect_err("it would wait");
                    told.push((matches!(first.cause(), Cause::WouldDeadlock), map.next().is_none()));
                    told.push((matches!(f.ready(), Err(NotReady::WouldDeadlock)), true));
                }
                Ok(format!("{told:?}"))
            })
            .containers(1)
            .restart(policy)
            .start()
            .expect("valid");
        assert!(myself.set(f.clone()).is_ok());
        assert_eq!(f.call(0).wait().expect("it answers"), "[(true, true), (true, true), (true, true)]");
    });
}

#[test]
fn a_container_may_call_another_function() {
    under_each_policy(|app, policy| {
        let inner = app.infallible("inner", |n: &u32| n * 2).containers(1).start().expect("valid");
        let outer = app
            .infallible("outer", move |n: &u32| inner.call(*n).wait().expect("infallible"))
            .containers(2)
            .restart(policy)
            .start()
            .expect("valid");
        assert_eq!(outer.run((0..50).collect()).expect("infallible")[49], 98);
    });
}

#[test]
fn starting_while_panicking_is_a_typed_error() {
    struct StartsInDrop(Option<App>, std::sync::mpsc::Sender<bool>);
    impl Drop for StartsInDrop {
        fn drop(&mut self) {
            let app = self.0.take().expect("once");
            let refused = app.infallible("f", |n: &u32| *n).start();
            self.1.send(matches!(refused, Err(StartError::Panicking))).expect("the test listens");
        }
    }
    let (send, receive) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _starts = StartsInDrop(Some(App::ephemeral("panicking")), send);
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(thread.join().is_err());
    assert_eq!(receive.recv(), Ok(true));
}

#[test]
fn threads_bear_names_and_the_context_knows_where_it_is() {
    under_each_policy(|app, policy| {
        let f = app
            .infallible("shrink", |(): &()| {
                let context = Context::current().expect("in a container");
                let name = std::thread::current().name().map(str::to_owned);
                (name, format!("{context:?}"), context.input(), context.container().index())
            })
            .containers(1)
            .restart(policy)
            .start()
            .expect("valid");
        let (name, context, input, container) = f.call(()).wait().expect("infallible");
        assert_eq!(name.as_deref(), Some("promise/shrink/0#1"));
        assert_eq!((context.as_str(), input, container), ("promise/shrink/0#1", Some(0), 0));
        assert!(Context::current().is_none(), "not in a container");
    });
}

#[test]
fn the_stack_size_is_what_was_asked_for() {
    fn deep(levels: u32) -> u32 {
        let frame = std::hint::black_box([levels; 256]);
        if levels == 0 { 0 } else { deep(levels - 1) + frame[0].min(1) }
    }
    unhung(|| {
        let app = App::ephemeral("stack");
        // 10 000 frames of more than 1 KiB do not fit the default 8 MiB.
        let f = app.infallible("f", |n: &u32| deep(*n)).stack_size(128 << 20).start().expect("valid");
        assert_eq!(f.call(20_000).wait().expect("infallible"), 20_000);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn no_thread_is_left_behind() {
    fn threads_of(app: &str) -> usize {
        // The kernel keeps 15 bytes of a thread's name.
        let tasks = std::fs::read_dir("/proc/self/task").expect("a Linux");
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with(app)).count()
    }
    unhung(|| {
        for _ in 0..5 {
            let app = App::ephemeral("leak-test");
            let f = app
                .infallible("f", |n: &u64| {
                    if n.is_multiple_of(10) && crate::support::attempt() == 1 {
                        crate::support::crash()
                    }
                })
                .containers(3)
                .restart(longshore::RateLimited::never())
                .start()
                .expect("valid");
            f.for_each(std::iter::successors(Some(0), |n| (*n < 200).then_some(n + 1))).expect("it goes on");
            assert!(threads_of("leak-test") >= 1);
            drop(f);
            assert!(app.shutdown_blocking().is_clean());
            crate::support::until("its threads are gone", || threads_of("leak-test") == 0);
        }
    });
}

#[test]
fn a_call_waited_for_inside_its_function_is_a_typed_error_and_its_input_comes_back() {
    under_each_policy(|app, policy| {
        let (send, receive) = std::sync::mpsc::channel::<Call<u32, bool, Infallible>>();
        let receive = Mutex::new(receive);
        let f = app
            .infallible("f", move |n: &u32| {
                if *n != 0 {
                    return false;
                }
                let call = receive.lock().expect("not poisoned").recv().expect("the test sends one");
                let failure = call.wait().expect_err("it would wait for itself");
                matches!(failure.cause(), Cause::WouldDeadlock) && failure.input() == Some(&7)
            })
            .containers(1)
            .restart(policy)
            .start()
            .expect("valid");
        let outer = f.call(0);
        send.send(f.call(7)).expect("the container listens");
        assert!(outer.wait().expect("infallible"), "WouldDeadlock, with the input");
        assert_eq!(f.status().inputs_waiting, 0, "the inner call is cancelled");
    });
}
