//! Futures that hold the handles of a function can be spawned, whatever its types are.

use std::time::Duration;

use futures::StreamExt;
use longshore::{App, Function};

use crate::support::{Started, unhung};

/// Each type has a lifetime, because the compiler demands more of such types inside a future.
type Lives = Function<&'static str, &'static str, &'static str>;

fn lives(app: &App) -> Lives {
    let f = app.function("f", |text: &&'static str| if text.is_empty() { Err("empty") } else { Ok(*text) });
    f.containers(2).started()
}

#[test]
fn every_future_of_a_function_can_be_spawned() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("it can be built");
    unhung(move || {
        runtime.block_on(async {
            let app = App::ephemeral("spawned");
            let f = lives(&app);
            let ready = tokio::spawn({
                let f = f.clone();
                async move { (f.ready_async().await.is_ok(), f.ready_all_async().await.is_ok()) }
            });
            let run = tokio::spawn({
                let f = f.clone();
                async move { f.run_async(vec!["one", "two"]).await.map_err(|failure| failure.to_string()) }
            });
            let run_all = tokio::spawn({
                let f = f.clone();
                async move { f.run_all_async(vec!["one", ""]).await.into_iter().filter(Result::is_err).count() }
            });
            let for_each = tokio::spawn({
                let f = f.clone();
                async move {
                    let progress = f.for_each_async(futures::stream::iter(["one", "", "three"])).await;
                    progress.map(|progress| (progress.ok, progress.failed)).ok()
                }
            });
            let call = tokio::spawn({
                let f = f.clone();
                async move {
                    let mut call = f.call("one");
                    tokio::select! {
                        outcome = &mut call => outcome.ok(),
                        () = tokio::time::sleep(Duration::from_secs(600)) => None,
                    }
                }
            });
            let map = tokio::spawn({
                let f = f.clone();
                async move {
                    let mut map = f.map(vec!["one", "two"]).return_exceptions().unordered();
                    let first = map.next().await.and_then(Result::ok);
                    let all: Vec<_> = f.map_stream(futures::stream::iter(["one"])).collect().await;
                    (first.is_some(), map.progress().pulled, all.len())
                }
            });
            let held = tokio::spawn({
                let f = f.clone();
                async move {
                    tokio::task::yield_now().await;
                    f.name().to_owned()
                }
            });
            assert_eq!(ready.await.expect("no panic"), (true, true));
            assert_eq!(run.await.expect("no panic").as_deref(), Ok(&["one", "two"][..]));
            assert_eq!(run_all.await.expect("no panic"), 1);
            assert_eq!(for_each.await.expect("no panic"), Some((2, 1)));
            assert_eq!(call.await.expect("no panic"), Some("one"));
            assert_eq!(map.await.expect("no panic"), (true, 2, 1));
            assert_eq!(held.await.expect("no panic"), "f");
            let ended = tokio::spawn(async move { app.shutdown().await });
            assert!(ended.await.expect("no panic").is_clean());
        });
    });
}
