//! The types that an application calls: an [`app`], a [`builder`] for each [`function`], and its [`map`]s and
//! [`call`]s. A [`permit`] is a place for a call. [`bulk`] is the fast path for a vector of inputs, and
//! [`any_function`] is a function without its types. [`weak_app`] is the app as a viewer holds it.
//! `service` (the feature `tower`) is a function for tower, and `signal_shutdown` (the feature `signal`)
//! waits for the end of an app on a signal.

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
#[cfg(feature = "signal")]
pub(crate) mod signal_shutdown;
pub(crate) mod weak_app;
