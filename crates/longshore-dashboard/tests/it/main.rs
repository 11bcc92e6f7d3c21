//! Tests of the dashboard by its public face: requests in, responses out, and files.
//!
//! They are one binary. The tests in a browser are another one, because they need the browser.

mod acting;
mod hostile;
mod lifetime;
mod metrics;
mod mounted;
mod reports;
mod requests;
mod routes;
mod serving;
mod support;
