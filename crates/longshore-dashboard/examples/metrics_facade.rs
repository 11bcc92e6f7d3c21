//! The totals of an app in the facade `metrics`, whose recorder the program chooses. The bridge is
//! [`record`]. The facade is pushed to, so the program calls it when it likes: before a scrape, or once a
//! second.
//!
//! ```sh
//! cargo run -p longshore-dashboard --example metrics_facade
//! ```

use std::error::Error;

use longshore::{App, WeakApp};
use metrics::{counter, gauge};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

/// Sets the counters and gauges of each function of the app.
fn record(app: &WeakApp) {
    for function in app.snapshot().into_iter().flat_map(|snapshot| snapshot.functions) {
        let (name, totals) = (function.name, function.totals);
        for (outcome, n) in [("ok", totals.ok), ("failed", totals.failed), ("poisoned", totals.poisoned)] {
            counter!("longshore_inputs_total", "function" => name.clone(), "outcome" => outcome).absolute(n);
        }
        gauge!("longshore_containers_live", "function" => name).set(function.containers.live as f64);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // A real program installs an exporter. This recorder keeps the values, and the program prints them.
    let recorder = DebuggingRecorder::new();
    let recorded = recorder.snapshotter();
    recorder.install()?;
    let app = App::ephemeral("demo");
    let odd = app.function("odd", |n: &u64| if n % 2 == 1 { Ok(*n) } else { Err("even") });
    let odd = odd.containers(2).start()?;
    odd.ready_all()?;
    assert_eq!(odd.run_all((0..10).collect::<Vec<u64>>()).into_iter().filter(Result::is_ok).count(), 5);

    record(&app.downgrade());
    let mut lines = Vec::new();
    for (key, _, _, value) in recorded.snapshot().into_vec() {
        let labels: Vec<String> =
            key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(n) => n.to_string(),
            DebugValue::Gauge(n) => n.to_string(),
            DebugValue::Histogram(_) => continue,
        };
        lines.push(format!("{} {} {value}", key.key().name(), labels.join(" ")));
    }
    lines.sort();
    println!("{}", lines.join("\n"));
    println!("ended well: {}", app.shutdown_blocking().is_clean());
    Ok(())
}
