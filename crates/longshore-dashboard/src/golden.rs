//! Tests that compare the JSON answers with golden files. Names may be added, and are neither changed nor
//! removed.
//!
//! A test that fails because of an addition prints the new text.

use serde_json::Value;

use crate::fixture::{Fixture, sick};
use crate::json;

/// The value, with places in the code and versions replaced, because they change with every edit.
fn settled(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                *field = match name.as_str() {
                    "location" => "PLACE".into(),
                    "version" => "VERSION".into(),
                    _ => settled(field.take()),
                };
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(|entry| *entry = settled(entry.take())),
        _ => {}
    }
    value
}

fn is_golden(answer: &str, golden: &str, file: &str) {
    let value = settled(serde_json::from_str(answer).expect("an answer is JSON"));
    let text = serde_json::to_string_pretty(&value).expect("it is a value");
    let golden: Value = serde_json::from_str(golden).expect("a golden file is JSON");
    assert!(value == golden, "{file} is not what is answered:\n{text}");
}

#[test]
fn the_overview_is_golden() {
    let fixture = Fixture::new();
    let snapshots = sick();
    let (_, mut history) = fixture.history(&snapshots);
    // A function of the same name follows, so that the first one has ended.
    let mut next = snapshots[0].clone();
    next.started = snapshots.last().expect("there are some").now;
    next.now = next.started;
    let mut look = fixture.look(next.now, vec![next]);
    let mut last = snapshots.last().expect("there are some").clone();
    last.health = longshore::Health::Ended;
    look.ended.push(last);
    let head = json::Head::of(&look, vec!["kill"]);
    history.see(&mut look);
    let answer = json::overview(&head, &history, 1 << 20);
    is_golden(answer.get(), include_str!("../tests/golden/overview.json"), "overview.json");
}

#[test]
fn the_answer_about_a_function_is_golden() {
    let fixture = Fixture::new();
    let (head, history) = fixture.history(&sick());
    let answer = json::function(&head, &history.running[0], false, 1 << 20);
    is_golden(answer.get(), include_str!("../tests/golden/function.json"), "function.json");
}
