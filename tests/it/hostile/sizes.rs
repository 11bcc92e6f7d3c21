//! Inputs and outputs of no size, of great sizes, and of great alignments.

use std::iter::{repeat, repeat_n};

use futures::executor::block_on;
use futures::stream::iter;
use longshore::App;
use longshore::actor::CallInput;

use crate::support::{Started, unhung};

#[test]
fn values_without_a_size_are_counted_like_all_others() {
    unhung(|| {
        let app = App::ephemeral("sizes");
        let f = app.infallible("f", |(): &()| ()).containers(2).started();
        assert_eq!(f.run(vec![(); 100_000]).expect("infallible").len(), 100_000);
        assert_eq!(f.run_all(vec![(); 100_000]).len(), 100_000);
        assert_eq!(f.map(vec![(); 5_000]).into_iter().filter(Result::is_ok).count(), 5_000);
        let fed = f.map(repeat_n((), 5_000)).window(100).into_iter();
        assert_eq!(fed.filter(Result::is_ok).count(), 5_000);
        assert_eq!(
            f.map(repeat(())).window(1 << 24).into_iter().take(1000).filter(Result::is_ok).count(),
            1000
        );
        assert_eq!(f.for_each(repeat_n((), 3_000)).expect("it goes on").ok, 3_000);
        // The longest vector that Rust allows.
        let mut outcomes = f.map(vec![(); usize::MAX]).into_iter();
        assert_eq!(outcomes.by_ref().take(1000).filter(Result::is_ok).count(), 1000);
        assert_eq!(outcomes.progress().total, Some(usize::MAX as u64));
        drop(outcomes);
        assert!(app.shutdown_blocking().is_clean());
    });
}

/// A value of 64 KiB.
type Large = [u8; 1 << 16];

/// Large values are moved over stacks, and a build without optimisation copies each of them many times.
const STACK_BYTES: usize = 64 << 20;

#[test]
fn inputs_and_outputs_of_64_kibibytes_are_passed_by_value() {
    fn test() {
        let app = App::ephemeral("sizes");
        let f = app.infallible("f", |large: &Large| *large).stack_size(STACK_BYTES).containers(2).started();
        let is_whole = |large: &Large| large.iter().all(|byte| *byte == 9);
        assert!(is_whole(&f.call([9; 1 << 16]).wait().expect("infallible")));
        assert!(
            f.map(vec![[9; 1 << 16]; 5]).into_iter().all(|outcome| is_whole(&outcome.expect("infallible")))
        );
        let fed = f.map((0..5).map(|_| [9; 1 << 16]));
        assert!(fed.into_iter().all(|outcome| is_whole(&outcome.expect("infallible"))));
        let streamed = f.map_stream(iter((0..5).map(|_| [9; 1 << 16])));
        assert!(streamed.into_iter().all(|outcome| is_whole(&outcome.expect("infallible"))));
        assert!(f.run(vec![[9; 1 << 16]; 5]).expect("infallible").iter().all(is_whole));
    }
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    thread.spawn(test).expect("a thread can be made").join().expect("it passes");
}

#[test]
fn inputs_of_64_kibibytes_need_no_settings() {
    unhung(|| {
        const BYTES: usize = 1 << 16;
        let app = App::ephemeral("sizes");
        let f = app.infallible("f", |large: &[u8; BYTES]| large[77]).containers(2).started();
        assert_eq!(
            f.map((0..20).map(|n| [n; BYTES])).into_iter().flatten().collect::<Vec<_>>(),
            Vec::from_iter(0..20)
        );
        let streamed = f.map_stream(iter((0..20).map(|n| [n; BYTES])));
        assert_eq!(streamed.into_iter().flatten().collect::<Vec<_>>(), Vec::from_iter(0..20));
        assert_eq!(
            block_on(f.supervisor().send(CallInput::new([5; BYTES]))).expect("it lives").ok(),
            Some(5)
        );
    });
}

/// A value that is aligned to a page.
#[derive(Clone, Copy)]
#[repr(align(4096))]
struct Page(u8);

impl Page {
    fn is_sound(&self) -> bool {
        std::ptr::from_ref(self).addr().is_multiple_of(4096) && self.0 == 3
    }
}

#[test]
fn values_are_aligned_as_their_type_demands() {
    unhung(|| {
        let app = App::ephemeral("sizes");
        let f = app
            .infallible("f", |page: &Page| if page.is_sound() { *page } else { Page(0) })
            .containers(2)
            .started();
        let sound = |outcomes: Vec<Page>| outcomes.iter().filter(|page| page.is_sound()).count();
        assert_eq!(sound(f.run(vec![Page(3); 300]).expect("infallible")), 300);
        assert_eq!(sound(f.map(vec![Page(3); 300]).into_iter().flatten().collect()), 300);
        assert_eq!(sound(f.map((0..300).map(|_| Page(3))).window(7).into_iter().flatten().collect()), 300);
        assert!(f.call(Page(3)).wait().expect("infallible").is_sound());
    });
}
