//! The messages of a subscription to the events of a function.

use actix::{Message, Recipient};

use crate::values::event::Event;

/// Anyone → supervisor: send every [`Event`] from now on to an actor, as [`Happened`]. There is no reply.
///
/// The function does not wait for a subscriber. Events that do not fit into its mailbox are lost, and the
/// next event that fits is preceded by their number, as [`Event::Missed`]. A mailbox holds 16 messages unless
/// the actor's context sets another capacity. A subscriber that has ended is removed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Subscribe {
    /// The actor that receives the events.
    pub to: Recipient<Happened>,
}

/// Function → subscribed actors: something has happened. There is no reply.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Happened(pub Event);
