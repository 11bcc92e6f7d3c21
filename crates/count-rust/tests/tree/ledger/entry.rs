//! One line of the ledger.

pub struct Entry {
    pub ship: String,
    pub cents: i64,
}

pub struct Balance(pub i64);

impl<'a> std::iter::Sum<&'a Entry> for Balance {
    fn sum<I: Iterator<Item = &'a Entry>>(entries: I) -> Self {
        Self(entries.map(|entry| entry.cents).sum())
    }
}
