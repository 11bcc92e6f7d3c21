//! The panic hook: a binary of its own, because the hook is the process's.

use std::sync::{Arc, Mutex, PoisonError};

use longshore::{App, PanicHook};

#[test]
fn a_containers_panic_reaches_the_applications_hook_only_if_asked_to() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = Arc::clone(&heard);
    std::panic::set_hook(Box::new(move |info| {
        let message = info.payload().downcast_ref::<String>().cloned();
        let message = message.or_else(|| info.payload().downcast_ref::<&str>().map(ToString::to_string));
        ears.lock().unwrap_or_else(PoisonError::into_inner).push(message.unwrap_or_default());
    }));
    let app = App::ephemeral("hook");
    for (name, hook) in [("silent", PanicHook::Silent), ("forwarded", PanicHook::Forward)] {
        let f = app.infallible(name, move |(): &()| panic!("a {name} panic"));
        let f = f.containers(1).crash_retries(1).panic_hook(hook).start().expect("valid");
        let failure = f.call(()).wait().expect_err("it always panics");
        let longshore::Cause::Poisoned(deaths) = failure.cause() else { panic!("{failure:?}") };
        let longshore::Death::Panicked(panic) = &deaths[0].death else { panic!("{failure:?}") };
        assert_eq!(panic.message(), format!("a {name} panic"));
        assert!(panic.location().is_some_and(|at| at.contains("panic_hook.rs")), "{panic}");
    }
    let elsewhere = std::thread::spawn(|| panic!("an application's own panic")).join();
    assert!(elsewhere.is_err());
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(*heard, ["a forwarded panic", "a forwarded panic", "an application's own panic"]);
}
