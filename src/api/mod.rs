//! The types that an application calls: an [`app`], a [`builder`] for each [`function`], and its [`map`]s and
//! [`call`]s. A [`permit`] is a place for a call. [`bulk`] is the fast path for a vector of inputs, and
//! [`any_function`] is a function without its types. [`weak_app`] is the app as a viewer holds it, and
//! [`signal_shutdown`] waits for the end of an app on a signal. `service` (a feature) is a function for
//! tower.

pub(crate) mod any_function;
pub(crate) mod app;
pub(crate) mod builder;
pub(crate) mod bulk;
pub(crate) mod call;
pub(crate) mod function;
pub(crate) mod map;
pub(crate) mod permit;
#[cfg(feature = "tower")]
pub(crate) mod service;
pub(crate) mod signal_shutdown;
pub(crate) mod weak_app;
