//! A fan-out that survives its workers.

mod app;
mod builder;
mod call;
mod context;
mod crash;
mod decide;
mod engine;
mod error;
mod failure;
mod function;
mod map;
mod progress;
mod report;
mod settings;
mod source;
mod status;
mod worker;

pub use app::App;
pub use builder::Builder;
pub use call::Call;
pub use context::Context;
pub use crash::{BoxError, Crash, Death, EnterError, Panic, Previous};
pub use decide::ids::{Attempt, ContainerId, Generation};
pub use decide::restart::{CrashLoopBackoff, CrashRecord, Decision, RateLimited, RestartPolicy};
pub use decide::retries::Retries;
pub use engine::chunk::SharedInput;
pub use engine::unwind::PanicHook;
pub use error::{ConfigError, NotReady, StartError};
pub use failure::{Bug, Cause, Failure, Returned};
pub use function::Function;
pub use map::{Map, Outcomes};
pub use progress::Progress;
pub use report::{Fate, FunctionReport, Report};
pub use status::{Containers, CrashLoopStatus, Status};
pub use worker::Worker;
