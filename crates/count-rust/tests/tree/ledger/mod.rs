//! What is owed for lying here.

mod due;
mod entry;
mod rounding;

use entry::Entry;

#[derive(Default)]
pub struct Ledger {
    entries: Vec<Entry>,
}

impl Ledger {
    pub fn enter(&mut self, entry: Entry) {
        self.entries.push(entry);
    }
}

impl Extend<Entry> for Ledger {
    fn extend<I: IntoIterator<Item = Entry>>(&mut self, entries: I) {
        self.entries.extend(entries);
    }
}
