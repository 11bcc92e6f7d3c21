//! A failure as an error: its text, its source, and `?`.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;

use longshore::{App, BoxError, Context, Failure, RateLimited, Worker};

use crate::support::{Gate, Started, crash, numbers, unhung, until};

/// An error of the shape that `thiserror` derives.
#[derive(Debug)]
enum Parse {
    Empty,
    Digit(std::num::ParseIntError),
}

impl fmt::Display for Parse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "nothing to parse"),
            Self::Digit(_) => write!(f, "no number"),
        }
    }
}

impl Error for Parse {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Empty => None,
            Self::Digit(error) => Some(error),
        }
    }
}

/// The text of a failure that `?` has turned into a boxed error, and into an error of `anyhow`.
fn passed_on<E>(fail: impl Fn(&u64) -> Result<u64, E> + Send + Sync + Clone + 'static) -> (String, String)
where
    E: fmt::Debug + fmt::Display + Send + Sync + 'static,
{
    unhung(move || {
        let app = App::ephemeral("errors");
        let f = app.function("f", fail).containers(1).started();
        let boxed = || -> Result<Vec<u64>, BoxError> { Ok(f.run(vec![1, 2])?) };
        let plain = || -> Result<Vec<u64>, Box<dyn Error>> { Ok(f.run(vec![1, 2])?) };
        let any = || -> anyhow::Result<u64> { Ok(f.call(2).wait()?) };
        let boxed = boxed().expect_err("input 2 fails");
        assert_eq!(plain().expect_err("input 2 fails").to_string(), boxed.to_string());
        assert!(boxed.source().is_none(), "the text has it all");
        let failure = boxed.downcast_ref::<Failure<u64, E>>().expect("it keeps its type");
        assert!(failure.error().is_some());
        assert!(failure.input() == Some(&2));
        (boxed.to_string(), format!("{:#}", any().expect_err("input 2 fails")))
    })
}

#[test]
fn a_failure_is_an_error_for_every_error_that_can_be_displayed_and_its_text_shows_it() {
    let odd = |n: &u64| if *n == 1 { Ok(1) } else { Err("not odd") };
    let told = ("input 1 failed after 1 attempt: not odd", "input 0 failed after 1 attempt: not odd");
    let strings = |(text, any): &(&str, &str)| ((*text).to_owned(), (*any).to_owned());
    assert_eq!(passed_on(odd), strings(&told));
    assert_eq!(passed_on(move |n| odd(n).map_err(str::to_owned)), strings(&told));
    assert_eq!(passed_on(move |n| odd(n).map_err(anyhow::Error::msg)), strings(&told));
    let chain = passed_on(move |n| odd(n).map_err(|error| anyhow::Error::msg(error).context("input two")));
    assert_eq!(chain.0, "input 1 failed after 1 attempt: input two: not odd");
    let empty = passed_on(|n| if *n == 1 { Ok(1) } else { Err(Parse::Empty) });
    assert_eq!(empty.0, "input 1 failed after 1 attempt: nothing to parse");
    let digit = passed_on(|n| if *n == 1 { Ok(1) } else { "two".parse().map_err(Parse::Digit) });
    assert_eq!(digit.0, "input 1 failed after 1 attempt: no number");
}

#[test]
fn the_text_of_a_failure_is_one_line_even_if_the_error_has_several() {
    let several = |n: &u64| if *n == 1 { Ok(1) } else { Err("\r\none\n  two\n\n\tthree \n") };
    assert_eq!(passed_on(several).0, "input 1 failed after 1 attempt: one two three");
}

#[test]
fn the_text_of_a_poisoned_input_shows_its_last_death() {
    unhung(|| {
        let app = App::ephemeral("errors");
        let f = app
            .infallible("f", |_: &u64| -> u64 { crash() })
            .containers(1)
            .crash_retries(1)
            .restart(RateLimited::never())
            .started();
        let call = || -> anyhow::Result<u64> { Ok(f.call(2).wait()?) };
        let text = format!("{:#}", call().expect_err("it crashes"));
        let (before, death) = text.split_once(": ").expect("two parts");
        assert_eq!(before, "input 0 is poisoned after 2 attempts");
        assert!(death.starts_with("container 0#2 (call 1, attempt 2) panicked at "), "{text}");
        assert!(death.ends_with(": a crash on purpose"), "{text}");
        assert!(!text.contains('\n'), "{text}");
        assert_eq!(text.matches("a crash on purpose").count(), 1, "the chain of sources does not repeat it");
    });
}

/// A worker that is never built.
#[derive(Debug)]
struct Never;

impl Worker for Never {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    fn call(&mut self, input: &u64, _: &Context) -> Result<u64, Infallible> {
        Ok(*input)
    }
}

#[test]
fn the_text_of_a_given_up_input_shows_why_enter_failed_and_its_source_is_the_rest_of_the_chain() {
    unhung(|| {
        let app = App::ephemeral("errors");
        let gate = Gate::default();
        let inside = gate.clone();
        let enter = move |_: &Context| {
            inside.pass();
            "zwei".parse::<u64>().map_err(|error| BoxError::from(Parse::Digit(error)))?;
            Ok(Never)
        };
        let give_up = RateLimited::new().max_crashes(0).max_failure_rate(0.0);
        let f = app.worker("f", enter).containers(1).restart(give_up).started();
        let call = f.call(2);
        gate.open();
        let failure = call.wait().expect_err("it gives up");
        let text = failure.to_string();
        assert!(text.starts_with("input 0 failed because the function gave up: "), "{text}");
        assert!(text.contains("container 0#1 enter failed: no number"), "{text}");
        let source = failure.source().expect("what the text leaves out").to_string();
        assert!(source.contains("invalid digit"), "{source}");
        let any = format!("{:#}", anyhow::Error::new(failure));
        assert_eq!(any.matches("no number").count(), 1, "the error of `enter` appears once: {any}");
        assert_eq!(any.matches("invalid digit").count(), 1, "its source appears once: {any}");
    });
}

#[test]
fn the_text_of_a_map_that_ended_as_a_whole_says_why() {
    unhung(|| {
        let app = App::ephemeral("errors");
        let f = numbers(&app, 1, |n| *n);
        let source = (0..5u64).map(|n| if n == 3 { crash() } else { n });
        let failure = f.map(source).into_iter().filter_map(Result::err).next().expect("the source panics");
        let text = failure.to_string();
        assert!(text.starts_with("the map ended because its source panicked at "), "{text}");
        assert!(text.ends_with(": a crash on purpose"), "{text}");
        assert!(failure.source().is_none(), "{text}");
        f.drain();
        until("the function refuses calls", || f.run(vec![1]).is_err());
        let refused = f.call(1).wait().expect_err("refused");
        assert_eq!(refused.to_string(), "input 0 ended because the function is shut down");
        let refused =
            f.map(0..3u64).window(0).into_iter().filter_map(Result::err).next().expect("no such window");
        assert!(refused.to_string().starts_with("the map was refused for a setting: "), "{refused}");
    });
}
