//! The path of inputs and outcomes. There is no lock of a function here, and no policy.
//!
//! Inputs come from a [`source`], by way of a [`pool`] if it may block, and lie in a [`chunk`] with the slots of their
//! outcomes. A container's thread walks over a [`run`] of them; a [`track`] says how far it is. [`gate`] counts what a
//! consumer has taken. All of it is compiled once: values are [`erased`], and a [`shape`] knows the types. A [`failure`] is
//! the outcome that is an error. [`retained`] counts what attempts leave behind.

pub(crate) mod chunk;
pub(crate) mod erased;
pub(crate) mod failure;
pub(crate) mod gate;
pub(crate) mod pool;
#[cfg(test)]
mod races;
pub(crate) mod retained;
pub(crate) mod run;
pub(crate) mod shape;
pub(crate) mod source;
pub(crate) mod track;

// So that a model checker can put its own primitives under the files that are modelled.
pub(crate) use crate::base::sync;
