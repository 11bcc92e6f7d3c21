//! Sources that lie about their length, and sources without an end.

use std::iter::repeat;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream::{Stream, iter};
use longshore::{App, Cause};
use proptest::prelude::*;
use proptest::sample::select;

use super::EDGES_USIZE;
use crate::support::{Started, numbers, unhung};

/// A source with a fixed size hint, which may be wrong.
#[derive(Debug, Clone)]
struct Liar {
    left: u64,
    hint: (usize, Option<usize>),
}

impl Iterator for Liar {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        Some(self.left)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.hint
    }
}

/// A source whose size hint changes with each call.
struct Changing<S> {
    source: S,
    asked: Arc<AtomicUsize>,
}

impl<S: Iterator> Iterator for Changing<S> {
    type Item = S::Item;

    fn next(&mut self) -> Option<S::Item> {
        self.source.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let hints =
            [(5, Some(2)), (usize::MAX, None), (0, Some(0)), (usize::MAX, Some(usize::MAX)), (3, Some(3))];
        hints[self.asked.fetch_add(1, Ordering::SeqCst) % hints.len()]
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_source_with_a_wrong_size_hint_gives_all_its_inputs(
        left in 0u64..2000,
        low in select(EDGES_USIZE.to_vec()),
        high in proptest::option::of(select(EDGES_USIZE.to_vec())),
        window in select(vec![1, 2, 100, 1 << 24]),
    ) {
        let given = unhung(move || {
            let app = App::ephemeral("liar");
            let f = numbers(&app, 2, |n| *n);
            let outcomes: Vec<_> = f.map(Liar { left, hint: (low, high) }).window(window).into_iter().collect();
            outcomes.into_iter().map(|outcome| outcome.expect("it does not fail")).collect::<Vec<u64>>()
        });
        prop_assert_eq!(given, (0..left).rev().collect::<Vec<u64>>());
    }

    #[test]
    fn a_source_with_a_changing_size_hint_gives_all_its_inputs(
        begin in 0usize..5, left in 0u64..2000, kind in 0..4, window in select(vec![1, 100, 1 << 24]),
    ) {
        unhung(move || {
            let app = App::ephemeral("liar");
            let f = numbers(&app, 2, |n| *n);
            let source = || Changing { source: 0..left, asked: Arc::new(AtomicUsize::new(begin)) };
            let sum: u64 = (0..left).sum();
            let given = match kind {
                0 => f.map(source()).window(window).into_iter().map(|outcome| outcome.expect("ok")).sum(),
                1 => {
                    let map = f.map_stream(iter(source())).window(window).unordered();
                    map.into_iter().map(|outcome| outcome.expect("ok")).sum()
                }
                2 => {
                    assert_eq!(f.for_each(source()).expect("it goes on").ok, left);
                    sum
                }
                _ => {
                    // The outcomes of one map are the source of another.
                    let inner = f.map(source()).into_iter().map(|outcome| outcome.expect("ok"));
                    f.map(inner).window(window).into_iter().map(|outcome| outcome.expect("ok")).sum()
                }
            };
            assert_eq!(given, sum);
        });
    }
}

#[test]
fn a_source_that_panics_in_size_hint_ends_its_map() {
    struct Unasked;
    impl Iterator for Unasked {
        type Item = u64;
        fn next(&mut self) -> Option<u64> {
            None
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            panic!("do not ask")
        }
    }
    impl Stream for Unasked {
        type Item = u64;
        fn poll_next(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<u64>> {
            std::task::Poll::Ready(None)
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            panic!("do not ask")
        }
    }
    unhung(|| {
        let app = App::ephemeral("liar");
        let f = numbers(&app, 2, |n| *n);
        for map in [f.map(Unasked), f.map_stream(Unasked)] {
            let outcomes: Vec<_> = map.into_iter().collect();
            let [Err(failure)] = &outcomes[..] else { panic!("{outcomes:?}") };
            assert!(matches!(failure.cause(), Cause::Source(panic) if panic.message() == "do not ask"));
        }
    });
}

#[test]
fn endless_and_immense_sources_in_the_widest_window_give_their_first_outcomes_at_once() {
    unhung(|| {
        const WIDEST: u64 = 1 << 24;
        let app = App::ephemeral("endless");
        let f = app.infallible("f", |n: &i64| *n).containers(2).started();
        let immense = f.map(i64::MIN..i64::MAX).window(WIDEST).into_iter();
        for (outcome, n) in immense.zip(i64::MIN..).take(1000) {
            assert_eq!(outcome.expect("infallible"), n);
        }
        assert_eq!(f.map(repeat(7)).window(WIDEST).into_iter().take(1000).flatten().sum::<i64>(), 7000);
        assert_eq!(f.map(0..=i64::MAX).window(WIDEST).unordered().into_iter().take(1000).count(), 1000);
        assert_eq!(f.map_stream(iter(0..)).window(WIDEST).into_iter().take(1000).count(), 1000);
    });
}

#[test]
fn a_source_that_is_millions_of_inputs_ahead_does_not_slow_the_containers_down() {
    unhung(|| {
        const WIDEST: u64 = 1 << 24;
        let app = App::ephemeral("ahead");
        let f = numbers(&app, 2, |n| *n);
        let mut outcomes = f.map(0..).window(WIDEST).into_iter();
        assert!(outcomes.next().is_some_and(|first| first.is_ok()));
        crate::support::until("the source is far ahead", || outcomes.progress().pulled >= WIDEST / 2);
        // If each claim visited all inputs that are ahead, this would take minutes.
        let taken = outcomes.by_ref().take(WIDEST as usize / 4).filter(Result::is_ok).count();
        assert_eq!(taken, WIDEST as usize / 4);
    });
}
