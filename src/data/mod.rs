//! The path of inputs and outcomes. It takes no lock of a function and contains no policy.
//!
//! A [`source`] gives inputs, through a [`prefetch`] if it may block. They lie in a [`chunk`] beside the
//! slots of their outcomes. A container's thread walks over a [`run`] of them, and a [`cursor`] records its
//! position. [`flow_control`] counts the outcomes that a consumer has taken. All of this is compiled once:
//! values are [`erased`], and a [`shape`] knows their types. A [`failure`] is an outcome that is an error.
//! [`retained`] counts the memory that attempts leave behind. The [`rest`] of a task spares a fence its
//! barrier.

pub(crate) mod chunk;
pub(crate) mod erased;
pub(crate) mod failure;
pub(crate) mod flow_control;
pub(crate) mod prefetch;
#[cfg(test)]
mod races;
mod rest;
#[cfg(test)]
mod rest_tests;
pub(crate) mod retained;
pub(crate) mod run;
pub(crate) mod shape;
pub(crate) mod source;
pub(crate) mod cursor;

// A model checker can put its own primitives under the files that are modelled.
pub(crate) use crate::base::sync;
