//! Tests of [`Rest`]. They are apart from it, because the model checker includes that file.

use crate::data::rest::Rest;

#[test]
fn only_a_task_that_waits_is_halted_and_it_does_not_go_on() {
    let rest = Rest::new();
    assert!(!rest.halt() && !rest.is_on(), "it has not waited yet");
    assert!(rest.ends(), "and may go on");
    rest.begins();
    assert!(rest.is_on() && rest.ends() && !rest.is_on());
    assert!(!rest.halt(), "it runs");
    rest.begins();
    assert!(rest.halt() && rest.is_on() && rest.halt(), "a second fence finds it at rest too");
    assert!(!rest.ends() && rest.is_on());
    rest.begins();
    assert!(!rest.ends(), "code that goes on for others of its batch does not undo it");
}
