//! The user's code, as it is written, and what ties it to the generation of its container.
//!
//! [`worker`] and [`async_worker`] are what users implement, [`context`] what their code sees. A [`leash`] knows whether
//! the code is still wanted and whose memory it uses; a [`scope`] hands it to helper threads; [`priority`] is lowered for
//! code that does not come out. [`kinds`] names the kinds of code, and [`rehearsable`] is each of them as futures, for the test
//! kit.

pub(crate) mod async_worker;
pub(crate) mod context;
pub(crate) mod kinds;
pub(crate) mod leash;
pub(crate) mod priority;
#[cfg(feature = "testkit")]
pub(crate) mod rehearsable;
pub(crate) mod scope;
pub(crate) mod worker;
