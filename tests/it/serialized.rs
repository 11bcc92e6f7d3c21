//! Serialized names are stable. The golden files are of a function in virtual time, so that they are the same
//! in each run.
//!
//! Names and words may be added. A test that fails because of an addition prints the new text.

use std::time::Duration;

use longshore::testkit::Stage;
use longshore::{App, ContainerId, CrashLoopBackoff, Event};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

type Numbers = Stage<u64, u64, u8>;

/// The value, with the places in the code replaced, because they change with every edit.
fn settled(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if name == "location" {
                    *field = "PLACE".into();
                } else {
                    *field = settled(field.take());
                }
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(|entry| *entry = settled(entry.take())),
        _ => {}
    }
    value
}

fn serialized(value: impl serde::Serialize) -> Value {
    settled(serde_json::to_value(value).expect("it can be serialized"))
}

fn is_golden(value: &Value, golden: &str, file: &str) {
    let text = serde_json::to_string_pretty(value).expect("it is a value");
    let golden: Value = serde_json::from_str(golden).expect("a golden file is JSON");
    assert!(*value == golden, "{file} is not what is serialized:\n{text}");
}

/// A function that crashes, fails, hangs and is killed.
fn sick() -> (longshore::FunctionSnapshot, longshore::testkit::Record) {
    let policy =
        CrashLoopBackoff::new().initial(10 * SECOND).max(10 * SECOND).reset_after(20 * SECOND).seed(7);
    let f = App::deployed("golden").function("sick", |n: &u64| Ok::<u64, u8>(*n));
    let f = f.containers(2).crash_retries(1).describe(|n| format!("number {n}")).restart(policy);
    let f = f.retries(longshore::Retries::new(1).initial_delay(60 * SECOND)).rehearse();
    let f = f.takes(SECOND).always_panics(3).fails(4, 1, || 9).hangs(5, 1);
    let scene = async |stage: &Numbers| {
        let f = stage.function();
        let done = f.run_async(vec![0, 1]).await.expect("nothing is scripted for these");
        assert_eq!(done, [0, 1]);
        let mut map = f.map(0..9u64).label("nightly").return_exceptions();
        let reads = async {
            while let Some(outcome) = futures::StreamExt::next(&mut map).await {
                drop(outcome);
            }
        };
        let looks = async {
            stage.sleep(20 * SECOND).await;
            let snapshot = f.snapshot();
            assert!(stage.kill(ContainerId::new(0)).await | stage.kill(ContainerId::new(1)).await);
            snapshot
        };
        futures::join!(looks, reads).0
    };
    f.play(scene).expect("valid settings")
}

#[test]
fn the_snapshot_of_a_function_is_golden() {
    let (snapshot, record) = sick();
    let value = serialized(&snapshot);
    is_golden(&value, include_str!("serialized/function.json"), "function.json");
    assert_eq!(value, serialized(&sick().0), "it is the same each time: {record}");
}

#[test]
fn the_status_of_a_function_has_the_same_names() {
    let (_, record) = sick();
    let status = serialized(record.status());
    let names: Vec<&String> = status.as_object().expect("it is an object").keys().collect();
    assert_eq!(
        names,
        [
            "calls",
            "concurrent_inputs",
            "containers",
            "crashes",
            "executing",
            "feeders",
            "inputs_waiting",
            "last_crash",
            "late_answers",
            "paused",
            "recycled",
            "restarts"
        ],
        "what is absent is left out"
    );
    assert_eq!(status["last_crash"]["crash"]["kind"], "panic");
    assert!(status["last_crash"]["ago_ms"].is_u64());
}

#[test]
fn events_and_reports_are_named() {
    let (_, record) = sick();
    let crashed = record
        .events()
        .iter()
        .find_map(|(_, event)| matches!(event, Event::Crashed(_)).then(|| serialized(event)));
    let expected = json!({
        "event": "crashed", "container": 0, "generation": 1, "kind": "panic", "message": "a scripted panic",
        "location": "PLACE", "map": "nightly", "input": 3, "attempt": 1
    });
    assert_eq!(
        crashed.map(|mut crashed| {
            crashed["container"] = 0.into();
            crashed
        }),
        Some(expected)
    );
    let started = serialized(&record.events()[0].1);
    assert_eq!(started, json!({"event": "container", "container": 0, "generation": 1, "state": "starting"}));
    assert_eq!(serialized(Event::Missed(3)), json!({"event": "missed", "events": 3}));
    assert_eq!(serialized(Event::Reset), json!({"event": "reset"}));
    let report = serialized(record.report());
    assert_eq!(report["containers"][0]["container"], 0);
    assert!(report["containers"][0]["fate"].is_string() && report["limit_passed"].is_boolean(), "{report}");
}

#[test]
fn the_snapshot_of_an_app_is_named() {
    let app = App::ephemeral("golden");
    let f = app.infallible("well", |n: &u64| *n).containers(1).start().expect("valid settings");
    f.ready().expect("it starts");
    let snapshot = serialized(app.snapshot());
    let names: Vec<&String> = snapshot.as_object().expect("it is an object").keys().collect();
    let expected =
        ["app", "functions", "longshore", "now_ms", "now_unix_ms", "process", "started_unix_ms", "v"];
    assert_eq!(names, expected);
    let app = json!({
        "name": "golden", "kind": "ephemeral", "ended_cleanly": 0, "reports": [], "reports_dropped": 0
    });
    assert_eq!(snapshot["app"], app);
    assert_eq!((&snapshot["v"], &snapshot["functions"][0]["health"]), (&json!(1), &json!("serving")));
}
