//! What longshore promises, as tests: one binary, one module for each group of promises.
//!
//! Promises that do not depend on the restart policy are run under both.

mod replay;
mod support;
