//! A ring: the last entries of a list, bounded in entries and in the bytes of their texts.

use std::collections::VecDeque;

use crate::values::snapshot::rows::InputName;
use crate::values::snapshot::trouble::{CrashSnapshot, Poisoned};

/// An entry with texts whose bytes are bounded.
pub(super) trait Texts {
    fn bytes(&self) -> usize;
}

pub(super) fn of_label(input: Option<&InputName>) -> usize {
    input.and_then(|input| input.map.as_ref()).map_or(0, |label| label.len())
}

pub(super) fn of_text(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}

impl Texts for CrashSnapshot {
    fn bytes(&self) -> usize {
        self.message.len() + of_text(self.location.as_ref()) + of_label(self.executing.as_ref())
    }
}

impl Texts for Poisoned {
    fn bytes(&self) -> usize {
        [&self.message, &self.location, &self.description]
            .into_iter()
            .map(|text| of_text(text.as_ref()))
            .sum::<usize>()
            + of_label(Some(&self.input))
    }
}

/// The last entries of a list, as many as fit.
#[derive(Debug)]
pub(super) struct Ring<T> {
    pub(super) entries: VecDeque<T>,
    /// The bytes of the texts of all entries.
    text: usize,
    entries_max: usize,
    text_max: usize,
}

impl<T: Texts> Ring<T> {
    pub(super) const fn new(entries_max: usize, text_max: usize) -> Self {
        Self { entries: VecDeque::new(), text: 0, entries_max, text_max }
    }

    /// Adds an entry. Returns the entries that had to make room for it, oldest first.
    pub(super) fn push(&mut self, entry: T) -> Vec<T> {
        self.text += entry.bytes();
        let mut gone = Vec::new();
        while self.entries.len() >= self.entries_max
            || (self.text > self.text_max && !self.entries.is_empty())
        {
            gone.extend(self.remove(0));
        }
        self.entries.push_back(entry);
        gone
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<T> {
        let entry = self.entries.remove(at)?;
        self.text -= entry.bytes();
        Some(entry)
    }
}

/// The beginning of a text, at most `most` bytes.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    const MARK: &str = "…";
    let mut end = most - MARK.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut cut = String::with_capacity(end + MARK.len());
    cut.push_str(&text[..end]);
    cut.push_str(MARK);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("äöüß", 7), "äö…");
        assert_eq!(cut("äöüß", 6), "ä…");
    }
}
