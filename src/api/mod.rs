//! What an application calls: an [`app`], a [`builder`] for each [`function`], and its [`map`]s and [`call`]s. [`bulk`] is
//! the short way for inputs that are all there, and [`any_function`] a function without its types.

pub(crate) mod any_function;
pub(crate) mod app;
pub(crate) mod builder;
pub(crate) mod bulk;
pub(crate) mod call;
pub(crate) mod function;
pub(crate) mod map;
