//! The user's code, and what ties it to the generation of its container.
//!
//! Users implement [`worker`], [`async_worker`], [`concurrent_worker`] and [`batch_worker`]. Their code sees
//! a [`context`]. A [`token`] knows whether the code is still wanted and whose memory it uses, and a
//! [`scope`] gives the token to helper threads. [`priority`] lowers the priority of a thread whose code does
//! not end. [`kinds`] names the kinds of code, and [`rehearsable`] runs each of them as futures, for the test
//! kit.

pub(crate) mod async_worker;
pub(crate) mod batch_worker;
pub(crate) mod cancellation;
pub(crate) mod concurrent_worker;
pub(crate) mod context;
pub(crate) mod kinds;
pub(crate) mod token;
pub(crate) mod priority;
#[cfg(feature = "testkit")]
pub(crate) mod rehearsable;
pub(crate) mod scope;
pub(crate) mod worker;
