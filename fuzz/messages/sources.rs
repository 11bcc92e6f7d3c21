//! The sources of a story's maps: sources of every kind, some with a wrong size hint.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::stream;
use longshore::{Map, Progress};

use crate::judge::{Records, inputs};
use crate::story::{MapSpec, SourceKind};
use crate::values::{F, Output, Ticket, World, Wrong, hold};

/// Gives the tickets of one map, and keeps their records.
pub(crate) struct Tickets {
    world: Arc<World>,
    spec: MapSpec,
    records: Records,
}

impl Tickets {
    pub(crate) fn new(world: &Arc<World>, spec: MapSpec) -> (Self, Records) {
        let records: Records = Arc::default();
        (Self { world: Arc::clone(world), spec, records: Arc::clone(&records) }, records)
    }

    fn ticket(&self) -> Ticket {
        let mut records = hold(&self.records);
        let number = records.len() as u64;
        // Every third input has another script.
        let script = self.spec.script.wrapping_add(if number.is_multiple_of(3) { 1 } else { 0 });
        let ticket = Ticket::new(&self.world, number, script, self.spec.bombs);
        records.push(Arc::clone(&ticket.record));
        ticket
    }

    /// The tickets as an iterator with a size hint.
    fn iterator(self) -> Source {
        let left = match self.spec.source {
            SourceKind::Endless => u64::MAX,
            _ => inputs(self.spec),
        };
        Source { tickets: self, left }
    }

    /// A map over the tickets.
    pub(crate) fn mapped(self, f: &F) -> Map<Ticket, Output, Wrong> {
        match self.spec.source {
            SourceKind::Vector => f.map(self.iterator().collect::<Vec<_>>()),
            SourceKind::Stream => f.map_stream(stream::iter(self.iterator())),
            SourceKind::Chained => f.map(self.chained(f)),
            _ => f.map(self.iterator()),
        }
    }

    /// All tickets at once.
    pub(crate) fn vector(self) -> Vec<Ticket> {
        self.iterator().collect()
    }

    /// The tickets as a boxed iterator, for maps that are begun by message.
    pub(crate) fn boxed(self, f: &F) -> Box<dyn Iterator<Item = Ticket> + Send> {
        match self.spec.source {
            SourceKind::Chained => Box::new(self.chained(f)),
            _ => Box::new(self.iterator()),
        }
    }

    /// As many tickets as another map of the same function gives outputs.
    fn chained(self, f: &F) -> impl Iterator<Item = Ticket> + Send + 'static {
        let inner = MapSpec { source: SourceKind::Iterator, bombs: false, ..self.spec };
        let (tickets, _) = Self::new(&self.world, inner);
        let outcomes = f.map(tickets.iterator()).return_exceptions().into_iter();
        outcomes.filter_map(Result::ok).map(move |output| {
            drop(output);
            self.ticket()
        })
    }

    /// Runs `for_each` over the tickets.
    pub(crate) fn counted(self, f: &F, awaited: bool) -> Result<Progress, longshore::Failure<Ticket, Wrong>> {
        if awaited {
            return futures::executor::block_on(f.for_each_async(stream::iter(self.iterator())));
        }
        match self.spec.source {
            SourceKind::Vector => f.for_each(self.vector()),
            _ => f.for_each(self.iterator()),
        }
    }
}

/// The iterator that a map pulls.
pub(crate) struct Source {
    tickets: Tickets,
    left: u64,
}

impl Iterator for Source {
    type Item = Ticket;

    fn next(&mut self) -> Option<Ticket> {
        let over = self.tickets.world.over.load(Ordering::SeqCst);
        match self.left.checked_sub(1) {
            Some(left) if !(over && self.tickets.spec.source == SourceKind::Endless) => {
                self.left = left;
                Some(self.tickets.ticket())
            }
            _ if self.tickets.spec.source == SourceKind::Panics => panic!("in a source"),
            _ => None,
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self.tickets.spec.source {
            // A vector is collected by the user, who would allocate for a wrong size hint. So its hint is
            // true.
            SourceKind::Liar(low, high) => {
                let huge = |bound: u16| if bound > 100 { usize::MAX } else { usize::from(bound) };
                (huge(low), high.map(huge))
            }
            SourceKind::Endless => (usize::MAX, None),
            _ => (self.left as usize, Some(self.left as usize)),
        }
    }
}
