//! The answer to each ending of a call, from a server in this process whose work is the test's own.

use std::convert::identity;
use std::panic::panic_any;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use longshore::{App, BoxError, Builder, ContainerId, Context, CrashLoopBackoff, RateLimited, Worker};
use thumbnails::picture::{NotMade, Picture, Thumbnail};
use thumbnails::{Checked, Thumbnails, settings};

use crate::client::{Answer, HUNG, health, post, send};
use crate::here::{served, served_within};
use crate::pictures::GOOD;

type Made = Result<Thumbnail, NotMade>;

/// Starts a function with the settings of the service, except for its work and for what `with` changes. Its
/// containers are ready.
fn start(
    work: impl Fn(&Picture) -> Made + Send + Sync + 'static,
    with: impl FnOnce(Builder<Picture, Thumbnail, NotMade>) -> Builder<Picture, Thumbnail, NotMade>,
) -> Thumbnails {
    let app = App::deployed("test");
    let function = app.function("thumbnail", work).containers(2).crash_retries(0);
    let thumbnails = with(function.calls_max(4)).start().expect("the settings are valid");
    thumbnails.ready_all().expect("its containers enter");
    thumbnails
}

/// A step of work that ends only when its call is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Begins(ContainerId),
    /// The container is free again.
    Ends,
}

/// Work that passes checkpoints for ever, with its steps.
fn hanging() -> (impl Fn(&Picture) -> Made + Send + Sync + 'static, Steps) {
    steps_of(|| {
        loop {
            Context::checkpoint();
            thread::park_timeout(Duration::from_millis(1));
        }
    })
}

/// The steps of some work, and the work with them.
fn steps_of(
    work: impl Fn() + Send + Sync + 'static,
) -> (impl Fn(&Picture) -> Made + Send + Sync + 'static, Steps) {
    struct End<'a>(&'a Sender<Step>);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            let _ = self.0.send(Step::Ends); // the test may have ended
        }
    }
    let (send, steps) = channel();
    let stepping = move |_: &Picture| {
        let container = Context::current().expect("in a container").container();
        let _ = send.send(Step::Begins(container)); // the test may have ended
        let _end = End(&send);
        work();
        unreachable!("it is endless")
    };
    (stepping, Steps(steps))
}

struct Steps(Receiver<Step>);

impl Steps {
    /// Waits until work begins, and returns its container.
    fn begun(&self) -> ContainerId {
        match self.0.recv_timeout(HUNG) {
            Ok(Step::Begins(container)) => container,
            other => panic!("it does not begin: {other:?}"),
        }
    }

    /// Waits a little for work to begin, and returns whether it has.
    fn has_begun(&self) -> bool {
        self.0.recv_timeout(Duration::from_millis(20)).is_ok()
    }

    /// Waits until work ends. A container that is free may begin another call before that is cancelled too.
    fn ended(&self) {
        while self.0.recv_timeout(HUNG).expect("it hangs") != Step::Ends {}
    }
}

fn answer_of(thumbnails: &Thumbnails) -> Answer {
    post(served(thumbnails), &GOOD).expect("it is answered")
}

#[test]
fn a_picture_that_the_decoder_panics_at_is_answered_with_422() {
    let answer = answer_of(&start(|_| panic_any("the palette is empty"), identity));
    assert_eq!((answer.status, answer.retry_after), (422, None));
    assert!(answer.text().contains("the palette is empty"), "{answer:?}");
}

#[test]
fn a_picture_that_needs_more_memory_than_a_container_may_use_is_answered_with_413() {
    let greedy = |_: &Picture| {
        let mut kept = Vec::new();
        loop {
            Context::checkpoint();
            kept.push(vec![1_u8; 1 << 20]);
        }
    };
    let answer = answer_of(&start(greedy, |function| function.memory_limit(8 << 20)));
    assert_eq!((answer.status, answer.retry_after), (413, None), "{}", answer.text());
}

#[test]
fn a_call_too_many_is_answered_with_503() {
    let (work, steps) = hanging();
    let thumbnails = start(work, identity);
    let address = served(&thumbnails);
    let places: Vec<_> = (0..4).map(|_| thumbnails.try_reserve().expect("there are four")).collect();
    let answer = post(address, &GOOD).expect("it is answered");
    assert_eq!((answer.status, answer.retry_after), (503, Some(1)), "{}", answer.text());
    assert_eq!(health(address).status, 200, "to be full is no illness");
    drop(places);
    let sent = send(address, &GOOD).expect("it is taken");
    steps.begun();
    drop(sent);
    steps.ended();
}

#[test]
fn a_function_that_has_given_up_is_answered_with_503_and_is_not_healthy() {
    let policy = RateLimited::new().max_crashes(0).max_failure_rate(0.0);
    let thumbnails = start(|_| panic_any("no codec"), |function| function.restart(policy));
    let address = served(&thumbnails);
    assert_eq!(health(address).status, 200);
    assert_eq!(post(address, &GOOD).expect("it is answered").status, 422, "the one that broke the limit");
    let answer = post(address, &GOOD).expect("it is answered");
    assert_eq!((answer.status, answer.retry_after), (503, Some(60)), "{}", answer.text());
    let health = health(address);
    assert_eq!((health.status, health.text().lines().next()), (503, Some("health gave_up")));
}

/// A decoder that cannot be made.
struct NoCodec;

impl Worker for NoCodec {
    type Input = Picture;
    type Output = Thumbnail;
    type Error = NotMade;

    fn call(&mut self, _: &Picture, _: &Context) -> Made {
        unreachable!("it is never made")
    }
}

#[test]
fn a_crash_loop_is_answered_with_503_until_its_next_restart_and_is_not_healthy() {
    let app = App::deployed("test");
    let enter = |_: &Context| Err::<NoCodec, _>(BoxError::from("there is no codec"));
    let policy = CrashLoopBackoff::new().initial(Duration::from_secs(40));
    let policy = policy.max(Duration::from_secs(60)).reset_after(Duration::from_secs(120));
    let thumbnails = app.worker("thumbnail", enter).containers(1).restart(policy);
    let thumbnails = thumbnails.start().expect("the settings are valid");
    let is_in_a_delay = || thumbnails.status().crash_loop.is_some_and(|it| it.next_restart.is_some());
    while !is_in_a_delay() {
        thread::yield_now();
    }
    let address = served_within(&thumbnails, Duration::from_secs(5));
    let answer = post(address, &GOOD).expect("it is answered");
    assert_eq!(answer.status, 503);
    let seconds = answer.retry_after.expect("it says when");
    assert!((10..=60).contains(&seconds), "half of the delay is random: {seconds}");
    assert_eq!(thumbnails.status().calls.pending, 0, "it does not wait for the restart");
    let health = health(address);
    assert_eq!((health.status, health.text().lines().next()), (503, Some("health crash_loop")));
}

#[test]
fn a_picture_that_takes_too_long_is_answered_with_504_and_frees_its_container() {
    let (work, steps) = hanging();
    let thumbnails = start(work, identity);
    let address = served_within(&thumbnails, Duration::from_millis(20));
    // On a busy machine the time may be over before a container begins with the picture.
    let has_begun = (0..1_000).any(|_| {
        let answer = post(address, &GOOD).expect("it is answered");
        assert_eq!((answer.status, answer.retry_after), (504, None));
        steps.has_begun()
    });
    assert!(has_begun);
    steps.ended();
    assert_eq!(thumbnails.status().crashes, 0);
}

#[test]
fn a_picture_at_which_the_decoder_hangs_is_answered_with_504_and_its_container_is_replaced() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    // It hangs at the picture without bytes only, and passes no checkpoint.
    let work = move |picture: &Picture| {
        if picture.0.is_empty() {
            let _ = released.lock().map(|released| released.recv());
        }
        picture.thumbnail()
    };
    let thumbnails = start(work, |function| function.containers(1).timeout(Duration::from_secs(1)));
    let address = served(&thumbnails);
    let answer = post(address, b"").expect("it is answered");
    assert_eq!((answer.status, answer.retry_after), (504, None), "{}", answer.text());
    let made = (0..100).any(|_| post(address, &GOOD).expect("it is answered").status == 200);
    assert!(made, "the next container decodes");
    let status = thumbnails.status();
    assert_eq!((status.crashes, status.containers.abandoned), (1, 1), "{status}");
    drop(release);
}

#[test]
fn a_picture_whose_container_was_killed_by_hand_is_answered_with_503() {
    let (work, steps) = hanging();
    let thumbnails = start(work, identity);
    let sent = send(served(&thumbnails), &GOOD).expect("it is taken");
    assert!(thumbnails.kill_container(steps.begun()));
    let answer = sent.answer().expect("it is answered");
    assert_eq!((answer.status, answer.retry_after), (503, Some(1)), "{}", answer.text());
}

#[test]
fn a_function_that_ends_is_answered_with_503_and_is_not_healthy() {
    let (work, steps) = hanging();
    let thumbnails = start(work, identity);
    let address = served(&thumbnails);
    let sent = send(address, &GOOD).expect("it is taken");
    steps.begun();
    thumbnails.drain();
    let answer = post(address, &GOOD).expect("it is answered");
    assert_eq!((answer.status, answer.retry_after), (503, Some(5)), "{}", answer.text());
    let health = health(address);
    assert_eq!((health.status, health.text().lines().next()), (503, Some("health ending")));
    thumbnails.abort();
    assert_eq!(sent.answer().expect("it is answered").status, 503);
}

#[test]
fn a_client_that_leaves_frees_its_container_at_the_next_checkpoint() {
    let (work, steps) = hanging();
    let thumbnails = start(work, identity);
    let address = served(&thumbnails);
    let executing: Vec<_> = (0..2).map(|_| send(address, &GOOD).expect("it is taken")).collect();
    steps.begun();
    steps.begun();
    drop(executing);
    steps.ended();
    steps.ended();
    let snapshot = thumbnails.snapshot();
    assert_eq!((snapshot.totals.cancelled, thumbnails.status().crashes), (2, 0), "{snapshot}");
}

#[test]
fn a_decoder_that_reads_passes_checkpoints() {
    // Without the checkpoints of the reader, this would read for ever.
    let (work, steps) = steps_of(|| {
        std::io::copy(&mut Checked::new(std::io::repeat(7)), &mut std::io::sink()).expect("it is endless");
    });
    let thumbnails = start(work, identity);
    let call = thumbnails.call(Picture(GOOD.clone().into()));
    steps.begun();
    drop(call);
    steps.ended();
}

#[test]
fn a_function_whose_containers_all_hang_is_not_healthy() {
    let (work, steps) = hanging();
    let thumbnails = start(work, identity);
    let address = served(&thumbnails);
    let sent: Vec<_> = (0..3).map(|_| send(address, &GOOD).expect("it is taken")).collect();
    steps.begun();
    steps.begun();
    // The engine calls a function stuck when nothing has completed for ten seconds.
    let mut asked = (0..300).map(|_| {
        thread::park_timeout(Duration::from_millis(100));
        health(address)
    });
    let ill = asked.find(|health| health.status != 200).expect("it notices within half a minute");
    assert_eq!((ill.status, ill.text().lines().next()), (503, Some("health stuck")));
    assert_eq!(ill.numbers()["live"], 2, "although all of them are live");
    drop(sent);
    steps.ended();
    steps.ended();
}

#[test]
fn the_settings_of_the_service_are_valid() {
    let app = App::deployed("test");
    assert!(settings(&app).start().is_ok());
}
