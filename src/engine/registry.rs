//! The registry of an app: its functions by name, and the reports of functions that have ended.
//!
//! It keeps every function alive that has not ended, whether or not a handle to it is left. It drops a
//! function as soon as that has ended, but the name stays taken until the function's last handle is dropped.
//! The lock is held only while the registry's own fields are read or changed. It is not held while a function
//! is started, because the start waits for the engine's thread. It is not held while a function is dropped
//! either, because the drop takes the lock to free the function's name.
//!
//! ```text
//!           reserve               started              ended                 last handle dropped
//! (free) ───────────▶ reserved ───────────▶ running ───────────▶ forgotten ─────────────────────▶ (free)
//!    ▲                   │ start failed
//!    └───────────────────┘
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
#[cfg(feature = "signal")]
use tokio::sync::oneshot;

use crate::engine::actor::Ending;
use crate::values::error::StartError;
use crate::values::report::{FunctionReport, Report};

/// How many reports of functions that did not end cleanly are kept.
const REPORTS_MAX: usize = 64;

/// A function that its app can end.
pub(crate) trait Ends: Clone + Send + Sync {
    /// A handle that does not keep the function alive.
    type Weak: Send;

    fn downgrade(&self) -> Self::Weak;

    fn upgrade(weak: &Self::Weak) -> Option<Self>;

    /// Begins to end the function at once, without waiting for its supervisor.
    fn end(&self, ending: Ending, limit: Duration) -> EndingReport;

    /// A report of the function as it is now.
    fn report(&self) -> FunctionReport;

    /// Whether the calling thread is a container of the function.
    fn is_in_a_container(&self) -> bool;
}

/// The report of a function that is ending.
pub(super) type EndingReport = Pin<Box<dyn Future<Output = FunctionReport> + Send>>;

/// Returns the report of a function that has ended, as it is now. Returns `None` once nothing of the function
/// is left.
pub(super) type Latest = Arc<dyn Fn() -> Option<FunctionReport> + Send + Sync>;

/// The functions of an app.
pub(crate) struct Registry<F: Ends>(Mutex<Functions<F>>);

struct Functions<F: Ends> {
    /// Whether the app has ended.
    closed: bool,
    /// Whether the app ends on a signal, so that it takes no further function.
    refuses: bool,
    /// Get the report of the app if it ends on a signal.
    #[cfg(feature = "signal")]
    receivers: Vec<oneshot::Sender<Report>>,
    /// The functions that were running when the app ended, so that a viewer sees them until they are gone.
    at_close: Vec<F::Weak>,
    /// How many names were ever reserved.
    reserved: u64,
    by_name: BTreeMap<Arc<str>, NamedFunction<F>>,
    ended_cleanly: u64,
    /// The last [`REPORTS_MAX`] functions that did not end cleanly.
    ended: VecDeque<EndedFunction>,
    /// How many functions before those did not end cleanly.
    reports_dropped: u64,
}

/// A name that is taken.
struct NamedFunction<F> {
    /// The number of the function that has the name, in the order of the starts.
    number: u64,
    /// `None` while the function is being started, and after its end.
    running: Option<F>,
}

/// A function that did not end cleanly.
#[derive(Clone)]
struct EndedFunction {
    number: u64,
    report: FunctionReport,
    latest: Latest,
}

/// Reserves a name in the registry, until it is dropped.
pub(crate) struct Registration<F: Ends> {
    registry: Weak<Registry<F>>,
    name: Arc<str>,
    number: u64,
}

/// The contents of a registry when its app ended.
pub(crate) struct ClosedRegistry<F> {
    running: Vec<(u64, F)>,
    ended: VecDeque<EndedFunction>,
    ended_cleanly: u64,
    reports_dropped: u64,
}

impl<F: Ends> Default for Registry<F> {
    fn default() -> Self {
        Self(Mutex::new(Functions {
            closed: false,
            refuses: false,
            #[cfg(feature = "signal")]
            receivers: Vec::new(),
            at_close: Vec::new(),
            reserved: 0,
            by_name: BTreeMap::new(),
            ended_cleanly: 0,
            ended: VecDeque::new(),
            reports_dropped: 0,
        }))
    }
}

impl<F: Ends> Registry<F> {
    /// Reserves the name for a function that is about to be started.
    pub(crate) fn reserve(self: &Arc<Self>, name: &Arc<str>) -> Result<Registration<F>, StartError> {
        let mut functions = self.0.lock();
        if functions.closed || functions.refuses {
            return Err(StartError::ShutDown);
        }
        if functions.by_name.contains_key(name) {
            return Err(StartError::NameTaken(name.to_string()));
        }
        let number = functions.reserved;
        functions.reserved += 1;
        functions.by_name.insert(Arc::clone(name), NamedFunction { number, running: None });
        Ok(Registration { registry: Arc::downgrade(self), name: Arc::clone(name), number })
    }

    /// Keeps a running function alive until its end. Gives the function back if the app has ended
    /// meanwhile, or is about to.
    pub(crate) fn keep(&self, name: &str, number: u64, function: F) -> Result<(), F> {
        let mut functions = self.0.lock();
        let refuses = functions.refuses;
        match functions.by_name.get_mut(name).filter(|entry| entry.number == number && !refuses) {
            Some(entry) => {
                entry.running = Some(function);
                Ok(())
            }
            None => Err(function),
        }
    }

    /// The functions that have not ended, in the order of their start. Once the app has ended, the functions
    /// that were running then and are not gone.
    pub(crate) fn running(&self) -> Vec<F> {
        let running = self.0.lock().running();
        running.into_iter().map(|(_, function)| function).collect()
    }

    /// The number of functions that ended cleanly, the kept reports of functions that did not, and the number
    /// of such reports that were dropped.
    pub(crate) fn ended(&self) -> (u64, Vec<FunctionReport>, u64) {
        let functions = self.0.lock();
        let reports = functions.ended.iter().map(|ended| ended.report.clone()).collect();
        (functions.ended_cleanly, reports, functions.reports_dropped)
    }

    /// Refuses further functions, and returns those that there are.
    pub(crate) fn close(&self) -> ClosedRegistry<F> {
        let mut functions = self.0.lock();
        functions.closed = true;
        let by_name = std::mem::take(&mut functions.by_name);
        let running = by_name.into_values().filter_map(|entry| Some((entry.number, entry.running?)));
        let mut running: Vec<_> = running.collect();
        running.sort_unstable_by_key(|(number, _)| *number);
        functions.at_close.extend(running.iter().map(|(_, function)| function.downgrade()));
        let ends = functions.ending(running);
        drop(functions);
        ends
    }
}

/// The end of an app on a signal.
#[cfg(feature = "signal")]
impl<F: Ends> Registry<F> {
    /// Refuses further functions, and returns those that there are. They stay, as the app does, which
    /// ends them once more when it is shut down or dropped.
    pub(crate) fn refuse(&self) -> ClosedRegistry<F> {
        let mut functions = self.0.lock();
        functions.refuses = true;
        let running = functions.running();
        functions.ending(running)
    }

    /// Adds a receiver of the report of an end on a signal.
    pub(super) fn report_to(&self, receiver: oneshot::Sender<Report>) {
        self.0.lock().receivers.push(receiver);
    }

    /// Takes the receivers of the report.
    pub(super) fn take_receivers(&self) -> Vec<oneshot::Sender<Report>> {
        std::mem::take(&mut self.0.lock().receivers)
    }
}

impl<F: Ends> Functions<F> {
    /// The functions that have not ended, with their numbers, in the order of their start. Once the app
    /// has ended, the functions that were running then and are not gone.
    fn running(&self) -> Vec<(u64, F)> {
        if self.closed {
            let left = self.at_close.iter().filter_map(F::upgrade).enumerate();
            return left.map(|(at, function)| (at as u64, function)).collect();
        }
        let running = self.by_name.values().filter_map(|entry| Some((entry.number, entry.running.clone()?)));
        let mut running: Vec<_> = running.collect();
        running.sort_unstable_by_key(|(number, _)| *number);
        running
    }

    /// These functions, which are about to end, with what is known of those that have ended.
    fn ending(&self, running: Vec<(u64, F)>) -> ClosedRegistry<F> {
        let Self { ended_cleanly, ended, reports_dropped, .. } = self;
        let (ended_cleanly, ended, reports_dropped) = (*ended_cleanly, ended.clone(), *reports_dropped);
        ClosedRegistry { running, ended, ended_cleanly, reports_dropped }
    }
}

impl<F: Ends> Registration<F> {
    /// The number of the function in the order of the starts.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Drops the function from the registry, because it has ended, and stores its report if the end was not
    /// clean.
    pub(crate) fn ended(&self, report: &FunctionReport, latest: Latest) {
        let Some(registry) = self.registry.upgrade() else { return };
        let mut functions = registry.0.lock();
        let entry = functions.by_name.get_mut(&self.name).filter(|entry| entry.number == self.number);
        // If the app has ended meanwhile, the app waits for this end itself and reports it.
        let Some(running) = entry.and_then(|entry| entry.running.take()) else { return };
        let mut forgotten = None;
        if report.is_clean() {
            functions.ended_cleanly += 1;
        } else {
            if functions.ended.len() == REPORTS_MAX {
                forgotten = functions.ended.pop_front();
                functions.reports_dropped += 1;
            }
            functions.ended.push_back(EndedFunction { number: self.number, report: report.clone(), latest });
        }
        drop(functions);
        drop((running, forgotten));
    }
}

impl<F: Ends> Drop for Registration<F> {
    fn drop(&mut self) {
        let Some(registry) = self.registry.upgrade() else { return };
        let mut functions = registry.0.lock();
        let its_own = functions.by_name.get(&self.name).is_some_and(|entry| entry.number == self.number);
        let entry = its_own.then(|| functions.by_name.remove(&self.name));
        drop(functions);
        drop(entry);
    }
}

impl<F: Ends> ClosedRegistry<F> {
    /// Begins to end each running function.
    pub(crate) fn end(&self, ending: Ending, limit: Duration) -> Vec<EndingReport> {
        self.running.iter().map(|(_, function)| function.end(ending, limit)).collect()
    }

    /// Whether the calling thread is a container of one of the functions.
    pub(crate) fn is_in_a_container(&self) -> bool {
        self.running.iter().any(|(_, function)| function.is_in_a_container())
    }

    pub(crate) fn has_any(&self) -> bool {
        !self.running.is_empty()
    }

    /// The reports, as they are now, of the functions that were running when the app ended.
    pub(crate) fn reports(&self) -> Vec<FunctionReport> {
        self.running.iter().map(|(_, function)| function.report()).collect()
    }

    /// The report of the app. `reports` has a report for each function that was running when the app ended,
    /// in the order of `reports()`.
    pub(crate) fn report(self, app: String, reports: Vec<FunctionReport>, would_deadlock: bool) -> Report {
        let running = self.running.iter().map(|(number, _)| *number).zip(reports);
        let ended = self.ended.into_iter().map(|ended| (ended.number, ended.latest()));
        let mut functions: Vec<(u64, FunctionReport)> = ended.chain(running).collect();
        functions.sort_by_key(|(number, _)| *number);
        Report {
            app,
            functions: functions.into_iter().map(|(_, report)| report).collect(),
            ended_cleanly: self.ended_cleanly,
            reports_dropped: self.reports_dropped,
            would_deadlock,
        }
    }
}

impl EndedFunction {
    /// The function's report, with the threads that still run now.
    fn latest(self) -> FunctionReport {
        (self.latest)().unwrap_or_else(|| {
            let mut report = self.report;
            report.let_go();
            report
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ContainerId;
    use crate::values::report::Fate;

    /// A function that holds its registration, as the real one does.
    struct Function(Registration<Arc<Function>>, FunctionReport);

    impl Ends for Arc<Function> {
        type Weak = Weak<Function>;

        fn downgrade(&self) -> Weak<Function> {
            Arc::downgrade(self)
        }

        fn upgrade(weak: &Weak<Function>) -> Option<Self> {
            weak.upgrade()
        }

        fn end(&self, _: Ending, _: Duration) -> EndingReport {
            let report = self.1.clone();
            Box::pin(async { report })
        }

        fn report(&self) -> FunctionReport {
            self.1.clone()
        }

        fn is_in_a_container(&self) -> bool {
            false
        }
    }

    fn ended(name: &str, fate: Fate) -> FunctionReport {
        FunctionReport { containers: vec![(ContainerId::new(0), fate)], ..FunctionReport::unknown(name) }
    }

    fn start(registry: &Arc<Registry<Arc<Function>>>, name: &str, fate: Fate) -> Arc<Function> {
        let registration = registry.reserve(&name.into()).expect("the name is free");
        let number = registration.number();
        let function = Arc::new(Function(registration, ended(name, fate)));
        assert!(registry.keep(name, number, Arc::clone(&function)).is_ok());
        function
    }

    fn entries(registry: &Registry<Arc<Function>>) -> usize {
        registry.0.lock().by_name.len()
    }

    #[test]
    fn a_name_is_free_once_the_function_has_ended_and_its_last_handle_is_dropped() {
        let registry = Arc::new(Registry::<Arc<Function>>::default());
        let function = start(&registry, "f", Fate::Exited);
        let taken = |name: &str| matches!(registry.reserve(&name.into()), Err(StartError::NameTaken(_)));
        assert!(taken("f") && Arc::strong_count(&function) == 2, "the registry holds the function");
        function.0.ended(&function.1, Arc::new(|| None));
        assert!(taken("f") && Arc::strong_count(&function) == 1, "the registry has dropped the function");
        drop(function);
        assert!(!taken("f"));
        assert_eq!(entries(&registry), 0);
    }

    #[test]
    fn clean_ends_are_counted_and_the_last_64_other_reports_are_kept_in_order() {
        let registry = Arc::new(Registry::<Arc<Function>>::default());
        for n in 0..1_000 {
            let fate = if n % 10 == 0 { Fate::CutOff } else { Fate::Exited };
            let function = start(&registry, &format!("f{n}"), fate);
            function.0.ended(&function.1, Arc::new(|| None));
            function.0.ended(&function.1, Arc::new(|| None)); // a second end changes nothing
        }
        let last = start(&registry, "last", Fate::Exited);
        assert_eq!(entries(&registry), 1, "the ended functions have no entry");
        let closed = registry.close();
        let reports = closed.reports();
        let report = closed.report("app".to_owned(), reports, false);
        assert_eq!((report.ended_cleanly, report.reports_dropped, report.functions.len()), (900, 36, 65));
        let names: Vec<&str> = report.functions.iter().map(|function| function.function.as_str()).collect();
        assert_eq!((names[0], names[63], names[64]), ("f360", "f990", "last"));
        drop(last);
    }

    #[test]
    fn a_function_that_ends_together_with_its_app_is_reported_once() {
        let registry = Arc::new(Registry::<Arc<Function>>::default());
        let function = start(&registry, "f", Fate::CutOff);
        let closed = registry.close();
        function.0.ended(&function.1, Arc::new(|| None));
        let reports = closed.reports();
        assert_eq!(closed.report("app".to_owned(), reports, false).functions.len(), 1);
        assert_eq!(registry.close().report("app".to_owned(), Vec::new(), false).functions.len(), 0);
    }

    #[test]
    fn a_closed_registry_keeps_no_function_and_a_failed_start_frees_its_name() {
        let registry = Arc::new(Registry::<Arc<Function>>::default());
        drop(registry.reserve(&"f".into()).expect("the name is free")); // the start failed
        assert_eq!(entries(&registry), 0);
        let registration = registry.reserve(&"f".into()).expect("the name is free again");
        let number = registration.number();
        drop(registry.close());
        let function = Arc::new(Function(registration, ended("f", Fate::Exited)));
        assert!(registry.keep("f", number, Arc::clone(&function)).is_err());
        assert!(matches!(registry.reserve(&"g".into()), Err(StartError::ShutDown)));
    }

    #[test]
    fn the_report_of_an_ended_function_lists_the_threads_that_still_run() {
        let registry = Arc::new(Registry::<Arc<Function>>::default());
        let before = FunctionReport { threads_running: 1, ..ended("f", Fate::StillRunning) };
        for (name, latest) in [("gone", None), ("there", Some(before.clone()))] {
            let function = start(&registry, name, Fate::Exited);
            function.0.ended(&before, Arc::new(move || latest.clone()));
        }
        let report = registry.close().report("app".to_owned(), Vec::new(), false);
        let told: Vec<_> =
            report.functions.iter().map(|f| (f.threads_running, f.containers[0].1.clone())).collect();
        assert_eq!(told, [(0, Fate::CutOff), (1, Fate::StillRunning)]);
    }

    #[cfg(feature = "signal")]
    #[test]
    fn an_app_that_ends_on_a_signal_takes_no_function_and_keeps_those_that_it_has() {
        let registry: Arc<Registry<Arc<Function>>> = Arc::default();
        let name: Arc<str> = "f".into();
        let (kept, late) = (registry.reserve(&name), registry.reserve(&"late".into()));
        let (kept, late) = (kept.expect("it is free"), late.expect("it is free"));
        let (first, second) = (kept.number(), late.number());
        let function = |registration| Arc::new(Function(registration, FunctionReport::unknown("f")));
        let kept = function(kept);
        assert!(registry.keep(&name, first, Arc::clone(&kept)).is_ok());
        assert_eq!(registry.refuse().running.len(), 1);
        assert!(matches!(registry.reserve(&"other".into()), Err(StartError::ShutDown)));
        assert!(registry.keep("late", second, function(late)).is_err(), "it was begun before the signal");
        assert_eq!(registry.running().len(), 1, "it is still there for the end of the app");
        assert_eq!(registry.close().running.len(), 1);
    }
}
