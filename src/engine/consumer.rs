//! A consumer takes the outcomes of one map as values of their types, and ends the map at a failure.
//!
//! The [`Reader`] under it finds the outcomes and makes room for new inputs.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::task::Poll;

use crate::contain::drops::drop_in_turn;
use crate::data::failure::{Bug, Failure, Reason};
use crate::data::shape::{Outcome, Types};
use crate::engine::dispatch::Wait;
use crate::engine::map_end::MapEnd;
use crate::engine::reader::{Failures, Reader, ReaderGuard, Reading};

/// All outcomes in input order, or none if the map has ended as a whole, with the failure that ended it.
pub(crate) type All<I, O, E> = (Vec<Outcome<I, O, E>>, Option<Failure<I, E>>);

/// The single outcome of a call.
pub(crate) fn outcome_of_call<I, O, E>(polled: Poll<Option<Outcome<I, O, E>>>) -> Outcome<I, O, E> {
    match polled {
        Poll::Ready(Some(outcome)) => outcome,
        Poll::Pending | Poll::Ready(None) => {
            Err(Failure::of_map(Reason::Engine(Bug("a call ended without an outcome".into()))))
        }
    }
}

/// Takes the outcomes of one job, and closes the job when it is dropped.
pub(crate) struct Consumer<I, O, E> {
    reader: ReaderGuard,
    /// The number of outcomes taken that were `Ok`.
    oks: u64,
    types: Types<I, O, E>,
}

impl<I, O, E> Deref for Consumer<I, O, E> {
    type Target = Reader;

    #[inline]
    fn deref(&self) -> &Reader {
        &self.reader.0
    }
}

impl<I, O, E> DerefMut for Consumer<I, O, E> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Reader {
        &mut self.reader.0
    }
}

impl<I, O, E> Consumer<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Takes the outcomes of `reader` as values of these types.
    ///
    /// # Panics
    ///
    /// If the reader belongs to a function with other types.
    pub(crate) fn over(reader: ReaderGuard) -> Self {
        assert!(reader.0.dispatch.settings.shape.is::<I, O, E>(), "the types are the function's types");
        Self { reader, oks: 0, types: PhantomData }
    }

    /// The next outcome, if it is at hand.
    #[inline]
    #[expect(unsafe_code, reason = "moves an outcome out of its chunk")]
    pub(crate) fn take(&mut self) -> Option<Outcome<I, O, E>> {
        let reader = &mut **self;
        let current = reader.current.as_mut()?;
        // SAFETY: only the consumer of a job takes its outcomes. It is one value, and takes them through
        // `&mut self`. The types were checked by `over`.
        let outcome: Outcome<I, O, E> = unsafe { current.slots.take(current.at) }?;
        current.at += 1;
        reader.next += 1;
        reader.unsent += 1;
        if current.at == current.end || reader.unsent >= reader.report_min {
            reader.after_yield();
        }
        if outcome.is_ok() {
            self.oks += 1;
        } else if reader.failures != Failures::Yield {
            reader.end();
        }
        Some(outcome)
    }

    /// Takes the next outcome, and waits for it in the way that `wait` says.
    pub(crate) fn poll_next(&mut self, wait: Wait<'_>) -> Poll<Option<Outcome<I, O, E>>> {
        loop {
            if let Some(outcome) = self.take() {
                return Poll::Ready(Some(outcome));
            }
            match Reader::poll_next(self, wait) {
                Reading::Places => {}
                Reading::Pending => return Poll::Pending,
                Reading::End(None) => return Poll::Ready(None),
                Reading::End(Some(end)) => return Poll::Ready(Some(Err(failure_of(end)))),
            }
        }
    }

    /// Takes all outcomes, once they are ready. Called only if the reader was made by `of_all`.
    #[expect(unsafe_code, reason = "moves outcomes out of their chunk")]
    pub(crate) fn poll_all(&mut self, wait: Wait<'_>) -> Option<All<I, O, E>> {
        let mut all = Vec::new();
        let end = self.all(wait, &mut |outcomes| {
            // SAFETY: all places hold outcomes, and the types were checked by `over`.
            all = unsafe { outcomes.into_vec() };
        })?;
        Some((all, end.map(failure_of)))
    }

    /// Ends the job, and takes the finished outputs that were not yielded, with their indices, in input
    /// order.
    #[expect(unsafe_code, reason = "moves outcomes out of their chunks")]
    pub(crate) fn salvage(&mut self) -> Vec<(u64, O)> {
        self.end();
        let expected = self.progress().ok.saturating_sub(self.oks);
        let chunks = self.chunks();
        let mut saved = Vec::new();
        loop {
            for (first, slots) in &chunks {
                for place in slots.places() {
                    // SAFETY: the same holds as in `take`.
                    let outcome: Option<Outcome<I, O, E>> = unsafe { slots.take(place) };
                    match outcome {
                        Some(Ok(output)) => saved.push((first + place as u64, output)),
                        Some(failure @ Err(_)) => drop_in_turn(self.stack(), failure),
                        None => {}
                    }
                }
            }
            if saved.len() as u64 >= expected {
                break;
            }
            // A committed output that is not there yet is about to be published by its thread.
            std::thread::yield_now();
        }
        saved.sort_by_key(|(index, _)| *index);
        saved
    }
}

/// Turns the end of a map into the failure that its consumer takes.
fn failure_of<I, E>(end: MapEnd) -> Failure<I, E>
where
    I: 'static,
    E: 'static,
{
    match end {
        MapEnd::OfMap(reason) => Failure::of_map(reason),
        MapEnd::OfInput(failure) => *failure.downcast().expect("a failure is of its function's types"),
    }
}
