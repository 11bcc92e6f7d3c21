//! The totals of an app as OpenTelemetry metrics. The bridge is [`observe`]: an instrument is asked when a
//! reader collects, and reads a snapshot then. So nothing is done per input.
//!
//! ```sh
//! cargo run -p longshore-dashboard --example opentelemetry
//! ```

use std::error::Error;

use longshore::{App, WeakApp};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider, ObservableCounter};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};

/// Reports the ends of the inputs of each function of the app, by outcome. The instrument lives as long as
/// its meter, and does not keep the app alive.
fn observe(meter: &Meter, app: WeakApp) -> ObservableCounter<u64> {
    let counter = meter.u64_observable_counter("longshore.inputs").with_unit("{input}");
    counter
        .with_callback(move |counter| {
            for function in app.snapshot().into_iter().flat_map(|snapshot| snapshot.functions) {
                let totals = function.totals;
                for (outcome, n) in
                    [("ok", totals.ok), ("failed", totals.failed), ("poisoned", totals.poisoned)]
                {
                    let function = KeyValue::new("function", function.name.clone());
                    counter.observe(n, &[function, KeyValue::new("outcome", outcome)]);
                }
            }
        })
        .build()
}

fn main() -> Result<(), Box<dyn Error>> {
    // A real program exports by OTLP. This one keeps what is exported, and prints it.
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build();
    let app = App::ephemeral("demo");
    let _inputs = observe(&provider.meter("longshore"), app.downgrade());

    let odd = app.function("odd", |n: &u64| if n % 2 == 1 { Ok(*n) } else { Err("even") }).start()?;
    assert_eq!(odd.run_all((0..10).collect::<Vec<u64>>()).into_iter().filter(Result::is_ok).count(), 5);

    provider.force_flush()?;
    let mut lines = Vec::new();
    for exported in exporter.get_finished_metrics()? {
        for metric in exported.scope_metrics().flat_map(|scope| scope.metrics()) {
            let AggregatedMetrics::U64(MetricData::Sum(sum)) = metric.data() else { continue };
            for point in sum.data_points() {
                let mut labels: Vec<String> =
                    point.attributes().map(|label| format!("{}={}", label.key, label.value)).collect();
                labels.sort();
                lines.push(format!("{} {} {}", metric.name(), labels.join(" "), point.value()));
            }
        }
    }
    lines.sort();
    println!("{}", lines.join("\n"));
    provider.shutdown()?;
    println!("ended well: {}", app.shutdown_blocking().is_clean());
    Ok(())
}
