//! The part of the engine that decides: pure state machines with the clock passed in.
//!
//! No file in this folder imports actix, a thread, a lock or `tracing`, and none reads a clock. `clippy.toml`
//! enforces the latter. The [`engine`](crate::engine) carries out what is decided here.
//!
//! Reading order: [`time`] defines moments. [`retries`] and [`restart`] hold the two policies. [`window`]
//! and [`claim_sizer`] decide how many inputs may be outstanding and how many one container takes.
//! [`pacing`] holds all intervals, and [`patience`] decides whether a thread yields before it sleeps.
//! [`admission`] bounds the calls, and [`limits`] the time of attempts and inputs. [`storm`] decides how
//! often repeats are reported, and [`wave`] the same of overloads that come and go. [`ledger`] owns every
//! input between *pulled* and *outcome* and connects the others. [`steps`] counts for tests what an
//! operation costs.

pub(crate) mod acceptances;
pub(crate) mod admission;
pub(crate) mod jitter;
pub(crate) mod job;
pub(crate) mod ledger;
pub(crate) mod life;
pub(crate) mod limits;
pub(crate) mod pacing;
pub(crate) mod patience;
pub(crate) mod restart;
pub(crate) mod retries;
pub(crate) mod claim_sizer;
pub(crate) mod steps;
pub(crate) mod storm;
pub(crate) mod time;
pub(crate) mod wave;
pub(crate) mod window;
