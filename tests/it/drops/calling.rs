//! Values that call their function in their drop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use longshore::{Context, Worker};

use crate::support::{Gate, Started, under_each_policy, until};

type Ask = Arc<dyn Fn() + Send + Sync>;

/// The action of [`Asks`] in its drop. A test takes it back at its end, because the question holds a handle
/// to a function that may hold such values.
#[derive(Clone, Default)]
struct Question(Arc<Mutex<Option<Ask>>>);

impl Question {
    /// Sets the question, and returns the number of times it has been answered.
    fn is(&self, ask: impl Fn() + Send + Sync + 'static) -> Arc<AtomicU64> {
        let answers = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&answers);
        *self.0.lock().expect("not poisoned") = Some(Arc::new(move || {
            ask();
            count.fetch_add(1, Ordering::SeqCst);
        }));
        answers
    }

    fn take_back(&self) {
        let question = self.0.lock().expect("not poisoned").take();
        drop(question);
    }
}

/// Asks its question in its drop.
struct Asks(u64, Question);

impl Drop for Asks {
    fn drop(&mut self) {
        let question = self.1.0.lock().expect("not poisoned").clone();
        if let Some(question) = question {
            question();
        }
    }
}

impl std::fmt::Debug for Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "asks {}", self.0)
    }
}

impl std::fmt::Display for Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Asks {}

#[test]
fn the_drop_of_an_error_of_enter_may_call_its_function() {
    struct Never;
    impl Worker for Never {
        type Input = u64;
        type Output = u64;
        type Error = std::convert::Infallible;

        fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Self::Error> {
            Ok(*input)
        }
    }
    under_each_policy(|app, policy| {
        let question = Question::default();
        let asked = question.clone();
        let enter =
            move |_: &Context| Err::<Never, _>(longshore::BoxError::from(Box::new(Asks(0, asked.clone()))));
        let f = app.worker("f", enter).containers(1).restart(policy).started();
        let handle = f.clone();
        let answers = question.is(move || assert_eq!(handle.status().containers.live, 0));
        until("the errors of three generations were dropped", || answers.load(Ordering::SeqCst) >= 3);
        f.abort();
        question.take_back();
    });
}

#[test]
fn the_drops_inside_a_failure_may_call_its_function() {
    under_each_policy(|app, policy| {
        let (question, begun, gate) = (Question::default(), Gate::default(), Gate::default());
        let (asked, told, inside) = (question.clone(), begun.clone(), gate.clone());
        let f = app
            .function("f", move |input: &Asks| {
                if input.0 == 3 {
                    told.open();
                    inside.pass();
                    return Err(Asks(3, asked.clone()));
                }
                Ok(input.0)
            })
            .containers(2)
            .restart(policy)
            .started();
        let handle = f.clone();
        let answers = question.is(move || assert!(handle.status().containers.live <= 2));
        let asked = question.clone();
        let mut outcomes = f.map((0..1_000).map(move |n| Asks(n, asked.clone()))).window(8).into_iter();
        assert_eq!(outcomes.next().and_then(Result::ok), Some(0));
        begun.pass();
        // The end of the drain and the failure compete to be the one error of the map.
        f.drain();
        until("the function drains", || f.run(Vec::new()).is_err());
        gate.open();
        assert!(outcomes.by_ref().any(|outcome| outcome.is_err()), "it ends with an error");
        drop(outcomes);
        until("inputs and the error were dropped and answered", || answers.load(Ordering::SeqCst) >= 5);
        question.take_back();
    });
}
